"""One layer after the other, the table 'answers', and that reading letters by rules needs no engine."""

import doctest
import json
import subprocess
import sys

import pandas as pd
import pytest
from fake_layers import EXAMPLES, GOODS, SEVERAL, SILENT, Fake, replied, scored, table
from hypothesis import given
from hypothesis import strategies as st
from toy_tables import RELEVANT, toy, value

from perg_utils.core.errors import DataError
from perg_utils.core.profile import ROOT
from perg_utils.core.schema import LETTERS, ROW_ID, TABLES, Status, conform
from perg_utils.core.workspace import Workspace
from perg_utils.extraction import answers
from perg_utils.extraction.answers import extract, extract_answer, read_all
from perg_utils.extraction.reading import Reading
from perg_utils.extraction.rules.decision import STATED_RIGHT
from perg_utils.scoring.rates import metrics
from perg_utils.scoring.scores import score


def test_each_layer_is_asked_what_those_before_it_leave_open_and_the_table_says_who_decided():
    tuned = Fake("finetuned", {SILENT: scored("C")})
    llm = Fake("llm", {SEVERAL: replied("A")})
    responses = table("The answer is B.", SILENT, SEVERAL, "Hm.", None, status=["ok"] * 4 + ["api_error"])
    found = extract(responses, EXAMPLES, [tuned, llm])
    assert tuned.asked == [[SILENT, SEVERAL, "Hm."]] and llm.asked == [[SEVERAL, "Hm."]]
    assert list(found) == list(TABLES["answers"])
    shown = found[["answer", "how", "status", "layer", "evidence"]].astype(object).where(found.notna(), None)
    assert shown.to_numpy().tolist() == [
        ["B", "answer_statement", "ok", "rules", "B."],
        ["C", "scored", "ok", "finetuned", None],
        ["A", "replied", "ok", "llm", None],
        [None, "no_option", "unparsable", None, None],
        [None, "no_response", "api_error", None, None],
    ]
    assert found["confidence"].fillna(-1).tolist() == [STATED_RIGHT, 0.93, -1, -1, -1]


@pytest.mark.parametrize(
    ("response", "how", "status", "layer"),
    [
        ("I cannot answer this.", "refusal", "refused", "rules"),
        ("None of the options is correct.", "none_of_the_options", "unparsable", "rules"),
        ("F", "letter_beyond_options", "unparsable", "rules"),
        ('{"answer": "F"}', "json:letter_beyond_options", "unparsable", "rules"),
    ],
)
def test_a_response_that_the_rules_read_as_naming_no_option_is_not_asked_about_again(response, how, status, layer):
    later = Fake("llm", {}, replied("A"))
    found = extract_answer(response, GOODS, [later])
    assert (found.letter, found.how, found.status, found.layer) == (None, how, status, layer)
    assert later.asked == []


@pytest.mark.parametrize("response", [SILENT, SEVERAL, '{"answer": "it depends"}'])
def test_where_no_layer_decides_the_rules_reason_stands_and_no_layer_is_named(response):
    alone = extract_answer(response, GOODS)
    found = extract_answer(response, GOODS, [Fake("finetuned", {}), Fake("llm", {})])
    assert found == alone
    assert (found.letter, found.status, found.layer, found.confidence) == (None, "unparsable", None, None)


def test_a_layer_that_says_that_no_option_is_named_has_decided():
    none = Reading(None, "none_of_the_options", Status.UNPARSABLE, layer="finetuned", confidence=0.95)
    refusal = Reading(None, "refusal", Status.REFUSED, layer="finetuned", confidence=0.99)
    last = Fake("llm", {}, replied("A"))
    found = extract(table(SILENT, SEVERAL), EXAMPLES, [Fake("finetuned", {SILENT: none, SEVERAL: refusal}), last])
    assert found["layer"].tolist() == ["finetuned", "finetuned"] and found["answer"].isna().all()
    assert found["status"].tolist() == ["unparsable", "refused"] and not last.asked
    assert found["confidence"].tolist() == [0.95, 0.99]


def test_equal_responses_to_equal_options_are_read_once_and_other_options_make_another_case():
    layer = Fake("finetuned", {}, scored("B"))
    found = read_all([(SILENT, GOODS), (SILENT, list(GOODS)), (SILENT, GOODS[:2]), ("B", GOODS)], [layer])
    assert layer.asked == [[SILENT, SILENT]], "two cases: with four options and with two"
    assert [one.layer for one in found] == ["finetuned"] * 3 + ["rules"]


def test_no_layer_is_called_for_nothing():
    layer = Fake("finetuned", {})
    extract(table("B", "The answer is A."), EXAMPLES, [layer])
    assert layer.asked == []


