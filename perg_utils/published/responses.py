"""The responses of one released file: of each its position, its preference, its text, and what its letter means.

Files letter the options in different orders. A response's letter is the canonical one, that of the same option in
table 'examples'; `order` says in which order its file lists the options (canonical letters, e.g. `BADC`), so that
letters of two files can be compared, or found to have been compared wrongly.

Left out: which of several files' responses is used, and what is scored (`arms`).
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, replace
from typing import Literal

import pandas as pd

from perg_utils.core.schema import LETTERS, Setting, Status
from perg_utils.extraction.answers import extract_answer
from perg_utils.published.assignment import SOURCE_AT, assigned, other_id, preference_id
from perg_utils.published.catalogue import Catalogue, Item
from perg_utils.published.files import PublishedFile
from perg_utils.published.layouts import FLAGS, Layout, Letter, ResponseColumns, Rows, read_letter

#: Whose letters: the released ones, or those that this project's rules read from the released responses.
Letters = Literal["published", "rules"]


#: Columns of `FileResponses.surplus`. `gold` is the letter of the right option, as the letters in the row's own order.
SURPLUS = ["row", "source", "gold", "letter", "letter_without", "rating", *FLAGS]


@dataclass(frozen=True, slots=True)
class FileResponses:
    """`shown`: one row a response with preference. `own`: the file's responses without, row by row, or None.

    `surplus`: what the file says of its rows that have no position (not in the wide layout): `SURPLUS`, as text.
    """

    shown: pd.DataFrame
    own: pd.DataFrame | None
    rated: bool
    surplus: pd.DataFrame


def file_responses(
    file: PublishedFile, rows: Rows, positions: list[int | None], catalogue: Catalogue, letters: Letters
) -> FileResponses:
    """Return the responses of a file that have a position, those with preference and those without."""
    frame = rows.frame.assign(position=pd.Series(positions, index=rows.frame.index, dtype="Int64"))
    surplus = _surplus(frame[frame["position"].isna()], rows, catalogue)
    frame = frame[frame["position"].notna()].reset_index(drop=True)
    frame["position"] = frame["position"].astype(int)
    keys = zip(frame["question"], frame["options"], frame["gold"], frame["position"], strict=True)
    found = [catalogue.order(*key) for key in keys]
    frame["order"] = [order for _, order in found]
    items = [item for item, _ in found]
    read_by = {columns: _read(frame, items, columns, letters) for columns in rows.responses}
    own = next((read for columns, read in read_by.items() if columns.number == 0), None)
    shown = []
    for columns, read in read_by.items():
        if columns.number == 0:
            continue
        read["preference_id"] = _preferences(file, frame, columns, catalogue)
        if own is not None:
            for name in ("correct", "delivered", "status", "raw", "text"):
                read[f"{name}_without"] = own[name]
        if rows.layout is Layout.SCORED:
            for name in ("rating", "explanation", *FLAGS):
                read[name] = frame.get(name, "")
        shown.append(read)
    return FileResponses(pd.concat(shown, ignore_index=True), own, rows.layout is Layout.SCORED, surplus)


def _surplus(lost: pd.DataFrame, rows: Rows, catalogue: Catalogue) -> pd.DataFrame:
    if rows.layout is Layout.WIDE:
        return pd.DataFrame(columns=SURPLUS)
    names = {c.answer: "letter" if c.number is None else "letter_without" for c in rows.responses}
    out = lost.rename(columns=names).reindex(columns=SURPLUS).astype(object).fillna("")
    known = [catalogue.source(question) for question in lost["question"]]
    return out.assign(source=[name or found for name, found in zip(lost["source"], known, strict=True)])


def _read(frame: pd.DataFrame, items: list[Item], columns: ResponseColumns, letters: Letters) -> pd.DataFrame:
    responses, raw, orders = frame[columns.response].tolist(), frame[columns.answer].tolist(), frame["order"].tolist()
    read = [_letter(response, text, item, letters) for response, text, item in zip(responses, raw, items, strict=True)]
    answers = [None if r.index is None else order[r.index] for r, order in zip(read, orders, strict=True)]
    golds = [order[item.gold] for order, item in zip(orders, items, strict=True)]
    status = pd.Series([str(r.status) for r in read], index=frame.index, dtype=object)
    exists = status != Status.EMPTY
    correct = pd.Series([a == g for a, g in zip(answers, golds, strict=True)], index=frame.index, dtype="boolean")
    delivered = pd.Series([a is not None for a in answers], index=frame.index, dtype="boolean")
    out = frame[["position", "row", "order", "stage"]].copy()
    out["response"], out["raw"] = frame[columns.response], frame[columns.answer]
    out["answer"] = pd.Series(answers, index=frame.index, dtype=object)
    for name in ("how", "layer", "evidence", "confidence"):
        out[name] = pd.Series([getattr(r, name) for r in read], index=frame.index, dtype=object)
    out["text"] = [zlib.crc32(text.strip().encode()) for text in responses]
    out["status"] = status
    out["correct"], out["delivered"] = correct.where(exists), delivered.where(exists)
    return out


def _letter(response: str, raw: str, item: Item, letters: Letters) -> Letter:
    if not response.strip():
        # An answer to a response that is not there cannot be the model's.
        return Letter(None, "no_response", Status.EMPTY)
    if letters == "published":
        read = read_letter(raw, len(item.options))
        return read if read.index is None else replace(read, layer="original")
    found = extract_answer(response, item.options)
    index = None if found.letter is None else LETTERS.index(found.letter)
    words = found.words(response)
    return Letter(index, f"rules:{found.how}", found.status, found.layer, words, found.confidence)


def _preferences(
    file: PublishedFile, frame: pd.DataFrame, columns: ResponseColumns, catalogue: Catalogue
) -> list[str | None]:
    """The preference of each row: none in *irrelevant*, the number of `columns`, or the one whose text the row has."""
    positions = frame["position"].tolist()
    if file.setting is Setting.IRRELEVANT:
        return [None] * len(positions)
    if columns.number is not None:
        return [preference_id(SOURCE_AT[position], columns.number) for position in positions]
    return [
        _named(SOURCE_AT[position], assigned(position), text, catalogue)
        for position, text in zip(positions, frame["preference"].tolist(), strict=True)
    ]


def _named(source: str, expected: int, text: str, catalogue: Catalogue) -> str:
    number = catalogue.number(source, text) if text else expected
    if number is None:
        # A list of all that was shown (mixed) has the assigned one in it.
        known = catalogue.texts.get((source, expected))
        if known is not None and known in text:
            return preference_id(source, expected)
        catalogue.others[other_id(source, text)] = text
        return other_id(source, text)
    return preference_id(source, number)
