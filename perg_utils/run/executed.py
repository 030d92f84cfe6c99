"""Executed notebooks, cleaned so that they can be kept beside the figures and read without being run.

A copy's sources are those of the notebook in `notebooks/`, cell by cell. What belongs to one machine or one hour is
gone: folders, times, memory addresses, the machine's name, lines of progress and warnings of libraries. What stays is
what the study says: words, code, tables, pictures. Left out: running notebooks (`notebook`).
"""

from __future__ import annotations

import re
import socket
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import nbformat
from nbformat import NotebookNode

from perg_utils.core.errors import DataError
from perg_utils.core.profile import ROOT
from perg_utils.core.progress import MIME
from perg_utils.core.workspace import Workspace, write_text
from perg_utils.run.state import Step

#: Tags of the cells that papermill adds.
ADDED = frozenset({"injected-parameters", "papermill-error-cell-tag"})
#: The parameters that a copy names; the others are folders or the user's own.
SHOWN = ("profile", "overrides", "model")
#: A stretch of time, or an hour of the clock: 0:07, 1:02:03, 12:30.
CLOCK = re.compile(r"\b\d{1,2}:\d{2}(:\d{2})?\b")
#: A folder on somebody's machine; a single slash, as in "and/or", is none.
FOLDER = re.compile(r"(?<![\w./<:])/(?:home|root|tmp|work|Users|var|private|mnt|opt)/[^\s\"'<>)\],]*")
_STAMP = re.compile(r"\b(\d{4}-\d{2}-\d{2})T\d{2}:\d{2}(:\d{2})?(\.\d+)?(Z|[+-]\d{2}:\d{2})?")
_ADDRESS = re.compile(r" at 0x[0-9a-f]+")
#: A bare word for a name, such as `demo`, is no secret and may be a word of the study.
_MACHINE = socket.gethostname()
_HOST = re.compile(rf"(?<![\w-]){re.escape(_MACHINE)}(?![\w-])" if re.search(r"[\d.-]", _MACHINE) else r"(?!)")
#: Styled tables carry a name drawn anew in every run.
_STYLED = re.compile(r"\bT_[0-9a-f]{5}(?=_|\b)")


def folder(workspace: Workspace) -> Path:
    """Return the folder of a run's clean copies, beside its figures."""
    return workspace.figures / "notebooks"


def publish(plan: Iterable[Step], workspace: Workspace) -> list[Path]:
    """Write a clean copy of each step's executed notebook and return their paths; other copies there are removed.

    A step has no copy where it was not run, ended with an error, or its notebook was changed since.
    """
    made = []
    for step in plan:
        name = f"{step.id.replace(':', '.')}.ipynb"
        if not (workspace.executed / name).is_file():
            continue
        ran, own = (nbformat.read(path, as_version=4) for path in (workspace.executed / name, step.notebook))
        with suppress(DataError):
            copy = clean(ran, own, [workspace.run.parents[2]])
            made.append(write_text(folder(workspace) / name, nbformat.writes(copy) + "\n"))
    for old in set(folder(workspace).glob("*.ipynb")) - set(made):
        old.unlink()
    return made


def clean(ran: NotebookNode, committed: NotebookNode, folders: Iterable[Path] = ()) -> NotebookNode:
    """Return the notebook `committed` with the outputs of its run `ran`, free of what belongs to one machine or hour.

    `folders` are written as nothing (`/home/me/perg/data/x` becomes `data/x`), with those of the repository and the
    temporary files. Raises `DataError` for an error output, or where the two differ in their cells.
    """
    cells = [cell for cell in ran.cells if not ADDED & set(cell.metadata.get("tags", []))]
    if [cell.source for cell in cells] != [cell.source for cell in committed.cells]:
        raise DataError("the executed notebook is not the one in notebooks/; run its step again")
    gone = sorted({str(path) for path in (*folders, ROOT, Path(tempfile.gettempdir()))}, key=len, reverse=True)
    copy, count = nbformat.v4.new_notebook(metadata=_metadata(committed)), 0
    for cell, own in zip(cells, committed.cells, strict=True):
        kept = nbformat.from_dict({**own, "metadata": dict(own.metadata)})
        if own.cell_type == "code":
            count += 1
            kept.execution_count, kept.outputs = count, _clean_outputs(cell.outputs, count, gone)
        if "parameters" in own.metadata.get("tags", []):
            kept.outputs = _parameters(ran)
        copy.cells.append(kept)
    nbformat.validate(copy)
    return copy


def _metadata(committed: NotebookNode) -> dict[str, object]:
    kernel = {name: committed.metadata.kernelspec[name] for name in ("display_name", "language", "name")}
    return {"kernelspec": kernel, "language_info": {"name": "python"}}


def _parameters(ran: NotebookNode) -> list[NotebookNode]:
    """What this copy was run with: the sources show the defaults."""
    given = ran.metadata.get("papermill", {}).get("parameters", {})
    told = ", ".join(f"{name} = {given[name]!r}" for name in SHOWN if given.get(name))
    return [nbformat.v4.new_output("stream", name="stdout", text=f"run with {told}\n")] if told else []


def _clean_outputs(outputs: Iterable[NotebookNode], count: int, gone: Iterable[str]) -> list[NotebookNode]:
    kept = []
    for number, output in enumerate(outputs):
        if output.output_type == "error":
            raise DataError(f"the executed notebook ends with an error: {output.ename}: {output.evalue}")
        texts = _texts(output)
        data = {k: t if k.startswith("image/") else _clean_text(t, gone, f"{count}_{number}") for k, t in texts.items()}
        if not data:
            continue
        if output.output_type == "stream":
            kept.append(nbformat.v4.new_output("stream", name="stdout", text=data["stdout"]))
            continue
        own = {"execution_count": count} if output.output_type == "execute_result" else {}
        kept.append(nbformat.v4.new_output(output.output_type, data=data, metadata=output.metadata, **own))
    return kept


def _texts(output: NotebookNode) -> dict[str, str]:
    """What is kept of an output, by kind; nothing of progress, and of libraries' warnings and bars (stderr)."""
    if output.output_type == "stream":
        return {"stdout": output.text} if output.name == "stdout" else {}
    kinds = () if MIME in output.data else ("image/png", "text/html", "text/markdown", "text/plain")
    return {kind: output.data[kind] for kind in kinds if kind in output.data}


def _clean_text(text: str, gone: Iterable[str], place: str) -> str:
    for path in gone:
        text = text.replace(f"{path}/", "").replace(path, ".")
    text = FOLDER.sub(lambda found: Path(found[0]).name, text)
    text = _HOST.sub("this machine", _ADDRESS.sub("", _STAMP.sub(r"\1", text)))
    # Named by their place: the same run gives the same copy.
    names = dict.fromkeys(_STYLED.findall(text))
    numbers = {name: f"T_{place}_{number}" for number, name in enumerate(names)}
    return _STYLED.sub(lambda found: numbers[found[0]], text)
