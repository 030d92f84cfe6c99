import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from perg_utils.core.profile import StatisticsConfig
from perg_utils.judging import agreement

FAST = StatisticsConfig(resamples=400)


def counts(*pairs):
    a, b = (np.array(side, dtype=float) for side in zip(*pairs, strict=True))
    return agreement.confusions(a, b).sum(0)


def frame(*judges, questions=None, **columns):
    names = [f"j{i}" for i in range(len(judges))]
    table = pd.DataFrame(dict(zip(names, (np.array(j, dtype=float) for j in judges), strict=True)))
    table["example_id"] = questions or [f"q{i}" for i in range(len(table))]
    return table.assign(**columns), names


def test_quadratic_kappa_of_a_small_case_is_the_one_computed_by_hand():
    # Squared distances 0, 1, 4, 0 sum to 5. Marginals {1, 2, 5, 5} x {1, 3, 3, 5}: sum of squares over all 16 pairs is
    # (0+4+4+16) + (1+1+1+9) + 2 * (16+4+4+0) = 24 + 12 + 48 = 84, so kappa = 1 - 4 * 5 / 84.
    assert agreement.quadratic_kappa(counts((1, 1), (2, 3), (5, 3), (5, 5))) == pytest.approx(1 - 20 / 84)


def test_quadratic_kappa_is_that_of_statsmodels_on_random_tables():
    from statsmodels.stats.inter_rater import cohens_kappa

    rng = np.random.default_rng(1)
    for _ in range(20):
        table = rng.integers(0, 30, (5, 5)).astype(float)
        expected = cohens_kappa(table, weights=np.arange(5), wt="quadratic").kappa
        assert agreement.quadratic_kappa(table) == pytest.approx(expected)


def test_followed_kappa_is_plain_kappa_of_the_table_folded_at_the_threshold():
    from statsmodels.stats.inter_rater import cohens_kappa

    table = np.random.default_rng(2).integers(0, 30, (5, 5)).astype(float)
    for threshold in (2, 3, 4, 5):
        cut = threshold - 1
        folded = np.array([[table[:cut, :cut].sum(), table[:cut, cut:].sum()],
                           [table[cut:, :cut].sum(), table[cut:, cut:].sum()]])  # fmt: skip
        assert agreement.followed_kappa(table, threshold) == pytest.approx(cohens_kappa(folded).kappa)
        assert agreement.followed_agreement(table, threshold) == pytest.approx(np.trace(folded) / folded.sum())


# Krippendorff (2011), "Computing Krippendorff's Alpha-Reliability", section C to E: four observers, twelve units.
OBSERVERS = [
    [1, 2, 3, 3, 2, 1, 4, 1, 2, np.nan, np.nan, np.nan],
    [1, 2, 3, 3, 2, 2, 4, 1, 2, 5, np.nan, 3],
    [np.nan, 3, 3, 3, 2, 3, 4, 2, 2, 5, 1, np.nan],
    [1, 2, 3, 3, 2, 4, 4, 1, 2, 5, 1, np.nan],
]


def test_alpha_of_krippendorffs_own_example_is_the_published_one():
    cells = agreement.coincidences(np.array(OBSERVERS).T).sum(0)
    assert cells.sum() == pytest.approx(40)
    assert agreement.alpha(cells, "ordinal") == pytest.approx(0.815, abs=5e-4)
    assert agreement.alpha(cells, "interval") == pytest.approx(0.849, abs=5e-4)


def test_interval_alpha_of_two_judges_is_the_one_computed_by_hand():
    # Pairs (1, 1), (2, 4): values 1, 1, 2, 4. Observed: 2 * 4 / 4 = 2. Expected over ordered pairs of different
    # values: 2 * (2 * 1 + 2 * 9 + 4) / (4 * 3) = 4. Alpha = 1 - 2 / 4.
    table, names = frame([1, 2], [1, 4])
    assert agreement.together(table, names, config=FAST)["alpha_interval"][0] == pytest.approx(0.5)
    assert agreement.pairs(table, names, config=FAST)["alpha_interval"][0] == pytest.approx(0.5)


def test_judges_that_always_agree_are_at_1_and_those_that_give_one_rating_only_at_nan():
    same = agreement.pairs(*frame([1, 3, 5], [1, 3, 5]), config=FAST).iloc[0]
    assert same[["kappa", "alpha_ordinal", "alpha_interval", "followed_kappa"]].tolist() == pytest.approx([1] * 4)
    assert same["followed"] == 100
    flat = agreement.pairs(*frame([3, 3, 3], [3, 3, 3]), config=FAST).iloc[0]
    assert flat["followed"] == 100
    assert flat[["kappa", "kappa_low", "alpha_ordinal", "alpha_interval", "followed_kappa"]].isna().all()


def test_complete_agreement_has_the_exact_bounds_of_that_many_questions_and_no_interval_of_no_width():
    # A share of 3 out of 3 is at least 0.025 ** (1 / 3); the three rows of a question tell no more than one.
    least = 0.025 ** (1 / 3)
    for times in (1, 3):
        table, names = frame([1, 3, 5] * times, [1, 3, 5] * times, questions=["a", "b", "c"] * times)
        same = agreement.pairs(table, names, config=FAST).iloc[0]
        for name in ("kappa", "alpha_ordinal", "alpha_interval", "followed_kappa"):
            assert (same[f"{name}_low"], same[f"{name}_high"]) == pytest.approx((least, 1))
        assert (same["followed_low"], same["followed_high"]) == pytest.approx((100 * least, 100))
        alone = agreement.together(table, names, config=FAST).iloc[0]
        assert (alone["alpha_ordinal_low"], alone["alpha_ordinal_high"]) == pytest.approx((least, 1))
    never = agreement.pairs(*frame([1, 1, 5], [4, 5, 2]), config=FAST).iloc[0]
    bounds = never[["followed", "followed_low", "followed_high"]].tolist()
    assert bounds == pytest.approx([0, 0, 100 * (1 - least)])


