import json
import os
import re
from types import SimpleNamespace

import fake_ray
import pytest
from parrot import Parrot

from perg_utils import __main__ as command_line
from perg_utils.core.errors import PergError
from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT
from perg_utils.core.workspace import Workspace
from perg_utils.dataset import preferences
from perg_utils.dataset import questions as curation
from perg_utils.engines.cluster import serving
from perg_utils.engines.cluster.connection import VARIABLE, Where
from perg_utils.engines.cluster.engine import version_key
from perg_utils.engines.open import open_engine
from perg_utils.inference import run as inference
from perg_utils.run import pipeline, provenance
from perg_utils.run.notebook import StepFailed
from perg_utils.run.spread import Spread
from perg_utils.run.steps import steps
from perg_utils.run.together import Job, execute_together


def spread(tmp_path, cluster, *overrides):
    command = pipeline.Command(overrides=overrides, out=tmp_path, cluster=cluster)
    profile = load_profile("demo", overrides)
    return Spread(command, profile, Workspace.of(tmp_path, "demo"))


def test_models_that_share_no_weights_run_at_once_and_all_else_one_by_one(tmp_path):
    made = spread(tmp_path, "local")
    plan = steps(made.profile, made.workspace)
    groups = [[step.id for step in some] for some in made.together(plan)]
    inference = [f"03_run_inference:{name}" for name in ("S", "M", "L")]
    assert inference in groups and ["03_run_inference:S+L"] in groups, "S+L finds the replies of S and L"
    assert [name for some in groups for name in some] == [step.id for step in plan], "in the order of the plan"
    assert all(len(some) == 1 for some in groups if some != inference)
    alone = [[step.id for step in some] for some in spread(tmp_path, None).together(plan)]
    assert alone == [[step.id] for step in plan]


def test_no_cluster_is_started_for_steps_that_ask_nobody(tmp_path):
    made = spread(tmp_path, "nowhere:1")
    plan = steps(made.profile, made.workspace)
    with made:
        made.ready_for([step for step in plan if step.id in {"01_curate_data", "06_score_metrics", "09_write_report"}])
        assert made.cluster is None


