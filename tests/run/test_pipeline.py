"""The loop over the steps: what runs again, what a notebook says on its way, how a run fails and goes on."""

import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest
import toy

from perg_utils.core.errors import PergError
from perg_utils.core.loading import PROFILES, load_profile
from perg_utils.core.profile import ROOT
from perg_utils.core.workspace import Workspace
from perg_utils.run import pipeline
from perg_utils.run.state import StateError, Step
from perg_utils.run.steps import steps


def status_lines(capsys) -> list[str]:
    return [line for line in capsys.readouterr().out.splitlines() if line.endswith("up to date") or ": done" in line]


def test_a_second_run_runs_nothing(tmp_path, capsys):
    toy.run(tmp_path)
    assert [line.split(" done")[0] for line in status_lines(capsys)] == ["[1/2] a:", "[2/2] b:"]
    toy.run(tmp_path)
    assert status_lines(capsys) == ["[1/2] a: up to date", "[2/2] b: up to date"]
    assert (tmp_path / "second.txt").read_text() == "one two"


def test_a_changed_input_runs_its_step_and_the_dependents_only(tmp_path, capsys):
    toy.run(tmp_path)
    capsys.readouterr()
    (tmp_path / "first.txt").write_text("meddled")  # an output of a: made again, and then b's input is as it was
    toy.run(tmp_path)
    assert [line.split(":")[1] for line in status_lines(capsys)] == [" done in 0", " up to date"]
    (tmp_path / "a.txt").write_text("uno")
    toy.run(tmp_path)
    assert [line.split(":")[1] for line in status_lines(capsys)] == [" done in 0", " done in 0"]
    assert (tmp_path / "second.txt").read_text() == "uno two"


def test_a_changed_notebook_or_a_lost_output_runs_only_that_step(tmp_path, capsys):
    toy.run(tmp_path)
    capsys.readouterr()
    toy.run(tmp_path, "1 + 1")
    assert [line.split(" done")[0] for line in status_lines(capsys)] == ["[1/2] a: up to date", "[2/2] b:"]
    (tmp_path / "second.txt").unlink()
    toy.run(tmp_path, "1 + 1")
    assert [line.split(" done")[0] for line in status_lines(capsys)] == ["[1/2] a: up to date", "[2/2] b:"]


def test_force_runs_everything_again(tmp_path, capsys):
    toy.run(tmp_path)
    capsys.readouterr()
    toy.run(tmp_path, force=True)
    assert len([line for line in status_lines(capsys) if "done" in line]) == 2


def test_only_says_which_earlier_step_it_leaves_out_of_date(tmp_path, capsys):
    toy.run(tmp_path)
    (tmp_path / "a.txt").write_text("uno")
    capsys.readouterr()
    toy.run(tmp_path, only=("b",))
    assert "note: a is not up to date with this profile and code" in capsys.readouterr().out
    toy.run(tmp_path)
    capsys.readouterr()
    toy.run(tmp_path, only=("b",))
    assert "note:" not in capsys.readouterr().out


def test_the_notebooks_kernel_is_this_interpreter_in_the_repository_with_untouched_parameters(tmp_path, capsys):
    code = f"""import json, os, sys
Path({str(tmp_path / "seen.json")!r}).write_text(json.dumps([sys.executable, os.getcwd(), profile, overrides, out]))"""
    overrides = ('title="007"', 'title=quo"ted \\n ü')
    toy.run(tmp_path, code, overrides=overrides)
    executable, folder, profile, got, out = json.loads((tmp_path / "seen.json").read_text())
    assert executable == sys.executable
    assert Path(folder) == ROOT
    assert (profile, out) == ("demo", str(tmp_path))
    assert got == list(overrides)


PROGRESS = """
from concurrent.futures import ThreadPoolExecutor
from perg_utils.core.progress import Progress
def work(name):
    with Progress(name, 20, every=0) as progress:
        progress.advance(20)
print("a prompt")
print("S: 20/20 rows in 0:00, says a model")
work("S")
with ThreadPoolExecutor(2) as pool:
    list(pool.map(work, ["in a thread", "in another"]))
"""


