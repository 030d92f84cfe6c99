"""The released dataset: the order of its 7,208 positions, and the relevant preferences assigned to them.

A position is a row of the dataset, counted from 0 through TruthfulQA, CommonsenseQA and MMLU. A preference is known by
its number in a source and by the hash of its text.

`data/published_preferences.csv` has each one's source, number, SHA-256 and category; the texts are not shipped. The
category is this project's reading of the text under the paper's five headings (the release has none; MMLU has no
Creative, as in the paper). A text that the file does not list has no category.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from functools import cache, lru_cache
from pathlib import Path

import pandas as pd

from perg_utils.core.profile import ROOT
from perg_utils.core.schema import Source, conform
from perg_utils.dataset.questions import EXPECTED

BANK = ROOT / "data" / "published_preferences.csv"
#: Relevant preferences of each source.
PREFERENCES = {Source.TQA: 14, Source.CQA: 12, Source.MMLU: 11}
TOTAL = sum(EXPECTED.values())
#: The first position of each source, and of a position its source.
FIRST = dict(zip(EXPECTED, (0, 817, 2038), strict=True))
SOURCE_AT = [str(source) for source, count in EXPECTED.items() for _ in range(count)]


@cache
def position_id(position: int) -> str:
    """Return the example id of a position, e.g. `CQA-00003` for 820."""
    source = SOURCE_AT[position]
    return f"{source}-{position - FIRST[Source(source)]:05d}"


@cache
def assigned(position: int) -> int:
    """Return the number of the relevant preference assigned to a position, from 1: (i mod n) + 1 in its source."""
    source = Source(SOURCE_AT[position])
    return (position - FIRST[source]) % PREFERENCES[source] + 1


@cache
def preference_id(source: str, number: int) -> str:
    """Return the id of a source's released preference, e.g. `TQA-p03`. One text has an id in each of its sources."""
    return f"{source}-p{number:02d}"


def other_id(source: str, text: str) -> str:
    """Return the id of a text that is none of the source's released preferences, e.g. `TQA-x1f0c9a2b`."""
    return f"{source}-x{text_hash(text)[:8]}"


@lru_cache(maxsize=4096)
def text_hash(text: str) -> str:
    """Return the SHA-256 of a preference's text without the space around it, 64 hex digits."""
    return hashlib.sha256(text.strip().encode()).hexdigest()


@lru_cache(maxsize=1)
def released(path: Path = BANK) -> pd.DataFrame:
    """Return the released preferences, 37 rows: source, number, text_sha256, category."""
    return pd.read_csv(path)


@lru_cache(maxsize=1)
def released_numbers() -> dict[tuple[str, str], int]:
    """Return source and hash -> number."""
    bank = released()
    columns = (bank["source"].tolist(), bank["text_sha256"].tolist(), bank["number"].tolist())
    return {(source, text): number for source, text, number in zip(*columns, strict=True)}


def preference_table(texts: Mapping[str, str], used: Iterable[str]) -> pd.DataFrame:
    """Return the table 'preferences': every released one, and what else is in `used`.

    `texts` are the texts found in the files, by id; text is null where no file has it. The category goes by the text's
    hash or, where there is no text, by the number.
    """
    bank = released()
    by_hash = dict(zip(bank["text_sha256"], bank["category"], strict=True))
    by_id = {preference_id(s, n): c for s, n, c in zip(bank["source"], bank["number"], bank["category"], strict=True)}
    rows = []
    for name in [*by_id, *sorted(set(used) - set(by_id))]:
        text = texts.get(name)
        category = by_id.get(name) if text is None else by_hash.get(text_hash(text))
        source = name.partition("-")[0]
        rows.append({"preference_id": name, "text": text, "category": category, "relevant": True, "sources": [source]})
    return conform("preferences", pd.DataFrame(rows))
