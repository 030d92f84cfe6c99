"""A judge against responses that did not know the preference: AUC, false-follow rates, gain, worked out by hand."""

import numpy as np
import pandas as pd
import pytest

from perg_utils.core.schema import ROW_ID
from perg_utils.scoring.discrimination import discrimination, gain, weakest

BANK = pd.DataFrame({"preference_id": ["c", "x"], "category": ["Clarity", "Creative"]})


def nulls(matched, plain, mismatched, judge="J"):
    rows = []
    for i, (m, p, o) in enumerate(zip(matched, plain, mismatched, strict=True)):
        own, other = ("c", "x") if i % 2 == 0 else ("x", "c")
        rows += [
            (f"q{i}", own, "S", "zero_shot", "relevant", "matched", judge, m),
            (f"q{i}", own, "S", "no_preference", "none", "plain", judge, p),
            (f"q{i}", other, "S", "zero_shot", "relevant", "mismatched", judge, o),
        ]
    return pd.DataFrame(rows, columns=[*ROW_ID, "kind", "judge", "rating"])


def at(found, category, kind):
    return found.set_index(["category", "kind"]).loc[(category, kind)]


def test_auc_counts_ties_half_and_rates_are_by_the_category_judged_by():
    found = discrimination(nulls([5, 4, 3, 2], [1, 4, 3, 5], [1, 1, 4, 5]), BANK)
    # Against plain: 5 > 1, 4 = 4, 3 = 3, 2 < 5.
    assert at(found, "ALL", "plain")["auc"] == pytest.approx((1 + 0.5 + 0.5 + 0) / 4)
    assert at(found, "Clarity", "plain")["auc"] == pytest.approx(0.75)  # q0 and q2
    assert at(found, "Clarity", "plain")["followed"] == 50 and at(found, "Clarity", "plain")["matched"] == 100
    assert at(found, "Creative", "plain")["followed"] == 100 and at(found, "Creative", "plain")["matched"] == 50
    # Judged by Clarity are the mismatched responses of q1 and q3, which were written for Creative.
    assert at(found, "Clarity", "mismatched")["followed"] == 50
    assert at(found, "Clarity", "mismatched")["auc"] == pytest.approx(0.5)  # of q0 and q2, written for Clarity
    assert weakest(found).to_dict() == {"J": 0.5}


def test_a_judge_that_sees_nothing_is_at_chance_and_one_that_sees_all_is_certain():
    rng = np.random.default_rng(1)
    blind = discrimination(nulls(*rng.integers(1, 6, (3, 400))), BANK)
    row = at(blind, "ALL", "plain")
    # Half a standard error of 400 pairs that are won, lost or drawn: 0.45 / 20.
    assert abs(row["auc"] - 0.5) < 0.07 and 0.06 < row["auc_high"] - row["auc_low"] < 0.12
    sharp = discrimination(nulls([5] * 50, [1] * 50, [2] * 50, "K"), BANK)
    assert weakest(sharp)["K"] == 1 and (sharp["followed"] == 0).all()


def test_responses_to_one_question_are_one_unit_where_it_is_said():
    rng = np.random.default_rng(1)
    ratings = np.repeat(rng.integers(1, 6, (3, 100)), 4, axis=1)  # four responses a question, rated alike
    table = nulls(*ratings).assign(question=lambda t: t["example_id"].str[1:].astype(int) // 4)
    alone, together = (at(discrimination(table, BANK, **by), "ALL", "plain") for by in ({}, {"unit": "question"}))
    assert alone["auc"] == together["auc"] and together["pairs"] == 400
    wide = (together["auc_high"] - together["auc_low"]) / (alone["auc_high"] - alone["auc_low"])
    assert wide == pytest.approx(2, abs=0.2), "four that say the same are worth one: twice the width"


def test_what_is_not_rated_is_left_out_and_counted_nowhere():
    some = nulls([5, 5], [1, None], [1, 1])
    assert at(discrimination(some, BANK), "ALL", "plain")[["n", "pairs"]].tolist() == [1, 1]
    assert discrimination(some[:0], BANK).empty


def test_gain_is_the_paired_difference_to_the_plain_response():
    plain = nulls([5] * 4, [1, 1, 4, 4], [1] * 4)
    rows = [(f"q{i}", "c" if i % 2 == 0 else "x", "S", "cot", "mixed") for i in range(4)]
    judged = pd.DataFrame(rows, columns=ROW_ID).assign(judge="J", rating=[5, 1, 5, 1])
    [row] = gain(judged, plain).to_dict("records")
    assert (row["method"], row["setting"], row["n"]) == ("cot", "mixed", 4)
    assert (row["followed"], row["plain"], row["gain"]) == (50, 50, 0)
    judged["rating"] = 5
    [row] = gain(judged, plain).to_dict("records")
    assert row["gain"] == 50 and row["low"] <= 0 < row["high"] < 100
