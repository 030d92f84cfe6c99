"""The fine-tuned layer: what it is shown and says, and the adapters that it refuses."""

import json
import math
import re
import shutil

import pandas as pd
import pytest
import torch
from tiny_bases import GOODS, HOSTILE, SMALLEST, asking, base
from transformers import (
    LlamaForCausalLM,
)

from perg_utils.core.errors import PergError
from perg_utils.core.profile import ROOT, ExtractorConfig
from perg_utils.core.schema import Status
from perg_utils.extraction.answers import extract
from perg_utils.extraction.finetuned.layer import FineTunedLayer, trained_as
from perg_utils.extraction.reading import LABELS, ExtractorError

SILENT = "It depends on whom you ask."


@pytest.mark.parametrize("response", HOSTILE)
@pytest.mark.parametrize("sure", [0.0, 0.9])
def test_a_hostile_response_gets_a_letter_of_its_options_or_none(short, response, sure):
    config = short[0].model_copy(update={"min_confidence": sure})
    found = FineTunedLayer(config, short[1]).read([(response, GOODS)])[0]
    assert (found.letter in "ABCD") if found.letter else found.status in {Status.UNPARSABLE, Status.REFUSED}


def test_a_layer_without_a_base_says_what_is_missing(tmp_path):
    with pytest.raises(ExtractorError, match=r"names no extractor\.base"):
        FineTunedLayer(ExtractorConfig(), tmp_path).read([("B", GOODS)])


def test_a_moved_adapter_gives_the_same_scores_and_so_does_a_moved_base(short, cases, tmp_path):
    config, folder, _ = short
    there = FineTunedLayer(config, folder).choices(cases)
    moved = shutil.copytree(folder, tmp_path / "else where" / "adapter")
    assert FineTunedLayer(config, moved).choices(cases) == there
    elsewhere = shutil.copytree(config.base.model, tmp_path / "else where" / "base")
    pointed = config.model_copy(update={"base": base(elsewhere)})
    assert FineTunedLayer(pointed, moved).choices(cases) == there
    written = json.loads((moved / "adapter_config.json").read_text())
    (moved / "adapter_config.json").write_text(json.dumps({**written, "base_model_name_or_path": "/no/such/base"}))
    assert FineTunedLayer(pointed, moved).choices(cases) == there, "the base is the profile's"


def changed_weights(folder):
    """A base of the same shape with other weights."""
    model = LlamaForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        model.model.norm.weight.mul_(1.01)
    model.save_pretrained(folder)
    return folder


def test_another_base_is_refused_every_time_it_is_asked(short, tmp_path):
    config, folder, _ = short
    same_shape = changed_weights(shutil.copytree(SMALLEST, tmp_path / "base"))
    for other, said in (
        (
            same_shape,
            r"trained with another base \([0-9a-f]{16}\); name that in the profile, or run 02_train_extractor",
        ),
        (
            SMALLEST.parent / "M",
            r"does not load onto .*M: .*\n.*name that as extractor\.base, or run 02_train_extractor",
        ),
    ):
        layer = FineTunedLayer(config.model_copy(update={"base": base(other)}), folder)
        for _ in range(2):
            with pytest.raises(ExtractorError, match=f"(?s){said}"):
                layer.read([("B", GOODS)])


@pytest.mark.parametrize("form", [{"template": "{options} {response} Answer"}, {"option": " {letter}) {text}"}])
def test_another_form_of_input_than_in_training_is_refused(short, form):
    config = short[0].model_copy(update=form)
    with pytest.raises(ExtractorError, match=r"trained with another form .*Draft.*run 02_train_extractor again"):
        FineTunedLayer(config, short[1]).read([("B", GOODS)])


def test_a_folder_that_holds_no_adapter_is_an_error_that_says_how_to_make_one(short, adapter, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("asked the hub for a folder"))
    (tmp_path / "runs" / "extractor").mkdir(parents=True)
    lonely = shutil.copytree(adapter, tmp_path / "lonely")
    (adapter / "adapter_model.safetensors").unlink()
    (lonely / "adapter_config.json").unlink()
    relative = (tmp_path / "runs" / "extractor").relative_to(tmp_path)
    for folder in (tmp_path / "nowhere", relative, adapter, lonely):
        with pytest.raises(ExtractorError, match=rf"no adapter in {re.escape(str(folder))}: .*run 02_train"):
            FineTunedLayer(short[0], folder).read([("B", GOODS)])


