"""A run's tables against the committed ones: what counts as the same, and what a user is told."""

import shutil
import subprocess
from pathlib import Path

import pytest

from perg_utils.core.profile import ROOT
from perg_utils.run import verify
from perg_utils.run.verify import NothingToCompare, compare, compare_table, read_tables

TABLE = 'model,n,value\nS,360,2.5\nM,360,"3,1"\n'


def replaced(old: str, new: str) -> str:
    assert old in TABLE
    return TABLE.replace(old, new)


def verified(figures: Path) -> tuple[str, bool]:
    return verify.verify(figures, verify.committed_tables(figures))


def test_equal_tables_are_the_same_in_every_cell():
    found = compare_table("main.csv", TABLE, TABLE)
    assert (found.cells, found.same, found.close, found.differ) == (9, 9, 0, 0)
    assert str(found) == "main.csv: 9 of 9 cells the same"


@pytest.mark.parametrize(
    ("made", "differ", "first"),
    [
        (replaced("S,360,2.5", "S,361,2.5"), 1, "row 1, n: 361 here, 360 committed"),
        (replaced("2.5", "2.6"), 1, "row 1, value: 2.6 here, 2.5 committed"),
        (replaced("2.5", "2.50001"), 1, "row 1, value: 2.50001 here, 2.5 committed"),
        (replaced("2.5", ""), 1, "row 1, value: an empty cell here, 2.5 committed"),
        (replaced("S,", "T,"), 1, "row 1, model: T here, S committed"),
        (replaced("value", "rate"), 1, "row 0, rate: rate here, value committed"),
        (replaced('M,360,"3,1"\n', ""), 3, "row 2, model: nothing here, M committed"),
        (TABLE + "L,1,2\n", 3, "row 3, model: L here, nothing committed"),
        (replaced("n,value", "n,value,more"), 1, "row 0, more: more here, nothing committed"),
    ],
)
def test_an_altered_cell_row_or_column_differs_and_the_first_one_is_shown(made, differ, first):
    found = compare_table("main.csv", made, TABLE)
    assert found.differ == differ and found.first == first
    assert f"{differ} DIFFER ({first})" in str(found)


def test_the_last_digits_of_a_number_are_told_apart_and_do_not_fail():
    found = compare_table("main.csv", replaced("2.5", "2.5000000000000004"), TABLE)
    assert (found.same, found.close, found.differ) == (8, 1, 0)
    assert str(found) == "main.csv: 8 of 9 cells the same, 1 more within 1e-06"
    assert compare_table("t", "p\n1e-320\nnan\n", "p\n0.0\nnan\n").differ == 0
    assert compare_table("t", "p\nnan\n", "p\n0.0\n").differ == 1, "a number that is none is not close to one"


def test_tables_that_one_side_lacks_differ():
    made, committed = {"a.csv": TABLE, "new.csv": TABLE}, {"a.csv": TABLE, "tables/old.csv": TABLE}
    found = {table.name: table for table in compare(made, committed)}
    assert {name: table.first for name, table in found.items()} == {
        "a.csv": None,
        "new.csv": "not committed",
        "tables/old.csv": "not made by this run",
    }
    assert [table.differ for table in found.values()] == [0, 9, 9]


@pytest.fixture
def repository(tmp_path, monkeypatch):
    """A repository with a committed demo of two tables."""
    root = (tmp_path / "repository").resolve()
    (root / "figures" / "demo" / "tables").mkdir(parents=True)
    for name in ("scatter.csv", "tables/main.csv"):
        (root / "figures" / "demo" / name).write_text(TABLE)
    identity = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
    for words in (("init",), ("add", "."), ("commit", "-m", "first")):
        subprocess.run(["git", *identity, *words], cwd=root, check=True, capture_output=True)
    monkeypatch.setattr(verify, "ROOT", root)
    return root


def test_a_run_in_the_repository_is_compared_with_what_git_has_and_not_with_itself(repository):
    told, agrees = verified(repository / "figures" / "demo")
    assert agrees and told.splitlines()[-1] == "verify: all 2 tables agree; 18 of 18 cells the same"
    (repository / "figures" / "demo" / "tables" / "main.csv").write_text(replaced("360,2.5", "360,9.5"))
    (repository / "figures" / "demo" / "scatter.csv").unlink()
    told, agrees = verified(repository / "figures" / "demo")
    assert not agrees
    assert told.splitlines()[1:] == [
        "  scatter.csv: 0 of 9 cells the same, 9 DIFFER (not made by this run)",
        "  tables/main.csv: 8 of 9 cells the same, 1 DIFFER (row 1, value: 9.5 here, 2.5 committed)",
        "verify: 2 of 2 tables differ; 8 of 18 cells the same",
    ]


def test_a_run_elsewhere_is_compared_with_the_repositorys_folder(repository, tmp_path):
    out = tmp_path / "out"
    shutil.copytree(repository / "figures", out / "figures")
    assert verified(out / "figures" / "demo")[1]
    (out / "figures" / "demo" / "scatter.csv").write_text(replaced("2.5", "2.5000000000000004"))
    told, agrees = verified(out / "figures" / "demo")
    assert agrees and "17 of 18 cells the same, 1 more within 1e-06" in told.splitlines()[-1]
    (out / "figures" / "demo" / "scatter.csv").write_text(replaced("2.5", "2.4"))
    assert not verified(out / "figures" / "demo")[1]


def test_without_git_or_committed_tables_the_reason_and_the_cure_are_told(repository, tmp_path, monkeypatch):
    for out in (repository, tmp_path / "out"):
        with pytest.raises(NothingToCompare, match="no committed tables of profile 'mine'"):
            verify.committed_tables(out / "figures" / "mine")
    with monkeypatch.context() as patch:
        patch.setenv("PATH", str(tmp_path))
        with pytest.raises(NothingToCompare, match=r"writes over the committed tables.*git.*run with --out DIR"):
            verify.committed_tables(repository / "figures" / "demo")
    shutil.rmtree(repository / ".git")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path))
    with pytest.raises(NothingToCompare, match=r"not a git repository.*--out DIR"):
        verify.committed_tables(repository / "figures" / "demo")


def test_every_committed_table_of_the_demo_is_found():
    tables = read_tables(ROOT / "figures" / "demo")
    assert {"scatter.csv", "tables/main.csv", "extractor.csv"} < set(tables)
    assert all(table.same == table.cells > 0 for table in compare(tables, tables))
    assert Path(ROOT / "figures" / "demo" / "scatter.csv").read_text() == tables["scatter.csv"]
