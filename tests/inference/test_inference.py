"""Inference and its plan, with the real journal and an engine that counts what it is asked."""

import json
from collections import Counter

import pytest

from perg_utils.core.loading import PROFILES, load_profile
from perg_utils.core.profile import Profile
from perg_utils.core.schema import ROW_ID, Method, Setting, Status
from perg_utils.core.workspace import Workspace
from perg_utils.dataset import preferences
from perg_utils.dataset import questions as curation
from perg_utils.engines import open as engines_open
from perg_utils.engines.base import Reply
from perg_utils.inference import run as inference
from perg_utils.inference.plan import plan, plans
from perg_utils.inference.requests import settings

ALL = ["zero_shot", "cot", "few_shot", "self_critic", "pref_aligner"]
TWO_STAGE = ("self_critic", "pref_aligner")


class CountingEngine:
    """Replies with a running number, or as JSON where JSON is asked for; `fail` decides which chats fail."""

    asked: Counter
    requests: list
    fail = staticmethod(lambda chat: False)

    def __init__(self, model, fetch=True):
        self.identity = {"kind": "counting", "model": model.model, "thinking": str(model.thinking)}

    def generate(self, requests):
        for position, request in reversed(list(enumerate(requests))):
            type(self).asked[self.identity["model"]] += 1
            type(self).requests.append((self.identity["model"], request))
            chat = request.messages[-1][1]
            if self.fail(chat):
                yield position, Reply(None, Status.API_ERROR, error="503")
                continue
            text = f"{self.identity['model']} answers A, {len(self.requests)}"
            if "JSON object" in chat:
                text = json.dumps({"response": f"edited: {text}", "critic": "c", "thoughts": "t"})
            yield position, Reply(text, finish_reason="stop", prompt_tokens=10, completion_tokens=2, seconds=0.5)


@pytest.fixture
def engine(monkeypatch):
    fresh = type("Engine", (CountingEngine,), {"asked": Counter(), "requests": []})
    monkeypatch.setattr(engines_open, "open_engine", fresh)
    return fresh


def study(**changes):
    base = {
        "name": "toy",
        "title": "toy",
        "world": "invented",
        "data": {"origin": "embedded", "limit": 4},
        "grid": {"relevant": ALL, "mixed": ALL, "irrelevant": ALL, "placebo": ["zero_shot"]},
        "models": [{"name": "S", "model": "s"}],
        "judge": {"kind": "heuristic"},
    }
    return Profile.model_validate({**base, **changes})


def curated(profile, folder):
    workspace = Workspace.of(folder, profile.name)
    bank = preferences.load_bank()
    workspace.write("preferences", bank)
    workspace.write("examples", preferences.assign(curation.load_examples(profile.data, profile.seed), bank))
    return workspace


def test_a_run_has_one_row_a_question_method_and_setting_and_asks_equal_requests_once(engine, tmp_path):
    profile = study()
    workspace = curated(profile, tmp_path)
    responses = inference.run(profile, "S", workspace)
    assert len(responses) == 12 * (1 + 3 * 5 + 1)
    assert not responses.duplicated(ROW_ID).any()
    # no_preference 1; zero_shot 4 settings; cot, few_shot and two second stages in 3 settings; drafts are shared.
    assert engine.asked["s"] == 12 * (1 + 4 + 3 * 4)
    assert (responses["status"] == "ok").all() and not responses["fallback"].any()


def test_a_second_run_asks_nothing_and_gives_the_same_table(engine, tmp_path):
    profile = study()
    workspace = curated(profile, tmp_path)
    first = inference.run(profile, "S", workspace)
    asked = engine.asked["s"]
    second = inference.run(profile, "S", workspace)
    assert engine.asked["s"] == asked
    workspace.write("responses", first, "S")
    assert workspace.read("responses").equals(second)


def test_rows_tell_what_was_shown(engine, tmp_path):
    profile = study()
    workspace = curated(profile, tmp_path)
    responses = inference.run(profile, "S", workspace)
    assigned = workspace.read("examples").set_index("example_id")["preference_id"]
    for row in responses.itertuples():
        relevant = assigned[row.example_id]
        shown = row.shown_preferences
        if row.setting == "relevant":
            assert shown == [relevant] and row.preference_id == relevant
        elif row.setting == "mixed":
            assert len(shown) == 6 and shown[2] == relevant and row.preference_id == relevant
        elif row.setting == "irrelevant":
            assert len(shown) == 5 and relevant not in shown and row.preference_id != row.preference_id
        elif row.setting == "placebo":
            assert len(shown) == 1 and shown[0].startswith("placebo-") and row.preference_id != row.preference_id
        else:
            assert shown == [] and row.preference_id != row.preference_id
    assert set(responses[responses["setting"] == "none"]["method"]) == {"no_preference"}


