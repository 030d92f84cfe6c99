"""Croissant: mlcroissant finds nothing wrong, and reads the very records; the committed files are up to date.

`python tests/ecosystem/test_croissant.py` writes `data/assignment.csv` and `data/croissant.json`.
"""

import json

import pandas as pd
import pytest

from perg_utils.core.profile import ROOT
from perg_utils.core.results import open_results
from perg_utils.dataset.preferences import assign, load_bank
from perg_utils.ecosystem import croissant, export, export_hub

mlcroissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed (pip install .[ecosystem])")


def read(path):
    """The dataset as mlcroissant has it, after it has found nothing to complain of."""
    found = mlcroissant.Dataset(str(path))
    assert not found.metadata.issues.errors and not found.metadata.issues.warnings
    return found


def records(found, name):
    rows = [
        {k.split("/")[1]: v.decode() if isinstance(v, bytes) else v for k, v in row.items()}
        for row in found.records(name)
    ]
    return pd.DataFrame(rows)


def test_the_committed_description_is_valid_and_its_files_are_those_described():
    found = read(croissant.DATA / "croissant.json")
    bank = records(found, "preferences")
    assert bank["text"].tolist() == load_bank()["text"].tolist() and bank["relevant"].sum() == 23
    assigned = records(found, "assignment")
    pd.testing.assert_frame_equal(assigned, croissant.assignment(), check_dtype=False)


def test_the_committed_files_are_what_the_code_writes(tmp_path):
    (tmp_path / "preferences.csv").write_bytes((croissant.DATA / "preferences.csv").read_bytes())
    for path in croissant.write_committed(tmp_path):
        assert path.read_bytes() == (croissant.DATA / path.name).read_bytes(), (
            "python tests/ecosystem/test_croissant.py"
        )


def test_the_assignment_is_the_one_that_runs_use():
    table = croissant.assignment()
    assert len(table) == 7208 and table["example_id"].is_unique
    asked = table.drop(columns="preference_id").assign(
        position=table["example_id"].str[-5:].astype(int), subject="", question="", gold="A", options=[[]] * len(table)
    )
    assert assign(asked, load_bank())["preference_id"].tolist() == table["preference_id"].tolist()
    # And a run of real questions has it, too.
    known = table.set_index("example_id")["preference_id"]
    run = pd.read_parquet(ROOT / "figures" / "laptop" / "study" / "rows" / "examples.parquet")
    assert known[run["example_id"]].tolist() == run["preference_id"].tolist()


def test_a_run_that_was_exported_is_described_and_read_by_it(tmp_path):
    gathered = export.gathered(open_results("figures/laptop/study"))
    export_hub.write(gathered, tmp_path)
    found = read(tmp_path / "croissant.json")
    for name in ("scores", "metrics"):
        rows, table = records(found, name), gathered.tables[name]
        assert list(rows) == list(table) and len(rows) == len(table)
    value = records(found, "metrics")["value"]
    assert value.round(9).tolist() == gathered.tables["metrics"]["value"].round(9).tolist()
    described = json.loads((tmp_path / "croissant.json").read_text())
    assert {one["name"] for one in described["recordSet"]} == set(gathered.tables)


if __name__ == "__main__":
    for written in croissant.write_committed():
        print(written)
