import os

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from perg_utils.core.errors import DataError
from perg_utils.core.workspace import Workspace, digest, file_digest, write_atomically, write_text


def metrics(model: str, value: float) -> pd.DataFrame:
    row = {"model": model, "method": "cot", "setting": "mixed", "source": "ALL", "metric": "breakage_rate"}
    bounds = {"low": 0.0, "high": 5.0, "like_low": 0.0, "like_high": 9.0, "least": 0.0, "most": 5.0}
    return pd.DataFrame([row | {"value": value, **bounds, "n": 10, "n_unscored": 0}])


def test_a_workspace_creates_nothing_until_something_is_written(tmp_path):
    workspace = Workspace.of(tmp_path / "out", "demo")
    assert workspace.run == (tmp_path / "out" / "data" / "runs" / "demo").resolve()
    assert workspace.figures == (tmp_path / "out" / "figures" / "demo").resolve()
    assert not (tmp_path / "out").exists()


def test_a_table_comes_back_as_it_was_written(tmp_path):
    workspace = Workspace.of(tmp_path, "demo")
    workspace.write("metrics", metrics("S", 2.5))
    back = workspace.read("metrics")
    assert back[["model", "value", "n"]].values.tolist() == [["S", 2.5, 10]]


def test_parts_are_joined_in_name_order_and_drafts_of_a_killed_process_are_left_out(tmp_path):
    workspace = Workspace.of(tmp_path, "demo")
    for name in ("S", "M"):
        path = workspace.write("metrics", metrics(name, 1.0), part=name)
    (path.parent / f".{path.stem}.123.parquet").write_bytes(b"half a file")
    assert workspace.read("metrics")["model"].tolist() == ["M", "S"]


def test_an_absent_table_names_itself_and_the_cure(tmp_path):
    with pytest.raises(DataError, match=r"table 'scores' is not there yet.*run_all\.sh"):
        Workspace.of(tmp_path, "demo").read("scores")


def test_a_broken_file_names_itself_and_the_cure(tmp_path):
    workspace = Workspace.of(tmp_path, "demo")
    path = workspace.write("metrics", metrics("S", 1.0))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(DataError, match=r"metrics\.parquet cannot be read .*delete it"):
        workspace.read("metrics")


def test_an_unknown_table_is_refused(tmp_path):
    with pytest.raises(KeyError, match=r"no table 'score'; known: examples"):
        Workspace.of(tmp_path, "demo").table_path("score")


def test_a_write_that_fails_leaves_the_old_file_and_no_draft(tmp_path):
    path = write_text(tmp_path / "state.json", "old")

    def fail(draft):
        draft.write_text("half")
        raise RuntimeError("cut off")

    with pytest.raises(RuntimeError, match="cut off"):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["state.json"]


@given(st.dictionaries(st.text(), st.integers() | st.text()))
def test_a_digest_does_not_depend_on_the_order_of_keys(values):
    assert digest(values) == digest(dict(reversed(values.items())))
    assert len(digest(values)) == 16


@given(st.text(), st.text())
def test_a_digest_keeps_its_parts_apart(one, two):
    assert digest(one, two) != digest(one + two)


def test_a_file_digest_is_its_sha_256(tmp_path):
    (tmp_path / "f").write_bytes(b"abc")
    assert file_digest(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_a_relative_out_is_meant_from_the_root_wherever_the_notebook_runs(monkeypatch, tmp_path):
    from perg_utils.core.profile import ROOT

    monkeypatch.chdir(tmp_path)
    assert Workspace.of(".", "demo").figures == ROOT / "figures" / "demo"
    assert Workspace.of(tmp_path, "demo").figures == tmp_path.resolve() / "figures" / "demo"
