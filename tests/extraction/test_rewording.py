import pandas as pd
import pytest

from perg_utils.core.schema import Status
from perg_utils.extraction.finetuned.rewording import compare, in_words, stated
from perg_utils.extraction.reading import Reading

OPTIONS = ["sand", "salt", "clay"]


class ReadsSecond:
    """Reads "the second option" rightly, takes "the third option" for A, and is unsure of all else."""

    name = "finetuned"

    def read(self, cases):
        letters = ["B" if "second" in response else "A" if "third" in response else None for response, _ in cases]
        return [Reading(x, "scored", Status.OK if x else Status.UNPARSABLE) for x in letters]


@pytest.fixture
def rows():
    told = [("The answer is salt (B).", "B"), ("The answer is clay (C).", "C"), ("Answer: A", "A")]
    return pd.DataFrame([{"response": text, "options": OPTIONS, "letter": letter} for text, letter in told])


def test_each_form_is_read_by_the_rules_by_the_layer_and_by_both(rows):
    found = compare(rows, ReadsSecond()).set_index(["form", "layers"])[["n", "right", "wrong", "silent"]]
    assert found.loc[("without the letter", "rules")].tolist() == [2, 100, 0, 0]
    assert found.loc[("by the option's place", "rules")].tolist() == [2, 0, 0, 100]
    assert found.loc[("by the option's place", "finetuned")].tolist() == [2, 50, 50, 0]
    assert found.loc[("by the option's place", "rules, then finetuned")].tolist() == [2, 50, 50, 0]
    assert found.loc[("as it is", "finetuned")].tolist() == [3, 0, 0, 100]
    assert ("as it is", "rules") not in found.index, "their letter is the truth there"


def test_the_sentences_name_right_and_wrong_letters_without_and_with_the_layer(rows):
    assert in_words(compare(rows, ReadsSecond()))[1] == (
        "by the option's place: right letters 0.0 %, with the layer 50.0 %; wrong ones 0.0 and 50.0 %"
    )


def test_only_stated_answers_are_told_anew_and_equal_ones_once():
    ids = ["q1", "q1", "q2", "q2"]
    responses = pd.DataFrame({"example_id": ids, "response": ["B", "B", "salt (A)", "I refuse."]})
    hows, letters = ["bare_letter", "bare_letter", "letter_text_conflict", "refusal"], ["B", "B", "A", None]
    answers = pd.DataFrame({"answer": letters, "how": hows, "layer": "rules", "setting": "relevant"})
    examples = pd.DataFrame({"example_id": ["q1", "q2"], "options": [OPTIONS, OPTIONS]})
    found = stated(responses, answers, examples, n=10, seed=1)
    assert found.to_dict("records") == [{"response": "B", "options": OPTIONS, "letter": "B"}]
