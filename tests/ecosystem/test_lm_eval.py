"""The harness's tasks without the harness: rows, chats, letters, files; and its sample logs as our tables."""

import json

import pytest
import yaml

from perg_utils.__main__ import main
from perg_utils.core.errors import PergError
from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT
from perg_utils.core.run import open_run
from perg_utils.ecosystem.lm_eval_log import import_samples
from perg_utils.ecosystem.lm_eval_tasks.questions import NONE, questions, read_letters
from perg_utils.extraction.answers import extract
from perg_utils.judging.rating import judge
from perg_utils.scoring.rates import metrics
from perg_utils.scoring.scores import score

TASKS = ROOT / "perg_utils" / "ecosystem" / "lm_eval_tasks"


class _Loader(yaml.SafeLoader):
    """Reads `!function module.name` as that text."""


_Loader.add_constructor("!function", lambda loader, node: loader.construct_scalar(node))


def task(name):
    return yaml.load((TASKS / f"{name}.yaml").read_text(encoding="utf-8"), _Loader)


def rows(**more):
    return questions(**({"profile": "demo", "limit": 2} | more))["test"].to_list()


def log(path, docs, reply):
    lines = [{"doc_id": n, "doc": doc, "resps": [[reply(doc)]]} for n, doc in enumerate(docs)]
    path.write_text("\n".join(json.dumps(line) for line in lines), encoding="utf-8")
    return path


def test_every_task_is_a_study_of_one_stage_and_the_group_names_tasks_that_are_there():
    names = {path.stem for path in TASKS.glob("perg_*.yaml")}
    assert set(task("perg")["task"]) <= names and "perg_plain" in names
    for name in names:
        own = task(name)
        assert own["task"] == name and own["include"] == "_perg.yaml"
        assert rows(**own["dataset_kwargs"], limit=1)[0]["setting"] == own["dataset_kwargs"]["setting"]
    common = task("_perg")
    assert common["custom_dataset"] == "questions.questions"
    assert common["filter_list"][0]["filter"][0]["filter_fn"] == "questions.read_letters"
    fields = {common[key].strip("{}") for key in ("description", "doc_to_text", "doc_to_target")}
    assert fields <= set(rows()[0])


@pytest.mark.parametrize("sources", ["TQA,CQA", ["TQA", "CQA"]])
def test_sources_may_be_a_text_or_a_list(sources):
    assert {row["source"] for row in rows(sources=sources)} == {"TQA", "CQA"}


def test_a_row_holds_the_question_with_its_own_preference():
    for row in rows(setting="relevant"):
        assert row["preference_id"] == row["sampled_id"] and row["preference"] in row["user"]
    assert all(row["preference_id"] == "" for row in rows(setting="none", method="no_preference"))


def test_letters_are_the_questions_own_whatever_order_was_shown():
    [row, *_] = rows(setting="shuffled", limit=1)
    order = row["shown_preferences"][0].removeprefix("order-")
    assert read_letters([["The answer is A."], ["I cannot say."]], [row, row]) == [[order[0]], [NONE]]


def test_a_method_of_two_stages_is_refused_with_the_way_out():
    with pytest.raises(PergError, match="two stages are for the Inspect task"):
        questions(method="pref_aligner", profile="demo")


def test_sample_logs_become_a_run_whose_empty_replies_are_not_scored(tmp_path, capsys):
    plain, shown = rows(setting="none", method="no_preference"), rows(setting="relevant")
    empty = shown[0]["example_id"]
    files = [
        log(tmp_path / "samples_perg_plain.jsonl", plain, lambda doc: f"The answer is {doc['gold']}."),
        log(tmp_path / "samples_perg_relevant.jsonl", shown, lambda doc: "" if doc["example_id"] == empty else "Hm."),
    ]
    assert main(["import-lm-eval", *map(str, files), "--model", "S", "--out", str(tmp_path)]) == 0
    told = capsys.readouterr().out
    assert "12 rows of responses" in told and "1 replies are empty" in told
    assert "--only 02,04,05,06,07,08,10,09" in told, "all but those that get questions and ask models"
    run = open_run(tmp_path / "data/runs/lm-eval/profile.yaml", out=tmp_path)
    assert run.profile.grid == load_profile("demo", ["grid={relevant: [zero_shot]}"]).grid
    examples, bank, responses = (run.read(name) for name in ("examples", "preferences", "responses"))
    answers = extract(responses, examples)
    scores = score(examples, responses, answers, judge(run.profile, responses, examples, bank), bank)
    table = metrics(scores).query("setting == 'relevant' and source == 'ALL'").set_index("metric")
    assert table.loc["breakage_rate", ["value", "n", "n_unscored"]].tolist() == [100, 5, 1]


def test_files_that_do_not_make_a_run_are_refused(tmp_path):
    shown = log(tmp_path / "a.jsonl", rows(), lambda _: "B.")
    plain = log(tmp_path / "b.jsonl", rows(setting="none", method="no_preference"), lambda _: "B.")
    other = log(tmp_path / "c.jsonl", rows(limit=1, setting="mixed"), lambda _: "B.")
    (tmp_path / "d.jsonl").write_text('{"doc": {"question": "?"}}')
    for files, reason in [
        ([shown], "perg_plain"),
        ([plain, shown, shown], "a second reply"),
        ([plain, shown, other], "different studies"),
        ([tmp_path / "d.jsonl"], "no sample of the tasks"),
        ([tmp_path / "none.jsonl"], "cannot be read"),
    ]:
        with pytest.raises(PergError, match=reason):
            import_samples(files, tmp_path, "x", "S")
