"""Curation: real files in the hub's schema where they are, small made ones for everything that can be broken."""

from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perg_utils.core.errors import DataError, PergError
from perg_utils.core.profile import DataConfig
from perg_utils.core.schema import LETTERS, Source
from perg_utils.dataset import preferences, sources
from perg_utils.dataset import questions as curation

REAL = Path(__file__).parents[3] / "shared" / "real" / "sources"
SUBJECT_COUNTS = {
    "professional_law": 1534,
    "high_school_biology": 310,
    "professional_accounting": 282,
    "professional_medicine": 272,
    "high_school_mathematics": 270,
    "high_school_microeconomics": 238,
    "conceptual_physics": 235,
    "marketing": 234,
    "high_school_statistics": 216,
    "high_school_chemistry": 203,
    "college_medicine": 173,
    "high_school_physics": 151,
    "electrical_engineering": 145,
    "college_biology": 144,
    "anatomy": 135,
    "formal_logic": 126,
    "college_physics": 102,
    "abstract_algebra": 100,
    "business_ethics": 100,
    "college_chemistry": 100,
    "college_mathematics": 100,
}
real = pytest.mark.skipif(not REAL.is_dir(), reason="the real sources are not on this machine")


def mmlu(n=3, **changes):
    rows = [
        {"question": f"q{i}", "subject": "anatomy", "choices": ["w", "x", "y", f"z{i}"], "answer": i % 4}
        for i in range(n)
    ]
    for column, value in changes.items():
        rows[1][column] = value
    return rows


def config(folder, source=Source.MMLU, **more):
    return DataConfig(origin="local", path=folder, sources=[source], allow_incomplete=True, **more)


def load(tmp_path, rows, source=Source.MMLU, name=None):
    path = tmp_path / (name or sources.HUB[source].flat)
    path.parent.mkdir(parents=True, exist_ok=True)
    pd.DataFrame(rows).to_parquet(path)
    return curation.load_questions(config(tmp_path, source))


@real
def test_the_real_sources_give_5170_817_and_1098_examples_with_the_right_subjects():
    data = DataConfig(origin="local", path=REAL, allow_incomplete=True)
    questions = curation.load_questions(data)
    assert questions["source"].value_counts().to_dict() == {"MMLU": 5170, "TQA": 817, "CQA": 1098}
    assert questions["source"].unique().tolist() == ["TQA", "CQA", "MMLU"]
    subjects = questions[questions["source"] == "MMLU"]["subject"].value_counts().to_dict()
    assert subjects == SUBJECT_COUNTS
    assert set(SUBJECT_COUNTS) == sources.MMLU_SUBJECTS
    assert questions["example_id"].is_unique
    found = curation.report(questions, data).set_index(["source", "check"])["found"]
    assert found["MMLU", "texts that repeat an earlier row"] == 47
    assert found["MMLU", "texts that repeat within a subject"] == 41


@real
def test_the_right_option_is_the_one_the_file_marks():
    questions = curation.load_questions(DataConfig(origin="local", path=REAL, allow_incomplete=True))
    right = [
        options[LETTERS.index(gold)] for options, gold in zip(questions["options"], questions["gold"], strict=True)
    ]
    tqa, cqa, choices = (pd.read_parquet(REAL / sources.HUB[s].flat) for s in Source)
    expected = [t["choices"][0] for t in tqa["mc1_targets"]]
    expected += [c["text"]["ABCDE".index(k)] for c, k in zip(cqa["choices"], cqa["answerKey"], strict=True)]
    expected += [c[a] for c, a in zip(choices["choices"], choices["answer"], strict=True)]
    assert right == expected


@real
def test_truthfulqa_options_are_shuffled_and_always_in_the_same_way():
    data = DataConfig(origin="local", path=REAL, sources=[Source.TQA])
    first, second = curation.load_questions(data), curation.load_questions(data)
    assert first["options"].tolist() == second["options"].tolist()
    # 817 rows with about five options: were the right one always first, this would be 100 %.
    assert 0.15 < (first["gold"] == "A").mean() < 0.35


@real
def test_an_incomplete_source_is_refused_with_its_count_and_the_cure():
    with pytest.raises(DataError, match=r"CQA has 1,098 of 1,221.*data.allow_incomplete: true"):
        curation.load_questions(DataConfig(origin="local", path=REAL))
    data = DataConfig(origin="local", path=REAL, allow_incomplete=True)
    lines = curation.report(curation.load_questions(data), data)
    assert lines[lines["result"] == "differs"][["source", "check", "found", "expected"]].values.tolist() == [
        ["CQA", "questions", 1098, 1221]
    ]


