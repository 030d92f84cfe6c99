"""From scores to the paper's metrics (paper, section 3.3).

Q* is the set of questions a model answers right without preference. In percent, lower is better:

    breakage rate          BR = 1 - mean over Q* of correct_with
    alignment failure      AF = 1 - mean over Q* of followed
    robustness error       RE = 1 - mean over Q* of (correct_with and followed);  irrelevant, placebo: RE = BR, no AF
    performance variation  PV = 1 - |right with and without| / |right with or without|
    delivery failure       share of answers that name no option

A response that names no option counts as wrong. A response, baseline or judgement that does not exist leaves
the row out of the metrics that need it, and `n_unscored` counts it: failure to measure is not a score.
`n` is always the denominator: |Q*|, the questions right in at least one arm (PV), or all questions.

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
    PAPER_METRICS,
    RELEVANT_SHOWN,
    Metric,
    Setting,
    conform,
    ordered,
    require_columns,
)
from perg_utils.scoring.intervals import exact_interval


def metrics(scores: pd.DataFrame, config: StatisticsConfig | None = None, models: Sequence[str] = ()) -> pd.DataFrame:
    """Return the table `metrics` from the sampled rows of `scores`, in percent, with exact intervals.

    One row per model, method, setting, source (or ALL: the questions of all sources pooled) and metric that
    applies there: model, method, setting, source, metric, `value` with its bounds `low` and `high` (0 to 100), `n`, its
    denominator, and `n_unscored`, the rows left out. `value` is NaN where `n` is 0. Rows follow `models` (then order of
    appearance), as tables and figures do. Without `config` the intervals are of 95 %. Raises `DataError` where `scores`
    lacks a column.

    >>> row = {"model": "S", "method": "zero_shot", "setting": "relevant", "source": "TQA", "category": "Clarity"}
    >>> row |= {"sampled": True, "correct_without": True, "delivered_without": True, "delivered_with": True}
    >>> outcomes = [(True, True), (True, False), (False, True), (True, True)]
    >>> shown = [row | {"correct_with": c, "followed": f, "robust": c and f} for c, f in outcomes]
    >>> table = metrics(pd.DataFrame(shown)).query("source == 'ALL'")
    >>> print(table[["metric", "value", "low", "high", "n"]].head(3).round(1).to_string(index=False))
               metric  value  low  high  n
        breakage_rate   25.0  0.6  80.6  4
    alignment_failure   25.0  0.6  80.6  4
     robustness_error   50.0  6.8  93.2  4
    """
    keys = ["model", "method", "setting", "source"]
    outcomes = _outcomes(scores)
    pooled = outcomes.assign(source=ALL_SOURCES)
    out = pd.concat([_summarise(frame, [*keys, "metric"], config) for frame in (outcomes, pooled)])
    return conform("metrics", ordered(out, [*keys, "metric"], [*models, *scores["model"].unique()]))


def redrawn(metrics: pd.DataFrame) -> bool:
    """Return whether `metrics` are the paper's printed figures: values without their counts, so without intervals."""
    return bool((metrics["value"].notna() & metrics["n"].isna()).any())


def by_category(
    scores: pd.DataFrame, config: StatisticsConfig | None = None, method: str = "zero_shot"
) -> pd.DataFrame:
    """Return breakage by category of the preference: model, source (or ALL), category, value, low, high, n, n_unscored.

    Over the sampled rows of one method in the relevant setting; models in order of appearance.
    """
    chosen = scores[(scores["method"] == method) & (scores["setting"] == Setting.RELEVANT) & scores["category"].notna()]
    outcomes = _outcomes(chosen)
    outcomes = outcomes[outcomes["metric"] == Metric.BREAKAGE_RATE]
    keys = ["model", "source", "category"]
    frames = (outcomes, outcomes.assign(source=ALL_SOURCES))
    out = pd.concat([_summarise(frame, keys, config) for frame in frames])
    by_name = out.sort_values("category", kind="stable")
    return ordered(by_name, ["model", "source"], scores["model"].unique()).reset_index(drop=True)


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
    """Return the paper's metrics over all sources, of the methods that a model was run with in two settings or more."""
    known = metrics[
        (metrics["source"] == ALL_SOURCES) & metrics["metric"].isin(PAPER_METRICS) & metrics["value"].notna()
    ]
    return known[known.groupby(["model", "method"])["setting"].transform("nunique") > 1]


