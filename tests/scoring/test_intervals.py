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
    clustered_interval,
    detectable,
    equivalence,
    exact_interval,
    holm,
    mcnemar_exact,
    odds_ratio,
    odds_ratio_interval,
    paired_interval,
    sign_flip_exact,
    tango_score,
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


@given(st.integers(0, 30), st.integers(0, 30))
def test_the_score_of_no_difference_is_mcnemars(worse, better):
    expected = (worse - better) / np.sqrt(worse + better) if worse + better else 0.0
    assert np.nan_to_num(tango_score(worse, better, 100, 0.0)) == pytest.approx(expected)


def test_the_paired_interval_is_tangos():
    low, high = paired_interval(9, 1, 100)
    assert tango_score(9, 1, 100, low) == pytest.approx(1.959964, abs=1e-4)
    assert tango_score(9, 1, 100, high) == pytest.approx(-1.959964, abs=1e-4)
    assert np.isnan(paired_interval(0, 0, 0)[0])


@given(st.integers(0, 25), st.integers(0, 25), st.sampled_from([0.9, 0.95, 0.995]))
def test_the_paired_interval_never_contradicts_the_exact_test(worse, better, confidence):
    low, high = paired_interval(worse, better, 60, confidence)
    outside = (low > 0) | (high < 0)
    assert outside == (mcnemar_exact(worse, better) < 1 - confidence)
    mirrored = paired_interval(better, worse, 60, confidence)
    assert (low, high) == pytest.approx((-mirrored[1], -mirrored[0]), abs=1e-9)
    assert low - 1e-9 <= (worse - better) / 60 <= high + 1e-9


@given(st.lists(st.sampled_from([-1, 0, 1]), max_size=40))
def test_with_one_model_the_test_by_question_is_mcnemars(differences):
    worse, better = differences.count(1), differences.count(-1)
    assert sign_flip_exact(differences) == pytest.approx(float(mcnemar_exact(worse, better)))


def test_with_several_models_the_test_by_question_counts_every_sign():
    # Sizes 2, 1, 1: of the 8 sums +-2 +-1 +-1 those of 4 or more from zero are 4 and -4.
    assert sign_flip_exact([2, 1, 1, 0]) == pytest.approx(2 / 8)
    assert sign_flip_exact([2, -1, 1]) == pytest.approx(6 / 8)
    assert sign_flip_exact([]) == 1.0


def test_models_that_fail_the_same_questions_do_not_count_as_many():
    alike = np.repeat([3, 0], [4, 96])  # three models, the same four questions: p as for one model
    assert sign_flip_exact(alike) == pytest.approx(float(mcnemar_exact(4, 0)))
    low, high = clustered_interval(alike, 3)
    assert low == 0.0 and high > 0.04, "four questions are not enough, however many models"
    apart = np.repeat([1, 0], [12, 88])
    assert clustered_interval(apart, 3)[0] > 0


def test_the_clustered_interval_covers_the_truth():
    rng = np.random.default_rng(3)
    held = []
    for _ in range(600):
        hard = rng.beta(0.3, 3, 200)[:, None]  # questions differ, so a question's models go together
        worse, better = rng.random((200, 3)) < 0.5 * hard, rng.random((200, 3)) < 0.3 * hard
        low, high = clustered_interval((worse.astype(int) - better).sum(axis=1), 3)
        truth = 0.2 * 0.3 / 3.3
        held.append(low <= truth <= high)
    assert 0.93 <= np.mean(held) <= 0.985


@pytest.mark.parametrize(("n", "differ"), [(345, 0.07), (1000, 0.1), (120, 0.3)])
def test_the_detectable_difference_is_found_in_80_percent_of_studies(n, differ):
    size = detectable(differ * n / 2, differ * n / 2, n)
    rng = np.random.default_rng(5)
    share = max(differ, size)
    cells = [(share + size) / 2, (share - size) / 2, 1 - share]
    worse, better, _ = rng.multinomial(n, cells, 4000).T
    assert (mcnemar_exact(worse, better) < 0.05).mean() == pytest.approx(0.8, abs=0.05)


def test_the_detectable_differences_of_the_demos_placebo_are_those_worked_out():
    # 22 against 3 of 340: sqrt(.0735) * (1.960 + 0.842) / sqrt(340) = 4.1 points, with nine comparisons 5.3.
    assert 100 * detectable(22, 3, 340, [0.05, 0.05 / 9]) == pytest.approx([4.2, 5.4], abs=0.1)


@pytest.mark.parametrize("cells", [(0.03, 0.0), (0.06, 0.03), (0.1, 0.07)])
def test_arms_at_the_margin_are_called_equivalent_in_about_5_percent(cells):
    worse, better, _ = np.random.default_rng(6).multinomial(800, [*cells, 1 - sum(cells)], 4000).T
    assert (equivalence(worse, better, 800, 0.03) < 0.05).mean() <= 0.065
    none = np.random.default_rng(7).multinomial(800, [0.01, 0.01, 0.98], 500).T
    assert (equivalence(none[0], none[1], 800, 0.03) < 0.05).mean() > 0.95


def test_exact_intervals_cover_at_least_as_often_as_they_say_and_a_bootstrap_at_zero_does_not():
    rng = np.random.default_rng(1)
    n, p = 60, 0.02
    k = rng.binomial(n, p, 4000)
    low, high = exact_interval(k, np.full(len(k), n))
    assert ((low <= p) & (p <= high)).mean() >= 0.95
    resampled = rng.binomial(n, np.repeat(k[:, None], 500, axis=1) / n) / n
    low, high = np.quantile(resampled, [0.025, 0.975], axis=1)
    assert ((low <= p) & (p <= high)).mean() < 0.8


@pytest.mark.parametrize("cells", [(0.02, 0.01), (0.03, 0.0), (0.10, 0.02), (0.15, 0.15)])
def test_the_interval_of_a_paired_difference_covers_the_truth_about_as_often_as_it_says(cells):
    worse, better, _ = np.random.default_rng(2).multinomial(200, [*cells, 1 - sum(cells)], 4000).T
    low, high = paired_interval(worse, better, 200)
    truth = cells[0] - cells[1]
    assert 0.93 <= ((low <= truth + 1e-9) & (truth <= high + 1e-9)).mean() <= 0.98


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