def test_the_shuffle_of_a_row_is_pinned():
    row = {"question": "q", "mc1_targets": {"choices": list("abcde"), "labels": [1, 0, 0, 0, 0]}}
    read = sources._read_tqa(row, "TQA-00008")
    assert (read["options"], read["gold"]) == (["a", "e", "c", "b", "d"], "A")


@pytest.mark.parametrize(
    "name", ["mmlu_test.parquet", "all/test-00000-of-00001.parquet", "mmlu/all/test-00000-of-00001.parquet"]
)
def test_files_are_found_under_flat_names_and_under_those_of_a_hub_snapshot(tmp_path, name):
    assert load(tmp_path, mmlu(), name=name)["example_id"].tolist() == ["MMLU-00000", "MMLU-00001", "MMLU-00002"]


def test_other_subjects_are_left_out_and_positions_count_what_is_kept(tmp_path):
    rows = [*mmlu(1), {**mmlu(1)[0], "subject": "astronomy", "question": "elsewhere"}, *mmlu(1)]
    questions = load(tmp_path, rows)
    assert questions["question"].tolist() == ["q0", "q0"]
    assert questions["example_id"].tolist() == ["MMLU-00000", "MMLU-00001"]
    assert questions["position"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"question": " "}, "question must be a text, got ' '"),
        ({"question": None}, "question must be a text, got (None|nan)"),
        ({"choices": ["a", "b", "c"]}, "3 options, expected 4"),
        ({"choices": ["a", "b", "", "d"]}, "every option must be a text"),
        ({"choices": ["a", "b", None, "d"]}, "every option must be a text"),
        ({"answer": 4}, "answer must be from 0 to 3, got 4"),
        ({"answer": -1}, "answer must be from 0 to 3, got -1"),
        ({"subject": ""}, "subject must be a text"),
    ],
)
def test_a_broken_mmlu_row_is_named_with_file_row_and_fault(tmp_path, changes, wrong):
    with pytest.raises(DataError, match=f"mmlu_test.parquet, row 1: .*{wrong}"):
        load(tmp_path, mmlu(**changes))


@pytest.mark.parametrize(
    ("source", "row", "wrong"),
    [
        (Source.CQA, {"choices": {"label": list("ABCDE"), "text": list("vwxyz")}, "answerKey": ""}, "answerKey ''"),
        (
            Source.CQA,
            {"choices": {"label": list("ABCD"), "text": list("vwxy")}, "answerKey": "A"},
            "4 options, expected 5",
        ),
        (Source.CQA, {"choices": {"label": list("ABCDE"), "text": list("vwxy")}, "answerKey": "A"}, "labels"),
        (Source.TQA, {"mc1_targets": {"choices": ["a", "b"], "labels": [0, 0]}}, "exactly one right choice"),
        (Source.TQA, {"mc1_targets": {"choices": ["a", "b"], "labels": [1, 1]}}, "exactly one right choice"),
        (Source.TQA, {"mc1_targets": {"choices": ["a"], "labels": [1]}}, "1 options, expected 2 to 13"),
        (Source.TQA, {"mc1_targets": {"choices": ["a", "b"], "labels": [1]}}, "2 choices, labels"),
    ],
)
def test_a_broken_row_of_the_other_sources_is_named_too(tmp_path, source, row, wrong):
    with pytest.raises(DataError, match=f"row 0: .*{wrong}"):
        load(tmp_path, [{"question": "q", **row}], source)


def test_a_missing_column_a_missing_file_and_a_broken_file_are_told_apart(tmp_path):
    with pytest.raises(DataError, match=r"no file in data.path .* looked for mmlu_test.parquet"):
        curation.load_questions(config(tmp_path))
    with pytest.raises(DataError, match=r"columns \['answer'\] are missing"):
        load(tmp_path, [{k: v for k, v in row.items() if k != "answer"} for row in mmlu()])
    (tmp_path / "mmlu_test.parquet").write_bytes(b"<html>not found</html>")
    with pytest.raises(DataError, match="no readable Parquet file"):
        curation.load_questions(config(tmp_path))


def test_a_hub_that_cannot_be_reached_is_explained_with_the_cures(monkeypatch):
    import datasets

    def refuse(*args, **kwargs):
        raise ConnectionError(f"Couldn't reach {args}")

    monkeypatch.setattr(datasets, "load_dataset", refuse)
    with pytest.raises(PergError, match=r"(?s)truthfulqa/truthful_qa.*data.origin=local.*'demo'"):
        curation.load_questions(DataConfig(origin="hub"))


