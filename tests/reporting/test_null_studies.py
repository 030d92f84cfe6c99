"""No kind of sentence of the report is false in more than 5 % of simulated studies, and what is there is found.

The same with 1,000 studies a world, and more worlds: `python tests/null_studies.py --runs 1000`.
"""

from dataclasses import replace

import null_studies
import numpy as np
import pandas as pd
import pytest
from null_studies import EFFECT, NULL, false_claims, most, pooled_verdicts, profile, told

from perg_utils.core.schema import Arm, Metric, Source
from perg_utils.reporting.sentences import Claim, Finding
from perg_utils.scoring.comparisons import compare
from perg_utils.scoring.scores import score
from perg_utils.scoring.simulated import study
from perg_utils.scoring.worlds import World, churn_only, real_effect

RUNS = 24
#: Every kind of sentence that such a run has.
KINDS = {
    "accuracy_without none",
    "robust_accuracy relevant",
    "aligner",
    "breakage_rate relevant",
    "mirror",
    "floor",
    "aligner cross-fitted",
    "breakage_rate paraphrase",
    "alignment_failure relevant",
    "robustness_error relevant",
    "breakage_rate mixed",
    "breakage_rate irrelevant",
    "mixed against relevant",
    "delivery_failure relevant",
}
ZERO_SHOT, ALIGNER, PLACEBO = (
    Arm("ALL", *names) for names in (("zero_shot", "relevant"), ("pref_aligner", "relevant"), ("zero_shot", "placebo"))
)


def small(world: World) -> World:
    return replace(world, questions=dict.fromkeys(Source, 80))


def test_no_kind_of_sentence_is_false_in_more_than_5_percent_of_null_studies_within_simulation_error():
    worlds = ("only churn, models alike", "some unrated, some silent", "preferences differ")
    found = pd.concat([null_studies.run(small(NULL[name]), RUNS) for name in worlds])
    in_one = found.set_index("kind")["false"]
    assert set(found["kind"]) == KINDS
    assert in_one.max() <= most(RUNS), found
    together = in_one.groupby(level=0).sum()
    assert together.max() <= most(RUNS * len(worlds)), together
    # A difference of all models that is said to be clear is one of these false sentences.
    assert (found["clear"] <= found["false"]).all()


def test_a_real_effect_is_found_and_its_size_is_not_told_wrong():
    world = small(replace(real_effect(10), shared=0.3))
    found = null_studies.run(world, 16).set_index("kind")
    assert found["false"].max() <= most(16)
    # 9 points of robust accuracy: about five standard errors of 240 questions with three models each.
    assert found.loc["aligner", "clear"] >= 14 and found.loc["floor", "clear"] >= 14
    assert found["equivalent"].max() == 0


def test_a_sentence_from_mcnemar_on_q_star_is_caught():
    """What was said before: fewer errors on Q*, so the aligner answers better. It copies, and is no better at all."""
    world = replace(churn_only(), questions={Source.TQA: 1000}, models=("S",))
    pair, caught, is_false = tuple(arm._replace(model="S") for arm in (ZERO_SHOT, ALIGNER)), 0, false_claims(world)
    for seed in range(10):
        scores = score(**study(world, np.random.default_rng(seed)))
        (row,) = compare(scores, [pair], Metric.ROBUSTNESS_ERROR).itertuples()
        better = Claim(Metric.ROBUST_ACCURACY, pair[1], 0.0, np.inf, pair[0])
        said = row.p < 0.05 and row.difference < 0
        caught += said and is_false(Finding("on Q*", "", (better,)))
    assert caught >= 9


def claims(world: World, *given: Claim) -> list[bool]:
    """Whether each is false."""
    return [false_claims(world)(Finding("", "", (claim,))) for claim in given]


def test_above_zero_is_false_of_zero_and_an_interval_may_end_there():
    accuracy = Metric.ACCURACY_WITH
    above = Claim(accuracy, ALIGNER, 0.0, np.inf, ZERO_SHOT)
    below = Claim(accuracy, ALIGNER, -np.inf, 0.0, ZERO_SHOT)
    touching = [Claim(accuracy, ALIGNER, -3.0, 0.0, ZERO_SHOT), Claim(accuracy, ALIGNER, 0.0, 3.0, ZERO_SHOT)]
    assert claims(churn_only(), above, below, *touching) == [True, True, False, False]
    # The preference costs zero-shot 4 points, of which the aligner is spared.
    assert claims(real_effect(4), above, below, *touching) == [False, True, True, True]


def test_a_value_and_a_single_model_are_held_against_the_truth_too():
    plain, single = Arm("S", "no_preference", "none"), ZERO_SHOT._replace(model="S")
    assert claims(
        real_effect(4),
        Claim(Metric.ACCURACY_WITHOUT, plain, 74.0, 76.0),
        Claim(Metric.ACCURACY_WITHOUT, plain, 76.0, 78.0),
        Claim(Metric.ROBUST_ACCURACY, single, 63.8, 64.0),  # 90 % of 71
        Claim(Metric.ACCURACY_WITH, single, -4.1, -3.9, plain),
    ) == [False, True, False, False]


def test_a_finding_is_false_where_one_of_its_claims_is():
    good = Claim(Metric.ACCURACY_WITH, ALIGNER, -1.0, 1.0, ZERO_SHOT)
    bad = good._replace(low=0.5)
    is_false = false_claims(churn_only())
    assert [is_false(Finding("", "", own)) for own in ((), (good,), (good, bad))] == [False, False, True]


def test_what_is_claimed_of_all_models_is_told_apart():
    single = ZERO_SHOT._replace(model="S")
    finding = Finding(
        "placebo",
        "",
        (
            Claim(Metric.BREAKAGE_RATE, ZERO_SHOT, -1.0, 2.0, PLACEBO),
            Claim(Metric.BREAKAGE_RATE, ZERO_SHOT, -3.0, 3.0, PLACEBO),
            Claim(Metric.BREAKAGE_RATE, single, 0.0, np.inf, PLACEBO._replace(model="S")),
        ),
    )
    assert [*pooled_verdicts(finding, 3.0)] == ["equivalent"] and [*pooled_verdicts(finding, 2.0)] == []
    clear = finding._replace(claims=(Claim(Metric.BREAKAGE_RATE, ZERO_SHOT, 0.0, np.inf, PLACEBO),))
    assert [*pooled_verdicts(clear, 3.0)] == ["clear"]


def test_simulation_error_is_that_of_a_binomial_count():
    # P(more than 13 of 100 at 5 %) = 0.0005; more than 12: 0.0015.
    assert (most(100), most(1000)) == (13, 73)


@pytest.mark.parametrize("name", [*NULL, *EFFECT])
def test_every_world_has_a_profile_and_says_something(name):
    world = replace((NULL | EFFECT)[name], questions=dict.fromkeys(Source, 15), models=("S", "M"))
    assert {finding.kind for finding in told(world, 0)} <= KINDS
    assert profile(world).statistics.margin == 3.0


def test_the_table_has_a_row_a_kind_of_sentence(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["null_studies.py", "--runs", "1", "--questions", "10", "--only", "only churn"])
    null_studies.main()
    printed = capsys.readouterr().out
    assert sum(line.startswith("| only churn |") for line in printed.splitlines()) == len(KINDS)
    assert "1 studies a world" in printed
