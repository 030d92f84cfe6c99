"""From answers and judgements to the table `scores`: one row a response, beside its baseline without preference.

A response that names no option counts as wrong, and so does a model's own silence, which follows no preference either.
A response, baseline or judgement that could not be had leaves its value null, and `status` says why: failure to measure
is not a score (paper, section 3.3). What is known stays known: an answer that broke is not robust, rated or not.

Left out: mending of letters and ratings (rooms `extraction`, `judging`), the metrics (`rates`).
"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.schema import (
    RELEVANT_SHOWN,
    ROW_ID,
    Cause,
    Method,
    Setting,
    Status,
    conform,
    ordered,
    require_columns,
)

#: Statuses of a response that exists: it was read, and either names an option or does not.
_READ = [Status.OK, Status.UNPARSABLE, Status.REFUSED, Status.SILENT]
#: Columns that a table may lack, as that of another program: nothing is known of them then.
_OPTIONAL = ("layer", "fallback", "finish_reason")


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
    """Return the table `scores`: one row a response, beside its baseline without preference (paper, section 3.3).

    The five tables are those of a run (`core.schema.TABLES`; of each only the columns that the example has are read).
    A rating of `threshold` or more, of 5, counts as followed. The baseline is the model's `no_preference` answer or,
    with `baseline="own"`, the method's own run without preference. In rows of setting none, which are baselines, the
    `_without` columns hold the row's own answer and the `_with` columns are null. `status` is ok, or why one of the
    needed values is missing. Rows follow `models` (then order of appearance), so that every later table and figure
    lists and colours them alike.
    Raises `DataError` for a table without one of these columns, a row given twice, or a response without its
    example, answer or baseline.

    >>> examples = pd.DataFrame({"example_id": ["q1", "q2"], "source": "TQA", "gold": "A", "preference_id": "p1"})
    >>> preferences = pd.DataFrame({"preference_id": ["p1"], "category": ["Clarity"]})
    >>> responses = pd.DataFrame(
    ...     {
    ...         "example_id": ["q1", "q2", "q1", "q2"],
    ...         "preference_id": [None, None, "p1", "p1"],
    ...         "model": "S",
    ...         "method": ["no_preference", "no_preference", "zero_shot", "zero_shot"],
    ...         "setting": ["none", "none", "relevant", "relevant"],
    ...         "status": "ok",
    ...     }
    ... )
    >>> answers = responses.assign(answer=["A", "A", "A", "B"])
    >>> judgements = responses[2:].assign(rating=[2, 5])
    >>> scores = score(examples, responses, answers, judgements, preferences)
    >>> print(scores.loc[2:, ["example_id", "correct_without", "correct_with", "followed", "robust"]])
      example_id  correct_without  correct_with  followed  robust
    2         q1             True          True     False   False
    3         q2             True         False      True   False
    """
    needed = {
        "examples": (examples, ["example_id", "source", "gold", "preference_id"]),
        "responses": (responses, [*ROW_ID, "status"]),
        "answers": (answers, [*ROW_ID, "answer", "status"]),
        "judgements": (judgements, [*ROW_ID, "rating", "status"]),
        "preferences": (preferences, ["preference_id", "category"]),
    }
    for name, (frame, columns) in needed.items():
        require_columns(name, frame, columns)
    rows = _read_rows(examples, responses, answers)
    rows = _join(rows, _rated(judgements), ROW_ID, "judgements", need=False)
    rows = rows.merge(preferences[["preference_id", "category"]], how="left", on="preference_id", validate="m:1")
    rows = _with_baseline(rows, baseline)
    _require(rows["why_without"].notna(), rows, f"have no answer without preference (baseline '{baseline}')")
    rows["preference_id"] = rows["preference_id"].mask(rows["preference_id"] == "")
    return assemble(ordered(rows, ["model"], models), threshold)


def assemble(rows: pd.DataFrame, threshold: int) -> pd.DataFrame:
    """Return the table `scores` from rows that have beside them all that is known, whoever answered and rated.

    Columns of `rows`: `ROW_ID`, source, category, `sampled_id` (the preference assigned to the question); `correct`,
    `delivered` (null where there is no response) and `why` (ok, or the status that says why); the same of the baseline
    as `correct_without`, `delivered_without`, `why_without`; `rating` (1 to 5 or null) and `judged`, its status (null:
    there is no judgement). `cause`, `fallback` and `truncated` as in `scores`, and `silent`: the model said nothing.
    """
    none, rated = rows["setting"] == Setting.NONE, rows["setting"].isin(RELEVANT_SHOWN)
    out = rows[[*ROW_ID, "source", "category"]].copy()
    for name in ("correct", "delivered"):
        own = rows[name].astype("boolean")
        # A row without preference is a baseline itself, also that of a method's own run.
        out[f"{name}_without"] = rows[f"{name}_without"].astype("boolean").where(~none, own)
        out[f"{name}_with"] = own.mask(none)
    silent = rated & rows["silent"].astype(bool)
    known = silent | (rated & rows["rating"].notna() & rows["correct"].notna())
    out["followed"] = (rows["rating"] >= threshold).astype("boolean").mask(silent, False).where(known)
    out["robust"] = is_robust(out["correct_with"], out["followed"], rated)
    for name in ("cause", "fallback", "truncated"):
        out[name] = rows[name]
    out["sampled"] = ~rated | (rows["preference_id"] == rows["sampled_id"]).fillna(False)
    why = rows["why"].where((rows["why"] != Status.OK) | none, rows["why_without"])
    judged = rows["judged"].fillna(Status.EMPTY).mask(known, Status.OK)
    out["status"] = why.where((why != Status.OK) | ~rated, judged)
    return conform("scores", out)


def is_robust(correct_with: pd.Series, followed: pd.Series, rated: pd.Series) -> pd.Series:
    """Return whether each answer is right and follows its preference, if one could be followed (`rated`); else right.

    Nullable booleans. One known failure is enough (false and unknown is false); null where it is open.
    """
    return (correct_with & followed).where(rated, correct_with)


def _read_rows(examples: pd.DataFrame, responses: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Responses with gold, source and sampled preference, `correct` and `delivered` (null: no such response)."""
    responses, answers = (frame.assign(**_lacking(frame)) for frame in (responses, answers))
    rows = _join(
        _keyed(responses, "responses")[[*ROW_ID, "status", "fallback", "finish_reason"]],
        answers[[*ROW_ID, "answer", "status", "layer"]],
        ROW_ID,
        "answers",
    )
    known = examples[["example_id", "source", "gold", "preference_id"]].rename(columns={"preference_id": "sampled_id"})
    rows = _join(rows, known, ["example_id"], "examples")
    exists = rows["status"].isin(_READ) & rows["status_answers"].isin(_READ)
    letter = rows["answer"].where(rows["status_answers"] == Status.OK)
    rows["correct"] = (letter == rows["gold"]).fillna(False).astype("boolean").where(exists)
    rows["delivered"] = letter.notna().astype("boolean").where(exists)
    rows["why"] = rows["status"].where(~rows["status"].isin(_READ), rows["status_answers"]).mask(exists, Status.OK)
    rows["silent"] = rows["status"] == Status.SILENT
    rows["cause"] = cause(rows, rows["silent"] | rows["layer"].notna() | (rows["status_answers"] == Status.REFUSED))
    rows["truncated"] = (rows["finish_reason"] == "length").where(rows["finish_reason"].notna())
    return rows.drop(columns=["status", "status_answers", "layer", "finish_reason"])


