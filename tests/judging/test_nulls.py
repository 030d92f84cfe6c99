"""Responses that did not know the preference: which are rated, blind, and by what."""

import pandas as pd
import pytest
from judged import Scripted, profile_with

from perg_utils.core.loading import load_profile
from perg_utils.core.schema import TABLES
from perg_utils.engines.journal import Journal
from perg_utils.judging.nulls import another, judge_nulls
from perg_utils.judging.rubric import read_answers
from perg_utils.prompts.sets import load_prompts


@pytest.fixture
def two(tables):
    """The tables with a second preference, of another category."""
    responses, examples, preferences = tables
    more = pd.DataFrame([("creative-1", "Make it vivid.", "Creative", True, ["TQA"])], columns=list(preferences))
    return responses, examples, pd.concat([preferences, more], ignore_index=True)


def test_the_response_the_plain_one_and_the_mismatched_one_are_rated_for_each_question(two):
    found = judge_nulls(load_profile("demo"), *two)
    assert found["kind"].tolist() == ["matched", "plain", "mismatched"]
    assert found["preference_id"].tolist() == ["clarity-1", "clarity-1", "creative-1"]
    assert found["method"].tolist() == ["zero_shot", "no_preference", "zero_shot"]
    assert found["rating"].tolist() == [5, 1, 2], "the style, none, and another category's style"
    assert list(found) == list(TABLES["nulls"])


def test_no_judge_is_told_which_is_which(two, tmp_path, monkeypatch):
    engine = Scripted()
    profile = profile_with(tmp_path, monkeypatch, engine)
    with Journal(tmp_path / "j.sqlite") as journal:
        judge_nulls(profile, *two, journal)
    matched, plain, mismatched = (request.messages[-1][1] for request in engine.sent)
    for text in (matched, plain, mismatched):
        assert "without" not in text and "plain" not in text.lower() and "zero_shot" not in text
    # The two change places, and nothing else.
    mine, other = "In short, salt (B).", "The answer is salt (B)."
    assert plain == matched.replace(mine, "@").replace(other, mine).replace("@", other)
    assert mismatched == matched.replace("Keep it short.", "Make it vivid.")


def test_a_mismatched_preference_is_of_another_category_and_of_the_same_source_and_drawn_by_seed(two):
    preferences = two[2]
    assert another("q", "clarity-1", preferences, "TQA", 1) == "creative-1"
    assert another("q", "clarity-1", preferences, "CQA", 1) is None
    bank = load_bank_of(30)
    drawn = {another(f"q{i}", "Clarity-0", bank, "TQA", 7) for i in range(100)}
    assert drawn == {f"Creative-{i}" for i in range(15)}
    assert another("q1", "Clarity-0", bank, "TQA", 7) == another("q1", "Clarity-0", bank, "TQA", 7)


def load_bank_of(n):
    rows = [(f"{c}-{i}", "text", c, True, ["TQA"]) for c in ("Clarity", "Creative") for i in range(n // 2)]
    return pd.DataFrame(rows, columns=list(TABLES["preferences"]))


def test_where_nothing_relevant_was_shown_there_is_no_null(two):
    responses = two[0]
    none = responses[~responses["setting"].isin(["relevant", "mixed"])]
    assert judge_nulls(load_profile("demo"), none, *two[1:]).empty


def test_no_rubric_says_which_answer_knew_the_preference():
    for name in ("standard", "paper_like"):
        prompts = load_prompts(name)
        for rubric in ("judge", "judge_paraphrased", "judge_swapped"):
            asked = {"question": "Q?", "options": ["a", "b"], "preferences": ["P."], "response": "one", "other": "two"}
            text = prompts.messages(rubric, **asked)[-1][1].lower()
            assert "without the preference" not in text and "with the preference" not in text


@pytest.mark.parametrize(
    ("acknowledges", "hallucinates", "violates", "helpful", "rating"),
    [
        ("yes", "no", "no", "yes", 5),
        ("no", "no", "no", "yes", 4),
        ("yes", "yes", "no", "yes", 2),
        ("yes", "no", "no", "no", 2),
        ("yes", "no", "yes", "yes", 1),
    ],
)
def test_four_answers_come_to_a_rating(acknowledges, hallucinates, violates, helpful, rating):
    text = (
        f'{{"explanation": "e", "acknowledges": "{acknowledges}", "hallucinates": "{hallucinates}", '
        f'"violates": "{violates}", "helpful": "{helpful}"}}'
    )
    assert read_answers(text).rating == rating
    assert read_answers(f"```json\n{text}\n```").rating == rating


@pytest.mark.parametrize(
    "text",
    [
        "no object",
        '{"acknowledges": "yes"}',
        '{"acknowledges": "maybe", "hallucinates": "no", "violates": "no", "helpful": "yes"}',
        '{"acknowledges": "no", "acknowledges": "yes", "hallucinates": "no", "violates": "no", "helpful": "yes"}',
        '{"acknowledges": "no", "hallucinates": "no", "violates": "no", "helpful": "yes"} {"violates": "yes"}',
    ],
)
def test_other_replies_are_no_rating(text):
    found = read_answers(text)
    assert found.rating is None and found.status == "unparsable"


def test_the_second_rubric_asks_four_questions_and_is_bound_to_their_schema(two, tmp_path, monkeypatch, serve):
    from judged import served

    monkeypatch.setenv("OPENAI_API_KEY", "none")
    server = serve("takes")
    with Journal(tmp_path / "j.sqlite") as journal:
        judge_nulls(served(server, "judge.rubric=judge_questions"), *two, journal)
    schema = server.bodies[0]["response_format"]["json_schema"]["schema"]
    assert schema["required"] == ["explanation", "acknowledges", "hallucinates", "violates", "helpful"]
    assert "violates: does it go against" in server.bodies[0]["messages"][0]["content"]
