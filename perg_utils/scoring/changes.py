"""What a preference changes in one arm: breakage beside its mirror, and answers that name no option.

Each question is its own control: the answer without preference beside the one with it. Left out: arms against each
other (`comparisons`).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from perg_utils.core.profile import StatisticsConfig
from perg_utils.core.schema import ARM_ID, BROKE_BY, Setting, ordered
from perg_utils.scoring.intervals import Bounds, exact_interval, holm, mcnemar_exact, odds_ratio, paired_interval

_COUNTS = ["worse", "better", "n", "n_unscored"]
#: Below this count before, a relative change says nothing: 1 -> 11 would be +1000 %.
LEAST_FOR_RELATIVE = 5


def delivery_change(scores: pd.DataFrame, config: StatisticsConfig | None = None) -> pd.DataFrame:
    """Return how many answers name no option without and with preference, on the same questions, a row a configuration.

    Columns: model, method, setting, `failed_without` and `failed_with` (counts), `without` and `with` (percent),
    `difference` (points) with its bounds `low` and `high`, `relative_change` (percent; NaN where fewer than
    `LEAST_FOR_RELATIVE` answers failed before), `worse`, `better`, `n`, `n_unscored`. Sampled rows only.
    """
    out = _two_arms(scores, "delivered_without", "delivered_with")
    n, failed = out["n"], out["n_wrong"]
    out["failed_without"], out["failed_with"] = failed, failed + out["broke"] - out["fixed"]
    out["without"], out["with"] = (_percent(out[f"failed_{arm}"], n) for arm in ("without", "with"))
    out["difference"] = _percent(out["broke"] - out["fixed"], n)
    out["low"], out["high"] = _bounds(out["broke"], out["fixed"], n, config)
    out["least"], out["most"] = _at_most(out["broke"] - out["fixed"], out)
    change = _percent(out["broke"] - out["fixed"], failed)
    out["relative_change"] = change.where(failed >= LEAST_FOR_RELATIVE)
    out = out.rename(columns={"broke": "worse", "fixed": "better"})
    shares = ["failed_without", "failed_with", "without", "with", "difference", "low", "high", "relative_change"]
    return out[[*ARM_ID, *shares, *_COUNTS, "least", "most"]]


def net_change(scores: pd.DataFrame, config: StatisticsConfig | None = None) -> pd.DataFrame:
    """Return breakage beside its mirror, the answers that a preference mends, a row a configuration.

    `broke` of the `n_right` questions right without preference are wrong with it, `fixed` of the `n_wrong` others
    are right with it: as percent of either set `breakage` and `fixed_rate`, with exact bounds. `net` is accuracy
    with minus without on all `n` questions, in points, with bounds `low`, `high`; `p` McNemar's exact, `p_holm`
    over this table, `odds_ratio` that of broke to fixed. `n_unscored` rows lack one of the two answers.
    Sampled rows only. `least` and `most` are
    what `net` could be with the unscored rows. `broke_wrong_option`, `broke_named_none`
    and `broke_unread` are the parts of `broke`.
    """
    confidence = (config or StatisticsConfig()).confidence
    out = _two_arms(scores, "correct_without", "correct_with")
    for rate, bound, events, among in (
        ("breakage", "breakage", "broke", "n_right"),
        ("fixed_rate", "fixed", "fixed", "n_wrong"),
    ):
        out[rate] = _percent(out[events], out[among])
        low, high = exact_interval(out[events], out[among], confidence)
        out[f"{bound}_low"], out[f"{bound}_high"] = 100 * low, 100 * high
    out["net"] = _percent(out["fixed"] - out["broke"], out["n"])
    out["low"], out["high"] = _bounds(out["fixed"], out["broke"], out["n"], config)
    out["p"] = np.where(out["n"] > 0, mcnemar_exact(out["broke"], out["fixed"]), np.nan)
    out["p_holm"] = holm(out["p"])
    out["odds_ratio"] = odds_ratio(out["broke"], out["fixed"])
    out["least"], out["most"] = _at_most(out["fixed"] - out["broke"], out)
    shares = ["breakage", "breakage_low", "breakage_high", "fixed_rate", "fixed_low", "fixed_high"]
    counts = ["broke", "fixed", "n_right", "n_wrong", *map(str, BROKE_BY.values())]
    return out[
        [
            *ARM_ID,
            *counts,
            *shares,
            "net",
            "low",
            "high",
            "p",
            "p_holm",
            "n",
            "n_unscored",
            "odds_ratio",
            "least",
            "most",
        ]
    ]


def _two_arms(scores: pd.DataFrame, without: str, with_: str) -> pd.DataFrame:
    """Counts for each configuration over the sampled rows where both outcomes are known, models as they appear."""
    shown = scores[scores["sampled"].fillna(False) & (scores["setting"] != Setting.NONE)]
    before, after = (shown[name].to_numpy(dtype=float, na_value=np.nan) for name in (without, with_))
    known = ~(np.isnan(before) | np.isnan(after))
    causes = shown["cause"].to_numpy(dtype=object) if "cause" in shown else np.full(len(shown), None)
    cells = {
        "broke": (before == 1) & (after == 0),
        "fixed": (before == 0) & (after == 1),
        "n_right": known & (before == 1),
        "n_wrong": known & (before == 0),
        "n": known,
        "n_unscored": ~known,
    }
    cells |= {str(metric): cells["broke"] & (causes == cause) for cause, metric in BROKE_BY.items()}
    keys = ARM_ID
    counted = shown[keys].assign(**{name: cell.astype("int64") for name, cell in cells.items()})
    out = counted.groupby(keys, sort=False, observed=True)[list(cells)].sum().reset_index()
    return ordered(out, keys).reset_index(drop=True)


def _at_most(change: pd.Series, out: pd.DataFrame) -> tuple[pd.Series, pd.Series]:
    """The lowest and highest difference, in points, that the unscored rows could make of `change` questions."""
    every = out["n"] + out["n_unscored"]
    return _percent(change - out["n_unscored"], every), _percent(change + out["n_unscored"], every)


def _percent(part: pd.Series, whole: pd.Series) -> pd.Series:
    return 100 * part / whole.where(whole > 0).astype(float)


def _bounds(more: pd.Series, fewer: pd.Series, n: pd.Series, config: StatisticsConfig | None) -> Bounds:
    """Bounds of 100 * (more - fewer) / n, row by row."""
    low, high = paired_interval(more, fewer, n, (config or StatisticsConfig()).confidence)
    return 100 * low, 100 * high
