"""The paper's released responses as the tables of a run, so that every later step treats them like its own.

`import_published` reads a folder of released files (`release`), gives each row its position in the dataset
(`catalogue`) and writes the tables examples, preferences, responses, answers, judgements and scores, and beside
them

    files.csv         every file: read, altered, missing or unreadable; its rows, and how many were used
    unread.csv        every row that has no position or is cut off: file, row (from 0), reason
    origins.parquet   of each response its file and row, the order of its options there, and the letters as released
    twins.parquet     rows that a second file of the same arm has too, with another order, letter or response
    surplus.parquet   what files say of rows that have no position, e.g. multiplied by a join on repeated texts

`scores` pairs each response with the answer without preference that its own file has, as the paper does; where the file
has none, with the model's zero_shot one. `perg.metrics(scores)` then gives the paper's figures, and
`perg.score(...)` on the other tables those of one baseline for all.

A row that two files have is taken from the scored one, then the merged, the plain, the file of one source.
Left out: token counts and costs (they are the judge's), the irrelevant preferences shown (the files do not have them).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.profile import ROOT
from perg_utils.core.schema import LETTERS, TABLES, Method, conform
from perg_utils.core.workspace import Workspace, write_atomically, write_text
from perg_utils.published.arms import ORIGINS, ReleasedArm
from perg_utils.published.assignment import SOURCE_AT, assigned, position_id, preference_id
from perg_utils.published.catalogue import Catalogue
from perg_utils.published.files import ADDRESS, Problem, download, load_manifest
from perg_utils.published.release import FILE_COLUMNS, UNREAD_COLUMNS, Release
from perg_utils.published.responses import Letters

#: What an import writes beside the tables, for the audit.
AUDITED = ("origins", "twins", "surplus")


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: `files` and `unread` as in the CSV files, and the number of rows of each table."""

    files: pd.DataFrame
    unread: pd.DataFrame
    counts: dict[str, int]

    def summary(self) -> str:
        """Return the lines that the command prints, e.g. `57 files read`."""
        lines = [f"{count:,} files {status}" for status, count in self.files["status"].value_counts().items()]
        lines += [f"{count:,} rows of {table}" for table, count in self.counts.items()]
        lines += [f"{len(self.unread):,} rows of files could not be placed"]
        lines += [f"  {n:,} x {reason}" for reason, n in self.unread["reason"].value_counts().head(10).items()]
        broken = self.files[~self.files["status"].isin(["read", "missing"])]
        named = broken[["file", "status", "problem"]].to_numpy()
        lines += [f"error: {f}: {s}: {p.removeprefix(f'{f}: ')}" for f, s, p in named]
        return "\n".join(lines)


class Obtained(NamedTuple):
    """Where the released files lie (None: nowhere), and what could not be fetched."""

    folder: Path | None
    problems: list[Problem]


def import_published(
    folder: Path,
    workspace: Workspace,
    manifest: pd.DataFrame | None = None,
    letters: Letters = "published",
    threshold: int = 3,
) -> Imported:
    """Write the tables of the released files below `folder` into `workspace` and return what was found.

    A file that is altered, missing or unreadable is listed and the rest imported. With letters="rules" the answers are
    read from the responses by `extraction` in place of the released letters. Raises `DataError` when nothing can be
    read at all.
    """
    release = Release(folder, load_manifest() if manifest is None else manifest)
    known = release.preferences().dropna(subset=["category"])
    categories = dict(zip(known["preference_id"], known["category"], strict=True))
    baselines: dict[tuple[str, Method], pd.DataFrame] = {}
    parts: dict[str, list[pd.DataFrame]] = defaultdict(list)
    responses: dict[Path, int] = {}
    for arm, files in release.arms():
        collected = ReleasedArm(arm, baselines, categories, threshold)
        for file in files:
            found = release.read(file, letters)
            if found is not None:
                release.note_used(collected.add(file, found))
        tables = collected.tables()
        if tables:  # the responses are written arm by arm: all of them together may not fit
            frame = tables.pop("responses")
            responses[workspace.write("responses", frame, part="-".join(arm))] = len(frame)
        for table, frame in tables.items():
            parts[table].append(frame)
    if not parts:
        raise DataError(f"no released response could be read below '{folder}':\n{_first_problems(release)}")
    tables = {table: pd.concat(frames, ignore_index=True) for table, frames in parts.items()}
    tables |= {"examples": _examples(release.catalogue), "preferences": release.preferences()}
    tables["surplus"] = release.surplus()
    for kind in AUDITED:
        write_atomically(workspace.run / f"{kind}.parquet", tables.pop(kind).to_parquet)
    for table, frame in tables.items():
        workspace.write(table, frame)
    for old in set(workspace.table_path("responses", "x").parent.glob("*.parquet")) - set(responses):
        old.unlink()  # of an earlier import: reading joins all parts
    counts = {"responses": sum(responses.values())} | {table: len(frame) for table, frame in tables.items()}
    return _listed(workspace, Imported(release.files(), release.unread(), counts))


