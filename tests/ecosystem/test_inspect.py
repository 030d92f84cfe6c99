"""The Inspect task, by its entry point: the same numbers as `run` gives on a real server; and what a failure becomes.

Ours is a run of the command line, `python -m perg_utils run`, and what it left in its tables. Theirs are logs of
`inspect eval perg_utils/perg` on the same server, imported. Needs the extra, in an environment of its own:
docs/inspect.md.
"""

import math
import os
import subprocess
import sys
from importlib.metadata import entry_points
from pathlib import Path

import in_process
import pandas as pd
import pytest
from served import MODEL, needs_serving, serving

from perg_utils.__main__ import main
from perg_utils.core.profile import ROOT
from perg_utils.core.run import open_run
from perg_utils.core.schema import ROW_ID
from perg_utils.scoring.rates import metrics
from perg_utils.scoring.scores import score

pytest.importorskip("inspect_ai", reason="needs the extra: pip install -e .[inspect]")

from inspect_ai import eval as inspect_eval
from inspect_ai.log import read_eval_log
from inspect_ai.model import ModelOutput, ModelUsage, get_model

from perg_utils.core.errors import PergError
from perg_utils.core.schema import Status
from perg_utils.ecosystem.inspect_asking import reply_of
from perg_utils.ecosystem.inspect_log import import_logs
from perg_utils.ecosystem.inspect_task import perg, values_of

ARMS = [
    ("relevant", "zero_shot"),
    ("relevant", "self_critic"),
    ("relevant", "pref_aligner"),
    ("mixed", "few_shot"),
    ("shuffled", "zero_shot"),
    ("misleading", "pref_aligner"),
]
GRID = "{relevant: [zero_shot, self_critic, pref_aligner], mixed: [few_shot], "
GRID += "shuffled: [zero_shot], misleading: [pref_aligner]}"
#: What becomes of a request; all other columns (seconds, the server's own words) may differ.
ASKED = [*ROW_ID, "shown_preferences", "response", "stages", "status", "finish_reason", "prompt_tokens"]
ASKED += ["completion_tokens", "fallback"]
IMPORTED = ("examples", "preferences", "responses", "answers", "judgements")
LIMIT = 3


def same(ours, theirs, columns):
    """Every row of both, by its id."""
    one, other = (frame[columns].astype(str).sort_values(ROW_ID, ignore_index=True) for frame in (ours, theirs))
    assert len(one) == len(other)
    different = one.compare(other)
    assert different.empty, different.to_string()


def typed(*words, **environment):
    """Run a command as a user types it, in a process of its own; its status must be 0.

    Without PYTHONPATH: Inspect knows a package by how it was installed, which a checkout on the path hides.
    """
    around = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(
        [*map(str, words)],
        check=False,
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=around | environment,
        timeout=600,
    )
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


def asked_by_command(where, url, setting, method):
    """The log of an arm that `inspect eval` asked, in a process of its own."""
    words = [Path(sys.executable).with_name("inspect")]
    words += ["eval", "perg_utils/perg", "--model", f"openai-api/local/{MODEL}", "--log-dir", where]
    for name, value in {"setting": setting, "method": method, "limit": LIMIT, "judge": "heuristic"}.items():
        words += ["-T", f"{name}={value}"]
    typed(*words, "-T", "profile=demo", "--display", "plain", LOCAL_BASE_URL=url, LOCAL_API_KEY="none")
    [log] = where.glob("*.eval")
    return read_eval_log(str(log))


@pytest.fixture(scope="module")
def both(tmp_path_factory):
    """One study on one server: our run, the run of an import, and the logs that it was made of."""
    installed = typed(sys.executable, "-I", "-c", "import perg_utils; print(perg_utils.__file__)").strip()
    if not Path(installed).is_relative_to(ROOT):
        pytest.skip(f"`inspect` would take the task of another checkout ({installed}): pip install -e .[inspect] here")
    where = tmp_path_factory.mktemp("both")
    with serving(where / "server.txt") as url:
        model = f"{{name: S, engine: api, model: {MODEL}, base_url: '{url}', structured: false}}"
        own = [f"data.limit={LIMIT}", f"models=[{model}]", f"grid={GRID}", "judges=[]"]
        options = [word for value in own for word in ("--set", value)]
        told = typed(sys.executable, "-m", "perg_utils", "run", "--profile", "demo", *options, "--only",
                     "01,02,03,04,05,06", "--out", where / "ours")  # fmt: skip
        assert "6 of 6 steps run" in told, told
        logs = [asked_by_command(where / "logs", url, *ARMS[0])]
        served = get_model(f"openai-api/local/{MODEL}", base_url=url, api_key="none")
        tasks = [perg(setting=s, method=m, limit=LIMIT, judge="heuristic", profile="demo") for s, m in ARMS[1:]]
        logs += inspect_eval(tasks, model=served, display="none", log_dir=str(where / "more"))
    assert [log.status for log in logs] == ["success"] * len(ARMS)
    assert main(["import-inspect", *(log.location for log in logs), "--out", str(where / "theirs")]) == 0
    found = open_run(where / "theirs/data/runs/inspect/profile.yaml", out=where / "theirs")
    imported = {name: found.read(name) for name in IMPORTED}
    with in_process.notebooks():  # what import-inspect says to do next, as far as the numbers go
        words = ["run", "--profile", str(found.workspace.run / "profile.yaml"), "--out", str(where / "theirs")]
        assert main([*words, "--only", "02,04,05,06"]) == 0
    return open_run("demo", own, where / "ours"), found, imported, logs