def test_progress_is_shown_as_it_comes_and_not_kept_and_what_is_printed_stays_in_the_notebook(tmp_path, capsys):
    toy.run(tmp_path, PROGRESS)
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("[2/2] b")]
    assert lines[0] == "[2/2] b" and re.fullmatch(r"\[2/2\] b: done in 0:\d\d", lines[-1])
    said = [re.fullmatch(r"\[2/2\] b \(0:\d\d\) (.+)", line)[1] for line in lines[1:-1]]
    assert len(said) == 6
    for name in ("S", "in a thread", "in another"):
        own = [text for text in said if text.startswith(f"{name}: 20/20 rows")]
        assert len(own) == 2 and own[0].endswith("0:00 left") and own[1].endswith("in 0:00")
    executed = nbformat.read(tmp_path / "data" / "runs" / "demo" / "executed" / "b.ipynb", as_version=4)
    outputs = [output for cell in executed.cells for output in cell.get("outputs", [])]
    assert not [output for output in outputs if output.output_type == "display_data"]
    [printed] = [output for output in outputs if output.output_type == "stream"]
    assert printed.text == "a prompt\nS: 20/20 rows in 0:00, says a model\n"


def test_a_failing_notebook_names_cell_error_and_the_way_on_and_keeps_its_executed_copy(tmp_path):
    with pytest.raises(PergError) as caught:
        toy.run(tmp_path, "\nvalue = 1 / 0", overrides=("data.limit=7",))
    text = str(caught.value)
    assert "b.ipynb failed: cell 3: from pathlib import Path" in text
    assert "ZeroDivisionError: division by zero" in text
    assert text.splitlines()[-1] == f"to resume: ./run_all.sh --set data.limit=7 --out {tmp_path}"
    executed = tmp_path / "data" / "runs" / "demo" / "executed" / "b.ipynb"
    assert str(executed) in text
    outputs = [o for cell in nbformat.read(executed, as_version=4).cells for o in cell.get("outputs", [])]
    assert [o.ename for o in outputs if o.output_type == "error"] == ["ZeroDivisionError"]


def test_a_run_goes_on_where_it_failed(tmp_path, capsys):
    with pytest.raises(PergError):
        toy.run(tmp_path, "1 / 0")
    capsys.readouterr()
    toy.run(tmp_path, "1 / 1")
    assert [line.split(" done")[0] for line in status_lines(capsys)] == ["[1/2] a: up to date", "[2/2] b:"]


def test_a_users_mistake_inside_a_notebook_is_shown_without_a_traceback(tmp_path):
    with pytest.raises(PergError) as caught:
        toy.run(tmp_path, "from perg_utils.core.errors import DataError\nraise DataError('row 7: no gold\\nmend it')")
    assert "cell 3: from pathlib import Path\nrow 7: no gold\nmend it\nexecuted notebook" in str(caught.value)
    assert "Traceback" not in str(caught.value)


def test_a_kernel_that_dies_is_reported_as_such(tmp_path):
    with pytest.raises(PergError, match="Python process died; most often the machine ran out of memory"):
        toy.run(tmp_path, "import os\nos._exit(9)")


def test_a_notebook_that_writes_nothing_is_a_failure_and_runs_again(tmp_path):
    make = toy.toy_steps(tmp_path)

    def demanding(profile, workspace):
        first, second = make(profile, workspace)
        return [first, Step("b", second.notebook, second.reads, (*second.writes, str(tmp_path / "more.csv")))]

    command = pipeline.Command(out=tmp_path)
    for _ in range(2):
        with pytest.raises(StateError, match=r"b\.ipynb ended without an error but wrote no .*more\.csv"):
            pipeline.run(command, demanding)


