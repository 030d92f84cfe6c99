"""The data of the report's response browser: every row of a run as small codes, and its texts in files by question.

A page opened from disk may not read files, but it may run scripts that lie beside it. So each file is one call,
`perg(name, stamp, payload)`, whose payload is gzip in base64 and is opened only when it is asked for:

    index      words behind the codes, questions, preferences, layout of the columns (JSON)
    columns    the codes, column after column, as little-endian integers
    0000 ...   texts of the rows of some questions, each text once, and which row has which (JSON)

What is small goes into the page itself, under the same names. Equal tables give equal bytes. Left out: prompts,
seconds and tokens, and everything the tables `responses`, `answers`, `judgements`, `scores` do not hold.
"""

from __future__ import annotations

import base64
import gzip
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from perg_utils.core.schema import ORDER, ROW_ID, Method, Setting, Status
from perg_utils.core.workspace import digest, write_text

#: Folder beside the page. A run of up to `INLINE` characters of payload needs none: all of it is in the page.
FOLDER = "responses"
INLINE = 1_500_000
#: Characters of response in one file: a row opens with one file, and a file opens in a blink.
PART = 2_000_000
#: What became of a row, a bit each; the page offers and names them in this order.
OUTCOMES = {
    "broke": "right without, wrong with",
    "fixed": "wrong without, right with",
    "robust": "right in both, and followed where it can be",
    "not followed": "the preference is not followed",
    "not scored": "a response or a rating is missing",
    "names no option": "counts as wrong",
    "stayed right": "right in both",
    "stayed wrong": "wrong in both",
    "right": "asked without preference",
    "wrong": "asked without preference",
}
Tables = Mapping[str, pd.DataFrame]
Codes = np.ndarray[Any, np.dtype[np.int64]]


@dataclass(frozen=True)
class Part:
    """One packed piece: `stamp` tells whether a file belongs to the page that asks for it."""

    name: str
    stamp: str
    payload: str


def parts(tables: Tables, baseline: str = "no_preference", *, size: int = PART) -> Iterator[Part]:
    """Yield the packed pieces of a run: `index`, `columns`, then the texts; nothing where there is no response.

    `tables` are those before `metrics`, and `origins` of a published release. `baseline` is the profile's: which
    response without preference stands beside a row. `size`: characters of response in one piece of texts.
    """
    if not len(tables["responses"]):
        return
    order, columns, words = _rows(tables, baseline)
    responses = tables["responses"]
    cuts = _cuts(columns["example"], responses["response"].str.len().iloc[order], size)
    index, block = _index(tables, columns, words, cuts)
    # Compression lets go of the interpreter's lock; a few pieces at a time keep the memory small.
    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        yield from pool.map(_packed, ("index", "columns"), (_json(index), block))
        ends = [*cuts[1:], len(order)]
        # Put in order once, then cut: taking rows from long texts costs as much for a few as for all.
        explained = _beside(tables["judgements"], responses)["explanation"].iloc[order]
        own = responses[["response", "stages", "shown_preferences"]].iloc[order]
        position = {p: i for i, p in enumerate(tables["preferences"]["preference_id"])}
        for first in range(0, len(cuts), 8):
            numbers = range(first, min(first + 8, len(cuts)))
            pieces = [slice(cuts[i], ends[i]) for i in numbers]
            texts = [_texts(own.iloc[piece], explained.iloc[piece], position) for piece in pieces]
            yield from pool.map(_packed, [f"{i:04d}" for i in numbers], texts)


def save(pieces: Iterable[Part], folder: Path, *, inline: int = INLINE) -> tuple[dict[str, str], list[Part]]:
    """Write the pieces as scripts into `folder`, or keep them when they are small.

    Returns (stamp of every piece by name, the pieces that go into the page). Files of an earlier run are removed.
    """
    kept, stamps, room = list[Part](), dict[str, str](), inline
    for piece in pieces:
        stamps[piece.name] = piece.stamp
        kept.append(piece)
        room -= len(piece.payload)
        if room < 0:
            for part in kept:
                write_text(folder / f"{part.name}.js", f'perg("{part.name}","{part.stamp}","{part.payload}");\n')
            kept = []
    written = set() if kept or not stamps else set(stamps)
    for path in folder.glob("*.js"):
        if path.stem not in written:
            path.unlink()
    if folder.is_dir() and not any(folder.iterdir()):
        folder.rmdir()
    return stamps, kept


