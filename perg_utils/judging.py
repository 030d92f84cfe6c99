"""How well a response follows the preference, rated 1 to 5 (paper, section 3.3); correctness plays no part.

Two judges behind one interface: a language model with the rubric of the prompt set's `judge` template, and an
offline rule that knows the styles of the embedded models and nothing else. In mixed settings only the relevant
preference is rated. No judge is shown the right answer. A rating that cannot be had or read is null with a status
that says why; it is never counted as "not followed".

Left out: several judges at once and their agreement.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import pandas as pd

from .engines.base import Decoding, Engine, Reply, Request
from .engines.journal import Journal
from .engines.pricing import meter_of
from .errors import DataError
from .profile import Profile
from .progress import Progress
from .prompts import JUDGE, PromptSet, load_prompts
from .schema import RELEVANT_SHOWN, ROW_ID, Category, Method, Setting, Status, conform

#: What marks the manner of each category in the embedded models: a phrase that opens it, and what completes it.
SIGNALS: dict[Category, tuple[str, str]] = {
    Category.CLARITY: (r"\bIn short,", r"^\s*(?:\S+\s+){0,11}\S+\s*$"),  # at most 12 words in all
    Category.CONTEXT: (r"\bFor background,", r"\bFor background, (?:\S+ ){2,}\S+\. "),  # a clause, then the answer
    Category.THINKING: (r"\bFirst,", r"\bFirst,.*\bThen,"),
    Category.EXAMPLES: (r"\bFor example,", r"\bFor example, (?:\S+ ){2,}\S+\. "),
    Category.CREATIVE: (r"\bImagine\b", r"\bImagine\b.*\blike an? "),
}
_SIGNALS = {category: tuple(re.compile(s, re.DOTALL) for s in pair) for category, pair in SIGNALS.items()}
_RATING = re.compile(r"\brating\b[\"'*\s]*[:=][\"'*\s]*(-?\d+(?:\.\d+)?)", re.IGNORECASE)


class Case(NamedTuple):
    """One response to rate, beside the same model's response without the preference. Holds no right answer."""

    question: str
    options: tuple[str, ...]
    preference: str
    category: Category | None
    response_without: str
    response_with: str


class Rating(NamedTuple):
    """A rating from 1 to 5 with its reason, or None and the status that says why there is none."""

    rating: int | None
    explanation: str | None
    status: Status = Status.OK


class Judge(Protocol):
    """Anything that rates cases; `name` stands beside each of its ratings."""

    @property
    def name(self) -> str:
        """Who rated, as the table says it."""
        ...

    def rate(self, cases: Sequence[Case]) -> list[Rating]:
        """Return one rating a case, in order."""
        ...


#: Whose ratings the paper's released files hold.
PAPER_JUDGE = "gpt-4o-mini"


class HeuristicJudge:
    """Rates the embedded models' styles by `SIGNALS`: 5 complete, 3 opened only, 2 another category's style, 1 none."""

    name = "heuristic (embedded styles)"

    def rate(self, cases: Sequence[Case]) -> list[Rating]:
        """Return one rating a case; a preference of no category is `unparsable`."""
        return [self._rate(case) for case in cases]

    def _rate(self, case: Case) -> Rating:
        if case.category is None:
            return Rating(None, "the preference has no category", Status.UNPARSABLE)
        opened = [c for c, (opening, _) in _SIGNALS.items() if opening.search(case.response_with)]
        if case.category in opened:
            if _SIGNALS[case.category][1].search(case.response_with):
                return Rating(5, f"the {case.category} style, complete")
            return Rating(3, f"the {case.category} style is opened but not carried through")
        if opened:
            return Rating(2, f"the style of {', '.join(opened)} instead of {case.category}")
        return Rating(1, "no style of any category")


@dataclass(frozen=True)
class LLMJudge:
    """Rates through an engine with the prompt set's rubric; every reply is kept in the journal."""

    name: str
    engine: Engine
    journal: Journal
    prompts: PromptSet
    decoding: Decoding

    def rate(self, cases: Sequence[Case]) -> list[Rating]:
        """Return one rating a case; equal cases are asked once."""
        requests = [Request(self.prompts.messages(JUDGE, **_variables(case)), self.decoding) for case in cases]
        meter = meter_of(self.engine, self.journal)
        with Progress(f"judge {self.name}", len(requests), note=lambda: str(meter or "")) as progress:
            return [_rating(reply) for reply in self.journal.ask(self.engine, requests, progress.advance)]


def _variables(case: Case) -> dict[str, object]:
    return {
        "question": case.question,
        "options": case.options,
        "preferences": [case.preference],
        "response_without": case.response_without,
        "response_with": case.response_with,
    }


def _rating(reply: Reply) -> Rating:
    if reply.status != Status.OK or reply.text is None:
        return Rating(None, reply.error, reply.status)
    return read_rating(reply.text)


