"""Sending many requests at once to the servers of one model, on an event loop, until each has its reply.

A request that fails is put aside and asked again later, by whichever server has room, while others take its place.
A slot is free again only when its reply has been taken (that is, journalled), so that a killed process loses at most
what was in flight. Connections are kept open and used again.

Plain aiohttp, because it costs a quarter of the CPU time of the openai client (`tests/bench/api_throughput.py`).
"""

from __future__ import annotations

import asyncio
import heapq
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp

from perg_utils.core.profile import ModelConfig
from perg_utils.core.schema import Status
from perg_utils.engines.api.completions import Trouble, body, read
from perg_utils.engines.api.endpoints import Endpoint, headers, is_loopback, urls, without_key
from perg_utils.engines.api.health import DEAD_AFTER, Health
from perg_utils.engines.api.pricing import Meter
from perg_utils.engines.api.retries import Attempts, Patience, retry_after
from perg_utils.engines.base import EngineError, Reply, Request

#: How long a run that ends waits for what is in flight, which is paid for.
DRAIN_SECONDS = 30.0
TICK = 0.05
CONNECT_SECONDS = 15.0

Deliver = Callable[[int, Reply, Callable[[], None]], None]
#: What comes after the requests so far: more of them, none yet, or None where no more will come.
More = Callable[[], Sequence[Request] | None]


@dataclass(eq=False)
class _Flight:
    """One attempt at a request."""

    index: int
    endpoint: Endpoint
    start: float
    bound: float
    folded: bool
    timed_out: bool = False
    task: asyncio.Task[None] | None = None


