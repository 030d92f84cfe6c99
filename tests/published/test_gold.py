"""The labels of genuine responses, and how they were drawn."""

import pandas as pd
import pytest

from perg_utils.extraction.answers import extract_answer
from perg_utils.published.checks.accuracy import kappa
from perg_utils.published.checks.gold import NOTES, draw, load_gold

GOODS = ["iron", "salt", "wool", "amber"]


def test_the_labels_are_of_known_kinds_and_settle_what_the_two_passes_disagree_on():
    gold = load_gold()
    assert len(gold) >= 300
    assert not gold.duplicated(["file", "row", "profile"]).any()
    assert set(gold["note"]) <= set(NOTES)
    for column in ("label_a", "label_b", "label"):
        assert gold[column].str.fullmatch("[A-MXYZ]").all()
    same = gold["label_a"] == gold["label_b"]
    assert (gold["label"] == gold["label_a"])[same].all()
    assert kappa(gold["label_a"], gold["label_b"]) > 0.9


def test_a_draw_takes_no_question_twice_and_stands_for_every_response():
    n = 400
    pool = pd.DataFrame(
        {"file": "f", "row": range(n), "profile": "1", "model": "M", "method": "cot", "source": "TQA",
         "question": [f"q{i // 2}" for i in range(n)], "options": [GOODS] * n,
         "response": ["The answer is B."] * 200 + ["Hm."] * 200, "original": ["B", "C", None, "A"] * 100}
    )  # fmt: skip
    drawn = draw(pool, lambda response, options: extract_answer(response, options).letter, seed=1)
    assert not drawn["question"].duplicated().any()
    assert set(drawn["stratum"]) == {"agree", "differ", "only_rules", "rules_silent", "neither"}
    assert drawn["weight"].sum() == pytest.approx(n)
    again = draw(pool, lambda response, options: extract_answer(response, options).letter, seed=1)
    pd.testing.assert_frame_equal(drawn, again)
