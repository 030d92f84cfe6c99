"""Whole runs over a server that refuses and repeats the key: what is said at the end, and where the key must not be."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pandas as pd
import pytest
from faulty_server import running, stats

from perg_utils.core.schema import TABLES
from perg_utils.core.workspace import Workspace
from perg_utils.run import unanswered

ROOT = Path(__file__).resolve().parents[2]
KEY = "sk-test-4d1f9a77-never-to-be-seen"
PROFILE = """
name: api-test
title: A test of the API engine
world: invented
prompts: standard
data: {{origin: embedded, limit: 6}}
grid:
  relevant: [zero_shot, pref_aligner]
models:
  - {{name: one, engine: api, model: gpt-4o-mini, base_url: "{url}", api_key_env: TEST_KEY}}
judge:
  kind: llm
  model: {{name: judge, engine: api, model: gpt-4o-mini, base_url: "{url}", api_key_env: TEST_KEY}}
"""


def start(folder, *words):
    # A shell that starts the tests in the background leaves Ctrl-C ignored.
    code = "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler); "
    code += "from perg_utils.__main__ import main; sys.exit(main())"
    command = [sys.executable, "-c", code, "run", "--profile", folder / "p.yaml", "--out", folder / "out", *words]
    environment = {**os.environ, "TEST_KEY": KEY, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        list(map(str, command)), cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def run(folder, *words):
    process = start(folder, *words)
    out, error = process.communicate()
    return subprocess.CompletedProcess(words, process.returncode, out, error)


@pytest.fixture(scope="module")
def ended(tmp_path_factory):
    """A whole run in which a fifth of all prompts is refused for good; the server tells the key wherever it can."""
    folder = tmp_path_factory.mktemp("run")
    with running(faults={"reject": 0.2, "500": 0.1}, tell_key=1) as url:
        (folder / "p.yaml").write_text(PROFILE.format(url=url))
        done = run(folder)
        yield folder, done, url


def test_the_run_ends_with_what_has_no_answer_and_how_to_ask_again(ended):
    _, done, _ = ended
    assert done.returncode == 2
    assert "rows have no answer; they are left out of the metrics" in done.stderr
    assert "- one, rejected:" in done.stderr and "content_filter" in done.stderr
    assert "journal drop --status rejected --profile" in done.stderr
    assert "results: " in done.stdout, "the run came to its end all the same"
    assert "tokens, 0.00 USD" in done.stdout


def test_the_key_is_in_no_file_and_no_line_of_a_run_though_the_server_repeats_it(ended):
    folder, done, _ = ended
    assert KEY not in done.stdout + done.stderr
    files = [path for path in folder.rglob("*") if path.is_file()]
    kinds = {path.suffix for path in files}
    assert {".sqlite", ".ipynb", ".parquet", ".json", ".html"} <= kinds, "journal, notebooks, tables, manifest, report"
    assert [str(path) for path in files if KEY.encode() in path.read_bytes()] == []
    responses = pd.concat(pd.read_parquet(path) for path in (folder / "out").rglob("responses/*.parquet"))
    assert responses["response"].str.contains("You are Bearer [key]", regex=False).any(), "it did come"


def test_a_second_run_asks_nothing_and_says_the_same_again(ended):
    folder, _, url = ended
    before = stats(url)["sent"]
    again = run(folder, "--only", "03,05")
    assert again.returncode == 2 and "- one, rejected:" in again.stderr
    assert stats(url)["sent"] == before


def test_what_could_not_be_had_is_asked_again_by_the_very_same_command(tmp_path):
    with running(faults={"null": 1.0}) as url:
        (tmp_path / "p.yaml").write_text(PROFILE.format(url=url))
        done = run(tmp_path, "--only", "01,03")
        assert done.returncode == 2 and "- one, empty:" in done.stderr
    with running(port=url.split(":")[2].split("/")[0]) as url:
        again = run(tmp_path, "--only", "01,03")
        assert again.returncode == 0, again.stderr
        assert "03_run_inference:one: done" in again.stdout
        assert run(tmp_path, "--only", "03").stdout.startswith("[2/"), "and is up to date after that"


EXTRACTOR = """
extractor:
  llm: {{name: mini, engine: api, model: gpt-4o-mini, base_url: "{url}", api_key_env: TEST_KEY}}