def _rows(tables: Tables, baseline: str) -> tuple[Codes, dict[str, Codes], dict[str, list[Any]]]:
    """The order of the rows (by question, then model, method, setting), their codes, and the words behind these."""
    responses, scores = tables["responses"], tables["scores"]
    known: dict[str, list[Any]] = {
        "example": list(tables["examples"]["example_id"]),
        "preference": list(tables["preferences"]["preference_id"]),
        "model": list(dict.fromkeys([*scores["model"].unique(), *responses["model"].unique()])),
        "method": ORDER["method"],
        "setting": ORDER["setting"],
    }
    answers, judgements, scored = (_beside(tables[n], responses) for n in ("answers", "judgements", "scores"))
    # That rules, or the release, read a letter is the ordinary case and goes without saying.
    layer = answers["layer"].where(~answers["layer"].isin(["rules", "original"]))
    values = {
        **{"example": responses["example_id"], "preference": responses["preference_id"]},
        **{name: responses[name] for name in ("model", "method", "setting", "status", "finish_reason", "fallback")},
        **{"answer": answers["answer"], "how": answers["how"], "answer_status": answers["status"]},
        "layer": layer,
        **{name: judgements[name] for name in ("judge", "rating")},
        **{"judgement_status": judgements["status"], "score_status": scored["status"]},
    }
    if "origins" in tables:
        # The order that a released file gives the options: its text speaks of other letters than the tables do.
        own = _beside(tables["origins"], responses)["order"]
        values["order"] = own.where(np.array([isinstance(o, str) and list(o) != sorted(o) for o in own], dtype=bool))
    words = {name: [None, *(known.get(name) or sorted(column.dropna().unique()))] for name, column in values.items()}
    codes = {name: _codes(column, words[name]) for name, column in values.items()}
    keys = ("example", "model", "method", "setting", "preference")
    order = np.lexsort([codes[name] for name in reversed(keys)])
    codes = {name: column[order] for name, column in codes.items()}
    codes["outcome"] = _outcome(scored, responses["setting"])[order]
    codes["base"] = _baselines(codes, words, baseline)
    return order, codes, words


def _codes(column: pd.Series, words: list[Any]) -> Codes:
    """Position of each value in `words`, 0 where it is null."""
    found = pd.Index(words[1:]).get_indexer(pd.Index(column)) + 1
    return np.where(column.isna(), 0, found)


