"""The paper's figures, for any run of 1 to 14 models, each with the data it was drawn from.

Rendering only, from `metrics` (or `by_category`): every function returns the figure and the table behind it.
Drawn for one column of a paper (3.5 inches) with vector text; a model has the same colour, marker and place in
every figure: its position in the table. Intervals are drawn as they stand in the table. Left out (a later
issue): the violin of sampled against full preferences, the pipeline diagram.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from .drawing import (
    METRIC_NAMES,
    STYLE,
    WIDTH,
    axis_end,
    bars,
    canvas,
    colour_scale,
    dumbbell,
    footer,
    interval_arms,
    label_at_right,
    looks,
    ticks,
)
from .schema import ALL_SOURCES, Method, Metric, Setting, Source
from .workspace import write_atomically, write_text

#: File name of each figure -> (title, what it shows and what it does not).
CAPTIONS = {
    "scatter": (
        "Alignment failure against breakage",
        "A point a model, zero_shot with one relevant preference; colour and label: robustness error. Near the "
        "lower left corner a model stays right and does as asked.",
    ),
    "settings": (
        "Metrics by setting",
        "zero_shot in every setting. Where no relevant preference is shown there is no alignment to fail, "
        "and robustness error is breakage.",
    ),
    "methods": (
        "Metrics by method",
        "One relevant preference. Pref-Aligner edits the answer given without preference, which is also its "
        "baseline: changes that come from the prompt alone count against the other methods and not against it.",
    ),
    "aligner": (
        "Before and after Pref-Aligner",
        "zero_shot (hollow) and pref_aligner (filled) with one relevant preference.",
    ),
    "placebo": (
        "Preference against placebo",
        "Breakage by a neutral sentence (hollow) and by a relevant preference (filled), zero_shot: what the hollow "
        "mark shows is plain sensitivity to the prompt.",
    ),
    "accuracy": (
        "Accuracy without and with preference",
        "no_preference (hollow) and zero_shot with one relevant preference (filled).",
    ),
    **{
        f"categories_{source}": (
            f"Breakage by category of preference, {source}",
            "zero_shot, relevant; on the right the same values with their intervals. Categories hold few questions "
            "each: overlapping intervals say nothing about an order.",
        )
        for source in Source
    },
    "practice": (
        "Breakage and practice (embedded models only)",
        "Facts by what training did with them: plain; repeated, shown as often as styled ones but never with a "
        "preference; styled, shown with preferences. zero_shot, relevant.",
    ),
}


def scatter(metrics: pd.DataFrame, *, invented: bool = False, judge: str = "") -> tuple[Figure, pd.DataFrame]:
    """Return alignment failure against breakage, a point a model, coloured and labelled by robustness error."""
    wanted = [Metric.ALIGNMENT_FAILURE, Metric.BREAKAGE_RATE, Metric.ROBUSTNESS_ERROR]
    data = _chosen(metrics, wanted, method=Method.ZERO_SHOT, setting=Setting.RELEVANT)
    af, br, re = (data[data["metric"] == m].set_index("model") for m in wanted)
    models = list(br.dropna(subset="value").index)
    marks = looks(list(metrics["model"]))
    with rc_context(STYLE):
        texts = {m: f"{m}: RE {re.loc[m, 'value']:.1f}" for m in models}
        room = 0.0138 * max(map(len, texts.values()), default=10)
        height = max(2.4, 0.9 + 0.14 * len(models))
        fig, (axes,) = canvas(height, invented, judge=judge, right=max(0.4, 0.94 - room))
        colour = colour_scale(re["value"])
        for model in models:
            x, y = af.loc[model], br.loc[model]
            axes.errorbar(
                x["value"],
                y["value"],
                xerr=interval_arms(x),
                yerr=interval_arms(y),
                fmt="none",
                ecolor="#AAAAAA",
                elinewidth=0.7,
            )
            face = colour(re.loc[model, "value"])
            axes.plot(
                x["value"], y["value"], marks[model][1], ms=6, mfc=face, mec="black", mew=0.5, zorder=3, clip_on=False
            )
        axes.set(xlabel="Alignment failure (AF), %", ylabel="Breakage (BR), %")
        axes.set_xlim(0, axis_end(af))
        axes.set_ylim(0, axis_end(br))
        axes.grid(True)
        label_at_right(axes, [(af.loc[m, "value"], br.loc[m, "value"], texts[m]) for m in models])
    return fig, data


def setting_bars(metrics: pd.DataFrame, *, invented: bool = False, judge: str = "") -> tuple[Figure, pd.DataFrame]:
    """Return bars of breakage, alignment failure and robustness error by setting (zero-shot)."""
    data = _chosen(metrics, list(METRIC_NAMES), method=Method.ZERO_SHOT)
    return bars(data, "setting", metrics, invented=invented, judge=judge)


def method_bars(metrics: pd.DataFrame, *, invented: bool = False, judge: str = "") -> tuple[Figure, pd.DataFrame]:
    """Return bars of breakage, alignment failure and robustness error by method (one relevant preference)."""
    data = _chosen(metrics, list(METRIC_NAMES), setting=Setting.RELEVANT)
    return bars(data, "method", metrics, invented=invented, judge=judge)


def aligner_improvement(
    metrics: pd.DataFrame, stands_in: Mapping[str, str] | None = None, *, invented: bool = False, judge: str = ""
) -> tuple[Figure, pd.DataFrame]:
    """Return the metrics of zero-shot and of Pref-Aligner for each model, as a dumbbell.

    `stands_in` names the model whose zero-shot is shown for a model that has none, e.g. `{"S+L": "S"}`.
    """
    chosen = _chosen(metrics, list(METRIC_NAMES), setting=Setting.RELEVANT)
    before = chosen[chosen["method"] == Method.ZERO_SHOT]
    after = chosen[chosen["method"] == Method.PREF_ALIGNER]
    borrowed = [
        before[before["model"] == whose].assign(model=model)
        for model, whose in (stands_in or {}).items()
        if model not in set(before["model"])
    ]
    labels = ("zero_shot", "pref_aligner")
    return dumbbell(pd.concat([before, *borrowed]), after, labels, metrics, invented=invented, judge=judge)


def placebo_breakage(metrics: pd.DataFrame, *, invented: bool = False) -> tuple[Figure, pd.DataFrame]:
    """Return breakage by a neutral sentence and by a relevant preference for each model (zero-shot)."""
    chosen = _chosen(metrics, [Metric.BREAKAGE_RATE], method=Method.ZERO_SHOT)
    before, after = (chosen[chosen["setting"] == s] for s in (Setting.PLACEBO, Setting.RELEVANT))
    return dumbbell(before, after, ("placebo", "relevant preference"), metrics, invented=invented)


def accuracy(metrics: pd.DataFrame, *, invented: bool = False) -> tuple[Figure, pd.DataFrame]:
    """Return accuracy without preference and with one relevant preference (zero-shot) for each model."""
    before = _chosen(metrics, [Metric.ACCURACY_WITHOUT], method=Method.NO_PREFERENCE)
    after = _chosen(metrics, [Metric.ACCURACY_WITH], method=Method.ZERO_SHOT, setting=Setting.RELEVANT)
    before, after = (frame.assign(metric="accuracy") for frame in (before, after))
    return dumbbell(before, after, ("no_preference", "zero_shot, relevant"), metrics, invented=invented)


def category_radar(categories: pd.DataFrame, source: str, *, invented: bool = False) -> tuple[Figure, pd.DataFrame]:
    """Return breakage by preference category in one source, as a radar and, to read values, as dots beside it."""
    data = categories[categories["source"] == source].reset_index(drop=True)
    kinds = sorted(data["category"].unique())
    marks = looks(list(categories["model"]))
    models = list(dict.fromkeys(data["model"]))
    angles = np.linspace(0, 2 * np.pi, len(kinds), endpoint=False)
    with rc_context(STYLE):
        columns = max(1, min(len(models), int(WIDTH / (0.4 + 0.05 * max([len(m) for m in models], default=1)))))
        rows = -(-len(models) // columns)
        dots = len(kinds) * (0.085 * len(models) + 0.14)
        height = max(1.6, dots) + 0.68 + 0.135 * rows
        fig = Figure(figsize=(WIDTH, height))
        below, above = (0.56 + 0.135 * rows) / height, 1 - 0.12 / height
        side = 1.0 / height
        radar = fig.add_axes((0.16, (below + above - side) / 2, 1.0 / WIDTH, side), projection="polar")
        beside = fig.add_axes((0.73, below, 0.24, above - below))
        for i, model in enumerate(models):
            own = data[data["model"] == model].set_index("category").reindex(kinds)
            colour, marker = marks[model]
            radar.plot([*angles, angles[0]], [*own["value"], own["value"].iloc[0]], color=colour, lw=1.0)
            y = np.arange(len(kinds)) + (i - (len(models) - 1) / 2) * 0.8 / len(models)
            beside.errorbar(
                own["value"],
                y,
                xerr=interval_arms(own),
                fmt=marker,
                color=colour,
                ms=3 if len(models) < 5 else 2.2,
                elinewidth=0.7,
                label=model,
                clip_on=False,
                zorder=3,
            )
        radar.set_xticks(angles, kinds)
        radar.tick_params(axis="x", pad=-3, labelsize=6)
        for text, angle in zip(radar.get_xticklabels(), angles, strict=True):
            # Labels start at the circle and run away from it.
            text.set_horizontalalignment(
                "left" if np.cos(angle) > 0.1 else "right" if np.cos(angle) < -0.1 else "center"
            )
        radar.set_ylim(0, max(1.0, np.nanmax([*data["value"], 1]) * 1.1))
        radar.yaxis.set_major_locator(ticks(3))
        radar.tick_params(axis="y", labelsize=5, labelcolor="#666666")
        beside.set_yticks(range(len(kinds)), kinds)
        beside.set_ylim(max(len(kinds), 1) - 0.5, -0.5)
        beside.set_xlim(0, axis_end(data))
        beside.grid(True, axis="x")
        for edge in np.arange(len(kinds) - 1) + 0.5:
            beside.axhline(edge, color="#CCCCCC", lw=0.5)
        beside.set_xlabel(f"Breakage, {source}, %")
        fig.legend(
            *beside.get_legend_handles_labels(),
            loc="lower center",
            ncols=columns,
            frameon=False,
            bbox_to_anchor=(0.5, 0.13 / height),
            borderaxespad=0,
            handlelength=1.2,
            columnspacing=1,
        )
        footer(fig, invented)
    return fig, data


def all_figures(
    metrics: pd.DataFrame,
    categories: pd.DataFrame,
    stands_in: Mapping[str, str] | None = None,
    *,
    invented: bool = False,
    judge: str = "",
) -> dict[str, tuple[Figure, pd.DataFrame]]:
    """Return every figure for which there is data, by file name in the order of `CAPTIONS`.

    Figures with alignment failure or robustness error say whose ratings those are: `judge`, of `judging.judge_label`.
    """
    drawn = {
        "scatter": scatter(metrics, invented=invented, judge=judge),
        "settings": setting_bars(metrics, invented=invented, judge=judge),
        "methods": method_bars(metrics, invented=invented, judge=judge),
        "aligner": aligner_improvement(metrics, stands_in, invented=invented, judge=judge),
        "placebo": placebo_breakage(metrics, invented=invented),
        "accuracy": accuracy(metrics, invented=invented),
        **{f"categories_{s}": category_radar(categories, s, invented=invented) for s in Source},
    }
    return {name: (fig, data) for name, (fig, data) in drawn.items() if not data.empty}


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


def _chosen(metrics: pd.DataFrame, wanted: Sequence[str], **only: str) -> pd.DataFrame:
    keep = metrics["metric"].isin(wanted) & (metrics["source"] == ALL_SOURCES) & (metrics["setting"] != Setting.NONE)
    if only.get("method") == Method.NO_PREFERENCE:
        keep = metrics["metric"].isin(wanted) & (metrics["source"] == ALL_SOURCES)
    for column, value in only.items():
        keep &= metrics[column] == value
    return metrics[keep].reset_index(drop=True)
