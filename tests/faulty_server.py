"""An OpenAI-compatible server that misbehaves on purpose, in a process of its own, for tests and benchmarks.

    python tests/faulty_server.py --latency 0.3 --spread 0.1 --faults '{"429": 0.05, "hang": 0.01}'

prints its address and serves `/v1/chat/completions`, `/v1/files`, `/v1/batches` and `/stats` until it is killed.
What becomes of a request follows from its prompt, from how often it was asked before, and from the seed: the same in
every run. `reject` holds for good, all other faults for one attempt. `correct(prompt)` is the only right answer.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator

import psutil
from aiohttp import web

#: The mix of the benchmark: shares of all attempts, `reject` of all prompts.
MIX = {"429": 0.05, "500": 0.02, "null": 0.01, "reset": 0.01, "hang": 0.01, "reject": 0.005}


def correct(prompt: str) -> str:
    """Return the answer that belongs to a prompt and to no other."""
    return f"The answer to {hashlib.sha256(prompt.encode()).hexdigest()[:12]} is B."


def share(*parts: object) -> float:
    """Return a number in [0, 1) that depends on the parts alone."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big") / 256**7


def fault(prompt: str, nth: int, faults: dict[str, float], seed: int) -> str:
    """Return what happens to the nth attempt (from 0) at a prompt: a key of `faults`, or `ok`."""
    if share(seed, prompt, "reject") < faults.get("reject", 0):
        return "reject"
    at = share(seed, prompt, nth)
    for kind, rate in faults.items():
        if kind != "reject":
            if at < rate:
                return kind
            at -= rate
    return "ok"


