"""Where a response mentions an option: by its letter, by its text, or by both side by side.

A capital letter counts only in a form that means an option: `B)` or `B.` at the start of a line, `(B)`, `**B**`,
`option B`, beside the option's text, where a sentence leads up to a letter ("the answer is B") or where one begins
with it and says whether it is right ("B is correct"). The words A and I, initials, and letters in formulas do not. A
small letter counts only in brackets after such words as "the answer is". The text of one option inside a longer
option's text, and letters inside it, do not count either.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Sequence
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from perg_utils.core.schema import LETTERS
from perg_utils.extraction.rules.option_texts import MOST, at_line_start, find_texts
from perg_utils.extraction.rules.patterns import LABEL

# Bounded, so that time stays linear on long runs of such characters.
_OPENERS, _CLOSERS = "([{*_\"'“‘`$<", r"[)\]}*_\"'”’`$>]{0,4}"
_WORD = re.compile(r"\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer|[Ll]etter|OPTION|ANSWER)s?[ ]?[:#]?[ ]?\Z")
_AFTER = re.compile(rf"(?P<close>{_CLOSERS})(?P<mark>[ ]?[.:)](?!\w)|[ ]?[-–—](?=[ ]))?{_CLOSERS}")
#: A letter in brackets that is an argument: "P(B)", "C(10, 2)", "[C] = 2".
_FUNCTION, _ARGUMENT = re.compile(r"\b\w{1,3}[(\[]\Z"), re.compile(r"[(\[]\w|[)\]]{1,2}[ ]?[=^*]")
#: A small letter, and what makes it mean an option: "the answer is (b)".
_SMALL = re.compile(r"\([a-z]\)")
_LEADS_TO_SMALL = re.compile(r"\b(?:answer|option|choice)(?: is| would be|:| is:)?[ *]{0,4}$")
_BETWEEN = re.compile(r"[\s\"'“‘*_`(\[:$-]{0,6}")
_LEADS_TO_LETTER = re.compile(
    r"(?:\b(?:answer|option|choice|letter)s?\b[^.\n]{0,40}(?:\bis|\bbe|\bas|[:=]|,|\band|\bor)|"
    r"\b(?:choose|select|pick|go (?:with|for)|options?|answer|it(?: is|'s|’s| must be| would be| should be))|"
    r"(?:^|[.!?\n]\s*)(?:final )?(?:response|in short|in summary|in conclusion|to sum up|wait|actually)\s*[:,])$"
)
# A letter of which a sentence says whether it is right: what stands before and after it.
_BEGINS = re.compile(
    r"(?:^|[.;:!?\n]|(?<!\b[a-z]),|(?<!\b[a-z]\s)(?<!\b[a-z],\s)\b(?:and|but|or|so|therefore|thus|hence|however|that|while|whereas|reflection|because|since|only|"
    r"think|believe|say|clearly|then))\s*[(*_\"']*$"
)
_JUDGED = re.compile(
    r"[)\]*_\"']*\s+(?:is|are|seems|would be|must be|was)(?:n't|n’t| not)?"
    r"(?: (?:the|an?|also|clearly|therefore|thus|most|more|likely|definitely|probably|indeed|obviously|actually|only)\b"
    r"){0,3} (?:correct|incorrect|right|wrong|false|best|better|worse|accurate|inaccurate|appropriate|tempting|"
    r"likely|plausible|suitable|answer)\b"
)
#: What may follow the letters A and I when they are no words.
_ENDS_LETTER = re.compile(r"[)\]*_\"'$ ]*(?:$|[.,:;\n)]|because|since|as\b|and\b|or\b)")
#: "Q: ... A: ..." is question and answer.
_ASKED = re.compile(r"(?:^|\n)\W{0,4}q(?:uestion)?[.:]")


class Mention(NamedTuple):
    """One mention: its span in the response, its letter, how it was made, and whether letter and text disagree."""

    start: int
    end: int
    letter: str
    by_letter: bool
    by_text: bool
    conflict: bool


class _Capital(NamedTuple):
    """A capital letter of its own: where it stands, with what is around it, and where that begins and ends."""

    letter: str
    offset: int
    start: int
    end: int
    open: str
    word: str
    close: str
    mark: str


def lowered(text: str) -> str:
    """Return `text` in lower case, of the same length: a few capitals grow when lowered, but positions must hold."""
    lower = text.lower()
    return lower if len(lower) == len(text) else "".join(low if len(low := c.lower()) == 1 else c for c in text)


#: Signs and letters of full width, which mean the same as the narrow ones.
_WIDE = {
    "：": ":",
    "（": "(",
    "）": ")",
    "．": ".",
    "。": ".",
    "，": ",",
    "、": ",",
    "【": "[",
    "】": "]",
    "「": '"',
    "」": '"',
    "«": '"',
    "»": '"',
}
_WIDE |= {chr(0xFEE0 + ord(letter)): letter for letter in LETTERS}


def narrowed(text: str) -> str:
    """Return `text` with narrow signs and letters for those of full width, of the same length: `（B）` -> `(B)`."""
    if text.isascii():
        return text
    for wide, narrow in _WIDE.items():
        text = text.replace(wide, narrow)
    return text


def find_mentions(text: str, options: Sequence[str], lower: str | None = None) -> list[Mention]:
    """Return the mentions of lettered `options` in `text` in order, e.g. one for `B. salt`; see the module.

    `lower` is `lowered(text)`, if it is at hand.
    """
    lower = lowered(text) if lower is None else lower
    texts = [Mention(start, end, letter, False, True, False) for start, end, letter in find_texts(lower, options)]
    starts, ends = {m.start: m for m in texts}, {m.end: m for m in texts}
    offsets = [m.start for m in texts]
    used: set[Mention] = set()
    out = []
    for match in _first_and_last(_SMALL.finditer(text)) if "(" in text else []:
        letter, offset = match[0][1].upper(), match.start()
        leads = _LEADS_TO_SMALL.search(lower[max(0, offset - 30) : offset])
        if leads and letter in LETTERS[: len(options)] and not _inside(texts, offsets, offset):
            out.append(Mention(offset, match.end(), letter, True, False, False))
    for found in _first_and_last(_capitals(len(options)).finditer(text)):
        if _inside(texts, offsets, found.start()):
            continue
        capital = _capital(text, found.start())
        beside = _text_before(text, capital, ends) or _text_after(text, capital, starts)
        if not _means_option(text, lower, capital, beside is not None):
            continue
        if beside is None:
            out.append(Mention(capital.start, capital.end, capital.letter, True, False, False))
        else:
            used.add(beside)
            start, end = min(capital.start, beside.start), max(capital.end, beside.end)
            out.append(Mention(start, end, capital.letter, True, True, beside.letter != capital.letter))
    out += [m for m in texts if m not in used]
    return sorted(out)


@lru_cache
def _capitals(count: int) -> re.Pattern[str]:
    """A capital letter of one of so many options, no part of a word, a hyphenated word, an initial or a formula."""
    last = LETTERS[min(count, len(LETTERS)) - 1]
    return re.compile(rf"[A-{last}](?<![\w'’&/+^=-].)(?![\w'’&/^+]|-\w|[ ]?[=+*/^<>][ ]?\w|\.[A-Za-z]\.)")


def _capital(text: str, offset: int) -> _Capital:
    start = _opened(text, offset)
    found = _WORD.search(text, max(0, start - 12), start)
    word_at = start if found is None else found.start()
    start = word_at if found is None else _opened(text, word_at)
    after = _AFTER.match(text, offset + 1)
    close, mark, end = ("", None, offset + 1) if after is None else (after["close"], after["mark"], after.end())
    opened = text[start:word_at] if found else text[start:offset]
    return _Capital(text[offset], offset, start, end, opened, found[0] if found else "", close, mark or "")


def _opened(text: str, offset: int) -> int:
    """Where up to four brackets, quotes or the like before an offset begin."""
    start = offset
    while start > max(0, offset - 4) and text[start - 1] in _OPENERS:
        start -= 1
    return start


def _inside(texts: list[Mention], offsets: list[int], offset: int) -> bool:
    """Whether an offset is inside one of the options' texts, which begin at `offsets`."""
    at = bisect_right(offsets, offset) - 1
    return at >= 0 and offset < texts[at].end


