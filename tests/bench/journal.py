"""How fast and how large a journal is: python tests/bench/journal.py [--rows 1000000] [--folder DIR]

Every line is measured in the same run on the same made-up replies (about 150 words asked, 100 answered). Baselines:
JSON lines, flushed a row and read back whole; SQLite as it comes (rollback journal, a commit a row: a sample);
this project's first layout (rows ordered by key, short columns last). Beside ours, which commits each reply, the
same with one commit a second. The limit is SQLite alone: the same rows, prepared beforehand, in one transaction.
`look-up` asks for all keys at once, as a resumed run does; `start` opens the file and asks for the last thousand.
"""

from __future__ import annotations

import argparse
import json
import random
import sqlite3
import tempfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from perg_utils.engines import journal as ours
from perg_utils.engines.base import Decoding, Reply, Request, is_final
from perg_utils.engines.journal import Journal
from perg_utils.engines.journal_tools import counts

OLD = """CREATE TABLE replies (
    key TEXT PRIMARY KEY, model TEXT NOT NULL, messages BLOB NOT NULL, time TEXT NOT NULL, text TEXT,
    status TEXT NOT NULL, finish_reason TEXT, prompt_tokens INTEGER, completion_tokens INTEGER, seconds REAL,
    reasoning TEXT, error TEXT) WITHOUT ROWID"""
IDENTITY = {"kind": "api", "model": "bench"}
WORDS = [f"{a}{b}{c}{d}" for a in "bdfkl" for b in "aeiou" for c in ("", "nder", "st", "v") for d in range(40)]
SLICE = 10_000  # requests made at a time, so that a million need no memory


class Line(NamedTuple):
    name: str
    rows: int
    write_seconds: float
    write_cpu: float
    lookup_seconds: float
    start_seconds: float
    size: int


def requests(start: int, stop: int) -> list[Request]:
    """Return made-up requests, the same ones for the same numbers."""
    out = []
    for number in range(start, stop):
        words = " ".join(random.Random(number).choices(WORDS, k=150))
        out.append(Request((("system", "Answer."), ("user", f"{number} {words}")), Decoding(500)))
    return out


class Instant:
    """An engine that has every reply at hand."""

    identity = IDENTITY

    def generate(self, asked: list[Request]) -> Iterator[tuple[int, Reply]]:
        for index, request in enumerate(asked):
            yield index, Reply(request.messages[-1][1][:650], finish_reason="stop", prompt_tokens=210, seconds=0.5)


