"""What a run remembers of its steps, so that a second call does only what is missing.

A step is up to date when its fingerprint (notebook, resolved profile, code of this package, committed data, pinned
versions, content of the files it reads) is the one it last ended well with, and its outputs are as it left them.
`state.json` in the run's folder holds this; replies are not kept here but in the journal.
"""

from __future__ import annotations

import fcntl
import glob
import json
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from perg_utils.core.errors import PergError
from perg_utils.core.ingredients import ingredients, local_weights
from perg_utils.core.profile import Profile
from perg_utils.core.workspace import digest, file_digest, write_text


class StateError(PergError):
    """The run's folder cannot be used, or a step did not write what it should."""


@dataclass(frozen=True)
class Step:
    """One notebook run. `reads`, `writes` and `may_write` are glob patterns of absolute paths.

    A step must make a file for each pattern of `writes`; for those of `may_write` it depends on the data. `asks` says
    who is asked besides the study's models: `judges`, `extractor`, or its `base` alone.
    """

    id: str
    notebook: Path
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    model: str | None = None
    may_write: tuple[str, ...] = ()
    asks: str = ""


def files(patterns: Iterable[str]) -> list[Path]:
    """Return the files that match any of the glob patterns, in name order; drafts (leading dot) never match."""
    return sorted({Path(name) for pattern in patterns for name in glob.glob(pattern, recursive=True)})


class Fingerprints:
    """Fingerprints of steps under one profile; code and committed data are read once."""

    def __init__(self, profile: Profile) -> None:
        self._profile = profile.model_dump(mode="json")
        self._common = {**ingredients(profile), **local_weights(profile)}

    def of(self, step: Step) -> str:
        """Return the hash of all that shapes what `step` makes, as of now."""
        try:
            source = json.loads(step.notebook.read_text(encoding="utf-8"))
            cells = [(cell["cell_type"], cell["source"]) for cell in source["cells"]]
        except (FileNotFoundError, ValueError, KeyError) as error:
            raise StateError(f"{step.notebook} is missing or is no notebook: {error}") from error
        tables = [(path.name, file_digest(path)) for path in files(step.reads)]
        return digest(step.id, cells, self._profile, self._common, tables)


class State:
    """What the run's folder remembers of each step: fingerprint, digests of its outputs, what it cost (`spending`)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.steps: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            self.steps = {}
        except (ValueError, OSError) as error:
            raise StateError(f"{path} cannot be read ({error}); delete it and run again: replies are kept") from None

    def up_to_date(self, step: Step, fingerprint: str) -> bool:
        """Return whether `step` last ended well with `fingerprint` and its outputs are as it left them."""
        known = self.steps.get(step.id, {"fingerprint": None, "outputs": {}})
        return known["fingerprint"] == fingerprint and known["outputs"] == self.digests(known["outputs"])

    def record(self, step: Step, fingerprint: str, started: float, spent: Mapping[str, float] | None = None) -> None:
        """Remember that `step` ended well, and what it `spent`; files that it no longer makes are removed.

        Raises `StateError` naming the output that is missing.
        """
        made = [path for path in files(step.writes + step.may_write) if path.stat().st_mtime >= started]
        for pattern in step.writes:
            if not set(files([pattern])) & set(made):
                raise StateError(f"{step.notebook.name} ended without an error but wrote no {pattern}")
        before = self.steps.get(step.id, {}).get("outputs", {})
        names = [self._name(path) for path in made]
        self._remove(set(before) - set(names))
        self.steps[step.id] = {
            "fingerprint": fingerprint,
            "outputs": self.digests(names),
            "seconds": round(time.time() - started, 1),
            **(spent or {}),
        }
        self._save()

    def forget_others(self, plan: list[Step]) -> list[str]:
        """Remove the outputs of steps that the profile no longer has (a model taken out); returns their ids."""
        gone = sorted(set(self.steps) - {step.id for step in plan})
        for name in gone:
            self._remove(self.steps.pop(name)["outputs"])
        if gone:
            self._save()
        return gone

    def redo(self, notebooks: Iterable[str]) -> None:
        """Let the steps of these notebooks (`03`, `05`) run again; their outputs stay until they are replaced."""
        stems = tuple(f"{notebook}_" for notebook in notebooks)
        self.steps = {name: known for name, known in self.steps.items() if not name.startswith(stems)}
        self._save()

    def digests(self, names: Iterable[str]) -> dict[str, str | None]:
        """Return file name (relative to the run's folder) -> SHA-256, None where the file is gone."""
        paths = {name: self.path.parent / name for name in names}
        return {name: file_digest(path) if path.is_file() else None for name, path in paths.items()}

    def _name(self, path: Path) -> str:
        return Path(os.path.relpath(path, self.path.parent)).as_posix()

    def _remove(self, names: Iterable[str]) -> None:
        for name in names:
            (self.path.parent / name).unlink(missing_ok=True)

    def _save(self) -> None:
        write_text(self.path, json.dumps(self.steps, indent=1, sort_keys=True) + "\n")


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the run's folder for this process; the system lets go of the lock when a process dies, however it dies.

    Raises `StateError` when another process holds it, or when the folder cannot be written.
    """
    path = folder / "lock"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handle = path.open("a+", encoding="utf-8")
    except OSError as error:
        raise StateError(f"the run's folder {folder} cannot be written: {error}; choose another with --out") from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            handle.seek(0)
            holder = handle.read().strip() or "unknown"
            raise StateError(f"another run (process {holder}) works in {folder}; wait for it or use --out") from None
        handle.truncate(0)
        handle.write(str(os.getpid()))
        handle.flush()
        yield
