"""How often intervals hold the truth: simulated runs with known rates, for choosing and checking intervals.

A simulated question is one draw of (right without, right with, followed), so Q*, the set behind the paper's metrics,
is random as it is in a study; `preference_coverage` draws the preferences anew in each study too. Used by tests and by
notebook 06, never by a study's numbers.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from perg_utils.core.schema import Metric
from perg_utils.scoring.generalise import like_these
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


#: How much questions differ, as the standard deviation of their log-odds: most are easy or hard.
QUESTIONS_DIFFER = 2.0


def preference_coverage(
    studies: Sequence[tuple[int, int, float, float]],
    rng: np.random.Generator,
    *,
    crossed: bool = False,
    runs: int = 400,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Return how often two intervals hold the rate over all preferences, in percent: the exact one and `like_these`.

    `studies` are (questions, preferences, rate, standard deviation of the rate between preferences), rates in [0, 1].
    Questions and preferences have normal effects on the log-odds, drawn anew in each study; each question has one
    preference, or with `crossed` all of them. Columns: `questions`, `preferences`, `rate` and `between` (percent,
    points), `exact` and `like_these` (coverage, percent), `wider` (mean width of the second by that of the first).
    """
    out = []
    for questions, preferences, rate, between in studies:
        effects = _effects(rate, between)
        shape = (runs, questions, preferences if crossed else 1)
        shown = np.broadcast_to(np.arange(preferences), shape) if crossed else rng.integers(0, preferences, shape)
        shift = np.take_along_axis(rng.normal(0, effects[1], (runs, 1, preferences)), shown, 2)
        hard = rng.normal(effects[0], QUESTIONS_DIFFER, (runs, questions, 1))
        events = rng.random(shape) < 1 / (1 + np.exp(-hard - shift))
        names = {"run": np.arange(runs)[:, None, None], "question": np.arange(questions)[None, :, None]}
        labels = {name: np.broadcast_to(values, shape).ravel() for name, values in names.items()}
        rows = pd.DataFrame(labels | {"preference_id": shown.ravel(), "event": events.ravel()})
        wide = like_these(rows, ["run"], question="question" if crossed else None, confidence=confidence)
        low, high = exact_interval(events.sum(axis=(1, 2)), np.full(runs, shape[1] * shape[2]), confidence)
        held = [_covered(a, b, rate) for a, b in ((low, high), (wide["low"].to_numpy(), wide["high"].to_numpy()))]
        wider = ((wide["high"] - wide["low"]).to_numpy() / (high - low)).mean()
        out.append((questions, preferences, 100 * rate, 100 * between, 100 * held[0], 100 * held[1], wider))
    columns = ["questions", "preferences", "rate", "between", "exact", "like_these", "wider"]
    return pd.DataFrame(out, columns=columns)


def _effects(rate: float, between: float) -> tuple[float, float]:
    """Mean log-odds and the preferences' standard deviation on that scale that give `rate` and `between`."""
    from scipy.optimize import brentq  # noqa: PLC0415

    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()

    def shares(middle: float, spread: float) -> Floats:
        return 1 / (1 + np.exp(-middle - spread * nodes))

    middle = brentq(lambda m: shares(m, QUESTIONS_DIFFER) @ weights - rate, -15, 15)
    own = shares(middle, QUESTIONS_DIFFER)
    shift = between / float((own * (1 - own)) @ weights)
    together = float(np.hypot(QUESTIONS_DIFFER, shift))
    return float(brentq(lambda m: shares(m, together) @ weights - rate, -15, 15)), shift


def _covered(low: Floats, high: Floats, truth: float) -> float:
    # A bound computed as 1 - 0.9 is not 0.1 to the last digit.
    return float(((low <= truth + 1e-9) & (truth <= high + 1e-9)).mean())
