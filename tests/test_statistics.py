"""Intervals and paired tests against known values, scipy and statsmodels, and by simulation."""

import numpy as np
import pandas as pd
import pytest
import synthetic
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from perg_utils.metrics import score
from perg_utils.profile import Profile, StatisticsConfig
from perg_utils.schema import Metric
from perg_utils.statistics import (
    Arm,
    against_method,
    against_setting,
    compare,
    exact_interval,
    holm,
    mcnemar_exact,
    paired_bootstrap,
    stand_ins,
)


@given(st.integers(0, 60), st.integers(1, 60), st.sampled_from([0.8, 0.95, 0.99]))
def test_exact_intervals_are_scipys(k, n, confidence):
    k = min(k, n)
    theirs = binomtest(k, n).proportion_ci(confidence, method="exact")
    assert np.allclose(exact_interval(k, n, confidence), (theirs.low, theirs.high))


def test_an_interval_over_nothing_is_unknown():
    low, high = exact_interval([0, 3], [0, 10])
    assert np.isnan([low[0], high[0]]).all() and 0 < low[1] < 0.3 < high[1] < 1


@given(st.integers(0, 40), st.integers(0, 40))
def test_mcnemar_is_that_of_statsmodels(worse, better):
    theirs = mcnemar([[5, worse], [better, 5]], exact=True).pvalue if worse + better else 1.0
    assert mcnemar_exact(worse, better) == pytest.approx(theirs)


@settings(max_examples=25)  # statsmodels takes a twentieth of a second a call
@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_that_of_statsmodels(p):
    assert np.allclose(holm(p), multipletests(p, method="holm")[1])


def test_holm_does_not_count_comparisons_that_could_not_be_made():
    assert np.allclose(holm([0.02, np.nan, 0.04]), [0.04, np.nan, 0.04], equal_nan=True)


def test_the_paired_bootstrap_is_seeded_and_never_empty():
    first, again = (paired_bootstrap(9, 1, 100, np.random.default_rng(7)) for _ in range(2))
    assert first == again and first[0] < 0.08 < first[1]
    low, high = paired_bootstrap(0, 0, 50, np.random.default_rng(7))
    assert low < 0 < high


def test_exact_intervals_cover_at_least_as_often_as_they_say_and_a_bootstrap_at_zero_does_not():
    rng = np.random.default_rng(1)
    n, p = 60, 0.02
    k = rng.binomial(n, p, 4000)
    low, high = exact_interval(k, np.full(len(k), n))
    assert ((low <= p) & (p <= high)).mean() >= 0.95
    resampled = rng.binomial(n, np.repeat(k[:, None], 500, axis=1) / n) / n
    low, high = np.quantile(resampled, [0.025, 0.975], axis=1)
    assert ((low <= p) & (p <= high)).mean() < 0.8


@pytest.mark.parametrize("cells", [(0.02, 0.01), (0.10, 0.02), (0.15, 0.15)])
def test_the_interval_of_a_paired_difference_covers_the_truth_about_as_often_as_it_says(cells):
    rng = np.random.default_rng(2)
    worse, better = cells
    drawn = rng.multinomial(200, [worse, better, 1 - worse - better], 600)
    bounds = np.array([paired_bootstrap(w, b, 200, rng, resamples=400) for w, b, _ in drawn])
    covered = (bounds[:, 0] <= worse - better) & (worse - better <= bounds[:, 1])
    assert 0.92 <= covered.mean() <= 0.99


def arm_rows(model: str, method: str, without: str, shown: str, setting: str = "irrelevant") -> pd.DataFrame:
    """Score rows; letters are 1 right, 0 wrong, ? not scored."""
    known = {"1": True, "0": False, "?": None}
    right = pd.array([known[c] for c in shown], dtype="boolean")
    return pd.DataFrame(
        {
            "example_id": [f"q{i}" for i in range(len(shown))],
            "model": model,
            "method": method,
            "setting": setting,
            "correct_without": pd.array([known[c] for c in without], dtype="boolean"),
            "correct_with": right,
            "robust": right,
            "sampled": True,
        }
    )


def test_arms_are_compared_on_the_questions_right_without_and_scored_in_both():
    scores = pd.concat(
        [arm_rows("S", "zero_shot", "1111110?", "110000?1"), arm_rows("S", "cot", "1111110?", "10111?11")]
    )
    ref, arm = Arm("S", "zero_shot", "irrelevant"), Arm("S", "cot", "irrelevant")
    (row,) = compare(scores, [(ref, arm)], Metric.BREAKAGE_RATE).itertuples()
    # q0..q4: the reference fails q2, q3, q4 and the arm q1; q5 is not scored in the arm.
    assert (row.n, row.n_unscored, row.worse, row.better) == (5, 1, 1, 3)
    assert (row.reference_value, row.value, row.difference) == pytest.approx((60, 20, -40))
    assert row.p == row.p_holm == pytest.approx(0.625)
    assert row.low < -40 < row.high


def test_the_same_pair_has_the_same_interval_whatever_it_is_listed_with():
    scores = score(**synthetic.tables(2, 90))
    pairs = against_method(scores)
    config = StatisticsConfig(resamples=200)
    alone, among = compare(scores, pairs[-1:], config=config), compare(scores, pairs, config=config)
    assert alone[["low", "high", "p"]].iloc[0].equals(among[["low", "high", "p"]].iloc[-1].rename(0))


def test_pairs_are_made_within_a_model_where_both_arms_were_run():
    scores = pd.concat(
        [
            arm_rows("S", "zero_shot", "1", "1"),
            arm_rows("S", "zero_shot", "1", "1", "placebo"),
            arm_rows("S", "cot", "1", "1"),
            arm_rows("S+L", "pref_aligner", "1", "1"),
        ]
    )
    zero_shot = Arm("S", "zero_shot", "irrelevant")
    assert against_method(scores) == [(zero_shot, Arm("S", "cot", "irrelevant"))]
    assert (zero_shot, Arm("S+L", "pref_aligner", "irrelevant")) in against_method(scores, {"S+L": "S"})
    assert against_setting(scores, "placebo") == [(Arm("S", "zero_shot", "placebo"), zero_shot)]


def test_a_model_that_only_aligns_with_another_is_stood_in_for_by_the_model_with_its_weights():
    raw = yaml.safe_load(synthetic.profile_text(3))
    raw["models"].append(raw["models"][0] | {"name": "S+L", "aligner": "L", "methods": ["pref_aligner"]})
    assert stand_ins(Profile.model_validate(raw)) == {"S+L": "S"}
