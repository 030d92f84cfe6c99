"""Import of released files: made-up files with every trap planted, and the known answers on the genuine sample."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from released import NO_FILES, first, put, questions, scored, unscored, wide

from perg_utils.__main__ import main
from perg_utils.core.errors import DataError
from perg_utils.core.schema import ROW_ID, Source
from perg_utils.core.workspace import Workspace
from perg_utils.published import files as published_files
from perg_utils.published.assignment import PREFERENCES, released
from perg_utils.published.files import blob_id
from perg_utils.published.importing import import_published
from perg_utils.scoring import rates as metrics
from perg_utils.scoring.scores import score

SAMPLE = Path(__file__).parents[3] / "shared" / "real" / "published_sample"
NAME = "relevant/direct/full/janus-7b-direct-full_eval.csv"


@pytest.fixture(scope="module")
def data():
    return questions()


def load(folder, out, **options):
    workspace = Workspace(out / "run", out / "figures")
    found = import_published(folder, workspace, **({"manifest": NO_FILES} | options))
    return found, workspace


def rate(workspace, metric, **where):
    table = metrics.metrics(workspace.read("scores"))
    chosen = table[(table["metric"] == metric)]
    for name, value in ({"source": "ALL", "setting": "relevant"} | where).items():
        chosen = chosen[chosen[name] == value]
    return chosen["value"].item()


# --- rows and their places


def test_scored_rows_get_the_metrics_that_their_file_says(data, tmp_path):
    rows = scored(data)
    put(tmp_path, NAME, rows)
    found, ws = load(tmp_path, tmp_path / "out")
    right = rows[rows["nopref_correct"]]
    assert rate(ws, "breakage_rate") == pytest.approx(100 * (1 - right["pref_correct"].mean()))
    assert rate(ws, "alignment_failure") == pytest.approx(100 * (1 - right["followed_pref"].mean()))
    assert rate(ws, "robustness_error") == pytest.approx(100 * (1 - right["is_robust"].mean()))
    assert found.unread.empty and len(ws.read("examples")) == 7208


def test_rows_in_another_order_and_with_other_option_orders_give_the_same_scores(data, tmp_path):
    rows = scored(data)
    put(tmp_path / "a", NAME, rows)
    put(tmp_path / "b", "data/robuset_main.csv", data)
    turned = rows.copy()
    turned["options"] = [str(eval(o)[::-1]) for o in rows["options"]]
    for name in ("gold_option", "pref_answer", "nopref_answer"):
        turned[name] = rows[name].map(dict(zip("ABCD", "DCBA", strict=True)))
    put(tmp_path / "b", NAME, turned.sample(frac=1, random_state=3))
    _, plain = load(tmp_path / "a", tmp_path / "one")
    found, other = load(tmp_path / "b", tmp_path / "two")
    assert found.unread.empty
    for table in ("answers", "scores"):
        one, two = (ws.read(table).sort_values(ROW_ID, ignore_index=True) for ws in (plain, other))
        pd.testing.assert_frame_equal(one, two)
    assert set(pd.read_parquet(other.run / "origins.parquet")["order"]) == {"DCBA"}


def test_repeated_questions_are_told_apart_by_their_preferences_and_never_multiplied(data, tmp_path):
    base = first("MMLU")
    same = data.copy()
    for name in ("question", "options", "gold_option"):
        same.loc[[base + 5, base + 40], name] = same.loc[base + 3, name]
    put(tmp_path, "data/robuset_main.csv", same)
    rows = scored(same).iloc[::-1]
    put(tmp_path, NAME, rows)
    found, ws = load(tmp_path, tmp_path / "out")
    scores = ws.read("scores").query("setting == 'relevant'").set_index("example_id")
    assert found.unread.empty and len(scores) == 7208 and scores["sampled"].all()
    for i in (3, 5, 40):
        assert scores.loc[f"MMLU-{i:05d}", "correct_with"] == rows.loc[base + i, "pref_correct"]


def test_what_has_no_place_is_listed_with_file_row_and_reason(data, tmp_path):
    put(tmp_path, "data/robuset_main.csv", data)
    rows = unscored(scored(data)).astype(object)
    rows.loc[7, "options"] = "red, blue"
    rows.loc[8, "gold_option"] = "Q"
    rows.loc[9, "question"] = "Who wrote this?"
    rows.loc[10, "options"] = "['one', 'two', 'three', 'four']"
    rows.loc[11, "gold_option"] = "A" if rows.loc[11, "gold_option"] != "A" else "B"
    rows.loc[12] = rows.loc[13]
    name = put(tmp_path, "relevant/cot/full/janus-7b.csv", rows).relative_to(tmp_path).as_posix()
    found, ws = load(tmp_path, tmp_path / "out")
    reasons = found.unread.set_index("row")["reason"]
    assert set(found.unread["file"]) == {name} and sorted(reasons.index) == [7, 8, 9, 10, 11, 12]
    for row, part in [(7, "no list"), (8, "'Q'"), (9, "has this question"), (10, "options differ"), (11, "gold option"),
                      (12, "another row")]:  # fmt: skip
        assert part in reasons[row]
    assert (ws.read("scores")["setting"] == "relevant").sum() == 7208 - 6
    pd.testing.assert_frame_equal(pd.read_csv(ws.run / "unread.csv"), found.unread, check_dtype=False)


def test_unscored_duplicates_of_a_run_add_only_what_the_scored_file_lacks(data, tmp_path):
    rows = scored(data)
    put(tmp_path, "data/robuset_main.csv", data)
    put(tmp_path, NAME, rows.drop(index=[3, 4]))
    put(tmp_path, "relevant/direct/full/janus-7b-direct-full.csv", unscored(rows))
    found, ws = load(tmp_path, tmp_path / "out")
    used = found.files.set_index("layout")["used"]
    assert used["scored"] == 7206 and used["long"] == 2
    scores = ws.read("scores").query("setting == 'relevant'")
    assert len(scores) == 7208 and scores["followed"].isna().sum() == 2
    assert set(scores.loc[scores["followed"].isna(), "example_id"]) == {"TQA-00003", "TQA-00004"}


def test_a_missing_rating_is_not_not_followed_and_an_empty_response_is_not_wrong(data, tmp_path):
    rows = scored(data)
    rows.loc[5, "pref_eval_rating"] = np.nan
    rows.loc[6, "pref_res"] = ""
    put(tmp_path, NAME, rows)
    _, ws = load(tmp_path, tmp_path / "out")
    scores = ws.read("scores").query("setting == 'relevant'").set_index("example_id")
    assert scores.loc["TQA-00005", "status"] == "unparsable" and pd.isna(scores.loc["TQA-00005", "followed"])
    assert scores.loc["TQA-00006", "status"] == "empty" and pd.isna(scores.loc["TQA-00006", "correct_with"])
    judged = ws.read("judgements").set_index("example_id")["status"]
    assert judged["TQA-00005"] == "unparsable" and (judged == "ok").sum() == 7207


def test_the_words_none_and_nan_stay_texts(data, tmp_path):
    rows = scored(data)
    rows.loc[1, "pref_res"] = "None"
    rows.loc[2, "pref_res"] = "NaN"
    put(tmp_path, NAME, rows)
    _, ws = load(tmp_path, tmp_path / "out")
    texts = ws.read("responses").query("setting == 'relevant'").set_index("example_id")["response"]
    assert texts["TQA-00001"] == "None" and texts["TQA-00002"] == "NaN"


def test_wide_chunks_give_the_sampled_and_the_full_assignment(data, tmp_path):
    rows = wide(data, "CQA")
    for chunk in (3, 0, 9, 1):  # 123 rows each but the last; the others are missing
        part = rows.iloc[chunk * 123 : (chunk + 1) * 123]
        put(tmp_path, f"relevant/direct/commonsense_qa/janus-7b_{chunk}.csv", part)
    found, ws = load(tmp_path, tmp_path / "out")
    scores = ws.read("scores").query("setting == 'relevant'")
    places = {f"CQA-{i:05d}": i for i in [*range(246), *range(369, 492), *range(1107, 1221)]}
    assert found.unread.empty and set(scores["example_id"]) == set(places) and len(scores) == 12 * len(places)
    number = scores["preference_id"].str[-2:].astype(int)
    place = scores["example_id"].map(places)
    # Planted: profile k is wrong where k divides the row's place.
    np.testing.assert_array_equal(scores["correct_with"].astype(bool), place % number != 0)
    np.testing.assert_array_equal(scores["sampled"].astype(bool), place % 12 + 1 == number)
    assert scores["category"].notna().all() and scores["correct_without"].all()


def test_a_stray_line_or_a_cut_in_one_chunk_moves_no_row_of_another(data, tmp_path):
    rows = wide(data, "CQA")
    for chunk in (0, 1, 2, 3):
        path = put(
            tmp_path, f"relevant/direct/commonsense_qa/janus-7b_{chunk}.csv", rows.iloc[chunk * 123 : (chunk + 1) * 123]
        )
        if chunk == 1:
            path.write_text(path.read_text(encoding="utf-8") + "x\n", encoding="utf-8")
    put(tmp_path, "relevant/direct/commonsense_qa/janus-7b_5.csv", rows.iloc[615:625])
    found, ws = load(tmp_path, tmp_path / "out")
    questions = ws.read("examples").set_index("example_id")["question"]
    there = [*range(492), *range(615, 625)]
    assert questions.to_dict() == {f"CQA-{i:05d}": rows["question"].iloc[i] for i in there}
    assert found.unread["row"].tolist() == [123] and "janus-7b_1.csv" in found.unread["file"].iloc[0]


def test_a_later_file_brings_the_questions_of_a_missing_chunk(data, tmp_path):
    rows = wide(data, "TQA")
    for chunk in (0, 2):
        put(tmp_path, f"relevant/direct/truthful_qa/janus-7b_{chunk}.csv", rows.iloc[chunk * 82 : (chunk + 1) * 82])
    put(tmp_path, "relevant/cot/full/janus-7b_0.csv", unscored(scored(data)).iloc[:246])
    _, ws = load(tmp_path, tmp_path / "out")
    assert ws.read("examples")["example_id"].tolist() == [f"TQA-{i:05d}" for i in range(246)]


def test_irrelevant_rows_have_no_preference_and_take_the_zero_shot_answer_without_one(data, tmp_path):
    rows = scored(data)
    put(tmp_path, NAME, rows)
    other = scored(data, seed=1).drop(columns=["nopref_res", "nopref_answer", "nopref_correct"])
    put(tmp_path, "irrelevant/direct/full/janus-7b-direct-full_eval.csv", other)
    put(tmp_path, "irrelevant_set/direct/full/janus-7b-direct-full_eval.csv", other)
    _, ws = load(tmp_path, tmp_path / "out")
    want = 100 * (1 - other.loc[rows["nopref_correct"], "pref_correct"].mean())
    assert rate(ws, "breakage_rate", setting="irrelevant") == pytest.approx(want)
    assert rate(ws, "breakage_rate", setting="mixed") == pytest.approx(want)
    scores = ws.read("scores")
    assert scores.loc[scores["setting"] == "irrelevant", "preference_id"].isna().all()
    assert scores.loc[scores["setting"] == "mixed", "preference_id"].notna().all()


def test_a_pref_aligner_file_gives_the_aligned_response_and_no_rating_of_another(data, tmp_path):
    rows = scored(data).assign(aligner_res="It is so", aligner_answer=data["gold_option"], aligner_thoughts="hm")
    put(tmp_path, "relevant/aligner/full/janus-7b.csv", rows)
    _, ws = load(tmp_path, tmp_path / "out")
    assert rate(ws, "accuracy_with", method="pref_aligner") == 100
    shown = ws.read("responses").query("setting == 'relevant'")
    assert set(shown["response"]) == {"It is so"} and {tuple(s) for s in shown["stages"]} == {("hm",)}
    assert ws.read("judgements").empty and ws.read("scores")["followed"].isna().all()


def test_our_tables_scored_by_our_metrics_agree_with_the_imported_scores(data, tmp_path):
    put(tmp_path, NAME, scored(data))
    _, ws = load(tmp_path, tmp_path / "out")
    names = ("examples", "responses", "answers", "judgements", "preferences")
    ours = score(*(ws.read(name) for name in names), baseline="own").sort_values(ROW_ID, ignore_index=True)
    imported = ws.read("scores").sort_values(ROW_ID, ignore_index=True)
    pd.testing.assert_frame_equal(ours, imported)


def test_letters_can_be_read_again_by_our_rules(data, tmp_path):
    rows = unscored(scored(data)).iloc[:60]
    rows.loc[0, "pref_res"] = "The answer is B."
    put(tmp_path, "relevant/direct/full/janus-7b_0.csv", rows)
    _, ws = load(tmp_path, tmp_path / "out", letters="rules")
    answers = ws.read("answers").query("setting == 'relevant'").set_index("example_id")
    assert answers.loc["TQA-00000", "answer"] == "B" and answers["how"].str.startswith("rules:").all()


# --- broken files


def test_altered_missing_truncated_and_unknown_files_are_named_and_the_rest_is_imported(data, tmp_path, capsys):
    good = put(tmp_path, NAME, scored(data))
    altered = put(tmp_path, "relevant/direct/full/gpt-4.1_eval.csv", scored(data))
    short = put(tmp_path, "relevant/cot/full/janus-7b-cot-full_eval.csv", scored(data))
    text = short.read_text()
    short.write_text(text[: text.index("[", len(text) // 2) + 9])  # within the quoted options
    put(tmp_path, "relevant/icl/full/janus-7b-icl-full.csv", data[["question", "preference"]])
    put(tmp_path, "relevant/icl/full/Nobody-7B.csv", scored(data))
    empty = put(tmp_path, "relevant/icl/full/Qwen3-8B.csv", data)
    empty.write_bytes(b"")
    names = {p: p.relative_to(tmp_path).as_posix() for p in (good, altered, short)}
    listed = [(names[good], blob_id(good.read_bytes())), (names[altered], "0" * 40), ("results/gone.csv", "1" * 40)]
    found, ws = load(tmp_path, tmp_path / "o", manifest=pd.DataFrame(listed, columns=["path", "git_blob_sha1"]))
    status = found.files.set_index(found.files["file"].str.rpartition("/")[2])["status"]
    assert status.to_dict() == {
        "janus-7b-direct-full_eval.csv": "read",
        "janus-7b-cot-full_eval.csv": "read",
        "gpt-4.1_eval.csv": "altered",
        "gone.csv": "missing",
        "janus-7b-icl-full.csv": "unreadable",
        "Nobody-7B.csv": "unknown",
        "Qwen3-8B.csv": "unreadable",
    }
    assert found.files.set_index("file")["verified"].sum() == 1
    assert len(found.unread) == 1 and "truncated" in found.unread["reason"].item()
    assert (ws.read("scores")["method"] == "cot").sum() > 3000
    problems = found.files.set_index("status")["problem"]
    assert "0" * 40 in problems["altered"] and "unknown model" in problems["unknown"]
    assert "unknown layout" in " ".join(problems["unreadable"])


def test_a_folder_without_anything_readable_is_an_error(data, tmp_path):
    with pytest.raises(DataError, match="no folder"):
        load(tmp_path / "none", tmp_path / "o")
    with pytest.raises(DataError, match="no CSV"):
        load(tmp_path, tmp_path / "o")
    put(tmp_path, "relevant/icl/full/janus-7b.csv", data[["question"]])
    with pytest.raises(DataError, match="unknown layout"):
        load(tmp_path, tmp_path / "o")


def test_a_second_import_leaves_nothing_of_the_first(data, tmp_path):
    put(tmp_path / "a", NAME, scored(data))
    put(tmp_path / "b", "relevant/cot/full/gpt-4.1_0.csv", unscored(scored(data)).iloc[:60])
    load(tmp_path / "a", tmp_path / "out")
    _, ws = load(tmp_path / "b", tmp_path / "out")
    assert set(ws.read("responses")["model"]) == {"GPT-4.1"}


# --- the released preferences and the genuine sample


def test_released_preferences_are_known_by_hash_and_number_only():
    bank = released()
    assert list(bank.columns) == ["source", "number", "text_sha256", "category"]
    assert bank["text_sha256"].str.fullmatch("[0-9a-f]{64}").all()
    assert bank.groupby("source").size().to_dict() == {str(s): n for s, n in PREFERENCES.items()}
    assert "Creative" not in set(bank.loc[bank["source"] == str(Source.MMLU), "category"])


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no released sample here")
def test_the_sample_gives_the_papers_figures(tmp_path, capsys):
    assert main(["import-published", str(SAMPLE), "--out", str(tmp_path)]) == 0
    assert "57 files read" in capsys.readouterr().out
    ws = Workspace(tmp_path, tmp_path / "figures")
    table = (
        metrics.metrics(ws.read("scores")).set_index(["model", "method", "setting", "source", "metric"]).sort_index()
    )
    known = {"MMLU": (5170, 59.2, 18.18, 27.58), "TQA": (817, 68.4, 19.86, 24.83)}
    for source, (n, accuracy, breakage, variation) in known.items():
        row = table.loc[("Mixtral-8x7B", "zero_shot", "relevant", source)]
        base = table.loc[("Mixtral-8x7B", "zero_shot", "none", source)]
        assert row.loc["accuracy_with", "n"] == n
        assert base.loc["accuracy_without", "value"] == pytest.approx(accuracy, abs=0.05)
        assert row.loc["breakage_rate", "value"] == pytest.approx(breakage, abs=0.005)
        assert row.loc["performance_variation", "value"] == pytest.approx(variation, abs=0.005)
    scores = ws.read("scores").query("model == 'Mixtral-8x7B' and method == 'zero_shot' and setting == 'relevant'")
    assert scores.groupby("source").size().to_dict() == {"CQA": 1098 * 12, "MMLU": 5170 * 11, "TQA": 817 * 14}
    assert scores["sampled"].sum() == 7085
    assert pd.read_csv(tmp_path / "unread.csv").empty
    assert len(ws.read("examples")) == 7208 and ws.read("preferences")["text"].notna().all()


def test_the_pinned_commit_is_in_the_address():
    assert published_files.ADDRESS.endswith(f"/{published_files.COMMIT}/") and len(published_files.COMMIT) == 40
