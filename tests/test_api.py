"""`docs/api.md` is made of the public names; the examples of figures and tables do what they say.

`python tests/test_api.py` writes the page.
"""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from types import ModuleType
from typing import Any

import pandas as pd
import pytest
import synthetic
import yaml

import perg_utils as perg
from perg_utils.core.profile import ROOT, Profile
from perg_utils.core.run import Run
from perg_utils.scoring.scores import score

PAGE = ROOT / "docs" / "api.md"
#: Other people's scripts rely on these.
FIXED = {"open_run", "figures", "tables", "score", "metrics", "compare", "extract_answer", "load_profile", "Run"}
#: What a Table and a Figure offer.
METHODS = {
    "perg.figures.Figure": ["save"],
    "perg.tables.Table": ["to_markdown", "to_latex", "save"],
    "perg.Run": ["read", "with_tables", "bottom_line"],
}
HEAD = """\
# The public names

    import perg_utils as perg

Importing it is fast and does nothing: each name is fetched when it is first asked for. In the examples `run` is
a small made-up run (three models, 120 questions); yours is `perg.open_run("demo")`, or any profile that has run. Values
are in percent, differences in points. This page is made of the code by `python tests/test_api.py`, and a test
compares them.
"""


@cache
def made() -> dict[str, pd.DataFrame]:
    """The tables of `toy`, which every example reads and none changes."""
    raw = synthetic.tables(3, 120, controls=True)
    scores = score(**raw)
    return {**raw, "scores": scores, "metrics": perg.metrics(scores), "nulls": synthetic.nulls(raw)}


def toy() -> Run:
    """A made-up run of three models; nothing of it is on disk."""
    profile = Profile.model_validate(yaml.safe_load(synthetic.profile_text(3, controls=True)))
    return synthetic.opened(profile, **made())


def names() -> Iterator[tuple[str, Any]]:
    """Every public name and what it is, in the order of the page."""
    plain = [name for name in perg.__all__ if not isinstance(getattr(perg, name), ModuleType)]
    for name in sorted(plain, key=str.lower):
        yield f"perg.{name}", getattr(perg, name)
    for room in ("figures", "tables"):
        for name in getattr(perg, room).__all__:
            yield f"perg.{room}.{name}", getattr(getattr(perg, room), name)


def page() -> str:
    """The page, made from signatures and docstrings."""
    parts = [HEAD]
    for name, what in names():
        if name in ("perg.figures.Figure", "perg.tables.Table"):
            parts.append(f"## {name.rsplit('.', 1)[0]}\n")
        doc = inspect.getdoc(what) or ""
        said, found, example = doc.partition(">>> ")
        parts.append(f"### `{name}`\n\n```text\n{name}{signature(what)}\n```\n\n{said.strip()}\n")
        parts += [
            f"- `.{m}{signature(getattr(what, m))}`: {first(getattr(what, m))}" for m in METHODS.get(name, [])
        ] + [""] * (name in METHODS)
        if found:
            parts.append(f"```text\n>>> {example.strip()}\n```\n")
    return "\n".join(parts)


def signature(what: Any) -> str:
    found = inspect.signature(what)
    # What the reader passes, without the annotations' modules.
    shown = [p.replace(annotation=inspect.Parameter.empty) for n, p in found.parameters.items() if n != "self"]
    return str(found.replace(parameters=shown, return_annotation=inspect.Signature.empty))


def first(what: Any) -> str:
    return " ".join((inspect.getdoc(what) or "").split("\n\n")[0].split())


def test_the_names_that_others_rely_on_are_there():
    assert set(perg.__all__) >= FIXED
    for name in FIXED:
        assert getattr(perg, name) is not None


def test_the_page_and_the_code_agree_name_by_name():
    assert PAGE.read_text(encoding="utf-8") == page(), "write it again: python tests/test_api.py"


DRAWN = [(name, what) for name, what in names() if name.count(".") == 2 and not inspect.isclass(what)]


@pytest.mark.parametrize(("name", "what"), DRAWN, ids=[name for name, _ in DRAWN])
def test_each_figure_and_table_has_an_example_that_does_what_it_says(name, what):
    said: list[str] = []
    test = doctest.DocTestParser().get_doctest(inspect.getdoc(what) or "", {"perg": perg, "run": toy()}, name, None, 0)
    doctest.DocTestRunner().run(test, out=said.append)
    assert test.examples and not said, "".join(said)


def test_importing_brings_nothing_heavy_and_drawing_brings_no_engine():
    code = """
import sys
import perg_utils as perg
assert not {"pandas", "matplotlib", "torch", "pydantic"} & set(sys.modules), "import is not lazy"
perg.figures, perg.tables
import perg_utils.reporting.page
heavy = [name for name in sys.modules if name.split(".")[0] in ("torch", "aiohttp", "transformers")]
assert not heavy + [name for name in sys.modules if name.startswith("perg_utils.engines")], heavy
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
