"""What faults cost on Ray: the cases of `cluster.py faults`, each a driver of its own that something happens to.

Told of each: seconds, exit statuses, rows answered right and lost, and how many requests were sent more than once.
"""

from __future__ import annotations

import argparse
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import contextmanager, suppress
from pathlib import Path

import faulty_server
import psutil
from api_throughput import LATENCY, SPREAD, requests
from faulty_server import correct

from perg_utils.core.errors import PergError
from perg_utils.core.profile import ModelConfig
from perg_utils.engines.cluster.connection import VARIABLE, end_but, heir_of_orphans, running
from perg_utils.engines.journal import Journal
from perg_utils.engines.open import open_engine

CONNECTIONS = 16
ENVIRONMENT = os.environ | {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "token"}
#: Where `ray start` writes down the address that `auto` means.
CURRENT = Path("/tmp/ray/ray_current_cluster")
MORE = ["--object-store-memory=100000000", "--disable-usage-stats"]
#: What happens to a driver, which was started by these words; the exit statuses of those started after it.
Harm = Callable[[subprocess.Popen, list[str]], list[int] | None]


def config(url: str, workers: int, unit: int | None = None, cpus: float = 0.01) -> ModelConfig:
    replica = {"most": workers, "unit": unit, "cpus": cpus}
    return ModelConfig(name="bench", engine="api", model="m", base_url=url, concurrency=CONNECTIONS, replica=replica)


def sent(url: str) -> int:
    return faulty_server.stats(url)["sent"]


@contextmanager
def head(cores: int = 2):
    """Ray with one node of so many cores on this machine, and none besides it ended; gives its address."""
    words = ["ray", "start", "--head", "--port=0", "--include-dashboard=false", f"--num-cpus={cores}"]
    others = psutil.Process().children(recursive=True)
    with heir_of_orphans():  # `ray start` leaves them behind
        try:
            for _ in range(4):  # a busy machine: see `connection._started`
                done = subprocess.run([*words, *MORE], env=ENVIRONMENT, capture_output=True, text=True, check=False)
                if done.returncode == 0:
                    break
                end_but(others)
            told = next(word for word in raylets()[0].cmdline() if word.startswith("--gcs-address="))
            yield told.split("=", 1)[1]
        finally:
            end_but(others)
            if CURRENT.is_file() and not mine("gcs_server"):
                CURRENT.unlink()


def second_node(address: str) -> psutil.Process | None:
    """One more node on this machine with two cores; None where it does not start."""
    before = {process.pid for process in raylets()}
    words = ["ray", "start", f"--address={address}", "--num-cpus=2", *MORE]
    done = subprocess.run(words, env=ENVIRONMENT, capture_output=True, text=True, check=False)
    new = [process for process in raylets() if process.pid not in before]
    if not new:
        print((done.stdout + done.stderr)[-600:])
    return new[0] if new else None


def mine(word: str) -> list[psutil.Process]:
    """Processes that this one has started, by a word of their command line."""
    found = []
    for process in psutil.Process().children(recursive=True):
        with suppress(psutil.Error):
            found += [process] if word in " ".join(process.cmdline()) else []
    return found


def raylets() -> list[psutil.Process]:
    return mine("/raylet/raylet ")


def replicas() -> list[psutil.Process]:
    return mine("RayReplica")


