"""The pages of docs/journeys: each command of each page is run here, or listed with the reason why it cannot be.

Commands are taken from the pages. `./run_all.sh ...` and `python -m perg_utils ...` are run in their order, in this
process, with the substitutions of `smaller` and nothing else. What `NOT_HERE` lists is read by the program that it
calls, as far as that is installed, and runs get `--dry-run`. A command that is neither fails.
"""

import ast
import importlib.util
import re
import shlex
import subprocess
import sys
import tomllib
from itertools import pairwise
from pathlib import Path

import faulty_server
import in_process
import pytest
import released
import yaml

from perg_utils.__main__ import main, parser
from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT

PAGES = {path.stem: path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs/journeys").glob("*.md"))}
S = "{name: S, model: data/embedded/models/S, dtype: float32}"

#: (page, how a command begins, why it is not run): no more than the first match counts.
NOT_HERE = [
    ("reviewer", "./run_all.sh --profile published", "fetches the release over the network"),
    ("reviewer", "./run_all.sh --verify", "the whole demo, five minutes; tests/run/test_verify.py has a small one"),
    ("gpu", ".venv/bin/pip install", "installs"),
    ("gpu", "export", "keys of one's own"),
    ("gpu", "./run_all.sh --profile paper_small", "a GPU of 80 GB, the hub, a key"),
    ("own_api", "export", "a key of one's own; the test sets another"),
    ("analyst", ".venv/bin/jupyter", "opens a browser"),
    ("inspect", "", "an environment of its own; tests/ecosystem/test_inspect.py types these there"),
    ("cluster", ".venv/bin/pip install", "installs"),
    ("cluster", "export", "for the next command, on another machine"),
    ("cluster", ".venv/bin/ray", "several machines; tests/engines/test_cluster_ray.py has Ray itself"),
    ("cluster", "./run_all.sh --profile paper", "a cluster with GPUs"),
]
#: Listed above as beginnings of commands some of which are run all the same.
RUN_ALL_THE_SAME = ("--dry-run", "published_dir=PATH")


def commands(page):
    """The commands of a page in its order, without comments."""
    blocks = re.findall(r"```(?:bash|sh)\n(.*?)```", PAGES[page], re.DOTALL)
    lines = [line for block in blocks for line in block.splitlines() if line.strip()]
    return [line if line.startswith("for ") else shlex.join(shlex.split(line, comments=True)) for line in lines]


def why_not(page, command):
    """The reason why a command is not run here, or None."""
    if command.startswith("./run_all.sh") and any(text in command for text in RUN_ALL_THE_SAME) and page != "inspect":
        return None
    found = [why for where, start, why in NOT_HERE if where == page and command.startswith(start)]
    return found[0] if found else None


def program(command):
    """The words for our own command line, or None for another program's."""
    head, *rest = shlex.split(command)
    if head == "./run_all.sh":
        return ["run", *rest]
    return rest[2:] if head.endswith("python") and rest[:2] == ["-m", "perg_utils"] else None


EVERY = [(page, command) for page in PAGES for command in commands(page)]


@pytest.mark.parametrize("page, command", EVERY)
def test_every_command_is_run_or_listed_with_a_reason(page, command):
    assert why_not(page, command) or program(command), "neither run by this file nor in NOT_HERE"


@pytest.mark.parametrize("page, start, why", NOT_HERE)
def test_what_is_listed_is_on_the_page(page, start, why):
    assert any(command.startswith(start) and why_not(page, command) == why for command in commands(page))


# --- run -------------------------------------------------------------------------------------------------------------


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder that looks like the checkout to who reads in it, and where a page's files may be written."""
    for name in ("figures", "notebooks"):
        (tmp_path / name).symlink_to(ROOT / name)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    return tmp_path


#: The one place where a run of a page is made smaller: what is put for whom, and what is added to every run.
TINY = {"data.limit": 1, "statistics.resamples": 100}
EMBEDDED = {"data.origin": "embedded", "prompts": "embedded"}
SMALLER = {
    "own_api": TINY | {"data.origin": "embedded"},
    "own_model": TINY | EMBEDDED | {"models.0.model": "data/embedded/models/S", "models.0.dtype": "float32",
                                    "decoding": "{max_new_tokens: 64, max_new_tokens_second_stage: 96}"},
    "gpu": {"data.limit": 2},
    "cluster": {"data.limit": 1},
}  # fmt: skip
#: Which steps of a run are run: (page, what the command holds). Figures and reports have tests of their own.
STEPS = {
    ("own_api", "/trial"): "01,03",
    ("own_api", ""): "01,03,04,05,06",
    ("own_model", "/trial"): "01,03",
    ("own_model", ""): "01,03,04,05,06,07",
    ("reviewer", "published_dir"): "01",
    ("cluster", "/trial"): "01,03",
}


def smaller(page, command, place, more=()):
    """The words that are run for a command: placeholders filled, folders below `place`, and less to do."""
    command = command.replace("/tmp/", f"{place}/").replace("=PATH", f"={place}/release")
    command = command.replace(" data/runs/", f" {place}/out/data/runs/")
    words = program(command)
    asked = parser().parse_args(words)
    if hasattr(asked, "overrides"):
        wanted = SMALLER.get(page, {}) | dict(more)
        words += [word for key, value in wanted.items() for word in ("--set", f"{key}={value}")]
    if hasattr(asked, "out") and asked.out is None:
        words += ["--out", str(place / "out")]
    if asked.command == "run" and not asked.dry_run:
        for (where, mark), only in STEPS.items():
            if where == page and mark in command:
                return [*words, "--only", only]
    return words


def walk(page, place, monkeypatch, more=()):
    """Run the commands of a page in order; all must end with status 0."""
    for number, block in enumerate(re.findall(r"```yaml\n(.*?)```", PAGES[page], re.DOTALL)):
        assert number == 0
        (place / "my.yaml").write_text(block, encoding="utf-8")
    ran = [command for command in commands(page) if why_not(page, command) is None]
    assert ran
    for command in ran:
        monkeypatch.chdir(place)
        with in_process.notebooks():
            assert main(smaller(page, command, place, more)) == 0, command
    return place


def test_reviewer(place, monkeypatch):
    data = released.questions()
    rows = released.scored(data, length=1)
    released.put(place / "release", "relevant/direct/full/janus-7b_7208_0_0-direct-full_eval.csv", rows.head(200))
    walk("reviewer", place, monkeypatch)
    assert (place / "out/data/runs/published/files.csv").is_file()


def test_own_api(place, monkeypatch):
    reply = 'The answer is B. {"explanation": "It is short.", "rating": 4}'
    with faulty_server.running(reply=reply) as url:
        walk("own_api", place, monkeypatch, {"models.0.base_url": url}.items())
        assert faulty_server.stats(url)["sent"] > 10
    assert (place / "out/data/runs/mine/tables/metrics.parquet").is_file()


def test_own_model(place, monkeypatch):
    walk("own_model", place, monkeypatch)
    assert (place / "out/figures/mine/tables/net_change.md").is_file()
    assert (place / "out/figures/compare/compare.html").is_file()


def test_gpu(place, monkeypatch, capsys):
    walk("gpu", place, monkeypatch)
    told = capsys.readouterr().out
    assert "paper_small" in told and "gpu " in told


def test_analyst(place, monkeypatch, capsys):
    walk("analyst", place, monkeypatch)
    assert (place / "side.html").is_file() and (place / "side.csv").is_file()
    assert len(list((place / "hub").rglob("scores*.parquet"))) == 1
    out = place / "demo"
    small = {"models": f"[{S}]", "grid": "{relevant: [zero_shot], placebo: [zero_shot]}", "extractor": "{}", **TINY}
    words = [word for key, value in small.items() for word in ("--set", f"{key}={value}")]
    with in_process.notebooks():
        assert main(["run", *words, "--only", "01,03,04,05,06", "--out", str(out)]) == 0
    monkeypatch.chdir(place)
    names = {}
    for block in re.findall(r"```python\n(.*?)```", PAGES["analyst"], re.DOTALL):
        # The run of the page is the whole demo, below the repository: this one is small, and elsewhere.
        exec(block.replace('open_run("demo")', f'open_run("demo", {words[1::2]!r}, {str(out)!r})'), names)
    assert len(names["run"].read("responses")) == 3 * 3
    assert "robust_accuracy" in capsys.readouterr().out


@pytest.mark.skipif(not importlib.util.find_spec("ray"), reason="needs pip install -e .[cluster]")
def test_cluster(place, monkeypatch):
    [trial] = [command for command in commands("cluster") if "--cluster local" in command]
    for command in commands("cluster"):
        monkeypatch.chdir(place)
        if why_not("cluster", command) is None and command != trial:
            assert main(smaller("cluster", command, place)) == 0, command
    small = {"models": f"[{S}]", "grid": "{relevant: [zero_shot]}", "extractor": "{}"}
    words = smaller("cluster", trial, place, small.items())
    done = subprocess.run(  # Ray's start and the end of its processes are those of a whole command
        [sys.executable, "-m", "perg_utils", *words], check=False, capture_output=True, text=True, cwd=ROOT, timeout=600
    )
    if done.returncode == 2 and "error: --cluster local:" in done.stderr:
        pytest.skip(f"Ray's agents were not up in their 15 seconds (tests/engines/test_cluster_ray.py): {done.stderr}")
    assert done.returncode == 0, (done.stdout + done.stderr)[-3000:]
    assert list((place / "trial/data/runs/demo/tables").glob("responses*/*.parquet"))


# --- not run: read ---------------------------------------------------------------------------------------------------

UNRUN = [(page, command) for page, command in EVERY if why_not(page, command)]
OWN = [(page, command) for page, command in UNRUN if not command.startswith("for ") and program(command)]


@pytest.mark.parametrize("page, command", OWN)
def test_our_own_commands_are_understood(page, command, place, monkeypatch):
    words = smaller(page, command, place)
    asked = parser().parse_args(words)
    if asked.command != "run" or "my.yaml" in command or "/data/runs/" in command:
        return  # read a file that an earlier command makes
    load_profile(asked.profile, asked.overrides)
    monkeypatch.chdir(place)
    assert main([*words, "--dry-run"]) == 0


@pytest.mark.parametrize("page, command", [one for one in UNRUN if " install " in one[1]])
def test_what_is_installed_is_declared(page, command):
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]
    words = shlex.split(command)
    for before, word in pairwise(words):
        if before == "-c" and not word.startswith("/"):
            assert (ROOT / word).is_file()
        if before == "-e":
            assert word.removeprefix(".[").removesuffix("]") in extras
    assert words[-1].startswith(".[") or words[-1] == "bitsandbytes"


