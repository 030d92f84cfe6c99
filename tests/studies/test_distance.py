import in_process
import numpy as np
import pandas as pd
import pytest

from perg_utils.core.loading import load_profile
from perg_utils.core.run import open_run
from perg_utils.core.schema import Null
from perg_utils.run import pipeline
from perg_utils.scoring.discrimination import discrimination
from perg_utils.studies import distance, validity

CONFIG = load_profile("study_distance").statistics


@pytest.mark.parametrize(
    "response, left",
    [
        ("Salt keeps food. Think of the sea.", "Think of the sea."),
        ("The answer is B. It was known in Rome.", "It was known in Rome."),
        ("(B) is right!\nMany people like it.", "Many people like it."),
        ("B", ""),
        ("", ""),
    ],
)
def test_what_names_an_option_is_taken_out(response, left):
    assert distance.without_answer(response, ["iron", "salt"]) == left


def test_where_every_sentence_names_an_option_only_the_option_is_taken_out():
    left = distance.without_answer("In short, salt (B). So salt.", ["iron", "salt"], sentences=False)
    assert left.split() == ["In", "short,", ".", "So", "."]


def test_distance_is_none_between_equal_texts_and_whole_between_texts_without_a_common_word():
    rows = [
        ("q1", "aligned", "the sea is wide", "the sea is wide"),
        ("q1", "zero_shot", "the sea is wide", "old kings"),
    ]
    pairs = pd.DataFrame(rows, columns=["example_id", "kind", "one", "other"]).assign(model="S", left=True)
    extra = pd.DataFrame([("q2", k, "a", "", "S", False) for k in ("aligned", "zero_shot")], columns=pairs.columns)
    found = distance.measured(pd.concat([pairs, extra]), None)
    assert found["distance"].round(6).tolist() == [0, 1], "a pair without text left is not measured"
    moved = distance.moved(found, CONFIG, 1).set_index("kind")["value"]
    assert moved["zero_shot less aligned"] == pytest.approx(100)


def test_within_questions_distance_goes_with_change_only_where_it_was_put_in():
    rng = np.random.default_rng(2)
    rows = []
    for question in range(300):
        for kind, slope in (("plain to preferred", 6.0), ("preferred to preferred", 0.0)):
            base = rng.normal(-1, 1)  # of the question: it must not matter
            for _ in range(4):
                far = rng.random() * 0.6 + 0.1 * base
                changed = rng.random() < 1 / (1 + np.exp(-(base + slope * (far - 0.3))))
                rows.append({"example_id": f"q{question}", "kind": kind, "distance": far, "changed": changed})
    found = distance.conditional(pd.DataFrame(rows)).set_index("kind")
    put_in, control = found.loc["plain to preferred"], found.loc["preferred to preferred"]
    assert put_in["low"] < np.exp(0.6) < put_in["high"] and put_in["low"] > 1
    assert control["low"] < 1 < control["high"]
    none = distance.conditional(pd.DataFrame(rows).assign(changed=False))
    assert none["value"].isna().all() and (none["n"] == 0).all()


def test_ratings_without_a_threshold_are_read_at_the_rate_of_another_judge():
    ratings = pd.Series(np.linspace(0, 1, 101))
    moved = validity.at_the_same_rate(ratings, pd.Series([True] * 101), 0.25)
    assert (moved >= 3).mean() == pytest.approx(0.25, abs=0.02)
    assert moved.rank().tolist() == ratings.rank().tolist(), "the order stays"


def test_agreement_beyond_chance():
    cases = pd.DataFrame({"kind": [str(Null.MATCHED)] * 4})
    rated = {"a": pd.Series([5.0, 5, 1, 1]), "b": pd.Series([5.0, 1, 1, 5]), "c": pd.Series([4.0, 4, 2, 2])}
    found = validity.agreement(cases, rated).set_index(["judge", "other"])
    assert found.loc[("a", "b"), "same"] == 50 and found.loc[("a", "b"), "kappa"] == 0
    assert found.loc[("a", "c"), "kappa"] == 1


def test_the_study_runs_in_miniature(tmp_path):
    overrides = ("data.limit=6", "models=[{name: L, model: data/embedded/models/L, dtype: float32}]")
    with in_process.notebooks(kernels_for="study"):
        pipeline.run(pipeline.Command("study_distance", out=tmp_path, overrides=overrides))
    run = open_run("study_distance", overrides, tmp_path)
    assert {p.stem for p in run.workspace.figures.glob("*.png")} == {"distance", "judge_auc"}
    cases = validity.sample(run, "L", 100, 4, 42)
    assert set(cases["kind"]) == {"matched", "plain", "mismatched"} and len(cases) == 3 * 18
    plain = cases[cases["kind"] == "plain"]["case"].tolist()
    matched = cases[cases["kind"] == "matched"]["case"].tolist()
    assert all(
        a.response_with == b.response_without and a.preference == b.preference
        for a, b in zip(plain, matched, strict=True)
    )
    assert all(case.row == () for case in cases["case"]), "no judge is told which row it rates"
    main = validity.own_ratings(run, cases)
    assert main[cases["kind"] == "matched"].notna().all() and main[cases["kind"] != "matched"].isna().all()
    nulls = validity.as_nulls(cases, "cues", validity.by_cues(cases))
    told = discrimination(nulls, run.read("preferences"), config=CONFIG, seed=1)
    assert set(told["kind"]) == {"plain", "mismatched"} and told[told["category"] == "ALL"]["pairs"].tolist() == [
        18,
        18,
    ]
    ranked = validity.by_judge(run, {"main": pd.Series(5.0, index=run.read("scores").index)})
    assert set(ranked["method"]) == {"zero_shot", "pref_aligner"} and (ranked["alignment_failure"] == 0).all()
