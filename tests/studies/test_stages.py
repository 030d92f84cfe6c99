import in_process
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perg_utils.core.loading import load_profile
from perg_utils.core.run import open_run
from perg_utils.run import pipeline
from perg_utils.studies import stages
from perg_utils.studies.contrasts import by_bootstrap, share

#: One edited answer: draft, letter, followed, and whatever else is not the rule.
PLAIN = {"model": "S", "setting": "mixed", "source": "TQA", "gold": "A", "draft": "A", "letter": "A", "followed": True}
PLAIN |= {"unreadable": False, "cut": False, "unchanged": False, "obeyed": False}


def edited(*rows: dict, **every) -> pd.DataFrame:
    """A table of `stages.edits`, robust being worked out; each row names what differs from a robust answer."""
    held = [PLAIN | every | row | {"example_id": f"q{i}"} for i, row in enumerate(rows)]
    frame = pd.DataFrame(held)
    right = frame["letter"] == frame["gold"]
    if "robust" not in frame:
        frame["robust"] = right & (frame["followed"].astype(bool) | (frame["setting"] == "irrelevant"))
    return frame.astype({"followed": "boolean", "robust": "boolean"})


@pytest.mark.parametrize(
    "row, became",
    [
        ({}, "robust"),
        ({"draft": "B", "letter": "B"}, "draft wrong"),
        ({"draft": None, "letter": None}, "draft wrong"),
        ({"draft": "B"}, "robust"),  # the edit has mended it
        ({"draft": "B", "letter": "B", "unreadable": True}, "draft wrong"),
        ({"unreadable": True, "followed": False}, "unreadable or cut"),
        ({"cut": True, "letter": None}, "unreadable or cut"),
        ({"cut": True}, "robust"),  # cut, and yet right and as wished
        ({"letter": None}, "letter lost"),
        ({"letter": "C"}, "letter changed"),
        ({"letter": "C", "followed": False}, "letter changed"),
        ({"followed": False, "unchanged": True}, "unchanged"),
        ({"followed": False}, "edited, not followed"),
        ({"obeyed": True}, "irrelevant one obeyed"),
        ({"setting": "irrelevant", "followed": None, "obeyed": True}, "irrelevant one obeyed"),
        ({"setting": "irrelevant", "followed": None}, "robust"),
        ({"setting": "irrelevant", "followed": None, "letter": "B"}, "letter changed"),
    ],
)
def test_every_answer_is_in_the_class_of_its_first_failure(row, became):
    row = {"followed": True} | row
    frame = edited(row | {"followed": bool(row["followed"])})
    assert stages.classes(frame)["became"].tolist() == [became]


@settings(deadline=None)
@given(
    st.lists(
        st.fixed_dictionaries(
            {
                "draft": st.sampled_from(["A", "B", None]),
                "letter": st.sampled_from(["A", "B", "C", None]),
                **{name: st.booleans() for name in ("followed", "unreadable", "cut", "unchanged", "obeyed")},
                "setting": st.sampled_from(["relevant", "mixed", "irrelevant"]),
            }
        ),
        min_size=1,
        max_size=20,
    )
)
def test_classes_are_robust_exactly_where_the_scores_are(rows):
    classed = stages.classes(edited(*rows))
    assert set(classed["became"]) <= set(stages.CLASSES)
    robust = classed["became"].isin(["robust", "irrelevant one obeyed"])
    assert (robust == classed["robust"]).all()
    fall = stages.waterfall(classed)
    assert fall.groupby(["model", "setting"])["value"].sum().round(6).eq(100).all()


def test_an_answer_that_is_not_scored_is_left_out():
    frame = edited({}, {"robust": None}, robust=True)
    assert len(stages.classes(frame)) == 1


