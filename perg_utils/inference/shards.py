"""Shards: one n-th of the questions, run anywhere by itself; `run.merge` joins them into the run that they make up.

`--set shard=i/n` runs the i-th shard (from 1) in a folder of its own, `data/runs/<profile>.shard-i-of-n`: every n-th
question, so that all sources are in all shards. A unit of work is a model in a shard (`--only 01,03:MODEL`); units
share nothing, may run on different machines, and running one twice changes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from perg_utils.core.ingredients import ingredients
from perg_utils.core.profile import Profile
from perg_utils.core.workspace import Workspace, digest, write_text

#: Settings of a model that say where and how fast it answers, and nothing of what: they are in no reply's key.
_BY_MACHINE = {
    *("base_url", "api_key_env", "concurrency", "timeout", "batch", "max_cost_usd"),
    *("device_map", "batch_size", "batching", "replica"),
}


def take(examples: pd.DataFrame, shard: str | None) -> pd.DataFrame:
    """Return the shard's rows of 'examples', e.g. of 2/3 those at 1, 4, 7, ...; all rows without a shard."""
    if shard is None:
        return examples
    number, of = map(int, shard.split("/"))
    return examples.iloc[number - 1 :: of].reset_index(drop=True)


def seal(profile: Profile, model: str, workspace: Workspace, engines: Sequence[Mapping[str, str]]) -> Path:
    """Write beside a shard's responses what they were made with, and return the file.

    `engines` are the identities of the model and of its aligner.
    """
    text = json.dumps(made_with(profile, engines), indent=1, sort_keys=True)
    return write_text(seal_path(workspace, model), text + "\n")


def made_with(profile: Profile, engines: Sequence[Mapping[str, str]]) -> dict[str, Any]:
    """Return hashes of the settings (but for the shard) and of the code, and the engines: equal where shards fit.

    Where and how fast a model answers may differ: each machine may have a server of its own.
    """
    whole = profile.model_dump(mode="json", exclude={"shard": True, "name": True, "models": {"__all__": _BY_MACHINE}})
    return {"settings": digest(whole), "code": digest(ingredients(profile)), "engines": [dict(e) for e in engines]}


def seal_path(workspace: Workspace, model: str) -> Path:
    """Return the file of `seal`."""
    return workspace.run / "sealed" / f"{model}.json"
