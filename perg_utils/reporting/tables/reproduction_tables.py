"""The check of the printed figures as tables: verdicts by configuration, cell by cell, and the figures' inner checks.

Left out: the verdicts themselves (`published.checks.reproduction`, `published.checks.consistency`).
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from perg_utils.core.run import Run
from perg_utils.core.schema import Metric
from perg_utils.published.checks.consistency import KEYS, inner_checks, option_order_prediction
from perg_utils.published.checks.reproduction import VERDICTS, summary
from perg_utils.reporting.tables.forms import NOT_RELEASED, Table, Tables, absent, folder_of


def reproduction(run: Run) -> Tables:
    """Return the verdicts by configuration, cell by cell and the inner checks, as notebook 13 saved them.

    >>> len(perg.tables.reproduction(run))
    1
    """
    path = run.workspace.run / "reproduction.parquet"
    if not path.is_file():
        return Tables([absent("reproduction", "Reproduction by configuration", NOT_RELEASED)])
    return Tables(replace(one, folder=folder_of(run)) for one in tables(pd.read_parquet(path)))


def tables(cells: pd.DataFrame) -> list[Table]:
    """Return `cells` of `reproduce` as a summary and cell by cell, and the checks among the printed figures."""
    short = summary(cells)
    checks, prediction = inner_checks(), option_order_prediction()
    unlike = prediction[prediction["fits"]]
    here = "" if cells["ours"].notna().any() else " No released file is at hand: nothing is reproduced here."
    return [
        _table(
            "reproduction",
            "Reproduction by configuration",
            "Published figures by verdict." + here,
            short,
            _texts(_with_others_summed(short)),
        ),
        _table(
            "reproduction_cells",
            "Reproduction, cell by cell",
            "Each published figure beside ours, in percent. exact: ours rounds to it; rounding: within 0.1." + here,
            cells,
            _cell_texts(cells),
        ),
        _table(
            "printed_checks",
            "The printed figures among themselves",
            "What must hold between published figures whatever the files say; rounding is allowed for.",
            checks,
            _texts(checks),
        ),
        _table(
            "option_order_prediction",
            "Prediction: letters under two option orders",
            "TruthfulQA: configurations whose published PV is within 5 points of what comparing letters of two random "
            "option orders gives at the published BR; beside it the PV of the model's zero_shot, relevant. "
            "A prediction, not a measurement.",
            prediction,
            _prediction_texts(unlike),
        ),
    ]


def _with_others_summed(short: pd.DataFrame) -> pd.DataFrame:
    """The configurations of which something is in the files, and one line for the others together."""
    here = short[list(VERDICTS[:3])].sum(axis=1) > 0
    others = short[~here]
    if others.empty:
        return short
    name = f"all {len(short)} configurations" if not here.any() else f"the {len(others)} others"
    line = {"setting": "", "method": "", "model": name} | others[list(VERDICTS)].sum().to_dict()
    return pd.concat([short[here], pd.DataFrame([line])], ignore_index=True)


def _cell_texts(cells: pd.DataFrame) -> pd.DataFrame:
    out = cells[KEYS].astype(object)
    out["metric"] = cells["metric"].map(lambda m: Metric(m).short)
    for name in ("published", "ours", "difference"):
        form = "{:+.2f}" if name == "difference" else "{:.1f}" if name == "published" else "{:.2f}"
        out[name] = cells[name].map(form.format).where(cells[name].notna(), "-")
    out["n"] = ["-" if pd.isna(n) else f"{int(n):,}" for n in cells["n"]]
    return out.assign(verdict=cells["verdict"], reason=cells["reason"])


def _prediction_texts(rows: pd.DataFrame) -> pd.DataFrame:
    out = rows[["setting", "method", "model"]].astype(object)
    names = {
        "breakage": "BR published",
        "variation": "PV published",
        "predicted": "PV predicted",
        "shared": "PV relevant",
    }
    for name, label in names.items():
        out[label] = rows[name].map("{:.1f}".format)
    return out


def _texts(frame: pd.DataFrame) -> pd.DataFrame:
    return frame.astype(str)


def _table(name: str, title: str, caption: str, data: pd.DataFrame, texts: pd.DataFrame) -> Table:
    texts = texts.set_axis(pd.MultiIndex.from_tuples([("", str(c)) for c in texts.columns]), axis=1)
    return Table(name, title, caption, data, texts, pd.DataFrame(False, texts.index, texts.columns))
