"""The engine of a model whose replicas are on a cluster: units go out, replies come back in blocks, in any order.

Its identity, and so the key of each reply, is that of the engine that it stands for. What is in blocks of an earlier
run that was killed is taken first and not asked again; a block is removed when its replies have been taken.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any
from uuid import uuid4

from perg_utils.core.errors import PergError
from perg_utils.core.interrupts import first_interrupt
from perg_utils.core.profile import ModelConfig
from perg_utils.core.schema import Status
from perg_utils.core.workspace import digest
from perg_utils.engines.api.engine import ApiEngine
from perg_utils.engines.api.pricing import Meter
from perg_utils.engines.base import EngineError, Reply, Request
from perg_utils.engines.cluster import serving
from perg_utils.engines.cluster.blocks import Answer, Blocks, unit_of, unpack
from perg_utils.engines.cluster.connection import Where, attach
from perg_utils.engines.cluster.units import AHEAD, Pool, Unit, size_of_next
from perg_utils.engines.local.engine import TransformersEngine

_WAIT = 1.0
#: How long an interrupted run waits for what is in flight.
DRAIN_SECONDS = 40.0
#: How long the storage may be out of reach for the driver; what comes by the dispatcher meanwhile is taken.
REACH_SECONDS = 60.0


class ClusterEngine:
    """The engine that stands for `plain` on the cluster `where`; nothing is started before the first request."""

    def __init__(self, config: ModelConfig, plain: ApiEngine | TransformersEngine, where: Where) -> None:
        self.config, self.plain, self.where = config, plain, where
        self.pool = pool_of(config, plain, where.versions)
        self.identity: Mapping[str, str] = self.pool.identity
        self.usage = _Shown(config)

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Yield (position, reply) as units come back. Raises `EngineError` when going on makes no sense."""
        if isinstance(self.plain, ApiEngine):
            self.plain.check()
        keys = [request.key(self.identity) for request in requests]
        waiting: dict[str, list[int]] = {}
        for position, key in enumerate(keys):
            waiting.setdefault(key, []).append(position)
        blocks = Blocks(self.where.storage)
        ray, dispatcher = attach(self.where)
        call = _Call(ray, dispatcher, self.pool, uuid4().hex[:12])
        with first_interrupt(call.drain) as interrupted:
            try:
                left_behind = list(blocks.names(self.pool.id))
                others = call.open()
                yield from self._left_behind(blocks, [n for n in left_behind if unit_of(n) not in others], waiting)
                # Neighbours in a unit begin alike, which saves reading them again.
                todo = [at for at in ApiEngine.in_order(requests) if at in waiting.get(keys[at], ())[:1]]
                while waiting and not call.over():
                    self._submit(call, todo, keys, requests)
                    yield from self._taken(call, blocks, waiting)
            finally:
                call.leave()
        if interrupted.is_set():
            raise KeyboardInterrupt
        if call.fatal:
            raise EngineError(call.fatal)

    def _left_behind(
        self, blocks: Blocks, names: list[str], waiting: dict[str, list[int]]
    ) -> Iterator[tuple[int, Reply]]:
        """What a killed run has left in blocks; those that hold nothing of use are removed, too."""
        for name in names:
            try:
                answers = blocks.read(name)
            except FileNotFoundError:  # removed meanwhile
                continue
            yield from self._of_use(answers, waiting)
            blocks.remove(name)

    def _of_use(self, answers: Sequence[Answer], waiting: dict[str, list[int]]) -> Iterator[tuple[int, Reply]]:
        for key, _, reply in answers:
            positions = waiting.pop(key, [])
            if positions:
                self.usage.settle(0.0, reply, billed=False)
            for position in positions:
                yield position, reply

    def _submit(self, call: _Call, todo: list[int], keys: Sequence[str], requests: Sequence[Request]) -> None:
        """Keep some units waiting for each replica; `todo` loses what is in them."""
        units: list[Unit] = []
        while todo and len(call.open_units) < AHEAD * (call.replicas + 1) and not call.draining:
            size = size_of_next(len(todo), self.pool, call.replicas)
            some, todo[:] = todo[:size], todo[size:]
            named = [keys[position] for position in some]
            unit = Unit(digest(named), call.client, size, None, self.usage.earlier + self.usage.spent)
            unit.payload = call.put((named, [requests[position] for position in some]))
            call.open_units[unit.id] = named
            units.append(unit)
        call.submit(units, len(todo))

    def _taken(self, call: _Call, blocks: Blocks, waiting: dict[str, list[int]]) -> Iterator[tuple[int, Reply]]:
        """What has happened since: replies of new blocks, and errors in place of what was set aside."""
        for what, *about in call.events():
            if what == "part":
                _, name, data = about
                if name is None:
                    yield from self._of_use(unpack(data), waiting)
                else:
                    call.held.append((name, []))
            elif what in {"done", "returned", "aside"}:
                named = call.open_units.pop(about[0], [])
                if what == "aside":
                    error = f"its unit failed on the cluster again and again, last: {about[1]}"
                    failed = [Answer(key, 0, Reply(None, Status.API_ERROR, error=error)) for key in named]
                    call.held.append((None, failed))  # behind the blocks, which may hold some of them
        yield from self._read(call, blocks, waiting)
        self.usage.units, self.usage.replicas, self.usage.reason = len(call.open_units), call.replicas, call.reason

    def _read(self, call: _Call, blocks: Blocks, waiting: dict[str, list[int]]) -> Iterator[tuple[int, Reply]]:
        """What is in the blocks that were reported; what cannot be had now is tried again in the next round."""
        while call.held:
            name, answers = call.held[0]
            if name is not None:
                try:
                    answers = blocks.read(name)
                except (PergError, FileNotFoundError) as error:
                    call.out_of_reach_since = call.out_of_reach_since or time.monotonic()
                    if time.monotonic() - call.out_of_reach_since < REACH_SECONDS:
                        return
                    if isinstance(error, PergError):
                        raise
                    raise PergError(f"the storage {blocks.url} has lost {name}; run the same command again") from error
                call.out_of_reach_since = None
            yield from self._of_use(answers, waiting)
            call.held.popleft()
            if name is not None:
                blocks.remove(name)  # all of it is taken


