"""Arms that a study asks for beside the run's own: through the same journal, read and rated in the same way.

Left out: what a study makes of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import pandas as pd

from perg_utils.core.profile import ModelConfig
from perg_utils.core.run import Run
from perg_utils.core.schema import Method, Setting, conform
from perg_utils.engines.base import Engine, Messages
from perg_utils.engines.journal import Journal
from perg_utils.engines.open import open_engine
from perg_utils.engines.schemas import held
from perg_utils.engines.watching import watched
from perg_utils.extraction.answers import extract
from perg_utils.extraction.layers import open_layers
from perg_utils.inference.methods import Chat
from perg_utils.inference.requests import Material, Row, request, rows
from perg_utils.inference.shown import Deck
from perg_utils.judging.rating import judge
from perg_utils.prompts.sets import load_prompts
from perg_utils.scoring.scores import score


def one_stage_rows(run: Run, method: Method, setting: Setting) -> list[Row]:
    """Return the rows of a run's questions for a method in a setting, as the run itself would ask them."""
    material = Material(run.read("examples"), run.read("preferences"), load_prompts(run.profile.prompts))
    return rows(run.profile, method, [setting], material)


def rows_with(run: Run, assigned: Mapping[str, str]) -> list[Row]:
    """Return rows of the setting relevant with other preferences than the run's: example_id -> preference_id."""
    deck = Deck(run.read("preferences"), load_prompts(run.profile.prompts), run.profile.seed)
    out = []
    for example in run.read("examples").to_dict("records"):
        if (preference := assigned.get(example["example_id"])) is not None:
            shown = deck.show(example, preference, Setting.RELEVANT)
            out.append(Row(example["example_id"], preference, Setting.RELEVANT, shown.ids, shown.task))
    return out


def ask(
    run: Run,
    model: str | ModelConfig,
    what: str,
    asked: Sequence[tuple[Row, Messages]],
    *,
    method: Method = Method.ZERO_SHOT,
    stage: int = 1,
    draw: int = 0,
    temperature: float | None = None,
    schema: str | None = None,
) -> pd.DataFrame:
    """Return the replies to chats of one stage as the table 'responses', in their order; `what` is said of progress.

    `model` is one of the profile's, by its name, or another. `method` and `stage` decide the limit of new tokens.
    Decoding is the run's, with another `temperature` where samples of one prompt are needed. Replies are held to a
    JSON `schema` where the model is a server that takes one. What the journal holds is not asked again.
    """
    own, decoding = run.profile.model(model) if isinstance(model, str) else model, run.profile.decoding
    if temperature is not None:
        decoding = decoding.model_copy(update={"temperature": temperature})
    engine = _opened(own)
    form = schema if own.engine == "api" and not own.thinking and own.structured is not False else None
    requests = [request(Chat(chat, draw), own, decoding, stage, method, held_to=form) for _, chat in asked]
    with Journal(run.workspace.journal) as journal:
        requests = held(journal, engine, requests, certain=bool(own.structured) or own.batch)
        keys = [one.key(engine.identity) for one in requests]
        with watched(f"{own.name}, {what}", len(requests), engine, journal) as progress:
            replies = journal.ask(engine, requests, progress.advance, keys=keys)
    records = [
        {
            "example_id": row.example_id,
            "preference_id": row.preference_id,
            "model": own.name,
            "method": str(method),
            "setting": str(row.setting),
            "shown_preferences": row.shown,
            "response": reply.text,
            "stages": [] if reply.text is None else [reply.text],
            "status": str(reply.status),
            "finish_reason": reply.finish_reason,
            "prompt_tokens": reply.prompt_tokens,
            "completion_tokens": reply.completion_tokens,
            "seconds": reply.seconds,
            "key": key,
            "fallback": False,
        }
        for (row, _), reply, key in zip(asked, replies, keys, strict=True)
    ]
    columns = None if records else [*_NO_REPLIES]
    return conform("responses", pd.DataFrame.from_records(records, columns=columns))


_NO_REPLIES = (
    *("example_id", "preference_id", "model", "method", "setting", "shown_preferences", "response", "stages"),
    *("status", "finish_reason", "prompt_tokens", "completion_tokens", "seconds", "key", "fallback"),
)


def _opened(model: ModelConfig) -> Engine:
    """The model's engine; the weights that were asked last stay in memory, as loading may take a minute."""
    engine = open_engine(model)
    return engine if model.engine == "api" else _kept(model.model_dump_json(), tuple(sorted(engine.identity.items())))


@lru_cache(maxsize=1)
def _kept(model: str, _identity: tuple[tuple[str, str], ...]) -> Engine:
    return open_engine(ModelConfig.model_validate_json(model))


def drawn(run: Run, model: str, setting: Setting, draw: int, temperature: float) -> pd.DataFrame:
    """Return sampled zero_shot responses, the table 'responses': a row a question. The only arm that is not greedy."""
    prompts = load_prompts(run.profile.prompts)
    found = one_stage_rows(run, Method.ZERO_SHOT, setting)
    chats = [(row, prompts.messages(Method.ZERO_SHOT, **row.task.variables())) for row in found]
    return ask(run, model, f"sample {draw}, {setting}", chats, draw=draw, temperature=temperature)


def scored(run: Run, responses: pd.DataFrame, plain: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the table 'scores' of other responses to this run's questions, beside its answers without preference.

    They are read by the profile's extractor and rated by its main judge. `responses` holds one row a question and arm;
    `plain` the answers without preference of models that are not the run's.
    """
    if plain is None:
        plain = run.read("responses")
        plain = plain[(plain["setting"] == Setting.NONE) & plain["model"].isin(responses["model"])]
    every = conform("responses", pd.concat([plain, responses[plain.columns]], ignore_index=True))
    examples, preferences = run.read("examples"), run.read("preferences")
    with Journal(run.workspace.journal) as journal:
        answers = extract(every, examples, open_layers(run.profile, run.workspace, journal))
        rated = judge(run.profile, every, examples, preferences, journal)
    found = score(
        examples,
        every,
        answers,
        rated,
        preferences,
        threshold=run.profile.judge.threshold,
        baseline=run.profile.baseline,
        models=[model.name for model in run.profile.models],
    )
    return found[found["setting"] != Setting.NONE].reset_index(drop=True)


def letters(run: Run, responses: pd.DataFrame) -> pd.Series:
    """Return the letter that each response names (null: none), read by the profile's extractor; same index."""
    with Journal(run.workspace.journal) as journal:
        layers = open_layers(run.profile, run.workspace, journal)
        found = extract(responses.reset_index(drop=True), run.read("examples"), layers)
    return pd.Series(found["answer"].astype(object).to_numpy(), index=responses.index, dtype=object)
