"""Arms that a study asks for beside the run's own: through the same journal, read and rated in the same way.

Left out: what a study makes of them.
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from perg_utils.core.run import Run
from perg_utils.core.schema import Method, Setting, conform
from perg_utils.engines.journal import Journal
from perg_utils.engines.open import open_engine
from perg_utils.engines.watching import watched
from perg_utils.extraction.answers import extract
from perg_utils.extraction.layers import open_layers
from perg_utils.inference.methods import Chat
from perg_utils.inference.requests import Material, Row, request, rows
from perg_utils.judging.rating import judge
from perg_utils.prompts.sets import PromptSet, load_prompts
from perg_utils.scoring.scores import score


def one_stage_rows(run: Run, method: Method, setting: Setting, prompts: PromptSet | None = None) -> list[Row]:
    """Return the rows of a run's questions for a method in a setting, as the run itself would ask them."""
    prompts = prompts or load_prompts(run.profile.prompts)
    material = Material(run.read("examples"), run.read("preferences"), prompts)
    return rows(run.profile, method, [setting], material)


def drawn(run: Run, model: str, setting: Setting, draws: Sequence[int], temperature: float) -> pd.DataFrame:
    """Return sampled zero_shot responses: the table 'responses' with a column `draw`, a row a question and draw.

    The only arm that is not decoded as the others are: samples of one prompt need a temperature. Prints progress; what
    the journal holds is not asked again.
    """
    own, prompts = run.profile.model(model), load_prompts(run.profile.prompts)
    engine, found = open_engine(own), one_stage_rows(run, Method.ZERO_SHOT, setting, prompts)
    decoding = run.profile.decoding.model_copy(update={"temperature": temperature})
    asked = []
    for draw in draws:
        for row in found:
            chat = prompts.messages(Method.ZERO_SHOT, **row.task.variables())
            asked.append(request(Chat(chat, draw), own, decoding, 1, Method.ZERO_SHOT))
    with Journal(run.workspace.journal) as journal, watched(f"{model}, samples", len(asked), engine, journal) as bar:
        keys = [one.key(engine.identity) for one in asked]
        replies = journal.ask(engine, asked, bar.advance, keys=keys)
    records = []
    for number, (reply, key) in enumerate(zip(replies, keys, strict=True)):
        row = found[number % len(found)]
        records.append(
            {
                "example_id": row.example_id,
                "preference_id": row.preference_id,
                "model": model,
                "method": str(Method.ZERO_SHOT),
                "setting": str(setting),
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
        )
    made = conform("responses", pd.DataFrame.from_records(records))
    return made.assign(draw=[draw for draw in draws for _ in found])


def scored(run: Run, responses: pd.DataFrame) -> pd.DataFrame:
    """Return the table 'scores' of other responses to this run's questions, beside its answers without preference.

    They are read by the profile's extractor and rated by its main judge. `responses` holds one row a question and arm.
    """
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
    return pd.Series(found["answer"].to_numpy(), index=responses.index)
