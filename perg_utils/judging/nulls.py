"""What a judge says of responses that were not written for the preference: the table `nulls`.

For each model and question of one arm (zero_shot with one relevant preference, or the first that showed one) the judge
also rates, blind to which is which, the *plain* response by the question's preference, and the response to that
preference by one of another category (*mismatched*). Both have the form of any other case, so a judge that knows no
more than the texts cannot tell them apart. The rating of the response to its own preference (*matched*) stands beside
them, asked with the same words as in the run. What they say is in `scoring.discrimination`. People are not asked.

Left out: the ratings of the run itself (`rating`).
"""

from __future__ import annotations

import random

import pandas as pd

from perg_utils.core.profile import JudgeConfig, Profile
from perg_utils.core.schema import RELEVANT_SHOWN, ROW_ID, Category, Method, Null, Setting, Status, conform
from perg_utils.dataset.preferences import relevant_ids
from perg_utils.engines.journal import Journal
from perg_utils.judging.human import HumanJudge
from perg_utils.judging.rating import cases, open_judge
from perg_utils.judging.rubric import Rating


def judge_nulls(
    profile: Profile,
    responses: pd.DataFrame,
    examples: pd.DataFrame,
    preferences: pd.DataFrame,
    journal: Journal | None = None,
    *,
    by: JudgeConfig | None = None,
) -> pd.DataFrame:
    """Return the table 'nulls' of one judge, the profile's main one: three rows a model and question.

    Columns `ROW_ID` name the response that was rated and, in `preference_id`, the preference it was rated by; empty for
    people. A journal is needed for an LLM judge only.
    """
    rater = open_judge(profile, by or profile.judge, journal)
    chosen = _chosen(responses)
    if isinstance(rater, HumanJudge) or not chosen:
        return conform("nulls", pd.DataFrame(columns=[*ROW_ID, "kind", "judge", *Rating._fields]))
    matched = cases(profile, responses, chosen, examples, preferences)
    relevant = preferences[preferences["relevant"]]
    categories = map(Category, relevant["category"])
    bank = dict(zip(relevant["preference_id"], zip(relevant["text"], categories, strict=True), strict=True))
    source = dict(zip(examples["example_id"], examples["source"], strict=True))
    rows: list[tuple[str, ...]] = []
    asked = []
    for case in matched:
        example, preference, model, *_ = case.row
        rows.append((*case.row, str(Null.MATCHED)))
        asked.append(case)
        if case.response_without:
            own = case.row[3] if profile.baseline == "own" else Method.NO_PREFERENCE
            rows.append((example, preference, model, str(own), str(Setting.NONE), str(Null.PLAIN)))
            asked.append(case._replace(response_with=case.response_without, response_without=case.response_with))
        other = another(example, preference, preferences, source[example], profile.seed)
        if other is not None:
            rows.append((example, other, *case.row[2:], str(Null.MISMATCHED)))
            text, category = bank[other]
            asked.append(case._replace(preference=text, category=category))
    table = pd.DataFrame(rows, columns=[*ROW_ID, "kind"])
    rated = pd.DataFrame(rater.rate(asked), columns=list(Rating._fields), index=table.index)
    return conform("nulls", table.assign(judge=rater.name, **rated))


def another(example_id: str, preference_id: str, preferences: pd.DataFrame, source: str, seed: int) -> str | None:
    """Return a relevant preference of the source that is of another category, drawn by seed and question, or None."""
    category = dict(zip(preferences["preference_id"], preferences["category"], strict=True))
    others = [i for i in relevant_ids(preferences, source) if category[i] != category[preference_id]]
    return random.Random(f"null:{seed}:{example_id}").choice(others) if others else None


def _chosen(responses: pd.DataFrame) -> list[int]:
    """The positions of one arm's responses of each model."""
    rows = responses.reset_index(drop=True)
    rows = rows[rows["setting"].isin(RELEVANT_SHOWN) & (rows["status"] == Status.OK)]
    rows = rows.drop_duplicates(["model", "example_id", "method", "setting"])
    first = (rows["setting"] == Setting.RELEVANT) & (rows["method"] == Method.ZERO_SHOT)
    best = rows.assign(rank=(~first).astype(int)).sort_values("rank", kind="stable")
    arms = best.drop_duplicates("model").set_index("model")[["method", "setting"]]
    own = rows[["method", "setting"]].to_numpy() == arms.loc[rows["model"]].to_numpy()
    return rows.index[own.all(axis=1)].tolist()
