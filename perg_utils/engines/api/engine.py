"""Models behind any OpenAI-compatible server (OpenAI, Azure, Together, vLLM, SGLang, llama.cpp, Ollama).

`dispatch` sends the requests from an event loop in a thread of its own (a notebook's main thread has one already);
what comes back is yielded here, in the caller's thread, so that the journal is written there. With `batch: true` the
requests go through OpenAI's Batch API at half the price (`batch`).

The first Ctrl-C sends nothing more and keeps what is in flight when it comes; the second ends at once.
A server's address is no part of a reply's key: the same model behind another address is the same model.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from queue import SimpleQueue

from perg_utils.core.interrupts import first_interrupt
from perg_utils.core.profile import ModelConfig
from perg_utils.engines.api import endpoints
from perg_utils.engines.api.pricing import Meter
from perg_utils.engines.base import Reply, Request

#: What comes after the requests so far (`dispatch`, which is not loaded before it is needed).
More = Callable[[], Sequence[Request] | None]


class ApiEngine:
    """The engine of one model behind one or more servers; its key is looked up at the first request."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.identity: Mapping[str, str] = {
            "kind": "api",
            "model": config.model,
            "revision": str(config.revision),
            "thinking": str(config.thinking),
            "extra_body": json.dumps(config.extra_body, sort_keys=True),
        }
        self.usage = Meter(config)  # tokens and cost so far
        self._folds = self._warned = False
        self._drain: Callable[[], str] | None = None

    def check(self) -> str:
        """Return the key; raises `EngineError` for a missing one. Warns once where texts would travel unencrypted."""
        self.usage.check()
        for url in endpoints.urls(self.config):
            if endpoints.is_plain(url) and not self._warned:
                print(f"warning: {url} is not encrypted: key and texts can be read on the way", file=sys.stderr)
        self._warned = True
        return endpoints.find_key(self.config)

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Yield (position, reply) as replies arrive. Raises `EngineError` when going on makes no sense."""
        key = self.check()
        if self.config.batch:
            from perg_utils.engines.api.batch import BatchRun  # noqa: PLC0415 - rarely needed

            yield from BatchRun(self.config, self.identity, key, requests, self.usage).replies()
        else:
            order = self.in_order(requests)
            for place, reply in self._dispatched(key, [requests[index] for index in order]):
                yield order[place], reply

    def stream(self, first: Sequence[Request], more: More) -> Iterator[tuple[int, Reply]]:
        """Yield (index, reply) for `first` and for all that `more` brings until it brings None; indices go on.

        What `more` returns is sent in its order. It is called from another thread, often, and must return at once.
        """
        yield from self._dispatched(self.check(), first, more)

    def drain(self) -> None:
        """Send nothing more; what is in flight still comes. May be called from any thread."""
        if self._drain is not None:
            self._drain()

    @staticmethod
    def in_order(requests: Sequence[Request]) -> list[int]:
        """Return the positions of the requests in the order in which a server is best asked."""
        # The arms of a question begin alike; one after the other, a server that keeps beginnings reads them once.
        return sorted(range(len(requests)), key=lambda index: requests[index].messages)

    def _dispatched(
        self, key: str, requests: Sequence[Request], more: More | None = None
    ) -> Iterator[tuple[int, Reply]]:
        from perg_utils.engines.api.dispatch import Dispatch  # noqa: PLC0415 - aiohttp

        arrived: SimpleQueue[tuple[int, Reply, Callable[[], None]] | None] = SimpleQueue()
        run = Dispatch(self.config, key, requests, self.usage, lambda *reply: arrived.put(reply), more=more)
        run.folds = self._folds
        loop = run.loop

        def work() -> None:
            try:
                loop.run_until_complete(run.run())
            except BaseException as error:  # whatever it is, the caller's thread must hear of it
                run.stopped = error if isinstance(error, Exception) else RuntimeError(repr(error))
            finally:
                arrived.put(None)

        def tell(what: Callable[[], None]) -> None:
            if not loop.is_closed() and thread.is_alive():
                loop.call_soon_threadsafe(what)

        def drain() -> str:
            tell(run.drain)
            return f"waiting for {run.in_flight()} requests in flight"

        thread = threading.Thread(target=work, name="perg-api", daemon=True)
        self._drain = drain
        with first_interrupt(drain) as interrupted:
            thread.start()
            try:
                while (item := arrived.get()) is not None:
                    index, reply, release = item
                    yield index, reply
                    tell(release)
            finally:
                tell(run.end)
                thread.join()
                loop.close()
                self._folds, self._drain = run.folds, None
        if interrupted.is_set():
            raise KeyboardInterrupt
        if run.stopped is not None:
            raise run.stopped
