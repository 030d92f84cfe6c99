"""Clean copies of executed notebooks: what they keep, what they lose, and that the committed ones are up to date."""

import json
import re
from pathlib import Path

import nbformat
import pytest

from perg_utils.core.errors import DataError
from perg_utils.core.profile import ROOT
from perg_utils.core.progress import MIME
from perg_utils.core.workspace import Workspace
from perg_utils.run.executed import CLOCK, FOLDER, clean, folder, publish
from perg_utils.run.state import Step

COMMITTED = sorted((ROOT / "figures/demo/notebooks").glob("*.ipynb"))
SOURCES = ["# Title", 'profile = "demo"\nout = "."', "1 + 1"]


def committed() -> nbformat.NotebookNode:
    """A notebook as it is committed: a title, its parameters, one cell."""
    cells = [
        nbformat.v4.new_markdown_cell(SOURCES[0], id="title"),
        nbformat.v4.new_code_cell(SOURCES[1], id="parameters", metadata={"tags": ["parameters"]}),
        nbformat.v4.new_code_cell(SOURCES[2], id="sum"),
    ]
    kernel = {"display_name": "Python 3", "language": "python", "name": "python3"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def executed(*outputs: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The same notebook as papermill leaves it, `outputs` below its last cell."""
    ran = committed()
    given = {"profile": "demo", "overrides": [], "model": "S", "out": "/home/somebody/run"}
    injected = nbformat.v4.new_code_cell("out = '/home/somebody/run'", metadata={"tags": ["injected-parameters"]})
    ran.cells.insert(2, injected)
    ran.cells[-1].outputs, ran.cells[-1].execution_count = list(outputs), 7
    ran.cells[-1].metadata = {
        "papermill": {"duration": 0.1},
        "execution": {"iopub.status.busy": "2026-11-26T01:02:03Z"},
    }
    ran.metadata["papermill"] = {"parameters": given, "output_path": "/home/somebody/run/x.ipynb"}
    return ran


def shown(**data: str) -> nbformat.NotebookNode:
    """One display; keys are types with `_` for `/`."""
    return nbformat.v4.new_output("display_data", data={kind.replace("_", "/"): text for kind, text in data.items()})


def printed(text: str, name: str = "stdout") -> nbformat.NotebookNode:
    return nbformat.v4.new_output("stream", name=name, text=text)


def told(copy: nbformat.NotebookNode) -> str:
    """All that a copy holds below its last cell."""
    return json.dumps(copy.cells[-1].outputs)


def test_a_copy_has_the_sources_of_the_committed_notebook_and_none_of_what_papermill_added() -> None:
    copy = clean(executed(), committed())
    assert [cell.source for cell in copy.cells] == SOURCES
    assert [cell.metadata for cell in copy.cells] == [{}, {"tags": ["parameters"]}, {}]
    assert [cell.execution_count for cell in copy.cells[1:]] == [1, 2]
    assert "somebody" not in nbformat.writes(copy)


def test_a_copy_says_with_what_it_was_run_but_not_where() -> None:
    [output] = clean(executed(), committed()).cells[1].outputs
    assert output.text == "run with profile = 'demo', model = 'S'\n"


def test_folders_addresses_and_hours_are_gone_and_words_stay() -> None:
    text = f"{ROOT}/data/a.csv /data/out/x.csv /home/me/b.csv <X at 0x7f51b11f> 2026-11-26T02:33:02+00:00 and/or 1/2"
    copy = clean(executed(printed(text)), committed(), [Path("/data/out")])
    assert copy.cells[-1].outputs[0].text == "data/a.csv x.csv b.csv <X> 2026-11-26 and/or 1/2"


def test_progress_and_warnings_are_left_out_and_pictures_kept() -> None:
    progress = nbformat.v4.new_output("display_data", data={MIME: {"done": 1}, "text/plain": "S: 1/2, 0:07 left"})
    copy = clean(executed(progress, printed("careful", "stderr"), shown(image_png="aGVsbG8=")), committed())
    assert [list(output.data) for output in copy.cells[-1].outputs] == [["image/png"]]


def test_styled_tables_are_named_alike_in_every_run() -> None:
    first, second = (f'<style>#T_{name}_row0 {{}}</style><table id="T_{name}">' for name in ("ab12c", "09fee"))
    one, other = (told(clean(executed(shown(text_html=html)), committed())) for html in (first, second))
    assert one == other
    assert one.count("T_2_0_0") == 2


def test_a_notebook_that_failed_gets_no_copy() -> None:
    failed = nbformat.v4.new_output("error", ename="ValueError", evalue="no", traceback=[])
    with pytest.raises(DataError, match="ValueError: no"):
        clean(executed(failed), committed())


def test_a_notebook_that_was_changed_since_its_run_gets_no_copy() -> None:
    changed = committed()
    changed.cells[-1].source = "2 + 2"
    with pytest.raises(DataError, match="run its step again"):
        clean(executed(), changed)


def test_copies_are_written_for_the_steps_that_ran_and_others_are_removed(tmp_path: Path) -> None:
    workspace = Workspace.of(tmp_path, "demo")
    nbformat.write(committed(), tmp_path / "03.ipynb")
    workspace.executed.mkdir(parents=True)
    nbformat.write(executed(printed(f"{tmp_path}/figures")), workspace.executed / "03.S.ipynb")
    folder(workspace).mkdir(parents=True)
    (folder(workspace) / "old.ipynb").write_text("{}", encoding="utf-8")
    steps = [Step(f"03:{model}", tmp_path / "03.ipynb", (), (), model) for model in ("S", "M")]
    made = publish(steps, workspace)
    assert made == list(folder(workspace).iterdir()) == [folder(workspace) / "03.S.ipynb"]
    assert nbformat.read(made[0], as_version=4).cells[-1].outputs[0].text == "figures"
    assert publish(steps, workspace) == made


class TestCommittedCopies:
    """The demo's copies in `figures/demo/notebooks`."""

    @pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
    def test_a_committed_copy_shows_the_committed_notebook(self, path: Path) -> None:
        copy, own = (
            json.loads(one.read_text(encoding="utf-8"))["cells"]
            for one in (path, ROOT / f"notebooks/{path.name.split('.')[0]}.ipynb")
        )
        assert [cell["source"] for cell in copy] == [cell["source"] for cell in own]

    @pytest.mark.parametrize("path", COMMITTED, ids=lambda path: path.stem)
    def test_a_committed_copy_holds_no_folder_no_hour_and_no_error(self, path: Path) -> None:
        copy = nbformat.read(path, as_version=4)
        outputs = [output for cell in copy.cells for output in cell.get("outputs", [])]
        texts = [
            t for o in outputs for kind, t in o.get("data", {"text": o.get("text")}).items() if "image" not in kind
        ]
        assert not [found[0] for text in texts for rule in (FOLDER, CLOCK) for found in re.finditer(rule, text)]
        assert all(output.output_type != "error" for output in outputs)
        assert any(outputs), "nothing to see"

    def test_every_notebook_of_the_demo_has_its_copy(self) -> None:
        numbers = {path.name.split("_")[0] for path in COMMITTED}
        others = {"00", "13", "study"}  # of other profiles
        assert numbers == {path.name.split("_")[0] for path in ROOT.glob("notebooks/*.ipynb")} - others

    def test_the_copies_are_small(self) -> None:
        assert sum(path.stat().st_size for path in COMMITTED) < 5e6
