"""The made-up responses that the fine-tuned layer learns from: what they say, and that no right answer is in them."""

import hashlib
import inspect
import itertools
import json
import re
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from tiny_bases import LISTS, PARTS

from perg_utils.core.errors import DataError
from perg_utils.core.schema import LETTERS
from perg_utils.extraction.answers import extract_answer
from perg_utils.extraction.finetuned import corpus
from perg_utils.extraction.finetuned.corpus import Corpus
from perg_utils.extraction.finetuned.templates import Kind, Templates, load_templates

TEMPLATES = load_templates()
EVERY_SLOT = "<{text};{letter};{ordinal};{other};{other_letter};{rest};{alien}>"
ORDINALS = ["first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh"]
ORDINALS += [*(f"{n}th" for n in range(12, 21)), "21st", "22nd", "23rd"]


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(2, 23), min_size=2, max_size=6), st.integers(0, 99), st.sampled_from([None, "X", "Z"]))
def test_every_slot_is_filled_with_what_it_says_and_the_label_is_the_chosen_options_letter(sizes, seed, label):
    lists = [[f"thing{100 * i + j:03d}" for j in range(n)] for i, n in enumerate(sizes)]
    kind = Kind(name="every slot", label=label, train=(EVERY_SLOT,), check=(EVERY_SLOT,), test=(EVERY_SLOT,))
    only = Templates.model_construct(kinds=(kind,), openings=("Let us think.",), closings=("So.",))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpus, "load_templates", lambda: only)
        patch.setattr(corpus, "STYLED", 0)
        samples = Corpus(lists, seed).take("check", 20)
    for sample in samples:
        text, letter, ordinal, other, other_letter, rest, alien = re.search(r"<(.*)>", sample.response)[1].split(";")
        chosen = sample.options.index(text)
        assert letter == LETTERS[chosen] and sample.label == (label or letter)
        assert ordinal == ORDINALS[chosen] or (ordinal == "last" and chosen == len(sample.options) - 1)
        assert other == sample.options[LETTERS.index(other_letter)] != text
        assert sorted(re.split(", | and ", rest)) == sorted(set(sample.options) - {text})
        assert alien not in sample.options and any(alien in one for one in lists)
        assert sorted(sample.options) in [sorted(one) for one in lists]


def told(sample):
    """The label of a response about `LISTS`, worked out without its template."""
    beside = TEMPLATES.openings + TEMPLATES.closings
    said = re.sub("|".join(re.escape(x).replace(r"\{alien\}", r"thing\d+") for x in beside), "", sample.response)
    named = [LETTERS[sample.options.index(t)] for t in re.findall(r"thing\d+", said) if t in sample.options]
    letters = re.findall(r"\(([A-Z])\)|^\s*([A-Z])\s*$|is ([A-Z])\.", said)
    lettered = ["".join(groups) for groups in letters]
    left = sorted(set(LETTERS[: len(sample.options)]) - set(named))
    ordinal = re.search(r"\b(" + "|".join([*ORDINALS, "last"]) + r")\b", said)
    one = named[0] if len(named) == 1 else None
    return {
        "letter and text": one if named == lettered else None,
        "letter": lettered[0] if len(lettered) == 1 and not named else None,
        "text": one,
        "correction": next(reversed(named or lettered), None),
        "place": ordinal and LETTERS[len(sample.options) - 1 if ordinal[1] == "last" else ORDINALS.index(ordinal[1])],
        "elimination": left[0] if len(left) == 1 else None,
    }.get(sample.kind, sample.label)


@pytest.mark.parametrize("part", PARTS)
def test_a_response_says_what_its_label_says(part, monkeypatch):
    monkeypatch.setattr(corpus, "STYLED", 0)
    samples = Corpus(LISTS, 5).take(part, 1500)
    assert {sample.kind for sample in samples} == {kind.name for kind in TEMPLATES.kinds}
    assert [(s.response, s.options, s.label) for s in samples if told(s) != s.label] == []
    for sample in samples:
        labels = {"none is right": "X", "refusal": "Y", "undecided": "Z"}
        assert sample.label == labels.get(sample.kind, sample.label)
        assert sample.kind in labels or sample.label in LETTERS[: len(sample.options)]
        if sample.kind in {"contrast", "weighing"}:
            assert sample.options[LETTERS.index(sample.label)] in sample.response


def test_the_rules_never_read_another_option_than_the_label_where_the_answer_is_stated():
    samples = [s for s in Corpus(LISTS, 8).take("train", 1500) if s.kind in {"letter and text", "letter", "text"}]
    read = [(extract_answer(s.response, s.options).letter, s) for s in samples]
    assert [(letter, s) for letter, s in read if letter not in {None, s.label}] == []
    assert sum(letter is not None for letter, _ in read) > 100


