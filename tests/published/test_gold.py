"""The labels of genuine responses, and how they were drawn."""

import pandas as pd
import pytest

from perg_utils.core.errors import DataError
from perg_utils.extraction.answers import extract_answer
from perg_utils.published.checks.accuracy import kappa
from perg_utils.published.checks.gold import KEY, NOTES, draw, draw_more, held_out, load_gold, shared_out

GOODS = ["iron", "salt", "wool", "amber"]


def test_the_labels_are_of_known_kinds_and_settle_what_the_two_passes_disagree_on():
    gold = load_gold()
    assert len(gold) >= 700
    assert not gold.duplicated(["file", "row", "profile"]).any()
    assert set(gold["note"]) <= set(NOTES)
    for column in ("label_a", "label_b", "label"):
        assert gold[column].str.fullmatch("[A-MXYZ]").all()
    same = gold["label_a"] == gold["label_b"]
    assert (gold["label"] == gold["label_a"])[same].all()
    assert kappa(gold["label_a"], gold["label_b"]) > 0.9


def pool(n=400):
    """Responses of which the rules read B in one half and nothing in the other; two to a question."""
    return pd.DataFrame(
        {"file": "f", "row": range(n), "profile": "1", "model": "M", "method": "cot", "source": "TQA",
         "question": [f"q{i // 2}" for i in range(n)], "options": [GOODS] * n,
         "response": ["The answer is B."] * (n // 2) + ["Hm."] * (n // 2), "original": ["B", "C", None, "A"] * (n // 4)}
    )  # fmt: skip


def read(response, options):
    return extract_answer(response, options).letter


def test_a_draw_takes_no_question_twice_and_stands_for_every_response():
    drawn = draw(pool(), read, seed=1)
    assert not drawn["question"].duplicated().any()
    assert set(drawn["stratum"]) == {"agree", "differ", "only_rules", "rules_silent", "neither"}
    assert drawn["weight"].sum() == pytest.approx(400)
    pd.testing.assert_frame_equal(drawn, draw(pool(), read, seed=1))


def test_more_are_drawn_of_one_stratum_from_held_out_questions_that_were_not_drawn_and_the_weights_still_sum():
    first = draw(pool(2000), read, seed=1)
    more = draw_more(pool(2000), read, first, stratum="agree", count=40, seed=2)
    assert len(more) == 40 and set(more["stratum"]) == {"agree"}
    assert (more["original"] == "B").all() and (more["response"] == "The answer is B.").all()
    assert more["question"].map(held_out).all() and not pool()["question"].map(held_out).all()
    assert not more.merge(first, on=KEY).shape[0] and not more.duplicated(KEY).any()
    pd.testing.assert_frame_equal(more, draw_more(pool(2000), read, first, stratum="agree", count=40, seed=2))
    with pytest.raises(DataError, match="responses left to draw, wanted are 9999"):
        draw_more(pool(2000), read, first, stratum="agree", count=9999, seed=2)
    kept = [*KEY, "stratum", "weight"]
    labels = shared_out(pd.concat([first, more])[kept].reset_index(drop=True), pool(2000))
    assert labels["weight"].sum() == pytest.approx(2000, abs=0.1)
    agree = labels[labels["stratum"] == "agree"]
    assert agree["weight"].nunique() == 1 and agree["weight"].iloc[0] == pytest.approx(250 / len(agree), abs=1e-4)
    others = labels["stratum"] != "agree"
    assert labels["weight"][others].sum() == pytest.approx(first["weight"][first["stratum"] != "agree"].sum(), abs=0.1)


def test_the_labels_that_were_added_to_a_stratum_are_even_in_weight_within_a_group_and_of_known_size():
    gold = load_gold()
    size = gold.groupby("stratum")["weight"].sum().round()
    assert size.to_dict() == {"agree": 76904, "differ": 1689, "neither": 2139, "only_rules": 552, "rules_silent": 6225}
    assert gold["stratum"].value_counts()["agree"] == 112 + 400
