"""When a request is asked again, and how long one attempt may take: backoff with jitter, Retry-After, time limits."""

from __future__ import annotations

import random
import time
from collections import Counter, deque
from collections.abc import Mapping
from email.message import Message
from email.utils import parsedate_to_datetime

#: Attempts at one request that may fail before it is set aside: by errors, by "too many requests", without content.
ERRORS, LIMITED, EMPTIES = 8, 30, 4
#: Waits in seconds: the first, and the longest that is not the server's own wish.
FIRST_WAIT, LONGEST_WAIT = 0.5, 30.0
#: An attempt may take so many times what 99 of 100 take, but never less than so many seconds.
SLACK, SHORTEST_LIMIT = 5.0, 5.0


def backoff(attempt: int, retry_after: float | None = None) -> float:
    """Return the seconds to wait after the `attempt`th failure (from 1), e.g. 1.5 to 2 after the third.

    Waits double and are spread, so that requests that failed together do not come back together. A server's own
    Retry-After takes the place of the first wait and is never undercut.
    """
    doubled = 2 ** (min(attempt, 20) - 1)
    if retry_after is None:
        return min(LONGEST_WAIT, FIRST_WAIT * doubled) * random.uniform(0.75, 1.0)
    return max(retry_after, min(LONGEST_WAIT, max(retry_after, 0.05) * doubled)) * random.uniform(1.0, 1.25)


def retry_after(headers: Mapping[str, str] | Message) -> float | None:
    """Return the seconds that a reply's headers ask to wait, e.g. 2.0 for `Retry-After: 2`; None if they do not."""
    for name, scale in (("retry-after-ms", 1e-3), ("Retry-After", 1.0)):
        text = headers.get(name)
        if text is None:
            continue
        try:
            return max(0.0, float(text) * scale)
        except ValueError:
            pass
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - time.time())
        except ValueError:
            pass
    return None


class Attempts:
    """How often each request of a run has failed so far, and when it is asked again: seconds, or None for never."""

    def __init__(self) -> None:
        self.errors: Counter[int] = Counter()
        self.timeouts: Counter[int] = Counter()
        self._limited: Counter[int] = Counter()
        self._empty: Counter[int] = Counter()

    def failed(self, index: int, wait: float | None, *, timed_out: bool) -> float | None:
        """Note a failure for which the server may have named a `wait`."""
        self.errors[index] += 1
        self.timeouts[index] += timed_out
        return backoff(self.errors[index], wait) if self.errors[index] < ERRORS else None

    def limited(self, index: int, wait: float | None) -> float | None:
        """Note "too many requests"."""
        self._limited[index] += 1
        return backoff(self._limited[index], wait) if self._limited[index] < LIMITED else None

    def empty(self, index: int) -> float | None:
        """Note a reply without content."""
        self._empty[index] += 1
        return backoff(1) if self._empty[index] < EMPTIES else None


class Patience:
    """How long an attempt may take: at first `longest` seconds, and once a round of replies is in, what they took.

    A hanging request so costs seconds where replies take less, and a slow model is not cut off.
    """

    def __init__(self, longest: float, enough: int) -> None:
        self.longest, self.enough = longest, enough
        self._seen: deque[float] = deque(maxlen=1000)
        self._limit, self._at = longest, 0

    def saw(self, seconds: float) -> None:
        """Note what one reply took."""
        self._seen.append(seconds)
        self._at += 1
        if self._at == self.enough or (self._at > self.enough and self._at % 50 == 0):
            typical = sorted(self._seen)[int(0.99 * (len(self._seen) - 1))]
            self._limit = max(SHORTEST_LIMIT, SLACK * typical)

    def limit(self, timeouts: int = 0) -> float:
        """Return the seconds that an attempt may take after `timeouts` of the same request; each doubles them."""
        return min(self.longest, self._limit * 2**timeouts)
