import json
import socket
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from perg_utils.core.profile import ModelConfig
from perg_utils.core.schema import Status
from perg_utils.engines.api import endpoints, health, retries
from perg_utils.engines.api.completions import body as body_of
from perg_utils.engines.api.engine import ApiEngine
from perg_utils.engines.base import Decoding, EngineError, Request
from perg_utils.engines.journal import Journal

SHARED = Path(__file__).parents[3] / "shared"
KEY = "sk-test-0123456789-never-to-be-seen"


class Server(ThreadingHTTPServer):
    """An OpenAI-compatible server whose `script(body, nth)` says what a prompt gets the nth time: (status, body)."""

    daemon_threads = True

    def __init__(self, script):
        super().__init__(("127.0.0.1", 0), Handler)
        self.script, self.bodies, self.keys, self.lock = script, [], [], threading.Lock()
        self.active = self.most = 0
        self.url = f"http://127.0.0.1:{self.server_port}/v1"

    def handle_error(self, request, client_address):
        pass


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        with self.server.lock:
            self.server.active += 1
            self.server.most = max(self.server.most, self.server.active)
            nth = sum(b["messages"] == body["messages"] for b in self.server.bodies)
            self.server.bodies.append(body)
            self.server.keys.append(self.headers["Authorization"])
        status, answer = self.server.script(body, nth)
        data = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
        with self.server.lock:
            self.server.active -= 1
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        if status == 429:
            self.send_header("Retry-After", "0.05")
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


def completion(content, finish="stop", **message):
    return 200, {
        "id": "x",
        "object": "chat.completion",
        "created": 1,
        "model": "m",
        "choices": [
            {"index": 0, "finish_reason": finish, "message": {"role": "assistant", "content": content, **message}}
        ],
        "usage": {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10},
    }


def failure(status, message, code=None):
    return status, {"error": {"message": message, "code": code, "type": None, "param": None}}


@pytest.fixture(autouse=True)
def short_waits(monkeypatch):
    monkeypatch.setattr(retries, "FIRST_WAIT", 0.01)


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setenv("TEST_KEY", KEY)
    servers = []

    def start(script):
        server = Server(script)
        servers.append(server)
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


def engine_for(url, **more):
    return ApiEngine(ModelConfig(name="T", engine="api", model="m", base_url=url, api_key_env="TEST_KEY", **more))


def requests(*texts):
    return [Request((("system", "be kind"), ("user", text)), Decoding(500, 0.0, 42)) for text in texts]


def ask(engine, *texts):
    found = dict(engine.generate(requests(*texts)))
    assert sorted(found) == list(range(len(texts))), "each position once"
    return [found[index] for index in range(len(texts))]


def echo(body, nth):
    return completion(body["messages"][-1]["content"].upper())


def test_requests_are_sent_as_the_protocol_says(serve):
    server = serve(echo)
    [reply] = ask(engine_for(server.url), "a")
    assert (reply.text, reply.status, reply.finish_reason) == ("A", Status.OK, "stop")
    assert (reply.prompt_tokens, reply.completion_tokens) == (7, 3)
    assert 0 < reply.seconds < 10
    assert server.bodies == [
        {
            "model": "m",
            "messages": [{"role": "system", "content": "be kind"}, {"role": "user", "content": "a"}],
            "temperature": 0.0,
            "seed": 42,
            "max_tokens": 500,
        }
    ]
    assert server.keys == [f"Bearer {KEY}"]


def test_extra_fields_and_the_thinking_switch_are_passed_on(serve):
    server = serve(echo)
    ask(engine_for(server.url, thinking=False, extra_body={"top_k": 1}), "a")
    assert server.bodies[0]["top_k"] == 1
    assert server.bodies[0]["chat_template_kwargs"] == {"enable_thinking": False}


def test_the_hosted_openai_api_gets_its_own_name_for_the_limit():
    body = body_of(ModelConfig(name="T", engine="api", model="m"), requests("a")[0], endpoints.OPENAI_URL)
    assert body["max_completion_tokens"] == 500 and "max_tokens" not in body


