"""Replies held to a JSON schema: where a server takes one, with a key of its own, and the journal says so."""

import json
import zlib

import pytest

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ModelConfig
from perg_utils.core.schema import Status
from perg_utils.dataset import preferences
from perg_utils.dataset import questions as curation
from perg_utils.engines import open as engines_open
from perg_utils.engines.api.completions import body
from perg_utils.engines.base import Decoding, EngineError, Reply, Request
from perg_utils.engines.journal import Journal
from perg_utils.engines.schemas import held
from perg_utils.inference import run as inference
from perg_utils.inference.plan import plan

SCHEMA = json.dumps({"type": "object"})
ASKED = [Request((("user", str(i)),), Decoding(8), schema=SCHEMA) for i in range(3)]


class Served:
    """Takes schemas, refuses them in a reply or with an error, or fails for another reason."""

    def __init__(self, mood="takes", kind="api"):
        self.identity, self.mood, self.asked = {"kind": kind, "model": "m"}, mood, []

    def generate(self, requests):
        for index, request in enumerate(requests):
            self.asked.append(request)
            if request.schema and self.mood == "error":
                raise EngineError("HTTP 400: unknown field response_format")
            if request.schema and self.mood == "refuses":
                yield index, Reply(None, Status.REJECTED, error="json_schema is not supported")
            elif self.mood == "broken":
                raise EngineError("no such model")
            else:
                yield index, Reply('{"response": "B."}')


@pytest.mark.parametrize(("mood", "with_schema"), [("takes", 3), ("refuses", 0), ("error", 0)])
def test_one_request_finds_out_whether_a_server_takes_schemas(tmp_path, mood, with_schema):
    engine = Served(mood)
    with Journal(tmp_path / "j.sqlite") as journal:
        requests = held(journal, engine, ASKED)
        assert len(engine.asked) == 1 and sum(r.schema is not None for r in requests) == with_schema
        assert all(reply.status == Status.OK for reply in journal.ask(engine, requests))


def test_an_engine_of_this_process_is_never_asked_with_a_schema_and_a_certain_one_without_a_trial(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        local, certain = Served(kind="transformers"), Served()
        assert [r.schema for r in held(journal, local, ASKED)] == [None] * 3 and local.asked == []
        assert held(journal, certain, ASKED, certain=True) == ASKED and certain.asked == []
        with pytest.raises(EngineError, match="no such model"):
            held(journal, Served("broken"), ASKED)


def test_a_schema_has_a_key_of_its_own_is_sent_and_stands_in_the_journal(tmp_path):
    plain = Request(ASKED[0].messages, ASKED[0].decoding)
    assert plain.key({}) != ASKED[0].key({}) and plain.key({}) != Request(plain.messages, plain.decoding, 1).key({})
    config = ModelConfig(name="m", engine="api", model="m", base_url="http://x/v1")
    assert "response_format" not in body(config, plain, "http://x/v1")
    sent = body(config, ASKED[0], "http://x/v1")["response_format"]
    assert sent["json_schema"]["schema"] == {"type": "object"} and sent["json_schema"]["strict"]
    with Journal(tmp_path / "j.sqlite") as journal:
        journal.ask(Served(), [ASKED[0]])
        [[blob]] = journal.execute("SELECT messages FROM replies")
    assert json.loads(zlib.decompress(blob)) == [["user", "0"], ["response_format", SCHEMA]]


def study(tmp_path, monkeypatch, mood, more=""):
    engine = Served(mood)
    monkeypatch.setattr(engines_open, "open_engine", lambda model, fetch=True: engine)
    model = f"{{name: S, engine: api, model: s, base_url: 'http://x/v1'{more}}}"
    profile = load_profile(
        "demo", ["data.limit=2", "prompts=paper_like", f"models=[{model}]", "grid={relevant: [pref_aligner]}"]
    )
    from perg_utils.core.workspace import Workspace

    workspace, bank = Workspace.of(tmp_path, "demo"), preferences.load_bank()
    workspace.write("preferences", bank)
    workspace.write("examples", preferences.assign(curation.load_examples(profile.data, profile.seed), bank))
    return engine, profile, workspace


@pytest.mark.parametrize("mood", ["takes", "refuses"])
def test_second_stages_are_held_to_the_schema_of_their_reply_and_first_ones_are_not(tmp_path, monkeypatch, mood):
    engine, profile, workspace = study(tmp_path, monkeypatch, mood)
    responses = inference.run(profile, "S", workspace)
    second = [r for r in engine.asked if "An answer:" in r.messages[-1][1]]
    schemas = [json.loads(r.schema) for r in second if r.schema]
    assert all(r.schema is None for r in engine.asked if r not in second)
    assert len(schemas) == (len({r.messages for r in second}) if mood == "takes" else 1) > 0
    # The order of the keys is that of the prompt: here the response first.
    assert list(schemas[0]["properties"]) == ["response", "thoughts"]
    assert (responses["status"] == "ok").all() and not responses["fallback"].any()
    planned = plan(profile, "S", workspace)
    assert planned.answered == planned.requests > 6


@pytest.mark.parametrize("more", [", structured: false", ", thinking: true"])
def test_where_it_is_not_wanted_or_would_forbid_thinking_no_schema_is_sent(tmp_path, monkeypatch, more):
    engine, profile, workspace = study(tmp_path, monkeypatch, "takes", more)
    inference.run(profile, "S", workspace)
    assert engine.asked and all(r.schema is None for r in engine.asked)
