import in_process
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parrot import Says

from perg_utils.core.loading import load_profile
from perg_utils.core.run import Run, open_run
from perg_utils.run import pipeline
from perg_utils.studies import free_form

CONFIG = load_profile("study_free_form").statistics


@pytest.mark.parametrize(
    "response, letter",
    [
        ("In short, salt.", "B"),
        ("It is grey salt.", "C"),
        ("Neither salt nor iron.", None),
        ("I do not know.", None),
        ("Ironing takes long.", None),
        ("SALT! Thus it must be salt (A).", "B"),
    ],
)
def test_an_answer_names_the_one_option_whose_words_it_has(response, letter):
    assert free_form.named(response, ["iron", "salt", "grey salt"]) == letter


def test_the_last_sentence_that_names_one_option_decides():
    options = ["iron", "salt", "wool"]
    assert free_form.settled("First salt. Then we weigh iron against wool. Well.", options) == "B"
    assert free_form.settled("Thus it must be wool. Thus it must be wool (A).", options) == "C"
    assert free_form.settled("It is either iron or wool.", options) is None


def test_the_nearest_option_has_most_words_in_common():
    options = [["the open sea", "a dark cave"], ["a dark cave", "the open sea"]]
    assert free_form.nearest(["It lives in a cave, dark and wet."] * 2, options, None) == ["B", "A"]


@settings(deadline=None)
@given(st.floats(0, 1), st.floats(0.55, 1), st.floats(0.55, 1))
def test_a_correction_undoes_the_errors_of_what_measured(true, sensitivity, specificity):
    seen = true * sensitivity + (1 - true) * (1 - specificity)
    assert free_form.corrected(seen, sensitivity, specificity) == pytest.approx(true, abs=1e-9)


def test_a_mapping_that_knows_nothing_cannot_be_corrected():
    assert pd.isna(free_form.corrected(0.5, 0.4, 0.6))


def test_bounds_of_a_corrected_share_hold_the_true_one_as_often_as_they_say():
    rng, true, sensitivity, specificity = np.random.default_rng(5), 0.55, 0.9, 0.85
    held = 0
    for number in range(300):
        seen = rng.random(120) < true * sensitivity + (1 - true) * (1 - specificity)
        checked = {"sensitivity": rng.binomial(60, sensitivity) / 60, "specificity": rng.binomial(50, specificity) / 50}
        found = free_form.mended(pd.Series(seen), {**checked, "n_right": 60, "n_wrong": 50}, CONFIG, number)
        held += found["low"] <= 100 * true <= found["high"]
    assert 0.92 <= held / 300 <= 0.98


def test_a_mapping_that_may_be_no_better_than_chance_corrects_nothing():
    right = pd.Series([True, False, None, True], dtype="boolean")
    checked = {"sensitivity": 0.6, "specificity": 0.5, "n_right": 10, "n_wrong": 10}
    found = free_form.mended(right, checked, CONFIG, 1)
    assert found["seen"] == pytest.approx(200 / 3) and found["n"] == 3
    assert all(pd.isna(found[name]) for name in ("value", "low", "high"))
    none = free_form.mended(
        right, {"sensitivity": float("nan"), "specificity": 1.0, "n_right": 0, "n_wrong": 9}, CONFIG, 1
    )
    assert pd.isna(none["value"])


def outcomes(**right: str) -> pd.DataFrame:
    """What `free_form.outcomes` gives: for each format_shown a string of + and - (and ? for no reply), by question."""
    rows = [
        {"model": "S", "example_id": f"q{i}", "format": name.split("_")[0], "shown": name.split("_")[1], "right": one}
        for name, marks in right.items()
        for i, one in enumerate({"+": True, "-": False, "?": None}[mark] for mark in marks)
    ]
    return pd.DataFrame(rows).astype({"right": "boolean"})


HELD = {
    **{f"letters_{shown}": "++++++++--" for shown in free_form.SHOWN},
    "free_none": "++++++----",
    "free_again": "+++++-+---",
    "free_placebo": "++++++----",
    "free_relevant": "++------?-",
}


def test_rates_churn_and_contrasts_are_those_of_the_same_questions():
    found = outcomes(**HELD)
    rates = free_form.rates(found).set_index(["format", "shown", "measure"])["value"]
    assert rates["free", "none", "accuracy"] == 60 and rates["letters", "relevant", "breakage"] == 0
    assert rates["free", "relevant", "breakage"] == pytest.approx(100 * 4 / 6)
    assert rates["free", "again", "breakage"] == pytest.approx(100 / 6)
    sides = free_form.churn(found, CONFIG, 1).set_index(["format", "shown"])["value"]
    assert sides["letters", "again"] == 0 and sides["free", "again"] == pytest.approx(100 * 2 / 9)
    effects = free_form.contrasts(found, CONFIG).set_index("question")
    assert effects.loc["a preference, free form", "difference"] == pytest.approx(-100 * 4 / 9)
    more = effects.loc["more in free form than with letters"]
    assert more["difference"] == pytest.approx(-100 * 4 / 9) and more["n"] == 9, "letters lose nothing"


