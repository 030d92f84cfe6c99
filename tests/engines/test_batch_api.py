"""The Batch API against a local server that has its files and batches endpoints; the server outlives the client."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import nbformat
import openai
import pytest
from faulty_server import correct, fault, running, stats
from openai.types import Batch

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ModelConfig, ProfileError
from perg_utils.core.progress import line
from perg_utils.core.schema import Status
from perg_utils.engines.api import batch as batch_api
from perg_utils.engines.api import pricing
from perg_utils.engines.api.engine import ApiEngine
from perg_utils.engines.base import Decoding, EngineError, Request
from perg_utils.engines.journal import Journal
from perg_utils.run.notebook import execute

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(batch_api, "POLL_SECONDS", 0.05)


def engine(url, **more):
    return ApiEngine(ModelConfig(name="T", engine="api", model="m", base_url=url, batch=True, **more))


def requests(count):
    return [Request((("system", "be kind"), ("user", str(i))), Decoding(50)) for i in range(count)]


def rights(asked):
    return [correct(request.messages[-1][1]) for request in asked]


def test_the_local_server_answers_a_chat_as_the_official_client_expects():
    """Batches go through that client anyway; so what chats are tested against is no invention either."""
    http = openai.DefaultHttpxClient(trust_env=False)
    with running() as url, openai.OpenAI(base_url=url, api_key="x", http_client=http) as client:
        chat = client.chat.completions.create(model="m", messages=[{"role": "user", "content": "7"}])
    assert chat.choices[0].message.content == correct("7")


def test_requests_are_submitted_polled_and_collected(tmp_path, capsys):
    asked = requests(50)
    with running() as url, Journal(tmp_path / "j") as journal:
        found = journal.ask(engine(url), [*asked, asked[3]])
        assert [reply.text for reply in found] == [*rights(asked), rights(asked)[3]]
        assert (found[0].prompt_tokens, found[0].completion_tokens, found[0].finish_reason) == (1, 12, "stop")
        assert stats(url)["batches"] == 1 and stats(url)["sent"] == 50
        assert journal.ask(engine(url), asked) == found[:50]
        assert stats(url)["batches"] == 1, "all answered by the journal"
    assert "at the server: 0/50 requests" in capsys.readouterr().out


IN_A_NOTEBOOK = """
from perg_utils.core.profile import ModelConfig
from perg_utils.engines.api import batch
from perg_utils.engines.api.engine import ApiEngine
from perg_utils.engines.base import Decoding, Request
batch.POLL_SECONDS = 0.05
engine = ApiEngine(ModelConfig(name="T", engine="api", model="m", base_url=url, batch=True))
print(len(dict(engine.generate([Request((("user", str(i)),), Decoding(50)) for i in range(20)]))), "replies")
"""


def test_whoever_runs_the_notebook_sees_how_far_the_server_is(tmp_path):
    cells = [nbformat.v4.new_code_cell("url = ''", metadata={"tags": ["parameters"]})]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    cells.append(nbformat.v4.new_code_cell(IN_A_NOTEBOOK))
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), tmp_path / "a.ipynb")
    states = []
    with running(batch_seconds=0.5) as url:
        execute(tmp_path / "a.ipynb", tmp_path / "ran.ipynb", {"url": url}, ROOT, states.append)
    lines = [line(state) for state in states]
    assert lines[0].startswith("at the server: 0/20 requests, ")
    assert lines[-1].startswith("at the server: 20/20 requests in 0:")
    [printed] = nbformat.read(tmp_path / "ran.ipynb", as_version=4).cells[-1].outputs
    assert printed.text == "20 replies\n"


def test_a_large_study_goes_in_several_batches(monkeypatch):
    monkeypatch.setattr(batch_api, "MOST_REQUESTS", 20)
    asked = requests(50)
    with running() as url:
        found = dict(engine(url).generate(asked))
        assert stats(url)["batches"] == 3
    assert [found[i].text for i in range(50)] == rights(asked)


def test_what_failed_in_part_is_asked_again_and_what_is_refused_is_not(tmp_path):
    faults = {"500": 0.2, "null": 0.1, "expire": 0.2, "reject": 0.1}
    asked = requests(200)
    with running(faults=faults) as url, Journal(tmp_path / "j") as journal:
        found = journal.ask(engine(url), asked)
        counts = stats(url)
    assert {f"batch {kind}" for kind in (*faults, "ok")} == set(counts["kinds"]), "every fault must have occurred"
    for request, reply in zip(asked, found, strict=True):
        prompt = request.messages[-1][1]
        if fault(prompt, 0, faults, 1) == "reject":
            assert reply.status == Status.REJECTED and "content_filter" in reply.error
        else:
            tries = [fault(prompt, nth, faults, 1) for nth in range(7)]
            tries = tries[: tries.index("ok")] if "ok" in tries else tries
            nulls = tries.count("null")
            lasting = max(nulls, len(tries) - nulls) >= 4
            assert (reply.text, reply.status == Status.OK) == ((None, False) if lasting else (correct(prompt), True))
    assert 3 <= counts["batches"] <= 8


CHILD = """
    import sys
    from perg_utils.engines.api import batch as batch_api
    from perg_utils.engines.api.engine import ApiEngine
    from perg_utils.engines.base import Decoding, Request
    from perg_utils.engines.journal import Journal
    from perg_utils.core.profile import ModelConfig

    batch_api.POLL_SECONDS = 0.05
    engine = ApiEngine(ModelConfig(name="T", engine="api", model="m", base_url=sys.argv[1], batch=True))
    with Journal(sys.argv[2]) as journal:
        journal.ask(engine, [Request((("system", "be kind"), ("user", str(i))), Decoding(50)) for i in range(60)])
