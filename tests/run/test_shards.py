import json
import shutil
import subprocess
import sys
from pathlib import Path

import in_process
import pandas as pd
import pytest

from perg_utils.core.errors import PergError
from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT, Profile, ProfileError
from perg_utils.core.workspace import Workspace
from perg_utils.engines import journal_tools
from perg_utils.inference import shards
from perg_utils.inference.plan import plan
from perg_utils.run import pipeline
from perg_utils.run.merge import ShardError, merge

SETTINGS = (
    "data.limit=7",
    "models=[{name: S, model: data/embedded/models/S, dtype: float32}, "
    "{name: S+S, model: data/embedded/models/S, dtype: float32, aligner: S, methods: [pref_aligner]}]",
    "grid={relevant: [zero_shot, few_shot, self_critic, pref_aligner], mixed: [zero_shot]}",
    "data.preferences=full",
    "statistics.resamples=100",
    "extractor={}",
)


def command(out, *more, only=()):
    return pipeline.Command(overrides=(*SETTINGS, *more), out=Path(out), only=only)


@pytest.fixture(scope="module", autouse=True)
def in_this_process():
    with in_process.notebooks():
        yield


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """Two folders with the two shards of a study, units on two 'machines', and one with the study in one piece."""
    first, second, whole = (tmp_path_factory.mktemp(name) for name in ("first", "second", "whole"))
    pipeline.run(command(first, "shard=1/2"))
    pipeline.run(command(first, "shard=2/2", only=("01", "03:S+S")))
    pipeline.run(command(second, "shard=2/2", only=("01", "03:S")))
    pipeline.run(command(whole, only=("01", "03", "04", "05", "06")))
    return first, second, whole


@pytest.fixture
def machines(finished, tmp_path):
    """Copies of the two machines' folders."""
    return [Path(shutil.copytree(folder, tmp_path / folder.name)) for folder in finished[:2]]


def test_every_question_is_in_exactly_one_shard_and_all_sources_are_in_all():
    examples = pd.DataFrame({"example_id": [f"{s}-{i}" for s in ("TQA", "CQA") for i in range(10)]})
    parts = [shards.take(examples, f"{i}/3") for i in (1, 2, 3)]
    assert [len(part) for part in parts] == [7, 7, 6]
    assert sorted(pd.concat(parts)["example_id"]) == sorted(examples["example_id"])
    assert all(part["example_id"].str[:3].nunique() == 2 for part in parts)
    assert shards.take(examples, None) is examples
    assert shards.take(examples, "1/1").equals(examples)


@pytest.mark.parametrize("text", ["0/3", "4/3", "2", "a/b", "1/0", "-1/3", "[1, 2]", "1.5/2"])
def test_a_shard_that_cannot_be_is_a_plain_error(text):
    with pytest.raises(ProfileError, match="a shard is i/n"):
        load_profile("demo", [f"shard={text}"])


def test_a_shard_is_a_run_of_its_own_name():
    profile = load_profile("demo", ["shard=2/8"])
    assert (profile.name, profile.shard) == ("demo.shard-2-of-8", "2/8")
    assert Profile.model_validate(profile.model_dump()).shard == profile.shard
    assert load_profile("demo").shard is None
    ids = [step.id for step in pipeline.steps(profile, Workspace.of("/x", profile.name))]
    assert ids == ["01_curate_data", *(f"03_run_inference:{m.name}" for m in profile.models)]


def test_the_plan_of_a_shard_counts_no_ratings_since_it_makes_none():
    assert "judge: at most" in pipeline.dry_run(pipeline.Command(overrides=("data.limit=3",)))
    assert "judge: at most" not in pipeline.dry_run(pipeline.Command(overrides=("data.limit=3", "shard=1/2")))


def test_the_plans_of_shards_add_up_to_the_plan_of_the_whole():
    whole = plan(load_profile("demo", ["data.limit=10"]), "S")
    parts = [plan(load_profile("demo", ["data.limit=10", f"shard={i}/4"]), "S") for i in (1, 2, 3, 4)]
    assert sum(part.questions for part in parts) == whole.questions == 30
    assert sum(part.rows for part in parts) == whole.rows
    assert sum(part.requests for part in parts) == whole.requests


def test_merged_shards_are_the_run_that_would_have_been_without(finished, machines, tmp_path):
    done = merge(command(tmp_path / "joined"), machines)
    assert "--only 04,05,06,07,08,11,12,09" in done
    joined, whole = Workspace.of(tmp_path / "joined", "demo"), Workspace.of(finished[2], "demo")
    for table in ("examples", "preferences"):
        assert joined.read(table).equals(whole.read(table))
    for model in ("S", "S+S"):
        one, other = (w.read("responses", model).drop(columns="seconds") for w in (joined, whole))
        pd.testing.assert_frame_equal(one, other)
    assert journal_tools.counts(joined.journal) == journal_tools.counts(whole.journal)
    # It goes on as if it had never been in pieces: nothing is asked, and the figures' tables are equal.
    pipeline.run(command(tmp_path / "joined"))
    for table in ("answers", "judgements", "scores", "metrics"):
        pd.testing.assert_frame_equal(joined.read(table), whole.read(table))
    steps = json.loads((joined.run / "state.json").read_text())
    assert steps["03_run_inference:S"]["outputs"].keys() == {"tables/responses/S.parquet"}
    assert not (joined.executed / "03_run_inference.S.ipynb").exists(), "its inference was up to date"


