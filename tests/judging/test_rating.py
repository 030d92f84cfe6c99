import json

import pandas as pd
import pytest
from judged import PANEL, PLAIN, Scripted, profile_with, served, study

from perg_utils.core.errors import DataError
from perg_utils.core.loading import load_profile
from perg_utils.core.schema import TABLES, Status
from perg_utils.engines.base import Reply
from perg_utils.engines.journal import Journal
from perg_utils.judging.rating import check_judges, judge
from perg_utils.prompts.sets import PromptError


def test_the_table_has_a_row_for_every_response_and_rates_only_where_a_relevant_preference_was_shown(tables):
    found = judge(load_profile("demo"), *tables)
    assert list(found) == list(TABLES["judgements"])
    assert found["rating"].fillna(0).tolist() == [0, 5, 1, 0, 0, 0]
    assert found["status"].tolist() == ["not_applicable", "ok", "ok", "not_applicable", "not_applicable", "api_error"]
    assert set(found["judge"]) == {"heuristic (embedded styles)"}
    assert found["preference_id"].isna().tolist() == [True, False, False, True, True, False]


def test_the_llm_judge_is_sent_the_rubric_and_both_responses_and_never_the_right_answer(tables, tmp_path, monkeypatch):
    engine = Scripted()
    with Journal(tmp_path / "j.sqlite") as journal:
        found = judge(profile_with(tmp_path, monkeypatch, engine), *tables, journal)
    assert found["rating"].fillna(0).tolist() == [0, 4, 4, 0, 0, 0]
    assert found["explanation"][1] == "fine" and set(found["judge"]) == {"J"}
    assert len(engine.sent) == 2, "one request for each response to be rated"
    prompt = engine.sent[0].messages[-1][1]
    for part in ("What does Oro sell?", "Keep it short.", PLAIN, "In short, salt (B)."):
        assert prompt.count(part) == 1
    other = tables[1].assign(gold="A")
    blind = Scripted()
    with Journal(tmp_path / "other.sqlite") as journal:
        judge(profile_with(tmp_path, monkeypatch, blind), tables[0], other, tables[2], journal)
    assert blind.sent == engine.sent, "another right answer must change nothing that is sent"


def test_equal_cases_are_judged_once_and_a_second_run_asks_nothing(tables, tmp_path, monkeypatch):
    responses, examples, preferences = tables
    twice = pd.concat([responses, responses.assign(model="S2")], ignore_index=True)
    engine = Scripted()
    with Journal(tmp_path / "j.sqlite") as journal:
        profile = profile_with(tmp_path, monkeypatch, engine)
        first = judge(profile, twice, examples, preferences, journal)
        second = judge(profile, twice, examples, preferences, journal)
    assert len(engine.sent) == 2
    pd.testing.assert_frame_equal(first, second)


@pytest.mark.parametrize(
    ("reply", "status"),
    [
        ("no rating here", "unparsable"),
        (Reply(None, Status.REJECTED, error="content filter"), "rejected"),
        (Reply(None, Status.EMPTY), "empty"),
    ],
)
def test_a_rating_that_cannot_be_had_is_null_with_the_reason_and_never_a_1(
    tables, tmp_path, monkeypatch, reply, status
):
    with Journal(tmp_path / "j.sqlite") as journal:
        found = judge(profile_with(tmp_path, monkeypatch, Scripted(reply)), *tables, journal)
    assert found["rating"].isna().all()
    assert found["status"][1] == status


def test_the_judges_label_is_the_name_that_stands_beside_its_ratings(tables, tmp_path, monkeypatch):
    rules, model = load_profile("demo"), profile_with(tmp_path, monkeypatch, Scripted())
    with Journal(tmp_path / "j.sqlite") as journal:
        assert set(judge(model, *tables, journal)["judge"]) == {model.judge.label}
    assert set(judge(rules, *tables)["judge"]) == {rules.judge.label} == {"heuristic (embedded styles)"}
    assert model.judge.label != rules.judge.label


def test_with_its_own_baseline_each_method_is_compared_with_its_own_plain_response(tables, tmp_path, monkeypatch):
    responses, examples, preferences = tables
    own = responses.iloc[[0]].assign(method="zero_shot", response="Own plain answer.")
    engine = Scripted()
    profile = profile_with(tmp_path, monkeypatch, engine).model_copy(update={"baseline": "own"})
    with Journal(tmp_path / "j.sqlite") as journal:
        judge(profile, pd.concat([responses, own], ignore_index=True), examples, preferences, journal)
    assert all("Own plain answer." in request.messages[-1][1] for request in engine.sent)


