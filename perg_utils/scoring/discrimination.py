"""Does a rating tell responses that follow a preference from responses that cannot? A judge against its nulls.

A judge's "followed" means little if it says so of responses that never saw the preference. Three ratings of the same
question are set against each other: of the response to its preference (*matched*), of the *plain* response by that
preference, and of the matched response by another preference (*mismatched*), see `judging.nulls`.

    AUC               how often the matched rating is the higher one of the two of a question, ties counting half;
                      0.5: chance, 1: always
    false-follow      how often a null is rated as followed
    alignment gain    followed(matched) - followed(plain) on the same questions, of all questions

Not in the paper, whose alignment failure takes every rating at its word.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from perg_utils.core.profile import StatisticsConfig
from perg_utils.core.schema import RELEVANT_SHOWN, Category, Null
from perg_utils.scoring.intervals import exact_interval, paired_interval

#: Below this a judge is marked wherever a number rests on it.
LEAST_AUC = 0.7
ALL_CATEGORIES = "ALL"
_COLUMNS = [
    "judge",
    "category",
    "kind",
    "n",
    "followed",
    "low",
    "high",
    "pairs",
    "matched",
    "auc",
    "auc_low",
    "auc_high",
]


def discrimination(
    nulls: pd.DataFrame,
    preferences: pd.DataFrame,
    *,
    threshold: int = 3,
    config: StatisticsConfig | None = None,
    seed: int = 42,
    unit: str = "example_id",
) -> pd.DataFrame:
    """Return a row a judge, category (of the preference that was judged; or ALL) and kind of null, in percent.

    `nulls` and `preferences` are tables of `core.schema.TABLES`. Columns: judge, category, kind; `n`, the null ratings,
    of which `followed` percent (`low`, `high`: exact bounds) are called followed; `pairs`, questions rated both ways,
    whose matched responses are called followed in `matched` percent, and `auc` (0 to 1) with bounds `auc_low`,
    `auc_high` (bootstrap by question, or by another column `unit` of `nulls`). Of a mismatched pair the category is
    that of the preference written for.
    Values are NaN where there is nothing to count.
    """
    config = config or StatisticsConfig()
    category = dict(zip(preferences["preference_id"], preferences["category"], strict=True))
    rated = nulls[nulls["rating"].notna()].assign(category=nulls["preference_id"].map(category))
    matched = rated[rated["kind"] == Null.MATCHED]
    null = rated[rated["kind"] != Null.MATCHED]
    paired = matched.merge(null, on=["judge", "model", "example_id"], suffixes=("", "_null"))
    # Where a question was asked with several preferences, a plain rating belongs to the one of its own.
    paired = paired[(paired["kind_null"] != Null.PLAIN) | (paired["preference_id"] == paired["preference_id_null"])]
    rows = []
    for (judge, kind), own in null.groupby(["judge", "kind"], sort=False):
        both = paired[(paired["judge"] == judge) & (paired["kind_null"] == kind)]
        for name in [*(c for c in Category if (own["category"] == c).any()), ALL_CATEGORIES]:
            some, pairs = (f if name == ALL_CATEGORIES else f[f["category"] == name] for f in (own, both))
            hits, n = int((some["rating"] >= threshold).sum()), len(some)
            low, high = (100 * float(x) for x in exact_interval(hits, n, config.confidence))
            line = {"judge": judge, "category": str(name), "kind": kind, "n": n, "followed": 100 * hits / n}
            line |= {"low": low, "high": high, "pairs": len(pairs)}
            line["matched"] = 100 * (pairs["rating"] >= threshold).mean() if len(pairs) else np.nan
            rows.append(line | dict(zip(("auc", "auc_low", "auc_high"), _auc(pairs, unit, config, seed), strict=True)))
    return pd.DataFrame(rows, columns=_COLUMNS)


def weakest(found: pd.DataFrame) -> pd.Series:
    """Return each judge's AUC against the null that it tells worst, all categories together, by judge."""
    whole = found[(found["category"] == ALL_CATEGORIES) & found["auc"].notna()]
    return whole.groupby("judge", sort=False)["auc"].min()


def gain(
    judgements: pd.DataFrame,
    nulls: pd.DataFrame,
    *,
    threshold: int = 3,
    config: StatisticsConfig | None = None,
) -> pd.DataFrame:
    """Return the alignment gain of each arm that showed a relevant preference, in points, by judge.

    Columns: judge, model, method, setting, `followed` and `plain` (percent of the same questions called followed, with
    the preference and by the plain response), `gain` with its paired score interval `low` and `high`, `n`. Of all
    questions rated both ways, right or wrong; a model without a plain rating has no row.
    """
    config = config or StatisticsConfig()
    plain = nulls[(nulls["kind"] == Null.PLAIN) & nulls["rating"].notna()]
    shown = judgements[judgements["setting"].isin(RELEVANT_SHOWN) & judgements["rating"].notna()]
    keys = ["judge", "model", "example_id", "preference_id"]
    both = shown.merge(plain[[*keys, "rating"]], on=keys, suffixes=("", "_plain"), validate="m:1")
    rows = []
    for arm, own in both.groupby(["judge", "model", "method", "setting"], sort=False):
        with_, without = (own[name].to_numpy(dtype=float) >= threshold for name in ("rating", "rating_plain"))
        lost, won, n = int((without & ~with_).sum()), int((with_ & ~without).sum()), len(own)
        low, high = (100 * float(x) for x in paired_interval(won, lost, n, config.confidence))
        values = (100 * with_.mean(), 100 * without.mean(), 100 * (won - lost) / n, low, high, n)
        rows.append((*arm, *values))
    columns = ["judge", "model", "method", "setting", "followed", "plain", "gain", "low", "high", "n"]
    return pd.DataFrame(rows, columns=columns)


def mean_by_unit(values: pd.Series, units: pd.Series, config: StatisticsConfig, seed: int) -> tuple[float, ...]:
    """Return the mean of `values` and its bootstrap bounds, drawing `units` (e.g. questions) with all that is theirs.

    `units` has the index of `values`. NaN where there are none.
    """
    if values.empty:
        return np.nan, np.nan, np.nan
    sums = values.astype(float).groupby(units.to_numpy()).agg(["sum", "size"]).to_numpy()
    draws = np.random.default_rng(seed).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), config.resamples)
    totals = draws @ sums
    ends = np.quantile(totals[:, 0] / totals[:, 1], [(1 - config.confidence) / 2, (1 + config.confidence) / 2])
    return float(sums[:, 0].sum() / sums[:, 1].sum()), float(ends[0]), float(ends[1])


def _auc(pairs: pd.DataFrame, unit: str, config: StatisticsConfig, seed: int) -> tuple[float, ...]:
    gap = pairs["rating"].astype(float) - pairs["rating_null"].astype(float)
    return mean_by_unit((gap > 0) + (gap == 0) / 2, pairs[unit], config, seed)
