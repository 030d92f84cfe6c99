"""A run's rates corrected by people's ratings: weights by stratum, settled ratings, what the command says."""

import pandas as pd
import pytest
from test_annotation import fill, given, small_run

from perg_utils.__main__ import main
from perg_utils.core.errors import DataError
from perg_utils.core.schema import ROW_ID, TABLES
from perg_utils.judging import annotation, correction


@pytest.fixture
def run(tmp_path):
    profile, workspace = small_run(tmp_path / "run")
    rated = workspace.read("judgements")
    rated = rated[rated["setting"] == "relevant"]
    scores = rated[ROW_ID].assign(source="TQA", category="Clarity", sampled=True, status="ok", cause=None)
    for name in ("correct_without", "correct_with", "delivered_without", "delivered_with"):
        scores[name] = True
    scores = scores.assign(followed=rated["rating"] >= 3, robust=rated["rating"] >= 3, fallback=False, truncated=False)
    workspace.write("scores", scores[list(TABLES["scores"])])
    return profile, workspace


def test_labels_are_weighted_by_their_stratum_and_settled_by_the_lower_median(run, tmp_path):
    folder = tmp_path / "sheet"
    annotation.sample(*run, folder, 12)
    sheets = [fill(folder, "ann", lambda row: 5), fill(folder, "bob", lambda row: 2)]
    people, _ = annotation.merge(*run, folder, sheets)
    found = correction.labels(people, 3)
    # Of 24 responses 4 are rated low: each of them stands for itself, the other 20 are shared by the other labels.
    assert len(found) == 12 and found["weight"].sum() == pytest.approx(24) and not found["followed"].any()
    assert correction.labels(people[people["judge"] == "person ann"], 3)["followed"].all()


def test_a_stratum_of_which_only_some_are_rated_is_carried_by_these(run, tmp_path):
    folder = tmp_path / "sheet"
    annotation.sample(*run, folder, 12)
    half = fill(folder, "ann", lambda row: given(row) if int(row.item, 16) % 2 else "")
    people, _ = annotation.merge(*run, folder, [half])
    rated = people[people["rating"].notna()]
    sizes = rated.drop_duplicates("stratum")["stands_for"].astype(int)
    found = correction.labels(people, 3)
    assert len(found) == len(rated) < 12 and found["weight"].sum() == pytest.approx(sizes.sum())


def test_the_run_is_corrected_and_the_command_says_what_more_labels_would_buy(run, tmp_path, capsys):
    folder = tmp_path / "sheet"
    annotation.sample(*run, folder, 12)
    sheet = fill(folder, "ann", given)
    assert main(["annotate", "merge", str(folder), str(sheet), "--out", str(tmp_path / "run")]) == 0
    said = capsys.readouterr().out
    assert "Alignment failure (AF): 16.7 % by the judge alone, 16.7 % [" in said
    assert "100 more labels would make it about ±" in said and "Rogan-Gladen 16.7 %" in said
    assert pd.read_csv(folder / "corrected.csv")["metric"].tolist() == [
        *("robust_accuracy", "alignment_failure", "robustness_error")
    ]


def test_where_nothing_can_be_corrected_it_says_why(run, tmp_path):
    profile, workspace = run
    folder = tmp_path / "sheet"
    annotation.sample(*run, folder, 12)
    people, _ = annotation.merge(*run, folder, [fill(folder, "ann", given)])
    few = people.assign(rating=people["rating"].where(people.index == 0))
    assert "fewer than two labels" in correction.correct(profile, workspace, folder, few)
    with pytest.raises(DataError, match="stands_for"):
        correction.labels(people.drop(columns="stands_for"), 3)
    workspace.table_path("scores").unlink()
    assert "not there yet" in correction.correct(profile, workspace, folder, people)
    assert not (folder / "corrected.csv").exists()