def test_only_with_an_input_that_is_not_there_names_the_step_that_makes_it(tmp_path):
    with pytest.raises(pipeline.PipelineError, match=r"b needs .*first\.txt, which is not there; a makes it"):
        toy.run(tmp_path, only=("b",))


def test_a_missing_response_file_of_one_model_is_noticed(tmp_path):
    plan = steps(load_profile("demo"), Workspace.of(tmp_path, "demo"))
    for step in plan[:5]:
        for path in map(Path, step.writes):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    extraction = next(step for step in plan if step.id == "04_extract_answers")
    with pytest.raises(pipeline.PipelineError, match=r"03_run_inference:S\+L makes it"):
        pipeline._check_inputs(extraction, plan)


def start_and_wait_for_the_second_notebook(folder: Path) -> tuple[subprocess.Popen, psutil.Process]:
    """A toy run in a process of its own, stuck in its second notebook, and the kernel it started."""
    code = f"Path({str(folder / 'here')!r}).touch()\nimport time\ntime.sleep(120)"
    child = subprocess.Popen([sys.executable, toy.__file__, folder, code], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 300
    while not (folder / "here").exists():
        assert time.monotonic() < deadline
        assert child.poll() is None
        time.sleep(0.05)
    kernels = [p for p in psutil.Process(child.pid).children() if "ipykernel_launcher" in p.cmdline()]
    assert len(kernels) == 1
    return child, kernels[0]


def test_after_kill_9_the_kernel_ends_and_the_next_run_goes_on(tmp_path, capsys):
    child, kernel = start_and_wait_for_the_second_notebook(tmp_path)
    child.kill()
    child.communicate()
    psutil.wait_procs([kernel], timeout=60)
    assert not kernel.is_running() or kernel.status() == psutil.STATUS_ZOMBIE
    toy.run(tmp_path)
    assert [line.split(" done")[0] for line in status_lines(capsys)] == ["[1/2] a: up to date", "[2/2] b:"]


@pytest.mark.parametrize("sent", [signal.SIGTERM, signal.SIGINT])
def test_a_polite_signal_ends_run_and_kernel_and_says_how_to_resume(tmp_path, sent):
    child, kernel = start_and_wait_for_the_second_notebook(tmp_path)
    child.send_signal(sent)
    _, err = child.communicate(timeout=60)
    assert child.returncode == 130
    assert f"interrupted in b; finished work is kept\nto resume: ./run_all.sh --out {tmp_path}" in err
    assert not kernel.is_running()


def test_the_resume_command_carries_the_options_quoted(tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    command = pipeline.Command(
        profile="/p/my own.yaml", only=("06", "07"), overrides=("a=b c", "d=1"), out=tmp_path / "o", force=True
    )
    expected = f"./run_all.sh --profile '/p/my own.yaml' --only 06,07 --set 'a=b c' --set d=1 --out {tmp_path / 'o'}"
    assert command.resume() == expected
    assert pipeline.Command().resume() == "./run_all.sh"


def test_a_profile_with_a_shipped_name_does_not_replace_the_shipped_results(tmp_path):
    text = (PROFILES / "demo.yaml").read_text(encoding="utf-8")
    (tmp_path / "mine.yaml").write_text(text, encoding="utf-8")
    with pytest.raises(pipeline.PipelineError, match=r"called 'demo'.*change its `name`"):
        pipeline.run(pipeline.Command(profile=str(tmp_path / "mine.yaml")))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("prompts=nowhere", "no prompt set 'nowhere'"),
        ("models.0.model=./nowhere", "nowhere"),
        ("models.0={name: far, engine: api, model: m, api_key_env: NO_SUCH_KEY}", "NO_SUCH_KEY"),
    ],
)
def test_what_would_stop_a_later_step_is_found_before_the_first_one(tmp_path, change, said):
    command = pipeline.Command(overrides=(change, "models.3={name: T, model: data/embedded/models/S}"), out=tmp_path)
    with pytest.raises(PergError, match=said):
        pipeline.run(command)
    assert not (tmp_path / "data").exists()