def test_a_response_without_its_example_is_an_error_that_names_it(tables):
    responses, examples, preferences = tables
    with pytest.raises(DataError, match="TQA-1"):
        judge(load_profile("demo"), responses, examples.iloc[:0], preferences)


def test_a_rubric_that_the_prompt_set_lacks_is_found_before_anything_is_asked():
    model = "model: {name: J, engine: api, model: judge-1}"
    with pytest.raises(PromptError, match="'embedded' has no template 'judge_swapped'"):
        check_judges(load_profile("demo", [f"judges=[{{kind: llm, rubric: judge_swapped, {model}}}]"]))
    check_judges(load_profile("demo", PANEL))


def test_nothing_that_is_sent_depends_on_the_right_answer_or_names_model_or_method(
    tables, tmp_path, monkeypatch, serve
):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    responses, examples, preferences = tables
    sent = []
    for gold in ("A", "B", "C"):
        server = serve("takes")
        with Journal(tmp_path / f"{gold}.sqlite") as journal:
            named = responses.assign(model="the-answerer")
            judge(served(server), named, examples.assign(gold=gold), preferences, journal)
        sent.append(sorted(json.dumps(body, sort_keys=True) for body in server.bodies))
    assert sent[0] == sent[1] == sent[2] and len(sent[0]) == 2
    for hidden in ("gold", "the-answerer", "zero_shot", "mixed", "TQA-1", "clarity-1"):
        assert not any(hidden in body for body in sent[0])


def test_a_change_of_one_response_judges_that_one_anew_and_no_other(tables, tmp_path, monkeypatch, serve):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    responses, examples, preferences = tables
    server = serve("takes")
    with Journal(tmp_path / "j.sqlite") as journal:
        judge(served(server), responses, examples, preferences, journal)
        changed = responses.copy()
        changed.loc[2, "response"] = "Another answer."
        judge(served(server), changed, examples, preferences, journal)
    assert len(server.bodies) == 3 and "Another answer." in server.bodies[-1]["messages"][-1]["content"]


def test_7208_rows_cost_one_request_each_and_the_same_pairs_under_another_name_none(tmp_path, monkeypatch):
    responses, examples, bank = study(7208)
    engine = Scripted()
    profile = profile_with(tmp_path, monkeypatch, engine)
    with Journal(tmp_path / "j.sqlite") as journal:
        found = judge(profile, responses, examples, bank, journal)
        assert len(engine.sent) == len(set(engine.sent)) == found["rating"].notna().sum() == 7208
        twin = pd.concat([responses, responses.assign(model="another-name")], ignore_index=True)
        both = judge(profile, twin, examples, bank, journal)
    assert both["rating"].notna().sum() == 2 * 7208 and len(engine.sent) == 7208


def test_under_two_names_in_one_run_the_same_pair_is_sent_once(tmp_path, monkeypatch, serve):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    responses, examples, bank = study(20)
    server = serve("takes")
    with Journal(tmp_path / "j.sqlite") as journal:
        judge(served(server), pd.concat([responses, responses.assign(model="T")]), examples, bank, journal)
    assert len(server.bodies) == 20
    assert len({json.dumps(body["messages"]) for body in server.bodies}) == 20


def test_a_preference_in_other_words_judges_its_own_rows_anew_and_no_others(tmp_path, monkeypatch, serve):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    responses, examples, bank = study(70)
    server = serve("takes")
    with Journal(tmp_path / "j.sqlite") as journal:
        judge(served(server), responses, examples, bank, journal)
        bank.loc[bank["preference_id"] == "wish-3", "text"] = "Other words for wish 3."
        judge(served(server), responses, examples, bank, journal)
    anew = [body["messages"][-1]["content"] for body in server.bodies[70:]]
    assert len(anew) == 2 and all("Other words for wish 3." in text for text in anew)


def test_the_reading_of_answers_depends_on_no_right_answer(tables):
    from perg_utils.extraction.answers import extract

    responses, examples, _ = tables
    read = [extract(responses, examples.assign(gold=gold)) for gold in ("A", "B", "C")]
    pd.testing.assert_frame_equal(read[0], read[1])
    pd.testing.assert_frame_equal(read[0], read[2])
    assert read[0]["answer"].dropna().eq("B").all() and read[0]["answer"].notna().any()
