"""From scores to rates: robust accuracy first, then the paper's metrics (paper, section 3.3).

    robust accuracy        RA = mean over all questions of (correct_with and followed); where there is nothing to
                           follow (irrelevant, placebo) the accuracy. Higher is better. The primary outcome.

The paper's, in percent, lower is better; Q* is the set of questions a model answers right without preference:

    breakage rate          BR = 1 - mean over Q* of correct_with
    alignment failure      AF = 1 - mean over Q* of followed
    robustness error       RE = 1 - mean over Q* of (correct_with and followed);  irrelevant, placebo: RE = BR, no AF
    performance variation  PV = 1 - |right with and without| / |right with or without|
    delivery failure       share of answers that name no option

Q* is defined by one draw of the plain answer, so breakage holds whatever makes a second draw differ from it: see
docs/statistics.md for what may be concluded. A response that names no option, or a model's silence, counts as wrong. A
response, baseline or judgement that could not be had leaves the row out of the metrics that need it; `n_unscored`
counts it, and `least` and `most` are what the metric could be with it. `n` is the number of rows that are known.

Left out: the scores themselves (`scores`), comparisons (`comparisons`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd

from perg_utils.core.profile import StatisticsConfig
from perg_utils.core.schema import (
    ALL_SOURCES,
    BROKE_BY,
    PAPER_METRICS,
    PAPER_SETTINGS,
    RELEVANT_SHOWN,
    Metric,
    Setting,
    conform,
    ordered,
    require_columns,
)
from perg_utils.scoring.generalise import like_these
from perg_utils.scoring.intervals import exact_interval


def metrics(scores: pd.DataFrame, config: StatisticsConfig | None = None, models: Sequence[str] = ()) -> pd.DataFrame:
    """Return the table `metrics` from the sampled rows of `scores`, in percent, with two kinds of intervals.

    One row per model, method, setting, source (or ALL: the questions of all sources pooled) and metric that
    applies there: model, method, setting, source, metric, `value` with its exact bounds `low` and `high` (0 to 100)
    for these preferences, `like_low` and `like_high` for preferences like these (NaN where none was relevant), `n`,
    the rows that are known, and `n_unscored`, those left out, with `least` and `most`, what they could make of it.
    `value` is NaN where `n` is 0. Rows follow `models` (then order of
    appearance), as tables and figures do. Without `config` the intervals are of 95 %. Raises `DataError` where `scores`
    lacks a column.

    >>> row = {"model": "S", "method": "zero_shot", "setting": "relevant", "source": "TQA", "category": "Clarity"}
    >>> row |= {"sampled": True, "correct_without": True, "delivered_without": True, "delivered_with": True}
    >>> outcomes = [(True, True), (True, False), (False, True), (True, True)]
    >>> shown = [row | {"correct_with": c, "followed": f, "robust": c and f} for c, f in outcomes]
    >>> table = metrics(pd.DataFrame(shown)).query("source == 'ALL'")
    >>> print(table[["metric", "value", "low", "high", "n"]].head(3).round(1).to_string(index=False))
               metric  value  low  high  n
      robust_accuracy   50.0  6.8  93.2  4
        breakage_rate   25.0  0.6  80.6  4
    alignment_failure   25.0  0.6  80.6  4
    """
    keys = ["model", "method", "setting", "source"]
    outcomes = _outcomes(scores)
    pooled = outcomes.assign(source=ALL_SOURCES)
    out = pd.concat([_summarise(frame, [*keys, "metric"], config) for frame in (outcomes, pooled)])
    return conform("metrics", ordered(out, [*keys, "metric"], [*models, *scores["model"].unique()]))


def redrawn(metrics: pd.DataFrame) -> bool:
    """Return whether `metrics` are the paper's printed figures: values without their counts, so without intervals."""
    return bool((metrics["value"].notna() & metrics["n"].isna()).any())


def summarise(
    scores: pd.DataFrame, wanted: Sequence[Metric], keys: list[str], config: StatisticsConfig | None = None
) -> pd.DataFrame:
    """Return some metrics of the sampled rows of `scores` by `keys`: keys, metric, and the columns behind it there."""
    outcomes = _outcomes(scores)
    return _summarise(outcomes[outcomes["metric"].isin(wanted)], [*keys, "metric"], config)


#: The model that the paper follows through the settings.
PAPER_MODEL = "Llama3-70B"


