"""The figures that the paper prints: 59 configurations x 4 sources x 4 metrics (paper, tables 2 to 5 and appendix).

They are what a reproduction is checked against, and what tables and figures are redrawn from where the released files
are not at hand. They are bare percentages: no counts, so no intervals (`scoring.rates.redrawn` tells such a table).
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from perg_utils.core.profile import ROOT
from perg_utils.core.schema import TABLES, conform

PRINTED = ROOT / "data" / "paper_metrics.csv"


def printed_metrics(path: Path = PRINTED) -> pd.DataFrame:
    """Return the printed figures as a table `metrics`, 944 rows: percent in `value`, no interval, no `n`."""
    printed = pd.read_csv(path).rename(columns={"percent": "value"})
    return conform("metrics", printed.reindex(columns=list(TABLES["metrics"])))


def printed_models(path: Path = PRINTED) -> list[str]:
    """Return the models in the order of the paper's tables, e.g. `Llama3-8B` first."""
    return list(dict.fromkeys(pd.read_csv(path)["model"]))
