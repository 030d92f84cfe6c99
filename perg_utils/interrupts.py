"""Ctrl-C in two steps: the first ends in good order, the second at once."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def first_interrupt(react: Callable[[], str]) -> Iterator[threading.Event]:
    """Let the first Ctrl-C call `react`, and print what it returns, instead of breaking in; the next one breaks in.

    Gives an event that says whether there was one. Outside the main thread, or where Ctrl-C means something else
    already, nothing is changed.
    """
    interrupted = threading.Event()
    usual = signal.getsignal(signal.SIGINT)
    ours = threading.current_thread() is threading.main_thread() and usual is signal.default_int_handler

    def handle(*_: object) -> None:
        signal.signal(signal.SIGINT, usual)
        interrupted.set()
        print(f"interrupted: {react()}; again to end at once", file=sys.stderr, flush=True)

    if ours:
        signal.signal(signal.SIGINT, handle)
    try:
        yield interrupted
    finally:
        if ours:
            signal.signal(signal.SIGINT, usual)
