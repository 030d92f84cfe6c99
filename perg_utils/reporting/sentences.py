"""What the report says in sentences: what was asked, what was found (paper, section 4).

Every number comes from the tables `metrics` and `scores`; a sentence stands only where the run holds the rows it is
about. A finding carries what it claims, so that studies with a known truth can count how often each kind of sentence is
false (docs/statistics.md): its intervals hold jointly for all that it prints, and "clear" and "no more than" are said
at the level corrected over the whole family of comparisons. Left out: an explanation of anything found.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import pandas as pd

from perg_utils.core.profile import Profile
from perg_utils.core.schema import ALL_MODELS, ALL_SOURCES, Arm, Method, Metric, Setting
from perg_utils.scoring.changes import net_change
from perg_utils.scoring.churn import churn
from perg_utils.scoring.comparisons import compare, compare_family, compared_by
from perg_utils.scoring.crossfit import crossfitted
from perg_utils.scoring.intervals import exact_interval
from perg_utils.scoring.pairs import Family, arms, floor_family, method_family, setting_family, stand_ins
from perg_utils.scoring.rates import redrawn


class Claim(NamedTuple):
    """That a true value lies between `low` and `high`, in percent or points.

    The value of `metric` in `arm`, or, where there is a `reference`, the difference of arm and reference; a model ALL
    stands for the mean over the models.
    """

    metric: Metric
    arm: Arm
    low: float
    high: float
    reference: Arm | None = None
    crossfitted: bool = False  # Q* is chosen by another answer, see `scoring.crossfit`


class Finding(NamedTuple):
    """A sentence of the report, its kind, and what it claims; a sentence that only describes claims nothing."""

    kind: str
    text: str
    claims: tuple[Claim, ...] = ()


#: Below this count a value is told with it.
FEW = 60
#: What a run on the paper's printed figures cannot show, and the cure.
NEEDS_FILES = (
    "Intervals, counts, breakage by category (radar), the check of each printed figure, the audit and the response "
    "browser need the released per-example files. "
    "With a network, ./run_all.sh --profile published downloads them (verified, resumable); "
    "--set published_dir=PATH takes a clone of the release, or some of its files. "
    "Sampled against all preferences (violin) needs the files in the wide layout, which earlier commits of the release "
    "hold: they are not among the downloaded ones and come with published_dir only."
)


def asked(metrics: pd.DataFrame, scores: pd.DataFrame, profile: Profile) -> list[str]:
    """Return the question of the study and the size of this run, in sentences."""
    question = (
        "Does a language model that knows an answer still give it when the user asks for a certain manner of reply? "
        "Each question is asked without a preference and with one, and both answers are read, checked and compared."
    )
    if redrawn(metrics):
        arms = len(metrics[["model", "method", "setting"]].drop_duplicates())
        shown = f"the {len(metrics):,} figures that the paper prints, for {arms} configurations of {_models(metrics)}"
        return [question, f"Here are {shown}. No responses lie behind them on this machine.", NEEDS_FILES]
    questions = scores["example_id"].nunique()
    sources = ", ".join(f"{n:,} {source}" for source, n in scores.groupby("source")["example_id"].nunique().items())
    if profile.data.origin == "published":
        ran = scores[scores["setting"] != Setting.NONE].groupby("setting", sort=False)["method"].unique()
        settings = "; ".join(f"{setting}: {', '.join(methods)}" for setting, methods in ran.items())
        return [
            question,
            f"These are responses that the paper released: {len(scores):,} to {questions:,} questions ({sources}), by "
            f"{_models(scores)}. Methods by setting: {settings}.",
        ]
    # A pairing starts from the plain answers of the model that it borrows: those are no answers of its own.
    pairings = [m for m in stand_ins(profile) if m in set(scores["model"])]
    models, rows = scores["model"].nunique(), len(scores[~_borrowed(scores, pairings)])
    put_to = f"{models - len(pairings)} models" + (f" and {_pairings(pairings, profile)}" if pairings else "")
    settings = "; ".join(f"{setting}: {', '.join(methods)}" for setting, methods in profile.grid.items())
    return [
        question,
        f"{questions:,} questions ({sources}) were put to {put_to}: {rows:,} answers. Methods by setting: {settings}.",
    ]


def findings(metrics: pd.DataFrame, scores: pd.DataFrame, profile: Profile) -> list[Finding]:
    """Return the bottom line, each finding only where the run holds the rows it is about."""
    zero_shot = metrics[(metrics["method"] == Method.ZERO_SHOT) & (metrics["source"] == ALL_SOURCES)]
    relevant = zero_shot[zero_shot["setting"] == Setting.RELEVANT]
    base = metrics[(metrics["method"] == Method.NO_PREFERENCE) & (metrics["source"] == ALL_SOURCES)]
    confidence = profile.statistics.confidence

    def rate(rows: pd.DataFrame, metric: Metric, sentence: str) -> Finding | None:
        return _rates(rows, metric, sentence, confidence)

    said = [
        rate(base, Metric.ACCURACY_WITHOUT, "Without a preference the models answer {} of the questions right."),
        rate(
            relevant,
            Metric.ROBUST_ACCURACY,
            "With one relevant preference in the prompt (zero_shot), {} of all answers are right and as wished "
            "(robust accuracy).",
        ),
        _redrawn_aligner(metrics) if redrawn(metrics) else _aligner(scores, profile),
        None if redrawn(metrics) else _crossfitted(scores, profile),
        rate(
            relevant,
            Metric.BREAKAGE_RATE,
            "By the paper's metrics (zero_shot, one relevant preference), of the answers that were right without it, "
            "{} turn wrong (breakage).",
        ),
        _mirror(scores, profile),
        _churn(scores, profile),
        _floor(scores, profile),
        rate(
            relevant,
            Metric.ALIGNMENT_FAILURE,
            "Of the same answers {} do not follow the preference (alignment failure).",
        ),
        rate(relevant, Metric.ROBUSTNESS_ERROR, "One or the other goes wrong in {} of them (robustness error)."),
        *(
            rate(zero_shot[zero_shot["setting"] == s], Metric.BREAKAGE_RATE, f"In the setting {s} breakage is {{}}.")
            for s in (Setting.MIXED, Setting.IRRELEVANT, Setting.PARAPHRASE, Setting.MISLEADING)
        ),
        _settings(scores, profile),
        rate(relevant, Metric.DELIVERY_FAILURE, "With a relevant preference {} of the answers name no option at all."),
    ]
    return [finding for finding in said if finding]


def _models(frame: pd.DataFrame) -> str:
    count = frame["model"].nunique()
    return f"{count} model{'s' if count > 1 else ''}"


def _borrowed(scores: pd.DataFrame, pairings: list[str]) -> pd.Series:
    return scores["model"].isin(pairings) & (scores["setting"] == Setting.NONE)


def _pairings(names: list[str], profile: Profile) -> str:
    """E.g. `1 pairing of two of them (S+L: S answers, L aligns)`."""
    whose = stand_ins(profile)
    told = [f"{name}: {whose[name]} answers, {profile.model(name).aligner or whose[name]} aligns" for name in names]
    return f"{len(names)} pairing{'s' if len(names) > 1 else ''} of two of them ({'; '.join(told)})"


def _mirror(scores: pd.DataFrame, profile: Profile) -> Finding | None:
    chosen = scores[(scores["method"] == Method.ZERO_SHOT) & (scores["setting"] == Setting.RELEVANT)]
    if chosen.empty:
        return None
    statistics = profile.statistics
    jointly = 1 - (1 - statistics.confidence) / chosen["model"].nunique()
    found = net_change(chosen, statistics.model_copy(update={"confidence": jointly}))
    text = (
        f"The mirror of breakage: {_span(found, 'fixed_rate', '{:.1f} %')} of the answers that were wrong turn right; "
        f"in all, accuracy changes by {_points(found, 'net', 'low', 'high')} points."
    )
    without = (str(Method.NO_PREFERENCE), str(Setting.NONE))
    claims = [
        Claim(Metric.ACCURACY_WITH, Arm(*row[:3]), row[3], row[4], Arm(row[0], *without))
        for row in found[["model", "method", "setting", "low", "high"]].itertuples(index=False, name=None)
    ]
    return Finding("mirror", text, tuple(claims))


def _churn(scores: pd.DataFrame, profile: Profile) -> Finding | None:
    """What exchanging one preference for another breaks, by source, of the model with the most questions."""
    zero_shot = scores[(scores["method"] == Method.ZERO_SHOT) & (scores["setting"] == Setting.RELEVANT)]
    found = churn(zero_shot, profile.statistics, profile.seed).dropna(subset="excess")
    if found.empty:
        return None
    model = found.sort_values("n", ascending=False, kind="stable")["model"].iloc[0]
    own = found[(found["model"] == model) & (found["source"] != ALL_SOURCES)]
    told = [
        f"{row['preference_to_preference']:.1f} against {row['breakage']:.1f} % ({row['source']}: adding one breaks "
        f"{row['excess']:+.1f} points more [{row['excess_low']:+.1f}, {row['excess_high']:+.1f}])"
        for row in own.to_dict("records")
    ]
    return Finding(
        "churn",
        f"What would have broken anyway ({model}, mean over all preferences that were tried): exchanging one "
        f"preference for another breaks, against adding one, {'; '.join(told)}.",
    )


#: What a floor is called in a sentence.
_FLOOR = {
    Setting.PLACEBO: "A neutral sentence in place of the preference",
    Setting.PARAPHRASE: "The plain question in other words",
    Setting.REPEAT: "The very same prompt, asked again,",
}


def _floor(scores: pd.DataFrame, profile: Profile) -> Finding | None:
    family = floor_family(scores, Metric.BREAKAGE_RATE)
    found = _in_relevant(compare_family(scores, family, profile.statistics))
    found = found[found["method"] == Method.ZERO_SHOT]
    if found.empty:
        return None
    single = found[found["model"] != ALL_MODELS]
    what = _FLOOR[Setting(found["reference_setting"].iloc[0])]
    return _compared(
        "floor",
        f"{what} breaks {_span(single, 'reference_value', '{:.1f} %')}; on the same questions the preference changes "
        "this by",
        found,
        profile,
    )


def _crossfitted(scores: pd.DataFrame, profile: Profile) -> Finding | None:
    fitted = crossfitted(scores, stand_ins(profile))
    pairs = [pair for pair in method_family(scores, profile).pairs if pair[1].method == Method.PREF_ALIGNER]
    pairs = [pair for pair in pairs if set(arms(fitted)) >= set(pair)]
    found = _in_relevant(compare_family(fitted, Family(Metric.ROBUSTNESS_ERROR, pairs), profile.statistics))
    if found.empty:
        return None
    finding = _compared(
        "aligner cross-fitted",
        "Where Q* is chosen by the answer to another wording of the plain question, from which no arm starts "
        "(cross-fitted), Pref-Aligner changes robustness error, against zero_shot, by",
        found,
        profile,
    )
    return finding._replace(claims=tuple(claim._replace(crossfitted=True) for claim in finding.claims))


def _settings(scores: pd.DataFrame, profile: Profile) -> Finding | None:
    family = setting_family(scores)
    found = compare_family(scores, family, profile.statistics)
    found = found[(found["method"] == Method.ZERO_SHOT) & (found["setting"] == Setting.MIXED) & (found["n"] > 0)]
    if found.empty:
        return None
    before = "Irrelevant preferences around the relevant one (mixed) change breakage, against it alone, by"
    return _compared("mixed against relevant", before, found, profile)


def _aligner(scores: pd.DataFrame, profile: Profile) -> Finding | None:
    family = method_family(scores, profile)
    found = _in_relevant(compare_family(scores, family, profile.statistics))
    found = found[found["method"] == Method.PREF_ALIGNER]
    if found.empty:
        return None
    what = "robust accuracy" if compared_by(scores) == Metric.ROBUST_ACCURACY else "accuracy"
    finding = _compared(
        "aligner", f"Pref-Aligner changes {what} over all questions, against zero_shot, by", found, profile
    )
    pairs = [pair for pair in family.pairs if pair[1].method == Method.PREF_ALIGNER]
    paper = _in_relevant(compare(scores, pairs, Metric.ROBUSTNESS_ERROR, profile.statistics))
    if paper.empty:
        return finding
    more = (
        f" In the paper's metric, robustness error on Q*, that is {_span(paper, 'difference', '{:+.1f}')} points; "
        "Pref-Aligner's own draft chooses Q*, so part of this is no effect."
    )
    return finding._replace(text=finding.text + more)


def _in_relevant(found: pd.DataFrame) -> pd.DataFrame:
    return found[(found["setting"] == Setting.RELEVANT) & (found["n"] > 0)]


def _compared(kind: str, before: str, found: pd.DataFrame, profile: Profile) -> Finding:
    """The pooled difference with its verdict, then those of single models; alone where no models are pooled."""
    pooled, single = (found[(found["model"] == ALL_MODELS) == of] for of in (True, False))
    texts, claims = [], []
    for rows, who in ((pooled, " over all models"), (single, "")):
        if rows.empty:
            continue
        shown = _points(rows, "difference", "joint_low", "joint_high", named=rows is single)
        like = [""] if rows is single else [_like(row) for row in rows.to_dict("records")]
        texts.append(f"{shown} points{who}{like[0]}: {_verdict(rows, profile)}")
        claims += [claim for row in rows.to_dict("records") for claim in _claims(row, profile)]
    return Finding(kind, f"{before} {'. By model '.join(texts)}.", tuple(claims))


def _like(row: Mapping[Any, Any]) -> str:
    """The interval of a pooled difference for other preferences, which stands by itself."""
    low, high = row["like_low"], row["like_high"]
    return "" if pd.isna(low) else f" (for preferences like these [{low:+.1f}, {high:+.1f}])"


def _level(row: Mapping[Any, Any], profile: Profile) -> float:
    """The level of one comparison that holds for all of its family together."""
    return (1 - profile.statistics.confidence) / max(int(row["family"]), 1)


def _claims(row: Mapping[Any, Any], profile: Profile) -> list[Claim]:
    """What a comparison's interval says, and its verdict: which side of zero, or how near to it."""
    arm, reference = (Arm(*(row[f"{of}{name}"] for name in Arm._fields)) for of in ("", "reference_"))
    metric, margin = Metric(row["metric"]), profile.statistics.margin
    said = [(row["joint_low"], row["joint_high"])]
    if row["p_holm"] < 1 - profile.statistics.confidence:
        said.append((0.0, float("inf")) if row["difference"] > 0 else (float("-inf"), 0.0))
    if row["p_equivalence"] < _level(row, profile):
        said.append((-margin, margin))
    return [Claim(metric, arm, low, high, reference) for low, high in said]


