"""How often intervals hold the truth: simulated runs with known rates, for choosing and checking intervals.

A simulated question is one draw of (right without, right with, followed), so Q*, the set behind the paper's metrics,
is random as it is in a study. Used by a test and by notebook 06, never by a study's numbers. Left out: questions
whose outcomes hang together (the same preference in many rows), which make every interval here too short.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from perg_utils.core.schema import Metric
from perg_utils.scoring.intervals import Floats, bootstrap_interval, exact_interval, paired_interval

#: Share of questions right without preference, and of the others that are right with it.
ACCURACY, FIXED = 0.7, 0.1


def metric_coverage(
    questions: Sequence[int],
    rates: Sequence[float],
    rng: np.random.Generator,
    *,
    runs: int = 1000,
    resamples: int = 500,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Return how often the exact and the bootstrap interval of BR, AF, RE and PV hold the true value, in percent.

    One row for each number of questions, true rate (in [0, 1]; of breakage and, independently, of not following) and
    metric: `questions`, `rate`, `metric`, `truth` (percent; what the rate comes to in that metric), `exact` and
    `bootstrap` (coverage, percent) and the mean widths `exact_width`, `bootstrap_width` (points). A run whose set is
    empty counts as covered by neither.
    """
    rows = []
    for total in questions:
        for rate in rates:
            for metric, (events, n, truth) in _runs(total, rate, rng, runs).items():
                row: dict[str, object] = {
                    "questions": total,
                    "rate": 100 * rate,
                    "metric": metric,
                    "truth": 100 * truth,
                }
                found = {
                    "exact": exact_interval(events, n, confidence),
                    "bootstrap": bootstrap_interval(events, n, total, rng, confidence=confidence, resamples=resamples),
                }
                for name, (low, high) in found.items():
                    row[name] = 100 * _covered(low, high, truth)
                    row[f"{name}_width"] = 100 * float(np.nanmean(high - low))
                rows.append(row)
    columns = ["questions", "rate", "metric", "truth", "exact", "bootstrap", "exact_width", "bootstrap_width"]
    return pd.DataFrame(rows)[columns]


def in_words(held: pd.DataFrame) -> str:
    """Return what `metric_coverage` comes to: the range of the exact interval, and where the bootstrap does worst."""
    worst = held.sort_values("bootstrap", kind="stable").iloc[0]
    return (
        f"The exact interval holds the truth in {held['exact'].min():.0f} to {held['exact'].max():.0f} % of the "
        f"studies. The bootstrap holds it in as few as {worst['bootstrap']:.0f} % ({worst['metric']} of "
        f"{worst['truth']:.1f} %, {worst['questions']} questions): where nothing broke it says 0 to 0. With 2,000 "
        "questions and rates of 10 % or more the two agree. So the exact one is used for all four metrics, also for "
        "those whose set is random."
    )


def _runs(total: int, rate: float, rng: np.random.Generator, runs: int) -> dict[str, tuple[Floats, Floats, float]]:
    """Events, set size and true value of each metric in `runs` simulated runs of `total` questions."""
    right = [ACCURACY * share for share in ((1 - rate) ** 2, rate * (1 - rate), rate * (1 - rate), rate**2)]
    cells = [*right, (1 - ACCURACY) * FIXED, (1 - ACCURACY) * (1 - FIXED)]
    kept, broke, ignored, both, fixed, _ = rng.multinomial(total, cells, runs).astype(float).T
    star = kept + broke + ignored + both
    union = ACCURACY + cells[4]
    found = {
        Metric.BREAKAGE_RATE: (broke + both, star, rate),
        Metric.ALIGNMENT_FAILURE: (ignored + both, star, rate),
        Metric.ROBUSTNESS_ERROR: (star - kept, star, 1 - (1 - rate) ** 2),
        Metric.PERFORMANCE_VARIATION: (broke + both + fixed, star + fixed, (ACCURACY * rate + cells[4]) / union),
    }
    return {metric.short: counts for metric, counts in found.items()}


def difference_coverage(
    questions: Sequence[int],
    cells: Sequence[tuple[float, float]],
    rng: np.random.Generator,
    *,
    runs: int = 1000,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Return how often the interval of a paired difference holds the truth, in percent.

    `cells` are the true shares (in [0, 1]) of questions that only the one arm fails and only the other. Columns:
    `questions`, `worse`, `better`, `truth` (percent, points), `coverage` (percent).
    """
    rows = []
    for total in questions:
        for worse, better in cells:
            b, c, _ = rng.multinomial(total, [worse, better, 1 - worse - better], runs).T
            low, high = paired_interval(b, c, total, confidence)
            covered = _covered(low, high, worse - better)
            rows.append((total, 100 * worse, 100 * better, 100 * (worse - better), 100 * covered))
    return pd.DataFrame(rows, columns=["questions", "worse", "better", "truth", "coverage"])


def _covered(low: Floats, high: Floats, truth: float) -> float:
    # A bound computed as 1 - 0.9 is not 0.1 to the last digit.
    return float(((low <= truth + 1e-9) & (truth <= high + 1e-9)).mean())