def test_requests_that_begin_alike_are_sent_one_after_the_other_and_replies_keep_their_places(serve):
    server = serve(echo)
    texts = [f"question {q}, arm {arm}" for arm in range(3) for q in range(4)]
    got = ask(engine_for(server.url, concurrency=1), *texts)
    assert [reply.text for reply in got] == [text.upper() for text in texts]
    assert [body["messages"][-1]["content"] for body in server.bodies] == sorted(texts)


def test_many_requests_are_in_flight_but_never_more_than_asked_for(serve):
    def slow(body, nth):
        time.sleep(0.05)
        return echo(body, nth)

    server = serve(slow)
    texts = [f"t{i}" for i in range(40)]
    assert [reply.text for reply in ask(engine_for(server.url, concurrency=8), *texts)] == [t.upper() for t in texts]
    assert 4 <= server.most <= 8


def test_transient_failures_are_tried_again_until_answered(serve):
    def flaky(body, nth):
        trouble = {
            "a": [failure(429, "slow down")] * 2,
            "b": [failure(500, "oops"), failure(503, "busy")],
            "c": [(502, b"<html>bad gateway</html>")],
        }[body["messages"][-1]["content"]]
        return trouble[nth] if nth < len(trouble) else echo(body, nth)

    server = serve(flaky)
    assert [reply.text for reply in ask(engine_for(server.url), "a", "b", "c")] == ["A", "B", "C"]
    assert len(server.bodies) == 3 + 3 + 2


def test_what_stays_broken_is_an_api_error_and_ends_no_run(serve, monkeypatch):
    monkeypatch.setattr(retries, "ERRORS", 2)

    def script(body, nth):
        return failure(500, "always") if body["messages"][-1]["content"] == "bad" else echo(body, nth)

    server = serve(script)
    good, bad, other = ask(engine_for(server.url), "good", "bad", "other")
    assert (good.text, other.text) == ("GOOD", "OTHER")
    assert (bad.status, bad.text) == (Status.API_ERROR, None)
    assert "500" in bad.error and "always" in bad.error


def test_a_body_that_is_no_json_is_an_api_error(serve, monkeypatch):
    monkeypatch.setattr(retries, "ERRORS", 1)
    server = serve(lambda body, nth: echo(body, nth) if body["messages"][-1]["content"] == "ok" else (200, b"{oops"))
    bad, good = ask(engine_for(server.url), "bad", "ok")
    assert (bad.status, good.status) == (Status.API_ERROR, Status.OK)


@pytest.mark.parametrize("content", [None, "", "  \n"])
def test_a_reply_without_content_is_asked_again_and_then_empty(serve, content):
    server = serve(lambda body, nth: completion(content))
    [reply] = ask(engine_for(server.url), "a")
    assert (reply.text, reply.status) == (None, Status.EMPTY)
    assert len(server.bodies) == 4


def test_content_that_comes_at_the_second_attempt_is_the_answer(serve):
    server = serve(lambda body, nth: completion(None) if nth == 0 else completion("B."))
    [reply] = ask(engine_for(server.url), "a")
    assert (reply.text, reply.status) == ("B.", Status.OK)


def test_a_reply_without_choices_is_never_an_answer(serve):
    server = serve(lambda body, nth: (200, {"id": "x", "object": "chat.completion", "choices": None}))
    [reply] = ask(engine_for(server.url), "a")
    assert reply.status == Status.EMPTY


def test_a_truncated_reply_keeps_its_finish_reason(serve):
    server = serve(lambda body, nth: completion("The answer is", finish="length"))
    [reply] = ask(engine_for(server.url), "a")
    assert (reply.text, reply.finish_reason) == ("The answer is", "length")


@pytest.mark.parametrize(
    "answer",
    [
        completion("B.", reasoning_content="so B"),
        completion("B.", reasoning="so B"),
        completion("<think>so B</think>\n\nB."),
        completion("so B</think>B."),
    ],
)
def test_reasoning_is_kept_apart(serve, answer):
    [reply] = ask(engine_for(serve(lambda body, nth: answer).url), "a")
    assert (reply.text, reply.reasoning) == ("B.", "so B")


