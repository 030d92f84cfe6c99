"""Compare every CSV below two folders of figures, cell by cell: `python tests/compare_figures.py BEFORE AFTER`.

Shows that a change of the code left the numbers alone. Either side is a folder, or `COMMIT:figures/demo` in git.
Ends with status 1 where a table differs.
"""

import subprocess
import sys
from pathlib import Path

from perg_utils.core.profile import ROOT
from perg_utils.run.verify import compare, read_tables


def tables(side: str) -> dict[str, str]:
    """Return name -> text of the CSV files of one side."""
    commit, sign, folder = side.partition(":")
    if not sign:
        return read_tables(Path(side))

    def git(*words: str) -> str:
        return subprocess.run(["git", "-C", ROOT, *words], capture_output=True, text=True, check=True).stdout

    names = git("ls-tree", "-r", "--name-only", commit, "--", folder).splitlines()
    return {str(Path(n).relative_to(folder)): git("show", f"{commit}:{n}") for n in names if n.endswith(".csv")}


if __name__ == "__main__":
    before, after = sys.argv[1:]
    compared = compare(tables(after), tables(before))
    print(*compared, sep="\n")
    wrong = [table.name for table in compared if table.differ]
    print(f"{len(wrong)} of {len(compared)} tables differ{': ' if wrong else ''}{', '.join(wrong)}")
    sys.exit(bool(wrong))
