"""Plain answers against chance: worked out by hand on made-up answers."""

import pandas as pd
import pytest

from perg_utils.scoring.plain import COLUMNS, near_chance, plain_answers

ARM = {"model": "M", "method": "no_preference", "setting": "none"}


def study(letters, gold, options=4, source="TQA"):
    ids = [f"{source}-{n}" for n in range(len(gold))]
    examples = pd.DataFrame(
        {"example_id": ids, "source": source, "options": [["x"] * options] * len(ids), "gold": gold}
    )
    answers = pd.DataFrame({"example_id": ids, "answer": letters}).assign(**ARM)
    return answers.assign(status=["ok" if x else "unparsable" for x in letters]), examples


def test_accuracy_chance_and_letters_are_those_counted_by_hand():
    answers, examples = study(["B", "B", "B", "A", None], ["A", "B", "C", "A", "D"])
    row = plain_answers(answers, examples).iloc[0]
    assert (row["n"], row["accuracy"], row["chance"]) == (5, 40, 25)
    assert row["letter"] == "B"
    assert row[["named", "right", "no_letter"]].tolist() == pytest.approx([60, 20, 20])
    # named: A .2, B .6, none .2; right: A .4, B .2, C .2, D .2
    assert row["distance"] == pytest.approx(100 * (0.2 + 0.4 + 0.2 + 0.2 + 0.2) / 2)
    assert row["low"] < 25 < row["high"] and row["near_chance"]


def test_a_model_that_always_says_one_letter_is_told_and_one_that_knows_is_not():
    gold = list("ABCD" * 15)
    guessing, examples = study(["B"] * 60, gold)
    [said] = near_chance(plain_answers(guessing, examples))
    assert "25 % [15, 38] right on 60 questions, 25 % by chance; 100 % name B, which is right in 25 %" in said
    knowing, _ = study([*gold[:40], *"B" * 20], gold)
    found = plain_answers(knowing, examples)
    assert near_chance(found) == [] and not found["near_chance"].any()


def test_sources_are_told_apart_and_what_could_not_be_had_is_left_out():
    one, two = study(["A"] * 4, ["A"] * 4, 2), study(["A"] * 4, ["B"] * 4, 5, "CQA")
    answers, examples = (pd.concat(both, ignore_index=True) for both in zip(one, two, strict=True))
    answers.loc[0, ["answer", "status"]] = [None, "api_error"]
    with_preference = answers.assign(setting="relevant", answer="C")
    found = plain_answers(pd.concat([answers, with_preference]), examples).set_index("source")
    assert found["n"].to_dict() == {"TQA": 3, "CQA": 4, "ALL": 7}
    assert found["accuracy"].round(1).to_dict() == {"TQA": 100, "CQA": 0, "ALL": 42.9}
    assert found.loc["ALL", "chance"] == pytest.approx(100 * (3 / 2 + 4 / 5) / 7)


def test_a_model_that_names_no_letter_has_none_and_no_answers_give_no_row():
    answers, examples = study([None, None], ["A", "B"])
    row = plain_answers(answers, examples).iloc[0]
    assert row["letter"] is None and row["no_letter"] == 100 and row["distance"] == 100
    empty = plain_answers(answers[:0], examples)
    assert empty.empty and list(empty) == COLUMNS and near_chance(empty) == []
