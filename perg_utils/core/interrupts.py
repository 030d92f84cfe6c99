"""Ctrl-C in two steps: the first ends in good order, the second at once. The main thread tells the others."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

#: What threads want called at the first Ctrl-C, with the event that tells them; and the main thread's event.
_in_threads: dict[Callable[[], str], threading.Event] = {}
_main = threading.Event()


@contextmanager
def first_interrupt(react: Callable[[], str]) -> Iterator[threading.Event]:
    """Let the first Ctrl-C call `react`, and print what it returns, instead of breaking in; the next one breaks in.

    Gives an event that says whether there was one. In a thread, `react` is called where the main thread waits inside
    `first_interrupt` itself; if that has been interrupted already, `KeyboardInterrupt` is raised. Where Ctrl-C means
    something else already, nothing is changed.
    """
    interrupted = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        _in_threads[react] = interrupted
        try:
            if _main.is_set():
                raise KeyboardInterrupt
            yield interrupted
        finally:
            del _in_threads[react]
        return
    usual = signal.getsignal(signal.SIGINT)
    ours = usual is signal.default_int_handler

    def handle(*_: object) -> None:
        signal.signal(signal.SIGINT, usual)
        interrupted.set()
        _main.set()
        said = [react()]
        for other, told in list(_in_threads.items()):
            told.set()
            said.append(other())
        print(f"interrupted: {'; '.join(said)}; again to end at once", file=sys.stderr, flush=True)

    if ours:
        _main.clear()
        signal.signal(signal.SIGINT, handle)
    try:
        yield interrupted
    finally:
        if ours:
            signal.signal(signal.SIGINT, usual)
            _main.clear()
