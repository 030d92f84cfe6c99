"""The cluster's engine: overhead and scaling on Ray, what faults cost, and how far one dispatcher carries.

    python tests/bench/cluster.py scaling [--rows 7208] [--workers 1 2 4 8]     rows/s against one process without Ray
    python tests/bench/cluster.py faults [--rows 1500]                          kills of worker, node, driver; a hang
    python tests/bench/cluster.py dispatcher [--units 1000 10000 100000]        units/s and memory, simulated replicas

The server answers after 300 +- 100 ms; in `scaling` with the faults of `faults.py` (429, 500, null content, resets,
hangs, refusals). Replicas are started before the clock is. Ray and its second node are started here and stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/bench")]

import faulty_server  # noqa: E402
from api_throughput import LATENCY, SPREAD, requests  # noqa: E402
from faulty_server import MIX, correct, fault  # noqa: E402

from perg_utils.core.errors import PergError  # noqa: E402
from perg_utils.core.profile import ModelConfig  # noqa: E402
from perg_utils.engines.api.engine import ApiEngine  # noqa: E402
from perg_utils.engines.base import Request  # noqa: E402
from perg_utils.engines.cluster.connection import VARIABLE, running  # noqa: E402
from perg_utils.engines.cluster.dispatcher import Dispatcher  # noqa: E402
from perg_utils.engines.cluster.standing import Timing  # noqa: E402
from perg_utils.engines.cluster.units import Pool, Unit  # noqa: E402
from perg_utils.engines.journal import Journal  # noqa: E402
from perg_utils.engines.open import open_engine  # noqa: E402

CONNECTIONS = 16


def config(url: str, workers: int, unit: int | None = None, cpus: float = 0.01) -> ModelConfig:
    replica = {"most": workers, "unit": unit, "cpus": cpus}
    return ModelConfig(name="bench", engine="api", model="m", base_url=url, concurrency=CONNECTIONS, replica=replica)


def sent(url: str) -> int:
    return faulty_server.stats(url)["sent"]


def right(replies: list, asked: list[Request]) -> int:
    return sum(reply.text == correct(request.messages[-1][1]) for reply, request in zip(replies, asked, strict=True))


def scaling(rows: int, workers: list[int], folder: Path) -> None:
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {rows} rows, {CONNECTIONS} connections a worker, {MIX}"
    )
    print(f"{'':24s} {'rows/s':>7s} {'of one':>7s} {'scaling':>8s} {'right':>6s} {'sent':>6s}", flush=True)
    rates: dict[str, float] = {}

    def line(name: str, count: int, start: float, good: int, told: int) -> None:
        rates[name] = rate = rows / (time.perf_counter() - start)
        base, first = rates["one process, no Ray"], rates.get("1 workers", rate)
        print(
            f"{name:24s} {rate:7.1f} {rate / base:7.1%} {rate / first / count:8.1%} {good:6d} {told:6d}",
            flush=True,
        )

    with faulty_server.running(latency=LATENCY, spread=SPREAD, faults=MIX) as url:
        asked = requests(rows, "scaling")
        with Journal(folder / "plain.sqlite") as journal:
            start = time.perf_counter()
            replies = journal.ask(ApiEngine(config(url, 1)), asked)
            line("one process, no Ray", 1, start, right(replies, asked), sent(url))
    print(f"answerable: {sum(fault(r.messages[-1][1], 0, MIX, 1) != 'reject' for r in asked)}", flush=True)
    for count in workers:
        # A new run for each number of workers, so that none are left from the one before.
        with running("local", f"bench-{count}", str(folder / f"blocks{count}"), cores=2) as cluster:
            os.environ[VARIABLE] = cluster.where.text()
            with faulty_server.running(latency=LATENCY, spread=SPREAD, faults=MIX) as url:
                engine = open_engine(config(url, count))
                with Journal(folder / f"{count}.sqlite") as journal:
                    turn = 0
                    while cluster.status()[:1] == [] or cluster.status()[0]["replicas"] < count:
                        journal.ask(engine, requests(40 * count, f"warm-{count}-{turn}"))
                        turn += 1
                    before = sent(url)
                    start = time.perf_counter()
                    replies = journal.ask(engine, asked)
                    line(f"{count} workers", count, start, right(replies, asked), sent(url) - before)
            del os.environ[VARIABLE]


# faults


ENVIRONMENT = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}


@contextmanager
def head():
    """Ray with one node of two cores on this machine; gives its address."""
    words = ["ray", "start", "--head", "--port=6411", "--include-dashboard=false", "--num-cpus=2"]
    stop = ["ray", "stop", "--force"]
    try:
        for _ in range(4):  # a busy machine: see `connection._started`
            done = subprocess.run([*words, *MORE], env=ENVIRONMENT, capture_output=True, text=True, check=False)
            if done.returncode == 0:
                break
            subprocess.run(stop, env=ENVIRONMENT, capture_output=True, check=False)
        told = next(word for word in raylets()[0].cmdline() if word.startswith("--gcs-address="))
        yield told.split("=", 1)[1]
    finally:
        subprocess.run(stop, env=ENVIRONMENT, capture_output=True, check=False)


MORE = ["--object-store-memory=100000000", "--disable-usage-stats"]


def second_node(address: str) -> psutil.Process | None:
    """One more node on this machine with two cores; None where it does not start."""
    before = {process.pid for process in raylets()}
    words = ["ray", "start", f"--address={address}", "--num-cpus=2", *MORE]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    new = [process for process in raylets() if process.pid not in before]
    if not new:
        print((done.stdout + done.stderr)[-600:])
    return new[0] if new else None


def raylets() -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if (p.info["cmdline"] or [""])[0].endswith("/raylet/raylet")]


def replicas() -> list[psutil.Process]:
    return [p for p in psutil.process_iter(["cmdline"]) if "RayReplica" in " ".join(p.info["cmdline"] or [])]


def child(options: argparse.Namespace) -> int:
    """A driver: joins the cluster and asks everything; its exit code is the run's."""
    address, url, folder, name = options.child
    try:
        with running(address, f"bench-{name}", str(Path(folder) / "blocks" / name)) as cluster:
            os.environ[VARIABLE] = cluster.where.text()
            with Journal(Path(folder) / f"{name}.sqlite") as journal:
                engine = open_engine(config(url, 2, 200, options.cpus).model_copy(update={"model": name}))
                replies = journal.ask(engine, requests(options.rows, name))
        return 0 if all(reply.text for reply in replies) else 2
    except PergError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