def test_workers_get_the_keys_of_the_models_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setenv("MY_KEY", "one")
    monkeypatch.setenv("OTHER_KEY", "two")
    for name in list(os.environ):
        if name.startswith(("AWS_", "GOOGLE_", "FSSPEC_", "HF_", "OPENAI_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_PROFILE", "of-this-machine")
    monkeypatch.setenv("GOOGLE_API_KEY", "of-another-model")
    of_storage = {"AWS_SECRET_ACCESS_KEY": "three", "AWS_DEFAULT_REGION": "four", "FSSPEC_S3_ENDPOINT_URL": "five"}
    for name, value in of_storage.items():
        monkeypatch.setenv(name, value)
    made = spread(tmp_path, "local", "models.0={name: S, engine: api, model: m, api_key_env: MY_KEY}")
    assert made._keys("/folder") == made._keys("file:///folder") == {"MY_KEY": "one"}
    assert made._keys("s3://bucket") == {"MY_KEY": "one", **of_storage}


def test_the_command_that_resumes_names_the_cluster_and_dropping_does_not():
    command = pipeline.Command(cluster="auto", storage="s3://b/x", only=("03",))
    assert command.resume() == "./run_all.sh --only 03 --cluster auto --storage s3://b/x"
    assert "--cluster" not in command.drop("rejected")


def test_storage_without_a_cluster_is_a_plain_error(capsys):
    assert command_line.main(["run", "--storage", "/x"]) == 2
    assert "it needs --cluster" in capsys.readouterr().err


def test_the_manifest_says_which_servers_replicas_started(tmp_path):
    made = spread(tmp_path, None)
    assert provenance.collect(made.profile, ROOT, made.workspace)["cluster"] is None
    made.workspace.run.mkdir(parents=True)
    known = {"ray": "2.60.0", "served": {"Q": {"server": "vllm", "version": "0.12.0", "command": []}}}
    (made.workspace.run / "cluster.json").write_text(json.dumps(known))
    assert provenance.collect(made.profile, ROOT, made.workspace)["cluster"] == known


SERVED = "replica: {server: transformers, flags: [%s]}"


def ran_on_a_cluster(tmp_path, version, *overrides):
    """A run whose served model was answered by replicas with this version of its server, and what it wrote down."""
    profile, workspace = load_profile("demo", overrides), Workspace.of(tmp_path, "demo")
    [model] = profile.models
    bank = preferences.load_bank()
    workspace.write("preferences", bank)
    workspace.write("examples", preferences.assign(curation.load_examples(profile.data, profile.seed), bank))
    with fake_ray.cluster(str(tmp_path / "blocks")) as cluster:
        cluster.fleet.make = lambda replica: Parrot()
        os.environ[VARIABLE] = Where("nowhere", "test", str(tmp_path / "blocks"), {version_key(model): version}).text()
        inference.run(profile, "S", workspace)
        served = {"S": serving.describe(model, open_engine(model).identity)}
    (workspace.run / "cluster.json").write_text(json.dumps({"ray": "2.60.0", "served": served}))


def answered(tmp_path, cluster, *overrides):
    """What the plan says of S: (requests, of them answered), and all of it."""
    told = pipeline.dry_run(pipeline.Command(overrides=overrides, out=tmp_path, cluster=cluster))
    found = re.search(r"^  S: .* (\d+) requests, (\d+) of them answered", told, re.MULTILINE)
    return tuple(map(int, found.groups())), told


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")  # replicas that are ended
def test_the_plan_knows_the_replies_of_a_served_model_by_the_server_of_the_last_run(tmp_path):
    same = "data.limit=2", "grid={relevant: [zero_shot]}", "extractor={}"
    weights = "models=[{name: S, model: data/embedded/models/S, dtype: float32, %s}]"
    model = weights % SERVED % ""
    (all_of_it, none), told = answered(tmp_path, "local", *same, model)
    assert none == 0 and "servers of S: none so far, so none of their replies is known" in told
    ran_on_a_cluster(tmp_path, "4.99.1", *same, model)
    counts, told = answered(tmp_path, "local", *same, model)
    assert counts == (all_of_it, all_of_it)
    assert "servers of S: as of the last run on a cluster (transformers 4.99.1)" in told
    assert "to be asked: about 0 prompt and 0 reply tokens" in told
    # What it wrote down is damaged: said by name, with the cure.
    written = tmp_path / "data/runs/demo/cluster.json"
    good = written.read_text()
    for damaged in (
        "{",
        '{"ray": "2.60.0"}',
        '{"served": {"S": {"server": "transformers", "version": "4.99.1"}}}',
        "[]",
    ):
        written.write_text(damaged)
        with pytest.raises(PergError, match=r"cluster\.json is damaged \(.*remove it: the next run"):
            answered(tmp_path, "local", *same, model)
    written.write_text(good)
    # Without a cluster the weights run in process, and other flags make another server: all are asked anew.
    counts, told = answered(tmp_path, None, *same, model)
    assert counts == (all_of_it, 0) and "servers of S" not in told
    assert answered(tmp_path, "local", *same, weights % SERVED % "--x")[0] == (all_of_it, 0)
    assert VARIABLE not in os.environ


def notebook(path, *cells):
    import nbformat

    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    made.metadata.kernelspec = {"name": "python3", "display_name": "Python 3"}
    nbformat.write(made, path)
    return path


def test_of_several_notebooks_at_once_one_fails_and_the_others_come_to_their_end(tmp_path, capsys):
    cells = {"a": "import time; time.sleep(1)", "b": "raise ValueError('broken')", "c": "1 + 1"}
    jobs = [
        Job(
            SimpleNamespace(id=name, model=name, notebook=notebook(tmp_path / f"{name}.ipynb", cell)),
            name,
            tmp_path / "executed" / f"{name}.ipynb",
            {},
        )
        for name, cell in cells.items()
    ]
    ended = []
    with pytest.raises(StepFailed, match="broken") as failure:
        ended.extend(step.id for step, _ in execute_together(jobs, lambda some: ["table"]))
    assert failure.value.step == "b"
    assert "b: failed; the others go on" in capsys.readouterr().out
    assert all('"status": "completed"' in jobs[n].executed.read_text() for n in (0, 2))
    assert "PERG_CLUSTER" not in os.environ