@pytest.mark.parametrize(
    ("file", "content"),
    [
        ("adapter_model.safetensors", b""),
        ("adapter_model.safetensors", b"not weights at all"),
        ("adapter_model.safetensors", None),  # cut in half
        ("adapter_config.json", b"{"),
        ("adapter_config.json", b"[]"),
        ("adapter_config.json", b"{}"),
        ("training.json", b"{"),
        ("training.json", b"\xff\xfe"),
        ("training.json", b"[]"),
        ("training.json", b"{}"),
        ("training.json", b'{"base": {}, "form": {}, "temperature": 1}'),
        ("training.json", b'{"base": null, "form": null, "temperature": 1}'),
    ],
)
def test_a_broken_file_of_an_adapter_is_an_error_with_its_cure(short, adapter, file, content):
    whole = (adapter / file).read_bytes()
    (adapter / file).write_bytes(whole[: len(whole) // 2] if content is None else content)
    with pytest.raises(PergError, match="run 02_train_extractor"):
        FineTunedLayer(short[0], adapter).read([("B", GOODS)])


@pytest.mark.parametrize("temperature", [0, -1.0, math.nan, None, "hot"])
def test_a_temperature_that_is_none_is_an_error_and_not_a_confidence(short, adapter, temperature):
    about = {**trained_as(adapter), "temperature": temperature}
    (adapter / "training.json").write_text(json.dumps(about))
    with pytest.raises(ExtractorError, match=r"training\.json cannot be read .*run 02_train_extractor again"):
        FineTunedLayer(short[0], adapter).read([("B", GOODS)])


def test_confidence_is_softened_by_the_temperature_of_training_and_by_none_for_adapters_of_others(
    short, adapter, scorer, cases
):
    raw = torch.stack(scorer.read(cases))
    for temperature in (trained_as(adapter)["temperature"], 3.0, None):
        if temperature is None:
            (adapter / "training.json").unlink()
        else:
            about = {**trained_as(adapter), "temperature": temperature}
            (adapter / "training.json").write_text(json.dumps(about))
        found = FineTunedLayer(short[0], adapter).choices(cases)
        shares = (raw / (temperature or 1.0)).softmax(-1)
        assert [label for label, _ in found] == [LABELS[i] for i in shares.argmax(-1)]
        assert [sure for _, sure in found] == pytest.approx(shares.max(-1).values.tolist(), abs=1e-5)
    assert trained_as(adapter) is None


class Says:
    """A scorer that gives label (and only it) a probability, and remembers its cases; None: too long."""

    def __init__(self, *probabilities):
        self.probabilities, self.cases = probabilities, []

    def read(self, cases):
        self.cases += cases
        return [self.scores(*said) if said else None for said in self.probabilities]

    def scores(self, label, share):
        """Probability `share` for the label; what is left is spread over the others."""
        out = torch.full((26,), math.log((1 - share) / 25))
        out[LABELS.index(label)] = math.log(share)
        return out


def layer_that(scorer, sure=0.9):
    layer = FineTunedLayer(ExtractorConfig(base=base("x"), min_confidence=sure), ROOT / "nowhere")
    layer._scorer = scorer
    return layer


def test_it_speaks_where_it_is_sure_and_only_where_its_choice_is_a_decision():
    says = [("B", 0.91), ("B", 0.89), ("X", 0.95), ("X", 0.5), ("Y", 0.95), ("Y", 0.5), ("Z", 0.99), None]
    found = layer_that(Says(*says)).read([(str(i), GOODS) for i in range(len(says))])
    assert [(f.letter, f.how, f.status, f.decided) for f in found] == [
        ("B", "scored", Status.OK, True),
        (None, "unsure", Status.UNPARSABLE, False),
        (None, "none_of_the_options", Status.UNPARSABLE, True),
        (None, "unsure", Status.UNPARSABLE, False),
        (None, "refusal", Status.REFUSED, True),
        (None, "unsure", Status.UNPARSABLE, False),
        (None, "unsure", Status.UNPARSABLE, False),
        (None, "too_long", Status.UNPARSABLE, False),
    ]
    assert {f.layer for f in found} == {"finetuned"} and not any(f.evidence for f in found)
    assert [f.confidence for f in found[:-1]] == pytest.approx([share for _, share in says[:-1]])
    assert found[-1].confidence is None


def test_scores_that_are_no_numbers_decide_nothing():
    broken = Says()
    broken.read = lambda cases: [torch.full((26,), math.nan)]
    [found] = layer_that(broken, sure=0.0).read([("B", GOODS)])
    assert (found.letter, found.decided) == (None, False)


def test_no_cases_need_no_weights(tmp_path):
    layer = FineTunedLayer(asking(tmp_path / "no base"), tmp_path / "no adapter")
    assert layer.read([]) == layer.choices([]) == []


def table(*responses):
    rows = pd.DataFrame({"response": responses, "status": ["ok" if r is not None else "empty" for r in responses]})
    rows["example_id"] = "TQA-1"
    return rows.assign(
        preference_id="SECRET-P1", model="SECRET-MODEL", method="zero_shot", setting="relevant", prompt="SECRET-PROMPT"
    )


SECRETS = {"question": "SECRET-QUESTION", "gold": "C", "subject": "SECRET-SUBJECT", "preference_id": "SECRET-P1"}
EXAMPLES = pd.DataFrame([{"example_id": "TQA-1", "options": GOODS, **SECRETS}])


def test_the_model_is_shown_the_response_and_the_lettered_options_and_nothing_else(short):
    layer = FineTunedLayer(short[0], short[1])
    own, seen = layer._load(), []
    own.model.register_forward_pre_hook(
        lambda _, __, given: seen.extend(
            own._tokenizer.decode(ids[mask.bool()])
            for ids, mask in zip(given["input_ids"], given["attention_mask"], strict=True)
        ),
        with_kwargs=True,
    )
    responses = table(SILENT, "  Either A or B could be right.\n", "The answer is B.")
    extract(responses, EXAMPLES, [layer])
    shown = " Options: (A) iron (B) salt (C) wool (D) clay Draft: "
    assert sorted(seen) == [shown + "Either A or B could be right. Answer", shown + f"{SILENT} Answer"]
    for gold in "ABCD":
        before = list(seen)
        seen.clear()
        extract(responses, EXAMPLES.assign(gold=gold), [layer])
        assert seen == before, "the right answer changes nothing"


def test_rows_that_the_layer_decides_say_so_in_the_table(short):
    config = short[0].model_copy(update={"min_confidence": 0.0})
    layer = FineTunedLayer(config, short[1])
    silent = ["My letter is hard to tell.", SILENT, "Some know it. Here we take salty things.", "wool or clay", "Hm."]
    alone = extract(table(*silent), EXAMPLES)
    assert alone["layer"].isna().all(), "the rules must be silent for this to mean anything"
    found = extract(table("The answer is B.", *silent, None, silent[0]), EXAMPLES, [layer])
    said = layer.choices([(text, tuple(GOODS)) for text in silent])
    letters = {text: label for text, (label, _) in zip(silent, said, strict=True)}
    assert len(set(letters.values()) - {"Z"}) > 0
    own = found.iloc[1:6]
    for (_, row), (label, sure) in zip(own.iterrows(), said, strict=True):
        if label == "Z":
            assert pd.isna(row["layer"]) and pd.isna(row["answer"]) and row["how"] in {"no_option", "several_options"}
            continue
        assert row["layer"] == "finetuned" and row["confidence"] == pytest.approx(sure, abs=1e-5)
        assert pd.isna(row["evidence"])
        wanted = {"X": (None, "none_of_the_options", "unparsable"), "Y": (None, "refusal", "refused")}
        answer = None if pd.isna(row["answer"]) else row["answer"]
        assert (answer, row["how"], row["status"]) == wanted.get(label, (label, "scored", "ok"))
    assert found["layer"].iloc[0] == "rules" and found["answer"].iloc[0] == "B"
    assert pd.isna(found["layer"].iloc[6]) and found["how"].iloc[6] == "no_response"
    assert found.iloc[7][["how", "status", "layer"]].equals(found.iloc[1][["how", "status", "layer"]])
