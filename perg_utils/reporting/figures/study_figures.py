"""The figures of the studies (docs/studies.md), drawn from what `perg_utils.studies` works out.

Each takes a study's DataFrame: a row a value, in percent, with `low` and `high`. Left out: the studies' numbers.
"""

from __future__ import annotations

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure as Drawing

from perg_utils.core.run import Run
from perg_utils.reporting.figures.drawing import (
    PALETTE,
    STYLE,
    axis_end,
    canvas,
    interval_arms,
    looks,
    model_heading,
    names_room,
    ticks,
)
from perg_utils.reporting.figures.figure import Drawn, figure

#: What is left at the end of a waterfall, and what stands apart before it.
_LEFT, _APART = "robust", "irrelevant one obeyed"


@figure("contrasts")
def contrasts(run: Run, found: pd.DataFrame) -> Drawn:
    """Return the planned contrasts of a study, a row each: difference, its interval and the joint one, p after Holm.

    `found` is from `studies.contrasts.contrasts`.

    >>> import pandas as pd
    >>> row = {"question": "a right draft", "who": "S", "difference": 9.0, "n": 360}
    >>> row |= {"low": 5.0, "high": 14.0, "joint_low": 2.0, "joint_high": 16.0, "p_holm": 0.01, "n_unscored": 0}
    >>> perg.figures.contrasts(run, pd.DataFrame([row])).data["difference"].tolist()
    [9.0]
    """
    rows = found.reset_index(drop=True)
    heads = [question for i, question in enumerate(rows["question"]) if i == 0 or rows["question"][i - 1] != question]
    step, lines = 0.145, len(rows) + 1.3 * len(heads)
    with rc_context(STYLE):
        fig, (axes,) = canvas(0.85 + step * lines, left=names_room(rows["who"]) + 0.06, right=0.84)
        axes.axvspan(-run.profile.statistics.margin, run.profile.statistics.margin, color="#EEEEEE", lw=0, zorder=0)
        axes.axvline(0, color="black", lw=0.6, zorder=1)
        places, line, before = [], 0.0, None
        for row in rows.to_dict("records"):
            if row["question"] != before:
                line += 0.3 if before is not None else 0.0
                model_heading(axes, str(row["question"]), line, "black")
                line, before = line + 1, row["question"]
            colour = PALETTE[0]
            axes.plot([row["joint_low"], row["joint_high"]], [line, line], color=colour, lw=0.6)
            axes.plot([row["low"], row["high"]], [line, line], color=colour, lw=1.8, solid_capstyle="butt")
            axes.plot(row["difference"], line, "o", color=colour, ms=3.6)
            said = "p < 0.001" if row["p_holm"] < 0.001 else f"p {row['p_holm']:.3f}"
            axes.annotate(said, (1.01, line), xycoords=("axes fraction", "data"), va="center", size=5.5)
            places.append(line)
            line += 1
        axes.set_yticks(places, list(rows["who"]), size=6)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(line - 0.3, -0.7)
        axes.xaxis.set_major_locator(ticks(5))
        axes.grid(True, axis="x")
        axes.set_xlabel("points of robust accuracy")
    return fig, rows


