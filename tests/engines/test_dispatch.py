"""The API engine against a server in another process that fails, hangs, dies, and counts what it is sent."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from faulty_server import MIX, correct, fault, running, stats

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ModelConfig
from perg_utils.core.schema import Status
from perg_utils.engines.api import endpoints, health, pricing, retries
from perg_utils.engines.api.engine import ApiEngine
from perg_utils.engines.base import Decoding, EngineError, Request
from perg_utils.engines.journal import Journal

ROOT = Path(__file__).resolve().parents[2]


def engine(url, **more):
    return ApiEngine(ModelConfig(name="T", engine="api", model="m", base_url=url, **{"concurrency": 16, **more}))


def requests(count, salt=""):
    return [Request((("user", f"{salt}{i}"),), Decoding(50)) for i in range(count)]


def prompt(request):
    return request.messages[-1][1]


def all_right(asked, replies):
    return [reply.text for reply in replies] == [correct(prompt(request)) for request in asked]


def test_under_all_faults_every_answerable_row_is_answered_and_nothing_wrong_is_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(retries, "SHORTEST_LIMIT", 0.5)
    asked = requests(1000)
    refused = {r for r in asked if fault(prompt(r), 0, MIX, 1) == "reject"}
    assert refused, "the faults must occur"
    with running(latency=0.02, spread=0.01, faults=MIX, retry_after="0.2") as url, Journal(tmp_path / "j") as journal:
        start = time.monotonic()
        found = journal.ask(engine(url, concurrency=32), asked)
        assert time.monotonic() - start < 30, "a hanging request takes 60 s"
        counts = stats(url)
        assert set(counts["kinds"]) == {*MIX, "ok"}
        assert counts["most"] <= 32 + counts["kinds"]["hang"], "hung ones have been given up, the server goes on"
        for request, reply in zip(asked, found, strict=True):
            if request in refused:
                assert (reply.status, reply.text) == (Status.REJECTED, None) and "content_filter" in reply.error
            else:
                assert (reply.status, reply.text) == (Status.OK, correct(prompt(request)))
        assert journal.ask(engine(url), asked) == found
        assert stats(url)["sent"] == counts["sent"], "nothing is asked twice"


def test_a_server_that_can_take_few_requests_soon_gets_few(monkeypatch):
    """Beside the same run without a limit that adapts."""
    asked, refused = requests(300), {}
    for adapts in (True, False):
        monkeypatch.setattr(endpoints, "TOO_MANY", 0.1 if adapts else 2.0)
        with running(latency=0.05, capacity=8, retry_after="0.05") as url:
            found = dict(engine(url, concurrency=64).generate(asked))
            refused[adapts] = stats(url)["kinds"]["429"]
        assert all_right(asked, [found[i] for i in range(300)])
    assert refused[True] < refused[False] / 2


def test_a_few_refusals_do_not_slow_the_rest_down():
    asked = requests(1500)
    with running(latency=0.05, faults={"429": 0.05}, retry_after="0.1") as url:
        start = time.monotonic()
        found = dict(engine(url, concurrency=32).generate(asked))
        seconds = time.monotonic() - start
    assert all_right(asked, [found[i] for i in range(1500)])
    assert seconds < 3 * 1500 / 32 * 0.05


def test_replicas_share_the_work_by_what_they_can_do():
    asked = requests(600)
    with running(latency=0.05) as quick, running(latency=0.05) as equal, running(latency=0.5) as slow:
        found = dict(engine([quick, equal, slow], concurrency=8).generate(asked))
        shares = [stats(url)["sent"] / 600 for url in (quick, equal, slow)]
    assert all_right(asked, [found[i] for i in range(600)])
    assert 0.35 < shares[0] < 0.6 and 0.35 < shares[1] < 0.6 and 0.01 < shares[2] < 0.15


def test_one_replica_may_die_on_the_way():
    asked = requests(400)
    with running(latency=0.05) as lasting, running(latency=0.05) as url:
        replies = engine([url, lasting], concurrency=8).generate(asked)
        found = dict(next(replies) for _ in range(50))
        doomed = [p for p in _children() if url.split(":")[2].split("/")[0] in _ports(p)]
        os.kill(doomed[0], signal.SIGKILL)
        found |= dict(replies)
    assert all_right(asked, [found[i] for i in range(400)])


def _children():
    tasks = Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children")
    if not tasks.exists():
        pytest.skip("needs /proc")
    return [int(pid) for pid in tasks.read_text().split()]


def _ports(pid):
    import psutil

    return {str(c.laddr.port) for c in psutil.Process(pid).net_connections() if c.status == psutil.CONN_LISTEN}


@pytest.mark.parametrize("faults", [{"500": 1.0}, {"reset": 1.0}, {"hang": 1.0}, None])
def test_a_server_that_dies_on_the_way_ends_the_run_soon_and_all_is_kept(tmp_path, monkeypatch, faults):
    monkeypatch.setattr(health, "DEAD_SECONDS", 1.0)
    monkeypatch.setattr(retries, "SHORTEST_LIMIT", 0.3)
    first, rest = requests(100), requests(300)[100:]
    with Journal(tmp_path / "j") as journal:
        with running(latency=0.01) as url:
            journal.ask(engine(url), first)
        start = time.monotonic()
        if faults is None:
            with pytest.raises(EngineError, match="see that the server is up"):
                journal.ask(engine(url), [*first, *rest])
        else:
            with running(faults=faults) as url, pytest.raises(EngineError, match="see that the server is up"):
                journal.ask(engine(url, timeout=0.5), [*first, *rest])
        assert time.monotonic() - start < 15
        with running() as url:
            assert all_right([*first, *rest], journal.ask(engine(url), [*first, *rest]))
            assert stats(url)["sent"] == 200


def test_a_server_that_only_says_too_many_requests_ends_the_run_after_a_while(monkeypatch):
    monkeypatch.setattr(health, "LIMITED_SECONDS", 1.0)
    with running(faults={"429": 1.0}, retry_after="0.1") as url:
        start = time.monotonic()
        with pytest.raises(EngineError, match="nothing but 'too many requests'"):
            list(engine(url).generate(requests(100)))
        assert 1 < time.monotonic() - start < 5
        assert stats(url)["sent"] < 200, "and is not hammered meanwhile"


def test_with_few_connections_too_a_dead_server_is_known_as_such_soon_and_no_row_is_given_up(monkeypatch):
    monkeypatch.setattr(health, "DEAD_SECONDS", 1.0)
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.01)
    monkeypatch.setattr(retries, "LONGEST_WAIT", 0.1)
    with running(faults={"500": 1.0}) as url:
        found, start = [], time.monotonic()
        with running() as first:
            asking = engine(first, concurrency=1)
            assert len(list(asking.generate(requests(10)))) == 10
        with pytest.raises(EngineError, match="see that the server is up"):
            found += engine(url, concurrency=1).generate(requests(200))
        assert (found, time.monotonic() - start < 10) == ([], True)
        assert stats(url)["prompts"] >= health.DEAD_AFTER, "not the same few again and again"


def test_a_server_that_comes_back_is_used_again(monkeypatch, tmp_path):
    """Started again on the same port while the engine keeps asking."""
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    asked = requests(120)
    with running(port=port, latency=0.05) as url:
        replies = engine(url, concurrency=4).generate(asked)
        found = dict(next(replies) for _ in range(20))
    helper = threading.Timer(1.5, lambda: found.update({"server": running(port=port, latency=0.01)}))
    helper.start()
    helper.join()
    with found.pop("server") as url:
        found |= dict(replies)
    assert all_right(asked, [found[i] for i in range(120)])


CHILD = """
    import sys
    from perg_utils.engines.api.engine import ApiEngine
    from perg_utils.engines.base import Decoding, Request
    from perg_utils.engines.journal import Journal
    from perg_utils.core.profile import ModelConfig
    import signal
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell may have it ignored

    url, path, count = sys.argv[1:]
    engine = ApiEngine(ModelConfig(name="T", engine="api", model="m", base_url=url, concurrency=16))
    with Journal(path) as journal:
        journal.ask(engine, [Request((("user", str(i)),), Decoding(50)) for i in range(int(count))])
