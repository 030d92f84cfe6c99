"""Sampled against full preferences: how far the accuracy depends on which preference is shown (paper, appendix).

A question is asked with one preference of its source, assigned in turn; some runs asked it with all of them. Left
out: which preference does what, which the CSV tells by its id; a released preference's text is not shipped.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from perg_utils.core.run import Run
from perg_utils.core.schema import Method, Setting, Source
from perg_utils.reporting.figures.drawing import STYLE, canvas, interval_arms, names_room, ticks
from perg_utils.reporting.figures.figure import Drawn, figure
from perg_utils.reporting.figures.selection import Colours, Names, Selection
from perg_utils.reporting.figures.shapes import Looks
from perg_utils.scoring.intervals import exact_interval

#: What a row of `by_preference` is the accuracy of.
SINGLE, SAMPLED, WITHOUT = "single preference", "sampled assignment", "without preference"


def by_preference(scores: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Return accuracy with each single preference, with the sampled assignment and without preference, in percent.

    zero_shot, relevant, over the questions that were asked with every preference that the model was shown in that
    source; empty where only sampled ones were. Columns: model, source, shown (`SINGLE`, `SAMPLED`, `WITHOUT`),
    preference_id (null but for single ones), value, low, high, n, n_unscored.
    """
    rows = scores[(scores["method"] == Method.ZERO_SHOT) & (scores["setting"] == Setting.RELEVANT)]
    # Whole numbers group a million rows faster than words.
    ids = rows["model"] + "/" + rows["source"]
    arm, question = (pd.Series(pd.factorize(key)[0], index=rows.index) for key in (ids, ids + "/" + rows["example_id"]))
    full = arm.isin(arm[~rows["sampled"].to_numpy(dtype=bool)])
    # A row is known by question and preference, so a question's rows count its preferences.
    asked, offered = question.map(question.value_counts()), rows["preference_id"].groupby(arm).transform("nunique")
    rows = rows[full & (asked == offered) & (offered > 1)]
    sampled = rows[rows["sampled"]]
    parts = {
        SINGLE: rows.assign(right=rows["correct_with"]),
        SAMPLED: sampled.assign(right=sampled["correct_with"], preference_id=None),
        WITHOUT: sampled.assign(right=sampled["correct_without"], preference_id=None),
    }
    keys = ["model", "source", "preference_id"]
    counted = [
        part.groupby(keys, sort=False, dropna=False)["right"]
        .agg(["sum", "count", "size"])
        .reset_index()
        .assign(shown=s)
        for s, part in parts.items()
    ]
    out = pd.concat(counted, ignore_index=True)
    n, right = out["count"].astype(int), out["sum"].astype(float)
    low, high = exact_interval(right, n, confidence)
    out = out.assign(
        value=100 * right / n.where(n > 0), low=100 * low, high=100 * high, n=n, n_unscored=out["size"] - n
    )
    return out[["model", "source", "shown", "preference_id", "value", "low", "high", "n", "n_unscored"]]


@figure("preferences")
def preferences(run: Run, *, models: Names = None, sources: Names = None, colours: Colours = None) -> Drawn:
    """Return accuracy with every single preference beside that with the sampled ones, by model and source.

    >>> print(perg.figures.preferences(run).absent)
    Not in this run: Sampled against all preferences.
    """
    chosen = Selection(run, models, sources, colours)
    data = by_preference(chosen.scores, run.profile.statistics.confidence)
    return _violins(data, chosen.looks), data


def _violins(data: pd.DataFrame, marks: Looks) -> Figure:
    """Draw `by_preference`: a row a model, a panel a source; violin and points, a mark and a line."""
    models = [m for m in marks if m in set(data["model"])]
    sources = [s for s in Source if s in set(data["source"])]
    with rc_context(STYLE):
        fig, panels = canvas(1.05 + 0.36 * len(models), columns=max(len(sources), 1), left=names_room(models))
        for axes, source in zip(panels, sources, strict=False):
            for y, model in enumerate(models):
                own = data[(data["source"] == source) & (data["model"] == model)]
                if not own.empty:
                    _violin(axes, y, own, marks[model])
            axes.set_title(str(source), pad=3)
            shown = data.loc[data["source"] == source, ["value", "low", "high"]]
            middle, half = (shown.max().max() + shown.min().min()) / 2, (shown.max().max() - shown.min().min()) / 2
            half = max(1.15 * half, 5.0)
            axes.set_xlim(max(0, middle - half), min(100, middle + half))
            axes.xaxis.set_major_locator(ticks(4, prune="both"))
            axes.grid(True, axis="x")
            axes.tick_params(axis="y", length=0)
        panels[0].set_yticks(range(len(models)), models)
        panels[0].set_ylim(max(len(models), 1) - 0.5, -0.5)
        key = "dots: single preferences   large: the sampled ones   black: without   (percent)"
        fig.text(0.5, 0.13 / fig.get_figheight(), key, ha="center", va="bottom", size=6)
    return fig


def _violin(axes: Axes, y: int, own: pd.DataFrame, look: tuple[str, str]) -> None:
    colour, marker = look
    single = own.loc[own["shown"] == SINGLE, "value"].dropna().sort_values().to_numpy()
    drawn = axes.violinplot([single], [y], orientation="horizontal", widths=0.8, showextrema=False)
    for body in drawn["bodies"]:  # type: ignore[attr-defined]
        body.set(facecolor=to_rgba(colour, 0.25), edgecolor=colour, linewidth=0.5, alpha=None)
    # Neighbours stand at different heights, so that equal values stay apart.
    axes.plot(single, y + 0.16 * np.resize([-1, 0, 1], len(single)), "o", ms=1.6, color=colour, alpha=0.8, zorder=3)
    without = own.loc[own["shown"] == WITHOUT, "value"].iloc[0]
    axes.plot([without, without], [y - 0.42, y + 0.42], color="black", lw=1.1, zorder=4)
    mean = own[own["shown"] == SAMPLED].iloc[0]
    axes.errorbar(
        mean["value"],
        y,
        xerr=interval_arms(mean),
        fmt=marker,
        ms=4,
        mfc=colour,
        mec="black",
        mew=0.6,
        ecolor="black",
        elinewidth=0.7,
        zorder=5,
    )
