"""What the report says of simulated studies whose truth is known: how often each kind of sentence is said, and false.

`python tests/null_studies.py --runs 1000` prints the table of docs/statistics.md. Each study of a world goes through
`score`, `metrics` and `findings`, as a run does. A sentence is false where one of its claims is, by `worlds.truth`; of
several sentences of one kind in a study one that is false is enough.
"""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import cache

import numpy as np
import pandas as pd
from scipy.stats import binom

from perg_utils.core.profile import Profile
from perg_utils.core.schema import ALL_MODELS, Arm, Method, Metric, Setting, Source
from perg_utils.reporting.sentences import Claim, Finding, findings
from perg_utils.scoring.rates import metrics
from perg_utils.scoring.scores import score
from perg_utils.scoring.simulated import study
from perg_utils.scoring.worlds import (
    Shown,
    World,
    churn_only,
    different_preferences,
    expected,
    no_effect,
    real_effect,
    truth,
    usual_arms,
)

#: A kind of sentence may be false in so many studies.
LEVEL = 0.05
#: Nothing is to be found here: a clear difference of anything is false.
NULL = {
    "no effect": no_effect(),
    "only churn": churn_only(),
    "only churn, models alike": replace(churn_only(), shared=0.6),
    "preferences differ": replace(different_preferences(0.6), shared=0.3),
    "some unrated, some silent": replace(churn_only(), unrated=0.05, silent=0.05),
}
#: Here there is: points of accuracy that a relevant preference costs zero-shot (of robust accuracy 0.9 times as many).
EFFECT = {
    # Just above the margin of equivalence, 3 points: "within 3 points" is false.
    "costs 3.4 points": replace(real_effect(3.4), shared=0.3),
    "costs 5 points": replace(real_effect(5), shared=0.3, silent=0.05),
    "aligner gains 5 points, follows more": World(
        arms=usual_arms(aligner=Shown(effect=-5, following=0.95)), shared=0.3, preference_sd=0.3
    ),
}
WORLDS = NULL | EFFECT


def profile(world: World) -> Profile:
    """A profile that fits the studies of `world`."""
    grid: dict[str, list[str]] = {}
    for method, setting in world.arms:
        grid.setdefault(str(setting), []).append(str(method))
    return Profile.model_validate(
        {
            "name": "null",
            "title": "A simulated study",
            "world": "invented",
            "data": {"origin": "embedded"},
            "prompts": "embedded",
            "grid": grid,
            "models": [{"name": name, "model": name} for name in world.models],
            "judge": {"kind": "heuristic"},
        }
    )


def told(world: World, seed: int) -> list[Finding]:
    """What the report says of one study."""
    scores = score(**study(world, np.random.default_rng(seed)), models=world.models)
    cfg = profile(world)
    return findings(metrics(scores, cfg.statistics, world.models), scores, cfg)


def false_claims(world: World) -> Callable[[Finding], bool]:
    """Whether a finding claims what is not so in `world`. "Above zero" is false of zero; an interval may end there."""

    @cache
    def true_value(metric: Metric, arm: Arm, reference: Arm | None, crossfitted: bool) -> float:
        if reference:
            # Computed differences of nothing are not 0 to the last digit.
            return round(truth(world, metric, reference, arm, crossfitted), 9)
        return expected(world, metric, Method(arm.method), Setting(arm.setting), crossfitted)

    def holds(claim: Claim) -> bool:
        value = true_value(claim.metric, claim.arm, claim.reference, claim.crossfitted)
        if np.isinf(claim.low) or np.isinf(claim.high):
            return claim.low < value < claim.high
        return claim.low <= value <= claim.high

    return lambda finding: not all(map(holds, finding.claims))


def pooled_verdicts(finding: Finding, margin: float) -> Iterator[str]:
    """What a finding claims of all models together: that there is a difference, that it is within the margin."""
    for claim in finding.claims:
        if claim.reference and claim.arm.model == ALL_MODELS:
            if np.isinf(claim.low) or np.isinf(claim.high):
                yield "clear"
            if (claim.low, claim.high) == (-margin, margin):
                yield "equivalent"


def run(world: World, runs: int, seed: int = 0) -> pd.DataFrame:
    """Return of how many studies a kind of sentence is said, with what: a row a kind.

    `said`; `false`; `clear`, where it claims a difference of all models together; `equivalent`, that this is within
    the profile's margin.
    """
    columns = ["said", "false", "clear", "equivalent"]
    counts = {column: Counter[str]() for column in columns}
    is_false, margin = false_claims(world), profile(world).statistics.margin
    for number in range(runs):
        found = told(world, seed + number)
        seen = [("said", one.kind) for one in found]
        seen += [("false", one.kind) for one in found if is_false(one)]
        seen += [(verdict, one.kind) for one in found for verdict in pooled_verdicts(one, margin)]
        for column, kind in dict.fromkeys(seen):
            counts[column][kind] += 1
    return pd.DataFrame(
        [[kind, *(counts[c][kind] for c in columns)] for kind in counts["said"]], columns=["kind", *columns]
    )


def most(runs: int, level: float = LEVEL) -> int:
    """How many of `runs` may be false where the true share is `level`: more come by chance once in 1,000 counts."""
    return int(binom.isf(0.001, runs, level))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=1000, help="studies of each world")
    parser.add_argument("--questions", type=int, default=200, help="of each of the three sources")
    parser.add_argument("--only", choices=list(WORLDS), action="append", help="some of the worlds")
    args = parser.parse_args()
    print("| world | kind of sentence | said | false | all models: clear | all models: within the margin |")
    print("|---|---|---|---|---|---|")
    for name in args.only or WORLDS:
        world = replace(WORLDS[name], questions=dict.fromkeys(Source, args.questions))
        for row in run(world, args.runs).itertuples(index=False):
            shares = " | ".join(f"{100 * count / args.runs:.1f}" for count in row[1:])
            print(f"| {name} | {row.kind} | {shares} |", flush=True)
    limit = 100 * most(args.runs) / args.runs
    print(f"\nPercent of {args.runs:,} studies a world; up to {limit:.1f} % is within simulation error of 5 %.")


if __name__ == "__main__":
    main()
