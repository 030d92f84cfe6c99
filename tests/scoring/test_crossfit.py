"""Q* chosen by an answer that no arm starts from: on it a copied draft has no advantage."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from perg_utils.core.schema import Arm, Method, Metric, Setting, Source
from perg_utils.scoring.comparisons import compare
from perg_utils.scoring.crossfit import crossfitted
from perg_utils.scoring.rates import summarise
from perg_utils.scoring.scores import score
from perg_utils.scoring.simulated import study
from perg_utils.scoring.worlds import churn_only, expected, truth

ZERO_SHOT, ALIGNER = Arm("S", "zero_shot", "relevant"), Arm("S", "pref_aligner", "relevant")


def test_the_chooser_takes_the_plain_answers_place_and_is_left_out_itself():
    row = {"model": "S", "method": "zero_shot", "correct_without": True}
    scores = pd.DataFrame(
        [
            row | {"example_id": "q1", "setting": "paraphrase", "correct_with": False},
            row | {"example_id": "q2", "setting": "paraphrase", "correct_with": None},
            row | {"example_id": "q1", "setting": "relevant", "correct_with": True},
            row | {"example_id": "q2", "setting": "relevant", "correct_with": True},
            row | {"example_id": "q1", "setting": "relevant", "correct_with": True, "model": "S+L"},
            row | {"example_id": "q1", "setting": "relevant", "correct_with": True, "model": "M"},
        ]
    )
    own = crossfitted(scores)
    assert own["model"].tolist() == ["S", "S"] and own["correct_without"].fillna("unknown").tolist() == [
        False,
        "unknown",
    ]
    assert crossfitted(scores, {"S+L": "S"})["model"].tolist() == ["S", "S", "S+L"]
    assert crossfitted(scores[scores["setting"] == "relevant"]).empty


def test_the_papers_error_favours_a_copying_aligner_and_the_cross_fitted_one_does_not():
    world = replace(churn_only(), questions={Source.TQA: 20000}, models=("S",))
    scores = score(**study(world, np.random.default_rng(1)))
    pair = [(ZERO_SHOT, ALIGNER)]
    [paper] = compare(scores, pair, Metric.ROBUSTNESS_ERROR)["difference"]
    [free] = compare(crossfitted(scores), pair, Metric.ROBUSTNESS_ERROR)["difference"]
    assert paper == pytest.approx(truth(world, Metric.ROBUSTNESS_ERROR, *pair[0]), abs=1) and paper < -8
    assert truth(world, Metric.ROBUSTNESS_ERROR, *pair[0], crossfitted=True) == pytest.approx(0, abs=1e-9)
    assert abs(free) < 1


def test_cross_fitted_rates_are_those_of_the_world():
    world = replace(churn_only(), questions={Source.TQA: 20000}, models=("S",))
    scores = crossfitted(score(**study(world, np.random.default_rng(2))))
    found = summarise(scores, [Metric.BREAKAGE_RATE], ["method", "setting"]).set_index(["method", "setting"])["value"]
    for method, setting in ((Method.ZERO_SHOT, Setting.RELEVANT), (Method.PREF_ALIGNER, Setting.RELEVANT)):
        true = expected(world, Metric.BREAKAGE_RATE, method, setting, crossfitted=True)
        assert found[(method, setting)] == pytest.approx(true, abs=1)
