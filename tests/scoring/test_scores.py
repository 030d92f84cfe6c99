"""From answers and ratings to scores: what is known of each row, and why something is not."""

import math

import pandas as pd
import pytest
import synthetic
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_tables import BASE, RATINGS, RELEVANT, WITH, toy, value

from perg_utils.core.errors import DataError
from perg_utils.core.schema import ROW_ID, TABLES
from perg_utils.scoring.rates import by_category, metrics
from perg_utils.scoring.scores import score


def test_scores_have_the_schema_and_say_for_each_row_why_it_is_not_scored():
    scores = score(**toy(RELEVANT))
    assert list(scores) == list(TABLES["scores"])
    shown = scores[scores["method"] == "zero_shot"].set_index("example_id")
    assert shown["status"].to_dict() == {
        **dict.fromkeys(["q0", "q1", "q3", "q4", "q5", "q6", "q8"], "ok"),
        "q2": "unparsable",  # the rating
        "q7": "api_error",  # the response
        "q9": "api_error",  # the baseline
    }
    assert shown["correct_with"].isna().to_dict()["q7"] and shown["correct_without"].isna().to_dict()["q9"]
    assert not shown.loc["q6", "correct_with"] and not shown.loc["q6", "delivered_with"]
    assert shown["category"].eq("Clarity").all() and shown["sampled"].all()


def test_a_missing_judgement_leaves_the_row_out_and_is_not_counted_as_not_followed():
    tables = toy(RELEVANT)
    tables["judgements"] = tables["judgements"].iloc[:0]
    scores = score(**tables)
    assert value(metrics(scores), "alignment_failure") == (pytest.approx(math.nan, nan_ok=True), 0, 9)
    assert value(metrics(scores), "breakage_rate")[1] == 7
    assert set(scores.loc[scores["setting"] == "relevant", "status"]) == {"empty", "api_error"}


def test_the_threshold_decides_what_followed_means():
    tables = toy(BASE | {("zero_shot", "relevant"): ("A" * 10, "2345" + "5" * 6)})
    failures = [value(metrics(score(**tables, threshold=t)), "alignment_failure")[0] for t in (2, 3, 4, 5)]
    assert failures == [0, 12.5, 25, 37.5]


def test_with_baseline_own_a_method_is_compared_with_its_own_run_without_preference():
    arms = BASE | {("cot", "none"): ("BBAAAAAAAA", ""), ("cot", "relevant"): ("AAAAAAAAAB", "5" * 10)}
    shared, own = (metrics(score(**toy(arms), baseline=b)) for b in ("no_preference", "own"))
    relevant = {"method": "cot", "setting": "relevant"}
    assert value(shared, "breakage_rate", **relevant) == (0, 8, 1)
    assert value(own, "breakage_rate", **relevant) == (12.5, 8, 0)
    # The method's own run is a baseline in both, and is judged by its own answers.
    assert value(shared, "accuracy_without", method="cot", setting="none") == (80, 10, 0)


def test_in_full_mode_only_the_sampled_preference_is_measured():
    arms = RELEVANT | {("zero_shot", "relevant", "context-1"): ("B" * 10, "1" * 10)}
    scores = score(**toy(arms))
    assert scores["sampled"].sum() == 20 and len(scores) == 30
    pd.testing.assert_frame_equal(metrics(scores), metrics(score(**toy(RELEVANT))))
    assert set(by_category(scores)["category"]) == {"Clarity"}


def test_a_row_given_twice_is_an_error_also_where_the_preference_is_null():
    for table in ("responses", "answers", "judgements"):
        for setting in ("relevant", "none"):
            tables = toy(RELEVANT)
            first = tables[table][tables[table]["setting"] == setting].head(1)
            tables[table] = pd.concat([tables[table], first])
            with pytest.raises(DataError, match=f"'{table}' twice"):
                score(**tables)


@pytest.mark.parametrize("table", ["examples", "answers"])
def test_a_response_without_its_example_or_answer_is_an_error_that_names_it(table):
    tables = toy(RELEVANT)
    tables[table] = tables[table][tables[table]["example_id"] != "q3"]
    with pytest.raises(DataError, match="q3"):
        score(**tables)


def test_a_response_without_a_baseline_row_is_an_error():
    with pytest.raises(DataError, match="no answer without preference"):
        score(**toy({("zero_shot", "relevant"): (WITH, RATINGS)}))


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_rows_changes_nothing(seed):
    tables = toy(RELEVANT | {("zero_shot", "irrelevant"): (WITH, "")})
    mixed = {name: frame.sample(frac=1, random_state=seed) for name, frame in tables.items()}
    keys = ROW_ID
    plain, shuffled = (score(**t).sort_values(keys).reset_index(drop=True) for t in (tables, mixed))
    pd.testing.assert_frame_equal(plain, shuffled)
    pd.testing.assert_frame_equal(metrics(plain), metrics(shuffled))


def test_rows_follow_the_models_of_the_profile_so_that_figures_colour_them_alike():
    tables = synthetic.tables(3, 20)
    names = list(dict.fromkeys(tables["responses"]["model"]))[::-1]
    scores = score(**tables, models=names)
    assert list(dict.fromkeys(scores["model"])) == names
    assert list(dict.fromkeys(by_category(scores)["model"])) == names