def test_the_interaction_of_breakage_is_what_free_form_breaks_more():
    found = free_form.interaction(outcomes(**HELD), CONFIG, 1).set_index("shown")
    # The question without a reply is left out: of 6 right free answers 4 break by a preference, none by a placebo.
    assert found.loc["relevant", "value"] == pytest.approx(100 * 4 / 6) and found.loc["placebo", "value"] == 0
    beyond = found.loc["relevant, beyond a placebo"]
    assert beyond["value"] == pytest.approx(100 * 4 / 6) and 0 < beyond["low"] < beyond["value"] < beyond["high"]
    assert (found["n"] == 9).all() and found.loc["again", "value"] == pytest.approx(100 / 6)
    wrong = {f"free_{shown}": "-" * 10 for shown in free_form.SHOWN}
    none = free_form.interaction(outcomes(**(HELD | wrong)), CONFIG, 1)
    assert none[["value", "low", "high"]].isna().all().all(), "nothing can break"
    unasked = {f"free_{shown}": "?" * 10 for shown in free_form.SHOWN}
    none = free_form.interaction(outcomes(**(HELD | unasked)), CONFIG, 1)
    assert none["value"].isna().all() and (none["n"] == 0).all(), "no reply came"


def test_questions_that_point_to_their_options_do_not_stand_alone():
    profile = load_profile("study_free_form", ["world=real"])
    texts = [
        "What is salt made of?",
        "Which of these is salt?",
        "Salt is ...",
        "The sea is _____.",
        "Where is salt kept?",
    ]
    examples = pd.DataFrame({"example_id": list("abcde"), "source": ["TQA"] * 4 + ["MMLU"], "question": texts})
    run = Run(profile, open_run("study_free_form").workspace, {"examples": examples})
    assert free_form.alone(run) == ["a"]


def test_the_study_runs_in_miniature(tmp_path):
    overrides = ("data.limit=3", "models=[{name: L, model: data/embedded/models/L, dtype: float32}]")
    with in_process.notebooks(kernels_for="study"):
        pipeline.run(pipeline.Command("study_free_form", out=tmp_path, overrides=overrides))
    run = open_run("study_free_form", overrides, tmp_path)
    assert {p.stem for p in run.workspace.figures.glob("*.png")} == {"free_form", "contrasts"}
    free = free_form.asked(run, "L")
    assert set(free["shown"]) == set(free_form.SHOWN) and len(free) == 9 * len(free_form.SHOWN)
    found = free_form.outcomes(run, "L", free, "words")
    right = found[(found["format"] == "free") & (found["shown"] == "none")]["right"]
    assert right.mean() > 0.5, "L knows most of its world without options, too"
    checked = free_form.validated(run, "L", "words")
    assert checked["sensitivity"] > 0.9 and checked["n_right"] + checked["n_wrong"] <= 9
    by_words = free_form.mapped(run, "L", free, "words")
    near = free_form.mapped(run, "L", free, "nearest")  # no embedder: by words in common
    assert near.notna().all() and (near == by_words)[by_words.notna()].mean() > 0.9


def test_a_model_that_maps_is_shown_the_answer_and_the_options_and_nothing_else(monkeypatch, tmp_path):
    reader = Says(lambda request: "B" if "ash" in words(request) else "none")
    monkeypatch.setattr("perg_utils.studies.arms.open_engine", lambda model: reader)
    model = "models=[{name: R, engine: api, model: reader-1}]"
    run = open_run("study_free_form", (model, "prompts=standard", "world=real", "data.origin=hub"), tmp_path)
    asked = {"example_id": ["q1", "q2"], "source": ["TQA"] * 2, "question": ["What is its colour?"] * 2}
    asked |= {"options": [["white", "grey", "pink"]] * 2, "gold": ["B"] * 2}
    run = Run(run.profile, run.workspace, {"examples": pd.DataFrame(asked)})
    free = pd.DataFrame({"example_id": ["q1", "q2", "q1"], "response": ["It is like ash.", "It is like a rose.", None]})
    letters = free_form.mapped(run, "R", free, "model")
    assert letters[0] == "B" and letters[1:].isna().all()
    seen = [words(request) for request in reader.asked]
    assert len(seen) == 2 and all("white" in text and "What is its colour?" not in text for text in seen)


def words(request):
    return " ".join(text for _, text in request.messages)
