"""Progress of a long step as plain lines: rows done, rate, remaining time. Plain, so that logs stay readable."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from typing import Self

#: What such a line looks like: a terminal shows these and leaves what else a notebook prints to the notebook.
LINE = re.compile(
    r": [\d,]+/[\d,]+ \w+(?:, [\d,.]+/s, [\d:?]+ left| in [\d:]+)"
    r"(?:, [\d.]+[kM]?\+[\d.]+[kM]? tokens)?(?:, [\d,.]+ USD)?$"
)


class Progress:
    """Print `label: 1,200/5,400 rows, 310/s, 0:13 left` at most every `every` seconds, and once at the end.

    `note` gives what is to stand behind it, e.g. `1.2M+310.4k tokens, 0.37 USD`; nothing if it is empty.
    """

    def __init__(
        self, label: str, total: int, *, unit: str = "rows", every: float = 5.0, note: Callable[[], str] = str
    ) -> None:
        self.label, self.total, self.unit, self.every, self.note = label, total, unit, every, note
        self.done = 0
        self._start = self._last = time.monotonic()

    def advance(self, n: int = 1) -> None:
        """Count `n` more as done; prints when a line is due."""
        self.done += n
        now = time.monotonic()
        if now - self._last >= self.every:
            self._last = now
            print(self.line(), flush=True)

    def line(self) -> str:
        """Return the line as of now."""
        elapsed = time.monotonic() - self._start
        rate = self.done / elapsed if elapsed > 0 else 0.0
        left = "?" if rate == 0 else clock((self.total - self.done) / rate)
        return f"{self.label}: {self.done:,}/{self.total:,} {self.unit}, {rate:,.1f}/s, {left} left{self._noted()}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        elapsed = time.monotonic() - self._start
        print(f"{self.label}: {self.done:,}/{self.total:,} {self.unit} in {clock(elapsed)}{self._noted()}", flush=True)

    def _noted(self) -> str:
        note = self.note()
        return f", {note}" if note else ""


def clock(seconds: float) -> str:
    """Return seconds as `m:ss` or `h:mm:ss`, e.g. `clock(75)` -> `1:15`."""
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