class Dispatch:
    """One run over `requests`; `deliver(index, reply, release)` gets each reply and calls `release` when it is kept.

    Where there is `more`, it is asked for whenever all that is known has been sent, so that no slot waits for the end
    of a portion; indices go on from those before.
    """

    def __init__(
        self,
        config: ModelConfig,
        key: str,
        requests: Sequence[Request],
        meter: Meter,
        deliver: Deliver,
        *,
        more: More | None = None,
    ) -> None:
        self.config, self.meter, self.deliver = config, meter, deliver
        self.requests = dict(enumerate(requests))  # those that are not taken yet
        self.folds = False  # whether the server has said that it takes no system turn
        self.stopped: Exception | None = None
        self.loop = asyncio.new_event_loop()
        self._over = asyncio.Event()
        self._key = key
        self._endpoints = [Endpoint(url, config.concurrency) for url in urls(config)]
        slots = config.concurrency * len(self._endpoints)
        self._patience = Patience(config.timeout, min(max(20, slots), max(1, round(0.8 * len(requests)))))
        self._more, self._known, self._sent = more, len(requests), 0
        self._later: list[tuple[float, int]] = []  # (not before, index)
        self._open = self._waiting = len(requests)  # not yet taken, not yet delivered
        self._health = Health(config, self._endpoints, len(requests) if more is None else DEAD_AFTER)
        self._attempts = Attempts()
        self._flights: set[_Flight] = set()
        self._drain_until: float | None = None
        self._sessions: dict[str, aiohttp.ClientSession] = {}

    async def run(self) -> None:
        """Return when every request has its reply or the run must end; the reason is then in `stopped`."""
        try:
            for endpoint in self._endpoints:
                self._sessions[endpoint.url] = self._session(endpoint.url)
            self._pump()
            while not self._over.is_set():
                try:
                    await asyncio.wait_for(self._over.wait(), TICK)
                except TimeoutError:
                    self._tick()
        finally:
            tasks = [flight.task for flight in self._flights if flight.task]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            for session in self._sessions.values():
                await session.close()

    def drain(self) -> None:
        """Send nothing more and end when what is in flight has come."""
        if self._drain_until is None:
            self._drain_until = self.loop.time() + DRAIN_SECONDS
        self._pump()

    def end(self) -> None:
        """End at once."""
        self._over.set()

    def in_flight(self) -> int:
        """Return how many requests are with the servers."""
        return len(self._flights)

    def _session(self, url: str) -> aiohttp.ClientSession:
        # A proxy of the environment must not get between this process and a server on the same machine.
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            headers=headers(url, self._key) | {"Content-Type": "application/json"},
            trust_env=not is_loopback(url),
        )

    # sending

    def _pump(self) -> None:
        """Send as much as the servers' limits and the budget allow."""
        if self._drain_until is not None or self._over.is_set():
            self._finish()
            return
        now = self.loop.time()
        while (endpoint := self._roomiest(now)) is not None:
            index = self._next(now)
            if index is None:
                break
            bound = self.meter.bound(self.requests[index])
            if not self.meter.reserve(bound):
                heapq.heappush(self._later, (now, index))
                if not self._flights:
                    self._stop(self.meter.exhausted(self._waiting))
                break
            flight = _Flight(index, endpoint, now, bound, self.folds)
            self._flights.add(flight)
            endpoint.in_flight += 1
            flight.task = self.loop.create_task(self._attempt(flight))
        self._finish()

    def _roomiest(self, now: float) -> Endpoint | None:
        best = max(self._endpoints, key=lambda endpoint: endpoint.room(now))
        return best if best.room(now) > 0 else None

    def _next(self, now: float) -> int | None:
        """The request to be sent next: one to be tried again, or a new one; None while there is neither."""
        due = bool(self._later) and self._later[0][0] <= now
        # Probing a dead server with the same few would use up their attempts, and tell less.
        if not due or all(endpoint.is_probed for endpoint in self._endpoints):
            fresh = self._fresh()
            if fresh is not None or not due:
                return fresh
        return heapq.heappop(self._later)[1]

    def _fresh(self) -> int | None:
        """The next request that was never sent; None where there is none (yet)."""
        if self._sent == self._known and self._more is not None:
            found = self._more()
            if found is None:
                self._more = None
            else:
                self.requests.update(enumerate(found, self._known))
                self._known += len(found)
                self._open += len(found)
                self._waiting += len(found)
        if self._sent == self._known:
            return None
        self._sent += 1
        return self._sent - 1

    def _finish(self) -> None:
        if (self._open == 0 and self._more is None) or (self._drain_until is not None and not self._flights):
            self._over.set()

    async def _attempt(self, flight: _Flight) -> None:
        request, endpoint = self.requests[flight.index], flight.endpoint
        wait = None
        try:
            sent = json.dumps(body(self.config, request, endpoint.url, folds=flight.folded))
            # A redirect could carry the key to another host.
            async with self._sessions[endpoint.url].post(
                f"{endpoint.url}/chat/completions", data=sent, allow_redirects=False
            ) as answer:
                data = await answer.read()
                wait = retry_after(answer.headers) if answer.status != 200 else None
            seconds = self.loop.time() - flight.start
            found = read(answer.status, without_key(data, self._key), seconds, folded=flight.folded)
            billed = answer.status == 200
        except (aiohttp.ClientError, OSError) as error:
            found = Trouble("failed", without_key(f"{type(error).__name__}: {error}".encode(), self._key).decode())
            billed = not isinstance(error, aiohttp.ClientConnectorError)  # what never arrived costs nothing
        except asyncio.CancelledError:
            if not flight.timed_out:
                raise
            seconds = self.loop.time() - flight.start
            found, billed = Trouble("failed", f"no answer within {seconds:.0f} s"), True
        except Exception as error:  # a mistake of ours must end the run, not hang it
            self._flights.discard(flight)
            endpoint.in_flight -= 1
            self.stopped = error
            self._over.set()
            return
        self._flights.discard(flight)
        self.meter.settle(flight.bound, found if isinstance(found, Reply) else None, billed=billed)
        if isinstance(found, Reply):
            self._replied(flight, found)
        else:
            self._troubled(flight, found, wait)
        self._pump()

    # what became of an attempt

    def _replied(self, flight: _Flight, reply: Reply) -> None:
        now, index = self.loop.time(), flight.index
        flight.endpoint.answered(now)
        self._health.answered()
        self._patience.saw(now - flight.start)
        if reply.status == Status.EMPTY and not reply.is_final:  # may be a hiccup
            wait = self._attempts.empty(index)
            if wait is not None:
                self._again(flight, wait)
                return
        self._give(flight, reply)
        self._stop(self._health.replied(reply))

    def _troubled(self, flight: _Flight, trouble: Trouble, wait: float | None) -> None:
        now, index = self.loop.time(), flight.index
        if trouble.kind == "setup":
            flight.endpoint.in_flight -= 1
            self._stop(self._health.faulty(trouble.reason))
        elif trouble.kind == "system":
            self.folds = True
            self._again(flight, 0.0)
        elif trouble.kind == "limited":
            flight.endpoint.limited(now, wait)
            self._health.limited(now, trouble.reason)
            self._again_or_give_up(flight, self._attempts.limited(index, wait))
        else:
            self._health.failed(index, trouble.reason)
            flight.endpoint.failed(now)
            self._again_or_give_up(flight, self._attempts.failed(index, wait, timed_out=flight.timed_out))

    def _again_or_give_up(self, flight: _Flight, wait: float | None) -> None:
        if wait is not None:
            self._again(flight, wait)
        elif verdict := self._health.given_up():
            flight.endpoint.in_flight -= 1
            self._stop(verdict)
        else:
            error = f"tried again and again, last: {self._health.last}"
            self._give(flight, Reply(None, Status.API_ERROR, error=error))

    def _again(self, flight: _Flight, wait: float) -> None:
        flight.endpoint.in_flight -= 1
        heapq.heappush(self._later, (self.loop.time() + wait, flight.index))

    def _give(self, flight: _Flight, reply: Reply) -> None:
        def release() -> None:
            flight.endpoint.in_flight -= 1
            self._open -= 1
            self.requests.pop(flight.index, None)
            self._pump()

        self._waiting -= 1
        self.deliver(flight.index, reply, release)

    # time, and the end

    def _tick(self) -> None:
        now = self.loop.time()
        for flight in self._flights:
            limit = self._patience.limit(self._attempts.timeouts[flight.index])
            if flight.task and not flight.timed_out and now - flight.start > limit:
                flight.timed_out = True
                flight.task.cancel()
        self._stop(self._health.verdict(now))
        if self._drain_until is not None and now > self._drain_until:
            self._over.set()
        self._pump()

    def _stop(self, error: EngineError | None) -> None:
        """End the run for this reason, if there is one, when what is in flight has come."""
        if error is None:
            return
        self.stopped = self.stopped or error
        self.drain()
