"""The entry for the register of inspect_evals: its fields and types, and that what it names is here.

`Entry` repeats, in our own words, what `inspect_evals.metadata.ExternalEvalMetadata` of version 0.28.0 asks for; where
that package is installed, its own model reads the entry, too.
"""

import ast
import re
import tomllib
from typing import Literal

import pytest
import yaml
from pydantic import BaseModel, ConfigDict, Field, HttpUrl, ValidationError

from perg_utils.core.profile import ROOT
from perg_utils.dataset.questions import EXPECTED

PATH = ROOT / "docs/register/perg/eval.yaml"
READ = yaml.safe_load(PATH.read_text(encoding="utf-8"))
CITATION = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid")


class _Task(_Strict):
    name: str
    task_path: str
    dataset_samples: int | None = None
    kind: Literal["benchmark", "maintenance"] = "benchmark"


class _Source(_Strict):
    repository_url: HttpUrl
    repository_commit: str
    maintainers: list[str] = Field(min_length=1)
    comment: str | None = None


class Entry(_Strict):
    """An entry of the register; the folder's name is its id."""

    full_title: str
    common_title: str
    paper_title: str | None = None
    description: str
    arxiv: HttpUrl | None = None
    contributors: list[str]
    tasks: list[_Task] = Field(min_length=1, max_length=1)
    tags: list[str] | None = None
    source: _Source


def test_the_entry_has_the_fields_that_the_register_asks_for():
    entry = Entry.model_validate(READ)
    assert "\n" not in entry.description.strip(), "one line: it is shown in a README that is not wrapped"
    assert PATH.parent.name == "perg"


@pytest.mark.parametrize("gone", ["common_title", "contributors", "source", "tasks"])
def test_an_entry_that_lacks_a_field_is_refused(gone):
    with pytest.raises(ValidationError, match=gone):
        Entry.model_validate({key: value for key, value in READ.items() if key != gone})


def test_the_register_s_own_model_takes_the_entry():
    metadata = pytest.importorskip("inspect_evals.metadata", reason="needs pip install --no-deps inspect_evals==0.28.0")
    entry = metadata.ExternalEvalMetadata(**READ, id=PATH.parent.name)
    assert entry.title == READ["full_title"] and len(entry.benchmark_tasks) == 1


def test_what_the_entry_names_is_here():
    entry = Entry.model_validate(READ)
    [task] = entry.tasks
    tree = ast.parse((ROOT / task.task_path).read_text(encoding="utf-8"))
    marked = [
        node.name
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and "task" in map(ast.unparse, node.decorator_list)
    ]
    assert marked == [task.name]
    assert task.dataset_samples == sum(EXPECTED.values())
    (paper,) = CITATION["references"]
    assert (entry.paper_title, str(entry.arxiv)) == (paper["title"], paper["url"])


def test_the_entry_says_by_which_extra_inspect_comes():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    [extra] = re.findall(r"--extra (\w+)", READ["source"]["comment"])
    assert any(one.startswith("inspect_ai") for one in project["optional-dependencies"][extra])


def test_only_what_a_maintainer_must_say_is_left_open():
    left = re.findall(r"\b[A-Z]{5,}\b", yaml.safe_dump(READ))
    assert set(left) == {"MAINTAINER", "OWNER", "REPOSITORY", "COMMIT"}
