"""The templates of the made-up responses: kept apart by part and kind, and checked when they are loaded."""

import copy
import itertools

import pytest
import yaml
from tiny_bases import PARTS

from perg_utils.core.errors import DataError
from perg_utils.extraction.finetuned.templates import TEMPLATES, load_templates, slots, spelled_out

RAW = yaml.safe_load(TEMPLATES.read_text(encoding="utf-8"))


def test_the_alternatives_of_a_template_are_spelled_out():
    assert list(spelled_out("[It|This] is {text}[| then].")) == [
        "It is {text}.",
        "It is {text} then.",
        "This is {text}.",
        "This is {text} then.",
    ]


def test_no_template_stands_in_two_parts_or_two_kinds_however_its_alternatives_fall():
    homes = {}
    for kind, part in itertools.product(RAW["kinds"], PARTS):
        for text in itertools.chain.from_iterable(map(spelled_out, kind[part])):
            assert "[" not in text and "]" not in text and "|" not in text
            assert homes.setdefault(text, (kind["name"], part)) == (kind["name"], part), text
    assert len(homes) > 500


def test_every_slot_is_used_and_where_no_option_is_right_none_is_left_over():
    kinds = load_templates().kinds
    used = [slots(template) for kind in kinds for part in PARTS for template in getattr(kind, part)]
    assert set().union(*used) == {"text", "letter", "ordinal", "other", "other_letter", "rest", "alien"}
    [none] = [kind for kind in kinds if kind.name == "none is right"]
    assert not any("rest" in slots(template) for template in none.train + none.check + none.test)


def test_what_is_loaded_is_what_the_file_says():
    loaded = load_templates()
    assert [kind.model_dump(mode="json") for kind in loaded.kinds] == RAW["kinds"]
    assert [list(loaded.openings), list(loaded.closings)] == [RAW["openings"], RAW["closings"]]


def spoilt(change):
    raw = copy.deepcopy(RAW)
    change(raw, raw["kinds"][0])
    return raw


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda raw, kind: kind["test"].append(kind["train"][0]), r"stands in \('letter and text', 'train'\) and in"),
        (lambda raw, kind: kind["test"].append("My answer is {text} ({letter})."), "stands in"),
        (lambda raw, kind: raw["kinds"][1]["check"].append(kind["check"][0]), r"and in \('letter', 'check'\)"),
        (lambda raw, kind: kind["train"].append("It is {place}."), r"has the slots \{place\}; there are \{alien\}, "),
        (lambda raw, kind: kind["train"].append("It is {text"), "expected '}' before end of string"),
        (lambda raw, kind: kind["train"].append("It is {other}."), "does not tell which option it chooses"),
        (lambda raw, kind: raw["openings"].append("It is {text}."), r"may hold \{alien\} only"),
        (lambda raw, kind: kind.update(name="letter"), "kinds need names of their own"),
        (lambda raw, kind: raw["kinds"].pop(2), "one of them 'text'"),
        (lambda raw, kind: kind.update(label="W"), "Input should be 'X', 'Y' or 'Z'"),
        (lambda raw, kind: kind.update(check=[]), "at least 1 item"),
        (lambda raw, kind: raw.pop("closings"), "closings: Field required"),
        (lambda raw, kind: kind.update(tests=[]), "Extra inputs are not permitted"),
    ],
)
def test_a_file_with_a_mistake_is_refused_and_the_mistake_is_named(tmp_path, change, said):
    path = tmp_path / "templates.yaml"
    path.write_text(yaml.safe_dump(spoilt(change)), encoding="utf-8")
    with pytest.raises(DataError, match=rf"(?s)templates\.yaml cannot be used: .*{said}"):
        load_templates(path)


def test_a_file_that_is_missing_or_no_yaml_is_an_error(tmp_path):
    with pytest.raises(DataError, match=r"templates cannot be read: .*nowhere"):
        load_templates(tmp_path / "nowhere.yaml")
    (tmp_path / "broken.yaml").write_text("kinds: [")
    with pytest.raises(DataError, match=r"broken\.yaml cannot be used"):
        load_templates(tmp_path / "broken.yaml")
