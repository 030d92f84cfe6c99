"""Churn: what breaks with a preference beside what breaks when a preference is changed for another.

A block a model, a row a source. Left out: the values on the sampled rows alone, which the table has in its CSV.
"""

from __future__ import annotations

from typing import NamedTuple

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from perg_utils.core.run import Run
from perg_utils.core.schema import ALL_SOURCES, Setting
from perg_utils.reporting.figures.captions import MOST_BY_SOURCE
from perg_utils.reporting.figures.drawing import STYLE, canvas, interval_arms, model_heading, names_room, ticks
from perg_utils.reporting.figures.figure import Drawn, figure
from perg_utils.reporting.figures.selection import PLAIN, Colours, Names, Selection, check_method
from perg_utils.reporting.figures.shapes import Looks
from perg_utils.scoring import churn as measured


class _Mark(NamedTuple):
    """How a quantity is drawn: how far below the row's middle (in rows), marker, filled, in black."""

    shift: float
    marker: str = "o"
    filled: bool = True
    black: bool = False


#: The panels: title, and the quantities that each shows.
_PANELS = {
    "Broken, %": {
        "breakage": _Mark(-0.24),
        "preference_to_preference": _Mark(0.0, "D", black=True),
        "reverse_breakage": _Mark(0.24, filled=False),
    },
    "On unstable\nquestions, %": {
        "unstable_share_of_questions": _Mark(-0.12, filled=False),
        "unstable_share_of_breaks": _Mark(0.12),
    },
    "Net,\npoints": {"net": _Mark(0.0)},
}
_FIXED = "fixed_per_broken"
_KEY = (
    "breakage (filled), from another preference (black), the reverse (hollow)\n"
    "unstable questions: their share of Q* (hollow), of the breaks (filled)"
)


@figure("churn")
def churn(
    run: Run, *, method: str = PLAIN, models: Names = None, sources: Names = None, colours: Colours = None
) -> Drawn:
    """Return what a preference breaks, what changing it breaks, the net change and where the breaks lie, by source.

    >>> print(perg.figures.churn(run).absent)
    Not in this run: What adding a preference breaks, and what changing it breaks.
    """
    shown = Selection(run, models, sources, colours)
    rows = shown.scores
    own = rows[(rows["method"] == check_method(method)) & (rows["setting"] == Setting.RELEVANT)]
    data = _long(_rows_shown(measured.churn(own, run.profile.statistics, run.profile.seed)))
    return _draw(data, shown.looks), data


def _rows_shown(found: pd.DataFrame) -> pd.DataFrame:
    """Every source of few models, ALL of many; ALL of one source alone would say it twice."""
    if found["model"].nunique() > MOST_BY_SOURCE:
        return found[found["source"] == ALL_SOURCES]
    alone = found.groupby("model")["source"].transform("size") == 2
    return found[~(alone & (found["source"] == ALL_SOURCES))]


def _long(found: pd.DataFrame) -> pd.DataFrame:
    """A row a value: model, method, setting, source, shown (the quantity), value, low, high, n, n_unscored."""
    quantities = [name for panel in _PANELS.values() for name in panel]
    parts = []
    for name in [*quantities, _FIXED]:
        ends = {name: "value", f"{name}_low": "low", f"{name}_high": "high"}
        named = found[["model", "method", "setting", "source"]].assign(shown=name)
        parts.append(pd.concat([named, found[list(ends)].rename(columns=ends), found[["n", "n_unscored"]]], axis=1))
    return pd.concat(parts).sort_index(kind="stable").reset_index(drop=True)


def _draw(data: pd.DataFrame, marks: Looks) -> Figure:
    places, headings, lines = _places(data, marks)
    by_model = not headings
    labels = [model if by_model else source for model, source in places]
    with rc_context(STYLE):
        left, right = max(names_room(labels), 0.13), 0.86
        fig, panels = canvas(1.25 + 0.26 * lines, columns=len(_PANELS), left=left, right=right)
        fig.subplots_adjust(bottom=0.68 / fig.get_figheight(), top=1 - 0.4 / fig.get_figheight(), wspace=0.16)
        for axes, (title, quantities) in zip(panels, _PANELS.items(), strict=True):
            for name, mark in quantities.items():
                _points(axes, data[data["shown"] == name], places, mark, marks)
            axes.set_title(title, pad=3)
            axes.xaxis.set_major_locator(ticks(3))
            axes.grid(True, axis="x")
            axes.tick_params(axis="y", length=0)
        panels[0].set_xlim(left=0)
        panels[1].set_xlim(0, 100)
        panels[1].xaxis.set_major_locator(ticks(3, prune="upper"))  # 100 would touch the next panel's first number
        panels[2].axvline(0, color="black", lw=0.6, zorder=1)
        panels[0].set_yticks(list(places.values()), labels)
        panels[0].set_ylim(lines - 0.4, -0.6)
        for model, line in headings.items():
            model_heading(panels[0], model, line, marks[model][0])
        _written(panels[-1], data[data["shown"] == _FIXED], places)
        fig.text(0.5, 0.14 / fig.get_figheight(), _KEY, ha="center", va="bottom", size=6)
    return fig


def _places(data: pd.DataFrame, marks: Looks) -> tuple[dict[tuple[str, str], float], dict[str, float], float]:
    """Where each (model, source) and each model's heading goes, in lines, and how many lines there are."""
    rows = list(data[["model", "source"]].drop_duplicates().itertuples(index=False, name=None))
    models = [model for model in marks if model in {name for name, _ in rows}]
    if len(rows) == len(models):  # a row a model: its name is the label
        return {row: float(y) for y, row in enumerate(rows)}, {}, float(max(len(rows), 1))
    places, headings, line = {}, {}, 0.0
    for model in models:
        headings[model] = line
        for row in [row for row in rows if row[0] == model]:
            line += 1
            places[row] = line
        line += 1
    return places, headings, line


def _points(axes: Axes, own: pd.DataFrame, places: dict[tuple[str, str], float], mark: _Mark, marks: Looks) -> None:
    for _, row in own.iterrows():
        colour = "black" if mark.black else marks[row["model"]][0]
        axes.errorbar(
            row["value"],
            places[row["model"], row["source"]] + mark.shift,
            xerr=interval_arms(row),
            fmt=mark.marker,
            ms=2.6 if mark.marker == "D" else 3.4,
            color=colour,
            mfc=colour if mark.filled else "white",
            mew=0.8,
            elinewidth=0.8,
            zorder=3,
        )


def _written(axes: Axes, own: pd.DataFrame, places: dict[tuple[str, str], float]) -> None:
    """Fixed per broken, behind the row in words."""
    for _, row in own.iterrows():
        text = "–" if pd.isna(row["value"]) else f"{row['value']:.2f}"
        at = (0.985, places[row["model"], row["source"]])
        axes.annotate(text, at, xycoords=("figure fraction", "data"), ha="right", va="center", size=6)
    axes.annotate(
        "fixed per\nbroken",
        (0.985, 1),
        xycoords=("figure fraction", "axes fraction"),
        xytext=(0, 3),
        textcoords="offset points",
        ha="right",
        va="bottom",
        size=6,
        color="#444444",
    )
