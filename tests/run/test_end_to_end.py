"""Every notebook through papermill on a reduced demo, and what must hold when a run is repeated or killed."""

import json
import sqlite3
import subprocess
import sys
import threading
import time
import zlib
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import nbformat
import psutil
import pytest

from perg_utils.core.loading import load_profile
from perg_utils.core.schema import TABLES
from perg_utils.core.workspace import Workspace

REDUCED = ("--set", "data.limit=12", "--set", "statistics.resamples=100")


def start(*arguments) -> subprocess.Popen:
    command = [sys.executable, "-m", "perg_utils", "run", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(*arguments) -> str:
    """Run to the end and return what was printed; the exit status must be 0."""
    process = start(*arguments)
    out, _ = process.communicate(timeout=800)
    assert process.returncode == 0, out
    return out


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The folder of a finished reduced demo."""
    out = tmp_path_factory.mktemp("demo")
    run(*REDUCED, "--out", out)
    return out


def test_a_run_makes_every_table_with_its_schema(finished):
    workspace = Workspace.of(finished, "demo")
    tables = {name: workspace.read(name) for name in TABLES}
    assert all(len(table) > 0 for table in tables.values())
    assert len(tables["examples"]) == 36
    # Baseline and 22 arms; S+L adds its baseline and pref_aligner in eight settings.
    assert len(tables["responses"]) == 36 * (3 * (1 + 22) + 1 + 8)
    assert set(tables["nulls"]["judge"]) == {"heuristic (embedded styles)", "heuristic (cues)"}
    assert len(tables["answers"]) == len(tables["judgements"]) == len(tables["responses"])
    assert set(tables["metrics"]["model"]) == {"S", "M", "L", "S+L"}


def test_a_run_renders_tables_figures_and_a_report(finished):
    figures = finished / "figures" / "demo"
    for suffix in ("csv", "md", "tex", "pdf", "png"):
        made = list(figures.rglob(f"*.{suffix}"))
        assert made, f"no .{suffix} below {figures}"
        assert all(path.stat().st_size > 0 for path in made)
    report = (figures / "report.html").read_text(encoding="utf-8")
    assert "invented world" in report.lower()


def test_every_notebook_was_executed_without_an_error_and_is_kept(finished):
    executed = list((finished / "data" / "runs" / "demo" / "executed").glob("*.ipynb"))
    assert {path.stem for path in executed} == {
        "01_curate_data",
        "02_train_extractor",
        *(f"03_run_inference.{name}" for name in ("L", "M", "S", "S+L")),
        "04_extract_answers",
        "05_judge_alignment",
        "06_score_metrics",
        "07_render_tables",
        "08_render_figures",
        "09_write_report",
        "10_check_extraction",
        "11_check_judges",
        "12_explain_breakage",
    }
    for path in executed:
        outputs = [o for cell in nbformat.read(path, as_version=4).cells for o in cell.get("outputs", [])]
        assert outputs
        assert not [o for o in outputs if o.output_type == "error"]


def test_a_profile_without_an_adapter_trains_one_and_shows_its_curve(tmp_path):
    training = ("extractor.adapter=null", "extractor.training.samples=640", "data.limit=12")
    run("--only", "01,02", "--out", tmp_path, *(word for item in training for word in ("--set", item)))
    workspace = Workspace.of(tmp_path, "demo")
    curve = json.loads((workspace.extractor / "training.json").read_text())["curve"]
    assert curve and curve[-1]["samples"] <= 640
    assert (workspace.figures / "extractor.csv").is_file() and (workspace.extractor / "adapter_config.json").is_file()
    executed = nbformat.read(workspace.executed / "02_train_extractor.ipynb", as_version=4)
    assert "trained in this run" in json.dumps(executed)


def test_a_second_call_runs_nothing_and_ends_within_seconds(finished):
    began = time.monotonic()
    out = run(*REDUCED, "--out", finished)
    assert time.monotonic() - began < 30
    assert out.count(": up to date") == 15
    assert "0 of 15 steps run" in out


def test_a_forced_inference_asks_nothing_and_gives_the_same_table(finished):
    workspace = Workspace.of(finished, "demo")
    before = workspace.table_path("responses", "S").read_bytes(), replies(workspace)
    run(*REDUCED, "--out", finished, "--only", "03:S", "--force")
    assert (workspace.table_path("responses", "S").read_bytes(), replies(workspace)) == before


def test_the_plan_of_a_finished_run_has_nothing_left_to_ask(finished):
    out = run(*REDUCED, "--out", finished, "--dry-run")
    assert out.count(": up to date") == 15
    assert "to be asked: about 0 prompt and 0 reply tokens" in out


def replies(workspace: Workspace) -> dict[str, list]:
    """The journal's rows: key -> messages."""
    with sqlite3.connect(f"{workspace.journal.as_uri()}?mode=ro", uri=True) as db:
        rows = db.execute("SELECT key, messages FROM replies WHERE status = 'ok'").fetchall()
    return {key: json.loads(zlib.decompress(messages)) for key, messages in rows}


class Endpoint(BaseHTTPRequestHandler):
    """A chat endpoint that notes every request and takes a moment to answer."""

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        messages = [(message["role"], message["content"]) for message in body["messages"]]
        with self.server.lock:
            self.server.seen.append(messages)
        time.sleep(0.01)
        choice = {"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "It is (A)."}}
        usage = {"prompt_tokens": 9, "completion_tokens": 4, "total_tokens": 13}
        reply = {"id": "r", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice]}
        data = json.dumps(reply | {"usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        """Keep the test's output clean."""


@pytest.fixture
def endpoint():
    server = ThreadingHTTPServer(("127.0.0.1", 0), Endpoint)
    server.seen, server.lock = [], threading.Lock()
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


def test_after_kill_9_in_inference_no_answered_request_is_sent_again(tmp_path, endpoint):
    url = f"http://127.0.0.1:{endpoint.server_port}/v1"
    model = f"models=[{{name: A, engine: api, model: m, base_url: '{url}', concurrency: 4}}]"
    # The setting `repeat` would ask the very same prompts again, on purpose.
    options = (
        "--set",
        model,
        "--set",
        "data.limit=12",
        "--set",
        "grid.repeat=[]",
        "--out",
        tmp_path,
        "--only",
        "01,03",
    )
    workspace = Workspace.of(tmp_path, load_profile("demo").name)

    first = start(*options)
    deadline = time.monotonic() + 300
    while len(endpoint.seen) < 150:
        assert first.poll() is None, first.communicate()[0]
        assert time.monotonic() < deadline
        time.sleep(0.02)
    kernels = psutil.Process(first.pid).children()
    first.kill()
    first.communicate()
    psutil.wait_procs(kernels, timeout=60)
    answered = {tuple(map(tuple, messages)) for messages in replies(workspace).values()}
    sent = len(endpoint.seen)
    assert 100 < len(answered) <= sent
    assert not workspace.table_path("responses", "A").exists()

    run(*options)
    again = [tuple(messages) for messages in endpoint.seen[sent:]]
    assert again
    assert not answered & set(again)
    assert len(endpoint.seen) - len(replies(workspace)) <= 4  # at most what was in flight was lost
    assert (workspace.read("responses")["status"] == "ok").all()
