"""Simulated studies hold what their world promises; what churn alone does to a comparison on Q*."""

from dataclasses import replace
from itertools import product

import numpy as np
import pandas as pd
import pytest

from perg_utils.core.errors import DataError
from perg_utils.core.schema import PAPER_METRICS, TABLES, Arm, Method, Metric, Setting, Source
from perg_utils.scoring.intervals import mcnemar_exact
from perg_utils.scoring.rates import metrics
from perg_utils.scoring.scores import score
from perg_utils.scoring.simulated import study
from perg_utils.scoring.worlds import (
    DRAFT,
    ROBUST_ACCURACY,
    Shown,
    World,
    aligner_benefit,
    churn_only,
    different_preferences,
    difficulties,
    expected,
    no_effect,
    real_effect,
    truth,
    usual_arms,
)

ZERO_SHOT, ALIGNER = (Method.ZERO_SHOT, Setting.RELEVANT), (Method.PREF_ALIGNER, Setting.RELEVANT)


def scored(world: World, seed: int = 0) -> pd.DataFrame:
    return score(**study(world, np.random.default_rng(seed)))


def column(scores: pd.DataFrame, arm: tuple[Method, Setting], name: str) -> np.ndarray:
    """One column of an arm, rows in the order of the questions (and models), nulls as NaN."""
    own = scores[(scores["method"] == arm[0]) & (scores["setting"] == arm[1])].sort_values(["model", "example_id"])
    return own[name].to_numpy(dtype=float, na_value=np.nan)


def test_the_tables_have_the_schema_of_a_run_and_the_same_state_gives_the_same_study():
    first, again, other = (study(churn_only(), np.random.default_rng(seed)) for seed in (1, 1, 2))
    for name, frame in first.items():
        assert list(frame) == list(TABLES[name])
        pd.testing.assert_frame_equal(frame, again[name])
    assert len(first["responses"]) == 600 * 3 * 9
    assert not first["answers"].equals(other["answers"])


def test_each_source_has_its_preferences_in_turn_and_mmlu_none_of_the_category_creative():
    tables = study(World(questions={Source.TQA: 20, Source.MMLU: 16}), np.random.default_rng(0))
    given = tables["examples"].groupby("source")["preference_id"].value_counts()
    assert len(given["TQA"]) == 10 and len(given["MMLU"]) == 8 and set(given) == {2}
    assert "creative-1" in given["TQA"] and "creative-1" not in given["MMLU"]
    assert [*tables["examples"]["preference_id"][:6]] == [
        "clarity-1", "context-1", "thinking-1", "examples-1", "creative-1", "clarity-2"]  # fmt: skip
    rows = tables["responses"]
    shown = rows["setting"].isin(["relevant", "mixed"])
    assert rows.loc[shown, "preference_id"].notna().all() and rows.loc[~shown, "preference_id"].isna().all()


def test_without_churn_nothing_breaks_and_nothing_is_mended():
    world = replace(no_effect(), churn=0.0, preference_sd=1.0)
    scores = scored(world)
    shown = scores[scores["setting"] != "none"]
    assert (shown["correct_with"] == shown["correct_without"]).all()
    assert expected(world, Metric.BREAKAGE_RATE, *ZERO_SHOT) == 0
    assert expected(world, Metric.PERFORMANCE_VARIATION, *ZERO_SHOT) == 0


def test_with_the_most_churn_all_questions_are_equally_hard():
    # At p = .75 everywhere, two answers differ in 2 * .75 * .25 of the cases, and a quarter of Q* breaks.
    world = replace(no_effect(), churn=0.375)
    assert expected(world, Metric.BREAKAGE_RATE, *ZERO_SHOT) == pytest.approx(25)
    assert expected(world, Metric.PERFORMANCE_VARIATION, *ZERO_SHOT) == pytest.approx(100 * 0.375 / (1 - 0.25**2))


def test_the_paper_s_metrics_under_churn_alone_as_worked_out_by_hand():
    # Two answers differ in 16 %: half of it, 8 of the 75 % right before, break; a copying aligner breaks nothing.
    world = replace(churn_only(), churn=0.16)
    assert expected(world, Metric.BREAKAGE_RATE, *ZERO_SHOT) == pytest.approx(100 * 8 / 75)
    assert expected(world, Metric.ROBUSTNESS_ERROR, *ZERO_SHOT) == pytest.approx(100 * (1 - 0.9 * 67 / 75))
    assert expected(world, Metric.PERFORMANCE_VARIATION, *ZERO_SHOT) == pytest.approx(100 * 16 / 83)
    assert expected(world, Metric.ALIGNMENT_FAILURE, *ZERO_SHOT) == pytest.approx(10)
    aligned = {m: expected(world, m, *ALIGNER) for m in (Metric.BREAKAGE_RATE, Metric.PERFORMANCE_VARIATION)}
    assert set(aligned.values()) == {0.0} and expected(world, Metric.ROBUSTNESS_ERROR, *ALIGNER) == pytest.approx(10)
    for arm in (ZERO_SHOT, ALIGNER):
        assert expected(world, Metric.ACCURACY_WITH, *arm) == pytest.approx(75)
        assert expected(world, ROBUST_ACCURACY, *arm) == pytest.approx(67.5)


