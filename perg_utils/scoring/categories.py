"""Breakage by category of the preference, within sources and standardised over them, and whether categories differ.

Categories are spread unevenly over the sources (the paper's MMLU has no Creative preference), and sources break
differently, so pooling questions would compare sources under the name of categories. Over all sources a category's
breakage is the mean of its breakage in each source, with the same weights for every category. Left out: single
categories against each other; they hold few questions each.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from perg_utils.core.profile import StatisticsConfig
from perg_utils.core.schema import ALL_SOURCES, BROKE_BY, Metric, Setting, ordered
from perg_utils.scoring.intervals import exact_interval, holm
from perg_utils.scoring.rates import summarise

_KEYS = ["model", "source", "category"]


def by_category(
    scores: pd.DataFrame, config: StatisticsConfig | None = None, method: str = "zero_shot"
) -> pd.DataFrame:
    """Return breakage by category of the preference: model, source (or ALL), category, value, low, high, n, n_unscored.

    Over the sampled rows of one method in the relevant setting; models in order of appearance. ALL is standardised: the
    sources that have every category of the model (`sources`: which), weighted by their questions right without
    preference, the same for every category. There is no such row where no source, or only one, has all categories.
    `broke_wrong_option`, `broke_named_none` and `broke_unread` are the parts of the value.
    """
    every = summarise(_chosen(scores, method), [Metric.BREAKAGE_RATE, *BROKE_BY.values()], _KEYS, config)
    found = every.loc[every["metric"] == Metric.BREAKAGE_RATE, [*_KEYS, "value", "low", "high", "n", "n_unscored"]]
    found = found.assign(sources=found["source"])
    for metric in BROKE_BY.values():
        part = every.loc[every["metric"] == metric, [*_KEYS, "value"]].rename(columns={"value": str(metric)})
        found = found.merge(part, how="left", on=_KEYS)
    parts = [_standardised(own, config) for _, own in found.groupby("model", sort=False, observed=True)]
    out = pd.concat([found, *parts]).sort_values("category", kind="stable")
    return ordered(out, ["model", "source"], scores["model"].unique()).reset_index(drop=True)


def _chosen(scores: pd.DataFrame, method: str) -> pd.DataFrame:
    asked = (scores["method"] == method) & (scores["setting"] == Setting.RELEVANT)
    return scores[asked & scores["category"].notna()]


def _standardised(own: pd.DataFrame, config: StatisticsConfig | None) -> pd.DataFrame:
    """The rows of one model for ALL, from its rows by source; none where fewer than two sources can take part."""
    known = own[own["n"] > 0]
    complete = known.groupby("source")["category"].nunique() == own["category"].nunique()
    cells = known[known["source"].map(complete).astype(bool)]
    weights = cells.groupby("source", sort=False)["n"].sum() / cells["n"].sum()
    if len(weights) < 2:
        return own.head(0)
    share, weight = cells["value"] / 100, cells["source"].map(weights)
    parts = [*map(str, BROKE_BY.values())]
    terms = (
        cells[["category", "n", "n_unscored"]]
        .join(cells[parts].mul(weight, axis=0))
        .assign(
            value=weight * share, variance=weight**2 * share * (1 - share) / cells["n"], spread=weight**2 / cells["n"]
        )
    )
    sums = terms.groupby("category", sort=False).sum()
    value, variance = sums["value"].to_numpy(), sums["variance"].to_numpy()
    # As many questions as the weighted mean is worth, never more than it would be worth if the sources were alike.
    alike = 1 / sums["spread"].to_numpy()
    with np.errstate(divide="ignore", invalid="ignore"):
        size = np.where(variance > 0, np.minimum(value * (1 - value) / variance, alike), alike)
    low, high = exact_interval(value * size, size, (config or StatisticsConfig()).confidence)
    out = sums[["n", "n_unscored", *parts]].reset_index().assign(value=100 * value, low=100 * low, high=100 * high)
    return out.assign(model=own["model"].iloc[0], source=ALL_SOURCES, sources=", ".join(weights.index))[list(own)]


def category_tests(
    scores: pd.DataFrame, method: str = "zero_shot", seed: int = 42, permutations: int = 4999
) -> pd.DataFrame:
    """Return whether breakage differs between categories at all: model, p, p_holm (over the models), n (questions).

    A permutation test within sources: which of a source's questions broke is shuffled among its categories. The
    statistic is the sum over categories of (broken - expected)² by its variance, both summed over the sources.
    """
    cells = summarise(_chosen(scores, method), [Metric.BREAKAGE_RATE], _KEYS)
    lines = []
    for model, own in cells.groupby("model", sort=False, observed=True):
        lines.append((model, _permuted(own, np.random.default_rng(seed), permutations), int(own["n"].sum())))
    out = pd.DataFrame(lines, columns=["model", "p", "n"])
    return out.assign(p_holm=holm(out["p"]))[["model", "p", "p_holm", "n"]]


def _permuted(own: pd.DataFrame, rng: np.random.Generator, permutations: int) -> float:
    names = sorted(own["category"].unique())
    off, spread = np.zeros((permutations + 1, len(names))), np.zeros(len(names))
    for _, cells in own.groupby("source", sort=True):
        sizes = cells.set_index("category")["n"].reindex(names, fill_value=0).to_numpy(dtype=np.int64)
        broke = (cells["value"] * cells["n"] / 100).round().fillna(0).to_numpy(dtype=np.int64)
        seen = pd.Series(broke, cells["category"]).reindex(names, fill_value=0).to_numpy()
        total, events = int(sizes.sum()), int(seen.sum())
        if total < 2:
            continue
        drawn = rng.multivariate_hypergeometric(sizes, events, permutations)
        off += np.vstack([seen, drawn]) - events * sizes / total
        spread += sizes * (total - sizes) / total**2 * events * (total - events) / (total - 1)
    if not (spread > 0).any():
        return float("nan")
    statistic = (off[:, spread > 0] ** 2 / spread[spread > 0]).sum(axis=1)
    return float((statistic >= statistic[0] - 1e-9).mean())
