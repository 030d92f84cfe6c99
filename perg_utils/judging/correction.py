"""What people's ratings on a sheet say of the run's rates: the main judge's, corrected (`scoring.corrected`).

A sheet holds rare ratings more often than the run (`annotation.sample`): each label is weighted by how many responses
of its stratum it stands for. Several people's ratings of a response are settled by their lower median, as in `human`.
Left out: single arms, for which a sheet of usual size has too few labels.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from pathlib import Path
from statistics import median_low
from typing import Any

import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.profile import Profile
from perg_utils.core.schema import ROW_ID, Metric
from perg_utils.core.workspace import Workspace, write_text
from perg_utils.scoring.corrected import MORE, corrected

FILE = "corrected.csv"


def labels(rated: pd.DataFrame, threshold: int) -> pd.DataFrame:
    """Return one label a response from the ratings of `annotation.merge`: `ROW_ID`, `followed`, `weight`.

    Responses that have changed since, or that nobody rated, have none; what a stratum has lost by that, the others of
    it stand for. Raises `DataError` where the key does not say what its items stand for.
    """
    if "stands_for" not in rated:
        raise DataError("the sheet's key.csv has no column 'stands_for'; make a new sheet with `annotate sample`")
    known = rated[rated["rating"].notna() & ~rated["changed"].astype(bool)]
    settled = known.groupby(ROW_ID, sort=False, dropna=False).agg(
        rating=("rating", lambda own: median_low(own.astype(int).tolist())),
        stratum=("stratum", "first"),
        stands_for=("stands_for", "first"),
    )
    of_stratum = settled.groupby("stratum")["stratum"].transform("size")
    weight = settled["stands_for"].astype(float) / of_stratum
    return settled.assign(followed=settled["rating"] >= threshold, weight=weight).reset_index()[
        [*ROW_ID, "followed", "weight"]
    ]


def correct(profile: Profile, workspace: Workspace, folder: Path, rated: pd.DataFrame) -> str:
    """Write `corrected.csv` into the sheet's folder and return what it says, a line a metric, in words.

    Where there is nothing to correct (no scores yet, people are the judge, fewer than two labels) the reason is
    returned and nothing is written.
    """
    if profile.judge.kind == "people":
        return "people are the main judge of this profile: there is no other judge's rate to correct"
    if not workspace.table_path("scores").is_file():
        return "the rates of this run are not there yet (./run_all.sh --only 06); merge again to have them corrected"
    given = labels(rated, profile.judge.threshold)
    if len(given) < 2:
        return "fewer than two labels: no rate is corrected"
    found = corrected(workspace.read("scores"), given, config=profile.statistics, seed=profile.seed)
    write_text(folder / FILE, found.to_csv(index=False))
    head = f"over all arms with a relevant preference, by {profile.judge.label} and corrected by people's ratings:"
    return "\n".join([head, *map(_sentence, found.to_dict("records"))])


def _sentence(row: Mapping[Hashable, Any]) -> str:
    label = Metric(row["metric"]).heading
    if pd.isna(row["corrected"]):
        return f"{label}: {row['judge']:.1f} % by the judge alone; {row['labelled']} labels are too few to correct it"
    check = "none" if pd.isna(row["rogan_gladen"]) else f"{row['rogan_gladen']:.1f} %"
    return (
        f"{label}: {row['judge']:.1f} % by the judge alone, {row['corrected']:.1f} % [{row['low']:.1f}, "
        f"{row['high']:.1f}] corrected by {row['labelled']} labels (PPI++, lambda {row['lam']:.2f}; Rogan-Gladen "
        f"{check}); {MORE} more labels would make it about ±{row['with_more']:.1f} instead of ±{row['half']:.1f} points"
    )
