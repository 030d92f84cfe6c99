"""The figure of the check: each published figure against ours, a panel a metric.

Left out: cells that are not in the files; intervals (the printed figures have none to compare with).
"""

from __future__ import annotations

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perg_utils.core.errors import DataError
from perg_utils.core.run import Run
from perg_utils.core.schema import PAPER_METRICS
from perg_utils.reporting.figures.drawing import PALETTE, STYLE, WIDTH, ticks
from perg_utils.reporting.figures.figure import Drawn, figure

LOOKS = {"exact": (PALETTE[0], "o"), "rounding": (PALETTE[2], "s"), "differs": (PALETTE[1], "^")}


@figure("reproduction", corner=False)
def reproduction(run: Run, found: pd.DataFrame | None = None) -> Drawn:
    """Return each published figure against ours, a panel a metric: the cells of `reproduce`, or those that were saved.

    Nothing is drawn where the run's files hold none of them, as in every run but that of the released files.

    >>> perg.figures.reproduction(run).absent[:50]
    'Not in this run: Published figures against ours. I'
    """
    path = run.workspace.run / "reproduction.parquet"
    if found is None and not path.is_file():
        raise DataError("It sets the paper's figures beside those of its released files; notebook 13 makes it.")
    cells = pd.read_parquet(path) if found is None else found
    data = cells[cells["ours"].notna() & cells["published"].notna()].reset_index(drop=True)
    shown = [m for m in PAPER_METRICS if m in set(data["metric"])]
    columns = min(2, max(1, len(shown)))
    rows = -(-max(1, len(shown)) // columns)
    with rc_context(STYLE):
        height = 0.75 + 1.65 * rows
        fig = Figure(figsize=(WIDTH, height))
        panels = fig.subplots(rows, columns, squeeze=False).ravel()
        fig.subplots_adjust(
            left=0.125, right=0.975, top=1 - 0.24 / height, bottom=0.68 / height, wspace=0.26, hspace=0.42
        )
        for axes, metric in zip(panels, shown, strict=False):
            _panel(axes, data[data["metric"] == metric], metric.heading)
        for axes in panels[len(shown) :]:
            axes.remove()
        fig.supxlabel("published, %", y=0.26 / height, size=7, va="bottom")
        fig.supylabel("ours, %", x=0.005, size=7)
        drawn = [(name, *LOOKS[name], int((data["verdict"] == name).sum())) for name in LOOKS]
        handles = [
            panels[0].plot([], [], marker, ms=4, color=colour, label=f"{name} ({count})")[0]
            for name, colour, marker, count in drawn
        ]
        fig.legend(handles=handles, loc="lower center", ncols=3, frameon=False, borderaxespad=0.2, handletextpad=0.2)
    return fig, data


def _panel(axes: Axes, own: pd.DataFrame, title: str) -> None:
    end = float(min(100, max(5, 1.06 * own[["published", "ours"]].max().max())))
    axes.plot([0, end], [0, end], color="#999999", lw=0.6, zorder=1)
    for verdict, (colour, marker) in LOOKS.items():
        for partial in (True, False):
            part = own[(own["verdict"] == verdict) & (own["reason"].str.contains("missing|manifest") == partial)]
            face = "none" if partial else colour
            axes.plot(
                part["published"], part["ours"], marker, ms=3.6, mfc=face, mec=colour, mew=0.7, zorder=3, alpha=0.85
            )
    axes.set_title(title, pad=3)
    axes.set(xlim=(0, end), ylim=(0, end), aspect="equal")
    axes.xaxis.set_major_locator(ticks(5))
    axes.yaxis.set_major_locator(ticks(5))
    axes.grid(True)
