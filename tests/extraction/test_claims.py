"""What a response says of the options it mentions: claimed, set aside, taken back, or one of several."""

import pytest

from perg_utils.core.schema import Status
from perg_utils.extraction.answers import extract_answer

GOODS = ["iron", "salt", "wool", "amber"]


@pytest.mark.parametrize(
    "response",
    [
        "B is correct.",
        "B is the best answer.",
        "It is B.",
        "I go for B.",
        "Therefore B is right.",
        "Response: B",
        "In short: B.",
        "C is incorrect, A is incorrect, D is incorrect. B is correct.",
        "A) Incorrect\nB) Correct\nC) Incorrect",
        "b",
        "the answer is (b).",
    ],
)
def test_short_verdicts_and_small_letters_are_read(response):
    assert extract_answer(response, GOODS).letter == "B"


@pytest.mark.parametrize(
    ("response", "allowed"),
    [
        ("The correct answer is A. Wait, actually it is B.", {"B", None}),
        ("I think the answer is B; hmm, on reflection C is the better choice.", {"C", None}),
        ("It would be a mistake to say that the answer is C. It is B.", {"B", None}),
        ("Option C is tempting, but option D is correct.", {"D"}),
        ("Option A might be considered, however B is better.", {"B", None}),
        (
            "A common mistake is to choose B. A better choice would be iron, but of the options wool fits.",
            {"A", "C", None},
        ),
        ("Some people might say that the answer is A. The answer is D.", {"D"}),
        ("The answer is A. Wait, B.", {"B", None}),
        ("C. wool\n\nA) iron is too heavy.\nB) salt is white.\nD) amber is rare.", {"C", None}),
        ("Both A and B are correct.", {None}),
        ("Conclusion: C", {"C", None}),
    ],
)
def test_what_is_only_tempting_reported_or_taken_back_gives_no_wrong_letter(response, allowed):
    assert extract_answer(response, GOODS).letter in allowed


@pytest.mark.parametrize(
    ("response", "letter"),
    [
        ("The answer is A. Actually, wait: the answer is B.", "B"),
        ("The answer is iron. On second thought, the answer is salt.", "B"),
        ("At first I thought it was not B. The answer is B.", "B"),
        ("A. iron is wrong, C. wool is wrong. The correct answer is B.", "B"),
        ("The answer is not A but the answer is B.", "B"),
        ("We can rule out iron. We can eliminate option C. The answer is B.", "B"),
        ("Unlike option A, option B is the right one.", "B"),
        ("A. iron - too heavy.\nB. salt - this is the best answer.\nC. wool - not here.\nD. amber - too rare.", "B"),
        ("Options:\nA. iron\nB. salt\nC. wool\nD. amber\n\nBased on this, option B is best.", "B"),
    ],
)
def test_corrections_and_eliminations_do_not_mislead(response, letter):
    assert extract_answer(response, GOODS).letter == letter


@pytest.mark.parametrize(
    "response",
    [
        "Options A and C are wrong.",
        "It is not iron, not wool and not amber.",  # what is left is not said
        "We can rule out A, C and D.",
        "The answer is A or B.",
        "The answer is A, B and C.",
        "The answer is A. The answer is B.",
        "Both iron and salt are sold there.",
        "A. iron\nB. salt\nC. wool\nD. amber",
        "A nice question. I like it.",
        "I think that a town may sell many things.",
        "Vitamin C and plan B are famous.",
        "Let B = 4 and C + D = 7.",
        "",
        "?!",
        "None of these options is correct.",
        "E",
        "The answer is E.",
        "\\boxed{Z}",
        '{"answer": "Q"}',
        '{"answer": null}',
        "[1, 2]",
        "saltpetre and ironing",
    ],
)
def test_the_rules_are_silent_where_no_single_option_is_chosen(response):
    found = extract_answer(response, GOODS)
    assert (found.letter, found.status) == (None, Status.UNPARSABLE)


