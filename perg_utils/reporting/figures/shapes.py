"""The shapes that several figures share: bars in groups, a bar a model, dots with intervals, dumbbells.

Each takes the rows to draw and the `looks` of the models, and returns a figure of one column's width. An interval
is drawn where the row has one. Left out: what to draw, which is the business of `paper`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke

from perg_utils.core.schema import Metric
from perg_utils.reporting.figures.drawing import (
    FAILURES,
    STYLE,
    TALLEST,
    axis_end,
    canvas,
    drawn_with_intervals,
    interval_arms,
    model_heading,
    names_room,
    ticks,
)

Looks = Mapping[str, tuple[str, str]]


class Panel(NamedTuple):
    """One panel of dots: its title, and the columns of the value and of the ends of its interval."""

    title: str
    value: str
    low: str
    high: str


def bars(data: pd.DataFrame, by: str, marks: Looks, group: str = "model") -> Figure:
    """Return horizontal bars, one panel a metric; each bar carries the value of `by`, each group its heading.

    Bars are as thick as the height of a column allows: 14 models with five methods fit.
    """
    data = data[data["value"].notna()]
    shown = [m for m in FAILURES if m in set(data["metric"])]
    rows = list(data[[group, by]].drop_duplicates().itertuples(index=False, name=None))
    places, headings, lines = _places(rows)
    step = min(0.115, (TALLEST - 0.85) / lines)
    with rc_context(STYLE):
        left, right = max(0.215, names_room(headings)), 0.97
        fig, panels = canvas(0.85 + step * lines, columns=max(len(shown), 1), left=left, right=right)
        for axes, metric in zip(panels, shown, strict=False):
            own = data[data["metric"] == metric]
            _bars(axes, [places[row] for row in own[[group, by]].itertuples(index=False, name=None)], own, marks)
            axes.set_title(_title(metric, len(shown)), pad=3)
            axes.set_xlim(0, axis_end(own))
            _tidy(axes, len(shown))
        panels[0].set_yticks(list(places.values()), [value for _, value in places], size=min(6, 62 * step))
        for heading, line in headings.items():
            colour = marks[heading][0] if group == "model" else "black"
            model_heading(panels[0], heading, line, colour, min(6.5, 66 * step))
        panels[0].set_ylim(lines - 0.2, -0.8)
        fig.text((left + right) / 2, 0.16 / fig.get_figheight(), "percent", size=7, ha="center", va="bottom")
    return fig


def bar_each(data: pd.DataFrame, marks: Looks, label: str) -> Figure:
    """Return one horizontal bar a model with its value written behind it."""
    models = list(data["model"])
    with rc_context(STYLE):
        fig, (axes,) = canvas(0.75 + 0.17 * max(len(models), 1), left=names_room(models), right=0.9)
        _bars(axes, range(len(models)), data, marks)
        ends = data[["value", "high"]].max(axis=1)
        for y, (end, value) in enumerate(zip(ends, data["value"], strict=True)):
            axes.annotate(f"{value:.1f}", (end, y), xytext=(3, 0), textcoords="offset points", va="center", size=6)
        axes.set_xlim(0, axis_end(data))
        axes.set_xlabel(label)
        _tidy(axes, 1)
        _name_rows(axes, models)
    return fig


def dots(
    data: pd.DataFrame,
    marks: Looks,
    panels: Sequence[Panel],
    label: str = "",
    texts: Mapping[str, Sequence[str]] | None = None,
) -> Figure:
    """Return one row a model and one panel a quantity, dots with intervals; `texts` are columns of words behind."""
    models, texts = list(data["model"]), texts or {}
    widest = {head: max(map(len, [*head.split("\n"), *words]), default=1) for head, words in texts.items()}
    with rc_context(STYLE):
        left, right = names_room(models), 0.97 - sum(0.0145 * w + 0.02 for w in widest.values())
        fig, drawn = canvas(0.95 + 0.17 * max(len(models), 1), columns=len(panels), left=left, right=right)
        for axes, panel in zip(drawn, panels, strict=True):
            columns = {panel.value: "value", panel.low: "low", panel.high: "high"}
            own = data[["model", *columns]].rename(columns=columns)
            for y, (_, row) in enumerate(own.iterrows()):
                colour, marker = marks[row["model"]]
                axes.errorbar(
                    row["value"], y, xerr=interval_arms(row), fmt=marker, color=colour, ms=4, elinewidth=0.9, zorder=3
                )
            axes.axvline(0, color="black", lw=0.6, zorder=1)
            axes.set_title(panel.title, pad=3)
            _around_zero(axes, own)
            _tidy(axes, len(panels))
        _name_rows(drawn[0], models)
        at = right + 0.02
        for head, words in texts.items():
            at += 0.0145 * widest[head]
            for y, word in enumerate(words):
                drawn[-1].annotate(word, (at, y), xycoords=("figure fraction", "data"), ha="right", va="center", size=6)
            drawn[-1].annotate(
                head,
                (at, 1),
                xycoords=("figure fraction", "axes fraction"),
                xytext=(0, 3),
                textcoords="offset points",
                ha="right",
                va="bottom",
                size=6,
                color="#444444",
            )
            at += 0.02
        fig.text((left + right) / 2, 0.16 / fig.get_figheight(), label, size=7, ha="center", va="bottom")
    return fig


def dumbbell(
    before: pd.DataFrame, after: pd.DataFrame, labels: tuple[str, str], marks: Looks
) -> tuple[Figure, pd.DataFrame]:
    """Return hollow before, filled after, one line a model, one panel a metric; and the rows that it shows."""
    both = set(before.dropna(subset="value")["model"]) & set(after.dropna(subset="value")["model"])
    models = [m for m in marks if m in both]
    data = pd.concat([before.assign(shown=labels[0]), after.assign(shown=labels[1])], ignore_index=True)
    data = data[data["model"].isin(models)].reset_index(drop=True)
    known = dict.fromkeys(data.loc[data["value"].notna(), "metric"])
    shown = [m for m in FAILURES if m in known] or list(known)
    with rc_context(STYLE):
        fig, panels = canvas(1.0 + 0.24 * len(models), columns=max(len(shown), 1), left=names_room(models))
        for axes, metric in zip(panels, shown, strict=False):
            own = data[data["metric"] == metric]
            for y, model in enumerate(models):
                _pair(axes, y, own[own["model"] == model], labels, marks[model])
            axes.set_title(_title(metric, len(shown)), pad=3)
            axes.set_xlim(0, axis_end(own))
            if metric == "accuracy":
                axes.set_xlim(np.floor(own[["value", "low"]].min().min() / 10) * 10, 100)
            _tidy(axes, len(shown))
        _name_rows(panels[0], models)
        interval = "   thin line: interval" if drawn_with_intervals(data) else ""
        key = f"hollow: {labels[0]}   filled: {labels[1]}{interval}   (percent)"
        fig.text(0.5, 0.13 / fig.get_figheight(), key, ha="center", va="bottom", size=6)
    return fig, data


def _bars(axes: Axes, at: Sequence[float], own: pd.DataFrame, marks: Looks) -> None:
    drawn = axes.barh(
        at,
        own["value"],
        0.8,
        color=[marks[m][0] for m in own["model"]],
        xerr=interval_arms(own),
        error_kw={"elinewidth": 0.6, "ecolor": "#222222"},
    )
    for arms in drawn.errorbar.lines[2] if drawn.errorbar else ():
        # A pale edge, so that the lower arm is seen on a dark bar.
        arms.set_path_effects([withStroke(linewidth=1.4, foreground="#FFFFFFB0")])


def _pair(axes: Axes, y: int, rows: pd.DataFrame, labels: tuple[str, str], look: tuple[str, str]) -> None:
    colour, marker = look
    points = [rows[rows["shown"] == label].iloc[0] for label in labels]
    axes.plot([p["value"] for p in points], [y, y], color=colour, lw=1.2, zorder=2)
    for point, shift, face in zip(points, (-0.17, 0.17), ("white", colour), strict=True):
        axes.plot([point["low"], point["high"]], [y + shift] * 2, color=colour, lw=0.6, alpha=0.7, zorder=1)
        axes.plot(point["value"], y, marker, ms=4.5, mfc=face, mec=colour, mew=1, zorder=3, clip_on=False)


def _places(rows: Sequence[tuple[str, str]]) -> tuple[dict[tuple[str, str], float], dict[str, float], float]:
    """Where each (group, label) and each group's heading goes, in lines, and how many lines there are."""
    places: dict[tuple[str, str], float] = {}
    headings: dict[str, float] = {}
    groups = list(dict.fromkeys(group for group, _ in rows))
    gap = 1.3 if len(groups) < 8 else 1.15
    line = 0.0
    for group in groups:
        headings[group] = line
        for value in [v for g, v in rows if g == group]:
            line += 1
            places[group, value] = line
        line += gap
    return places, headings, max(line - gap + 1, 1)


def _title(metric: str, panels: int) -> str:
    name = Metric(metric).heading if metric in FAILURES else "Accuracy"
    return name.replace(" ", "\n", 1) if panels > 1 else name


def _name_rows(axes: Axes, models: Sequence[str]) -> None:
    axes.set_yticks(range(len(models)), models)
    axes.set_ylim(max(len(models), 1) - 0.5, -0.5)


def _tidy(axes: Axes, panels: int) -> None:
    axes.xaxis.set_major_locator(ticks(3 if panels > 1 else 6))
    axes.grid(True, axis="x")
    axes.tick_params(axis="y", length=0)


def _around_zero(axes: Axes, own: pd.DataFrame) -> None:
    """An axis that holds zero and every interval, at least four points wide, so that chance is not blown up."""
    spans = own[["value", "low", "high"]]
    low, high = min(0.0, float(spans.min().min())), max(0.0, float(spans.max().max()))
    pad = 0.06 * (high - low)
    low, high = (low - pad if low < 0 else 0.0), (high + pad if high > 0 else 0.0)
    if high - low < 4:
        low, high = (low - 2 if low < 0 else low), high + 2
    axes.set_xlim(low, high)
