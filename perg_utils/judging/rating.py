"""How well each response of a run follows its preference, rated 1 to 5 (paper, section 3.3): the table 'judgements'.

The judge is the profile's (module `judges`); correctness plays no part. In mixed settings only the relevant preference
is rated. No judge is shown the right answer. A rating that is missing or unreadable is null, with a status that says
why; it is never counted as "not followed".

Left out: what a panel of judges says together (`panel`), and how far judges agree (`agreement`).
"""

from __future__ import annotations

import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.profile import ROOT, JudgeConfig, Profile
from perg_utils.core.schema import RELEVANT_SHOWN, ROW_ID, Category, Method, Setting, Status, conform
from perg_utils.engines.base import Decoding
from perg_utils.engines.journal import Journal
from perg_utils.judging.human import HumanJudge, read_ratings
from perg_utils.judging.judges import CueJudge, HeuristicJudge, Judge, LLMJudge
from perg_utils.judging.rubric import Case, Rating
from perg_utils.prompts.sets import load_prompts


def check_judges(profile: Profile) -> None:
    """Raise `PergError` where the rubric or the file of ratings of a judge is missing or unusable; asks nothing."""
    for config in profile.all_judges():
        if config.ratings is not None:
            read_ratings(ROOT / config.ratings)
        if config.model is not None:
            load_prompts(config.prompts or profile.prompts).messages(config.rubric, **_BLANK.variables())


_BLANK = Case("", ("", ""), "", None, "", "")


def judge(
    profile: Profile,
    responses: pd.DataFrame,
    examples: pd.DataFrame,
    preferences: pd.DataFrame,
    journal: Journal | None = None,
    *,
    by: JudgeConfig | None = None,
) -> pd.DataFrame:
    """Return the table 'judgements' of one judge, the profile's main one: a row a response row, in its order.

    Rows without a relevant preference are `not_applicable`; rows without a response keep the response's status. A
    journal is needed for an LLM judge only.
    """
    rater = open_judge(profile, by or profile.judge, journal)
    if isinstance(rater, HumanJudge):
        rater.check(responses)
    statuses = [
        Status(status) if Setting(setting) in RELEVANT_SHOWN else Status.NOT_APPLICABLE
        for setting, status in zip(responses["setting"], responses["status"], strict=True)
    ]
    out = [Rating(None, None, status) for status in statuses]
    to_rate = [position for position, status in enumerate(statuses) if status == Status.OK]
    rated = cases(profile, responses, to_rate, examples, preferences)
    for position, rating in zip(to_rate, rater.rate(rated), strict=True):
        out[position] = rating
    table = responses[ROW_ID].reset_index(drop=True)
    return conform("judgements", table.assign(judge=rater.name, **pd.DataFrame(out, columns=list(Rating._fields))))


def open_judge(profile: Profile, config: JudgeConfig, journal: Journal | None) -> Judge:
    """Return the judge of a profile's entry; nothing is asked and no weights are loaded before the first rating."""
    if config.kind == "cues":
        return CueJudge(config.label)
    if config.ratings is not None:
        return HumanJudge(config.label, ROOT / config.ratings)
    if config.model is None:
        return HeuristicJudge(config.label)
    if journal is None:
        raise ValueError("an LLM judge needs a journal")
    from perg_utils.engines.open import open_engine  # noqa: PLC0415 - engines know of torch and aiohttp

    limits, model = profile.decoding, config.model
    limit = limits.max_new_tokens_thinking if model.thinking else limits.max_new_tokens
    prompts = load_prompts(config.prompts or profile.prompts)
    decoding = Decoding(limit, limits.temperature, limits.seed)
    # A batch takes up to a day: too long to find out by a first request. OpenAI, whose API it is, takes schemas.
    structured = True if config.structured is None and model.batch else config.structured
    return LLMJudge(config.label, open_engine(model), journal, prompts, decoding, config.rubric, structured)


def cases(
    profile: Profile, responses: pd.DataFrame, chosen: list[int], examples: pd.DataFrame, preferences: pd.DataFrame
) -> list[Case]:
    """Return the cases of the response rows at the positions `chosen`, for a judge or a human rater.

    Raises `DataError` for a response without its example or preference.
    """
    questions = {e["example_id"]: (e["question"], tuple(e["options"])) for e in examples.to_dict("records")}
    bank = {p["preference_id"]: (p["text"], p["category"]) for p in preferences.to_dict("records")}
    baselines = responses[(responses["setting"] == Setting.NONE) & responses["response"].notna()]
    plain = {(r["example_id"], r["model"], r["method"]): r["response"] for r in baselines.to_dict("records")}
    out = []
    for row in responses.iloc[chosen].to_dict("records"):
        if row["example_id"] not in questions or row["preference_id"] not in bank:
            raise DataError(
                f"the response to {row['example_id']} with preference {row['preference_id']} belongs to no example "
                "and preference of these tables; run 01_curate_data and 03_run_inference again"
            )
        text, category = bank[row["preference_id"]]
        own = row["method"] if profile.baseline == "own" else Method.NO_PREFERENCE
        out.append(
            Case(
                *questions[row["example_id"]],
                preference=text,
                category=None if pd.isna(category) else Category(category),
                response_without=plain.get((row["example_id"], row["model"], own), ""),
                response_with=row["response"],
                row=tuple(row[name] for name in ROW_ID),
            )
        )
    return out