def _outcomes(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per score and metric that applies to it: `counted`, `event` (the bad thing) and `unscored` as 0 or 1."""
    outcomes = [
        "sampled",
        "correct_without",
        "correct_with",
        "followed",
        "robust",
        "delivered_without",
        "delivered_with",
    ]
    require_columns("scores", scores, ["model", "method", "setting", "source", "category", *outcomes])
    s = scores[scores["sampled"].fillna(False)]
    with_, without, followed, robust, delivered, delivered_without = (
        s[name].to_numpy(dtype=float, na_value=np.nan)
        for name in ("correct_with", "correct_without", "followed", "robust", "delivered_with", "delivered_without")
    )
    base, rated = (s["setting"] == Setting.NONE).to_numpy(), s["setting"].isin(RELEVANT_SHOWN).to_numpy()
    always = np.full(len(s), True)
    applies = dict.fromkeys(PAPER_METRICS, ~base) | {Metric.ALIGNMENT_FAILURE: rated}
    applies |= {Metric.DELIVERY_FAILURE: always, Metric.ACCURACY_WITHOUT: always, Metric.ACCURACY_WITH: ~base}
    found = paper_outcomes(without, with_, followed, robust) | {
        Metric.DELIVERY_FAILURE: _share(np.where(base, delivered_without, delivered), of=0),
        Metric.ACCURACY_WITHOUT: _share(without),
        Metric.ACCURACY_WITH: _share(with_),
    }
    keys = s[["model", "method", "setting", "source", "category"]]
    return pd.concat(
        [
            keys[chosen].assign(
                metric=str(metric),
                n=found[metric].counted[chosen],
                event=found[metric].event[chosen],
                n_unscored=found[metric].unscored[chosen],
            )
            for metric, chosen in applies.items()
        ],
        ignore_index=True,
    )


class Outcome(NamedTuple):
    """Of one metric, row by row: in its denominator, in its numerator, left out because a value is not known."""

    counted: np.ndarray
    event: np.ndarray
    unscored: np.ndarray


def paper_outcomes(
    without: np.ndarray, with_: np.ndarray, followed: np.ndarray, robust: np.ndarray
) -> dict[Metric, Outcome]:
    """Return what the paper's four metrics count, from four arrays of 1, 0 and NaN (not known), a row a response.

    This is the one place of the formulas: a metric is `event.sum() / counted.sum()` over the rows it applies to.
    """
    star, star_unknown = without == 1, np.isnan(without)

    def failed(outcome: np.ndarray) -> Outcome:
        unknown = np.isnan(outcome)
        return Outcome(star & ~unknown, star & (outcome == 0), star_unknown | (star & unknown))

    either_unknown = np.isnan(with_) | star_unknown
    union = ~either_unknown & ((with_ == 1) | star)
    return {
        Metric.BREAKAGE_RATE: failed(with_),
        Metric.ALIGNMENT_FAILURE: failed(followed),
        Metric.ROBUSTNESS_ERROR: failed(robust),
        Metric.PERFORMANCE_VARIATION: Outcome(union, union & (with_ != without), either_unknown),
    }


def _share(outcome: np.ndarray, of: float = 1) -> Outcome:
    return Outcome(~np.isnan(outcome), outcome == of, np.isnan(outcome))


def _summarise(outcomes: pd.DataFrame, keys: list[str], config: StatisticsConfig | None) -> pd.DataFrame:
    confidence = (config or StatisticsConfig()).confidence
    out = outcomes.groupby(keys, sort=False, observed=True)[["event", "n", "n_unscored"]].sum().reset_index()
    low, high = exact_interval(out["event"], out["n"], confidence)
    value = 100 * out["event"] / out["n"].where(out["n"] > 0)
    out = out.assign(value=value.astype(float), low=100 * low, high=100 * high)
    return out[[*keys, "value", "low", "high", "n", "n_unscored"]]
