"""What a small model copies from a prompt is no reply: every text that a template shows is sent back."""

import itertools
import json

import pytest

from perg_utils.core.profile import EditingConfig
from perg_utils.core.schema import Method
from perg_utils.prompts.second_stage import quoted, without_echo
from perg_utils.prompts.sets import FOLDER, load_prompts

SETS = sorted(path.stem for path in FOLDER.glob("*.yaml"))
ORDERS = itertools.product((None, "labelled"), (True, False))
FORMS = [None, *(EditingConfig(form=form, response_first=first) for form, first in ORDERS)]
TWO_STAGES = (Method.SELF_CRITIC, Method.PREF_ALIGNER)
SHOWN = {
    "question": "Which one melts first?",
    "options": ["tin", "iron"],
    "preferences": ["Be brief."],
    "response": "It is tin (A).",
}


def reply_in(prompts, method, text):
    return prompts.second_stage(method, "a note", text)


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("editing", FORMS, ids=str)
@pytest.mark.parametrize("method", TWO_STAGES)
def test_no_text_that_a_prompt_quotes_is_read_as_a_reply(name, editing, method):
    prompts = load_prompts(name).edited(editing)
    assert prompts.parse_second_stage(method, reply_in(prompts, method, "It is tin (A).")) == "It is tin (A)."
    source = prompts._content.templates[method].user
    for said in [*quoted(source), "...", "<...>", "…", "response", "Response:"]:
        for form in (said, said.upper(), f"<{said}>", f"{said}.", f" {said} "):
            assert prompts.parse_second_stage(method, reply_in(prompts, method, form)) is None, form


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("editing", FORMS, ids=str)
@pytest.mark.parametrize("method", TWO_STAGES)
def test_no_line_of_a_rendered_prompt_reads_as_a_reply(name, editing, method):
    """The form is told in words: copying the prompt, or any line of it, gives nothing to read."""
    prompts = load_prompts(name).edited(editing)
    for _, text in prompts.messages(method, **SHOWN):
        own = text.replace(SHOWN["response"], "")
        assert prompts.parse_second_stage(method, own) is None
        assert [line for line in own.splitlines() if prompts.parse_second_stage(method, line) is not None] == []


@pytest.mark.parametrize("method", TWO_STAGES)
def test_marks_that_fenced_the_first_answer_are_taken_off(method):
    prompts = load_prompts("standard")
    for text in ("<<<\nIt is tin (A).\n>>>", "<<< It is tin (A).", "It is tin (A).\n>>>", "<<<<It is tin (A).>>>>"):
        assert prompts.parse_second_stage(method, reply_in(prompts, method, text)) == "It is tin (A)."
    assert prompts.parse_second_stage(method, reply_in(prompts, method, "<<<\n>>>")) is None
    kept = "In C++ a <<< b >>> c is an error, so it is tin (A)."
    assert prompts.parse_second_stage(method, reply_in(prompts, method, kept)) == kept


def test_a_response_that_only_contains_a_quoted_text_is_kept():
    said = {"the edited answer in full"}
    assert without_echo("The edited answer in full: tin (A).", said) == "The edited answer in full: tin (A)."
    assert without_echo("<the edited answer, in full>", said) is None
    assert without_echo("B", said) == "B"


@pytest.mark.parametrize("name", ["standard", "paper_like"])
def test_the_form_of_a_rating_shows_none_that_could_be_copied(name):
    [(_, system), (_, user)] = load_prompts(name).messages("judge", **SHOWN, other="B.")
    for text in (system, user):
        for start in (i for i, c in enumerate(text) if c == "{"):
            with pytest.raises(json.JSONDecodeError):
                json.JSONDecoder().raw_decode(text[start:])
