import pytest
import torch
from tiny_gguf import make_gguf
from tiny_model import make_model

from perg_utils.core.profile import ModelConfig
from perg_utils.engines.local import speed
from perg_utils.engines.local.engine import find_model


def measured(path, **more):
    config = ModelConfig(name="T", model=str(path), dtype="float32", **more)
    return speed.measure(config, find_model(config, fetch=False))


@pytest.mark.parametrize("make", [make_model, lambda path: make_gguf(path / "t.gguf")])
def test_speed_is_measured_with_a_model_of_the_same_shape_and_without_its_weights(tmp_path, make):
    path = make(tmp_path)
    for file in tmp_path.glob("*.safetensors"):
        file.write_bytes(b"no weights are read")
    found = measured(path)
    assert found.read > 0 and found.written > 0 and 1e5 < found.weights < 1e6
    assert found._replace(read=100.0, written=10.0).hours(360_000, 36_000) == 2


def test_what_cannot_be_measured_says_why(tmp_path, monkeypatch):
    assert measured("some-org/not-in-the-cache").startswith("not measured")
    make_model(tmp_path)
    monkeypatch.setattr(speed.psutil, "virtual_memory", lambda: type("M", (), {"available": 1000}))
    assert measured(tmp_path).startswith("does not fit: the weights take 0.0 GB")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert "GPU" in measured(tmp_path)
