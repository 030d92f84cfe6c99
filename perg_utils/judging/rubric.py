"""What a language model is asked as a judge, and how its reply is read (paper, section 3.3).

The wording is the prompt set's template `judge`, or a variant of it. A judge is shown the question, its options, the
relevant preference and two responses, one of them to rate: never the right answer, a model's name or a method, nor
which of the two was written with the preference. Where the server takes a JSON schema, replies are bound to
`RESPONSE_FORMAT`; where not, `read_rating` accepts many forms but guesses nothing. It reads the judge's reply only, in
which a rating that a response claims for itself may be quoted: a rating counts where a judge puts its own, and no
different one may occur elsewhere. One case remains: a quoted rating on a line of its own, in a reply that gives no
other rating, is taken for the judge's.
"""

from __future__ import annotations

import json
import re
from typing import Any, NamedTuple

from perg_utils.core.schema import Category, Status
from perg_utils.core.workspace import digest
from perg_utils.prompts.sets import BY_QUESTIONS

_NAMED = r"rating\b[\"'*\s]*[:=][\"'*\s]*(-?\d+(?:\.\d+)?)"
_RATING = re.compile(rf"\b{_NAMED}", re.IGNORECASE)
#: The judge's own: it begins a line, or an object that was cut off behind it.
_OWN_LINE = re.compile(rf"^[ \t>*#_-]*(?:(?:my|the|final|overall) )*{_NAMED}", re.IGNORECASE | re.MULTILINE)
_OWN_START = re.compile(rf"\{{\s*\"{_NAMED}\s*[\",}}]", re.IGNORECASE)
#: What may stand before an object on its line.
_LEAD = re.compile(r"(?:|.*:|`+\w*)\s*")

#: A second rubric's yes/no questions, after the idea of PrefEval (arXiv 2502.09597), in own words.
QUESTIONS = ("acknowledges", "hallucinates", "violates", "helpful")


def reply_schema(rubric: str) -> dict[str, Any]:
    """Return the JSON schema of a reply to a rubric of the prompt set, e.g. `judge` or `judge_questions`.

    The explanation comes first: reasons before the verdict.
    """
    asked: dict[str, Any] = {"rating": {"type": "integer", "enum": [1, 2, 3, 4, 5]}}
    if rubric == BY_QUESTIONS:
        asked = {key: {"type": "string", "enum": ["yes", "no"]} for key in QUESTIONS}
    properties = {"explanation": {"type": "string"}} | asked
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


class Case(NamedTuple):
    """One response to rate, beside the same model's response without the preference. Holds no right answer.

    Where the response without it is rated (a null), the two change places: no judge is told which is which.
    """

    question: str
    options: tuple[str, ...]
    preference: str
    category: Category | None
    response_without: str
    response_with: str
    #: Which response row it is (`ROW_ID`); never shown to a judge.
    row: tuple[str, ...] = ()

    def pair(self) -> str:
        """Return a hash of what a person is shown to rate, the same for the same texts: 16 hex digits."""
        shown = (self.question, self.options, self.preference, self.response_without, self.response_with)
        return digest(*shown)

    def variables(self) -> dict[str, object]:
        """Return what a rubric's template is filled with: the response to rate, and the other one."""
        return {
            "question": self.question,
            "options": self.options,
            "preferences": [self.preference],
            "response": self.response_with,
            "other": self.response_without,
        }


class Rating(NamedTuple):
    """A rating from 1 to 5 with its reason, or None and the status that says why there is none."""

    rating: int | None
    explanation: str | None
    status: Status = Status.OK


def read_reply(text: str, rubric: str) -> Rating:
    """Return the rating in a judge's reply to a rubric of the prompt set."""
    return read_answers(text) if rubric == BY_QUESTIONS else read_rating(text)


def read_answers(text: str) -> Rating:
    """Return the rating that four answers by yes or no come to: followed (4 or 5) where nothing speaks against it.

    1: the preference is violated; 2: the response is of no help, or serves a preference that nobody has; 4: neither,
    but nothing shows that it was known; 5: it was known too. Unparsable where the reply is not one object with four
    answers.

    >>> read_answers('{"acknowledges": "no", "hallucinates": "no", "violates": "no", "helpful": "yes"}').rating
    4
    """
    try:
        found, end = _STRICT.raw_decode(text, text.index("{"))
        said = {key: {"yes": True, "no": False}[str(found[key]).strip().lower()] for key in QUESTIONS}
    except (ValueError, KeyError, RecursionError):
        return Rating(None, text.strip(), Status.UNPARSABLE)
    if "{" in text[end:]:
        return Rating(None, text.strip(), Status.UNPARSABLE)
    if said["violates"]:
        rating = 1
    elif said["hallucinates"] or not said["helpful"]:
        rating = 2
    else:
        rating = 5 if said["acknowledges"] else 4
    yes = ", ".join(key for key in QUESTIONS if said[key]) or "none"
    return Rating(rating, f"yes to {yes}. {found.get('explanation', '')}".strip())


def read_rating(text: str) -> Rating:
    """Return the rating in a judge's reply, e.g. `Rating(4, "short")` of `{"explanation": "short", "rating": 4}`.

    Accepted are text and code fences around the JSON, the rating as text, a line `Rating: 4` without JSON, an object
    cut off behind the rating. Several different ratings, none of the judge's own, or one that is no whole number from 1
    to 5 leave the case unrated.
    """
    objects, rest, own = _split_objects(text)
    values = {str(found["rating"]).strip() for found in objects if "rating" in found} | set(_RATING.findall(rest))
    explanation = next((str(found["explanation"]) for found in objects if found.get("explanation")), rest).strip()
    if own and len(values) == 1 and (value := values.pop().removesuffix(".0")) in {"1", "2", "3", "4", "5"}:
        return Rating(int(value), explanation or None)
    return Rating(None, text.strip(), Status.UNPARSABLE)


def _split_objects(text: str) -> tuple[list[dict[str, object]], str, bool]:
    """The JSON objects in a text, the text around them, and whether there is a rating where a judge puts its own.

    No objects and all the text where one is broken: what a response says of its own rating may be quoted inside.
    """
    objects, rest, at, own = [], "", 0, False
    while (start := text.find("{", at)) >= 0:
        try:
            found, end = _DECODER.raw_decode(text, start)
        except (json.JSONDecodeError, RecursionError):
            first = text.index("{")
            return [], text, bool(_OWN_LINE.search(text[:first]) or _OWN_START.match(text, first))
        line = text[at:start].rpartition("\n")[2]
        own = own or ("rating" in found and bool(_LEAD.fullmatch(line)))
        objects.append(found)
        rest += text[at:start]
        at = end
    rest += text[at:]
    return objects, rest, own or bool(_OWN_LINE.search(rest))


def _unambiguous(pairs: list[tuple[str, object]]) -> dict[str, object]:
    ratings = {str(value) for key, value in pairs if key == "rating"}
    return dict(pairs) | ({"rating": "contradictory"} if len(ratings) > 1 else {})


def _each_once(pairs: list[tuple[str, object]]) -> dict[str, object]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


_STRICT = json.JSONDecoder(strict=False, object_pairs_hook=_each_once)
_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_unambiguous)
