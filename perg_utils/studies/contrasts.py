"""What every study rests on: contrasts that were fixed beforehand, and shares with intervals by question.

The primary outcome is robust accuracy over all questions, paired by question; Holm's correction runs over all contrasts
of a study (`scoring.comparisons`). Everything else is described, with intervals, and not tested.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from perg_utils.core.profile import StatisticsConfig
from perg_utils.core.schema import Arm, Metric
from perg_utils.scoring.comparisons import compare
from perg_utils.scoring.intervals import clustered_interval, exact_interval, holm, sign_flip_exact


class Contrast(NamedTuple):
    """One comparison of a study: what it asks and of whom, in words, the reference arm and the arm set against it."""

    question: str
    who: str
    reference: Arm
    arm: Arm


def contrasts(
    scores: pd.DataFrame, planned: Sequence[Contrast], config: StatisticsConfig, metric: Metric | None = None
) -> pd.DataFrame:
    """Return a row a planned contrast, as `scoring.comparisons.compare` has them, with its `question` and `who`.

    Holm's correction is over all of them. Raises `DataError` for an arm that was not run.
    """
    found = compare(scores, [(one.reference, one.arm) for one in planned], metric, config)
    for name in ("arm", "reference"):
        found.insert(0, name, [" ".join(getattr(one, name)) for one in planned])
    for name in ("who", "question"):
        found.insert(0, name, [getattr(one, name) for one in planned])
    return found


class Paired(NamedTuple):
    """One comparison of a study in which a question may be asked several times: how often it went well, by question.

    `before` and `after` are whole numbers from 0 to `times`, indexed by question; null where not scored.
    """

    question: str
    who: str
    reference: str
    arm: str
    before: pd.Series
    after: pd.Series
    times: int = 1


def of_sums(planned: Sequence[Paired], config: StatisticsConfig) -> pd.DataFrame:
    """Return a row a planned comparison, with columns as `contrasts` has them, as far as they apply.

    A question is one unit: `sign_flip_exact` and `clustered_interval`; Holm's correction and the joint bounds are over
    all rows. Questions that are not scored on both sides are left out.
    """
    rows = []
    joint = 1 - (1 - config.confidence) / max(len(planned), 1)
    for one in planned:
        both = pd.concat({"before": one.before, "after": one.after}, axis=1, join="inner").dropna().astype(int)
        won = (both["after"] - both["before"]).to_numpy()
        row: dict[str, Any] = {"question": one.question, "who": one.who, "reference": one.reference, "arm": one.arm}
        row |= {name: 100 * both[side].mean() / one.times for name, side in _SIDES.items()}
        row["difference"] = row["value"] - row["reference_value"]
        for name, level in (("", config.confidence), ("joint_", joint)):
            low, high = clustered_interval(won, one.times, level)
            row |= {f"{name}low": 100 * low, f"{name}high": 100 * high}
        rows.append(row | {"p": sign_flip_exact(won) if len(won) else np.nan, "n": len(won)})
    found = pd.DataFrame(rows)
    if rows:
        found["p_holm"], found["family"] = holm(found["p"]), int(found["p"].notna().sum())
    return found


_SIDES = {"reference_value": "before", "value": "after"}


def share(events: pd.Series, confidence: float) -> dict[str, float]:
    """Return `value`, `low` and `high` in percent, with exact bounds, and `n`, of a yes/no column without nulls.

    >>> share(pd.Series([True, False, False, True]), 0.95)["value"]
    50.0
    """
    hits, n = int(events.sum()), len(events)
    low, high = exact_interval(hits, n, confidence) if n else (np.nan, np.nan)
    return {"value": 100 * hits / n if n else np.nan, "low": 100 * float(low), "high": 100 * float(high), "n": n}


def by_bootstrap(values: pd.DataFrame, config: StatisticsConfig, seed: int, of_whole: bool = False) -> pd.DataFrame:
    """Return mean, `low` and `high` of every column, in percent, by resampling rows (questions) together.

    `values` holds a row a question, each number a share of it (0 to 1, or a difference of such). With `of_whole` the
    means are divided by their sum, in every resample anew: parts of a whole. Columns: value, low, high, n.
    """
    held = values.to_numpy(dtype=float)
    if not len(held):
        return pd.DataFrame({"value": np.nan, "low": np.nan, "high": np.nan, "n": 0}, index=values.columns)
    draws = np.random.default_rng(seed).multinomial(len(held), np.full(len(held), 1 / len(held)), size=config.resamples)
    means = np.vstack([held.mean(axis=0), draws @ held / len(held)])
    if of_whole:
        whole = means.sum(axis=1, keepdims=True)
        means = np.divide(means, whole, out=np.full_like(means, np.nan), where=whole > 0)
    tail = 100 * (1 - config.confidence) / 2
    low, high = np.nanpercentile(means[1:], [tail, 100 - tail], axis=0)
    return pd.DataFrame(
        {"value": 100 * means[0], "low": 100 * low, "high": 100 * high, "n": len(held)}, index=values.columns
    )