def scored(tables, run_profile):
    scores = score(
        *(tables[name] for name in ("examples", "responses", "answers", "judgements", "preferences")),
        threshold=run_profile.judge.threshold,
    )
    return scores, metrics(scores, run_profile.statistics)


def test_inspect_finds_the_task_by_the_entry_point_of_this_package():
    found = entry_points(group="inspect_ai", name="perg_utils")
    assert {one.value for one in found} == {"perg_utils.ecosystem.inspect_task"}, "pip install -e .[inspect] again"


@needs_serving
def test_inspect_gives_the_very_rows_of_our_own_run(both):
    ours, _, imported, _ = both
    assert len(imported["responses"]) == 3 * LIMIT * (1 + len(ARMS))
    assert imported["responses"]["response"].nunique() > 20
    pd.testing.assert_frame_equal(ours.read("examples"), imported["examples"])
    pd.testing.assert_frame_equal(ours.read("preferences"), imported["preferences"])
    same(ours.read("responses"), imported["responses"], ASKED)
    for name in ("answers", "judgements"):
        same(ours.read(name), imported[name], list(imported[name]))


@needs_serving
def test_the_steps_after_an_import_give_the_very_tables_of_our_own_run(both):
    ours, theirs, *_ = both
    for name in ("answers", "judgements", "nulls", "scores"):
        same(ours.read(name), theirs.read(name), list(ours.read(name)))
    pd.testing.assert_frame_equal(ours.read("metrics"), theirs.read("metrics"))
    assert ours.read("metrics")["value"].notna().sum() > 50


@needs_serving
def test_inspects_own_means_are_the_metrics_where_all_is_known(both):
    ours, *_, logs = both
    table = ours.read("metrics").query("source == 'ALL'").set_index(["setting", "method", "metric"])["value"]
    compared = 0
    for (setting, method), log in zip(ARMS, logs, strict=True):
        for one in log.results.scores:
            mean = one.metrics["mean"].value
            if (setting, method, one.name) in table.index and not math.isnan(mean):
                assert 100 * mean == pytest.approx(table[setting, method, one.name]), (setting, method, one.name)
                compared += 1
    assert compared > len(ARMS)


@needs_serving
def test_a_sample_carries_what_it_rests_on(both):
    *_, logs = both
    sample = next(s for s in logs[0].samples if s.metadata["answer_with"]["answer"] is not None)
    data = sample.metadata
    assert data["example"]["example_id"] == sample.id and data["preference_id"] and data["preference"]
    assert data["without"]["response"] and data["with"]["response"] == sample.output.completion
    assert data["answer_with"]["evidence"] in data["with"]["response"]
    assert sample.scores["right_and_as_wished"].answer == data["answer_with"]["answer"]
    assert data["judgement"]["rating"] in range(1, 6)
    sent = sample.input[-1].content
    assert data["example"]["question"] in sent and data["preference"] in sent


def said(text, stop="stop"):
    usage = ModelUsage(input_tokens=5, output_tokens=7, total_tokens=12)
    return ModelOutput.from_content("mockllm/model", text, stop_reason=stop).model_copy(update={"usage": usage})


def mocked(tmp_path, answer, **more):
    model = get_model("mockllm/model", custom_outputs=answer)
    task = perg(limit=1, sources="TQA,CQA", profile="demo", judge="heuristic", **more)
    [log] = inspect_eval(task, model=model, display="none", log_dir=str(tmp_path / "logs"))
    return log


def test_what_fails_is_unscored_and_never_wrong(tmp_path):
    def answer(messages, *_):
        if "Preference" in messages[-1].text:
            raise ValueError("no reply")
        return said("The answer is A.")

    log = mocked(tmp_path, answer)
    assert log.status == "success" and all(sample.error for sample in log.samples)
    assert log.results is None or all(one.scored_samples == 0 for one in log.results.scores)
    found = import_logs([log.location], tmp_path, "failed")
    assert found.failed == 2
    run = open_run(found.profile, out=tmp_path)
    tables = {name: run.read(name) for name in IMPORTED}
    assert set(tables["responses"]["status"]) == {"api_error"}
    scores, table = scored(tables, run.profile)
    assert scores["correct_with"].isna().all() and table["n"].sum() == 0


