"""What the tests of judging share: cases, a scripted engine, a server that rates by the number of words, a study."""

import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pandas as pd

from perg_utils.core.loading import load_profile
from perg_utils.core.schema import TABLES, Category
from perg_utils.engines.base import Reply
from perg_utils.judging.rubric import Case
from perg_utils.prompts.sets import load_prompts

STYLED = {
    Category.CLARITY: "In short, salt (B).",
    Category.CONTEXT: "For background, the river town of Oro traded in it. So we say salt (B).",
    Category.THINKING: "First, we think of Oro. Then, we weigh iron against salt. Thus it must be salt (B).",
    Category.EXAMPLES: "For example, the town of Ulm sells wool. Here we choose salt (B).",
    Category.CREATIVE: "Imagine Oro in a song, bright like a lantern. Its chorus sings salt (B).",
}
PLAIN = "The answer is salt (B)."


STANDARD = load_prompts("standard")


def case(category, response, without=PLAIN):
    return Case("What does Oro sell?", ("iron", "salt"), "a wish", category, without, response)


class Scripted:
    """An engine that replies from a script and remembers what it was sent."""

    def __init__(self, reply='{"explanation": "fine", "rating": 4}'):
        self.identity = {"kind": "scripted", "model": "judge-1"}
        self.sent, self.reply = [], reply

    def generate(self, requests):
        for index, request in enumerate(requests):
            self.sent.append(request)
            yield index, self.reply if isinstance(self.reply, Reply) else Reply(self.reply)


GOLD = "C"


def profile_with(tmp_path, monkeypatch, engine):
    monkeypatch.setattr("perg_utils.engines.open.open_engine", lambda model: engine)
    return load_profile(
        "demo",
        ["judge.kind=llm", "judge.model={name: J, engine: api, model: judge-1}", "prompts=standard"],
    )


PANEL = [
    "prompts=standard",
    "judges=[{kind: cues}, {kind: llm, model: {name: J, engine: api, model: judge-1}}, "
    "{kind: llm, name: J-swapped, rubric: judge_swapped, model: {name: J, engine: api, model: judge-1}}]",
]


class Server(ThreadingHTTPServer):
    """A server of OpenAI's protocol that rates by the number of words; `schema`: takes, refuses or names no schema."""

    def __init__(self, schema):
        super().__init__(("127.0.0.1", 0), Handler)
        self.schema, self.bodies = schema, []
        self.url = f"http://127.0.0.1:{self.server_port}/v1"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.bodies.append(body)
        status, answer = 200, {"choices": [{"finish_reason": "stop", "message": {"content": self.rate(body)}}]}
        if "response_format" in body and self.server.schema != "takes":
            codes = {"refuses": "unknown_parameter", "vague": None}
            error = {"message": "'response_format' of type json_schema is not here", "code": codes[self.server.schema]}
            status, answer = 400, {"error": error}
        data = json.dumps(answer).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def rate(self, body):
        label = r"(?:to rate|to be graded|The answer):\n<<<\n(.*?)\n>>>"
        rated = re.findall(label, body["messages"][-1]["content"], re.S)[0]
        reply = {"explanation": "by words", "rating": min(5, len(rated.split()))}
        return json.dumps(reply) if "response_format" in body else f"Well:\n```json\n{json.dumps(reply)}\n```"

    def log_message(self, *_):
        pass


def served(server, *more):
    model = f"{{name: J, engine: api, model: m, base_url: '{server.url}'}}"
    return load_profile("demo", ["judge.kind=llm", f"judge.model={model}", "prompts=standard", *more])


def study(questions, model="S"):
    """Tables of one model with as many questions, each asked without and with one of 35 preferences, all different."""
    ids = [f"q{number}" for number in range(questions)]
    wishes = [f"wish-{number % 35}" for number in range(questions)]
    plain = pd.DataFrame({"example_id": ids, "method": "no_preference", "setting": "none"})
    rated = pd.DataFrame({"example_id": ids, "preference_id": wishes, "method": "zero_shot", "setting": "relevant"})
    responses = pd.concat([plain, rated], ignore_index=True).assign(model=model, status="ok")
    responses["response"] = responses["example_id"] + " is answered, " + responses["method"]
    responses = whole("responses", responses)
    examples = pd.DataFrame({"example_id": ids, "source": "MMLU", "question": "Which?", "gold": GOLD})
    examples["options"] = [["iron", "salt", "wool"]] * questions
    bank = pd.DataFrame({"preference_id": sorted(set(wishes)), "category": "Clarity", "relevant": True})
    bank["text"], bank["sources"] = "Keep to " + bank["preference_id"], [["MMLU"]] * len(bank)
    return responses, whole("examples", examples), bank


def whole(name, table):
    """The table with all of its columns, empty where it had none."""
    for column in TABLES[name]:
        if column not in table:
            table[column] = [[] for _ in range(len(table))] if column in {"shown_preferences", "stages"} else None
    return table
