"""Ways of editing, sets that extend others, and what a set of the paper's kind asks."""

import itertools

import pytest

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import EditingConfig
from perg_utils.prompts.second_stage import read_labelled
from perg_utils.prompts.sets import PromptError, load_prompts

ASKED = {"question": "What is mined?", "options": ["iron", "salt"], "preferences": ["Be brief."], "response": "B."}


def editor(name, **switches):
    prompts = load_prompts(name).edited(EditingConfig(**switches) if switches else None)
    return prompts, " ".join(text for _, text in prompts.messages("pref_aligner", **ASKED))


@pytest.mark.parametrize("name", ["standard", "paper_like", "embedded"])
def test_each_of_eight_ways_of_editing_differs_in_its_switches_only(name):
    ways = list(itertools.product([True, False], repeat=3))
    texts = {}
    for keep, options, first in ways:
        prompts, text = editor(name, keep_letter=keep, show_options=options, response_first=first)
        assert ("letter" in text) == keep, text
        assert ("What is mined?" in text) == options
        reply = prompts.second_stage("pref_aligner", "a note", "salt (B).")
        assert prompts.parse_second_stage("pref_aligner", reply) == "salt (B)."
        response, note = reply.lower().index("response"), reply.lower().index("thoughts")
        assert (response < note) == first
        texts[keep, options, first] = text
    assert len(set(texts.values())) == 8


def test_the_papers_set_neither_orders_the_letter_nor_shows_the_options_and_asks_for_the_response_first():
    _, text = editor("paper_like")
    assert "letter" not in text and "What is mined?" not in text and "A. iron" not in text
    assert text.index('"response"') < text.index('"thoughts"')
    _, ours = editor("standard")
    assert (
        "with its letter" in ours and "What is mined?" in ours and ours.index('"thoughts"') < ours.index('"response"')
    )
    assert {load_profile(name).prompts for name in ("paper", "paper_small")} == {"paper_like"}


def test_a_labelled_form_is_made_of_the_json_keys_and_read_back():
    prompts, text = editor("standard", form="labelled")
    assert '"Thoughts:" and behind it what applies' in text and "JSON" not in text
    assert prompts.parse_second_stage("pref_aligner", "Thoughts: fine. Response: salt (B).") == "salt (B)."
    assert prompts.schema("pref_aligner") is None and load_prompts("standard").schema("pref_aligner") is not None


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("answer: salt (B). thought: fine", "salt (B)."),
        ("answer: salt, a thought: really (B). thought: fine", "salt, a thought: really (B)."),
        ("answer: salt (B).", "salt (B)."),
        ("thought: fine answer: salt (B).", None),
        ("answer: thought: fine", None),
    ],
)
def test_a_response_before_its_note_ends_at_the_last_label(text, read):
    assert read_labelled(text, "answer:", "thought:", response_first=True) == read


def test_a_set_may_extend_another_and_says_so_where_it_cannot(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(
        "extends: standard\ntemplates:\n  cot: {system: '', user: 'Hm. {{ task }}'}\nbelief: 'It is {{ text }}!'\n"
    )
    prompts, base = load_prompts(mine), load_prompts("standard")
    changed = {key for key, value in prompts.hashes.items() if value != base.hashes[key]}
    assert changed == {"cot", "belief"} and prompts.belief("A", "iron") == "It is iron!"
    mine.write_text(f"extends: {mine}\n")
    with pytest.raises(PromptError, match="extends itself"):
        load_prompts(mine)
    mine.write_text("extends: nothing\n")
    with pytest.raises(PromptError, match="no prompt set 'nothing'"):
        load_prompts(mine)


def test_too_few_sentences_wordings_or_facts_are_refused(tmp_path):
    mine = tmp_path / "mine.yaml"
    for text, said in (("placebo: [One.]", "placebo"), ("facts: [One.]", "facts"), ("wordings: []", "wordings")):
        mine.write_text(f"extends: standard\n{text}\n")
        with pytest.raises(PromptError, match=said):
            load_prompts(mine)
