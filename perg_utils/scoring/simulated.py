"""Whole studies of a world with known truth (`worlds`), as the tables that `scores.score` takes.

Used by tests of what the report says and by notebook 06, never by a study's numbers. Left out: texts, and replies that
did not come.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from perg_utils.core.schema import RELEVANT_SHOWN, Category, Source, Status, conform
from perg_utils.scoring.worlds import (
    DRAFT,
    Floats,
    World,
    assigned_preferences,
    beta_parameters,
    difficulties,
    lowered,
    shifted,
    shifts,
)


def study(world: World, rng: np.random.Generator) -> dict[str, pd.DataFrame]:
    """Return the tables examples, preferences, responses, answers and judgements of one study of `world`.

    One row a question, model and arm (that without preference and those of `world.arms`); the right letter is A.
    `score(**study(world, np.random.default_rng(1)))` scores it; the same generator state gives the same study.
    """
    bank, assigned = _bank(world), assigned_preferences(world)
    examples = _examples(world, _named(bank["preference_id"], assigned))
    right, silent = _answers(world, assigned, rng)
    rated = np.array([setting in RELEVANT_SHOWN for _, setting in [DRAFT, *world.arms]])[:, None]
    rating = np.where(rng.random(right.shape) < _following(world)[:, None], 5.0, 1.0)
    rating[~rated | (rng.random(right.shape) < world.unrated)] = np.nan

    model, arm, question = np.indices(right.shape)
    rows = {
        "example_id": _named(examples["example_id"], question),
        "preference_id": _named(bank["preference_id"], np.where(rated, assigned, -1)[arm, question]),
        "model": _named(world.models, model),
        "method": _named([DRAFT[0], *(method for method, _ in world.arms)], arm),
        "setting": _named([DRAFT[1], *(setting for _, setting in world.arms)], arm),
    }
    letter = _named(["A", "B"], np.where(silent, -1, np.where(right, 0, 1)))
    read = _named([Status.OK, Status.UNPARSABLE], silent)
    judged = _named([Status.OK, Status.UNPARSABLE, Status.NOT_APPLICABLE], np.where(rated, np.isnan(rating), 2))
    return {
        "examples": examples,
        "preferences": bank,
        "responses": _table("responses", rows, response=letter, status=Status.OK, finish_reason="stop", fallback=False),
        "answers": _table("answers", rows, answer=letter, how="simulated", status=read),
        "judgements": _table("judgements", rows, judge="simulated", rating=pd.array(rating.ravel()), status=judged),
    }


def _following(world: World) -> Floats:
    """The share that follows, a value an arm; without preference it plays no part."""
    return np.array([1.0, *(shown.following for shown in world.arms.values())])


def _answers(world: World, assigned: NDArray[np.int64], rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
    """Which answers are right, and which name no option: two arrays (models, arms, questions), the draft first."""
    p = _drawn_difficulties(world, len(assigned), rng)
    preferred = shifted(p, _drawn_shifts(world, rng)[assigned])
    arms = world.arms.items()
    with_ = [lowered(world, preferred if s in RELEVANT_SHOWN else p, shown.effect) for (_, s), shown in arms]
    right = _luck(world, (1 + len(arms), len(p)), rng) < np.stack([p, *with_])
    silent = ~right & (rng.random(right.shape) < world.silent / (1 - world.accuracy))
    copied = [0, *(0 if shown.copies else 1 + i for i, (_, shown) in enumerate(arms))]
    return right[:, copied], silent[:, copied]


def _drawn_difficulties(world: World, total: int, rng: np.random.Generator) -> Floats:
    parameters = beta_parameters(world)
    if parameters is None:
        values, weights = difficulties(world)
        return rng.choice(values, total, p=weights)
    return rng.beta(*parameters, total)


def _drawn_shifts(world: World, rng: np.random.Generator) -> Floats:
    added, _ = shifts(world)
    if not world.fresh_preferences:
        return added
    # The nodes lie evenly about what centres them.
    return rng.normal(float(added.mean()), world.preference_sd, world.preferences * len(Category))


def _luck(world: World, shape: tuple[int, int], rng: np.random.Generator) -> Floats:
    """Uniform draws (models, arms, questions), correlated between models through a normal distribution."""
    from scipy.special import ndtr  # noqa: PLC0415

    if not world.shared:
        return rng.random((len(world.models), *shape))
    own, common = rng.normal(size=(len(world.models), *shape)), rng.normal(size=shape)
    return ndtr(np.sqrt(world.shared) * common + np.sqrt(1 - world.shared) * own)


def _bank(world: World) -> pd.DataFrame:
    rows = [
        {
            "preference_id": f"{category.lower()}-{i}",
            "text": f"{category} {i}",
            "category": str(category),
            "relevant": True,
            "sources": [str(s) for s in Source if (s, category) != (Source.MMLU, Category.CREATIVE)],
        }
        for i in range(1, world.preferences + 1)
        for category in Category
    ]
    return conform("preferences", pd.DataFrame(rows))


def _examples(world: World, preferences: pd.Series) -> pd.DataFrame:
    rows = [(f"{source}-{i:05d}", str(source)) for source, n in world.questions.items() for i in range(n)]
    table = pd.DataFrame(rows, columns=["example_id", "source"])
    options = pd.Series([["right", "wrong"]] * len(rows))
    table = table.assign(subject="simulated", question="", options=options, gold="A", preference_id=preferences)
    return conform("examples", table)


def _named(names: Iterable[object], codes: ArrayLike) -> pd.Series:
    """The names of `codes`, null where a code is -1."""
    return pd.Series(pd.array([*map(str, names)], dtype="str").take(np.ravel(codes).astype(np.int64), allow_fill=True))


#: What the columns of a table are that nobody gave.
_EMPTY: dict[str, dict[str, Any]] = {
    "responses": {"prompt_tokens": 0, "completion_tokens": 0, "seconds": 0.0, "key": ""},
    "answers": {"layer": None, "evidence": None, "confidence": np.nan},
    "judgements": {"explanation": None},
}


def _table(name: str, rows: dict[str, pd.Series], **values: Any) -> pd.DataFrame:
    """The table `name` of these rows."""
    if name == "responses":
        values |= dict.fromkeys(["shown_preferences", "stages"], [[]] * len(rows["example_id"]))
    return conform(name, pd.DataFrame({**rows, **_EMPTY[name], **values}))
