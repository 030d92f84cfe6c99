"""What a dispatcher knows of models, replicas and those who ask, and what it takes for granted: a `Fleet`, its timing.

Left out: who gets what, and when replicas start and end (`dispatcher`).
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any, Protocol

from perg_utils.engines.cluster.units import Pool, Unit


class Fleet(Protocol):
    """What starts and ends replicas."""

    def start(self, pool: Pool, name: str) -> None:
        """Start a replica, or ask for the room that it needs."""
        ...

    async def ended(self, name: str) -> str:
        """Return when the replica has ended: why, or an empty text where it was told to."""
        ...

    def kill(self, name: str) -> None:
        """End a replica at once."""
        ...

    async def room(self) -> tuple[float, float]:
        """Return the cores and GPUs of all nodes that are there."""
        ...

    def left_behind(self, pool: str, unit: str, known: set[str]) -> list[tuple[str, list[int], int]]:
        """Return the blocks of a unit that nobody has reported: name, positions, reply tokens. May take a while."""
        ...


@dataclass(frozen=True)
class Timing:
    """Seconds: between looks at everything, until silence is death, until idle replicas and lost kernels go."""

    tick: float = 1.0
    silence: float = 60.0
    idle: float = 60.0
    lost: float = 900.0
    spare: float = 10.0  # an idle replica gives its room to another model


@dataclass
class ReplicaState:
    """A replica: when it began, was last heard of and last moved, and the units that it has."""

    name: str
    pool: PoolState
    began: float
    seen: float
    moved: float
    ready: bool = False
    stopping: bool = False
    progress: int = -1
    units: dict[str, Unit] = field(default_factory=dict)
    idle_since: float | None = None


@dataclass
class PoolState:
    """A model: its units that wait, its replicas, what was counted, and why it waits or was given up."""

    pool: Pool
    queue: deque[Unit] = field(default_factory=deque)
    replicas: dict[str, ReplicaState] = field(default_factory=dict)
    waiters: deque[asyncio.Future[None]] = field(default_factory=deque)  # pulls that found no unit
    backlog: int = 0  # requests that are not in units yet
    counts: Counter[str] = field(default_factory=Counter)  # units, requests, tokens, lost replicas
    parts: dict[str, set[str]] = field(default_factory=dict)  # unit -> blocks
    fruitless: int = 0
    not_before: float = 0.0
    wants_since: float | None = None
    reason: str = ""
    fatal: str = ""
    began: float = field(default_factory=time.monotonic)
    recent: deque[tuple[float, int, int]] = field(default_factory=lambda: deque(maxlen=2000))

    def wake(self) -> None:
        """Let as many pulls look again as there are units, and no more: there may be a thousand."""
        wanted = len(self.queue)
        while self.waiters and wanted:
            waiter = self.waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                wanted -= 1

    @property
    def waiting(self) -> int:
        """Requests that no replica has."""
        return self.backlog + sum(unit.left for unit in self.queue)

    @property
    def pending(self) -> bool:
        """Whether room has been asked for and is not there yet: one replica at a time, as clouds add nodes."""
        return any(not replica.ready for replica in self.replicas.values())

    def wants(self, now: float) -> bool:
        """Whether there is more work than replicas, and another one may be started."""
        if self.fatal or now < self.not_before or not self.waiting:
            return False
        starting = sum(not replica.ready for replica in self.replicas.values())
        portions = len(self.queue) + -(-self.backlog // self.pool.unit)
        most = self.pool.most
        return portions > starting and (most is None or len(self.replicas) < most)

    def status(self, now: float) -> dict[str, Any]:
        """Return model, units, requests, tokens, replicas; everything in it is plain."""
        recent = [entry for entry in self.recent if now - entry[0] < 60]
        span = max(now - recent[0][0], 1.0) if recent else 1.0
        return {
            "model": self.pool.config.name,
            "submitted": self.counts["submitted"],
            "done": self.counts["done"],
            "aside": self.counts["aside"],
            "answered": self.counts["answered"],
            "waiting": self.waiting + sum(u.left for r in self.replicas.values() for u in r.units.values()),
            "tokens": self.counts["tokens"],
            "rate": sum(entry[1] for entry in recent) / span,
            "token_rate": sum(entry[2] for entry in recent) / span,
            "replicas": sum(replica.ready for replica in self.replicas.values()),
            "starting": sum(not replica.ready for replica in self.replicas.values()),
            "lost": self.counts["lost"],
            "reason": self.fatal or self.reason,
        }


@dataclass
class ClientState:
    """One who asks: what it has submitted, and what it has not been told yet."""

    pool: PoolState
    seen: float
    events: deque[tuple[Any, ...]] = field(default_factory=deque)
    news: asyncio.Event = field(default_factory=asyncio.Event)
    units: dict[str, Unit] = field(default_factory=dict)
    submitted: set[str] = field(default_factory=set)
    draining: bool = False
