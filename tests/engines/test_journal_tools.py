import json
import shutil
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from parrot import Parrot, request

from perg_utils.core.errors import PergError
from perg_utils.core.schema import Status
from perg_utils.engines import journal_tools
from perg_utils.engines.base import Reply
from perg_utils.engines.journal import Journal, JournalError
from perg_utils.engines.journal_tools import Choice, Count

ROOT = Path(__file__).parents[2]


@pytest.fixture
def filled(tmp_path):
    """Two models: the first has two answers, one failure, one thought that never ended; the second one answer."""
    path = tmp_path / "j.sqlite"
    first = Parrot(
        {
            "b": Reply(None, Status.API_ERROR, error="timeout"),
            "c": Reply(None, Status.EMPTY, "length", 5, 8, reasoning="hm"),
        }
    )
    second = Parrot({"e": Reply("E", finish_reason="stop", prompt_tokens=10, completion_tokens=20)})
    second.identity = {"kind": "parrot", "model": "parrot-2"}
    with Journal(path) as journal:
        journal.ask(first, [request(t) for t in "abcd"])
        journal.ask(second, [request("e")])
    return path


def test_counts_are_by_model_and_status(filled, tmp_path):
    assert journal_tools.counts(filled) == [
        Count("parrot-1", "api_error", 1, 0, 0),
        Count("parrot-1", "empty", 1, 5, 8),
        Count("parrot-1", "ok", 2, 0, 6),
        Count("parrot-2", "ok", 1, 10, 20),
    ]
    assert journal_tools.counts(tmp_path / "none.sqlite") == []
    assert not (tmp_path / "none.sqlite").exists()


def test_the_table_of_counts_has_dollars_where_there_are_prices(filled):
    plain = journal_tools.describe(filled)
    assert "dollars" not in plain
    assert plain.splitlines()[-1].split() == ["all", "5", "15", "34"]
    prices = {"parrot-2": (0.5, 1.0)}

    def cost(model, asked, answered):
        return None if model not in prices else asked * prices[model][0] + answered * prices[model][1]

    priced = journal_tools.describe(filled, cost).splitlines()
    assert priced[1].endswith("dollars")
    assert priced[-2].split()[-1] == priced[-1].split()[-1] == "25.00"
    assert priced[-3].split()[-1] == "6", "a model without a price has no dollars"


@pytest.mark.parametrize("form", ["parquet", "jsonl"])
def test_an_export_holds_the_chosen_rows_with_their_chats(filled, tmp_path, form):
    out = tmp_path / f"replies.{form}"
    assert journal_tools.export(filled, out) == 5
    read = pq.read_table(out).to_pylist() if form == "parquet" else list(map(json.loads, out.read_text().splitlines()))
    row = next(r for r in read if r["model"] == "parrot-2")
    assert row["messages"] == [{"role": "user", "content": "e"}]
    assert (row["text"], row["status"], row["completion_tokens"], row["error"]) == ("E", "ok", 20, None)
    assert row["key"] == request("e").key({"kind": "parrot", "model": "parrot-2"})
    assert journal_tools.export(filled, out, Choice(models=("parrot-1",), statuses=("ok", "empty"))) == 3


def test_an_export_in_another_form_or_of_no_journal_is_an_error(filled, tmp_path):
    with pytest.raises(PergError, match=r"got 'replies\.csv'"):
        journal_tools.export(filled, tmp_path / "replies.csv")
    with pytest.raises(JournalError, match="no journal"):
        journal_tools.export(tmp_path / "none.sqlite", tmp_path / "replies.jsonl")


def test_dropped_replies_are_asked_again_and_no_others(filled):
    assert journal_tools.drop(filled, Choice(models=("parrot-1",), finish_reasons=("stop",), statuses=("ok",))) == 2
    again = Parrot()
    with Journal(filled) as journal:
        journal.ask(again, [request(t) for t in "abcd"])
    assert sorted(again.asked) == ["a", "b", "d"], "b had failed; c stays as it is"
    key = request("a").key(again.identity)
    assert journal_tools.drop(filled, Choice(keys=(key, "unknown"))) == 1


