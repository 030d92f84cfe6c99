"""Several notebooks at once, each in a thread of its own, with one table of how far all of them are.

A step that fails does not stop the others. Ctrl-C is passed on to each running cell once; pressed again it ends all at
once. Left out: which steps may run at once (`spread`).
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import Any

from perg_utils.core.interrupts import first_interrupt
from perg_utils.core.profile import ROOT
from perg_utils.core.progress import line
from perg_utils.run.notebook import StepFailed, execute_in_thread, interrupt
from perg_utils.run.state import Step

#: Seconds between two tables: on a terminal, where one takes the other's place, and in a log.
LIVE, LOGGED = 2.0, 30.0


@dataclass
class Job:
    """A step to be run: how it is announced, its executed copy, its parameters; and what it said last."""

    step: Step
    head: str
    executed: Path
    parameters: dict[str, Any]
    said: Mapping[str, Any] = field(default_factory=dict)


def execute_together(jobs: Sequence[Job], table: Callable[[Sequence[Job]], list[str]]) -> Iterator[tuple[Step, float]]:
    """Run all jobs at once and yield (step, its start) as they end well; then raises the first `StepFailed`, if any.

    `table` makes the lines that are shown meanwhile.
    """
    ended: SimpleQueue[tuple[Job, BaseException | None]] = SimpleQueue()
    failed: list[StepFailed] = []
    started = time.time()

    def work(job: Job) -> None:
        def show(state: Mapping[str, Any]) -> None:
            if "said" in state:
                print(f"{job.head}: {line(state)}", flush=True)
            else:
                job.said = state

        error: BaseException | None = None
        try:
            execute_in_thread(job.step.notebook, job.executed, job.parameters, ROOT, show)
        except BaseException as problem:  # whatever it is, the main thread must hear of it
            error = problem
        ended.put((job, error))

    open_jobs = {job.step.id: job for job in jobs}
    told: set[str] = set()

    def pass_on() -> str:
        told.update(name for name, job in open_jobs.items() if name not in told and interrupt(job.executed))
        return "running cells end in good order"

    board = _Board(lambda: table(list(open_jobs.values())))
    with first_interrupt(pass_on) as interrupted:
        for job in jobs:
            threading.Thread(target=work, args=(job,), name=f"perg-{job.step.id}", daemon=True).start()
        while open_jobs:
            try:
                job, error = ended.get(timeout=0.5)
            except Empty:
                if interrupted.is_set():
                    pass_on()  # whose cell had not begun when it came
                board.show()
                continue
            del open_jobs[job.step.id]
            board.show(now=True)
            if error is None:
                yield job.step, started
            elif not isinstance(error, StepFailed):
                raise error
            elif not interrupted.is_set():
                error.step = job.step.id
                failed.append(error)
                print(f"{job.head}: failed; the others go on", flush=True)
    if interrupted.is_set():
        raise KeyboardInterrupt
    if failed:
        raise failed[0]


class _Board:
    """Shows lines: on a terminal in place of those before, in a log below them."""

    def __init__(self, lines: Callable[[], list[str]]) -> None:
        self._lines, self._last, self._height = lines, 0.0, 0
        self._live = sys.stdout.isatty()

    def show(self, *, now: bool = False) -> None:
        if time.monotonic() - self._last < (LIVE if self._live else LOGGED) and not now:
            return
        self._last = time.monotonic()
        lines = self._lines()
        if self._live and self._height:
            print(f"\x1b[{self._height}F\x1b[J", end="")
        print("\n".join(lines), flush=True)
        self._height = len(lines) if not now else 0  # what is printed next must not be painted over
