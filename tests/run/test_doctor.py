import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ModelConfig
from perg_utils.run import doctor
from perg_utils.run.doctor import Machine, memory_need, obstacles, reachable

RICH = Machine(
    memory=512, disk=4000, gpus=(("H100", 80.0), ("H100", 80.0)), hub=True, keys=frozenset({"OPENAI_API_KEY"})
)
BARE = Machine(memory=8, disk=10)


def model(name: str, **options) -> ModelConfig:
    return ModelConfig(name="x", model=name, **options)


def profile(*models: ModelConfig, **data):
    base = load_profile("demo")
    return base.model_copy(update={"models": list(models), "data": base.data.model_copy(update=data)})


@pytest.mark.parametrize(
    ("name", "billions"),
    [
        ("meta-llama/Llama-3.1-8B-Instruct", 8.0),
        ("mistralai/Mixtral-8x7B-Instruct-v0.1", 56.0),
        ("google/gemma-2-9b-it", 9.0),
        ("Qwen/Qwen2.5-0.5B-Instruct", 0.5),
        ("HuggingFaceTB/SmolLM2-135M-Instruct", 0.135),
        ("gpt-4o-mini", None),
        ("microsoft/phi-4", None),
    ],
)
def test_the_number_of_parameters_is_read_from_the_name(name, billions):
    assert model(name).billions() == billions


def test_memory_follows_parameters_and_the_bytes_of_each():
    name = "meta-llama/Llama-3.1-8B-Instruct"
    assert memory_need(model(name)) == pytest.approx(8 * 2 * 1.2)
    assert memory_need(model(name, dtype="float32")) == pytest.approx(8 * 4 * 1.2)
    assert memory_need(model(name, quantization="nf4")) == pytest.approx(8 * 0.6 * 1.2)
    assert memory_need(model("microsoft/phi-4")) is None


def test_memory_of_a_local_folder_is_that_of_its_weights(tmp_path):
    (tmp_path / "model.safetensors").write_bytes(b"0" * 5000)
    (tmp_path / "notes.txt").write_bytes(b"0" * 90000)
    assert memory_need(model(str(tmp_path))) == pytest.approx(5000 * 1.2 / 1e9)


def test_a_machine_that_has_everything_has_no_obstacles():
    some = profile(model("meta-llama/Llama-3.3-70B-Instruct", dtype="float16"), origin="hub")
    small = profile(model("Qwen/Qwen2.5-0.5B-Instruct"), model("gpt-4o-mini", engine="api"), origin="hub")
    assert obstacles(small, RICH) == []
    assert obstacles(some, RICH) == ["x: needs about 168 GB of GPU memory; this machine has 160 GB"]


def test_every_lack_is_one_line_that_names_what_is_missing(tmp_path):
    some = profile(
        model("Qwen/Qwen3-8B"),
        model("google/gemma-2-9b-it", quantization="nf4"),
        model("gpt-4o-mini", engine="api", api_key_env="SOME_KEY"),
        model(str(tmp_path / "absent")),
        origin="hub",
    )
    assert obstacles(some, BARE) == [
        "questions come from the hub, which is not reachable (questions already in its cache can be used)",
        "x: needs about 19 GB of main memory; this machine has 8 GB",
        "x: nf4 weights need a CUDA GPU",
        "x: key SOME_KEY is not set",
        f"x: folder {tmp_path / 'absent'} does not exist",
        "weights are not in the hub's cache and the hub is not reachable: Qwen/Qwen3-8B, google/gemma-2-9b-it",
        "weights need about 34 GB of disk; 10 GB are free",
    ]


def test_weights_in_the_cache_need_neither_hub_nor_disk():
    cached = Machine(memory=64, disk=1, cached=lambda model: True)
    assert obstacles(profile(model("Qwen/Qwen3-8B")), cached) == []


def test_a_server_on_this_machine_needs_no_key_but_must_answer():
    url = "http://localhost:8000/v1"
    some = profile(model("m", engine="api", base_url=url))
    assert obstacles(some, Machine(memory=8, disk=1, servers={url: True})) == []
    assert obstacles(some, Machine(memory=8, disk=1, servers={url: False})) == [f"x: server {url} is not reachable"]


def test_the_judges_model_counts_too():
    paper = load_profile("paper")
    assert paper.judge.model is not None
    assert any(paper.judge.model.api_key_env in line for line in obstacles(paper, BARE))


class _Refusing(BaseHTTPRequestHandler):
    def do_HEAD(self):
        self.send_response(401)
        self.end_headers()

    def log_message(self, *_):
        """Keep the test's output clean."""


def test_an_error_status_is_an_answer_and_a_closed_port_is_none():
    server = HTTPServer(("127.0.0.1", 0), _Refusing)
    url = f"http://127.0.0.1:{server.server_port}/v1"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        assert reachable(url)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
    assert not reachable(url)
    assert not reachable("no url")


def test_the_report_tells_keys_by_name_only_and_ends_with_every_profile(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OPENAI_API_KEY", "very-secret")
    monkeypatch.delenv("HF_TOKEN", raising=False)
    text = doctor.report()
    assert "very-secret" not in text
    assert "key       OPENAI_API_KEY: set" in text
    assert "key       HF_TOKEN: not set" in text
    assert "hub       off (HF_HUB_OFFLINE)" in text
    assert "torch 2." in text
    for name in ("demo", "laptop", "paper_small", "paper"):
        assert f"\n  {name}: can" in text


def test_a_broken_profile_is_reported_and_does_not_stop_the_doctor(monkeypatch, tmp_path):
    (tmp_path / "bad.yaml").write_text("name: bad\n")
    monkeypatch.setattr(doctor, "PROFILES", tmp_path)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    text = doctor.report()
    assert "bad: cannot run here" in text
    assert "models: Field required" in text
