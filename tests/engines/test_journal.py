import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import textwrap
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from parrot import Parrot, request

from perg_utils.core.schema import Status
from perg_utils.engines.base import Decoding, Reply, Request, is_final
from perg_utils.engines.journal import Journal, JournalError

ROOT = Path(__file__).parents[2]


def test_replies_come_back_in_the_order_of_the_requests(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        replies = journal.ask(Parrot(), [request(t) for t in "abc"])
    assert [r.text for r in replies] == ["A", "B", "C"]


def test_equal_requests_are_asked_once_and_counted_for_all(tmp_path):
    parrot, counts = Parrot(), []
    with Journal(tmp_path / "j.sqlite") as journal:
        replies = journal.ask(parrot, [request(t) for t in "abaa"], counts.append)
    assert [r.text for r in replies] == ["A", "B", "A", "A"]
    assert sorted(parrot.asked) == ["a", "b"]
    assert sum(counts) == 4


def test_a_second_run_asks_only_what_is_new_and_gives_the_same_replies(tmp_path):
    path, first = tmp_path / "deep" / "j.sqlite", Parrot()
    with Journal(path) as journal:
        before = journal.ask(first, [request("a"), request("b")])
    second, counts = Parrot(), []
    with Journal(path) as journal:
        after = journal.ask(second, [request("b"), request("a"), request("c")], counts.append)
    assert second.asked == ["c"]
    assert after[:2] == before[::-1]
    assert counts == [2, 1]


def test_other_decoding_model_or_text_is_another_request(tmp_path):
    parrot = Parrot()
    other = Parrot()
    other.identity = {"kind": "parrot", "model": "parrot-2"}
    longer = Request((("user", "a"),), Decoding(9))
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.ask(parrot, [request("a"), longer])
        journal.ask(other, [request("a")])
    assert (parrot.asked, other.asked) == (["a", "a"], ["a"])


@pytest.mark.parametrize(
    ("status", "asked_again"),
    [
        (Status.API_ERROR, True),
        (Status.EMPTY, True),
        (Status.REJECTED, False),
        (Status.SILENT, False),
        (Status.OK, False),
    ],
)
def test_only_replies_that_would_come_again_are_final(tmp_path, status, asked_again):
    reply = Reply("x" if status == Status.OK else None, status, error="why")
    with Journal(tmp_path / "j.sqlite") as journal:
        assert journal.ask(Parrot({"a": reply}), [request("a")]) == [reply]
        again = Parrot()
        journal.ask(again, [request("a")])
    assert (again.asked == ["a"]) == asked_again


@pytest.mark.parametrize("status", Status)
@pytest.mark.parametrize("finish", [None, "stop", "length", "content_filter"])
def test_journal_and_replies_agree_on_what_is_final_whatever_the_reply(tmp_path, status, finish):
    engine, later = Parrot(), Reply("later")
    key, first = request("a").key(engine.identity), Reply(None, status, finish)
    with Journal(tmp_path / "j.sqlite") as journal:
        journal._put(key, engine, request("a"), first)
        kept = replace(first, status=Status.SILENT) if (status, finish) == ("empty", "length") else first
        assert journal.lookup([key]) == ({key: kept} if first.is_final else {})
        journal._put(key, engine, request("a"), later)
        assert journal.lookup([key]) == {key: kept if first.is_final else later}
    always = status in {"ok", "rejected", "silent"}
    assert first.is_final == is_final(status, finish) == (always or (status, finish) == ("empty", "length"))


def test_keys_that_the_caller_has_are_not_made_again(tmp_path, monkeypatch):
    parrot = Parrot()
    keys = [request(t).key(parrot.identity) for t in "ab"]
    monkeypatch.setattr(Request, "key", None)
    with Journal(tmp_path / "j.sqlite") as journal:
        assert [r.text for r in journal.ask(parrot, [request(t) for t in "ab"], keys=keys)] == ["A", "B"]
        assert set(journal.lookup(keys)) == set(keys)


def test_thinking_that_filled_the_limit_is_final_and_no_later_failure_replaces_it(tmp_path):
    cut = Reply(None, Status.SILENT, "length", reasoning="hm", completion_tokens=8)
    engine = Parrot({"a": cut})
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.ask(engine, [request("a")])
        again = Parrot()
        assert journal.ask(again, [request("a")]) == [cut]
        assert again.asked == [], "it would be cut there again, and be paid for again"
        key = request("a").key(engine.identity)
        journal._put(key, engine, request("a"), Reply(None, Status.API_ERROR, error="timeout"))
        assert journal.lookup([key]) == {key: cut}


def test_a_failure_is_recorded_and_replaced_by_the_later_answer_but_never_the_reverse(tmp_path):
    path = tmp_path / "j.sqlite"
    failing = Parrot({"a": Reply(None, Status.API_ERROR, error="timeout")})
    key = request("a").key(failing.identity)
    rows = "SELECT status, error, text FROM replies"
    with Journal(path) as journal:
        journal.ask(failing, [request("a")])
        assert sqlite3.connect(path).execute(rows).fetchall() == [("api_error", "timeout", None)]
        journal.ask(Parrot(), [request("a")])
        assert sqlite3.connect(path).execute(rows).fetchall() == [("ok", None, "A")]
        journal._put(key, failing, request("a"), failing.replies["a"])
        assert sqlite3.connect(path).execute(rows).fetchall() == [("ok", None, "A")]


def test_what_arrived_before_an_engine_failed_is_kept(tmp_path):
    engine = Parrot({"a": RuntimeError("out of power")})
    with Journal(tmp_path / "j.sqlite") as journal:
        with pytest.raises(RuntimeError, match="out of power"):
            journal.ask(engine, [request("a"), request("b")])
        assert [r.text for r in journal.lookup([request("b").key(engine.identity)]).values()] == ["B"]


def test_rows_can_be_inspected_with_any_sqlite_tool(tmp_path):
    path = tmp_path / "j.sqlite"
    with Journal(path) as journal:
        journal.ask(Parrot(), [Request((("system", "be kind"), ("user", "ä?")), Decoding(8))])
    db = sqlite3.connect(path)
    model, messages, time = db.execute("SELECT model, messages, time FROM replies").fetchone()
    assert model == "parrot-1"
    assert json.loads(zlib.decompress(messages)) == [["system", "be kind"], ["user", "ä?"]]
    assert time.startswith("20")
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_reading_only_makes_no_file_and_finds_thousands_of_keys(tmp_path):
    path, engine = tmp_path / "sub" / "j.sqlite", Parrot()
    with Journal(path, read_only=True) as journal:
        assert journal.lookup(["0"]) == {}
    assert not path.parent.exists()
    requests = [request(str(i)) for i in range(2500)]
    with Journal(path) as journal:
        journal.ask(engine, requests)
    with Journal(path, read_only=True) as journal:
        keys = [r.key(engine.identity) for r in requests]
        assert len(journal.lookup([*keys, "unknown"])) == 2500
        with pytest.raises(JournalError):
            journal.ask(engine, [request("new")])


@pytest.mark.parametrize("damage", ["garbage", "empty", "middle", "truncated"])
def test_a_damaged_journal_is_an_error_that_says_how_to_recover(tmp_path, damage):
    path, engine = tmp_path / "j.sqlite", Parrot()
    requests = [request(f"{i} " * 50) for i in range(500)]
    with Journal(path) as journal:
        journal.ask(engine, requests)
    content = path.read_bytes()
    assert len(content) > 50_000
    broken = {
        "garbage": b"not a database at all" * 100,
        "empty": b"",
        "middle": content[:4096] + bytes(len(content) - 4096),
        "truncated": content[: len(content) // 2],
    }
    path.write_bytes(broken[damage])
    with pytest.raises(JournalError, match="recover"), Journal(path) as journal:
        journal.ask(engine, requests)
    assert path.read_bytes()[:4096] == broken[damage][:4096], "the evidence must stay"


def test_a_log_without_its_journal_is_not_silently_a_new_start(tmp_path):
    path = tmp_path / "j.sqlite"
    path.with_name("j.sqlite-wal").write_bytes(b"replies may be in here")
    with pytest.raises(JournalError, match="put the journal back"):
        Journal(path)


CHILD = """
    import sys, time
    from pathlib import Path
    from perg_utils.engines.base import Decoding, Reply, Request, is_final
    from perg_utils.engines.journal import Journal

    class Slow:
        identity = {"kind": "slow", "model": "m"}
        def generate(self, requests):
            for index in range(len(requests)):
                yield index, Reply(str(index))
                print(index, flush=True)
                time.sleep(float(sys.argv[3]))

    lo, hi = map(int, sys.argv[2].split("-"))
    with Journal(Path(sys.argv[1])) as journal:
        journal.ask(Slow(), [Request((("user", str(i)),), Decoding(8)) for i in range(lo, hi)])
"""


def child(path, span, pause):
    command = [sys.executable, "-c", textwrap.dedent(CHILD), str(path), span, str(pause)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)


def test_kill_9_loses_nothing_that_had_arrived(tmp_path):
    path = tmp_path / "j.sqlite"
    process = child(path, "0-1000", 0.02)
    for _ in range(10):
        last = int(process.stdout.readline())
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()
    with Journal(path) as journal:
        keys = [request(str(i)).key({"kind": "slow", "model": "m"}) for i in range(1000)]
        assert len(journal.lookup(keys)) >= last + 1


def test_two_processes_write_one_journal_at_once(tmp_path):
    path = tmp_path / "j.sqlite"
    both = [child(path, span, 0) for span in ("0-600", "400-1000")]
    assert [p.communicate()[0].count("\n") for p in both] and [p.returncode for p in both] == [0, 0]
    with Journal(path) as journal:
        keys = [request(str(i)).key({"kind": "slow", "model": "m"}) for i in range(1000)]
        assert len(journal.lookup(keys)) == 1000


@settings(deadline=None)  # a busy disk is no failure
@given(st.lists(st.sampled_from("abcdef"), max_size=12), st.lists(st.sampled_from("abcdef"), max_size=12))
def test_whatever_is_asked_each_text_is_asked_once_and_answered_everywhere(tmp_path_factory, first, second):
    parrot = Parrot()
    with Journal(tmp_path_factory.mktemp("j") / "j.sqlite") as journal:
        for texts in (first, second):
            assert [r.text for r in journal.ask(parrot, [request(t) for t in texts])] == [t.upper() for t in texts]
    assert sorted(parrot.asked) == sorted(set(first) | set(second))


@pytest.mark.skipif(shutil.which("sqlite3") is None, reason="needs the sqlite3 command")
def test_the_command_that_the_error_gives_saves_what_can_be_read(tmp_path):
    path, engine = tmp_path / "j.sqlite", Parrot()
    requests = [request(f"{i} " * 50) for i in range(500)]
    with Journal(path) as journal:
        journal.ask(engine, requests)
    content = bytearray(path.read_bytes())
    page = 4096
    middle = len(content) // 2 // page * page
    content[middle : middle + 2 * page] = bytes(2 * page)
    path.write_bytes(content)
    with pytest.raises(JournalError) as caught, Journal(path) as journal:
        journal.ask(engine, requests)
    command = re.search(r"(sqlite3 '.*?recovered\.sqlite), then", str(caught.value))
    assert command
    subprocess.run(["sh", "-c", command[1]], cwd=tmp_path, check=True, capture_output=True)
    again = Parrot()
    with Journal(tmp_path / "recovered.sqlite") as journal:
        replies = journal.ask(again, requests)
    assert len(replies) == 500
    assert 0 < len(again.asked) < 500


def test_a_reply_with_a_garbled_status_is_a_damaged_journal_and_no_crash(tmp_path):
    path = tmp_path / "j.sqlite"
    with Journal(path) as journal:
        journal.ask(Parrot(), [request("hello")])
    with sqlite3.connect(path) as db:
        db.execute("UPDATE replies SET status = char(1)")
    db.close()
    with pytest.raises(JournalError, match="is damaged"), Journal(path) as journal:
        journal.ask(Parrot(), [request("hello")])


READER = """
    import sys, time
    from pathlib import Path
    from perg_utils.engines import journal_tools
    from perg_utils.engines.base import Decoding, Reply, Request, is_final
    from perg_utils.engines.journal import Journal

    path, keys, found = Path(sys.argv[1]), sys.argv[2].split(), 0
    while not path.is_file():
        time.sleep(0.01)
    while found < len(keys):
        with Journal(path, read_only=True) as journal:
            replies = journal.lookup(keys)
        counted = sum(c.replies for c in journal_tools.counts(path))
        assert len(replies) >= found, "a reply that was there is there"
        assert counted >= len(replies)
        assert all(reply.text.isdecimal() for reply in replies.values())
        found = len(replies)
        print(found, flush=True)
"""


def test_a_process_reads_what_another_one_is_writing(tmp_path):
    path = tmp_path / "j.sqlite"
    keys = [request(str(i)).key({"kind": "slow", "model": "m"}) for i in range(200)]
    command = [sys.executable, "-c", textwrap.dedent(READER), str(path), " ".join(keys)]
    reader = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    writer = child(path, "0-200", 0.01)
    writer.communicate(timeout=60)
    seen = [int(line) for line in reader.communicate(timeout=60)[0].split()]
    assert (writer.returncode, reader.returncode) == (0, 0)
    assert seen[-1] == 200
    assert len(set(seen)) > 3, "it must have read while the other wrote"


def test_a_reply_is_on_disk_within_a_second_of_its_arrival(tmp_path):
    path = tmp_path / "j.sqlite"
    writer = child(path, "0-50", 0.5)
    try:
        writer.stdout.readline()  # the reply before this line's has been handed to the journal
        writer.stdout.readline()
        key = request("0").key({"kind": "slow", "model": "m"})
        with Journal(path, read_only=True) as journal:
            assert journal.lookup([key])[key].text == "0"
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()


def test_the_benchmark_runs():
    command = [sys.executable, "tests/bench/journal.py", "--rows", "500"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sum(line.startswith("|") for line in done.stdout.splitlines()) == 2 + 6