def faults(rows: int, folder: Path, nodes_only: bool) -> None:
    print(f"{rows} rows, two replicas of {CONNECTIONS} connections; in flight: at most {2 * CONNECTIONS}")
    print(f"{'fault':34s} {'seconds':>8s} {'exit':>5s} {'right':>6s} {'lost':>5s} {'sent again':>10s}", flush=True)

    def case(name: str, address: str, harm, cpus: int = 1) -> None:
        log, key = folder / f"{name}.log", "".join(filter(str.isalnum, name))[:12]
        with faulty_server.running(latency=LATENCY, spread=SPREAD, log=str(log)) as url:
            words = [
                sys.executable,
                __file__,
                "faults",
                "--rows",
                str(rows),
                "--cpus",
                str(cpus),
                "--child",
                address,
                url,
                str(folder),
                key,
            ]
            start = time.perf_counter()
            driver = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
            while sent(url) < rows // 3 and driver.poll() is None:
                time.sleep(0.1)
            codes = harm(driver, words) or []
            said = driver.communicate()[1]
            codes = [driver.returncode, *codes]
            if driver.returncode:
                print(f"  {said.strip().splitlines()[-1][:200] if said.strip() else ''}")
            seconds = time.perf_counter() - start
        counts = Counter(line.split()[1] for line in log.read_text().splitlines() if line.startswith("sent"))
        asked = requests(rows, key)
        with Journal(folder / f"{key}.sqlite") as journal:
            texts = {text for (text,) in journal.execute("SELECT text FROM replies WHERE status = 'ok'")}
        good = sum(correct(request.messages[-1][1]) in texts for request in asked)
        again = counts.total() - len(counts)
        print(
            f"{name:34s} {seconds:8.1f} {','.join(map(str, codes)):>5s} {good:6d} {rows - good:5d} {again:10d}",
            flush=True,
        )

    def kill_worker(driver, words):
        random.choice(replicas()).send_signal(signal.SIGKILL)

    def hang_worker(driver, words):
        random.choice(replicas()).send_signal(signal.SIGSTOP)

    def kill_driver(driver, words):
        driver.kill()
        driver.wait()
        again = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=False)
        return [again.returncode]

    def second_driver(driver, words):
        other = subprocess.run(words, stderr=subprocess.PIPE, text=True, check=False)
        print(f"  the second: {other.stderr.strip().splitlines()[-1][:150]}")
        return [other.returncode]

    late: list[psutil.Process] = []

    def join(driver, words):
        node = second_node(address)
        late.extend([] if node is None else [node])

    def kill_node(driver, words):
        late[0].send_signal(signal.SIGKILL)

    with head() as address:
        if not nodes_only:
            case("none", address, lambda *_: None)
            case("kill -9 of a worker", address, kill_worker)
            case("kill -STOP of a worker", address, hang_worker)
            case("kill -9 of the driver", address, kill_driver)
            case("two drivers at once", address, second_driver)
        case("a node joins late", address, join, cpus=2)  # the first node has room for one replica
        if late:
            case("kill -9 of a node", address, kill_node, cpus=2)