def test_the_hub_is_asked_for_the_papers_datasets_configurations_and_splits(monkeypatch):
    import datasets

    asked = []

    class Table:
        def __init__(self, repo):
            self.repo = repo

        def to_pandas(self):
            rows = {
                "truthfulqa/truthful_qa": [{"question": "q", "mc1_targets": {"choices": ["a", "b"], "labels": [1, 0]}}],
                "tau/commonsense_qa": [
                    {"question": "q", "choices": {"label": list("ABCDE"), "text": list("vwxyz")}, "answerKey": "C"}
                ],
                "cais/mmlu": mmlu(1),
            }
            return pd.DataFrame(rows[self.repo])

    monkeypatch.setattr(datasets, "load_dataset", lambda *a, **k: asked.append((*a, k)) or Table(a[0]))
    questions = curation.load_questions(DataConfig(origin="hub", allow_incomplete=True))
    assert asked == [
        ("truthfulqa/truthful_qa", "multiple_choice", {"split": "validation"}),
        ("tau/commonsense_qa", "default", {"split": "validation"}),
        ("cais/mmlu", "all", {"split": "test"}),
    ]
    assert questions["example_id"].tolist() == ["TQA-00000", "CQA-00000", "MMLU-00000"]
    assert questions["gold"].tolist()[1:] == ["C", "A"]


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 40), st.integers(0, 5))
def test_a_sample_is_ordered_deterministic_and_keeps_positions_and_preferences(limit, seed):
    frame = pd.DataFrame(
        [(f"{s}-{i:05d}", str(s), None, "q", ["a", "b"], "A", i) for s in Source for i in range(30)],
        columns=[*sources.COLUMNS, "position"],
    )
    data = DataConfig(origin="embedded", limit={Source.TQA: limit, Source.MMLU: 3})
    drawn = curation.sample(frame, data, seed)
    assert drawn.equals(curation.sample(frame, data, seed))
    assert drawn.groupby("source").size().to_dict() == {"TQA": min(limit, 30), "CQA": 30, "MMLU": 3}
    assert drawn["example_id"].is_monotonic_increasing or drawn["source"].nunique() > 1
    bank = preferences.load_bank()
    whole = preferences.assign(frame, bank).set_index("example_id")["preference_id"]
    assert preferences.assign(drawn, bank).set_index("example_id")["preference_id"].equals(whole[drawn["example_id"]])


def test_another_seed_draws_another_sample():
    frame = pd.DataFrame(
        [(f"TQA-{i:05d}", "TQA", None, "q", ["a", "b"], "A", i) for i in range(500)],
        columns=[*sources.COLUMNS, "position"],
    )
    data = DataConfig(origin="embedded", limit=50)
    assert set(curation.sample(frame, data, 1)["position"]) != set(curation.sample(frame, data, 2)["position"])


@pytest.mark.parametrize("count", [120, 817, 5170])
def test_a_higher_limit_keeps_the_questions_of_a_lower_one(count):
    """Whatever the sizes: the library draws small and large samples in two ways, which do not agree."""
    questions = pd.DataFrame({"source": "TQA", "position": range(count)})

    def drawn(limit):
        return set(curation.sample(questions, DataConfig(origin="embedded", limit=limit), 42)["position"])

    for low, high in ((5, 60), (60, 85), (60, 100), (100, 800)):
        assert drawn(low) < drawn(high) or count <= low


def test_the_embedded_world_is_loaded_checked_and_limited():
    data = DataConfig(origin="embedded", limit=10)
    examples = curation.load_examples(data, 42)
    assert examples["source"].tolist() == ["TQA"] * 10 + ["CQA"] * 10 + ["MMLU"] * 10
    assert (curation.report(examples, data)["result"] == "note").all()


def test_right_letters_are_counted_beside_what_chance_would_give():
    asked = pd.DataFrame({"source": ["TQA", "TQA", "CQA"], "gold": ["A", "A", "B"],
                          "options": [["x", "y"], ["x", "y", "z", "w"], ["x", "y"]]})  # fmt: skip
    found = curation.right_letters(asked).set_index(["source", "letter"])
    assert found["right"].to_dict() == {("TQA", "A"): 2, ("TQA", "B"): 0, ("TQA", "C"): 0, ("TQA", "D"): 0,
                                        ("CQA", "A"): 0, ("CQA", "B"): 1}  # fmt: skip
    assert found["chance"].tolist() == [0.75, 0.75, 0.25, 0.25, 0.5, 0.5]
    assert list(found.index.get_level_values(0).unique()) == ["TQA", "CQA"], "in the order of the questions"


def test_questions_with_one_text_stand_side_by_side_where_the_source_is_the_same():
    asked = pd.DataFrame({"source": ["TQA", "TQA", "TQA", "CQA"], "question": ["b?", "a?", "b?", "a?"],
                          "options": [["x", "y"]] * 4, "example_id": ["1", "2", "3", "4"]})  # fmt: skip
    found = curation.repeated(asked)
    assert found["example_id"].tolist() == ["1", "3"] and found["options"].tolist() == ["x | y"] * 2
