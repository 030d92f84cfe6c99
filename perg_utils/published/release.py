"""A folder of released files, read as a whole: what is there, in which order it is read, and what could not be.

Left out: the tables made of it (`importing`).
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from statistics import multimode

import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.schema import ORDER, Arm
from perg_utils.published.assignment import TOTAL, preference_id, preference_table
from perg_utils.published.catalogue import Catalogue, possible_starts
from perg_utils.published.files import DATASET, MODELS, PublishedFile, describe, find
from perg_utils.published.layouts import Layout, Rows, read_rows
from perg_utils.published.responses import SURPLUS, FileResponses, Letters, file_responses

FILE_COLUMNS = [
    *("file", "status", "verified", "layout", "model", "method", "setting", "rows", "responses", "used", "problem")
]
UNREAD_COLUMNS = ["file", "row", "reason"]


class Release:
    """The released files below a folder. `catalogue` is what they tell of the dataset.

    Opening it looks at every file once, reads what is needed to know the dataset's order, and nothing else.
    """

    def __init__(self, folder: Path, manifest: pd.DataFrame) -> None:
        self._paths, problems = find(folder, manifest)
        self._listed = set(manifest["path"])
        self._lines: list[dict[str, object]] = []
        self._unread: list[tuple[str, int, str]] = []
        self._surplus: list[pd.DataFrame] = []
        self._files: list[PublishedFile] = []
        self.catalogue = Catalogue()
        for problem in problems:
            self._note(problem.path, problem.status, problem=problem.reason)
        for path in self._paths:
            try:
                if path != DATASET:
                    self._files.append(describe(path))
            except DataError as error:
                self._note(path, "unknown", problem=str(error))
        self._sizes = self._chunk_sizes()
        self._seed()

    def arms(self) -> list[tuple[Arm, list[PublishedFile]]]:
        """Return the files of each arm, the one to be preferred first; zero_shot relevant goes before other arms.

        Later arms may need its answers without preference.
        """
        arms: dict[Arm, list[PublishedFile]] = defaultdict(list)
        for file in sorted(self._files, key=lambda f: (f.rank, f.path)):
            arms[Arm(file.model, str(file.method), str(file.setting))].append(file)
        order = ORDER | {"model": list(MODELS.values())}
        keys = ("setting", "method", "model")
        return sorted(arms.items(), key=lambda a: [order[key].index(getattr(a[0], key)) for key in keys])

    def read(self, file: PublishedFile, letters: Letters) -> FileResponses | None:
        """Return the responses of a file, or None when it cannot be read; either is noted for `files` and `unread`."""
        try:
            rows = read_rows(self._paths[file.path])
            if rows.layout is Layout.DATASET:
                raise DataError("unknown layout: it has no responses")
        except DataError as error:
            self._note(file.path, "unreadable", problem=str(error))
            return None
        positions, reasons = self._locate(file, rows)
        numbers = rows.frame["row"].tolist()
        self._unread += [(file.path, int(numbers[i]), reason) for i, reason in sorted(reasons.items())]
        self._unread += [(file.path, row, reason) for row, reason in rows.unread]
        found = file_responses(file, rows, positions, self.catalogue, letters)
        whose = {"file": file.path, "model": file.model, "method": str(file.method), "setting": str(file.setting)}
        if len(found.surplus):
            self._surplus.append(found.surplus.assign(reason=[reasons[i] for i in sorted(reasons)], **whose))
        self._note(
            file.path,
            "read",
            layout=str(rows.layout),
            model=file.model,
            method=str(file.method),
            setting=str(file.setting),
            rows=len(rows.frame) + len(rows.unread),
            responses=len(found.shown),
        )
        return found

    def note_used(self, used: int) -> None:
        """Note how many responses of the file read last are used; a file preferred to it has the others too."""
        self._lines[-1]["used"] = used

    def files(self) -> pd.DataFrame:
        """Return every file, by path: status read / altered / missing / unreadable / unknown, verified, counts."""
        return pd.DataFrame(self._lines, columns=FILE_COLUMNS).sort_values("file", ignore_index=True)

    def unread(self) -> pd.DataFrame:
        """Return every row of a readable file that has no position or is cut off: file, row (from 0), reason."""
        return pd.DataFrame(self._unread, columns=UNREAD_COLUMNS)

    def surplus(self) -> pd.DataFrame:
        """Return what files say of rows that have no position: model, method, setting, file, reason and `SURPLUS`."""
        empty = pd.DataFrame(columns=["model", "method", "setting", "file", "reason", *SURPLUS])
        return pd.concat([empty, *self._surplus], ignore_index=True)

    def preferences(self) -> pd.DataFrame:
        """Return the table 'preferences' with the texts that the files have."""
        texts = {preference_id(source, number): text for (source, number), text in self.catalogue.texts.items()}
        return preference_table(texts | self.catalogue.others, self.catalogue.others)

    def _note(self, path: str, status: str, **values: object) -> None:
        verified = status == "read" and path in self._listed
        self._lines.append({"file": path, "status": status, "verified": verified, **values})

    def _locate(self, file: PublishedFile, rows: Rows) -> tuple[list[int | None], dict[int, str]]:
        starts = possible_starts(file, rows.layout, len(rows.frame), self._sizes[_siblings(file)])
        chunk_of_source = rows.layout is Layout.WIDE and file.source is not None and file.chunk is not None
        return self.catalogue.locate(rows, starts, trusted=chunk_of_source)

    def _chunk_sizes(self) -> dict[tuple[str, str], int]:
        """Rows of most of the chunks that belong together: all but the last have as many.

        Not of the largest: a stray line in one file would move every row of its siblings. Of a tie the larger.
        """
        counts: dict[tuple[str, str], list[int]] = defaultdict(list)
        for file in self._files:
            rows = self._questions(file) if file.chunk is not None else None
            if rows is not None:
                counts[_siblings(file)].append(len(rows.frame))
        return defaultdict(int, {siblings: max(multimode(sizes)) for siblings, sizes in counts.items()})

    def _seed(self) -> None:
        """Make as many positions known as can be: by the dataset, by chunks of one source, by what claims an order."""
        if DATASET in self._paths:
            try:
                rows = read_rows(self._paths[DATASET], only_questions=True)
                self.catalogue.locate(rows, [0], trusted=True)
                self._note(DATASET, "read", layout=str(Layout.DATASET), rows=len(rows.frame))
            except DataError as error:
                self._note(DATASET, "unreadable", problem=str(error))
        for file in sorted(self._files, key=lambda f: (f.source is None or f.chunk is None, f.rank, f.path)):
            if len(self.catalogue.items) == TOTAL and self.catalogue.texts:
                return
            found = self._questions(file)
            if found is not None:
                self._locate(file, found)

    def _questions(self, file: PublishedFile) -> Rows | None:
        try:
            return read_rows(self._paths[file.path], only_questions=True)
        except DataError:
            return None  # noted when it is read


def _siblings(file: PublishedFile) -> tuple[str, str]:
    return file.path.rpartition("/")[0], file.model
