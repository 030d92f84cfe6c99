"""The extractor's last layer: a language model reads the few responses that no layer before it could (paper, appendix).

It is shown the response and the lettered options: never question, preference, right answer, or who answered.
The prompt is the prompt set's template `extract`. One letter is asked for, and a reply that holds anything else is no
reading: it is never searched for letters, which a response could have put there. Replies are kept in the journal, so
that nothing is asked twice and a changed prompt asks only this layer again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from perg_utils.core.profile import Profile
from perg_utils.core.schema import LETTERS, Status
from perg_utils.engines.api.pricing import Price, price_of
from perg_utils.engines.base import Decoding, Engine, Reply, Request
from perg_utils.engines.journal import Journal
from perg_utils.engines.watching import watched
from perg_utils.extraction.reading import NONE, REFUSED, UNDECIDED, Case, Reading
from perg_utils.prompts.sets import EXTRACT, PromptSet, load_prompts

_ONE_LETTER = re.compile(r"[\s\"'`*().:]{0,8}([A-Za-z])[\s\"'`*().:]{0,8}")
_FENCE = re.compile(r"```(?:json)?\s*(.*?)\s*```", re.DOTALL)
#: Room for one letter, or `{"answer": "B"}`.
_REPLY_TOKENS = 16
#: For an estimate: characters a token, and those of the options (MMLU's, on average).
_CHARACTERS, _OPTIONS = 4, 4 * 52


@dataclass
class LLMLayer:
    """Asks the model called `model`; counts `prompt_tokens` and `completion_tokens` of all replies, new or known."""

    model: str
    engine: Engine
    journal: Journal
    prompts: PromptSet
    decoding: Decoding
    price: Price | None = None
    prompt_tokens: int = 0
    completion_tokens: int = 0
    name: str = "llm"

    @property
    def cost(self) -> float | None:
        """What the replies used have cost in US dollars, whenever they were asked; None where nothing has a price."""
        return None if self.price is None else self.price.of(self.prompt_tokens, self.completion_tokens)

    def requests(self, cases: Sequence[Case]) -> list[Request]:
        """Return the request that each case is read with."""
        return [Request(self.prompts.messages(EXTRACT, response=r, options=o), self.decoding) for r, o in cases]

    def read(self, cases: Sequence[Case]) -> list[Reading]:
        """Return one reading a case; a reply that did not come leaves its status."""
        with watched(f"extractor {self.model}", len(cases), self.engine, self.journal) as progress:
            replies = self.journal.ask(self.engine, self.requests(cases), progress.advance)
        self.prompt_tokens += sum(reply.prompt_tokens or 0 for reply in replies)
        self.completion_tokens += sum(reply.completion_tokens or 0 for reply in replies)
        return [_reading(reply, len(options)) for reply, (_, options) in zip(replies, cases, strict=True)]


def open_llm(profile: Profile, journal: Journal) -> LLMLayer | None:
    """Return the layer that `extractor.llm` names, None where it names none; asks nothing, loads no weights."""
    model = profile.extractor.llm
    if model is None:
        return None
    from perg_utils.engines.open import open_engine  # noqa: PLC0415 - engines know of torch and aiohttp

    limits = profile.decoding
    decoding = Decoding(
        limits.max_new_tokens_thinking if model.thinking else _REPLY_TOKENS, limits.temperature, limits.seed
    )
    return LLMLayer(model.name, open_engine(model), journal, extract_prompts(profile), decoding, price_of(model))


def extract_prompts(profile: Profile) -> PromptSet:
    """Return the set whose `extract` is used: the profile's, or `standard` where that has none."""
    own = load_prompts(profile.prompts)
    return own if EXTRACT in own.hashes else load_prompts("standard")


def reading_cost(profile: Profile, responses: int) -> float | None:
    """Return the dollars of so many readings, of responses half as long as their limit; None: there is no price."""
    model = profile.extractor.llm
    price = price_of(model) if model is not None else None
    if model is None or price is None:
        return None
    template = extract_prompts(profile).messages(EXTRACT, response="", options=("", ""))
    asked = (sum(len(text) for _, text in template) + _OPTIONS) / _CHARACTERS + profile.decoding.max_new_tokens / 2
    return responses * price.of(asked, profile.decoding.max_new_tokens_thinking / 2 if model.thinking else 1)


def read_reply(text: str, options: int) -> Reading:
    """Return what a reply says of a response with so many options, e.g. the letter B for `B`, `(B)`, `{"answer": "B"}`.

    X, Y and Z are no option, a refusal, undecided. Anything else, several letters above all, is undecided.
    """
    code = _code(text.strip())
    if code == NONE:
        return Reading(None, "none_of_the_options", Status.UNPARSABLE, layer="llm")
    if code == REFUSED:
        return Reading(None, "refusal", Status.REFUSED, layer="llm")
    if code is not None and code != UNDECIDED and code in LETTERS[:options]:
        return Reading(code, "replied", Status.OK, layer="llm")
    return Reading(None, "unsure" if code == UNDECIDED else "unread_reply", Status.UNPARSABLE, layer="llm")


def _reading(reply: Reply, options: int) -> Reading:
    if reply.finish_reason == "length" or reply.status == Status.SILENT:
        # One letter of a reply that was cut off may be the first of several; nothing, a thought that filled the limit.
        return read_reply("", options)
    if reply.status != Status.OK or reply.text is None:
        return Reading(None, "no_reply", reply.status, layer="llm")
    return read_reply(reply.text, options)


def _code(text: str) -> str | None:
    """The one letter of a reply, upper case, or None."""
    fenced = _FENCE.fullmatch(text)
    body = fenced[1] if fenced else text
    if body.startswith("{"):
        try:
            # As pairs, so that a key given twice is seen.
            found = json.loads(body, object_pairs_hook=list)
        except (ValueError, RecursionError):  # the former also for a number of thousands of digits
            return None
        if len(found) != 1 or found[0][0] != "answer" or not isinstance(found[0][1], str):
            return None
        body = found[0][1]
    one = _ONE_LETTER.fullmatch(body)
    return one[1].upper() if one else None
