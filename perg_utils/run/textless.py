"""What a run found, without any question, option or response: it can be kept where the texts of others may not be.

Figures, tables and executed notebooks are copied; an output or file that shows six words in a row of a question, an
option, response or judge's explanation, or a whole one of three to five, is left out, and the notebook says so. What
every row was scored as goes into `rows/` without its texts: any rate can be computed from it again. The manifest tells
what the run was made of, the machine, and the tokens and hours of each model.
"""

from __future__ import annotations

import html
import json
import os
import platform
import re
import shutil
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd

from perg_utils.core.errors import DataError, PergError
from perg_utils.core.profile import ROOT, Profile
from perg_utils.core.schema import TEXT_COLUMNS
from perg_utils.core.workspace import Workspace, write_atomically, write_text
from perg_utils.dataset.questions import load_questions
from perg_utils.engines.journal import Journal
from perg_utils.engines.local.machine import cpu_flags, cpu_name, fast_dtype
from perg_utils.judging.panel import read_panel
from perg_utils.run.executed import FOLDER
from perg_utils.run.executed import folder as copies

#: Words in a row that give a text away; fewer occur in many texts.
RUN = 6
_SHORTEST = 3  # words of a whole text
#: What stands where an output was left out.
LEFT_OUT = "[left out of this copy: it shows texts of questions, options or responses]\n"
_WORD = re.compile(r"\w+")
_TAGS = re.compile(r"<[^>]*>")


class Fingerprint:
    """The runs of six words of some texts, and whole texts of three to five, without those of this project's own texts.

    >>> told = Fingerprint(["The capital of Oro is a small town."], own=["is a small town"])
    >>> told.gives_away("He says the capital of Oro is a village."), told.gives_away("the capital of Oro")
    (True, False)
    """

    def __init__(self, texts: Iterable[str], own: Iterable[str] = ()) -> None:
        self._runs: set[tuple[str, ...]] = set()
        for text in texts:
            words = _words(text)
            self._runs.update(_runs(words, min(RUN, max(len(words), _SHORTEST))))
        for text in own:
            words = _words(text)
            self._runs.difference_update(*(_runs(words, length) for length in range(_SHORTEST, RUN + 1)))

    def gives_away(self, text: str) -> bool:
        """Return whether `text`, plain or HTML, holds such a run."""
        plain = html.unescape(_TAGS.sub(" ", text)) if "<" in text else text
        for part in {text, plain}:
            words = _words(part)
            if any(run in self._runs for length in range(_SHORTEST, RUN + 1) for run in _runs(words, length)):
                return True
        return False


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold().replace("\\n", " "))


def _runs(words: list[str], length: int) -> Iterator[tuple[str, ...]]:
    """Runs of so many words with two at least that are no number: an option "60 to 180" gives no table away."""
    runs = zip(*(words[n:] for n in range(length)), strict=False)
    return (run for run in runs if sum(not word.isdigit() for word in run) > 1)


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
        bare = rows.drop(columns=[column for column in rows if column in TEXT_COLUMNS])
        write_atomically(folder / "rows" / f"{table}.parquet", partial(bare.to_parquet, index=False))
    write_text(folder / "manifest.json", json.dumps(_manifest(workspace), indent=1, ensure_ascii=False) + "\n")
    return left_out


def _texts_of(profile: Profile, workspace: Workspace) -> Iterator[str]:
    examples, responses = workspace.read("examples"), workspace.read("responses")
    with suppress(PergError):  # notebook 01 shows questions that the run does not ask
        examples = pd.concat([examples, load_questions(profile.data)])
    yield from examples["question"]
    yield from (option for options in examples["options"] for option in options)
    yield from responses["response"].dropna()
    yield from (stage for stages in responses["stages"] for stage in stages)
    for table in read_panel(profile, workspace).values():
        yield from table["explanation"].dropna()


def _own_texts(profile: Profile) -> Iterator[str]:
    """What this project's own files say: responses quote preferences and prompts, and outputs may show these."""
    own = ("data/*.csv", "data/prompts/*.yaml", "notebooks/*.ipynb", "perg_utils/**/*.py")
    for form in (
        *own,
        "figures/demo/tables/*.md",
        "figures/demo/notebooks/*.ipynb",
    ):  # captions as they are put together
        for path in ROOT.glob(form):
            yield path.read_text(encoding="utf-8")
    yield (ROOT / profile.preferences).read_text(encoding="utf-8")


def _strip(notebook: nbformat.NotebookNode, told: Fingerprint) -> int:
    """Take the outputs that give texts away out of a notebook, and folders out of the rest; return how many went."""
    count = 0
    for cell in notebook.cells:
        for number, output in enumerate(cell.get("outputs", [])):
            stream = output.output_type == "stream"
            shown = {"text": output.text} if stream else dict(output.get("data", {}))
            if any(told.gives_away(text) for text in shown.values()):
                cell.outputs[number] = nbformat.v4.new_output("stream", name="stdout", text=LEFT_OUT)
                count += 1
                continue
            (output if stream else output.data).update(
                {kind: _without_folders(text) for kind, text in shown.items() if not kind.startswith("image/")}
            )
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
    return dict(json.loads(_without_folders(text)))


def _without_folders(text: str) -> str:
    return FOLDER.sub(lambda path: Path(path[0]).name, text)