def test_tokens_and_seconds_are_sums_over_the_rows_stages_and_the_key_is_the_last_requests(engine, tmp_path):
    profile = study()
    responses = inference.run(profile, "S", curated(profile, tmp_path))
    stages = responses["method"].isin(TWO_STAGE).map({True: 2, False: 1})
    assert (responses["prompt_tokens"] == 10 * stages).all()
    assert (responses["completion_tokens"] == 2 * stages).all()
    assert (responses["seconds"] == 0.5 * stages).all()
    assert (responses["stages"].map(len) == stages).all()
    draft = responses[(responses["method"] == "self_critic") & (responses["setting"] == "mixed")].iloc[0]
    zero = responses[
        (responses["method"] == "zero_shot")
        & (responses["setting"] == "mixed")
        & (responses["example_id"] == draft["example_id"])
    ].iloc[0]
    assert draft["stages"][0] == zero["response"] and draft["key"] != zero["key"]


def test_a_repeated_request_is_asked_again_and_a_sampled_one_with_another_seed(engine, tmp_path):
    profile = study(grid={"repeat": ["zero_shot", "pref_aligner"]})
    first = inference.run(profile, "S", curated(profile, tmp_path / "greedy"))
    # The plain question twice, and an edit of the second answer.
    assert engine.asked["s"] == 12 * 3
    assert {r.decoding.seed for _, r in engine.requests} == {42}
    plain, again = (first[first["setting"] == s].groupby("example_id")["stages"].first() for s in ("none", "repeat"))
    assert all(a[0] != b[0] for a, b in zip(plain, again, strict=True))
    engine.requests.clear()
    sampled = study(grid={"repeat": ["zero_shot"]}, decoding={"temperature": 0.7})
    inference.run(sampled, "S", curated(sampled, tmp_path / "sampled"))
    assert Counter(r.decoding.seed for _, r in engine.requests) == {42: 12, 43: 12}


def test_the_baseline_own_adds_each_methods_run_without_preference(engine, tmp_path):
    profile = study(baseline="own", grid={"relevant": ["zero_shot", "cot", "pref_aligner"]})
    responses = inference.run(profile, "S", curated(profile, tmp_path))
    none = responses[responses["setting"] == "none"]
    assert none["method"].value_counts().to_dict() == dict.fromkeys(
        ["no_preference", "zero_shot", "cot", "pref_aligner"], 12
    )
    # zero_shot without preference is the plain request, and so is Pref-Aligner's first stage.
    assert engine.asked["s"] == 12 * (1 + 1 + 2 + 2)


def test_full_mode_asks_every_preference_of_the_source_in_relevant_zero_shot_only(engine, tmp_path):
    grid = {"relevant": ["zero_shot", "cot"], "mixed": ["zero_shot"]}
    profile = study(data={"origin": "embedded", "limit": 2, "preferences": "full"}, grid=grid)
    responses = inference.run(profile, "S", curated(profile, tmp_path))
    counts = responses.groupby(["method", "setting"]).size().to_dict()
    assert counts == {
        ("no_preference", "none"): 6,
        ("zero_shot", "relevant"): 2 * (14 + 12 + 11),
        ("zero_shot", "mixed"): 6,
        ("cot", "relevant"): 6,
    }


def test_limits_follow_the_stage_and_thinking_models_have_their_own(engine, tmp_path):
    decoding = {"max_new_tokens": 7, "max_new_tokens_second_stage": 11, "max_new_tokens_thinking": 13}
    models = [{"name": "S", "model": "s"}, {"name": "T", "model": "t", "thinking": True}]
    profile = study(decoding=decoding, models=models)
    workspace = curated(profile, tmp_path)
    for name in ("S", "T"):
        inference.run(profile, name, workspace)
    limits = {(model, "JSON object" in r.messages[-1][1], r.decoding.max_new_tokens) for model, r in engine.requests}
    assert limits == {("s", False, 7), ("s", True, 11), ("t", False, 13), ("t", True, 13)}
    assert {(r.decoding.temperature, r.decoding.seed) for _, r in engine.requests} == {(0.0, 42)}


def test_another_models_aligner_edits_answers_that_are_not_asked_again(engine, tmp_path):
    models = [
        {"name": "S", "model": "s"},
        {"name": "L", "model": "l"},
        {"name": "S+L", "model": "s", "aligner": "L", "methods": ["pref_aligner"]},
    ]
    profile = study(models=models, grid={"relevant": ["pref_aligner"]})
    workspace = curated(profile, tmp_path)
    planned = {p.model: p.requests for p in plans(profile, workspace)}
    for name in ("S", "L"):
        inference.run(profile, name, workspace)
    before = dict(engine.asked)
    responses = inference.run(profile, "S+L", workspace)
    assert engine.asked["s"] == before["s"] and engine.asked["l"] == before["l"] + 12
    assert planned == {"S": 24, "L": 24, "S+L": 12}
    edited = responses[responses["method"] == "pref_aligner"]
    assert all("edited: l" in text for text in edited["response"]) and all(
        "s answers" in s[0] for s in edited["stages"]
    )