def test_a_judge_of_a_single_rating_has_a_kappa_of_0_by_construction_and_so_no_bounds():
    line = agreement.pairs(*frame([3, 3, 3, 3], [1, 5, 2, 4]), config=FAST).iloc[0]
    assert line["kappa"] == 0 and line[["kappa_low", "kappa_high"]].isna().all()
    assert line["followed"] == 50 and line["followed_low"] < 50 < line["followed_high"]


ratings = arrays.arrays(float, (12, 3), elements=st.sampled_from([1, 2, 3, 4, 5, np.nan]))


@given(ratings)
def test_the_order_of_judges_changes_nothing_and_no_value_is_above_1(values):
    one, other = agreement.coincidences(values).sum(0), agreement.coincidences(values[:, ::-1]).sum(0)
    for metric in ("ordinal", "interval"):
        a, b = agreement.alpha(one, metric), agreement.alpha(other, metric)
        assert (np.isnan(a) and np.isnan(b)) or (a == pytest.approx(b) and a <= 1 + 1e-9)
    cells = agreement.confusions(values[:, 0], values[:, 1]).sum(0)
    kappa, turned = agreement.quadratic_kappa(cells), agreement.quadratic_kappa(cells.T)
    assert (np.isnan(kappa) and np.isnan(turned)) or (kappa == pytest.approx(turned) and kappa <= 1 + 1e-9)


def test_rows_that_one_of_two_judges_did_not_rate_are_left_out_and_counted_by_n():
    table, names = frame([1, 5, np.nan, 2], [1, 5, 3, np.nan])
    line = agreement.pairs(table, names, config=FAST).iloc[0]
    assert (line["n"], line["kappa"]) == (2, pytest.approx(1))


def test_groups_hold_their_own_rows_and_each_column_groups_by_itself():
    table, names = frame([1, 5, 1, 5], [1, 5, 5, 1], category=["x", "x", "y", "y"], source=["s", "s", "s", "s"])
    found = agreement.pairs(table, names, by=["category", "source"], config=FAST)
    assert found[["by", "group", "n"]].values.tolist() == [
        ["all", "all", 4], ["category", "x", 2], ["category", "y", 2], ["source", "s", 4],
    ]  # fmt: skip
    assert found["kappa"].tolist() == pytest.approx([0, 1, -1, 0])
    assert found["followed"].tolist() == [50, 100, 0, 50]


def test_the_interval_rests_on_questions_so_that_repeated_rows_do_not_shorten_it():
    rng = np.random.default_rng(3)
    a = rng.integers(1, 6, 60)
    b = np.clip(a + rng.integers(-1, 2, 60), 1, 5)
    once = agreement.pairs(*frame(a, b), config=FAST).iloc[0]
    many = agreement.pairs(
        *frame(np.tile(a, 10), np.tile(b, 10), questions=[f"q{i}" for i in range(60)] * 10), config=FAST
    ).iloc[0]
    naive = agreement.pairs(*frame(np.tile(a, 10), np.tile(b, 10)), config=FAST).iloc[0]
    assert once["kappa_low"] < once["kappa"] < once["kappa_high"]
    assert many["kappa_high"] - many["kappa_low"] == pytest.approx(once["kappa_high"] - once["kappa_low"])
    assert naive["kappa_high"] - naive["kappa_low"] < 0.6 * (once["kappa_high"] - once["kappa_low"])
    assert (many["questions"], many["n"]) == (60, 600)


def test_the_bootstrap_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(4)
    truth = (
        np.outer([0.3, 0.1, 0.1, 0.2, 0.3], [0.3, 0.1, 0.1, 0.2, 0.3]) * 0.4 + np.diag([0.3, 0.1, 0.1, 0.2, 0.3]) * 0.6
    )
    kappa, held = float(agreement.quadratic_kappa(truth)), 0
    for _ in range(200):
        cells = rng.choice(25, 150, p=truth.ravel() / truth.sum())
        line = agreement.pairs(*frame(cells // 5 + 1, cells % 5 + 1), config=FAST).iloc[0]
        held += line["kappa_low"] <= kappa <= line["kappa_high"]
    assert 0.88 <= held / 200 <= 0.99


def test_confusion_counts_rows_first_judge_down():
    found = agreement.confusion(frame([1, 1, 4, np.nan], [1, 2, 5, 3])[0], "j0", "j1")
    assert found.loc[1].tolist() == [1, 1, 0, 0, 0] and found.loc[4, 5] == 1 and found.to_numpy().sum() == 3


def judged(judge, *rows):
    names = ["example_id", "preference_id", "model", "method", "setting", "rating", "status"]
    return pd.DataFrame(rows, columns=names).assign(judge=judge, explanation=None)


def test_wide_puts_ratings_side_by_side_and_drops_rows_that_nobody_rated():
    same = ("S", "zero_shot", "relevant")
    a = judged("a", ("q1", "p", *same, 4, "ok"), ("q2", "p", *same, None, "unparsable"), ("q3", None, *same, None, "x"))
    b = judged("b", ("q1", "p", *same, 2, "ok"), ("q2", "p", *same, 5, "ok"), ("q3", None, *same, None, "x"))
    found = agreement.wide(pd.concat([a, b]))
    assert found["example_id"].tolist() == ["q1", "q2"]
    assert found["a"].fillna(0).tolist() == [4, 0] and found["b"].tolist() == [2, 5]
    with pytest.raises(ValueError, match="1 rows are rated twice"):
        agreement.wide(pd.concat([a, a]))
