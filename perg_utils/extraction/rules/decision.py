"""The decision of the rules, the first layer of the extractor: precise or silent, for English, blind to the question.

A response that is nothing but a letter, one JSON object, or that has a LaTeX box is read as such (`bare_letter`,
`json:...`, `boxed`, `boxed_text`); any other by what it says about the options it mentions (`claims`), unless it
declines (`refusals`). `how` names the rule that decided. Where a letter and the text beside it disagree the letter
wins, because the letter is what was asked for; `how` then is `letter_text_conflict`.

Left out: whether an answer is true, and the question: "the least likely is B" is no answer.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import replace

from perg_utils.core.schema import LETTERS, Status
from perg_utils.extraction.reading import STATED, Reading
from perg_utils.extraction.rules.boxes import read_box
from perg_utils.extraction.rules.claims import Claims
from perg_utils.extraction.rules.mentions import find_mentions, lowered, narrowed
from perg_utils.extraction.rules.refusals import read_refusal, takes_back
from perg_utils.extraction.rules.rewordings import read_rewording

#: How often the rules' letters are right: by `data/extraction_gold.csv`, weighted to all its responses, those of
#: explicit answers in 99.5 % of the cases, those concluded from what is said of the options in 95 %.
STATED_RIGHT, CONCLUDED_RIGHT = 0.995, 0.95
_JSON_KEYS = ("answer", "final_answer", "correct_answer", "choice", "option", "letter", "selection", "response")
_BARE = re.compile(r"\W{0,8}([A-Za-z])\W{0,8}")


def read_by_rules(response: str, options: Sequence[str]) -> Reading:
    """Return what the rules read, e.g. letter `B` and how `answer_statement` for `The answer is B.`

    Where no rule speaks, or the response names several options, the letter is None and the status `unparsable`, or
    `refused` where the model declined.
    """
    text = narrowed(response.strip())
    whole = _BARE.fullmatch(text)
    if whole:
        return _checked(whole[1].upper(), "bare_letter", options)
    inner = _json_answer(text)
    if inner is not None:
        found = read_by_rules(inner, options)
        return replace(found, how=f"json:{found.how}", evidence=None)
    boxed = read_box(text, options) if "boxed" in text else None
    if boxed:
        return _checked(*boxed, options)
    return _by_mentions(text, options)


def _by_mentions(text: str, options: Sequence[str]) -> Reading:
    lower = lowered(text)
    mentions = find_mentions(text, options, lower)
    decided = Claims(text, lower, mentions).decide() if mentions else None
    if decided is not None:
        option = options[LETTERS.index(decided[0].letter)]
        if takes_back(lower, decided[0].end, decided[1] in STATED, option):
            return _no_letter("none_of_the_options")
    refused = read_refusal(lower, options) if decided is None or decided[1].startswith("only_") else None
    if decided is not None and not refused:
        mention, how = decided
        how = "letter_text_conflict" if mention.conflict else how
        return _letter(mention.letter, how, (mention.start, mention.end))
    several = len({m.letter for m in mentions}) > 1
    if refused:
        letter, how, status = refused
        return _letter(letter, how) if letter else _no_letter(how, status)
    told = read_rewording(lower, options)
    if told is not None and {m.letter for m in mentions if m.by_letter} <= {told}:
        return _letter(told, "reworded")
    return _no_letter("several_options" if several else "no_option")


def _checked(letter: str, how: str, options: Sequence[str]) -> Reading:
    return _letter(letter, how) if letter in LETTERS[: len(options)] else _no_letter("letter_beyond_options")


def _letter(letter: str, how: str, evidence: tuple[int, int] | None = None) -> Reading:
    confidence = STATED_RIGHT if how in STATED else CONCLUDED_RIGHT
    return Reading(letter, how, Status.OK, evidence, "rules", confidence)


def _no_letter(how: str, status: Status = Status.UNPARSABLE) -> Reading:
    found = Reading(None, how, status)
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
