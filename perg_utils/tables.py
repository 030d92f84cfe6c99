"""The paper's tables, for any run (room `table_forms` writes them as CSV, Markdown, LaTeX and HTML).

Rendering only: everything is read from the tables `metrics` and `scores`. A builder returns a `Table`, or None
where the run holds nothing to show. Best values (lowest, for accuracy highest) are bold, ties included. Captions
say what `n` is, who judged (where alignment is shown), that a world is invented, and when more than 1 % of a
configuration's rows are unscored.
Left out: the summaries of extraction and judging.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd

from .judging import judge_label
from .metrics import by_category
from .profile import Profile
from .schema import ALL_SOURCES, Method, Metric, Setting, Source
from .statistics import against_method, against_setting, compare, paired_bootstrap, stand_ins
from .table_forms import Table

SHORT = {
    Metric.BREAKAGE_RATE: "BR",
    Metric.ALIGNMENT_FAILURE: "AF",
    Metric.ROBUSTNESS_ERROR: "RE",
    Metric.PERFORMANCE_VARIATION: "PV",
    Metric.DELIVERY_FAILURE: "delivery failure",
    Metric.ACCURACY_WITHOUT: "accuracy without",
    Metric.ACCURACY_WITH: "accuracy with",
}
PAPER_METRICS = [
    Metric.BREAKAGE_RATE,
    Metric.ALIGNMENT_FAILURE,
    Metric.ROBUSTNESS_ERROR,
    Metric.PERFORMANCE_VARIATION,
]
#: Metrics that rest on the judge's ratings.
JUDGED = {Metric.ALIGNMENT_FAILURE, Metric.ROBUSTNESS_ERROR}
#: Below this count before, a relative change says nothing: 1 -> 11 would be +1000 %.
LEAST_FOR_RELATIVE = 5
#: Above this share of unscored rows every table carries a warning.
WARN_ABOVE = 0.01
_ZERO_SHOT: dict[str, str] = {"method": Method.ZERO_SHOT, "setting": Setting.RELEVANT}


def main_table(metrics: pd.DataFrame, profile: Profile) -> Table | None:
    """Return models x sources x the four metrics, zero-shot with one relevant preference (paper, table 2)."""
    data = _only(metrics, **_ZERO_SHOT)
    data = data[data["metric"].isin(PAPER_METRICS)]
    grid = data.assign(group=data["source"], label=data["metric"].map(SHORT))
    caption = "zero_shot with one relevant preference, in percent, lower is better; intervals are in the CSV."
    return _table(
        "main", "Models by source", caption, (metrics, profile), data=data, grid=grid, index=["model"], intervals=False
    )


def method_table(metrics: pd.DataFrame, profile: Profile) -> Table | None:
    """Return every method of every model with one relevant preference, all sources pooled; best within a model."""
    shown = [*PAPER_METRICS, Metric.DELIVERY_FAILURE, Metric.ACCURACY_WITH]
    data = _only(metrics, setting=Setting.RELEVANT, source=ALL_SOURCES)
    data = data[data["metric"].isin(shown)]
    grid = data.assign(group="", label=data["metric"].map(SHORT))
    caption = "One relevant preference, all sources, in percent; bold: best method of a model."
    return _table(
        "methods",
        "Methods",
        caption,
        (metrics, profile),
        data=data,
        grid=grid,
        index=["model", "method"],
        within=["model"],
    )


def setting_table(metrics: pd.DataFrame, profile: Profile) -> Table | None:
    """Return breakage and robustness error by setting, for methods that were run in two settings or more."""
    shown = [Metric.BREAKAGE_RATE, Metric.ROBUSTNESS_ERROR]
    data = _only(metrics, source=ALL_SOURCES)
    data = data[data["metric"].isin(shown)]
    # Where no relevant preference is shown RE is BR: one column says it.
    data = data[(data["metric"] == shown[0]) | data["setting"].isin([Setting.RELEVANT, Setting.MIXED])]
    data = data[data.groupby(["model", "method"])["setting"].transform("nunique") > 1]
    grid = data.assign(group=data["metric"].map(SHORT), label=data["setting"])
    grid = grid.sort_values("metric", key=lambda c: c.map(list(Metric).index), kind="stable")
    caption = "All sources, in percent, lower is better; without a relevant preference RE equals BR."
    return _table(
        "settings",
        "Settings",
        caption,
        (metrics, profile),
        data=data,
        grid=grid,
        index=["model", "method"],
        within=["model"],
    )


def accuracy_table(metrics: pd.DataFrame, profile: Profile) -> Table | None:
    """Return accuracy without preference and with one relevant preference (zero-shot), by source."""
    data = pd.concat(
        [
            _only(metrics, method=Method.NO_PREFERENCE, metric=Metric.ACCURACY_WITHOUT),
            _only(metrics, metric=Metric.ACCURACY_WITH, **_ZERO_SHOT),
        ]
    )
    grid = data.assign(group=data["metric"].map(SHORT), label=data["source"])
    caption = "no_preference against zero_shot with one relevant preference, in percent."
    return _table("accuracy", "Accuracy", caption, (metrics, profile), data=data, grid=grid, index=["model"], best=max)


def delivery_table(metrics: pd.DataFrame, scores: pd.DataFrame, profile: Profile) -> Table | None:
    """Return how many answers name no option, without and with preference on the same questions, and the difference.

    A relative change stands beside it where at least `LEAST_FOR_RELATIVE` answers named none before.
    """
    shown = scores[scores["sampled"].fillna(False) & (scores["setting"] != Setting.NONE)]
    if shown.empty:
        return None
    keys = ["model", "method", "setting"]
    rows = {key: _undelivered(own, profile) for key, own in shown.groupby(keys, sort=False)}
    order = _only(metrics, metric=Metric.DELIVERY_FAILURE, source=ALL_SOURCES)[keys].itertuples(index=False, name=None)
    raw = pd.DataFrame([dict(zip(keys, key, strict=True)) | rows[key] for key in order if key in rows])
    cells = raw[keys].astype(object)
    for arm in ("without", "with"):
        shares = zip(raw[f"failed_{arm}"], raw[arm], strict=True)
        cells[arm] = [f"{count} ({_number(share)} %)" for count, share in shares]
    cells["difference"] = _with_interval(raw.assign(value=raw["difference"]), "{:+.1f}")
    cells["relative change"] = [_number(v, "{:+.0f} %") for v in raw["relative_change"]]
    cells["n"] = raw["n"]
    caption = (
        "Answers that name no option, without and with preference: counts and percent of the same n questions. "
        "Difference in points with paired bootstrap interval; relative change only where the count without "
        f"preference is {LEAST_FOR_RELATIVE} or more."
    )
    return _plain("delivery", "Delivery failure", caption, (metrics, profile), data=raw, cells=cells)


def _undelivered(rows: pd.DataFrame, profile: Profile) -> dict[str, float]:
    """Counts and shares (percent) of rows that name no option, over the questions with a response in both arms."""
    both = rows[["delivered_without", "delivered_with"]].dropna()
    before, after = (~both[name].to_numpy(dtype=bool) for name in both)
    n, share = len(both), 100 / len(both) if len(both) else np.nan
    worse, better = int((after & ~before).sum()), int((before & ~after).sum())
    config, rng = profile.statistics, np.random.default_rng(profile.seed)
    low, high = paired_bootstrap(worse, better, n, rng, confidence=config.confidence, resamples=config.resamples)
    failed = int(before.sum())
    relative = 100 * (worse - better) / failed if failed >= LEAST_FOR_RELATIVE else np.nan
    return {
        **{"failed_without": failed, "failed_with": int(after.sum())},
        **{"without": failed * share, "with": after.sum() * share, "difference": (worse - better) * share},
        **{"low": 100 * low, "high": 100 * high, "relative_change": relative},
        **{"worse": worse, "better": better, "n": n, "n_unscored": len(rows) - n},
    }


def aligner_table(metrics: pd.DataFrame, scores: pd.DataFrame, profile: Profile) -> Table | None:
    """Return robustness error of zero-shot against Pref-Aligner with the paired difference (paper, table 5)."""
    pairs = [pair for pair in against_method(scores, stand_ins(profile)) if pair[1].method == Method.PREF_ALIGNER]
    found = compare(scores, pairs, Metric.ROBUSTNESS_ERROR, profile.statistics, profile.seed)
    caption = "Robustness error on the same questions, in percent; below zero: Pref-Aligner is better."
    columns = ["model", "setting", "reference_model"]
    return _comparison(
        "pref_aligner", "Zero-shot against Pref-Aligner", caption, (metrics, profile), found=found, labels=columns
    )


def method_comparison_table(metrics: pd.DataFrame, scores: pd.DataFrame, profile: Profile) -> Table | None:
    """Return robustness error of the other methods against zero-shot on the same questions (Pref-Aligner: its own)."""
    others = [pair for pair in against_method(scores, stand_ins(profile)) if pair[1].method != Method.PREF_ALIGNER]
    found = compare(scores, others, Metric.ROBUSTNESS_ERROR, profile.statistics, profile.seed)
    caption = "Robustness error of each method minus that of zero_shot on the same questions, in points."
    columns = ["model", "method", "setting"]
    return _comparison(
        "method_comparisons", "Methods against zero-shot", caption, (metrics, profile), found=found, labels=columns
    )


def placebo_table(metrics: pd.DataFrame, scores: pd.DataFrame, profile: Profile) -> Table | None:
    """Return breakage by a preference against breakage by a neutral sentence in its place (not in the paper)."""
    pairs = [p for p in against_setting(scores, Setting.PLACEBO) if p[1].method == Method.ZERO_SHOT]
    found = compare(scores, pairs, Metric.BREAKAGE_RATE, profile.statistics, profile.seed)
    caption = "Breakage in each setting against the placebo setting (a neutral sentence instead of a preference)."
    columns = ["model", "setting"]
    return _comparison(
        "placebo", "Preference against placebo", caption, (metrics, profile), found=found, labels=columns
    )


def category_table(metrics: pd.DataFrame, scores: pd.DataFrame, profile: Profile) -> Table | None:
    """Return breakage by category of the preference, for each model and source (zero-shot, relevant)."""
    data = by_category(scores, profile.statistics)
    data = data.sort_values("source", key=lambda c: c.map([*Source, ALL_SOURCES].index), kind="stable")
    grid = data.assign(group="", label=data["category"])
    caption = "Breakage rate by category of the preference, zero_shot, in percent."
    return _table(
        "categories",
        "Categories of preferences",
        caption,
        (metrics, profile),
        data=data,
        grid=grid,
        index=["source", "model"],
        within=["source"],
    )


def all_tables(metrics: pd.DataFrame, scores: pd.DataFrame, profile: Profile) -> list[Table]:
    """Return every table for which the run has data, in the order of the report."""
    simple: list[Callable[[pd.DataFrame, Profile], Table | None]] = [main_table, method_table, setting_table]
    paired = [aligner_table, placebo_table, method_comparison_table]
    made = [
        *(build(metrics, profile) for build in simple),
        *(build(metrics, scores, profile) for build in paired),
        category_table(metrics, scores, profile),
        accuracy_table(metrics, profile),
        delivery_table(metrics, scores, profile),
    ]
    return [table for table in made if table is not None]


def notes(metrics: pd.DataFrame, profile: Profile) -> str:
    """Return what every table and figure must say of its run: an invented world, too many unscored rows."""
    said = ["Invented world: made-up facts stand in for the sources." if profile.world == "invented" else ""]
    total = (metrics["n"] + metrics["n_unscored"]).astype(float)
    share = (metrics["n_unscored"] / total.where(total > 0)).astype(float).where(metrics["source"] == ALL_SOURCES)
    if share.max() > WARN_ABOVE:
        worst = metrics.iloc[int(np.nanargmax(share.to_numpy()))]
        where = f"{worst['model']}, {worst['method']}, {worst['setting']}: {worst['metric']}"
        said.append(f"WARNING: up to {100 * share.max():.1f} % of a configuration's rows are unscored ({where}).")
    return " ".join(filter(None, said))


# --- layout ---------------------------------------------------------------------------------------------------------


def _only(frame: pd.DataFrame, **wanted: str) -> pd.DataFrame:
    for column, value in wanted.items():
        frame = frame[frame[column] == value]
    return frame


def _table(
    name: str,
    title: str,
    caption: str,
    run: tuple[pd.DataFrame, Profile],
    *,
    data: pd.DataFrame,
    grid: pd.DataFrame,
    index: list[str],
    within: list[str] | None = None,
    best: Callable[[float, float], float] = min,
    intervals: bool = True,
) -> Table | None:
    """A table with one row per `index` and one column per (group, label) of `grid`, best values marked."""
    if data.empty:
        return None
    columns = pd.MultiIndex.from_frame(grid[["group", "label"]].drop_duplicates())
    rows = pd.MultiIndex.from_frame(grid[index].drop_duplicates())
    shown = grid.assign(text=_with_interval(grid) if intervals else [_number(v) for v in grid["value"]])
    # Ties are ties as printed, so the best is found among rounded values.
    value = _spread(shown.assign(value=shown["value"].round(1)), index, "value", rows, columns).astype(float)
    goal = pd.DataFrame(
        {c: "max" if best is max or str(c[1]).startswith("accuracy") else "min" for c in columns}, index=[0]
    )
    groups = [rows.get_level_values(name) for name in within or []] or [pd.Index([0] * len(rows))]
    by_group = {c: value[c].groupby(groups) for c in columns}
    # One value alone is not the best of anything.
    marks = pd.DataFrame(
        {c: (value[c] == g.transform(goal[c][0])) & (g.transform("count") > 1) for c, g in by_group.items()}, index=rows
    )
    cells = _spread(shown, index, "text", rows, columns).fillna("–")
    labels = rows.to_frame(index=False).set_axis(pd.MultiIndex.from_product([[""], index]), axis=1)
    cells = pd.concat([labels, cells.reset_index(drop=True)], axis=1)
    bold = pd.concat([labels.map(lambda _: False), marks.reset_index(drop=True)], axis=1).astype(bool)
    sizes = data.loc[data["n"] > 0, "n"]
    size = (
        f"n = {sizes.min():,} to {sizes.max():,} questions a value (in the CSV)." if len(sizes) else "No scored rows."
    )
    kept = [c for c in data if c in _RAW]
    return Table(name, title, _caption(caption, size, run, data), data[kept].reset_index(drop=True), cells, bold)


_RAW = ["model", "method", "setting", "source", "category", "metric", "value", "low", "high", "n", "n_unscored"]


def _spread(
    grid: pd.DataFrame, index: list[str], values: str, rows: pd.MultiIndex, columns: pd.MultiIndex
) -> pd.DataFrame:
    wide = grid.set_index([*index, "group", "label"])[values].unstack(["group", "label"])
    if len(index) == 1:
        wide.index = pd.MultiIndex.from_arrays([wide.index], names=index)
    return wide.reindex(index=rows, columns=columns)


def _comparison(
    name: str, title: str, caption: str, run: tuple[pd.DataFrame, Profile], *, found: pd.DataFrame, labels: list[str]
) -> Table | None:
    if found.empty:
        return None
    shown = found[labels].astype(object)
    if "reference_model" in shown:
        foreign = shown.pop("reference_model")
        shown["model"] = [m if m == r else f"{m} (against {r})" for m, r in zip(shown["model"], foreign, strict=True)]
    difference = found.assign(value=found["difference"])
    cells = shown.assign(
        before=[_number(v) for v in found["reference_value"]],
        after=[_number(v) for v in found["value"]],
        difference=_with_interval(difference, "{:+.1f}"),
        p=[_number(p, "{:.3f}", "<0.001") for p in found["p_holm"]],
        n=found["n"],
    )
    by = "setting" if name == "placebo" else "method"
    heads = {"before": found[f"reference_{by}"].iloc[0], "after": f"this {by}"}
    size = (
        "n: questions right without preference and scored in both. "
        "Difference with bootstrap interval; exact McNemar p, Holm-corrected over this table."
    )
    cells = cells.rename(columns=heads)
    return _plain(name, title, f"{caption} {size}", run, data=found, cells=cells)


def _plain(
    name: str, title: str, caption: str, run: tuple[pd.DataFrame, Profile], *, data: pd.DataFrame, cells: pd.DataFrame
) -> Table:
    cells = cells.reset_index(drop=True)
    cells = cells.set_axis(pd.MultiIndex.from_product([[""], cells.columns]), axis=1)
    bold = cells.map(lambda _: False)
    return Table(name, title, _caption(caption, "", run, data), data.reset_index(drop=True), cells, bold)


def _caption(caption: str, size: str, run: tuple[pd.DataFrame, Profile], data: pd.DataFrame) -> str:
    judged = "metric" in data and data["metric"].isin(JUDGED).any()
    judge = f"Judge: {judge_label(run[1])}." if judged else ""
    return " ".join(filter(None, [caption, size, judge, notes(*run)]))


def _number(value: float, form: str = "{:.1f}", tiny: str | None = None) -> str:
    if pd.isna(value):
        return "–"
    return tiny if tiny is not None and value < 0.001 else form.format(value)


def _with_interval(frame: pd.DataFrame, form: str = "{:.1f}") -> list[str]:
    shown = zip(frame["value"], frame["low"], frame["high"], strict=True)
    return ["–" if pd.isna(v) else f"{form.format(v)} [{form.format(lo)}, {form.format(hi)}]" for v, lo, hi in shown]
