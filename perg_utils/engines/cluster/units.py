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
#: A unit that has failed so often is set aside.
TRIES = 3


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
    """A block of requests: `payload` is what a replica gets them from (`fetch`), `done` the positions answered."""

    id: str
    client: str
    size: int
    payload: Any
    carried: float = 0.0  # dollars that the model has cost already
    done: set[int] = field(default_factory=set)
    tries: int = 0
    reason: str = ""

    @property
    def left(self) -> int:
        """How many requests have no reply."""
        return self.size - len(self.done)


def size_of_next(left: int, pool: Pool, replicas: int) -> int:
    """Return the requests of the next unit, e.g. 1,000; fewer towards the end, so that all replicas end together."""
    fair = left // (2 * max(replicas, 1))
    return min(left, pool.unit, max(fair, pool.least))
