"""What each setting shows: every control as it is sent, deterministic, and letters of shuffled options mapped back."""

from collections import Counter

import pandas as pd
import pytest

from perg_utils.core.schema import LETTERS, Method, Setting, Source, Status
from perg_utils.dataset.orders import letter_of_question, options_shown
from perg_utils.dataset.preferences import load_bank
from perg_utils.engines.base import Reply
from perg_utils.extraction.answers import extract
from perg_utils.inference.methods import METHODS, Answered
from perg_utils.inference.shown import Deck
from perg_utils.prompts.sets import load_prompts

BANK = load_bank()
STANDARD, EMBEDDED = load_prompts("standard"), load_prompts("embedded")
QUESTION = {
    "example_id": "MMLU-00007",
    "source": "MMLU",
    "question": "What is mined here?",
    "options": ["iron", "salt", "wool", "clay"],
    "gold": "B",
    "preference_id": "clarity-1",
}
CONTROLS = [s for s in Setting if s not in {Setting.NONE, Setting.RELEVANT, Setting.MIXED, Setting.IRRELEVANT}]


def sent(setting, method="zero_shot", prompts=STANDARD, example=QUESTION):
    """The last chat that a method sends in a setting: system and user."""
    chats = []

    def generate(asked, stage):
        chats.extend(chat.messages for chat in asked)
        return [Answered(Reply("The answer is B."), "k") for _ in asked]

    task = Deck(BANK, prompts, 42).show(example, example["preference_id"], setting).task
    METHODS[Method(method)]([task], prompts, generate, generate)
    return chats[-1][0][1], chats[-1][1][1]


def test_repeat_sends_the_very_same_prompt():
    assert sent(Setting.REPEAT) == sent(Setting.NONE, "no_preference")


def test_a_paraphrase_sends_the_plain_question_in_each_of_three_other_wordings():
    texts = set()
    for number in range(60):
        example = QUESTION | {"example_id": f"MMLU-{number:05d}"}
        system, user = sent(Setting.PARAPHRASE, example=example)
        assert system == sent(Setting.NONE)[0] and user != sent(Setting.NONE)[1]
        assert "What is mined here?" in user and "A. iron\nB. salt\nC. wool\nD. clay" in user
        assert "preference" not in user.lower()
        texts.add(user)
    assert texts == {
        "I would like to know the right answer to this: What is mined here?\n\nThese are the possible answers:\n"
        "A. iron\nB. salt\nC. wool\nD. clay\n\nWhich of them is right? Tell me, and give its letter.",
        "What is mined here?\n\nA. iron\nB. salt\nC. wool\nD. clay\n\n"
        "Pick the option that is right and state its letter.",
        "One of these answers is correct:\nA. iron\nB. salt\nC. wool\nD. clay\n\n"
        "They belong to the question: What is mined here?\n\nSay which answer is the correct one, with its letter.",
    }


def test_a_placebo_is_a_sentence_alone_and_the_same_one_with_label_and_line():
    plain = sent(Setting.NONE)[1]
    head, tail = plain.split("D. clay\n\n")
    sentence = sent(Setting.PLACEBO)[1].removeprefix(f"{head}D. clay\n\n").removesuffix(f"\n\n{tail}")
    assert sentence in STANDARD.placebo
    assert sent(Setting.PLACEBO_LABELLED)[1] == (
        f"{head}D. clay\n\nMy preference:\n{sentence}\n\n{tail}\nShape the answer to suit this preference."
    )
    long = sent(Setting.PLACEBO_LONG)[1].removeprefix(f"{head}D. clay\n\n").removesuffix(f"\n\n{tail}")
    assert sum(long.count(one) for one in STANDARD.placebo) == 6 and "preference" not in long


@pytest.mark.parametrize("prompts", [STANDARD, EMBEDDED], ids=["standard", "embedded"])
def test_six_sentences_are_as_long_as_the_mixed_preferences(prompts):
    deck, shares, used = Deck(BANK, prompts, 42), [], Counter()
    for number in range(200):
        example = QUESTION | {"example_id": f"MMLU-{number:05d}"}
        mixed = deck.show(example, "clarity-1", Setting.MIXED).task.preferences
        long = deck.show(example, None, Setting.PLACEBO_LONG).task.aside
        assert len(set(long)) == len(long) == 6
        shares.append(sum(map(len, long)) / sum(map(len, mixed)))
        used.update(deck.show(example, None, Setting.PLACEBO).task.aside)
    assert 0.95 < sum(shares) / len(shares) < 1.05 and min(shares) > 0.8 and max(shares) < 1.2
    assert len(used) >= 8 and min(used.values()) >= 8


