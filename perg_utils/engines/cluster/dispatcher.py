"""The queue of units and the replicas that work on it: who gets what, who is dead, when there are more or fewer.

One dispatcher serves a run: kernels submit units and take what becomes of them (`events`), replicas pull units and
report. It holds no texts: requests and replies pass it by. A unit of a replica that died, or gave no sign of progress,
goes to another one, less what is in blocks already; one that has failed `TRIES` times without getting any further is
asked in pieces, smaller and smaller, until what fails by itself is known and set aside. Replicas are as many as there
is work and room for, those without work end.

Knows nothing of Ray: what starts and ends replicas is a `Fleet`, so that tests and benchmarks can stand one in.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from contextlib import suppress
from typing import Any

from perg_utils.engines.cluster.standing import ClientState, Fleet, PoolState, ReplicaState, Timing
from perg_utils.engines.cluster.units import TRIES, Pool, Unit

#: So many replicas in a row that end without a reply, not for a unit that had failed before: the model is given up.
FRUITLESS = 3


class Dispatcher:
    """See the module. All methods run in one event loop; none waits for long but `pull` and `events`, as asked."""

    def __init__(self, fleet: Fleet, timing: Timing | None = None) -> None:
        self.fleet, self.timing = fleet, timing or Timing()
        self.pools: dict[str, PoolState] = {}
        self.clients: dict[str, ClientState] = {}
        self.replicas: dict[str, ReplicaState] = {}
        self._names = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._looking: asyncio.Task[None] | None = None

    # for those who ask

    async def open(self, client: str, pool: Pool) -> list[str]:
        """Announce a client that will submit units for a pool; returns the units of the pool's other clients."""
        if self._looking is None:
            self._looking = self._spawn(self._look())
        held = self.pools.setdefault(pool.id, PoolState(pool))
        if not any(other.pool is held for other in self.clients.values()):
            # What ended an earlier client may be mended by now.
            held.pool, held.fatal, held.fruitless, held.not_before, held.wants_since = pool, "", 0, 0.0, None
        others = [other for other in self.clients.values() if other.pool is held]
        self.clients[client] = ClientState(held, time.monotonic())
        return [unit for other in others for unit in other.submitted]

    async def submit(self, units: list[Unit], backlog: int) -> None:
        """Put units of one client into the queue; `backlog` is how many more requests will come."""
        if not units:
            return
        client = self.clients[units[0].client]
        pool = client.pool
        pool.backlog = backlog
        for unit in units:
            client.units[unit.id] = unit
            client.submitted.add(unit.id)
            pool.counts["submitted"] += 1
            if pool.fatal:
                self._tell(unit.client, "fatal", pool.fatal)
            else:
                pool.queue.append(unit)
        pool.wake()

    async def events(self, client: str, wait: float) -> tuple[list[tuple[Any, ...]], int, str]:
        """Return what has become of a client's units, when there is anything or after `wait` seconds; and its state.

        `part` (unit, block's name, its bytes where it could not be written, positions), `done` and `returned` (unit),
        `aside` (unit, reason), `fatal` (reason). The state: how many replicas are ready, and what they are waiting for.
        """
        told = self.clients[client]
        told.seen = time.monotonic()
        if not told.events:
            told.news.clear()
            with suppress(TimeoutError):
                await asyncio.wait_for(told.news.wait(), wait)
        told.seen = time.monotonic()
        found = list(told.events)
        told.events.clear()
        ready = sum(replica.ready for replica in told.pool.replicas.values())
        return found, ready, "" if ready else told.pool.reason

    async def drain(self, client: str) -> int:
        """Give out no more of a client's units and end those under way in good order; returns how many are."""
        told = self.clients[client]
        told.draining = True
        pool = told.pool
        pool.backlog = 0
        for unit in [unit for unit in pool.queue if unit.client == client]:
            pool.queue.remove(unit)
            self._finish(pool, unit, "returned")
        return sum(replica.name is not None for replica in pool.replicas.values() if replica.units)

    async def leave(self, client: str) -> None:
        """Forget a client and its units."""
        told = self.clients.pop(client, None)
        if told is None:
            return
        told.pool.backlog = 0
        mine = [unit for unit in told.pool.queue if unit.client == client]
        for unit in mine:
            told.pool.queue.remove(unit)
        for unit_id in told.units:
            told.pool.parts.pop(unit_id, None)

    # for replicas

    async def pull(self, name: str, wait: float) -> tuple[str, Unit | None]:
        """Return ("unit", one to be done), ("none", None) where none came in `wait` seconds, or ("stop", None)."""
        replica = self.replicas.get(name)
        if replica is None or replica.stopping:
            return "stop", None
        now = time.monotonic()
        if not replica.ready:
            replica.ready, replica.moved = True, now
        replica.seen = now
        pool, until = replica.pool, now + wait
        while True:
            unit = self._next(replica)
            if unit is not None:
                replica.units[unit.id] = unit
                replica.idle_since = None
                replica.moved = time.monotonic()
                return "unit", unit
            left = until - time.monotonic()
            if left <= 0 or replica.stopping:
                return ("stop" if replica.stopping else "none"), None
            waiter = asyncio.get_running_loop().create_future()
            pool.waiters.append(waiter)
            with suppress(TimeoutError):
                await asyncio.wait_for(waiter, left)
            replica.seen = time.monotonic()

    async def report(
        self,
        name: str,
        unit_id: str,
        what: str,
        *,
        block: str | None = None,
        data: bytes | None = None,
        positions: list[int] | None = None,
        tokens: int = 0,
        reason: str = "",
    ) -> None:
        """Take what a replica has done: `part` of a unit is in a block, it is `done`, `failed`, `returned`, `fatal`."""
        replica = self.replicas.get(name)
        if replica is None or unit_id not in replica.units:
            return  # taken for dead, and its units are with others
        replica.seen = replica.moved = time.monotonic()
        pool, unit = replica.pool, replica.units[unit_id]
        if what == "part":
            self._part(pool, unit, positions or [], tokens, block=block, data=data)
        elif what == "fatal":
            self._give_up(pool, reason)
        else:
            del replica.units[unit_id]
            if what == "failed":
                await self._again(pool, unit, reason)
            elif what == "returned" and unit.client in self.clients and not self.clients[unit.client].draining:
                self._queue(pool, unit)  # its replica ended for another client's sake
            elif what == "done" and unit.pieces:
                unit.pieces.pop(0)
                self._go_on(pool, unit)
            else:
                self._finish(pool, unit, what)

    async def beat(self, name: str, progress: int) -> dict[str, bool]:
        """Take a sign of life with a count that grows while anything moves; returns what the replica is to do."""
        replica = self.replicas.get(name)
        if replica is None:
            return {"stop": True, "drain": False}
        now = time.monotonic()
        replica.seen = now
        if progress != replica.progress:
            replica.progress, replica.moved = progress, now
        draining = any(
            unit.client in self.clients and self.clients[unit.client].draining for unit in replica.units.values()
        )
        return {"stop": replica.stopping and not replica.units, "drain": draining}

    # for the driver

    async def status(self) -> list[dict[str, Any]]:
        """Return how each pool stands: model, units, requests, tokens, replicas; everything in it is plain."""
        now = time.monotonic()
        return [pool.status(now) for pool in self.pools.values()]

    async def close(self) -> None:
        """End all replicas."""
        if self._looking is not None:
            self._looking.cancel()
        for name in list(self.replicas):
            self.fleet.kill(name)

    # units

    def _next(self, replica: ReplicaState) -> Unit | None:
        """The next unit for a replica. One that has failed before runs alone, so that it takes no other along."""
        pool, held = replica.pool, list(replica.units.values())
        if any(unit.suspect for unit in held):
            return None
        for unit in pool.queue:
            if not (held and unit.suspect):
                pool.queue.remove(unit)
                return unit
        return None

    def _part(
        self,
        pool: PoolState,
        unit: Unit,
        positions: list[int],
        tokens: int,
        *,
        block: str | None,
        data: bytes | None = None,
    ) -> None:
        new = len(set(positions) - unit.done)
        unit.done.update(positions)
        if new:
            unit.tries = 0
            pool.fruitless, pool.reason = 0, ""
        if block is not None:
            pool.parts.setdefault(unit.id, set()).add(block)
        pool.counts["answered"] += new
        pool.counts["tokens"] += tokens
        pool.recent.append((time.monotonic(), new, tokens))
        self._tell(unit.client, "part", unit.id, block, data)

    def _finish(self, pool: PoolState, unit: Unit, what: str, *more: Any) -> None:
        pool.counts[what] += 1
        pool.parts.pop(unit.id, None)
        client = self.clients.get(unit.client)
        if client is not None:
            client.units.pop(unit.id, None)
        self._tell(unit.client, what, unit.id, *more)

    async def _again(self, pool: PoolState, unit: Unit, reason: str) -> None:
        """Queue a unit that failed once more, at the end; what is in blocks is not asked again.

        What has failed too often is narrowed down, unless the model has never answered anything.
        """
        known = pool.parts.get(unit.id, set())
        try:
            found = await asyncio.to_thread(self.fleet.left_behind, pool.pool.id, unit.id, set(known))
        except Exception as error:  # the storage is out of reach: what is there is found by the next run
            found, reason = [], f"{reason}; {error}"
        for block, positions, tokens in found:
            self._part(pool, unit, positions, tokens, block=block)
        client = self.clients.get(unit.client)
        unit.tries += 1
        unit.reason = reason
        if client is None:
            pool.parts.pop(unit.id, None)
        elif not unit.left:
            self._go_on(pool, unit)
        elif client.draining:
            self._finish(pool, unit, "returned")
        elif unit.pieces or (unit.tries >= TRIES and pool.counts["answered"]):
            unit.narrow()
            self._go_on(pool, unit)
        elif unit.tries >= TRIES:
            self._finish(pool, unit, "aside", reason)
        else:
            self._queue(pool, unit)

    def _go_on(self, pool: PoolState, unit: Unit) -> None:
        """Queue what is left of a unit, or end it."""
        if unit.left:
            self._queue(pool, unit)
        elif unit.hopeless:
            self._finish(pool, unit, "aside", unit.reason)
        else:
            self._finish(pool, unit, "done")

    def _queue(self, pool: PoolState, unit: Unit) -> None:
        pool.queue.append(unit)
        pool.wake()

    def _give_up(self, pool: PoolState, reason: str) -> None:
        """Tell all who wait for a pool that it makes no sense to go on."""
        pool.fatal = reason
        pool.queue.clear()
        for name, client in self.clients.items():
            if client.pool is pool:
                self._tell(name, "fatal", reason)

    def _tell(self, name: str, *event: Any) -> None:
        client = self.clients.get(name)
        if client is not None:
            client.events.append(event)
            client.news.set()

    # replicas

    def _spawn(self, work: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def _look(self) -> None:
        """Look at everything, every `tick` seconds."""
        while True:
            try:
                self._kill_the_silent()
                self._drop_lost_clients()
                await self._scale()
            except Exception as error:  # Ray out of reach for a moment
                for pool in self.pools.values():
                    pool.reason = f"{type(error).__name__}: {error}"[:300]
            await asyncio.sleep(self.timing.tick)

    def _kill_the_silent(self) -> None:
        now = time.monotonic()
        for replica in list(self.replicas.values()):
            wants = replica.pool.pool.config.replica
            if not replica.ready and now - replica.began > wants.startup:
                self._kill(replica, f"was not ready within {wants.startup:.0f} s")
            elif replica.ready and now - replica.seen > self.timing.silence:
                self._kill(replica, f"gave no sign of life for {self.timing.silence:.0f} s")
            elif replica.ready and replica.units and now - replica.moved > wants.patience:
                self._kill(replica, f"made no progress for {wants.patience:.0f} s")

    def _kill(self, replica: ReplicaState, why: str) -> None:
        replica.pool.reason = f"a replica of {replica.pool.pool.config.name} {why}"
        replica.stopping = True
        self.fleet.kill(replica.name)

    def _drop_lost_clients(self) -> None:
        now = time.monotonic()
        for name, client in list(self.clients.items()):
            if now - client.seen > self.timing.lost:
                self._spawn(self.leave(name))

    async def _scale(self) -> None:
        """Start and end replicas by the work that waits and the room that there is."""
        cpus, gpus = await self.fleet.room()
        now = time.monotonic()
        for replica in self.replicas.values():
            idle = replica.ready and not replica.units
            replica.idle_since = (replica.idle_since or now) if idle else None
        for pool in self.pools.values():
            waits = pool.wants(now) and not pool.replicas
            pool.wants_since = (pool.wants_since or now) if waits else None
        # Who has none comes first, and of these who has waited longest.
        wanting = sorted(
            (pool for pool in self.pools.values() if pool.wants(now)),
            key=lambda pool: (len(pool.replicas), pool.wants_since or now),
        )
        starting = True
        while starting:  # in turn, as long as there is room
            starting = False
            for pool in wanting:
                if pool.wants(now) and self._fits(pool.pool, cpus, gpus):
                    self._start(pool, now)
                    starting = True
        for pool in wanting:
            if pool.wants(now):
                self._without_room(pool, now, cpus, gpus)
        for replica in self.replicas.values():
            since = replica.idle_since
            if since is not None and now - since > self.timing.idle and not replica.pool.waiting:
                replica.stopping = True

    def _without_room(self, pool: PoolState, now: float, cpus: float, gpus: float) -> None:
        """Ask for room where a cluster may grow, else have others make some, or give up what can never fit."""
        wants = pool.pool.config.replica
        if wants.most and not pool.pending:
            self._start(pool, now)  # Ray's autoscaler sees it wait, and may add a node
            return
        self._make_room(pool, now)
        if pool.replicas or (pool.pool.cpus <= cpus and wants.gpus <= gpus):
            return
        pool.reason = (
            f"a replica of {pool.pool.config.name} takes {pool.pool.cpus:g} cores and {wants.gpus} GPUs, the cluster "
            f"has {cpus:g} and {gpus:g}"
        )
        if now - (pool.wants_since or now) > wants.startup:
            self._give_up(pool, pool.reason)

    def _used(self) -> tuple[float, float]:
        pools = [replica.pool.pool for replica in self.replicas.values()]
        return sum(pool.cpus for pool in pools), sum(pool.config.replica.gpus for pool in pools)

    def _fits(self, pool: Pool, cpus: float, gpus: float) -> bool:
        used = self._used()
        return used[0] + pool.cpus <= cpus + 1e-9 and used[1] + pool.config.replica.gpus <= gpus

    def _make_room(self, pool: PoolState, now: float) -> None:
        """Let a replica end whose room a pool without any needs more: an idle one, or one of many."""
        if pool.replicas or any(replica.stopping for replica in self.replicas.values()):
            return
        spare = now - self.timing.spare  # not at once: a model is idle for a moment between two methods
        idle = [r for r in self.replicas.values() if (r.idle_since or now) < spare and not r.pool.waiting]
        many = [r for r in self.replicas.values() if len(r.pool.replicas) > 1 and r.ready]
        many.sort(key=lambda r: -len(r.pool.replicas))
        for replica in (idle or many)[:1]:
            replica.stopping = True

    def _start(self, pool: PoolState, now: float) -> None:
        self._names += 1
        name = f"{pool.pool.config.name}-{self._names}"
        replica = ReplicaState(name, pool, now, now, now)
        self.replicas[name] = pool.replicas[name] = replica
        self.fleet.start(pool.pool, name)
        self._spawn(self._attend(replica))

    async def _attend(self, replica: ReplicaState) -> None:
        """Wait for a replica's end and give its units to others."""
        why = await self.fleet.ended(replica.name)
        pool = replica.pool
        pool.replicas.pop(replica.name, None)
        self.replicas.pop(replica.name, None)
        units = list(replica.units.values())
        if why:
            pool.counts["lost"] += 1
            # A unit that has failed before runs alone, and then it is the unit that is to blame, not the model.
            pool.fruitless += not any(unit.suspect for unit in units)
            pool.not_before = time.monotonic() + min(60.0, 0.5 * 2**pool.fruitless)
            pool.reason = why
        for unit in units:
            await self._again(pool, unit, why or "its replica ended")
        if pool.fruitless >= FRUITLESS and not any(r.ready for r in pool.replicas.values()):
            self._give_up(pool, why)
