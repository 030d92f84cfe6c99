"""Responses that decline: no option is right, the model refuses, or it does not know.

Left out: what such a response says besides; where a rule of `claims` reads an answer, that counts, unless the response
goes on to say that no option holds.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from perg_utils.core.schema import LETTERS, Status

_NONE = re.compile(
    r"\A\W*none of (?:these|those|them|the above)\W*\Z|"
    r"\bnone of (?:the|these|those)\b(?! other)[^.\n]{0,60}?(?:options|choices|answers|above|are|is|correct)|"
    r"\bno (?:option|choice|answer)s?\b[^.\n]{0,30}\b(?:is|are) (?:correct|right|accurate)|"
    r"\b(?:is|are|was)(?: not|n't|n’t) (?:an option|one of|(?:included |listed |present |provided |given |available )?"
    r"(?:in|among)) the (?:given |provided |listed |available |answer )?(?:options|choices|answers)|"
    r"\bnot (?:an option|among|listed|one of the)[^.\n]{0,30}\b(?:options|choices)|"
    r"\bdoes(?: not|n't|n’t) (?:exactly )?(?:match|correspond to|appear in)[^.\n]{0,40}\b(?:options|choices)"
)
#: The same of every option, so that it takes back also an answer that was stated.
_NONE_HOLDS = re.compile(
    r"\bnone of (?:the|these) (?:(?!other|remaining)\w+ )?(?:options|choices|answers)(?: \w+)? "
    r"(?:is|are|seems?(?: to be)?|appears? to be|can be|match(?:es)?|fits?)"
    r"(?: (?!exactly|perfectly|entirely|fully|completely)\w+)? (?:correct|right|accurate|answers?|match\w*|this|our)\b"
)
_REFUSAL = re.compile(
    r"\bi(?:'m| am) (?:\w+ )?(?:unable|not able|sorry)\b|\bi (?:can't|cannot|can not|won't|will not|must decline)\b|"
    r"\bas an ai\b|\bi (?:do not|don't) (?:know|have (?:enough|the|access))\b|"
    r"\b(?:unable|impossible) to (?:determine|answer)\b"
)
#: Either needs one of these, which are quicker to see.
_NONE_NEEDS = ("none of ", "options", "choices", "answers", "no option", "no choice", "no answer")
_REFUSAL_NEEDS = ("i'm ", "i am ", "i can", "i wo", "i will", "i must", "as an ai", "i do", "unable", "impossible")
#: Begins a response that refuses as a whole.
_OPENS_REFUSAL = re.compile(
    r"\W*(?:i (?:apologize|am sorry|'m sorry)[^.\n]{0,40}?,? ?(?:but )?)?i (?:cannot|can't|can not|won't|will not|must)"
    r" (?:provide|answer|select|choose|give|decline|refuse)"
)
#: Options that say the same as a response that declines.
_SAYS_REFUSED = re.compile(r"refused?\W*")
_SAYS_NONE = re.compile(r"(?:none of (?:the above|these)|no correct answer is given|no option is (?:right|correct))\W*")


def takes_back(lower: str, start: int, stated: bool, option: str) -> bool:
    """Whether a response says after `start` that no option holds; a `stated` answer needs plain words for it.

    `option` is the text of the answer, which nothing takes back that says the same ("None of the above").
    """
    if _SAYS_NONE.fullmatch(option.strip().lower()):
        return False
    if stated:
        return lower.find("none of", start) >= 0 and bool(_NONE_HOLDS.search(lower, start))
    return _denies_all(lower, start)


def read_refusal(lower: str, options: Sequence[str]) -> tuple[str | None, str, Status] | None:
    """Return letter, rule and status of a response (in lower case) that declines, else None.

    The letter is that of the one option that says so itself ("Refused", "None of the above"), mostly there is none:
    `(None, "refusal", Status.REFUSED)`.
    """
    if _OPENS_REFUSAL.match(lower):
        letter = _saying(_SAYS_REFUSED, options)
        return (letter, "declined_option", Status.OK) if letter else (None, "refusal", Status.REFUSED)
    if _denies_all(lower):
        letter = _saying(_SAYS_NONE, options)
        if letter and _NONE_HOLDS.search(lower):
            return letter, "declined_option", Status.OK
        return None, "none_of_the_options", Status.UNPARSABLE
    refuses = any(map(lower.__contains__, _REFUSAL_NEEDS)) and _REFUSAL.search(lower)
    return (None, "refusal", Status.REFUSED) if refuses else None


def _denies_all(lower: str, start: int = 0) -> bool:
    return any(map(lower.__contains__, _NONE_NEEDS)) and bool(_NONE.search(lower, start))


def _saying(pattern: re.Pattern[str], options: Sequence[str]) -> str | None:
    found = [letter for letter, text in zip(LETTERS, options, strict=False) if pattern.fullmatch(text.strip().lower())]
    return found[0] if len(found) == 1 else None
