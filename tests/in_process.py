"""Notebooks run in this very process: each cell as a kernel runs it, without a new Python that imports all again.

For tests of what notebooks make; `run/test_end_to_end` tests that they are run in kernels of their own.
"""

from __future__ import annotations

import ast
import shutil
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import chdir, contextmanager
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib
import nbformat
import pytest
from IPython.core.formatters import DisplayFormatter

from perg_utils.run import notebook


@contextmanager
def notebooks(*, kernels_for: str = "none") -> Iterator[None]:
    """Let the pipeline run its notebooks in this process, but those whose name begins with `kernels_for` as ever."""
    in_kernel = notebook.execute

    def execute(path: Path, executed: Path, parameters: dict[str, Any], cwd: Path, show: Callable[..., None]) -> None:
        if path.stem.startswith(kernels_for):
            return in_kernel(path, executed, parameters, cwd, show)
        executed.parent.mkdir(parents=True, exist_ok=True)
        with chdir(cwd):
            run(path, parameters)
        shutil.copy(path, executed)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(notebook, "execute", execute)
        yield


def run(path: Path, parameters: Mapping[str, Any]) -> None:
    """Run the cells of a notebook one by one; what a cell shows is made as it would be for a page, and dropped."""
    matplotlib.use("agg")
    names: dict[str, Any] = {"__name__": "__main__", "display": _display}
    for number, cell in enumerate(nbformat.read(path, as_version=4).cells, 1):
        if cell.cell_type != "code":
            continue
        body = ast.parse(cell.source, f"{path.name}, cell {number}").body
        last = body.pop() if body and isinstance(body[-1], ast.Expr) else None
        exec(compile(ast.Module(body, []), f"{path.name}, cell {number}", "exec"), names)
        if last is not None:
            value = eval(compile(ast.Expression(last.value), f"{path.name}, cell {number}", "eval"), names)
            if not cell.source.rstrip().endswith(";"):
                _display(value)
        if "parameters" in cell.metadata.get("tags", []):
            names |= parameters
        _draw_what_is_open()


def _display(*values: object) -> None:
    for value in values:
        if value is not None:
            DisplayFormatter().format(value)


def _draw_what_is_open() -> None:
    """A kernel draws the figures that a cell leaves open."""
    plt = sys.modules.get("matplotlib.pyplot")
    for number in plt.get_fignums() if plt else []:
        plt.figure(number).savefig(BytesIO())
        plt.close(number)
