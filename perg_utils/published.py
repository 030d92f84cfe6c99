"""The paper's released responses as the tables of a run, so that every later step treats them like its own.

`import_published` reads a folder of released files (`published_files`, `published_layouts`), gives each row its place in
the dataset (`published_places`) and writes the tables examples, preferences, responses, answers, judgements and scores,
and beside them

    files.csv         every file: read, altered, missing or unreadable; its rows, and how many were used
    unread.csv        every row that was not used: file, row (from 0), reason
    origins.parquet   of each response its file and row, the order of its options there, and the letters as released

`scores` pairs each response with the answer without preference that its own file has, as the paper does; where the file
has none, with the model's zero_shot one. `metrics.metrics(scores)` then gives the paper's figures, and
`metrics.score(...)` on the other tables those of one baseline for all.

A row that two files have is taken from the scored one, then the merged, the plain, the file of one source.
Left out: token counts and costs (they are the judge's), the irrelevant preferences shown (the files do not have them).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from .errors import DataError
from .published_bank import preference_id, preference_table
from .published_cells import Letters, cells
from .published_files import DATASET, Problem, PublishedFile, describe, find, load_manifest
from .published_layouts import Layout, Rows, read_rows
from .published_places import SOURCE_AT, TOTAL, Catalogue, assigned, place_id, possible_starts
from .published_runs import Run
from .schema import LETTERS, Method, Setting, conform
from .workspace import Workspace, write_atomically, write_text

_FILE_COLUMNS = ["file", "status", "verified", "layout", "model", "method", "setting", "rows", "used", "problem"]


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: `files` and `unread` as in the CSV files, and the number of rows of each table."""

    files: pd.DataFrame
    unread: pd.DataFrame
    counts: dict[str, int]

    def summary(self) -> str:
        """Return the lines that the command prints."""
        states = self.files["status"].value_counts()
        lines = [f"{count:,} files {status}" for status, count in states.items()]
        lines += [f"{count:,} rows of {table}" for table, count in self.counts.items()]
        lines += [f"{len(self.unread):,} rows not used"]
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
    manifest = load_manifest() if manifest is None else manifest
    paths, problems = find(folder, manifest)
    files, unknown = _described(paths)
    problems += unknown
    catalogue, sizes = Catalogue(), _chunk_sizes(files, paths)
    _seed(catalogue, files, paths, sizes)
    lines = [_file_line(p.path, p.status, problem=p.reason) for p in problems]
    unread: list[tuple[str, int | None, str]] = []
    listed = set(manifest["path"])
    if DATASET in paths:
        lines.append(_file_line(DATASET, "read", DATASET in listed, layout=Layout.DATASET))
    counts: dict[str, int] = defaultdict(int)
    parts: dict[str, list[pd.DataFrame]] = defaultdict(list)
    baselines: dict[tuple[str, Method], pd.DataFrame] = {}
    kept = set()
    known = _preferences(catalogue).dropna(subset=["category"])
    categories = dict(zip(known["preference_id"], known["category"], strict=True))
    for (model, method, setting), members in _runs(files):
        run = Run(model, method, setting, baselines, categories, threshold)
        for file in sorted(members, key=lambda f: (f.rank, f.path)):
            try:
                rows = read_rows(paths[file.path])
                if rows.layout is Layout.DATASET:
                    raise DataError("unknown layout: it has no responses")
            except DataError as error:
                lines.append(_file_line(file.path, "unreadable", problem=str(error)))
                continue
            starts = possible_starts(file, rows.layout, len(rows.frame), sizes[_siblings(file)])
            places, reasons = catalogue.place(rows, starts, trusted=_trusted(file, rows))
            numbers = rows.frame["row"].tolist()
            unread += [(file.path, int(numbers[i]), reason) for i, reason in sorted(reasons.items())]
            unread += [(file.path, row, reason) for row, reason in rows.unread]
            used = run.add(file, cells(file, rows, places, catalogue, letters))
            total = len(rows.frame) + len(rows.unread)
            lines.append(_file_line(file.path, "read", file.path in listed, file, rows.layout, total, used))
        for table, frame in run.tables().items():
            counts[table] += len(frame)
            if table == "responses":
                part = f"{model}-{method}-{setting}"
                kept.add(workspace.write(table, frame, part))
            else:
                parts[table].append(frame)
    if not parts:
        raise DataError(f"no released responses could be read below '{folder}':\n" + "\n".join(map(str, lines[:10])))
    _write(workspace, parts, kept)
    examples, preferences = _examples(catalogue), _preferences(catalogue)
    workspace.write("examples", examples)
    workspace.write("preferences", preferences)
    out = Imported(
        pd.DataFrame(lines, columns=_FILE_COLUMNS).sort_values("file", ignore_index=True),
        pd.DataFrame(unread, columns=["file", "row", "reason"]),
        {"examples": len(examples), "preferences": len(preferences), **counts},
    )
    write_text(workspace.run / "files.csv", out.files.to_csv(index=False))
    write_text(workspace.run / "unread.csv", out.unread.to_csv(index=False))
    return out


