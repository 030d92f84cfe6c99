"""The progress line of asking an engine: rows, the tokens of servers and what they cost, the time left in this process.

A model run here tells after every pass through its weights how far it is (`Effort`), so that the line moves, and knows
the time left, long before the first replies have ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from perg_utils.core.progress import Progress
from perg_utils.engines.api.pricing import Meter
from perg_utils.engines.base import Effort, Engine
from perg_utils.engines.journal import Journal


@contextmanager
def watched(label: str, total: int, engine: Engine, journal: Journal) -> Iterator[Progress]:
    """Show the progress of `total` rows asked of `engine`.

    What the journal says was spent before counts towards the model's limit.
    """
    meter = getattr(engine, "usage", None)
    if isinstance(meter, Meter):
        meter.carry(journal)
    said: list[object] = [meter]
    with Progress(label, total, note=lambda: str(said[0] or "")) as progress:

        def tell(effort: Effort) -> None:
            said[0] = effort
            progress.touch(effort.left())

        if not hasattr(engine, "tell"):
            yield progress
            return
        engine.tell = tell
        try:
            yield progress
        finally:
            engine.tell = None