def test_a_merged_run_goes_on_with_the_training_of_its_extractor(tmp_path):
    own = (*SETTINGS[:-1], "models=[{name: S, model: data/embedded/models/S, dtype: float32}]")
    for i in (1, 2):
        pipeline.run(pipeline.Command(overrides=(*own, f"shard={i}/2"), out=tmp_path))
    done = merge(pipeline.Command(overrides=own, out=tmp_path / "joined"), [tmp_path])
    assert "--only 02,04,05,06,07,08,10,11,12,09" in done


def test_merging_twice_changes_nothing(machines, tmp_path):
    merge(command(tmp_path / "joined"), machines)
    joined = Workspace.of(tmp_path / "joined", "demo")
    before = joined.read("responses")
    assert ": 0 new replies" in merge(command(tmp_path / "joined"), machines[::-1])
    pd.testing.assert_frame_equal(joined.read("responses"), before)


def test_a_unit_that_ran_twice_is_the_same_unit(machines, capsys):
    pipeline.run(command(machines[1], "shard=2/2", only=("01", "03:S")))
    assert "0 of 2 steps run" in capsys.readouterr().out


def broken(machines, what):
    run = machines[1] / "data" / "runs" / "demo.shard-2-of-2"
    if what == "missing":
        shutil.rmtree(run)
    elif what == "unfinished":
        (run / "tables" / "responses" / "S.parquet").unlink()
    elif what == "changed":
        shutil.copy(run / "tables" / "examples.parquet", run / "tables" / "responses" / "S.parquet")
    elif what == "another division":
        run.rename(run.with_name("demo.shard-2-of-4"))
    else:
        seal = run / "sealed" / "S.json"
        made = json.loads(seal.read_text())
        made[what] = "x" if what != "engines" else [made["engines"][0] | {"revision": "other"}, made["engines"][1]]
        seal.write_text(json.dumps(made))


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("missing", r"S is not finished in shard 2/2: run --only 01,03:S --set shard=2/2"),
        ("unfinished", r"S is not finished in shard 2/2"),
        ("changed", r"S\.parquet is not as its run left it"),
        ("another division", r"different divisions"),
        ("settings", r"other settings"),
        ("code", r"other code"),
        ("engines", r"other engines"),
    ],
)
def test_shards_that_do_not_fit_are_refused_and_nothing_is_written(machines, tmp_path, what, message):
    broken(machines, what)
    with pytest.raises(ShardError, match=message):
        merge(command(tmp_path / "joined"), machines)
    assert not (tmp_path / "joined" / "data" / "runs" / "demo" / "tables").exists()


def test_other_settings_than_the_shards_had_are_refused(machines, tmp_path):
    with pytest.raises(ShardError, match="other settings"):
        merge(command(tmp_path / "joined", "decoding.max_new_tokens=7"), machines)
    with pytest.raises(ShardError, match="leave out --set shard"):
        merge(command(tmp_path / "joined", "shard=1/2"), machines)
    with pytest.raises(ShardError, match=r"there are no shards of 'demo' below .*/empty"):
        merge(command(tmp_path / "joined"), [tmp_path / "empty"])


def test_each_machine_may_have_its_own_server_and_pace(tmp_path):
    whole = shards.made_with(load_profile("demo", SETTINGS), [])
    for own in ("models.0.base_url=http://gpu7:8000/v1", "models.1.concurrency=64", "models.0.batch_size=3"):
        assert shards.made_with(load_profile("demo", [*SETTINGS, own, "shard=1/2"]), []) == whole
    for other in ("models.0.revision=abc", "models.0.thinking=true", "decoding.seed=1", "data.limit=8"):
        assert shards.made_with(load_profile("demo", [*SETTINGS, other]), []) != whole


def test_the_merge_command_says_what_it_joined_and_how_to_go_on(machines, tmp_path):
    words = [word for item in SETTINGS for word in ("--set", item)]
    call = [sys.executable, "-m", "perg_utils", "merge", *map(str, machines), *words, "--out", str(tmp_path / "joined")]
    done = subprocess.run(call, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("2 shards joined in ") and "To go on: ./run_all.sh --only 04," in done.stdout
    lost = subprocess.run([*call[:3], "merge", str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (lost.returncode, lost.stderr.count("\n")) == (2, 1)
    assert issubclass(ShardError, PergError) and "there are no shards of" in lost.stderr
