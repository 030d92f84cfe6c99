"""Ctrl-C in a terminal during a run on Ray itself: what is kept, what is said, and that nothing is left running."""

import importlib.util
import os
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from uuid import uuid4

import faulty_server
import psutil
import pytest

from perg_utils.core.profile import ROOT
from perg_utils.core.workspace import Workspace
from perg_utils.engines.journal import Journal

pytestmark = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="needs pip install -e .[cluster]")
MARK = "PERG_TEST_RUN"  # in the environment of all that a run starts
SERVED = ", {name: S, model: data/embedded/models/S, dtype: float32, replica: {server: transformers, most: 1}}"
AT_ONCE = 2 * 8
TAKE = "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.argv[1], sys.argv[1:])"
TAKE_IT = [sys.executable, "-c", TAKE]


def words(url, out, served, only):
    model = f"{{name: A, engine: api, model: m, base_url: '{url}', concurrency: 8, replica: {{most: 2, unit: 16}}}}"
    settings = "data.limit=40", "grid={relevant: [zero_shot]}", "extractor={}", f"models=[{model}{served}]"
    named = [word for setting in settings for word in ("--set", setting)]
    here = ["--cluster", "local", "--only", only, "--out", str(out)]
    return [sys.executable, "-m", "perg_utils", "run", *named, *here]


@contextmanager
def terminal(command, environment):
    """The command in a terminal of its own: gives its process, what it has said so far, and `press` for Ctrl-C."""
    ours, theirs = os.openpty()

    sides = dict.fromkeys(("stdin", "stdout", "stderr"), theirs)
    run = subprocess.Popen([*TAKE_IT, *command], cwd=ROOT, env=environment, start_new_session=True, **sides)
    os.close(theirs)
    said = []

    def listen():
        with suppress(OSError):  # the other side is closed
            while data := os.read(ours, 65536):
                said.append(data.decode(errors="replace"))

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()
    try:
        yield run, said, lambda: os.write(ours, b"\x03")
    finally:
        run.kill()
        run.wait()
        listener.join(5)
        os.close(ours)


def of_this_run(mark, session):
    """What was started with this mark or in this terminal; a process that gives itself a name may lose the mark."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error, ProcessLookupError):
            mine = os.getsid(process.pid) == session or process.environ().get(MARK) == mark
            if mine and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def commands(mark, session):
    return [word for process in of_this_run(mark, session) for word in process.cmdline()]


def wait_for(what, seconds, said, run=None):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until and (run is None or run.poll() is None), "".join(said)[-3000:]
        time.sleep(0.2)


@pytest.mark.parametrize("times", [1, 2])
def test_ctrl_c_in_a_terminal_ends_everything_keeps_every_reply_and_the_run_goes_on(tmp_path, times):
    mark = uuid4().hex
    environment = {name: value for name, value in os.environ.items() if name != "PERG_CLUSTER"} | {MARK: mark}
    has_server = all(map(importlib.util.find_spec, ("fastapi", "uvicorn")))
    served = SERVED if times == 1 and has_server else ""
    with faulty_server.running(latency=1.5, spread=0.2) as url:
        with terminal(words(url, tmp_path, served, "01,03"), environment) as (run, said, press):
            wait_for(lambda: faulty_server.stats(url)["sent"] >= 3 * AT_ONCE, 300, said, run)
            assert "RayReplica" in " ".join(commands(mark, run.pid)) and "raylet" in " ".join(commands(mark, run.pid))
            if served:
                wait_for(lambda: "transformers.cli" in " ".join(commands(mark, run.pid)), 60, said, run)
            press()
            if times == 2:
                time.sleep(0.3)
                press()
            assert run.wait(90) == 130, "".join(said)[-3000:]
            wait_for(lambda: not of_this_run(mark, run.pid), 30, said)
        told = "".join(said)
        assert "interrupted in 03_run_inference:A" in told and "finished work is kept" in told
        assert "to resume: ./run_all.sh --only 01,03" in told and "--cluster local" in told
        assert "Traceback" not in told
        sent = faulty_server.stats(url)["sent"]
        with Journal(Workspace.of(tmp_path, "demo").journal, read_only=True) as journal:
            kept = journal.execute("SELECT count(*) FROM replies WHERE model = 'm' AND status = 'ok'")[0][0]
        if times == 1:
            assert "running cell" in told and kept == sent, "all that was in flight came in"
        again = words(url, tmp_path, served, "03:A")
        done = subprocess.run(again, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        stats = faulty_server.stats(url)
        # What was in flight, and the last second's replies where it was ended at once.
        assert stats["prompts"] <= stats["sent"] <= stats["prompts"] + (0 if times == 1 else 2 * AT_ONCE), stats
        assert stats["prompts"] == 240 and kept > 0
    assert not of_this_run(mark, run.pid)
    assert not (Workspace.of(tmp_path, "demo").run / "blocks").exists(), "every block is taken"
