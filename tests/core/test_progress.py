import pytest
from hypothesis import given
from hypothesis import strategies as st

from perg_utils.core.progress import LINE, Progress, clock


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
        assert progress.line() == "S: 1,200/5,400 rows, 300.0/s, 0:14 left"
        now[0] += 2
        progress.advance(600)
        assert capsys.readouterr().out == "S: 1,800/5,400 rows, 300.0/s, 0:12 left\n"
        now[0] += 12
        progress.advance(3600)
        capsys.readouterr()
    assert capsys.readouterr().out == "S: 5,400/5,400 rows in 0:18\n"


def test_nothing_done_yet_has_no_remaining_time():
    assert Progress("S", 10).line().endswith("? left")


def test_every_line_of_progress_is_known_as_such_and_ordinary_prints_are_not(capsys):
    with Progress("S, relevant: cot", 1200, unit="questions", every=0) as progress:
        assert LINE.search(progress.line())
        progress.advance(600)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert all(LINE.search(line) for line in lines)
    for note in ("4.6M+12.3k tokens", "950+7 tokens, 1,234.50 USD"):
        with Progress("S, relevant: cot", 1200, every=0, note=lambda note=note: note) as progress:
            progress.advance(600)
        for line in capsys.readouterr().out.splitlines():
            assert LINE.search(line) and line.endswith(f", {note}")
    for other in ("How many? 3/4 of it", "S: 36 questions, 612 rows", "profile 'demo': invented world"):
        assert not LINE.search(other)
