"""Intervals, tests and effect sizes against scipy, statsmodels and simulation."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from statsmodels.stats.contingency_tables import mcnemar
from statsmodels.stats.multitest import multipletests

from perg_utils.scoring.intervals import (
    bootstrap_interval,
    exact_interval,
    holm,
    mcnemar_exact,
    odds_ratio,
    odds_ratio_interval,
    paired_bootstrap,
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


def test_the_matched_odds_ratio_is_that_of_the_discordant_pairs_with_half_a_question_where_one_side_is_empty():
    assert odds_ratio([9, 4, 0, 0], [3, 0, 2, 0]) == pytest.approx([3.0, 9.0, 0.2, np.nan], nan_ok=True)


@given(st.integers(0, 40), st.integers(0, 40))
def test_the_odds_ratios_interval_holds_it_and_mirrors(worse, better):
    low, high = odds_ratio_interval(worse, better)
    if worse + better == 0:
        assert np.isnan(low) and np.isnan(high)
        return
    assert low <= odds_ratio(worse, better) <= high
    mirrored = odds_ratio_interval(better, worse)
    assert np.isinf(mirrored[1]) if low == 0 else mirrored[1] == pytest.approx(1 / low)


@given(st.integers(0, 30), st.integers(0, 30))
def test_the_odds_ratios_interval_leaves_out_one_where_mcnemar_is_clear(worse, better):
    low, high = odds_ratio_interval(worse, better)
    p = mcnemar_exact(worse, better)
    assert (low > 1 or high < 1) == (p < 0.05) or abs(p - 0.05) < 1e-9


def test_the_bootstrap_over_questions_takes_all_configurations_at_once():
    low, high = bootstrap_interval([[5, 0], [3, 0]], [[70, 70], [3, 0]], 100, np.random.default_rng(0))
    assert low.shape == (2, 2) and 0 < low[0, 0] < 5 / 70 < high[0, 0] < 0.2
    assert (low[0, 1], high[0, 1]) == (0, 0)  # the reason why the study does not use it
    assert (low[1, 0], high[1, 0]) == (1, 1) and np.isnan([low[1, 1], high[1, 1]]).all()


def test_the_bootstrap_over_questions_is_the_one_that_draws_questions():
    rng = np.random.default_rng(1)
    outcomes = np.repeat([2, 1, 0], [12, 58, 30])  # broke, right in both, not in the set
    drawn = rng.choice(outcomes, (20000, 100))
    share = (drawn == 2).sum(axis=1) / (drawn > 0).sum(axis=1)
    ours = bootstrap_interval(12, 70, 100, rng, resamples=20000)
    assert np.allclose(ours, np.quantile(share, [0.025, 0.975]), atol=0.006)