def _described(paths: Iterable[str]) -> tuple[list[PublishedFile], list[Problem]]:
    files, problems = [], []
    for path in paths:
        if path == DATASET:
            continue
        try:
            files.append(describe(path))
        except DataError as error:
            problems.append(Problem(path, "unknown", str(error)))
    return files, problems


def _siblings(file: PublishedFile) -> tuple[str, str]:
    return file.path.rpartition("/")[0], file.model


def _trusted(file: PublishedFile, rows: Rows) -> bool:
    return rows.layout is Layout.WIDE and file.source is not None and file.chunk is not None


def _chunk_sizes(files: list[PublishedFile], paths: dict[str, Path]) -> dict[tuple[str, str], int]:
    """Rows of the largest of the chunks that belong together: all but the last have as many."""
    sizes: dict[tuple[str, str], int] = defaultdict(int)
    for file in files:
        if file.chunk is not None:
            try:
                count = len(read_rows(paths[file.path], only_questions=True).frame)
            except DataError:
                continue  # listed when it is read
            sizes[_siblings(file)] = max(sizes[_siblings(file)], count)
    return sizes


def _seed(
    catalogue: Catalogue,
    files: list[PublishedFile],
    paths: dict[str, Path],
    sizes: dict[tuple[str, str], int],
) -> None:
    """Make as many places known as the files can: the dataset, then chunks of one source, then what claims an order."""
    if DATASET in paths:
        rows = read_rows(paths[DATASET], only_questions=True)
        catalogue.place(rows, [0], trusted=True)
    for file in sorted(files, key=lambda f: (f.source is None or f.chunk is None, f.rank, f.path)):
        if len(catalogue.items) == TOTAL and catalogue.texts:
            return
        try:
            rows = read_rows(paths[file.path], only_questions=True)
        except DataError:
            continue  # listed when it is read
        starts = possible_starts(file, rows.layout, len(rows.frame), sizes[_siblings(file)])
        catalogue.place(rows, starts, trusted=_trusted(file, rows))


def _runs(files: list[PublishedFile]) -> list[tuple[tuple[str, Method, Setting], list[PublishedFile]]]:
    """Files by run, zero_shot relevant first: later runs may need its answers without preference."""
    runs: dict[tuple[str, Method, Setting], list[PublishedFile]] = defaultdict(list)
    for file in files:
        runs[file.model, file.method, file.setting].append(file)
    settings, methods = list(Setting), list(Method)
    return sorted(runs.items(), key=lambda r: (settings.index(r[0][2]), methods.index(r[0][1]), r[0][0]))


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


def _preferences(catalogue: Catalogue) -> pd.DataFrame:
    texts = {preference_id(source, number): text for (source, number), text in catalogue.texts.items()}
    return preference_table(texts | catalogue.others, catalogue.others)


def _write(workspace: Workspace, parts: dict[str, list[pd.DataFrame]], kept: set[Path]) -> None:
    for table, frames in parts.items():
        whole = pd.concat(frames, ignore_index=True)
        if table == "origins":
            write_atomically(workspace.run / "origins.parquet", whole.to_parquet)
        else:
            workspace.write(table, whole)
    for old in set(workspace.table_path("responses", "x").parent.glob("*.parquet")) - kept:
        old.unlink()  # of an earlier import: reading joins all parts


def _file_line(
    path: str,
    status: str,
    verified: bool = False,
    file: PublishedFile | None = None,
    layout: Layout | None = None,
    rows: int | None = None,
    used: int | None = None,
    problem: str | None = None,
) -> tuple[object, ...]:
    who = (None, None, None) if file is None else (file.model, str(file.method), str(file.setting))
    return (path, status, verified, None if layout is None else str(layout), *who, rows, used, problem)
