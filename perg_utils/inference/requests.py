"""What a model is to be asked: the rows of a study, method by method, and the requests that carry them.

`run` asks them and `plan` counts them. The baseline (no_preference, setting none) is always among the rows. Decoding is
the profile's for all arms (paper, appendix), with its longer limits for second stages and for thinking models.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import NamedTuple

import pandas as pd

from perg_utils.core.profile import DecodingConfig, ModelConfig, Profile
from perg_utils.core.schema import RELEVANT_SHOWN, Method, Setting
from perg_utils.dataset import preferences
from perg_utils.engines.base import Decoding, Request
from perg_utils.inference.methods import METHODS, Chat, Task
from perg_utils.inference.shown import Deck
from perg_utils.prompts.sets import PromptSet

#: The methods whose replies are the first drafts of the two-stage ones.
DRAFTS = {Method.SELF_CRITIC: Method.ZERO_SHOT, Method.PREF_ALIGNER: Method.NO_PREFERENCE}


class Material(NamedTuple):
    """What rows are made of: the tables 'examples' and 'preferences', and the prompt set."""

    examples: pd.DataFrame
    bank: pd.DataFrame
    prompts: PromptSet


class Row(NamedTuple):
    """One row of 'responses' before it is asked."""

    example_id: str
    preference_id: str | None
    setting: Setting
    shown: list[str]
    task: Task


def settings(profile: Profile, model: ModelConfig) -> dict[Method, list[Setting]]:
    """Return the settings of each method that `model` runs, e.g. `{no_preference: [none], zero_shot: [relevant]}`.

    Methods come in an order in which first drafts are asked before they are needed.
    """
    out: dict[Method, list[Setting]] = {method: [] for method in METHODS}
    out[Method.NO_PREFERENCE].append(Setting.NONE)
    for setting in profile.grid:
        for method in profile.methods_for(model, setting):
            if profile.baseline == "own" and not out[method]:
                out[method].append(Setting.NONE)
            out[method].append(setting)
    return {method: chosen for method, chosen in out.items() if chosen}


def rows(profile: Profile, method: Method, chosen: Sequence[Setting], material: Material) -> list[Row]:
    """Return the rows of one method in the chosen settings: one an example, in `full` mode one a preference."""
    examples, bank, prompts = material
    deck, given = Deck(bank, prompts, profile.seed), prompts.given_draft
    every = {source: preferences.relevant_ids(bank, source) for source in examples["source"].unique()}
    records = examples.to_dict("records")
    out = []
    for setting in chosen:
        full = profile.data.preferences == "full" and (method, setting) == (Method.ZERO_SHOT, Setting.RELEVANT)
        for example in records:
            sampled = [example["preference_id"]] if setting in RELEVANT_SHOWN else [None]
            for preference_id in every[example["source"]] if full else sampled:
                shown = deck.show(example, preference_id, setting)
                task = shown.task
                if given is not None and method is Method.PREF_ALIGNER:
                    task = task._replace(draft=deck.draft(example, given))
                out.append(Row(example["example_id"], preference_id, setting, shown.ids, task))
    return out


def pair(profile: Profile, name: str) -> tuple[ModelConfig, ModelConfig]:
    """Return the model and the one that aligns its answers; the very same object where it does so itself."""
    model = profile.model(name)
    return model, (profile.model(model.aligner) if model.aligner not in (None, name) else model)


def limit(model: ModelConfig, decoding: DecodingConfig, stage: int, method: Method) -> int:
    """Return the most new tokens of a reply in stage 1 or 2 of `method`, e.g. 500.

    A first draft is its one-stage method's, so that both ask the same request.
    """
    asked = DRAFTS.get(method, method) if stage == 1 else method
    if asked in decoding.max_new_tokens_by_method:
        return decoding.max_new_tokens_by_method[asked]
    if model.thinking:
        return decoding.max_new_tokens_thinking
    return decoding.max_new_tokens if stage == 1 else decoding.max_new_tokens_second_stage


def schema(prompts: PromptSet, model: ModelConfig, stage: int, method: Method) -> str | None:
    """Return the JSON schema that a reply is to be held to, as text: of a second stage that replies as JSON, or None.

    Only a server can be held to one, and not for a model that thinks before it replies, which a schema would forbid.
    """
    if stage == 1 or model.engine != "api" or model.thinking or model.structured is False:
        return None
    found = prompts.schema(method)
    return None if found is None else json.dumps(found)


def request(
    chat: Chat, model: ModelConfig, decoding: DecodingConfig, stage: int, method: Method, *, held_to: str | None = None
) -> Request:
    """Return the request that sends `chat` to `model` with the profile's decoding, and a `schema` if one is given.

    Where replies are sampled, another draw has a seed of its own; a greedy one is the very same request again.
    """
    seed = decoding.seed + (chat.draw if decoding.temperature else 0)
    how = Decoding(limit(model, decoding, stage, method), decoding.temperature, seed)
    return Request(chat.messages, how, chat.draw, held_to)