def read_rating(text: str) -> Rating:
    """Return the rating in a judge's reply, e.g. `Rating(4, "short")` of `{"explanation": "short", "rating": 4}`.

    Borne with: text and code fences around the JSON, the rating as text, `Rating: 4` without JSON. Several different
    ratings, none, or one that is no whole number from 1 to 5 leave the case unrated.
    """
    objects, rest = _split_objects(text)
    values = {str(found["rating"]).strip() for found in objects if "rating" in found} | set(_RATING.findall(rest))
    explanation = next((str(found["explanation"]) for found in objects if found.get("explanation")), rest).strip()
    if len(values) == 1 and (value := values.pop().removesuffix(".0")) in {"1", "2", "3", "4", "5"}:
        return Rating(int(value), explanation or None)
    return Rating(None, text.strip(), Status.UNPARSABLE)


def _split_objects(text: str) -> tuple[list[dict[str, object]], str]:
    """The JSON objects in a text and the text around them; no objects and all the text where one is broken.

    Nothing is read from inside a broken object: what a response says about its own rating may be quoted there.
    """
    objects, rest, at = [], "", 0
    while (start := text.find("{", at)) >= 0:
        try:
            found, end = _DECODER.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError):
            return [], text
        objects.append(found)
        rest += text[at:start]
        at = end
    return objects, rest + text[at:]


def _unambiguous(pairs: list[tuple[str, object]]) -> dict[str, object]:
    ratings = {str(value) for key, value in pairs if key == "rating"}
    return dict(pairs) | ({"rating": "contradictory"} if len(ratings) > 1 else {})


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_unambiguous)


def judge_label(profile: Profile) -> str:
    """Return the judge's name as it stands beside its ratings, e.g. `heuristic (embedded styles)` or a model's name.

    Whatever shows alignment failure or robustness error says it too.
    """
    if profile.judge.kind == "published":
        return PAPER_JUDGE
    return HeuristicJudge.name if profile.judge.model is None else profile.judge.model.name


def judge(
    profile: Profile,
    responses: pd.DataFrame,
    examples: pd.DataFrame,
    preferences: pd.DataFrame,
    journal: Journal | None = None,
) -> pd.DataFrame:
    """Return the table 'judgements' of the profile's judge: one row a response row, in its order.

    Rows without a relevant preference are `not_applicable`; rows without a response keep the response's status. A
    journal is needed for an LLM judge only.
    """
    rater = _judge_of(profile, journal)
    statuses = [
        Status(status) if Setting(setting) in RELEVANT_SHOWN else Status.NOT_APPLICABLE
        for setting, status in zip(responses["setting"], responses["status"], strict=True)
    ]
    out = [Rating(None, None, status) for status in statuses]
    to_rate = [position for position, status in enumerate(statuses) if status == Status.OK]
    cases = _cases(profile, responses, to_rate, examples, preferences)
    for position, rating in zip(to_rate, rater.rate(cases), strict=True):
        out[position] = rating
    table = responses[ROW_ID].reset_index(drop=True)
    return conform("judgements", table.assign(judge=rater.name, **pd.DataFrame(out, columns=list(Rating._fields))))


def _judge_of(profile: Profile, journal: Journal | None) -> Judge:
    config = profile.judge.model
    if config is None:
        return HeuristicJudge()
    if journal is None:
        raise ValueError("an LLM judge needs a journal")
    from .engines.open import open_engine  # noqa: PLC0415 - engines know of torch and aiohttp

    limits = profile.decoding
    limit = limits.max_new_tokens_thinking if config.thinking else limits.max_new_tokens
    decoding = Decoding(limit, limits.temperature, limits.seed)
    return LLMJudge(judge_label(profile), open_engine(config), journal, load_prompts(profile.prompts), decoding)


def _cases(
    profile: Profile, responses: pd.DataFrame, chosen: list[int], examples: pd.DataFrame, preferences: pd.DataFrame
) -> list[Case]:
    questions = {e["example_id"]: (e["question"], tuple(e["options"])) for e in examples.to_dict("records")}
    bank = {p["preference_id"]: (p["text"], p["category"]) for p in preferences.to_dict("records")}
    baselines = responses[(responses["setting"] == Setting.NONE) & responses["response"].notna()]
    plain = {(r["example_id"], r["model"], r["method"]): r["response"] for r in baselines.to_dict("records")}
    cases = []
    for row in responses.iloc[chosen].to_dict("records"):
        if row["example_id"] not in questions or row["preference_id"] not in bank:
            raise DataError(
                f"the response to {row['example_id']} with preference {row['preference_id']} belongs to no example "
                "and preference of these tables; run 01_curate_data and 03_run_inference again"
            )
        text, category = bank[row["preference_id"]]
        own = row["method"] if profile.baseline == "own" else Method.NO_PREFERENCE
        cases.append(
            Case(
                *questions[row["example_id"]],
                preference=text,
                category=None if pd.isna(category) else Category(category),
                response_without=plain.get((row["example_id"], row["model"], own), ""),
                response_with=row["response"],
            )
        )
    return cases