def test_the_same_seed_gives_the_same_stream_and_another_seed_another():
    def stream(seed, part="train"):
        return Corpus(LISTS, seed).take(part, 50)

    assert stream(1) == stream(1) != stream(2)
    assert stream(1) != stream(1, "test")
    made = Corpus(LISTS, 1)
    assert made.take("train", 20) + made.take("train", 30) == stream(1), "taking goes on where it stopped"


@pytest.mark.parametrize(
    ("part", "digest"),
    [
        ("train", "849e5da20f67264ba2a8ca34b2211faf78521d01d6d0b1659a48f688ef48e21e"),
        ("check", "cba051b36176aefd1a6b1b58d9939ef2da41b4505978eaf4927ef45692a21664"),
        ("test", "4f1415f5893261b4c22e0ff92bdb6fc7ba6fdfc958796137bccfd4ec7a44f242"),
    ],
)
def test_the_responses_are_those_that_the_shipped_results_were_made_with(part, digest):
    """Their digest was taken when the templates still were code; it changes with any template, or their order."""
    lists = [[f"thing{10 * i + j:03d}" for j in range(n)] for i, n in enumerate([2, 3, 4, 4, 5, 6, 23, 11] * 3)]
    samples = Corpus(lists, 42, ["elimination"]).take(part, 3000)
    told = json.dumps([[s.response, s.options, s.label, s.kind] for s in samples])
    assert hashlib.sha256(told.encode()).hexdigest() == digest


@pytest.mark.parametrize(
    "options",
    [
        [],
        [["iron", "salt"]],
        [["iron", "salt"], ["iron", "salt"]],
        [["iron"], ["salt"], ["wool"]],
        [["iron", "salt"], ["wool", "wool"], [f"x{i}" for i in range(24)]],
    ],
)
def test_too_few_option_lists_are_an_error(options):
    with pytest.raises(DataError, match="options of several questions; there are not two"):
        Corpus(options, 1)


def test_questions_that_all_have_the_same_options_are_an_error():
    with pytest.raises(DataError, match="all have the same options"):
        Corpus([["yes", "no"], ["no", "yes"]], 1).take("train", 50)


def test_a_right_answer_cannot_be_told_from_a_made_up_response():
    assert list(inspect.signature(Corpus).parameters) == ["options", "seed", "leave"]
    lists = [[f"gold{i}", f"first{i}", f"second{i}", f"third{i}"] for i in range(50)]
    samples = [s for s in Corpus(lists, 3).take("train", 6000) if s.label in "ABCD"]
    positions = Counter(sample.label for sample in samples)
    texts = Counter(re.sub(r"\d", "", s.options[LETTERS.index(s.label)]) for s in samples)
    golds = Counter([re.sub(r"\d", "", text) for text in s.options].index("gold") for s in samples)
    for counts in (positions, texts, golds):
        assert len(counts) == 4 and chisquare(list(counts.values())).pvalue > 1e-4, counts
    kinds = Counter(sample.kind for sample in Corpus(lists, 3).take("train", 6000))
    assert len(kinds) == len(TEMPLATES.kinds) and chisquare(list(kinds.values())).pvalue > 1e-4


@pytest.mark.parametrize(
    ("style", "response"),
    [
        ("plain", "See salt. It is iron (A)."),
        ("bold", "See **salt**. It is **iron** (A)."),
        ("quoted", 'See "salt". It is "iron" (A).'),
        ("lines", "See salt.\n\nIt is iron (A)."),
        ("B.", "See salt. It is iron A.."),
        ("B)", "See salt. It is iron A)."),
    ],
)
def test_a_response_is_written_in_the_marks_of_its_style(style, response):
    slots = {"text": "iron", "letter": "A", "other": "wool", "alien": "salt"}
    assert style in {"plain", *corpus.STYLES}
    assert corpus.write(["See {alien}.", "It is {text} ({letter})."], slots, style) == response


def test_a_share_of_the_responses_is_styled():
    samples = Corpus(LISTS, 4).take("train", 3000)
    bold = sum("**" in s.response for s in samples)
    lined = sum("\n\n" in s.response for s in samples)
    assert 0 < lined < bold < corpus.STYLED * 3000 / len(corpus.STYLES)


def test_kinds_that_are_left_undecided_are_labelled_so_and_no_others_change():
    usual, left = (Corpus(LISTS, 6, leave).take("train", 800) for leave in ((), ("elimination", "place")))
    assert [s.response for s in usual] == [s.response for s in left]
    for one, other in zip(usual, left, strict=True):
        assert other.label == ("Z" if one.kind in {"elimination", "place"} else one.label)
    with pytest.raises(DataError, match=r"no kind of template is called \['rumour'\]"):
        Corpus(LISTS, 6, ["rumour"])


def test_the_first_responses_name_texts_only():
    samples = list(itertools.islice(Corpus(LISTS, 2).stream("train", first=60), 200))
    assert {s.kind for s in samples[:60]} == {"text"} and len({s.kind for s in samples[60:]}) == len(TEMPLATES.kinds)
