"""Intervals and paired tests for the metrics (the paper reports none; its numbers are bare percentages).

Every metric of the study is a share of a set of questions: breakage, alignment failure and robustness error of
the questions right without preference, performance variation of the questions right in at least one arm,
accuracy and delivery failure of all questions. Given the size of that set such a share is binomial, so its
interval is exact (Clopper-Pearson). A percentile bootstrap would give [0, 0] where nothing broke.

Two arms are compared on the same questions: exact McNemar test, Holm's correction over all comparisons made
together, and a paired bootstrap over questions for the difference. Left out: models with random effects for
question or preference; two models are not compared with each other.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from .profile import Profile, StatisticsConfig
from .schema import Method, Metric, Setting

Floats = NDArray[np.float64]

#: Which scores column says that a question went well, for the metrics that have paired comparisons.
OUTCOME = {
    Metric.BREAKAGE_RATE: "correct_with",
    Metric.ALIGNMENT_FAILURE: "followed",
    Metric.ROBUSTNESS_ERROR: "robust",
}


class Arm(NamedTuple):
    """One configuration: who answered, how it was asked, and which preferences it was shown."""

    model: str
    method: str
    setting: str


def exact_interval(events: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Return the Clopper-Pearson bounds of the shares `events / n`, e.g. `exact_interval(0, 10)` -> (0, 0.308).

    Works elementwise; bounds are in [0, 1], and NaN where `n` is 0.
    """
    from scipy.stats import beta  # noqa: PLC0415 - half a second of import that most callers never need

    k, n = np.asarray(events, dtype=float), np.asarray(n, dtype=float)
    tail = (1 - confidence) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(k > 0, beta.ppf(tail, k, n - k + 1), 0.0)
        high = np.where(k < n, beta.ppf(1 - tail, k + 1, n - k), 1.0)
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


def mcnemar_exact(worse: ArrayLike, better: ArrayLike) -> Floats:
    """Return two-sided exact p values from the discordant pairs, e.g. `mcnemar_exact(1, 9)` -> 0.0215."""
    from scipy.stats import binom  # noqa: PLC0415

    b, c = np.asarray(worse), np.asarray(better)
    return np.minimum(1.0, 2 * binom.cdf(np.minimum(b, c), b + c, 0.5))


def holm(p: ArrayLike) -> Floats:
    """Return Holm's adjusted p values; NaN stays NaN and does not count as a comparison."""
    values = np.asarray(p, dtype=float)
    out = np.full_like(values, np.nan)
    made = np.flatnonzero(~np.isnan(values))
    ordered = made[np.argsort(values[made], kind="stable")]
    stepped = values[ordered] * np.arange(len(ordered), 0, -1)
    out[ordered] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return out


def paired_bootstrap(
    worse: int, better: int, n: int, rng: np.random.Generator, *, confidence: float = 0.95, resamples: int = 2000
) -> tuple[float, float]:
    """Return bounds of the difference `(worse - better) / n` between two arms on the same `n` questions.

    Questions are resampled with replacement. A question only matters by its cell (worse, better, same), so a
    resample is one multinomial draw. Half a pair is added to each of the four cells (Agresti and Min, 2005):
    otherwise the interval is empty where no pair differs. `paired_bootstrap(9, 1, 100, rng)` is about (0.02, 0.14).
    """
    if n == 0:
        return np.nan, np.nan
    total = n + 2
    draws = rng.multinomial(
        total, [(worse + 0.5) / total, (better + 0.5) / total, (n - worse - better + 1) / total], resamples
    )
    tail = (1 - confidence) / 2
    low, high = np.quantile((draws[:, 0] - draws[:, 1]) / total, [tail, 1 - tail])
    return float(low), float(high)


def compare(
    scores: pd.DataFrame,
    pairs: Sequence[tuple[Arm, Arm]],
    metric: Metric = Metric.ROBUSTNESS_ERROR,
    config: StatisticsConfig | None = None,
    seed: int = 42,
) -> pd.DataFrame:
    """Return one row for each (reference arm, arm) pair: both values, difference, interval, p and Holm's p.

    Compared on the questions that were right without preference in both arms and are scored in both;
    `n_unscored` counts those of them that were left out. Values and differences are in percent (points);
    `difference` is arm minus reference, so below zero is better; `worse` counts questions that only the arm fails.
    Holm's correction runs over all pairs of this call.
    """
    config = config or StatisticsConfig()
    outcomes = {arm: _outcome(scores, arm, metric) for arm in dict.fromkeys(arm for pair in pairs for arm in pair)}
    rows = [_compare_pair(outcomes[ref], outcomes[arm], config, seed) for ref, arm in pairs]
    out = pd.DataFrame(rows, columns=["reference_value", "value", "difference", "low", "high", *_COUNTS], dtype=float)
    out = out.astype(dict.fromkeys(_COUNTS, "int64"))
    out.insert(0, "metric", str(metric))
    for position, name in enumerate(Arm._fields):
        out.insert(1 + position, name, [arm[position] for _, arm in pairs])
        out.insert(2 + 2 * position, f"reference_{name}", [ref[position] for ref, _ in pairs])
    out["p"] = np.where(out["n"] > 0, mcnemar_exact(out["worse"], out["better"]), np.nan)
    out["p_holm"] = holm(out["p"])
    return out


_COUNTS = ["worse", "better", "n", "n_unscored"]


def _outcome(scores: pd.DataFrame, arm: Arm, metric: Metric) -> pd.Series:
    """Whether each question right without preference went well, by example_id; null where it is not scored."""
    chosen = (scores["model"] == arm.model) & (scores["method"] == arm.method) & (scores["setting"] == arm.setting)
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
    shown = scores.loc[scores["setting"] != Setting.NONE, list(Arm._fields)].drop_duplicates()
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
