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
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from .schema import LETTERS

#: At most so many mentions are read from either end of a response: bounds the work on hostile input.
MOST = 150

# Bounded, so that time stays linear on long runs of such characters.
_OPENERS, _CLOSERS = "([{*_\"'“‘`$<", r"[)\]}*_\"'”’`$>]{0,4}"
_WORD = re.compile(r"\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer|[Ll]etter|OPTION|ANSWER)s?[ ]?[:#]?[ ]?\Z")
_AFTER = re.compile(rf"(?P<close>{_CLOSERS})(?P<mark>[ ]?[.:)](?!\w)|[ ]?[-–—](?=[ ]))?{_CLOSERS}")
#: A letter in brackets that is an argument: "P(B)", "C(10, 2)", "[C] = 2".
_FUNCTION, _ARGUMENT = (
    re.compile(r"(?<![\w\s])\w{1,4}[(\[]\Z|(?:^|\s)\w{1,3}[(\[]\Z"),
    re.compile(r"[(\[]\w|[)\]]{1,2}[ ]?[=^*]"),
)
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
#: What makes a number part of a larger number or formula.
_OPERATOR, _OPERAND = re.compile(r"[+*/×^]\s?\Z"), re.compile(r"[.,]\d|\s?[/^*%×÷]|\s?[-+=]\s?[\d(]|\s?\+\s?\w")
_PLAIN = {"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-", "\u00a0": " ", "\n": " "}


class Mention(NamedTuple):
    """One mention: its place in the response, its letter, how it was made, and whether letter and text disagree."""

    start: int
    end: int
    letter: str
    by_letter: bool
    by_text: bool
    conflict: bool


class _Capital(NamedTuple):
    """A capital letter of its own: where it stands, with what is around it, and where that begins and ends."""

    letter: str
    place: int
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


def find_mentions(text: str, options: Sequence[str], lower: str | None = None) -> list[Mention]:
    """Return the mentions of lettered `options` in `text` in order, e.g. one for `B. salt`; see the module.

    `lower` is `lowered(text)`, if it is at hand.
    """
    lower = lowered(text) if lower is None else lower
    texts = _by_text(lower, options)
    starts, ends = {m.start: m for m in texts}, {m.end: m for m in texts}
    used: set[Mention] = set()
    out = []
    for match in _first_and_last(_SMALL.finditer(text)):
        letter, place = match[0][1].upper(), match.start()
        leads = _LEADS_TO_SMALL.search(lower[max(0, place - 30) : place])
        if leads and letter in LETTERS[: len(options)] and not _inside(texts, place):
            out.append(Mention(place, match.end(), letter, True, False, False))
    for found in _first_and_last(_capitals(len(options)).finditer(text)):
        if _inside(texts, found.start()):
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


def _capital(text: str, place: int) -> _Capital:
    start = _opened(text, place)
    found = _WORD.search(text, max(0, start - 12), start)
    word_at = start if found is None else found.start()
    start = word_at if found is None else _opened(text, word_at)
    after = _AFTER.match(text, place + 1)
    close, mark, end = ("", None, place + 1) if after is None else (after["close"], after["mark"], after.end())
    opened = text[start:word_at] if found else text[start:place]
    return _Capital(text[place], place, start, end, opened, found[0] if found else "", close, mark or "")


def _opened(text: str, place: int) -> int:
    """Where up to four brackets, quotes or the like before a place begin."""
    start = place
    while start > max(0, place - 4) and text[start - 1] in _OPENERS:
        start -= 1
    return start


def _inside(texts: list[Mention], place: int) -> bool:
    """Whether a place is inside an option's text."""
    at = bisect_right(texts, place, key=lambda m: m.start) - 1
    return at >= 0 and place < texts[at].end


def _text_before(text: str, capital: _Capital, ends: dict[int, Mention]) -> Mention | None:
    """The option's text in front of a letter in brackets, as in "salt (B)"."""
    if not capital.open.endswith(("(", "[")):
        return None
    place = capital.start
    while place > max(0, capital.start - 9) and text[place - 1] in " \"'”’.*_,":
        place -= 1
    return next((ends[p] for p in range(place, capital.start + 1) if p in ends), None)


