"""Where a run's files are, and the one way to read and write its tables.

    data/runs/<profile>/tables/*.parquet   the seven tables (responses: one file a model)
    data/runs/<profile>/journal.sqlite     every reply, as it arrived
    data/runs/<profile>/candidates/      preferences that a model proposed, and the sheet on which people choose
    data/runs/<profile>/executed/*.ipynb   notebooks as they ran
    figures/<profile>/                     figures, tables, report.html

Writes are atomic: a killed process leaves the old file or the new one, never half of one.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from perg_utils.core.errors import DataError
from perg_utils.core.profile import ROOT
from perg_utils.core.schema import TABLES, arrow_schema, conform

#: How the profiles of studies are called (docs/studies.md).
STUDY = "study_"


class Workspace:
    """The folders of one run. `Workspace.of(out, "demo")` creates nothing until something is written."""

    def __init__(self, run: Path, figures: Path) -> None:
        self.run = run
        self.figures = figures

    @classmethod
    def of(cls, out: Path | str, profile: str) -> Workspace:
        """Return the workspace of a profile below `out`; a relative `out` is meant from the repository's root.

        So a notebook finds the same tables whether it runs in `notebooks/` (Jupyter) or in the root (papermill). The
        figures of a profile `study_NAME` are in `figures/studies/NAME`.
        """
        out = (ROOT / out).resolve()
        name = profile.removeprefix(STUDY)
        return cls(out / "data" / "runs" / profile, out / "figures" / ("studies" if name != profile else "") / name)

    @property
    def journal(self) -> Path:
        """The SQLite file that holds every reply of this run."""
        return self.run / "journal.sqlite"

    @property
    def executed(self) -> Path:
        """The folder of executed notebooks, also of failed ones."""
        return self.run / "executed"

    @property
    def extractor(self) -> Path:
        """The folder of the adapter that 02_train_extractor trains."""
        return self.run / "extractor"

    @property
    def candidates(self) -> Path:
        """The folder of candidate preferences and the sheet on which people choose."""
        return self.run / "candidates"

    def table_path(self, table: str, part: str | None = None) -> Path:
        """Return the Parquet file of a table, e.g. `tables/responses/PERG-S.parquet` for part `PERG-S`."""
        if table not in TABLES:
            raise KeyError(f"no table '{table}'; known: {', '.join(TABLES)}")
        folder = self.run / "tables"
        return folder / f"{table}.parquet" if part is None else folder / table / f"{part}.parquet"

    def write(self, table: str, frame: pd.DataFrame, part: str | None = None) -> Path:
        """Write a table (checked against its schema) and return its file. Raises `DataError` on a misfit."""
        data = pa.Table.from_pandas(conform(table, frame), schema=arrow_schema(table), preserve_index=False)
        return write_atomically(self.table_path(table, part), lambda path: pq.write_table(data, path))

    def read(self, table: str, part: str | None = None) -> pd.DataFrame:
        """Return a table or one part of it, parts joined in name order; `DataError` names the step that makes it."""
        whole = self.table_path(table, part)
        parts = [whole] if whole.is_file() else sorted((self.run / "tables" / table).glob("[!.]*.parquet"))  # no drafts
        if not parts:
            raise DataError(f"table '{table}' is not there yet ({whole}); run the earlier steps: ./run_all.sh")
        return pd.concat([_read(table, path) for path in parts], ignore_index=True)


def _read(table: str, path: Path) -> pd.DataFrame:
    try:
        frame = pq.read_table(path).to_pandas()
    except (pa.ArrowInvalid, OSError) as error:
        raise DataError(f"{path} cannot be read ({error}); delete it and run ./run_all.sh again") from error
    try:
        return conform(table, frame)
    except DataError as error:
        raise DataError(f"{path} is of another version ({error}); ./run_all.sh makes it again") from error


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Call `write` on a temporary file beside `path`, then put it in place; returns `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # The suffix stays last: savefig and others choose the format by it.
    draft = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix}")
    try:
        write(draft)
        os.replace(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write `text` as UTF-8, atomically; returns `path`."""
    return write_atomically(path, lambda draft: draft.write_text(text, encoding="utf-8"))


def digest(*parts: Any) -> str:
    """Return a short stable hash of anything JSON can hold, e.g. `digest({"a": 1})` -> 16 hex digits."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:16]


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content, hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
