"""The faults that the audit looks for in a released file by itself, and the list of all.

Left out: faults of joining files (`joins`), what they do to the metrics (`audit`).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from perg_utils.core.schema import ARM_ID, LETTERS, RELEVANT_SHOWN, ROW_ID, Metric, Setting, Status
from perg_utils.dataset.questions import EXPECTED
from perg_utils.extraction.answers import extract_answer
from perg_utils.published.checks.counted import CountedRows, Fault, flag
from perg_utils.published.checks.joins import REPEATED, option_orders, repeated_texts

#: Replies that are a server's message; RE2 syntax.
ERRORS = (
    r"(?i)^\s*(api ?error|error code: ?\d{3}|(openai\.)?(rate ?limit|api connection|api timeout|internal server)"
    r" ?error|request timed out|connection error)"
)


def beyond_options(found: CountedRows) -> list[Fault]:
    """Letters that name no option: read again from the response by this project's rules, where these find one."""
    rows, ids = found.rows, found.examples["example_id"].tolist()
    options = dict(zip(ids, found.examples["options"].tolist(), strict=True))
    counts = rows["example_id"].map({example: len(texts) for example, texts in options.items()})
    out = []
    for side, column, letter in (("with", "with_", "letter"), ("without", "without", "letter_without")):
        single = rows[letter].astype(object).map(lambda x: isinstance(x, str) and len(x) == 1 and x in LETTERS)
        letter_index = rows[letter].where(single.astype(bool)).map(LETTERS.index, na_action="ignore").astype(float)
        beyond = ((letter_index >= counts) & ~rows[letter].isin(["X", "Y", "Z"])).to_numpy()
        right = rows[column].copy()
        touched = rows[beyond]
        texts = _responses(found, touched, plain=side == "without")
        columns = (touched[name].tolist() for name in ("example_id", "order", "gold"))
        for index, example, order, gold in zip(touched.index, *columns, strict=True):
            if index in texts:
                listed = [options[example][LETTERS.index(o)] for o in order]
                read = extract_answer(texts[index], listed).letter
                right[index] = float(read is not None and order[LETTERS.index(read)] == gold)
        out.append(
            Fault(
                "beyond_options",
                f"answer {side} preference",
                beyond,
                {column: right},
                "corrected by reading the response again; where it names no option it stays wrong",
            )
        )
    return out


def missing_rows(found: CountedRows) -> list[Fault]:
    """Rows that the scored file lacks and another file of the configuration has; `absent` counts those in no file."""
    rows = found.rows
    only = (~rows["counted"]).to_numpy(dtype=bool)
    note = "not in the scored file; the configuration's other files have the responses, without ratings"
    return [
        Fault("missing_rows", "rows left out of the scored file", only, {"counted": pd.Series(True, rows.index)}, note)
    ]


def absent(found: CountedRows) -> pd.DataFrame:
    """Return the rows that no file of a configuration has, by source: ARM_ID, source, what, rows, of.

    Rows that repeat the text of a row that is there, and no others, were dropped as duplicates.
    """
    text = found.examples.set_index("example_id")["question"]
    ids = {str(s): {f"{s}-{i:05d}" for i in range(n)} for s, n in EXPECTED.items()}
    lines = []
    for config, own in found.rows[found.rows["example_id"].notna()].groupby(ARM_ID, sort=False):
        there = own.groupby("source")["example_id"].agg(set)
        for source, every in ids.items():
            here = there.get(source, set())
            lost = every - here
            if not lost:
                continue
            present = set(text.reindex(list(here)))
            repeats = all(e in text.index and text[e] in present for e in lost)
            what = "rows dropped as duplicates" if repeats else "rows in no file"
            lines.append((*config, source, what, len(lost), len(every)))
    return pd.DataFrame(lines, columns=[*ARM_ID, "source", "what", "rows", "of"])


def absent_ratings(found: CountedRows) -> list[Fault]:
    """Ratings that are not there, counted as "not followed"."""
    rows = found.rows
    lacking = rows["scored"].astype(bool) & rows["rating"].isna() & rows["setting"].isin(RELEVANT_SHOWN)
    lacking &= rows["followed"] == 0
    # Where the response itself failed there was nothing to rate: `failed_replies` has these.
    lacking &= ~rows.index.isin(np.flatnonzero(_failed(found)))
    nothing = {"followed": pd.Series(np.nan, index=rows.index)}
    note = "corrected by leaving the rows out of AF and RE"
    shown = (Metric.ALIGNMENT_FAILURE, Metric.ROBUSTNESS_ERROR)
    return [Fault("absent_ratings", "rating counted as not followed", lacking.to_numpy(), nothing, note, shown)]