def test_the_truth_of_an_effect_is_its_size_whatever_churns_and_whichever_preferences():
    reference, arm = Arm("ALL", *ZERO_SHOT), Arm("S", *ALIGNER)
    for churn, sd, fresh in product((0.0, 0.01, 0.15, 0.37, 0.375), (0.0, 0.5), (False, True)):
        harm = replace(real_effect(4), churn=churn, preference_sd=sd, fresh_preferences=fresh)
        assert truth(harm, Metric.ACCURACY_WITH, reference, arm) == pytest.approx(4, abs=1e-6)
        assert truth(harm, ROBUST_ACCURACY, reference, arm) == pytest.approx(3.6, abs=1e-6)
        placebo = Arm("ALL", Method.ZERO_SHOT, Setting.PLACEBO)
        assert truth(harm, Metric.ACCURACY_WITH, placebo, reference) == pytest.approx(-4, abs=1e-6)
        gain = replace(aligner_benefit(5), churn=churn, preference_sd=sd, fresh_preferences=fresh)
        assert truth(gain, Metric.ACCURACY_WITH, reference, arm) == pytest.approx(5, abs=1e-6)


def test_the_quadrature_has_the_mean_and_the_churn_of_the_world():
    for accuracy, share in product((0.3, 0.75, 0.97), (0.0, 0.001, 0.05, 0.4, 0.9, 0.999, 1.0)):
        churn = share * 2 * accuracy * (1 - accuracy)
        p, weight = difficulties(World(accuracy=accuracy, churn=churn, arms={}))
        assert weight @ p == pytest.approx(accuracy) and weight @ (2 * p * (1 - p)) == pytest.approx(churn, abs=1e-9)


#: The paper's metrics, and what is counted over all questions.
KNOWN = {*PAPER_METRICS, Metric.DELIVERY_FAILURE, Metric.ACCURACY_WITHOUT, Metric.ACCURACY_WITH}
WORLDS = {
    "no effect": no_effect(),
    "churn only": churn_only(),
    "effect": replace(real_effect(6), silent=0.1),
    "benefit": aligner_benefit(5),
    "preferences differ": different_preferences(0.8),
    "fresh preferences": replace(different_preferences(0.8), fresh_preferences=True, preferences=400),
    "models alike": replace(real_effect(6), shared=0.8),
}


@pytest.mark.parametrize("name", WORLDS)
def test_every_metric_of_large_studies_is_what_is_expected(name):
    world = replace(WORLDS[name], questions=dict.fromkeys(Source, 4000), models=("S", "M"))
    scores = scored(world, seed=5)
    table = metrics(scores).query("source == 'ALL'")
    assert set(table["metric"]) >= KNOWN
    for row in table[table["metric"].isin(KNOWN)].itertuples():
        if row.metric != Metric.ACCURACY_WITHOUT or row.setting == Setting.NONE:
            asked = (Method(row.method), Setting(row.setting))
            # Five standard errors of a share; no more by chance in some 700 comparisons.
            error = 100 * np.sqrt(0.25 / row.n if row.value > 10 else 0.12 / row.n)
            assert row.value == pytest.approx(expected(world, row.metric, *asked), abs=5 * error), row
    for arm in world.arms:
        robust = 100 * np.nanmean(column(scores, arm, "robust"))
        assert robust == pytest.approx(expected(world, ROBUST_ACCURACY, *arm), abs=5 * 100 * np.sqrt(0.25 / 24_000))


def test_two_answers_of_a_model_differ_as_often_as_promised_and_copies_never_do():
    scores = scored(replace(churn_only(), questions={Source.TQA: 40_000}, models=("S",)))
    asked = [column(scores, (Method.ZERO_SHOT, s), "correct_with") for s in (Setting.PLACEBO, Setting.RELEVANT)]
    assert (asked[0] != asked[1]).mean() == pytest.approx(0.15, abs=0.009)
    for setting in (Setting.RELEVANT, Setting.MIXED, Setting.IRRELEVANT):
        arm = (Method.PREF_ALIGNER, setting)
        assert (column(scores, arm, "correct_with") == column(scores, arm, "correct_without")).all()


def test_shared_luck_makes_models_alike_and_changes_no_rate():
    plain, shared, same = (
        scored(replace(no_effect(), shared=rho, questions={Source.TQA: 8000}, models=("S", "M")), seed=3)
        for rho in (0.0, 0.7, 1.0)
    )
    differ = []
    for scores in (plain, shared, same):
        right = column(scores, ZERO_SHOT, "correct_with").reshape(2, -1)
        assert right.mean(axis=1) == pytest.approx(0.75, abs=0.025)
        differ.append((right[0] != right[1]).mean())
    # Without it another model's answer differs as often as a second answer of the same.
    assert differ[0] == pytest.approx(0.15, abs=0.02) and 0.02 < differ[1] < 0.12 and differ[2] == 0


