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

import numpy as np
import pandas as pd

from perg_utils.core.profile import StatisticsConfig
from perg_utils.core.schema import (
    ALL_SOURCES,
    RELEVANT_SHOWN,
    Method,
    Metric,
    Setting,
    Source,
    conform,
)
from perg_utils.scoring.intervals import exact_interval
from perg_utils.scoring.scores import ordered


def metrics(scores: pd.DataFrame, config: StatisticsConfig | None = None, models: Sequence[str] = ()) -> pd.DataFrame:
    """Return the table `metrics` from the sampled rows of `scores`, in percent, with exact intervals.

    One row per model, method, setting, source (or ALL: the questions of all sources pooled) and metric that
    applies there. `value` is NaN where `n` is 0. Rows follow `models` (then order of appearance), as tables and
    figures do.
    """
    keys = ["model", "method", "setting", "source"]
    outcomes = _outcomes(scores)
    pooled = outcomes.assign(source=ALL_SOURCES)
    out = pd.concat([_summarise(frame, [*keys, "metric"], config) for frame in (outcomes, pooled)])
    known = {
        "model": list(dict.fromkeys([*models, *scores["model"]])),
        "method": list(Method),
        "setting": list(Setting),
        "source": [*Source, ALL_SOURCES],
        "metric": list(Metric),
    }
    return conform("metrics", ordered(out, known))


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
    known = {"model": list(dict.fromkeys(scores["model"])), "source": [*Source, ALL_SOURCES]}
    return ordered(out, known | {"category": sorted(out["category"].unique())})


def _outcomes(scores: pd.DataFrame) -> pd.DataFrame:
    """One row per score and metric that applies to it: `counted`, `event` (the bad thing) and `unscored` as 0 or 1."""
    s = scores[scores["sampled"].fillna(False)]
    with_, without, followed, robust, delivered, delivered_without = (
        s[name].to_numpy(dtype=float, na_value=np.nan)
        for name in ("correct_with", "correct_without", "followed", "robust", "delivered_with", "delivered_without")
    )
    base, rated = (s["setting"] == Setting.NONE).to_numpy(), s["setting"].isin(RELEVANT_SHOWN).to_numpy()
    star, star_unknown = without == 1, np.isnan(without)

    def failed(outcome: np.ndarray, applies: np.ndarray) -> tuple[np.ndarray, ...]:
        unknown = np.isnan(outcome)
        return applies, star & ~unknown, star & (outcome == 0), star_unknown | (star & unknown)

    def share(outcome: np.ndarray, applies: np.ndarray, of: float = 1) -> tuple[np.ndarray, ...]:
        return applies, ~np.isnan(outcome), outcome == of, np.isnan(outcome)

    either_unknown = np.isnan(with_) | star_unknown
    union = ~either_unknown & ((with_ == 1) | star)
    parts = {
        Metric.BREAKAGE_RATE: failed(with_, ~base),
        Metric.ALIGNMENT_FAILURE: failed(followed, rated),
        Metric.ROBUSTNESS_ERROR: failed(robust, ~base),
        Metric.PERFORMANCE_VARIATION: (~base, union, union & (with_ != without), either_unknown),
        Metric.DELIVERY_FAILURE: share(np.where(base, delivered_without, delivered), np.full(len(s), True), of=0),
        Metric.ACCURACY_WITHOUT: share(without, np.full(len(s), True)),
        Metric.ACCURACY_WITH: share(with_, ~base),
    }
    keys = s[["model", "method", "setting", "source", "category"]]
    return pd.concat(
        [
            keys[applies].assign(metric=str(metric), n=n[applies], event=event[applies], n_unscored=unscored[applies])
            for metric, (applies, n, event, unscored) in parts.items()
        ],
        ignore_index=True,
    )


def _summarise(outcomes: pd.DataFrame, keys: list[str], config: StatisticsConfig | None) -> pd.DataFrame:
    confidence = (config or StatisticsConfig()).confidence
    out = outcomes.groupby(keys, sort=False, observed=True)[["event", "n", "n_unscored"]].sum().reset_index()
    low, high = exact_interval(out["event"], out["n"], confidence)
    value = 100 * out["event"] / out["n"].where(out["n"] > 0)
    out = out.assign(value=value.astype(float), low=100 * low, high=100 * high)
    return out[[*keys, "value", "low", "high", "n", "n_unscored"]]
