"""One released CSV file as rows: which of the three layouts it has, its questions, options, responses and letters.

    wide    question, options, profile_0_res ... profile_n_res, profile_0_answer ..., gold_option [, category]
    long    question, options, no_pref_res, no_pref_ans, pref_res, pref_ans, gold_option, preference [, source, ...]
    scored  the same as nopref_res, nopref_answer, pref_answer, and pref_eval_rating, pref_eval_explanation, ...

Everything is read as text, so that a response or answer that is the word None or NA stays one. `options` is the
printed form of a Python list or of a NumPy array. A Pref-Aligner file also carries the zero-shot response; its own is
aligner_res.

Left out: where a row belongs in the study (`catalogue`).
"""

from __future__ import annotations

import ast
import csv
import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.schema import LETTERS, Status
from perg_utils.published.files import SOURCES


class Layout(StrEnum):
    """The three layouts of responses, and the dataset file."""

    WIDE = "wide"
    LONG = "long"
    SCORED = "scored"
    DATASET = "dataset"


class ResponseColumns(NamedTuple):
    """The columns of one response a row: `number` 0 is without preference, k a source's k-th, None the row's own."""

    number: int | None
    response: str
    answer: str


@dataclass(frozen=True, slots=True)
class Letter:
    """A published answer: its option's position in the list (0 is A) or None, how it was published, and its status.

    The rest is as in the table 'answers'.
    """

    index: int | None
    how: str
    status: Status
    layer: str | None = None
    evidence: str | None = None
    confidence: float | None = None


@dataclass(frozen=True, slots=True)
class Rows:
    """The rows of one file.

    `frame` has the columns row, question, options, gold, source, subject, preference, stage, those of `responses` and,
    when scored, rating, explanation and the `FLAGS` as published.
    """

    layout: Layout
    frame: pd.DataFrame
    responses: tuple[ResponseColumns, ...]
    unread: list[tuple[int, str]]  # rows that are cut off, and why


_RENAMED = {
    "no_pref_res": "nopref_res",
    "no_pref_ans": "nopref_answer",
    "pref_ans": "pref_answer",
    "gold_option": "gold",
    "category": "subject",
    "pref_eval_rating": "rating",
    "pref_eval_explanation": "explanation",
}
_KEPT = ["question", "options", "gold", "source", "subject", "preference", "rating", "explanation"]
#: What a scored file concludes of a row, as published text.
FLAGS = ("pref_correct", "nopref_correct", "followed_pref", "is_robust")
#: One element of a printed list: a Python string literal, single- or double-quoted. NumPy puts no commas between them.
_LITERAL = re.compile(r"""'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*\"""", re.DOTALL)


def read_rows(path: Path, only_questions: bool = False) -> Rows:
    """Return the rows of a released file. Raises `DataError` for an unreadable file or an unknown layout.

    With `only_questions` the responses are left out (a tenth of the memory). Rows from where a file is cut off are
    in `unread`.
    """
    header = _columns(path)
    layout, responses, stages = _layout(path, header)
    wanted = {*_KEPT, *FLAGS, *stages, *(name for columns in responses for name in columns[1:])}
    if only_questions:
        wanted, responses = set(_KEPT), ()
    raw, unread = _read(path, [name for name in header if _RENAMED.get(name, name) in wanted])
    frame = raw.rename(columns=_RENAMED)
    for name in ("source", "subject", "preference"):
        if name not in frame:
            frame[name] = ""
    frame["source"] = [_source(name) for name in frame["source"]]
    present = [name for name in stages if name in frame]
    frame["stage"] = [next((text for text in texts if text), "") for texts in frame[present].to_numpy()]
    frame["row"] = range(len(frame))
    short = frame["gold"].isna() | frame["options"].isna()  # fields missing at the end of a line
    unread += [(int(row), "the row is cut off") for row in frame["row"][short]]
    return Rows(layout, frame[~short].fillna(""), responses, unread)


@lru_cache(maxsize=65536)
def parse_options(text: str) -> tuple[str, ...]:
    r"""Return the options printed in `text`, e.g. `("0", "4")` for `['0', '4']`, `['0' '4']` or `['0'\n '4']`.

    Raises `ValueError` when `text` is no such list of 2 to 26 strings.
    """
    body = text.strip()
    if not (body.startswith("[") and body.endswith("]")):
        raise ValueError("options are no list")
    at, found = 1, []
    while True:
        while body[at] in ", \t\r\n":
            at += 1
        if at == len(body) - 1:
            break
        literal = _LITERAL.match(body, at)
        if literal is None:
            raise ValueError("options are no list of quoted strings")
        found.append(str(ast.literal_eval(literal[0].replace("\n", "\\n"))))
        at = literal.end()
    if not 2 <= len(found) <= len(LETTERS):
        raise ValueError(f"{len(found)} options, expected 2 to {len(LETTERS)}")
    return tuple(found)


