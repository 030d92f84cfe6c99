"""The figure of alignment failure under each judge and threshold, from `judging.sensitivity`."""

from __future__ import annotations

import textwrap
from typing import Any

import pandas as pd
from matplotlib import rc_context

from perg_utils.core.errors import DataError
from perg_utils.core.run import Run
from perg_utils.core.schema import ALL_SOURCES, Metric, Setting
from perg_utils.reporting.figures.drawing import (
    INVENTED,
    MARKERS,
    PALETTE,
    STYLE,
    axis_end,
    canvas,
    footer,
    names_room,
    ticks,
)
from perg_utils.reporting.figures.figure import Drawn, figure
from perg_utils.reporting.figures.selection import check_method


@figure("judges", corner=False)
def judges(run: Run, found: pd.DataFrame, *, method: str = "zero_shot") -> Drawn:
    """Return alignment failure by model, judge and threshold.

    `found` is from `judging.sensitivity.by_judge`; drawn are the relevant setting, all sources together, and `method`.

    >>> by = run.read("metrics").assign(judge="cues", threshold=3)
    >>> perg.figures.judges(run, by).data["model"].tolist()
    ['S', 'M', 'L']
    """
    keep = (found["metric"] == Metric.ALIGNMENT_FAILURE) & (found["setting"] == Setting.RELEVANT)
    keep &= (found["source"] == ALL_SOURCES) & (found["method"] == check_method(method)) & (found["n"] > 0)
    data = found[keep].reset_index(drop=True)
    if data.empty:
        raise DataError("No question is right without a preference, so that no alignment can fail.")
    names, models = list(dict.fromkeys(data["judge"])), list(dict.fromkeys(data["model"]))
    # Several narrow panels have no room for long names in one line.
    titles = {judge: textwrap.fill(judge, max(10, 56 // len(names))) for judge in names}
    above = 0.15 + 0.15 * max((1 + title.count("\n") for title in titles.values()), default=1)
    with rc_context(STYLE):
        height = 0.9 + above + 0.26 * len(models)
        fig, axes = canvas(height, columns=len(names), left=0.04 + names_room(models))
        fig.subplots_adjust(bottom=0.7 / height, top=1 - above / height)
        for axis, judge in zip(axes, names, strict=True):
            for number, (threshold, part) in enumerate(data[data["judge"] == judge].groupby("threshold")):
                # Side by side within a model's row: equal values would hide each other.
                rows = [models.index(model) + 0.24 * (number - 1) for model in part["model"]]
                look: dict[str, Any] = {
                    "marker": MARKERS[number],
                    "color": PALETTE[number],
                    "ls": "none",
                    "ms": 3,
                    "clip_on": False,
                }
                axis.plot(part["value"], rows, label=f"{threshold} or more", **look)
                axis.hlines(rows, part["low"], part["high"], lw=0.7, color=PALETTE[number])
            axis.set(xlim=(0, axis_end(data)), ylim=(len(models) - 0.5, -0.5), title=titles[judge])
            axis.set_yticks(range(len(models)), models)
            axis.grid(axis="x")
            axis.tick_params(axis="y", length=0)
            axis.xaxis.set_major_locator(ticks(4, prune="upper"))
        axes[0].set_xlabel(f"{Metric.ALIGNMENT_FAILURE.heading}, %", loc="left")
        handles, labels = axes[0].get_legend_handles_labels()
        labels = [f"followed: {labels[0]}", *labels[1:]] if labels else []
        corner: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 0.08 / height)}
        fig.legend(handles, labels, ncols=len(labels) or 1, frameon=False, handletextpad=0, columnspacing=1, **corner)
        footer(fig, f"{method}, relevant" + (f" · {INVENTED}" if run.invented else ""))
    return fig, data
