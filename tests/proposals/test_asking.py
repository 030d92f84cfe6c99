import json

import pytest

from perg_utils.core.errors import DataError, PergError
from perg_utils.core.loading import ProfileError, load_profile
from perg_utils.core.schema import Status
from perg_utils.engines import open as opening
from perg_utils.engines.base import Reply
from perg_utils.engines.journal import Journal
from perg_utils.prompts.sets import PROPOSE, load_prompts
from perg_utils.proposals import asking

WISH = "I like answers that begin with the main point."
GOOD = json.dumps({"why": "It fits.", "preference": WISH})


class Scripted:
    """An engine that gives its texts in turn."""

    def __init__(self, *texts):
        self.identity, self.texts, self.requests = {"kind": "scripted"}, texts, []

    def generate(self, requests):
        for index, request in enumerate(requests):
            self.requests.append(request)
            yield index, Reply(self.texts[index % len(self.texts)], finish_reason="stop")


def profile_of(*overrides):
    return load_profile("demo", ["prompts=standard", "candidates={}", *overrides])


def test_questions_are_drawn_by_subject_and_source_and_the_limit_of_the_study_plays_no_part():
    found = asking.sample_questions(profile_of("data.limit=3"))
    counts = found.groupby(["source", found["subject"].fillna("")]).size()
    assert set(counts.loc["MMLU"]) == {5} and counts.loc["TQA"].sum() == counts.loc["CQA"].sum() == 30
    assert found["example_id"].is_unique
    again = asking.sample_questions(profile_of("seed=7"))
    assert set(again["example_id"]) != set(found["example_id"])


def test_each_question_gets_a_candidate_or_a_reason_and_replies_are_paid_for_once(tmp_path, monkeypatch):
    engine = Scripted(GOOD, "I would say B.", json.dumps({"preference": "I like " + "long " * 80}))
    monkeypatch.setattr(opening, "open_engine", lambda model: engine)
    profile = profile_of()
    questions = asking.sample_questions(profile).head(6)
    with Journal(tmp_path / "j.sqlite") as journal:
        found = asking.propose(profile, questions, journal)
        assert found["status"].tolist() == ["ok", "unparsable", "unparsable"] * 2
        assert (
            found["preference"].dropna().tolist() == [WISH] * 2 and found["why"].dropna().tolist() == ["It fits."] * 2
        )
        assert found["candidate"].is_unique and found["example_id"].tolist() == questions["example_id"].tolist()
        asked = len(engine.requests)
        assert asking.propose(profile, questions, journal).equals(found) and len(engine.requests) == asked
    first = engine.requests[0]
    assert first.decoding.temperature == 0.8
    assert questions["question"][0] in first.messages[-1][1] and questions["options"][0][0] in first.messages[-1][1]


@pytest.mark.parametrize(
    ("reply", "expected"),
    [
        (Reply(f"Sure:\n```json\n{GOOD}\n```"), (WISH, "It fits.", Status.OK)),
        (Reply(json.dumps({"preference": "I like\n it."})), ("I like it.", None, Status.OK)),
        (Reply('{"preference": ""}'), (None, None, Status.UNPARSABLE)),
        (Reply('{"why": "no wish"}'), (None, None, Status.UNPARSABLE)),
        (Reply(None, Status.SILENT), (None, None, Status.SILENT)),
        (Reply(None, Status.API_ERROR, error="down"), (None, None, Status.API_ERROR)),
    ],
)
def test_only_what_was_asked_for_is_read(reply, expected):
    assert asking.read(reply) == expected


@pytest.mark.parametrize(
    "text",
    [
        "I can spoil an answer if the writer overdoes it.",
        "I leave open how the answer is found.",
        "I. credibility",
        "Short answers",
        "The reader might prefer a table.",
    ],
)
def test_what_a_small_model_made_of_the_prompt_is_no_preference(text):
    said = " ".join(part for _, part in load_prompts("standard").messages(PROPOSE, question="", options=()))
    assert asking.read(Reply(json.dumps({"preference": text})), said)[2] == Status.UNPARSABLE
    assert asking.read(Reply(GOOD), said)[2] == Status.OK


def test_a_profile_or_prompt_set_without_candidates_says_what_is_missing(tmp_path):
    profile = load_profile("demo")
    with Journal(tmp_path / "j.sqlite") as journal:
        with pytest.raises(PergError, match="add a key `candidates"):
            asking.propose(profile, asking.sample_questions(profile), journal)
        with pytest.raises(PergError, match="'embedded' has no template 'propose'"):
            asking.propose(profile_of("prompts=embedded"), asking.sample_questions(profile).head(1), journal)
    with pytest.raises(ProfileError, match=r"candidates.model: 'X' is no model here"):
        profile_of("candidates={model: X}")


def test_other_candidates_are_read_from_files_and_a_bad_file_is_named(tmp_path):
    good, bad = tmp_path / "good.csv", tmp_path / "bad.csv"
    good.write_text('id,pref\n1," I like brevity. "\n2,\n3,I like order.\n')
    bad.write_text("id,wish\n1,x\n")
    assert asking.read_others([good]) == ["I like brevity.", "I like order."]
    for path in (bad, tmp_path / "none.csv"):
        with pytest.raises(DataError, match=path.name):
            asking.read_others([good, path])
