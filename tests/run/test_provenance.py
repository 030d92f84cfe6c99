"""The manifest of a run: complete, plain JSON, free of keys and of this machine's paths."""

import json
import subprocess
from pathlib import Path

import synthetic

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT
from perg_utils.core.workspace import Workspace, file_digest
from perg_utils.prompts.sets import load_prompts
from perg_utils.run.provenance import collect, git_commit, write


def test_the_manifest_names_versions_seeds_prompts_weights_and_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-value")
    profile = load_profile(synthetic.write(tmp_path, 1, 12))
    weights = tmp_path / profile.models[0].model
    weights.mkdir(parents=True)
    (weights / "config.json").write_text("{}")
    manifest = collect(profile, tmp_path)
    assert manifest["models"]["S"]["files"] == {"config.json": file_digest(weights / "config.json")}
    assert manifest["packages"]["torch"] and manifest["prompts"]["hashes"]
    assert manifest["seeds"] == {"study": 42, "decoding": 42}
    assert manifest["profile"]["grid"]["placebo"] == ["zero_shot"]
    text = write(manifest, Workspace.of(tmp_path, profile.name)).read_text()
    assert json.loads(text) == manifest
    for secret in ("sk-secret-value", str(tmp_path), str(ROOT), str(Path.home())):
        assert secret not in text


def test_the_manifest_has_the_wording_that_the_extractors_model_is_asked_with(tmp_path):
    model = "extractor={llm: {name: far, engine: api, model: m}}"
    asked = collect(load_profile("demo", [model]), tmp_path)["prompts"]["hashes"]
    assert asked["extract"] == load_prompts("standard").hashes["extract"]
    assert "extract" not in collect(load_profile("demo", ["extractor={}"]), tmp_path)["prompts"]["hashes"]


def test_the_manifest_has_the_hashes_of_the_extractors_base_and_adapter(tmp_path):
    extractor = collect(load_profile("demo"), ROOT)["extractor"]
    assert extractor["adapter"] == "data/embedded/extractor" and extractor["base"] == "data/embedded/models/L"
    weights = ROOT / extractor["adapter"] / "adapter_model.safetensors"
    assert extractor["adapter_files"][weights.name] == file_digest(weights)
    assert extractor["files"]["model.safetensors"] == file_digest(ROOT / extractor["base"] / "model.safetensors")
    workspace = Workspace.of(tmp_path, "demo")
    untrained = collect(load_profile("demo", ["extractor.adapter=null"]), ROOT, workspace)["extractor"]
    assert untrained["adapter"] is None and untrained["adapter_files"] == {}
    workspace.extractor.mkdir(parents=True)
    (workspace.extractor / weights.name).write_text("w")
    trained = collect(load_profile("demo", ["extractor.adapter=null"]), ROOT, workspace)["extractor"]
    assert trained["adapter_files"] == {weights.name: file_digest(workspace.extractor / weights.name)}
    assert collect(load_profile("demo", ["extractor={}"]), ROOT)["extractor"] is None


def test_the_commit_says_when_the_code_was_changed_but_not_when_figures_were_rendered(tmp_path):
    assert git_commit(tmp_path) is None

    def git(*words: str) -> None:
        identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *identity, *words], cwd=tmp_path, check=True, capture_output=True)

    git("init")
    (tmp_path / "code.py").write_text("1")
    git("add", ".")
    git("commit", "-m", "first")
    clean = git_commit(tmp_path)
    assert len(clean) == 40
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "new.png").write_text("")
    assert git_commit(tmp_path) == clean
    (tmp_path / "code.py").write_text("2")
    assert git_commit(tmp_path) == f"{clean} (with uncommitted changes)"
