"""The paper's figures, for any run of 1 to 14 models, each with the data it was drawn from.

Rendering only, from `metrics` and `scores` (the rooms `figure_*` draw):
every function returns the figure and the table behind it. Drawn for one column of a paper (3.5 inches) with vector
text; a model has the same colour, marker and place in every figure: its position in `metrics`. Intervals are drawn
as they stand in the table; figures redrawn from the paper's printed numbers have none and say so in the corner.
Left out: other languages, other widths, slides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from perg_utils.core.profile import Profile
from perg_utils.core.schema import ALL_SOURCES, Method, Metric, Setting, Source, ordered
from perg_utils.core.workspace import write_atomically, write_text
from perg_utils.reporting.figures.captions import CAPTIONS
from perg_utils.reporting.figures.diagram import pipeline_diagram
from perg_utils.reporting.figures.drawing import (
    FAILURES,
    INVENTED,
    STYLE,
    axis_end,
    canvas,
    colour_scale,
    footer,
    interval_arms,
    label_at_right,
    looks,
)
from perg_utils.reporting.figures.preferences import by_preference, preference_violins
from perg_utils.reporting.figures.radar import category_radar
from perg_utils.reporting.figures.shapes import Panel, bar_each, bars, dots, dumbbell
from perg_utils.scoring import comparisons as statistics
from perg_utils.scoring.rates import by_category, followed_model, redrawn

#: Corner note of figures that show printed numbers.
REDRAWN = "redrawn from the paper's published figures"

Drawn = tuple[Figure, pd.DataFrame]


def all_figures(metrics: pd.DataFrame, scores: pd.DataFrame, profile: Profile) -> dict[str, Drawn]:
    """Return every figure for which there is data, by file name in the order of `CAPTIONS`.

    `scores` may be empty, as where the paper's printed figures are all there is: then only what `metrics` allow is
    drawn. In the corner stands what a reader must know: an invented world, redrawn numbers, and, where alignment
    failure or robustness error is shown, whose ratings those are.
    """
    drawn = {
        "accuracy": accuracy(metrics),
        "scatter": scatter(metrics),
        "placebo": placebo_breakage(metrics),
        "variation": performance_variation(metrics),
        "settings": setting_bars(metrics),
        "methods": method_bars(metrics),
        "aligner": aligner_improvement(metrics, statistics.stand_ins(profile)),
        "one_model": one_model(metrics),
    }
    if not scores.empty:
        marks = looks(list(metrics["model"]))
        categories = by_category(scores, profile.statistics)
        drawn |= {
            "net_change": net_change(scores, metrics, profile),
            "delivery": delivery_change(scores, metrics, profile),
            "preferences": sampled_against_full(scores, metrics, profile),
            **{f"categories_{source}": category_radar(categories, source, marks) for source in Source},
        }
    drawn = {name: one for name, one in drawn.items() if not one[1].empty}
    for fig, data in drawn.values():
        if said := _corner(data, profile, redrawn(metrics)):
            footer(fig, said)
    drawn["pipeline"] = pipeline_diagram()
    return {name: drawn[name] for name in CAPTIONS if name in drawn}


def scatter(metrics: pd.DataFrame) -> Drawn:
    """Return alignment failure against breakage, a point a model, coloured and labelled by robustness error."""
    wanted = [Metric.ALIGNMENT_FAILURE, Metric.BREAKAGE_RATE, Metric.ROBUSTNESS_ERROR]
    data = _chosen(metrics, wanted, method=Method.ZERO_SHOT, setting=Setting.RELEVANT)
    # A point needs all three.
    data = data[data.groupby("model")["value"].transform("count") == len(wanted)].reset_index(drop=True)
    af, br, re = (data[data["metric"] == m].set_index("model") for m in wanted)
    models = list(br.index)
    marks = looks(list(metrics["model"]))
    with rc_context(STYLE):
        texts = {m: f"{m}: RE {re.loc[m, 'value']:.1f}" for m in models}
        room = 0.0138 * max(map(len, texts.values()), default=10)
        fig, (axes,) = canvas(max(2.4, 0.9 + 0.14 * len(models)), right=max(0.4, 0.94 - room))
        colour = colour_scale(re["value"])
        for model in models:
            x, y = af.loc[model], br.loc[model]
            arms = (interval_arms(y), interval_arms(x))
            axes.errorbar(x["value"], y["value"], *arms, fmt="none", ecolor="#AAAAAA", elinewidth=0.7)
            (mark,) = axes.plot(x["value"], y["value"], marks[model][1], ms=6, mec="black", mew=0.5, zorder=3)
            mark.set(markerfacecolor=colour(re.loc[model, "value"]), clip_on=False)
        axes.set(xlabel=f"{Metric.ALIGNMENT_FAILURE.heading}, %", ylabel=f"{Metric.BREAKAGE_RATE.heading}, %")
        axes.set_xlim(0, axis_end(af))
        axes.set_ylim(0, axis_end(br))
        axes.grid(True)
        label_at_right(axes, [(af.loc[m, "value"], br.loc[m, "value"], texts[m]) for m in models])
    return fig, data


def setting_bars(metrics: pd.DataFrame) -> Drawn:
    """Return bars of breakage, alignment failure and robustness error by setting (zero-shot)."""
    data = _chosen(metrics, FAILURES, method=Method.ZERO_SHOT)
    return bars(data, "setting", looks(list(metrics["model"]))), data


def method_bars(metrics: pd.DataFrame) -> Drawn:
    """Return bars of breakage, alignment failure and robustness error by method (one relevant preference)."""
    data = _chosen(metrics, FAILURES, setting=Setting.RELEVANT)
    return bars(data, "method", looks(list(metrics["model"]))), data


def performance_variation(metrics: pd.DataFrame) -> Drawn:
    """Return performance variation of each model (zero-shot, one relevant preference) as bars."""
    wanted = [Metric.PERFORMANCE_VARIATION]
    data = _chosen(metrics, wanted, method=Method.ZERO_SHOT, setting=Setting.RELEVANT)
    return bar_each(data, looks(list(metrics["model"])), f"{Metric.PERFORMANCE_VARIATION.heading}, %"), data


def aligner_improvement(metrics: pd.DataFrame, stands_in: Mapping[str, str] | None = None) -> Drawn:
    """Return the metrics of zero-shot and of Pref-Aligner for each model, as a dumbbell.

    `stands_in` names the model whose zero-shot is shown for a model that has none, e.g. `{"S+L": "S"}`.
    """
    chosen = _chosen(metrics, FAILURES, setting=Setting.RELEVANT)
    before = chosen[chosen["method"] == Method.ZERO_SHOT]
    after = chosen[chosen["method"] == Method.PREF_ALIGNER]
    borrowed = [
        before[before["model"] == whose].assign(model=model)
        for model, whose in (stands_in or {}).items()
        if model not in set(before["model"])
    ]
    labels = ("zero_shot", "pref_aligner")
    return dumbbell(pd.concat([before, *borrowed]), after, labels, looks(list(metrics["model"])))


def one_model(metrics: pd.DataFrame) -> Drawn:
    """Return breakage of one model by setting, zero-shot against Pref-Aligner (which model: `CAPTIONS`)."""
    data = _chosen(metrics, [Metric.BREAKAGE_RATE])
    data = data[data["method"].isin([Method.ZERO_SHOT, Method.PREF_ALIGNER])]
    data = data[data.groupby("model")["setting"].transform("nunique") > 1]
    model = followed_model(metrics)
    data = ordered(data[data["model"] == model], ["setting"])
    fig = bars(data, "method", looks(list(metrics["model"])), group="setting")
    fig.axes[0].set_title(f"{model}: breakage (BR)", size=STYLE["axes.titlesize"], pad=3)
    return fig, data.reset_index(drop=True)


def placebo_breakage(metrics: pd.DataFrame) -> Drawn:
    """Return breakage by a neutral sentence and by a relevant preference for each model (zero-shot)."""
    chosen = _chosen(metrics, [Metric.BREAKAGE_RATE], method=Method.ZERO_SHOT)
    before, after = (chosen[chosen["setting"] == s] for s in (Setting.PLACEBO, Setting.RELEVANT))
    return dumbbell(before, after, ("placebo", "relevant preference"), looks(list(metrics["model"])))


def accuracy(metrics: pd.DataFrame) -> Drawn:
    """Return accuracy without preference and with one relevant preference (zero-shot) for each model."""
    before = _chosen(metrics, [Metric.ACCURACY_WITHOUT], method=Method.NO_PREFERENCE, setting=Setting.NONE)
    after = _chosen(metrics, [Metric.ACCURACY_WITH], method=Method.ZERO_SHOT, setting=Setting.RELEVANT)
    before, after = (frame.assign(metric="accuracy") for frame in (before, after))
    return dumbbell(before, after, ("no_preference", "zero_shot, relevant"), looks(list(metrics["model"])))


def net_change(scores: pd.DataFrame, metrics: pd.DataFrame, profile: Profile) -> Drawn:
    """Return what a relevant preference breaks and what it fixes (zero-shot), and the net change in accuracy."""
    data = _zero_shot(statistics.net_change(scores, profile.statistics, profile.seed))
    panels = [
        Panel("Broken, %\n(of the right)", "breakage", "breakage_low", "breakage_high"),
        Panel("Fixed, %\n(of the wrong)", "fixed_rate", "fixed_low", "fixed_high"),
        Panel("Net change,\npoints", "net", "low", "high"),
    ]
    return dots(data, looks(list(metrics["model"])), panels), data


def delivery_change(scores: pd.DataFrame, metrics: pd.DataFrame, profile: Profile) -> Drawn:
    """Return the change of answers that name no option, without against with a relevant preference (zero-shot)."""
    data = _zero_shot(statistics.delivery_change(scores, profile.statistics, profile.seed))
    counts = [f"{b} → {a}" for b, a in zip(data["failed_without"], data["failed_with"], strict=True)]
    relative = ["–" if pd.isna(v) else f"{v:+.0f} %" for v in data["relative_change"]]
    texts = {"counts": counts, "relative": relative}
    panels = [Panel("", "difference", "low", "high")]
    return dots(data, looks(list(metrics["model"])), panels, "Change, points", texts), data


def sampled_against_full(scores: pd.DataFrame, metrics: pd.DataFrame, profile: Profile) -> Drawn:
    """Return accuracy with every single preference beside that with the sampled ones, by model and source."""
    data = by_preference(scores, profile.statistics.confidence)
    return preference_violins(data, looks(list(metrics["model"]))), data


def save(fig: Figure, data: pd.DataFrame, folder: Path, name: str) -> list[Path]:
    """Write `<name>.pdf`, `.png` (200 dpi) and `.csv` below `folder`; the same data give the same bytes."""
    # Dates and versions in a file's metadata would make every re-rendering a change.
    blank = {"pdf": {"CreationDate": None, "Producer": None, "Creator": None}, "png": {"Software": None}}
    made = []
    for form, metadata in blank.items():
        with rc_context(STYLE):
            made.append(
                write_atomically(
                    folder / f"{name}.{form}",
                    lambda path, m=metadata: fig.savefig(path, dpi=200, metadata=m),  # type: ignore[misc]
                )
            )
    return [*made, write_text(folder / f"{name}.csv", data.to_csv(index=False))]


def _corner(data: pd.DataFrame, profile: Profile, from_print: bool) -> str:
    rated = "metric" in data and data["metric"].isin([Metric.ALIGNMENT_FAILURE, Metric.ROBUSTNESS_ERROR]).any()
    said = {INVENTED: profile.world == "invented", REDRAWN: from_print, f"judge: {profile.judge.label}": rated}
    return " · ".join(words for words, holds in said.items() if holds)


def _zero_shot(frame: pd.DataFrame) -> pd.DataFrame:
    chosen = (frame["method"] == Method.ZERO_SHOT) & (frame["setting"] == Setting.RELEVANT) & (frame["n"] > 0)
    return frame[chosen].reset_index(drop=True)


def _chosen(metrics: pd.DataFrame, wanted: Sequence[str], **only: str) -> pd.DataFrame:
    """The measured values of these metrics over all sources, of rows that were shown something unless asked for."""
    keep = metrics["metric"].isin(wanted) & (metrics["source"] == ALL_SOURCES) & metrics["value"].notna()
    if only.get("setting") != Setting.NONE:
        keep &= metrics["setting"] != Setting.NONE
    for column, value in only.items():
        keep &= metrics[column] == value
    return metrics[keep].reset_index(drop=True)
