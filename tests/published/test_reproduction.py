"""The check of printed figures: verdicts by hand, what the figures say among themselves, the known cells."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from perg_utils.core.loading import load_profile
from perg_utils.core.run import Run
from perg_utils.core.schema import TABLES, conform
from perg_utils.core.workspace import Workspace
from perg_utils.published.checks import consistency, reproduction
from perg_utils.published.importing import import_published
from perg_utils.published.printed import printed_metrics
from perg_utils.reporting import tables
from perg_utils.reporting.tables import reproduction_tables
from perg_utils.reporting.tables.forms import as_html, latex, markdown
from perg_utils.scoring import rates as metrics

SAMPLE = Path(__file__).parents[3] / "shared" / "real" / "published_sample"
CELL = {"setting": "relevant", "method": "zero_shot", "model": "M", "source": "TQA"}


def table(rows, **counts):
    frame = pd.DataFrame([{**CELL, "n": 100, "n_unscored": 0, **row} for row in rows]).reindex(
        columns=list(TABLES["metrics"])
    )
    return conform("metrics", frame.assign(**counts))


@pytest.mark.parametrize(
    ("published", "ours", "verdict"),
    [
        (18.2, 18.18, "exact"),
        (18.2, 18.2499, "exact"),
        (18.2, 18.15, "exact"),
        (18.2, 18.26, "rounding"),
        (18.2, 18.1, "rounding"),
        (18.2, 18.31, "differs"),
        (18.2, np.nan, "not in the files"),
        (np.nan, np.nan, "no figure"),
    ],
)
def test_a_verdict_says_how_near_a_figure_comes_to_the_printed_one(published, ours, verdict):
    paper = table([{"metric": "breakage_rate", "value": published}])
    own = table([{"metric": "breakage_rate", "value": ours}])
    (row,) = reproduction.reproduce(own, paper).itertuples()
    assert row.verdict == verdict
    if verdict in ("exact", "rounding", "differs"):
        assert row.difference == pytest.approx(ours - published) and row.n == 100


def test_figures_that_the_paper_has_not_are_not_listed_and_every_printed_one_is():
    own = table([{"metric": "delivery_failure", "value": 3.0}, {"metric": "breakage_rate", "value": 3.0}])
    cells = reproduction.reproduce(own)
    assert len(cells) == 944 and set(cells["verdict"]) == {"not in the files", "no figure"}
    assert (cells["verdict"] == "no figure").sum() == 13 * 4


def test_figures_redrawn_from_the_paper_reproduce_nothing():
    for own in (printed_metrics(), printed_metrics().iloc[:0]):
        cells = reproduction.reproduce(own)
        assert set(cells["verdict"]) == {"not in the files", "no figure"} and cells["ours"].isna().all()
        assert cells.loc[cells["verdict"] == "not in the files", "reason"].str.contains("nothing is checked").all()


def test_reasons_name_missing_rows_missing_ratings_unlisted_files_and_the_audit():
    paper = table([{"metric": "breakage_rate", "value": 10.0}, {"metric": "robustness_error", "value": 20.0}])
    rows = [
        {"metric": "breakage_rate", "value": 12.0},
        {"metric": "robustness_error", "value": np.nan, "n": 0},
        {"metric": "accuracy_with", "value": 50.0, "n": 800, "n_unscored": 10},
    ]
    files = pd.DataFrame(
        [{"status": "read", "verified": False, **{k: CELL[k] for k in ("setting", "method", "model")}}]
    )
    found = pd.DataFrame(
        [{**CELL, "metric": "breakage_rate", "finding": "option_orders", "as_filed": 10.01, "corrected": 12.0}]
    )
    cells = reproduction.reproduce(table(rows), paper, found, files).set_index("metric")
    reason = cells.loc["breakage_rate", "reason"]
    assert "7 of 817 rows missing" in reason and "manifest" in reason and "see audit: option_orders" in reason
    assert cells.loc["breakage_rate", "as_filed"] == pytest.approx(10.01)
    assert cells.loc["robustness_error", "reason"] == "no ratings in the files"
    plain = reproduction.reproduce(table(rows), paper).set_index("metric")
    assert plain.loc["breakage_rate", "reason"] == "7 of 817 rows missing"


# --- tables and the sample


def test_the_tables_hold_every_cell_in_every_form(tmp_path):
    workspace = Workspace(tmp_path, tmp_path / "figures")
    assert tables.reproduction(Run(load_profile("published"), workspace))[0].absent
    reproduction.reproduce(printed_metrics()).to_parquet(tmp_path / "reproduction.parquet")
    made = {t.name: t for t in tables.reproduction(Run(load_profile("published"), workspace))}
    assert list(made)[:2] == ["reproduction", "reproduction_cells"]
    assert len(made["reproduction"].data) == 59 and len(made["reproduction_cells"].cells) == 944
    assert made["reproduction"].cells.astype(str).to_numpy().tolist() == [
        ["", "", "all 59 configurations", "0", "0", "0", "892", "52"]
    ]
    assert len(made["option_order_prediction"].cells) == 11
    for one in made.values():
        assert one.title in markdown(one) and r"\toprule" in latex(one)
        assert len(as_html(one)) < 400_000
    assert "nothing is reproduced" in made["reproduction"].caption


def test_configurations_without_a_file_share_a_line(tmp_path):
    cells = reproduction.reproduce(printed_metrics())
    known = (cells["model"] == "Mixtral-8x7B") & (cells["method"] == "few_shot")
    cells.loc[known, "verdict"] = "exact"
    shown = reproduction_tables.tables(cells)[0].cells.astype(str).to_numpy().tolist()
    assert shown == [
        ["relevant", "few_shot", "Mixtral-8x7B", "16", "0", "0", "0", "0"],
        ["", "", "the 58 others", "0", "0", "0", "876", "52"],
    ]


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no released sample here")
def test_the_known_cells_of_the_sample_reproduce(tmp_path):
    workspace = Workspace(tmp_path, tmp_path / "figures")
    import_published(SAMPLE, workspace)
    cells = reproduction.reproduce(metrics.metrics(workspace.read("scores")))
    own = cells[
        (cells["model"] == "Mixtral-8x7B") & (cells["method"] == "zero_shot") & (cells["setting"] == "relevant")
    ]
    got = own.set_index(["source", "metric"])
    known = {("MMLU", "breakage_rate"): 18.18, ("MMLU", "performance_variation"): 27.58,
             ("TQA", "breakage_rate"): 19.86, ("TQA", "performance_variation"): 24.83}  # fmt: skip
    for key, value in known.items():
        assert got.loc[key, "ours"] == pytest.approx(value, abs=0.005) and got.loc[key, "verdict"] == "exact"
    assert got.loc[("CQA", "breakage_rate"), "reason"].startswith("123 of 1,221 rows missing")
    assert got.loc[("MMLU", "alignment_failure"), "reason"] == "no ratings in the files"
    options = workspace.read("examples").query("source == 'TQA'")["options"].map(len).value_counts()
    assert options.to_dict() == consistency.TQA_OPTIONS