@lru_cache(maxsize=65536)
def read_letter(text: str, count: int) -> Letter:
    """Return what a published answer means for `count` options, e.g. `Letter(1, "published", Status.OK)` for B of 4.

    Anything but a letter of an option has no index: `how` says what it is, e.g. published_beyond_options (T of 4),
    published_none (-1), published_x / _y / _z (the extractor's labels no option is right, refusal, does not know),
    published_several, published_phrase, published_missing (an empty cell).
    """
    answer = text.strip()
    if len(answer) == 1 and answer in LETTERS:
        index = LETTERS.index(answer)
        if index < count:
            return Letter(index, "published", Status.OK)
        if answer in "XYZ":
            status = Status.UNPARSABLE if answer == "X" else Status.REFUSED
            return Letter(None, f"published_{answer.lower()}", status)
        return Letter(None, "published_beyond_options", Status.UNPARSABLE)
    if not answer or answer in ("nan", "NaN"):
        return Letter(None, "published_missing", Status.UNPARSABLE)
    if answer in ("-1", "-1.0"):
        return Letter(None, "published_none", Status.UNPARSABLE)
    several = re.fullmatch(r"[A-Z](?:(?:\s*,\s*(?:and |or )?|\s+and\s+|\s+or\s+|\s*&\s*|\s*/\s*)[A-Z])+", answer)
    return Letter(None, "published_several" if several else "published_phrase", Status.UNPARSABLE)


def _columns(path: Path) -> list[str]:
    try:
        return pd.read_csv(path, nrows=0, encoding="utf-8").columns.tolist()
    except (OSError, ValueError) as error:  # pandas' parser errors and a broken encoding are ValueErrors
        raise DataError(f"cannot be read as CSV: {error}; fetch it again") from error


def _layout(path: Path, header: Sequence[str]) -> tuple[Layout, tuple[ResponseColumns, ...], list[str]]:
    """The layout by its columns, the columns of responses, and those that may hold a two-stage method's first stage."""
    names = {_RENAMED.get(name, name) for name in header}
    lacking = {"question", "options", "gold"} - names
    if lacking:
        raise DataError(f"unknown layout: columns {', '.join(header)[:200]}; it has no {', '.join(sorted(lacking))}")
    if "profile_0_res" in names:
        numbers = [i for i in range(len(names)) if names.issuperset({f"profile_{i}_res", f"profile_{i}_answer"})]
        if len(numbers) < 2:
            raise DataError(f"unknown layout: columns {', '.join(header)[:200]}; it has responses without answers")
        return Layout.WIDE, tuple(ResponseColumns(i, f"profile_{i}_res", f"profile_{i}_answer") for i in numbers), []
    shown = ("aligner_res", "aligner_answer") if "aligner_answer" in names else ("pref_res", "pref_answer")
    responses = [ResponseColumns(None, *shown)] if names.issuperset(shown) else []
    if responses and names.issuperset({"nopref_res", "nopref_answer"}):
        responses.append(ResponseColumns(0, "nopref_res", "nopref_answer"))
    if not responses:
        if "pref_res" in names or "nopref_res" in names or path.name.endswith("_eval.csv"):
            raise DataError(f"unknown layout: columns {', '.join(header)[:200]}; it has responses without answers")
        return Layout.DATASET, (), []
    # A file with aligner_answer may carry the ratings of the zero_shot responses that it was made from.
    layout = Layout.SCORED if "rating" in names and "aligner_answer" not in names else Layout.LONG
    return layout, tuple(responses), ["critics", "aligner_thoughts", "thoughts"]


def _read(path: Path, columns: list[str]) -> tuple[pd.DataFrame, list[tuple[int, str]]]:
    """The wanted columns as text, and the last row when the file ends within a quoted field."""
    try:
        frame = pd.read_csv(path, dtype=str, keep_default_na=False, usecols=columns, encoding="utf-8")
        return frame.astype(object), []
    except pd.errors.ParserError:
        pass  # ends inside a quotation: read the complete rows one by one
    except (OSError, ValueError) as error:
        raise DataError(f"cannot be read as CSV: {error}; fetch it again") from error
    csv.field_size_limit(2**31 - 1)
    with path.open(encoding="utf-8", newline="") as handle:
        lines = list(csv.reader(handle))
    header, complete = lines[0], [line for line in lines[1:-1] if len(line) == len(lines[0])]
    if len(complete) != len(lines) - 2:
        raise DataError("cannot be read as CSV: rows of different lengths; fetch it again")
    frame = pd.DataFrame(complete, columns=header, dtype=object)[columns]
    return frame, [(len(complete), "the file ends within this row: it is truncated; fetch it again")]


def _source(name: object) -> str:
    tail = str(name).rpartition("/")[2]
    return str(SOURCES[tail]) if tail in SOURCES else ""