class _Call:
    """One call of `generate` at the dispatcher."""

    def __init__(self, ray: Any, dispatcher: Any, pool: Pool, client: str) -> None:
        self._ray, self._dispatcher, self.pool, self.client = ray, dispatcher, pool, client
        self.open_units: dict[str, list[str]] = {}  # unit -> keys
        self.replicas, self.reason, self.fatal = 0, "", ""
        self.draining = False
        self.held: deque[tuple[str | None, list[Answer]]] = deque()  # blocks to read, and what is known already
        self.out_of_reach_since: float | None = None
        self._backlog = -1
        self._until = float("inf")

    def open(self) -> set[str]:
        """Announce this call; returns the units of others in the same pool, whose blocks are theirs."""
        return set(self._ask("open", self.client, self.pool))

    def put(self, value: Any) -> list[Any]:
        """In a list: what is in it is not fetched by the dispatcher, who only hands it on."""
        return [self._ray.put(value)]

    def submit(self, units: list[Unit], backlog: int) -> None:
        if units:
            self._ask("submit", units, backlog)

    def events(self) -> list[tuple[Any, ...]]:
        found, self.replicas, self.reason = self._ask("events", self.client, _WAIT)
        for what, *about in found:
            if what == "fatal":
                self.fatal = self.fatal or about[0]
        return found

    def over(self) -> bool:
        """Whether nothing more will come."""
        return bool(self.fatal) or (self.draining and (not self.open_units or time.monotonic() > self._until))

    def drain(self) -> str:
        """Called at the first Ctrl-C."""
        self.draining, self._until = True, time.monotonic() + DRAIN_SECONDS
        self._dispatcher.drain.remote(self.client)
        return "waiting for what is in flight on the cluster"

    def leave(self) -> None:
        with suppress(self._ray.exceptions.RayError):
            self._dispatcher.leave.remote(self.client)

    def _ask(self, method: str, *words: Any) -> Any:
        try:
            return self._ray.get(getattr(self._dispatcher, method).remote(*words), timeout=600)
        except self._ray.exceptions.RayError as error:
            raise EngineError(
                f"the run's dispatcher does not answer ({type(error).__name__}); all replies so far are kept: run the "
                "same command again"
            ) from error


class _Shown(Meter):
    """Tokens and dollars, with how many replicas and units there are."""

    units = replicas = 0
    reason = ""

    def __str__(self) -> str:
        here = f"{self.replicas} replicas, {self.units} units out"
        return ", ".join(filter(None, [super().__str__(), here if not self.reason else f"{here}: {self.reason}"]))


def pool_of(config: ModelConfig, plain: ApiEngine | TransformersEngine, versions: Mapping[str, str]) -> Pool:
    """Return the pool of a model: its identity, and the configuration that replicas on any node go by."""
    if isinstance(plain, ApiEngine):
        return Pool(dict(plain.identity), config)
    # As found here: the type that `auto` means on this machine, the commit that the name means today.
    found = plain.config.model_copy(update={"revision": plain.found.commit})
    if serving.kind(config) == "none":
        return Pool(dict(plain.identity), found)
    known = versions.get(version_key(config), serving.UNKNOWN)
    return Pool(serving.identity(found, plain.identity, known), found)


def version_key(config: ModelConfig) -> str:
    """Return under which name a server's version is known: its kind, and the words that start it if they are own."""
    return " ".join([serving.kind(config), *(config.replica.command or [])])