"""


def child(url, path, count=300):
    words = [sys.executable, "-c", textwrap.dedent(CHILD), url, str(path), str(count)]
    return subprocess.Popen(words, cwd=ROOT, stderr=subprocess.PIPE, text=True)


def until_sent(url, count):
    deadline = time.monotonic() + 300
    while stats(url)["sent"] < count and time.monotonic() < deadline:
        time.sleep(0.02)


def repeated(log):
    sent = Counter(line.split()[1] for line in log.read_text().splitlines() if line.startswith("sent"))
    return sent.total() - len(sent)


def test_after_kill_9_at_most_what_was_in_flight_is_sent_again(tmp_path):
    log = tmp_path / "log"
    with running(latency=0.1, spread=0.05, log=str(log)) as url:
        before = 0
        for turn in range(3):
            process = child(url, tmp_path / "j")
            until_sent(url, before + 50 + 7 * turn)
            process.kill()
            process.communicate()
            time.sleep(0.3)  # what it had sent arrives
            before = stats(url)["sent"]
        process = child(url, tmp_path / "j")
        assert process.communicate() and process.returncode == 0
        assert stats(url)["prompts"] == 300
    assert repeated(log) <= 3 * 16
    with Journal(tmp_path / "j") as journal:
        asked = requests(300)
        assert all_right(asked, journal.ask(engine("http://127.0.0.1:9/v1"), asked)), "all there, none wrong"


def test_ctrl_c_sends_nothing_more_and_keeps_what_is_in_flight(tmp_path):
    log = tmp_path / "log"
    with running(latency=0.3, log=str(log)) as url:
        process = child(url, tmp_path / "j")
        until_sent(url, 40)
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        _, told = process.communicate(timeout=20)
        assert time.monotonic() - start < 5
        assert process.returncode not in (0, None) and "KeyboardInterrupt" in told
        assert "requests in flight; again to end at once" in told
        assert 40 <= stats(url)["sent"] < 100
        process = child(url, tmp_path / "j")
        assert process.communicate() and process.returncode == 0
    assert repeated(log) == 0, "even what was in flight was kept"


def test_ctrl_c_twice_ends_at_once(tmp_path):
    with running(latency=25) as url:
        process = child(url, tmp_path / "j")
        until_sent(url, 16)
        process.send_signal(signal.SIGINT)
        time.sleep(1)
        assert process.poll() is None
        process.send_signal(signal.SIGINT)
        start = time.monotonic()
        process.communicate(timeout=20)
        assert time.monotonic() - start < 3


@pytest.fixture
def prices(tmp_path, monkeypatch):
    path = tmp_path / "prices.csv"
    path.write_text("model,prompt_usd,completion_usd,batch_share,as_of,source\nm,100,1000,0.5,2026-01-01,invented\n")
    monkeypatch.setattr(pricing, "PRICES", path)
    return path


def cost(counts):
    return (100 * counts["prompt_tokens"] + 1000 * counts["completion_tokens"]) / 1e6


@pytest.mark.parametrize("faults", [{}, {"429": 0.1, "500": 0.1, "reset": 0.05, "null": 0.05}])
def test_max_cost_stops_before_it_is_crossed(prices, tmp_path, monkeypatch, faults):
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.01)
    asked = requests(200)
    with running(latency=0.05, faults=faults, retry_after="0.01") as url, Journal(tmp_path / "j") as journal:
        with pytest.raises(EngineError, match=r"max_cost_usd 1\.0") as caught:
            journal.ask(engine(url, max_cost_usd=1.0), asked)
        spent = cost(stats(url))
        assert (0.5 if faults else 0.93) < spent <= 1.0, "a reply costs 0.0121, one request at most 0.0533"
        kept = journal.lookup([r.key(engine(url).identity) for r in asked])
        assert f"{200 - len(kept)} requests are left" in str(caught.value)
        assert all_right(asked, journal.ask(engine(url, max_cost_usd=100), asked))


def test_a_limit_on_the_cost_of_a_model_without_a_price_is_an_error(prices):
    with pytest.raises(EngineError, match="has no price for 'other'"):
        list(ApiEngine(ModelConfig(name="T", engine="api", model="other", max_cost_usd=1)).generate(requests(1)))


def test_what_is_spent_is_counted_as_the_server_does(prices):
    with running() as url:
        asking = engine(url)
        assert len(list(asking.generate(requests(50)))) == 50
        assert asking.usage.spent == pytest.approx(cost(stats(url)))
        assert str(asking.usage) == "50+600 tokens, 0.60 USD" or "0.61 USD" in str(asking.usage)


def test_texts_and_keys_on_their_way_unencrypted_are_warned_of(capsys, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-never-to-be-seen-012345")
    for url, warned in [
        ("http://127.0.0.1:1/v1", False),
        ("http://[::1]:1/v1", False),
        ("http://localhost:1/v1", False),
        ("https://api.example.com/v1", False),
        ("http://gpu.example.com/v1", True),
        ("http://10.0.0.5:8000/v1", True),
    ]:
        engine(url).check()
        told = capsys.readouterr().err
        assert ("not encrypted" in told) == warned, url
        assert "sk-never" not in told


class Redirecting(BaseHTTPRequestHandler):
    def do_POST(self):
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(307)
        self.send_header("Location", self.server.target + "/chat/completions")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


def test_a_redirect_is_not_followed_for_it_would_take_the_key_elsewhere():
    with running() as elsewhere:
        server = ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
        server.target = elsewhere
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        with pytest.raises(EngineError, match="status 307"):
            list(engine(f"http://127.0.0.1:{server.server_port}/v1").generate(requests(1)))
        server.shutdown()
        server.server_close()
        assert stats(elsewhere)["sent"] == 0


def test_a_certificate_that_nobody_vouches_for_is_refused(tmp_path, monkeypatch):
    import shutil
    import ssl

    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    monkeypatch.setattr(retries, "ERRORS", 1)
    words = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost -addext subjectAltName=DNS:localhost"
    subprocess.run([*words.split(), "-keyout", "k.pem", "-out", "c.pem"], cwd=tmp_path, check=True, capture_output=True)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Redirecting)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "c.pem", tmp_path / "k.pem")
    server.socket = context.wrap_socket(server.socket, server_side=True)
    server.handle_error = lambda *_: None
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    with pytest.raises(EngineError, match=r"(?i)certificate"):
        list(engine(f"https://localhost:{server.server_port}/v1").generate(requests(1)))
    server.shutdown()
    server.server_close()


def test_a_url_with_a_secret_in_it_is_refused_without_repeating_it():
    for url in ("https://user:hunter2@host/v1", "https://host/v1?key=hunter2", "user:hunter2@host"):
        with pytest.raises(Exception, match="base_url") as caught:
            load_profile("paper_small", ["judge.model.engine=api", f"judge.model.base_url={url}"])
        assert "hunter2" not in str(caught.value)