"""


def test_a_response_that_the_extractors_model_could_not_be_asked_about_is_reported_and_asked_again(tmp_path):
    only = ("--only", "01,03,04")
    with running(reply="That is hard to say.") as models:
        with running(faults={"null": 1.0}) as url:
            (tmp_path / "p.yaml").write_text(PROFILE.format(url=models) + EXTRACTOR.format(url=url))
            done = run(tmp_path, *only)
            assert done.returncode == 2, done.stderr
            assert "- extractor mini, empty:" in done.stderr and "to ask empty again: " in done.stderr
            assert "- one," not in done.stderr, "the responses themselves are there"
        asked = stats(models)["sent"]
        with running(reply="B", port=url.split(":")[2].split("/")[0]) as url:
            again = run(tmp_path, *only)
            assert again.returncode == 0, again.stderr
            assert "04_extract_answers: done" in again.stdout and "extractor mini: " in again.stdout
            sent = stats(url)["sent"]
            assert "04_extract_answers: up to date" in run(tmp_path, *only).stdout
            assert stats(url)["sent"] == sent
        assert stats(models)["sent"] == asked
    answers = pd.read_parquet(next((tmp_path / "out").rglob("answers.parquet")))
    assert set(answers["layer"]) == {"llm"} and set(answers["answer"]) == {"B"}
    drop = ["-m", "perg_utils", "journal", "drop", "--status", "ok", "--yes", "--profile", str(tmp_path / "p.yaml")]
    command = [sys.executable, *drop, "--out", str(tmp_path / "out")]
    subprocess.run(command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, check=True, capture_output=True)
    state = json.loads(next((tmp_path / "out").rglob("state.json")).read_text())
    assert set(state) == {"01_curate_data"}, "what rests on dropped replies is to run again"


def test_ctrl_c_in_a_whole_run_keeps_what_is_in_flight_and_says_how_to_go_on(tmp_path):
    log = tmp_path / "server.log"
    with running(latency=1.0, log=str(log)) as url:
        (tmp_path / "p.yaml").write_text(PROFILE.format(url=url).replace("limit: 6", "limit: 15"))
        process = start(tmp_path, "--only", "01,03")
        deadline = time.monotonic() + 300
        while stats(url)["sent"] < 20 and time.monotonic() < deadline:
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, told = process.communicate(timeout=120)
        assert process.returncode == 130
        assert "again to end at once" in told and "to resume: ./run_all.sh" in told
        assert 20 <= stats(url)["sent"] <= 45
        assert run(tmp_path, "--only", "01,03").returncode == 0
    sent = [line for line in log.read_text().splitlines() if line.startswith("sent")]
    assert len(sent) == len(set(sent)), "nothing was sent twice"


def test_reasons_are_counted_and_the_commands_named():
    found = pd.DataFrame(
        [["m", "rejected", "a " * 200], ["m", "api_error", "no"], ["m", "api_error", "no"], ["m", "api_error", None]],
        columns=["asked", "status", "reason"],
    )
    text = unanswered.describe(found, "AGAIN", "DROP")
    assert text.startswith("4 rows have no answer")
    assert "- m, api_error: 3 (no and 1 other reasons)" in text
    assert "to ask api_error again: AGAIN" in text and "first: DROP" in text
    assert max(map(len, text.splitlines())) < 200
    assert "DROP" not in unanswered.describe(found[1:], "AGAIN", "DROP")
    assert not unanswered.to_be_asked(found[:1])


def test_a_null_that_could_not_be_had_is_listed_too_and_a_matched_one_only_once(tmp_path):
    workspace = Workspace.of(tmp_path, "p")
    row = {"example_id": "q", "preference_id": "p", "model": "m", "method": "zero_shot", "setting": "relevant"}
    for name in ("responses", "judgements", "nulls"):
        columns = dict.fromkeys(TABLES[name]) | row
        columns |= (
            {"status": "ok"} if name == "responses" else {"status": "api_error", "judge": "J", "explanation": "503"}
        )
        lists = {c: [[]] for c in ("shown_preferences", "stages")} if name == "responses" else {}
        frame = pd.DataFrame([columns]).assign(**lists)
        kinds = ["matched", "plain"] if name == "nulls" else [None]
        frame = pd.concat([frame.assign(**({"kind": kind} if kind else {})) for kind in kinds], ignore_index=True)
        workspace.write(name, frame, "J" if name == "nulls" else None)
    found = unanswered.find(workspace, ["m"], judge=True)
    assert found["asked"].tolist() == ["judge J", "judge J (nulls)"] and set(found["reason"]) == {"503"}
