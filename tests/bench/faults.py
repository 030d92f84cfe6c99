"""The API engine under faults, and killed: what it loses, what it repeats, what it takes, beside a client without care.

    python tests/bench/faults.py [--rows 7208] [--connections 64] [--kills 5]

Faults: 5 % of the attempts get 429 (Retry-After: 1 s), 2 % a 500, 1 % null content, 1 % a connection reset, 1 % hang
for 60 s, and 0.5 % of the prompts a permanent 400; the server answers after 300 +- 100 ms. Then the engine's process is
killed (`kill -9`) at random moments of a run without faults and started again until it is through.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import aiohttp

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/bench")]

import faulty_server  # noqa: E402
from api_throughput import LATENCY, SPREAD, config, pooled, requests  # noqa: E402
from faulty_server import MIX, correct, fault  # noqa: E402

from perg_utils.engines.api.completions import body  # noqa: E402
from perg_utils.engines.api.engine import ApiEngine  # noqa: E402
from perg_utils.engines.base import Reply, Request  # noqa: E402
from perg_utils.engines.journal import Journal  # noqa: E402


def ours(url: str, connections: int, asked: list[Request], journal: Path) -> list[Reply]:
    with Journal(journal) as opened:
        return opened.ask(ApiEngine(config(url, connections)), asked)


def careless(url: str, connections: int, asked: list[Request]) -> list[str | None]:
    """What a client gets that asks once and stores what comes; None where it got an error."""

    async def run() -> list[str | None]:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def post(sent: dict) -> str | None:
                try:
                    async with session.post(f"{url}/chat/completions", json=sent) as answer:
                        return (await answer.json())["choices"][0]["message"]["content"] or "(null stored)"
                except (aiohttp.ClientError, KeyError):
                    return None

            return await pooled(connections, [body(config(url, connections), r, url) for r in asked], post)

    return asyncio.run(run())


def under_faults(rows: int, connections: int, folder: Path) -> None:
    print(f"{rows:,} rows, {connections} connections, faults {json.dumps(MIX)}")
    print(
        f"{'client':22s} {'seconds':>8s} {'right':>6s} {'rejected':>8s} {'lost':>5s} {'wrong kept':>10s} {'sent':>6s}"
    )
    asked = requests(rows, "faults")
    prompts = [request.messages[-1][1] for request in asked]
    refused = sum(fault(prompt, 0, MIX, 1) == "reject" for prompt in prompts)

    def line(name: str, seconds: float, texts: list[str | None], rejected: int, sent: int) -> None:
        right = sum(text == correct(prompt) for text, prompt in zip(texts, prompts, strict=True))
        wrong = sum(text is not None for text in texts) - right
        lost = rows - right - wrong - rejected
        print(f"{name:22s} {seconds:8.1f} {right:6d} {rejected:8d} {lost:5d} {wrong:10d} {sent:6d}", flush=True)

    start = time.perf_counter()
    with faulty_server.running(latency=LATENCY, spread=SPREAD) as url:
        texts = [reply.text for reply in ours(url, connections, asked, folder / "clean.sqlite")]
        line("ours, no faults", time.perf_counter() - start, texts, 0, faulty_server.stats(url)["sent"])
    with faulty_server.running(latency=LATENCY, spread=SPREAD, faults=MIX) as url:
        start = time.perf_counter()
        replies = ours(url, connections, asked, folder / "faults.sqlite")
        seconds, sent = time.perf_counter() - start, faulty_server.stats(url)["sent"]
        statuses = Counter(str(reply.status) for reply in replies)
        line("ours, faults", seconds, [reply.text for reply in replies], statuses["rejected"], sent)
        start = time.perf_counter()
        again = ours(url, connections, asked, folder / "faults.sqlite")
        seconds, more = time.perf_counter() - start, faulty_server.stats(url)["sent"] - sent
        line("ours, run again", seconds, [reply.text for reply in again], statuses["rejected"], more)
    with faulty_server.running(latency=LATENCY, spread=SPREAD, faults=MIX) as url:
        start = time.perf_counter()
        texts = careless(url, connections, asked)
        line("asking once, no care", time.perf_counter() - start, texts, 0, faulty_server.stats(url)["sent"])
    print(f"answerable: {rows - refused:,}; refused for good: {refused}; statuses of ours: {dict(statuses)}")


def killed(rows: int, connections: int, kills: int, folder: Path) -> None:
    """Kill the engine's process at random moments; count what the server was sent more than once."""
    journal, log = folder / "killed.sqlite", folder / "server.log"
    with faulty_server.running(latency=LATENCY, spread=SPREAD, log=str(log)) as url:
        words = [sys.executable, __file__, "--child", url, str(journal)]
        words += ["--rows", str(rows), "--connections", str(connections)]
        chance, repeated = random.Random(1), []
        for turn in range(kills + 1):
            child = subprocess.Popen(words, stdout=subprocess.DEVNULL)
            if turn < kills:
                deadline = time.monotonic() + 30
                before = faulty_server.stats(url)["sent"]
                while faulty_server.stats(url)["sent"] < before + 2 * connections and time.monotonic() < deadline:
                    time.sleep(0.05)
                time.sleep(chance.uniform(0, 1))
                child.send_signal(signal.SIGKILL)
            child.wait()
            sent = Counter(row.split()[1] for row in log.read_text().splitlines() if row.startswith("sent"))
            repeated.append(sent.total() - len(sent))
        stats = faulty_server.stats(url)
    each = [after - before for before, after in zip([0, *repeated], repeated, strict=False)][1:]
    print(f"\nkill -9, {kills} times in {rows:,} rows at {connections} connections: {stats['sent']:,} requests sent")
    print(f"sent again after each kill: {each} (in flight at most {connections}); child's last exit {child.returncode}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, default=7208)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--kills", type=int, default=5)
    parser.add_argument("--child", nargs=2, metavar=("URL", "JOURNAL"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        ours(options.child[0], options.connections, requests(options.rows, "killed"), Path(options.child[1]))
        return
    with tempfile.TemporaryDirectory() as folder:
        under_faults(options.rows, options.connections, Path(folder))
        killed(min(options.rows, 3000), options.connections, options.kills, Path(folder))


if __name__ == "__main__":
    main()