def test_thinking_that_fills_the_limit_is_silence_and_not_asked_again(serve):
    server = serve(lambda body, nth: completion(None, finish="length", reasoning_content="hm"))
    [reply] = ask(engine_for(server.url), "a")
    assert (reply.status, reply.finish_reason, reply.reasoning) == (Status.SILENT, "length", "hm")
    assert len(server.bodies) == 1


def test_a_refusal_field_is_a_response(serve):
    [reply] = ask(engine_for(serve(lambda b, n: completion(None, refusal="I cannot help with that.")).url), "a")
    assert (reply.text, reply.status, reply.finish_reason) == ("I cannot help with that.", Status.OK, "refusal")


@pytest.mark.parametrize(
    "answer",
    [
        failure(400, "The prompt triggered the content management policy.", "content_filter"),
        failure(400, "This model's maximum context length is 4096 tokens.", "context_length_exceeded"),
        failure(400, "The prompt is too long: 9000 tokens > 4096 maximum"),
        failure(400, "the request exceeds the available context size, try increasing it"),
        failure(403, "Your input was flagged by moderation."),
        completion("Half a sen", finish="content_filter"),
    ],
)
def test_what_the_server_refuses_for_good_is_rejected_with_its_reason(serve, tmp_path, answer):
    server = serve(lambda body, nth: answer)
    with Journal(tmp_path / "j.sqlite") as journal:
        for _ in range(2):
            [reply] = journal.ask(engine_for(server.url), requests("a"))
            assert (reply.text, reply.status) == (None, Status.REJECTED)
            assert reply.error
    assert len(server.bodies) == 1, "asked once, never again"


SETTINGS = [
    failure(400, "max_tokens is too large: 9000. This model supports at most 4096 completion tokens"),
    failure(400, "Invalid value: 'seed' must be an unsigned integer", "invalid_value"),
    failure(403, "Your project is not allowed to use this model"),
    failure(413, "Request Entity Too Large"),
    failure(422, "body -> chat_template_kwargs: extra fields not permitted"),
]


@pytest.mark.parametrize("answer", SETTINGS)
def test_a_refusal_that_may_be_the_settings_fault_is_never_final(serve, tmp_path, answer):
    server = serve(
        lambda body, nth: answer if body["messages"][-1]["content"] == "bad" and nth == 0 else echo(body, nth)
    )
    with Journal(tmp_path / "j.sqlite") as journal:
        good, bad = journal.ask(engine_for(server.url), requests("good", "bad"))
        assert (good.text, bad.status) == ("GOOD", Status.API_ERROR)
        assert str(answer[0]) in bad.error and answer[1]["error"]["message"] in bad.error
        assert journal.ask(engine_for(server.url), requests("good", "bad"))[1].text == "BAD", "asked again"


@pytest.mark.parametrize("answer", SETTINGS)
@pytest.mark.parametrize("count", [1, 3, 60])
def test_a_server_that_refuses_all_it_is_asked_ends_the_run_and_caches_nothing(serve, tmp_path, answer, count):
    server = serve(lambda body, nth: answer)
    engine, many = engine_for(server.url, concurrency=2), requests(*map(str, range(count)))
    with Journal(tmp_path / "j.sqlite") as journal:
        with pytest.raises(EngineError, match="TEST_KEY") as caught:
            journal.ask(engine, many)
        assert answer[1]["error"]["message"] in str(caught.value)
        assert journal.lookup([r.key(engine.identity) for r in many]) == {}
    assert len(server.bodies) < 16 + 8


def test_later_refusals_end_no_run(serve):
    server = serve(lambda body, nth: echo(body, nth) if body["messages"][-1]["content"] == "0" else SETTINGS[1])
    found = ask(engine_for(server.url, concurrency=1), *map(str, range(40)))
    assert [reply.status for reply in found] == [Status.OK] + [Status.API_ERROR] * 39