def _verdict(found: pd.DataFrame, profile: Profile) -> str:
    """Whether the rows' differences are clear, and of those that are not what could have been found."""
    rows = found.to_dict("records")
    alpha, margin = 1 - profile.statistics.confidence, profile.statistics.margin
    clear = [row for row in rows if row["p_holm"] < alpha]
    near = [row for row in rows if row["p_equivalence"] < _level(row, profile)]
    unclear = [row["detectable"] for row in rows if row["p_holm"] >= alpha]
    family = f"{rows[0]['family']} comparison{'s' if rows[0]['family'] > 1 else ''}"
    least = min(row["p_holm"] for row in rows)
    p = f"p {'< 0.001' if least < 0.001 else f'= {least:.3f}'} corrected over {family}"
    if len(rows) == 1:
        said = [f"{'a' if clear else 'no'} clear difference for these preferences ({p})"]
    else:
        said = [f"clear for {len(clear)} of {len(rows)} (smallest {p})"]
    if unclear:
        span = [f"{value:.1f}" for value in sorted({round(v, 1) for v in (min(unclear), max(unclear))})]
        said.append(f"{' to '.join(span)} points could have been found with 80 % power")
    if near:
        of = "" if len(rows) == 1 else f" for {len(near)} of {len(rows)}"
        said.append(f"shown to be within {margin:g} points of none{of}")
    return "; ".join(said)


