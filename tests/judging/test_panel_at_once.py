import os
import signal
import threading
import time

import pytest
from judged import Handler, Server, study

from perg_utils.core.loading import load_profile
from perg_utils.core.workspace import Workspace
from perg_utils.engines.base import EngineError
from perg_utils.engines.journal import Journal
from perg_utils.judging.panel import judge_panel, read_panel

ROWS = 24
#: Each response, and the plain one by the same preference; no preference has a category, so none is mismatched.
ASKED = 2 * ROWS


class Watched(Handler):
    """Calls the server's `before` with each request's body; what that returns is how many seconds to take."""

    def rate(self, body):
        time.sleep(self.server.before(body) or 0)
        return super().rate(body)


@pytest.fixture
def serve(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    servers = []

    def start(before=lambda body: None):
        server = Server("takes")
        server.RequestHandlerClass, server.before = Watched, before
        servers.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return server

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture
def run(tmp_path):
    workspace = Workspace(tmp_path / "run", tmp_path / "figures")
    for name, table in zip(("responses", "examples", "preferences"), study(ROWS), strict=True):
        workspace.write(name, table)
    return workspace


def llm(name, server, more="", model=None):
    asked = f"{{name: {name}, engine: api, model: {model or name}, base_url: '{server.url}', concurrency: 4{more}}}"
    return f"{{kind: llm, model: {asked}}}"


def panel(main, *others):
    return load_profile("demo", [f"judge={main}", f"judges=[{', '.join(others)}]", "prompts=standard"])


def rated(workspace, profile):
    return {name: int(table["rating"].notna().sum()) for name, table in read_panel(profile, workspace).items()}


def test_judges_behind_servers_of_their_own_are_asked_at_the_same_time(run, serve):
    both = threading.Barrier(2)
    firsts = {"J": True, "K": True}

    def meet(body):
        if firsts.pop(body["model"], False):
            both.wait(timeout=30)  # broken, and an error at the server, unless the other judge is asked meanwhile

    profile = panel(llm("J", serve(meet)), llm("K", serve(meet)), "{kind: cues}")
    with Journal(run.journal) as journal:
        found = judge_panel(profile, run, journal)
    assert not both.broken and list(found) == ["J", "K", "heuristic (cues)"]
    assert rated(run, profile) == {"J": ROWS, "K": ROWS, "heuristic (cues)": ROWS}


@pytest.mark.parametrize("shared", ["server", "model"])
def test_judges_that_share_a_server_or_a_model_are_asked_one_after_the_other(run, serve, shared):
    order = []
    watch = lambda body: order.append((body["model"], body["messages"][0]["content"]))  # noqa: E731
    first, third = serve(watch), serve()
    second = first if shared == "server" else serve(watch)
    names = ("m", "n") if shared == "server" else ("m", "m")
    rubric = llm("K", second, model=names[1]).replace("kind: llm", "kind: llm, rubric: judge_paraphrased")
    profile = panel(llm("J", first, model=names[0]), rubric, llm("L", third))
    with Journal(run.journal) as journal:
        judge_panel(profile, run, journal)
    assert len(set(order)) == 2 and order == sorted(order, key=[order[0], order[-1]].index)
    assert len(order) == 2 * ASKED and set(rated(run, profile).values()) == {ROWS}


def test_a_judge_that_reaches_its_limit_of_cost_stops_no_other_and_the_next_run_asks_only_what_is_left(run, serve):
    dear, other = serve(), serve()

    def profile(limit):
        return panel(llm("J", dear, f", max_cost_usd: {limit}", "gpt-4o-mini"), llm("K", other))

    with Journal(run.journal) as journal, pytest.raises(EngineError, match="max_cost_usd"):
        judge_panel(profile(0.000001), run, journal)
    assert (len(dear.bodies), len(other.bodies)) == (0, ASKED)
    assert int(run.read("judgements", "K")["rating"].notna().sum()) == ROWS
    with Journal(run.journal) as journal:
        judge_panel(profile(1), run, journal)
    assert (len(dear.bodies), len(other.bodies)) == (ASKED, ASKED)


def test_ctrl_c_keeps_what_all_judges_were_told_and_the_next_run_asks_only_the_rest(run, serve):
    once = iter([True])

    def slow(_):
        if len(one.bodies) + len(two.bodies) >= 20 and next(once, False):
            os.kill(os.getpid(), signal.SIGINT)
        return 0.1

    one, two = serve(slow), serve(slow)
    profile = panel(llm("J", one), llm("K", two))
    with Journal(run.journal) as journal:
        with pytest.raises(KeyboardInterrupt):
            judge_panel(profile, run, journal)
        [[kept]] = journal.execute("SELECT count(*) FROM replies")
        asked = len(one.bodies), len(two.bodies)
        assert kept == sum(asked) < 2 * ASKED and min(asked) > 0
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
        judge_panel(profile, run, journal)
    assert (len(one.bodies), len(two.bodies)) == (ASKED, ASKED), "nothing was asked twice"
    assert rated(run, profile) == {"J": ROWS, "K": ROWS}
