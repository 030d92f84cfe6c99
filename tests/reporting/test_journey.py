"""The journey of an analyst: open notebook 08, change one cell, run it, get another figure."""

import copy
import shutil

import nbformat
import pandas as pd
import pytest
import synthetic
from nbclient import NotebookClient

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT
from perg_utils.core.workspace import Workspace
from perg_utils.scoring.rates import metrics
from perg_utils.scoring.scores import score

NOTEBOOK = ROOT / "notebooks" / "08_render_figures.ipynb"
#: The cell of the methods, and what the analyst makes of it.
CELL = "perg.figures.methods(run"
CHANGED = 'perg.figures.methods(run, methods=["zero_shot", "cot"], sources=["TQA"], colours={"S": "#882255"}).save()'


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """A small run with its saved tables, as notebook 06 leaves them: its folder and profile."""
    folder = tmp_path_factory.mktemp("run")
    profile = synthetic.write(folder, 2, 60)
    workspace = Workspace.of(folder, load_profile(profile).name)
    names = ("examples", "responses", "answers", "judgements", "preferences")
    scores = score(*(workspace.read(name) for name in names))
    workspace.write("scores", scores)
    workspace.write("metrics", metrics(scores))
    return folder, profile


def execute(book, folder, profile):
    """Run a copy of the notebook on the saved run with nothing but its parameters set; return its figures' folder."""
    (parameters,) = (cell for cell in book.cells if "parameters" in cell.metadata.get("tags", []))
    parameters.source = f"profile = {str(profile)!r}\noverrides = []\nout = {str(folder)!r}"
    NotebookClient(book, timeout=300, resources={"metadata": {"path": str(ROOT)}}).execute()
    return folder / "figures" / "synthetic"


def test_one_changed_cell_of_notebook_08_gives_another_figure(saved, tmp_path):
    folder, profile = saved
    before = execute(nbformat.read(NOTEBOOK, as_version=4), folder, profile)
    kept = shutil.copytree(before, tmp_path / "before")
    book = copy.deepcopy(nbformat.read(NOTEBOOK, as_version=4))
    cells = [cell for cell in book.cells if cell.cell_type == "code" and CELL in cell.source]
    assert cells, f"notebook 08 has no cell with {CELL}...)"
    cells[0].source = CHANGED
    after = execute(book, folder, profile)

    assert (after / "methods.png").read_bytes() != (kept / "methods.png").read_bytes()
    usual, changed = (pd.read_csv(place / "methods.csv") for place in (kept, after))
    assert set(usual["source"]) == {"ALL"} and usual["method"].nunique() == 5
    assert set(changed["source"]) == {"TQA"} and set(changed["method"]) == {"zero_shot", "cot"}
    # Nothing else has changed.
    for path in kept.glob("*.csv"):
        if path.stem != "methods":
            assert path.read_bytes() == (after / path.name).read_bytes(), path.name
