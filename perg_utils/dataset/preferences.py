"""The preference bank, which relevant preference a question gets, and what is shown in each setting.

Implements the paper's preferences: row i of a source (from 0) gets that source's relevant preference number
(i mod n) + 1, so each is asked equally often; *relevant* shows it alone, *mixed* shows five irrelevant ones with
the relevant one in the middle, *irrelevant* shows those five alone. The texts are this project's own; PrefEval's
irrelevant ones, which the paper used, are under a non-commercial licence and not shipped.
"""

from __future__ import annotations

import random
from collections.abc import Hashable
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.profile import ROOT
from perg_utils.core.schema import RELEVANT_SHOWN, Category, Setting, Source, conform

BANK = ROOT / "data" / "preferences.csv"
#: Irrelevant preferences shown in *mixed* and *irrelevant*; the relevant one stands after the first `MIDDLE` of them.
IRRELEVANT_SHOWN, MIDDLE = 5, 2


def load_bank(path: Path = BANK) -> pd.DataFrame:
    """Return the table 'preferences', e.g. 35 rows; a row's order is its number within each of its sources.

    A relative `path` is meant from the repository's root. The file is CSV: preference_id, text, category (empty:
    irrelevant), relevant (true or false), sources (separated by spaces). Raises `DataError` naming the line and what is
    wrong with it.
    """
    try:
        raw = pd.read_csv(ROOT / path, dtype=str, keep_default_na=False)
    except (OSError, ValueError) as error:  # pandas' parser errors are ValueErrors
        raise DataError(f"preference bank '{path}' cannot be read: {error}") from error
    expected = ["preference_id", "text", "category", "relevant", "sources"]
    if list(raw.columns) != expected:
        raise DataError(f"preference bank '{path}': columns {list(raw.columns)}, expected {expected}")
    for line, row in enumerate(raw.to_dict("records"), start=2):
        wrong = _what_is_wrong(row)
        if wrong:
            raise DataError(f"preference bank '{path}', line {line} ('{row['preference_id']}'): {wrong}")
    repeated = raw["preference_id"][raw["preference_id"].duplicated()].tolist()
    if repeated:
        raise DataError(f"preference bank '{path}': ids must differ, got {repeated} twice")
    if (raw["relevant"] == "false").sum() < IRRELEVANT_SHOWN:
        raise DataError(f"preference bank '{path}': at least {IRRELEVANT_SHOWN} irrelevant preferences are needed")
    bank = raw.assign(
        relevant=raw["relevant"] == "true",
        category=raw["category"].replace("", None),
        sources=raw["sources"].str.split(),
    )
    return conform("preferences", bank)


def relevant_ids(bank: pd.DataFrame, source: str) -> list[str]:
    """Return the ids of the source's relevant preferences in the bank's order, e.g. 11 for MMLU."""
    wanted = [bool(r) and source in s for r, s in zip(bank["relevant"], bank["sources"], strict=True)]
    return bank.loc[wanted, "preference_id"].tolist()


def assign(examples: pd.DataFrame, bank: pd.DataFrame) -> pd.DataFrame:
    """Return the table 'examples': `preference_id` filled by the row's `position` in its whole source.

    `position` comes from `questions` and is counted before any limit, so a sampled question keeps its preference.
    """
    chosen = []
    ids = {source: relevant_ids(bank, source) for source in examples["source"].unique()}
    lacking = [source for source, found in ids.items() if not found]
    if lacking:
        raise DataError(f"the preference bank has no relevant preference for {', '.join(lacking)}")
    for source, position in zip(examples["source"], examples["position"], strict=True):
        chosen.append(ids[source][position % len(ids[source])])
    return conform("examples", examples.drop(columns="position").assign(preference_id=chosen))


def shown(example_id: str, preference_id: str | None, setting: Setting, bank: pd.DataFrame, seed: int) -> list[str]:
    """Return the ids shown for an example, in order, e.g. `["clarity-1"]` in *relevant*, six in *mixed*.

    *mixed* and *irrelevant* show the same five irrelevant ones, drawn by seed and example; *memory* shows the relevant
    one (its facts are the prompt set's), every other setting none.
    """
    if setting not in (*RELEVANT_SHOWN, Setting.IRRELEVANT):
        return []
    if setting is not Setting.IRRELEVANT and preference_id is None:
        raise ValueError(f"{example_id}: setting '{setting}' shows a relevant preference, but none is given")
    if setting in (Setting.RELEVANT, Setting.MEMORY):
        return [str(preference_id)]
    ids, relevant = bank["preference_id"].tolist(), bank["relevant"].tolist()
    others = _drawn(example_id, tuple(i for i, r in zip(ids, relevant, strict=True) if not r), seed)
    if setting is Setting.IRRELEVANT:
        return list(others)
    return [*others[:MIDDLE], str(preference_id), *others[MIDDLE:]]


@lru_cache(maxsize=65536)
def _drawn(example_id: str, irrelevant: tuple[str, ...], seed: int) -> tuple[str, ...]:
    # A text as seed is hashed by Python itself: the same draw on every machine and version.
    return tuple(random.Random(f"{seed}:{example_id}").sample(irrelevant, IRRELEVANT_SHOWN))


def _what_is_wrong(row: dict[Hashable, Any]) -> str | None:
    if not row["preference_id"].strip() or not row["text"].strip():
        return "preference_id and text must not be empty"
    if row["relevant"] not in ("true", "false"):
        return f"relevant must be true or false, got '{row['relevant']}'"
    unknown = [s for s in row["sources"].split() if s not in list(Source)]
    if unknown:
        return f"unknown sources {unknown}; allowed: {', '.join(Source)}"
    if row["relevant"] == "true":
        if row["category"] not in list(Category):
            return f"unknown category '{row['category']}'; allowed: {', '.join(Category)}"
        return None if row["sources"].split() else "a relevant preference names at least one source"
    return f"an irrelevant preference has no category, got '{row['category']}'" if row["category"] else None
