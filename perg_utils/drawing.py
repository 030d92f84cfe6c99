"""The drawing behind the figures: one style, the looks of models, and the shapes that several figures share.

Made for one column of a paper (3.5 inches) and 1 to 14 models: heights grow with what is shown, margins are fixed
in inches, and labels stand where they cannot overlap. No global state: figures are plain `Figure` objects.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from .schema import Metric

WIDTH = 3.5  # inches: one column
#: Okabe and Ito's seven dark colours, then Tol's muted ones: distinct for colour-blind readers, with the markers.
PALETTE = [
    "#0072B2",
    "#D55E00",
    "#009E73",
    "#CC79A7",
    "#E69F00",
    "#56B4E9",
    "#000000",
    "#882255",
    "#117733",
    "#332288",
    "#999933",
    "#AA4499",
    "#44AA99",
    "#777777",
]
MARKERS = "osD^vPX<>*hpd8"
METRIC_NAMES = {
    Metric.BREAKAGE_RATE: "Breakage\n(BR)",
    Metric.ALIGNMENT_FAILURE: "Alignment\nfailure (AF)",
    Metric.ROBUSTNESS_ERROR: "Robustness\nerror (RE)",
}
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 7,
    "axes.titlesize": 7,
    "axes.labelsize": 7,
    "xtick.labelsize": 6.5,
    "ytick.labelsize": 6.5,
    "legend.fontsize": 6.5,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.6,
    "axes.axisbelow": True,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.5,
    "pdf.fonttype": 42,
    "figure.dpi": 200,
}


def looks(models: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return (colour, marker) of each model by its position, e.g. `{"S": ("#0072B2", "o")}`; repeats after 14."""
    return {m: (PALETTE[i % len(PALETTE)], MARKERS[i % len(MARKERS)]) for i, m in enumerate(dict.fromkeys(models))}


def canvas(
    height: float, invented: bool, *, judge: str = "", columns: int = 1, left: float = 0.14, right: float = 0.97
) -> tuple[Figure, list[Axes]]:
    """Return a figure of one column's width; margins above and below are fixed in inches, so that any height fits."""
    fig = Figure(figsize=(WIDTH, height))
    axes = fig.subplots(1, columns, sharey=True, squeeze=False)[0]
    fig.subplots_adjust(left=left, right=right, bottom=0.5 / height, top=1 - 0.3 / height, wspace=0.14)
    footer(fig, invented, judge)
    return fig, list(axes)


def footer(fig: Figure, invented: bool, judge: str = "") -> None:
    """Say in the corner that the world is invented, if it is, and who judged, where ratings are shown."""
    said = " · ".join(filter(None, ["invented world" if invented else "", f"judge: {judge}" if judge else ""]))
    if said:
        fig.text(0.99, 0.02 / fig.get_figheight(), said, ha="right", va="bottom", size=5.5, color="#666666")


def bars(
    data: pd.DataFrame, by: str, metrics: pd.DataFrame, *, invented: bool, judge: str
) -> tuple[Figure, pd.DataFrame]:
    """Return horizontal bars in one panel a metric; each bar carries its own label, so no legend is needed."""
    marks = looks(list(metrics["model"]))
    shown = [m for m in METRIC_NAMES if m in set(data["metric"])]
    rows = list(data[["model", by]].drop_duplicates().itertuples(index=False, name=None))
    # One line a bar and one for each model's name, which is the heading of its group.
    places, headings, y = {}, {}, 0.0
    for model in dict.fromkeys(model for model, _ in rows):
        headings[model] = y
        for value in [v for m, v in rows if m == model]:
            y += 1
            places[model, value] = y
        y += 1.3
    with rc_context(STYLE):
        height = 0.85 + (0.115 if y < 50 else 0.1) * y
        fig, panels = canvas(height, invented, judge=judge, columns=max(len(shown), 1), left=0.215)
        for axes, metric in zip(panels, shown, strict=False):
            own = data[(data["metric"] == metric) & data["value"].notna()]
            at = [places[row] for row in own[["model", by]].itertuples(index=False, name=None)]
            axes.barh(
                at,
                own["value"],
                0.8,
                color=[marks[m][0] for m in own["model"]],
                xerr=interval_arms(own),
                error_kw={"elinewidth": 0.6, "ecolor": "#333333"},
            )
            axes.set_title(METRIC_NAMES[metric], pad=3)
            axes.set_xlim(0, axis_end(own))
            axes.xaxis.set_major_locator(ticks(3))
            axes.grid(True, axis="x")
            axes.tick_params(axis="y", length=0)
        panels[0].set_yticks(list(places.values()), [value for _, value in places], size=6)
        for model, line in headings.items():
            panels[0].annotate(
                model,
                (0, line),
                xycoords=("figure fraction", "data"),
                xytext=(3, 0),
                textcoords="offset points",
                va="center",
                size=6.5,
                weight="bold",
                color=marks[model][0],
                annotation_clip=False,
                bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4},
            )
        panels[0].set_ylim(y - 0.3, -0.8)
        fig.supxlabel("percent", y=0.16 / fig.get_figheight(), size=7, va="bottom")
    return fig, data


