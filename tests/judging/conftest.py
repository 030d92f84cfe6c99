"""Fixtures of the tests of judging: the tables of one question, a run of them, and servers that rate."""

import threading

import pandas as pd
import pytest
from judged import GOLD, PLAIN, Server

from perg_utils.core.loading import load_profile
from perg_utils.core.schema import TABLES
from perg_utils.core.workspace import Workspace
from perg_utils.judging.rating import judge


@pytest.fixture
def tables():
    rows = [
        # example, preference, method, setting, response, status
        ("TQA-1", None, "no_preference", "none", PLAIN, "ok"),
        ("TQA-1", "clarity-1", "zero_shot", "relevant", "In short, salt (B).", "ok"),
        ("TQA-1", "clarity-1", "zero_shot", "mixed", "The answer is salt (B).", "ok"),
        ("TQA-1", None, "zero_shot", "irrelevant", "In short, salt (B).", "ok"),
        ("TQA-1", None, "zero_shot", "placebo", "The answer is salt (B).", "ok"),
        ("TQA-1", "clarity-1", "cot", "relevant", None, "api_error"),
    ]
    names = ["example_id", "preference_id", "method", "setting", "response", "status"]
    responses = pd.DataFrame(rows, columns=names).assign(model="S")
    for name in TABLES["responses"]:
        if name not in responses:
            responses[name] = [[] for _ in rows] if name in {"shown_preferences", "stages"} else None
    examples = pd.DataFrame(
        [("TQA-1", "TQA", None, "What does Oro sell?", ["iron", "salt", "wool"], GOLD, "clarity-1")],
        columns=list(TABLES["examples"]),
    )
    preferences = pd.DataFrame(
        [("clarity-1", "Keep it short.", "Clarity", True, ["TQA"])], columns=list(TABLES["preferences"])
    )
    return responses, examples, preferences


@pytest.fixture
def run(tables, tmp_path):
    workspace = Workspace(tmp_path / "run", tmp_path / "figures")
    for name, table in zip(("responses", "examples", "preferences"), tables, strict=True):
        workspace.write(name, table)
    workspace.write("judgements", judge(load_profile("demo"), *tables))
    return workspace


@pytest.fixture
def serve():
    servers = []

    def start(schema):
        servers.append(Server(schema))
        threading.Thread(target=servers[-1].serve_forever, daemon=True).start()
        return servers[-1]

    yield start
    for server in servers:
        server.shutdown()
        server.server_close()
