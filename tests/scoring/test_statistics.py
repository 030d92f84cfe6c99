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

from perg_utils.core.profile import Profile, StatisticsConfig
from perg_utils.core.schema import Metric
from perg_utils.scoring.comparisons import (
    Arm,
    against_method,
    against_setting,
    compare,
    delivery_change,
    exact_interval,
    holm,
    mcnemar_exact,
    net_change,
    paired_bootstrap,
    stand_ins,
)
from perg_utils.scoring.intervals import bootstrap_interval, odds_ratio, odds_ratio_interval
from perg_utils.scoring.rates import metrics
from perg_utils.scoring.scores import score


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
    assert row.odds_ratio == pytest.approx(1 / 3) and row.odds_low < 1 / 3 < row.odds_high


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


def changed(without: str, shown: str) -> pd.DataFrame:
    return arm_rows("S", "zero_shot", without, shown, "relevant").assign(
        delivered_without=lambda d: d["correct_without"], delivered_with=lambda d: d["correct_with"]
    )


def test_breakage_stands_beside_its_mirror_and_the_net_change():
    # 6 right before: 2 of them break; 4 wrong before: 1 is mended; two rows lack an answer.
    scores = changed("1111110000?1", "1111001000" + "1?")
    (row,) = net_change(scores).to_dict("records")
    counts = [row[k] for k in ("broke", "fixed", "n_right", "n_wrong", "n", "n_unscored")]
    assert counts == [2, 1, 6, 4, 10, 2]
    assert (row["breakage"], row["fixed_rate"], row["net"]) == pytest.approx((100 / 3, 25, -10))
    assert (row["breakage_low"], row["breakage_high"]) == pytest.approx(
        tuple(100 * float(bound) for bound in exact_interval(2, 6))
    )
    assert (row["fixed_low"], row["fixed_high"]) == pytest.approx(
        tuple(100 * float(bound) for bound in exact_interval(1, 4))
    )
    assert row["low"] < -10 < row["high"] and row["p"] == row["p_holm"] == 1.0 and row["odds_ratio"] == 2.0


def test_net_change_agrees_with_the_metrics_of_the_same_run():
    scores = score(**synthetic.tables(3, 120))
    table = metrics(scores).query("source == 'ALL'").set_index(["model", "method", "setting", "metric"])["value"]
    for row in net_change(scores).itertuples():
        assert row.breakage == pytest.approx(table[row.model, row.method, row.setting, "breakage_rate"])
        union = row.n_right + row.fixed
        assert 100 * (row.broke + row.fixed) / union == pytest.approx(
            table[row.model, row.method, row.setting, "performance_variation"]
        )


def test_changes_are_of_the_sampled_rows_with_a_preference_only():
    scores = pd.concat([changed("1111", "1110"), changed("11", "00").assign(sampled=False)])
    base = changed("1111", "????").assign(method="no_preference", setting="none")
    both = pd.concat([base, scores])
    assert net_change(both)[["broke", "n"]].to_numpy().tolist() == [[1, 4]]
    assert delivery_change(both)[["failed_with", "n"]].to_numpy().tolist() == [[1, 4]]


def test_changes_of_no_rows_are_tables_without_rows():
    scores = score(**synthetic.tables(1, 30))
    for change in (net_change, delivery_change):
        empty, full = change(scores.iloc[:0]), change(scores)
        assert len(empty) == 0 and list(empty) == list(full)
    assert compare(scores.iloc[:0], []).empty


def test_changes_list_models_as_they_appear_and_settings_as_the_study_does():
    scores = score(**synthetic.tables(2, 30)).iloc[::-1]
    found = net_change(scores)
    assert found["model"].drop_duplicates().tolist() == ["M", "S"]
    own = found[found["method"] == "zero_shot"].iloc[:4]
    assert own["setting"].tolist() == ["relevant", "mixed", "irrelevant", "placebo"]
