import pandas as pd
import pytest

from perg_utils.core.errors import DataError
from perg_utils.core.schema import (
    PAPER_METRICS,
    ROW_ID,
    TABLES,
    Method,
    Metric,
    Setting,
    Source,
    arrow_schema,
    conform,
    ordered,
)

#: What 'judgements' has not.
ANSWER = ["answer", "how", "layer", "evidence", "confidence"]


def answers(**changes) -> pd.DataFrame:
    row = {
        "example_id": "TQA-1",
        "preference_id": None,
        "model": "S",
        "method": "cot",
        "setting": "irrelevant",
        "answer": "A",
        "how": "letter",
        "status": "ok",
        "layer": "rules",
        "evidence": None,
        "confidence": None,
    }
    return pd.DataFrame([row | changes])


def test_names_of_the_design_are_the_names_in_the_code():
    assert list(Source) == ["TQA", "CQA", "MMLU"]
    paper, controls = list(Setting)[:4], set(Setting)
    assert paper == ["none", "relevant", "mixed", "irrelevant"]
    assert controls - set(paper) == {
        *("memory", "repeat", "paraphrase", "shuffled"),
        *("placebo", "placebo_labelled", "placebo_long", "misleading"),
    }
    assert list(Method) == ["no_preference", "zero_shot", "cot", "few_shot", "self_critic", "pref_aligner"]
    assert len(Metric) == 11 and sum(metric.higher_is_better for metric in Metric) == 3
    assert set(TABLES) == {
        "examples",
        "preferences",
        "responses",
        "answers",
        "judgements",
        "nulls",
        "scores",
        "metrics",
    }


def test_rows_from_responses_on_carry_the_identity_first():
    for table in ("responses", "answers", "judgements", "scores"):
        assert list(TABLES[table])[:5] == ROW_ID


def test_a_conforming_table_has_the_columns_order_and_types_of_the_schema():
    shuffled = answers()[["confidence", "evidence", "layer", "status", "how", "answer", *ROW_ID]]
    out = conform("answers", shuffled)
    assert list(out) == list(TABLES["answers"])
    assert out["preference_id"].isna().all()
    assert str(out["answer"].dtype) in ("str", "string")


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (answers().drop(columns="how"), r"missing columns \['how'\]"),
        (answers(extra=1), r"unknown columns \['extra'\]"),
    ],
)
def test_missing_and_unknown_columns_are_named(frame, message):
    with pytest.raises(DataError, match=message):
        conform("answers", frame)


def test_a_value_that_does_not_fit_names_table_and_column():
    frame = answers(judge="h", rating="four", explanation="").drop(columns=ANSWER)
    with pytest.raises(DataError, match=r"table 'judgements', column 'rating'.*int64"):
        conform("judgements", frame)


def test_an_unrated_row_stays_null_and_whole_numbers_stay_whole():
    frame = pd.concat([answers(judge="h", rating=r, explanation="") for r in (4, None)]).drop(columns=ANSWER)
    rating = conform("judgements", frame)["rating"]
    assert rating.tolist()[0] == 4
    assert str(rating.dtype) == "Int64"
    assert rating.isna().tolist() == [False, True]


def test_null_preferences_match_each_other_in_joins():
    left = conform("answers", answers())
    joined = left.merge(left[[*ROW_ID, "answer"]], on=ROW_ID, suffixes=("", "_2"), validate="1:1")
    assert joined["answer_2"].tolist() == ["A"]


def test_lists_stay_python_lists():
    frame = pd.DataFrame(
        [
            {
                "example_id": "e",
                "source": "TQA",
                "subject": None,
                "question": "?",
                "options": ("x", "y"),
                "gold": "A",
                "preference_id": None,
            }
        ]
    )
    assert conform("examples", frame)["options"].tolist() == [["x", "y"]]


def test_every_table_has_an_arrow_schema():
    assert {name: arrow_schema(name).names for name in TABLES} == {name: list(cols) for name, cols in TABLES.items()}


def test_rows_are_ordered_as_the_study_lists_settings_methods_sources_and_metrics():
    shuffled = pd.DataFrame(
        [
            ("cot", "placebo", "ALL", "accuracy_with"),
            ("zero_shot", "placebo", "MMLU", "breakage_rate"),
            ("cot", "relevant", "TQA", "breakage_rate"),
            ("cot", "placebo", "ALL", "breakage_rate"),
            ("cot", "placebo", "MMLU", "accuracy_with"),
        ],
        columns=["method", "setting", "source", "metric"],
    )
    assert ordered(shuffled, ["setting", "method", "source", "metric"]).index.tolist() == [2, 1, 4, 3, 0]


def test_models_are_ordered_as_they_are_given_then_as_they_appear_and_equal_rows_stay():
    rows = pd.DataFrame({"model": ["c", "a", "b", "a", "c"]})
    assert ordered(rows, ["model"]).index.tolist() == [0, 4, 1, 3, 2]
    assert ordered(rows, ["model"], ["z", "b"]).index.tolist() == [2, 0, 4, 1, 3]
    assert ordered(rows.iloc[:0], ["model"]).empty


def test_every_metric_has_its_words_and_the_papers_have_their_abbreviations():
    assert [metric.short for metric in PAPER_METRICS] == ["BR", "AF", "RE", "PV"]
    assert Metric.ALIGNMENT_FAILURE.heading == "Alignment failure (AF)"
    assert len({metric.label for metric in Metric}) == len({metric.short for metric in Metric}) == len(Metric)
