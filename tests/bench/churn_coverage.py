"""How often churn's 95 % intervals hold the truth, in simulated studies of 11 preferences. Takes four minutes.

    python tests/bench/churn_coverage.py [--studies 500] [--questions 100 800]

A question has a difficulty (most are easy or hard, as in MMLU), a preference an effect on all of them, and each answer
is drawn by itself. The preferences are the same in every study of a size, and the truth is that of 400,000 questions
under these: what other preferences would give is not asked.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT)]

from perg_utils.core.profile import StatisticsConfig  # noqa: E402
from perg_utils.scoring.churn import QUANTITIES, churn  # noqa: E402

#: Effects on the logit of a right answer: the spread among preferences, and that of no preference.
SPREAD, WITHOUT = 0.2, 0.3


def study(questions: int, effects: NDArray[np.float64], rng: np.random.Generator) -> pd.DataFrame:
    """The columns of `scores` that churn reads, for one arm; the last of `effects` is that of no preference."""
    easy = np.clip(rng.beta(0.6, 0.3, questions), 1e-12, 1 - 1e-12)
    logit = np.log(easy / (1 - easy))[:, None] + effects
    right = rng.random(logit.shape) < 1 / (1 + np.exp(-logit))
    preferences = len(effects) - 1
    at, preference = np.divmod(np.arange(questions * preferences), preferences)
    rows = pd.DataFrame({"example_id": at.astype(str), "preference_id": preference.astype(str)})
    rows = rows.assign(correct_without=right[at, -1], correct_with=right[at, preference])
    rows = rows.assign(sampled=preference == rng.integers(preferences, size=questions)[at], source="MMLU")
    return rows.assign(model="S", method="zero_shot", setting="relevant")


def coverage(questions: int, studies: int, preferences: int = 11) -> pd.DataFrame:
    """Of each quantity the truth and the percent of `studies` whose interval holds it."""
    rng = np.random.default_rng(questions)
    effects = np.r_[rng.normal(0, SPREAD, preferences), WITHOUT]
    truth = churn(study(400_000, effects, rng), StatisticsConfig(resamples=100)).iloc[0]
    held = pd.Series(0, index=list(QUANTITIES))
    for _ in range(studies):
        found = churn(study(questions, effects, rng), StatisticsConfig(resamples=500)).iloc[0]
        held += [found[f"{name}_low"] <= truth[name] <= found[f"{name}_high"] for name in QUANTITIES]
    return pd.DataFrame({"truth": truth[list(QUANTITIES)].astype(float).round(2), "held, %": 100 * held / studies})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--studies", type=int, default=500)
    parser.add_argument("--questions", type=int, nargs="+", default=[100, 800])
    asked = parser.parse_args()
    for size in asked.questions:
        print(f"{size} questions, {asked.studies} studies\n{coverage(size, asked.studies).to_string()}\n", flush=True)
