"""Several judges over the same responses: where their ratings are kept, and what changes with the judge.

The main judge's ratings are the table `judgements`, on which metrics, tables and figures rest. Those of the profile's
further `judges` are parts beside it, `judgements/<judge>.parquet`, one row a response each; only this room reads them,
so that no join ever meets a row twice.
"""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd

from .agreement import wide
from .engines.journal import Journal
from .judging import judge
from .profile import Profile
from .schema import Status
from .workspace import Workspace


def part_of(label: str) -> str:
    """Return the name of a judge's file, e.g. `heuristic-cues` of `heuristic (cues)`."""
    return re.sub(r"[^\w.+-]+", "-", label).strip("-.")


def panel_paths(profile: Profile, workspace: Workspace) -> list[Path]:
    """Return the files of the further judges' ratings, in the profile's order."""
    return [workspace.table_path("judgements", part_of(other.label)) for other in profile.judges]


def panel_parts(workspace: Workspace) -> list[str]:
    """Return the parts that are there, e.g. `["heuristic-cues"]`."""
    return sorted(path.stem for path in workspace.table_path("judgements", "any").parent.glob("[!.]*.parquet"))


def judge_panel(profile: Profile, workspace: Workspace, journal: Journal | None = None) -> dict[str, pd.DataFrame]:
    """Rate with every further judge, write each one's part and return them by name; parts of other judges are deleted.

    A judge is written as soon as it is through, so that one that fails loses nothing of those before it.
    """
    if profile.judges:
        responses, examples, bank = (workspace.read(name) for name in ("responses", "examples", "preferences"))
    out = {}
    for other in profile.judges:
        out[other.label] = judge(profile, responses, examples, bank, journal, by=other)
        workspace.write("judgements", out[other.label], part_of(other.label))
    for stale in set(panel_parts(workspace)) - {part_of(label) for label in out}:
        workspace.table_path("judgements", stale).unlink()
    return out


def read_panel(profile: Profile, workspace: Workspace) -> dict[str, pd.DataFrame]:
    """Return the ratings of all judges by name, the main judge's first; `DataError` where one has not rated yet."""
    tables = {profile.judge.label: workspace.read("judgements")}
    return tables | {o.label: workspace.read("judgements", part_of(o.label)) for o in profile.judges}


def side_by_side(tables: dict[str, pd.DataFrame], examples: pd.DataFrame, preferences: pd.DataFrame) -> pd.DataFrame:
    """Return the rated rows with a column of ratings a judge (NaN: not rated), and `category` and `source`."""
    ratings = wide(pd.concat(tables.values(), ignore_index=True))
    ratings = ratings.merge(preferences[["preference_id", "category"]], how="left", on="preference_id", validate="m:1")
    return ratings.merge(examples[["example_id", "source"]], how="left", on="example_id", validate="m:1")


def counts(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return a row a judge: how often it gave 1 to 5, and `unrated`, the responses that it could not be had for."""
    out = {}
    for name, table in tables.items():
        given = table["rating"].value_counts().reindex(range(1, 6), fill_value=0).to_dict()
        out[name] = given | {"unrated": int((~table["status"].isin([Status.OK, Status.NOT_APPLICABLE])).sum())}
    return pd.DataFrame.from_dict(out, orient="index")