def _text_after(text: str, capital: _Capital, starts: dict[int, Mention]) -> Mention | None:
    """The option's text behind a letter, as in "B. salt"."""
    between = _BETWEEN.match(text, capital.end)
    return starts.get(between.end()) if between else None


def at_line_start(text: str, place: int) -> bool:
    """Whether nothing but white space, bullets or quotes stands before `place` in its line."""
    before = text[max(0, place - 40) : place]
    line = before[before.rfind("\n") + 1 :]
    return not line.strip(" *_#>-•\"'(") and (len(line) < len(before) or place <= 40)


def _first_and_last(matches: Iterator[re.Match[str]]) -> list[re.Match[str]]:
    every = list(matches)
    return every if len(every) <= 2 * MOST else every[:MOST] + every[-MOST:]


def _means_option(text: str, lower: str, capital: _Capital, has_text: bool) -> bool:
    """Whether a capital letter stands for an option, and not for the word A or I, a name ("vitamin C") or a unit."""
    word_like = capital.letter in "AI" and not capital.mark and not capital.close
    ends = not word_like or bool(_ENDS_LETTER.match(text, capital.end, capital.end + 12))
    if capital.word:
        return ends or has_text or not capital.word.lower().startswith("answer")  # "this answer: A couple"
    if has_text and not word_like:
        return True
    if _ARGUMENT.match(text, capital.place + 1) or _FUNCTION.search(text[max(0, capital.place - 6) : capital.place]):
        return False
    if (capital.mark or capital.close == ")") and at_line_start(text, capital.start):
        return not (capital.letter == "A" and _ASKED.search(lower, max(0, capital.start - 400), capital.start))
    if capital.open.startswith(("[", "(", "**")) and capital.start == 0 and ends:
        return True
    if capital.open and capital.close and not capital.open.endswith(("$", "`", '"', "'")):
        return True
    before = lower[max(0, capital.start - 60) : capital.start].rstrip(" \n*_\"'“‘([$`#>\\")
    if capital.mark and before.endswith((" is", " be", " are")):
        return True
    if not _LEADS_TO_LETTER.search(before):
        judged = _JUDGED.match(text, capital.place + 1, capital.place + 80)
        return bool(judged and _BEGINS.search(lower[max(0, capital.place - 30) : capital.place]))
    return ends


def _by_text(lower: str, options: Sequence[str]) -> list[Mention]:
    """Every place where an option's text stands as words of its own; the longer text wins where two overlap."""
    plain = lower
    for character in _PLAIN:
        plain = plain.replace(character, _PLAIN[character])
    found = []
    for letter, core in _cores(tuple(options)):
        place, hits = plain.find(core), 0
        while place >= 0 and hits < 2 * MOST:
            end = place + len(core)
            if _stands_alone(lower, plain, core, place, end):
                hits += 1
                found.append(Mention(place, end, letter, False, True, False))
            place = plain.find(core, end)
    found.sort(key=lambda m: (m.start, -m.end))
    outer: list[Mention] = []
    for mention in found:
        if not outer or mention.start >= outer[-1].end:
            outer.append(mention)
    return outer


@lru_cache(maxsize=4096)
def _cores(options: tuple[str, ...]) -> list[tuple[str, str]]:
    """The options' letters and texts as they are looked for, less those that name no option.

    Two options with one text: the text names neither. A text that is one letter reads as an option's letter.
    """
    cores = [" ".join(option.lower().translate(str.maketrans(_PLAIN)).split()).rstrip(" .!?;:,") for option in options]
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
    if core.isdigit() and after in (". ", ") ") and at_line_start(lower, start):
        return False
    if core[0].isdigit() and _OPERATOR.search(plain[max(0, start - 2) : start]):
        return False
    return not (core[-1].isdigit() and _OPERAND.match(plain, end))
