"""Tables that set two arms against each other on the same questions, made from the table `scores`.

Each is one family of comparisons (`scoring.pairs`): all models together first, then single ones, with differences in
points, two kinds of bounds, what could have been found, and p values corrected over the family. A builder returns None
where the run has nothing to compare, as for the paper's printed figures (they have no scores).
"""

from __future__ import annotations

from perg_utils.core.run import Run
from perg_utils.core.schema import ARM_ID, BROKE_BY, Method, Metric
from perg_utils.reporting.tables.forms import Table, table
from perg_utils.reporting.tables.layout import (
    as_listed,
    bounds_note,
    comparison,
    number,
    p_values,
    plain_table,
    with_bounds,
)
from perg_utils.reporting.tables.rates import printed_aligner
from perg_utils.scoring import changes
from perg_utils.scoring.changes import LEAST_FOR_RELATIVE
from perg_utils.scoring.comparisons import compare_family, compared_by
from perg_utils.scoring.crossfit import crossfitted
from perg_utils.scoring.pairs import Family, arms, floor_family, method_family, setting_family, stand_ins
from perg_utils.scoring.rates import redrawn


@table("Methods against zero-shot")
def method_comparisons(run: Run) -> Table | None:
    """Return robust accuracy of every method against zero-shot over all questions: the study's primary comparison.

    Accuracy where nothing was rated.

    >>> perg.tables.method_comparisons(run).data["method"].unique().tolist()
    ['cot', 'few_shot', 'self_critic', 'pref_aligner']
    """
    scores = as_listed(run, "scores")
    found = compare_family(scores, method_family(scores, run.profile), run.profile.statistics)
    what = "Robust accuracy" if compared_by(scores) == Metric.ROBUST_ACCURACY else "No rating is at hand, so accuracy"
    caption = (
        f"{what} of each method and of zero_shot over all questions, in percent; above zero: better than zero_shot."
    )
    return comparison(
        "method_comparisons",
        "Methods against zero-shot",
        caption,
        run,
        found=found,
        labels=["model", "method", "setting", "reference_model"],
        by="method",
    )


@table("Zero-shot against Pref-Aligner")
def pref_aligner(run: Run) -> Table | None:
    """Return Pref-Aligner against zero-shot: robust accuracy over all questions, and the paper's error (its table 5).

    The robust accuracies are rows of `method_comparisons`, and so are their p values. From the paper's printed figures:
    robustness errors and their difference, without interval.

    >>> perg.tables.pref_aligner(run).data["difference"].round(1).tolist()[:3]
    [8.2, 5.4, 3.1]
    """
    if redrawn(run.read("metrics")):
        return printed_aligner(run)
    scores = as_listed(run, "scores")
    family = method_family(scores, run.profile)
    found = compare_family(scores, family, run.profile.statistics)
    found = found[found["method"] == Method.PREF_ALIGNER].reset_index(drop=True)
    if found.empty:
        return None
    pairs = [pair for pair in family.pairs if pair[1].method == Method.PREF_ALIGNER]
    paper = compare_family(scores, Family(Metric.ROBUSTNESS_ERROR, pairs), run.profile.statistics)
    errors = found[ARM_ID].merge(paper, on=ARM_ID, how="left")
    beside = {
        "RE zero_shot": [number(v) for v in errors["reference_value"]],
        "RE Pref-Aligner": [number(v) for v in errors["value"]],
    }
    fitted = crossfitted(scores, stand_ins(run.profile))
    more = ""
    if known := [pair for pair in pairs if set(arms(fitted)) >= set(pair)]:
        free = compare_family(fitted, Family(Metric.ROBUSTNESS_ERROR, known), run.profile.statistics)
        free = found[ARM_ID].merge(free, on=ARM_ID, how="left")
        beside["RE difference, cross-fitted"] = with_bounds(free.assign(value=free["difference"]), "{:+.1f}")
        more = (
            " Cross-fitted: the same where the answer to another wording of the plain question chooses Q*, from which "
            "no arm starts; with its own interval (below zero: Pref-Aligner errs less)."
        )
    return comparison(
        "pref_aligner",
        "Zero-shot against Pref-Aligner",
        "Robust accuracy over all questions, in percent; above zero: Pref-Aligner is better. Right: the paper's "
        "robustness error of both, on Q*. Pref-Aligner's own draft chooses Q*, which favours Pref-Aligner even where "
        f"it does nothing: no test.{more}",
        run,
        found=found,
        labels=["model", "setting", "reference_model"],
        by="method",
        beside=beside,
    )


@table("Settings against one relevant preference")
def setting_comparisons(run: Run) -> Table | None:
    """Return breakage among irrelevant preferences, and by them alone, against one relevant preference.

    >>> perg.tables.setting_comparisons(run).data["setting"].unique().tolist()
    ['mixed', 'irrelevant']
    """
    scores = as_listed(run, "scores")
    return comparison(
        "setting_comparisons",
        "Settings against one relevant preference",
        "Breakage in each setting and with one relevant preference on the same questions, in percent.",
        run,
        found=compare_family(scores, setting_family(scores), run.profile.statistics),
        labels=["model", "method", "setting"],
        by="setting",
    )


