import os
import shutil
import subprocess
import sys

import pytest

from perg_utils import __version__
from perg_utils.__main__ import main
from perg_utils.core.profile import ROOT
from perg_utils.run import pipeline


def perg(*arguments, cwd=None, **environment):
    """Run the command line as a user does, in a process of its own."""
    return subprocess.run(
        [sys.executable, "-m", "perg_utils", *map(str, arguments)],
        cwd=cwd,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
    )


def assert_plain_error(done, *expected):
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    for text in expected:
        assert text in done.stderr


def test_the_version_is_told(capsys):
    with pytest.raises(SystemExit, match="0"):
        main(["--version"])
    assert capsys.readouterr().out == f"perg_utils {__version__}\n"


def test_an_unknown_profile_is_a_plain_error_with_status_2():
    assert_plain_error(perg("run", "--profile", "papr"), "no profile 'papr'", "Did you mean 'paper'?")


def test_a_bad_value_is_a_plain_error_before_anything_is_written(tmp_path):
    done = perg("run", "--set", "data.limt=5", "--out", tmp_path / "out")
    assert_plain_error(done, "data.limt: unknown key (did you mean 'limit'?)")
    assert not (tmp_path / "out").exists()


def test_a_set_option_without_a_value_is_explained():
    assert_plain_error(perg("run", "--set", "data.limit"), "--set takes KEY=VALUE (e.g. data.limit=50)")


def test_an_unknown_step_lists_the_known_ones():
    assert_plain_error(perg("run", "--only", "01,99"), "no step '99'", "01_curate_data", "03_run_inference:S+L")


def test_only_with_inputs_that_are_not_there_says_so(tmp_path):
    done = perg("run", "--only", "06", "--out", tmp_path)
    assert_plain_error(done, "06_score_metrics needs", "which is not there; 01_curate_data makes it")


def test_an_out_folder_that_cannot_be_written_is_a_plain_error(tmp_path):
    (tmp_path / "file").write_text("")
    assert_plain_error(perg("run", "--out", tmp_path / "file" / "below"), "cannot be written", "--out")


@pytest.mark.parametrize("name", ["demo", "laptop", "paper_small", "paper"])
def test_a_dry_run_of_every_profile_needs_no_network_and_changes_nothing(tmp_path, name):
    # The prompts of all 7,208 questions are laid out to be counted: a hundred of a source are the same, in less time.
    fewer = ("--set", "data.limit=100")
    done = perg("run", "--profile", name, *fewer, "--dry-run", "--out", tmp_path / "out", HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    for text in ("01_curate_data: to run", "relevant: zero_shot", "requests, 0 of them answered", "reply tokens"):
        assert text in done.stdout
    assert not (tmp_path / "out").exists()


def test_relative_paths_are_meant_from_where_the_user_is(tmp_path):
    text = (ROOT / "notebooks" / "profiles" / "demo.yaml").read_text().replace("name: demo", "name: mine")
    (tmp_path / "mine.yaml").write_text(text)
    done = perg("run", "--profile", "mine.yaml", "--only", "06", "--out", "here", cwd=tmp_path)
    assert_plain_error(done, str(tmp_path / "here" / "data" / "runs" / "mine"))


def test_training_an_unknown_size_is_a_plain_error(tmp_path):
    assert_plain_error(perg("train-embedded", "--out", tmp_path, "--size", "XL"), "XL", "S")


def test_the_command_line_starts_without_what_only_its_commands_need():
    code = "import sys, perg_utils.__main__ as m; m.parser(); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not {"pandas", "numpy", "pydantic", "papermill", "nbformat", "torch", "aiohttp"} & set(done.stdout.split())


@pytest.mark.parametrize(("altered", "status"), [(False, 0), (True, 1)])
def test_verify_follows_the_run_and_its_status_says_whether_the_tables_are_the_committed_ones(
    tmp_path, monkeypatch, capsys, altered, status
):
    def run(command):
        shutil.copytree(ROOT / "figures" / "demo", command.out / "figures" / "demo")
        if altered:
            table = command.out / "figures" / "demo" / "tables" / "main.csv"
            table.write_text(table.read_text().replace("S,", "T,", 1))

    monkeypatch.setattr(pipeline, "run", run)
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--verify", "--out", str(tmp_path)]) == status
    told = capsys.readouterr().out
    assert ("tables agree" in told) != altered and ("1 DIFFER" in told) == altered


@pytest.mark.parametrize("more", [(), ("--dry-run",)])
def test_verify_without_committed_tables_is_an_error_before_the_run(tmp_path, monkeypatch, capsys, more):
    monkeypatch.setattr(pipeline, "run", lambda command: pytest.fail("the study was run"))
    monkeypatch.chdir(tmp_path)
    assert main(["run", "--profile", "laptop", "--verify", "--out", str(tmp_path), *more]) == 2
    told = capsys.readouterr()
    assert "there are no committed tables of profile 'laptop'" in told.err and told.out == ""


def test_verify_in_a_copy_without_git_is_an_error_before_the_run_writes_over_the_tables(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pipeline, "run", lambda command: pytest.fail("the study was run"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["run", "--verify"]) == 2
    assert "git cannot tell what they were" in capsys.readouterr().err


def test_a_dry_run_with_verify_says_what_will_be_compared(tmp_path):
    done = perg("run", "--dry-run", "--verify", "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    tables = len(list((ROOT / "figures" / "demo").rglob("*.csv")))
    assert done.stdout.splitlines()[-1] == f"verify: then compared with {tables} tables in {ROOT}/figures/demo"


def test_help_names_the_commands():
    done = perg("--help")
    assert done.returncode == 0
    for command in ("run", "doctor", "train-embedded"):
        assert command in done.stdout
