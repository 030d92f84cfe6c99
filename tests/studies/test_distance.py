import in_process
import numpy as np
import pandas as pd
import pytest
from parrot import Says

from perg_utils.core.loading import load_profile
from perg_utils.core.run import Run, open_run
from perg_utils.core.schema import Category, Null
from perg_utils.judging.rubric import Case
from perg_utils.run import pipeline
from perg_utils.scoring.discrimination import discrimination
from perg_utils.studies import distance, letters, validity

CONFIG = load_profile("study_distance").statistics
CASE = Case("What is it?", ("iron", "salt"), "Keep it short.", Category.CLARITY, "It is salt.", "Salt.")
CASES = pd.DataFrame({"case": pd.Series([CASE], index=[7], dtype=object)})


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
    cases = pd.DataFrame({"kind": [str(Null.MATCHED)] * 4, "example_id": list("wxyz")})
    rated = {"a": pd.Series([5.0, 5, 1, 1]), "b": pd.Series([5.0, 1, 1, 5]), "c": pd.Series([4.0, 4, 2, 2])}
    silent = {"none": pd.Series([None] * 4, dtype=float)}
    found = validity.agreement(cases, rated | silent, CONFIG, 1).set_index(["judge", "other"])
    assert len(found) == 3 and found.loc[("a", "b"), "value"] == 50 and found.loc[("a", "b"), "low"] < 50
    assert found.loc[("a", "b"), "n"] == 4 and found.loc[("a", "b"), "kappa"] == 0
    assert found.loc[("a", "c"), "kappa"] == 1


def test_pairs_are_responses_and_their_unit_is_the_question():
    rows = [("q1", p, "S", "zero_shot", "relevant", kind, p) for p in ("c", "x") for kind in ("matched", "plain")]
    columns = ["example_id", "preference_id", "model", "method", "setting", "kind", "matched"]
    found = validity.as_nulls(pd.DataFrame(rows, columns=columns), "J", pd.Series([5.0, 1, 5, 1]))
    assert found["question"].tolist() == ["q1"] * 4 and found["example_id"].nunique() == 2


def test_agreement_counts_responses_and_draws_questions():
    cases = pd.DataFrame({"kind": [str(Null.MATCHED)] * 5, "example_id": [*"wwww", "x"]})
    rated = {"a": pd.Series([5.0] * 5), "b": pd.Series([5.0, 5, 5, 5, 1])}
    [row] = validity.agreement(cases, rated, CONFIG, 1).to_dict("records")
    assert row["value"] == 80 and row["n"] == 5 and (row["low"], row["high"]) == (0, 100), "two questions, not five"
    assert validity.agreement(cases, {"a": rated["a"]}, CONFIG, 1).columns.tolist() == list(row)


def test_a_wrong_answer_is_a_failure_whether_it_is_rated_or_not(tmp_path):
    right = [True] * 6 + [False] * 4
    scores = pd.DataFrame({"example_id": [f"q{i}" for i in range(10)], "correct_with": right})
    scores = scores.assign(model="S", method="zero_shot", setting="relevant", sampled=True, category="Clarity")
    scores = scores.assign(source="TQA", preference_id="p", correct_without=True, followed=None, robust=None)
    scores = scores.assign(delivered_without=True, delivered_with=True, cause=None, status="ok")
    scores = scores.astype(dict.fromkeys(("correct_without", "correct_with", "followed", "robust"), "boolean"))
    run = Run(load_profile("study_distance"), open_run("study_distance", (), tmp_path).workspace, {"scores": scores})
    found = validity.by_judge(run, {"J": pd.Series([5.0] * 6 + [None] * 4)}).set_index("measure")["value"]
    assert found["robust accuracy"] == 60 and found["breakage rate"] == 40 and found["robustness error"] == 40
    unsure = validity.by_judge(run, {"J": pd.Series([5.0] * 5 + [None] * 5)}).set_index("measure")
    assert unsure.loc["robust accuracy", "value"] == pytest.approx(60) and unsure.loc["robust accuracy", "n"] == 9


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
    told = discrimination(nulls, run.read("preferences"), config=CONFIG, seed=1, unit="question")
    assert set(told["kind"]) == {"plain", "mismatched"} and told[told["category"] == "ALL"]["pairs"].tolist() == [
        18,
        18,
    ]
    scores = run.read("scores")
    ranked = validity.by_judge(run, {"main": pd.Series(5.0, index=scores.index)}).set_index(["method", "measure"])
    assert set(ranked["judge"]) == {"main"} and len(ranked) == 2 * 4
    for method in ("zero_shot", "pref_aligner"):
        own = scores[(scores["method"] == method) & (scores["setting"] == "relevant")]
        assert ranked.loc[(method, "robust accuracy"), "value"] == pytest.approx(100 * own["correct_with"].mean())
        assert ranked.loc[(method, "alignment failure"), "value"] == 0, "a judge that likes all finds no failure"
        broke, failed = (ranked.loc[(method, name), "value"] for name in ("breakage rate", "robustness error"))
        known = own[own["correct_without"].astype(bool)]
        assert broke == failed == pytest.approx(100 * (~known["correct_with"].astype(bool)).mean())
    tables = {p.stem for p in (run.workspace.figures / "tables").glob("*.csv")}
    assert {"distance", "judge_auc", "judges_agree", "by_judge"} <= tables
    pairs = distance.pairs_of_release(
        run, "L", 600, 4, 42
    )  # one preference a question: no two to set against each other
    assert set(pairs["kind"]) == {"plain to preferred"} and len(pairs) == known_right(scores)


def known_right(scores):
    own = scores[(scores["method"] == "zero_shot") & (scores["setting"] == "relevant")]
    return int(own["correct_without"].astype(bool).sum())


def test_a_model_is_asked_in_the_judges_words_and_its_rating_is_an_expectation(monkeypatch, tmp_path):
    seen = []

    def likely(journal, config, asked, labels):
        seen.append((config.name, asked, labels))
        return [[0.0, 0.0, 0.5, 0.0, 0.5] for _ in asked]

    monkeypatch.setattr(letters, "likelihoods", likely)
    run = open_run("study_distance", ("prompts=standard",), tmp_path)
    assert validity.by_expectation(run, CASES, run.profile.models[0]).to_dict() == {7: 4.0}
    [(_, [(chat, behind, count)], labels)] = seen
    assert labels == "12345" and count == 5 and "rating" in behind
    said = chat[-1][1]
    assert all(text in said for text in ("What is it?", "Keep it short.", "It is salt.", "Salt."))


def test_a_language_model_that_judges_the_run_rates_the_cases_and_is_asked_once(monkeypatch, tmp_path):
    engine = Says(lambda request: '{"explanation": "so", "rating": 4}')
    monkeypatch.setattr("perg_utils.engines.open.open_engine", lambda model: engine)
    judge = "judge={kind: llm, structured: false, model: {name: J, engine: api, model: judge-1}}"
    run = open_run("study_distance", (judge, "prompts=standard"), tmp_path)
    for _ in range(2):
        assert validity.by_own_judge(run, CASES).to_dict() == {7: 4.0}
    assert len(engine.asked) == 1, "what the journal holds is not asked, or paid for, again"
