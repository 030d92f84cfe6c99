"""The drawing behind the figures: one style, the looks of models, axes, labels and colours.

Made for one column of a paper (3.5 inches) and 1 to 14 models: heights grow with what is shown, margins are fixed
in inches, and labels stand where they cannot overlap. No global state: figures are plain `Figure` objects.
The shapes made of it are in `shapes`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from perg_utils.core.schema import Metric

WIDTH = 3.5  # inches: one column
TALLEST = 8.75  # inches: the height of a column
INVENTED = "invented world"
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
#: The metrics that are failures, side by side in most figures.
FAILURES = (Metric.BREAKAGE_RATE, Metric.ALIGNMENT_FAILURE, Metric.ROBUSTNESS_ERROR)
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
    height: float, invented: bool = False, *, columns: int = 1, left: float = 0.14, right: float = 0.97
) -> tuple[Figure, list[Axes]]:
    """Return a figure of one column's width; margins above and below are fixed in inches, so that any height fits."""
    fig = Figure(figsize=(WIDTH, height))
    axes = fig.subplots(1, columns, sharey=True, squeeze=False)[0]
    fig.subplots_adjust(left=left, right=right, bottom=0.5 / height, top=1 - 0.3 / height, wspace=0.14)
    if invented:
        footer(fig, INVENTED)
    return fig, list(axes)


def footer(fig: Figure, said: str) -> None:
    """Say in the lower right corner what a reader must know of the numbers, e.g. that the world is invented."""
    fig.text(0.99, 0.02 / fig.get_figheight(), said, ha="right", va="bottom", size=5.5, color="#666666")


def model_heading(axes: Axes, text: str, line: float, colour: str, size: float = 6.5) -> None:
    """Write a model's name in bold at the left edge of the figure, at the height `line` of the axes."""
    axes.annotate(
        text,
        (0, line),
        xycoords=("figure fraction", "data"),
        xytext=(3, 0),
        textcoords="offset points",
        va="center",
        size=size,
        weight="bold",
        color=colour,
        annotation_clip=False,
        bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.4},
    )


def names_room(names: Iterable[str]) -> float:
    """Return the share of the width that row labels need, e.g. 0.075 for `S`, at most 0.36 (21 letters)."""
    return min(0.36, 0.06 + 0.0155 * max(map(len, names), default=1))


def drawn_with_intervals(frame: pd.DataFrame) -> bool:
    """Return whether any value has an interval; figures printed in a paper have none."""
    return bool(frame["low"].notna().any())


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
    highest = frame[["value", "high"]].max().max()  # printed figures have no interval
    return 100.0 if pd.isna(highest) else float(min(100.0, max(5.0, 1.05 * highest)))


def ticks(count: int, prune: Literal["both", "lower", "upper"] | None = None) -> MaxNLocator:
    """Return a locator of about `count` round numbers, without those at the ends if pruned."""
    return MaxNLocator(count, steps=[1, 2, 5, 10], prune=prune)
