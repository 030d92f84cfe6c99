"""Tables of rates, made from the table `metrics` alone: by model and source, method, setting (paper, tables 2 to 4).

They also show the paper's printed figures, which have no counts and no intervals. What sets arms against each other
on the same questions is in `comparisons`.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.run import Run
from perg_utils.core.schema import (
    ALL_SOURCES,
    PAPER_METRICS,
    PAPER_SETTINGS,
    RELEVANT_SHOWN,
    Method,
    Metric,
    Setting,
    ordered,
)
from perg_utils.reporting.tables.forms import Table, Tables, absent, folder_of, table
from perg_utils.reporting.tables.layout import grid_table, number, only, plain_table
from perg_utils.scoring.rates import followed_model, in_settings
from perg_utils.scoring.rates import metrics as rates
from perg_utils.scoring.scores import with_fallbacks_as_failures

_OTHERS = "Other methods and settings by source"
_ZERO_SHOT: dict[str, str] = {"method": Method.ZERO_SHOT, "setting": Setting.RELEVANT}


@table("Models by source")
def main(run: Run) -> Table | None:
    """Return models x sources x the four metrics, zero-shot with one relevant preference (paper, table 2).

    >>> perg.tables.main(run).cells["ALL", "BR"].tolist()
    ['26.1 (25.0 to 29.3)', '16.2', '11.1 (10.8 to 13.5)']
    """
    return _by_source(run, Method.ZERO_SHOT, Setting.RELEVANT, name="main", title="Models by source")


@table("Robust accuracy")
def robust_accuracy(run: Run) -> Table | None:
    """Return robust accuracy of every method in every setting, the primary outcome, with both kinds of intervals.

    >>> perg.tables.robust_accuracy(run).cells["", "relevant"].tolist()[0][:22]
    '59.8 [50.4, 68.8] {50.'
    """
    data = only(run.read("metrics"), source=ALL_SOURCES, metric=Metric.ROBUST_ACCURACY)
    data = data[data["value"].notna() & data["setting"].isin([*RELEVANT_SHOWN, Setting.IRRELEVANT])]
    caption = (
        "Of all questions, those answered right and, where one was relevant, as preferred, in percent; higher is "
        "better. In square brackets the interval for these preferences, in curly ones that for preferences like these. "
        "Differences between methods are tested in the table of methods against zero-shot."
    )
    return grid_table(
        "robust_accuracy",
        "Robust accuracy",
        caption,
        run,
        data=data,
        index=["model", "method"],
        across=["setting"],
        within=["model"],
        best=max,
        wide=True,
    )


def by_source(run: Run) -> Tables:
    """Return a table like the main one for every other method and setting of the paper that two models were run in.

    Named by both, e.g. `relevant_cot`, `mixed_zero_shot`; where there is none, one absent table that says so.

    >>> [table.name for table in perg.tables.by_source(run)][:2]
    ['relevant_cot', 'relevant_few_shot']
    """
    try:
        metrics = run.read("metrics")
    except DataError as error:
        return Tables([absent("by_source", _OTHERS, f" {error}")])
    known = only(metrics, source=ALL_SOURCES, metric=Metric.BREAKAGE_RATE)
    known = known[known["value"].notna() & known["setting"].isin(PAPER_SETTINGS)]
    known = ordered(known, ["setting", "method"])
    made = []
    for method, setting in known[["method", "setting"]].drop_duplicates().itertuples(index=False, name=None):
        models = only(known, method=method, setting=setting)["model"].nunique()
        if models > 1 and (method, setting) != (Method.ZERO_SHOT, Setting.RELEVANT):
            title = f"{method}, {setting}: models by source"
            made.append(_by_source(run, method, setting, name=f"{setting}_{method}", title=title))
    found = [replace(one, folder=folder_of(run)) for one in made if one is not None]
    return Tables(found or [absent("by_source", _OTHERS, " It has one model, or one method and setting.")])


def _by_source(run: Run, method: str, setting: str, *, name: str, title: str) -> Table | None:
    data = only(run.read("metrics"), method=method, setting=setting)
    applies = (
        PAPER_METRICS if setting in RELEVANT_SHOWN else [m for m in PAPER_METRICS if m != Metric.ALIGNMENT_FAILURE]
    )
    data = data[data["metric"].isin(applies)]
    shown = {
        Setting.RELEVANT: "one relevant preference",
        Setting.MIXED: "the relevant preference among five irrelevant ones",
        Setting.IRRELEVANT: "five irrelevant preferences",
    }[Setting(setting)]
    rest = "" if setting in RELEVANT_SHOWN else " Nothing relevant is asked for, so RE equals BR."
    caption = f"{method} with {shown}, in percent, lower is better.{rest}"
    return grid_table(
        name,
        title,
        caption,
        run,
        data=data,
        index=["model"],
        across=["source", "metric"],
        intervals=False,
    )


@table("Methods")
def methods(run: Run) -> Table | None:
    """Return every method of every model with one relevant preference, all sources pooled; best within a model.

    Beside the rates: how many second stages could not be read (fallbacks: the first stage stands, which cannot break)
    and how many replies were cut off at the limit of new tokens, and what robust accuracy, breakage and robustness
    error are with the fallbacks as failures.

    >>> print(perg.tables.methods(run).to_markdown()[:53])
    **Methods.** One relevant preference, all sources, in
    """
    metrics = run.read("metrics")
    shown = [Metric.ROBUST_ACCURACY, *PAPER_METRICS, Metric.DELIVERY_FAILURE, Metric.ACCURACY_WITH]
    data = only(metrics, setting=Setting.RELEVANT, source=ALL_SOURCES)
    data = data[data["metric"].isin(shown)]
    caption = "One relevant preference, all sources, in percent; bold: best method of a model, tested elsewhere."
    made = grid_table(
        "methods",
        "Methods",
        caption,
        run,
        data=data,
        index=["model", "method"],
        across=["metric"],
        within=["model"],
    )
    scores = run.read("scores")
    return made if made is None or scores.empty else _with_fallbacks(made, scores)


def _with_fallbacks(made: Table, scores: pd.DataFrame) -> Table:
    """The table of methods with its fallbacks and truncations counted, and the rates with fallbacks as failures."""
    relevant = scores[(scores["setting"] == Setting.RELEVANT) & scores["sampled"].fillna(False)]
    keys = ["model", "method"]
    flags = relevant[keys].assign(**{name: relevant[name].fillna(False) for name in ("fallback", "truncated")})
    counts = flags.astype({"fallback": int, "truncated": int}).groupby(keys, sort=False).sum()
    strict = only(rates(with_fallbacks_as_failures(relevant)), source=ALL_SOURCES).pivot(
        index=keys, columns="metric", values="value"
    )
    labels = pd.MultiIndex.from_arrays([made.cells["", key] for key in keys], names=keys)
    counts, strict = counts.reindex(labels), strict.reindex(labels)
    cells, best = made.cells.copy(), made.best.copy()
    extra = {"fallbacks": counts["fallback"].tolist(), "truncated": counts["truncated"].tolist()}
    if counts["fallback"].any():
        for metric in (Metric.ROBUST_ACCURACY, Metric.BREAKAGE_RATE, Metric.ROBUSTNESS_ERROR):
            extra[f"{metric.short}, fallbacks failed"] = [number(v) for v in strict[str(metric)]]
    for label, texts in extra.items():
        cells["", label], best["", label] = texts, False
    caption = (
        "fallbacks: second stages that could not be read, so that the first stage stands; truncated: replies cut off "
        "at the limit of new tokens (both: counts)."
    )
    data = made.data.merge(counts.reset_index(), how="left", on=keys)
    return replace(made, caption=f"{made.caption} {caption}", data=data, cells=cells, best=best)


@table("Settings")
def settings(run: Run) -> Table | None:
    """Return breakage and robustness error by setting of the paper, for methods that were run in two or more.

    >>> perg.tables.settings(run).data["setting"].unique().tolist()
    ['relevant', 'mixed', 'irrelevant']
    """
    data = in_settings(run.read("metrics"))
    data = data[data["metric"].isin([Metric.BREAKAGE_RATE, Metric.ROBUSTNESS_ERROR])]
    # Where no relevant preference is shown RE is BR: one column says it.
    data = data[(data["metric"] == Metric.BREAKAGE_RATE) | data["setting"].isin(RELEVANT_SHOWN)]
    caption = "All sources, in percent, lower is better; without a relevant preference RE equals BR."
    return grid_table(
        "settings",
        "Settings",
        caption,
        run,
        data=data,
        index=["model", "method"],
        across=["metric", "setting"],
        within=["model"],
    )


@table("All settings")
def dose_response(run: Run) -> Table | None:
    """Return accuracy and the paper's breakage in every setting, from the same prompt again to a misleading user.

    None where no control was run (not in the paper).

    >>> perg.tables.dose_response(run).data["setting"].nunique()
    11
    """
    metrics = run.read("metrics")
    data = only(metrics, source=ALL_SOURCES)
    data = data[data["metric"].isin([Metric.ACCURACY_WITH, Metric.BREAKAGE_RATE]) & data["value"].notna()]
    controls = set(data["setting"]) - {*PAPER_SETTINGS, Setting.MEMORY}
    data = data[data.groupby(["model", "method"])["setting"].transform("nunique") > 1]
    if not controls:
        return None
    caption = (
        "Accuracy (higher is better) and breakage (BR, lower is better) of every method that was run in two settings "
        "or more, over all sources, in percent. What repeat, paraphrase, shuffled and the placebo settings break is no "
        "preference's doing."
    )
    return grid_table(
        "dose_response",
        "All settings",
        caption,
        run,
        data=data,
        index=["model", "method", "setting"],
        across=["metric"],
        within=["model", "method", "setting"],
    )


@table("One model by setting")
def one_model(run: Run) -> Table | None:
    """Return the four metrics of one model by setting, a row a method (paper: Llama3-70B).

    >>> perg.tables.one_model(run).title
    'S by setting'
    """
    model = followed_model(run.read("metrics"))
    data = in_settings(run.read("metrics"))
    data = data[data["model"] == model]
    caption = f"{model}, all sources, in percent, lower is better; bold: best method in a setting."
    return grid_table(
        "one_model",
        f"{model} by setting",
        caption,
        run,
        data=data,
        index=["metric", "method"],
        across=["setting"],
        within=["metric"],
    )


@table("Accuracy")
def accuracy(run: Run) -> Table | None:
    """Return accuracy without preference and with one relevant preference (zero-shot), by source.

    >>> perg.tables.accuracy(run).cells["accuracy without", "ALL"].tolist()
    ['76.5 [67.8, 83.8] (75.8 to 76.7)', '87.5 [80.2, 92.8]', '92.3 [85.9, 96.4] (90.0 to 92.5)']
    """
    metrics = run.read("metrics")
    data = pd.concat(
        [
            only(metrics, method=Method.NO_PREFERENCE, metric=Metric.ACCURACY_WITHOUT),
            only(metrics, metric=Metric.ACCURACY_WITH, **_ZERO_SHOT),
        ]
    )
    caption = "no_preference against zero_shot with one relevant preference, in percent."
    return grid_table(
        "accuracy",
        "Accuracy",
        caption,
        run,
        data=data,
        index=["model"],
        across=["metric", "source"],
        best=max,
    )


def printed_aligner(run: Run) -> Table | None:
    """Return robustness error of zero-shot and Pref-Aligner as printed, with the difference of the printed figures."""
    keys = ["model", "setting"]
    data = only(run.read("metrics"), source=ALL_SOURCES, metric=Metric.ROBUSTNESS_ERROR)
    before, after = (
        only(data, method=method)[[*keys, "value"]].rename(columns={"value": method})
        for method in (Method.ZERO_SHOT.value, Method.PREF_ALIGNER.value)
    )
    wide = before.merge(after, on=keys)
    if wide.empty:
        return None
    wide = ordered(wide.assign(difference=wide["pref_aligner"] - wide["zero_shot"]), ["setting", "model"])
    cells = wide[keys].astype(object)
    for name, form in {"zero_shot": "{:.1f}", "pref_aligner": "{:.1f}", "difference": "{:+.1f}"}.items():
        cells[name] = [number(v, form) for v in wide[name]]
    caption = "Robustness error over all sources, in percent; below zero: Pref-Aligner is better."
    title = "Zero-shot against Pref-Aligner"
    return plain_table("pref_aligner", title, caption, run, data=wide, cells=cells, judged=True)