@pytest.mark.parametrize(
    "answer",
    [
        failure(400, "System role not supported"),
        failure(400, "Conversation roles must alternate user/assistant/user/assistant/..."),
        failure(400, "After the optional system message, conversation roles must alternate user and assistant roles"),
        failure(400, "Developer instruction is not enabled for models/m"),
        failure(400, "'messages[0].role' does not support 'system' with this model.", "unsupported_value"),
    ],
)
def test_a_server_without_a_system_role_gets_the_text_in_the_user_turn_from_then_on(serve, answer):
    def script(body, nth):
        return answer if body["messages"][0]["role"] == "system" else echo(body, nth)

    server = serve(script)
    engine = engine_for(server.url, concurrency=1)
    assert [reply.text for reply in ask(engine, "a", "b")] == ["BE KIND\n\nA", "BE KIND\n\nB"]
    assert [reply.text for reply in ask(engine, "c")] == ["BE KIND\n\nC"]
    roles = [[message["role"] for message in body["messages"]] for body in server.bodies]
    assert roles == [["system", "user"], ["user"], ["user"], ["user"]], "refused once, folded ever after"


def test_an_error_that_stops_the_run_loses_no_reply_that_was_in_flight(serve):
    """They are paid for: the run ends when they have come."""

    def script(body, nth):
        bad = body["messages"][-1]["content"] == "bad"
        time.sleep(0.0 if bad else 0.3)
        return failure(401, "no") if bad else echo(body, nth)

    server = serve(script)
    for texts in (["bad", "a", "b"], ["a", "b", "bad"]):
        found = []
        with pytest.raises(EngineError, match="TEST_KEY"):
            for _, reply in engine_for(server.url).generate(requests(*texts)):
                found.append(reply.text)
        assert sorted(found) == ["A", "B"]


@pytest.mark.skipif(not (SHARED / "real/provider_rejections.jsonl").exists(), reason="no genuine rejections here")
def test_genuine_rejections_of_a_provider_are_rejections(serve):
    lines = (SHARED / "real/provider_rejections.jsonl").read_text(encoding="utf-8").splitlines()
    bodies = [json.loads(line)["error_data"] for line in lines]
    server = serve(lambda body, nth: (400, bodies[int(body["messages"][-1]["content"])]))
    found = ask(engine_for(server.url), *map(str, range(len(bodies))))
    assert [reply.status for reply in found] == [Status.REJECTED] * len(bodies)
    assert all("content_filter" in reply.error for reply in found)


@pytest.mark.parametrize(
    "answer",
    [
        failure(401, "Incorrect API key provided", "invalid_api_key"),
        failure(404, "The model `m` does not exist", "model_not_found"),
        failure(400, "Unsupported value: 'temperature' does not support 0", "unsupported_value"),
        failure(400, "API key not valid. Please pass a valid API key."),
        failure(429, "You exceeded your current quota", "insufficient_quota"),
    ],
)
def test_a_wrong_key_model_or_parameter_ends_the_run_and_caches_nothing(serve, tmp_path, monkeypatch, answer):
    monkeypatch.setattr(retries, "ERRORS", 1)
    server = serve(lambda body, nth: answer)
    engine = engine_for(server.url)
    with Journal(tmp_path / "j.sqlite") as journal:
        with pytest.raises(EngineError, match="TEST_KEY"):
            journal.ask(engine, requests("a", "b"))
        assert journal.lookup([r.key(engine.identity) for r in requests("a", "b")]) == {}


def test_the_key_is_never_written_anywhere(serve, tmp_path, capfd):
    """Not even when a server repeats it in an error."""

    def script(body, nth):
        text = body["messages"][-1]["content"]
        return failure(400, f"bad prompt from {KEY}", "content_filter") if text == "bad" else echo(body, nth)

    server = serve(script)
    with Journal(tmp_path / "j.sqlite") as journal:
        found = journal.ask(engine_for(server.url), requests("ok", "bad"))
        assert [reply.status for reply in found] == [Status.OK, Status.REJECTED]
        server.script = lambda body, nth: failure(401, f"Incorrect key {KEY}")
        engine = engine_for(server.url)
        with pytest.raises(EngineError) as caught:
            journal.ask(engine, requests("more"))
    assert server.keys[0] == f"Bearer {KEY}"
    assert KEY not in str(caught.value) and KEY not in str(engine.identity) and KEY not in repr(engine)
    assert all(KEY.encode() not in path.read_bytes() for path in tmp_path.iterdir())
    shown = capfd.readouterr()
    assert KEY not in shown.out + shown.err


