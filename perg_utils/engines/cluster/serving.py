"""A replica's own server: how each kind is started, waited for, told apart in keys, and ended.

What shapes replies is in the identity: the kind of server, its version, all words of its command line but host and
port, and whether it was told to be batch-invariant. A replica whose node has another version refuses to work.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from perg_utils.core.profile import ROOT, ModelConfig
from perg_utils.engines.base import EngineError
from perg_utils.engines.cluster import keeper

HOST = "127.0.0.1"
UNKNOWN = "unknown"


@dataclass(frozen=True)
class Server:
    """A kind of server: the words that start it, those that a model adds, and the package whose version counts."""

    head: tuple[str, ...]
    package: str
    words: Callable[[ModelConfig], list[str]]


def _vllm(config: ModelConfig) -> list[str]:
    words = ["--dtype", config.dtype, "--tensor-parallel-size", str(max(config.replica.gpus, 1))]
    words += ["--revision", config.revision] if config.revision else []
    return words + (["--quantization", "bitsandbytes"] if config.quantization == "nf4" else [])


def _transformers(config: ModelConfig) -> list[str]:
    return ["--dtype", config.dtype, "--device", "auto" if config.replica.gpus else "cpu"]


SERVERS = {
    "vllm": Server(("vllm", "serve"), "vllm", _vllm),
    "transformers": Server(
        (sys.executable, "-m", "transformers.cli.transformers", "serve"), "transformers", _transformers
    ),
}


def kind(config: ModelConfig) -> str:
    """Return which server a replica of this model starts: `vllm`, `transformers`, or `none`."""
    wanted, unserved = config.replica.server, config.adapter is not None or config.is_gguf
    if config.engine == "api":
        return "none"
    if wanted == "auto":
        return "vllm" if config.replica.gpus and not unserved else "none"
    return wanted


def identity(config: ModelConfig, plain: Mapping[str, str], server_version: str) -> dict[str, str]:
    """Return the identity of a served model; `plain` is that of the same weights in process."""
    server = SERVERS[kind(config)]
    return {
        **plain,
        "kind": "served",
        "server": kind(config),
        "version": server_version,
        "flags": json.dumps([*server.words(config), *config.replica.flags]),
        "batch_invariant": str(config.replica.batch_invariant),
    }


def version_here(config: ModelConfig) -> str:
    """Return the version of the model's server on this node; `unknown` where nothing says.

    Where the profile has a command of its own, what it says to `--version` in place of its last word counts.
    """
    own = config.replica.command
    if own:
        try:
            done = subprocess.run([*own[:-1], "--version"], capture_output=True, text=True, timeout=300, check=True)
        except (OSError, subprocess.SubprocessError):
            return UNKNOWN
        return (done.stdout.strip().splitlines() or [UNKNOWN])[-1]
    try:
        return version(SERVERS[kind(config)].package)
    except PackageNotFoundError:
        return UNKNOWN


class Serving:
    """The server of one replica; `start` returns the model as one behind that server."""

    def __init__(self, config: ModelConfig, wanted: Mapping[str, str]) -> None:
        self.config, self.wanted = config, wanted
        self.pid: int | None = None
        self._keeper: subprocess.Popen[str] | None = None
        self._log = Path(tempfile.mkdtemp(prefix="perg-server-")) / "log.txt"

    def start(self) -> ModelConfig:
        """Start the server and wait until it is healthy. Raises `EngineError` with the end of what it said."""
        found = version_here(self.config)
        if found != self.wanted["version"]:
            raise EngineError(
                f"'{self.config.name}': this node has {self.wanted['server']} {found}, the run goes by "
                f"{self.wanted['version']}: all nodes need the same"
            )
        port = _free_port()
        words = self._words(port)
        try:
            # The script detaches; its standard input is the line that it lives on.
            self._keeper = subprocess.Popen(
                [sys.executable, keeper.__file__, str(self._log), *words],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                env=self._environment(),
                cwd=ROOT,
            )
            assert self._keeper.stdout is not None
            self.pid = int(self._keeper.stdout.readline() or 0)
        except (OSError, ValueError) as error:
            raise EngineError(f"'{self.config.name}': {words[0]} cannot be started: {error}") from error
        self._wait(f"http://{HOST}:{port}/health")
        url = f"http://{HOST}:{port}/v1"
        return self.config.model_copy(update={"engine": "api", "base_url": url})

    def stop(self) -> None:
        """End the server and all that it started."""
        if self._keeper is not None and self._keeper.stdin is not None and not self._keeper.stdin.closed:
            self._keeper.stdin.close()

    def _words(self, port: int) -> list[str]:
        server = SERVERS[self.wanted["server"]]
        head = self.config.replica.command or server.head
        flags = json.loads(self.wanted["flags"])
        return [*head, self.config.model, "--host", HOST, "--port", str(port), *flags]

    def _environment(self) -> dict[str, str]:
        # A server needs no key of any API, and what it says is kept.
        kept = {name: value for name, value in os.environ.items() if name != self.config.api_key_env}
        return kept | {"VLLM_BATCH_INVARIANT": str(int(self.config.replica.batch_invariant))}

    def _wait(self, url: str) -> None:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        until = time.monotonic() + self.config.replica.startup
        while time.monotonic() < until and self._alive():
            try:
                with opener.open(url, timeout=5) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.25)
        why = "did not become healthy" if self._alive() else "ended"
        said = self._log.read_text(encoding="utf-8", errors="replace")[-1500:] if self._log.is_file() else ""
        self.stop()
        raise EngineError(f"'{self.config.name}': its server {why}; it said last: {said.strip()}")

    def _alive(self) -> bool:
        if not self.pid:
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return False
        return True


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def describe(config: ModelConfig, wanted: Mapping[str, str]) -> dict[str, Any]:
    """Return what a manifest says of a served model."""
    names = ("server", "version", "flags", "batch_invariant")
    return {name: wanted[name] for name in names} | {"command": list(config.replica.command or ())}
