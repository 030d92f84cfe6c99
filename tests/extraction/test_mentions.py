"""Where a response mentions an option, by letter and by text, and in which dress."""

import pytest

from perg_utils.extraction.answers import extract_answer
from perg_utils.extraction.rules.mentions import find_mentions

COLOURS = ["red", "green", "light green", "blue"]
GOODS = ["iron", "salt", "wool", "amber"]
TOWNS = ["A mill", "I do not know", "the harbour of Oro", "Both of these"]


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("The answer is light green.", "C"),
        ("The answer is green.", "B"),
        ("Light green it is.", "C"),
        ("The answer is blue, not light green.", "D"),
    ],
)
def test_the_text_of_one_option_inside_another_is_no_mention(response, letter):
    assert extract_answer(response, COLOURS).letter == letter


def test_options_with_one_text_can_only_be_told_by_letter():
    twins = ["salt", "salt", "wool"]
    assert extract_answer("The answer is salt.", twins).letter is None
    assert extract_answer("The answer is B. salt", twins).letter == "B"


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("The answer is A.", "A"),
        ("The answer is A because of the river.", "A"),
        ("The answer is a mill.", "A"),
        ("A mill stands there.", "A"),
        ("The answer is I do not know.", "B"),
        ("A harbour is a good place to trade. The answer is the harbour of Oro.", "C"),
    ],
)
def test_letters_that_are_words_are_told_from_the_words(response, letter):
    assert extract_answer(response, TOWNS).letter == letter


def test_numbers_are_options_only_where_they_stand_alone():
    numbers = ["5", "50", "500", "0.5"]
    assert extract_answer("The answer is 50.", numbers).letter == "B"
    assert extract_answer("The answer is 0.5", numbers).letter == "D"
    assert extract_answer("The answer is 1,500 or so", numbers).letter is None
    assert extract_answer("We multiply 5 by 10 and see.", numbers).letter is None


@pytest.mark.parametrize(
    "response",
    [
        "答案：B", "答案：（B）", "正解：B。", "정답: B", "（B）", "（Ｂ）", "Ответ: B", "Ответ：（Ｂ）", "Réponse : B",
        "Réponse : « B »",
        "Antwort: B", "Die Antwort: **B**.", "Respuesta: **B**", "Respuesta: B) salt", "Risposta: B.", "الإجابة: B",
        "The answer is （B）.", "The answer is “B”.", "The answer is «salt».", "Answer： B", "B）salt", "【B】",
    ],
)  # fmt: skip
def test_the_punctuation_of_several_languages_is_read(response):
    assert extract_answer(response, GOODS).letter == "B"


@pytest.mark.parametrize(
    "response",
    [
        "**(B)**", "**B**", "**B**: salt", "**B) salt**", "[B]", "$B$", "`B`", "(B).", "B:", "Option B", "**Option B**",
        "Answer: B)", "Answer: **(B)**", "**The answer is **B****", "**Answer: B) salt**", "Final answer: B",
        "B - salt", "B – salt", "B salt", "- B. salt", "“salt”", "“B. salt”", "salt", "SALT", "The answer: salt",
        "I would say “salt”.", '{"choice": "(B)"}', '{"Answer": "salt"}', "```\n{\"answer\": \"B\"}\n```",
        "Much is sold there.\n\nB) salt\n\nIt is white.", "Options A, C and D are wrong, so B is correct.",
        "I thought of A. Actually, it is B.", "Both A and C are sold, but the answer is B.",
    ],
)  # fmt: skip
def test_every_dress_of_a_letter_or_a_text_is_read(response):
    assert extract_answer(response, GOODS).letter == "B"


def test_a_letter_and_its_text_are_one_mention():
    [mention] = find_mentions("It is B. salt, of course", GOODS)
    assert (mention.letter, mention.by_letter, mention.by_text, mention.conflict) == ("B", True, True, False)
    [mention] = find_mentions('It is "salt" (B), of course', GOODS)
    assert (mention.letter, mention.by_letter, mention.by_text, mention.conflict) == ("B", True, True, False)


def test_a_letter_in_brackets_belongs_to_the_text_before_it():
    mentions = find_mentions("They sell salt (B). Iron is kept.", GOODS)
    assert [(m.letter, m.by_letter, m.conflict) for m in mentions] == [("B", True, False), ("A", False, False)]


def test_letters_inside_an_options_text_do_not_count():
    options = ["P(A) = 0 for A and B", "P(B) = 0", "both", "neither"]
    assert extract_answer("The answer is P(A) = 0 for A and B.", options).letter == "A"
