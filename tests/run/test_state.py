"""What a run remembers of its steps: fingerprints, outputs, and who holds its folder."""

import json
import os
import subprocess
import sys
import time

import nbformat
import pytest
import toy

from perg_utils.core.ingredients import ingredients, local_weights
from perg_utils.core.loading import load_profile
from perg_utils.run.state import Fingerprints, State, StateError, Step, locked


def fingerprint(step: Step, *overrides: str) -> str:
    return Fingerprints(load_profile("demo", overrides)).of(step)


def test_a_fingerprint_follows_the_resolved_profile_and_not_the_way_it_was_written(tmp_path):
    toy.toy_steps(tmp_path)
    step = Step("a", tmp_path / "a.ipynb", (), ())
    assert fingerprint(step) == fingerprint(step, "seed=42")
    assert fingerprint(step) != fingerprint(step, "seed=43")


def test_a_fingerprint_ignores_outputs_and_metadata_of_the_notebook_and_sees_its_source(tmp_path):
    toy.toy_steps(tmp_path)
    step = Step("a", tmp_path / "a.ipynb", (), ())
    before = fingerprint(step)
    book = nbformat.read(step.notebook, as_version=4)
    book.metadata["opened_with"] = "some editor"
    book.cells[-1].outputs = [nbformat.v4.new_output("stream", text="hello")]
    nbformat.write(book, step.notebook)
    assert fingerprint(step) == before
    book.cells[0].source += " and more"
    nbformat.write(book, step.notebook)
    assert fingerprint(step) != before


def test_a_fingerprint_follows_the_users_own_prompts_local_data_and_local_weights(tmp_path):
    toy.toy_steps(tmp_path)
    step = Step("a", tmp_path / "a.ipynb", (), ())
    (tmp_path / "weights").mkdir()
    own = {name: tmp_path / name for name in ("mine.yaml", "questions.parquet", "weights/model.safetensors")}
    for path in own.values():
        path.write_text("first")
    overrides = [
        f"prompts={own['mine.yaml']}",
        "data.origin=local",
        f"data.path={tmp_path}",
        f"models.0.model={tmp_path / 'weights'}",
    ]
    seen = {fingerprint(step, *overrides)}
    for path in own.values():
        path.write_text("second one")
        seen.add(fingerprint(step, *overrides))
    assert len(seen) == 4


def test_a_fingerprint_follows_the_judges_weights_own_models_below_data_and_the_pinned_versions(tmp_path, monkeypatch):
    judge = {"kind": "llm", "model": {"name": "J", "model": str(tmp_path / "judge")}}
    extractor = {
        "base": {"name": "B", "model": str(tmp_path / "base")},
        "adapter": str(tmp_path / "adapter"),
        "llm": {"name": "F", "model": str(tmp_path / "llm")},
    }
    settings = [f"judge={json.dumps(judge)}", f"extractor={json.dumps(extractor)}", "models.0.model=data/mine"]
    profile = load_profile("demo", settings)
    layers = ("base", "adapter", "llm")
    for folder in ("judge", "data/mine", "data/embedded/models/M", *layers):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "model.safetensors").write_text("w")
    assert "constraints.txt" in ingredients(profile)
    monkeypatch.setattr("perg_utils.core.ingredients.ROOT", tmp_path)
    monkeypatch.chdir(tmp_path)
    followed = {str(tmp_path / folder / "model.safetensors") for folder in ("judge", "data/mine", *layers)}
    assert set(local_weights(profile)) == followed, "the embedded models' content is read instead"


def test_outputs_of_a_model_taken_out_of_the_profile_are_removed(tmp_path):
    state = State(tmp_path / "state.json")
    kept, gone = tmp_path / "kept.txt", tmp_path / "gone.txt"
    steps = [Step(p.stem, tmp_path / "n.ipynb", (), (str(p),)) for p in (kept, gone)]
    for step, path in zip(steps, (kept, gone), strict=True):
        path.write_text("x")
        state.record(step, "f", 0.0)
    assert State(tmp_path / "state.json").forget_others(steps[:1]) == ["gone"]
    assert kept.exists()
    assert not gone.exists()
    assert State(tmp_path / "state.json").up_to_date(steps[0], "f")


def test_files_a_step_no_longer_makes_are_removed(tmp_path):
    state, step = State(tmp_path / "state.json"), Step("s", tmp_path / "n.ipynb", (), (str(tmp_path / "**" / "*.png"),))
    old, new = tmp_path / "old.png", tmp_path / "new.png"
    old.write_text("x")
    state.record(step, "1", 0.0)
    os.utime(old, (1, 1))
    new.write_text("y")
    state.record(step, "2", time.time() - 60)
    assert [p.name for p in tmp_path.glob("*.png")] == ["new.png"]


def test_a_damaged_state_says_which_file_to_delete(tmp_path):
    (tmp_path / "state.json").write_text('{"a": ')
    with pytest.raises(StateError, match=r"state\.json cannot be read.*delete it"):
        State(tmp_path / "state.json")


def test_a_second_process_on_the_same_run_is_refused_and_told_who_holds_it(tmp_path):
    with locked(tmp_path):
        imports = "from pathlib import Path; from perg_utils.run.state import locked"
        code = f"{imports}\nwith locked(Path({str(tmp_path)!r})): pass"
        other = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert other.returncode != 0
    assert f"another run (process {os.getpid()}) works in {tmp_path}" in other.stderr


def test_a_lock_left_by_a_dead_process_is_taken_over(tmp_path):
    (tmp_path / "lock").write_text("99999999")
    with locked(tmp_path):
        assert (tmp_path / "lock").read_text() == str(os.getpid())


def test_a_folder_that_cannot_be_made_is_a_plain_error(tmp_path):
    (tmp_path / "file").write_text("")
    with (
        pytest.raises(StateError, match=r"cannot be written.*choose another with --out"),
        locked(tmp_path / "file" / "run"),
    ):
        pass