def four_arms(own_mixed: dict, **others) -> pd.DataFrame:
    """One question in the four arms that the blame is worked out from; arms that are not named are robust."""
    arms = {
        "own_mixed": own_mixed,
        "own_relevant": others.get("own_relevant", {}),
        "right_mixed": others.get("right_mixed", {}),
        "right_relevant": others.get("right_relevant", {}),
    }
    rows = []
    for name, row in arms.items():
        who, setting = name.split("_")
        rows.append(row | {"model": {"own": "S", "right": "S.right"}[who], "setting": setting})
    return edited(*rows).assign(example_id="q0")


@pytest.mark.parametrize(
    "arms, blamed",
    [
        ({"own_mixed": {}}, {}),
        # A wrong draft is carried over in both settings, a right one is not: all is the draft's.
        ({"own_mixed": {"draft": "B", "letter": "B"}, "own_relevant": {"draft": "B", "letter": "B"}}, {"draft": 1.0}),
        ({"own_mixed": {"letter": None}, "right_mixed": {"letter": None}}, {"relevance": 0.5, "delivery": 0.5}),
        (
            {name: {"letter": None} for name in ("own_mixed", "own_relevant", "right_mixed", "right_relevant")},
            {"delivery": 1.0},
        ),
        (
            {name: {"letter": "C"} for name in ("own_mixed", "own_relevant", "right_mixed", "right_relevant")},
            {"keeping": 1.0},
        ),
        (
            {name: {"followed": False} for name in ("own_mixed", "own_relevant", "right_mixed", "right_relevant")},
            {"following": 1.0},
        ),
        ({"own_mixed": {"followed": False}, "right_mixed": {"followed": False}}, {"relevance": 0.5, "following": 0.5}),
    ],
)
def test_the_blame_is_where_it_was_put(arms, blamed):
    [found] = stages.blame(four_arms(**arms), "S", "S.right").to_dict("records")
    assert {stage: round(value, 9) for stage, value in found.items() if round(value, 9)} == blamed


def test_without_mixed_the_blame_is_that_of_relevant():
    unliked = {"followed": False}
    frame = four_arms({}, own_relevant={"draft": "B", "letter": "B"} | unliked, right_relevant=unliked)
    found = stages.blame(frame[frame["setting"] == "relevant"], "S", "S.right")
    assert list(found) == [stage for stage in stages.STAGES if stage != "relevance"]
    assert found.iloc[0].to_dict() == pytest.approx({"draft": 0.5, "delivery": 0, "keeping": 0, "following": 0.5})


ANY = st.fixed_dictionaries(
    {"draft": st.sampled_from(["A", "B", None]), "letter": st.sampled_from(["A", "B", None]), "followed": st.booleans()}
)


@settings(deadline=None)
@given(ANY, ANY, ANY, ANY)
def test_the_blame_of_a_question_adds_up_to_its_failure(own_mixed, own_relevant, right_mixed, right_relevant):
    given_right = [row | {"draft": "A"} for row in (right_mixed, right_relevant)]
    frame = four_arms(own_mixed, own_relevant=own_relevant, right_mixed=given_right[0], right_relevant=given_right[1])
    failed = 1 - int(frame["robust"].iloc[0])
    assert stages.blame(frame, "S", "S.right").sum(axis=1).tolist() == [pytest.approx(failed)]


def test_editors_keep_mend_spoil_and_lose_letters():
    rows = [{"letter": "B"}, {"letter": "A"}, {"letter": "C"}, {"letter": None}]
    frame = edited(*rows, model="S.wrong", draft="B", setting="relevant", robust=False)
    found = stages.carried_over(frame, load_profile("study_stages"))
    assert set(found["draft"]) == {"wrong"} and dict(zip(found["fate"], found["value"], strict=True)) == {
        "kept": 25.0,
        "mended": 25.0,
        "spoilt": 25.0,
        "lost": 25.0,
    }