def dumbbell(
    before: pd.DataFrame,
    after: pd.DataFrame,
    labels: tuple[str, str],
    metrics: pd.DataFrame,
    *,
    invented: bool,
    judge: str = "",
) -> tuple[Figure, pd.DataFrame]:
    """Return a dumbbell chart: hollow before, filled after; one line a model, one panel a metric."""
    marks = looks(list(metrics["model"]))
    both = set(before["model"]) & set(after["model"])
    models = [m for m in marks if m in both]
    data = pd.concat([before.assign(shown=labels[0]), after.assign(shown=labels[1])], ignore_index=True)
    data = data[data["model"].isin(models)].reset_index(drop=True)
    shown = list(dict.fromkeys(data["metric"]))
    longest = max([len(m) for m in models], default=1)
    with rc_context(STYLE):
        left = min(0.34, 0.06 + 0.0155 * longest)
        fig, panels = canvas(1.0 + 0.24 * len(models), invented, judge=judge, columns=max(len(shown), 1), left=left)
        for axes, metric in zip(panels, shown, strict=False):
            own = data[data["metric"] == metric]
            for y, model in enumerate(models):
                colour, marker = marks[model]
                pair = [own[(own["model"] == model) & (own["shown"] == label)].iloc[0] for label in labels]
                axes.plot([p["value"] for p in pair], [y, y], color=colour, lw=1.2, zorder=2)
                for point, shift, face in zip(pair, (-0.17, 0.17), ("white", colour), strict=True):
                    axes.plot([point["low"], point["high"]], [y + shift] * 2, color=colour, lw=0.6, alpha=0.7, zorder=1)
                    axes.plot(point["value"], y, marker, ms=4.5, mfc=face, mec=colour, mew=1, zorder=3, clip_on=False)
            axes.set_title(
                METRIC_NAMES.get(metric, "Accuracy")
                if len(shown) > 1
                else METRIC_NAMES.get(metric, "Accuracy").replace("\n", " "),
                pad=3,
            )
            if metric == "accuracy":
                axes.set_xlim(np.floor(own["low"].min() / 10) * 10, 100)
            else:
                axes.set_xlim(0, axis_end(own))
            axes.xaxis.set_major_locator(ticks(3 if len(shown) > 1 else 6))
            axes.grid(True, axis="x")
            axes.tick_params(axis="y", length=0)
        panels[0].set_yticks(range(len(models)), models)
        panels[0].set_ylim(max(len(models), 1) - 0.5, -0.5)
        fig.text(
            0.5,
            0.13 / fig.get_figheight(),
            f"hollow: {labels[0]}   filled: {labels[1]}   thin line: interval   (percent)",
            ha="center",
            va="bottom",
            size=6,
        )
    return fig, data


def label_at_right(axes: Axes, points: Sequence[tuple[float, float, str]]) -> None:
    """Put labels in a column right of the plot, evenly spread and joined to their points: they cannot overlap."""
    ordered = sorted(points, key=lambda p: p[1])
    low, high = axes.get_ylim()
    lines = (axes.figure.get_figheight() - 0.8) / 0.12  # type: ignore[union-attr]
    room = (high - low) / max(lines, len(ordered))
    heights: list[float] = []
    for _, y, _ in ordered:
        heights.append(max(y, heights[-1] + room) if heights else max(y, low))
    overflow = max(0.0, heights[-1] - high) if heights else 0.0
    # Pushed up past the top: bring the column down again, as tight as it must be.
    limit = [high - room * (len(ordered) - 1 - i) for i in range(len(ordered))]
    heights = [min(h, top) if overflow else h for h, top in zip(heights, limit, strict=True)]
    for (x, y, text), height in zip(ordered, heights, strict=True):
        axes.annotate(
            text,
            (x, y),
            xytext=(1.05, height),
            textcoords=("axes fraction", "data"),
            size=6,
            va="center",
            arrowprops={"arrowstyle": "-", "lw": 0.5, "ls": ":", "color": "#555555", "shrinkB": 3, "relpos": (0, 0.5)},
            annotation_clip=False,
        )


def colour_scale(values: pd.Series) -> Callable[[float], Any]:
    """Return the colour for a value: cividis, readable by colour-blind people and in grey."""
    low, high = values.min(), values.max()
    norm = Normalize(low - 1, high + 1) if high - low < 2 else Normalize(low, high)
    return lambda value: colormaps["cividis_r"](norm(value))


def interval_arms(frame: pd.DataFrame | pd.Series) -> np.ndarray:
    """Return the lengths of interval arms below and above the value, as matplotlib wants them."""
    value, low, high = (np.atleast_1d(np.asarray(frame[c], dtype=float)) for c in ("value", "low", "high"))
    return np.maximum(np.vstack([value - low, high - value]), 0)


def axis_end(frame: pd.DataFrame) -> float:
    """Return the upper end of a percent axis: past the largest interval, at most 100."""
    highest = frame["high"].max()
    return 100.0 if pd.isna(highest) else float(min(100.0, max(5.0, 1.05 * highest)))


def ticks(count: int) -> MaxNLocator:
    """Return a locator of about `count` round numbers."""
    return MaxNLocator(count, steps=[1, 2, 5, 10])