def test_preferences_that_differ_are_the_same_in_each_study_and_fresh_ones_are_not():
    def by_preference(world, seed):
        scores = scored(world, seed)
        own = scores[(scores["method"] == "zero_shot") & (scores["setting"] == "relevant")]
        return own.groupby("preference_id")["correct_with"].mean().astype(float)

    world = replace(different_preferences(1.0), questions=dict.fromkeys(Source, 6000), models=("S",))
    same = [by_preference(world, seed) for seed in (1, 2)]
    fresh = [by_preference(replace(world, fresh_preferences=True), seed) for seed in (1, 2)]
    assert same[0].std() > 0.04 and np.corrcoef(*same)[0, 1] > 0.9
    assert fresh[0].std() > 0.02 and np.corrcoef(*fresh)[0, 1] < 0.8


def test_unrated_and_silent_answers_are_as_frequent_as_promised_and_silent_ones_are_wrong():
    world = replace(churn_only(), silent=0.1, unrated=0.2, questions={Source.CQA: 20_000}, models=("S",))
    tables = study(world, np.random.default_rng(0))
    said = tables["answers"].groupby(["method", "setting"])["status"].apply(lambda s: (s == "unparsable").mean())
    assert len(said) == 9 and said.to_numpy() == pytest.approx(0.1, abs=0.011)
    judged = tables["judgements"].query("setting == 'relevant'")
    assert (judged["status"] == "unparsable").mean() == pytest.approx(0.2, abs=0.01)
    assert (judged["rating"].isna() == (judged["status"] == "unparsable")).all()
    scores = score(**tables)
    assert not scores.loc[~scores["delivered_with"].fillna(True), "correct_with"].any()
    # Of the effect's wrong answers the same share is silent: (25 + 10) % wrong, of which 10 / 25.
    harmed = World(arms=usual_arms(Shown(effect=10)), silent=0.1)
    assert expected(harmed, Metric.DELIVERY_FAILURE, *ZERO_SHOT) == pytest.approx(14)


def test_another_method_may_be_given_with_a_following_of_its_own():
    arms = usual_arms() | {(Method.COT, Setting.RELEVANT): Shown(following=0.5)}
    world = World(arms=arms, questions={Source.TQA: 9000}, models=("S",))
    assert truth(world, ROBUST_ACCURACY, Arm("S", *ZERO_SHOT), Arm("S", "cot", "relevant")) == pytest.approx(-30)
    followed = column(scored(world), (Method.COT, Setting.RELEVANT), "followed")
    assert followed.mean() == pytest.approx(0.5, abs=0.03)


def test_on_q_star_mcnemar_rejects_where_an_aligner_only_copies_and_on_all_questions_it_does_not():
    """The reason for the primary outcome: 1,000 questions, no effect of anything, churn of 15 %. A model is a run."""
    runs = 400
    world = World(
        {Source.TQA: 1000}, tuple(map(str, range(runs // 4))), {ZERO_SHOT: Shown(), ALIGNER: Shown(copies=True)}
    )
    rejected = {}
    for seed in range(4):
        scores = scored(world, seed)
        star = column(scores, ZERO_SHOT, "correct_without") == 1
        for outcome in ("correct_with", "robust"):
            asked, aligned = (column(scores, arm, outcome) for arm in (ZERO_SHOT, ALIGNER))
            for on_star, among in ((True, star), (False, True)):
                counts = [(c & among).reshape(-1, 1000).sum(axis=1) for c in (asked > aligned, asked < aligned)]
                rejected.setdefault((outcome, on_star), []).extend(mcnemar_exact(*counts) < 0.05)
    share = {key: np.mean(found) for key, found in rejected.items()}
    assert share["correct_with", True] == 1.0 and share["robust", True] >= 0.97
    # Three standard errors above 5 %; the exact test stays below it.
    most = 0.05 + 3 * (0.05 * 0.95 / runs) ** 0.5
    assert 0.01 <= share["correct_with", False] <= most and 0.01 <= share["robust", False] <= most


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"churn": 0.4}, "churn 0.4"),
        ({"accuracy": 1.0}, "accuracy 1.0"),
        ({"silent": 0.3}, "silent"),
        ({"arms": {ZERO_SHOT: Shown(effect=80)}}, "zero_shot relevant"),
        ({"arms": {DRAFT: Shown()}}, "no_preference none"),
    ],
)
def test_rates_that_exclude_each_other_are_refused(changes, told):
    with pytest.raises(DataError, match=told):
        World(**changes)


def test_a_metric_that_does_not_apply_or_an_unknown_arm_has_no_truth():
    placebo = Arm("S", "zero_shot", "placebo")
    with pytest.raises(DataError, match="does not apply"):
        truth(World(), Metric.ALIGNMENT_FAILURE, placebo, Arm("S", *ZERO_SHOT))
    with pytest.raises(DataError, match="no arm cot relevant"):
        truth(World(), Metric.BREAKAGE_RATE, placebo, Arm("S", "cot", "relevant"))
    with pytest.raises(DataError, match="unknown metric 'br'"):
        truth(World(), "br", placebo, Arm("S", *ZERO_SHOT))