@pytest.mark.parametrize(
    ("response", "options", "letter"),
    [
        ('Option B, "salt from the sea", is the best answer.', GOODS, "B"),
        ("We see that option B, which lies by the sea, is the most fitting choice. Iron is not.", GOODS, "B"),
        ("The answer is B. Salt actually is a mineral. Iron (A) is one too.", GOODS, "B"),
        ("It is salt (B). People wait for the boat with wool (C) all day.", GOODS, "B"),
        ("It comes from the sea, which is option B. The other options (A, C, and D) do not.", GOODS, "B"),
        ("The best choice is B. salt, although it is not the most costly answer.", GOODS, "B"),
        ("The cross-sectional area (A) matters. The answer is B.", GOODS, "B"),
        ("The best choice is B. salt. However, this is not the most accurate answer.", GOODS, None),
        ("The answer is A. But actually option C is better.", GOODS, "C"),
        (
            "The answer is:\nD. None of the above.\n\nNone of the options is correct.",
            [*GOODS[:3], "None of the above"],
            "D",
        ),
        ("The correct answer is:\nA. iron\n\nTo explain it simply:\nB. salt melts.\nC. wool burns.", GOODS, "A"),
    ],
)
def test_what_is_said_around_an_option_decides(response, options, letter):
    assert extract_answer(response, options).letter == letter


NUMBERS = ["1", "2", "3", "4"]
LETTERED = ["~A", "B", "1/C", "C"]
DECLINING = ["iron", "Refused", "I do not know", "No correct answer is given"]


@pytest.mark.parametrize(
    ("response", "options", "letter"),
    [
        ("The value corresponds to option B.", GOODS, "B"),
        ("The best of these would be D. We say amber.", GOODS, "D"),
        ("The statement that does not hold for the town is C.", GOODS, "C"),
        ("Option C is the false statement.", GOODS, "C"),
        ("None of them fits fully, but option D comes the closest.", GOODS, "D"),
        ("[B, as the sea is near.", GOODS, "B"),
        ("A. iron\n\nHere is why:\n\nThe hills near the town are full of it, as every child in Oro knows well.\n"
         "B. salt: no.\nC. wool: no.\nD. amber: no.", GOODS, "A"),
        ("The least likely option is B.", GOODS, "B"),
        ("The least likely option is A. So the answer is B.", GOODS, "B"),
        ("The answer is C. 1/C.", LETTERED, "C"),
        ("The answer is B.", LETTERED, "B"),
        ("The answer is B. ~A is what follows it.", LETTERED, "B"),
        ("Let us see:\n1. We take two.\n2. We add one.\nSo the answer is 3.", NUMBERS, "C"),
        ("Both A and B may serve, but option B is the best.", GOODS, "B"),
        ("B. salt. None of the other options is correct.", GOODS, "B"),
        ("I cannot provide an answer to this question.", DECLINING, "B"),
        ("None of the options is correct.", DECLINING, "D"),
    ],
)  # fmt: skip
def test_rarer_forms_of_an_answer_are_read(response, options, letter):
    assert extract_answer(response, options).letter == letter


@pytest.mark.parametrize(
    ("response", "options"),
    [
        ("It is either C or D.", GOODS),
        ("The answer is both B and C: they sell it all.", GOODS),
        ("The options A, C and X suit us (A, C).", GOODS),
        ("The other options (A, C, D) are worse.", GOODS[:2]),
        ("Here is an example for this answer: A couple walks by.", GOODS),
        ("The closest option is A. iron. However, this is not the correct answer.", GOODS),
        ("The answer is A. Therefore, none of the given options is correct.", GOODS),
        ("The others are not the best answer because:\n\n- salt (option B) melts.", GOODS),
        ("To answer this, let us look at each option and what speaks for it:\n\nA. iron is hard.", GOODS),
        ("We are asked whether they sell salt.", GOODS),
        ("Let us see.\nA. iron is wrong.\nB. salt is wrong.\nD. amber would be a rare thing to sell.", GOODS),
        ("People believed that option C was correct.", GOODS),
        ("The answer could also be C.", GOODS),
        ("Here P(B) = 0.3 and C(10, 2) = 45, where [C] = 2.", GOODS),
        ("We add 1 + 2 and see. 1/2 of it is left.", NUMBERS),
        ("1. First this.\n2. Then that.", NUMBERS),
        ("The relation is non-linear.", ["linear", "square", "cubic", "none"]),
        ("Neither iron (option A) nor pure salt (option B) would be the best choice.", GOODS),
        ("Q: What is sold?\nA: The town sells much.", GOODS),
        ("I cannot answer this.", GOODS),
    ],
)
def test_the_rules_keep_silent_where_a_letter_is_no_answer(response, options):
    assert extract_answer(response, options).letter is None


def test_an_option_named_by_its_ordinal_is_not_the_other_one_that_is_mentioned():
    options = ["tides", "dogs", "bells"]
    found = extract_answer("First, we weigh tides against another. Thus it must be the second option.", options)
    assert found.letter is None
    assert extract_answer("The second option is tempting. The answer is (C).", options).letter == "C"