def _redrawn_aligner(metrics: pd.DataFrame) -> Finding | None:
    own = metrics[
        (metrics["metric"] == Metric.ROBUSTNESS_ERROR)
        & (metrics["source"] == ALL_SOURCES)
        & (metrics["setting"] == Setting.RELEVANT)
    ]
    before, after = (
        own[own["method"] == m].set_index("model")["value"] for m in (Method.ZERO_SHOT, Method.PREF_ALIGNER)
    )
    change = (after - before).dropna().sort_values(kind="stable")
    if change.empty:
        return None
    ends = [f"{value:+.1f} ({model})" for model, value in change.iloc[[0, -1]].items()]
    return Finding(
        "aligner",
        f"Pref-Aligner changes the robustness error of zero_shot by {' to '.join(dict.fromkeys(ends))} points "
        "(below zero is better), on questions that its own draft chooses, so that part of this is no effect.",
    )


def _points(found: pd.DataFrame, value: str, low: str, high: str, named: bool = True) -> str:
    shown = found if len(found) <= 4 else found.sort_values(value).iloc[[0, -1]]
    rows = shown[["model", value, low, high]].itertuples(index=False, name=None)
    texts = [f"{v:+.1f} [{a:+.1f}, {b:+.1f}]{f' ({model})' if named else ''}" for model, v, a, b in rows]
    return ", ".join(texts) if len(found) <= 4 else " to ".join(texts)