def followed_model(metrics: pd.DataFrame) -> str | None:
    """Return the model that is followed through the settings in detail, e.g. `Llama3-70B`; None where there is none.

    The paper's, if it is there, else the one with the most breakage rates by method and setting, the first of equals.
    Only methods count that the model was run with in two settings or more.
    """
    known = in_settings(metrics)
    runs = known[known["metric"] == Metric.BREAKAGE_RATE].groupby("model", sort=False).size()
    if runs.empty:
        return None
    return PAPER_MODEL if PAPER_MODEL in runs else str(runs.idxmax())


def in_settings(metrics: pd.DataFrame) -> pd.DataFrame:
    """Return the paper's metrics over all sources, of methods that a model was run with in two of its settings."""
    known = metrics[
        (metrics["source"] == ALL_SOURCES)
        & metrics["metric"].isin(PAPER_METRICS)
        & metrics["setting"].isin(PAPER_SETTINGS)
        & metrics["value"].notna()
    ]
    return known[known.groupby(["model", "method"])["setting"].transform("nunique") > 1]


#: What is summed over the rows of a group to give its value and interval, see `Outcome`.
_SUMS = ["event", "n", "n_unscored", "open", "rated", "rated_event"]


def _outcomes(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per score and metric that applies to it, with the columns `_SUMS` as 0 or 1."""
    outcomes = [
        "sampled",
        "correct_without",
        "correct_with",
        "followed",
        "robust",
        "delivered_without",
        "delivered_with",
    ]
    identity = ["model", "method", "setting", "source", "category", "example_id", "preference_id"]
    require_columns("scores", scores, [*identity[:-2], *outcomes])
    s = scores[scores["sampled"].fillna(False)]
    with_, without, followed, robust, delivered, delivered_without = (
        s[name].to_numpy(dtype=float, na_value=np.nan)
        for name in ("correct_with", "correct_without", "followed", "robust", "delivered_with", "delivered_without")
    )
    base, rated = (s["setting"] == Setting.NONE).to_numpy(), s["setting"].isin(RELEVANT_SHOWN).to_numpy()
    always = np.full(len(s), True)
    applies = dict.fromkeys([Metric.ROBUST_ACCURACY, *PAPER_METRICS], ~base) | {Metric.ALIGNMENT_FAILURE: rated}
    applies |= {Metric.DELIVERY_FAILURE: always, Metric.ACCURACY_WITHOUT: always, Metric.ACCURACY_WITH: ~base}
    found = paper_outcomes(without, with_, followed, robust) | {
        Metric.ROBUST_ACCURACY: _judged(with_, followed, robust, ~np.isnan(with_), of=1),
        Metric.DELIVERY_FAILURE: _share(np.where(base, delivered_without, delivered), of=0),
        Metric.ACCURACY_WITHOUT: _share(without),
        Metric.ACCURACY_WITH: _share(with_),
    }
    if "cause" in s:
        causes = s["cause"].to_numpy(dtype=object)
        broke = found[Metric.BREAKAGE_RATE]
        for cause, metric in BROKE_BY.items():
            found[metric] = broke._replace(event=broke.event & (causes == cause))
            applies[metric] = ~base
    keys = s.reindex(columns=identity)
    return pd.concat(
        [keys[chosen].assign(metric=str(metric), **found[metric].at(chosen)) for metric, chosen in applies.items()],
        ignore_index=True,
    )


class Outcome(NamedTuple):
    """Of one metric, row by row: in its denominator, in its numerator, left out because a value is not known.

    A right answer without its rating is `open`: it belongs to the denominator, and the event is taken to be as frequent
    as among the right answers that are `rated`, of which `rated_event` have it. (Leaving such rows out would weigh the
    broken answers, which need no rating, too high.)
    """

    counted: np.ndarray
    event: np.ndarray
    unscored: np.ndarray
    open: np.ndarray | None = None
    rated: np.ndarray | None = None
    rated_event: np.ndarray | None = None

    def at(self, chosen: np.ndarray) -> dict[str, np.ndarray]:
        """Return the columns `_SUMS` of the `chosen` rows."""
        nothing = np.zeros(len(self.counted), dtype=bool)
        own = (self.event, self.counted, self.unscored, self.open, self.rated, self.rated_event)
        return {name: (nothing if x is None else x)[chosen] for name, x in zip(_SUMS, own, strict=True)}


def paper_outcomes(
    without: np.ndarray, with_: np.ndarray, followed: np.ndarray, robust: np.ndarray
) -> dict[Metric, Outcome]:
    """Return what the paper's four metrics count, from four arrays of 1, 0 and NaN (not known), a row a response.

    This is the one place of the formulas; `estimate` makes a value of their sums.
    """
    star, star_unknown = without == 1, np.isnan(without)

    def failed(outcome: np.ndarray) -> Outcome:
        unknown = np.isnan(outcome)
        return Outcome(star & ~unknown, star & (outcome == 0), star_unknown | (star & unknown))

    either_unknown = np.isnan(with_) | star_unknown
    union = ~either_unknown & ((with_ == 1) | star)
    error = _judged(with_, followed, robust, star & ~np.isnan(with_), of=0)
    return {
        Metric.BREAKAGE_RATE: failed(with_),
        Metric.ALIGNMENT_FAILURE: failed(followed),
        Metric.ROBUSTNESS_ERROR: error._replace(unscored=star_unknown | (star & np.isnan(with_))),
        Metric.PERFORMANCE_VARIATION: Outcome(union, union & (with_ != without), either_unknown),
    }


def _judged(with_: np.ndarray, followed: np.ndarray, robust: np.ndarray, counted: np.ndarray, of: int) -> Outcome:
    """The share of `robust == of` among `counted`, where a right answer may lack its rating."""
    waiting = counted & np.isnan(robust)
    rated = counted & (with_ == 1) & ~waiting
    return Outcome(counted, counted & (robust == of), np.isnan(with_), waiting, rated, rated & (robust == of))


def _share(outcome: np.ndarray, of: float = 1) -> Outcome:
    return Outcome(~np.isnan(outcome), outcome == of, np.isnan(outcome))


def estimate(sums: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Return value, low, high, least, most (percent), n and n_unscored from summed `Outcome`s, a row a group.

    Without open rows the value is event / n with its Clopper-Pearson interval. With them it is the known share of
    answers that failed or stood plus the open ones' expected part, and the interval is Clopper-Pearson's at the
    effective sample size of that estimate (Korn and Graubard), never larger than n.
    """
    event, n, lost, waiting, rated, rated_event = (sums[name].to_numpy(dtype=float) for name in _SUMS)
    with np.errstate(divide="ignore", invalid="ignore"):
        rate = np.where(waiting > 0, rated_event / rated, 0.0)  # NaN where no right answer was rated
        share = np.where(n > 0, (event + waiting * rate) / n, np.nan)
        right = (rated + waiting) / n
        # The delta method for `1 - right + right * rate` (a broken answer is an event, RE) and `right * rate` (RA).
        slope = np.where(event > rated_event, 1 - rate, rate)
        variance = slope**2 * right * (1 - right) / n + right**2 * rate * (1 - rate) / rated
        size = np.where(waiting > 0, np.minimum(share * (1 - share) / variance, n), n)
        size = np.where((waiting > 0) & ~(variance > 0), rated, size)
    count = np.where(waiting > 0, share * size, event)
    low, high = exact_interval(count, np.where(np.isnan(share), 0, size), confidence)
    every = np.where(n + lost > 0, n + lost, np.nan)
    known = n - waiting
    bounds = {"least": event / every, "most": (event + waiting + lost) / every}
    shown = {"value": share, "low": low, "high": high, **bounds}
    out = pd.DataFrame({name: 100 * x for name, x in shown.items()}, index=sums.index)
    empty = np.isnan(share)
    return out.assign(n=np.where(empty, 0, known).astype(int), n_unscored=(lost + waiting).astype(int))


def _summarise(outcomes: pd.DataFrame, keys: list[str], config: StatisticsConfig | None) -> pd.DataFrame:
    confidence = (config or StatisticsConfig()).confidence
    sums = outcomes.groupby(keys, sort=False, observed=True)[_SUMS].sum()
    out = estimate(sums, confidence)
    # An open row counts with the event's expected part, as it does in the estimate.
    shown = outcomes[outcomes["n"].astype(bool) & outcomes["preference_id"].notna()]
    expected = (sums["rated_event"] / sums["rated"].where(sums["rated"] > 0)).rename("expected")
    part = shown[keys].merge(expected.reset_index(), how="left", on=keys)["expected"].to_numpy(dtype=float)
    shown = shown.assign(event=np.where(shown["open"].astype(bool), part, shown["event"].astype(float)))
    wide = 100 * like_these(shown, keys, confidence=confidence).reindex(out.index)
    out["like_low"] = np.minimum(wide["low"].to_numpy(), out["low"].to_numpy())
    out["like_high"] = np.maximum(wide["high"].to_numpy(), out["high"].to_numpy())
    return out.reset_index()
