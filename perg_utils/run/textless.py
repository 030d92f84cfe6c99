"""What a run found, without any question, option or response: it can be kept where the texts of others may not be.

Figures, tables and executed notebooks are copied; an output or file that shows six words in a row of a question, an
option, a response or a judge's explanation is left out, and the notebook says so. What every row was scored as goes
into `rows/` without its texts: any rate can be computed from it again. The manifest tells what the run was made of, the
machine, and the tokens and hours of each model.
"""

from __future__ import annotations

import html
import json
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.profile import ROOT, Profile
from perg_utils.core.workspace import Workspace, write_atomically, write_text
from perg_utils.engines.journal import Journal
from perg_utils.engines.local.machine import cpu_flags, cpu_name, fast_dtype
from perg_utils.judging.panel import read_panel
from perg_utils.run.executed import FOLDER
from perg_utils.run.executed import folder as copies

#: Words in a row that give a text away; fewer occur in many texts.
RUN = 6
#: What stands where an output was left out.
LEFT_OUT = "[left out of this copy: it shows texts of questions, options or responses]\n"
#: Columns of the tables that hold texts of questions, options, responses and judges, and the key of what was sent.
_TEXTS = {"question", "options", "gold", "response", "stages", "evidence", "explanation", "key"}
_WORDS = re.compile(r"\w+")
_TAGS = re.compile(r"<[^>]*>")


class Fingerprint:
    """The runs of six words of some texts, without those that this project's own texts hold too.

    >>> told = Fingerprint(["The capital of Oro is a small town."], own=["is a small town"])
    >>> told.gives_away("He says the capital of Oro is a village."), told.gives_away("the capital of Oro")
    (True, False)
    """

    def __init__(self, texts: Iterable[str], own: Iterable[str] = ()) -> None:
        mine = {run for text in own for run in _runs(text)}
        self._runs = {run for text in texts for run in _runs(text)} - mine

    def gives_away(self, text: str) -> bool:
        """Return whether `text`, plain or HTML, holds such a run."""
        plain = html.unescape(_TAGS.sub(" ", text)) if "<" in text else text
        return any(run in self._runs for part in {text, plain} for run in _runs(part))


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    words = _WORDS.findall(text.casefold().replace("\\n", " "))
    return zip(*(words[n:] for n in range(RUN)), strict=False)


def write(profile: Profile, workspace: Workspace, folder: Path) -> list[str]:
    """Write the results of a run into `folder` and return the names of what was left out; older files there go.

    The run must be whole: its tables, figures and executed notebooks are read. Raises `DataError` for a table that is
    not there, and for a folder that holds anything else than results.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "rows").is_dir():
        raise DataError(f"{folder} holds other things than results; name a new folder")
    told = Fingerprint(_texts_of(profile, workspace), _own_texts(profile))
    shutil.rmtree(folder, ignore_errors=True)
    left_out = []
    pages = workspace.figures
    for path in sorted([*pages.glob("*.*"), *(pages / "tables").glob("*.*")]):
        name = path.relative_to(pages)
        if path.suffix in {".csv", ".md", ".tex"} and told.gives_away(path.read_text(encoding="utf-8")):
            left_out.append(str(name))
        elif path.suffix != ".html":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, folder / name)
    for path in sorted(copies(workspace).glob("*.ipynb")):
        notebook = nbformat.read(path, as_version=4)
        count = _strip(notebook, told)
        left_out += [f"notebooks/{path.name}: {count} outputs"] if count else []
        write_text(folder / "notebooks" / path.name, nbformat.writes(notebook) + "\n")
    for table, rows in _rows(profile, workspace).items():
        bare = rows.drop(columns=[column for column in rows if column in _TEXTS])
        write_atomically(folder / "rows" / f"{table}.parquet", partial(bare.to_parquet, index=False))
    write_text(folder / "manifest.json", json.dumps(_manifest(workspace), indent=1, ensure_ascii=False) + "\n")
    return left_out


def _texts_of(profile: Profile, workspace: Workspace) -> Iterator[str]:
    examples, responses = workspace.read("examples"), workspace.read("responses")
    yield from examples["question"]
    yield from (option for options in examples["options"] for option in options)
    yield from responses["response"].dropna()
    yield from (stage for stages in responses["stages"] for stage in stages)
    for table in read_panel(profile, workspace).values():
        yield from table["explanation"].dropna()


def _own_texts(profile: Profile) -> Iterator[str]:
    """What this project's own files say: responses quote preferences and prompts, and outputs may show these."""
    for form in ("data/*.csv", "data/prompts/*.yaml", "notebooks/*.ipynb", "perg_utils/**/*.py"):
        for path in ROOT.glob(form):
            yield path.read_text(encoding="utf-8")
    yield (ROOT / profile.preferences).read_text(encoding="utf-8")


def _strip(notebook: nbformat.NotebookNode, told: Fingerprint) -> int:
    """Take the outputs that give texts away out of a notebook, and return how many."""
    count = 0
    for cell in notebook.cells:
        for number, output in enumerate(cell.get("outputs", [])):
            shown = [output.text] if output.output_type == "stream" else list(output.get("data", {}).values())
            if any(told.gives_away(text) for text in shown):
                cell.outputs[number] = nbformat.v4.new_output("stream", name="stdout", text=LEFT_OUT)
                count += 1
    return count


def _rows(profile: Profile, workspace: Workspace) -> dict[str, pd.DataFrame]:
    tables = {name: workspace.read(name) for name in ("examples", "responses", "answers", "scores", "metrics")}
    tables["judgements"] = pd.concat(read_panel(profile, workspace).values(), ignore_index=True)
    tables["nulls"] = workspace.read("nulls")
    return tables


def _manifest(workspace: Workspace) -> dict[str, Any]:
    found = json.loads((workspace.run / "manifest.json").read_text(encoding="utf-8"))
    with Journal(workspace.journal, read_only=True) as journal:
        spent = journal.execute(
            "SELECT model, count(*), sum(prompt_tokens), sum(completion_tokens), sum(seconds) / 3600, min(time), "
            "max(time) FROM replies GROUP BY model ORDER BY model"
        )
    columns = ("replies", "prompt_tokens", "reply_tokens", "hours", "first", "last")
    found["processor"] = {
        "name": cpu_name(),
        "cores": os.cpu_count(),
        "system": platform.machine(),
        "dtype": fast_dtype(),
        "features": sorted(flag for flag in cpu_flags() if flag.startswith(("avx", "amx"))),
    }
    found["spent"] = {Path(model).name: dict(zip(columns, row, strict=True)) for model, *row in spent}
    text = json.dumps(found, ensure_ascii=False)
    return dict(json.loads(FOLDER.sub(lambda path: Path(path[0]).name, text)))
