import os
import shutil
import subprocess
import sys

import pytest
import torch
from tiny_model import (
    chats,
    engine_of,
    make_model,
    replies,
)

from perg_utils.core.profile import ROOT, ModelConfig
from perg_utils.engines.base import EngineError
from perg_utils.engines.local.engine import hub_commit
from perg_utils.engines.open import open_engine


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


def test_identity_changes_with_the_weights_and_needs_no_loading(tmp_path):
    first = engine_of(make_model(tmp_path / "a"))
    assert first._scheduler is None
    assert first.identity == engine_of(tmp_path / "a").identity
    weights = tmp_path / "a" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert engine_of(tmp_path / "a").identity["revision"] != first.identity["revision"]
    assert engine_of(tmp_path / "a", thinking=True).identity != engine_of(tmp_path / "a").identity


def test_a_hub_model_is_named_by_its_revision_without_any_request():
    config = ModelConfig(name="T", model="some-org/some-model", revision="abc123")
    assert open_engine(config).identity["revision"] == "abc123"


def test_a_hub_model_without_a_revision_is_pinned_to_the_commit_in_the_cache(monkeypatch, tmp_path, folder):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = ModelConfig(name="T", model="some-org/some-model", dtype="float32")
    assert open_engine(config, fetch=False).identity["revision"] == "main", "nothing here yet"
    assert open_engine(config).identity["revision"] == "main", "nor can the hub be asked"
    commit, cached = "ab" * 20, tmp_path / "models--some-org--some-model"
    shutil.copytree(folder, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    engine = open_engine(config, fetch=False)
    assert engine.identity["revision"] == commit == hub_commit("some-org/some-model")
    loaded = []
    monkeypatch.setattr("perg_utils.engines.local.checkpoint.Checkpoint", lambda config, found: loaded.append(found))
    monkeypatch.setattr("perg_utils.engines.local.scheduling.Scheduler", lambda *_: None)
    engine._load()
    assert loaded[0].commit == commit, "what is loaded is what the key says"


@pytest.mark.parametrize(("setting", "threads"), [(None, "1"), ("2", "2")])
def test_a_small_model_takes_one_thread_unless_told_otherwise(folder, setting, threads):
    code = (
        "import sys, torch\nfrom perg_utils.engines.local.checkpoint import Checkpoint\n"
        "from perg_utils.engines.local.engine import find_model\nfrom perg_utils.core.profile import ModelConfig\n"
        "config = ModelConfig(name='T', model=sys.argv[1], dtype='float32')\n"
        "Checkpoint(config, find_model(config, fetch=False))\nprint(torch.get_num_threads())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": setting} if setting else {}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == threads


def test_a_missing_folder_says_how_to_make_it():
    with pytest.raises(EngineError, match="train-embedded"):
        open_engine(ModelConfig(name="T", model="data/embedded/models/XXL"))


def test_a_relative_folder_is_looked_for_below_the_repository(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert open_engine(ModelConfig(name="T", model="perg_utils/engines")).found.source == str(
        ROOT / "perg_utils/engines"
    )
    make_model(tmp_path / "own" / "model")
    assert open_engine(ModelConfig(name="T", model="own/model")).found.source == "own/model"


def test_quantization_without_a_gpu_is_an_error_and_not_a_crash(folder):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(EngineError, match="CUDA GPU"):
        replies(engine_of(folder, quantization="nf4"), chats(1))


def test_a_folder_that_is_no_model_is_an_error_and_not_a_crash(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EngineError, match="cannot be loaded"):
        replies(engine_of(tmp_path), chats(1))


def test_opening_an_engine_does_not_import_torch():
    code = "import sys, perg_utils.engines.open; sys.exit('torch' in sys.modules or 'openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
