"""The study's requests through a real server, `transformers serve` on the embedded model, and in this process."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

import pytest

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT
from perg_utils.core.workspace import Workspace
from perg_utils.dataset import preferences
from perg_utils.dataset import questions as curation
from perg_utils.inference import run as inference

MODEL = "data/embedded/models/S"  # the server knows the model by exactly the words of its command line
SAME = ["example_id", "preference_id", "method", "setting", "response", "stages", "status", "finish_reason", "fallback"]

pytestmark = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("fastapi", "uvicorn"))),
    reason="needs the packages of transformers[serving]",
)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_healthy(url, process, log):
    for _ in range(240):
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    pytest.fail(f"transformers serve did not come up:\n{log.read_text()[-3000:]}")


@pytest.fixture(scope="module", params=[False, True], ids=["in batches of one", "with continuous batching"])
def server(request, tmp_path_factory):
    log, port = tmp_path_factory.mktemp("serve") / "log.txt", free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", MODEL, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--device", "cpu", "--dtype", "float32"]
    # The cache of a CPU server would otherwise take most of the memory.
    command += (
        ["--continuous-batching", "--cb-num-blocks", "64", "--cb-max-batch-tokens", "512"] if request.param else []
    )
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        url = f"http://127.0.0.1:{port}"
        wait_until_healthy(url, process, log)
        yield f"{url}/v1"
        assert f"CB: {request.param}" in log.read_text(), "the server did what it was started for"
    finally:
        process.kill()
        process.wait()


def responses(tmp_path, name, model):
    profile = load_profile("demo", ["data.limit=3", f"models=[{{name: S, model: {MODEL}, {model}}}]"])
    workspace = Workspace(tmp_path / name, tmp_path / name)
    bank = preferences.load_bank()
    workspace.write("preferences", bank)
    workspace.write("examples", preferences.assign(curation.load_examples(profile.data, profile.seed), bank))
    return inference.run(profile, "S", workspace)


def test_a_served_model_gives_the_very_replies_of_the_same_model_in_this_process(server, tmp_path):
    served = responses(tmp_path, "served", f"engine: api, base_url: '{server}', concurrency: 8")
    here = responses(tmp_path, "here", "dtype: float32")
    assert len(here) == 9 * (1 + sum(map(len, load_profile("demo").grid.values()))), "every method in every setting"
    assert served["response"].notna().all() and here["response"].nunique() > 30
    different = served[SAME].astype(str).compare(here[SAME].astype(str))
    assert different.empty, different.to_string()
    assert served["prompt_tokens"].tolist() == here["prompt_tokens"].tolist(), "the same chat template, once"
    assert not set(served["key"]) & set(here["key"]), "other engines, other replies"
