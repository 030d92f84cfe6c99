"""Answers in LaTeX boxes."""

import pytest

from perg_utils.extraction.answers import extract_answer

GOODS = ["iron", "salt", "wool", "amber"]


@pytest.mark.parametrize(
    ("response", "options", "letter", "how"),
    [
        ("\\boxed{\\text{salt}}", GOODS, "B", "boxed_text"),
        ("So it is $\\boxed{\\mathrm{ Salt. }}$", GOODS, "B", "boxed_text"),
        ("\\boxed{42}", ["7", "42", "420"], "B", "boxed_text"),
        ("We get 7, then \\boxed{ 42 }.", ["7", "42", "420"], "B", "boxed_text"),
        ("\\boxed{\\frac{1}{2}}", ["1/2", "$\\frac{1}{2}$"], "B", "boxed_text"),
        ("\\boxed{T}", ["V", "T"], "B", "boxed_text"),  # no letter of an option, but its text
        ("\\boxed{\\textbf{(B)}}", GOODS, "B", "boxed"),
        ("\\boxed{\\text{B) iron}}", GOODS, "B", "boxed"),
        ("First \\boxed{A}, then \\boxed{B}.", GOODS, "B", "boxed"),
        ("\\boxed{B}, where \\boxed{x = 3}", GOODS, "B", "boxed"),
        ("\\fboxed{B}", GOODS, "B", "boxed"),
        ("\\boxed{x} so the answer is B.", GOODS, "B", "answer_statement"),
    ],
)
def test_a_box_is_read_by_its_letter_or_as_the_text_of_one_option(response, options, letter, how):
    found = extract_answer(response, options)
    assert (found.letter, found.how) == (letter, how)


@pytest.mark.parametrize(
    "response",
    [
        "\\boxed{A, B}",
        "\\boxed{C = 5}",
        "\\boxed{x}",
        "\\boxed{}",
        "\\boxed{",
        "\\boxed B",
        "\\boxed{Z}",
        "\\boxed{ABC}",
    ],
)
def test_a_box_that_names_no_single_option_says_nothing(response):
    assert extract_answer(response, GOODS).letter is None


def test_a_box_with_the_text_of_two_options_says_nothing():
    assert extract_answer("\\boxed{wool}", ["wool", "Wool.", "salt"]).letter is None
