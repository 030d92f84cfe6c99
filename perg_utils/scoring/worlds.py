"""Worlds of simulated studies: every rate is set, so the true difference between two arms is known.

An answer is right with a probability p of its question, drawn from a Beta distribution. Asked again with another
prompt, the model answers anew with the same p, so that answers change though nothing has an effect: that is churn. A
preference may lower p (an effect), and one preference more than another. An aligner that copies returns its own draft,
which is the answer without preference: nothing it does can break, though it does no good. `truth` is the difference
between two arms that an endless study would find; `simulated` draws studies.

Left out: models that differ, effects that depend on the question beyond p, ratings that depend on the answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from perg_utils.core.errors import DataError
from perg_utils.core.schema import PAPER_METRICS, RELEVANT_SHOWN, Arm, Category, Method, Metric, Setting, Source

Floats = NDArray[np.float64]
#: The share of all questions answered right with the preference followed (right, where none is to be followed).
ROBUST_ACCURACY = "robust_accuracy"
#: The arm without preference, which every world has; an aligner that copies returns its answers.
DRAFT = (Method.NO_PREFERENCE, Setting.NONE)


@dataclass(frozen=True)
class Shown:
    """What is true of a method in a setting.

    `effect`: the points by which accuracy falls (below zero: rises); `following`: the share of answers, right or
    wrong, that follow the preference; `copies`: the answer without preference is returned, so no effect reaches it.
    """

    effect: float = 0.0
    following: float = 0.9
    copies: bool = False


Shows = Mapping[tuple[Method, Setting], Shown]


def usual_arms(zero_shot: Shown = Shown(), aligner: Shown = Shown()) -> Shows:
    """Return arms as the study's demo has them: zero-shot in five settings, Pref-Aligner in three.

    `zero_shot` holds where a relevant preference is shown (relevant, mixed), `aligner` everywhere; the other zero-shot
    settings (irrelevant, and the controls paraphrase and placebo) have no effect.
    """
    settings = (Setting.RELEVANT, Setting.MIXED, Setting.IRRELEVANT)
    controls = (Setting.PARAPHRASE, Setting.PLACEBO)
    asked = {(Method.ZERO_SHOT, s): zero_shot if s in RELEVANT_SHOWN else Shown() for s in (*controls, *settings)}
    return asked | {(Method.PREF_ALIGNER, s): aligner for s in settings}


@dataclass(frozen=True)
class World:
    """What is true in a simulated study; shares in [0, 1], effects in points.

    `churn` is the probability that of two answers to a question, with prompts without effect, one is right and one is
    wrong: at most `2 * accuracy * (1 - accuracy)`, where all questions are equally hard; 0: each is always or never
    right. Questions are equally hard for all models; `shared` is how far the models' luck hangs together beyond that,
    where they see the same prompt (0: not at all, 1: they answer alike); it changes no rate. `preference_sd` is the SD
    of what single preferences add to the logit of p, the same for all questions and models; the mean accuracy stays as
    promised, and where churn is 0 nothing can shift. Preferences are the same in each study of the world ("these
    preferences"), or with `fresh_preferences` drawn anew for each ("preferences like these"). `silent`: the share of
    answers that name no option, where nothing has an effect; they are among the wrong ones. `unrated`: the share of
    judgements that are missing, whatever was answered. Raises `DataError` where rates exclude each other.
    """

    questions: Mapping[Source, int] = field(default_factory=lambda: dict.fromkeys(Source, 200))
    models: tuple[str, ...] = ("S", "M", "L")
    arms: Shows = field(default_factory=usual_arms)
    accuracy: float = 0.75
    churn: float = 0.15
    shared: float = 0.0
    preferences: int = 2  # of each category; MMLU has none of the category Creative
    preference_sd: float = 0.0
    fresh_preferences: bool = False
    silent: float = 0.0
    unrated: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.accuracy < 1:
            raise DataError(f"accuracy {self.accuracy} is not between 0 and 1")
        most = 2 * self.accuracy * (1 - self.accuracy)
        if not 0 <= self.churn <= most + 1e-12:
            raise DataError(f"churn {self.churn} is not in 0 to {most:.4g}, the most at accuracy {self.accuracy}")
        if not 0 <= self.silent <= 1 - self.accuracy:
            raise DataError(f"silent answers are wrong: {self.silent} is not in 0 to {1 - self.accuracy:.4g}")
        for arm, shown in self.arms.items():
            if not 0 <= 100 * self.accuracy - shown.effect <= 100:
                raise DataError(f"{' '.join(arm)}: an effect of {shown.effect} leaves the accuracy outside 0 to 100 %")
        if DRAFT in self.arms:
            raise DataError(f"{' '.join(DRAFT)} is in every world and has nothing to follow; leave it out of the arms")


def no_effect() -> World:
    """Return a world in which every arm answers anew: no prompt and no method has an effect."""
    return World()


def churn_only() -> World:
    """Return a world without effect whose aligner copies: on Q* it looks better by all that churns, and is not."""
    return World(arms=usual_arms(aligner=Shown(copies=True)))


def real_effect(points: float) -> World:
    """Return a world in which a relevant preference costs zero-shot `points` of accuracy; the aligner copies."""
    return World(arms=usual_arms(zero_shot=Shown(effect=points), aligner=Shown(copies=True)))


def aligner_benefit(points: float) -> World:
    """Return a world in which no preference has an effect and an aligner that answers anew gains `points` by itself."""
    return World(arms=usual_arms(aligner=Shown(effect=-points)))


def different_preferences(sd: float) -> World:
    """Return a world without effect on average, in which single preferences help or harm; the aligner copies."""
    return replace(churn_only(), preference_sd=sd)


def truth(world: World, metric: str, reference: Arm, arm: Arm, crossfitted: bool = False) -> float:
    """Return the true difference, `arm` minus `reference`, in points: of accuracies above zero is better.

    `metric` is a `Metric` or "robust_accuracy". What a study of endlessly many questions and answers would find,
    averaged over the preferences in the share in which they are assigned (over all preferences like them, with
    `fresh_preferences`), as if every answer had been rated; accuracies, robust accuracy and delivery failure of all
    questions, the paper's metrics with the denominators of the paper. Computed, not simulated: an integral over p by
    quadrature. All models are alike, so the model of an arm may also be ALL. Raises `DataError` for an unknown arm, and
    where the metric does not apply to one of the two.

    >>> reference, arm = Arm("ALL", "zero_shot", "relevant"), Arm("ALL", "pref_aligner", "relevant")
    >>> round(truth(real_effect(4), "accuracy_with", reference, arm), 6)
    4.0
    >>> round(truth(churn_only(), "breakage_rate", reference, arm), 6)  # half of the churn, of the 75 % right before
    -10.0
    """
    ends = [expected(world, metric, Method(one.method), Setting(one.setting), crossfitted) for one in (arm, reference)]
    return ends[0] - ends[1]


def expected(world: World, metric: str, method: Method, setting: Setting, crossfitted: bool = False) -> float:
    """Return the true value of a metric in percent, e.g. `expected(world, "accuracy_with", *DRAFT)` -> 75.0.

    `crossfitted`: Q* is chosen by another answer without preference than the one that a copying aligner returns. The
    answer without preference counts as its own accuracy with and robust accuracy; raises as `truth` does.
    """
    key = (method, setting)
    if key not in {DRAFT, *world.arms}:
        raise DataError(f"the world has no arm {method} {setting}; it has {', '.join(' '.join(a) for a in world.arms)}")
    shown, judged = world.arms.get(key, Shown(copies=True)), setting in RELEVANT_SHOWN
    if (metric in PAPER_METRICS and key == DRAFT) or (metric == Metric.ALIGNMENT_FAILURE and not judged):
        raise DataError(f"{metric} does not apply to {method} {setting}")
    # A copied draft is a new answer without effect to whoever did not choose Q* by it.
    cells = _cells(
        world,
        replace(shown, copies=False, effect=0.0) if crossfitted and shown.copies else shown,
        judged and not (crossfitted and shown.copies),
    )
    followed = shown.following if judged else 1.0
    star, with_ = cells.kept + cells.broke, cells.kept + cells.fixed
    values = {
        Metric.BREAKAGE_RATE: cells.broke / star,
        Metric.ALIGNMENT_FAILURE: 1 - followed,
        Metric.ROBUSTNESS_ERROR: 1 - followed * cells.kept / star,
        Metric.PERFORMANCE_VARIATION: (cells.broke + cells.fixed) / (star + cells.fixed),
        Metric.DELIVERY_FAILURE: (1 - with_) * world.silent / (1 - world.accuracy),
        Metric.ACCURACY_WITHOUT: star,
        Metric.ACCURACY_WITH: with_,
        ROBUST_ACCURACY: followed * with_,
    }
    if metric not in values:
        raise DataError(f"unknown metric '{metric}'; known: {', '.join(values)}")
    return 100 * float(values[metric])


class _Cells(NamedTuple):
    """True shares of all questions: right without and with, only without, only with."""

    kept: float
    broke: float
    fixed: float


def _cells(world: World, shown: Shown, relevant: bool) -> _Cells:
    if shown.copies:
        return _Cells(world.accuracy, 0.0, 0.0)
    p, weight = difficulties(world)
    added, shares = shifts(world) if relevant else (np.zeros(1), np.ones(1))
    with_ = shares @ lowered(world, shifted(p, added[:, None]), shown.effect)
    return _Cells(*(float(weight @ cell) for cell in (p * with_, p * (1 - with_), (1 - p) * with_)))


def beta_parameters(world: World) -> tuple[float, float] | None:
    """Return the two parameters of the Beta distribution of p; None where p is 0 or 1 only, or always the same."""
    share = world.churn / (2 * world.accuracy * (1 - world.accuracy))
    if not 1e-6 < share < 1 - 1e-6:
        return None
    size = share / (1 - share)
    return world.accuracy * size, (1 - world.accuracy) * size


def difficulties(world: World) -> tuple[Floats, Floats]:
    """Return values of p and their weights, which integrate over its distribution (Gauss and Jacobi)."""
    from scipy.special import roots_jacobi  # noqa: PLC0415 - slow to import

    parameters = beta_parameters(world)
    if parameters is None:
        if world.churn > world.accuracy * (1 - world.accuracy):
            return np.array([world.accuracy]), np.ones(1)
        return np.array([0.0, 1.0]), np.array([1 - world.accuracy, world.accuracy])
    a, b = parameters
    nodes, weights = roots_jacobi(64, b - 1, a - 1)
    return (1 + nodes) / 2, weights / weights.sum()


def shifts(world: World) -> tuple[Floats, Floats]:
    """Return what preferences add to the logit of p, and the share of each among the questions.

    The quantiles of a normal distribution, or with `fresh_preferences` the nodes that integrate over it.
    """
    from scipy.special import ndtri  # noqa: PLC0415

    if world.fresh_preferences:
        nodes, weights = np.polynomial.hermite_e.hermegauss(40)
        added, shares = world.preference_sd * nodes, weights / weights.sum()
    else:
        assigned, count = assigned_preferences(world), world.preferences * len(Category)
        normal = ndtri((np.arange(count) + 0.5) / count)
        added = world.preference_sd * normal / normal.std()
        shares = np.bincount(assigned, minlength=count) / len(assigned)
    return added + _centre(world, added, shares), shares


def assigned_preferences(world: World) -> NDArray[np.int64]:
    """Return for each question the position of its preference: those of its source in turn.

    Preferences have their categories in turn; MMLU has none of the category Creative.
    """
    every = np.arange(world.preferences * len(Category))
    plain = every[every % len(Category) != list(Category).index(Category.CREATIVE)]
    own = [(plain if source == Source.MMLU else every, n) for source, n in world.questions.items()]
    return np.concatenate([np.resize(known, n) for known, n in own])


def _centre(world: World, added: Floats, shares: Floats) -> float:
    """What all shifts need in addition for the mean accuracy to stay as promised."""
    from scipy.optimize import brentq  # noqa: PLC0415

    p, weight = difficulties(world)
    if not added.any() or not (p * (1 - p)).any():
        return 0.0

    def surplus(more: float) -> float:
        return float(shares @ shifted(p, added[:, None] + more) @ weight) - world.accuracy

    reach = float(np.abs(added).max())
    return float(brentq(surplus, -reach, reach, xtol=1e-12))


def shifted(p: Floats, shift: ArrayLike) -> Floats:
    """Return `p` with `shift` added to its logit; 0 and 1 stay."""
    odds = np.exp(shift)
    return p * odds / (1 - p + p * odds)


def lowered(world: World, p: Floats, effect: float) -> Floats:
    """Return `p` lowered in proportion, so that its mean falls by `effect` points (below zero: 1 - p is)."""
    if effect >= 0:
        return p * (1 - effect / 100 / world.accuracy)
    return 1 - (1 - p) * (1 + effect / 100 / (1 - world.accuracy))