def test_dropping_everything_at_once_or_an_unknown_status_is_an_error(filled):
    with pytest.raises(PergError, match="say which"):
        journal_tools.drop(filled, Choice())
    with pytest.raises(PergError, match="no status okay; known: ok, silent, empty"):
        journal_tools.drop(filled, Choice(statuses=("okay",)))
    assert sum(c.replies for c in journal_tools.counts(filled)) == 5


def test_joined_journals_hold_each_reply_once_and_final_ones_win(filled, tmp_path):
    other, target = tmp_path / "other.sqlite", tmp_path / "new" / "target.sqlite"
    lucky = Parrot({"a": Reply(None, Status.API_ERROR, error="later and worse")})
    with Journal(other) as journal:
        journal.ask(lucky, [request("a"), request("b"), request("x")])
    for order in ([filled, other], [other, filled]):
        journal_tools.join(order, target)
        with Journal(target, read_only=True) as journal:
            keys = {t: request(t).key(lucky.identity) for t in "abcdx"}
            found = journal.lookup(keys.values())
        assert {t: found[key].text for t, key in keys.items()} == {"a": "A", "b": "B", "c": None, "d": "D", "x": "X"}
        assert journal_tools.join(order, target) == 0, "twice is once"
        target.unlink()
        for side in ("-wal", "-shm"):
            target.with_name(target.name + side).unlink(missing_ok=True)


def test_joining_a_damaged_journal_names_it_and_leaves_the_others_alone(filled, tmp_path):
    bad = tmp_path / "bad.sqlite"
    bad.write_bytes(b"no database" * 500)
    with pytest.raises(JournalError, match=r"bad\.sqlite is damaged"):
        journal_tools.join([filled, bad], tmp_path / "target.sqlite")
    with pytest.raises(JournalError, match="no journal"):
        journal_tools.join([tmp_path / "none.sqlite"], tmp_path / "target.sqlite")


def test_many_rows_are_written_whole_or_not_at_all(tmp_path):
    row = ["k1", "m", b"", "now", "text", "ok", *[None] * 6]
    with Journal(tmp_path / "j.sqlite") as journal:
        with pytest.raises(JournalError):
            journal.add([row, ["k2", None, *row[2:]]])  # a row without a model
        assert journal.lookup(["k1"]) == {}
        journal.add([row, ["k2", *row[1:]]])
        assert len(journal.lookup(["k1", "k2"])) == 2


def perg(*words):
    command = [sys.executable, "-m", "perg_utils", *map(str, words)]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_journal_command_counts_exports_and_drops(filled, tmp_path):
    home = tmp_path / "data" / "runs" / "demo"
    home.mkdir(parents=True)
    shutil.copy(filled, home / "journal.sqlite")
    steps = {f"{name}": {"fingerprint": "f", "outputs": {}} for name in ("01_curate_data", "03_run_inference:S")}
    (home / "state.json").write_text(json.dumps(steps))
    out = ("--out", tmp_path)
    assert "parrot-2" in perg("journal", *out).stdout
    assert perg("journal", "export", tmp_path / "r.jsonl", *out).stdout.startswith("5 replies")
    asked = perg("journal", "drop", "--status", "api_error", *out).stdout
    assert "add --yes" in asked
    assert sum(c.replies for c in journal_tools.counts(home / "journal.sqlite")) == 5
    done = perg("journal", "drop", "--status", "api_error", "--yes", *out)
    assert done.stdout.startswith("1 replies dropped; to ask them again: ./run_all.sh --out"), done.stderr
    assert list(json.loads((home / "state.json").read_text())) == ["01_curate_data"], "inference is to run again"
    assert "add --yes" not in perg("journal", "drop", "--status", "api_error", *out).stdout, "there are none any more"
    for wrong in (["drop", "--yes"], ["drop"], ["show", "r.jsonl"]):
        nothing = perg("journal", *wrong, *out)
        assert (nothing.returncode, nothing.stderr.count("\n")) == (2, 1)
    assert "no journal yet" in perg("journal", "drop", "--status", "empty", "--yes", "--out", tmp_path / "new").stdout
    assert not (tmp_path / "new").exists()
