"""Which option a response chose: rules that are precise or silent, then the readers that a profile adds (`cascade`).

The paper reads with a fine-tuned model and asks another model where that fails. Here rules read first; only what they
leave undecided goes to the next reader, and what that leaves undecided to the one after it. Each row says which layer
decided, on which words, and how sure that is. No layer ever returns a letter beyond the options.

Of the rules: a response that is nothing but a letter, one JSON object, or that has a LaTeX box is read as such
(`bare_letter`, `json:...`, `boxed`, `boxed_text`); any other by what it says about the options it mentions (see
`claims`). `how` names the rule that decided. Where a letter and the text beside it disagree the letter wins,
because the letter is what was asked for; `how` then is `letter_text_conflict`. The rules are for English. They read
words and never judge whether an answer is true, nor do they see the question: "the least likely is B" is no answer.

Left out: the readers themselves (`fallback`, and the fine-tuned one in the package `extractor`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.schema import LETTERS, ROW_ID, Status, conform
from perg_utils.extraction.rules.boxes import read_box
from perg_utils.extraction.rules.claims import Reading
from perg_utils.extraction.rules.mentions import find_mentions, lowered, narrowed
from perg_utils.extraction.rules.refusals import read_decline, takes_back

_JSON_KEYS = ("answer", "final_answer", "correct_answer", "choice", "option", "letter", "selection", "response")
_BARE = re.compile(r"\W{0,8}([A-Za-z])\W{0,8}")
#: Rules of explicit answers.
_STATED = frozenset({"bare_letter", "boxed", "boxed_text", "leading_option", "answer_statement", "letter_at_end"})


#: How often the rules' letters are right: by `data/extraction_gold.csv`, weighted to all its responses, those of
#: explicit answers in 99.7 % of the cases, those concluded from what is said of the options in 95 %.
STATED_RIGHT, CONCLUDED_RIGHT = 0.997, 0.95
#: Ways in which a response is read and names no option, so that there is nothing left to ask.
_NAMES_NONE = frozenset({"none_of_the_options", "letter_beyond_options"})
#: A reading that could not be had. The row is not scored, and asked again by the next run.
FAILED = frozenset({Status.API_ERROR, Status.REJECTED, Status.EMPTY})

#: A response and its options, in the order in which they were lettered.
Case = tuple[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class Extraction:
    """A letter and the rule that found it, or no letter and the status that says why: unparsable or refused.

    `evidence` is where the rule read it: the first and the last place (exclusive) in the stripped response, or None
    where the response as a whole decides. `layer` names the reader that decided, None where none did. `confidence`
    is a share from 0 to 1, or None where nothing tells.
    """

    letter: str | None
    how: str
    status: Status
    evidence: tuple[int, int] | None = None
    layer: str | None = "rules"
    confidence: float | None = None

    @property
    def sure(self) -> bool:
        """Whether the response states its answer; other rules conclude it from what is said of the options."""
        return self.how.removeprefix("json:") in _STATED

    @property
    def decided(self) -> bool:
        """Whether the response is read: it names an option, says that none is right, or refuses."""
        named_none = self.status == Status.UNPARSABLE and self.how.removeprefix("json:") in _NAMES_NONE
        return self.letter is not None or self.status == Status.REFUSED or named_none

    def words(self, response: str) -> str | None:
        """Return the words of the response that the letter rests on, e.g. `B.` of `The answer is B.`"""
        return None if self.evidence is None else response.strip()[slice(*self.evidence)]


class Reader(Protocol):
    """A layer after the rules."""

    @property
    def layer(self) -> str:
        """What the table calls it."""
        ...

    def read(self, cases: Sequence[Case]) -> list[Extraction]:
        """Return one reading a case, in order: decided, undecided, or failed (a status of `FAILED`)."""
        ...


def extract_answer(response: str, options: Sequence[str], readers: Sequence[Reader] = ()) -> Extraction:
    """Return the option that `response` chose, e.g. letter `B` and how `answer_statement` for `The answer is B.`

    `options` are in the order in which they were lettered. The rules never guess: where none speaks, or the response
    names several options, the letter is None and the status `unparsable`, or `refused` where the model declined; what
    they leave undecided goes to `readers`, one after the other.
    """
    return read_all([(response, options)], readers)[0]


def read_all(cases: Sequence[Case], readers: Iterable[Reader] = ()) -> list[Extraction]:
    """Return one reading a case, in order; every reader is asked once, and equal cases only once.

    Where all are undecided, the rules' reason stands. Where a reader fails, its status stands.
    """
    keys = [(response, tuple(options)) for response, options in cases]
    found = {key: _by_rules(*key) for key in dict.fromkeys(keys)}
    for reader in readers:
        waiting = [key for key, reading in found.items() if not reading.decided and reading.status not in FAILED]
        for key, reading in zip(waiting, reader.read(waiting) if waiting else [], strict=True):
            held = _held(reading, key[1])
            if held.decided:
                found[key] = replace(held, layer=reader.layer)
            elif held.status in FAILED:
                found[key] = replace(held, layer=None)
    return [found[key] for key in keys]


def extract(responses: pd.DataFrame, examples: pd.DataFrame, readers: Sequence[Reader] = ()) -> pd.DataFrame:
    """Return the table 'answers', one row a response row, in its order.

    A response that names no option has answer null and status unparsable or refused; a response that does not exist
    keeps the status that says why, and one that a reader failed to read has the status of that failure. Raises
    `DataError` for a response to an unknown example.
    """
    options = dict(zip(examples["example_id"], examples["options"], strict=True))
    rows = list(zip(responses["example_id"], responses["status"], responses["response"], strict=True))
    unknown = next((example for example, *_ in rows if example not in options), None)
    if unknown is not None:
        raise DataError(f"there is a response to {unknown}, but no such example; run 01_curate_data again")
    found = [Extraction(None, "no_response", Status(status), layer=None) for _, status, _ in rows]
    there = [position for position, (_, status, _) in enumerate(rows) if status == Status.OK]
    cases = [(rows[position][2], options[rows[position][0]]) for position in there]
    evidence: list[str | None] = [None] * len(rows)
    for position, (response, _), reading in zip(there, cases, read_all(cases, readers), strict=True):
        found[position], evidence[position] = reading, reading.words(response)
    table = responses[ROW_ID].reset_index(drop=True)
    table["answer"], table["evidence"] = [reading.letter for reading in found], evidence
    for name in ("how", "status", "layer", "confidence"):
        table[name] = [getattr(reading, name) for reading in found]
    return conform("answers", table)


def _held(reading: Extraction, options: Sequence[str]) -> Extraction:
    """A reader's reading, or undecided where its letter is none of the options'."""
    names_one = reading.letter in list(LETTERS[: len(options)]) and reading.status == Status.OK
    # `letter_beyond_options` is a finding of the rules about the response; a reader that says so has read nothing.
    names_none = reading.letter is None and reading.status != Status.OK and reading.how != "letter_beyond_options"
    return reading if names_one or names_none else Extraction(None, "unread", Status.UNPARSABLE)


def _by_rules(response: str, options: Sequence[str]) -> Extraction:
    text = narrowed(response.strip())
    whole = _BARE.fullmatch(text)
    if whole:
        return _checked(whole[1].upper(), "bare_letter", options)
    inner = _json_answer(text)
    if inner is not None:
        found = _by_rules(inner, options)
        return replace(found, how=f"json:{found.how}", evidence=None)
    boxed = read_box(text, options) if "boxed" in text else None
    if boxed:
        return _checked(*boxed, options)
    return _by_mentions(text, options)


def _by_mentions(text: str, options: Sequence[str]) -> Extraction:
    lower = lowered(text)
    mentions = find_mentions(text, options, lower)
    decided = Reading(text, lower, mentions).decide() if mentions else None
    if decided is not None:
        option = options[LETTERS.index(decided[0].letter)]
        if takes_back(lower, decided[0].end, decided[1] in _STATED, option):
            return _no_letter("none_of_the_options")
    declined = read_decline(lower, options) if decided is None or decided[1].startswith("only_") else None
    if decided is not None and not declined:
        mention, how = decided
        how = "letter_text_conflict" if mention.conflict else how
        return _letter(mention.letter, how, (mention.start, mention.end))
    several = len({m.letter for m in mentions}) > 1
    if declined:
        letter, how, status = declined
        return _letter(letter, how) if letter else _no_letter(how, status)
    return _no_letter("several_options" if several else "no_option")


def _checked(letter: str, how: str, options: Sequence[str]) -> Extraction:
    return _letter(letter, how) if letter in LETTERS[: len(options)] else _no_letter("letter_beyond_options")


def _letter(letter: str, how: str, evidence: tuple[int, int] | None = None) -> Extraction:
    confidence = STATED_RIGHT if how in _STATED else CONCLUDED_RIGHT
    return Extraction(letter, how, Status.OK, evidence, "rules", confidence)


def _no_letter(how: str, status: Status = Status.UNPARSABLE) -> Extraction:
    found = Extraction(None, how, status)
    return found if found.decided else replace(found, layer=None)


def _json_answer(text: str) -> str | None:
    """The answer field of a response that is one JSON object, else None."""
    if not text.startswith(("{", "```")):
        return None
    body = text.removeprefix("```json").removeprefix("```").removesuffix("```").strip()
    if not (body.startswith("{") and body.endswith("}")):
        return None
    try:
        # As pairs, so that a key given twice is seen.
        pairs = json.loads(body, object_pairs_hook=list)
    except (ValueError, RecursionError):  # the former also for a number of thousands of digits
        return None
    given = [(str(key).lower(), value) for key, value in pairs if isinstance(value, str | int)]
    answers = [str(value) for wanted in _JSON_KEYS for key, value in given if key == wanted]
    letters = {answer.strip().upper() for answer in answers if len(answer.strip()) == 1}
    if len(letters) > 1:
        return " or ".join(sorted(letters))
    return answers[0] if answers else None
