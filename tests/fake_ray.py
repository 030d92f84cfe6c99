"""A cluster in this process: the dispatcher in a thread with its event loop, replicas as threads, no Ray.

`cluster(storage)` gives a stand-in whose engines are `ClusterEngine`s as ever; what it does to replicas (`kill`,
`freeze`) is what tests of faults need to happen at a certain moment, on a machine with two busy cores.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from typing import Any

import perg_utils.engines.cluster.engine as engine_module
from perg_utils.engines.cluster.blocks import Blocks
from perg_utils.engines.cluster.connection import VARIABLE, Where
from perg_utils.engines.cluster.dispatcher import Dispatcher
from perg_utils.engines.cluster.replica import Replica
from perg_utils.engines.cluster.standing import Timing


class Killed(BaseException):
    """What a killed replica's thread ends with at its next call."""


class exceptions:
    class RayError(Exception):
        pass


class Link:
    def __init__(self, fleet: Fleet, name: str) -> None:
        self.fleet, self.name = fleet, name

    def _call(self, method: str, *words: Any, **more: Any) -> Any:
        while self.name in self.fleet.frozen:
            time.sleep(0.01)
        if self.name in self.fleet.killed:
            raise Killed
        self.fleet.calls.append((self.name, method, *words))
        return self.fleet.run(method, *words, **more)

    def pull(self, name: str, wait: float) -> Any:
        return self._call("pull", name, min(wait, 0.2))

    def report(self, name: str, unit: str, what: str, **more: Any) -> None:
        self._call("report", name, unit, what, **more)

    def beat(self, name: str, progress: int) -> Any:
        return self._call("beat", name, progress)

    def fetch(self, payload: Any) -> Any:
        return payload[0]


class Fleet:
    """Replicas as threads; `make` may put another engine in a replica's place."""

    def __init__(self, storage: str, cores: float) -> None:
        self.storage, self.cores, self.gpus = storage, cores, 0.0
        self.blocks = Blocks(storage)
        self.killed: set[str] = set()
        self.frozen: set[str] = set()
        self.started: list[str] = []
        self.calls: list[tuple[Any, ...]] = []
        self.ends: dict[str, Future[str]] = {}
        self.make: Callable[[Replica], Any] | None = None
        self.run: Callable[..., Any] = lambda *_: None

    def start(self, pool: Any, name: str) -> None:
        self.started.append(name)
        end: Future[str] = Future()
        self.ends[name] = end

        def work() -> None:
            replica = Replica(pool, name, self.storage, Link(self, name))
            replica.every = 0.05
            try:
                made = self.make and self.make(replica)
                if made:
                    replica._engine = lambda: made  # type: ignore[method-assign]
                replica.work()
                why = ""
            except BaseException as error:
                why = str(error) or "its process died"
            if not end.done():
                end.set_result(why)

        threading.Thread(target=work, daemon=True).start()

    async def ended(self, name: str) -> str:
        return await asyncio.wrap_future(self.ends[name])

    def kill(self, name: str) -> None:
        self.killed.add(name)
        if not self.ends[name].done():
            self.ends[name].set_result("its process died")

    async def room(self) -> tuple[float, float]:
        return self.cores, self.gpus

    def left_behind(self, pool: str, unit: str, known: set[str]) -> list[tuple[str, list[int], int]]:
        found = [(name, self.blocks.read(name)) for name in self.blocks.names(pool, unit) if name not in known]
        return [(name, [answer.position for answer in answers], 0) for name, answers in found]


class _Method:
    def __init__(self, call: Callable[..., Future[Any]]) -> None:
        self.remote = call


class Cluster:
    """The stand-in: `fleet` to do harm with, `dispatcher` as a kernel has it."""

    exceptions = exceptions

    def __init__(self, storage: str, cores: float, timing: Timing) -> None:
        self.loop = asyncio.new_event_loop()
        threading.Thread(target=self.loop.run_forever, daemon=True).start()
        self.fleet = Fleet(storage, cores)
        self.inner = Dispatcher(self.fleet, timing)
        self.fleet.run = lambda method, *words, **more: self.call(method, *words, **more).result(60)

    def call(self, method: str, *words: Any, **more: Any) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(getattr(self.inner, method)(*words, **more), self.loop)

    def __getattr__(self, method: str) -> _Method:
        return _Method(lambda *words: self.call(method, *words))

    @staticmethod
    def get(future: Future[Any], timeout: float | None = None) -> Any:
        return future.result(timeout)

    @staticmethod
    def put(value: Any) -> Any:
        return value

    def status(self) -> list[dict[str, Any]]:
        return self.call("status").result(10)


@contextlib.contextmanager
def cluster(storage: str, cores: float = 2, timing: Timing | None = None) -> Iterator[Cluster]:
    made = Cluster(storage, cores, timing or Timing(tick=0.05, silence=1.0, idle=5.0, spare=0.2))
    attach = engine_module.attach
    engine_module.attach = lambda _: (made, made)  # type: ignore[assignment]
    os.environ[VARIABLE] = Where("nowhere", "test", storage).text()
    try:
        yield made
    finally:
        del os.environ[VARIABLE]
        engine_module.attach = attach
        made.call("close").result(10)
        for name in list(made.fleet.ends):
            made.fleet.killed.add(name)
        time.sleep(0.3)
        made.loop.call_soon_threadsafe(made.loop.stop)
