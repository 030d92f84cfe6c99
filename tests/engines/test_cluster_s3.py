"""Replies through an object store: S3's protocol, spoken by a server on this machine.

Needs `pip install 'moto[s3]' flask flask-cors s3fs` beside the extra `cluster`; skipped without. Some of the promises
of `test_cluster` are kept on a bucket, too; then a whole run goes through one on Ray itself.
"""

import importlib.util
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from contextlib import suppress

import fake_ray
import in_process
import pytest
import same_run
from test_cluster import (  # the very tests, with this module's `storage`
    journal,  # noqa: F401
    model,
    requests,
    right,
    scripted,
    test_a_killed_replicas_units_go_to_others_less_what_it_has_written,  # noqa: F401
    test_blocks_of_a_killed_run_are_taken_first_and_nothing_in_them_is_asked_again,  # noqa: F401
    test_replies_of_two_replicas_are_those_of_one_process_and_no_block_is_left,  # noqa: F401
    texts,
)

from perg_utils.core.errors import PergError
from perg_utils.core.profile import ROOT
from perg_utils.core.workspace import Workspace
from perg_utils.engines.base import Reply
from perg_utils.engines.cluster.blocks import Answer, Blocks, pack
from perg_utils.engines.open import open_engine
from perg_utils.run import pipeline

SERVER = shutil.which("moto_server", path=os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]]))
pytestmark = [
    pytest.mark.skipif(not (SERVER and importlib.util.find_spec("s3fs")), reason="needs moto_server and s3fs"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning"),  # killed replicas
]
SECRET = "a-secret-key-never-to-be-found-anywhere"


@pytest.fixture(scope="module")
def server():
    """A server of buckets (its process), and what stands in the environment of whoever uses it."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url = f"http://127.0.0.1:{port}"
    process = subprocess.Popen([SERVER, "-H", "127.0.0.1", "-p", str(port)], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while True:
        with suppress(OSError), urllib.request.urlopen(f"{url}/moto-api/", timeout=5):
            break
        assert time.monotonic() < until and process.poll() is None, "the server did not come up"
        time.sleep(0.2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ENDPOINT_URL", url)
        patch.setenv("AWS_ACCESS_KEY_ID", "someone")
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
        patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
        yield process
    process.terminate()
    process.wait(30)


@pytest.fixture
def storage(server, tmp_path):
    """A bucket of its own."""
    import s3fs

    name = "perg-" + "".join(c for c in tmp_path.name.lower() if c.isalnum())[-50:]
    s3fs.S3FileSystem.clear_instance_cache()
    s3fs.S3FileSystem().mkdir(name)
    yield f"s3://{name}/blocks"
    assert s3fs.S3FileSystem().find(f"{name}/blocks", refresh=True) == [], "a block is left"


def test_a_block_is_one_object_and_is_seen_by_whoever_has_looked_before(storage):
    import s3fs

    mine, other = Blocks(storage), Blocks(storage)
    other._fs = s3fs.S3FileSystem(skip_instance_cache=True)  # as on another node
    answers = [Answer("k1", 3, Reply("Ä\n", completion_tokens=2))]
    assert list(mine.names("a1b2")) == []
    name = other.write("a1b2", "0c0c", pack(answers))
    assert list(mine.names("a1b2")) == list(mine.names("a1b2", "0c0c")) == [name]
    assert mine.read(name) == answers
    assert len(mine._fs.find(storage, refresh=True)) == 1
    other.remove(name)
    mine.remove(name)
    assert list(mine.names("a1b2")) == []
    mine.check()


def test_a_bucket_that_is_not_there_is_a_plain_error(server):
    with pytest.raises(PergError, match=r"--storage s3://perg-nobody/x cannot be written and read: .*bucket"):
        Blocks("s3://perg-nobody/x").check()


def test_a_store_that_pauses_is_waited_for_and_nothing_is_asked_twice(server, storage, journal):  # noqa: F811
    asked, seen = requests(60), []

    def pause(prompt):
        time.sleep(0.05)
        if len(seen) == 10:
            os.kill(server.pid, signal.SIGSTOP)
            threading.Timer(4, os.kill, [server.pid, signal.SIGCONT]).start()  # longer than silence may be

    with fake_ray.cluster(storage) as cluster:
        scripted(cluster, seen, pause)
        assert texts(journal, open_engine(model(unit=60, most=1)), asked)[0] == right(asked)
        assert cluster.status()[0]["lost"] == 0
    assert len(seen) == 60


@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="needs pip install -e .[cluster]")
def test_a_whole_run_through_a_bucket_has_the_very_tables_of_one_without(storage, tmp_path):
    settings = (
        "data.limit=2",
        "statistics.resamples=100",
        "extractor={}",
        "grid={relevant: [zero_shot, pref_aligner]}",
    )
    settings += ("models=[{name: S, model: data/embedded/models/S, dtype: float32}]",)
    words = [word for item in settings for word in ("--set", item)]
    only, here = ("01", "03", "04", "05", "06"), tmp_path / "here"
    call = [sys.executable, "-m", "perg_utils", "run", *words, "--only", ",".join(only), "--cluster", "local"]
    call += ["--storage", storage, "--out", str(tmp_path / "spread")]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    with in_process.notebooks():
        pipeline.run(pipeline.Command(only=only, overrides=settings, out=here))
    found = same_run.compare(Workspace.of(here, "demo"), Workspace.of(tmp_path / "spread", "demo"))
    assert found.differ == [] and found.tables > 5
    assert SECRET not in done.stdout + done.stderr
    for place in (tmp_path, "/tmp/ray"):
        told = subprocess.run(["grep", "-rl", SECRET, str(place)], capture_output=True, text=True, check=False)
        assert told.stdout == ""
