"""The diagram of the study: from a question and a preference to the metrics (paper, figure 1).

Drawn from boxes and arrows in inches; it holds no data, and its table is the list of what it draws. Left out: the
journal, the steps and the notebooks, which are the project's and not the study's.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from perg_utils.core.run import Run
from perg_utils.core.schema import PAPER_METRICS, Metric
from perg_utils.reporting.figures.drawing import PALETTE, STYLE, WIDTH
from perg_utils.reporting.figures.figure import Drawn, figure

HEIGHT = 3.3


class Box(NamedTuple):
    """A box: its lower left corner and size in inches, its heading, and what stands below it."""

    name: str
    text: str
    x: float
    y: float
    width: float
    height: float
    colour: str = "#EEEEEE"


class Arrow(NamedTuple):
    """An arrow from one box to another along `points` (inches), with a label at the place `at`."""

    source: str
    target: str
    points: tuple[tuple[float, float], ...]
    label: str = ""
    at: tuple[float, float] = (0.0, 0.0)


RA = Metric.ROBUST_ACCURACY
BR, AF, RE, PV = PAPER_METRICS
_BLUE, _ORANGE, _GREEN = (PALETTE[i] + "30" for i in range(3))
BOXES = (
    Box("Responses", "", 0.03, 1.49, 3.44, 1.17, "#FFFFFF"),
    Box("Question", "with lettered options", 0.1, 2.86, 1.55, 0.38),
    Box("Preferences", "relevant · mixed · irrelevant · placebo", 1.75, 2.86, 1.65, 0.38),
    Box("Without preference", "no_preference", 0.1, 1.83, 1.08, 0.6, _BLUE),
    Box("With preference", "zero_shot · cot\nfew_shot · self_critic", 1.26, 1.83, 1.04, 0.6, _ORANGE),
    Box("Pref-Aligner", "stage 2: edits that\nanswer to fit", 2.38, 1.83, 1.02, 0.6, _GREEN),
    Box("Extractor", "which letter is named?\nright: the gold one", 0.1, 0.78, 1.55, 0.5),
    Box("Judge", "is the preference followed?\n1 to 5, whether right or not", 1.75, 0.78, 1.65, 0.5),
    Box(
        "Metrics",
        f"of all questions: {RA.label.lower()} ({RA.short}), right and as wished\n"
        f"of those right without: {BR.label.lower()} ({BR.short}), {AF.label.lower()} ({AF.short}), {RE.short}\n"
        f"of those right in either arm: variation ({PV.short})",
        0.1,
        0.04,
        3.3,
        0.53,
    ),
)
ARROWS = (
    Arrow("Question", "Without preference", ((0.6, 2.86), (0.6, 2.43))),
    Arrow("Question", "With preference", ((1.5, 2.86), (1.5, 2.43))),
    Arrow("Preferences", "With preference", ((2.1, 2.86), (2.1, 2.43))),
    Arrow("Preferences", "Pref-Aligner", ((2.9, 2.86), (2.9, 2.43))),
    Arrow(
        "Without preference",
        "Pref-Aligner",
        ((0.6, 1.83), (0.6, 1.66), (2.9, 1.66), (2.9, 1.83)),
        "stage 1: the answer without preference",
        (1.75, 1.565),
    ),
    Arrow("Responses", "Extractor", ((0.875, 1.49), (0.875, 1.28))),
    Arrow("Responses", "Judge", ((2.6, 1.49), (2.6, 1.28))),
    Arrow("Extractor", "Metrics", ((0.875, 0.78), (0.875, 0.57)), "right, wrong", (1.2, 0.675)),
    Arrow("Judge", "Metrics", ((2.6, 0.78), (2.6, 0.57)), "followed, not", (2.95, 0.675)),
)


@figure("pipeline", corner=False)
def pipeline(run: Run) -> Drawn:
    """Return the diagram of the study: what happens to a question before it becomes part of a percentage.

    Its data are its parts: kind (box, arrow), name, text, source, target.

    >>> perg.figures.pipeline(run).title
    'How a question becomes a number'
    """
    with rc_context(STYLE):
        fig = Figure(figsize=(WIDTH, HEIGHT))
        axes = fig.add_axes((0, 0, 1, 1))
        axes.set(xlim=(0, WIDTH), ylim=(0, HEIGHT))
        axes.set_axis_off()
        for box in BOXES:
            _draw_box(axes, box)
        for arrow in ARROWS:
            _draw_arrow(axes, arrow)
    boxes = [("box", box.name, box.text.replace("\n", " "), "", "") for box in BOXES]
    arrows = [("arrow", "", arrow.label, arrow.source, arrow.target) for arrow in ARROWS]
    return fig, pd.DataFrame([*boxes, *arrows], columns=["kind", "name", "text", "source", "target"])


def _draw_box(axes: Axes, box: Box) -> None:
    style = "round,pad=0,rounding_size=0.05"
    axes.add_patch(
        FancyBboxPatch((box.x, box.y), box.width, box.height, style, facecolor=box.colour, edgecolor="#444444", lw=0.7)
    )
    middle, top = box.x + box.width / 2, box.y + box.height
    if not box.text:
        # Between the arrows that enter it.
        axes.text(1.03, top - 0.115, box.name, ha="center", va="center", size=6.5, weight="bold")
        return
    lines = box.text.count("\n") + 1
    start = box.y + box.height / 2 + 0.049 * lines
    axes.text(middle, start, box.name, ha="center", va="center", size=6.5, weight="bold")
    axes.text(middle, start - 0.05 * lines - 0.052, box.text, ha="center", va="center", size=5.8, linespacing=1.15)


def _draw_arrow(axes: Axes, arrow: Arrow) -> None:
    *way, before, end = arrow.points
    bend = [*way, before]
    axes.plot([x for x, _ in bend], [y for _, y in bend], color="black", lw=0.8, zorder=1)
    style = {"arrowstyle": "-|>", "lw": 0.8, "color": "black", "shrinkA": 0, "shrinkB": 0, "mutation_scale": 7}
    axes.annotate("", end, xytext=before, arrowprops=style)
    if arrow.label:
        axes.text(*arrow.at, arrow.label, ha="center", va="center", size=5.8)
