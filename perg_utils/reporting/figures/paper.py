"""The paper's figures, for any run of 1 to 14 models: each function takes a `Run` and returns a `Figure`.

Rendering only, from the tables `metrics` and `scores`. Drawn for one column of a paper (3.5 inches) with vector
text; a model has the same colour, marker and place in every figure: its position in `metrics`. Intervals are drawn
as they stand in the table; figures redrawn from the paper's printed numbers have none and say so in the corner.
What an analyst may choose everywhere: `models` and `sources` to show, and `colours`, by model or as a palette.
Left out: other languages, other widths, slides.
"""

from __future__ import annotations

import pandas as pd
from matplotlib import rc_context

from perg_utils.core.run import Run
from perg_utils.core.schema import PAPER_SETTINGS, Method, Metric, Setting, ordered
from perg_utils.reporting.figures.drawing import (
    FAILURES,
    STYLE,
    axis_end,
    canvas,
    colour_scale,
    interval_arms,
    label_at_right,
)
from perg_utils.reporting.figures.figure import Drawn, figure
from perg_utils.reporting.figures.selection import PLAIN, Colours, Names, Selection, check, check_method
from perg_utils.reporting.figures.shapes import Panel, bar_each, bars, dots, dumbbell
from perg_utils.scoring import changes
from perg_utils.scoring.pairs import stand_ins
from perg_utils.scoring.rates import followed_model


@figure("scatter")
def scatter(run: Run, *, method: str = PLAIN, models: Names = None, sources: Names = None) -> Drawn:
    """Return alignment failure against breakage, a point a model, coloured and labelled by robustness error.

    >>> figure = perg.figures.scatter(run)
    >>> figure.data.query("model == 'S'")[["value", "n"]].round(1).to_dict("list")
    {'value': [26.1, 9.1, 31.8], 'n': [88, 88, 88]}
    """
    shown = Selection(run, models, sources)
    wanted = [Metric.ALIGNMENT_FAILURE, Metric.BREAKAGE_RATE, Metric.ROBUSTNESS_ERROR]
    data = shown.values(wanted, method=check_method(method), setting=Setting.RELEVANT)
    # A point needs all three.
    data = data[data.groupby("model")["value"].transform("count") == len(wanted)].reset_index(drop=True)
    af, br, re = (data[data["metric"] == m].set_index("model") for m in wanted)
    af, re = af.loc[br.index], re.loc[br.index]
    at = dict(zip(br.index, zip(af["value"], br["value"], re["value"], strict=True), strict=True))
    marks = shown.looks
    with rc_context(STYLE):
        texts = {m: f"{m}: {Metric.ROBUSTNESS_ERROR.short} {error:.1f}" for m, (_, _, error) in at.items()}
        room = 0.0138 * max(map(len, texts.values()), default=10)
        fig, (axes,) = canvas(max(2.4, 0.9 + 0.14 * len(at)), right=max(0.4, 0.94 - room))
        colour = colour_scale(re["value"])
        for model, (x, y, error) in at.items():
            arms = (interval_arms(br.loc[model]), interval_arms(af.loc[model]))
            axes.errorbar(x, y, *arms, fmt="none", ecolor="#AAAAAA", elinewidth=0.7)
            (mark,) = axes.plot(x, y, marks[model][1], ms=6, mec="black", mew=0.5, zorder=3)
            mark.set(markerfacecolor=colour(error), clip_on=False)
        axes.set(xlabel=f"{Metric.ALIGNMENT_FAILURE.heading}, %", ylabel=f"{Metric.BREAKAGE_RATE.heading}, %")
        axes.set_xlim(0, axis_end(af))
        axes.set_ylim(0, axis_end(br))
        axes.grid(True)
        label_at_right(axes, [(x, y, texts[m]) for m, (x, y, _) in at.items()])
    return fig, data


@figure("settings")
def settings(
    run: Run, *, method: str = PLAIN, models: Names = None, sources: Names = None, colours: Colours = None
) -> Drawn:
    """Return bars of breakage, alignment failure and robustness error by setting (zero-shot).

    >>> perg.figures.settings(run, method="pref_aligner").data["setting"].unique().tolist()
    ['relevant', 'mixed', 'irrelevant']
    """
    shown = Selection(run, models, sources, colours)
    data = shown.values(FAILURES, method=check_method(method))
    data = data[data["setting"].isin(PAPER_SETTINGS)].reset_index(drop=True)
    return bars(data, "setting", shown.looks), data


@figure("methods")
def methods(
    run: Run, *, methods: Names = None, models: Names = None, sources: Names = None, colours: Colours = None
) -> Drawn:
    """Return bars of breakage, alignment failure and robustness error by method (one relevant preference).

    >>> perg.figures.methods(run, methods=["zero_shot", "cot"], sources=["TQA"]).data["source"].unique().tolist()
    ['TQA']
    """
    shown = Selection(run, models, sources, colours)
    data = shown.values(FAILURES, setting=Setting.RELEVANT)
    if methods is not None:
        check("method", methods, dict.fromkeys(data["method"]))
        data = data[data["method"].isin(methods)].reset_index(drop=True)
    return bars(data, "method", shown.looks), data


@figure("variation")
def variation(
    run: Run, *, method: str = PLAIN, models: Names = None, sources: Names = None, colours: Colours = None
) -> Drawn:
    """Return performance variation of each model (zero-shot, one relevant preference) as bars.

    >>> perg.figures.variation(run).data["value"].round(1).tolist()
    [33.7, 17.0, 11.9]
    """
    shown = Selection(run, models, sources, colours)
    wanted = [Metric.PERFORMANCE_VARIATION]
    data = shown.values(wanted, method=check_method(method), setting=Setting.RELEVANT)
    return bar_each(data, shown.looks, f"{Metric.PERFORMANCE_VARIATION.heading}, %"), data


