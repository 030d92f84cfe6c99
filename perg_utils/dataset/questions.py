"""The questions of a study: loaded, counted against the paper, checked, and sampled.

Implements the data section of the paper: 817 questions of TruthfulQA, 1,221 of CommonsenseQA and 5,170 of MMLU, in
this order; `sources` reads them, or makes the invented world's, which stand in for them. Nothing is cleaned: repeated
texts and repeated options are in the published data, so they are reported and kept.
"""

from __future__ import annotations

import random
from typing import Any

import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.profile import DataConfig
from perg_utils.core.schema import LETTERS, Source
from perg_utils.dataset.sources import OPTIONS, load_source

#: Questions per source in the paper.
EXPECTED = {Source.TQA: 817, Source.CQA: 1221, Source.MMLU: 5170}


def load_examples(data: DataConfig, seed: int) -> pd.DataFrame:
    """Return the profile's examples without preferences: `sample(load_questions(data), data, seed)`.

    Column `position` is the row's number in its whole source, from 0; `preferences.assign` makes `preference_id` of it.
    """
    return sample(load_questions(data), data, seed)


def load_questions(data: DataConfig) -> pd.DataFrame:
    """Return all questions of the profile's sources before any limit, e.g. 7,208 rows: `sources.COLUMNS`, `position`.

    Raises `DataError` for a missing file, a broken row (file, row and what is wrong) or too few rows (unless
    `data.allow_incomplete`), and `PergError` when the hub cannot be reached.
    """
    parts = [load_source(source, data) for source in Source if source in data.sources]
    frame = pd.concat([part.assign(position=range(len(part))) for part in parts], ignore_index=True)
    if data.origin != "embedded":
        _check_counts(frame, data)
    return frame


def sample(questions: pd.DataFrame, data: DataConfig, seed: int) -> pd.DataFrame:
    """Return at most `data.limit` questions of each source, drawn with the seed, in their order in the source.

    The questions of a lower limit are among those of a higher one.
    """
    kept = []
    for source in questions["source"].unique():
        rows = questions[questions["source"] == source]
        limit = data.limit.get(Source(source)) if isinstance(data.limit, dict) else data.limit
        count = len(rows) if limit is None else min(limit, len(rows))
        # All are drawn and the first are kept, so that a higher limit keeps what a lower one had.
        drawn = random.Random(f"{seed}:{source}").sample(range(len(rows)), len(rows))
        kept.append(rows.iloc[sorted(drawn[:count])])
    return pd.concat(kept, ignore_index=True)


def report(questions: pd.DataFrame, data: DataConfig) -> pd.DataFrame:
    """Return what the checks of whole sources found: source, check, found, expected, result (ok, differs, note).

    Example row: MMLU, "texts that repeat an earlier row", 47, 47, ok.
    """
    lines: list[tuple[str, str, Any, Any]] = []
    for source in questions["source"].unique():
        rows = questions[questions["source"] == source]
        counts = rows["options"].map(len)
        real = data.origin != "embedded"
        lines.append((source, "questions", len(rows), EXPECTED[Source(source)] if real else None))
        lines.append((source, "subjects", rows["subject"].nunique(), 21 if real and source == Source.MMLU else None))
        lines.append((source, "fewest options", counts.min(), OPTIONS[Source(source)][0] if real else None))
        lines.append((source, "most options", counts.max(), OPTIONS[Source(source)][1] if real else None))
        repeats = 47 if real and source == Source.MMLU else None
        lines.append((source, "texts that repeat an earlier row", rows["question"].duplicated().sum(), repeats))
        within = 41 if real and source == Source.MMLU else None
        again = rows.duplicated(["subject", "question"]).sum()
        lines.append((source, "texts that repeat within a subject", again, within))
        equal = rows["options"].map(lambda options: len(set(options)) < len(options)).sum()
        lines.append((source, "rows with two equal options", equal, None))
        twice = [o.count(o[LETTERS.index(g)]) > 1 for o, g in zip(rows["options"], rows["gold"], strict=True)]
        lines.append((source, "rows with two equal right options", sum(twice), None))
    frame = pd.DataFrame(lines, columns=["source", "check", "found", "expected"])
    same = frame["found"] == frame["expected"]
    result = same.map({True: "ok", False: "differs"}).where(frame["expected"].notna(), "note")
    return frame.assign(found=frame["found"].astype("Int64"), expected=frame["expected"].astype("Int64"), result=result)


def right_letters(questions: pd.DataFrame) -> pd.DataFrame:
    """Return how often each letter is right, and how often it would be by chance among the options that there are.

    Columns: source, letter, right and chance (questions); a row a letter that some question of the source has.
    """
    counts = questions["options"].map(len)
    letters = pd.Series([list(LETTERS[:n]) for n in counts], questions.index, dtype=object)
    each = questions.assign(chance=1 / counts, letter=letters).explode("letter")
    each["right"] = each["gold"] == each["letter"]
    found = each.groupby(["source", "letter"], sort=False)[["right", "chance"]].sum().reset_index()
    order = list(questions["source"].unique())
    return found.sort_values(["source", "letter"], key=lambda c: c.map(order.index) if c.name == "source" else c)


def repeated(questions: pd.DataFrame) -> pd.DataFrame:
    """Return the questions whose text occurs more than once in their source, side by side; `options` as one text."""
    rows = questions[questions.duplicated(["source", "question"], keep=False)]
    return rows.assign(options=rows["options"].map(" | ".join)).sort_values("question", kind="stable")


def _check_counts(frame: pd.DataFrame, data: DataConfig) -> None:
    counts = {source: int((frame["source"] == source).sum()) for source in data.sources}
    short = [f"{s} has {n:,} of {EXPECTED[s]:,}" for s, n in counts.items() if n < EXPECTED[s]]
    if short and not data.allow_incomplete:
        raise DataError(
            f"questions are missing: {'; '.join(short)}. Get the complete files, or accept what is there with "
            "data.allow_incomplete: true"
        )
    empty = [source for source, n in counts.items() if n == 0]
    if empty:
        raise DataError(f"no questions at all of {', '.join(empty)}; leave them out of data.sources or get their files")