def obtain(folder: Path | None, cache: Path, manifest: pd.DataFrame | None = None, address: str = ADDRESS) -> Obtained:
    """Return the folder of released files to import: `folder` where one is given, else `cache` after a download.

    A relative `folder` is meant from the repository's root, as everything in a profile is.
    What is in `cache` already is kept and verified, so a download that broke off resumes. `folder` is None where not a
    single file could be had; the problems say why.
    """
    if folder is not None:
        return Obtained(ROOT / folder, [])
    problems = download(cache, load_manifest() if manifest is None else manifest, address)
    return Obtained(cache if any(cache.rglob("*.csv")) else None, problems)


def import_nothing(workspace: Workspace) -> Imported:
    """Write the tables without rows, and `files.csv` with every file as missing: there is no released file at hand.

    Later steps then redraw what the paper's printed figures allow (`published.printed`).
    """
    listed = load_manifest()["path"]
    lines = {"file": listed, "status": "missing", "verified": False, "problem": "not at hand"}
    files = pd.DataFrame(lines).reindex(columns=FILE_COLUMNS)
    tables = {name: pd.DataFrame(columns=list(columns)) for name, columns in TABLES.items() if name != "metrics"}
    for old in workspace.table_path("responses", "x").parent.glob("*.parquet"):
        old.unlink()  # of an earlier import
    for name, frame in tables.items():
        workspace.write(name, frame, part="none" if name == "responses" else None)
    for kind in AUDITED:
        columns = ORIGINS if kind == "origins" else []
        write_atomically(workspace.run / f"{kind}.parquet", pd.DataFrame(columns=columns, dtype="str").to_parquet)
    return _listed(workspace, Imported(files, pd.DataFrame(columns=UNREAD_COLUMNS), dict.fromkeys(tables, 0)))


def _listed(workspace: Workspace, out: Imported) -> Imported:
    write_text(workspace.run / "files.csv", out.files.to_csv(index=False))
    write_text(workspace.run / "unread.csv", out.unread.to_csv(index=False))
    return out


def _first_problems(release: Release) -> str:
    files, rows = release.files(), release.unread()
    lines = [f"{f}: {p}" for f, p in files.loc[files["status"] != "missing", ["file", "problem"]].to_numpy()]
    lines += [f"{f}, row {row}: {reason}" for f, row, reason in rows.to_numpy()]
    return "\n".join(lines[:10])


def _examples(catalogue: Catalogue) -> pd.DataFrame:
    positions = sorted(catalogue.items)
    items = [catalogue.items[position] for position in positions]
    columns = {
        "example_id": [position_id(position) for position in positions],
        "source": [SOURCE_AT[position] for position in positions],
        "subject": [item.subject or None for item in items],
        "question": [item.content[0] for item in items],
        "options": [list(item.options) for item in items],
        "gold": [LETTERS[item.gold] for item in items],
        "preference_id": [preference_id(SOURCE_AT[position], assigned(position)) for position in positions],
    }
    return conform("examples", pd.DataFrame(columns))
