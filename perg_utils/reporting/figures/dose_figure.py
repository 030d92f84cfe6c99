"""What breaks by what is shown: from the very same prompt to a user who believes a wrong option, a line a model.

Left: what it costs over all questions, which is what counts; right: the paper's breakage, which holds whatever makes a
second answer differ from the first. Left out: preferences by category (`radar`).
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from perg_utils.core.run import Run
from perg_utils.core.schema import ARM_ID, Metric, Setting, ordered
from perg_utils.reporting.figures.drawing import STYLE, canvas, interval_arms, ticks
from perg_utils.reporting.figures.figure import Drawn, figure
from perg_utils.reporting.figures.selection import PLAIN, Colours, Names, Selection, check_method
from perg_utils.reporting.figures.shapes import Looks
from perg_utils.scoring import changes

#: From no change at all to the most that a user's words can do.
DOSE = (
    *(Setting.REPEAT, Setting.PARAPHRASE, Setting.PLACEBO, Setting.IRRELEVANT),
    *(Setting.RELEVANT, Setting.MIXED, Setting.MISLEADING),
)


_LABELS = {"accuracy lost": "accuracy lost, points", "breakage": "breakage (BR), %"}


@figure("dose_response")
def dose_response(
    run: Run, *, method: str = PLAIN, models: Names = None, sources: Names = None, colours: Colours = None
) -> Drawn:
    """Return accuracy lost and the paper's breakage in every setting of `DOSE` that was run (zero-shot).

    `data` has a row a model, setting and panel: `shown` (accuracy lost, breakage), `value` in points or percent, bounds
    `low` and `high`, `n`, `n_unscored`. Absent where no control was run.

    >>> shown = perg.figures.dose_response(run).data
    >>> shown["setting"].unique().tolist()[:3]
    ['repeat', 'paraphrase', 'placebo']
    """
    shown = Selection(run, models, sources, colours)
    own = shown.scores[shown.scores["setting"].isin(DOSE) & (shown.scores["method"] == check_method(method))]
    if not own["setting"].isin(DOSE[:3]).any():
        return canvas(1.0)[0], pd.DataFrame()
    net = changes.net_change(own, run.profile.statistics)
    lost = net[ARM_ID].assign(shown="accuracy lost", value=0.0 - net["net"], low=0.0 - net["high"])
    lost = lost.assign(high=0.0 - net["low"], n=net["n"], n_unscored=net["n_unscored"])
    broke = shown.values([Metric.BREAKAGE_RATE], method=method)
    broke = broke[broke["setting"].isin(DOSE)].assign(shown="breakage")[list(lost)]
    place = {str(setting): i for i, setting in enumerate(DOSE)}
    data = ordered(pd.concat([lost, broke]), ["shown", "model"], list(shown.looks))
    data = data.assign(place=data["setting"].map(place)).sort_values("place", kind="stable")
    there = [str(s) for s in DOSE if (data["setting"] == s).any()]
    looks = {model: look for model, look in shown.looks.items() if (data["model"] == model).any()}
    return _panels(data, there, looks), data.drop(columns="place").reset_index(drop=True)


def _panels(data: pd.DataFrame, there: list[str], looks: Looks) -> Figure:
    with rc_context(STYLE):
        # As many names in a line as the column has room for.
        across = max(1, min(len(looks), int(62 / (8 + max(map(len, looks), default=1)))))
        above = 0.16 + 0.14 * -(-len(looks) // across)
        height = 0.6 + above + len(there) * max(0.26, 0.045 * len(looks))
        fig, panels = canvas(height, columns=2, left=0.2, right=0.96)
        fig.subplots_adjust(top=1 - above / height)
        for axes, (name, label) in zip(panels, _LABELS.items(), strict=True):
            _lines(axes, data[data["shown"] == name], there, looks)
            axes.set_xlabel(label)
            axes.xaxis.set_major_locator(ticks(5))
            axes.grid(True, axis="x")
        panels[0].set_yticks(range(len(there)), [name.replace("_", " ") for name in there])
        panels[0].set_ylim(len(there) - 0.5, -0.5)
        panels[0].axvline(0, color="black", lw=0.6, zorder=1)
        key = [Line2D([], [], color=c, marker=m, ms=3.2, lw=0.8, label=name) for name, (c, m) in looks.items()]
        fig.legend(handles=key, loc="upper center", ncols=across, frameon=False, borderpad=0.1)
    return fig


def _lines(axes: Axes, data: pd.DataFrame, there: list[str], looks: Looks) -> None:
    """A line a model down the settings, with intervals; models are set apart within a row."""
    apart = np.linspace(-0.22, 0.22, len(looks)) if len(looks) > 1 else np.zeros(1)
    for shift, (model, (colour, mark)) in zip(apart, looks.items(), strict=True):
        own = data[data["model"] == model]
        rows = own["setting"].map(there.index).to_numpy() + shift
        axes.errorbar(
            own["value"], rows, xerr=interval_arms(own), color=colour, marker=mark, ms=3.2, lw=0.8, elinewidth=0.7
        )
