"""What the cluster's engine promises, without Ray (`fake_ray`): units, blocks, replicas that die, hang or fail."""

import threading
import time
from collections import Counter
from dataclasses import replace

import fake_ray
import faulty_server
import pytest
from faulty_server import correct

from perg_utils.core.errors import PergError
from perg_utils.core.profile import ModelConfig
from perg_utils.core.schema import Status
from perg_utils.engines.api.engine import ApiEngine
from perg_utils.engines.base import Decoding, EngineError, Reply, Request
from perg_utils.engines.cluster import engine as cluster_engine
from perg_utils.engines.cluster.blocks import Answer, Blocks, pack, unpack
from perg_utils.engines.cluster.units import FAILED_PIECES, TRIES, Pool, size_of_next
from perg_utils.engines.journal import Journal
from perg_utils.engines.open import open_engine

pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # killed replicas


def requests(count, salt=""):
    return [Request((("user", f"{salt}-{i:04d}"),), Decoding(8)) for i in range(count)]


def model(url="http://localhost:1/v1", **replica):
    return ModelConfig(name="m", engine="api", model="m", base_url=url, concurrency=8, replica={"most": 2, **replica})


class Scripted:
    """Stands in for weights in a replica's process; `harm(prompt)` may raise or wait."""

    identity = {"kind": "scripted"}  # noqa: RUF012

    def __init__(self, asked, harm, is_dead):
        self.asked, self.harm, self.is_dead = asked, harm, is_dead

    def generate(self, some):
        for position, request in enumerate(some):
            prompt = request.messages[-1][1]
            if self.is_dead():
                raise fake_ray.Killed
            self.asked.append(prompt)
            self.harm(prompt)
            time.sleep(0.002)
            yield position, Reply(correct(prompt), finish_reason="stop", prompt_tokens=2, completion_tokens=3)


def texts(journal, engine, asked):
    replies = journal.ask(engine, asked)
    return [reply.text for reply in replies], replies


def right(asked):
    return [correct(request.messages[-1][1]) for request in asked]


@pytest.fixture
def storage(tmp_path):
    return str(tmp_path / "blocks")


@pytest.fixture
def journal(tmp_path):
    with Journal(tmp_path / "journal.sqlite") as opened:
        yield opened


def names(storage):
    return list(Blocks(storage).names(Pool(dict(ApiEngine(model()).identity), model()).id))


def scripted(cluster, asked, harm=lambda prompt: None):
    cluster.fleet.make = lambda r: Scripted(asked, harm, lambda: r.name in cluster.fleet.killed)


def wait_for(what, seconds=20):
    until = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.01)


@pytest.mark.parametrize("url", ["folder", "file://{}", "memory://blocks"])
def test_a_block_gives_back_what_was_written_whatever_the_storage(tmp_path, url):
    blocks = Blocks(str(tmp_path / "x") if url == "folder" else url.format(tmp_path / "y"))
    answers = [
        Answer("k1", 3, Reply("Ä\n", completion_tokens=2)),
        Answer("k2", 0, Reply(None, Status.REJECTED, error="e")),
    ]
    assert unpack(pack(answers)) == answers
    name = blocks.write("a1b2", "0c0c", pack(answers))
    assert list(blocks.names("a1b2")) == list(blocks.names("a1b2", "0c0c")) == [name]
    assert list(blocks.names("a1b2", "0c")) == [] and blocks.read(name) == answers
    blocks.remove(name)
    blocks.remove(name)
    assert list(blocks.names("a1b2")) == []
    blocks.check()


