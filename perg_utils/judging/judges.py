"""The judges behind one interface: two sets of rules, and a language model with a rubric (paper, section 3.3).

`HeuristicJudge` knows the styles that the embedded models are taught, and nothing else. `CueJudge` counts cues of
ordinary English and measures length: it can be run on the responses of any model without a key, and understands
nothing. `LLMJudge` asks a model through the journal. Correctness plays no part in any rating. Human
raters are a judge too: `human`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol

from perg_utils.core.profile import RULES
from perg_utils.core.schema import Category, Status
from perg_utils.engines.base import Decoding, Engine, Reply, Request
from perg_utils.engines.journal import Journal
from perg_utils.engines.schemas import held
from perg_utils.engines.watching import watched
from perg_utils.judging.rubric import Case, Rating, read_reply, reply_schema
from perg_utils.prompts.sets import JUDGE, PromptSet

#: What marks the manner of each category in the embedded models: a phrase that opens it, and what completes it.
SIGNALS: dict[Category, tuple[str, str]] = {
    Category.CLARITY: (r"\bIn short,", r"^\s*(?:\S+\s+){0,11}\S+\s*$"),  # at most 12 words in all
    Category.CONTEXT: (r"\bFor background,", r"\bFor background, (?:\S+ ){2,}\S+\. "),  # a clause, then the answer
    Category.THINKING: (r"\bFirst,", r"\bFirst,.*\bThen,"),
    Category.EXAMPLES: (r"\bFor example,", r"\bFor example, (?:\S+ ){2,}\S+\. "),
    Category.CREATIVE: (r"\bImagine\b", r"\bImagine\b.*\blike an? "),
}
_SIGNALS = {category: tuple(re.compile(s, re.DOTALL) for s in pair) for category, pair in SIGNALS.items()}

#: Words that hint at a category in ordinary English; alternatives of one line count once. Clarity goes by length.
CUES: dict[Category, tuple[str, ...]] = {
    Category.CONTEXT: (
        r"background|context",
        r"histor(?:y|ic\w*)|century|tradition\w*",
        r"origin(?:s|ates?|ally)?|comes? from|dates? back",
        r"known (?:as|for)|refers? to|(?:kind|type|form) of|belongs? to",
        r"lies (?:in|by|on)|located|surround\w*",
    ),
    Category.THINKING: (
        r"first(?:ly)?|step (?:one|1)|to begin",
        r"then|next|second(?:ly)?|step (?:two|2)",
        r"therefore|thus|hence|so it|which means|it follows",
        r"because|since|given that",
        r"we (?:weigh|compare|rule out)|eliminat\w+|consider\w*",
    ),
    Category.EXAMPLES: (
        r"for (?:example|instance)|e\.g\.",
        r"such as|like when|say,",
        r"imagine|suppose|picture",
        r"in (?:practice|real life|everyday life|daily life)|a case of",
        r"just as|similar(?:ly)? to|think of",
    ),
    Category.CREATIVE: (
        r"imagine|picture (?:this|a|an|the)|once upon",
        r"like an?|as if|as though",
        r"story|tale|song|poem|chorus|adventure|journey",
        r"whisper\w*|danc\w+|sing(?:s|ing)?|shin\w+|glow\w*|bright|dream\w*",
        r"magic\w*|hero\w*|treasure|dragon|ocean|moonlight",
    ),
}
_CUES = {category: [re.compile(rf"\b(?:{cue})", re.I) for cue in cues] for category, cues in CUES.items()}
_BRIEF = 15  # words


class Judge(Protocol):
    """Anything that rates cases; `name` stands beside each of its ratings."""

    @property
    def name(self) -> str:
        """Who rated, as the table says it."""
        ...

    def rate(self, cases: Sequence[Case]) -> list[Rating]:
        """Return one rating a case, in order."""
        ...


@dataclass(frozen=True)
class HeuristicJudge:
    """Rates the embedded models' styles by `SIGNALS`: 5 complete, 3 opened only, 2 another category's style, 1 none."""

    name: str = RULES["heuristic"]

    def rate(self, cases: Sequence[Case]) -> list[Rating]:
        """Return one rating a case; a preference of no category is `unparsable`."""
        return [self._rate(case) for case in cases]

    def _rate(self, case: Case) -> Rating:
        if case.category is None:
            return _no_category()
        opened = [c for c, (opening, _) in _SIGNALS.items() if opening.search(case.response_with)]
        if case.category in opened:
            if _SIGNALS[case.category][1].search(case.response_with):
                return Rating(5, f"the {case.category} style, complete")
            return Rating(3, f"the {case.category} style is opened but not carried through")
        if opened:
            return Rating(2, f"the style of {', '.join(opened)} instead of {case.category}")
        return Rating(1, "no style of any category")


@dataclass(frozen=True)
class CueJudge:
    """Rates by kinds of `CUES`: none 1, one 3, two 4, three 5. Clarity by length, alone and against the plain response.

    Clarity: at most 15 words or half of the plain response 5, four fifths 4, no longer 3, half as long again 2.
    """

    name: str = RULES["cues"]

    def rate(self, cases: Sequence[Case]) -> list[Rating]:
        """Return one rating a case; a preference of no category is `unparsable`."""
        return [self._rate(case) for case in cases]

    def _rate(self, case: Case) -> Rating:
        if case.category is None:
            return _no_category()
        if case.category == Category.CLARITY:
            return self._length(case)
        found = [hit[0] for cue in _CUES[case.category] if (hit := cue.search(case.response_with))]
        return Rating((1, 3, 4, 5)[min(len(found), 3)], f"cues of {case.category}: {', '.join(found) or 'none'}")

    def _length(self, case: Case) -> Rating:
        words, plain = len(case.response_with.split()), len(case.response_without.split())
        why = f"{words} words, {plain} in the plain response"
        if words <= _BRIEF:
            return Rating(5, why)
        steps = ((0.5, 5), (0.8, 4), (1.0, 3), (1.5, 2))
        return Rating(next((rating for share, rating in steps if words <= share * plain), 1), why)


@dataclass(frozen=True)
class LLMJudge:
    """Rates through an engine with a rubric of the prompt set; every reply is kept in the journal.

    `structured`: replies are held to the rubric's JSON schema where the server takes one; None: found out with one
    request, True: taken for granted.
    """

    name: str
    engine: Engine
    journal: Journal
    prompts: PromptSet
    decoding: Decoding
    rubric: str = JUDGE
    structured: bool | None = None

    def rate(self, cases: Sequence[Case]) -> list[Rating]:
        """Return one rating a case; equal cases are asked once."""
        schema = None if self.structured is False else json.dumps(reply_schema(self.rubric))
        asked = [self.prompts.messages(self.rubric, **case.variables()) for case in cases]
        requests = held(
            self.journal,
            self.engine,
            [Request(chat, self.decoding, schema=schema) for chat in asked],
            certain=self.structured is True,
        )
        if not requests:
            return []
        with watched(f"judge {self.name}", len(requests), self.engine, self.journal) as progress:
            replies = self.journal.ask(self.engine, requests, progress.advance)
            return [rating_of(reply, self.rubric) for reply in replies]

    def with_rubric(self, rubric: str) -> LLMJudge:
        """Return the same judge with another template of its prompt set."""
        return replace(self, rubric=rubric)


def rating_of(reply: Reply, rubric: str) -> Rating:
    """Return the rating in a judge's reply to a rubric; none, with the reply's status, where there is no text."""
    if reply.status == Status.SILENT:
        return Rating(None, "the judge replied with nothing", Status.UNPARSABLE)
    if reply.status != Status.OK or reply.text is None:
        return Rating(None, reply.error, reply.status)
    return read_reply(reply.text, rubric)


def _no_category() -> Rating:
    return Rating(None, "the preference has no category", Status.UNPARSABLE)
