"""Whether a run makes sense any more: a server that is dead, one that only says "too many", one that refuses all."""

from __future__ import annotations

from collections.abc import Sequence

from perg_utils.core.profile import ModelConfig
from perg_utils.engines.api.completions import is_refusal
from perg_utils.engines.api.endpoints import Endpoint, faulty
from perg_utils.engines.base import EngineError, Reply

#: So many different requests failed since the last answer (or all, if fewer) for so many seconds: the server is dead.
#: So many refusals and no reply yet: the settings are at fault.
DEAD_AFTER, DEAD_SECONDS = 16, 60.0
#: Nothing but "too many requests" for so long ends the run too.
LIMITED_SECONDS = 900.0


class Health:
    """What the answers so far say of a model's servers; each verdict is the error that ends the run, or None."""

    def __init__(self, config: ModelConfig, endpoints: Sequence[Endpoint], total: int) -> None:
        self.config, self.endpoints = config, endpoints
        self.last = ""  # what the last trouble said
        self._enough = min(DEAD_AFTER, total)
        self._failing: set[int] = set()  # requests, since the last answer of any server
        self._limited_since: float | None = None
        self._refused = self._replies = 0

    def answered(self) -> None:
        """Note an answer of any kind but failure."""
        self._failing.clear()
        self._limited_since = None

    def replied(self, reply: Reply) -> EngineError | None:
        """Note a final reply; a verdict where all that was asked at first is refused."""
        self._replies += not is_refusal(reply)
        self._refused += is_refusal(reply)
        return None if self._replies or self._refused < self._enough else self.faulty(str(reply.error))

    def limited(self, now: float, reason: str) -> None:
        """Note "too many requests"."""
        self.last = reason[:300]
        self._limited_since = now if self._limited_since is None else self._limited_since

    def failed(self, index: int, reason: str) -> None:
        """Note a failure at a request."""
        self.last = reason[:300]
        self._failing.add(index)

    def given_up(self) -> EngineError | None:
        """Return the verdict when a request has failed for good: nothing has ever been answered."""
        return self._dead() if not self._replies and len(self._failing) >= self._enough else None

    def verdict(self, now: float) -> EngineError | None:
        """Return the verdict as of now."""
        since = [endpoint.failing_since for endpoint in self.endpoints]
        if all(start is not None and now - start > DEAD_SECONDS for start in since):
            return self._dead() if len(self._failing) >= self._enough else None
        if self._limited_since is not None and now - self._limited_since > LIMITED_SECONDS:
            return self._ended(f"had nothing but 'too many requests' to say for {LIMITED_SECONDS:.0f} s")
        return None

    def faulty(self, reason: str) -> EngineError:
        """Return the error that says that every request is refused."""
        return faulty(self._where(), self.config, reason)

    def _dead(self) -> EngineError:
        return self._ended(f"did not answer any of the last {len(self._failing)} requests")

    def _ended(self, what: str) -> EngineError:
        return EngineError(
            f"the server at {self._where()} {what} (last: {self.last}). All replies so far are kept; see that "
            "the server is up and run the same command again"
        )

    def _where(self) -> str:
        return ", ".join(endpoint.url for endpoint in self.endpoints)