def test_the_contrasts_are_fixed_by_the_profile_alone():
    planned = stages.planned(load_profile("study_stages"))
    kinds = pd.Series([one.question for one in planned]).value_counts().to_dict()
    assert kinds == {
        "a right draft": 3,
        "an oracle that filters": 3,
        "the order to keep the letter": 3,
        "another editor": 6,
    }
    assert all(one.reference != one.arm for one in planned)
    few = load_profile("study_stages", ["grid={relevant: [pref_aligner]}"])
    assert "an oracle that filters" not in {one.question for one in stages.planned(few)}
    only_s = load_profile("study_stages", ["models.1.settings=[relevant]", "models.2.settings=[relevant]"])
    assert [m.name for m in only_s.models[:3]] == ["S", "M", "L"]
    assert {one.who for one in stages.planned(only_s) if one.question == "an oracle that filters"} == {"S"}


def test_shares_have_exact_bounds_and_the_bootstrap_resamples_questions():
    config = load_profile("demo").statistics
    none = share(pd.Series([False] * 20), 0.95)
    assert none["value"] == 0 and 10 < none["high"] < 20
    values = pd.DataFrame({"a": [1.0, 0.0] * 50, "b": [0.0, 1.0] * 50})
    found = by_bootstrap(values, config, seed=1)
    assert found.loc["a", "value"] == 50 and 35 < found.loc["a", "low"] < 45 and 55 < found.loc["a", "high"] < 65
    parts = by_bootstrap(values * 0.1, config, seed=1, of_whole=True)
    assert parts["value"].tolist() == [50, 50]
    assert by_bootstrap(values.head(0), config, seed=1)["value"].isna().all()


MODEL = "name: {name}, model: data/embedded/models/S, dtype: float32"
FEW = [
    MODEL.format(name="S"),
    MODEL.format(name="S.right") + ", settings: [relevant, mixed], editing: {draft: right}",
    MODEL.format(name="S.wrong") + ", settings: [relevant], editing: {draft: wrong}",
]


def test_the_study_runs_in_miniature(tmp_path):
    few = "models=[" + ", ".join(f"{{{model}}}" for model in FEW) + "]"
    overrides = ("data.limit=3", few)
    with in_process.notebooks(kernels_for="study"):
        pipeline.run(pipeline.Command("study_stages", out=tmp_path, overrides=overrides))
    run = open_run("study_stages", overrides, tmp_path)
    drawn = {path.name for path in run.workspace.figures.glob("*.png")}
    assert drawn == {"stages_mixed.png", "stages_relevant.png", "stages_irrelevant.png", "blame.png", "contrasts.png"}
    responses = run.read("responses")
    given_wrong = responses[(responses["model"] == "S.wrong") & (responses["method"] == "pref_aligner")]
    assert set(given_wrong["setting"]) == {"relevant"} and len(given_wrong) == 9
    edits = stages.edits(run)
    wrong = edits[edits["model"] == "S.wrong"]
    assert (wrong["draft"] != wrong["gold"]).all() and wrong["draft"].notna().all()
    right = edits[edits["model"] == "S.right"]
    assert (right["draft"] == right["gold"]).all()
    assert stages.shares(run, edits)["model"].unique().tolist() == ["S"]
    assert [path.name for path in (run.workspace.figures / "notebooks").iterdir()] == ["study_stages.ipynb"]
    assert '"S.wrong"' in (run.workspace.run / "manifest.json").read_text(encoding="utf-8")
    assert run.workspace.figures == tmp_path / "figures" / "studies" / "stages"


def test_the_study_runs_with_relevant_preferences_and_right_drafts_alone(tmp_path):
    few = "models=[" + ", ".join(f"{{{model}}}" for model in FEW[:2]).replace(", mixed", "") + "]"
    overrides = ("data.limit=3", few, "grid={relevant: [pref_aligner]}")
    with in_process.notebooks(kernels_for="study"):
        pipeline.run(pipeline.Command("study_stages", out=tmp_path, overrides=overrides))
    run = open_run("study_stages", overrides, tmp_path)
    drawn = {path.name for path in run.workspace.figures.glob("*.png")}
    assert drawn == {"stages_relevant.png", "blame.png", "contrasts.png"}
    blamed = pd.read_csv(run.workspace.figures / "tables" / "blame.csv")
    assert set(blamed["stage"]) == set(stages.STAGES) - {"relevance"}
