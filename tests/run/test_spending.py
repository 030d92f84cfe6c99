"""What a step cost: its own processor seconds, the replies that came in during it, energy only where asked for."""

import json
import subprocess
import sys
import time

import pytest

from perg_utils.core.workspace import Workspace
from perg_utils.engines.journal import Journal
from perg_utils.reporting.page import _steps
from perg_utils.run import spending

BUSY = "import time\nend = time.process_time() + 0.5\nwhile time.process_time() < end: pass"


def test_processor_seconds_are_those_of_the_kernel_that_ran_and_ended(tmp_path, monkeypatch):
    monkeypatch.delenv(spending.COUNTRY, raising=False)
    with spending.measured(tmp_path / "journal.sqlite") as spent:
        subprocess.run([sys.executable, "-S", "-c", BUSY], check=True)
        assert spent == {}
    assert 0.4 <= spent["cpu_seconds"] <= spent["seconds"] + 0.2
    assert set(spent) == {"seconds", "cpu_seconds"}


def test_only_replies_of_this_call_are_counted(tmp_path):
    path = tmp_path / "journal.sqlite"
    with Journal(path) as journal:
        for key, at in (
            ("old", "2026-01-01T00:00:00+00:00"),
            ("a", "2026-01-02T00:00:00+00:00"),
            ("b", "2026-01-02T00:01:00+00:00"),
        ):
            journal.execute(
                "INSERT INTO replies (key, model, status, prompt_tokens, completion_tokens, time, messages) "
                "VALUES (?, 'S', 'ok', 10, 3, ?, '')",
                (key, at),
            )
    since = time.mktime(time.strptime("2026-01-02 00:00:00 +0000", "%Y-%m-%d %H:%M:%S %z")) - time.timezone
    assert spending.replies(path, since) == {"replies": 2, "prompt_tokens": 20, "reply_tokens": 6}
    assert spending.replies(path, since + 10**6) == {} == spending.replies(tmp_path / "none", 0)


def test_energy_that_cannot_be_measured_is_told_before_anything_runs(tmp_path, monkeypatch):
    monkeypatch.setenv(spending.COUNTRY, "DEU")
    monkeypatch.setitem(sys.modules, "codecarbon", None)
    with pytest.raises(spending.EnergyError, match="pip install codecarbon"), spending.measured(tmp_path / "j"):
        raise AssertionError("it ran")


def test_steps_are_read_from_the_runs_state_and_shown_with_their_sum(tmp_path):
    workspace = Workspace(tmp_path, tmp_path)
    assert spending.steps(workspace) == {} and _steps({}) == ""
    known = {
        "01_curate_data": {"fingerprint": "f", "outputs": {}, "seconds": 2.0},
        "03_run_inference:<S>": {"seconds": 1200.0, "cpu_seconds": 800.0, "replies": 90, "prompt_tokens": 1000},
    }
    (tmp_path / "state.json").write_text(json.dumps(known))
    steps = spending.steps(workspace)
    assert steps["01_curate_data"] == {"seconds": 2.0}
    shown = _steps({"steps": steps})
    assert "03_run_inference:&lt;S&gt;" in shown and "1,202" in shown and "1,000" in shown and "kWh" not in shown
