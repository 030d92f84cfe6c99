import os
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name

from perg_utils import __version__
from perg_utils.profile import ROOT

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


def test_every_dependency_is_pinned_exactly_and_pins_hold_for_python_3_11_and_3_12():
    wanted = [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["test"]]
    assert not {canonicalize_name(Requirement(item).name) for item in wanted} - set(PINS)
    for item in wanted:
        requirement = Requirement(item)
        assert requirement.specifier.contains(PINS[canonicalize_name(requirement.name)])
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[0-9][A-Za-z0-9.!+]*", line) for line in CONSTRAINTS)  # no markers
    supported = SpecifierSet(PROJECT["requires-python"])
    assert [minor for minor in range(9, 15) if supported.contains(f"3.{minor}.1")] == [11, 12]


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
    """A checkout with the script only, and a pretended Python 3.11 on the PATH."""
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


def test_without_a_fitting_python_the_error_says_what_to_install(checkout):
    (checkout.parent / "tools" / "python3.11").unlink()
    python, _, said = environment(checkout)
    assert python == ""
    assert "no Python 3.11 or 3.12 with the venv module" in said
