"""What the report says in sentences: what was asked, what was found (paper, section 4).

Every number comes from the tables `metrics` and `scores`; a sentence stands only where the run holds the rows it is
about. Left out: an explanation of anything found.
"""

from __future__ import annotations

from itertools import chain
from typing import Any

import pandas as pd

from perg_utils.core.profile import Profile
from perg_utils.core.schema import ALL_SOURCES, ARM_ID, Arm, Method, Metric, Setting
from perg_utils.reporting.tables.comparisons import aligner_pairs, placebo_pairs
from perg_utils.scoring.comparisons import compare, net_change, stand_ins
from perg_utils.scoring.rates import redrawn

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


def findings(metrics: pd.DataFrame, scores: pd.DataFrame, profile: Profile) -> list[str]:
    """Return the bottom line as sentences, each only where the run holds the rows it is about."""
    zero_shot = metrics[(metrics["method"] == Method.ZERO_SHOT) & (metrics["source"] == ALL_SOURCES)]
    relevant = zero_shot[zero_shot["setting"] == Setting.RELEVANT]
    base = metrics[(metrics["method"] == Method.NO_PREFERENCE) & (metrics["source"] == ALL_SOURCES)]
    said = [
        _range(base, Metric.ACCURACY_WITHOUT, "Without a preference the models answer {} of the questions right."),
        _range(
            relevant,
            Metric.BREAKAGE_RATE,
            "With one relevant preference in the prompt (zero_shot), {} of the answers that were right turn wrong "
            "(breakage).",
        ),
        _mirror(scores, profile),
        _placebo(scores, profile),
        _range(relevant, Metric.ALIGNMENT_FAILURE, "The preference is not followed in {} (alignment failure)."),
        _range(relevant, Metric.ROBUSTNESS_ERROR, "One or the other goes wrong in {} (robustness error)."),
        *(
            _range(zero_shot[zero_shot["setting"] == s], Metric.BREAKAGE_RATE, f"In the setting {s} breakage is {{}}.")
            for s in (Setting.MIXED, Setting.IRRELEVANT)
        ),
        _redrawn_aligner(metrics) if redrawn(metrics) else _aligner(scores, profile),
        _range(
            relevant, Metric.DELIVERY_FAILURE, "With a relevant preference {} of the answers name no option at all."
        ),
    ]
    return [sentence for sentence in said if sentence]


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


def _mirror(scores: pd.DataFrame, profile: Profile) -> str:
    chosen = scores[(scores["method"] == Method.ZERO_SHOT) & (scores["setting"] == Setting.RELEVANT)]
    if chosen.empty:
        return ""
    found = net_change(chosen, profile.statistics, profile.seed)
    return (
        f"The mirror of breakage: {_span(found, 'fixed_rate', '{:.1f} %')} of the answers that were wrong turn right; "
        f"in all, accuracy changes by {_points(found.assign(difference=found['net']))} points."
    )


def _placebo(scores: pd.DataFrame, profile: Profile) -> str:
    pairs = placebo_pairs(scores)
    # Compared and corrected as in the table, then the relevant setting is told.
    found = compare(_only(scores, pairs), pairs, Metric.BREAKAGE_RATE, profile.statistics, profile.seed)
    found = found[found["setting"] == Setting.RELEVANT]
    if found.empty:
        return ""
    return (
        "A neutral sentence in place of the preference breaks "
        f"{_span(found, 'reference_value', '{:.1f} %')}; on the same questions the preference changes this by "
        f"{_points(found)} points, {_clear(found)}."
    )


def _aligner(scores: pd.DataFrame, profile: Profile) -> str:
    pairs = aligner_pairs(scores, profile)
    found = compare(_only(scores, pairs), pairs, Metric.ROBUSTNESS_ERROR, profile.statistics, profile.seed)
    # Where no rating is there, nothing was compared.
    found = found[(found["setting"] == Setting.RELEVANT) & (found["n"] > 0)]
    if found.empty:
        return ""
    return (
        f"Pref-Aligner changes the robustness error of zero_shot by {_points(found)} points on the same questions "
        f"(below zero is better), {_clear(found)}."
    )


def _redrawn_aligner(metrics: pd.DataFrame) -> str:
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
        return ""
    ends = [f"{value:+.1f} ({model})" for model, value in change.iloc[[0, -1]].items()]
    return (
        f"Pref-Aligner changes the robustness error of zero_shot by {' to '.join(dict.fromkeys(ends))} points "
        "(below zero is better)."
    )


def _only(scores: pd.DataFrame, pairs: list[tuple[Arm, Arm]]) -> pd.DataFrame:
    """The rows of the arms that are compared, with models, methods and settings as codes: quick to choose among."""
    arms = set(chain.from_iterable(pairs))
    wanted = {name: {getattr(arm, name) for arm in arms} for name in ARM_ID}
    chosen = scores[scores["method"].isin(wanted["method"]) & scores["setting"].isin(wanted["setting"])]
    return chosen.astype(dict.fromkeys(ARM_ID, "category"))


def _clear(found: pd.DataFrame) -> str:
    clear = int((found["p_holm"] < 0.05).sum())
    return (
        f"a clear difference in {clear} of {len(found)} comparisons (exact McNemar, p < 0.05 as corrected in the table)"
    )


def _points(found: pd.DataFrame) -> str:
    shown = found if len(found) <= 4 else found.sort_values("difference").iloc[[0, -1]]
    texts = [f"{r.difference:+.1f} [{r.low:+.1f}, {r.high:+.1f}] ({r.model})" for r in shown.itertuples()]
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


def _range(rows: pd.DataFrame, metric: Metric, sentence: str) -> str:
    """`sentence` with "4.1 % [2.0, 7.3] (L) to 9.9 % [...] (S)" put in; empty where there is no value."""
    own = rows[(rows["metric"] == metric) & rows["value"].notna()].sort_values("value", kind="stable")
    if own.empty:
        return ""
    shown = own.iloc[[0, -1]]
    columns = (shown[name].tolist() for name in ("value", "low", "high", "n", "model"))
    ends = [
        f"{value:.1f} %{'' if pd.isna(low) else f' [{low:.1f}, {high:.1f}]'} ({_who(model, n)})"
        for value, low, high, n, model in zip(*columns, strict=True)
    ]
    return sentence.format(ends[0] if len(own) == 1 else " to ".join(ends))