def test_a_dead_server_ends_the_run_soon_with_everything_kept(serve, tmp_path, monkeypatch):
    monkeypatch.setattr(health, "DEAD_SECONDS", 1.0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        port = unused.getsockname()[1]
    alive = serve(echo)
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.ask(engine_for(alive.url), requests("a"))
        dead, start = engine_for(f"http://127.0.0.1:{port}/v1"), time.monotonic()
        many = requests("a", *(f"t{i}" for i in range(200)))
        with pytest.raises(EngineError, match="see that the server is up"):
            journal.ask(dead, many)
        assert time.monotonic() - start < 20
        assert [r.text for r in journal.ask(engine_for(alive.url), many)][:2] == ["A", "T0"]


def test_even_a_single_request_to_a_dead_server_is_an_error(monkeypatch):
    monkeypatch.setattr(retries, "ERRORS", 1)
    with pytest.raises(EngineError, match="did not answer"):
        ask(engine_for("http://127.0.0.1:9/v1"), "a")


def test_a_missing_key_is_an_error_that_names_the_variable(monkeypatch, tmp_path):
    monkeypatch.delenv("TEST_KEY", raising=False)
    monkeypatch.setattr(endpoints, "ROOT", tmp_path)
    engine = engine_for("https://api.example.invalid/v1")
    assert engine.identity["model"] == "m", "planning needs no key"
    with pytest.raises(EngineError, match="TEST_KEY"):
        ask(engine, "a")


@pytest.mark.parametrize("batch", [False, True])
def test_a_key_with_a_line_break_is_cut_or_refused_and_never_shown(serve, monkeypatch, batch):
    monkeypatch.setenv("TEST_KEY", f" {KEY}\n")
    server = serve(echo)
    ask(engine_for(server.url), "a")
    assert server.keys == [f"Bearer {KEY}"]
    monkeypatch.setenv("TEST_KEY", f"{KEY}\nX-Other: 1")
    with pytest.raises(EngineError, match="TEST_KEY holds a line break") as caught:
        ask(engine_for(server.url, batch=batch), "a")
    assert KEY not in str(caught.value)


def test_the_key_may_stand_in_a_dotenv_file_but_the_environment_wins(serve, monkeypatch, tmp_path):
    monkeypatch.setattr(endpoints, "ROOT", tmp_path)
    (tmp_path / ".env").write_text("TEST_KEY=from-file\n")
    server = serve(echo)
    ask(engine_for(server.url), "a")
    monkeypatch.delenv("TEST_KEY")
    ask(engine_for(server.url), "a")
    assert server.keys == [f"Bearer {KEY}", "Bearer from-file"]


def test_a_server_on_this_machine_needs_no_key_and_no_proxy(serve, monkeypatch, tmp_path):
    monkeypatch.setattr(endpoints, "ROOT", tmp_path)
    monkeypatch.delenv("TEST_KEY")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    [reply] = ask(engine_for(serve(echo).url), "a")
    assert reply.text == "A"


def test_the_address_is_no_part_of_the_key_but_what_shapes_the_reply_is():
    def identity(**more):
        return engine_for("http://127.0.0.1:1/v1", **more).identity

    assert engine_for("http://127.0.0.1:2/v1", concurrency=3).identity == identity()
    assert len({str(identity(**more)) for more in ({}, {"thinking": True}, {"extra_body": {"top_k": 1}})}) == 3


def test_leaving_early_stops_asking(serve):
    def slow(body, nth):
        time.sleep(0.02)
        return echo(body, nth)

    server = serve(slow)
    replies = engine_for(server.url, concurrency=2).generate(requests(*(f"t{i}" for i in range(500))))
    next(replies)
    replies.close()
    time.sleep(0.2)
    asked = len(server.bodies)
    time.sleep(0.2)
    assert len(server.bodies) == asked < 20
