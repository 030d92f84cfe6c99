"""How a table of numbers becomes a `Table`: rows, columns, bold values and what every caption must say.

Captions say what `n` is, who judged (where alignment is shown), that a world is invented, when more than 1 % of a
configuration's rows are unscored, and when the figures are the paper's printed ones. Used by
`rates`, `comparisons` and `summaries`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np
import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.run import Run
from perg_utils.core.schema import ALL_MODELS, ALL_SOURCES, BROKE_BY, JUDGED_METRICS, Metric, ordered
from perg_utils.reporting.tables.forms import Table
from perg_utils.scoring.comparisons import ON_ALL_QUESTIONS
from perg_utils.scoring.discrimination import LEAST_AUC, discrimination, weakest
from perg_utils.scoring.rates import redrawn

#: Above this share of unscored rows every table carries a warning.
WARN_ABOVE = 0.01

#: Below this many questions no value is called the best.
LEAST_FOR_BEST = 60

#: What metrics of which more is better are called.
_HIGHER = {metric.short for metric in Metric if metric.higher_is_better}
_ARM = ["model", "method", "setting", "source"]
_BOUNDS = ["value", "low", "high", "like_low", "like_high", "least", "most"]
_RAW = [*_ARM, "category", "metric", *_BOUNDS, "n", "n_unscored"]


def notes(run: Run) -> str:
    """Return what every table and figure must say of its run: invented world, redrawn, too many unscored rows.

    >>> perg.tables.notes(run)[:56]
    'Invented world: made-up facts stand in for the sources. '
    """
    metrics = run.read("metrics")
    said = ["Invented world: made-up facts stand in for the sources." if run.invented else ""]
    if redrawn(metrics):
        said.append("Redrawn from the paper's published figures; no intervals, no counts.")
    total = (metrics["n"] + metrics["n_unscored"]).astype(float)
    share = (metrics["n_unscored"] / total.where(total > 0)).astype(float).where(metrics["source"] == ALL_SOURCES)
    following = metrics["metric"] == Metric.ALIGNMENT_FAILURE
    if not redrawn(metrics) and following.any() and metrics.loc[following, "n"].sum() == 0:
        said.append("No rating is at hand: alignment failure and robustness error are empty.")
        share = share.mask(metrics["metric"].isin(JUDGED_METRICS) & (metrics["n"] == 0).fillna(False))
    if share.max() > WARN_ABOVE:
        worst = metrics.iloc[int(np.nanargmax(share.to_numpy()))]
        where = f"{worst['model']}, {worst['method']}, {worst['setting']}: {worst['metric']}"
        said.append(f"WARNING: up to {100 * share.max():.1f} % of a configuration's rows are unscored ({where}).")
    return " ".join(filter(None, said))


def judges_and_nulls(run: Run, resamples: int | None = None) -> pd.DataFrame:
    """Return `scoring.discrimination` of the run's judges; empty where no null was rated, as in a release.

    `resamples`: of the bootstrap, where only the values are wanted; None: the profile's.
    """
    try:
        nulls = run.read("nulls")
    except DataError:
        return pd.DataFrame()
    few = {} if resamples is None else {"resamples": resamples}
    config = run.profile.statistics.model_copy(update=few)
    own = run.profile
    return discrimination(nulls, run.read("preferences"), threshold=own.judge.threshold, config=config, seed=own.seed)


def weak_judge(run: Run) -> str:
    """Return the mark of a main judge that hardly tells what follows from what cannot; empty for any other."""
    found = judges_and_nulls(run, resamples=1)  # asked by every caption that rests on the judge
    auc = weakest(found).get(run.profile.judge.label) if len(found) else None
    if auc is None or auc >= LEAST_AUC:
        return ""
    return f" (WEAK: it rates a response that did not know the preference below one that did in {100 * auc:.0f} % only)"


def only(frame: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    """Return the rows of `frame` that have these values, e.g. `only(metrics, setting="mixed")`."""
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return frame


def as_listed(run: Run, name: str) -> pd.DataFrame:
    """Return a table of the run with its models in the order of `metrics`, so that every table lists them alike."""
    return ordered(run.read(name), ["model"], run.read("metrics")["model"].unique())


def grid_table(
    name: str,
    title: str,
    caption: str,
    run: Run,
    *,
    data: pd.DataFrame,
    index: list[str],
    across: list[str],
    within: list[str] | None = None,
    best: Callable[[float, float], float] = min,
    intervals: bool = True,
    wide: bool = False,
) -> Table | None:
    """Return a table with a row per `index` and a column per `across` (group and label, or label), best values bold.

    The best is found in each column, among the rows equal in `within`; `wide`: the interval for preferences like these
    stands behind the other. None where `data` is empty.
    """
    if data.empty:
        return None
    data = ordered(data, index)
    by_metric = "metric" in [*index, *across]
    grid = data.assign(metric=data["metric"].map(lambda m: Metric(m).short)) if by_metric else data
    heads = [grid[column] for column in across] if len(across) == 2 else [pd.Series("", grid.index), grid[across[0]]]
    grid = grid.assign(group=heads[0], label=heads[1])
    rows = pd.MultiIndex.from_frame(grid[index].drop_duplicates())
    columns = pd.MultiIndex.from_frame(grid.loc[ordered(data, across).index, ["group", "label"]].drop_duplicates())
    texts = _by_cause(with_bounds(grid, interval=intervals, wide=wide), data, run)
    shown = grid.assign(text=texts)
    # Ties are ties as printed, so the best is found among rounded values.
    enough = (grid["n"].isna() | (grid["n"] >= LEAST_FOR_BEST)).astype(bool)
    rounded = grid.assign(value=grid["value"].round(1).where(enough))
    value = _spread(rounded, index, "value", rows, columns).astype(float)
    groups = [rows.get_level_values(name) for name in within or []] or [pd.Index([0] * len(rows))]
    marks = pd.DataFrame({column: _best(value[column], groups, best) for column in columns}, index=rows)
    cells = _spread(shown, index, "text", rows, columns).fillna("–")
    labels = rows.to_frame(index=False).set_axis(pd.MultiIndex.from_product([[""], index]), axis=1)
    cells = pd.concat([labels, cells.reset_index(drop=True)], axis=1)
    bold = pd.concat([labels.map(lambda _: False), marks.reset_index(drop=True)], axis=1).astype(bool)
    kept = [c for c in data if c in _RAW or c in BROKE_BY.values()]
    size = f"{_size(data)}{bounds_note(data)}"
    if any(" = " in text for text in shown["text"]):
        size += " Breakage where not all is by a wrong option: = wrong option + named none + could not be read."
    return Table(name, title, _caption(caption, size, run, data), data[kept].reset_index(drop=True), cells, bold)


def _by_cause(texts: list[str], data: pd.DataFrame, run: Run) -> list[str]:
    """Texts of breakage with its parts behind them, e.g. `18.2 = 16.1 + 1.5 + 0.6`, where the last two are any."""
    causes, broke = [*map(str, BROKE_BY.values())], pd.Series(True, data.index)
    if set(causes) <= set(data):
        found = data[causes]
    elif "metric" in data and set(_ARM) <= set(data):
        every, broke = run.read("metrics"), data["metric"] == Metric.BREAKAGE_RATE
        parts = every[every["metric"].isin(causes)].pivot(index=_ARM, columns="metric", values="value").reset_index()
        found = data[_ARM].merge(parts, how="left", on=_ARM).reindex(columns=causes)
    else:
        return texts
    return [
        f"{text} = {' + '.join(number(part) for part in own)}" if one and own[1] + own[2] >= 0.05 else text
        for text, one, own in zip(texts, broke, found.itertuples(index=False, name=None), strict=True)
    ]


def comparison(
    name: str,
    title: str,
    caption: str,
    run: Run,
    *,
    found: pd.DataFrame,
    labels: list[str],
    by: str,
    beside: dict[str, list[str]] | None = None,
) -> Table | None:
    """Return a table of `scoring.comparisons.compare_family`: values, difference, what could be found, p values.

    `by` is what differs between the arms; `beside` are further columns of texts. None where no pair could be compared,
    as in a run without ratings.
    """
    if not (found["n"] > 0).any():
        return None
    shown = found[labels].astype(object)
    if "reference_model" in shown:
        foreign = shown.pop("reference_model")
        shown["model"] = [m if m == r else f"{m} (against {r})" for m, r in zip(shown["model"], foreign, strict=True)]
    shown["model"] = shown["model"].replace(ALL_MODELS, "all models")
    shown = shown.rename(columns={"reference_setting": "floor"})
    statistics = run.profile.statistics
    cells = shown.assign(
        before=[number(v) for v in found["reference_value"]],
        after=[number(v) for v in found["value"]],
        difference=with_bounds(found.assign(value=found["difference"]), "{:+.1f}"),
        joint=_range(found["joint_low"], found["joint_high"]),
        like=_range(found["like_low"], found["like_high"]),
        p=p_values(found["p"]),
        holm=p_values(found["p_holm"]),
        detectable=[number(v) for v in found["detectable"]],
        within=equivalent(found, statistics.confidence),
        n=found["n"],
    ).assign(**beside or {})
    heads = {
        "before": "floor's" if "reference_setting" in labels else found[f"reference_{by}"].iloc[0],
        "after": f"this {by}",
        "joint": "jointly",
        "like": "preferences like these",
        "holm": "p Holm",
        "within": f"within ±{statistics.margin:g}",
    }
    of = (
        found["family"].where(found["model"] == ALL_MODELS).max(),
        found["family"].where(found["model"] != ALL_MODELS).max(),
    )
    which = " and ".join(
        f"{k:.0f} {what}" for k, what in zip(of, ("pooled rows", "rows of single models"), strict=True) if k > 0
    )
    which = f"{which}, each by themselves" if " and " in which else which
    on = (
        "all questions" if Metric(found["metric"].iloc[0]) in ON_ALL_QUESTIONS else "questions right without preference"
    )
    size = (
        f"n: {on}, scored in both (all models: pairs of answers; a question is one unit). Difference in points with "
        f"its own {100 * statistics.confidence:g} % interval, which goes with p (exact; McNemar's for single models); "
        f"jointly: for all rows at once (Bonferroni), p Holm: corrected, over the {which}. preferences like these: by "
        "itself, for preferences drawn like those of the study; all else is for these preferences. detectable: the "
        f"smallest difference found in 80 % of such studies at the joint level; within: yes where the difference "
        "is shown to be that small (two one-sided tests, joint level)."
    )
    if run.profile.baseline == "own" or run.profile.data.origin == "published":
        size += " The arms have baselines of their own: a row holds the questions that are right in both."
    return plain_table(
        name, title, f"{caption} {size}{bounds_note(found)}", run, data=found, cells=cells.rename(columns=heads)
    )


def equivalent(found: pd.DataFrame, confidence: float) -> list[str]:
    """Return yes for each comparison that is shown to be within the margin, at the level that holds for all of them."""
    level = (1 - confidence) / found["family"].clip(lower=1)
    return [
        "–" if pd.isna(p) else "yes" if p < alpha else "no"
        for p, alpha in zip(found["p_equivalence"], level, strict=True)
    ]


def _range(low: pd.Series, high: pd.Series) -> list[str]:
    return ["–" if pd.isna(a) else f"[{a:+.1f}, {b:+.1f}]" for a, b in zip(low, high, strict=True)]


def plain_table(
    name: str, title: str, caption: str, run: Run, *, data: pd.DataFrame, cells: pd.DataFrame, judged: bool = False
) -> Table:
    """Return a table of ready texts, one header row, nothing bold; `judged`: it shows ratings."""
    cells = cells.reset_index(drop=True)
    cells = cells.set_axis(pd.MultiIndex.from_product([[""], cells.columns]), axis=1)
    bold = cells.map(lambda _: False).astype(bool)
    return Table(name, title, _caption(caption, "", run, data, judged), data.reset_index(drop=True), cells, bold)


def number(value: float, form: str = "{:.1f}", tiny: str | None = None) -> str:
    """Return `value` as text, e.g. `12.3`; a dash where there is none."""
    if pd.isna(value):
        return "–"
    return tiny if tiny is not None and value < 0.001 else form.format(value)


def p_values(values: Iterable[float]) -> list[str]:
    """Return p values as text, e.g. `0.031`, `<0.001`."""
    return [number(p, "{:.3f}", "<0.001") for p in values]


def with_interval(frame: pd.DataFrame, form: str = "{:.1f}") -> list[str]:
    """Return `value [low, high]` of every row, the value alone where it has no interval."""
    return [
        number(v, form) if pd.isna(v) or pd.isna(lo) else f"{form.format(v)} [{form.format(lo)}, {form.format(hi)}]"
        for v, lo, hi in zip(frame["value"], frame["low"], frame["high"], strict=True)
    ]


def with_bounds(frame: pd.DataFrame, form: str = "{:.1f}", interval: bool = True, wide: bool = False) -> list[str]:
    """Return the value of every row as `with_interval`, and behind it what the unscored rows could make of it.

    `wide`: between them, in curly brackets, the interval for preferences like these.
    """
    texts = with_interval(frame, form) if interval else [number(v, form) for v in frame["value"]]
    if wide:
        ends = zip(frame["like_low"], frame["like_high"], strict=True)
        told = ["" if pd.isna(low) else f" {{{form.format(low)}, {form.format(high)}}}" for low, high in ends]
        texts = [text + more for text, more in zip(texts, told, strict=True)]
    if "least" not in frame:
        return texts
    lost = (frame["n_unscored"] > 0).fillna(False) & frame["least"].notna() & frame["value"].notna()
    return [
        f"{text} ({form.format(least)} to {form.format(most)})" if some else text
        for text, some, least, most in zip(texts, lost, frame["least"], frame["most"], strict=True)
    ]


def bounds_note(data: pd.DataFrame) -> str:
    """Return what a caption says of the round brackets of `with_bounds`; empty where there are none."""
    value = next((data[name] for name in ("value", "net", "difference") if name in data), None)
    if "least" not in data or value is None:
        return ""
    if not ((data["n_unscored"] > 0).fillna(False) & data["least"].notna() & value.notna()).any():
        return ""
    return " In round brackets: the lowest and highest value that the unscored rows could make of it."


def _best(column: pd.Series, groups: list[pd.Index], best: Callable[[float, float], float]) -> pd.Series:
    by_group = column.groupby(groups)
    label = column.name[1]  # type: ignore[index]
    highest = best is max or label in _HIGHER or str(column.name[0]) in _HIGHER  # type: ignore[index]
    # One value alone is not the best of anything.
    return (column == by_group.transform("max" if highest else "min")) & (by_group.transform("count") > 1)


def _spread(
    grid: pd.DataFrame, index: list[str], values: str, rows: pd.MultiIndex, columns: pd.MultiIndex
) -> pd.DataFrame:
    wide = grid.set_index([*index, "group", "label"])[values].unstack(["group", "label"])
    if len(index) == 1:
        wide.index = pd.MultiIndex.from_arrays([wide.index], names=index)
    return wide.reindex(index=rows, columns=columns)


def _size(data: pd.DataFrame) -> str:
    if redrawn(data):
        return ""
    sizes = data["n"].dropna()
    sizes = sizes[sizes > 0]
    if sizes.empty:
        return "No scored rows."
    return f"n = {sizes.min():,} to {sizes.max():,} questions a value (with intervals in the CSV)."


def _caption(caption: str, size: str, run: Run, data: pd.DataFrame, judged: bool = False) -> str:
    judged = judged or ("metric" in data and bool(data["metric"].isin(JUDGED_METRICS).any()))
    judge = f"Judge: {run.profile.judge.label}{weak_judge(run)}." if judged else ""
    return " ".join(filter(None, [caption, size, judge, notes(run)]))