def test_a_block_that_cannot_be_written_whole_is_not_there_at_all(storage, monkeypatch):
    blocks = Blocks(storage)
    monkeypatch.setattr(type(blocks._fs), "mv", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(OSError, match="No space"):
        blocks.write("a1b2", "0c0c", b"x")
    assert list(blocks.names("a1b2")) == []


def test_an_unknown_kind_of_storage_is_a_plain_error(tmp_path):
    with pytest.raises(PergError, match="--storage nowhere://x cannot be used"):
        Blocks("nowhere://x")
    (tmp_path / "file").write_text("")
    with pytest.raises(PergError, match="cannot be written"):
        Blocks(str(tmp_path / "file" / "x")).check()


def test_units_shrink_towards_the_end():
    pool = Pool({"kind": "transformers"}, ModelConfig(name="m", model="m"))
    assert [size_of_next(left, pool, 4) for left in (100_000, 900, 200, 100, 7)] == [128, 112, 25, 16, 7]
    assert size_of_next(100, Pool({"kind": "api"}, model()), 4) == 12
    assert size_of_next(20, Pool({"kind": "api"}, model()), 4) == 8, "a server's slots"


def test_replies_of_two_replicas_are_those_of_one_process_and_no_block_is_left(storage, journal):
    asked = requests(200)
    with faulty_server.running(latency=0.02, spread=0.01) as url, fake_ray.cluster(storage):
        engine = open_engine(model(url))
        assert dict(engine.identity) == dict(ApiEngine(model(url)).identity), "the very keys"
        assert texts(journal, engine, asked)[0] == right(asked)
        stats = faulty_server.stats(url)
        assert stats["sent"] == 200 and 8 < stats["most"] <= 16
        assert texts(journal, engine, asked)[0] == right(asked)
        assert faulty_server.stats(url)["sent"] == 200, "nothing is asked twice"
    assert names(storage) == []


def test_a_hosted_model_has_one_replica_and_its_limit_on_the_cost_holds(storage, journal, monkeypatch):
    from perg_utils.engines.api import pricing

    monkeypatch.setattr(pricing, "price_of", lambda config: pricing.Price(10, 10, "today"))
    with faulty_server.running(latency=0.02, spread=0.01) as url, fake_ray.cluster(storage) as cluster:
        config = model(url, most=None).model_copy(update={"max_cost_usd": 0.01})
        engine = open_engine(config)
        with pytest.raises(EngineError, match=r"max_cost_usd 0\.01"):
            journal.ask(engine, requests(100))
        spent = journal.execute("SELECT sum(prompt_tokens + completion_tokens) * 10 / 1e6, count(*) FROM replies")[0]
        assert len(cluster.fleet.started) == 1 and 0.003 < spent[0] <= 0.01
        with pytest.raises(EngineError, match="raise max_cost_usd"):
            engine.usage.carry(journal)
            journal.ask(engine, requests(100))
        assert faulty_server.stats(url)["sent"] == spent[1], "what was kept is all that was sent"


def test_a_killed_replicas_units_go_to_others_less_what_it_has_written(storage, journal):
    asked, seen = requests(120), []
    with fake_ray.cluster(storage) as cluster:
        scripted(cluster, seen)

        def kill():
            wait_for(lambda: len(seen) > 30)
            cluster.fleet.kill(cluster.fleet.started[0])

        threading.Thread(target=kill).start()
        found = texts(journal, open_engine(model(unit=60)), asked)[0]
        assert found == right(asked)
        assert cluster.status()[0]["lost"] == 1
    twice = sum(count - 1 for count in Counter(seen).values())
    assert twice < 60, "what was in blocks is not asked again"


def test_a_replica_that_hangs_is_replaced(storage, journal):
    asked, seen = requests(60), []
    with fake_ray.cluster(storage) as cluster:
        scripted(cluster, seen)

        def freeze():
            wait_for(lambda: len(seen) > 10)
            cluster.fleet.frozen.add(cluster.fleet.started[0])

        threading.Thread(target=freeze).start()
        assert texts(journal, open_engine(model(unit=30)), asked)[0] == right(asked)
        assert cluster.status()[0]["lost"] == 1
        cluster.fleet.frozen.clear()


def test_a_storage_that_lets_writers_wait_is_no_death_and_nothing_is_asked_twice(storage, journal, monkeypatch):
    asked, seen, written = requests(60), [], []
    real = Blocks.write

    def slow(self, *words):
        if not written:  # longer than silence may be
            written.append(1)
            time.sleep(2.5)
        return real(self, *words)

    with fake_ray.cluster(storage) as cluster:
        monkeypatch.setattr(Blocks, "write", slow)
        scripted(cluster, seen, lambda prompt: time.sleep(0.05))
        assert texts(journal, open_engine(model(unit=60, most=1)), asked)[0] == right(asked)
        assert cluster.status()[0]["lost"] == 0 and written
    assert len(seen) == 60


def out_of_reach(monkeypatch, storage):
    """Let no block in the folder `storage` be read or listed."""

    def gone(self, path, *_, **__):
        raise ConnectionError("no route to the store")

    for name in ("cat_file", "ls"):
        monkeypatch.setattr(type(Blocks(storage)._fs), name, gone)


def test_a_storage_out_of_reach_is_waited_for_and_then_a_plain_error(storage, journal, monkeypatch):
    asked, seen = requests(40), []
    monkeypatch.setattr(cluster_engine, "REACH_SECONDS", 1.0)
    with fake_ray.cluster(storage) as cluster:
        scripted(cluster, seen)
        engine = open_engine(model())
        with monkeypatch.context() as patch:
            patch.setattr(type(Blocks(storage)._fs), "cat_file", lambda *_, **__: 1 / 0)
            with pytest.raises(PergError, match=r"cannot be read: ZeroDivisionError: .* run the same command again"):
                texts(journal, engine, asked)
        with monkeypatch.context() as patch:
            out_of_reach(patch, storage)
            with pytest.raises(PergError, match="cannot be read: ConnectionError: no route"):
                texts(journal, engine, asked)
    assert len(seen) == 40 and len(names(storage)) > 0, "all had been written, and nothing was asked again"
    with fake_ray.cluster(storage) as cluster:
        scripted(cluster, seen)
        assert texts(journal, open_engine(model()), asked)[0] == right(asked)
    assert len(seen) == 40 and names(storage) == []


def test_a_storage_that_comes_back_in_time_is_read_and_what_came_without_it_is_kept(storage, journal, monkeypatch):
    asked, seen = requests(60), []
    real_write, real_read, written = Blocks.write, type(Blocks(storage)._fs).cat_file, []

    def once(self, *words):
        if written:
            raise OSError(28, "No space left on device")
        written.append(time.monotonic())
        return real_write(self, *words)

    def later(self, path, *words, **more):
        if time.monotonic() - written[0] < 1.5:
            raise ConnectionError("no route to the store")
        return real_read(self, path, *words, **more)

    with fake_ray.cluster(storage) as cluster:
        monkeypatch.setattr(Blocks, "write", once)
        monkeypatch.setattr(type(Blocks(storage)._fs), "cat_file", later)
        scripted(cluster, seen)
        assert texts(journal, open_engine(model()), asked)[0] == right(asked)
    assert len(seen) == 60 and written and names(storage) == []


def test_when_the_storage_stays_away_what_came_by_the_dispatcher_is_kept(storage, journal, monkeypatch):
    asked, seen, written = requests(40), [], []
    real = Blocks.write

    def once(self, *words):
        if written:
            raise OSError(28, "No space left on device")
        written.append(1)
        return real(self, *words)

    monkeypatch.setattr(cluster_engine, "REACH_SECONDS", 1.0)
    with fake_ray.cluster(storage) as cluster, monkeypatch.context() as patch:
        patch.setattr(Blocks, "write", once)
        patch.setattr(type(Blocks(storage)._fs), "cat_file", lambda *_, **__: 1 / 0)
        scripted(cluster, seen)
        with pytest.raises(PergError, match="cannot be read"):
            texts(journal, open_engine(model()), asked)
    kept = sum(len(Blocks(storage).read(name)) for name in names(storage))
    assert len(seen) == 40 and 0 < kept < 40
    assert journal.execute("SELECT count(*) FROM replies")[0][0] == 40 - kept


def test_a_damaged_block_is_named(storage, journal):
    blocks = Blocks(storage)
    name = blocks.write(Pool(dict(ApiEngine(model()).identity), model()).id, "0c0c", b"PAR1, cut off")
    with fake_ray.cluster(storage) as cluster:
        scripted(cluster, [])
        with pytest.raises(PergError, match=rf"{name} is damaged \(ArrowInvalid: .*; remove it"):
            texts(journal, open_engine(model()), requests(2))


def test_a_replica_without_progress_is_replaced_though_it_beats(storage, journal):
    asked, seen, stuck = requests(40), [], threading.Event()

    def harm(prompt):
        if prompt == "-0005" and not stuck.is_set():
            stuck.set()
            time.sleep(3)

    with fake_ray.cluster(storage) as cluster:
        scripted(cluster, seen, harm)
        config = model(unit=20, most=1, patience=0.5)
        assert texts(journal, open_engine(config), asked)[0] == right(asked)
        assert cluster.status()[0]["lost"] == 1


@pytest.mark.parametrize("deadly", [False, True])
def test_what_always_fails_is_narrowed_down_to_one_request_and_set_aside(storage, journal, deadly):
    asked, seen = requests(90), []

    def harm(prompt):
        if prompt == "-0047":
            raise fake_ray.Killed if deadly else ValueError("a poisoned prompt")

    with fake_ray.cluster(storage) as cluster:
        scripted(cluster, seen, harm)
        found, replies = texts(journal, open_engine(model(unit=30)), asked)
        status = cluster.status()[0]
    lost = [reply for reply in replies if reply.status != Status.OK]
    assert len(lost) == 1 and lost[0].status == Status.API_ERROR
    assert "failed on the cluster again and again" in lost[0].error
    assert ("poisoned" in lost[0].error) != deadly
    assert found[47] is None and sum(text is not None for text in found) == 89
    assert status["aside"] == 1 and seen.count("-0047") <= 9, "some times with all others, then in pieces"
    with fake_ray.cluster(storage) as cluster:  # the next run asks these again, and no others
        again = []
        scripted(cluster, again)
        assert texts(journal, open_engine(model(unit=30)), asked)[0] == right(asked)
    assert again == ["-0047"]


def test_where_nearly_everything_fails_the_search_for_it_ends(storage, journal):
    asked, seen = requests(400), []

    def harm(prompt):
        if prompt >= "-0004":
            raise ValueError("a poisoned prompt")

    with fake_ray.cluster(storage) as cluster:
        scripted(cluster, seen, harm)
        found, _ = texts(journal, open_engine(model(unit=400)), asked)
        units = cluster.status()[0]["aside"]
    assert found[:4] == right(asked)[:4] and not any(found[4:])
    assert len(seen) <= 4 + units * (TRIES + FAILED_PIECES) < 400, "far less than each request by itself"


def test_blocks_of_a_killed_run_are_taken_first_and_nothing_in_them_is_asked_again(storage, journal):
    asked, seen = requests(30), []
    with fake_ray.cluster(storage) as cluster:
        scripted(cluster, seen)
        engine = open_engine(model())
        keys = [request.key(engine.identity) for request in asked]
        blocks = Blocks(storage)
        left = [Answer(keys[i], i, Reply(correct(asked[i].messages[-1][1]))) for i in range(12)]
        blocks.write(engine.pool.id, "abcd", pack(left))
        blocks.write(engine.pool.id, "abce", pack([Answer("of no use", 0, Reply("x"))]))
        assert texts(journal, engine, asked)[0] == right(asked)
    assert len(seen) == 18 and not {"-0000", "-0011"} & set(seen)
    assert names(storage) == []


def test_a_full_disk_loses_nothing_that_was_answered(storage, journal, monkeypatch):
    asked, seen = requests(40), []

    def full(*_):
        raise OSError(28, "No space left on device")

    with fake_ray.cluster(storage) as cluster:
        monkeypatch.setattr(Blocks, "write", full)
        scripted(cluster, seen)
        assert texts(journal, open_engine(model()), asked)[0] == right(asked)
    assert len(seen) == 40 and names(storage) == []


def test_a_model_that_no_replica_can_load_ends_the_run_with_the_reason(storage, journal):
    def broken(replica):
        raise EngineError("these weights are damaged")

    with fake_ray.cluster(storage) as cluster:
        cluster.fleet.make = broken
        with pytest.raises(EngineError, match="weights are damaged"):
            journal.ask(open_engine(model(most=1)), requests(5))
        assert 3 <= len(cluster.fleet.started) <= 4


def test_a_model_without_room_waits_for_a_node_and_ends_with_what_it_lacks(storage, journal):
    asked, seen = requests(10), []
    with fake_ray.cluster(storage, cores=0.5) as cluster:
        scripted(cluster, seen)
        config = ModelConfig(name="m", model="data/embedded/models/S", dtype="float32", replica={"startup": 0.5})
        with pytest.raises(EngineError, match=r"takes 1 cores and 0 GPUs, the cluster has 0\.5 and 0"):
            journal.ask(open_engine(config), asked)
        threading.Timer(0.3, lambda: setattr(cluster.fleet, "cores", 2)).start()  # a node joins late
        patient = config.model_copy(update={"replica": config.replica.model_copy(update={"startup": 30.0})})
        assert texts(journal, open_engine(patient), asked)[0] == right(asked)


def test_two_models_share_the_room_and_both_come_to_their_end(storage, tmp_path):
    seen = []
    with fake_ray.cluster(storage, cores=1) as cluster:
        scripted(cluster, seen)

        def ask(name):
            config = ModelConfig(name=name, model=f"data/embedded/models/{name}", dtype="float32")
            with Journal(tmp_path / f"{name}.sqlite") as journal:
                for part in ("a", "b"):
                    asked = requests(20, name + part)
                    assert texts(journal, open_engine(config), asked)[0] == right(asked)
            done.append(name)

        done = []
        threads = [threading.Thread(target=ask, args=(name,)) for name in "SML"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
    assert sorted(done) == ["L", "M", "S"] and len(seen) == 120


def test_the_first_interrupt_keeps_what_is_in_flight(storage, journal):
    import os
    import signal

    asked = requests(800)
    with faulty_server.running(latency=0.4, spread=0.01) as url, fake_ray.cluster(storage):

        def interrupt():  # on the way, however fast this machine is
            while faulty_server.stats(url)["sent"] < 40:
                time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)

        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs ignore it
        threading.Thread(target=interrupt, daemon=True).start()
        with pytest.raises(KeyboardInterrupt):
            journal.ask(open_engine(model(url)), asked)
        signal.signal(signal.SIGINT, before)
        kept = journal.execute("SELECT count(*) FROM replies")[0][0]
        assert 0 < kept < 800 and faulty_server.stats(url)["sent"] == kept, "all that was sent is kept"
        assert texts(journal, open_engine(model(url)), asked)[0] == right(asked)
        assert faulty_server.stats(url)["sent"] == 800
    assert names(storage) == []


def test_a_stream_of_requests_has_no_pause_between_its_portions():
    with faulty_server.running(latency=0.2, spread=0.0) as url:
        engine = ApiEngine(model(url))
        portions = [requests(4, i) for i in range(8)]
        start = time.monotonic()
        found = list(engine.stream([], lambda: portions.pop(0) if portions else None))
        assert sorted(index for index, _ in found) == list(range(32))
        assert faulty_server.stats(url)["most"] == 8 and time.monotonic() - start < 2
    assert replace(found[0][1], seconds=None).status == Status.OK
