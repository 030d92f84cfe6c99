"""The primary outcome: robust accuracy of every method, and its difference to zero_shot.

Both have two intervals a point: of the rate, for these preferences and for preferences like these; of the difference,
by itself and for all rows of the family together. Left out: the paper's metrics (`paper`).
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from perg_utils.core.run import Run
from perg_utils.core.schema import ALL_MODELS, Method, Metric, Setting, ordered
from perg_utils.reporting.figures.drawing import STYLE, TALLEST, canvas, model_heading, names_room, ticks
from perg_utils.reporting.figures.figure import Drawn, figure
from perg_utils.reporting.figures.selection import Colours, Names, Selection
from perg_utils.reporting.figures.shapes import Looks
from perg_utils.scoring.comparisons import compare_family, compared_by
from perg_utils.scoring.pairs import method_family


@figure("robust_accuracy")
def robust_accuracy(run: Run, *, models: Names = None, sources: Names = None, colours: Colours = None) -> Drawn:
    """Return robust accuracy of every method with one relevant preference, and accuracy without, a row a method.

    >>> shown = perg.figures.robust_accuracy(run, models=["S"]).data
    >>> shown[["method", "value"]].round(1).to_numpy().tolist()[:3]
    [['no_preference', 76.5], ['zero_shot', 59.8], ['cot', 62.2]]
    """
    shown = Selection(run, models, sources, colours)
    after = shown.values([Metric.ROBUST_ACCURACY], setting=Setting.RELEVANT)
    before = shown.values([Metric.ACCURACY_WITHOUT], method=Method.NO_PREFERENCE, setting=Setting.NONE)
    before = before[before["model"].isin(after["model"])]
    data = ordered(pd.concat([before, after]), ["model", "method"], list(shown.looks)).reset_index(drop=True)
    data = data.rename(columns={"like_low": "wide_low", "like_high": "wide_high"})
    keys = ("these preferences", "preferences like these")
    fig = _rows(data, shown.looks, keys, "robust accuracy, % (hollow: accuracy without)")
    return fig, data


@figure("method_differences")
def method_differences(run: Run, *, models: Names = None, sources: Names = None, colours: Colours = None) -> Drawn:
    """Return the differences of robust accuracy to zero_shot with one relevant preference, all models together first.

    >>> shown = perg.figures.method_differences(run).data
    >>> shown.loc[shown["model"] == "ALL", ["method", "value"]].round(1).to_numpy().tolist()[-1]
    ['pref_aligner', 8.2]
    """
    shown = Selection(run, models, sources, colours)
    config = run.profile.statistics
    found = compare_family(shown.scores, method_family(shown.scores, run.profile), config)
    found = found[(found["setting"] == Setting.RELEVANT) & (found["n"] > 0)]
    what = Metric(compared_by(shown.scores)).label.lower()
    names = {"value": "this_value", "difference": "value", "joint_low": "wide_low", "joint_high": "wide_high"}
    data = found.rename(columns=names).reset_index(drop=True)
    looks = {ALL_MODELS: ("black", "D"), **shown.looks}
    fig = _rows(
        data,
        looks,
        ("by itself", "jointly, for the whole family"),
        f"points of {what}, against zero_shot",
        config.margin,
    )
    return fig, data


def _rows(data: pd.DataFrame, marks: Looks, keys: Sequence[str], label: str, margin: float | None = None) -> Figure:
    """A row a method below the name of its model: the value, its interval (thick) and the wider one (thin)."""
    places, headings, lines = _places(data)
    step = min(0.135, (TALLEST - 0.9) / max(lines, 1))
    with rc_context(STYLE):
        fig, (axes,) = canvas(
            0.9 + step * lines, left=max(names_room(data["method"]), 0.2), right=0.97 if margin is None else 0.87
        )
        if margin is not None:
            axes.axvspan(-margin, margin, color="#EEEEEE", lw=0, zorder=0)
            axes.axvline(0, color="black", lw=0.6, zorder=1)
        for row, y in zip(data.to_dict("records"), places, strict=True):
            colour, mark = marks[row["model"]]
            axes.plot([row["wide_low"], row["wide_high"]], [y, y], color=colour, lw=0.6, zorder=2)
            axes.plot([row["low"], row["high"]], [y, y], color=colour, lw=1.8, solid_capstyle="butt", zorder=3)
            face = "white" if row["method"] == Method.NO_PREFERENCE else colour
            axes.plot(row["value"], y, mark, color=colour, mfc=face, ms=3.4, mew=0.8, zorder=4)
            if margin is not None:
                p = row["p_holm"]
                said = "p < 0.001" if p < 0.001 else f"p {p:.3f}"
                axes.annotate(
                    said, (1.01, y), xycoords=("axes fraction", "data"), va="center", size=min(5.5, 60 * step)
                )
        axes.set_yticks(places, list(data["method"]), size=min(6, 62 * step))
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(lines - 0.3, -0.7)
        axes.xaxis.set_major_locator(ticks(5))
        axes.grid(True, axis="x")
        axes.set_xlabel(label)
        for model, y in headings.items():
            name = "all models" if model == ALL_MODELS else model
            model_heading(axes, name, y, marks[model][0], min(6.5, 66 * step))
        key = [
            Line2D([], [], color="#444444", lw=width, label=text) for width, text in zip((1.8, 0.6), keys, strict=True)
        ]
        fig.legend(handles=key, loc="upper center", ncols=2, frameon=False, borderpad=0.1, handlelength=1.6)
    return fig


def _places(data: pd.DataFrame) -> tuple[list[float], dict[str, float], float]:
    places: list[float] = []
    headings: dict[str, float] = {}
    line = 0.0
    for model in data["model"]:
        if model not in headings:
            line += 0.35 if headings else 0.0
            headings[model] = line
            line += 1
        places.append(line)
        line += 1
    return places, headings, line
