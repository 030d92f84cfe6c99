"""Arms against each other on the same questions: the difference, how sure it is, and what could have been found.

Two arms are compared on the same questions: the difference with its interval, the exact McNemar test, the matched odds
ratio as effect size, the smallest difference that could have been found, and whether the two are equivalent within the
profile's margin (`intervals` has the formulas). All models together come first, by one exact test with questions as
units (`pooled`); single models follow. Holm's correction runs over the pooled rows, and over the single ones, of one
call: that is the family, and its size stands in the column `family`.

Methods are compared by robust accuracy over all questions. Not by a metric on Q*: that set is chosen by the plain
answer, which is also Pref-Aligner's draft, so that it alone is spared the regression to the mean that every new answer
has.

Left out: which arms are compared (`pairs`); two models are not compared with each other.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.profile import StatisticsConfig
from perg_utils.core.schema import ALL_MODELS, ARM_ID, RELEVANT_SHOWN, Arm, Metric
from perg_utils.scoring.generalise import difference_like_these
from perg_utils.scoring.intervals import (
    Bounds,
    clustered_interval,
    detectable,
    equivalence,
    holm,
    mcnemar_exact,
    odds_ratio,
    odds_ratio_interval,
    paired_interval,
    sign_flip_exact,
)
from perg_utils.scoring.pairs import Family, Pair, arms

#: Which scores column says that a question went well, for the metrics that have paired comparisons.
OUTCOME = {
    Metric.ROBUST_ACCURACY: "robust",
    Metric.ACCURACY_WITH: "correct_with",
    Metric.BREAKAGE_RATE: "correct_with",
    Metric.ALIGNMENT_FAILURE: "followed",
    Metric.ROBUSTNESS_ERROR: "robust",
}
#: Those of them that are shares of all questions; the others look at the questions right without preference (Q*).
ON_ALL_QUESTIONS = (Metric.ROBUST_ACCURACY, Metric.ACCURACY_WITH)
_COUNTS = ["worse", "better", "n", "n_unscored"]


def compared_by(scores: pd.DataFrame) -> Metric:
    """Return the metric by which methods are compared: robust accuracy, or accuracy where nothing was rated."""
    return Metric.ROBUST_ACCURACY if scores["followed"].notna().any() else Metric.ACCURACY_WITH


def compare(
    scores: pd.DataFrame,
    pairs: Sequence[Pair],
    metric: Metric | None = None,
    config: StatisticsConfig | None = None,
) -> pd.DataFrame:
    """Return one row for each (reference arm, arm) pair: both values, difference, intervals, tests, what it could find.

    An arm is (model, method, setting). `metric` is one of `OUTCOME`; None: robust accuracy, or accuracy where nothing
    was rated. Robust accuracy and accuracy are compared on all questions scored in both arms, the paper's metrics on
    those of them that were right without preference in both. `n_unscored` counts what was left out for want of a
    score; `least` and `most` are what the difference could be with it.

    Values and differences are in percent (points); `difference` is arm minus reference: above zero is better for robust
    accuracy and accuracy, below zero for the paper's metrics. `worse` counts questions that only the arm fails,
    `better` those that only the reference fails; their `odds_ratio` is the effect size, with exact bounds. `low` and
    `high` are bounds at the profile's confidence, each row by itself, and go with `p`; `joint_low` and `joint_high`
    hold for all rows of this call together (Bonferroni) and go with `p_holm`, which is never larger than Bonferroni's.
    `detectable` is the smallest difference that Bonferroni's level finds with 80 % power; `p_equivalence` is small
    where the difference lies within `config.margin` points of zero; `family` is the number of rows corrected for.
    `like_low` and `like_high` are bounds for preferences like these, each row by itself.
    Raises `DataError` for an arm of which `scores` has no row, and for another metric.

    >>> def rows(method, right):
    ...     row = {"model": "S", "method": method, "setting": "relevant", "sampled": True, "correct_without": True}
    ...     return [row | {"example_id": i, "followed": True, "robust": r} for i, r in enumerate(right)]
    >>> scores = pd.DataFrame(rows("zero_shot", [True, False, False, False]) + rows("cot", [True, True, True, False]))
    >>> found = compare(scores, [(("S", "zero_shot", "relevant"), ("S", "cot", "relevant"))])
    >>> print(found[["metric", "reference_value", "value", "difference", "better", "n", "p"]].to_string(index=False))
             metric  reference_value  value  difference  better  n   p
    robust_accuracy             25.0   75.0        50.0       2  4 0.5
    """
    config, metric = config or StatisticsConfig(), _compared(scores, metric)
    matched = _matched(scores, pairs, metric)
    counts = [_counts(both) for both in matched]
    out = _described(pairs, metric, pd.DataFrame(counts, columns=_COUNTS, dtype="int64"))
    fails = np.array([_fails(both) for both in matched], dtype=float).reshape(-1, 2)
    out = _with_values(out, fails, metric)
    b, c, n = (out[name] for name in ("worse", "better", "n"))
    out["p"] = np.where(n > 0, mcnemar_exact(b, c), np.nan)
    out["p_holm"], out["family"] = holm(out["p"]), int((n > 0).sum())
    joint = 1 - (1 - config.confidence) / out["family"].clip(lower=1)
    for name, level in (("", config.confidence), ("joint_", joint)):
        _set_bounds(out, name, paired_interval(b, c, n, level), metric)
    out["detectable"] = 100 * detectable(b, c, n, 1 - joint)
    out["p_equivalence"] = equivalence(b, c, n, config.margin / 100)
    out["odds_ratio"] = odds_ratio(b, c)
    out["odds_low"], out["odds_high"] = odds_ratio_interval(b, c, config.confidence)
    return _for_preferences_like_these(out, [_lost(both) for both in matched], scores, config, metric)


def pooled(
    scores: pd.DataFrame,
    pairs: Sequence[Pair],
    metric: Metric | None = None,
    config: StatisticsConfig | None = None,
) -> pd.DataFrame:
    """Return a row for each kind of pair that several models have: all of them together, as `compare` does each.

    Pairs are of one kind where methods and settings are the same; a pair of two models (an answer of one, edited by
    another) shares its reference with a model of its own and is left out. `model` is ALL. A question's differences are
    summed over the models, so that it counts once however much its models have in common: the test is
    `sign_flip_exact`, the interval `clustered_interval`. `n` counts pairs of answers, `questions` the units. No odds
    ratio: its pairs are not independent.
    """
    config, metric = config or StatisticsConfig(), _compared(scores, metric)
    kinds: dict[tuple[str, ...], list[Pair]] = {}
    for ref, arm in pairs:
        if ref[0] == arm[0]:
            kinds.setdefault((*ref[1:], *arm[1:]), []).append((ref, arm))
    kinds = {kind: own for kind, own in kinds.items() if len(own) > 1}
    named = [((ALL_MODELS, kind[0], kind[1]), (ALL_MODELS, kind[2], kind[3])) for kind in kinds]
    joined = [
        pd.concat({ref[0]: both for (ref, _), both in zip(own, _matched(scores, own, metric), strict=True)})
        for own in kinds.values()
    ]
    out = _described(named, metric, pd.DataFrame([_counts(both) for both in joined], columns=_COUNTS, dtype="int64"))
    out = _with_values(out, np.array([_fails(both) for both in joined], dtype=float).reshape(-1, 2), metric)
    sums = [_by_question(both) for both in joined]
    out["questions"] = [len(found) for found in sums]
    per_question = [n / questions if questions else 1 for n, questions in zip(out["n"], out["questions"], strict=True)]
    out["p"] = [sign_flip_exact(found) if len(found) else np.nan for found in sums]
    out["p_holm"], out["family"] = holm(out["p"]), int((out["n"] > 0).sum())
    alpha = (1 - config.confidence) / max(int((out["n"] > 0).sum()), 1)
    for name, level in (("", config.confidence), ("joint_", 1 - alpha)):
        bounds = [clustered_interval(found, models, level) for found, models in zip(sums, per_question, strict=True)]
        _set_bounds(out, name, np.array(bounds, dtype=float).reshape(-1, 2).T, metric)
    # As if the pairs were independent, for as many as their spread is worth.
    worth = [_worth(both, found) for both, found in zip(joined, sums, strict=True)]
    b, c, n = (out[name] * worth for name in ("worse", "better", "n"))
    out["detectable"] = 100 * detectable(b, c, n, alpha)
    out["p_equivalence"] = equivalence(b, c, n, config.margin / 100)
    found = [_lost(both).groupby(level=1, sort=False).mean() for both in joined]
    return _for_preferences_like_these(out, found, scores, config, metric)


def compare_family(scores: pd.DataFrame, family: Family, config: StatisticsConfig | None = None) -> pd.DataFrame:
    """Return the pooled comparisons of a family, which are its primary ones, and below them those of single models."""
    chosen = _only(scores, family.pairs)
    found = [made(chosen, family.pairs, family.metric, config) for made in (pooled, compare)]
    return pd.concat([frame for frame in found if len(frame)] or found[1:], ignore_index=True)


def _compared(scores: pd.DataFrame, metric: str | None) -> Metric:
    """The metric to compare by, given by its name or not at all."""
    if metric is None:
        return compared_by(scores)
    if metric not in OUTCOME:
        raise DataError(f"metric '{metric}' has no paired comparison; these have: {', '.join(OUTCOME)}")
    return Metric(metric)


def _only(scores: pd.DataFrame, pairs: Sequence[Pair]) -> pd.DataFrame:
    """The rows of the arms that are compared, with models, methods and settings as codes: quick to choose among."""
    compared = [Arm(*arm) for pair in pairs for arm in pair]
    methods, settings = {arm.method for arm in compared}, {arm.setting for arm in compared}
    chosen = scores[scores["method"].isin(methods) & scores["setting"].isin(settings)]
    return chosen.astype(dict.fromkeys(ARM_ID, "category"))


def _matched(scores: pd.DataFrame, pairs: Sequence[Pair], metric: Metric) -> list[pd.DataFrame]:
    """For each pair, whether either arm did well (columns ref and arm), by example_id; null where not scored."""
    outcomes = _outcomes(scores, {Arm(*arm) for pair in pairs for arm in pair}, metric)
    return [
        pd.concat({"ref": outcomes[Arm(*ref)], "arm": outcomes[Arm(*arm)]}, axis=1, join="inner") for ref, arm in pairs
    ]


def _outcomes(scores: pd.DataFrame, compared: set[Arm], metric: Metric) -> dict[Arm, pd.Series]:
    """Whether each question went well in each arm, by example_id; null where it is not scored."""
    there = set(scores[ARM_ID].drop_duplicates().itertuples(index=False, name=None))
    for arm in compared:
        if tuple(arm) not in there:
            known = ", ".join(" ".join(one) for one in arms(scores))
            raise DataError(f"no row of {' '.join(arm)}; there are: {known}")
    chosen = scores["sampled"].fillna(False)
    if metric not in ON_ALL_QUESTIONS:
        chosen &= scores["correct_without"].fillna(False)
    rows = scores.loc[chosen.to_numpy(dtype=bool), [*ARM_ID, "example_id", OUTCOME[metric]]]
    found = {
        Arm(*map(str, key)): own.set_index("example_id")[OUTCOME[metric]]
        for key, own in rows.groupby(ARM_ID, sort=False, observed=True)
        if key in compared
    }
    none = rows.head(0).set_index("example_id")[OUTCOME[metric]]
    return {arm: found.get(arm, none) for arm in compared}


def _counts(both: pd.DataFrame) -> tuple[int, int, int, int]:
    scored = both.dropna()
    ref, arm = scored["ref"].to_numpy(dtype=bool), scored["arm"].to_numpy(dtype=bool)
    return int((ref & ~arm).sum()), int((arm & ~ref).sum()), len(scored), len(both) - len(scored)


def _fails(both: pd.DataFrame) -> tuple[int, int]:
    scored = both.dropna()
    return int((~scored["ref"].astype(bool)).sum()), int((~scored["arm"].astype(bool)).sum())


def _by_question(both: pd.DataFrame) -> np.ndarray:
    """How many more models only the arm fails than only the reference, a whole number a question."""
    return _lost(both).groupby(level=1, sort=False).sum().to_numpy()


def _lost(both: pd.DataFrame) -> pd.Series:
    """1 where only the arm fails, -1 where only the reference, by question (and model)."""
    scored = both.dropna().astype(int)
    return scored["ref"] - scored["arm"]


def _for_preferences_like_these(
    out: pd.DataFrame, lost: Sequence[pd.Series], scores: pd.DataFrame, config: StatisticsConfig, metric: Metric
) -> pd.DataFrame:
    """Add `like_low` and `like_high`, the difference's bounds for preferences like these; NaN where none was shown."""
    chosen = scores[scores["sampled"].fillna(False)]
    chosen = chosen if "preference_id" in chosen else chosen.assign(preference_id=None)
    assigned = (
        chosen.dropna(subset="preference_id").drop_duplicates("example_id").set_index("example_id")["preference_id"]
    )
    shown = out["setting"].isin(RELEVANT_SHOWN) | out["reference_setting"].isin(RELEVANT_SHOWN)
    bounds = []
    for found, relevant in zip(lost, shown, strict=True):
        named = assigned.reindex(found.index.get_level_values(-1)).to_numpy(dtype=object)
        known = pd.notna(named) & relevant  # a question has its preference, but neither arm may have been shown it
        bounds.append(difference_like_these(found.to_numpy()[known], named[known].astype(str), config.confidence))
    own = np.array(bounds, dtype=float).reshape(-1, 2).T
    _set_bounds(out, "like_", own, metric)
    # Never narrower than for these preferences alone.
    for name, wider in (("low", np.minimum), ("high", np.maximum)):
        out[f"like_{name}"] = wider(out[f"like_{name}"].to_numpy(), out[name].to_numpy())
    return out


