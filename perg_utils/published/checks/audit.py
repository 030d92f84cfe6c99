"""An audit of the released results: what is unsound, how many rows it touches, and what it does to the metrics.

    option_orders        letters given under one order of the options and counted under another
    repeated_texts       rows multiplied, dropped or given another row's values by a join on the question's text
    beyond_options       letters that name no option
    missing_rows         rows that a file lacks
    absent_ratings       ratings that are not there, counted as "not followed"
    failed_replies       empty replies and error messages, counted as wrong answers
    contradicting_flags  published yes and no against the letter or rating beside them
    unplaced_rows        rows that their file counts and that have no position in the dataset

A finding stands beside three figures: the paper's, the file's own (`as_filed`: counted as the file counts), and the
`corrected` one, in which this finding alone is mended. In `corrected_all` every finding is. NaN: cannot be had.

Left out: whether letters and ratings themselves are right (extractor and judge); what the printed figures say among
themselves (`reproduction`).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from perg_utils.core.schema import ALL_SOURCES, ARM_ID, ordered
from perg_utils.core.workspace import Workspace
from perg_utils.published.checks.counted import CountedRows, Fault, counted_rows, rates
from perg_utils.published.checks.faults import FAULTS, absent
from perg_utils.published.printed import printed_metrics, printed_models

KEYS = ["setting", "method", "model", "source"]
COLUMNS = [
    *("finding", "what", *KEYS, "rows", "of", "share", "metric", "published", "as_filed", "corrected"),
    *("corrected_all", "note"),
]
TITLES = {
    "option_orders": "Letters compared across different option orders",
    "repeated_texts": "Joins on repeated question texts",
    "beyond_options": "Letters beyond the options",
    "missing_rows": "Missing rows",
    "absent_ratings": "Absent ratings counted as not followed",
    "failed_replies": "Failed replies counted as wrong",
    "contradicting_flags": "Flags that contradict letters or ratings",
    "unplaced_rows": "Rows without a position in the dataset",
}
#: Above this share, in percent, letters beyond the options are no slips of the extractor.
MANY = 10
SPELLED = (
    "so many that the model must have been shown other options, e.g. the printed list character by character; "
    "reading the responses again mends little"
)
#: Columns of numbers in the table that is shown.
SHOWN = ["rows", "share", "metric", "published", "as_filed", "corrected"]
NONE_FOUND = "none; without released files there is nothing to audit"
NO_FINDINGS = pd.DataFrame(columns=COLUMNS)


def audit(workspace: Workspace, paper: pd.DataFrame | None = None, threshold: int = 3) -> pd.DataFrame:
    """Return the findings, a row a finding, configuration, source (or ALL) and metric; none for sound files.

    `rows` of the `of` that the file counts there are touched, `share` in percent. `workspace` holds an import
    (`published.importing.import_published`); without released files there is nothing to audit and no row.
    """
    found = counted_rows(workspace, threshold)
    if found is None:
        return NO_FINDINGS.copy()
    faults = [fault for look in FAULTS for fault in look(found)]
    faults = [fault for fault in faults if fault.rows.any()]
    filed = rates(found.rows)
    mended = rates(_mended(found.rows, faults))
    parts = [_lines(found, fault, filed, mended) for fault in faults]
    parts.append(_absent(found, filed, mended))
    out = pd.concat([part for part in parts if len(part)] or [NO_FINDINGS], ignore_index=True)
    printed = (printed_metrics() if paper is None else paper).rename(columns={"value": "published"})
    out = out.drop(columns="published", errors="ignore").merge(
        printed[[*KEYS, "metric", "published"]], how="left", on=[*KEYS, "metric"]
    )
    out["share"] = (100 * out["rows"] / out["of"]).astype(float)
    out["note"] = out["note"].mask((out["finding"] == "beyond_options") & (out["share"] > MANY), SPELLED)
    return _ordered(out)[COLUMNS]


def summary(findings: pd.DataFrame) -> pd.DataFrame:
    """Return a line a finding and configuration: rows touched, and the figures over all sources where it changes most.

    Columns: finding, what, setting, method, model, rows, of, share, metric, published, as_filed, corrected.
    """
    if findings.empty:
        return findings[[c for c in COLUMNS if c not in ("source", "corrected_all", "note")]]
    pooled = findings[findings["source"] == ALL_SOURCES]
    change = (pooled["corrected"] - pooled["as_filed"]).abs().fillna(-1)
    top = pooled.assign(change=change).sort_values("change", ascending=False, kind="stable")
    top = top.groupby(["finding", "what", *KEYS[:3]], sort=False).head(1).sort_index()
    return top.drop(columns=["change", "source", "corrected_all", "note"]).reset_index(drop=True)


def shown(findings: pd.DataFrame) -> pd.DataFrame:
    """Return the `summary` as a reader sees it: model, method and setting in one column.

    Without a finding the one cell says so.
    """
    if findings.empty:
        return pd.DataFrame({"result": [NONE_FOUND]})
    short = summary(findings)
    short["configuration"] = short[["model", "method", "setting"]].astype(str).agg(", ".join, axis=1)
    return short[["finding", "what", "configuration", *SHOWN]]


def notes(findings: pd.DataFrame) -> str:
    """Return a Markdown list of the kinds of finding, each with what is to be known of it."""
    if findings.empty:
        return f"Findings: {NONE_FOUND}."
    said = findings[["finding", "note"]].drop_duplicates().groupby("finding", sort=False)["note"].agg("; ".join)
    return "\n".join(f"- **{TITLES[str(name)]}**: {note}." for name, note in said.items())


def in_words(findings: pd.DataFrame) -> str:
    """Return the kinds of finding and how many models each touches, e.g. `Missing rows (1 model)`, in a sentence."""
    if findings.empty:
        return f"Findings of the audit: {NONE_FOUND}."
    kinds = findings.groupby("finding", sort=False)["model"].nunique()
    said = "; ".join(f"{TITLES[str(name)]} ({n} model{'s' if n > 1 else ''})" for name, n in kinds.items())
    return f"Findings of the audit: {said}."


def _mended(rows: pd.DataFrame, faults: list[Fault]) -> pd.DataFrame:
    """Counted rows (all or some, by their index) with the faults put right, the later one last."""
    out = rows[[*ARM_ID, "source", "without", "with_", "followed", "counted"]].copy()
    for fault in faults:
        touched = fault.rows[rows.index]
        for column, right in fault.instead.items():
            out[column] = out[column].mask(touched, right.loc[rows.index])
    return out


def _lines(found: CountedRows, fault: Fault, filed: pd.DataFrame, mended: pd.DataFrame) -> pd.DataFrame:
    keys = [*ARM_ID, "source"]
    rows = found.rows.assign(rows=fault.rows.astype(int), of=(fault.rows | found.rows["counted"]).astype(int))
    rows = rows[rows.groupby(ARM_ID)["rows"].transform("any")]
    counts = pd.concat([rows, rows.assign(source=ALL_SOURCES)]).groupby(keys, sort=False)[["rows", "of"]].sum()
    alone = rates(_mended(rows, [fault]))
    out = counts[counts["rows"] > 0].reset_index().merge(_figures(filed, alone, mended), on=keys, how="left")
    out = out[out["metric"].isin(fault.metrics) & (out["as_filed"].notna() | out["corrected"].notna())]
    return out.assign(finding=fault.finding, what=fault.what, note=fault.note)


def _absent(found: CountedRows, filed: pd.DataFrame, mended: pd.DataFrame) -> pd.DataFrame:
    """Rows in no file: nothing corrects them, but they are counted, and the figures of what is there stand beside."""
    lines = absent(found)
    if lines.empty:
        return lines
    pooled = lines.groupby([*ARM_ID, "what"], sort=False)["rows"].sum().reset_index()
    pooled["source"], pooled["of"] = ALL_SOURCES, 7208
    lines = pd.concat([lines, pooled], ignore_index=True)
    duplicates = lines["what"] == "rows dropped as duplicates"
    lines["finding"] = np.where(duplicates, "repeated_texts", "missing_rows")
    figures = _figures(filed, filed.assign(value=np.nan), mended)
    out = lines.merge(figures, on=[*ARM_ID, "source"], how="left")
    out = out[out["as_filed"].notna() | out["metric"].isna()]
    return out.assign(note="no file has these rows: nothing corrects the figure")


def _figures(filed: pd.DataFrame, alone: pd.DataFrame, mended: pd.DataFrame) -> pd.DataFrame:
    keys = [*ARM_ID, "source", "metric"]
    out = filed.rename(columns={"value": "as_filed"}).drop(columns="n")
    for frame, name in ((alone, "corrected"), (mended, "corrected_all")):
        out = out.merge(frame.rename(columns={"value": name}).drop(columns="n"), on=keys, how="outer")
    return out


def _ordered(out: pd.DataFrame) -> pd.DataFrame:
    by = ["what", "setting", "method", "model", "source", "metric"]
    out = ordered(out.sort_values("what", kind="stable"), by, printed_models())
    return out.sort_values("finding", key=lambda c: c.map(list(TITLES).index), kind="stable")
