"""Intervals for preferences like these: what a rate would be with other preferences drawn in the same way.

The exact intervals (`intervals`) hold for the preferences of the study. A reader who asks what *a* preference does
needs more: preferences differ, and however many questions there are, only so many preferences were tried. Questions and
preferences are crossed random effects here, and a rate's variance is that of its sums by preference, plus by question,
less what was counted twice (Cameron, Gelbach and Miller, 2011); where each question has one preference only the first
is left. With P preferences that variance has P - 1 degrees of freedom. A share gets its interval the way of Korn and
Graubard (1998): Clopper-Pearson's at the sample size that the variance is worth, never a larger one than there is; a
difference a t interval. `coverage` shows that they hold the truth where the exact ones do not.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from perg_utils.scoring.intervals import exact_interval


def like_these(
    rows: pd.DataFrame,
    keys: Sequence[str],
    event: str = "event",
    *,
    preference: str = "preference_id",
    question: str | None = None,
    confidence: float = 0.95,
) -> pd.DataFrame:
    """Return bounds of the mean of `event` (0 or 1) in each group of `rows`, in [0, 1]: low and high by `keys`.

    `preference` names the column that tells preferences apart; `question` the one that tells questions apart, where a
    question stands with several preferences. NaN where a group has fewer than two preferences.

    >>> rows = pd.DataFrame({"arm": "a", "preference_id": [*"ppppqqqq"], "event": [1, 0, 0, 0, 1, 1, 1, 0]})
    >>> like_these(rows, ["arm"]).round(2)["low"].tolist()
    [0.0]
    """
    found = _spread(rows, list(keys), event, preference, question)
    mean, n, groups = (found[name].to_numpy(dtype=float) for name in ("mean", "n", "preferences"))
    from scipy.stats import t  # noqa: PLC0415 - slow to import

    tail = 1 - (1 - confidence) / 2
    with np.errstate(divide="ignore", invalid="ignore"):
        worth = mean * (1 - mean) / found["variance"].to_numpy(dtype=float)
        few = (t.ppf(tail, np.maximum(n - 1, 1)) / t.ppf(tail, np.maximum(groups - 1, 1))) ** 2
        # Without any event, or nothing else, no variance is seen: as many rows as there are, by as few preferences.
        size = np.minimum(np.where(np.isnan(worth), n, worth) * few, n)
    low, high = exact_interval(mean * size, size, confidence)
    known = groups > 1
    return pd.DataFrame({"low": np.where(known, low, np.nan), "high": np.where(known, high, np.nan)}, found.index)


def difference_like_these(
    differences: np.ndarray, preferences: np.ndarray, confidence: float = 0.95
) -> tuple[float, float]:
    """Return bounds of the mean of `differences` (one a question, e.g. -1, 0 or 1) for preferences like `preferences`.

    A t interval with preferences as units, never narrower than with questions as units, of which one more is taken to
    differ, so that it is not empty where none does. NaN with fewer than two preferences.
    """
    from scipy.stats import t  # noqa: PLC0415

    values, (names, which) = np.asarray(differences, dtype=float), np.unique(preferences, return_inverse=True)
    if len(names) < 2:
        return np.nan, np.nan
    n, mean = len(values), float(values.mean())
    sums = np.bincount(which, values - mean)
    by_preference = float((sums**2).sum()) * len(names) / (len(names) - 1)
    by_question = float((values**2).sum()) + 1 - n * mean**2
    reach = float(t.ppf(1 - (1 - confidence) / 2, len(names) - 1)) * np.sqrt(max(by_preference, by_question)) / n
    return mean - reach, mean + reach


def _spread(rows: pd.DataFrame, keys: list[str], event: str, preference: str, question: str | None) -> pd.DataFrame:
    """Mean, n, preferences and the variance of the mean, a row a group."""
    values = rows[[*keys, preference, *([question] if question else [])]].assign(
        value=rows[event].astype(float), one=1.0
    )
    by = values.groupby(keys, sort=False, observed=True)
    out = by.agg(mean=("value", "mean"), n=("one", "sum"), preferences=(preference, "nunique"))
    values["off"] = values["value"] - values[keys].merge(out["mean"], how="left", on=keys)["mean"].to_numpy()

    def clustered(column: str) -> pd.Series:
        sums = values.groupby([*keys, column], sort=False, observed=True)["off"].sum().reset_index()
        grouped = sums.assign(square=sums["off"] ** 2).groupby(keys, sort=False, observed=True)["square"]
        clusters = grouped.count()
        return grouped.sum() * clusters / (clusters - 1).clip(lower=1)

    total = clustered(preference)
    if question:
        squares = values.assign(square=values["off"] ** 2).groupby(keys, sort=False, observed=True)["square"]
        twice = squares.sum() * squares.count() / (squares.count() - 1).clip(lower=1)
        total = total + (clustered(question) - twice).clip(lower=0)
    out["variance"] = (total / out["n"] ** 2).reindex(out.index)
    return out
