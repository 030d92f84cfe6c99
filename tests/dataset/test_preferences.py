"""The bank, the assignment rule of the protocol, and what each setting shows."""

from collections import Counter

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perg_utils.core.errors import DataError
from perg_utils.core.schema import Setting, Source
from perg_utils.dataset import preferences

BANK = preferences.load_bank()
HEAD = "preference_id,text,category,relevant,sources\n"


def questions(source, n):
    rows = [(f"{source}-{i:05d}", str(source), None, "q", ["a", "b"], "A", i) for i in range(n)]
    return pd.DataFrame(rows, columns=["example_id", "source", "subject", "question", "options", "gold", "position"])


def test_the_bank_has_35_preferences_and_the_protocols_numbers_per_source():
    assert len(BANK) == 35
    assert {s: len(preferences.relevant_ids(BANK, s)) for s in Source} == {"TQA": 14, "CQA": 12, "MMLU": 11}
    categories = {
        s: set(BANK[BANK["preference_id"].isin(preferences.relevant_ids(BANK, s))]["category"]) for s in Source
    }
    assert categories[Source.MMLU] == {"Clarity", "Context", "Thinking", "Examples"}
    assert categories[Source.TQA] == categories[Source.CQA] == categories[Source.MMLU] | {"Creative"}


def test_row_i_gets_number_i_modulo_n_plus_one():
    ids = preferences.relevant_ids(BANK, Source.MMLU)
    assigned = preferences.assign(questions(Source.MMLU, 25), BANK)["preference_id"].tolist()
    assert assigned[0] == ids[0] and assigned[10] == ids[10] and assigned[11] == ids[0] and assigned[24] == ids[2]
    assert Counter(assigned) == {i: 3 if i in ids[:3] else 2 for i in ids}


@given(st.sampled_from(list(Source)), st.integers(0, 5000), st.integers(0, 99))
def test_mixed_shows_the_irrelevant_five_with_the_relevant_one_third(source, position, seed):
    example_id = f"{source}-{position:05d}"
    relevant = preferences.relevant_ids(BANK, source)[0]
    mixed = preferences.shown(example_id, relevant, Setting.MIXED, BANK, seed)
    alone = preferences.shown(example_id, None, Setting.IRRELEVANT, BANK, seed)
    assert mixed[2] == relevant and mixed[:2] + mixed[3:] == alone
    assert len(set(alone)) == 5 and all(i.startswith("irrelevant-") for i in alone)
    assert alone == preferences.shown(example_id, relevant, Setting.IRRELEVANT, BANK, seed)


def test_the_other_settings_show_the_relevant_one_or_nothing():
    assert preferences.shown("TQA-00000", "clarity-1", Setting.RELEVANT, BANK, 42) == ["clarity-1"]
    assert preferences.shown("TQA-00000", None, Setting.NONE, BANK, 42) == []
    assert preferences.shown("TQA-00000", None, Setting.PLACEBO, BANK, 42) == []
    with pytest.raises(ValueError, match="none is given"):
        preferences.shown("TQA-00000", None, Setting.MIXED, BANK, 42)


def test_every_irrelevant_preference_is_shown_about_equally_often():
    drawn = Counter(
        i for n in range(1200) for i in preferences.shown(f"CQA-{n:05d}", None, Setting.IRRELEVANT, BANK, 42)
    )
    assert len(drawn) == 12 and all(430 < count < 570 for count in drawn.values())  # 500 expected each


@pytest.mark.parametrize(
    ("lines", "wrong"),
    [
        ("x-1,,Clarity,true,TQA\n", r"line 2 \('x-1'\): preference_id and text must not be empty"),
        ("x-1,t,Sparkle,true,TQA\n", "unknown category 'Sparkle'; allowed: Clarity"),
        ("x-1,t,Clarity,yes,TQA\n", "relevant must be true or false, got 'yes'"),
        ("x-1,t,Clarity,true,TQA ABC\n", r"unknown sources \['ABC'\]"),
        ("x-1,t,Clarity,true,\n", "names at least one source"),
        ("x-1,t,Clarity,false,\n", "an irrelevant preference has no category"),
        ("x-1,t,Clarity,true,TQA\nx-1,u,Clarity,true,TQA\n", r"ids must differ, got \['x-1'\]"),
        ("x-1,t,Clarity,true,TQA\n", "at least 5 irrelevant"),
    ],
)
def test_a_broken_bank_is_named_with_line_and_fault(tmp_path, lines, wrong):
    path = tmp_path / "bank.csv"
    path.write_text(HEAD + lines)
    with pytest.raises(DataError, match=wrong):
        preferences.load_bank(path)


def test_a_missing_bank_other_columns_and_a_source_without_preferences_are_errors(tmp_path):
    with pytest.raises(DataError, match="cannot be read"):
        preferences.load_bank(tmp_path / "none.csv")
    (tmp_path / "other.csv").write_text("id,text\n1,t\n")
    with pytest.raises(DataError, match=r"columns \['id', 'text'\]"):
        preferences.load_bank(tmp_path / "other.csv")
    lacking = BANK[[not (r and "CQA" in s) for r, s in zip(BANK["relevant"], BANK["sources"], strict=True)]]
    with pytest.raises(DataError, match="no relevant preference for CQA"):
        preferences.assign(questions(Source.CQA, 2), lacking)
