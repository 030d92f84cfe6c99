"""Breakage by what training did with a fact, on hand-made scores."""

import json

import pandas as pd
import pytest

from perg_utils.core.errors import DataError
from perg_utils.core.run import open_run
from perg_utils.core.schema import TABLES
from perg_utils.dataset import invented_world as world
from perg_utils.embedded import practice
from perg_utils.reporting import figures


@pytest.fixture
def folder(tmp_path):
    counts = {"plain": [5, 0], "repeated": [20, 0], "styled": [4, 16]}
    seen = {fact.fact_id: counts[fact.group] for fact in world.facts()}
    (tmp_path / "training.json").write_text(json.dumps({"exposures": seen}))
    return tmp_path


def scores(broken: set[str], unknown: set[str] = frozenset()) -> pd.DataFrame:
    """Zero-shot rows of one model on the first 200 facts; `unknown` ones were wrong without preference already."""
    rows = []
    for fact in world.facts()[:200]:
        row = dict.fromkeys(TABLES["scores"]) | {"example_id": fact.fact_id, "model": "S", "sampled": True}
        row |= {"method": "zero_shot", "setting": "relevant"}
        rows.append(row | {"correct_without": fact.fact_id not in unknown, "correct_with": fact.fact_id not in broken})
    typed = {"correct_without": "boolean", "correct_with": "boolean", "sampled": "boolean"}
    return pd.DataFrame(rows).astype(typed)


def test_breakage_is_counted_within_each_group_over_questions_known_before(folder):
    first = world.facts()[:200]
    plain = [f.fact_id for f in first if f.group == "plain"]
    found = practice.breakage_by_group(scores({*plain[:10], plain[-1]}, {plain[-1]}), {"S": folder}).set_index("group")
    assert found.loc["plain", "n"] == len(plain) - 1
    assert found.loc["plain", "value"] == pytest.approx(100 * 10 / (len(plain) - 1))
    assert found.loc["styled", "value"] == found.loc["repeated", "value"] == 0
    assert found.loc["styled", "high"] > 0
    assert found["shown"].to_dict() == {"plain": 5, "repeated": 20, "styled": 20}


def test_alignment_failure_is_split_by_wordings_that_training_used_and_held_out():
    rows = scores(set()).assign(followed=True, preference_id="clarity-1", setting="relevant")
    rows.loc[:9, "preference_id"] = "clarity-2"  # held out
    rows.loc[:3, "followed"] = False
    rows = rows.astype({"followed": "boolean"})
    found = practice.by_wording(rows).set_index("wording")
    assert found.loc["held out", ["value", "n"]].tolist() == [40, 10]
    assert found.loc["trained", ["value", "n"]].tolist() == [0, 190]


def test_a_model_without_its_training_record_is_a_plain_error(tmp_path):
    with pytest.raises(DataError, match="train-embedded"):
        practice.exposures(tmp_path)


def test_letter_and_text_are_counted_apart_and_conflicts_are_seen():
    examples = pd.DataFrame({"example_id": ["a", "b", "c"], "options": [["salt", "iron"]] * 3, "gold": ["A", "B", "A"]})
    row = {"preference_id": None, "model": "S", "method": "no_preference", "setting": "none"}
    said = ["The answer is salt (A).", "The answer is salt (B).", "The answer is wool (A)."]
    responses = pd.DataFrame([{"example_id": i, **row, "response": t} for i, t in zip("abc", said, strict=True)])
    answers = responses.drop(columns="response").assign(answer=["A", "B", "A"])
    (found,) = practice.letter_and_text(examples, responses, answers).to_dict("records")
    assert found["by_letter"] == 100
    assert found["by_text"] == pytest.approx(100 / 3)
    assert found["conflicts"] == 1
    with pytest.raises(DataError, match="same rows"):
        practice.letter_and_text(examples, responses, answers[::-1])


def test_the_figure_shows_every_model_and_group(folder):
    groups = practice.breakage_by_group(scores(set()), {"S": folder})
    axes = figures.practice(open_run("demo"), groups).figure.axes[0]
    assert [label.get_text() for label in axes.get_yticklabels()] == practice.GROUPS
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["S"]