@pytest.mark.parametrize("page, command", [one for one in UNRUN if "inspect eval" in one[1]])
def test_the_parameters_of_the_inspect_task_are_its_own(page, command):
    tree = ast.parse((ROOT / "perg_utils/ecosystem/inspect_task.py").read_text(encoding="utf-8"))
    [task] = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "perg"]
    given = re.findall(r"-T (\w+)=", command)
    assert given and set(given) <= {argument.arg for argument in task.args.kwonlyargs}
    settings = re.findall(r"for setting in ([\w ]+);", command)
    for name in [one for line in settings for one in line.split()]:
        load_profile("demo", [f"grid={{{name}: [zero_shot]}}"])


@pytest.mark.parametrize("page, command", [one for one in UNRUN if "bin/ray " in one[1]])
def test_the_options_of_ray_are_its_own(page, command):
    scripts = pytest.importorskip("ray.scripts.scripts", reason="needs pip install -e .[cluster]")
    _, name, *options = shlex.split(command)
    scripts.cli.commands[name].make_context(name, options)


def test_the_notebooks_and_jupyter_are_there():
    assert importlib.util.find_spec("jupyterlab") and list((ROOT / "notebooks").glob("*.ipynb"))


# --- the pages -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_short_and_says_what_goes_wrong_and_where_to_read_on(page):
    assert 150 <= len(re.sub(r"```yaml.*?```", "", PAGES[page], flags=re.DOTALL).split()) <= 350
    assert [line for line in PAGES[page].splitlines() if line.startswith("## ")][-2:] == [
        "## What may go wrong",
        "## Read on",
    ]
    assert "For whoever" in PAGES[page]


def test_there_is_a_page_for_each_journey():
    assert set(PAGES) == {"reviewer", "gpu", "own_api", "own_model", "analyst", "inspect", "cluster"}


def test_the_profiles_of_the_pages_are_those_of_a_study_with_its_floors():
    for page in ("own_api", "own_model"):
        [block] = re.findall(r"```yaml\n(.*?)```", PAGES[page], re.DOTALL)
        assert {"relevant", "paraphrase", "placebo", "misleading"} <= set(yaml.safe_load(block)["grid"])
    assert Path(ROOT / "notebooks/profiles/paper_small.yaml").is_file()
