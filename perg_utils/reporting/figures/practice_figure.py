"""The figure of breakage by what training did with a fact, from `embedded.practice`; the demo's only."""

from __future__ import annotations

import pandas as pd
from matplotlib import rc_context

from perg_utils.core.run import Run
from perg_utils.core.schema import Metric
from perg_utils.reporting.figures.drawing import STYLE, axis_end, canvas, interval_arms, looks
from perg_utils.reporting.figures.figure import Drawn, figure


@figure("practice")
def practice(run: Run, groups: pd.DataFrame) -> Drawn:
    """Return breakage by group of facts, a line of points a model, with intervals.

    `groups` is from `embedded.practice.breakage_by_group`: model, group, value, low, high (percent).

    >>> import pandas as pd
    >>> groups = pd.DataFrame(
    ...     {"model": ["S"], "group": ["plain"], "value": [9.0], "low": [5.0], "high": [14.0]}
    ... )
    >>> perg.figures.practice(run, groups).data["value"].tolist()
    [9.0]
    """
    names = list(dict.fromkeys(groups["group"]))
    models = list(dict.fromkeys(groups["model"]))
    marks = looks(models)
    with rc_context(STYLE):
        fig, (axes,) = canvas(0.85 + 0.16 * len(groups), left=0.2)
        for i, model in enumerate(models):
            own = groups[groups["model"] == model].reset_index(drop=True)
            at = [names.index(g) * (len(models) + 1) + i for g in own["group"]]
            colour, marker = marks[model]
            axes.errorbar(
                own["value"],
                at,
                xerr=interval_arms(own),
                fmt=marker,
                color=colour,
                ms=4.5,
                elinewidth=0.8,
                label=model,
                clip_on=False,
            )
        middle = (len(models) - 1) / 2
        axes.set_yticks([k * (len(models) + 1) + middle for k in range(len(names))], names)
        axes.invert_yaxis()
        axes.set_xlim(0, axis_end(groups))
        axes.set_xlabel(f"{Metric.BREAKAGE_RATE.heading}, %")
        axes.grid(True, axis="x")
        # Marks at zero reach into the labels' side.
        axes.tick_params(axis="y", length=0, pad=6)
        axes.legend(frameon=False, ncols=len(models), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return fig, groups
