"""What can be done with a journal beside asking: count, export, drop rows so that they are asked again, join journals.

All of it is safe while a run writes to the same journal: each statement is a transaction of its own, and readers see
the replies as of when they began. A journal need not fit into memory. What replies cost is the caller's to say
(`Cost`): prices change, the journal keeps tokens.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from perg_utils.core.errors import PergError
from perg_utils.core.schema import Status
from perg_utils.core.workspace import write_atomically
from perg_utils.engines.journal import COLUMNS, Journal, JournalError

#: (model, prompt tokens, completion tokens) -> dollars; None where the model has no price.
Cost = Callable[[str, int, int], float | None]

_TURN = pa.struct([("role", pa.string()), ("content", pa.string())])
_TYPES = {
    "messages": pa.list_(_TURN),
    "prompt_tokens": pa.int64(),
    "completion_tokens": pa.int64(),
    "seconds": pa.float64(),
}
_SCHEMA = pa.schema([(name, _TYPES.get(name, pa.string())) for name in COLUMNS])
_ROWS = 10_000  # at once in memory


@dataclass(frozen=True)
class Choice:
    """Which rows: those that have one of the values in each field that is not empty. Nothing given: all rows."""

    models: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    finish_reasons: tuple[str, ...] = ()
    keys: tuple[str, ...] = ()

    def must_choose(self) -> None:
        """Raise `PergError` where nothing was chosen, so that all rows are meant."""
        if self == Choice():
            raise PergError("say which replies to drop: --model, --status, --finish-reason or --key")

    def where(self) -> tuple[str, list[str]]:
        """Return an SQL condition and its values, e.g. `("status IN (?)", ["empty"])`.

        Raises `PergError` for a status that does not exist.
        """
        unknown = set(self.statuses) - set(Status)
        if unknown:
            raise PergError(f"no status {', '.join(sorted(unknown))}; known: {', '.join(Status)}")
        chosen = {
            "model": self.models,
            "status": self.statuses,
            "finish_reason": self.finish_reasons,
            "key": self.keys,
        }
        parts = [f"{column} IN ({', '.join('?' * len(values))})" for column, values in chosen.items() if values]
        return " AND ".join(parts) or "1", [value for values in chosen.values() for value in values]


class Count(NamedTuple):
    """The replies of one model with one status; tokens as the model or server counted them, 0 where it did not."""

    model: str
    status: str
    replies: int
    prompt_tokens: int
    completion_tokens: int

    def numbers(self) -> tuple[int, int, int]:
        """Return replies, prompt tokens, completion tokens."""
        return self.replies, self.prompt_tokens, self.completion_tokens


def counts(path: Path, choice: Choice | None = None) -> list[Count]:
    """Return the counts by model and status, e.g. `[Count("S", "ok", 3960, 296000, 61000)]`; empty without a file."""
    where, values = (choice or Choice()).where()
    sql = f"""SELECT model, status, count(*), coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0)
        FROM replies WHERE {where} GROUP BY model, status ORDER BY model, status"""
    with Journal(path, read_only=True) as journal:
        return [Count(*row) for row in journal.execute(sql, values)]


def describe(path: Path, cost: Cost | None = None, choice: Choice | None = None) -> str:
    """Return the counts as a table in plain text, totals last; with a column of dollars if `cost` is given."""
    found = counts(path, choice)
    if not found:
        return f"no such replies in {path}" if path.is_file() else f"no journal yet: {path}"
    head = ["model", "status", "replies", "prompt tokens", "reply tokens"]
    lines = [[c.model, c.status, *(f"{n:,}" for n in c.numbers())] for c in found]
    lines.append(["all", "", *(f"{sum(column):,}" for column in zip(*(c.numbers() for c in found), strict=True))])
    if cost is not None:
        dollars = [cost(c.model, c.prompt_tokens, c.completion_tokens) for c in found]
        known = [d for d in dollars if d is not None]
        head.append("dollars")
        for line, amount in zip(lines, [*dollars, sum(known) if known else None], strict=True):
            line.append("" if amount is None else f"{amount:,.2f}")
    widths = [max(len(line[i]) for line in [head, *lines]) for i in range(len(head))]
    rows = [
        "  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(line, widths, strict=True)))
        for line in [head, *lines]
    ]
    log = path.with_name(f"{path.name}-wal")  # replies that are not in the file yet
    size = sum(part.stat().st_size for part in (path, log) if part.is_file())
    return "\n".join([f"{path}: {size / 1e6:,.1f} MB", *(row.rstrip() for row in rows)])


def export(path: Path, out: Path, choice: Choice | None = None) -> int:
    """Write the chosen rows to `out`, `.parquet` or `.jsonl`, in the file's order, and return how many.

    Messages become lists of `{role, content}`. Raises `PergError` for another ending or a journal that is not there.
    """
    writers = {".parquet": _to_parquet, ".jsonl": _to_jsonl}
    if out.suffix not in writers:
        raise PergError(f"an export is called *.parquet or *.jsonl, got '{out.name}'")
    _must_exist(path)
    where, values = (choice or Choice()).where()
    total = 0
    with Journal(path, read_only=True) as journal:
        rows = journal.stream(f"SELECT {', '.join(COLUMNS)} FROM replies WHERE {where}", values)

        def write(draft: Path) -> None:
            nonlocal total
            total = writers[out.suffix](draft, map(_record, rows))

        write_atomically(out, write)
    return total


def drop(path: Path, choice: Choice) -> int:
    """Delete the chosen rows, so that a later run asks them again, and return how many.

    The file keeps its size; new replies use the room. Raises `PergError` where nothing was chosen: to ask everything
    again, move the file away.
    """
    choice.must_choose()
    _must_exist(path)
    where, values = choice.where()
    with Journal(path) as journal:
        journal.execute(f"DELETE FROM replies WHERE {where}", values)
        return int(journal.execute("SELECT changes()")[0][0])


def join(sources: Sequence[Path], target: Path) -> int:
    """Add the replies of the journals `sources` to the journal `target` and return how many rows that added.

    Doing it twice changes nothing. A final reply of the target is never replaced, a failure is by a final one.
    """
    for source in sources:
        _must_exist(source)
    added = 0
    with Journal(target) as journal:
        for source in sources:
            before = _size(journal)
            with Journal(source, read_only=True) as other:
                rows = other.stream(f"SELECT {', '.join(COLUMNS)} FROM replies")
                while some := list(islice(rows, _ROWS)):
                    journal.add(some)
            added += _size(journal) - before
    return added


def _size(journal: Journal) -> int:
    return int(journal.execute("SELECT count(*) FROM replies")[0][0])


def _must_exist(path: Path) -> None:
    if not path.is_file():
        raise JournalError(f"there is no journal {path}")


def _record(row: tuple[Any, ...]) -> dict[str, Any]:
    record = dict(zip(COLUMNS, row, strict=True))
    turns = json.loads(zlib.decompress(record["messages"]))
    return record | {"messages": [{"role": role, "content": content} for role, content in turns]}


def _to_parquet(draft: Path, records: Iterator[dict[str, Any]]) -> int:
    total = 0
    with pq.ParquetWriter(draft, _SCHEMA) as writer:
        while some := list(islice(records, _ROWS)):
            writer.write_table(pa.Table.from_pylist(some, schema=_SCHEMA))
            total += len(some)
    return total


def _to_jsonl(draft: Path, records: Iterator[dict[str, Any]]) -> int:
    total = 0
    with draft.open("w", encoding="utf-8") as handle:
        for record in records:
            handle.write(json.dumps(record, ensure_ascii=False) + "\n")
            total += 1
    return total
