"""Tables that set two arms against each other on the same questions, made from the table `scores`.

Each has differences in points with a bootstrap interval, an effect size, and p values corrected over the table. A
builder returns None where the run has nothing to compare, as for the paper's printed figures (they have no scores).
"""

from __future__ import annotations

import pandas as pd

from perg_utils.core.profile import Profile
from perg_utils.core.run import Run
from perg_utils.core.schema import ARM_ID, Arm, Method, Metric, Setting
from perg_utils.reporting.tables.forms import Table, table
from perg_utils.reporting.tables.layout import as_listed, comparison, number, p_values, plain_table, with_interval
from perg_utils.reporting.tables.rates import printed_aligner
from perg_utils.scoring import comparisons as scoring
from perg_utils.scoring.comparisons import (
    LEAST_FOR_RELATIVE,
    against_method,
    against_setting,
    compare,
    compared_by,
    stand_ins,
)
from perg_utils.scoring.rates import redrawn


def aligner_pairs(scores: pd.DataFrame, profile: Profile) -> list[tuple[Arm, Arm]]:
    """Return (zero_shot arm, Pref-Aligner arm), every model and setting."""
    return [pair for pair in against_method(scores, stand_ins(profile)) if pair[1].method == Method.PREF_ALIGNER]


def placebo_pairs(scores: pd.DataFrame) -> list[tuple[Arm, Arm]]:
    """Return (placebo arm, arm) for the other settings of zero_shot, every model."""
    return [pair for pair in against_setting(scores, Setting.PLACEBO) if pair[1].method == Method.ZERO_SHOT]


def setting_pairs(scores: pd.DataFrame) -> list[tuple[Arm, Arm]]:
    """Return (arm with one relevant preference, arm) for mixed and irrelevant, every model and method."""
    return [pair for pair in against_setting(scores) if pair[1].setting != Setting.PLACEBO]


@table("Zero-shot against Pref-Aligner")
def pref_aligner(run: Run) -> Table | None:
    """Return robustness error of zero-shot against Pref-Aligner with the paired difference (paper, table 5).

    From the paper's printed figures: their difference, without interval.

    >>> perg.tables.pref_aligner(run).data["difference"].round(1).tolist()[:3]
    [-21.6, -18.4, -5.5]
    """
    if redrawn(run.read("metrics")):
        return printed_aligner(run)
    scores = as_listed(run, "scores")
    found = compare(
        scores, aligner_pairs(scores, run.profile), Metric.ROBUSTNESS_ERROR, run.profile.statistics, run.profile.seed
    )
    caption = "Robustness error on the same questions, in percent; below zero: Pref-Aligner is better."
    return comparison(
        "pref_aligner",
        "Zero-shot against Pref-Aligner",
        caption,
        run,
        found=found,
        labels=["model", "setting", "reference_model"],
        by="method",
    )


@table("Methods against zero-shot")
def method_comparisons(run: Run) -> Table | None:
    """Return robustness error of the other methods against zero-shot on the same questions (Pref-Aligner: its own).

    Breakage where nothing was rated.

    >>> perg.tables.method_comparisons(run).data["method"].unique().tolist()
    ['cot', 'few_shot', 'self_critic']
    """
    scores = as_listed(run, "scores")
    others = [pair for pair in against_method(scores, stand_ins(run.profile)) if pair[1].method != Method.PREF_ALIGNER]
    by = compared_by(scores)
    found = compare(scores, others, by, run.profile.statistics, run.profile.seed)
    what = "Robustness error" if by == Metric.ROBUSTNESS_ERROR else "No rating is at hand, so breakage"
    return comparison(
        "method_comparisons",
        "Methods against zero-shot",
        f"{what} of each method and of zero_shot on the same questions, in percent.",
        run,
        found=found,
        labels=["model", "method", "setting"],
        by="method",
    )


@table("Settings against one relevant preference")
def setting_comparisons(run: Run) -> Table | None:
    """Return breakage among irrelevant preferences, and by them alone, against one relevant preference.

    >>> perg.tables.setting_comparisons(run).data["setting"].unique().tolist()
    ['mixed', 'irrelevant']
    """
    scores = as_listed(run, "scores")
    found = compare(scores, setting_pairs(scores), Metric.BREAKAGE_RATE, run.profile.statistics, run.profile.seed)
    return comparison(
        "setting_comparisons",
        "Settings against one relevant preference",
        "Breakage in each setting and with one relevant preference on the same questions, in percent.",
        run,
        found=found,
        labels=["model", "method", "setting"],
        by="setting",
    )


@table("Preference against placebo")
def placebo(run: Run) -> Table | None:
    """Return breakage by a preference against breakage by a neutral sentence in its place (not in the paper).

    >>> perg.tables.placebo(run).data[["worse", "better"]].to_numpy().tolist()
    [[22, 3], [23, 2], [8, 3], [17, 8], [10, 6], [6, 7], [11, 2], [11, 3], [5, 3]]
    """
    scores = as_listed(run, "scores")
    found = compare(scores, placebo_pairs(scores), Metric.BREAKAGE_RATE, run.profile.statistics, run.profile.seed)
    return comparison(
        "placebo",
        "Preference against placebo",
        "Breakage in each setting against the placebo setting (a neutral sentence instead of a preference).",
        run,
        found=found,
        labels=["model", "setting"],
        by="setting",
    )


@table("Broken and fixed answers")
def net_change(run: Run) -> Table | None:
    """Return breakage beside its mirror, the wrong answers that a preference mends, and the net change of accuracy.

    >>> perg.tables.net_change(run).cells["", "broke"].tolist()[:2]
    ['23 of 88 (26.1 %)', '25 of 91 (27.5 %)']
    """
    scores = as_listed(run, "scores")
    found = scoring.net_change(scores, run.profile.statistics, run.profile.seed)
    if found.empty:
        return None
    cells = found[ARM_ID].astype(object)
    for name, among, rate in (("broke", "n_right", "breakage"), ("fixed", "n_wrong", "fixed_rate")):
        shown = zip(found[name], found[among], found[rate], strict=True)
        cells[name] = [f"{count} of {of} ({number(share)} %)" for count, of, share in shown]
    cells["net"] = with_interval(found.assign(value=found["net"]), "{:+.1f}")
    cells["odds ratio"] = [number(v, "{:.2f}") for v in found["odds_ratio"]]
    cells["p"] = p_values(found["p_holm"])
    cells["n"] = found["n"]
    caption = (
        "broke: right without preference, wrong with it; fixed: wrong without, right with it (exact intervals in the "
        "CSV). net: accuracy with minus without on the same n questions, in points, with bootstrap interval; matched "
        "odds ratio of broke to fixed; exact McNemar p, Holm-corrected over this table."
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
    raw = scoring.delivery_change(scores, run.profile.statistics, run.profile.seed)
    if raw.empty:
        return None
    cells = raw[ARM_ID].astype(object)
    for arm in ("without", "with"):
        shares = zip(raw[f"failed_{arm}"], raw[arm], strict=True)
        cells[arm] = [f"{count} ({number(share)} %)" for count, share in shares]
    cells["difference"] = with_interval(raw.assign(value=raw["difference"]), "{:+.1f}")
    cells["relative change"] = [number(v, "{:+.0f} %") for v in raw["relative_change"]]
    cells["n"] = raw["n"]
    caption = (
        "Answers that name no option, without and with preference: counts and percent of the same n questions. "
        "Difference in points with paired bootstrap interval; relative change only where the count without "
        f"preference is {LEAST_FOR_RELATIVE} or more."
    )
    return plain_table("delivery", "Delivery failure", caption, run, data=raw, cells=cells)
