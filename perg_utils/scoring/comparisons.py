"""Which arms are compared, and the tables of comparisons: methods, settings, breakage and its mirror, delivery.

Two arms are compared on the same questions: exact McNemar test, Holm's correction over all comparisons made
together, a paired bootstrap over questions for the difference, and the matched odds ratio as effect size (`intervals`
has the formulas). Left out: two models are not compared with each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.profile import Profile, StatisticsConfig
from perg_utils.core.schema import ARM_ID, Arm, Method, Metric, Setting, ordered
from perg_utils.scoring.intervals import (
    Floats,
    exact_interval,
    holm,
    mcnemar_exact,
    odds_ratio,
    odds_ratio_interval,
    paired_bootstrap,
)

#: Which scores column says that a question went well, for the metrics that have paired comparisons.
OUTCOME = {
    Metric.BREAKAGE_RATE: "correct_with",
    Metric.ALIGNMENT_FAILURE: "followed",
    Metric.ROBUSTNESS_ERROR: "robust",
}


def compared_by(scores: pd.DataFrame) -> Metric:
    """Return the metric by which methods are compared: robustness error, or breakage where nothing was rated."""
    return Metric.ROBUSTNESS_ERROR if scores["followed"].notna().any() else Metric.BREAKAGE_RATE


def compare(
    scores: pd.DataFrame,
    pairs: Sequence[tuple[tuple[str, str, str], tuple[str, str, str]]],
    metric: Metric | None = None,
    config: StatisticsConfig | None = None,
    seed: int = 42,
) -> pd.DataFrame:
    """Return one row for each (reference arm, arm) pair: both values, difference, interval, p and Holm's p.

    An arm is (model, method, setting). Compared on the questions that were right without preference in both arms and
    are scored in both; `n_unscored` counts those of them that were left out. `metric` is breakage rate, alignment
    failure or robustness error; None: robustness error, or breakage rate where nothing was rated. Values and
    differences are in percent (points); `difference` is arm minus reference, so below zero is better; `worse` counts
    questions that only the arm fails, `better` those that only the reference fails; their `odds_ratio` is the effect
    size, with exact bounds. Holm's correction runs over all pairs of this call. Without `config` intervals are of 95 %
    and from 2,000 resamples. Raises `DataError` for an arm of which `scores` has no row, and for another metric.

    >>> def rows(method, right):
    ...     row = {"model": "S", "method": method, "setting": "relevant", "sampled": True, "correct_without": True}
    ...     return [row | {"example_id": i, "followed": True, "robust": r} for i, r in enumerate(right)]
    >>> scores = pd.DataFrame(rows("zero_shot", [True, False, False, False]) + rows("cot", [True, True, True, False]))
    >>> found = compare(scores, [(("S", "zero_shot", "relevant"), ("S", "cot", "relevant"))])
    >>> print(found[["metric", "reference_value", "value", "difference", "better", "n", "p"]].to_string(index=False))
              metric  reference_value  value  difference  better  n   p
    robustness_error             75.0   25.0       -50.0       2  4 0.5
    """
    config, metric = config or StatisticsConfig(), metric or compared_by(scores)
    if metric not in OUTCOME:
        raise DataError(f"metric '{metric}' has no paired comparison; these have: {', '.join(OUTCOME)}")
    compared = dict.fromkeys(Arm(*arm) for pair in pairs for arm in pair)
    outcomes = {tuple(arm): _outcome(scores, arm, metric) for arm in compared}
    rows = [_compare_pair(outcomes[tuple(ref)], outcomes[tuple(arm)], config, seed) for ref, arm in pairs]
    out = pd.DataFrame(rows, columns=["reference_value", "value", "difference", "low", "high", *_COUNTS], dtype=float)
    out = out.astype(dict.fromkeys(_COUNTS, "int64"))
    out.insert(0, "metric", str(metric))
    for position, name in enumerate(ARM_ID):
        out.insert(1 + position, name, [arm[position] for _, arm in pairs])
        out.insert(2 + 2 * position, f"reference_{name}", [ref[position] for ref, _ in pairs])
    out["p"] = np.where(out["n"] > 0, mcnemar_exact(out["worse"], out["better"]), np.nan)
    out["p_holm"] = holm(out["p"])
    out["odds_ratio"] = odds_ratio(out["worse"], out["better"])
    out["odds_low"], out["odds_high"] = odds_ratio_interval(out["worse"], out["better"], config.confidence)
    return out


_COUNTS = ["worse", "better", "n", "n_unscored"]


def _outcome(scores: pd.DataFrame, arm: Arm, metric: Metric) -> pd.Series:
    """Whether each question right without preference went well, by example_id; null where it is not scored."""
    chosen = (scores["model"] == arm.model) & (scores["method"] == arm.method) & (scores["setting"] == arm.setting)
    if not chosen.any():
        raise DataError(f"no row of {' '.join(arm)}; there are: {', '.join(' '.join(known) for known in arms(scores))}")
    right = scores[chosen & scores["sampled"] & scores["correct_without"].fillna(False)]
    return right.set_index("example_id")[OUTCOME[metric]]


def _compare_pair(reference: pd.Series, arm: pd.Series, config: StatisticsConfig, seed: int) -> list[float]:
    both = pd.concat({"ref": reference, "arm": arm}, axis=1, join="inner")
    scored = both.dropna()
    ref_fails, arm_fails = ~scored["ref"].to_numpy(dtype=bool), ~scored["arm"].to_numpy(dtype=bool)
    n = len(scored)
    worse, better = int((arm_fails & ~ref_fails).sum()), int((ref_fails & ~arm_fails).sum())
    # Seeded anew for each pair: a comparison has the same interval in whichever table it stands.
    rng = np.random.default_rng(seed)
    low, high = paired_bootstrap(worse, better, n, rng, confidence=config.confidence, resamples=config.resamples)
    share = 100 / n if n else np.nan
    values = [ref_fails.sum() * share, arm_fails.sum() * share, (worse - better) * share]
    return [*values, 100 * low, 100 * high, worse, better, n, len(both) - n]


def arms(scores: pd.DataFrame) -> list[Arm]:
    """Return the configurations in `scores` that were shown something, in order of appearance."""
    shown = scores.loc[scores["setting"] != Setting.NONE, ARM_ID].drop_duplicates()
    return [Arm(*row) for row in shown.itertuples(index=False)]


def stand_ins(profile: Profile) -> dict[str, str]:
    """Return, for models that run only some methods, the full model with the same weights, e.g. `{"S+L": "S"}`."""
    full = {(m.engine, m.model, m.revision): m.name for m in profile.models if m.methods is None}
    partial = [m for m in profile.models if m.methods is not None]
    return {m.name: full[key] for m in partial if (key := (m.engine, m.model, m.revision)) in full}


def against_method(
    scores: pd.DataFrame, stands_in: dict[str, str] | None = None, reference: Method = Method.ZERO_SHOT
) -> list[tuple[Arm, Arm]]:
    """Return (zero-shot arm, arm) for every other method, same model and setting, where both were run.

    `stands_in` names the model whose reference arm is used for one that has none of its own, e.g.
    `{"S+L": "S"}` where S answers and L only aligns: their answers without preference are the same.
    """
    known = arms(scores)
    others = [arm for arm in known if arm.method != reference]
    return _existing(((_reference_model(arm, reference, known, stands_in), arm) for arm in others), known)


def against_setting(scores: pd.DataFrame, reference: Setting = Setting.RELEVANT) -> list[tuple[Arm, Arm]]:
    """Return (arm in the relevant setting, arm) for every other setting, same model and method, where both were run."""
    known = arms(scores)
    others = [arm for arm in known if arm.setting != reference]
    return _existing(((arm._replace(setting=str(reference)), arm) for arm in others), known)


def _reference_model(arm: Arm, method: Method, known: list[Arm], stands_in: dict[str, str] | None) -> Arm:
    own = arm._replace(method=str(method))
    return own if own in known else own._replace(model=(stands_in or {}).get(arm.model, arm.model))


def _existing(pairs: Iterable[tuple[Arm, Arm]], known: list[Arm]) -> list[tuple[Arm, Arm]]:
    return [(reference, arm) for reference, arm in pairs if reference in known]


#: Below this count before, a relative change says nothing: 1 -> 11 would be +1000 %.
LEAST_FOR_RELATIVE = 5


def delivery_change(scores: pd.DataFrame, config: StatisticsConfig | None = None, seed: int = 42) -> pd.DataFrame:
    """Return how many answers name no option without and with preference, on the same questions, a row a configuration.

    Columns: model, method, setting, `failed_without` and `failed_with` (counts), `without` and `with` (percent),
    `difference` (points) with its bounds `low` and `high`, `relative_change` (percent; NaN where fewer than
    `LEAST_FOR_RELATIVE` answers failed before), `worse`, `better`, `n`, `n_unscored`. Sampled rows only.
    """
    out = _two_arms(scores, "delivered_without", "delivered_with")
    n, failed = out["n"], out["n_wrong"]
    out["failed_without"], out["failed_with"] = failed, failed + out["broke"] - out["fixed"]
    out["without"], out["with"] = (_percent(out[f"failed_{arm}"], n) for arm in ("without", "with"))
    out["difference"] = _percent(out["broke"] - out["fixed"], n)
    out["low"], out["high"] = _bounds(out["broke"], out["fixed"], n, config, seed)
    change = _percent(out["broke"] - out["fixed"], failed)
    out["relative_change"] = change.where(failed >= LEAST_FOR_RELATIVE)
    out = out.rename(columns={"broke": "worse", "fixed": "better"})
    shares = ["failed_without", "failed_with", "without", "with", "difference", "low", "high", "relative_change"]
    return out[[*ARM_ID, *shares, *_COUNTS]]


def net_change(scores: pd.DataFrame, config: StatisticsConfig | None = None, seed: int = 42) -> pd.DataFrame:
    """Return breakage beside its mirror, the answers that a preference mends, a row a configuration.

    `broke` of the `n_right` questions right without preference are wrong with it, `fixed` of the `n_wrong` others
    are right with it: as percent of either set `breakage` and `fixed_rate`, with exact bounds. `net` is accuracy
    with minus without on all `n` questions, in points, with bootstrap bounds `low`, `high`; `p` McNemar's exact,
    `p_holm` over this table, `odds_ratio` that of broke to fixed. `n_unscored` rows lack one of the two answers.
    Sampled rows only.
    """
    confidence = (config or StatisticsConfig()).confidence
    out = _two_arms(scores, "correct_without", "correct_with")
    for rate, bound, events, among in (
        ("breakage", "breakage", "broke", "n_right"),
        ("fixed_rate", "fixed", "fixed", "n_wrong"),
    ):
        out[rate] = _percent(out[events], out[among])
        low, high = exact_interval(out[events], out[among], confidence)
        out[f"{bound}_low"], out[f"{bound}_high"] = 100 * low, 100 * high
    out["net"] = _percent(out["fixed"] - out["broke"], out["n"])
    out["low"], out["high"] = _bounds(out["fixed"], out["broke"], out["n"], config, seed)
    out["p"] = np.where(out["n"] > 0, mcnemar_exact(out["broke"], out["fixed"]), np.nan)
    out["p_holm"] = holm(out["p"])
    out["odds_ratio"] = odds_ratio(out["broke"], out["fixed"])
    shares = ["breakage", "breakage_low", "breakage_high", "fixed_rate", "fixed_low", "fixed_high"]
    counts = ["broke", "fixed", "n_right", "n_wrong"]
    return out[[*ARM_ID, *counts, *shares, "net", "low", "high", "p", "p_holm", "n", "n_unscored", "odds_ratio"]]


def _two_arms(scores: pd.DataFrame, without: str, with_: str) -> pd.DataFrame:
    """Counts for each configuration over the sampled rows where both outcomes are known, models as they appear."""
    shown = scores[scores["sampled"].fillna(False) & (scores["setting"] != Setting.NONE)]
    before, after = (shown[name].to_numpy(dtype=float, na_value=np.nan) for name in (without, with_))
    known = ~(np.isnan(before) | np.isnan(after))
    cells = {
        "broke": (before == 1) & (after == 0),
        "fixed": (before == 0) & (after == 1),
        "n_right": known & (before == 1),
        "n_wrong": known & (before == 0),
        "n": known,
        "n_unscored": ~known,
    }
    keys = ARM_ID
    counted = shown[keys].assign(**{name: cell.astype("int64") for name, cell in cells.items()})
    out = counted.groupby(keys, sort=False, observed=True)[list(cells)].sum().reset_index()
    return ordered(out, keys).reset_index(drop=True)


def _percent(part: pd.Series, whole: pd.Series) -> pd.Series:
    return 100 * part / whole.where(whole > 0).astype(float)


def _bounds(
    more: pd.Series, fewer: pd.Series, n: pd.Series, config: StatisticsConfig | None, seed: int
) -> tuple[Floats, Floats]:
    """Bounds of 100 * (more - fewer) / n, row by row; seeded anew, so a row is the same in whichever table."""
    config = config or StatisticsConfig()
    found = [
        paired_bootstrap(
            a, b, size, np.random.default_rng(seed), confidence=config.confidence, resamples=config.resamples
        )
        for a, b, size in zip(more.tolist(), fewer.tolist(), n.tolist(), strict=True)
    ]
    bounds = 100 * np.array(found, dtype=float).reshape(-1, 2)
    return bounds[:, 0], bounds[:, 1]
