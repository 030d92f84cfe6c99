"""Replies on their way from a replica to the journal: Parquet files in a folder or object store that all nodes reach.

A block is written once: into a folder under a draft's name and then renamed, into an object store with one PUT, which
is whole or not there. It is read by whoever asked, and removed when its replies are in the journal; those that a killed
run has left are found by the next one.
"""

from __future__ import annotations

import io
import posixpath
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any, NamedTuple
from uuid import uuid4

import pyarrow as pa
import pyarrow.parquet as pq

from perg_utils.core.errors import PergError
from perg_utils.core.schema import Status
from perg_utils.engines.base import Reply

_SCHEMA = pa.schema(
    [
        ("key", pa.string()),
        ("position", pa.int32()),
        ("text", pa.string()),
        ("status", pa.string()),
        ("finish_reason", pa.string()),
        ("prompt_tokens", pa.int64()),
        ("completion_tokens", pa.int64()),
        ("seconds", pa.float64()),
        ("reasoning", pa.string()),
        ("error", pa.string()),
    ]
)


class Answer(NamedTuple):
    """A reply with the key of its request and the request's position in its unit."""

    key: str
    position: int
    reply: Reply


def pack(answers: Sequence[Answer]) -> bytes:
    """Return the Parquet file of some answers."""
    rows = [
        {"key": key, "position": position} | {name: getattr(reply, name) for name in _SCHEMA.names[2:]}
        for key, position, reply in answers
    ]
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(rows, schema=_SCHEMA), sink)
    return sink.getvalue()


def unpack(data: bytes) -> list[Answer]:
    """Return the answers of a Parquet file."""
    return [
        Answer(row.pop("key"), row.pop("position"), Reply(**row | {"status": Status(row["status"])}))
        for row in pq.read_table(io.BytesIO(data)).to_pylist()
    ]


class Blocks:
    """The blocks below `url`, a folder or what fsspec calls one (`s3://bucket/folder`, `gs://...`).

    A block is named `<pool>/<unit>.<writer>.parquet`. Raises `PergError` for a kind of storage that nothing here knows.
    """

    def __init__(self, url: str) -> None:
        import fsspec  # noqa: PLC0415 - slow, and only on clusters

        self.url = url
        try:
            self._fs, root = fsspec.core.url_to_fs(url)
        except (ImportError, ValueError) as error:
            raise PergError(f"--storage {url} cannot be used: {error}") from error
        self._root = root.rstrip("/")

    @property
    def is_folder(self) -> bool:
        """Whether this is a folder of a file system, not an object store."""
        protocol = self._fs.protocol
        return "file" in ([protocol] if isinstance(protocol, str) else protocol)

    def write(self, pool: str, unit: str, data: bytes) -> str:
        """Write a block and return its name, e.g. `3f0a.../77b1....9c2e41d0.parquet`; raises `OSError`."""
        name = f"{pool}/{unit}.{uuid4().hex[:12]}.parquet"
        path = posixpath.join(self._root, name)
        if not self.is_folder:
            self._fs.pipe_file(path, data)
            return name
        folder, last = posixpath.split(path)
        draft = posixpath.join(folder, f".{last}.draft")
        self._fs.makedirs(folder, exist_ok=True)
        try:
            self._fs.pipe_file(draft, data)
            self._fs.mv(draft, path)
        except BaseException:
            self.remove(f"{pool}/.{last}.draft")
            raise
        return name

    def read(self, name: str) -> list[Answer]:
        """Return the answers in a block. Raises `FileNotFoundError`, and `PergError` where it cannot be had or read."""
        path = posixpath.join(self._root, name)
        with self._in_reach():
            data = self._fs.cat_file(path)
        try:
            return unpack(data)
        except Exception as error:  # Parquet's own, and what a file from elsewhere may lack
            raise PergError(f"{path} is damaged ({describe(error)}); remove it: what it held is asked again") from error

    def remove(self, name: str) -> None:
        """Remove a block, if the storage lets it; what stays is found when that model is asked again."""
        with suppress(Exception):  # each kind of storage has errors of its own
            self._fs.rm_file(posixpath.join(self._root, name))

    def names(self, pool: str, unit: str = "") -> Iterator[str]:
        """Yield the names of the blocks of a pool, or of one unit in it; raises `PergError` as `read` does."""
        folder = posixpath.join(self._root, pool)
        self._fs.invalidate_cache(folder)
        try:
            with self._in_reach():
                found = self._fs.ls(folder, detail=False)
        except FileNotFoundError:
            return
        for path in sorted(found):
            last = posixpath.basename(path)
            if last.endswith(".parquet") and last.startswith(f"{unit}." if unit else tuple("0123456789abcdef")):
                yield f"{pool}/{last}"

    @contextmanager
    def _in_reach(self) -> Iterator[None]:
        try:
            yield
        except FileNotFoundError:
            raise
        except Exception as error:  # each kind of storage has errors of its own
            raise PergError(
                f"the storage {self.url} cannot be read: {describe(error)}; what lies there is kept: run the same "
                "command again when it is in reach"
            ) from error

    def tidy(self) -> None:
        """Remove what is empty of a folder; an object store has no such thing."""
        if not self.is_folder or not self._fs.isdir(self._root):
            return
        for folder in [*self._fs.ls(self._root, detail=False), self._root]:
            with suppress(OSError):
                self._fs.rmdir(folder)

    def check(self) -> None:
        """Write, read and remove a block; raises `PergError` where that does not work."""
        answer = Answer("check", 0, Reply("x"))
        try:
            name = self.write("check", uuid4().hex[:16], pack([answer]))
            same = self.read(name) == [answer]
            self.remove(name)
        except Exception as error:  # each kind of storage has errors of its own
            raise PergError(f"--storage {self.url} cannot be written and read: {error}") from error
        if not same:
            raise PergError(f"--storage {self.url} does not give back what was written")


def unit_of(name: str) -> str:
    """Return the unit of a block by its name."""
    return posixpath.basename(name).partition(".")[0]


def describe(value: Any) -> str:
    """Return an error in one line of at most 500 characters."""
    text = " ".join(f"{type(value).__name__}: {value}".split() if isinstance(value, BaseException) else value.split())
    return text if len(text) <= 500 else f"{text[:250]} ... {text[-245:]}"
