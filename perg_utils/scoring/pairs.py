"""Which arms are set against each other, fixed before anything is looked at.

Three families: every method against zero_shot, every setting against one relevant preference, and zero_shot in every
setting against the placebo. Tables and sentences both take a family whole, so that a p value corrected over it is the
same wherever it stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd

from perg_utils.core.profile import Profile
from perg_utils.core.schema import ARM_ID, Arm, Method, Metric, Setting

#: The reference arm, and the arm that is set against it, each (model, method, setting).
Pair = tuple[tuple[str, str, str], tuple[str, str, str]]


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


class Family(NamedTuple):
    """Comparisons that are made and corrected together: by which metric (None: see `compare`), and which pairs."""

    metric: Metric | None
    pairs: list[tuple[Arm, Arm]]


def method_family(scores: pd.DataFrame, profile: Profile) -> Family:
    """Return every method against zero_shot, same model and setting, by robust accuracy over all questions."""
    return Family(None, against_method(scores, stand_ins(profile)))


def setting_family(scores: pd.DataFrame) -> Family:
    """Return mixed and irrelevant against one relevant preference, same model and method, by breakage."""
    pairs = [pair for pair in against_setting(scores) if pair[1].setting != Setting.PLACEBO]
    return Family(Metric.BREAKAGE_RATE, pairs)


def placebo_family(scores: pd.DataFrame) -> Family:
    """Return the other settings of zero_shot against the placebo, same model, by breakage.

    Q* is chosen by the plain answer, from which both arms stand equally far, so that here it favours neither.
    """
    pairs = [pair for pair in against_setting(scores, Setting.PLACEBO) if pair[1].method == Method.ZERO_SHOT]
    return Family(Metric.BREAKAGE_RATE, pairs)