"""


@pytest.mark.parametrize("finished", [False, True])
def test_a_killed_run_finds_its_batch_again_and_submits_nothing_twice(tmp_path, finished):
    asked = requests(60)
    with running(batch_seconds=1.0 if finished else 4.0) as url:
        words = [sys.executable, "-c", textwrap.dedent(CHILD), url, str(tmp_path / "j")]
        process = subprocess.Popen(words, cwd=ROOT)
        deadline = time.monotonic() + 300
        while not stats(url)["batches"] and time.monotonic() < deadline:
            time.sleep(0.02)
        assert stats(url)["batches"] == 1, "the run was ended after its batch was made"
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        time.sleep(2.0 if finished else 0.0)
        with Journal(tmp_path / "j") as journal:
            found = journal.ask(engine(url), [*asked, *requests(70)[60:]])
        assert [reply.text for reply in found] == rights(requests(70))
        assert stats(url)["sent"] == 70, "each request once"


def test_thinking_that_filled_the_limit_is_kept_from_an_earlier_batch_and_not_paid_for_again():
    cut = {"index": 0, "finish_reason": "length", "message": {"role": "assistant", "content": None}}
    line = {"response": {"status_code": 200, "body": {"choices": [cut], "usage": {"completion_tokens": 50}}}}
    asked = requests(1)
    with running() as url:
        run = batch_api.BatchRun(engine(url).config, engine(url).identity, "x", asked, engine(url).usage)
        run.account.lines = lambda file: [line | {"custom_id": next(iter(run.requests))}] if file else []
        done = Batch.model_construct(id="b", status="completed", output_file_id="f", metadata={"perg": run.mark})
        [(position, reply)] = run._collect(done, earlier=True)
    assert (position, reply.status, reply.finish_reason) == (0, Status.SILENT, "length")
    assert not run.open


def test_batches_of_another_model_or_decoding_are_left_alone():
    with running() as url:
        first = dict(engine(url).generate(requests(5)))
        other = [Request(r.messages, Decoding(51)) for r in requests(5)]
        second = dict(engine(url).generate(other))
        third = dict(engine(url, thinking=True).generate(requests(5)))
        assert stats(url)["sent"] == 15
    assert len(first) == len(second) == len(third) == 5


def test_a_full_queue_is_waited_for_with_smaller_batches(capsys):
    asked = requests(40)
    with running(batch_refuses=2) as url:
        found = dict(engine(url).generate(asked))
    assert [found[i].text for i in range(40)] == rights(asked)


def test_a_queue_that_stays_full_ends_the_run_with_the_reason():
    with running(batch_refuses=100) as url, pytest.raises(EngineError, match="Enqueued token limit reached"):
        list(engine(url).generate(requests(40)))


def test_what_stays_broken_is_set_aside_and_asked_again_by_the_next_run(tmp_path):
    with running(faults={"500": 1.0}) as url, Journal(tmp_path / "j") as journal:
        found = journal.ask(engine(url), requests(3))
        assert {reply.status for reply in found} == {Status.API_ERROR}
        assert journal.lookup([r.key(engine(url).identity) for r in requests(3)]) == {}, "asked again by the next run"


def test_a_server_without_a_batch_api_is_an_error_that_says_so(monkeypatch):
    with running() as url, pytest.raises(EngineError, match="404"):
        list(engine(f"{url}/elsewhere").generate(requests(3)))


def test_batches_cost_half_and_stop_at_the_limit(tmp_path, monkeypatch):
    path = tmp_path / "prices.csv"
    path.write_text("model,prompt_usd,completion_usd,batch_share,as_of,source\nm,100,1000,0.5,2026-01-01,invented\n")
    monkeypatch.setattr(pricing, "PRICES", path)
    asked = requests(100)
    with running() as url, Journal(tmp_path / "j") as journal:
        batches = engine(url, max_cost_usd=0.5)
        with pytest.raises(EngineError, match=r"max_cost_usd 0\.5"):
            journal.ask(batches, asked)
        counts = stats(url)
        spent = (50 * counts["prompt_tokens"] + 500 * counts["completion_tokens"]) / 1e6
        assert 0.45 < spent <= 0.5 and batches.usage.spent == pytest.approx(spent)
        assert [r.text for r in journal.ask(engine(url), asked)] == rights(asked)


def test_a_batch_that_an_earlier_run_sent_counts_towards_the_limit_while_it_is_under_way(tmp_path, monkeypatch):
    path = tmp_path / "prices.csv"
    path.write_text("model,prompt_usd,completion_usd,batch_share,as_of,source\nm,100,1000,0.5,2026-01-01,invented\n")
    monkeypatch.setattr(pricing, "PRICES", path)
    with running(batch_seconds=1.5) as url:
        with monkeypatch.context() as killed:
            killed.setattr(batch_api.time, "sleep", lambda _: exec("raise KeyboardInterrupt"))
            with pytest.raises(KeyboardInterrupt):
                list(engine(url, max_cost_usd=0.5).generate(requests(100)))
        assert stats(url)["batches"] == 1
        with pytest.raises(EngineError, match=r"max_cost_usd 0\.5"):
            list(engine(url, max_cost_usd=0.5).generate(requests(100)))
        counts = stats(url)
        assert 0.45 < (50 * counts["prompt_tokens"] + 500 * counts["completion_tokens"]) / 1e6 <= 0.5


def test_several_servers_and_batches_do_not_go_together():
    urls = "[http://localhost:1/v1, http://localhost:2/v1]"
    with pytest.raises(ProfileError, match="batch"):
        load_profile("paper_small", [f"judge.model.base_url={urls}", "judge.model.batch=true"])
