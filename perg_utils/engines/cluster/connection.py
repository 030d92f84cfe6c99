"""Ray, started on this machine or joined, with the dispatcher of a run; and how a kernel finds that dispatcher.

Keys travel in a function that each worker of the run calls when it starts (Ray's `worker_process_setup_hook`). As
`env_vars` of the runtime environment they would stand in Ray's logs: its agent writes down what it sets.
"""

from __future__ import annotations

import ctypes
import json
import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import psutil

from perg_utils.core.errors import PergError
from perg_utils.core.profile import ROOT
from perg_utils.engines.cluster.standing import Timing

#: The environment variable in which a run's kernels find its cluster.
VARIABLE = "PERG_CLUSTER"
DISPATCHER = "dispatcher"
LOCAL, AUTO = "local", "auto"
#: Bytes of the object store of `--cluster local`: requests pass through it, replies do not.
STORE = 200_000_000
#: How often it is tried to start or reach Ray.
STARTS = 4
_SET_CHILD_SUBREAPER = 36  # of Linux's prctl
#: Where Ray keeps the token of the clusters of this user.
TOKEN = Path.home() / ".ray" / "auth_token"
#: What a node needs of the repository is its code, prompts and embedded models; never the keys.
_NOT_SHIPPED = [".env", ".git", ".venv", "data/runs", "figures", "tests", "__pycache__", ".ci"]


_attaching = threading.Lock()


class ClusterError(PergError):
    """The cluster cannot be used; the message says why, and what to do."""


@dataclass(frozen=True)
class Where:
    """A run's cluster: Ray's address, the run's namespace, the storage of blocks, and versions of servers by model."""

    address: str
    namespace: str
    storage: str
    versions: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def current(cls) -> Where | None:
        """Return the cluster that this process belongs to, as its environment says; None without one."""
        text = os.environ.get(VARIABLE)
        return None if not text else cls(**json.loads(text))

    def text(self) -> str:
        """Return it as `current` reads it."""
        return json.dumps(asdict(self))


def load() -> Any:
    """Return the module `ray`, quiet; raises `ClusterError` where it is not installed."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if os.environ.get("RAY_AUTH_TOKEN") or TOKEN.is_file():
        # `ray start` asks for it, and who joins by an address would otherwise send none; set before ray is loaded.
        os.environ.setdefault("RAY_AUTH_MODE", "token")
    try:
        import ray  # noqa: PLC0415 - only where a cluster is asked for
    except ImportError as error:
        raise ClusterError(
            f"--cluster needs Ray ({error}): pip install -e .[cluster]; without it: --set shard=i/n and merge "
            "(docs/sharding.md)"
        ) from error
    return ray


@contextmanager
def running(
    target: str,
    namespace: str,
    storage: str,
    *,
    keys: Mapping[str, str] | None = None,
    timing: Timing | None = None,
    cores: int | None = None,
) -> Iterator[Cluster]:
    """Start Ray here (`local`, on so many `cores`) or join it (`auto`, an address), with a dispatcher of this run.

    Everything of the run ends with this context, or with this process. Raises `ClusterError`: where there is no such
    cluster, and where another driver works in the same namespace.
    """
    if target.startswith("ray://"):
        raise ClusterError(f"--cluster {target}: start the run on a node of the cluster, and give its address or auto")
    ray = load()
    more: dict[str, Any] = {"runtime_env": {"worker_process_setup_hook": _sets(dict(keys or {}))}}
    if target == LOCAL:
        here = cores or (len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())
        # `address`: a Ray of its own, also where `ray start` has left another one.
        more |= {"address": LOCAL, "num_cpus": here, "object_store_memory": STORE}
    else:
        _answers(target)
        more["address"] = target
        more["runtime_env"] |= {"working_dir": str(ROOT), "excludes": _NOT_SHIPPED}
    context = _started(ray, target, namespace=namespace, **more)
    try:
        cluster = Cluster(ray, context, namespace, storage, timing or Timing())
        yield cluster
    finally:
        ray.shutdown()


def _answers(target: str) -> None:
    """Raise `ClusterError` where nothing listens at an address: Ray itself would try for minutes, without a word."""
    host, _, port = target.rpartition(":")
    if not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=10).close()
    except OSError as error:
        raise ClusterError(
            f"--cluster {target}: nothing answers there ({error}); a cluster is started with: "
            f"ray start --head --port={port} (docs/cluster.md)"
        ) from error


def _started(ray: Any, target: str, **more: Any) -> Any:
    """Ray's context. On a busy machine a start may fail: Ray's agents have 15 seconds, whatever its settings say.

    What a failed start has left running is ended, or it would be in the next one's way, which does without a dashboard.
    """
    others = psutil.Process().children(recursive=True)
    for left in range(STARTS - 1, -1, -1):
        try:
            with _own_signals(), heir_of_orphans():
                try:
                    return ray.init(log_to_driver=False, logging_level=logging.ERROR, **more)
                except BaseException:
                    ray.shutdown()
                    end_but(others)
                    raise
        except Exception as error:  # Ray has no class of its own for "did not start"
            if left and "Could not find any running Ray instance" not in str(error):
                print("cluster: Ray did not answer in time; once more", flush=True)
                more |= {"include_dashboard": False} if target == LOCAL else {}
                continue
            hint = "" if target == LOCAL else "; a cluster is started with: ray start --head (docs/cluster.md)"
            raise ClusterError(f"--cluster {target}: {error}{hint}") from error
    return None


def end_but(others: Sequence[psutil.Process]) -> None:
    """Kill all that this process has started, and what was started by that, but `others`."""
    left = [child for child in psutil.Process().children(recursive=True) if child not in others]
    for process in left:
        with suppress(psutil.Error):
            process.kill()
    psutil.wait_procs(left, 5)


@contextmanager
def heir_of_orphans() -> Iterator[None]:
    """Let processes whose parent dies be this one's children (Linux): Ray's agents outlive their node."""
    prctl = ctypes.CDLL(None).prctl if sys.platform == "linux" else lambda *_: 0
    prctl(_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    try:
        yield
    finally:
        prctl(_SET_CHILD_SUBREAPER, 0, 0, 0, 0)


@contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what SIGTERM means here: Ray would put its own way to end in its place."""
    usual = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, usual)


