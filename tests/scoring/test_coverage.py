"""How often the study's intervals hold the truth, by simulation: the exact ones do, a percentile bootstrap does not."""

from functools import cache

import numpy as np
import pandas as pd
import pytest

from perg_utils.core.schema import conform
from perg_utils.scoring.coverage import difference_coverage, in_words, metric_coverage
from perg_utils.scoring.rates import metrics

RUNS = 1200
#: Three standard errors of a coverage of 95 % in so many runs, in points.
ERROR = 3 * 100 * (0.95 * 0.05 / RUNS) ** 0.5


@cache
def simulated() -> pd.DataFrame:
    return metric_coverage(
        [100, 400, 1000], [0.005, 0.02, 0.1, 0.3], np.random.default_rng(3), runs=RUNS, resamples=300
    )


@pytest.mark.parametrize("metric", ["BR", "AF", "RE", "PV"])
def test_exact_intervals_cover_at_least_as_often_as_they_say_though_the_set_is_random(metric):
    assert simulated().query("metric == @metric")["exact"].min() >= 95 - ERROR


@pytest.mark.parametrize("metric", ["BR", "AF", "RE", "PV"])
def test_the_bootstrap_over_questions_never_covers_more_often(metric):
    own = simulated().query("metric == @metric")
    assert (own["bootstrap"] <= own["exact"] + 0.5).all() and (own["bootstrap_width"] <= own["exact_width"]).all()


def test_at_small_rates_the_bootstrap_is_far_too_short():
    small = simulated().query("metric == 'BR' and truth < 1").set_index("questions")["bootstrap"]
    # Half a percent of 70 right answers: two runs in three break none, and their interval is [0, 0].
    assert small[100] < 40 and small[400] < 80 and small[1000] < 93


def test_with_many_questions_and_larger_rates_the_two_agree():
    large = simulated().query("questions == 1000 and truth > 9")
    assert (large["exact"] - large["bootstrap"]).max() < 3
    assert (large["exact_width"] / large["bootstrap_width"]).max() < 1.06


def test_the_interval_of_a_paired_difference_covers_about_as_often_as_it_says_also_where_few_questions_differ():
    cells = [(0.002, 0.002), (0.01, 0.0), (0.02, 0.002), (0.02, 0.01), (0.1, 0.02), (0.15, 0.15)]
    found = difference_coverage([40, 100, 200, 400, 2000], cells, np.random.default_rng(4), runs=4000)
    assert found["coverage"].min() >= 92 and found["coverage"].mean() >= 95.5


def test_the_intervals_in_the_table_metrics_cover_the_planted_rates():
    """The same through the code that a study runs: each simulated run is a model of its own."""
    rng = np.random.default_rng(5)
    models, questions, accuracy, broken, fixed, ignored = 500, 120, 0.8, 0.03, 0.2, 0.05
    shape = (models, questions)
    before = rng.random(shape) < accuracy
    after = np.where(before, rng.random(shape) >= broken, rng.random(shape) < fixed)
    follows = rng.random(shape) >= ignored
    names = np.repeat([f"m{i}" for i in range(models)], questions)
    columns = {"correct_without": before, "correct_with": after, "followed": follows, "robust": after & follows}
    said = {"delivered_without": True, "delivered_with": True, "sampled": True, "status": "ok"}
    said |= {"cause": None, "fallback": False, "truncated": False}
    row = {"preference_id": "p", "method": "zero_shot", "setting": "relevant", "source": "TQA", "category": "Clarity"}
    ids = [f"q{i}" for i in range(questions)] * models
    frame = pd.DataFrame({"example_id": ids, "model": names, **{k: v.ravel() for k, v in columns.items()}})
    found = metrics(conform("scores", frame.assign(**row, **said))).query("source == 'ALL'")
    union = accuracy + (1 - accuracy) * fixed
    truth = {
        "breakage_rate": broken,
        "alignment_failure": ignored,
        "robustness_error": 1 - (1 - broken) * (1 - ignored),
        "performance_variation": (accuracy * broken + (1 - accuracy) * fixed) / union,
        "accuracy_without": accuracy,
        "accuracy_with": accuracy * (1 - broken) + (1 - accuracy) * fixed,
    }
    for metric, rate in truth.items():
        own = found[found["metric"] == metric]
        covered = ((own["low"] <= 100 * rate) & (100 * rate <= own["high"])).mean()
        assert covered >= 0.95 - 3 * (0.95 * 0.05 / models) ** 0.5, metric


def test_the_sentence_names_the_range_of_the_exact_and_the_worst_of_the_bootstrap():
    held = pd.DataFrame({"questions": [100, 400], "metric": ["BR", "AF"], "truth": [0.5, 2.0],
                         "exact": [99.6, 96.2], "bootstrap": [31.4, 90.0]})  # fmt: skip
    said = in_words(held)
    assert "in 96 to 100 % of the studies" in said and "as few as 31 % (BR of 0.5 %, 100 questions)" in said