def with_fallbacks_as_failures(scores: pd.DataFrame) -> pd.DataFrame:
    """Return `scores` in which a row whose second stage could not be read is wrong and follows nothing.

    Such a row keeps its first stage, which is the baseline's right answer wherever there is one: it cannot break,
    however often the method itself fails.
    """
    fell = scores["fallback"].fillna(False).astype(bool)
    failed = {name: scores[name].mask(fell, False) for name in ("correct_with", "followed", "robust", "delivered_with")}
    return scores.assign(**failed, cause=scores["cause"].mask(fell, str(Cause.UNREAD)))


def cause(rows: pd.DataFrame, read: pd.Series) -> pd.Series:
    """Return why each answer is not right, a `Cause`, from its `correct` and `delivered`; null where it is, or unknown.

    `read`: some layer of the extractor has decided what the response names.
    """
    said = pd.Series(Cause.UNREAD.value, rows.index, dtype=object)
    said = said.mask(read.astype(bool), Cause.NAMED_NONE.value)
    said = said.mask(rows["delivered"].fillna(False).astype(bool), Cause.WRONG_OPTION.value)
    return said.where((~rows["correct"].astype("boolean")).fillna(False).astype(bool), None)


def _lacking(frame: pd.DataFrame) -> dict[str, None]:
    return {name: None for name in _OPTIONAL if name not in frame}


def _rated(judgements: pd.DataFrame) -> pd.DataFrame:
    rating = judgements["rating"].where(judgements["status"] == Status.OK)
    return judgements[ROW_ID].assign(rating=rating, judged=judgements["status"])


def _with_baseline(rows: pd.DataFrame, baseline: str) -> pd.DataFrame:
    none = rows["setting"] == Setting.NONE
    values = {"correct": "correct_without", "delivered": "delivered_without", "why": "why_without"}
    key = ["example_id", "model", "method"] if baseline == "own" else ["example_id", "model"]
    own = rows[none] if baseline == "own" else rows[none & (rows["method"] == Method.NO_PREFERENCE)]
    out = _join(rows, own[[*key, *values]].rename(columns=values), key, "baselines", need=False)
    # A row without preference is a baseline itself, also that of a method's own run.
    out["why_without"] = out["why_without"].where(~none.to_numpy(), out["why"])
    return out


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
