import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import nbformat
import pytest
import yaml
from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, KernelSpecManager
from jupyter_client.manager import KernelManager
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from perg_utils import __version__
from perg_utils.core.profile import ROOT

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
CONSTRAINTS = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
PINS = {canonicalize_name(name): version for name, version in (line.split("==") for line in CONSTRAINTS)}

#: Stands in for a Python installation: makes "environments" that are copies of itself and notes what it is asked.
FAKE_PYTHON = """#!/usr/bin/env bash
home="$(cd "$(dirname "$0")" && pwd)"
case "$1 $2" in
    "-c "*) exit 0 ;;
    "-m venv") rm -rf "$4"; mkdir -p "$4/bin"; cp "$0" "$4/bin/python"; echo "$4" >"$4/bin/pip"; echo venv >>"$LOG" ;;
    "-m pip") [ "$3" = --version ] || { echo "pip ${*:3}" >>"$LOG"; [ ! -e "$FAIL" ] && touch "$home/package"; } ;;
    "-I -") [ -e "$home/package" ] ;;
esac
"""


#: Declared though nothing imports them, and why.
NOT_IMPORTED = {
    "accelerate": "transformers needs it for `device_map`",
    "gguf": "transformers reads GGUF files with it",
    "ipykernel": "papermill starts it by its name, python3",
    "jupyterlab": "`jupyter lab notebooks` opens them in a browser",
}


def names(requirements: list[str]) -> set[str]:
    return {canonicalize_name(Requirement(item).name) for item in requirements}


DECLARED = names(PROJECT["dependencies"])
FOR_TESTS = names(PROJECT["optional-dependencies"]["test"])
#: What the other extras bring: imported inside functions, where it is asked for.
OPTIONAL = {extra: names(own) for extra, own in PROJECT["optional-dependencies"].items() if extra != "test"}


