"""A run's tables against the committed ones, cell by cell: does another machine get the same numbers?

Cells are compared as text, so that the last digit counts; numbers that differ as text and are equal within `TOLERANCE`
are counted apart and do not fail. Left out: pictures, pages, and tables in other forms than CSV.
"""

from __future__ import annotations

import csv
import io
import math
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

from perg_utils.core.errors import PergError
from perg_utils.core.profile import ROOT

#: Relative; for numbers below one, absolute.
TOLERANCE = 1e-6


class NothingToCompare(PergError):
    """There are no committed tables to compare with; the message says why and what to do."""


@dataclass(frozen=True)
class Compared:
    """One table: its cells, how many are the same as text, how many more within the tolerance, and what differs first.

    `first` is e.g. `row 3, n: 216 here, 215 committed`; or it says which side lacks the table.
    """

    name: str
    cells: int
    same: int
    close: int
    first: str | None = None

    @property
    def differ(self) -> int:
        """The number of cells that differ beyond the tolerance."""
        return self.cells - self.same - self.close

    def __str__(self) -> str:
        close = f", {self.close:,} more within {TOLERANCE:g}" if self.close else ""
        differ = f", {self.differ:,} DIFFER ({self.first})" if self.differ else ""
        return f"{self.name}: {self.same:,} of {self.cells:,} cells the same{close}{differ}"


@dataclass(frozen=True)
class Committed:
    """The committed tables of a profile, name -> text of a CSV file; `where` says where they were found."""

    where: str
    tables: Mapping[str, str]


def committed_tables(figures: Path) -> Committed:
    """Return the committed tables that a run whose figures go to the folder `figures` is to be compared with.

    A run in the repository itself writes over the files: the version of git's HEAD is taken. Any other run is compared
    with the repository's folder. Raises `NothingToCompare`, so that it is known before a run and not after it.
    """
    own = ROOT / "figures" / figures.name
    in_place = figures.resolve() == own.resolve()
    tables = _at_head(own) if in_place else read_tables(own)
    where = f"{own.relative_to(ROOT)} at git's HEAD" if in_place else str(own)
    if not tables:
        raise NothingToCompare(f"there are no committed tables of profile '{figures.name}': no CSV file in {where}")
    return Committed(where, tables)


def verify(figures: Path, committed: Committed) -> tuple[str, bool]:
    """Compare the tables in a run's folder of figures with the committed ones: what to print, and the verdict."""
    tables = compare(read_tables(figures), committed.tables)
    wrong = [table for table in tables if table.differ]
    cells, same = sum(table.cells for table in tables), sum(table.same for table in tables)
    close = sum(table.close for table in tables)
    also = f", {close:,} more within {TOLERANCE:g}" if close else ""
    verdict = f"{len(wrong)} of {len(tables)} tables differ" if wrong else f"all {len(tables)} tables agree"
    total = f"verify: {verdict}; {same:,} of {cells:,} cells the same{also}"
    return "\n".join(
        [f"verify: {figures} against {committed.where}", *(f"  {table}" for table in tables), total]
    ), not wrong


def read_tables(folder: Path) -> dict[str, str]:
    """Return the CSV files of a run's folder of figures: name in it, e.g. `tables/main.csv` -> text."""
    paths = sorted([*folder.glob("*.csv"), *folder.glob("tables/*.csv")])
    return {path.relative_to(folder).as_posix(): path.read_bytes().decode("utf-8") for path in paths}


def compare(made: Mapping[str, str], committed: Mapping[str, str]) -> list[Compared]:
    """Return a comparison a table of either side, by name; each side is name -> text of a CSV file."""
    return [compare_table(name, made.get(name), committed.get(name)) for name in sorted({*made, *committed})]


def compare_table(name: str, made: str | None, committed: str | None) -> Compared:
    """Compare two CSV texts, place by place; cells that one side lacks differ, and so do all of an absent table."""
    if made is None or committed is None:
        cells = sum(map(len, _rows(made or committed or "")))
        return Compared(name, cells, 0, 0, "not committed" if committed is None else "not made by this run")
    here, there = _rows(made), _rows(committed)
    header = max(here[0] if here else [], there[0] if there else [], key=len)
    cells = same = close = 0
    first = None
    for row in range(max(len(here), len(there))):
        ours, theirs = (rows[row] if row < len(rows) else [] for rows in (here, there))
        for column, (one, other) in enumerate(zip_longest(ours, theirs)):
            cells += 1
            if one == other:
                same += 1
            elif _is_close(one, other):
                close += 1
            elif first is None:
                told = ("nothing" if value is None else value or "an empty cell" for value in (one, other))
                name_of = header[column] if column < len(header) else f"column {column + 1}"
                first = f"row {row}, {name_of}: {' here, '.join(told)} committed"
    return Compared(name, cells, same, close, first)


def _rows(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


def _is_close(one: str | None, other: str | None) -> bool:
    try:
        return math.isclose(float(one or ""), float(other or ""), rel_tol=TOLERANCE, abs_tol=TOLERANCE)
    except ValueError:
        return False


def _at_head(folder: Path) -> dict[str, str]:
    try:
        listed = _git("ls-tree", "-r", "-z", "--name-only", "HEAD", "--", folder.relative_to(ROOT).as_posix()).split(
            "\0"
        )
        own = (folder.relative_to(ROOT), folder.relative_to(ROOT) / "tables")  # other folders are other studies
        paths = [path for path in map(Path, listed) if path.suffix == ".csv" and path.parent in own]
        return {(ROOT / path).relative_to(folder).as_posix(): _git("show", f"HEAD:{path.as_posix()}") for path in paths}
    except (OSError, subprocess.CalledProcessError) as error:
        reason = getattr(error, "stderr", None) or str(error)
        raise NothingToCompare(
            f"the run writes over the committed tables in {folder}, and git cannot tell what they were "
            f"({reason.strip()}); run with --out DIR, which is compared with the tables in {folder}"
        ) from error


def _git(*words: str) -> str:
    done = subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, check=False)
    if done.returncode:
        raise subprocess.CalledProcessError(done.returncode, words, stderr=done.stderr.decode(errors="replace"))
    return done.stdout.decode("utf-8")