@figure("aligner")
def aligner(run: Run, *, models: Names = None, sources: Names = None, colours: Colours = None) -> Drawn:
    """Return the metrics of zero-shot and of Pref-Aligner for each model, as a dumbbell.

    A model without zero-shot of its own is shown with that of the model which writes its first stage.

    >>> perg.figures.aligner(run, models=["S"]).data["shown"].unique().tolist()
    ['zero_shot', 'pref_aligner']
    """
    shown = Selection(run, models, sources, colours)
    chosen = shown.values(FAILURES, setting=Setting.RELEVANT)
    before = chosen[chosen["method"] == Method.ZERO_SHOT]
    after = chosen[chosen["method"] == Method.PREF_ALIGNER]
    borrowed = [
        before[before["model"] == whose].assign(model=model)
        for model, whose in stand_ins(run.profile).items()
        if model not in set(before["model"])
    ]
    labels = ("zero_shot", "pref_aligner")
    return dumbbell(pd.concat([before, *borrowed]), after, labels, shown.looks)


@figure("one_model")
def one_model(run: Run, *, models: Names = None, sources: Names = None, colours: Colours = None) -> Drawn:
    """Return breakage of one model by setting, zero-shot against Pref-Aligner (which model: `CAPTIONS`).

    >>> perg.figures.one_model(run).data["model"].unique().tolist()
    ['S']
    """
    shown = Selection(run, models, sources, colours)
    data = shown.values([Metric.BREAKAGE_RATE])
    data = data[data["method"].isin([Method.ZERO_SHOT, Method.PREF_ALIGNER]) & data["setting"].isin(PAPER_SETTINGS)]
    data = data[data.groupby("model")["setting"].transform("nunique") > 1]
    model = followed_model(shown.metrics)
    data = ordered(data[data["model"] == model], ["setting"])
    fig = bars(data, "method", shown.looks, group="setting")
    breakage = f"{Metric.BREAKAGE_RATE.label.lower()} ({Metric.BREAKAGE_RATE.short})"
    fig.axes[0].set_title(f"{model}: {breakage}", size=STYLE["axes.titlesize"], pad=3)
    return fig, data.reset_index(drop=True)


@figure("accuracy")
def accuracy(
    run: Run, *, method: str = PLAIN, models: Names = None, sources: Names = None, colours: Colours = None
) -> Drawn:
    """Return accuracy without preference and with one relevant preference (zero-shot) for each model.

    >>> perg.figures.accuracy(run, colours={"S": "#882255"}).data["value"].round(1).tolist()
    [76.5, 87.5, 92.3, 65.0, 74.2, 83.3]
    """
    shown = Selection(run, models, sources, colours)
    before = shown.values([Metric.ACCURACY_WITHOUT], method=Method.NO_PREFERENCE, setting=Setting.NONE)
    after = shown.values([Metric.ACCURACY_WITH], method=check_method(method), setting=Setting.RELEVANT)
    before, after = (frame.assign(metric="accuracy") for frame in (before, after))
    return dumbbell(before, after, ("no_preference", f"{method}, relevant"), shown.looks)


@figure("net_change")
def net_change(
    run: Run, *, method: str = PLAIN, models: Names = None, sources: Names = None, colours: Colours = None
) -> Drawn:
    """Return what a relevant preference breaks and what it fixes (zero-shot), and the net change in accuracy.

    >>> perg.figures.net_change(run).data[["broke", "fixed", "n"]].to_numpy().tolist()
    [[23, 10, 116], [17, 1, 120], [12, 1, 117]]
    """
    shown = Selection(run, models, sources, colours)
    data = _relevant(changes.net_change(shown.scores, run.profile.statistics), method)
    panels = [
        Panel("Broken, %\n(of the right)", "breakage", "breakage_low", "breakage_high"),
        Panel("Fixed, %\n(of the wrong)", "fixed_rate", "fixed_low", "fixed_high"),
        Panel("Net change,\npoints", "net", "low", "high"),
    ]
    return dots(data, shown.looks, panels), data


@figure("delivery")
def delivery(
    run: Run, *, method: str = PLAIN, models: Names = None, sources: Names = None, colours: Colours = None
) -> Drawn:
    """Return the change of answers that name no option, without against with a relevant preference (zero-shot).

    >>> perg.figures.delivery(run).data[["failed_without", "failed_with"]].to_numpy().tolist()
    [[2, 0], [0, 0], [0, 0]]
    """
    shown = Selection(run, models, sources, colours)
    data = _relevant(changes.delivery_change(shown.scores, run.profile.statistics), method)
    counts = [f"{b} → {a}" for b, a in zip(data["failed_without"], data["failed_with"], strict=True)]
    relative = ["–" if pd.isna(v) else f"{v:+.0f} %" for v in data["relative_change"]]
    texts = {"counts": counts, "relative": relative}
    panels = [Panel("", "difference", "low", "high")]
    return dots(data, shown.looks, panels, "Change, points", texts), data


def _relevant(frame: pd.DataFrame, method: str) -> pd.DataFrame:
    arm = (frame["method"] == check_method(method)) & (frame["setting"] == Setting.RELEVANT) & (frame["n"] > 0)
    return frame[arm].reset_index(drop=True)