def imported(code: str) -> set[str]:
    """The top-level names that `code` imports, also inside functions, without those of the package itself."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            found.add(node.module.split(".")[0])
    return found - {"perg_utils"}


def imports_of_the_package() -> set[str]:
    codes = [path.read_text(encoding="utf-8") for path in (ROOT / "perg_utils").rglob("*.py")]
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        codes += [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
    return set().union(*map(imported, codes))


def distributions(modules: set[str]) -> dict[str, set[str]]:
    """Which distributions bring each module that is not of the standard library, e.g. `{"yaml": {"pyyaml"}}`."""
    known = packages_distributions()
    return {m: {canonicalize_name(d) for d in known.get(m, [])} for m in modules - sys.stdlib_module_names}


def test_imports_are_found_wherever_they_stand_and_relative_ones_are_not_meant():
    code = "import a.b, c\nfrom d.e import f\nfrom . import g\nfrom .h import i\ndef j():\n    import perg_utils, k"
    assert imported(code) == {"a", "c", "d", "k"}


def test_whatever_package_and_notebooks_import_is_a_declared_dependency():
    known = DECLARED.union(*OPTIONAL.values())
    # A module that is not installed is brought by the distribution of its name.
    found = {m: d or {canonicalize_name(m)} for m, d in distributions(imports_of_the_package()).items()}
    undeclared = {m: d for m, d in found.items() if not d & known}
    assert not undeclared


def test_inspect_is_imported_only_by_what_is_named_after_it_and_is_pinned_beside_the_others():
    lines = (ROOT / "constraints-inspect.txt").read_text(encoding="utf-8").splitlines()
    beside = dict(line.split("==") for line in lines if line[0] != "#")
    beside = {canonicalize_name(name): version for name, version in beside.items()}
    [requirement] = map(Requirement, PROJECT["optional-dependencies"]["inspect"])
    assert requirement.specifier.contains(beside[canonicalize_name(requirement.name)])
    files = (ROOT / "perg_utils").rglob("*.py")
    importers = {path.name for path in files if "inspect_ai" in imported(path.read_text(encoding="utf-8"))}
    assert importers and all(name.startswith("inspect") for name in importers)
    assert {name for name in beside if name in PINS} == {"fsspec", "python-dateutil"}  # as docs/inspect.md says


def test_whatever_the_tests_import_is_a_dependency_of_the_package_or_of_its_test_extra():
    files = list((ROOT / "tests").glob("*.py"))
    modules = set().union(*(imported(path.read_text(encoding="utf-8")) for path in files)) - {f.stem for f in files}
    assert not {m: d for m, d in distributions(modules).items() if not d & (DECLARED | FOR_TESTS)}


def test_every_declared_dependency_is_imported_or_listed_with_its_reason():
    used = set().union(*distributions(imports_of_the_package()).values())
    assert not DECLARED - used - set(NOT_IMPORTED)
    assert not set(NOT_IMPORTED) & used and set(NOT_IMPORTED) <= DECLARED  # the list itself is not out of date


def test_every_declared_dependency_has_an_exact_pin_that_its_requirement_allows():
    # Inspect's pins are in a file of their own, see below.
    extras = {name: own for name, own in PROJECT["optional-dependencies"].items() if name != "inspect"}
    wanted = [*PROJECT["dependencies"], *(item for own in extras.values() for item in own)]
    assert not names(wanted) - set(PINS)
    for item in wanted:
        requirement = Requirement(item)
        assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.!+]*", line) for line in CONSTRAINTS)  # no markers


def test_the_supported_pythons_are_3_11_to_3_14():
    supported = SpecifierSet(PROJECT["requires-python"])
    assert [minor for minor in range(9, 20) if supported.contains(f"3.{minor}.1")] == [11, 12, 13, 14]


def test_notebooks_name_the_kernel_that_this_environment_brings_itself():
    spec = KernelSpecManager().get_kernel_spec(NATIVE_KERNEL_NAME)
    assert Path(spec.resource_dir).is_relative_to(sys.prefix)
    manager = KernelManager(kernel_name=NATIVE_KERNEL_NAME)
    assert manager.format_kernel_cmd()[0] == sys.executable
    notebooks = [nbformat.read(path, 4) for path in (ROOT / "notebooks").glob("*.ipynb")]
    assert notebooks
    assert {notebook.metadata.kernelspec.name for notebook in notebooks} == {NATIVE_KERNEL_NAME}


def test_conda_and_pip_install_the_same_pins():
    conda = yaml.safe_load((ROOT / "environment.yml").read_text())
    *plain, pip = conda["dependencies"]
    assert pip == {"pip": ["-c constraints.txt", "-e .[test]"]}
    assert [re.split("[=<>]", item)[0] for item in plain] == ["python", "pip"]  # all else comes from constraints.txt
    python = plain[0].split("=")[1]
    assert SpecifierSet(PROJECT["requires-python"]).contains(f"{python}.1")


def test_the_version_is_the_same_everywhere():
    assert PROJECT["version"] == __version__ == yaml.safe_load((ROOT / "CITATION.cff").read_text())["version"]


@pytest.mark.parametrize("script", ["run_all.sh", ".environment.sh", "tests/run.sh", ".ci/run"])
def test_scripts_are_sound_bash_and_those_to_be_called_can_be(script):
    subprocess.run(["bash", "-n", ROOT / script], check=True)
    assert os.access(ROOT / script, os.X_OK) == (script != ".environment.sh")


@pytest.fixture
def checkout(tmp_path):
    """A checkout with the script only, and one pretended Python on the PATH."""
    home = tmp_path / "check out"
    home.mkdir()
    for name in (".environment.sh", "constraints.txt", "pyproject.toml"):
        shutil.copy(ROOT / name, home)
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "cat", "cksum", "cp", "dirname", "grep", "mkdir", "rm", "touch"):
        (tools / name).symlink_to(shutil.which(name))
    fake = tools / "python3.11"
    fake.write_text(FAKE_PYTHON)
    fake.chmod(0o755)
    return home


def environment(home: Path, extra: str = "", **variables) -> tuple[str, list[str], str]:
    """Source the script and ask for an environment: the interpreter, what was done, what was said."""
    tools, log = home.parent / "tools", home.parent / "log"
    log.write_text("")
    done = subprocess.run(
        ["bash", "-c", f'. "{home}/.environment.sh"; environment {extra} && echo "$PYTHON"'],
        env={"PATH": str(tools), "LOG": str(log), "FAIL": str(home.parent / "fail"), **variables},
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip(), log.read_text().splitlines(), done.stderr


def test_an_environment_is_made_once_and_reused(checkout):
    python, done, _ = environment(checkout)
    assert python == str(checkout / ".venv" / "bin" / "python")
    assert done == ["venv", "pip install --quiet --disable-pip-version-check -c constraints.txt -e ."]
    assert environment(checkout)[:2] == (python, [])


def test_tests_add_their_tools_to_the_same_environment(checkout):
    environment(checkout)
    assert environment(checkout, "test")[1] == [
        "pip install --quiet --disable-pip-version-check -c constraints.txt -e .[test]"
    ]
    assert environment(checkout, "test")[1] == []


@pytest.mark.parametrize("name", ["constraints.txt", "pyproject.toml"])
def test_changed_pins_are_installed_into_the_environment_that_is_there(checkout, name):
    environment(checkout)
    with (checkout / name).open("a") as handle:
        handle.write("# changed\n")
    _, done, _ = environment(checkout)
    assert [line.split()[0] for line in done] == ["pip"]
    assert environment(checkout)[1] == []


def test_an_installation_that_failed_says_so_and_is_done_again(checkout):
    fail = checkout.parent / "fail"
    fail.touch()
    python, _, said = environment(checkout)
    assert python == ""
    assert "run the same command again" in said
    fail.unlink()
    python, done, _ = environment(checkout)
    assert python
    assert [line.split()[0] for line in done] == ["pip"]


def test_an_environment_that_was_cut_off_or_moved_is_made_again(checkout):
    environment(checkout)
    (checkout / ".venv" / "bin" / "python").unlink()
    assert [line.split()[0] for line in environment(checkout)[1]] == ["venv", "pip"]
    moved = checkout.rename(checkout.parent / "elsewhere")
    assert [line.split()[0] for line in environment(moved)[1]] == ["venv", "pip"]


def test_an_active_environment_with_the_package_is_used_and_one_without_is_not(checkout):
    active = checkout.parent / "active" / "bin"
    active.mkdir(parents=True)
    (active / "python").write_text(FAKE_PYTHON)
    (active / "python").chmod(0o755)
    variables = {"PATH": f"{active}:{checkout.parent / 'tools'}", "VIRTUAL_ENV": str(active.parent)}
    assert environment(checkout, **variables)[0] == str(checkout / ".venv" / "bin" / "python")
    (active / "package").touch()
    assert environment(checkout, **variables)[:2] == (str(active / "python"), [])


@pytest.mark.parametrize("name", ["python3.12", "python3.13", "python3.14", "python3", "python"])
def test_a_fitting_python_is_found_under_each_name_even_behind_shims_that_lead_nowhere(checkout, name):
    tools = checkout.parent / "tools"
    (tools / "python3.11").rename(tools / "kept")
    for shim in ("python3.11", "python3.12", "python3.13", "python3.14"):
        (tools / shim).write_text("#!/usr/bin/env bash\nexit 127\n")
        (tools / shim).chmod(0o755)
    (tools / "kept").replace(tools / name)
    python, done, said = environment(checkout)
    assert python
    assert done[0] == "venv"
    assert f"making .venv with {tools / name}\n" in said


@pytest.mark.parametrize(
    ("version", "taken"), [("3.10.13", 0), ("3.11.0", 1), ("3.14.2", 1), ("3.15.0", 0), ("2.7.18", 0)]
)
def test_only_the_versions_that_have_pins_are_taken_and_the_error_names_what_is_there(checkout, version, taken):
    """The script's question is put to this interpreter, told that it is another version."""
    tools = checkout.parent / "tools"
    (tools / "python3.11").unlink()
    told = f"import sys; sys.version_info = ({version.replace('.', ', ')}); "
    answers = [f'--version) echo "Python {version}"; exit ;;', f'-c) exec "{sys.executable}" -c "{told}$2" ;;']
    shebang, rest = FAKE_PYTHON.split("\n", 1)
    (tools / "python3").write_text("\n".join([shebang, 'case "$1" in', *answers, "esac", rest]))
    (tools / "python3").chmod(0o755)
    python, _, said = environment(checkout)
    assert bool(python) == taken
    refused = f"found Python {version} on the PATH, but no Python 3.11, 3.12, 3.13 or 3.14 with the venv module"
    assert (refused in said) != taken


def test_without_any_python_the_error_says_what_to_install(checkout):
    (checkout.parent / "tools" / "python3.11").unlink()
    python, _, said = environment(checkout)
    assert python == ""
    assert "found no Python 3 on the PATH" in said
    assert "apt install python3-venv" in said
