"""The paper's released responses as the tables of a run, so that every later step treats them like its own.

`import_published` reads a folder of released files (`published_release`), gives each row its place in the dataset
(`published_places`) and writes the tables examples, preferences, responses, answers, judgements and scores, and beside
them

    files.csv         every file: read, altered, missing or unreadable; its rows, and how many were used
    unread.csv        every row that has no place or is cut off: file, row (from 0), reason
    origins.parquet   of each response its file and row, the order of its options there, and the letters as released

`scores` pairs each response with the answer without preference that its own file has, as the paper does; where the file
has none, with the model's zero_shot one. `metrics.metrics(scores)` then gives the paper's figures, and
`metrics.score(...)` on the other tables those of one baseline for all.

A row that two files have is taken from the scored one, then the merged, the plain, the file of one source.
Left out: token counts and costs (they are the judge's), the irrelevant preferences shown (the files do not have them).
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from .errors import DataError
from .published_bank import SOURCE_AT, assigned, place_id, preference_id
from .published_cells import Letters
from .published_files import load_manifest
from .published_places import Catalogue
from .published_release import Release
from .published_runs import Run
from .schema import LETTERS, Method, conform
from .workspace import Workspace, write_atomically, write_text


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
        lines += [f"error: {f}: {s}: {p}" for f, s, p in broken[["file", "status", "problem"]].to_numpy()]
        return "\n".join(lines)


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
    for name, files in release.runs():
        run = Run(name, baselines, categories, threshold)
        for file in files:
            found = release.read(file, letters)
            if found is not None:
                release.note_used(run.add(file, found))
        tables = run.tables()
        if tables:  # the responses are written run by run: all of them together may not fit
            frame = tables.pop("responses")
            responses[workspace.write("responses", frame, part="-".join(name))] = len(frame)
        for table, frame in tables.items():
            parts[table].append(frame)
    if not parts:
        raise DataError(f"no released response could be read below '{folder}':\n{_first_problems(release)}")
    tables = {table: pd.concat(frames, ignore_index=True) for table, frames in parts.items()}
    tables |= {"examples": _examples(release.catalogue), "preferences": release.preferences()}
    write_atomically(workspace.run / "origins.parquet", tables.pop("origins").to_parquet)
    for table, frame in tables.items():
        workspace.write(table, frame)
    for old in set(workspace.table_path("responses", "x").parent.glob("*.parquet")) - set(responses):
        old.unlink()  # of an earlier import: reading joins all parts
    counts = {"responses": sum(responses.values())} | {table: len(frame) for table, frame in tables.items()}
    out = Imported(release.files(), release.unread(), counts)
    write_text(workspace.run / "files.csv", out.files.to_csv(index=False))
    write_text(workspace.run / "unread.csv", out.unread.to_csv(index=False))
    return out


def _first_problems(release: Release) -> str:
    files, rows = release.files(), release.unread()
    lines = [f"{f}: {p}" for f, p in files.loc[files["status"] != "missing", ["file", "problem"]].to_numpy()]
    lines += [f"{f}, row {row}: {reason}" for f, row, reason in rows.to_numpy()]
    return "\n".join(lines[:10])


def _examples(catalogue: Catalogue) -> pd.DataFrame:
    places = sorted(catalogue.items)
    items = [catalogue.items[place] for place in places]
    columns = {
        "example_id": [place_id(place) for place in places],
        "source": [SOURCE_AT[place] for place in places],
        "subject": [item.subject or None for item in items],
        "question": [item.content[0] for item in items],
        "options": [list(item.options) for item in items],
        "gold": [LETTERS[item.gold] for item in items],
        "preference_id": [preference_id(SOURCE_AT[place], assigned(place)) for place in places],
    }
    return conform("examples", pd.DataFrame(columns))
