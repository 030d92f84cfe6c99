"""Where a response mentions an option: by its letter, by its text, or by both side by side.

A capital letter counts only in a form that means an option: `B)` or `B.` at the start of a line, `(B)`, `**B**`,
`option B`, beside the option's text, where a sentence leads up to a letter ("the answer is B") or where one begins
with it and says whether it is right ("B is correct"). The words A and I, initials, and letters in formulas do not. A
small letter counts only in brackets after such words as "the answer is". The text of one option inside a longer
option's text, and letters inside it, do not count either.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from .schema import LETTERS

#: At most so many mentions are read from either end of a response: bounds the work on hostile input.
MOST = 150

# Bounded, so that time stays linear on long runs of such characters.
_OPENERS, _CLOSERS = r"[(\[{*_\"'“‘`$<]{0,4}", r"[)\]}*_\"'”’`$>]{0,4}"
_LETTER = re.compile(
    rf"(?P<open>{_OPENERS})(?P<word>\b(?:[Oo]ption|[Cc]hoice|[Aa]nswer|[Ll]etter|OPTION|ANSWER)s?[ ]?[:#]?[ ]?)?"
    # no letter of a word, a hyphenated word, an initial or a formula
    rf"(?<![\w'’&/+^=-]){_OPENERS}(?P<letter>[A-Z])(?![\w'’&/^+]|-\w|[ ]?[=+*/^<>][ ]?\w|\.[A-Za-z]\.)"
    rf"(?P<close>{_CLOSERS})(?P<mark>[ ]?[.:)](?!\w)|[ ]?[-–—](?=[ ]))?{_CLOSERS}"
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
_PLAIN = str.maketrans("’‘“”–—\u00a0\n", "''\"\"--  ")


class Mention(NamedTuple):
    """One mention: its place in the response, its letter, how it was made, and whether letter and text disagree."""

    start: int
    end: int
    letter: str
    by_letter: bool
    by_text: bool
    conflict: bool


def find_mentions(text: str, options: Sequence[str]) -> list[Mention]:
    """Return the mentions of lettered `options` in `text` in order, e.g. one for `B. salt`; see the module."""
    texts = _by_text(text, options)
    starts, ends = {m.start: m for m in texts}, {m.end: m for m in texts}
    inside = {place for m in texts for place in range(m.start, m.end) if text[place].isupper()}
    used: set[Mention] = set()
    out = []
    for match in _first_and_last(_SMALL.finditer(text)):
        letter, place = match[0][1].upper(), match.start()
        leads = _LEADS_TO_SMALL.search(text[max(0, place - 30) : place].lower())
        if leads and letter in LETTERS[: len(options)] and not any(m.start <= place < m.end for m in texts):
            out.append(Mention(place, match.end(), letter, True, False, False))
    for match in _first_and_last(_LETTER.finditer(text)):
        letter, place = match["letter"], match.start("letter")
        if letter not in LETTERS[: len(options)] or place in inside:
            continue
        beside = _text_before(text, match, ends) or _text_after(text, match, starts)
        if not _means_option(text, match, beside is not None):
            continue
        if beside is None:
            out.append(Mention(match.start(), match.end(), letter, True, False, False))
        else:
            used.add(beside)
            start, end = min(match.start(), beside.start), max(match.end(), beside.end)
            out.append(Mention(start, end, letter, True, True, beside.letter != letter))
    out += [m for m in texts if m not in used]
    return sorted(out)


def _text_before(text: str, match: re.Match[str], ends: dict[int, Mention]) -> Mention | None:
    """The option's text in front of a letter in brackets, as in "salt (B)"."""
    if not match["open"].endswith(("(", "[")):
        return None
    place = match.start()
    while place > max(0, match.start() - 9) and text[place - 1] in " \"'”’.*_,":
        place -= 1
    return next((ends[p] for p in range(place, match.start() + 1) if p in ends), None)


def _text_after(text: str, match: re.Match[str], starts: dict[int, Mention]) -> Mention | None:
    """The option's text behind a letter, as in "B. salt"."""
    between = _BETWEEN.match(text, match.end())
    return starts.get(between.end()) if between else None


def at_line_start(text: str, place: int) -> bool:
    """Whether nothing but white space, bullets or quotes stands before `place` in its line."""
    before = text[max(0, place - 40) : place]
    line = before[before.rfind("\n") + 1 :]
    return not line.strip(" *_#>-•\"'(") and (len(line) < len(before) or place <= 40)


def _first_and_last(matches: Iterator[re.Match[str]]) -> list[re.Match[str]]:
    every = list(matches)
    return every if len(every) <= 2 * MOST else every[:MOST] + every[-MOST:]


def _means_option(text: str, match: re.Match[str], has_text: bool) -> bool:
    """Whether a capital letter stands for an option, and not for the word A or I, a name ("vitamin C") or a unit."""
    word_like = match["letter"] in "AI" and not match["mark"] and not match["close"]
    if match["word"] or (has_text and not word_like):
        return True
    if (match["mark"] or match["close"] == ")") and at_line_start(text, match.start()):
        return True
    if match["open"] and match["close"] and not match["open"].endswith(("$", "`", '"', "'")):
        return True
    before = text[max(0, match.start() - 60) : match.start()].lower().rstrip(" \n*_\"'“‘([$`#>\\")
    if not _LEADS_TO_LETTER.search(before):
        start = match.start("letter")
        judged = _JUDGED.match(text[match.end("letter") : match.end("letter") + 80])
        return bool(judged and _BEGINS.search(text[max(0, start - 30) : start].lower()))
    return not word_like or bool(_ENDS_LETTER.match(text[match.end() : match.end() + 12]))


def _by_text(text: str, options: Sequence[str]) -> list[Mention]:
    """Every place where an option's text stands as words of its own; the longer text wins where two overlap."""
    lower = text.lower()
    if len(lower) != len(text):  # a few capitals grow when lowered, but positions must hold
        lower = "".join(low if len(low := c.lower()) == 1 else c for c in text)
    lower = lower.translate(_PLAIN)
    cores = [" ".join(option.lower().translate(_PLAIN).split()).rstrip(" .!?;:,") for option in options]
    found = []
    for letter, core in zip(LETTERS, cores, strict=False):
        if not core or cores.count(core) > 1:  # two options with one text: the text names neither
            continue
        place, hits = lower.find(core), 0
        while place >= 0 and hits < 2 * MOST:
            end = place + len(core)
            if _stands_alone(lower, core, place, end):
                hits += 1
                found.append(Mention(place, end, letter, False, True, False))
            place = lower.find(core, end)
    found.sort(key=lambda m: (m.start, -m.end))
    outer: list[Mention] = []
    for mention in found:
        if not outer or mention.start >= outer[-1].end:
            outer.append(mention)
    return outer


def _stands_alone(lower: str, core: str, start: int, end: int) -> bool:
    """Whether a text found at `start` is no part of a longer word or number."""
    before, after = lower[start - 1 : start], lower[end : end + 2]
    if (core[0].isalnum() and before.isalnum()) or (core[0].isdigit() and before in {*"-.,$^"}):
        return False
    if core[-1].isalnum() and after[:1].isalnum():
        return False
    return not (core[-1].isdigit() and re.match(r"[.,]\d|\s?[/^*%]", after))
