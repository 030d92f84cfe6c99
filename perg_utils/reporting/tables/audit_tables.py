"""The audit of the released results as tables: by configuration, and cell by cell.

Left out: the findings themselves (`published.checks.audit`).
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from perg_utils.core.run import Run
from perg_utils.core.schema import PAPER_METRICS
from perg_utils.published.checks.audit import KEYS, TITLES, summary
from perg_utils.reporting.tables.forms import NOT_RELEASED, Table, Tables, absent, folder_of

_SHORT = {str(m): m.short for m in PAPER_METRICS}


def audit(run: Run) -> Tables:
    """Return the audit as two tables, by configuration and cell by cell, as notebook 13 saved it; else an absent one.

    >>> print(perg.tables.audit(run)[0].absent)
    Not in this run: Audit of the released results. Only the paper's released files have it; notebook 13 makes it.
    """
    path = run.workspace.run / "audit.parquet"
    if not path.is_file():
        return Tables([absent("audit", "Audit of the released results", NOT_RELEASED)])
    findings = pd.read_parquet(path)
    if findings.empty:
        return Tables([absent("audit", "Audit of the released results", " Nothing was found.")])
    return Tables(replace(one, folder=folder_of(run)) for one in tables(findings))


def tables(findings: pd.DataFrame) -> list[Table]:
    """Return the summary of `findings`, and the cells where a figure is touched."""
    short = summary(findings)
    shown = findings[findings["metric"].notna()]
    captions = {
        "audit": "Each kind of finding in each configuration: rows touched of those that the file counts, and the "
        "metric over all sources that mending it changes most: as printed, as the file counts it, corrected.",
        "audit_cells": "The four metrics, in percent, as printed / as the file counts / corrected for this finding "
        "alone / for all findings. A dash: cannot be had from the files.",
    }
    titles = {"audit": "Audit of the released results", "audit_cells": "Audit, cell by cell"}
    cells = {"audit": _summary_cells(short), "audit_cells": _cell_cells(shown)}
    return [
        Table(n, titles[n], captions[n], data, cells[n], pd.DataFrame(False, cells[n].index, cells[n].columns))
        for n, data in (("audit", short), ("audit_cells", shown))
    ]


def _summary_cells(short: pd.DataFrame) -> pd.DataFrame:
    cells = pd.DataFrame(index=short.index)
    cells["finding"] = short["finding"].map(TITLES) + ": " + short["what"]
    for name in ("setting", "method", "model"):
        cells[name] = short[name]
    cells["rows"] = [f"{rows:,.0f} of {of:,.0f}" for rows, of in zip(short["rows"], short["of"], strict=True)]
    cells["share"] = short["share"].map("{:.1f} %".format)
    cells["metric"] = short["metric"].map(_SHORT).fillna("-")
    for name in ("published", "as_filed", "corrected"):
        cells[name.replace("_", " ")] = short[name].map(_number)
    return _headed(cells)


def _cell_cells(findings: pd.DataFrame) -> pd.DataFrame:
    keys = ["finding", "what", *KEYS, "rows"]
    values = ["published", "as_filed", "corrected", "corrected_all"]
    texts = findings[values].map(_number).agg(" / ".join, axis=1) if len(findings) else pd.Series(dtype=str)
    wide = findings.assign(text=texts).pivot_table(
        index=keys, columns="metric", values="text", aggfunc="first", sort=False
    )
    wide = wide.reindex(columns=[str(m) for m in PAPER_METRICS]).fillna("").rename(columns=_SHORT).reset_index()
    wide["finding"] = wide["finding"].map(TITLES) + ": " + wide.pop("what")
    wide["rows"] = wide["rows"].map("{:,.0f}".format)
    return _headed(wide)


def _headed(cells: pd.DataFrame) -> pd.DataFrame:
    cells.columns = pd.MultiIndex.from_tuples([("", str(name)) for name in cells.columns])
    return cells.astype(object)


def _number(value: float) -> str:
    return "-" if pd.isna(value) else f"{value:.1f}"