def _span(found: pd.DataFrame, column: str, form: str) -> str:
    ordered = found.dropna(subset=column).sort_values(column, kind="stable")
    if ordered.empty:
        return "an unknown share"
    ends = [f"{form.format(ordered[column].iloc[i])} ({ordered['model'].iloc[i]})" for i in (0, -1)]
    return ends[0] if len(ordered) == 1 else " to ".join(ends)


def _who(model: str, n: Any) -> str:
    """The model, with its count where that is small."""
    return model if pd.isna(n) or n >= FEW else f"{model}, {n} questions"


def _rates(rows: pd.DataFrame, metric: Metric, sentence: str, confidence: float) -> Finding | None:
    """`sentence` with "4.1 % [2.0, 7.3] (L) to 9.9 % [...] (S)" put in: lowest and highest, with joint intervals."""
    own = rows[(rows["metric"] == metric) & rows["value"].notna()].sort_values("value", kind="stable")
    if own.empty:
        return None
    shown = own.iloc[sorted({0, len(own) - 1})]
    ends, claims = [], []
    # The lowest and the highest are chosen among all models, so their intervals must hold for all.
    jointly = 1 - (1 - confidence) / len(own)
    for row in shown.to_dict("records"):
        if pd.isna(row["n"]):
            ends.append(f"{row['value']:.1f} % ({row['model']})")
            continue
        low, high = (100 * float(x) for x in exact_interval(row["value"] / 100 * row["n"], row["n"], jointly))
        ends.append(f"{row['value']:.1f} % [{low:.1f}, {high:.1f}] ({_who(row['model'], row['n'])})")
        claims.append(Claim(metric, Arm(row["model"], row["method"], row["setting"]), low, high))
    return Finding(f"{metric} {shown['setting'].iloc[0]}", sentence.format(" to ".join(ends)), tuple(claims))
