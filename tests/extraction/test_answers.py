"""One layer after the other, the table 'answers', and that reading letters by rules needs no engine."""

import doctest
import json
import subprocess
import sys

import pandas as pd
import pytest

from perg_utils.core.errors import DataError
from perg_utils.core.profile import ROOT
from perg_utils.core.schema import TABLES
from perg_utils.extraction import answers
from perg_utils.extraction.answers import extract

GOODS = ["iron", "salt", "wool", "amber"]


def test_the_table_has_a_row_for_every_response_and_keeps_why_there_is_none():
    responses = pd.DataFrame(
        [
            ("TQA-1", "clarity-1", "zero_shot", "relevant", "In short, salt (B).", "ok"),
            ("TQA-1", None, "no_preference", "none", "I cannot answer this.", "ok"),
            ("TQA-1", "clarity-1", "cot", "relevant", None, "rejected"),
            ("TQA-1", "clarity-1", "cot", "mixed", None, "empty"),
        ],
        columns=["example_id", "preference_id", "method", "setting", "response", "status"],
    ).assign(model="S")
    examples = pd.DataFrame({"example_id": ["TQA-1"], "options": [GOODS]})
    found = extract(responses, examples)
    assert list(found) == list(TABLES["answers"])
    assert found["answer"].fillna("-").tolist() == ["B", "-", "-", "-"]
    assert found["status"].tolist() == ["ok", "refused", "rejected", "empty"]
    assert found["how"].tolist() == ["letter_at_end", "refusal", "no_response", "no_response"]
    with pytest.raises(DataError, match="TQA-1"):
        extract(responses, examples.iloc[:0])


def test_the_examples_in_the_documentation_of_extract_answer_are_true():
    found = doctest.testmod(answers)
    assert found.failed == 0 and found.attempted >= 5


def test_the_public_extract_answer_needs_no_engine_and_no_heavy_package():
    code = "import json, sys, perg_utils; perg_utils.extract_answer('B', ['a', 'b']); print(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    loaded = json.loads(done.stdout)
    assert "perg_utils.extraction.rules.decision" in loaded
    heavy = {"torch", "aiohttp", "transformers", "peft", "openai", "matplotlib"}
    assert [name for name in loaded if name.startswith("perg_utils.engines") or name in heavy] == []
