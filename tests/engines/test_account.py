"""Files and batches of an account, against a server that gives the answers of a script, one a call."""

import json
import subprocess
import sys
import threading
import traceback
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from perg_utils.engines.api import account as account_module
from perg_utils.engines.api.account import TRIES, Account
from perg_utils.engines.base import EngineError

KEY = "sk-secret-0123456789"
BATCH = {
    "id": "b1",
    "object": "batch",
    "status": "in_progress",
    "input_file_id": "f1",
    "endpoint": "/v1/chat/completions",
    "completion_window": "24h",
    "created_at": 1,
    "metadata": {"perg": "x"},
}
BUSY = (503, {"error": {"message": "try later", "code": "overloaded"}}, {})


@contextmanager
def answering(*script):
    """A server that gives the (status, body, headers) of `script`, the last one for ever; `None` closes unanswered."""
    calls = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers.get("Content-Length", 0)))
            answer = script[min(len(calls), len(script) - 1)]
            calls.append((self.command, self.path, dict(self.headers)))
            if answer is None:
                self.close_connection = True
                return
            status, body, headers = answer
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in (
                {"Content-Type": "application/json", "Content-Length": str(len(data))} | headers
            ).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

        do_POST = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1", calls
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def waits(monkeypatch):
    """Waiting takes no time; the list says how long it would have been."""
    asked = []
    monkeypatch.setattr(account_module.time, "sleep", asked.append)
    return asked


def ok(body):
    return (200, body, {})


@pytest.mark.parametrize("trouble", [BUSY, None, (429, {}, {}), (408, {}, {}), (409, {}, {}), (200, b"<html>busy", {})])
def test_what_is_transient_is_tried_again(trouble, waits):
    with answering(trouble, trouble, ok(BATCH)) as (url, calls):
        assert Account(url, KEY).batch("b1").status == "in_progress"
    assert [(method, path) for method, path, _ in calls] == [("GET", "/v1/batches/b1")] * 3
    assert len(waits) == 2


def test_a_page_of_html_that_says_so_is_transient_too():
    page = (200, b"<html>busy", {"Content-Type": "text/html"})
    with answering(page, ok(BATCH)) as (url, _):
        assert Account(url, KEY).batch("b1").id == "b1"


def test_the_server_is_given_the_time_that_it_asks_for_however_long(waits):
    with answering((429, {}, {"Retry-After": "300"}), ok(BATCH)) as (url, _):
        Account(url, KEY).batch("b1")
    assert len(waits) == 1 and 300 <= waits[0] <= 375


def test_patience_ends_with_what_was_said_last_and_what_to_do(waits):
    with (
        answering(BUSY) as (url, calls),
        pytest.raises(EngineError, match=r"overloaded: try later.*run the same command"),
    ):
        Account(url, KEY).batch("b1")
    assert len(calls) == TRIES and sum(waits) > 40


def test_a_server_that_stays_silent_is_not_waited_for_without_end(monkeypatch):
    monkeypatch.setattr(account_module, "CALL_SECONDS", 0.2)
    monkeypatch.setattr(account_module, "TRIES", 2)
    held = threading.Event()

    class Held(bytes):
        def __len__(self):
            held.wait(5)
            return 0

    with answering(ok(Held())) as (url, calls), pytest.raises(EngineError, match=r"did not answer.*[Tt]ime"):
        try:
            Account(url, KEY).batch("b1")
        finally:
            held.set()
    assert len(calls) == 2


def test_a_refusal_is_final_and_says_which_call(waits):
    refused = (400, {"error": {"message": "no such endpoint", "code": "bad"}}, {})
    with answering(refused) as (url, calls), pytest.raises(EngineError, match=r"POST .*/v1/files .*400: bad: no such"):
        Account(url, KEY).upload(b"{}\n")
    assert len(calls) == 1 and not waits


def test_a_redirect_is_not_followed():
    with answering(ok(BATCH)) as (elsewhere, there):
        moved = (307, {}, {"Location": f"{elsewhere}/batches/b1"})
        with answering(moved) as (url, calls), pytest.raises(EngineError, match="status 307"):
            Account(url, KEY).batch("b1")
    assert len(calls) == 1 and not there


def test_a_submission_whose_answer_was_lost_is_looked_up_and_not_made_twice():
    found = {"object": "list", "data": [BATCH | {"id": "b0", "input_file_id": "f0"}, BATCH], "has_more": False}
    with answering(None, ok(found)) as (url, calls):
        assert Account(url, KEY).submit("f1", {"perg": "x"}).id == "b1"
    assert [method for method, *_ in calls] == ["POST", "GET"]


def test_a_submission_that_did_not_arrive_is_made_again():
    none = {"object": "list", "data": [], "has_more": False}
    with answering(BUSY, ok(none), ok(BATCH)) as (url, calls):
        assert Account(url, KEY).submit("f1", {"perg": "x"}).id == "b1"
    assert [method for method, *_ in calls] == ["POST", "GET", "POST"]


def test_all_pages_of_the_list_are_read_each_with_patience():
    first = {"object": "list", "data": [BATCH | {"id": "b2"}], "has_more": True}
    last = {"object": "list", "data": [BATCH], "has_more": False}
    with answering(ok(first), BUSY, ok(last)) as (url, calls):
        assert [batch.id for batch in Account(url, KEY).batches()] == ["b2", "b1"]
    assert "after=b2" in calls[2][1]


def test_other_servers_may_leave_fields_out():
    with answering(ok({"id": "b1", "status": "completed", "output_file_id": "o"})) as (url, _):
        batch = Account(url, KEY).batch("b1")
    assert (batch.output_file_id, batch.error_file_id, batch.errors, batch.metadata) == ("o", None, None, None)


@pytest.mark.parametrize("status", [400, 503])
def test_a_key_that_the_server_repeats_stands_in_no_error_and_no_file(status):
    told = (status, {"error": {"message": f"Incorrect API key provided: {KEY}"}}, {})
    with answering(told) as (url, _), pytest.raises(EngineError) as caught:
        Account(url, KEY).batch("b1")
    shown = "".join(traceback.format_exception(caught.value))
    assert "[key]" in str(caught.value) and KEY not in shown
    line = json.dumps({"custom_id": "a", "response": {"body": f"You are {KEY}"}}).encode()
    with answering(ok(line + b"\n\n")) as (url, _):
        assert Account(url, KEY).lines("f1") == [{"custom_id": "a", "response": {"body": "You are [key]"}}]


def test_the_environment_changes_neither_key_nor_address_nor_account(monkeypatch):
    for name in ("API_KEY", "BASE_URL", "ORG_ID", "PROJECT_ID"):
        monkeypatch.setenv(f"OPENAI_{name}", "http://127.0.0.1:9/other")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with answering(ok(BATCH)) as (url, calls):
        Account(url, KEY).batch("b1")
    sent = {name.lower(): value for name, value in calls[0][2].items()}
    assert sent["authorization"] == f"Bearer {KEY}"
    assert "other" not in json.dumps(sent)


def test_the_client_is_loaded_by_a_batch_run_only():
    code = "import perg_utils, perg_utils.__main__, perg_utils.engines.open, sys; sys.exit('openai' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)