def _text_before(text: str, capital: _Capital, ends: dict[int, Mention]) -> Mention | None:
    """The option's text in front of a letter in brackets, as in "salt (B)"."""
    if not capital.open.endswith(("(", "[")):
        return None
    offset = capital.start
    while offset > max(0, capital.start - 9) and text[offset - 1] in " \"'”’.*_,":
        offset -= 1
    return next((ends[p] for p in range(offset, capital.start + 1) if p in ends), None)


def _text_after(text: str, capital: _Capital, starts: dict[int, Mention]) -> Mention | None:
    """The option's text behind a letter, as in "B. salt"."""
    between = _BETWEEN.match(text, capital.end)
    return starts.get(between.end()) if between else None


def _first_and_last(matches: Iterator[re.Match[str]]) -> list[re.Match[str]]:
    return [*islice(matches, MOST), *deque(matches, MOST)]


def _means_option(text: str, lower: str, capital: _Capital, has_text: bool) -> bool:
    """Whether a capital letter stands for an option, and not for the word A or I, a name ("vitamin C") or a unit."""
    word_like = capital.letter in "AI" and not capital.mark and not capital.close
    ends = not word_like or bool(_ENDS_LETTER.match(text, capital.end, capital.end + 12))
    if capital.word:  # but "this answer: A couple"
        return ends or has_text or not capital.word.lower().startswith("answer")
    if has_text and not word_like:
        return True
    if _ARGUMENT.match(text, capital.offset + 1) or _FUNCTION.search(text[max(0, capital.offset - 6) : capital.offset]):
        return False
    if (capital.mark or capital.close == ")") and at_line_start(text, capital.start):
        return not (capital.letter == "A" and _ASKED.search(lower, max(0, capital.start - 400), capital.start))
    opens = capital.start == 0 and ends and capital.open.startswith(("[", "(", "**"))
    quoted = capital.open.endswith(("$", "`", '"', "'"))
    return opens or bool(capital.open and capital.close and not quoted) or _in_a_sentence(text, lower, capital, ends)


def _in_a_sentence(text: str, lower: str, capital: _Capital, ends: bool) -> bool:
    """Whether a sentence leads up to a bare letter, or says of it whether it is right."""
    before = lower[max(0, capital.start - 60) : capital.start].rstrip(" \n*_\"'“‘([$`#>\\")
    if capital.mark and before.endswith((" is", " be", " are")):
        return True
    if _LEADS_TO_LETTER.search(before) or (before.endswith(":") and LABEL.search(before)):
        return ends
    judged = _JUDGED.match(text, capital.offset + 1, capital.offset + 80)
    return bool(judged and _BEGINS.search(lower[max(0, capital.offset - 30) : capital.offset]))
