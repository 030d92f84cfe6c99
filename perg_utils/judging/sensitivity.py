"""What becomes of the metrics and of the ranking of models under another judge or another threshold.

Alignment failure and robustness error rest on a rating of 3 or more by one judge (paper, section 3.3); breakage and
performance variation rest on no judge at all, and are shown so. Left out: tests of differences between judges; the
agreement behind them is in `agreement`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from perg_utils.core.profile import Profile
from perg_utils.core.schema import ALL_SOURCES, RELEVANT_SHOWN, Metric, Status
from perg_utils.scoring.intervals import exact_interval
from perg_utils.scoring.rates import metrics
from perg_utils.scoring.scores import score

THRESHOLDS = (2, 3, 4)
#: The paper's four metrics; a judge has a say in the last two.
FOUR = [Metric.BREAKAGE_RATE, Metric.PERFORMANCE_VARIATION, Metric.ALIGNMENT_FAILURE, Metric.ROBUSTNESS_ERROR]
_ARM = ["model", "method", "setting", "source", "metric"]


def partial(panel: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return the judges that rated a part only, as human raters do: fewer than 95 % of the most that one judge rated.

    Where other rows are rated, other rates come out: compare such judges by `on_shared`, not by `by_judge`.
    """
    rated = {judge: int((table["status"] == Status.OK).sum()) for judge, table in panel.items()}
    return [judge for judge, count in rated.items() if count < 0.95 * max(rated.values())]


def comparable(panel: Mapping[str, pd.DataFrame], main: str) -> dict[str, pd.DataFrame]:
    """Return the panel without the judges that rated a part only, for `by_judge`; the `main` judge always stays."""
    part = partial(panel)
    return {judge: table for judge, table in panel.items() if judge == main or judge not in part}


def on_shared(ratings: pd.DataFrame, judges: Sequence[str], threshold: int, confidence: float = 0.95) -> pd.DataFrame:
    """Return how often each judge says "not followed" of the rows that all of `judges` rated, and of each model's.

    `ratings` has a column a judge (see `panel.side_by_side`). Columns: model (or `all`), n (rows), judge, value (in %),
    low and high (exact bounds, which take rows for independent: on a sheet each is of another question).
    """
    rows, out = ratings.dropna(subset=list(judges)), []
    parts = [("all", rows), *((str(model), part) for model, part in rows.groupby("model", sort=False))]
    for model, part in parts:
        for judge in judges:
            events, n = int((part[judge] < threshold).sum()), len(part)
            low, high = (100 * float(bound) for bound in exact_interval(events, n, confidence))
            value = 100 * events / n if n else np.nan
            out.append({"model": model, "n": n, "judge": judge, "value": value, "low": low, "high": high})
    return pd.DataFrame(out)


def by_judge(
    panel: Mapping[str, pd.DataFrame],
    tables: Mapping[str, pd.DataFrame],
    profile: Profile,
    thresholds: Sequence[int] = THRESHOLDS,
) -> pd.DataFrame:
    """Return the four metrics where a relevant preference was shown, for every judge and threshold.

    `panel` holds judgements by judge, `tables` the tables examples, responses, answers and preferences. Columns:
    judge, threshold, then those of the table `metrics`, in percent.
    """
    bank = tables["preferences"]
    models = [model.name for model in profile.models]
    out = []
    for judge, judgements in panel.items():
        for threshold in thresholds:
            how: dict[str, Any] = {"threshold": threshold, "baseline": profile.baseline, "models": models}
            scores = score(tables["examples"], tables["responses"], tables["answers"], judgements, bank, **how)
            found = metrics(scores, profile.statistics, models)
            kept = found[found["metric"].isin(FOUR) & found["setting"].isin(RELEVANT_SHOWN)]
            out.append(kept.assign(judge=judge, threshold=threshold))
    whole = pd.concat(out, ignore_index=True)
    return whole[["judge", "threshold", *whole.columns.drop(["judge", "threshold"])]]


def with_bounds(table: pd.DataFrame, name: str, digits: int = 1, bounds: tuple[str, str] | None = None) -> pd.Series:
    """Return a column as text with its bounds, e.g. `5.8 [3.7, 8.6]`; `bounds` are `<name>_low` and `<name>_high`."""

    def text(value: float, low: float, high: float) -> str:
        shown = [f"{round(float(number), digits) + 0.0:.{digits}f}" for number in (value, low, high)]
        return "" if np.isnan(value) else shown[0] if np.isnan(low) else f"{shown[0]} [{shown[1]}, {shown[2]}]"

    low, high = bounds or (f"{name}_low", f"{name}_high")
    return pd.Series([text(*row) for row in table[[name, low, high]].itertuples(index=False)], table.index)


