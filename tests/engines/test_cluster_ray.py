"""The cluster's engine on Ray itself, one for all tests here: real actors, a killed worker, a server."""

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import faulty_server
import in_process
import psutil
import pytest
import same_run
from faulty_server import correct

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT, ModelConfig
from perg_utils.core.schema import Status
from perg_utils.core.workspace import Workspace
from perg_utils.dataset import preferences
from perg_utils.dataset import questions as curation
from perg_utils.engines.base import Decoding, Request
from perg_utils.engines.cluster import connection, engine, keeper, serving
from perg_utils.engines.cluster.blocks import unpack
from perg_utils.engines.cluster.connection import LOCAL, VARIABLE, Cluster, ClusterError, running
from perg_utils.engines.cluster.engine import version_key
from perg_utils.engines.cluster.standing import Timing
from perg_utils.engines.journal import Journal
from perg_utils.engines.open import open_engine
from perg_utils.inference import run as inference
from perg_utils.run import pipeline

needs_ray = pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="needs pip install -e .[cluster]")
SECRET = "sk-never-to-be-found-anywhere-4711"
TWO = ", ".join(f"{{name: {name}, model: data/embedded/models/{name}, dtype: float32}}" for name in "SM")
SAME = ["example_id", "preference_id", "method", "setting", "response", "stages", "status", "finish_reason", "fallback"]


def requests(count, salt=""):
    return [Request((("user", f"{salt}-{i:04d}"),), Decoding(8)) for i in range(count)]


@pytest.fixture(scope="module")
def storage(tmp_path_factory):
    return str(tmp_path_factory.mktemp("cluster") / "blocks")


@pytest.fixture(scope="module")
def cluster(storage):
    timing = Timing(tick=0.3, spare=1.0)
    with running(LOCAL, "perg-test", storage, keys={"PERG_TEST_KEY": SECRET}, timing=timing, cores=2) as made:
        os.environ[VARIABLE] = made.where.text()
        yield made
        del os.environ[VARIABLE]


def workers():
    return [p for p in psutil.process_iter(["cmdline"]) if "RayReplica" in " ".join(p.info["cmdline"] or [])]


def gone(pid, seconds=30):
    until = time.monotonic() + seconds
    while psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE:
        if time.monotonic() > until:
            return False
        time.sleep(0.1)
    return True


@needs_ray
def test_a_worker_killed_on_the_way_loses_nothing_and_no_key_is_written_anywhere(cluster, storage, tmp_path):
    asked = requests(600)
    with faulty_server.running(latency=0.1, spread=0.02) as url, Journal(tmp_path / "journal.sqlite") as journal:
        config = ModelConfig(
            name="api",
            engine="api",
            model="m",
            base_url=url,
            concurrency=8,
            api_key_env="PERG_TEST_KEY",
            replica={"most": 2, "unit": 100},
        )

        def kill():
            while faulty_server.stats(url)["sent"] < 150:
                time.sleep(0.1)
            workers()[0].send_signal(signal.SIGKILL)

        threading.Thread(target=kill).start()
        replies = journal.ask(open_engine(config), asked)
        assert [reply.text for reply in replies] == [correct(request.messages[-1][1]) for request in asked]
        sent = faulty_server.stats(url)["sent"]
        # In flight, and what was answered in the second before the kill.
        assert 600 <= sent <= 600 + 8 + 2 * 8 * 10 * 1.5, sent
        assert cluster.status()[0]["lost"] == 1
        assert Path(storage, open_engine(config).pool.id).is_dir() and not list(Path(storage).glob("*/*"))
    import ray

    logs = Path(ray._private.worker._global_node.get_session_dir_path())
    told = subprocess.run(["grep", "-rl", SECRET, str(logs), storage], capture_output=True, text=True, check=False)
    assert told.stdout == ""
    commands = [" ".join(process.info["cmdline"] or []) for process in psutil.process_iter(["cmdline"])]
    assert not any(SECRET in command for command in commands)
    assert SECRET not in cluster.where.text() + str(cluster.status())
    assert SECRET.encode() not in (tmp_path / "journal.sqlite").read_bytes()


