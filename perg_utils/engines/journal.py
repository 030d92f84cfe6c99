"""The journal: every reply of a run in one SQLite file, written as it arrives, so that nothing is asked twice.

Each reply is committed by itself (write-ahead log, no flush to disk per commit), so a killed process loses only what
was in flight; a power cut may also lose the last moments, never the file. One commit a second instead would save some
15 microseconds a reply and lose up to a second of paid replies: `tests/bench/journal.py` has both. What is not final
(`base.is_final`) is recorded, so that it can be inspected, and asked again by the next run. The columns can be read
with any SQLite tool; `messages` is zlib-compressed JSON, a schema that the reply was held to its last turn
(`response_format`). Short columns come first and rows lie in the order of arrival, with an index of the keys beside
them: ordered by key, a file of replies would be three times as large and six times as slow to look up.

Left out: counts, export, dropping and joining (`journal_tools`).
"""

from __future__ import annotations

import json
import os
import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self

from perg_utils.core.errors import PergError
from perg_utils.core.schema import Status
from perg_utils.engines.base import Engine, Reply, Request, is_final

_REPLY = ("text", "status", "finish_reason", "prompt_tokens", "completion_tokens", "seconds", "reasoning", "error")
#: The columns of the table `replies`, in the order that `Journal.add` takes; the last ones are those of `Reply`.
COLUMNS = ("key", "model", "messages", "time", *_REPLY)
_TABLE = """CREATE TABLE replies (
    key TEXT PRIMARY KEY NOT NULL, model TEXT NOT NULL, status TEXT NOT NULL, finish_reason TEXT,
    prompt_tokens INTEGER, completion_tokens INTEGER, seconds REAL, time TEXT NOT NULL, messages BLOB NOT NULL,
    text TEXT, reasoning TEXT, error TEXT)"""
# A second process may have had better luck with the same request: a failure never replaces a final reply.
_PUT = f"""INSERT INTO replies ({", ".join(COLUMNS)}) VALUES ({", ".join("?" * len(COLUMNS))})
    ON CONFLICT (key) DO UPDATE SET time = excluded.time, {", ".join(f"{c} = excluded.{c}" for c in _REPLY)}
    WHERE NOT is_final(replies.status, replies.finish_reason)"""
_VARIABLES = 900  # SQLite's oldest limit on `?` in one statement is 999
_BUSY_SECONDS = 60.0
_LOG_PAGES = 4000  # the log is moved into the file, which is flushed, every 16 MB instead of every 4
_STATUSES = frozenset(Status)


def in_lists(keys: Sequence[str]) -> Iterator[tuple[Sequence[str], str]]:
    """Yield keys in portions that one statement can take, each with its question marks for `IN (...)`."""
    for start in range(0, len(keys), _VARIABLES):
        some = keys[start : start + _VARIABLES]
        yield some, ", ".join("?" * len(some))


class JournalError(PergError):
    """The journal cannot be used; the message says how to recover what is in it."""


