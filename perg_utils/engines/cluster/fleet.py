"""The dispatcher and the replicas as Ray actors, for processes that Ray runs in already (`connection`)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from perg_utils.core.errors import PergError
from perg_utils.engines.base import Request
from perg_utils.engines.cluster.blocks import Blocks, describe
from perg_utils.engines.cluster.dispatcher import Dispatcher
from perg_utils.engines.cluster.replica import Replica
from perg_utils.engines.cluster.serving import version_here
from perg_utils.engines.cluster.standing import Timing
from perg_utils.engines.cluster.units import Pool, Unit

#: Seconds that a call of the dispatcher may take beyond what it was asked to wait.
_CALL = 120.0


def _ray() -> Any:
    import ray  # noqa: PLC0415 - an extra, which importing this module must not need

    return ray


class RayLink:
    """A replica's calls of the dispatcher."""

    def __init__(self, dispatcher: Any) -> None:
        self._dispatcher = dispatcher

    def pull(self, name: str, wait: float) -> tuple[str, Unit | None]:
        """See `replica.Link`."""
        return _ray().get(self._dispatcher.pull.remote(name, wait), timeout=wait + _CALL)

    def report(self, name: str, unit: str, what: str, **more: Any) -> None:
        """See `replica.Link`."""
        _ray().get(self._dispatcher.report.remote(name, unit, what, **more), timeout=_CALL)

    def beat(self, name: str, progress: int) -> dict[str, bool]:
        """See `replica.Link`."""
        return _ray().get(self._dispatcher.beat.remote(name, progress), timeout=_CALL)

    def fetch(self, payload: Any) -> tuple[Sequence[str], Sequence[Request]]:
        """See `replica.Link`."""
        return _ray().get(payload[0])


class RayReplica:
    """A replica as an actor; `work` is called once."""

    def __init__(self, pool: Pool, name: str, storage: str, dispatcher: Any) -> None:
        self._made = (pool, name, storage, RayLink(dispatcher))

    def work(self) -> None:
        """See `Replica.work`."""
        Replica(*self._made).work()


class RayFleet:
    """Replicas as actors of the dispatcher, which die with it."""

    def __init__(self, storage: str) -> None:
        self.storage, self.blocks = storage, Blocks(storage)
        self._actors: dict[str, tuple[Any, Any]] = {}

    def start(self, pool: Pool, name: str) -> None:
        """See `dispatcher.Fleet`."""
        options = {"num_cpus": pool.cpus, "num_gpus": pool.config.replica.gpus, "max_restarts": 0}
        me = _ray().get_runtime_context().current_actor
        kind: Any = _ray().remote(RayReplica)
        actor = kind.options(**options).remote(pool, name, self.storage, me)
        self._actors[name] = (actor, actor.work.remote())

    async def ended(self, name: str) -> str:
        """See `dispatcher.Fleet`."""
        _, work = self._actors[name]
        errors = _ray().exceptions
        try:
            await work
            why = ""
        except errors.RayTaskError as error:
            cause = error.cause if isinstance(error.cause, BaseException) else error
            why = str(cause) if isinstance(cause, PergError) else describe(cause)
        except errors.RayActorError as error:
            why = f"its process or node died ({describe(str(error).splitlines()[0])})"
        except errors.RayError as error:
            why = describe(error)
        self.kill(name)  # the room is free at once
        self._actors.pop(name, None)
        return why

    def kill(self, name: str) -> None:
        """See `dispatcher.Fleet`."""
        if name in self._actors:
            _ray().kill(self._actors[name][0], no_restart=True)

    async def room(self) -> tuple[float, float]:
        """See `dispatcher.Fleet`."""
        found = await asyncio.to_thread(_ray().cluster_resources)
        return float(found.get("CPU", 0)), float(found.get("GPU", 0))

    def left_behind(self, pool: str, unit: str, known: set[str]) -> list[tuple[str, list[int], int]]:
        """See `dispatcher.Fleet`."""
        out = []
        for name in self.blocks.names(pool, unit):
            if name not in known:
                answers = self.blocks.read(name)
                tokens = sum(answer.reply.completion_tokens or 0 for answer in answers)
                out.append((name, [answer.position for answer in answers], tokens))
        return out


class RayDispatcher(Dispatcher):
    """The dispatcher as an actor."""

    def __init__(self, storage: str, timing: Timing) -> None:
        super().__init__(RayFleet(storage), timing)


def version_on_a_node(config: Any, timeout: float) -> str:
    """Return the version of a model's server on a node with room for a replica."""
    wants = config.replica
    task = _ray().remote(version_here).options(num_cpus=wants.cpus or 1, num_gpus=wants.gpus, max_retries=3)
    return _ray().get(task.remote(config), timeout=timeout)
