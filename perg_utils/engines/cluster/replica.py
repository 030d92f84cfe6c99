"""One replica: an engine in its own process, or a server that it starts and asks, working on the units it pulls.

Replies go into blocks every `EVERY` seconds, also of units that are not finished: what is lost with a replica is what
was in flight and the replies of the last moment. Where a block cannot be written (a full disk) its bytes go by way of
the dispatcher, whose run has them in the journal or ends with the journal's own error.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Protocol

from perg_utils.engines.api.engine import ApiEngine
from perg_utils.engines.base import Effort, Engine, EngineError, Reply, Request
from perg_utils.engines.cluster.blocks import Answer, Blocks, describe, pack
from perg_utils.engines.cluster.serving import Serving
from perg_utils.engines.cluster.units import Pool, Unit
from perg_utils.engines.local.engine import TransformersEngine

#: Seconds between blocks: in a folder, and in an object store, where each costs.
EVERY, EVERY_OBJECT = 1.0, 5.0
_WAIT = 2.0


class Link(Protocol):
    """A replica's way to the dispatcher; calls return what the dispatcher's methods return."""

    def pull(self, name: str, wait: float) -> tuple[str, Unit | None]:
        """See `Dispatcher.pull`."""
        ...

    def report(self, name: str, unit: str, what: str, **more: Any) -> None:
        """See `Dispatcher.report`."""
        ...

    def beat(self, name: str, progress: int) -> dict[str, bool]:
        """See `Dispatcher.beat`."""
        ...

    def fetch(self, payload: Any) -> tuple[Sequence[str], Sequence[Request]]:
        """Return the keys and requests of a unit."""
        ...


class _Work:
    """A unit in hand: its requests, and the answers that are in no block yet."""

    def __init__(self, unit: Unit, keys: Sequence[str], requests: Sequence[Request]) -> None:
        self.unit = unit
        self.todo = unit.todo
        self.keys, self.requests = keys, [requests[position] for position in self.todo]
        self.open = len(self.todo)
        self.fresh: list[Answer] = []

    def add(self, index: int, reply: Reply) -> None:
        position = self.todo[index]
        self.fresh.append(Answer(self.keys[position], position, reply))
        self.open -= 1


class Replica:
    """A replica of `pool`; `work` returns when it is told to end, and raises what ends it otherwise."""

    def __init__(self, pool: Pool, name: str, storage: str, link: Link) -> None:
        self.pool, self.name, self.link = pool, name, link
        self.blocks = Blocks(storage)
        self.every = EVERY if self.blocks.is_folder else EVERY_OBJECT
        self._hand: dict[str, _Work] = {}
        self._guard = threading.Lock()  # over `_hand` and the answers in it
        self._writing = threading.Lock()
        self._progress = 0
        self._draining, self._stopping = threading.Event(), threading.Event()
        self._over = threading.Event()
        self._drain: Callable[[], None] = lambda: None
        self._serving: Serving | None = None

    def work(self) -> None:
        """Make the engine ready, then pull units until there are no more."""
        engine = self._engine()
        # Two threads: a storage that lets a writer wait is no reason to take the replica for dead.
        writer = threading.Thread(target=self._until_over, args=(self.every, self._flush), daemon=True)
        beater = threading.Thread(target=self._until_over, args=(min(self.every, 1.0), self._beat), daemon=True)
        try:
            first = self._pull(_WAIT)  # tells the dispatcher that the replica is ready
            writer.start()
            beater.start()
            if isinstance(engine, ApiEngine):
                self._drain = engine.drain
                self._stream(engine, first)
            else:
                self._one_by_one(engine, first)
        finally:
            self._over.set()
            if writer.is_alive():
                writer.join(10)
            if self._serving is not None:
                self._serving.stop()

    def _engine(self) -> Engine:
        config = self.pool.config
        if self.pool.identity["kind"] == "served":
            self._serving = Serving(config, self.pool.identity)
            return ApiEngine(self._serving.start())
        if config.engine == "api":
            return ApiEngine(config)
        engine = TransformersEngine(config, fetch=False)
        if dict(engine.identity) != dict(self.pool.identity):
            raise EngineError(
                f"'{config.name}' is another model on this node ({dict(engine.identity)}, not "
                f"{dict(self.pool.identity)}): nodes need the same files, and a dtype that the profile names"
            )

        def tell(effort: Effort) -> None:
            self._progress += 1

        engine.tell = tell
        return engine

    # units

    def _pull(self, wait: float) -> _Work | None:
        """The next unit; None where there is none now. Sets `_stopping` where there will be none."""
        what, unit = self.link.pull(self.name, wait)
        if what == "stop":
            self._stopping.set()
        if unit is None:
            return None
        keys, requests = self.link.fetch(unit.payload)
        work = _Work(unit, keys, requests)
        with self._guard:
            self._hand[unit.id] = work
        if not work.todo:
            self._close(work, "done")
            return None
        return work

    def _one_by_one(self, engine: Engine, work: _Work | None) -> None:
        while not (self._stopping.is_set() or self._draining.is_set()):
            if work is not None:
                try:
                    for index, reply in engine.generate(work.requests):
                        self._answered(work, index, reply)
                        if self._draining.is_set():
                            break
                    self._close(work, "returned" if work.open else "done")
                except Exception as error:  # whatever it is, other units may do better
                    self._close(work, "failed", reason=describe(error))
            if not self._draining.is_set():
                work = self._pull(_WAIT)

    def _stream(self, engine: ApiEngine, first: _Work | None) -> None:
        """Ask a server without a pause between units: the next is there before the last request of one is sent."""
        ready: deque[_Work] = deque([first] if first is not None else [])
        places: dict[int, tuple[_Work, int]] = {}
        count = 0
        few = self.pool.config.concurrency

        def place(work: _Work) -> list[Request]:
            nonlocal count
            for index in range(len(work.requests)):
                places[count] = (work, index)
                count += 1
            if work.unit.carried:
                engine.usage.carry_dollars(work.unit.carried)
            return work.requests

        def more() -> Sequence[Request] | None:
            if ready and not self._draining.is_set():
                return place(ready.popleft())
            return None if self._stopping.is_set() or self._draining.is_set() else ()

        def prefetch() -> None:
            try:
                while not (self._stopping.is_set() or self._draining.is_set() or self._over.is_set()):
                    if sum(len(work.requests) for work in list(ready)) >= few:
                        time.sleep(0.02)
                    elif (work := self._pull(_WAIT)) is not None:
                        ready.append(work)
            except Exception:  # the dispatcher is gone, and this replica with it
                os._exit(1)

        puller = threading.Thread(target=prefetch, name="perg-pull", daemon=True)
        puller.start()
        try:
            for index, reply in engine.stream([], more):
                work, own = places.pop(index)
                self._answered(work, own, reply)
                if not work.open:
                    self._close(work, "done")
        except KeyboardInterrupt:
            pass
        except EngineError as error:
            self._flush()
            if self.pool.config.engine == "api":  # nobody else would fare better
                for unit in list(self._hand):
                    self.link.report(self.name, unit, "fatal", reason=str(error))
                return
            raise
        for work in list(self._hand.values()):
            self._close(work, "returned")

    def _answered(self, work: _Work, index: int, reply: Reply) -> None:
        with self._guard:
            work.add(index, reply)
            self._progress += 1

    def _close(self, work: _Work, what: str, **more: Any) -> None:
        self._flush(work)
        self.link.report(self.name, work.unit.id, what, **more)
        with self._guard:
            self._hand.pop(work.unit.id, None)

    # blocks

    def _until_over(self, every: float, act: Callable[[], None]) -> None:
        """Do `act` every so many seconds until the end."""
        while not self._over.wait(every):
            try:
                act()
            except Exception:  # the dispatcher is gone, and this replica with it
                if self._serving is not None:
                    self._serving.stop()
                os._exit(1)

    def _beat(self) -> None:
        """Tell that there is life in this, and hear what to do."""
        told = self.link.beat(self.name, self._progress)
        if told["stop"]:
            self._stopping.set()
        if told["drain"] and not self._draining.is_set():
            self._draining.set()
            self._drain()

    def _flush(self, work: _Work | None = None) -> None:
        """Write the fresh answers of one unit, or of all, and report them."""
        with self._writing:  # the report of a unit's end comes after those of its parts
            for each in [work] if work is not None else list(self._hand.values()):
                with self._guard:
                    answers, each.fresh = each.fresh, []
                if answers:
                    self._write(each.unit, answers)

    def _write(self, unit: Unit, answers: list[Answer]) -> None:
        data = pack(answers)
        positions = [answer.position for answer in answers]
        tokens = sum(answer.reply.completion_tokens or 0 for answer in answers)
        block: str | None = None
        # A full disk, or each object store's own errors: the bytes go by themselves, and the journal gets them.
        with suppress(Exception):
            block = self.blocks.write(self.pool.id, unit.id, data)
        self.link.report(
            self.name,
            unit.id,
            "part",
            block=block,
            data=data if block is None else None,
            positions=positions,
            tokens=tokens,
        )
