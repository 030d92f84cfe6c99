"""Which arms are set against each other, fixed before anything is looked at.

Three families: every method against zero_shot, the paper's settings against one relevant preference, and every setting
against its floor, the control that has all of it but what it is about (`FLOORS`). Tables and sentences both take a
family whole, so that a p value corrected over it is the same wherever it stands.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import pandas as pd

from perg_utils.core.profile import Profile
from perg_utils.core.schema import ARM_ID, RELEVANT_SHOWN, Arm, Method, Metric, Setting

#: The reference arm, and the arm that is set against it, each (model, method, setting).
Pair = tuple[tuple[str, str, str], tuple[str, str, str]]


#: What each setting is read against, the first of these that its method was run in: a relevant preference or a belief
#: against any added sentence, several preferences against as many sentences, a control against the one below it.
FLOORS: dict[Setting, tuple[Setting, ...]] = {
    Setting.RELEVANT: (Setting.PLACEBO, Setting.PARAPHRASE, Setting.REPEAT),
    **dict.fromkeys(
        (Setting.MIXED, Setting.IRRELEVANT, Setting.MEMORY),
        (Setting.PLACEBO_LONG, Setting.PLACEBO, Setting.PARAPHRASE, Setting.REPEAT),
    ),
    Setting.MISLEADING: (Setting.PLACEBO, Setting.PARAPHRASE, Setting.REPEAT),
    Setting.PLACEBO_LABELLED: (Setting.PLACEBO,),
    Setting.PLACEBO_LONG: (Setting.PLACEBO,),
    Setting.PLACEBO: (Setting.PARAPHRASE, Setting.REPEAT),
    Setting.PARAPHRASE: (Setting.REPEAT,),
    Setting.SHUFFLED: (Setting.REPEAT,),
}


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
    """Return every method against zero_shot, same model and setting, by robust accuracy over all questions.

    In the settings that show preferences: what methods do in a control is read against the control's own floor.
    """
    shown = (*RELEVANT_SHOWN, Setting.IRRELEVANT)
    return Family(None, [pair for pair in against_method(scores, stand_ins(profile)) if pair[1].setting in shown])


def setting_family(scores: pd.DataFrame) -> Family:
    """Return mixed and irrelevant against one relevant preference, same model and method, by breakage."""
    of_the_paper = (Setting.MIXED, Setting.IRRELEVANT)
    pairs = [pair for pair in against_setting(scores) if pair[1].setting in of_the_paper]
    return Family(Metric.BREAKAGE_RATE, pairs)


def floor_family(scores: pd.DataFrame, metric: Metric | None = None) -> Family:
    """Return every setting against its floor, same model and method, by `metric` (None: see `compare`).

    By a metric on Q* no side is favoured: the plain answer that chooses Q* is as far from either, but for Pref-Aligner,
    which edits it in both.
    """
    known = arms(scores)
    floors = {
        arm: next(
            (f for s in FLOORS.get(Setting(arm.setting), ()) if (f := arm._replace(setting=str(s))) in known), None
        )
        for arm in known
    }
    return Family(metric, [(floor, arm) for arm, floor in floors.items() if floor is not None])
