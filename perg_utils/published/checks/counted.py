"""What released files count, row by row: what the audit looks at, and the paper's four metrics on it.

A row is a sampled response with preference. `without`, `with_` and `followed` are what its file counts (1, 0, or NaN
where it counts nothing): the published flags, else the released letter against the file's own gold letter. A rating
that a scored file lacks counts there as not followed, and is 0 here; the table `scores` leaves it null. `counted` is
False for rows that only an unscored file of the configuration has. Rows without a position (`surplus`) are counted by
their file, so they are here too.

Left out: what is wrong with them (`faults`).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.schema import (
    ALL_SOURCES,
    ARM_ID,
    LETTERS,
    PAPER_METRICS,
    RELEVANT_SHOWN,
    ROW_ID,
    Method,
    Metric,
    Setting,
)
from perg_utils.core.workspace import Workspace
from perg_utils.published.layouts import FLAGS, Layout
from perg_utils.scoring.rates import estimate, paper_outcomes
from perg_utils.scoring.scores import is_robust


@dataclass(frozen=True)
class CountedRows:
    """`rows` as above; `plain` the zero_shot answers without preference; `twins` rows of a second file of an arm."""

    rows: pd.DataFrame
    plain: pd.DataFrame
    twins: pd.DataFrame
    examples: pd.DataFrame
    workspace: Workspace


@dataclass(frozen=True)
class Fault:
    """Rows that are wrong, and what should stand there.

    `instead` has the right values of the columns `without`, `with_` and `followed` (NaN: nobody knows, so that the row
    is left out), or whether the rows are `counted`. `metrics` are those that can change.
    """

    finding: str
    what: str
    rows: np.ndarray
    instead: dict[str, pd.Series]
    note: str
    metrics: tuple[Metric, ...] = PAPER_METRICS


def counted_rows(workspace: Workspace, threshold: int = 3) -> CountedRows | None:
    """Return what an import left in a workspace, or None where no released file was read."""
    path = workspace.run / "origins.parquet"
    origins = pd.read_parquet(path) if path.is_file() else pd.DataFrame()
    if origins.empty:
        return None
    scores, answers = workspace.read("scores"), workspace.read("answers")
    examples = workspace.read("examples")
    if len(origins) != len(scores):
        raise DataError("origins.parquet and the table scores are of two imports; run ./run_all.sh again")
    told = origins.drop(columns=ROW_ID).set_index(scores.index)
    every = pd.concat([scores, told, answers[["answer", "how"]].assign(answered=answers["status"])], axis=1)
    known = examples.set_index("example_id")
    every["gold"] = every["example_id"].map(known["gold"])
    files = pd.read_csv(workspace.run / "files.csv").set_index("file")
    every["scored"] = every["file"].map(files["layout"]) == Layout.SCORED
    shown = every[every["sampled"].fillna(False) & (every["setting"] != Setting.NONE)]
    rows = _counted(shown.reset_index(drop=True), threshold)
    rows["counted"] = rows["scored"] | ~rows.groupby(ARM_ID)["scored"].transform("any")
    rows["reason"] = ""
    surplus = pd.read_parquet(workspace.run / "surplus.parquet")
    if len(surplus):
        rows = pd.concat([rows, _surplus(surplus, rows, threshold)], ignore_index=True)
    plain = every[(every["setting"] == Setting.NONE) & (every["method"] == Method.ZERO_SHOT)]
    twins = pd.read_parquet(workspace.run / "twins.parquet").merge(
        known["gold"], left_on="example_id", right_index=True, how="left"
    )
    return CountedRows(rows, plain.reset_index(drop=True), twins, examples, workspace)


def rates(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the four metrics of `rows` in percent: model, method, setting, source (or ALL), metric, value, n."""
    rows = rows[rows["counted"].astype(bool)]
    without, with_, followed = (rows[name].to_numpy(dtype=float) for name in ("without", "with_", "followed"))
    relevant = rows["setting"].isin(RELEVANT_SHOWN)
    right, follows = (rows[name].astype(float).astype("boolean") for name in ("with_", "followed"))
    robust = is_robust(right, follows, relevant)
    # Without a relevant preference nothing is there to follow, whatever the file says.
    followed = np.where(relevant, followed, np.nan)
    outcomes = paper_outcomes(without, with_, followed, robust.to_numpy(dtype=float, na_value=np.nan))
    every, keys = np.full(len(rows), True), [*ARM_ID, "source"]
    parts = []
    for metric, found in outcomes.items():
        frame = rows[keys].reset_index(drop=True).assign(**found.at(every))
        sums = pd.concat([frame, frame.assign(source=ALL_SOURCES)]).groupby(keys, sort=False).sum()
        shown = estimate(sums)[["value", "n"]].reset_index()
        parts.append(shown.assign(metric=str(metric))[[*keys, "metric", "value", "n"]])
    return pd.concat(parts, ignore_index=True)