def wide(
    table: pd.DataFrame, index: Sequence[str], columns: Sequence[str], value: str = "value", *, nothing: str
) -> pd.DataFrame:
    """Return a table to be shown: a row each `index`, a column each `columns`, and in it `value`, which occurs once.

    Numbers stand with their bounds `low` and `high`. Without rows the one cell that is shown says `nothing`.
    """
    if table.empty:
        return _says(nothing)
    numbers = pd.api.types.is_numeric_dtype(table[value])
    text = with_bounds(table, value, 1, ("low", "high")) if numbers else table[value]
    how: dict[str, Any] = {"values": value, "aggfunc": "first", "sort": False}
    return table.assign(**{value: text}).pivot_table(index=list(index), columns=list(columns), **how)


def with_intervals(
    table: pd.DataFrame, index: Sequence[str], columns: Sequence[str], values: Mapping[str, int], *, nothing: str
) -> pd.DataFrame:
    """Return a table to be shown: `index`, `columns` to two digits, and `values` (name and digits) with their bounds.

    Where the table has no rows, the one cell that is shown says `nothing`.
    """
    if table.empty:
        return _says(nothing)
    text = {name: with_bounds(table, name, digits) for name, digits in values.items()}
    return table.assign(**text).round(2).set_index(list(index))[[*columns, *values]]


def _says(nothing: str) -> pd.DataFrame:
    return pd.DataFrame({"result": [nothing]})


def spread(found: pd.DataFrame) -> pd.DataFrame:
    """Return how far each value moves: `lowest` and `highest` over all judges and thresholds, and their `range`.

    One row a model, method, setting, source and metric, in percent.
    """
    out = found.groupby(_ARM, sort=False)["value"].agg(lowest="min", highest="max").reset_index()
    return out.assign(range=out["highest"] - out["lowest"])


def rankings(found: pd.DataFrame, judge: str, threshold: int, source: str = ALL_SOURCES) -> pd.DataFrame:
    """Return the order of models under each judge and threshold, beside that of the main `judge` and `threshold`.

    One row a judge, threshold, method, setting and metric with two models or more: `ranking` (best first, equal ones
    joined by =), `tau` (Kendall's tau-b with the main ranking; NaN where either has ties only), `same_best`, and
    `same_order`. Values are compared as they are, without regard to their intervals.
    """
    rows = found[(found["source"] == source) & found["value"].notna()]
    main = rows[(rows["judge"] == judge) & (rows["threshold"] == threshold)]
    keys = ["method", "setting", "metric"]
    reference = {key: part.set_index("model")["value"] for key, part in main.groupby(keys, sort=False)}
    out = []
    for key, part in rows.groupby(["judge", "threshold", *keys], sort=False):
        values, before = part.set_index("model")["value"], reference.get(key[2:])
        if before is None or len(values) < 2 or set(values.index) != set(before.index):
            continue
        line = dict(zip(["judge", "threshold", *keys], key, strict=True)) | {"ranking": _order(values)}
        same = {"same_best": _best(values) == _best(before), "same_order": _order(values) == _order(before)}
        out.append(line | {"tau": _tau(values, before)} | same)
    return pd.DataFrame(out, columns=["judge", "threshold", *keys, "ranking", "tau", "same_best", "same_order"])


def same_as_main(orders: pd.DataFrame) -> pd.DataFrame:
    """Return for each metric, judge and threshold of `rankings` how the order compares with the main one.

    Columns: same_best, same_order (percent of the configurations), tau (mean).
    """
    found = orders.groupby(["metric", "judge", "threshold"], sort=False)[["same_best", "same_order", "tau"]].mean()
    found[["same_best", "same_order"]] *= 100
    return found.sort_index(level="metric", sort_remaining=False)


def in_words(found: pd.DataFrame, orders: pd.DataFrame, judge: str, threshold: int) -> str:
    """Return what thresholds move (of `by_judge`) and how often the best model stays (of `rankings`), as sentences.

    `judge` and `threshold` are the main ones.
    """
    ranges = spread(found[(found["judge"] == judge) & (found["source"] == ALL_SOURCES)])
    most = ranges.loc[ranges["metric"] == Metric.ALIGNMENT_FAILURE, "range"].max()
    moved = f"From threshold 2 to 4, alignment failure by {judge} moves by up to {most:.1f} points."
    others = orders[(orders["judge"] != judge) | (orders["threshold"] != threshold)]
    if others.empty:
        return f"{moved} With one model there is no ranking."
    same = f"{100 * others['same_best'].mean():.0f} % of the configurations"
    return f"{moved} With another judge or threshold the best model stays the same in {same}."


def _order(values: pd.Series) -> str:
    ordered = values.round(9).sort_values(kind="stable")
    parts = [str(ordered.index[0])]
    for (_, before), (model, value) in zip(ordered.iloc[:-1].items(), ordered.iloc[1:].items(), strict=True):
        parts += ["=" if value == before else "<", str(model)]
    return " ".join(parts)


def _best(values: pd.Series) -> set[str]:
    rounded = values.round(9)
    return set(rounded.index[rounded == rounded.min()])


def _tau(values: pd.Series, before: pd.Series) -> float:
    from scipy.stats import kendalltau  # noqa: PLC0415

    with np.errstate(invalid="ignore"):
        return float(kendalltau(values.round(9), before.loc[values.index].round(9)).statistic)