# one dispatcher, simulated replicas


class Simulated:
    """Replicas as coroutines that answer a unit in `seconds`."""

    def __init__(self, count: int, seconds: float) -> None:
        self.count, self.seconds = count, seconds
        self.dispatcher: Dispatcher | None = None
        self.tasks: dict[str, asyncio.Task] = {}

    def start(self, pool: Pool, name: str) -> None:
        self.tasks[name] = asyncio.ensure_future(self.work(name))

    async def work(self, name: str) -> None:
        assert self.dispatcher is not None
        while True:
            what, unit = await self.dispatcher.pull(name, 5.0)
            if what == "stop":
                return
            if unit is not None:
                await asyncio.sleep(self.seconds)
                positions = list(range(unit.size))
                told = {"block": f"p/{unit.id}.x", "positions": positions, "tokens": 1}
                await self.dispatcher.report(name, unit.id, "part", **told)
                await self.dispatcher.report(name, unit.id, "done")
                await self.dispatcher.beat(name, 1)

    async def ended(self, name: str) -> str:
        await self.tasks[name]
        return ""

    def kill(self, name: str) -> None:
        self.tasks[name].cancel()

    async def room(self) -> tuple[float, float]:
        return float(self.count), 0.0

    def left_behind(self, pool: str, unit: str, known: set[str]) -> list:
        return []


async def carry(units: int, count: int, size: int) -> tuple[float, float]:
    """Units a second and megabytes more for so many units through one dispatcher."""
    fleet = Simulated(count, 0.0)
    dispatcher = fleet.dispatcher = Dispatcher(fleet, Timing(tick=0.2))
    pool = Pool({"kind": "transformers"}, ModelConfig(name="m", model="m", replica={"unit": size}))
    before = psutil.Process().memory_info().rss
    peak = before
    await dispatcher.open("c", pool)
    start, sent, done = time.perf_counter(), 0, 0
    while done < units:
        few = min(units - sent, 3 * (count + 1) - (sent - done))
        await dispatcher.submit([Unit(f"{sent + i:x}", "c", size, None) for i in range(few)], (units - sent) * size)
        sent += max(few, 0)
        events, _, _ = await dispatcher.events("c", 1.0)
        done += sum(event[0] == "done" for event in events)
        peak = max(peak, psutil.Process().memory_info().rss)
    seconds = time.perf_counter() - start
    await dispatcher.close()
    return units / seconds, (peak - before) / 1e6


def dispatching(units: list[int], counts: list[int], size: int) -> None:
    print(f"one dispatcher without Ray, units of {size} requests that are answered at once")
    print(f"{'replicas':>8s} {'units':>8s} {'requests':>12s} {'units/s':>8s} {'MB more':>8s}")
    for count in counts:
        for number in units:
            rate, more = asyncio.run(carry(number, count, size))
            print(f"{count:8d} {number:8d} {number * size:12,d} {rate:8.0f} {more:8.1f}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["scaling", "faults", "dispatcher"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--units", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--replicas", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--nodes-only", action="store_true", help="faults: only those of a second node")
    parser.add_argument("--cpus", type=float, default=1.0, help=argparse.SUPPRESS)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options)
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "scaling":
            scaling(options.rows or 7208, options.workers, Path(folder))
        elif options.what == "faults":
            faults(options.rows or 1500, Path(folder), options.nodes_only)
        else:
            dispatching(options.units, options.replicas, 1000)
    return 0


if __name__ == "__main__":
    sys.exit(main())
