"""Breakage by category: standardised by source, with its interval, and whether categories differ."""

import numpy as np
import pandas as pd
import pytest
from toy_tables import RELEVANT, WITH, toy

from perg_utils.scoring.categories import by_category, category_tests
from perg_utils.scoring.scores import score


def rows(cells):
    """Scores of zero_shot with one relevant preference: (source, category, broken, of)."""
    parts = []
    for source, category, broken, of in cells:
        right = np.arange(of) >= broken
        named = [f"{source}-{category}-{i}" for i in range(of)]
        parts.append(pd.DataFrame({"example_id": named, "source": source, "category": category, "correct_with": right}))
    fixed = {"model": "S", "method": "zero_shot", "setting": "relevant", "preference_id": "p", "sampled": True}
    fixed |= {"correct_without": True, "followed": True, "delivered_without": True, "delivered_with": True}
    found = pd.concat(parts, ignore_index=True).assign(**fixed)
    return found.assign(robust=found["correct_with"], cause=None)


def test_it_takes_relevant_zero_shot_rows():
    found = by_category(score(**toy(RELEVANT | {("zero_shot", "irrelevant"): (WITH, "")})))
    assert found[["source", "category", "n"]].to_numpy().tolist() == [
        ["TQA", "Clarity", 5],
        ["MMLU", "Clarity", 2],
        ["ALL", "Clarity", 7],
    ]


def test_categories_that_break_alike_within_each_source_break_alike_over_all():
    # 10 % of TQA and 30 % of CQA break, whatever the category; Creative is mostly CQA, and MMLU has none.
    found = by_category(
        rows(
            [
                *(("TQA", "Clarity", 30, 300), ("TQA", "Creative", 2, 20)),
                *(("CQA", "Clarity", 6, 20), ("CQA", "Creative", 90, 300)),
                ("MMLU", "Clarity", 250, 500),
            ]
        )
    )
    over_all = found[found["source"] == "ALL"]
    # TQA and CQA have 320 questions each, so either weighs a half; pooled it would be 36 of 320 and 92 of 320.
    assert over_all["value"].tolist() == pytest.approx([20, 20]) and set(over_all["sources"]) == {"TQA, CQA"}
    assert over_all["n"].tolist() == [320, 320]
    assert ((over_all["low"] < 20) & (over_all["high"] > 20)).all()


def test_the_parts_of_breakage_by_cause_add_up_also_over_all():
    told = rows(
        [("TQA", "Clarity", 4, 10), ("TQA", "Creative", 2, 10), ("CQA", "Clarity", 1, 10), ("CQA", "Creative", 0, 10)]
    )
    broke = ~told["correct_with"]
    told["cause"] = pd.Series("wrong_option", told.index).where(broke)
    told.loc[told["example_id"] == "TQA-Clarity-0", "cause"] = "unread"
    found = by_category(told).set_index(["source", "category"])
    parts = found[["broke_wrong_option", "broke_named_none", "broke_unread"]]
    assert parts.sum(axis=1).tolist() == pytest.approx(found["value"].tolist())
    assert parts.loc[("TQA", "Clarity")].tolist() == pytest.approx([30, 0, 10])
    assert parts.loc[("ALL", "Clarity")].tolist() == pytest.approx([20, 0, 5])


def test_there_is_no_row_for_all_where_fewer_than_two_sources_have_every_category():
    found = by_category(rows([("TQA", "Clarity", 1, 10), ("TQA", "Creative", 1, 10), ("CQA", "Clarity", 1, 10)]))
    assert "ALL" not in set(found["source"])


def test_the_interval_of_the_standardised_rate_holds_the_truth():
    rng, held = np.random.default_rng(4), []
    for _ in range(150):
        cells = [("TQA", "Clarity", 0.02, 60), ("TQA", "Creative", 0.02, 200)]
        cells += [("CQA", "Clarity", 0.2, 150), ("CQA", "Creative", 0.2, 30)]
        drawn = [(source, kind, int(rng.binomial(of, p)), of) for source, kind, p, of in cells]
        found = by_category(rows(drawn)).query("source == 'ALL' and category == 'Creative'").iloc[0]
        held.append(found["low"] <= 100 * (260 * 0.02 + 180 * 0.2) / 440 <= found["high"])
    assert np.mean(held) >= 0.93


def test_categories_are_tested_within_sources():
    alike = rows([("TQA", "Clarity", 3, 100), ("TQA", "Creative", 1, 33), ("CQA", "Creative", 30, 100)])
    (row,) = category_tests(alike).to_dict("records")
    assert row["p"] > 0.9 and row["n"] == 233, "Creative breaks more only for being CQA's"
    apart = rows([("TQA", "Clarity", 2, 100), ("TQA", "Creative", 15, 100), ("CQA", "Clarity", 30, 100)])
    assert category_tests(apart)["p_holm"].item() < 0.01
    none = rows([("TQA", "Clarity", 0, 10), ("TQA", "Creative", 0, 10)])
    assert np.isnan(category_tests(none)["p"].item())


def test_the_test_of_categories_keeps_its_level():
    rng, p = np.random.default_rng(5), []
    for _ in range(150):
        drawn = [
            (source, kind, int(rng.binomial(50, rate)), 50)
            for source, rate in (("TQA", 0.05), ("CQA", 0.3))
            for kind in ("Clarity", "Creative", "Context")
        ]
        p.append(category_tests(rows(drawn), permutations=199)["p"].item())
    assert np.nanmean(np.array(p) < 0.05) <= 0.05 + 3 * np.sqrt(0.05 * 0.95 / 150)
