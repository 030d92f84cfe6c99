"""Candidate preferences: a model is shown sampled questions and names one preference for each (paper, section 3.1).

As in the paper, 5 questions of each subject of MMLU and 30 of each other source, at temperature 0.8. What is asked is
the prompt set's template `propose`; replies are kept in the run's journal. A reply without a preference that can be
read says so in `status`.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from perg_utils.core.errors import DataError, PergError
from perg_utils.core.profile import ROOT, Profile
from perg_utils.core.schema import Source, Status
from perg_utils.dataset.questions import load_questions
from perg_utils.engines.base import Decoding, Reply, Request
from perg_utils.engines.journal import Journal
from perg_utils.engines.watching import watched
from perg_utils.prompts.second_stage import read_json
from perg_utils.prompts.sets import PROPOSE, load_prompts

#: Questions of each subject of MMLU, and of each other source.
BY_SUBJECT, BY_SOURCE = 5, 30
TEMPERATURE = 0.8
#: New tokens of a reply, at most; a reply needs about 60.
LIMIT = 160
_ECHO = 5  # words in a row
_SENTENCE = re.compile(r"I(?:['’]\w+)? \w")
_LONGEST = 300  # characters of a preference: the longest of the candidates behind the paper has 103


def sample_questions(profile: Profile) -> pd.DataFrame:
    """Return the questions to ask about, e.g. 165 rows of `load_questions`, drawn by the profile's seed.

    The profile's `data.limit` plays no part. A subject or source with fewer questions gives all it has.
    """
    questions = load_questions(profile.data)
    kept = []
    subjects = questions["subject"].where(questions["source"] == Source.MMLU, "")
    for (source, subject), rows in questions.groupby(["source", subjects], sort=False):
        count = min(len(rows), BY_SUBJECT if source == Source.MMLU else BY_SOURCE)
        drawn = random.Random(f"propose:{profile.seed}:{source}:{subject}").sample(range(len(rows)), count)
        kept.append(rows.iloc[sorted(drawn)])
    return pd.concat(kept, ignore_index=True)


def propose(profile: Profile, questions: pd.DataFrame, journal: Journal) -> pd.DataFrame:
    """Return one row a question: candidate, example_id, source, subject, preference, why, status, finish_reason.

    The profile's first model is asked, or the one that `candidates.model` names. `preference` is null where the reply
    holds none (`unparsable`) or there is no reply (its status).
    """
    from perg_utils.engines.open import open_engine  # noqa: PLC0415 - engines know of torch and aiohttp

    if profile.candidates is None:
        raise PergError("this profile asks for no candidates; add a key `candidates: {}`")
    name = profile.candidates.model or profile.models[0].name
    engine = open_engine(profile.model(name))
    prompts = load_prompts(profile.prompts)
    decoding = Decoding(LIMIT, TEMPERATURE, profile.decoding.seed)
    rows = questions.to_dict("records")
    asked = [
        Request(prompts.messages(PROPOSE, question=row["question"], options=tuple(row["options"])), decoding)
        for row in rows
    ]
    with watched(f"candidates by {name}", len(asked), engine, journal) as progress:
        replies = journal.ask(engine, asked, progress.advance)
    said = " ".join(text for _, text in prompts.messages(PROPOSE, question="", options=()))
    found = [read(reply, said) for reply in replies]
    return pd.DataFrame(
        {
            "candidate": [f"{n:03d}" for n in range(1, len(rows) + 1)],
            "example_id": questions["example_id"],
            "source": questions["source"],
            "subject": questions["subject"],
            "preference": [preference for preference, _, _ in found],
            "why": [why for _, why, _ in found],
            "status": [str(status) for _, _, status in found],
            "finish_reason": [reply.finish_reason for reply in replies],
        }
    )


def read(reply: Reply, said: str = "") -> tuple[str | None, str | None, Status]:
    """Return (preference, why, status) of a reply, e.g. `("I like short answers.", "It fits ...", Status.OK)`.

    A preference is a sentence that begins with "I", of at most 300 characters. Anything else is `unparsable`: a
    heading, an answer, or five words in a row of what the prompt `said`.
    """
    if reply.status != Status.OK or reply.text is None:
        return None, None, reply.status
    preference = " ".join((read_json(reply.text, "preference") or "").split())
    if not _SENTENCE.match(preference) or len(preference) > _LONGEST or _echoes(preference, said):
        return None, None, Status.UNPARSABLE
    return preference, read_json(reply.text, "why"), Status.OK


def _echoes(preference: str, said: str) -> bool:
    words, prompt = re.findall(r"\w+", preference.casefold()), " ".join(re.findall(r"\w+", said.casefold()))
    return any(" ".join(words[n : n + _ECHO]) in prompt for n in range(len(words) - _ECHO + 1))


def read_others(paths: Sequence[Path]) -> list[str]:
    """Return the candidates in CSV files' column `pref`, e.g. those behind the paper; empty cells are left out.

    Relative paths are meant from the repository's root. Raises `DataError` naming the file that cannot be read.
    """
    found: list[str] = []
    for path in paths:
        try:
            found += pd.read_csv(ROOT / path, usecols=["pref"], dtype=str)["pref"].dropna().str.strip().tolist()
        except (OSError, ValueError) as error:
            raise DataError(f"candidates.others: '{path}' is no CSV file with a column 'pref': {error}") from error
    return found
