"""Asking: every method of a profile in every setting, for one model; the table 'responses'.

Left out: what a run would ask, without asking it (`plan`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from perg_utils.core.profile import DecodingConfig, ModelConfig, Profile
from perg_utils.core.schema import Method, conform
from perg_utils.core.workspace import Workspace
from perg_utils.engines.base import Engine
from perg_utils.engines.journal import Journal
from perg_utils.engines.schemas import held
from perg_utils.engines.watching import watched
from perg_utils.inference import shards
from perg_utils.inference.methods import METHODS, Answered, Chat, Generate, Outcome
from perg_utils.inference.requests import Material, Row, pair, request, rows, schema, settings
from perg_utils.prompts.sets import PromptSet, load_prompts


def run(profile: Profile, model_name: str, workspace: Workspace) -> pd.DataFrame:
    """Return the table 'responses' of one model, asking only what the journal does not hold; prints progress.

    Needs the tables 'examples' and 'preferences'. Rows without a text say why in `status`. Tokens and `seconds` are
    sums over the row's own stages, as they were when first asked, also where rows share a stage.
    """
    from perg_utils.engines.open import open_engine  # noqa: PLC0415 - engines know of torch and aiohttp

    model, aligner = pair(profile, model_name)
    prompts = load_prompts(profile.prompts).edited(model.editing)
    examples = shards.take(workspace.read("examples"), profile.shard)
    material = Material(examples, workspace.read("preferences"), prompts)
    engine = open_engine(model)
    editor = engine if aligner is model else open_engine(aligner)
    frames = []
    with Journal(workspace.journal) as journal:
        for method, chosen in settings(profile, model).items():
            wanted = rows(profile, method, chosen, material)
            asking = _Asking(journal, profile.decoding, prompts, method, model_name)
            own, edit = asking.by(engine, model), asking.by(editor, aligner)
            outcomes = METHODS[method]([row.task for row in wanted], prompts, own, edit)
            frames.append(table(model_name, method, wanted, outcomes))
    if profile.shard is not None:
        shards.seal(profile, model_name, workspace, [engine.identity, editor.identity])
    return pd.concat(frames, ignore_index=True)


@dataclass(frozen=True)
class _Asking:
    """How the requests of one method are made and asked."""

    journal: Journal
    decoding: DecodingConfig
    prompts: PromptSet
    method: Method
    label: str

    def by(self, engine: Engine, model: ModelConfig) -> Generate:
        def generate(chats: list[Chat], stage: int) -> list[Answered]:
            form = schema(self.prompts, model, stage, self.method)
            requests = [request(chat, model, self.decoding, stage, self.method, held_to=form) for chat in chats]
            requests = held(self.journal, engine, requests, certain=bool(model.structured) or model.batch)
            doing = f"{self.label}, {self.method}, stage {stage}"
            with watched(doing, len(requests), engine, self.journal) as progress:
                keys = [r.key(engine.identity) for r in requests]
                replies = self.journal.ask(engine, requests, progress.advance, keys=keys)
            return [Answered(reply, key) for reply, key in zip(replies, keys, strict=True)]

        return generate


def table(model: str, method: Method, some: list[Row], outcomes: list[Outcome]) -> pd.DataFrame:
    """Return the rows of 'responses' that these outcomes of `method` are, in the order of the rows asked."""
    records = []
    for row, outcome in zip(some, outcomes, strict=True):
        replies = [answered.reply for answered in outcome.answered]
        records.append(
            {
                "example_id": row.example_id,
                "preference_id": row.preference_id,
                "model": model,
                "method": str(method),
                "setting": str(row.setting),
                "shown_preferences": row.shown,
                "response": outcome.response,
                "stages": outcome.stages,
                "status": str(outcome.status),
                "finish_reason": replies[-1].finish_reason,
                "prompt_tokens": _total(reply.prompt_tokens for reply in replies),
                "completion_tokens": _total(reply.completion_tokens for reply in replies),
                "seconds": _total(reply.seconds for reply in replies),
                "key": outcome.answered[-1].key,
                "fallback": outcome.fallback,
            }
        )
    return conform("responses", pd.DataFrame.from_records(records))


def _total(values: Iterable[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
