"""Results are opened from wherever they were kept, and what is no place of results is told what one is."""

import json

import pandas as pd
import pytest
import synthetic

from perg_utils.core.errors import DataError
from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT
from perg_utils.core.results import open_all, open_results
from perg_utils.core.schema import TABLES
from perg_utils.core.workspace import Workspace
from perg_utils.scoring.rates import metrics
from perg_utils.scoring.scores import score


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    out = tmp_path_factory.mktemp("run")
    profile = load_profile(synthetic.write(out, 2, 24))
    workspace = Workspace.of(out, profile.name)
    run = {name: workspace.read(name) for name in ("examples", "preferences", "responses", "answers", "judgements")}
    scores = score(**run)
    workspace.write("scores", scores)
    workspace.write("metrics", metrics(scores))
    told = {"profile": profile.model_dump(mode="json"), "preferences": "a hash"}
    (workspace.run / "manifest.json").write_text(json.dumps(told))
    return workspace.run


def test_a_run_is_opened_by_its_folder_with_scores_world_judge_and_questions(folder):
    found = open_results(folder)
    assert (found.kind, found.name, found.place) == ("run", folder.name, folder.name)
    assert len(found.scores) and list(found.metrics) == list(TABLES["metrics"])
    assert found.world == found.profile["world"] and found.judge and len(found.questions) == 16
    assert list(found.table("examples")) == list(TABLES["examples"]) and found.table("nulls") is None


def test_a_label_names_results_and_equal_names_are_numbered(folder):
    assert [one.name for one in open_all([folder, folder, f"mine={folder}"])] == [
        folder.name,
        f"{folder.name} (2)",
        "mine",
    ]


def test_committed_results_without_texts_keep_their_scores():
    found = open_results("figures/laptop/study")
    assert (found.kind, found.name, found.world) == ("results", "laptop_study", "real")
    assert len(found.scores) == 1620 and found.place == "figures/laptop/study"
    # The controls were asked the same questions with the same preferences: they are compared question by question.
    assert open_results("figures/laptop/controls").questions == found.questions != ""


def test_committed_tables_give_the_rates_that_they_were_drawn_from():
    found = open_results(ROOT / "figures" / "demo")
    assert (found.kind, found.name, found.world, found.scores) == ("tables", "demo", "invented", None)
    own = pd.read_csv(ROOT / "figures" / "demo" / "tables" / "robust_accuracy.csv").set_index(
        ["model", "method", "setting"]
    )
    kept = found.metrics[found.metrics["metric"] == "robust_accuracy"].set_index(["model", "method", "setting"])
    assert kept["value"].round(9).to_dict() == own["value"].round(9).to_dict()
    assert set(kept["source"]) == {"ALL"}


def test_printed_figures_have_values_and_nothing_else():
    found = open_results("data/paper_metrics.csv")
    assert (found.name, found.world, len(found.metrics)) == ("paper, as printed", "real", 944)
    assert found.metrics["low"].isna().all() and found.metrics["n"].isna().all()


def test_what_holds_no_results_is_told_what_does(tmp_path):
    with pytest.raises(DataError, match="no folder or file of results, and no profile"):
        open_results("nowhere")
    with pytest.raises(DataError, match=r"holds no results: no tables/metrics.parquet"):
        open_results(tmp_path)
    (tmp_path / "some.csv").write_text("model,value\nS,1\n")
    with pytest.raises(DataError, match=r"missing \['method', 'setting', 'source', 'metric'\]"):
        open_results(tmp_path / "some.csv")
    with pytest.raises(DataError, match="run the earlier steps"):
        open_results("demo", tmp_path)