def _beside(other: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of `other` that belong to `rows`, in their order; nulls where there is none."""
    kinds = {name: pd.concat([rows[name], other[name]]).dropna().unique() for name in ROW_ID}
    size = [len(words) + 1 for words in kinds.values()]

    def key(frame: pd.DataFrame) -> Codes:
        codes = [_codes(frame[name], [None, *words]) for name, words in kinds.items()]
        return np.ravel_multi_index(codes, size) if len(frame) else np.empty(0, dtype=np.int64)

    return other.reset_index(drop=True).reindex(pd.Index(key(other)).get_indexer(pd.Index(key(rows))))


def _outcome(scores: pd.DataFrame, setting: pd.Series) -> Codes:
    """One integer a row: bit i is set where the i-th of `OUTCOMES` holds."""
    names = ("correct_without", "correct_with", "followed", "robust", "delivered_without", "delivered_with")
    without, with_, followed, robust, before, after = (
        scores[name].to_numpy(dtype=float, na_value=np.nan) for name in names
    )
    none = (setting == Setting.NONE).to_numpy(dtype=bool)
    holds = {
        "broke": (without == 1) & (with_ == 0),
        "fixed": (without == 0) & (with_ == 1),
        "robust": (without == 1) & (robust == 1),
        "not followed": followed == 0,
        "not scored": scores["status"].fillna(Status.EMPTY).to_numpy() != Status.OK,
        "names no option": np.where(none, before, after) == 0,
        "stayed right": (without == 1) & (with_ == 1),
        "stayed wrong": (without == 0) & (with_ == 0),
        "right": none & (without == 1),
        "wrong": none & (without == 0),
    }
    return sum((holds[name].astype(np.int64) << i for i, name in enumerate(OUTCOMES)), np.zeros(len(none), np.int64))


def _baselines(codes: Mapping[str, Codes], words: Mapping[str, list[Any]], baseline: str) -> Codes:
    """For each row the row of its baseline, plus one; 0 where it is one itself or has none (see `scoring.scores`)."""
    none = codes["setting"] == words["setting"].index(Setting.NONE)
    plain = codes["method"] == words["method"].index(Method.NO_PREFERENCE)
    method = codes["method"] if baseline == "own" else np.zeros_like(codes["method"])
    key = (codes["example"] * len(words["model"]) + codes["model"]) * len(words["method"]) + method
    places = np.flatnonzero(none if baseline == "own" else none & plain)
    found = pd.Index(key[places]).get_indexer(pd.Index(key))
    found = np.where(found >= 0, places[found] + 1 if len(places) else 0, 0)
    return np.where(none, 0, found)


def _cuts(example: Codes, length: pd.Series, size: int) -> list[int]:
    """The first row of each piece of texts: about `size` characters each, and no question in two."""
    starts = np.flatnonzero(np.r_[True, example[1:] != example[:-1]])
    before = np.r_[0, np.cumsum(length.fillna(0).to_numpy(dtype=np.int64))][starts] // size
    return [int(row) for row in starts[np.r_[True, before[1:] != before[:-1]]]]


def _index(
    tables: Tables, columns: Mapping[str, Codes], words: Mapping[str, list[Any]], cuts: list[int]
) -> tuple[dict[str, Any], bytes]:
    examples, preferences = tables["examples"], tables["preferences"]
    small = {name: codes.astype(np.min_scalar_type(int(codes.max(initial=0)))) for name, codes in columns.items()}
    # The widest first: so each column starts at a multiple of its width, as typed arrays need.
    widest = sorted(small.items(), key=lambda item: -item[1].itemsize)
    index = {
        "rows": len(columns["example"]),
        "columns": {name: codes.itemsize for name, codes in widest},
        "words": {name: list(own) for name, own in words.items() if name not in {"example", "preference"}},
        "outcomes": OUTCOMES,
        "examples": {name: list(_plain(examples[name])) for name in ("example_id", "source", "subject", "question")}
        | {"options": [list(options) for options in examples["options"]], "gold": list(_plain(examples["gold"]))},
        "preferences": {name: list(_plain(preferences[name])) for name in ("preference_id", "text", "category")},
        "first": cuts,
    }
    return index, b"".join(codes.astype(codes.dtype.newbyteorder("<")).tobytes() for _, codes in widest)


def _texts(own: pd.DataFrame, explained: pd.Series, position: Mapping[str, int]) -> bytes:
    """A piece of texts: `texts`, `sets` (preferences shown), and for each row [response, explanation, set, *stages]."""
    stages = list(own["stages"])
    deep = max((len(s) for s in stages), default=0)
    columns = [own["response"], explained]
    columns += [pd.Series([s[i] if len(s) > i else None for s in stages], dtype="str") for i in range(deep)]
    codes, texts = pd.factorize(np.concatenate([np.asarray(_plain(c)) for c in columns]))
    shown, sets = pd.factorize(np.array(["\n".join(s) for s in own["shown_preferences"]], dtype=object))
    response, explanation, *stage = codes.reshape(len(columns), len(own))
    piece = {
        "texts": list(texts),
        "sets": [[position.get(p, p) for p in text.split("\n") if p] for text in sets],
        "rows": np.column_stack([response, explanation, shown, *stage]).tolist(),
    }
    return _json(piece)


def _plain(column: pd.Series) -> Any:
    return column.astype(object).where(column.notna(), None)


def _json(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=int).encode()


def _packed(name: str, raw: bytes) -> Part:
    # Level 6 takes twice the time of level 5 and saves 2 %; no date, so that equal tables give equal bytes.
    payload = base64.b64encode(gzip.compress(raw, compresslevel=5, mtime=0)).decode()
    return Part(name, digest(payload), payload)