@given(
    st.one_of(st.none(), st.text(max_size=3), st.sampled_from(LETTERS), st.integers(), st.just(float("nan"))),
    st.integers(2, 30),
    st.sampled_from(list(Status)),
    st.sampled_from(["scored", "letter_beyond_options", "none_of_the_options", "json:none_of_the_options"]),
    st.sampled_from([SILENT, "F", "Option Z, no, Y.", "B or C"]),
)
def test_no_layer_returns_a_letter_beyond_the_options(letter, count, status, how, response):
    options = [f"thing number {i}" for i in range(count)]
    layer = Fake("finetuned", {}, Reading(letter, how, status, layer="finetuned"))
    found = extract_answer(response, options, [layer])
    assert found.letter is None or (found.letter in list(LETTERS[:count]) and found.status == Status.OK)
    if found.letter is None:
        assert found.status != Status.OK
    frame = extract(table(response), EXAMPLES.assign(options=[options]), [layer])
    assert frame["answer"].fillna("-").iloc[0] == (found.letter or "-")


def test_a_letter_beyond_the_options_leaves_the_case_to_the_next_layer():
    wild, last = Fake("finetuned", {}, scored("F")), Fake("llm", {}, replied("D"))
    found = extract_answer(SILENT, GOODS, [wild, last])
    assert (found.letter, found.layer) == ("D", "llm") and last.asked == [[SILENT]]


def test_a_layer_that_loses_count_is_an_error_and_not_a_shift_of_rows():
    class Short(Fake):
        def read(self, cases):
            return super().read(cases)[1:]

    with pytest.raises(ValueError, match="shorter"):
        extract(table(SILENT, SEVERAL), EXAMPLES, [Short("llm", {})])


def test_the_words_that_a_letter_rests_on_stand_in_the_table():
    found = extract(table("  Thinking of it, the answer is (C) wool. ", "D", '{"answer": "the answer is A"}'), EXAMPLES)
    assert found["answer"].tolist() == ["C", "D", "A"]
    assert "C" in found["evidence"][0] and found["evidence"].isna().tolist() == [False, True, True]
    assert found["evidence"][0] in "Thinking of it, the answer is (C) wool."


FAILURES = [Status.API_ERROR, Status.REJECTED, Status.EMPTY]


@pytest.mark.parametrize("status", FAILURES)
def test_a_reading_that_could_not_be_had_keeps_its_status(status):
    failing = Fake("llm", {}, Reading(None, "no_reply", status, layer="llm"))
    [row] = extract(table(SILENT), EXAMPLES, [failing]).to_dict("records")
    assert (row["status"], row["how"]) == (status, "no_reply")
    assert pd.isna(row["answer"]) and pd.isna(row["layer"])


@pytest.mark.parametrize("status", FAILURES)
@pytest.mark.parametrize("where", ["with", "without"])
def test_a_failed_reading_is_left_out_of_the_metrics_and_counted_and_is_never_a_wrong_answer(status, where):
    tables = toy(RELEVANT)
    before = metrics(score(**tables))
    arm = "zero_shot" if where == "with" else "no_preference"
    answers = tables["answers"]
    chosen = (answers["method"] == arm) & (answers["example_id"] == "q0")
    assert answers.loc[chosen, "status"].tolist() == ["ok"], "a question right without preference"
    answers.loc[chosen, ["answer", "status", "how", "layer"]] = [None, str(status), "no_reply", None]
    scores = score(**tables)
    after = metrics(scores)
    row = scores[(scores["method"] == "zero_shot") & (scores["example_id"] == "q0")].iloc[0]
    assert pd.isna(row[f"correct_{where}"]) and pd.isna(row[f"delivered_{where}"]) and row["status"] == status
    assert pd.isna(row["robust"]) if where == "with" else True
    for metric in ("breakage_rate", "robustness_error"):
        (_, n, unscored), (_, n_after, unscored_after) = value(before, metric), value(after, metric)
        assert (n_after, unscored_after) == (n - 1, unscored + 1)
    failed = "accuracy_with" if where == "with" else "accuracy_without"
    (_, n, unscored), (_, n_after, unscored_after) = value(before, failed), value(after, failed)
    assert (n_after, unscored_after) == (n - 1, unscored + 1)


def test_answers_of_an_earlier_version_are_an_error_that_says_how_to_make_them_again(tmp_path):
    workspace = Workspace(tmp_path, tmp_path)
    path = workspace.write("answers", conform("answers", extract(table("B"), EXAMPLES)))
    pd.read_parquet(path).drop(columns=["layer", "evidence", "confidence"]).to_parquet(path)
    with pytest.raises(
        DataError, match=r"answers\.parquet is of another version .*'layer'.*run_all\.sh makes it again"
    ):
        workspace.read("answers")


def test_the_rows_of_a_run_keep_their_order_and_identity():
    responses = table("B", SILENT, "B")
    found = extract(responses, EXAMPLES, [Fake("llm", {}, replied("D"))])
    assert found[ROW_ID[:1] + ROW_ID[2:]].equals(conform("answers", found)[ROW_ID[:1] + ROW_ID[2:]])
    assert found["model"].tolist() == responses["model"].tolist() and found["answer"].tolist() == ["B", "D", "B"]


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