@table("Settings against their floors")
def floors(run: Run) -> Table | None:
    """Return every setting against its floor, the control it is read against: what breaks beyond it (not in the paper).

    By robust accuracy over all questions; beside it accuracy, which asks nothing of the preference, and the paper's
    breakage.

    >>> made = perg.tables.floors(run).data
    >>> made.loc[made["model"] == "ALL", ["method", "setting", "reference_setting"]].iloc[0].tolist()
    ['zero_shot', 'relevant', 'placebo']
    """
    scores = as_listed(run, "scores")
    statistics = run.profile.statistics
    found = compare_family(scores, floor_family(scores), statistics)
    beside = {}
    keys = [*ARM_ID, "reference_setting"]
    for metric in (Metric.ACCURACY_WITH, Metric.BREAKAGE_RATE):
        own = found[keys].merge(compare_family(scores, floor_family(scores, metric), statistics), on=keys, how="left")
        if metric == Metric.BREAKAGE_RATE:
            beside["BR floor"] = [number(v) for v in own["reference_value"]]
            beside["BR"] = [number(v) for v in own["value"]]
        beside[f"{metric.short} beyond"] = with_bounds(own.assign(value=own["difference"]), "{:+.1f}")
    return comparison(
        "floors",
        "Settings against their floors",
        "Robust accuracy in each setting and in its floor, the control that has all but what the setting is about, "
        "over all questions, in percent; below zero: worse than the floor. In a floor nothing is to be followed, so "
        "robust accuracy is accuracy there: the column of accuracy shows what is lost in answers alone, and those on "
        "the right breakage in both (on Q*, above zero: more breaks), each with its own interval.",
        run,
        found=found,
        labels=["model", "method", "setting", "reference_setting"],
        by="setting",
        beside=beside,
    )


@table("Broken and fixed answers")
def net_change(run: Run) -> Table | None:
    """Return breakage beside its mirror, the wrong answers that a preference mends, and the net change of accuracy.

    >>> perg.tables.net_change(run).cells["", "broke"].tolist()[:2]
    ['23 of 88 (26.1 %)', '25 of 91 (27.5 %)']
    """
    scores = as_listed(run, "scores")
    found = changes.net_change(scores, run.profile.statistics)
    if found.empty:
        return None
    cells = found[ARM_ID].astype(object)
    for name, among, rate in (("broke", "n_right", "breakage"), ("fixed", "n_wrong", "fixed_rate")):
        shown = zip(found[name], found[among], found[rate], strict=True)
        cells[name] = [f"{count} of {of} ({number(share)} %)" for count, of, share in shown]
    parts = zip(*(found[str(metric)] for metric in BROKE_BY.values()), strict=True)
    cells.insert(list(cells).index("broke") + 1, "by cause", [" + ".join(map(str, own)) for own in parts])
    cells["net"] = with_bounds(found.assign(value=found["net"]), "{:+.1f}")
    cells["odds ratio"] = [number(v, "{:.2f}") for v in found["odds_ratio"]]
    cells["p"], cells["p Holm"] = p_values(found["p"]), p_values(found["p_holm"])
    cells["n"] = found["n"]
    caption = (
        "broke: right without preference, wrong with it, by cause: wrong option + named none + could not be read; "
        "fixed: wrong without, right with it (exact intervals in the CSV). net: accuracy with minus without on the "
        "same n questions, in points, with its own score interval, which goes with p (exact McNemar); matched odds "
        "ratio of broke to fixed; p Holm: corrected over the "
        f"{len(found)} rows of this table.{bounds_note(found)}"
    )
    return plain_table("net_change", "Broken and fixed answers", caption, run, data=found, cells=cells)


@table("Delivery failure")
def delivery(run: Run) -> Table | None:
    """Return how many answers name no option, without and with preference on the same questions, and the difference.

    A relative change stands beside it where at least `LEAST_FOR_RELATIVE` answers named none before.

    >>> perg.tables.delivery(run).cells["", "with"].tolist()[:2]
    ['0 (0.0 %)', '3 (2.5 %)']
    """
    scores = as_listed(run, "scores")
    raw = changes.delivery_change(scores, run.profile.statistics)
    if raw.empty:
        return None
    cells = raw[ARM_ID].astype(object)
    for arm in ("without", "with"):
        shares = zip(raw[f"failed_{arm}"], raw[arm], strict=True)
        cells[arm] = [f"{count} ({number(share)} %)" for count, share in shares]
    cells["difference"] = with_bounds(raw.assign(value=raw["difference"]), "{:+.1f}")
    cells["relative change"] = [number(v, "{:+.0f} %") for v in raw["relative_change"]]
    cells["n"] = raw["n"]
    caption = (
        "Answers that name no option, without and with preference: counts and percent of the same n questions. "
        "Difference in points with paired score interval; relative change only where the count without "
        f"preference is {LEAST_FOR_RELATIVE} or more.{bounds_note(raw)}"
    )
    return plain_table("delivery", "Delivery failure", caption, run, data=raw, cells=cells)