class Faulty:
    """The server's state and handlers."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options, self.faults = options, json.loads(options.faults)
        self.random = random.Random(options.seed)
        self.attempts: Counter[str] = Counter()
        self.kinds: Counter[str] = Counter()
        self.authorization = ""
        self.active = self.most = self.prompt_tokens = self.completion_tokens = 0
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict] = {}
        self.log = open(options.log, "a", encoding="utf-8") if options.log else None  # noqa: SIM115 - for life

    def app(self) -> web.Application:
        app = web.Application(client_max_size=2**30)
        app.router.add_post("/v1/chat/completions", self.chat)
        app.router.add_get("/v1/models", self.models)
        app.router.add_post("/v1/files", self.upload)
        app.router.add_get("/v1/files/{id}/content", self.content)
        app.router.add_post("/v1/batches", self.submit)
        app.router.add_get("/v1/batches", self.list)
        app.router.add_get("/v1/batches/{id}", self.batch)
        app.router.add_get("/stats", self.stats)
        return app

    def note(self, event: str, prompt: str) -> None:
        """One line an event, at once: what was sent and answered must be known even if the client is killed."""
        if self.log:
            self.log.write(f"{event} {hashlib.sha256(prompt.encode()).hexdigest()}\n")
            self.log.flush()

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self.active += 1
        self.most = max(self.most, self.active)
        try:
            return await self._chat(request)
        finally:
            self.active -= 1

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = json.loads(await request.read())
        prompt = body["messages"][-1]["content"]
        nth = self.attempts[prompt]
        self.attempts[prompt] += 1
        self.note("sent", prompt)
        kind = fault(prompt, nth, self.faults, self.options.seed)
        if self.options.deadly and self.options.deadly in prompt:
            kill_client(request)
        if self.options.broken and self.options.broken in prompt:
            kind = "500"
        self.authorization = request.headers.get("Authorization", "")
        if self.options.capacity and self.active > self.options.capacity:
            kind = "429"
        self.kinds[kind] += 1
        if kind == "429":
            error = {"message": "Rate limit reached for requests", "type": "requests", "code": "rate_limit_exceeded"}
            return web.json_response({"error": error}, status=429, headers={"Retry-After": self.options.retry_after})
        await asyncio.sleep(max(0.0, self.random.gauss(self.options.latency, self.options.spread)))
        if kind == "hang":
            await asyncio.sleep(self.options.hang)
        if kind == "reset":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        status, answer = self.answer(prompt, kind)
        return web.json_response(answer, status=status)

    def answer(self, prompt: str, kind: str) -> tuple[int, dict]:
        """Status and body of one reply."""
        if kind == "500":
            return 500, {"error": {"message": "The server had an error", "type": "server_error", "code": None}}
        if kind == "reject":
            told = f" ({self.authorization})" if self.options.tell_key else ""
            message = f"The response was filtered by the content management policy{told}"
            error = {"message": message, "code": "content_filter"}
            return 400, {"error": {**error, "type": None, "param": "prompt"}}
        content = None if kind == "null" else self.options.reply or correct(prompt)
        if self.options.tell_key and content:
            content += f" You are {self.authorization}."
        message = {"role": "assistant", "content": content, "refusal": None}
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": 12}
        self.prompt_tokens += usage["prompt_tokens"]
        self.completion_tokens += usage["completion_tokens"]
        self.note("answered", prompt)
        return 200, {
            "id": "chatcmpl-x",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": "m",
            "choices": [{"index": 0, "finish_reason": "stop", "message": message, "logprobs": None}],
            "usage": {**usage, "total_tokens": sum(usage.values())},
        }

    async def models(self, _: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "m", "object": "model"}]})

    async def stats(self, _: web.Request) -> web.Response:
        found = {"kinds": self.kinds, "most": self.most, "prompts": len(self.attempts), "batches": len(self.batches)}
        tokens = {"prompt_tokens": self.prompt_tokens, "completion_tokens": self.completion_tokens}
        return web.json_response({**found, **tokens, "sent": self.attempts.total()})

    # Batch API: files, batches

    async def upload(self, request: web.Request) -> web.Response:
        form = await request.post()
        assert form["purpose"] == "batch"
        name = f"file-{len(self.files)}"
        self.files[name] = form["file"].file.read()
        return web.json_response({"id": name, "object": "file", "purpose": "batch", "bytes": len(self.files[name])})

    async def content(self, request: web.Request) -> web.Response:
        return web.Response(body=self.files[request.match_info["id"]])

    async def submit(self, request: web.Request) -> web.Response:
        asked = await request.json()
        lines = [json.loads(line) for line in self.files[asked["input_file_id"]].splitlines()]
        number = len(self.batches)
        batch = {
            "id": f"batch_{number}",
            "object": "batch",
            "status": "in_progress",
            "created_at": int(time.time()),
            "output_file_id": None,
            "error_file_id": None,
            "errors": None,
            "request_counts": {"total": len(lines), "completed": 0, "failed": 0},
            **{key: asked.get(key) for key in ("endpoint", "completion_window", "input_file_id", "metadata")},
        }
        if self.options.batch_refuses > number:
            error = {"code": "token_limit_exceeded", "message": "Enqueued token limit reached", "line": None}
            batch |= {"status": "failed", "errors": {"object": "list", "data": [error]}}
        self.batches[batch["id"]] = batch
        if batch["status"] == "in_progress":
            batch["task"] = asyncio.create_task(self.work(batch, lines))
        return web.json_response(_shown(batch))

    async def work(self, batch: dict, lines: list[dict]) -> None:
        await asyncio.sleep(self.options.batch_seconds)
        good, bad, expired = [], [], False
        for line in lines:
            prompt = line["body"]["messages"][-1]["content"]
            nth = self.attempts[prompt]
            self.attempts[prompt] += 1
            kind = fault(prompt, nth, self.faults, self.options.seed)
            self.kinds[f"batch {kind}"] += 1
            if kind == "expire":
                expired = True
                error = {"code": "batch_expired", "message": "not executed before the completion window expired"}
                bad.append({"id": "r", "custom_id": line["custom_id"], "response": None, "error": error})
                continue
            status, answer = self.answer(prompt, kind)
            response = {"status_code": status, "request_id": "r", "body": answer}
            row = {"id": "r", "custom_id": line["custom_id"], "response": response, "error": None}
            (good if status == 200 else bad).append(row)
        random.Random(self.options.seed).shuffle(good)  # the order of the output is not that of the input
        for rows, name in ((good, "output_file_id"), (bad, "error_file_id")):
            if rows:
                batch[name] = f"{batch['id']}-{name}"
                self.files[batch[name]] = "\n".join(map(json.dumps, rows)).encode() + b"\n"
        batch["request_counts"] |= {"completed": len(good), "failed": len(bad)}
        batch["status"] = "expired" if expired else "completed"

    async def batch(self, request: web.Request) -> web.Response:
        return web.json_response(_shown(self.batches[request.match_info["id"]]))

    async def list(self, request: web.Request) -> web.Response:
        """Newest first, a page of at most two: clients must turn pages."""
        names = list(self.batches)[::-1]
        start = names.index(request.query["after"]) + 1 if "after" in request.query else 0
        page = names[start : start + 2]
        more = start + 2 < len(names)
        found = {"object": "list", "data": [_shown(self.batches[name]) for name in page], "has_more": more}
        return web.json_response(found | {"first_id": page[0] if page else None, "last_id": page[-1] if page else None})


def kill_client(request: web.Request) -> None:
    """Kill -9 the process that asks, on this machine: a request that no client survives."""
    assert request.transport is not None
    port, own = (request.transport.get_extra_info(end)[1] for end in ("peername", "sockname"))
    for connection in psutil.net_connections("tcp"):
        # Both ends: another process may have the same port in a connection to somewhere else.
        ours = connection.laddr.port == port and bool(connection.raddr) and connection.raddr.port == own
        if ours and connection.pid not in (None, os.getpid()):
            os.kill(connection.pid, signal.SIGKILL)


def _shown(batch: dict) -> dict:
    return {key: value for key, value in batch.items() if key != "task"}


@contextlib.contextmanager
def running(**options: object) -> Iterator[str]:
    """Run the server in another process and give its base URL, e.g. `with running(latency=0.3) as url:`."""
    words = [
        f"--{key.replace('_', '-')}={json.dumps(value) if key == 'faults' else value}" for key, value in options.items()
    ]
    process = subprocess.Popen([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        yield process.stdout.readline().strip()
    finally:
        process.kill()
        process.wait()


def stats(url: str) -> dict:
    """Return the counts of a running server."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(url.removesuffix("/v1") + "/stats", timeout=30) as answer:
        return json.load(answer)