def failed_replies(found: CountedRows) -> list[Fault]:
    """Replies that are empty or a server's error message, counted as wrong answers."""
    rows, failed = found.rows, _failed(found)
    with_ = failed & (rows["with_"] == 0).to_numpy()
    nothing = pd.Series(np.nan, index=rows.index)
    note = "corrected by leaving the rows out"
    out = [Fault("failed_replies", "answer with preference", with_, {"with_": nothing, "followed": nothing}, note)]
    empty = pd.Series(rows["text_without"] == 0).fillna(False).to_numpy(dtype=bool)  # the checksum of no text
    without = empty & (rows["without"] == 0).to_numpy()
    out.append(Fault("failed_replies", "answer without preference", without, {"without": nothing}, note))
    return out


def contradicting_flags(found: CountedRows) -> list[Fault]:
    """Published yes and no that the letter or rating beside it contradicts."""
    rows = found.rows
    by_rating = (rows["rating"] >= 3).astype(float).where(rows["rating"].notna())
    out = []
    for name, column, told in (
        ("pref_correct", "with_", rows["letters_with"]),
        ("nopref_correct", "without", rows["letters_without"].where(rows["letter_without"].notna())),
        ("followed_pref", "followed", by_rating),
    ):
        value = flag(rows[name])
        wrong = (value.notna() & told.notna() & (value != told)).to_numpy()
        out.append(Fault("contradicting_flags", name, wrong, {column: told}, "corrected by the letter or rating"))
    return out


def unplaced_rows(found: CountedRows) -> list[Fault]:
    """Rows that their file counts and that have no position in the dataset, for another reason than a repeated text."""
    reason = found.rows["reason"]
    lost = ((reason != "") & ~reason.str.startswith(REPEATED)).to_numpy(dtype=bool)
    note = "corrected by leaving the rows out: " + "; ".join(reason[lost].unique()[:2])
    dropped = {"counted": pd.Series(False, index=found.rows.index)}
    return [Fault("unplaced_rows", "rows without a position", lost, dropped, note)]


#: In the order in which corrections are made: a later one has the last word.
FAULTS: tuple[Callable[[CountedRows], list[Fault]], ...] = (
    contradicting_flags,
    option_orders,
    repeated_texts,
    beyond_options,
    absent_ratings,
    failed_replies,
    unplaced_rows,
    missing_rows,
)


def _failed(found: CountedRows) -> np.ndarray:
    """Rows whose response with preference is empty or an error message."""
    rows = found.rows
    empty = (rows["answered"] == Status.EMPTY).fillna(False).to_numpy(dtype=bool)
    told = _matching(found, ERRORS)
    if told.empty:
        return empty
    keys = pd.MultiIndex.from_frame(rows[ROW_ID].astype(object).fillna(""))
    return empty | keys.isin(pd.MultiIndex.from_frame(told.astype(object).fillna("")))


def _matching(found: CountedRows, pattern: str) -> pd.DataFrame:
    parts = []
    for path in sorted((found.workspace.run / "tables" / "responses").glob("[!.]*.parquet")):
        table = pq.read_table(path, columns=[*ROW_ID, "response"])
        hits = table.filter(pc.match_substring_regex(table["response"].cast(pa.string()), pattern))
        parts.append(hits.select(ROW_ID).to_pandas())
    return pd.concat(parts, ignore_index=True)


def _responses(found: CountedRows, rows: pd.DataFrame, plain: bool) -> dict[int, str]:
    """The text of each row's response, by index; `plain`: of the one without preference, where it is known."""
    if rows.empty:
        return {}
    wanted = rows[ROW_ID].copy()
    if plain:
        wanted["preference_id"], wanted["setting"] = None, str(Setting.NONE)
    parts = []
    for path in sorted((found.workspace.run / "tables" / "responses").glob("[!.]*.parquet")):
        table = pq.read_table(path, columns=[*ROW_ID, "response"])
        keep = pc.is_in(table["example_id"].cast(pa.string()), pa.array(wanted["example_id"].unique(), pa.string()))
        parts.append(table.filter(keep).to_pandas())
    texts = pd.concat(parts, ignore_index=True).drop_duplicates(ROW_ID)
    texts[ROW_ID] = texts[ROW_ID].astype(object).where(texts[ROW_ID].notna(), "")
    wanted = wanted.astype(object).where(wanted.notna(), "")
    merged = wanted.reset_index().merge(texts, on=ROW_ID, how="inner").dropna(subset="response")
    return dict(zip(merged["index"].tolist(), merged["response"].tolist(), strict=True))
