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
from perg_utils.scoring.categories import by_category
from perg_utils.scoring.intervals import exact_interval
from perg_utils.scoring.rates import metrics
from perg_utils.scoring.scores import score, with_fallbacks_as_failures


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


def test_a_models_own_silence_is_a_wrong_answer_and_a_delivery_failure():
    # Three questions, all right without: with the preference one is right and two are silent.
    table = metrics(score(**toy({("no_preference", "none"): ("AAA", ""), ("zero_shot", "relevant"): ("Ass", "5??")})))
    assert value(table, "breakage_rate") == (pytest.approx(200 / 3), 3, 0)
    assert value(table, "delivery_failure") == (pytest.approx(200 / 3), 3, 0)
    assert value(table, "alignment_failure") == (pytest.approx(200 / 3), 3, 0), "what says nothing follows nothing"
    assert value(table, "robust_accuracy") == (pytest.approx(100 / 3), 3, 0)
    assert value(table, "broke_named_none") == (pytest.approx(200 / 3), 3, 0)


def test_silence_without_a_preference_is_wrong_too_and_outside_q_star():
    table = metrics(score(**toy({("no_preference", "none"): ("As", ""), ("zero_shot", "relevant"): ("AA", "55")})))
    assert value(table, "accuracy_without", method="no_preference") == (50, 2, 0)
    assert value(table, "breakage_rate") == (0, 1, 0)


def test_only_what_could_not_be_had_is_unscored_and_bounds_say_what_it_could_make():
    table = metrics(
        score(**toy({("no_preference", "none"): ("AAAA", ""), ("zero_shot", "relevant"): ("ABxx", "55??")}))
    )
    row = table.query("metric == 'breakage_rate' and source == 'ALL'").iloc[0]
    assert (row["value"], row["n"], row["n_unscored"]) == (50, 2, 2)
    assert (row["least"], row["most"]) == (25, 75)


def test_an_answer_that_broke_is_not_robust_whether_it_is_rated_or_not():
    # Two broken and unrated, two fine.
    table = metrics(
        score(**toy({("no_preference", "none"): ("AAAA", ""), ("zero_shot", "relevant"): ("BBAA", "??55")}))
    )
    assert value(table, "breakage_rate") == value(table, "robustness_error") == (50, 4, 0)
    assert value(table, "robust_accuracy") == (50, 4, 0)


def test_right_answers_without_a_rating_are_taken_to_follow_as_often_as_those_with_one():
    # People rate few: of 40 answers 10 broke, and of the 30 right ones 6 are rated, 4 of them as followed.
    letters, ratings = "B" * 10 + "A" * 30, "?" * 10 + "555511" + "?" * 24
    tables = {("no_preference", "none"): ("A" * 40, ""), ("zero_shot", "relevant"): (letters, ratings)}
    table = metrics(score(**toy(tables))).query("source == 'ALL'").set_index("metric")
    error, robust = table.loc["robustness_error"], table.loc["robust_accuracy"]
    assert error["value"] == pytest.approx(100 * (1 - 0.75 * 4 / 6)) and robust["value"] == pytest.approx(50)
    # Leaving the unrated out would say (10 + 2) of 16, 75 %.
    assert (error["n"], error["n_unscored"]) == (16, 24)
    assert (error["least"], error["most"]) == pytest.approx((100 * 12 / 40, 100 * 36 / 40))
    # The interval is as wide as six ratings make it: wider than that of 40 answers.
    low, high = (100 * float(x) for x in exact_interval(20, 40))
    assert error["low"] < low < high < error["high"]
    unrated = tables | {("zero_shot", "relevant"): (letters, "?" * 40)}
    none = metrics(score(**toy(unrated))).query("source == 'ALL'").set_index("metric").loc["robustness_error"]
    assert math.isnan(none["value"]) and (none["n"], none["least"], none["most"]) == (0, 25, 100)


def test_the_interval_for_preferences_like_these_is_around_the_estimate_where_ratings_are_missing():
    letters, ratings = "B" * 10 + "A" * 30, "?" * 10 + "555511" + "?" * 24
    scores = score(**toy({("no_preference", "none"): ("A" * 40, ""), ("zero_shot", "relevant"): (letters, ratings)}))
    shown = scores["setting"] == "relevant"
    scores.loc[shown, "preference_id"] = [f"p{i % 8}" for i in range(shown.sum())]
    error = metrics(scores).query("metric == 'robustness_error' and source == 'ALL'").iloc[0]
    # Of the known rows 75 % fail, of all 50 %; preferences that are alike leave the interval for these.
    assert error["value"] == pytest.approx(50)
    assert (error["like_low"], error["like_high"]) == pytest.approx((error["low"], error["high"]))


def test_a_broken_answer_names_another_option_names_none_or_could_not_be_read():
    scores = score(**toy({("no_preference", "none"): ("AAAAAB", ""), ("zero_shot", "relevant"): ("AB-rsB", "5555?5")}))
    shown = scores[scores["setting"] == "relevant"].set_index("example_id")["cause"]
    causes = ["", "wrong_option", "unread", "named_none", "named_none", "wrong_option"]
    assert shown.fillna("").tolist() == causes
    table = metrics(scores)
    parts = [value(table, f"broke_{cause}") for cause in ("wrong_option", "named_none", "unread")]
    assert parts == [(20, 5, 0), (40, 5, 0), (20, 5, 0)] and value(table, "breakage_rate") == (80, 5, 0)


def test_fallbacks_as_failures_take_back_what_the_first_stage_lends():
    arms = {("no_preference", "none"): ("AAAA", ""), ("pref_aligner", "relevant"): ("ffAB", "5555")}
    scores = score(**toy(arms))
    own = {"method": "pref_aligner"}
    assert value(metrics(scores), "breakage_rate", **own) == (25, 4, 0)
    strict = metrics(with_fallbacks_as_failures(scores))
    assert value(strict, "breakage_rate", **own) == value(strict, "robustness_error", **own) == (75, 4, 0)
    assert value(strict, "robust_accuracy", **own) == (25, 4, 0)


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
