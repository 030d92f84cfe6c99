"""Two toy notebooks, `a` and `b` (b reads what a writes), as steps for the pipeline; also run as a script.

python toy.py FOLDER [CODE FOR THE SECOND NOTEBOOK] runs them the way `./run_all.sh` does and ends with its status.
"""

from __future__ import annotations

import sys
from pathlib import Path

import nbformat
from nbformat import v4

from perg_utils.core.profile import Profile
from perg_utils.core.workspace import Workspace
from perg_utils.run import pipeline
from perg_utils.run.state import Step


def notebook(path: Path, *cells: str) -> Path:
    """Write a notebook: a title, the parameters every notebook of the study has, then `cells`."""
    parameters = v4.new_code_cell('profile = "demo"\noverrides = []\nout = "."', metadata={"tags": ["parameters"]})
    book = v4.new_notebook(cells=[v4.new_markdown_cell("# Toy"), parameters, *map(v4.new_code_cell, cells)])
    book.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    nbformat.write(book, path)
    return path


def toy_steps(folder: Path, code: str = "pass"):
    """Return the function that makes the two steps; `code` is a cell of the second one."""
    folder.mkdir(exist_ok=True)
    first, second = folder / "first.txt", folder / "second.txt"
    if not (folder / "a.txt").exists():
        (folder / "a.txt").write_text("one")
    a = notebook(
        folder / "a.ipynb",
        f"from pathlib import Path\nPath({str(first)!r}).write_text(Path({str(folder / 'a.txt')!r}).read_text())",
    )
    b = notebook(
        folder / "b.ipynb",
        f"from pathlib import Path\n{code}",
        f"Path({str(second)!r}).write_text(Path({str(first)!r}).read_text() + ' two')",
    )

    def make(profile: Profile, workspace: Workspace) -> list[Step]:
        return [
            Step("a", a, (str(folder / "a.txt"),), (str(first),)),
            Step("b", b, (str(first),), (str(second),)),
        ]

    return make


def run(folder: Path, code: str = "pass", **options: object) -> None:
    """Run the toy steps with the run's folder below `folder`."""
    pipeline.run(pipeline.Command(out=folder, **options), toy_steps(folder, code))


if __name__ == "__main__":
    import signal

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    # A shell that starts the tests in the background leaves Ctrl-C ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        run(Path(sys.argv[1]), *sys.argv[2:])
    except KeyboardInterrupt:
        sys.exit(130)
