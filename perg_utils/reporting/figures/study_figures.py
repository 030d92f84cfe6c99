"""The figures of the studies (docs/studies.md), drawn from what `perg_utils.studies` works out.

Each takes a study's DataFrame: a row a value, in percent, with `low` and `high`. Left out: the studies' numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawing
from matplotlib.lines import Line2D
from matplotlib.ticker import LogLocator

from perg_utils.core.run import Run
from perg_utils.reporting.figures.drawing import (
    MARKERS,
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
_SELDOM = 5.0  # percent of resamples


@figure("contrasts")
def contrasts(run: Run, found: pd.DataFrame, *, outcome: str = "robust accuracy") -> Drawn:
    """Return the planned contrasts of a study, a row each: difference, its interval and the joint one, p after Holm.

    `found` is from `studies.contrasts`, `outcome` what it compares.

    >>> import pandas as pd
    >>> row = {"question": "a right draft", "who": "S", "difference": 9.0, "n": 360}
    >>> row |= {"low": 5.0, "high": 14.0, "joint_low": 2.0, "joint_high": 16.0, "p_holm": 0.01, "n_unscored": 0}
    >>> perg.figures.contrasts(run, pd.DataFrame([row])).data["difference"].tolist()
    [9.0]
    """
    rows = found.reset_index(drop=True)
    heads = [question for i, question in enumerate(rows["question"]) if i == 0 or rows["question"][i - 1] != question]
    step, lines = 0.145, len(rows) + 1.3 * len(heads)
    left = max(names_room(rows["who"]) + 0.06, min(0.36, 0.03 + 0.0135 * max(map(len, heads), default=0)))
    with rc_context(STYLE):
        fig, (axes,) = canvas(0.85 + step * lines, left=left, right=0.84)
        axes.spines["left"].set_visible(False)  # a heading may reach into the plot
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
            said = "p < 0.001" if row["p_holm"] < 0.001 else f"p {row['p_holm']:.3f}".replace("p nan", "no p")
            axes.annotate(said, (1.01, line), xycoords=("axes fraction", "data"), va="center", size=5.5)
            places.append(line)
            line += 1
        axes.set_yticks(places, list(rows["who"]), size=6)
        axes.tick_params(axis="y", length=0)
        axes.set_ylim(line - 0.3, -0.7)
        axes.xaxis.set_major_locator(ticks(5))
        axes.grid(True, axis="x")
        axes.set_xlabel(f"points of {outcome}")
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


@figure("frontier")
def frontier(run: Run, front: pd.DataFrame) -> Drawn:
    """Return cost against robust accuracy, a point an option: a colour a model, a mark an arm, the Pareto front a line.

    `front` is from `studies.cost.frontier`.

    >>> import pandas as pd
    >>> front = pd.DataFrame({"model": ["S"], "option": ["zero_shot"], "value": [90.0], "low": [85.0], "high": [94.0]})
    >>> perg.figures.frontier(run, front.assign(cost=1.0, front=True, n=360)).data["option"].tolist()
    ['zero_shot']
    """
    models, arms = list(dict.fromkeys(front["model"])), list(dict.fromkeys(front["option"]))
    colours = {model: colour for model, (colour, _) in looks(models).items()}
    with rc_context(STYLE):
        fig, (axes,) = canvas(3.0, left=0.13, right=0.72)
        best = front[front["front"]].sort_values("cost")
        axes.plot(best["cost"], best["value"], color="#888888", lw=0.8, zorder=1)
        for row in front.to_dict("records"):
            mark, colour = MARKERS[arms.index(row["option"])], colours[row["model"]]
            axes.plot([row["cost"]] * 2, [row["low"], row["high"]], color=colour, lw=0.8)
            axes.plot(row["cost"], row["value"], mark, color=colour, ms=4.5)
        axes.set_xscale("log")
        axes.set_xlabel("cost, in replies of the cheapest option")
        axes.set_ylabel("robust accuracy over the stream, %")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.grid(True)
        _legend_aside(axes, colours, arms)
    return fig, front


@figure("acceptability")
def acceptability(run: Run, curves: pd.DataFrame) -> Drawn:
    """Return how often each option is best, by the price of a failure; `curves` is from `studies.cost.acceptability`.

    >>> import pandas as pd
    >>> curves = pd.DataFrame({"price": [1.0, 2.0], "model": "S", "option": "zero_shot", "value": [100.0, 90.0]})
    >>> len(perg.figures.acceptability(run, curves).data)
    2
    """
    models, arms = list(dict.fromkeys(curves["model"])), list(dict.fromkeys(curves["option"]))
    colours = {model: colour for model, (colour, _) in looks(models).items()}
    with rc_context(STYLE):
        fig, (axes,) = canvas(2.6, left=0.13, right=0.66)
        for (model, arm), own in curves.groupby(["model", "option"], sort=False):
            if own["value"].max() > _SELDOM:
                style = ("-", "--", ":", "-.")[arms.index(str(arm)) % 4]
                axes.plot(own["price"], own["value"], style, color=colours[str(model)], lw=1.2, label=f"{model}, {arm}")
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set_ylim(0, 101)
        axes.set_xlabel("price of a failure, in replies of the cheapest option")
        axes.set_ylabel("best in, % of resamples")
        axes.grid(True)
        axes.legend(frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=2)
    return fig, curves


@figure("latency")
def latency(run: Run, times: pd.DataFrame) -> Drawn:
    """Return seconds an answer at batch 1, a bar a model and arm; `times` is from `studies.seconds.latencies`.

    >>> import pandas as pd
    >>> times = pd.DataFrame({"model": ["S"], "arm": ["zero_shot"], "reading": [0.1], "writing": [0.4]})
    >>> perg.figures.latency(run, times.assign(value=0.5, low=0.4, high=0.6, n=6)).data["arm"].tolist()
    ['zero_shot']
    """
    marks = looks(list(dict.fromkeys(times["model"])))
    labels = [f"{row['model']}, {row['arm']}" for row in times.to_dict("records")]
    with rc_context(STYLE):
        fig, (axes,) = canvas(0.85 + 0.19 * len(times), left=names_room(labels))
        for y, row in enumerate(times.to_dict("records")):
            colour = marks[row["model"]][0]
            axes.barh(y, row["reading"], height=0.7, color=colour, alpha=0.4, lw=0)
            axes.barh(y, row["writing"], left=row["reading"], height=0.7, color=colour, lw=0)
            axes.plot([row["low"], row["high"]], [y, y], color="black", lw=0.8)
        axes.set_yticks(range(len(labels)), labels, size=6)
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.grid(True, axis="x")
        axes.set_xlabel("seconds")
    return fig, times


@figure("odds")
def odds(run: Run, found: pd.DataFrame) -> Drawn:
    """Return odds ratios, a row a term, on a logarithmic axis; `found` is from `studies.named_none.crossed`.

    >>> import pandas as pd
    >>> found = pd.DataFrame({"term": ["length doubled"], "value": [1.6], "low": [1.5], "high": [1.7], "n": [900]})
    >>> perg.figures.odds(run, found).data["term"].tolist()
    ['length doubled']
    """
    with rc_context(STYLE):
        fig, (axes,) = canvas(0.85 + 0.17 * len(found), left=names_room(found["term"]) + 0.06)
        axes.axvline(1, color="black", lw=0.6)
        for y, row in enumerate(found.to_dict("records")):
            axes.plot([row["low"], row["high"]], [y, y], color=PALETTE[0], lw=1.4)
            axes.plot(row["value"], y, "o", color=PALETTE[0], ms=3.6)
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
        axes.xaxis.set_major_formatter("{x:g}")
        axes.xaxis.set_minor_formatter("")
        axes.set_yticks(range(len(found)), list(found["term"]), size=6)
        axes.invert_yaxis()
        axes.tick_params(axis="y", length=0)
        axes.grid(True, axis="x")
        axes.set_xlabel("odds ratio of naming no option")
    return fig, found


@figure("delivery_cells")
def delivery_cells(run: Run, rates: pd.DataFrame) -> Drawn:
    """Return the share that names no option, a row a cell of the experiment; from `studies.delivery.rates`.

    >>> import pandas as pd
    >>> rates = pd.DataFrame({"model": ["S"], "preference": ["none"], "letter": ["first"], "value": [2.0]})
    >>> perg.figures.delivery_cells(run, rates.assign(low=1.0, high=4.0, n=90)).data["cell"].tolist()
    ['none, first']
    """
    data = rates.assign(cell=rates["preference"] + ", " + rates["letter"])
    return by_model(data, "cell", "names no option, %"), data


@figure("cures")
def cures(run: Run, recovered: pd.DataFrame) -> Drawn:
    """Return what brings lost letters back against its tokens, a point a model and cure; from `delivery.recovery`.

    >>> import pandas as pd
    >>> one = {"model": "S", "cure": "reminder", "value": 50.0, "low": 30.0, "high": 70.0, "tokens": 1.1, "n": 20}
    >>> perg.figures.cures(run, pd.DataFrame([one | {"not_worse": True}])).data["cure"].tolist()
    ['reminder']
    """
    data = recovered[recovered["n"] > 0].reset_index(drop=True)
    models, names = list(dict.fromkeys(data["model"])), list(dict.fromkeys(data["cure"]))
    colours = {model: colour for model, (colour, _) in looks(models).items()}
    with rc_context(STYLE):
        fig, (axes,) = canvas(2.8, left=0.13, right=0.66)
        for row in data.to_dict("records"):
            colour, mark = colours[row["model"]], MARKERS[names.index(row["cure"])]
            axes.plot([row["tokens"]] * 2, [row["low"], row["high"]], color=colour, lw=0.8)
            face = colour if row["not_worse"] else "white"
            axes.plot(row["tokens"], row["value"], mark, color=colour, mfc=face, ms=4.5)
        axes.set_ylim(-3, 103)
        axes.set_xlabel("tokens, against zero_shot")
        axes.set_ylabel("letters brought back, %")
        axes.grid(True)
        _legend_aside(axes, colours, names)
    return fig, data


@figure("distance")
def distance(run: Run, moved: pd.DataFrame) -> Drawn:
    """Return how far answers move, a row a kind and model; `moved` is from `studies.distance.moved`.

    >>> import pandas as pd
    >>> moved = pd.DataFrame({"model": ["S"], "kind": ["aligned"], "value": [20.0], "low": [15.0], "high": [25.0]})
    >>> perg.figures.distance(run, moved.assign(n=90)).data["kind"].tolist()
    ['aligned']
    """
    return by_model(moved, "kind", "hundredths of a cosine"), moved


@figure("judge_auc")
def judge_auc(run: Run, told: pd.DataFrame) -> Drawn:
    """Return how well judges tell matched responses from nulls; `told` is from `scoring.discrimination`.

    >>> import pandas as pd
    >>> told = pd.DataFrame({"judge": ["a"], "kind": ["plain"], "auc": [0.8], "auc_low": [0.7], "auc_high": [0.9]})
    >>> perg.figures.judge_auc(run, told.assign(pairs=90)).data["value"].tolist()
    [0.8]
    """
    data = told.drop(columns=["low", "high", "n"], errors="ignore")
    data = data.rename(columns={"auc": "value", "auc_low": "low", "auc_high": "high", "pairs": "n"})
    fig = by_model(data.rename(columns={"kind": "model"}), "judge", "AUC")
    axes = fig.axes[0]
    axes.set_xlim(min(0.4, float(data["low"].min()) - 0.03), 1.02)
    axes.axvline(0.5, color="black", lw=0.6)
    return fig, data


@figure("free_form")
def free_form(run: Run, rates: pd.DataFrame) -> Drawn:
    """Return accuracy and breakage by what is shown, free form beside letters; from `studies.free_form.rates`.

    >>> import pandas as pd
    >>> rates = pd.DataFrame({"model": "S", "format": ["letters", "free"], "shown": "none", "measure": "accuracy"})
    >>> rates = rates.assign(value=[90.0, 80.0], low=70.0, high=95.0, n=360)
    >>> perg.figures.free_form(run, rates).data["value"].tolist()
    [90.0, 80.0]
    """
    models = list(dict.fromkeys(rates["model"]))
    shown = list(dict.fromkeys(rates["shown"]))
    measures = [m for m in ("accuracy", "breakage") if m in set(rates["measure"])]
    step = 2 * len(models) + 1
    with rc_context(STYLE):
        fig, panels = canvas(0.85 + 0.075 * step * len(shown), columns=len(measures), left=0.17)
        for axes, measure in zip(panels, measures, strict=True):
            for i, (model, (colour, mark)) in enumerate(looks(models).items()):
                for j, kind in enumerate(("letters", "free")):
                    own = rates[(rates["model"] == model) & (rates["format"] == kind) & (rates["measure"] == measure)]
                    at = [shown.index(name) * step + 2 * i + j for name in own["shown"]]
                    face = colour if kind == "letters" else "white"
                    axes.errorbar(
                        own["value"],
                        at,
                        xerr=interval_arms(own),
                        fmt=mark,
                        color=colour,
                        mfc=face,
                        ms=3,
                        elinewidth=0.7,
                    )
            axes.set_title(f"{measure}, %", pad=3)
            axes.grid(True, axis="x")
            axes.tick_params(axis="y", length=0)
        panels[0].set_yticks([k * step + len(models) - 0.5 for k in range(len(shown))], shown)
        panels[0].set_ylim(step * len(shown) - 0.5, -1)
        keys = [Line2D([], [], marker=m, ls="", color=c, ms=4, label=n) for n, (c, m) in looks(models).items()]
        for kind, face in (("letters", "#444444"), ("free form", "white")):
            keys.append(Line2D([], [], marker="o", ls="", color="#444444", mfc=face, ms=4, label=kind))
        how = {"columnspacing": 1.0, "handletextpad": 0.2, "handlelength": 1}
        fig.legend(handles=keys, frameon=False, ncols=len(keys), loc="lower center", **how)
    return fig, rates


def _legend_aside(axes: Axes, colours: Mapping[str, str], arms: Sequence[str]) -> None:
    """Say right of the plot which colour is whose, and which mark stands for which arm."""
    keys = [Line2D([], [], marker="s", ls="", color=colour, label=model) for model, colour in colours.items()]
    keys += [Line2D([], [], marker=MARKERS[i], ls="", color="#444444", label=arm) for i, arm in enumerate(arms)]
    axes.legend(handles=keys, frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0), handlelength=1)


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
