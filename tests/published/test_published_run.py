"""`./run_all.sh --profile published`: without any released file, with the genuine sample, and with broken files."""

import os
import subprocess
import sys
from pathlib import Path

import in_process
import numpy as np
import pandas as pd
import pytest
import released

from perg_utils.core.schema import ALL_SOURCES, TABLES, Metric, Setting
from perg_utils.core.workspace import Workspace
from perg_utils.published.printed import printed_metrics, printed_models
from perg_utils.run import pipeline

SAMPLE = Path(__file__).parents[3] / "shared" / "real" / "published_sample"
#: Nothing listens there: whoever asks for the network gets none, as on a machine without.
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
KEYS = ["model", "method", "setting", "source", "metric"]


def run(out: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "perg_utils", "run", "--profile", "published", "--out", str(out)]
    return subprocess.run(
        [*command, *map(str, arguments)],
        check=False,
        capture_output=True,
        text=True,
        env=os.environ | NO_NETWORK,
        timeout=600,
    )


def run_here(monkeypatch: pytest.MonkeyPatch, out: Path, folder: Path) -> Workspace:
    """Run the notebooks on the files of a folder in this process, and return the workspace."""
    for name, nowhere in NO_NETWORK.items():
        monkeypatch.setenv(name, nowhere)
    with in_process.notebooks():
        pipeline.run(pipeline.Command("published", overrides=(f"published_dir={folder}",), out=out))
    return Workspace.of(out, "published")


@pytest.fixture(scope="module")
def redrawn(tmp_path_factory):
    """The workspace of a run without network and without files."""
    out = tmp_path_factory.mktemp("redrawn")
    done = run(out)
    assert done.returncode == 0, done.stdout + done.stderr
    return Workspace.of(out, "published")


def test_the_papers_figures_are_944_in_59_configurations():
    printed = printed_metrics()
    assert len(printed) == 944
    assert len(printed[["model", "method", "setting"]].drop_duplicates()) == 59
    assert printed["value"].dropna().between(0, 100).all() and printed["n"].isna().all()
    # Without a relevant preference there is no alignment to fail.
    empty = printed[printed["value"].isna()]
    assert (
        len(empty) == 52 and set(empty["metric"]) == {"alignment_failure"} and set(empty["setting"]) == {"irrelevant"}
    )
    assert printed_models()[0] == "Llama3-8B" and len(printed_models()) == 13


def test_without_files_the_tables_equal_the_papers_figures(redrawn):
    metrics = redrawn.read("metrics")
    pd.testing.assert_frame_equal(metrics, printed_metrics())
    main = pd.read_csv(redrawn.figures / "tables" / "main.csv").set_index(KEYS)["value"]
    paper = printed_metrics().set_index(KEYS)["value"]
    of_main = paper[[key[1:3] == ("zero_shot", "relevant") for key in paper.index]]
    assert set(main.index) == set(of_main.index)
    assert np.allclose(main, paper.reindex(main.index))


def test_without_files_the_scatter_equals_the_papers(redrawn):
    scatter = pd.read_csv(redrawn.figures / "scatter.csv").set_index(KEYS)["value"]
    paper = printed_metrics().set_index(KEYS)["value"]
    assert len(scatter) == 3 * 13
    assert np.allclose(scatter, paper.reindex(scatter.index))


def test_without_files_every_page_says_that_it_is_redrawn_and_what_the_files_would_add(redrawn):
    report = (redrawn.figures / "report.html").read_text(encoding="utf-8")
    assert "edrawn from the paper's" in report.replace("&#39;", "'")
    assert "published_dir" in report
    for table in (redrawn.figures / "tables").glob("main.md"):
        assert "edrawn" in table.read_text(encoding="utf-8")
    assert len(redrawn.read("responses")) == 0
    assert set(pd.read_csv(redrawn.run / "files.csv")["status"]) == {"missing"}


def test_without_files_nothing_is_called_reproduced(redrawn):
    cells = pd.read_parquet(redrawn.run / "reproduction.parquet")
    assert len(cells) == 944
    assert set(cells["verdict"]) == {"not in the files", "no figure"}