def test_shuffled_options_are_another_order_and_the_letters_find_back():
    [order], task = Deck(BANK, STANDARD, 42).show(QUESTION, None, Setting.SHUFFLED)
    assert sorted(task.options) == sorted(QUESTION["options"]) and list(task.options) != QUESTION["options"]
    assert list(task.options) == options_shown(QUESTION["options"], [order])
    for letter, text in zip(LETTERS, task.options, strict=False):
        assert QUESTION["options"][LETTERS.index(letter_of_question(letter, [order]))] == text
    assert letter_of_question("C", ["placebo-01"]) == "C" and letter_of_question(None, [order]) is None


def test_a_response_to_shuffled_options_is_read_by_what_was_shown_and_mapped_back():
    # Shown: A wool, B iron, C clay, D salt.
    rows = pd.DataFrame(
        [("The answer is D.", "D is salt"), ("I say wool.", "by its text"), ("Nothing here fits.", "none")],
        columns=["response", "why"],
    )
    rows = rows.assign(example_id="MMLU-00007", preference_id=None, model="S", method="zero_shot", setting="shuffled")
    rows["status"], rows["shown_preferences"] = str(Status.OK), [["order-CADB"]] * len(rows)
    found = extract(rows, pd.DataFrame([QUESTION]))
    assert found["answer"].fillna("-").tolist() == ["B", "C", "-"]
    assert found["evidence"][0] == "D."


def test_a_misleading_user_states_each_wrong_option_at_times_and_never_the_right_one():
    said = Counter()
    for number in range(100):
        ids, task = Deck(BANK, STANDARD, 42).show(
            QUESTION | {"example_id": f"MMLU-{number:05d}"}, None, Setting.MISLEADING
        )
        letter = ids[0].removeprefix("belief-")
        assert task.aside == (f"I believe it is {letter}, {QUESTION['options'][LETTERS.index(letter)]}.",)
        said[letter] += 1
    assert set(said) == {"A", "C", "D"} and min(said.values()) > 15
    assert f"\n\n{task.aside[0]}\n\n" in sent(Setting.MISLEADING, example=QUESTION | {"example_id": "MMLU-00099"})[1]


def test_memory_hides_the_preference_among_twelve_facts():
    places = set()
    for number in range(40):
        ids, task = Deck(BANK, STANDARD, 42).show(
            QUESTION | {"example_id": f"MMLU-{number:05d}"}, "clarity-1", Setting.MEMORY
        )
        assert len(task.memory) == len(set(ids)) == 13 and ids.count("clarity-1") == 1
        assert set(task.memory) <= {*STANDARD.facts, "Please keep the answer short and to the point."}
        places.add(ids.index("clarity-1"))
    assert len(places) > 6
    user = sent(Setting.MEMORY)[1]
    assert "What you remember of me from earlier conversations:\n- " in user
    assert user.endswith("Shape the answer to suit me, where something of this has a bearing on it.")


@pytest.mark.parametrize("method", [m for m in Method if m is not Method.NO_PREFERENCE])
@pytest.mark.parametrize("setting", CONTROLS)
@pytest.mark.parametrize("prompts", [STANDARD, EMBEDDED], ids=["standard", "embedded"])
def test_every_method_is_asked_in_every_control_with_what_the_control_is_about(prompts, setting, method):
    task = Deck(BANK, prompts, 42).show(QUESTION, "clarity-1", setting).task
    user = sent(setting, method, prompts)[1]
    for text in (*task.preferences, *task.memory, *task.aside):
        assert text in user
    bare = sent(Setting.NONE, method, prompts)[1]
    assert (user == bare) == (setting is Setting.REPEAT)


def test_the_first_stage_of_pref_aligner_sees_nothing_of_the_user_but_the_question_as_it_is_put():
    for setting in CONTROLS:
        first = []

        def generate(asked, stage, first=first):
            first += [chat for chat in asked if stage == 1]
            return [Answered(Reply("B."), "k") for _ in asked]

        task = Deck(BANK, STANDARD, 42).show(QUESTION, "clarity-1", setting).task
        METHODS[Method.PREF_ALIGNER]([task], STANDARD, generate, generate)
        altered = setting in {Setting.PARAPHRASE, Setting.SHUFFLED}
        assert (first[0].messages != sent_plain()) == altered and first[0].draw == (setting is Setting.REPEAT)


def sent_plain():
    system, user = sent(Setting.NONE, "no_preference")
    return (("system", system), ("user", user))


def test_draws_follow_seed_and_question_only():
    for setting in CONTROLS:
        one = Deck(BANK, STANDARD, 42).show(QUESTION, "clarity-1", setting)
        assert one == Deck(BANK.copy(), load_prompts("standard"), 42).show(QUESTION, "clarity-1", setting)
        assert one.task.source == Source.MMLU
    seeds = {tuple(Deck(BANK, STANDARD, seed).show(QUESTION, None, Setting.PLACEBO).ids) for seed in range(20)}
    assert len(seeds) > 5
