"""Units: what a replica is given at a time, and the model that it needs for that (a pool of replicas)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from perg_utils.core.profile import ModelConfig
from perg_utils.core.workspace import digest

#: Requests of a unit at most, where the profile does not say, and what the last ones of many are cut down to.
SERVED, IN_PROCESS, LEAST = 1000, 128, 16
#: Units that each replica finds waiting, at least.
AHEAD = 3
#: A unit that has failed so often without getting any further is asked in pieces, of which so many may fail.
TRIES, FAILED_PIECES = 3, 24
#: A piece that fails is cut into so many.
CUT = 8


@dataclass(frozen=True)
class Pool:
    """The replicas of one model: `identity` shapes its replies, `config` says how a replica runs."""

    identity: Mapping[str, str]
    config: ModelConfig

    @property
    def id(self) -> str:
        """The hash of the identity."""
        return digest(dict(self.identity))

    @property
    def served(self) -> bool:
        """Whether replicas ask a server, their own or another's."""
        return self.config.engine == "api" or self.identity["kind"] == "served"

    @property
    def most(self) -> int | None:
        """Replicas at most; None: as many as there is room for. A hosted model has limits that hold for all of them."""
        return self.config.replica.most or (1 if self.config.engine == "api" else None)

    @property
    def cpus(self) -> float:
        """Cores of a replica."""
        return self.config.replica.cpus or (0.1 if self.config.engine == "api" else 1.0)

    @property
    def least(self) -> int:
        """Requests of the last units: a server's slots must not stay empty."""
        return self.config.concurrency if self.served else LEAST

    @property
    def unit(self) -> int:
        """Requests of a unit at most."""
        return self.config.replica.unit or (SERVED if self.served else IN_PROCESS)


@dataclass
class Unit:
    """A block of requests: `payload` is what a replica gets them from (`fetch`), `done` the positions answered.

    Of one that failed again and again `pieces` are positions asked by themselves, the first one next, so that one
    request takes few others along; `hopeless` are those whose piece failed and was not cut any further.
    """

    id: str
    client: str
    size: int
    payload: Any
    carried: float = 0.0  # dollars that the model has cost already
    done: set[int] = field(default_factory=set)
    tries: int = 0
    reason: str = ""
    pieces: list[list[int]] = field(default_factory=list)
    hopeless: set[int] = field(default_factory=set)
    failed_pieces: int = 0

    @property
    def left(self) -> int:
        """How many requests have no reply and may get one."""
        return self.size - len(self.done) - len(self.hopeless)

    @property
    def todo(self) -> list[int]:
        """The positions to be asked now."""
        own = self.pieces[0] if self.pieces else range(self.size)
        return [position for position in own if position not in self.done]

    @property
    def suspect(self) -> bool:
        """Whether it has failed before, and may take others along."""
        return bool(self.tries or self.pieces)

    def narrow(self) -> None:
        """After a failure of what was asked: cut it into pieces, or give it up where it is one request.

        >>> unit = Unit("u", "c", 20, None, done={4})
        >>> unit.narrow(); unit.pieces[0], len(unit.pieces)
        ([0, 1, 2], 7)
        >>> unit.narrow(); unit.pieces[:4], unit.hopeless
        ([[0], [1], [2], [3, 5, 6]], set())
        >>> unit.narrow(); unit.todo, unit.hopeless
        ([1], {0})
        """
        failed, rest = self.todo, self.pieces[1:]
        self.failed_pieces += bool(self.pieces)
        if len(failed) > 1 and self.failed_pieces < FAILED_PIECES:
            size = -(-len(failed) // CUT)
            self.pieces = [failed[at : at + size] for at in range(0, len(failed), size)] + rest
            return
        self.hopeless.update(failed)
        if self.failed_pieces >= FAILED_PIECES:
            self.hopeless.update(set(range(self.size)) - self.done)
        self.pieces = rest


def size_of_next(left: int, pool: Pool, replicas: int) -> int:
    """Return the requests of the next unit, e.g. 1,000; fewer towards the end, so that all replicas end together."""
    fair = left // (2 * max(replicas, 1))
    return min(left, pool.unit, max(fair, pool.least))
