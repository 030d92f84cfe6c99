"""Responses that refuse, or say that no option is right."""

import pytest

from perg_utils.core.schema import Status
from perg_utils.extraction.answers import extract_answer

GOODS = ["iron", "salt", "wool", "amber"]


@pytest.mark.parametrize(
    "response",
    [
        "I'm sorry, but I cannot answer this question.",
        "As an AI, I have no view on towns.",
        "I do not know.",
        "It is impossible to determine this.",
    ],
)
def test_refusals_are_told_apart(response):
    found = extract_answer(response, GOODS)
    assert (found.letter, found.status) == (None, Status.REFUSED)


def test_none_of_these_alone_is_read():
    assert extract_answer("None of these.", ["salt", "iron"]).how == "none_of_the_options"