class Journal:
    """The journal at `path`, a context manager; `read_only` neither makes nor changes the file."""

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        self.path = Path(path)
        self._db: sqlite3.Connection | None = None
        if not self.path.exists():
            if read_only:
                return
            _create(self.path)
        with self._explained():
            mode = "ro" if read_only else "rw"
            uri = f"{self.path.resolve().as_uri()}?mode={mode}"
            self._db = sqlite3.connect(uri, uri=True, timeout=_BUSY_SECONDS, isolation_level=None)
            self._db.create_function("is_final", 2, is_final, deterministic=True)
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute(f"PRAGMA wal_autocheckpoint = {_LOG_PAGES}")
            columns = {row[1] for row in self._db.execute("PRAGMA table_info(replies)")}
        if not columns.issuperset(_REPLY):
            self.close()
            raise JournalError(_damaged(self.path, "it has no table of replies"))

    def lookup(self, keys: Iterable[str]) -> dict[str, Reply]:
        """Return the final replies among `keys`, e.g. `{"0f3a...": Reply("B")}`; unknown and failed keys are absent."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, Reply] = {}
        if self._db is None:
            return found
        with self._explained():
            for some, marks in in_lists(wanted):
                query = f"SELECT key, {', '.join(_REPLY)} FROM replies WHERE key IN ({marks})"
                for key, text, status, *rest in self._db.execute(query, some):
                    if status not in _STATUSES:
                        raise JournalError(_damaged(self.path, f"the reply {key} has the status {status!r}"))
                    reply = Reply(text, Status(status), *rest)
                    if reply.is_final and reply.status == Status.EMPTY:  # as earlier versions kept silence
                        reply = replace(reply, status=Status.SILENT)
                    if reply.is_final:
                        found[key] = reply
        return found

    def ask(
        self,
        engine: Engine,
        requests: Sequence[Request],
        progress: Callable[[int], None] | None = None,
        *,
        keys: Sequence[str] | None = None,
    ) -> list[Reply]:
        """Return one reply a request, in order; equal requests are made once and known ones not at all.

        `progress` is called with the number of requests newly answered. `keys` are the requests' own, from a caller
        that has them already. An error of the engine passes through; what arrived before it is kept.
        """
        keys = [request.key(engine.identity) for request in requests] if keys is None else keys
        known = self.lookup(keys)
        positions: dict[str, list[int]] = defaultdict(list)
        for position, key in enumerate(keys):
            if key not in known:
                positions[key].append(position)
        if progress and len(requests) > (open_ones := sum(map(len, positions.values()))):
            progress(len(requests) - open_ones)
        waiting = list(positions)
        if not waiting:
            return [known[key] for key in keys]
        for index, reply in engine.generate([requests[positions[key][0]] for key in waiting]):
            key = waiting[index]
            self._put(key, engine, requests[positions[key][0]], reply)
            known[key] = reply
            if progress:
                progress(len(positions[key]))
        return [known[key] for key in keys]

    def add(self, rows: Sequence[Sequence[Any]]) -> None:
        """Write rows (values of `COLUMNS`) in one transaction; a failure never replaces a final reply."""
        if self._db is None:
            raise JournalError(f"journal {self.path} is closed or was opened for reading only")
        with self._explained():
            if len(rows) == 1:
                self._db.execute(_PUT, rows[0])
                return
            self._db.execute("BEGIN IMMEDIATE")
            try:
                self._db.executemany(_PUT, rows)
            except BaseException:
                self._db.execute("ROLLBACK")
                raise
            self._db.execute("COMMIT")

    def execute(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Return the rows of one SQL statement, which is a transaction of its own; none where there is no file."""
        if self._db is None:
            return []
        with self._explained():
            return self._db.execute(sql, values).fetchall()

    def stream(self, sql: str, values: Sequence[Any] = ()) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of one query as they are read: a journal need not fit into memory."""
        if self._db is not None:
            with self._explained():
                yield from self._db.execute(sql, values)

    def close(self) -> None:
        """Close the file; the journal cannot be used afterwards."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _put(self, key: str, engine: Engine, request: Request, reply: Reply) -> None:
        # What the reply was held to is part of what was asked.
        form = [] if request.schema is None else [("response_format", request.schema)]
        messages = zlib.compress(json.dumps([*request.messages, *form], ensure_ascii=False).encode())
        now = datetime.now(UTC).isoformat(timespec="seconds")
        values = [getattr(reply, name) for name in _REPLY]
        self.add([[key, engine.identity.get("model", "?"), messages, now, *values]])

    @contextmanager
    def _explained(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.OperationalError as error:
            if "malformed" in str(error):
                raise JournalError(_damaged(self.path, str(error))) from error
            raise JournalError(
                f"journal {self.path} cannot be used now: {error}; check the disk and the file's permissions, and "
                "that no other process holds it, then run again: nothing in it is lost"
            ) from error
        except sqlite3.DatabaseError as error:
            raise JournalError(_damaged(self.path, str(error))) from error


def _create(path: Path) -> None:
    """Put an empty journal at `path`. It appears whole or not at all, so an empty file there is always damage."""
    orphans = [side for end in ("-wal", "-shm") if (side := path.with_name(path.name + end)).exists()]
    if orphans:
        names = ", ".join(str(side) for side in orphans)
        raise JournalError(
            f"journal {path} is gone but {names} is still there and may hold replies; put the journal back, or "
            "delete these too to start with an empty journal"
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.stem}.{os.getpid()}.draft")
    draft.unlink(missing_ok=True)
    db = sqlite3.connect(draft)
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute(_TABLE)
        db.commit()
    finally:
        db.close()
    try:
        os.link(draft, path)  # unlike a rename this cannot replace the journal of a process that was faster
    except FileExistsError:
        pass
    except OSError:  # a file system without hard links
        os.rename(draft, path)
    draft.unlink(missing_ok=True)


def _damaged(path: Path, reason: str) -> str:
    return (
        f"journal {path} is damaged ({reason}). To save what can be read: "
        f"sqlite3 '{path}' .dump | sed 's/^ROLLBACK.*/COMMIT;/' | sqlite3 recovered.sqlite, then move {path.name} and "
        f"{path.name}-wal away and put recovered.sqlite in its place. To start over and ask everything again: only "
        f"move the two away."
    )
