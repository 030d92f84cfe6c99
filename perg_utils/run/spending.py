"""What each step of a run cost: time, processor seconds, replies, tokens, and energy where it is measured.

Time and processor seconds are those of the call in which the step ended well; replies and tokens are what the journal
took in during it, so that a reply of an earlier call, which was paid for then, is not counted again. Energy is measured
by codecarbon in its offline mode where `PERG_ENERGY` names the country (three letters), e.g. `PERG_ENERGY=DEU`; without
the processor's own counters it is a looked-up power times the time, of the whole machine. It is no package of PERG's.

Left out: what a server or a provider uses.
"""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from perg_utils.core.errors import PergError
from perg_utils.core.workspace import Workspace
from perg_utils.engines.journal import Journal

#: The environment variable that asks for energy, with the country whose electricity it is.
COUNTRY = "PERG_ENERGY"
#: What is kept of each step, in the order of the report.
COLUMNS = ("seconds", "cpu_seconds", "replies", "prompt_tokens", "reply_tokens", "energy_kwh", "co2_kg")


class EnergyError(PergError):
    """Energy was asked for and cannot be measured here."""


@contextmanager
def measured(journal: Path) -> Iterator[dict[str, float]]:
    """Measure what happens inside; the dict that it yields is filled at the end, also where an error ends it.

    Raises `EnergyError` before anything runs where energy is asked for and codecarbon is not installed.
    """
    tracker = _tracker()
    began, cpu, spent = time.time(), _children(), dict[str, float]()
    try:
        yield spent
    finally:
        spent |= {"seconds": round(time.time() - began, 1), "cpu_seconds": round(_children() - cpu, 1)}
        spent |= replies(journal, began)
        if tracker is not None:
            co2 = tracker.stop()
            used = tracker.final_emissions_data.energy_consumed
            spent |= {"energy_kwh": round(float(used), 6), "co2_kg": round(float(co2 or 0), 6)}


def replies(journal: Path, since: float) -> dict[str, float]:
    """Return how many replies the journal took in since a time, and their tokens; empty where there is none."""
    if not journal.is_file():
        return {}
    began = datetime.fromtimestamp(int(since), UTC).isoformat(timespec="seconds")
    with Journal(journal, read_only=True) as opened:
        ((count, read, written),) = opened.execute(
            "SELECT count(*), sum(prompt_tokens), sum(completion_tokens) FROM replies WHERE time >= ?", (began,)
        )
    return {"replies": count, "prompt_tokens": read or 0, "reply_tokens": written or 0} if count else {}


def steps(workspace: Workspace) -> dict[str, dict[str, float]]:
    """Return what each finished step of a run cost, by its id, from `state.json`; empty where nothing has run."""
    path = workspace.run / "state.json"
    known: Mapping[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    return {name: {c: step[c] for c in COLUMNS if c in step} for name, step in known.items()}


def _children() -> float:
    """Processor seconds of all kernels that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _tracker() -> Any:
    country = os.environ.get(COUNTRY)
    if not country:
        return None
    try:
        from codecarbon import OfflineEmissionsTracker  # noqa: PLC0415 - optional
    except ImportError:
        raise EnergyError(
            f"{COUNTRY}={country} asks for energy, and codecarbon is not installed: `pip install codecarbon` into this "
            f"environment, or unset {COUNTRY}"
        ) from None
    tracker = OfflineEmissionsTracker(country_iso_code=country, save_to_file=False, log_level="critical")
    tracker.start()
    return tracker
