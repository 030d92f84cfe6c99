"""The methods: what each asks, in how many stages, and what becomes of failures and unreadable second stages."""

import json

import pytest

from perg_utils.core.schema import Method, Source, Status
from perg_utils.engines.base import Reply
from perg_utils.inference.methods import METHODS, Answered, Task
from perg_utils.prompts.sets import load_prompts

PROMPTS = load_prompts("standard")
TASKS = [
    Task(Source.CQA, "Where is one?", ("here", "there"), ("Be brief.",)),
    Task(Source.CQA, "Where is two?", ("up", "down"), ("Be brief.",)),
]
EDITED = json.dumps({"response": "edited", "thoughts": "t"})


class Desk:
    """A generate that records what it is asked and answers by stage; `say` maps a stage to a reply or a function."""

    def __init__(self, say):
        self.say, self.calls = say, []

    def __call__(self, chats, stage):
        chats = [chat.messages for chat in chats]
        self.calls.append((stage, chats))
        replies = [self.say[stage](chat) if callable(self.say[stage]) else self.say[stage] for chat in chats]
        return [Answered(reply, f"{stage}:{hash(chat)}") for reply, chat in zip(replies, chats, strict=True)]


def test_every_method_is_in_the_registry():
    assert list(METHODS) == list(Method)


@pytest.mark.parametrize("method", [Method.NO_PREFERENCE, Method.ZERO_SHOT, Method.COT, Method.FEW_SHOT])
def test_one_stage_methods_ask_once_and_keep_order(method):
    desk = Desk({1: lambda chat: Reply("one" if "is one?" in chat[-1][1] else "two")})
    outcomes = METHODS[method](TASKS, PROMPTS, desk, desk)
    assert [o.response for o in outcomes] == ["one", "two"] and [o.stages for o in outcomes] == [["one"], ["two"]]
    assert desk.calls == [(1, [PROMPTS.messages(method, **task.variables()) for task in TASKS])]


def test_the_preference_is_sent_by_all_methods_but_the_plain_one():
    for method in Method:
        desk = Desk({1: Reply("B."), 2: Reply(EDITED)})
        METHODS[method](TASKS, PROMPTS, desk, desk)
        stage, last = desk.calls[-1]
        assert ("Be brief." in last[0][-1][1]) == (method is not Method.NO_PREFERENCE), (method, stage)


@pytest.mark.parametrize(
    ("method", "first"), [(Method.SELF_CRITIC, Method.ZERO_SHOT), (Method.PREF_ALIGNER, Method.NO_PREFERENCE)]
)
def test_first_drafts_are_the_requests_of_the_one_stage_method(method, first):
    desk, alone = Desk({1: Reply("B."), 2: Reply(EDITED)}), Desk({1: Reply("B.")})
    outcomes = METHODS[method](TASKS, PROMPTS, desk, desk)
    METHODS[first](TASKS, PROMPTS, alone, alone)
    assert desk.calls[0] == alone.calls[0]
    assert desk.calls[1][0] == 2 and all("B." in chat[-1][1] for chat in desk.calls[1][1])
    assert [(o.response, o.stages, o.fallback, o.status) for o in outcomes] == [
        ("edited", ["B.", EDITED], False, Status.OK)
    ] * 2
    assert outcomes[0].answered[-1].key.startswith("2:")


def test_only_pref_aligners_second_stage_goes_to_the_aligner():
    own, aligner = Desk({1: Reply("B."), 2: Reply(EDITED)}), Desk({2: Reply(EDITED)})
    METHODS[Method.PREF_ALIGNER](TASKS, PROMPTS, own, aligner)
    METHODS[Method.SELF_CRITIC](TASKS, PROMPTS, own, aligner)
    assert [stage for stage, _ in own.calls] == [1, 1, 2] and [stage for stage, _ in aligner.calls] == [2]


@pytest.mark.parametrize("method", [Method.SELF_CRITIC, Method.PREF_ALIGNER])
def test_an_unreadable_second_stage_keeps_the_first_answer_and_says_so(method):
    desk = Desk(
        {1: Reply("B."), 2: lambda chat: Reply("I would not change it." if "is one?" in chat[-1][1] else EDITED)}
    )
    broken, fine = METHODS[method](TASKS, PROMPTS, desk, desk)
    assert (broken.response, broken.fallback, broken.status) == ("B.", True, Status.OK)
    assert broken.stages == ["B.", "I would not change it."]
    assert (fine.response, fine.fallback) == ("edited", False)


@pytest.mark.parametrize("method", [Method.SELF_CRITIC, Method.PREF_ALIGNER])
@pytest.mark.parametrize("status", [Status.EMPTY, Status.REJECTED, Status.API_ERROR])
def test_a_failed_first_stage_ends_the_row_with_its_status(method, status):
    desk = Desk({1: lambda chat: Reply(None, status) if "is one?" in chat[-1][1] else Reply("B."), 2: Reply(EDITED)})
    failed, fine = METHODS[method](TASKS, PROMPTS, desk, desk)
    assert (failed.response, failed.status, failed.stages, failed.fallback) == (None, status, [], False)
    assert len(desk.calls[1][1]) == 1 and fine.response == "edited"


@pytest.mark.parametrize("method", [Method.SELF_CRITIC, Method.PREF_ALIGNER])
def test_a_failed_second_stage_is_a_failure_and_no_fallback(method):
    desk = Desk({1: Reply("B."), 2: Reply(None, Status.API_ERROR, error="503")})
    outcome = METHODS[method](TASKS, PROMPTS, desk, desk)[0]
    assert (outcome.response, outcome.status, outcome.stages, outcome.fallback) == (
        None,
        Status.API_ERROR,
        ["B."],
        False,
    )


@pytest.mark.parametrize("method", list(Method))
def test_no_tasks_give_no_outcomes(method):
    desk = Desk({1: Reply("B."), 2: Reply(EDITED)})
    assert METHODS[method]([], PROMPTS, desk, desk) == []
