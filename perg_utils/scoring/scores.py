"""From answers and judgements to the table `scores`: one row a response, beside its baseline without preference.

A response that names no option counts as wrong. A response, baseline or judgement that does not exist leaves its value
null, and `status` says why: failure to measure is not a score (paper, section 3.3).

Left out: mending of letters and ratings (rooms `extraction`, `judging`), the metrics (`rates`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.schema import (
    RELEVANT_SHOWN,
    ROW_ID,
    TABLES,
    Method,
    Setting,
    Status,
    conform,
)

#: Statuses of a response that exists: it was read, and either names an option or does not.
_READ = [Status.OK, Status.UNPARSABLE, Status.REFUSED]


def score(
    examples: pd.DataFrame,
    responses: pd.DataFrame,
    answers: pd.DataFrame,
    judgements: pd.DataFrame,
    preferences: pd.DataFrame,
    *,
    threshold: int = 3,
    baseline: str = "no_preference",
    models: Sequence[str] = (),
) -> pd.DataFrame:
    """Return the table `scores`: one row a response, beside its baseline without preference.

    The baseline is the model's `no_preference` answer or, with `baseline="own"`, the method's own run without
    preference. In rows of setting none, which are baselines, the `_without` columns hold the row's own answer
    and the `_with` columns are null. `status` is ok, or why one of the needed values is missing. Rows follow `models`
    (then order of appearance), so that every later table and figure lists and colours them alike.
    Raises `DataError` for a row given twice, or a response without its example, answer or baseline.
    """
    rows = _read_rows(examples, responses, answers)
    rows = _join(rows, _rated(judgements, threshold), ROW_ID, "judgements", need=False)
    rows = rows.merge(preferences[["preference_id", "category"]], how="left", on="preference_id", validate="m:1")
    rows = _with_baseline(rows, baseline)
    none, rated = rows["setting"] == Setting.NONE, rows["setting"].isin(RELEVANT_SHOWN)
    rows["correct_with"] = rows["correct"].mask(none)
    rows["delivered_with"] = rows["delivered"].mask(none)
    rows["followed"] = rows["followed"].mask(~rated | rows["correct"].isna())
    both = (rows["correct_with"] & rows["followed"]).mask(rows["correct_with"].isna() | rows["followed"].isna())
    rows["robust"] = both.where(rated, rows["correct_with"])
    rows["sampled"] = ~rated | (rows["preference_id"] == rows["sampled_id"]).fillna(False)
    rows["status"] = _why_unscored(rows, rated)
    rows["preference_id"] = rows["preference_id"].mask(rows["preference_id"] == "")
    rows = ordered(rows, {"model": dict.fromkeys([*models, *rows["model"]])})
    return conform("scores", rows[list(TABLES["scores"])])


def _read_rows(examples: pd.DataFrame, responses: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Responses with gold, source and sampled preference, `correct` and `delivered` (null: no such response)."""
    rows = _join(
        _keyed(responses, "responses")[[*ROW_ID, "status"]], answers[[*ROW_ID, "answer", "status"]], ROW_ID, "answers"
    )
    known = examples[["example_id", "source", "gold", "preference_id"]].rename(columns={"preference_id": "sampled_id"})
    rows = _join(rows, known, ["example_id"], "examples")
    exists = rows["status"].isin(_READ) & rows["status_answers"].isin(_READ)
    letter = rows["answer"].where(rows["status_answers"] == Status.OK)
    rows["correct"] = (letter == rows["gold"]).fillna(False).astype("boolean").where(exists)
    rows["delivered"] = letter.notna().astype("boolean").where(exists)
    rows["why"] = rows["status"].where(~rows["status"].isin(_READ), rows["status_answers"]).mask(exists, Status.OK)
    return rows.drop(columns=["status", "status_answers"])


def _rated(judgements: pd.DataFrame, threshold: int) -> pd.DataFrame:
    out = judgements[ROW_ID].copy()
    rating = judgements["rating"].where(judgements["status"] == Status.OK)
    out["followed"] = (rating >= threshold).astype("boolean").mask(rating.isna())
    out["judged"] = judgements["status"]
    return out


def _with_baseline(rows: pd.DataFrame, baseline: str) -> pd.DataFrame:
    none = rows["setting"] == Setting.NONE
    values = {"correct": "correct_without", "delivered": "delivered_without", "why": "why_without"}
    key = ["example_id", "model", "method"] if baseline == "own" else ["example_id", "model"]
    own = rows[none] if baseline == "own" else rows[none & (rows["method"] == Method.NO_PREFERENCE)]
    out = _join(rows, own[[*key, *values]].rename(columns=values), key, "baselines", need=False)
    for name, without in values.items():
        # A row without preference is a baseline itself, also that of a method's own run.
        out[without] = out[without].where(~none.to_numpy(), out[name])
    _require(out["why_without"].notna(), out, f"have no answer without preference (baseline '{baseline}')")
    return out


def _why_unscored(rows: pd.DataFrame, rated: pd.Series) -> pd.Series:
    why = rows["why"].where(rows["why"] != Status.OK, rows["why_without"])
    judged = rows["judged"].fillna(Status.EMPTY).mask(rows["followed"].notna(), Status.OK)
    return why.where((why != Status.OK) | ~rated, judged)


def ordered(frame: pd.DataFrame, known: Mapping[str, Iterable[str]]) -> pd.DataFrame:
    """Return `frame` sorted by the columns of `known`, each in the order of its values."""
    rank = {column: {str(value): i for i, value in enumerate(values)} for column, values in known.items()}
    return frame.sort_values(list(rank), key=lambda c: c.map(rank[str(c.name)]), kind="stable").reset_index(drop=True)


def _keyed(frame: pd.DataFrame, name: str) -> pd.DataFrame:
    """`frame` with missing preference ids as "", so that they match each other whatever pandas does with nulls."""
    if "preference_id" not in frame or "example_id" not in frame:
        return frame
    missing = frame["example_id"].isna()
    if missing.any():
        raise DataError(f"table '{name}': {missing.sum()} rows have no example_id")
    return frame.assign(preference_id=frame["preference_id"].fillna(""))


def _join(rows: pd.DataFrame, other: pd.DataFrame, on: list[str], name: str, need: bool = True) -> pd.DataFrame:
    """Left join of `other` on `on`; no row may be there twice, and with `need` each must find its partner."""
    other = _keyed(other, name)
    for frame, label in ((other, name), (rows, "responses")):
        if label == name or on == ROW_ID:
            twice = frame.duplicated(on)
            _require(~twice, frame, f"are in table '{label}' twice: rows are known by {', '.join(on)}")
    out = rows.merge(other, how="left", on=on, suffixes=("", f"_{name}"), indicator="_found", sort=False)
    if need:
        _require(
            out["_found"] == "both", out, f"have no row in table '{name}'; run the earlier steps again: ./run_all.sh"
        )
    return out.drop(columns="_found")


def _require(good: pd.Series, frame: pd.DataFrame, problem: str) -> None:
    bad = frame[~good.to_numpy(dtype=bool)]
    if len(bad):
        first = {name: bad.iloc[0][name] for name in ROW_ID if name in bad}
        raise DataError(f"{len(bad)} rows {problem}. First: {first}")
