"""Tables that set two arms against each other on the same questions, made from the table `scores`.

Each has differences in points with a bootstrap interval, an effect size, and p values corrected over the table. A
builder returns None where the run has nothing to compare, as for the paper's printed figures (they have no scores).
"""

from __future__ import annotations

import pandas as pd

from perg_utils.core.profile import Profile
from perg_utils.core.schema import Method, Metric, Setting
from perg_utils.reporting.tables.forms import Table
from perg_utils.reporting.tables.layout import comparison, number, p_values, plain_table, with_interval
from perg_utils.scoring.comparisons import (
    LEAST_FOR_RELATIVE,
    Arm,
    against_method,
    against_setting,
    compare,
    compared_by,
    delivery_change,
    net_change,
    stand_ins,
)


def aligner_table(metrics: pd.DataFrame, scores: pd.DataFrame, profile: Profile) -> Table | None:
    """Return robustness error of zero-shot against Pref-Aligner with the paired difference (paper, table 5)."""
    pairs = [pair for pair in against_method(scores, stand_ins(profile)) if pair[1].method == Method.PREF_ALIGNER]
    found = compare(scores, pairs, Metric.ROBUSTNESS_ERROR, profile.statistics, profile.seed)
    caption = "Robustness error on the same questions, in percent; below zero: Pref-Aligner is better."
    return comparison(
        "pref_aligner",
        "Zero-shot against Pref-Aligner",
        caption,
        (metrics, profile),
        found=found,
        labels=["model", "setting", "reference_model"],
        by="method",
    )


def method_comparison_table(metrics: pd.DataFrame, scores: pd.DataFrame, profile: Profile) -> Table | None:
    """Return robustness error of the other methods against zero-shot on the same questions (Pref-Aligner: its own).

    Breakage where nothing was rated.
    """
    others = [pair for pair in against_method(scores, stand_ins(profile)) if pair[1].method != Method.PREF_ALIGNER]
    by = compared_by(scores)
    found = compare(scores, others, by, profile.statistics, profile.seed)
    what = "Robustness error" if by == Metric.ROBUSTNESS_ERROR else "No rating is at hand, so breakage"
    return comparison(
        "method_comparisons",
        "Methods against zero-shot",
        f"{what} of each method and of zero_shot on the same questions, in percent.",
        (metrics, profile),
        found=found,
        labels=["model", "method", "setting"],
        by="method",
    )


def setting_pairs(scores: pd.DataFrame) -> list[tuple[Arm, Arm]]:
    """Return (arm with one relevant preference, arm) for mixed and irrelevant, every model and method."""
    return [pair for pair in against_setting(scores) if pair[1].setting != Setting.PLACEBO]


def setting_comparison_table(metrics: pd.DataFrame, scores: pd.DataFrame, profile: Profile) -> Table | None:
    """Return breakage among irrelevant preferences, and by them alone, against one relevant preference."""
    found = compare(scores, setting_pairs(scores), Metric.BREAKAGE_RATE, profile.statistics, profile.seed)
    return comparison(
        "setting_comparisons",
        "Settings against one relevant preference",
        "Breakage in each setting and with one relevant preference on the same questions, in percent.",
        (metrics, profile),
        found=found,
        labels=["model", "method", "setting"],
        by="setting",
    )


def placebo_table(metrics: pd.DataFrame, scores: pd.DataFrame, profile: Profile) -> Table | None:
    """Return breakage by a preference against breakage by a neutral sentence in its place (not in the paper)."""
    pairs = [p for p in against_setting(scores, Setting.PLACEBO) if p[1].method == Method.ZERO_SHOT]
    found = compare(scores, pairs, Metric.BREAKAGE_RATE, profile.statistics, profile.seed)
    return comparison(
        "placebo",
        "Preference against placebo",
        "Breakage in each setting against the placebo setting (a neutral sentence instead of a preference).",
        (metrics, profile),
        found=found,
        labels=["model", "setting"],
        by="setting",
    )


def net_table(metrics: pd.DataFrame, scores: pd.DataFrame, profile: Profile) -> Table | None:
    """Return breakage beside its mirror, the wrong answers that a preference mends, and the net change of accuracy."""
    found = net_change(scores, profile.statistics, profile.seed)
    if found.empty:
        return None
    cells = found[[*Arm._fields]].astype(object)
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
    return plain_table("net_change", "Broken and fixed answers", caption, (metrics, profile), data=found, cells=cells)


def delivery_table(metrics: pd.DataFrame, scores: pd.DataFrame, profile: Profile) -> Table | None:
    """Return how many answers name no option, without and with preference on the same questions, and the difference.

    A relative change stands beside it where at least `LEAST_FOR_RELATIVE` answers named none before.
    """
    raw = delivery_change(scores, profile.statistics, profile.seed)
    if raw.empty:
        return None
    cells = raw[[*Arm._fields]].astype(object)
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
    return plain_table("delivery", "Delivery failure", caption, (metrics, profile), data=raw, cells=cells)
