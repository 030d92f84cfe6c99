"""Breakage by category of preference: a radar, as in the paper (section 4), and dots that can be read beside it.

Left out: intervals in the radar, which would hide its lines; they are drawn with the dots.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perg_utils.core.run import Run
from perg_utils.reporting.figures.drawing import STYLE, WIDTH, axis_end, interval_arms, ticks
from perg_utils.reporting.figures.figure import Drawn, figure
from perg_utils.reporting.figures.selection import PLAIN, Colours, Names, Selection, check_method
from perg_utils.reporting.figures.shapes import Looks
from perg_utils.scoring.categories import by_category

#: So many models can be told apart in one radar.
TOGETHER = 4


@figure("categories_{source}")
def categories(run: Run, source: str, *, method: str = PLAIN, models: Names = None, colours: Colours = None) -> Drawn:
    """Return breakage by category of the preference in one source, as a radar and as dots with intervals.

    Up to four models share one radar; more have a small one each, which names them.

    >>> figure = perg.figures.categories(run, "TQA")
    >>> figure.name, figure.data["category"].nunique()
    ('categories_TQA', 5)
    """
    chosen = Selection(run, models, None, colours)
    data = by_category(chosen.scores, run.profile.statistics, check_method(method))
    data = data[(data["source"] == source) & data["value"].notna()].reset_index(drop=True)
    return _radar(data, source, chosen.looks), data


def _radar(data: pd.DataFrame, source: str, marks: Looks) -> Figure:
    kinds = sorted(data["category"].unique())
    models = [m for m in marks if m in set(data["model"])]
    apart = len(models) > TOGETHER
    with rc_context(STYLE):
        rows = -(-len(models) // 2)
        inside = max(1.6, len(kinds) * (0.085 * len(models) + 0.14), 1.07 * rows if apart else 0)
        key = 0.05 if apart else 0.135 * _legend_rows(models)
        height = inside + 0.68 + key
        below = 0.56 + key
        fig = Figure(figsize=(WIDTH, height))
        beside = fig.add_axes((0.73, below / height, 0.24, inside / height))
        _category_dots(beside, data, kinds, models, marks)
        beside.set_xlabel(f"Breakage, {source}, %")
        end = max(1.0, np.nanmax([*data["value"], 1]) * 1.1)
        for i, shown in enumerate([[m] for m in models] if apart else [models]):
            side = 0.58 if apart else 1.0
            x = (0.23 + 0.98 * (i % 2)) if apart else 0.56
            y = below + (inside * (rows - 1 - i // 2 + 0.45) / rows if apart else inside / 2) - side / 2
            radar = fig.add_axes((x / WIDTH, y / height, side / WIDTH, side / height), projection="polar")
            _draw_radar(radar, data[data["model"].isin(shown)], kinds, end, marks)
            if apart:
                radar.set_title(shown[0], size=5.3, pad=7)
        if not apart:
            fig.legend(
                *beside.get_legend_handles_labels(),
                loc="lower center",
                ncols=-(-len(models) // max(_legend_rows(models), 1)) or 1,
                frameon=False,
                bbox_to_anchor=(0.5, 0.13 / height),
                borderaxespad=0,
                handlelength=1.2,
                columnspacing=1,
            )
    return fig


def _legend_rows(models: list[str]) -> int:
    columns = max(1, min(len(models), int(WIDTH / (0.4 + 0.05 * max([len(m) for m in models], default=1)))))
    return -(-len(models) // columns)


def _category_dots(axes: Axes, data: pd.DataFrame, kinds: list[str], models: list[str], marks: Looks) -> None:
    for i, model in enumerate(models):
        own = data[data["model"] == model].set_index("category").reindex(kinds)
        colour, marker = marks[model]
        axes.errorbar(
            own["value"],
            np.arange(len(kinds)) + (i - (len(models) - 1) / 2) * 0.8 / len(models),
            xerr=interval_arms(own),
            fmt=marker,
            color=colour,
            ms=3 if len(models) <= TOGETHER else 2.2,
            elinewidth=0.7,
            label=model,
            clip_on=False,
            zorder=3,
        )
    axes.set_yticks(range(len(kinds)), kinds)
    axes.set_ylim(max(len(kinds), 1) - 0.5, -0.5)
    axes.set_xlim(0, axis_end(data))
    axes.grid(True, axis="x")
    for edge in np.arange(len(kinds) - 1) + 0.5:
        axes.axhline(edge, color="#CCCCCC", lw=0.5)


def _draw_radar(radar: Axes, data: pd.DataFrame, kinds: list[str], end: float, marks: Looks) -> None:
    angles = np.linspace(0, 2 * np.pi, len(kinds), endpoint=False)
    for model, rows in data.groupby("model", sort=False):
        own = rows.set_index("category").reindex(kinds)["value"]
        colour, marker = marks[str(model)]
        radar.plot([*angles, angles[0]], [*own, own.iloc[0]], marker, ls="-", ms=2, color=colour, lw=1.0)
    small = radar.get_position().width < 0.2
    radar.set_xticks(angles, [kind[:2] if small else kind for kind in kinds])
    radar.tick_params(axis="x", pad=-4 if small else -3, labelsize=5 if small else 6)
    for text, angle in zip(radar.get_xticklabels(), angles, strict=True):
        # Labels start at the circle and run away from it.
        text.set_horizontalalignment("left" if np.cos(angle) > 0.1 else "right" if np.cos(angle) < -0.1 else "center")
    radar.set_ylim(0, end)
    radar.yaxis.set_major_locator(ticks(2 if small else 3))
    radar.tick_params(axis="y", labelsize=4.5 if small else 5, labelcolor="#666666")
