"""The released files: their names, their blob ids, and how they are downloaded."""

import http.server
import threading
from functools import partial

import pandas as pd
import pytest

from perg_utils.core.errors import DataError
from perg_utils.core.profile import ROOT
from perg_utils.published.files import blob_id, describe, download, load_manifest


def test_every_file_of_the_manifest_is_known_by_name_and_agrees_with_the_manifest():
    manifest = load_manifest()
    responses = manifest[manifest["kind"] != "dataset"]
    found = [describe(path) for path in responses["path"]]
    assert len(manifest) == 140
    assert [str(f.setting) for f in found] == responses["setting"].tolist()
    assert [str(f.method) for f in found] == responses["method"].tolist()
    assert [f.rank == 0 for f in found] == (responses["kind"] == "scored").tolist()


def test_every_configuration_of_the_papers_figures_has_a_scored_file():
    paper = pd.read_csv(ROOT / "data" / "paper_metrics.csv")
    manifest = load_manifest()
    have = {
        (str(f.setting), str(f.method), f.model)
        for f in map(describe, manifest.loc[manifest["kind"] == "scored", "path"])
    }
    wanted = set(paper[["setting", "method", "model"]].itertuples(index=False, name=None))
    assert len(paper) == 944 and len(wanted) == 59
    assert wanted <= have


def test_a_chunk_number_is_told_from_a_row_count():
    top = "results/mcq_results/relevant/direct/full/"
    assert describe(top + "Llama-3.3-70B-Instruct_3_1442_0.0013_0.94.csv").chunk == 3
    assert describe(top + "Mistral-7B-Instruct-v0.3_200_-0.045_0.58.csv").chunk is None
    assert describe(top + "Qwen3-8B_thinking.csv").model == "Qwen3-8B-Thinking"
    with pytest.raises(DataError, match="unknown model"):
        describe(top + "janus-7b_dont_use.csv")


def test_blob_ids_are_gits():
    assert blob_id(b"") == "e69de29bb2d1d6434b8b29ae775ad8c2e48c5391"
    assert blob_id(b"hello\n") == "ce013625030ba8dba906f756967f9e9ca394464a"


@pytest.fixture
def server(tmp_path):
    asked = []

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            super().do_GET()

        def log_message(self, *_):
            pass

    folder = tmp_path / "served"
    folder.mkdir()
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=folder)) as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield folder, f"http://127.0.0.1:{running.server_address[1]}/", asked
        running.shutdown()
        thread.join()


def test_a_download_keeps_the_good_files_names_the_others_and_resumes(server, tmp_path):
    folder, address, asked = server
    for name in ("good", "altered", "there"):
        (folder / f"{name}.csv").write_text(name)
    rows = [("good.csv", blob_id(b"good")), ("altered.csv", blob_id(b"x")), ("gone.csv", blob_id(b"y"))]
    manifest = pd.DataFrame([*rows, ("there.csv", blob_id(b"there"))], columns=["path", "git_blob_sha1"])
    target = tmp_path / "target"
    target.mkdir()
    (target / "there.csv").write_text("there")
    problems = {p.path: p for p in download(target, manifest, address)}
    assert {name: p.status for name, p in problems.items()} == {"altered.csv": "altered", "gone.csv": "missing"}
    assert "404" in problems["gone.csv"].reason and blob_id(b"x") in problems["altered.csv"].reason
    assert sorted(p.name for p in target.iterdir()) == ["good.csv", "there.csv"]
    assert "/there.csv" not in asked
    asked.clear()
    download(target, manifest, address)
    assert sorted(asked) == ["/altered.csv", "/gone.csv"]


def test_a_server_that_is_not_there_is_a_problem_per_file(tmp_path):
    manifest = pd.DataFrame([("a.csv", blob_id(b""))], columns=["path", "git_blob_sha1"])
    (problem,) = download(tmp_path, manifest, "http://127.0.0.1:9/")
    assert problem.status == "unreachable"
