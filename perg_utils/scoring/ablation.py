"""What each way of editing is worth: models that differ only in one switch of `editing`, on the same questions.

A profile lists the same weights several times with other `editing` (profile `ablation`). For each switch all pairs of
such models that are equal in everything else are taken together: the switch's main effect over all settings of the
others. Not in the paper, which has one Pref-Aligner prompt (section 4).
"""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from perg_utils.core.profile import EditingConfig, ModelConfig, Profile
from perg_utils.core.schema import Method, Metric
from perg_utils.scoring.comparisons import pooled
from perg_utils.scoring.pairs import Pair

#: The switches, and what each is read against.
SWITCHES: dict[str, object] = {
    "keep_letter": False,
    "show_options": False,
    "response_first": False,
    "form": "labelled",
}


def switch_pairs(profile: Profile) -> Iterator[tuple[str, str, str]]:
    """Yield (switch, model without it, model with it) for models of equal weights that differ in that switch only.

    E.g. `("keep_letter", "L.free", "L.keep")`. A switch that a model leaves to its prompt set has no part in it.
    """
    models = [(model, _switches(model.editing)) for model in profile.models if model.editing is not None]
    for one, off in models:
        for other, on in models:
            differ = [name for name in SWITCHES if off[name] != on[name]]
            alike = _weights(one) == _weights(other)
            if alike and len(differ) == 1 and off[differ[0]] == SWITCHES[differ[0]] and on[differ[0]] is not None:
                yield differ[0], one.name, other.name


def switch_effects(scores: pd.DataFrame, profile: Profile, metric: Metric | None = None) -> pd.DataFrame:
    """Return a row a switch and setting: Pref-Aligner with it against without, as `comparisons.pooled` has them.

    `method` is the switch, `value` with it and `reference_value` without, over all pairs of `switch_pairs`; a
    question's pairs are one unit. Empty where a profile has no two such models, or a switch a single pair.
    """
    own = scores[scores["method"] == Method.PREF_ALIGNER]
    parts: list[pd.DataFrame] = []
    pairs: list[Pair] = []
    for number, (switch, *models) in enumerate(switch_pairs(profile)):
        both = [own[own["model"] == model] for model in models]
        for setting in both[0]["setting"].unique() if all(map(len, both)) else ():
            if setting in set(both[1]["setting"]) - {"none"}:
                names = [(str(number), f"{switch} {state}", str(setting)) for state in ("off", "on")]
                pairs.append((names[0], names[1]))
                parts += [
                    rows[rows["setting"] == setting].assign(model=name[0], method=name[1])
                    for rows, name in zip(both, names, strict=True)
                ]
    if not parts:
        return pd.DataFrame()
    found = pooled(pd.concat(parts, ignore_index=True), pairs, metric, profile.statistics)
    return found.assign(method=found["method"].str.removesuffix(" on"))


def _switches(editing: EditingConfig | None) -> dict[str, object]:
    return {name: getattr(editing, name) for name in SWITCHES}


def _weights(model: ModelConfig) -> tuple[object, ...]:
    draft = model.editing.draft if model.editing is not None else None
    return (model.engine, model.model, model.revision, model.aligner, draft)
