"""Several judges over the same responses: where their ratings are kept, and what changes with the judge.

The main judge's ratings are the table `judgements`, on which metrics, tables and figures rest. What each judge says of
responses that did not know the preference is a part of the table `nulls` (module `nulls`). The ratings of the profile's
further `judges` are parts beside it, `judgements/<judge>.parquet`, one row a response each; only this module reads
them, so that no join ever meets a row twice.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path

import pandas as pd

from perg_utils.core.interrupts import first_interrupt
from perg_utils.core.profile import JudgeConfig, ModelConfig, Profile
from perg_utils.core.schema import Status
from perg_utils.core.workspace import Workspace
from perg_utils.engines.api.endpoints import urls
from perg_utils.engines.journal import Journal
from perg_utils.judging.agreement import wide
from perg_utils.judging.nulls import judge_nulls
from perg_utils.judging.rating import judge

_WAKE_SECONDS = 0.2


def part_of(label: str) -> str:
    """Return the name of a judge's file, e.g. `heuristic-cues` of `heuristic (cues)`."""
    return re.sub(r"[^\w.+-]+", "-", label).strip("-.")


def panel_paths(profile: Profile, workspace: Workspace) -> list[Path]:
    """Return the files of the further judges' ratings, in the profile's order."""
    return [workspace.table_path("judgements", part_of(other.label)) for other in profile.judges]


def null_paths(profile: Profile, workspace: Workspace) -> list[Path]:
    """Return the files of what judges say of responses that did not know the preference, the main judge's first."""
    return [workspace.table_path("nulls", part_of(one.label)) for one in profile.all_judges()]


def panel_parts(workspace: Workspace, table: str = "judgements") -> list[str]:
    """Return the names of the files of ratings that exist, e.g. `["heuristic-cues"]`."""
    return sorted(path.stem for path in workspace.table_path(table, "any").parent.glob("[!.]*.parquet"))


def judge_panel(profile: Profile, workspace: Workspace, journal: Journal | None = None) -> dict[str, pd.DataFrame]:
    """Rate with every judge, write the tables and return them by name, the main judge's first.

    Judges behind servers are asked at the same time, unless they share a server or a model, and with it limits of rate
    and cost. Each table is written as soon as its judge is done; one that fails stops none that is asked at the same
    time, and the replies it had received are in the journal. Parts of judges that are no longer in the profile are
    deleted.
    """
    responses, examples, bank = (workspace.read(name) for name in ("responses", "examples", "preferences"))
    parts = {one.label: None if one is profile.judge else part_of(one.label) for one in profile.all_judges()}

    def rate(one: JudgeConfig, own: Journal | None) -> None:
        workspace.write("judgements", judge(profile, responses, examples, bank, own, by=one), parts[one.label])
        nulls = judge_nulls(profile, responses, examples, bank, own, by=one)
        workspace.write("nulls", nulls, part_of(one.label))

    lanes = _lanes(profile.all_judges()) if journal is not None else []
    together = [one for lane in lanes for one in lane] if len(lanes) > 1 else []
    for one in profile.all_judges():
        if one not in together:
            rate(one, journal)
    if together and journal is not None:
        _at_once(lanes, rate, journal.path)
    for stale in set(panel_parts(workspace)) - set(parts.values()):
        workspace.table_path("judgements", stale).unlink()
    for stale in set(panel_parts(workspace, "nulls")) - set(map(part_of, parts)):
        workspace.table_path("nulls", stale).unlink()
    return read_panel(profile, workspace)


def _lanes(judges: Sequence[JudgeConfig]) -> list[list[JudgeConfig]]:
    """The judges that can be asked at the same time, those that share a server or a model in one list.

    Batches are not: they wait at the server for up to a day, and are found again there.
    """
    lanes: list[list[JudgeConfig]] = []
    for one in judges:
        if one.model is None or one.model.engine != "api" or one.model.batch:
            continue
        near = [lane for lane in lanes if any(_share(one.model, other.model) for other in lane if other.model)]
        lanes = [lane for lane in lanes if lane not in near] + [[*(other for lane in near for other in lane), one]]
    return lanes


def _share(one: ModelConfig, other: ModelConfig) -> bool:
    # The models of OpenAI, whose address needs no naming, have limits of their own; a server of one's own may not.
    named = one.base_url is not None and other.base_url is not None
    return one.model == other.model or (named and not set(urls(one)).isdisjoint(urls(other)))


def _at_once(lanes: list[list[JudgeConfig]], rate: Callable[[JudgeConfig, Journal], None], path: Path) -> None:
    """Let the judges rate in a thread a lane; raises the first error when all threads have ended."""

    def work(lane: list[JudgeConfig]) -> None:
        with Journal(path) as own:  # a connection belongs to its thread
            for one in lane:
                rate(one, own)

    with (
        first_interrupt(lambda: f"{len(lanes)} judges at once") as interrupted,
        ThreadPoolExecutor(len(lanes), "perg-judge") as pool,
    ):
        futures = [pool.submit(work, lane) for lane in lanes]
        while wait(futures, _WAKE_SECONDS).not_done:
            pass  # a signal that reached another thread is looked at when this one wakes
    if interrupted.is_set():
        raise KeyboardInterrupt
    errors = [error for future in futures if (error := future.exception()) is not None]
    for error in errors[1:]:
        print(f"error: {error}", file=sys.stderr)
    if errors:
        raise errors[0]


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
    """Return a row a judge: how often it gave 1 to 5, and `unrated`, the responses it gave no rating for."""
    out = {}
    for name, table in tables.items():
        given = table["rating"].value_counts().reindex(range(1, 6), fill_value=0).to_dict()
        out[name] = given | {"unrated": int((~table["status"].isin([Status.OK, Status.NOT_APPLICABLE])).sum())}
    return pd.DataFrame.from_dict(out, orient="index")
