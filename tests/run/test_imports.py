"""What importing does (nothing), and what may import what: the contracts between the rooms hold, and can break."""

import ast
import importlib.util
import json
import os
import pkgutil
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import perg_utils
from perg_utils.core.profile import ROOT

MODULES = sorted(
    name
    for _, name, _ in pkgutil.walk_packages(perg_utils.__path__, "perg_utils.")
    if name != "perg_utils.__main__"  # imported too, below
)

#: Imports modules one by one and tells what else happened: sockets, processes, files written, global state changed.
#: Other people's packages come first: torch tries out the temporary folder, urllib3 binds to the loopback address.
#: Even they connect to nothing.
PROBE = """
import importlib, json, logging, os, random, signal, sys

happened, ours = [], False
SOCKETS = ("socket.connect", "socket.getaddrinfo", "socket.sendto")
OTHERS = ("socket.bind", "subprocess.Popen", "os.system", "os.mkdir", "os.remove", "os.rename", "os.fork",
          "os.posix_spawn")

def watch(event, arguments):
    if event in SOCKETS or (ours and event in OTHERS):
        happened.append([event, repr(arguments)[:200]])
        raise PermissionError(f"blocked: {event} {arguments!r:.200}")
    if ours and event == "open" and isinstance(arguments[1], str) and set(arguments[1]) & set("wax+"):
        happened.append([event, repr(arguments)[:200]])

def state():
    return [random.getstate(), dict(os.environ), logging.getLogger().handlers[:], os.getcwd(), sys.excepthook,
            [signal.getsignal(s) for s in (signal.SIGINT, signal.SIGTERM)]]

sys.addaudithook(watch)
for name in json.loads(sys.argv[1]):
    importlib.import_module(name)
ours, before = True, state()
for name in json.loads(sys.argv[2]):
    importlib.import_module(name)
changed = [i for i, (old, new) in enumerate(zip(before, state())) if old != new]
print(json.dumps({"happened": happened, "changed": changed, "loaded": sorted(sys.modules)}))
"""


def probe(modules, folder, first=()):
    """Import `modules` (after `first`) in a fresh interpreter that knows of no environment, in an empty folder."""
    done = subprocess.run(
        [sys.executable, "-B", "-c", PROBE, json.dumps(first), json.dumps(modules)],
        env={"PYTHONPATH": str(ROOT)},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return json.loads(done.stdout)


def test_importing_every_module_does_nothing_else(tmp_path):
    assert "perg_utils.run.pipeline" in MODULES
    assert "perg_utils.engines.journal" in MODULES
    here = [name for name in MODULES if importlib.util.find_spec("inspect_ai") or ".inspect_" not in name]
    told = probe([*here, "perg_utils.__main__"], tmp_path, first=["torch", "seaborn", "papermill"])
    assert told["happened"] == []
    assert told["changed"] == []
    assert list(tmp_path.iterdir()) == []


def test_the_command_line_loads_no_heavy_package(tmp_path):
    loaded = probe(["perg_utils.__main__"], tmp_path)["loaded"]
    assert not {"torch", "transformers", "datasets", "openai", "matplotlib"} & set(loaded)


#: The contracts between the rooms are in pyproject.toml.
LINT = "from importlinter.cli import lint_imports_command; lint_imports_command()"
LAYERS, NO_ENGINE = "Rooms know only the rooms below them", "Scores, tables and figures need no engine"


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    """Check the package in `folder` by the contracts in its pyproject.toml."""
    return subprocess.run(
        [sys.executable, "-c", LINT, "--no-cache"],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "COLUMNS": "200"},
        capture_output=True,
        text=True,
        check=False,
    )


def broken(said: str) -> set[str]:
    """The contracts that are told to be broken."""
    lines = said.splitlines()
    return {name for name in (LAYERS, NO_ENGINE) if any(name in line and "BROKEN" in line for line in lines)}


@pytest.fixture
def copy(tmp_path):
    """A copy of the package and its contracts."""
    shutil.copytree(ROOT / "perg_utils", tmp_path / "perg_utils", ignore=shutil.ignore_patterns("__pycache__", "*.js"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def test_the_rooms_keep_their_contracts():
    done = lint(ROOT)
    assert done.returncode == 0, done.stdout
    assert all(name in done.stdout for name in (LAYERS, NO_ENGINE)) and broken(done.stdout) == set()


@pytest.mark.parametrize(
    ("module", "line", "contracts"),
    [
        ("reporting/sentences.py", "import torch", {NO_ENGINE}),
        ("published/printed.py", "from perg_utils.reporting.tables import forms", {LAYERS}),
        ("core/schema.py", "def later():\n    from perg_utils.dataset import questions", {LAYERS}),
        # By way of another room: extraction may import an engine, what published imports of it must not.
        ("extraction/answers.py", "import perg_utils.engines.base", {NO_ENGINE}),
        ("judging/rating.py", "import perg_utils.inference.run", {LAYERS}),
        ("scoring/rates.py", "import aiohttp", {NO_ENGINE}),
    ],
)
def test_a_forbidden_import_breaks_its_contract(copy, module, line, contracts):
    path = copy / "perg_utils" / module
    path.write_text(f"{path.read_text(encoding='utf-8')}\n\n{line}\n", encoding="utf-8")
    done = lint(copy)
    assert done.returncode == 1 and broken(done.stdout) == contracts, done.stdout


def test_a_room_that_no_layer_names_breaks_the_contract(copy):
    (copy / "perg_utils" / "attic").mkdir()
    (copy / "perg_utils" / "attic" / "__init__.py").write_text('"""An attic."""\n')
    done = lint(copy)
    assert done.returncode == 1 and "attic" in done.stdout, done.stdout


ROOMS = sorted(path.parent for path in Path(perg_utils.__file__).parent.rglob("__init__.py"))[1:]


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.name)
def test_the_docstring_of_a_room_names_every_module_in_it(room):
    said = ast.get_docstring(ast.parse((room / "__init__.py").read_text(encoding="utf-8"))) or ""
    modules = {path.stem for path in room.glob("*.py")} - {"__init__"}
    assert [name for name in sorted(modules) if not re.search(rf"\b{name}(\.py)?\b", said)] == []