def canonical(order: pd.Series, letter: pd.Series) -> pd.Series:
    """Return the option that a raw letter means where options stand in `order`, e.g. C for A of `CADB`, else None."""
    found = [
        o[i] if isinstance(o, str) and isinstance(x, str) and len(x) == 1 and 0 <= (i := LETTERS.find(x)) < len(o)
        else None
        for o, x in zip(order.tolist(), letter.tolist(), strict=True)
    ]  # fmt: skip
    return pd.Series(found, index=order.index, dtype=object)


def flag(texts: pd.Series) -> pd.Series:
    """Return a published yes or no as 1.0 or 0.0, NaN for anything else."""
    return texts.map({"True": 1.0, "False": 0.0, "1": 1.0, "0": 0.0, "1.0": 1.0, "0.0": 0.0}).astype(float)


def joined(rows: pd.DataFrame, names: list[str]) -> pd.Series:
    """Return the columns `names` of each row as one text, "" for what is missing."""
    out = pd.Series("", index=rows.index, dtype=object)
    for name in names:
        out = out + "|" + rows[name].astype(object).where(rows[name].notna(), "").astype(str)
    return out


def _counted(rows: pd.DataFrame, threshold: int) -> pd.DataFrame:
    by_letter = {
        side: (canonical(rows["order"], rows[name]) == rows["gold"]).astype(float)
        for side, name in (("with_", "letter"), ("without", "letter_without"))
    }
    paired = pd.Series(rows["correct_without"].to_numpy(dtype=float, na_value=np.nan), index=rows.index)
    without = by_letter["without"].where(rows["letter_without"].notna(), paired)
    return _with_flags(rows, by_letter["with_"], without, threshold)


def _with_flags(rows: pd.DataFrame, with_: pd.Series, without: pd.Series, threshold: int) -> pd.DataFrame:
    flags = {name: flag(rows[name]) for name in FLAGS}
    rating = pd.to_numeric(rows["rating"], errors="coerce")
    rating = rating.where(rating.isin([1, 2, 3, 4, 5]))
    followed = (rating >= threshold).astype(float).where(rating.notna() | rows["scored"])
    followed = flags["followed_pref"].fillna(followed)
    return rows.assign(
        rating=rating,
        letters_with=with_,
        letters_without=without,
        with_=flags["pref_correct"].fillna(with_),
        without=flags["nopref_correct"].fillna(without),
        followed=followed.where(rows["setting"].isin(RELEVANT_SHOWN)),
    )


def _surplus(surplus: pd.DataFrame, rows: pd.DataFrame, threshold: int) -> pd.DataFrame:
    """Rows without a position, of the files whose rows are counted."""
    layout = rows[rows["counted"]].drop_duplicates("file").set_index("file")["scored"]
    own = surplus[surplus["file"].isin(layout.index)].reset_index(drop=True)
    own["scored"] = own["file"].map(layout).astype(bool)
    right = {
        name: (own[letter] == own["gold"]).astype(float)
        for name, letter in (("with_", "letter"), ("without", "letter_without"))
    }
    return _with_flags(own, right["with_"], right["without"], threshold).assign(counted=True)