@figure("stages_{setting}")
def stages(run: Run, fall: pd.DataFrame, setting: str = "mixed") -> Drawn:
    """Return a waterfall a model: from all questions down to the robust ones, a step for each way to fail.

    `fall` is from `studies.stages.waterfall`; models that edit given drafts are better left out.

    >>> import pandas as pd
    >>> rows = [("draft wrong", 20.0), ("letter changed", 5.0), ("robust", 75.0)]
    >>> fall = pd.DataFrame(rows, columns=["became", "value"])
    >>> fall = fall.assign(model="S", setting="mixed", low=fall["value"] - 3, high=fall["value"] + 3, n=360)
    >>> perg.figures.stages(run, fall).data["start"].tolist()
    [100.0, 80.0, 75.0]
    """
    own = fall[fall["setting"] == setting]
    names, models = list(dict.fromkeys(own["became"])), list(dict.fromkeys(own["model"]))
    parts = []
    for model in models:
        rows = own[own["model"] == model].copy()
        lost = rows["value"].where(rows["became"] != _LEFT, 0.0)
        rows["start"] = 100 - (lost.cumsum() - lost)
        rows.loc[rows["became"] == _LEFT, "start"] = rows["value"]
        parts.append(rows)
    data = pd.concat(parts, ignore_index=True) if parts else own.assign(start=[])
    with rc_context(STYLE):
        fig, panels = canvas(0.85 + 0.17 * len(names), columns=max(len(models), 1), left=0.4, right=0.98)
        for axes, model, (colour, _) in zip(panels, models, looks(models).values(), strict=False):
            for row in data[data["model"] == model].to_dict("records"):
                y, kept = names.index(row["became"]), row["became"] == _LEFT
                shade = 1.0 if kept else 0.35 if row["became"] == _APART else 0.6
                axes.barh(y, -row["value"], left=row["start"], height=0.72, color=colour, alpha=shade, lw=0)
                end = row["start"] - row["value"]
                inside = end < 25
                at, side = (row["start"] + 2, "left") if inside else (end - 2, "right")
                axes.annotate(f"{row['value']:.1f}", (at, y), va="center", ha=side, size=5.5)
            axes.set_title(model, color=colour, weight="bold", pad=3)
            axes.set_xlim(0, 119)
            axes.set_xticks([0, 50, 100])
            axes.tick_params(axis="y", length=0)
            axes.grid(True, axis="x")
        panels[0].set_yticks(range(len(names)), names)
        panels[0].set_ylim(len(names) - 0.4, -0.6)
        fig.text(0.69, 0.16 / fig.get_figheight(), "percent of questions", size=7, ha="center", va="bottom")
    return fig, data


@figure("blame")
def blame(run: Run, shares: pd.DataFrame) -> Drawn:
    """Return each stage's share of the blame in points of failure, a row a stage and model, with bootstrapped bounds.

    `shares` is from `studies.stages.shares`.

    >>> import pandas as pd
    >>> shares = pd.DataFrame({"model": ["S"], "stage": ["draft"], "value": [9.0], "low": [5.0], "high": [14.0]})
    >>> perg.figures.blame(run, shares.assign(n=360)).data["stage"].tolist()
    ['draft']
    """
    return by_model(shares, "stage", "points of failure (Shapley)"), shares


def by_model(data: pd.DataFrame, by: str, label: str) -> Drawing:
    """Return points with intervals, a group of rows a value of `by`, in it a row a model."""
    names, models = list(dict.fromkeys(data[by])), list(dict.fromkeys(data["model"]))
    marks = looks(models)
    with rc_context(STYLE):
        fig, (axes,) = canvas(0.85 + 0.13 * (len(models) + 1) * len(names), left=max(0.2, names_room(names) - 0.05))
        for i, model in enumerate(models):
            own = data[data["model"] == model].reset_index(drop=True)
            at = [names.index(g) * (len(models) + 1) + i for g in own[by]]
            colour, marker = marks[model]
            arms = interval_arms(own)
            axes.errorbar(own["value"], at, xerr=arms, fmt=marker, color=colour, ms=4, elinewidth=0.8, label=model)
        middle = (len(models) - 1) / 2
        axes.set_yticks([k * (len(models) + 1) + middle for k in range(len(names))], names)
        axes.invert_yaxis()
        axes.set_xlim(min(0.0, 1.1 * float(data["low"].min())), axis_end(data))
        axes.axvline(0, color=PALETTE[6], lw=0.6)
        axes.set_xlabel(label)
        axes.grid(True, axis="x")
        axes.tick_params(axis="y", length=0, pad=6)
        axes.legend(frameon=False, ncols=min(len(models), 4), loc="lower center", bbox_to_anchor=(0.4, 1.0))
    return fig
