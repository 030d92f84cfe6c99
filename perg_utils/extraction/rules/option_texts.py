"""Where a response has the text of an option: as words of its own, in any case, with any kind of quotes and dashes.

A number that is part of a larger number or a formula is no option's text, nor is the number of a list's item, nor a
part of a hyphenated word. Left out: letters of options (`mentions`), and texts in other words than the option's.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

from perg_utils.core.schema import LETTERS

#: At most so many mentions are read from either end of a response: bounds the work on hostile input.
MOST = 150

#: What makes a number part of a larger number or formula.
_OPERATOR, _OPERAND = re.compile(r"[+*/×^]\s?\Z"), re.compile(r"[.,]\d|\s?[/^*%×÷]|\s?[-+=]\s?[\d(]|\s?\+\s?\w")
_PLAIN = {
    "’": "'",
    "‘": "'",
    "“": '"',
    "”": '"',
    "–": "-",
    "—": "-",
    "\u00a0": " ",
    "\n": " ",
}


def at_line_start(text: str, offset: int) -> bool:
    """Whether nothing but white space, bullets or quotes stands before `offset` in its line."""
    before = text[max(0, offset - 40) : offset]
    line = before[before.rfind("\n") + 1 :]
    return not line.strip(" *_#>-•\"'(") and (len(line) < len(before) or offset <= 40)


def find_texts(lower: str, options: Sequence[str]) -> list[tuple[int, int, str]]:
    """Return start, end and letter of every span where an option's text stands as words of its own, in order.

    `lower` is the response in lower case. The longer text wins where two overlap.
    """
    plain = _plain(lower)
    found = []
    for letter, core in _cores(tuple(options)):
        offset, hits = plain.find(core), 0
        while offset >= 0 and hits < 2 * MOST:
            end = offset + len(core)
            if _stands_alone(lower, plain, core, offset, end):
                hits += 1
                found.append((offset, end, letter))
            offset = plain.find(core, end)
    outer: list[tuple[int, int, str]] = []
    for one in sorted(found, key=lambda one: (one[0], -one[1])):
        if not outer or one[0] >= outer[-1][1]:
            outer.append(one)
    return outer


def _plain(lower: str) -> str:
    """A text with plain quotes, dashes and spaces, of the same length."""
    if lower.isascii():
        return lower.replace("\n", " ")
    for character, plainer in _PLAIN.items():  # much quicker than translate()
        lower = lower.replace(character, plainer)
    return lower


def core_of(option: str) -> str:
    """Return an option's text as it is looked for: plain, in lower case, no sign at its end: `Salt.` -> `salt`."""
    return " ".join(_plain(option.lower()).split()).rstrip(" .!?;:,")


@lru_cache(maxsize=8192)
def _cores(options: tuple[str, ...]) -> list[tuple[str, str]]:
    """The options' letters and texts as they are looked for, less those that name no option.

    Two options with one text: the text names neither. A text that is one letter reads as an option's letter.
    """
    cores = [core_of(option) for option in options]
    return [
        (letter, core)
        for letter, core in zip(LETTERS, cores, strict=False)
        if core and not (len(core) == 1 and core.isalpha()) and cores.count(core) == 1
    ]


def _stands_alone(lower: str, plain: str, core: str, start: int, end: int) -> bool:
    """Whether a text found at `start` is no part of a longer word or number, nor the number of a list's item."""
    before, after = plain[start - 1 : start], plain[end : end + 2]
    if (core[0].isalnum() and before.isalnum()) or (core[0].isdigit() and before in {*"-.,$^"}):
        return False
    if core[-1].isalnum() and after[:1].isalnum():
        return False
    if before == "-" and core[0].isalpha() and plain[start - 2 : start - 1].isalpha():  # "non-linear"
        return False
    if core.isdigit() and after in (". ", ") ") and at_line_start(lower, start):
        return False
    if core[0].isdigit() and _OPERATOR.search(plain[max(0, start - 2) : start]):
        return False
    return not (core[-1].isdigit() and _OPERAND.match(plain, end))