def test_a_cut_reply_leaves_its_value_open_and_the_other_known(tmp_path):
    def answer(messages, *_):
        return said("hidden", "content_filter") if "Preference" in messages[-1].text else said("The answer is A.")

    log = mocked(tmp_path, answer)
    found = {one.name: (one.scored_samples, one.unscored_samples) for one in log.results.scores}
    assert found["accuracy_without"] == (2, 0)
    assert found["accuracy_with"] == found["robust_accuracy"] == (0, 2)


def test_a_model_of_inspect_judges_with_our_rubric_once_a_sample(tmp_path, monkeypatch):
    seen = []

    def answer(messages, *_):
        text = "\n".join(message.text for message in messages)
        if "rating" in text:
            seen.append(text)
            return said('{"explanation": "brief", "rating": 4}')
        return said("The answer is A.")

    model = get_model("mockllm/model", custom_outputs=answer)
    monkeypatch.setattr("perg_utils.ecosystem.inspect_task.get_model", lambda *_, **__: model)
    task = perg(limit=1, sources="TQA", profile="demo", prompts="standard", judge="mockllm/model")
    [log] = inspect_eval(task, model=model, display="none", log_dir=str(tmp_path))
    [sample] = log.samples
    assert len(seen) == 1 and sample.metadata["preference"] in seen[0]

    assert (sample.metadata["judgement"]["rating"], sample.metadata["judgement"]["judge"]) == (4, "model")


@pytest.mark.parametrize(
    ("text", "stop", "status", "finish"),
    [
        ("B.", "stop", Status.OK, "stop"),
        ("B, bec", "max_tokens", Status.OK, "length"),
        ("", "max_tokens", Status.SILENT, "length"),
        ("", "stop", Status.EMPTY, "stop"),
        ("the prompt is too long", "model_length", Status.REJECTED, "model_length"),
        ("<think>so</think> B.", "stop", Status.OK, "stop"),
    ],
)
def test_an_output_becomes_a_reply_with_the_status_that_says_what_it_is(text, stop, status, finish):
    reply = reply_of(said(text, stop))
    assert (reply.status, reply.finish_reason, reply.prompt_tokens, reply.completion_tokens) == (status, finish, 5, 7)
    assert (reply.text is None) == (status is not Status.OK)


def test_values_count_what_failed_only_where_the_plain_answer_was_right():
    row = {"correct_without": True, "correct_with": True, "followed": False, "robust": False}
    found = values_of(row)
    assert (found["robust_accuracy"], found["breakage_rate"], found["alignment_failure"]) == (0, 0, 1)
    assert math.isnan(values_of(row | {"correct_without": False})["breakage_rate"])
    assert math.isnan(values_of(row | {"followed": None, "robust": None})["robustness_error"])


@pytest.mark.parametrize(
    ("bad", "told"),
    [
        ({"setting": "often"}, "setting: 'often' is none of"),
        ({"method": "no_preference"}, "the plain answer is always asked"),
        ({"judge": "gpt"}, "nor a model of Inspect"),
        ({"sources": "TQA,XYZ"}, "data.sources"),
        ({"profile": "published"}, "go together"),
    ],
)
def test_a_bad_parameter_is_told_with_its_cure(bad, told):
    with pytest.raises(PergError, match=told):
        perg(**({"profile": "demo"} | bad))


def test_logs_that_do_not_belong_together_are_refused(tmp_path, capsys):
    one = mocked(tmp_path, lambda *_: said("The answer is A."))
    with pytest.raises(PergError, match="two logs have the same arm"):
        import_logs([one.location, one.location], tmp_path, "x")
    with pytest.raises(PergError, match="no log is of openai/x"):
        import_logs([one.location], tmp_path, "x", {"openai/x": "X"})
    (tmp_path / "other.eval").write_text("no log")
    with pytest.raises(PergError, match="cannot be read as a log"):
        import_logs([tmp_path / "other.eval"], tmp_path, "x")
    assert main(["import-inspect", one.location, "--out", str(tmp_path), "--model", "mockllm/model=Mock"]) == 0
    told = capsys.readouterr().out
    assert "4 rows of responses" in told and "--only 02,04,05,06,07,08,10,09" in told
    run = open_run(tmp_path / "data/runs/inspect/profile.yaml", out=tmp_path)
    assert set(run.read("responses")["model"]) == {"Mock"}