class SlowCommits(Journal):
    """One commit a second instead of one a reply."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self._waiting: list[list[object]] = []
        self._last = time.monotonic()

    def add(self, rows: list[list[object]]) -> None:
        self._waiting += rows
        if time.monotonic() - self._last >= 1:
            self.flush()

    def flush(self) -> None:
        super().add(self._waiting)
        self._waiting, self._last = [], time.monotonic()


def row(request: Request, reply: Reply) -> list[object]:
    """Return a row as the journal writes it."""
    messages = zlib.compress(json.dumps(request.messages, ensure_ascii=False).encode())
    reply_values = [
        reply.text,
        str(reply.status),
        reply.finish_reason,
        reply.prompt_tokens,
        None,
        reply.seconds,
        None,
        None,
    ]
    return [request.key(IDENTITY), "bench", messages, "2026-01-01T00:00:00+00:00", *reply_values]


def slices(rows: int) -> Iterator[list[Request]]:
    for start in range(0, rows, SLICE):
        yield requests(start, min(start + SLICE, rows))


def timed(rows: int, write: Callable[[list[Request]], None], prepare: Callable | None = None) -> tuple[float, float]:
    """Return wall and CPU seconds of `write` alone, not of making up the requests."""
    wall = cpu = 0.0
    for some in slices(rows):
        ready = prepare(some) if prepare else some
        wall_start, cpu_start = time.perf_counter(), time.process_time()
        write(ready)
        wall, cpu = wall + time.perf_counter() - wall_start, cpu + time.process_time() - cpu_start
    return wall, cpu


def journalled(name: str, path: Path, rows: int, kind: type[Journal] = Journal, table: str | None = None) -> Line:
    known = ours._TABLE
    ours._TABLE = table or known
    try:
        with kind(path) as journal:
            wall, cpu = timed(rows, lambda some: journal.ask(Instant(), some) and None)
            if isinstance(journal, SlowCommits):
                journal.flush()
    finally:
        ours._TABLE = known
    return Line(name, rows, wall, cpu, *found_again(path, rows), size(path))


def found_again(path: Path, rows: int) -> tuple[float, float]:
    """Return seconds to look up all keys, and to open the file and look up a thousand."""
    lookup = 0.0
    with Journal(path, read_only=True) as journal:
        for some in slices(rows):
            keys = [request.key(IDENTITY) for request in some]
            start = time.perf_counter()
            assert len(journal.lookup(keys)) == len(keys)
            lookup += time.perf_counter() - start
    last = [request.key(IDENTITY) for request in requests(max(rows - 1000, 0), rows)]
    start = time.perf_counter()
    with Journal(path, read_only=True) as journal:
        assert len(journal.lookup(last)) == len(last)
    return lookup, time.perf_counter() - start


def json_lines(path: Path, rows: int) -> Line:
    def write(some: list[Request]) -> None:
        for index, reply in Instant().generate(some):
            record = {"key": some[index].key(IDENTITY), "messages": some[index].messages, "text": reply.text}
            handle.write(json.dumps(record | {"status": reply.status, "finish_reason": reply.finish_reason}) + "\n")
            handle.flush()

    with path.open("a", encoding="utf-8") as handle:
        wall, cpu = timed(rows, write)
    start = time.perf_counter()
    known = {record["key"]: record["text"] for record in map(json.loads, path.open(encoding="utf-8"))}
    whole = time.perf_counter() - start
    assert len(known) == rows
    return Line("JSON lines, flushed a row, read back whole", rows, wall, cpu, whole, whole, size(path))


def rollback(path: Path, rows: int) -> Line:
    Journal(path).close()
    db = sqlite3.connect(path, isolation_level=None)
    db.create_function("is_final", 2, is_final, deterministic=True)
    db.execute("PRAGMA journal_mode = DELETE")

    def write(some: list[Request]) -> None:
        for index, reply in Instant().generate(some):
            db.execute(ours._PUT, row(some[index], reply))

    wall, cpu = timed(rows, write)
    db.close()
    return Line(f"SQLite as it comes, a commit a row ({rows:,})", rows, wall, cpu, *found_again(path, rows), size(path))


def alone(path: Path, rows: int) -> Line:
    Journal(path).close()
    db = sqlite3.connect(path, isolation_level=None)
    db.create_function("is_final", 2, is_final, deterministic=True)
    db.execute("BEGIN")
    wall, cpu = timed(
        rows,
        lambda ready: db.executemany(ours._PUT, ready) and None,
        lambda some: [row(some[index], reply) for index, reply in Instant().generate(some)],
    )
    start, cpu_start = time.perf_counter(), time.process_time()
    db.execute("COMMIT")
    wall, cpu = wall + time.perf_counter() - start, cpu + time.process_time() - cpu_start
    db.close()
    return Line("limit: SQLite alone, one transaction", rows, wall, cpu, *found_again(path, rows), size(path))


def size(path: Path) -> int:
    return sum(p.stat().st_size for p in path.parent.glob(path.name + "*"))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="a disk to write to; default: the temporary folder")
    options = parser.parse_args()
    rows, old = options.rows, min(options.rows, 100_000)  # the first layout takes too long for more
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        folder = Path(name)
        lines = []
        for make in (
            lambda: json_lines(folder / "lines.jsonl", rows),
            lambda: rollback(folder / "rollback.sqlite", min(rows, 2_000)),
            lambda: journalled(f"first layout ({old:,})", folder / "old.sqlite", old, table=OLD),
            lambda: journalled("ours, one commit a second", folder / "slow.sqlite", rows, SlowCommits),
            lambda: journalled("ours, a commit a row", folder / "ours.sqlite", rows),
            lambda: alone(folder / "alone.sqlite", rows),
        ):
            lines.append(make())
            print(f"  done: {lines[-1].name}", flush=True)
        start = time.perf_counter()
        counted = counts(folder / "ours.sqlite")
        count_seconds = time.perf_counter() - start
    assert counted[0].replies == rows
    print(f"\n{rows:,} replies\n")
    print("| | rows/s written | CPU a row | ratio | look-up, rows/s | start | bytes a row |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    fastest = lines[-1]
    for line in lines:
        rate, best = line.rows / line.write_seconds, fastest.rows / fastest.write_seconds
        print(
            f"| {line.name} | {rate:,.0f} | {line.write_cpu / line.rows * 1e6:,.0f} us | {rate / best:.2f} | "
            f"{line.rows / line.lookup_seconds:,.0f} | {line.start_seconds * 1e3:,.0f} ms | "
            f"{line.size / line.rows:,.0f} |"
        )
    print(f"\nratio: rows a second against the limit. Counts by model and status: {count_seconds:.2f} s.")


if __name__ == "__main__":
    main()