def test_failed_requests_leave_rows_with_their_status_and_are_asked_again(engine, tmp_path):
    profile = study()
    workspace = curated(profile, tmp_path)
    engine.fail = staticmethod(lambda chat: "Your earlier answer" in chat)
    responses = inference.run(profile, "S", workspace)
    bad = responses[responses["status"] != "ok"]
    assert set(bad["method"]) == {"self_critic"} and len(bad) == 36
    assert bad["response"].isna().all() and not bad["fallback"].any() and (bad["stages"].map(len) == 1).all()
    engine.fail = staticmethod(lambda chat: False)
    asked = engine.asked["s"]
    assert (inference.run(profile, "S", workspace)["status"] == "ok").all() and engine.asked["s"] == asked + 36


@pytest.mark.parametrize("baseline", ["no_preference", "own"])
def test_the_plan_counts_exactly_what_the_run_then_asks(engine, tmp_path, baseline):
    profile = study(baseline=baseline)
    workspace = curated(profile, tmp_path)
    before = plan(profile, "S", workspace)
    responses = inference.run(profile, "S", workspace)
    assert before.requests == engine.asked["s"] and before.answered == 0 and before.rows == len(responses)
    after = plan(profile, "S", workspace)
    assert (after.requests, after.answered) == (before.requests, before.requests)
    assert after.prompt_tokens == after.completion_tokens == 0 < before.prompt_tokens


def test_the_plan_of_a_cut_off_run_counts_what_is_left(engine, tmp_path):
    profile = study()
    workspace = curated(profile, tmp_path)

    def stop(chat):
        if len(engine.requests) > 60:
            raise KeyboardInterrupt
        return False

    engine.fail = staticmethod(stop)
    with pytest.raises(KeyboardInterrupt):
        inference.run(profile, "S", workspace)
    answered = len(engine.requests) - 1
    left = plan(profile, "S", workspace)
    assert left.answered == answered
    engine.fail = staticmethod(lambda chat: False)
    engine.asked.clear()
    inference.run(profile, "S", workspace)
    assert engine.asked["s"] == left.requests - left.answered


def test_planning_writes_nothing_and_estimates_by_its_rule(engine, tmp_path):
    profile = study(grid={"relevant": ["zero_shot"]}, decoding={"max_new_tokens": 10})
    planned = plan(profile, "S", Workspace.of(tmp_path, "toy"))
    assert list(tmp_path.iterdir()) == [] and engine.asked == {}
    assert planned.requests == 24 and planned.completion_tokens == 24 * 5 and not planned.nominal
    inference.run(profile, "S", curated(profile, tmp_path))
    characters = sum(len(text) for _, request in engine.requests for _, text in request.messages)
    assert planned.prompt_tokens == characters // 4


@pytest.mark.parametrize("name", sorted({path.stem for path in PROFILES.glob("*.yaml")} - {"published"}))
def test_every_profile_that_asks_a_model_plans_without_network(engine, name):
    profile = load_profile(name, ["data.limit=5"])
    planned = plans(profile)
    assert [p.model for p in planned] == [m.name for m in profile.models]
    # A way of editing that is the prompt set's own asks nothing that the model has not been asked.
    asked = [p for p in planned if name not in {"ablation", "study_stages"}]
    assert all(p.questions == 15 and p.rows >= p.requests > 0 for p in asked)
    assert sum(p.requests for p in planned) > 0


def test_a_profile_that_asks_no_model_has_no_plan(engine):
    assert plans(load_profile("published")) == []


def test_the_papers_whole_plan_is_made_without_its_questions_and_says_what_the_controls_take(engine):
    planned = plans(load_profile("paper"))
    # 1 plain + 3 relevant one-stage + 2 second stages + 2 each in mixed and irrelevant = 10 a question, and 3 controls.
    assert [p.requests for p in planned] == [93_704] * 13 and all(p.nominal and p.questions == 7208 for p in planned)
    assert [p.controls for p in planned] == [3 * 7208] * 13
    dear = next(p for p in planned if p.cost is not None)
    assert dear.model == "GPT-4o-mini" and 0.1 < dear.control_cost / dear.cost < 0.25


def test_a_hub_profiles_plan_uses_the_saved_questions_once_they_are_there(engine, tmp_path):
    profile = study(data={"origin": "hub"})
    workspace = curated(study(), tmp_path)
    planned = plan(profile, "S", workspace)
    assert planned.questions == 12 and not planned.nominal


def test_methods_are_ordered_so_that_drafts_come_first():
    profile = study()
    assert list(settings(profile, profile.models[0])) == list(Method)
    assert settings(profile, profile.models[0])[Method.NO_PREFERENCE] == [Setting.NONE]
