"""Progress of a long step as plain lines: rows done, rate, remaining time. Plain, so that logs stay readable.

In a notebook the line is one display that is updated, and carries the numbers as data of the type `MIME`: who runs the
notebook (`run.notebook`) takes these out of the kernel's messages and shows them. Elsewhere lines are printed.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Self
from uuid import uuid4

#: The type of a display that holds what `line` takes.
MIME = "application/vnd.perg.progress+json"


class Progress:
    """Show `label: 1,200/5,400 rows, 310/s, 0:13 left` at most every `every` seconds, and once at the end.

    `note` gives what is to stand behind it, e.g. `1.2M+310.4k tokens, 0.37 USD`; nothing if it is empty.
    """

    def __init__(
        self, label: str, total: int, *, unit: str = "rows", every: float = 5.0, note: Callable[[], str] = str
    ) -> None:
        self.label, self.total, self.unit, self.every, self.note = label, total, unit, every, note
        self.done = 0
        self._left: float | None = None
        self._start = self._last = time.monotonic()
        self._display: str | None = None

    def advance(self, n: int = 1) -> None:
        """Count `n` more as done; shows a line when one is due."""
        self.reach(self.done + n)

    def reach(self, done: int) -> None:
        """Say that `done` are done in all; shows a line when one is due."""
        self.done = done
        self.touch(self._left)

    def touch(self, left: float | None) -> None:
        """Say that something moves, and the seconds left if they are known better; shows a line when one is due."""
        self._left = left
        now = time.monotonic()
        if now - self._last >= self.every:
            self._last = now
            self._show(ended=False)

    def state(self, *, ended: bool = False) -> dict[str, Any]:
        """Return where it stands, as `line` takes it; everything in it is plain JSON."""
        seconds = time.monotonic() - self._start
        names = ("label", "done", "total", "unit")
        here = {"seconds": seconds, "note": self.note(), "ended": ended, "left": self._left}
        return {name: getattr(self, name) for name in names} | here

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._show(ended=True)

    def _show(self, *, ended: bool) -> None:
        state = self.state(ended=ended)
        text = line(state)
        publisher = _publisher()
        if publisher is None:
            print(text, flush=True)
            return
        update, self._display = self._display is not None, self._display or uuid4().hex
        publisher.publish({MIME: state, "text/plain": text}, transient={"display_id": self._display}, update=update)


def say(text: str) -> None:
    """Show a line of its own, e.g. what the next minute is spent on; in a notebook it is not kept in the outputs."""
    publisher = _publisher()
    if publisher is None:
        print(text, flush=True)
    else:
        publisher.publish({MIME: {"said": text}, "text/plain": text}, transient={"display_id": uuid4().hex})


def line(state: Mapping[str, Any]) -> str:
    """Return the line of a `Progress.state`: `S: 1,200/5,400 rows, 300.0/s, 0:14 left`, at the end `... in 0:18`."""
    if "said" in state:
        return str(state["said"])
    counted = f"{state['label']}: {state['done']:,}/{state['total']:,} {state['unit']}"
    note = f", {state['note']}" if state["note"] else ""
    if state["ended"]:
        return f"{counted} in {clock(state['seconds'])}{note}"
    rate = state["done"] / state["seconds"] if state["seconds"] > 0 else 0.0
    left = state.get("left")
    if left is None and rate:
        left = (state["total"] - state["done"]) / rate
    ending = "?" if left is None else clock(left)
    return f"{counted}, {rate:,.1f}/s, {ending} left{note}"


def clock(seconds: float) -> str:
    """Return seconds as `m:ss` or `h:mm:ss`, e.g. `clock(75)` -> `1:15`."""
    minutes, rest = divmod(round(max(seconds, 0)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _publisher() -> Any:
    """What shows things in the notebook that this process is the kernel of; None in a script or a terminal."""
    ipython = sys.modules.get("IPython")
    shell = None if ipython is None else ipython.get_ipython()
    return shell.display_pub if shell is not None and hasattr(shell, "kernel") else None
