"""Do the paper's printed figures reproduce? Each of the 944 beside ours, with a verdict and a reason.

52 of the 944 are no figures: without a relevant preference the paper has no alignment failure.

Left out: why single rows differ (`audit`), what the printed figures say among themselves (`consistency`).
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from perg_utils.core.schema import ALL_SOURCES, RELEVANT_SHOWN, Metric, Source
from perg_utils.dataset.questions import EXPECTED
from perg_utils.published.checks.audit import MANY
from perg_utils.published.checks.consistency import HALF, KEYS, option_order_prediction, printed
from perg_utils.scoring.rates import redrawn

VERDICTS = ["exact", "rounding", "differs", "not in the files", "no figure"]


def reproduce(
    metrics: pd.DataFrame,
    paper: pd.DataFrame | None = None,
    findings: pd.DataFrame | None = None,
    files: pd.DataFrame | None = None,
) -> pd.DataFrame:
    """Return each published figure beside ours: setting, method, model, source, metric, published, ours, difference,
    n, verdict, as_filed and reason.

    `difference` is ours minus published, in points. Verdicts: exact (ours rounds to the printed figure), rounding
    (within 0.1), differs, not in the files, and no figure (AF is not defined without a relevant preference). `findings`
    of `audit.audit` and `files` of the import (files.csv) give reasons; `as_filed` is the figure as the file counts.
    """
    wanted = printed(paper)
    own = metrics[[*KEYS, "metric", "value", "n", "n_unscored"]]
    none_here = redrawn(metrics) or metrics.empty
    if none_here:
        own = own.iloc[:0]
    out = wanted.merge(own, on=[*KEYS, "metric"], how="left", validate="1:1")
    out = out.rename(columns={"value": "ours"})
    out["difference"] = out["ours"] - out["published"]
    off = out["difference"].abs() - 1e-9
    out["verdict"] = np.select(
        [out["published"].isna(), out["ours"].isna(), off <= HALF, off <= 2 * HALF],
        ["no figure", "not in the files", "exact", "rounding"],
        "differs",
    )
    out["as_filed"] = _as_filed(out, findings)
    why = _Reasons(metrics.iloc[:0] if none_here else metrics, findings, files)
    out["reason"] = [why.of(row) for row in out.itertuples()]
    return out[[*KEYS, "metric", "published", "ours", "difference", "n", "verdict", "as_filed", "reason"]]


class _Reasons:
    """What can be said of a cell that does not reproduce."""

    def __init__(self, metrics: pd.DataFrame, findings: pd.DataFrame | None, files: pd.DataFrame | None) -> None:
        counted = metrics[metrics["metric"] == Metric.ACCURACY_WITH]
        seen = counted["n"].astype(int) + counted["n_unscored"].astype(int)
        self._rows = dict(zip(counted[KEYS].itertuples(index=False, name=None), seen, strict=True))
        self._any = not metrics.empty
        self._found: dict[tuple[object, ...], list[str]] = {}
        if findings is not None and len(findings):
            touched = findings[(findings["corrected"] - findings["as_filed"]).abs().fillna(0) >= HALF]
            names = touched.groupby([*KEYS, "metric"])["finding"].agg(lambda f: sorted(set(f)))
            self._found = dict(zip(names.index.tolist(), names.tolist(), strict=True))
        self._old: set[tuple[object, ...]] = set()
        if files is not None and len(files):
            read = files[(files["status"] == "read") & files["model"].notna()]
            listed = read.groupby(["setting", "method", "model"])["verified"].any()
            self._old = set(listed.index[~listed.astype(bool)].tolist())

    def of(self, row: object) -> str:
        cell = tuple(getattr(row, name) for name in KEYS)
        setting, source = cell[0], cell[3]
        verdict, metric = row.verdict, row.metric  # type: ignore[attr-defined]
        if verdict == "no figure":
            return "without a relevant preference there is nothing to follow"
        if not self._any:
            return "no released file at hand: redrawn from the published figures, nothing is checked"
        rows = self._rows.get(cell, 0)
        if not rows:
            return "no row of this source is in the files" if cell[:3] in self._configs else "no file of it at hand"
        if verdict == "not in the files":
            return "no ratings in the files" if setting in RELEVANT_SHOWN else "no question is right without preference"
        every = sum(EXPECTED.values()) if source == ALL_SOURCES else EXPECTED[Source(source)]
        said = [f"{every - rows:,} of {every:,} rows missing"] if rows < every else []
        if verdict == "exact":
            return "; ".join(said)
        if abs(row.as_filed - row.published) - 1e-9 <= HALF:  # type: ignore[attr-defined]
            said.append("the file's own count gives the printed figure")
        if cell[:3] in self._old:
            said.append("from files that the manifest does not list")
        said += [f"see audit: {name}" for name in self._found.get((*cell, metric), [])]
        return "; ".join(said) or "unknown"

    @property
    def _configs(self) -> set[tuple[object, ...]]:
        return {key[:3] for key in self._rows}


def summary(cells: pd.DataFrame) -> pd.DataFrame:
    """Return the number of cells of each verdict by configuration: setting, method, model and the verdicts."""
    counts = cells.groupby([*KEYS[:3], "verdict"], sort=False).size().unstack("verdict", fill_value=0)
    return counts.reindex(columns=VERDICTS, fill_value=0).rename_axis(columns=None).reset_index()


def bottom_line(cells: pd.DataFrame, findings: pd.DataFrame) -> list[str]:
    """Return what the check comes to, in sentences: what reproduces, which files are unfit, what not to quote."""
    counted, here = cells["verdict"].value_counts(), cells["ours"].notna()
    whole = cells.loc[here & ~cells["reason"].str.contains("rows missing"), "verdict"] == "exact"
    said = [
        f"{counted.get('exact', 0)} of the {here.sum()} printed figures with rows at hand reproduce exactly, "
        f"{counted.get('rounding', 0)} more within rounding; {whole.sum()} of the {len(whole)} whose rows are complete "
        "reproduce exactly."
        if here.any()
        else "No released file is at hand: nothing is reproduced, all figures are redrawn from the paper."
    ]
    many = findings[(findings["finding"] == "beyond_options") & (findings["share"] > MANY)]
    unfit = [" ".join(run) for run in many[["model", "method", "setting"]].drop_duplicates().to_numpy()]
    if unfit:
        said.append(
            f"More than {MANY} % of the letters lie beyond the options in these runs, whose figures should not be "
            f"used: {', '.join(unfit)}."
        )
    prediction = option_order_prediction()
    like = prediction[prediction["fits"]]
    said.append(
        f"Among the printed figures {len(like)} TruthfulQA configurations ({_runs(like)}) have the PV that mixed-up "
        f"option orders predict ({like['variation'].min():.0f} to {like['variation'].max():.0f} %): likely, not "
        "proven. BR, RE and PV of these cells, and their part in ALL, should not be quoted."
    )
    return said


def _runs(rows: pd.DataFrame) -> str:
    """E.g. `zero_shot mixed: 4 models; self_critic relevant: 3 models`."""
    models = (rows["method"] + " " + rows["setting"]).value_counts(sort=False)
    return "; ".join(f"{run}: {n} model{'s' if n > 1 else ''}" for run, n in models.items())


def _as_filed(cells: pd.DataFrame, findings: pd.DataFrame | None) -> pd.Series:
    """The file's own figure where the audit has one, else ours."""
    if findings is None or findings.empty:
        return cells["ours"]
    filed = (
        findings.dropna(subset="as_filed").drop_duplicates([*KEYS, "metric"]).set_index([*KEYS, "metric"])["as_filed"]
    )
    own = filed.reindex(pd.MultiIndex.from_frame(cells[[*KEYS, "metric"]])).to_numpy()
    return pd.Series(own, index=cells.index, dtype=float).fillna(cells["ours"])