@contextmanager
def full_disk(place):
    """A disk of its own at `place` with no room on it; skips where this user may not mount one."""
    place.mkdir(parents=True, exist_ok=True)
    words = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True, check=False).returncode:
        pytest.skip("no disk can be mounted here")
    try:
        with suppress(OSError), (place / "filler").open("ab", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        yield
    finally:
        subprocess.run(["umount", "-l", str(place)], check=True)


@needs_ray
def test_on_a_full_disk_replies_reach_the_journal_all_the_same(cluster, storage, tmp_path, monkeypatch):
    asked, by_dispatcher = requests(60, "full"), []

    def noted(data):
        by_dispatcher.extend(found := unpack(data))
        return found

    monkeypatch.setattr(engine, "unpack", noted)
    with faulty_server.running(latency=0.05) as url, Journal(tmp_path / "journal.sqlite") as journal:
        config = ModelConfig(name="f", engine="api", model="f", base_url=url, concurrency=4, replica={"unit": 20})
        opened = open_engine(config)
        pool = Path(storage, opened.pool.id)
        with full_disk(pool):
            replies = journal.ask(opened, asked)
            assert [path.name for path in pool.iterdir()] == ["filler"], "no draft is left"
        assert [reply.text for reply in replies] == [correct(request.messages[-1][1]) for request in asked]
        assert len(by_dispatcher) == faulty_server.stats(url)["sent"] == 60
        assert len(journal.lookup(request.key(opened.identity) for request in asked)) == 60


@needs_ray
def test_a_request_that_kills_its_replica_is_set_aside_by_itself(cluster, tmp_path):
    asked = requests(60, "d")

    def at(url):
        replica = {"most": 2, "unit": 5}
        model = ModelConfig(name="d", engine="api", model="d", base_url=url, concurrency=4, replica=replica)
        return open_engine(model)

    with Journal(tmp_path / "journal.sqlite") as journal:
        with faulty_server.running(latency=0.05, deadly="d-0030") as url:
            replies = journal.ask(at(url), asked)
            sent = faulty_server.stats(url)["sent"]
        lost = [place for place, reply in enumerate(replies) if reply.status == Status.API_ERROR]
        assert lost == [30]
        assert "failed on the cluster again and again" in replies[30].error and "died" in replies[30].error
        assert all(replies[n].text == correct(asked[n].messages[-1][1]) for n in range(60) if n not in lost)
        assert next(row for row in cluster.status() if row["model"] == "d")["aside"] == 1
        assert sent <= 60 + 5 * 2 * 4 + 40, "asked again: what was in flight, and the last second's replies"
        # The next run asks what was set aside, and nothing else. Without Ray: a replica that is left here would ask the
        # first server, which has gone; a run of its own has a dispatcher and replicas of its own.
        with faulty_server.running(latency=0.0) as url:
            again = journal.ask(at(url).plain, asked)
            assert [reply.text for reply in again] == [correct(request.messages[-1][1]) for request in asked]
            assert faulty_server.stats(url)["sent"] == len(lost)


@needs_ray
def test_a_prompt_that_always_gets_an_error_is_counted_and_the_rest_goes_on(cluster, tmp_path):
    asked = requests(40, "five")
    with (
        faulty_server.running(latency=0.01, broken="five-0013") as url,
        Journal(tmp_path / "journal.sqlite") as journal,
    ):
        model = ModelConfig(name="five", engine="api", model="five", base_url=url, concurrency=8, replica={"unit": 10})
        replies = journal.ask(open_engine(model), asked)
    failed = [place for place, reply in enumerate(replies) if reply.status != Status.OK]
    assert failed == [13] and replies[13].status == Status.API_ERROR and "500" in replies[13].error
    assert all(replies[n].text == correct(asked[n].messages[-1][1]) for n in range(40) if n != 13)
    pool = next(row for row in cluster.status() if row["model"] == "five")
    assert (pool["aside"], pool["lost"]) == (0, 0), "a server's error is a reply: neither unit nor replica has failed"


@needs_ray
def test_workers_had_the_key(cluster, tmp_path):
    with faulty_server.running(latency=0.0, tell_key="1") as url, Journal(tmp_path / "journal.sqlite") as journal:
        config = ModelConfig(name="k", engine="api", model="k", base_url=url, api_key_env="PERG_TEST_KEY")
        [reply] = journal.ask(open_engine(config), requests(1))
    assert reply.text.endswith("You are Bearer [key].")


@needs_ray
def test_a_second_driver_of_the_same_run_is_refused(cluster, storage):
    import ray

    with pytest.raises(ClusterError, match="another driver works on this run"):
        Cluster(ray, SimpleNamespace(dashboard_url=""), "perg-test", storage, Timing())


def responses(folder, model):
    settings = ["data.limit=2", f"models=[{{name: S, model: data/embedded/models/S, dtype: float32, {model}}}]"]
    profile = load_profile("demo", [*settings, "grid={relevant: [zero_shot, self_critic]}"])
    workspace = Workspace(folder, folder)
    bank = preferences.load_bank()
    workspace.write("preferences", bank)
    workspace.write("examples", preferences.assign(curation.load_examples(profile.data, profile.seed), bank))
    return inference.run(profile, "S", workspace)


@pytest.fixture(scope="module")
def here(tmp_path_factory):
    return responses(tmp_path_factory.mktemp("here"), "batch_size: 8")


@needs_ray
def test_two_workers_give_the_very_rows_of_one_process(cluster, here, tmp_path):
    spread = responses(tmp_path, "batch_size: 8, replica: {unit: 3}")
    different = spread.drop(columns="seconds").astype(str).compare(here.drop(columns="seconds").astype(str))
    assert different.empty, different.to_string()


@needs_ray
@pytest.mark.skipif(not all(map(importlib.util.find_spec, ("fastapi", "uvicorn"))), reason="needs a server")
def test_an_actor_starts_a_server_asks_it_and_leaves_none_behind(cluster, here, tmp_path, monkeypatch):
    replica = "replica: {server: transformers, most: 1}"
    profile = load_profile("demo", [f"models=[{{name: S, model: data/embedded/models/S, dtype: float32, {replica}}}]"])
    [model] = profile.models
    version = cluster.version(model)
    assert version == importlib.metadata.version("transformers")
    where = connection.Where(**{**cluster.where.__dict__, "versions": {version_key(model): version}})
    monkeypatch.setenv(VARIABLE, where.text())
    identity = open_engine(model).identity
    assert (identity["kind"], identity["server"], identity["version"]) == ("served", "transformers", version)
    served = responses(tmp_path, replica)
    different = served[SAME].astype(str).compare(here[SAME].astype(str))
    assert different.empty, different.to_string()
    assert not set(served["key"]) & set(here["key"]), "another server, other keys"
    keepers = [p for p in psutil.process_iter(["cmdline"]) if keeper.__file__ in (p.info["cmdline"] or [])]
    [server] = [child for process in keepers for child in process.children()]
    assert "transformers.cli.transformers" in server.cmdline()
    for process in workers():
        process.send_signal(signal.SIGKILL)
    assert gone(server.pid)


def test_a_server_lives_exactly_as_long_as_the_line_to_its_keeper(tmp_path):
    child = "import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); "
    words = [sys.executable, "-c", child + "print('up', flush=True); time.sleep(60)"]
    started = subprocess.Popen(
        [sys.executable, keeper.__file__, str(tmp_path / "log"), *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    pid = int(started.stdout.readline())
    while not (tmp_path / "log").read_text():
        time.sleep(0.05)
    [child] = psutil.Process(pid).children()
    started.stdin.close()
    assert gone(pid) and gone(child.pid)


def test_the_words_and_the_identity_of_a_vllm_server():
    settings = {"model": "org/M-8B", "dtype": "bfloat16", "quantization": "nf4"}
    model = ModelConfig(name="M", **settings, replica={"gpus": 2, "flags": ["--max-model-len", "8192"]})
    assert serving.kind(model) == "vllm"
    assert serving.kind(ModelConfig(name="M", model="m")) == "none"
    assert serving.kind(ModelConfig(name="M", model="m", engine="api", replica={"gpus": 1})) == "none"
    for unserved in ({"adapter": "a/b"}, {"gguf_file": "m.gguf"}):
        assert serving.kind(ModelConfig(name="M", model="m", replica={"gpus": 1}, **unserved)) == "none"
    with pytest.raises(ValueError, match="adapter goes onto weights that are run in process"):
        ModelConfig(name="M", model="m", adapter="a/b", replica={"server": "vllm", "gpus": 1})
    with pytest.raises(ValueError, match="vllm without GPUs needs batch_invariant: false"):
        ModelConfig(name="M", model="m", replica={"server": "vllm"})
    plain = {"kind": "transformers", "model": "org/M-8B", "revision": "abc"}
    found = serving.identity(model.model_copy(update={"revision": "abc"}), plain, "0.12.0")
    words = serving.Serving(model, found)._words(8000)
    assert words[:7] == ["vllm", "serve", "org/M-8B", "--host", "127.0.0.1", "--port", "8000"]
    assert words[7:] == [
        *("--dtype", "bfloat16", "--tensor-parallel-size", "2", "--revision", "abc"),
        *("--quantization", "bitsandbytes", "--max-model-len", "8192"),
    ]
    assert (found["kind"], found["version"], found["batch_invariant"]) == ("served", "0.12.0", "True")
    environment = serving.Serving(model, found)._environment()
    assert environment["VLLM_BATCH_INVARIANT"] == "1" and "OPENAI_API_KEY" not in environment
    own = model.model_copy(
        update={"replica": model.replica.model_copy(update={"command": ["run", "vllm.sif", "serve"]})}
    )
    assert serving.Serving(own, found)._words(8000)[:4] == ["run", "vllm.sif", "serve", "org/M-8B"]


def test_without_ray_the_error_names_the_cure(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ClusterError, match=r"pip install -e \.\[cluster\]"):
        connection.load()
    with pytest.raises(ClusterError, match="start the run on a node"), running("ray://x:10001", "n", "s"):
        pass


def test_an_address_where_nothing_listens_is_told_at_once(monkeypatch):
    monkeypatch.setattr(connection, "load", lambda: SimpleNamespace(init=pytest.fail, shutdown=lambda: None))
    address = f"127.0.0.1:{serving._free_port()}"
    said = f"{address}: nothing answers there .*ray start --head --port="
    with pytest.raises(ClusterError, match=said), running(address, "n", "s"):
        pass


def test_a_start_that_failed_leaves_nothing_that_the_next_one_would_find(capsys):
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    orphan = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', "
    orphan += "'import time; time.sleep(60)'], stdout=subprocess.DEVNULL).pid)"
    before, started, dashboards = subprocess.Popen(sleep), [], []

    def init(include_dashboard=True, **_):
        dashboards.append(include_dashboard)
        started.append(subprocess.Popen(sleep).pid)
        done = subprocess.run([sys.executable, "-c", orphan], stdout=subprocess.PIPE, text=True, check=True)
        started.append(int(done.stdout))
        raise RuntimeError("the agents did not answer")

    ray = SimpleNamespace(init=init, shutdown=lambda: None)
    with pytest.raises(ClusterError, match="the agents did not answer"):
        connection._started(ray, LOCAL)
    assert len(started) == 2 * connection.STARTS and all(gone(pid, 5) for pid in started)
    assert dashboards == [True, *[False] * (connection.STARTS - 1)]
    assert before.poll() is None, "not started by Ray"
    before.kill()
    assert "Ray did not answer in time; once more" in capsys.readouterr().out


def test_local_is_a_ray_of_its_own_whatever_else_runs_here(monkeypatch):
    told = []

    def init(**words):
        told.append(words)
        raise RuntimeError("Could not find any running Ray instance")

    monkeypatch.setattr(connection, "load", lambda: SimpleNamespace(init=init, shutdown=lambda: None))
    with pytest.raises(ClusterError), running(LOCAL, "perg-own", "s", cores=3):
        pass
    assert [(words["address"], words["num_cpus"]) for words in told] == [("local", 3)], "Ray's word for a new one"


@needs_ray
def test_a_whole_run_on_a_cluster_has_the_very_tables_of_one_without(cluster, tmp_path, monkeypatch):
    settings = ("data.limit=2", "statistics.resamples=100", "extractor={}", f"models=[{TWO}]")
    settings += ("grid={relevant: [zero_shot, pref_aligner]}",)
    words = [word for item in settings for word in ("--set", item)]
    call = [sys.executable, "-m", "perg_utils", "run", *words, "--only", "01,03,04,05,06", "--out"]
    monkeypatch.delenv(VARIABLE)
    done = subprocess.run(
        [*call, str(tmp_path / "spread"), "--cluster", cluster.where.address],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "cluster: Ray at" in done.stdout
    with in_process.notebooks():
        pipeline.run(pipeline.Command(only=("01", "03", "04", "05", "06"), overrides=settings, out=tmp_path / "here"))
    spread, plain = (Workspace.of(tmp_path / name, "demo") for name in ("spread", "here"))
    found = same_run.compare(plain, spread)
    assert found.differ == []
    names = {path.relative_to(plain.run / "tables").parts[0].removesuffix(".parquet") for path in tables(plain)}
    wanted = {"examples", "preferences", "responses", "answers", "judgements", "nulls", "scores", "metrics"}
    assert names == wanted and found.tables == len(tables(plain))
    assert not (spread.run / "blocks").exists() and (spread.run / "cluster.json").is_file()


def tables(workspace):
    return list((workspace.run / "tables").rglob("*.parquet"))


def test_runs_that_differ_in_more_than_times_are_told_apart(here, tmp_path):
    one, other = (Workspace(tmp_path / name, tmp_path / name / "figures") for name in ("one", "other"))
    for workspace, seconds in ((one, 1.0), (other, 2.0)):
        workspace.write("responses", here.assign(seconds=seconds), "S")
    assert same_run.compare(one, other) == (1, 0, [])
    other.write("responses", here.assign(response=here["response"] + "."), "S")
    assert same_run.compare(one, other).differ == ["responses/S.parquet"]
    (other.run / "tables" / "metrics.parquet").write_bytes(b"more")
    assert same_run.compare(one, other).differ == ["metrics.parquet", "responses/S.parquet"]