def _worth(both: pd.DataFrame, by_question: np.ndarray) -> float:
    """How many independent pairs one of these pairs is worth: 1, or less where a question's models move together."""
    scored = both.dropna().astype(int)
    alone, together = float(((scored["ref"] - scored["arm"]) ** 2).sum()), float((by_question**2).sum())
    return min(1.0, alone / together) if together else 1.0


def _described(pairs: Sequence[Pair], metric: Metric, counts: pd.DataFrame) -> pd.DataFrame:
    out = counts
    for position, name in reversed(list(enumerate(ARM_ID))):
        out.insert(0, f"reference_{name}", [ref[position] for ref, _ in pairs])
        out.insert(0, name, [arm[position] for _, arm in pairs])
    out.insert(0, "metric", str(metric))
    return out


def _with_values(out: pd.DataFrame, fails: np.ndarray, metric: Metric) -> pd.DataFrame:
    """Add both values, their difference, and what it could be with the unscored rows, in percent."""
    n, every = out["n"].where(out["n"] > 0).astype(float), (out["n"] + out["n_unscored"]).astype(float)
    values = 100 * fails / n.to_numpy()[:, None]
    if metric.higher_is_better:
        values = 100 - values
    out["reference_value"], out["value"] = values[:, 0], values[:, 1]
    lost = (out["worse"] - out["better"]) * (-1 if metric.higher_is_better else 1)
    out["difference"] = 100 * lost / n
    for name, sign in (("least", -1), ("most", 1)):
        out[name] = 100 * (lost + sign * out["n_unscored"]) / every.where(every > 0)
    return out


def _set_bounds(out: pd.DataFrame, name: str, bounds: Bounds | np.ndarray, metric: Metric) -> None:
    low, high = (100 * np.asarray(bound, dtype=float) for bound in bounds)
    if metric.higher_is_better:
        low, high = 0.0 - high, 0.0 - low  # not -0.0
    out[f"{name}low"], out[f"{name}high"] = low, high