def test_a_second_call_runs_nothing(redrawn):
    done = run(redrawn.run.parents[2])
    assert done.returncode == 0 and "0 of 6 steps run" in done.stdout, done.stdout + done.stderr


def test_a_folder_that_is_not_there_ends_the_run_before_its_first_step(tmp_path):
    done = run(tmp_path, "--set", "published_dir=nowhere/at/all")
    assert done.returncode == 2
    assert "no folder 'nowhere/at/all'" in done.stderr and "01_import_published" not in done.stdout


def test_broken_files_are_named_and_the_rest_is_imported_and_rendered(tmp_path, monkeypatch):
    data = released.questions()
    folder = tmp_path / "release"
    good = released.put(folder, "relevant/direct/full/janus-7b_7208_0_0-direct-full_eval.csv", released.scored(data))
    cut = released.put(folder, "relevant/cot/full/janus-7b_7208_0_0-cot-full_eval.csv", released.scored(data))
    cut.write_bytes(cut.read_bytes()[:100_000])
    odd = released.put(folder, "relevant/icl/full/janus-7b_7208_0_0-icl-full_eval.csv", pd.DataFrame({"a": [1]}))
    # A name that the manifest lists with another content.
    other = released.put(folder, "irrelevant/direct/full/janus-7b.csv", released.scored(data))
    workspace = run_here(monkeypatch, tmp_path / "out", folder)
    files = pd.read_csv(workspace.run / "files.csv").assign(name=lambda f: f["file"].str.rpartition("/")[2])
    found = files[files["status"] != "missing"].set_index("name")
    assert found.loc[good.name, "status"] == "read" and found.loc[good.name, "used"] == 7208
    assert found.loc[odd.name, "status"] == "unreadable" and "layout" in found.loc[odd.name, "problem"]
    assert found.loc[other.name, "status"] == "altered" and "blob id" in found.loc[other.name, "problem"]
    unread = pd.read_csv(workspace.run / "unread.csv")
    assert cut.name in {file.rpartition("/")[2] for file in unread["file"]} | set(found.index[found["problem"].notna()])
    metrics = workspace.read("metrics")
    zero_shot = metrics[(metrics["method"] == "zero_shot") & (metrics["source"] == ALL_SOURCES)]
    assert zero_shot["value"].notna().all() and (zero_shot["n_unscored"] == 0).all()


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample of released files is not here")
def test_the_sample_gives_the_papers_figures_the_violin_and_the_audit(tmp_path, monkeypatch):
    workspace = run_here(monkeypatch, tmp_path, SAMPLE)
    assert all(len(workspace.read(name)) for name in TABLES if name not in {"judgements", "nulls"})
    metrics = workspace.read("metrics").set_index(KEYS)["value"]
    for source, metric, value in [
        ("MMLU", Metric.BREAKAGE_RATE, 18.18),
        ("MMLU", Metric.PERFORMANCE_VARIATION, 27.58),
        ("TQA", Metric.BREAKAGE_RATE, 19.86),
        ("TQA", Metric.PERFORMANCE_VARIATION, 24.83),
    ]:
        key = ("Mixtral-8x7B", "zero_shot", str(Setting.RELEVANT), source, str(metric))
        assert metrics[key] == pytest.approx(value, abs=0.005)
    cells = pd.read_parquet(workspace.run / "reproduction.parquet").set_index(KEYS)["verdict"]
    for source in ("MMLU", "TQA"):
        assert cells["Mixtral-8x7B", "zero_shot", "relevant", source, "breakage_rate"] == "exact"
    report = (workspace.figures / "report.html").read_text(encoding="utf-8")
    assert all(text in report for text in ("18.18", "27.58", "19.86", "24.83"))
    assert 'id="figure-preferences' in report and "audit" in report.lower()
    violin = pd.read_csv(workspace.figures / "preferences.csv")
    assert "Mixtral-8x7B" in set(violin["model"]) and {"TQA", "MMLU"} <= set(violin["source"])
