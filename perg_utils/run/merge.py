"""The join of shards (see `shards`) into the run that would have been without them.

Refuses units (a model in a shard) that are missing, unfinished, changed, or made with other settings, code, prompts or
weights. The joined run has their journals and tables, rows in the order of a run without shards, and its steps up to
inference count as done. Merging twice changes nothing.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd

from perg_utils.core.errors import PergError
from perg_utils.core.loading import load_profile
from perg_utils.core.profile import Profile
from perg_utils.core.schema import conform
from perg_utils.core.workspace import Workspace
from perg_utils.engines import journal_tools
from perg_utils.inference.requests import settings
from perg_utils.inference.shards import made_with, seal_path
from perg_utils.run import pipeline
from perg_utils.run.state import Fingerprints, State, locked


class ShardError(PergError):
    """Shards cannot be joined; the message says which and why."""


def merge(command: pipeline.Command, folders: Sequence[Path]) -> str:
    """Join the shards found below `folders` (each the --out of a run) into the run of `command`; returns what was done.

    Tables and journals are joined, and the run's steps up to inference count as done. Raises `ShardError`.
    """
    profile = load_profile(command.profile, command.overrides)
    if profile.shard is not None:
        raise ShardError("merge takes the settings of the whole run: leave out --set shard=...")
    target = Workspace.of(command.out, profile.name)
    shards = _find(command, folders)
    units = {m.name: [_unit(shard, places, m.name) for shard, places in shards] for m in profile.models}
    for model, sealed in units.items():
        _check_alike(profile, model, sealed)
    places = sorted({place.run for sealed in units.values() for place, _ in sealed})
    tables = [Workspace(place, place) for place in places]
    with locked(target.run):
        started = time.time()
        for table in ("examples", "preferences"):
            target.write(table, _same(table, tables))
        for model, sealed in units.items():
            parts = [place.read("responses", model) for place, _ in sealed]
            target.write("responses", _in_order(profile, pd.concat(parts), target.read("examples"), model), model)
        added = journal_tools.join([place.journal for place in tables], target.journal)
        state, fingerprints = State(target.run / "state.json"), Fingerprints(profile)
        plan = pipeline.steps(profile, target)
        done = [step for step in plan if step.id == "01_curate_data" or step.model is not None]
        for step in done:
            state.record(step, fingerprints.of(step), started)
    later = ",".join(step.notebook.stem.split("_")[0] for step in plan if step not in done)
    go_on = replace(command, only=(later,)).resume()
    return f"{len(shards)} shards joined in {target.run}: {added:,} new replies. To go on: {go_on}"


def _find(command: pipeline.Command, folders: Sequence[Path]) -> list[tuple[Profile, list[Workspace]]]:
    """The shards, 1 to n: each one's profile and the run folders that may hold its units."""
    whole = load_profile(command.profile, command.overrides)
    prefix = f"{whole.name}.shard-"
    names = {path.name for folder in folders for path in (folder / "data" / "runs").glob(f"{prefix}*-of-*")}
    counts = {name.rpartition("-")[2] for name in names}
    if len(counts) != 1:
        where = f"'{whole.name}' below {', '.join(map(str, folders))}"
        found = f"; they are of {len(counts)} different divisions: {', '.join(sorted(names))}"
        raise ShardError(f"no single set of shards of {where}{found}" if names else f"there are no shards of {where}")
    total = int(counts.pop())
    out = []
    for number in range(1, total + 1):
        shard = load_profile(command.profile, (*command.overrides, f"shard={number}/{total}"))
        places = [Workspace.of(folder, shard.name) for folder in folders]
        out.append((shard, [place for place in places if place.run.is_dir()]))
    return out


def _unit(shard: Profile, places: list[Workspace], model: str) -> tuple[Workspace, dict[str, Any]]:
    """Where the shard's responses of `model` are, and what they were made with."""
    for place in places:
        path, mark = place.table_path("responses", model), seal_path(place, model)
        step = State(place.run / "state.json").steps.get(f"03_run_inference:{model}")
        if path.is_file() and mark.is_file() and step is not None:
            if State(place.run / "state.json").digests(step["outputs"]) != step["outputs"]:
                raise ShardError(f"{path} is not as its run left it; run that shard again: --set shard={shard.shard}")
            return place, json.loads(mark.read_text(encoding="utf-8"))
    raise ShardError(
        f"model {model} is not finished in shard {shard.shard}: run --only 01,03:{model} --set shard={shard.shard}"
    )


def _check_alike(profile: Profile, model: str, sealed: list[tuple[Workspace, dict[str, Any]]]) -> None:
    first = sealed[0][1]
    expected = made_with(profile, first["engines"])
    for place, made in sealed:
        for what, value in expected.items():
            if made.get(what) != value:
                where = str(sealed[0][0].run) if what == "engines" else "this command"
                raise ShardError(
                    f"{place.run}: {model} was made with other {what} than {where} ({made.get(what)}, not {value}); "
                    "run it again with the same settings, code and weights"
                )


def _same(table: str, places: list[Workspace]) -> pd.DataFrame:
    first, *others = [place.read(table) for place in places]
    for place, other in zip(places[1:], others, strict=True):
        if not other.equals(first):
            raise ShardError(f"the table '{table}' in {place.run} differs from that in {places[0].run}")
    return first


def _in_order(profile: Profile, parts: pd.DataFrame, examples: pd.DataFrame, model: str) -> pd.DataFrame:
    """The rows in the order of a run without shards: method, setting, question."""
    arms = [(str(m), str(s)) for m, chosen in settings(profile, profile.model(model)).items() for s in chosen]
    arm = {names: position for position, names in enumerate(arms)}
    question = {example: position for position, example in enumerate(examples["example_id"])}
    keyed = parts.assign(
        _arm=[arm[names] for names in zip(parts["method"], parts["setting"], strict=True)],
        _question=parts["example_id"].map(question),
    )
    # Stable: the preferences of one question keep their order.
    ordered = keyed.sort_values(["_arm", "_question"], kind="stable").drop(columns=["_arm", "_question"])
    return conform("responses", ordered)
