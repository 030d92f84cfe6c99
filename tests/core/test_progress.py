"""Progress in a terminal, in a log and in a notebook."""

import json
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from nbclient import NotebookClient
from nbformat import v4

from perg_utils.core.profile import ROOT
from perg_utils.core.progress import MIME, Progress, clock, line


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0, "0:00"), (-3, "0:00"), (9.6, "0:10"), (75, "1:15"), (3599.6, "1:00:00"), (3725, "1:02:05")],
)
def test_seconds_become_minutes_and_hours(seconds, expected):
    assert clock(seconds) == expected


@given(st.integers(0, 10**6))
def test_a_clock_can_be_read_back(seconds):
    total = 0
    for part in clock(seconds).split(":"):
        total = total * 60 + int(part)
    assert total == seconds


def test_lines_name_rows_rate_and_remaining_time(monkeypatch, capsys):
    now = [100.0]
    monkeypatch.setattr("perg_utils.core.progress.time.monotonic", lambda: now[0])
    with Progress("S", 5400, every=5) as progress:
        now[0] += 4
        progress.advance(1200)
        assert capsys.readouterr().out == ""  # not due yet
        assert line(progress.state()) == "S: 1,200/5,400 rows, 300.0/s, 0:14 left"
        now[0] += 2
        progress.advance(600)
        assert capsys.readouterr().out == "S: 1,800/5,400 rows, 300.0/s, 0:12 left\n"
        now[0] += 12
        progress.advance(3600)
        capsys.readouterr()
    assert capsys.readouterr().out == "S: 5,400/5,400 rows in 0:18\n"


def test_nothing_done_yet_has_no_remaining_time():
    assert line(Progress("S", 10).state()).endswith("? left")


@pytest.mark.parametrize("note", ["4.6M+12.3k tokens", "950+7 tokens, 1,234.50 USD"])
def test_a_note_stands_behind_every_line(note, capsys):
    with Progress("S, relevant: cot", 1200, unit="questions", every=0, note=lambda: note) as progress:
        progress.advance(600)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and all(text.endswith(f", {note}") for text in lines)


def test_the_state_is_plain_json_from_which_the_line_can_be_made():
    state = Progress("S", 10).state(ended=True)
    assert line(json.loads(json.dumps(state))) == line(state) == "S: 0/10 rows in 0:00"


CELL = """
from perg_utils.core.profile import ROOT
from perg_utils.core.progress import Progress
with Progress("S", 20, every=0) as progress:
    progress.advance(5)
    progress.advance(15)
"""


def test_in_jupyter_a_readable_line_is_updated_in_place():
    book = v4.new_notebook(cells=[v4.new_code_cell(CELL)])
    kernel = {"argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"], "language": "python"}

    class Manager(AsyncKernelManager):
        kernel_spec = KernelSpec(display_name="this", **kernel)

    NotebookClient(book, kernel_manager_class=Manager, resources={"metadata": {"path": str(ROOT)}}).execute()
    [output] = book.cells[0].outputs
    assert output.output_type == "display_data"
    assert output.data["text/plain"] == "S: 20/20 rows in 0:00"
    assert output.data[MIME]["done"] == 20
