"""A judge's rates corrected by labels: hand-made cases, and coverage in simulated studies with a biased judge."""

import numpy as np
import pandas as pd
import pytest

from perg_utils.core.errors import DataError
from perg_utils.core.profile import StatisticsConfig
from perg_utils.core.schema import ROW_ID
from perg_utils.scoring.corrected import corrected


def table(followed, right=True, without=True):
    n = len(followed)
    row = {"preference_id": "p", "model": "S", "method": "zero_shot", "setting": "relevant", "sampled": True}
    rows = pd.DataFrame([row | {"example_id": f"q{i}"} for i in range(n)])
    return rows.assign(followed=followed, correct_with=right, correct_without=without)


def labels(scores, at, verdicts, weight=1.0):
    return scores.iloc[list(at)][ROW_ID].assign(followed=list(verdicts), weight=weight)


def of(found, metric="alignment_failure"):
    return found.set_index("metric").loc[metric]


def test_a_judge_that_people_agree_with_is_left_as_it_is():
    scores = table([True] * 6 + [False] * 4)
    found = of(corrected(scores, labels(scores, range(0, 10, 2), scores["followed"][::2])))
    assert found["judge"] == pytest.approx(40) and found["rogan_gladen"] == pytest.approx(40)
    # The labelled five have two failures too: the rectifier is (1 - lam) times their 40 %.
    assert found["corrected"] == pytest.approx(40)


def test_a_judge_that_never_varies_is_of_no_use_and_the_labels_speak_alone():
    scores = table([True] * 20)
    found = of(corrected(scores, labels(scores, range(4), [True, False, False, True])))
    assert found["lam"] == 0 and found["judge"] == 0
    assert found["corrected"] == pytest.approx(50) and np.isnan(found["rogan_gladen"])


def test_labels_count_by_what_they_stand_for():
    scores = table([True] * 90 + [False] * 10)
    # A balanced sheet: two of each stratum. People agree on the failures, and see one failure among the two others.
    found = of(corrected(scores, labels(scores, [0, 1, 90, 91], [True, False, False, False], [45, 45, 5, 5])))
    assert found["corrected"] == pytest.approx(55, abs=0.5)  # 10 + half of 90
    # Sensitivity 10 / 55, no false alarms: 10 / (10 / 55).
    assert found["rogan_gladen"] == pytest.approx(55)
    # A judge that is always wrong: 90 of 100 fail, and half of the four labels.
    wrong = labels(scores, [0, 1, 90, 91], [False, False, True, True], [45, 45, 5, 5])
    assert of(corrected(scores, wrong))["corrected"] == pytest.approx(90)
    assert of(corrected(scores, wrong.assign(weight=1.0)))["corrected"] == pytest.approx(50)


def test_wrong_answers_need_no_verdict_in_robust_accuracy_and_robustness_error():
    right = [True] * 6 + [False] * 4
    scores = table([True] * 6 + [None] * 4, right)
    found = corrected(scores, labels(scores, range(0, 10), [True, True, True, False, False, False, *[True] * 4]))
    assert of(found, "robust_accuracy")["n"] == 10 and of(found, "robust_accuracy")["judge"] == pytest.approx(60)
    assert of(found, "robust_accuracy")["corrected"] == pytest.approx(30)
    assert of(found, "robustness_error")["corrected"] == pytest.approx(70)
    assert of(found)["n"] == 6 and of(found)["corrected"] == pytest.approx(50)


def test_errors_are_on_questions_right_without_preference():
    scores = table([False] * 10, without=[True] * 5 + [False] * 5)
    found = corrected(scores, labels(scores, [0, 1, 9], [True, True, True]))
    assert of(found)["n"] == 5 and of(found)["labelled"] == 2 and of(found, "robust_accuracy")["n"] == 10


def test_with_too_few_labels_there_is_no_corrected_value_and_a_weight_must_be_positive():
    scores = table([True, False, True])
    assert np.isnan(of(corrected(scores, labels(scores, [0], [True])))["corrected"])
    with pytest.raises(DataError, match="weight above 0"):
        corrected(scores, labels(scores, [0, 1], [True, True], [1.0, 0.0]))


def test_groups_are_corrected_by_their_own_labels():
    both = pd.concat([table([True] * 10), table([False] * 10).assign(method="cot")], ignore_index=True)
    found = corrected(both, labels(both, [0, 1, 10, 11], [False, False, True, True]), ["method"])
    assert found[found["metric"] == "alignment_failure"]["corrected"].tolist() == [100, 0]


def study(rng, n=600, truth=0.7):
    """A judge that sees 90 % of what follows and lets half of the rest pass; the sheet draws its verdicts alike."""
    follows = rng.random(n) < truth
    judge = np.where(follows, rng.random(n) < 0.9, rng.random(n) < 0.5)
    scores = table(judge)
    at, weights = [], []
    for verdict in (True, False):
        stratum = np.flatnonzero(judge == verdict)
        some = rng.choice(stratum, 50, replace=False)
        at += some.tolist()
        weights += [len(stratum) / 50] * 50
    return scores, labels(scores, at, follows[at], weights), 100 * (1 - follows.mean())


def test_the_interval_holds_the_truth_where_the_judge_alone_never_does():
    rng, config, held, alone, off = np.random.default_rng(1), StatisticsConfig(resamples=500), 0, 0, []
    for _ in range(200):
        scores, some, truth = study(rng)
        found = of(corrected(scores, some, config=config))
        # What is estimated is the rate of these responses.
        held += found["low"] <= truth <= found["high"]
        alone += abs(found["judge"] - truth) < 4
        off.append(found["corrected"] - truth)
    assert held >= 184 and abs(np.mean(off)) < 0.7  # 95 % less three standard errors of 200 studies
    assert alone < 20


def test_more_labels_buy_what_is_promised():
    scores, some, _ = study(np.random.default_rng(2), n=4000)
    found = of(corrected(scores, some))
    # Nearly all uncertainty is of the labels: twice as many are worth a factor of the square root of two.
    assert found["with_more"] / found["half"] == pytest.approx(1 / np.sqrt(2), abs=0.06)
