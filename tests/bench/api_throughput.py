"""Rows a second and CPU time a row of the API engine, beside a raw aiohttp client, the openai client and a plain loop.

    python tests/bench/api_throughput.py [--rows 1500] [--rounds 3] [--connections 64 128]

The server answers after 300 +- 100 ms, in a process of its own (on a core of its own, where that can be had). All
clients are measured in turn, round after round, on the same requests; medians are shown. `limit` is what the latency
allows: connections / 0.3 s. The engine is measured as a study uses it, with a journal on disk.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import faulty_server  # noqa: E402

from perg_utils.core.profile import ModelConfig  # noqa: E402
from perg_utils.engines.api.completions import body  # noqa: E402
from perg_utils.engines.api.engine import ApiEngine  # noqa: E402
from perg_utils.engines.base import Decoding, Request  # noqa: E402
from perg_utils.engines.journal import Journal  # noqa: E402

LATENCY, SPREAD = 0.3, 0.1
SEQUENTIAL_ROWS = 20
SYSTEM = "Answer the question. Name the letter of one option. " * 4


def requests(rows: int, salt: object) -> list[Request]:
    """Requests of the study's usual length, about 1,000 characters."""
    return [
        Request((("system", SYSTEM), ("user", f"{salt}-{row} " + "which of the options " * 40)), Decoding(500))
        for row in range(rows)
    ]


def config(url: str, connections: int) -> ModelConfig:
    return ModelConfig(name="bench", engine="api", model="m", base_url=url, concurrency=connections)


def ours(url: str, connections: int, asked: list[Request]) -> list[str | None]:
    with tempfile.TemporaryDirectory() as folder, Journal(Path(folder) / "journal.sqlite") as journal:
        return [reply.text for reply in journal.ask(ApiEngine(config(url, connections)), asked)]


async def pooled(connections: int, bodies: list[dict], post: Callable) -> list[str | None]:
    """Keep `connections` requests going; the least that any client must do."""
    texts: list[str | None] = [None] * len(bodies)
    todo = iter(enumerate(bodies))

    async def work() -> None:
        for index, sent in todo:
            texts[index] = await post(sent)

    await asyncio.gather(*(work() for _ in range(connections)))
    return texts


def raw(url: str, connections: int, asked: list[Request]) -> list[str | None]:
    async def run() -> list[str | None]:
        bodies = [body(config(url, connections), request, url) for request in asked]
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def post(sent: dict) -> str | None:
                async with session.post(f"{url}/chat/completions", json=sent) as answer:
                    return json.loads(await answer.read())["choices"][0]["message"]["content"]

            return await pooled(connections, bodies, post)

    return asyncio.run(run())


def official(transport: str) -> Callable[[str, int, list[Request]], list[str | None]]:
    def run(url: str, connections: int, asked: list[Request]) -> list[str | None]:
        import openai

        http = {"aiohttp": openai.DefaultAioHttpClient, "httpx": openai.DefaultAsyncHttpxClient}[transport]

        async def main() -> list[str | None]:
            bodies = [body(config(url, connections), request, url) for request in asked]
            limits = {} if transport == "aiohttp" else {"trust_env": False}
            async with openai.AsyncOpenAI(base_url=url, api_key="x", http_client=http(**limits)) as client:

                async def post(sent: dict) -> str | None:
                    return (await client.chat.completions.create(**sent)).choices[0].message.content

                return await pooled(connections, bodies, post)

        return asyncio.run(main())

    return run


CLIENTS: dict[str, Callable[[str, int, list[Request]], list[str | None]]] = {
    "raw aiohttp (baseline)": raw,
    "perg_utils, with journal": ours,
    "openai client, aiohttp": official("aiohttp"),
    "openai client, httpx": official("httpx"),
    "one at a time": lambda url, _, asked: raw(url, 1, asked[:SEQUENTIAL_ROWS]),
}


def measure(run: Callable, url: str, connections: int, asked: list[Request]) -> tuple[float, float]:
    """Rows a second and CPU milliseconds a row; every text must be the right one."""
    wall, cpu = time.perf_counter(), time.process_time()
    texts = run(url, connections, asked)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    right = [faulty_server.correct(request.messages[-1][1]) for request in asked[: len(texts)]]
    assert texts == right, "a client lost or mixed up replies"
    return len(texts) / wall, 1000 * cpu / len(texts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=1500)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--connections", type=int, nargs="+", default=[64, 128])
    options = parser.parse_args()
    with faulty_server.running(latency=LATENCY, spread=SPREAD) as url:
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before; {options.rows} rows, median of rounds")
        for connections in options.connections:
            found: dict[str, list[tuple[float, float]]] = {name: [] for name in CLIENTS}
            for turn in range(options.rounds):
                for name, run in CLIENTS.items():
                    asked = requests(options.rows, f"{connections}-{turn}-{name}")
                    found[name].append(measure(run, url, connections, asked))
            print(f"\n{connections} connections: limit {connections / LATENCY:.0f} rows/s")
            print(f"{'client':26s} {'rows/s':>7s} {'of raw':>7s} {'of limit':>8s} {'CPU ms/row':>10s}   all rounds")
            base = statistics.median(rate for rate, _ in found["raw aiohttp (baseline)"])
            for name, rounds in found.items():
                rate, cpu = (statistics.median(values) for values in zip(*rounds, strict=True))
                every = " ".join(f"{value:.0f}" for value, _ in rounds)
                of_limit = rate * LATENCY / connections
                print(f"{name:26s} {rate:7.1f} {rate / base:7.1%} {of_limit:8.1%} {cpu:10.2f}   {every}", flush=True)


if __name__ == "__main__":
    main()
