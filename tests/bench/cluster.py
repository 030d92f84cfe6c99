"""The cluster's engine: overhead and scaling on Ray, what faults cost, and how far one dispatcher carries.

    python tests/bench/cluster.py scaling [--rows 7208] [--workers 1 2 4 8]     rows/s against one process without Ray
    python tests/bench/cluster.py faults [--rows 1500] [--only unit]            kills, a hang, full disks, a bad unit
    python tests/bench/cluster.py embedded [--limit 20]                         the demo on no, one, two CPU workers
    python tests/bench/cluster.py dispatcher [--units 1000 10000 100000]        units/s and memory, simulated replicas

The server answers after 300 +- 100 ms; in `scaling` with the faults of `faults.py` (429, 500, null content, resets,
hangs, refusals). Replicas are started before the clock is. Ray and its second node are started here and stopped.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from contextlib import suppress
from datetime import datetime
from pathlib import Path

import psutil

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/bench")]

import faulty_server  # noqa: E402
import same_run  # noqa: E402
from api_throughput import LATENCY, SPREAD, requests  # noqa: E402
from cluster_faults import CONNECTIONS, child, config, faults, head, sent  # noqa: E402
from faulty_server import MIX, correct, fault  # noqa: E402

from perg_utils.core.profile import ModelConfig  # noqa: E402
from perg_utils.core.workspace import Workspace  # noqa: E402
from perg_utils.engines.api.engine import ApiEngine  # noqa: E402
from perg_utils.engines.base import Engine, Reply, Request  # noqa: E402
from perg_utils.engines.cluster.connection import VARIABLE, running  # noqa: E402
from perg_utils.engines.cluster.dispatcher import Dispatcher  # noqa: E402
from perg_utils.engines.cluster.standing import Timing  # noqa: E402
from perg_utils.engines.cluster.units import Pool, Unit  # noqa: E402
from perg_utils.engines.journal import Journal  # noqa: E402
from perg_utils.engines.open import open_engine  # noqa: E402


def right(replies: list, asked: list[Request]) -> int:
    return sum(reply.text == correct(request.messages[-1][1]) for reply, request in zip(replies, asked, strict=True))


#: Who takes processor time; `Ray` is all else that this process has started: raylet, GCS, dashboard, idle workers.
ROLES = ("server", "driver", "dispatcher", "replicas", "Ray")


def processor_time() -> Counter[str]:
    """Processor seconds so far of this process and of all that it has started, by role."""
    found: Counter[str] = Counter()
    for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
        with suppress(psutil.Error):
            line, times = " ".join(process.cmdline()), process.cpu_times()
            words = (("server", "faulty_server.py"), ("dispatcher", "RayDispatcher"), ("replicas", "RayReplica"))
            role = next((role for role, word in words if word in line), "Ray")
            found["driver" if process.pid == os.getpid() else role] += times.user + times.system
    return found


def scaling(rows: int, workers: list[int], folder: Path) -> None:
    print(
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {rows} rows, {CONNECTIONS} connections a worker, {MIX}"
    )
    told = " ".join(f"{role:>10s}" for role in ROLES)
    print(f"{'':20s} {'rows/s':>7s} {'of one':>7s} {'scaling':>8s} {'to 90 %':>8s} {'right':>6s} {'sent':>6s}  {told}")
    print(f"{'':69s}{'processor seconds per 1,000 rows':>50s}  cores busy", flush=True)
    rates: dict[str, float] = {}

    def ask(engine: Engine, journal: Journal) -> tuple[list[Reply], float, float, Counter[str]]:
        """Replies, rows/s, rows/s of the first 90 % (the rest may be few that hang), processor seconds by role."""
        before, start, times = processor_time(), time.perf_counter(), []
        replies = journal.ask(engine, asked, lambda number: times.extend([time.perf_counter() - start] * number))
        took = processor_time()
        took.subtract(before)
        return replies, rows / times[-1], 0.9 * rows / times[int(0.9 * rows)], took

    def line(name: str, count: int, found: tuple[list[Reply], float, float, Counter[str]], told: int) -> None:
        replies, rate, most, took = found
        good = right(replies, asked)
        rates[name] = rate
        base, first = rates["one process, no Ray"], rates.get("1 workers")
        scale = f"{rate / first / count:.1%}" if first else "–"  # of one worker's rate, where one was asked
        cost = " ".join(f"{took[role] / rows * 1000:10.2f}" for role in ROLES)
        print(
            f"{name:20s} {rate:7.1f} {rate / base:7.1%} {scale:>8s} {most:8.1f} {good:6d}"
            f" {told:6d}  {cost}  {took.total() * rate / rows:.2f}",
            flush=True,
        )

    with faulty_server.running(latency=LATENCY, spread=SPREAD, faults=MIX) as url:
        asked = requests(rows, "scaling")
        with Journal(folder / "plain.sqlite") as journal:
            found = ask(ApiEngine(config(url, 1)), journal)
            line("one process, no Ray", 1, found, sent(url))
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
                    known = sent(url)
                    found = ask(engine, journal)
                    line(f"{count} workers", count, found, sent(url) - known)
            del os.environ[VARIABLE]


# the embedded models on CPU workers


def embedded(limit: int, only: str, folder: Path) -> None:
    """The demo, shortened: without a cluster, on one worker and on two; is everything in it the same?"""
    print(f"demo, {limit} questions a source; {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; seconds")
    print(f"{'':20s} {'03':>6s} {'rows/s':>7s} {'03 to 05':>8s} {'all':>6s}  against the run without", flush=True)

    def study(name: str, *more: str) -> Workspace:
        workspace = Workspace.of(folder / name.replace(" ", "-"), "demo")
        words = [sys.executable, "-m", "perg_utils", "run", "--out", str(workspace.run.parents[2])]
        words += ["--set", f"data.limit={limit}", "--set", "statistics.resamples=200", *more]
        words += ["--only", only] if only else []
        start = time.perf_counter()
        done = subprocess.run(
            words, cwd=ROOT, env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, check=False
        )
        seconds = time.perf_counter() - start
        if done.returncode:
            sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
        asked, until = took(workspace, "03"), took(workspace, "03", "04", "05")
        rate = len(workspace.read("responses")) / asked
        same = "" if name == "no cluster" else str(same_run.compare(plain, workspace))
        print(f"{name:20s} {asked:6.1f} {rate:7.1f} {until:8.1f} {seconds:6.0f}  {same}", flush=True)
        return workspace

    plain = study("no cluster")
    for count in (1, 2):
        with head(count) as address:
            study(f"{count} workers", "--cluster", address)


def took(workspace: Workspace, *steps: str) -> float:
    """Seconds from the first of these notebooks' start to the last one's end."""
    copies = [copy for copy in workspace.executed.glob("*.ipynb") if copy.name.startswith(steps)]
    times = [json.loads(copy.read_text(encoding="utf-8"))["metadata"]["papermill"] for copy in copies]
    starts, ends = ([datetime.fromisoformat(entry[end]) for entry in times] for end in ("start_time", "end_time"))
    return (max(ends) - min(starts)).total_seconds()


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
    parser.add_argument("what", choices=["scaling", "faults", "embedded", "dispatcher"])
    parser.add_argument("--rows", type=int)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4, 8])
    parser.add_argument("--units", type=int, nargs="+", default=[1000, 10_000, 100_000])
    parser.add_argument("--replicas", type=int, nargs="+", default=[10, 100, 1000])
    parser.add_argument("--only", default="", help="faults: with this in their name, e.g. node; embedded: steps")
    parser.add_argument("--limit", type=int, default=20, help="embedded: questions of each source")
    parser.add_argument("--cpus", type=float, default=1.0, help=argparse.SUPPRESS)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        return child(options)
    with tempfile.TemporaryDirectory() as folder:
        if options.what == "scaling":
            scaling(options.rows or 7208, options.workers, Path(folder))
        elif options.what == "faults":
            faults(options.rows or 1500, Path(folder), options.only)
        elif options.what == "embedded":
            embedded(options.limit, options.only, Path(folder))
        else:
            dispatching(options.units, options.replicas, 1000)
    return 0


if __name__ == "__main__":
    sys.exit(main())
