"""A real server for tests: `transformers serve` on an embedded model, and waiting for it."""

import importlib.util
import os
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import contextmanager

import pytest

from perg_utils.core.profile import ROOT

MODEL = "data/embedded/models/S"  # the server knows the model by exactly the words of its command line

needs_serving = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("fastapi", "uvicorn"))),
    reason="needs the packages of transformers[serving]",
)


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def _wait_until_healthy(url, process, log):
    end = time.monotonic() + 480  # the processor may have other work
    while time.monotonic() < end:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            time.sleep(0.5)
    pytest.fail(f"transformers serve did not come up:\n{log.read_text()[-3000:]}")


@contextmanager
def serving(log, *options):
    """The address (with /v1) of a server of `MODEL` that writes to the file `log` and ends with the block."""
    port = _free_port()
    command = [sys.executable, "-m", "transformers.cli.transformers", "serve", MODEL, "--host", "127.0.0.1"]
    command += ["--port", str(port), "--device", "cpu", "--dtype", "float32", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}
    with log.open("w") as output:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)
    try:
        url = f"http://127.0.0.1:{port}"
        _wait_until_healthy(url, process, log)
        yield f"{url}/v1"
    finally:
        process.kill()
        process.wait()
