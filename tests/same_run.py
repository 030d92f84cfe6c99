"""Have two runs the same results? Every file of their tables and figures, byte for byte but for times.

`python tests/same_run.py RUN_A FIGURES_A RUN_B FIGURES_B` says so, with status 1 where they differ.

Left out, since it is a time or a date: the column `seconds` of the table `responses`, which is taken out before the
bytes are compared; `date` and `steps` (seconds, energy) of `manifest.json`. Left out, since they print these: the
page `report.html` and the executed notebooks. Left out, since it says how a run was made and not what came of it:
`cluster` of the manifest. The journal is not compared: replies arrive in another order.
"""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq

from perg_utils.core.workspace import Workspace

#: Columns of Parquet files, and entries of the manifest, that are times.
TIMES = ("seconds",)
MANIFEST = ("date", "steps", "cluster")
PAGES = ("report.html",)


class Compared(NamedTuple):
    """How many Parquet files, and files of figures, both runs have, and the names of those that differ."""

    tables: int
    figures: int
    differ: list[str]

    def __str__(self) -> str:
        differ = f"DIFFER: {', '.join(self.differ)}" if self.differ else "all the same"
        return f"{self.tables} Parquet files and {self.figures} files of figures, {differ}"


def content(path: Path) -> bytes:
    """Return what is compared of a file: its bytes, but for times."""
    if path.suffix == ".parquet":
        table = pq.read_table(path)
        times = [name for name in TIMES if name in table.column_names]
        if not times:
            return path.read_bytes()
        sink = io.BytesIO()
        pq.write_table(table.drop_columns(times), sink)
        return sink.getvalue()
    if path.name == "manifest.json":
        told = json.loads(path.read_text(encoding="utf-8"))
        return json.dumps({name: value for name, value in told.items() if name not in MANIFEST}).encode()
    return path.read_bytes()


def compare(one: Workspace, other: Workspace) -> Compared:
    """Compare two runs; a file that only one of them has differs."""
    differ, counts = [], []
    for here, there in ((one.run / "tables", other.run / "tables"), (one.figures, other.figures)):
        names = {path.relative_to(side) for side in (here, there) for path in side.rglob("*") if path.is_file()}
        names = {name for name in names if name.name not in PAGES and name.suffix != ".ipynb"}
        counts.append(len(names))
        differ += [str(name) for name in sorted(names) if not _same(here / name, there / name)]
    if (one.run / "manifest.json").is_file() and not _same(one.run / "manifest.json", other.run / "manifest.json"):
        differ.append("manifest.json")
    return Compared(*counts, differ)


def _same(here: Path, there: Path) -> bool:
    return here.is_file() and there.is_file() and content(here) == content(there)


if __name__ == "__main__":
    found = compare(Workspace(*map(Path, sys.argv[1:3])), Workspace(*map(Path, sys.argv[3:5])))
    print(found)
    sys.exit(bool(found.differ))