def _sets(keys: dict[str, str]) -> Callable[[], None]:
    def hook() -> None:
        import os  # noqa: PLC0415 - this function travels by itself

        os.environ.update(keys)

    return hook


class Cluster:
    """A run's side of a cluster: its dispatcher, what stands in it, what its nodes have."""

    def __init__(self, ray: Any, context: Any, namespace: str, storage: str, timing: Timing) -> None:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy  # noqa: PLC0415

        from perg_utils.engines.cluster.fleet import RayDispatcher  # noqa: PLC0415 - imports ray

        self._ray = ray
        self.where = Where(ray.get_runtime_context().gcs_address, namespace, storage)
        self.dashboard: str = context.dashboard_url or ""
        node = ray.get_runtime_context().get_node_id()
        options = {"name": DISPATCHER, "namespace": namespace, "num_cpus": 0, "max_concurrency": 10_000}
        options["scheduling_strategy"] = NodeAffinitySchedulingStrategy(node, soft=False)
        try:
            self.dispatcher = ray.remote(RayDispatcher).options(**options).remote(storage, timing)
            ray.get(self.dispatcher.status.remote(), timeout=300)
        except ValueError as error:  # the name is taken
            raise ClusterError(
                f"another driver works on this run in the same cluster ({namespace}); wait for it, or use --out"
            ) from error

    def status(self) -> list[dict[str, Any]]:
        """Return `Dispatcher.status`; nothing where the cluster does not answer."""
        try:
            return self._ray.get(self.dispatcher.status.remote(), timeout=10)
        except self._ray.exceptions.RayError:
            return []

    def room(self) -> str:
        """Return the nodes and what they have, e.g. `2 nodes, 16 cores, 4 GPUs`."""
        found = self._ray.cluster_resources()
        nodes = sum(node["Alive"] for node in self._ray.nodes())
        return f"{nodes} nodes, {found.get('CPU', 0):g} cores, {found.get('GPU', 0):g} GPUs"

    def version(self, config: Any) -> str:
        """Return the version of the server of a model on a node that has room for it; waits for such a node."""
        from perg_utils.engines.cluster.fleet import version_on_a_node  # noqa: PLC0415 - imports ray

        try:
            return version_on_a_node(config, config.replica.startup)
        except self._ray.exceptions.GetTimeoutError:
            wants = config.replica
            raise ClusterError(
                f"no node had room for a replica of '{config.name}' ({wants.gpus} GPUs) within {wants.startup:.0f} s; "
                f"the cluster has {self.room()}"
            ) from None


def attach(where: Where) -> tuple[Any, Any]:
    """Return `ray` and the dispatcher of the run to which this process belongs. Raises `ClusterError`."""
    ray = load()
    try:
        with _attaching:
            if not ray.is_initialized():
                with _own_signals():
                    ray.init(where.address, namespace=where.namespace, log_to_driver=False, logging_level=logging.ERROR)
        return ray, ray.get_actor(DISPATCHER, namespace=where.namespace)
    except (ConnectionError, ValueError, RuntimeError, TimeoutError) as error:
        raise ClusterError(f"the cluster of this run is gone ({error}); run the same command again") from error