@contextmanager
def small_disk(place: Path, megabytes: int):
    """A disk of its own at `place` (tmpfs, which takes root); gives the function that fills it up."""
    place.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", place], check=True)

    def fill() -> Path:
        with suppress(OSError), (place / "filler").open("ab", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        return place / "filler"

    try:
        yield fill
    finally:
        subprocess.run(["umount", "-l", place], check=False)


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


class Case:
    """A driver against a server of its own, and what happens to it; `tell` prints its line."""

    def __init__(self, name: str, address: str, rows: int, folder: Path, cpus: int = 1) -> None:
        self.name, self.rows, self.folder = name, rows, folder
        self.log = folder / f"{name}.log"
        self.key = "".join(filter(str.isalnum, name))[:12]
        here = [sys.executable, str(Path(__file__).with_name("cluster.py")), "faults"]
        self.words = [*here, "--rows", str(rows), "--cpus", str(cpus), "--child", address, "", str(folder), self.key]

    def at(self, url: str) -> list[str]:
        """The driver's words with this server's address."""
        return [url if word == "" else word for word in self.words]

    def run(self, harm: Harm, **server: str) -> None:
        with faulty_server.running(latency=LATENCY, spread=SPREAD, log=str(self.log), **server) as url:
            start = time.perf_counter()
            driver = subprocess.Popen(self.at(url), stderr=subprocess.PIPE, text=True)
            while sent(url) < self.rows // 3 and driver.poll() is None:
                time.sleep(0.1)
            codes = harm(driver, self.at(url)) or []
            said = driver.communicate()[1]
            codes = [driver.returncode, *codes]
            if driver.returncode and said.strip():
                print(f"  {said.strip().splitlines()[-1][:200]}")
            self.tell(time.perf_counter() - start, codes)

    def mend(self, driver: subprocess.Popen, words: list[str]) -> list[int]:
        """Let the driver end, and run it again with the same model at another address, where it harms nobody."""
        driver.wait()
        with faulty_server.running(latency=LATENCY, spread=SPREAD, log=str(self.log)) as url:
            print(f"  first: {self.right()} right")
            return [again(self.at(url)).returncode]

    def right(self) -> int:
        with Journal(self.folder / f"{self.key}.sqlite", read_only=True) as journal:
            texts = {text for (text,) in journal.execute("SELECT text FROM replies WHERE status = 'ok'")}
        return sum(correct(request.messages[-1][1]) in texts for request in requests(self.rows, self.key))

    def tell(self, seconds: float, codes: list[int]) -> None:
        counts = Counter(line.split()[1] for line in self.log.read_text().splitlines() if line.startswith("sent"))
        good, more = self.right(), counts.total() - len(counts)
        exits = ",".join(map(str, codes))
        print(f"{self.name:30s} {seconds:8.1f} {exits:>5s} {good:6d} {self.rows - good:5d} {more:10d}", flush=True)


def again(words: list[str]) -> subprocess.CompletedProcess:
    return subprocess.run(words, stderr=subprocess.PIPE, text=True, check=False)


# what happens to a driver


def kill_worker(driver: subprocess.Popen, words: list[str]) -> None:
    random.choice(replicas()).send_signal(signal.SIGKILL)


def hang_worker(driver: subprocess.Popen, words: list[str]) -> None:
    random.choice(replicas()).send_signal(signal.SIGSTOP)


def kill_driver(driver: subprocess.Popen, words: list[str]) -> list[int]:
    driver.kill()
    driver.wait()
    return [again(words).returncode]


def second_driver(driver: subprocess.Popen, words: list[str]) -> list[int]:
    other = again(words)
    print(f"  the second: {other.stderr.strip().splitlines()[-1][:150]}")
    return [other.returncode]


def keep_full(fill: Callable[[], Path]) -> Harm:
    def harm(driver: subprocess.Popen, words: list[str]) -> None:
        while driver.poll() is None:
            fill()
            time.sleep(0.02)

    return harm


def full_until_it_ends(fill: Callable[[], Path]) -> Harm:
    def harm(driver: subprocess.Popen, words: list[str]) -> list[int]:
        keep_full(fill)(driver, words)
        fill().unlink()
        return [again(words).returncode]

    return harm


def faults(rows: int, folder: Path, only: str) -> None:
    """Print a line for each fault with `only` in its name."""
    print(f"{rows} rows, two replicas of {CONNECTIONS} connections; in flight: at most {2 * CONNECTIONS}")
    print(f"{'fault':30s} {'seconds':>8s} {'exit':>5s} {'right':>6s} {'lost':>5s} {'sent again':>10s}", flush=True)
    with head() as address:

        def case(name: str, harm: Harm | None, **more: str) -> None:
            if only in name:
                made = Case(name, address, rows, folder)
                made.run(harm or made.mend, **more)

        case("none", lambda *_: None)
        case("kill -9 of a worker", kill_worker)
        case("kill -STOP of a worker", hang_worker)
        case("kill -9 of the driver", kill_driver)
        case("two drivers at once", second_driver)
        case("a unit kills its replica", None, deadly=f"aunitkillsit-{rows // 2} ")
        case("some prompts always get 500", None, broken=f"somepromptsa-{rows // 2}")
        disks(address, rows, folder, only)
        nodes(address, rows, folder, only)


def disks(address: str, rows: int, folder: Path, only: str) -> None:
    """The storage alone is full; then the disk of storage and journal."""
    if only not in "full disk" or os.getuid() != 0:
        return
    made = Case("full disk: the storage", address, rows, folder)
    with small_disk(folder / "blocks" / made.key, 2) as fill:
        made.run(keep_full(fill))
    with small_disk(folder / "small", 8) as fill:
        made = Case("full disk: all", address, rows, folder / "small")
        made.log = folder / "small.log"
        made.run(full_until_it_ends(fill))


def nodes(address: str, rows: int, folder: Path, only: str) -> None:
    """A second node comes, and is killed; the first one has room for one replica."""
    late: list[psutil.Process] = []

    def join(driver: subprocess.Popen, words: list[str]) -> None:
        node = second_node(address)
        late.extend([] if node is None else [node])

    if only in "a node joins late, kill -9 of a node":
        Case("a node joins late", address, rows, folder, cpus=2).run(join)
        if late:
            made = Case("kill -9 of a node", address, rows, folder, cpus=2)
            made.run(lambda *_: late[0].send_signal(signal.SIGKILL))