async def serve(options: argparse.Namespace) -> None:
    runner = web.AppRunner(Faulty(options).app(), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", options.port, backlog=1024)
    await site.start()
    port = runner.addresses[0][1]
    print(f"http://127.0.0.1:{port}/v1", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--latency", type=float, default=0.0, help="mean seconds")
    parser.add_argument("--spread", type=float, default=0.0, help="standard deviation, seconds")
    parser.add_argument("--faults", default="{}", help='JSON, e.g. {"429": 0.05}')
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--hang", type=float, default=60.0, help="seconds that a `hang` takes")
    parser.add_argument("--retry-after", default="1")
    parser.add_argument("--capacity", type=int, default=0, help="more requests at a time get 429")
    parser.add_argument("--batch-seconds", type=float, default=0.2)
    parser.add_argument("--batch-refuses", type=int, default=0, help="the first so many batches fail")
    parser.add_argument("--tell-key", type=int, default=0, help="1: repeat the key in answers and errors")
    parser.add_argument("--reply", default="", help="what every answer says, in place of the right one")
    parser.add_argument("--deadly", default="", help="who sends a prompt with this in it is killed")
    parser.add_argument("--broken", default="", help="a prompt with this in it is answered with 500, always")
    parser.add_argument("--log", help="append a line for each request and each answer")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(serve(parser.parse_args()))


if __name__ == "__main__":
    main()
