"""One run of a study, opened for reading: its profile, its folders and its tables. The first line of every notebook.

Left out: making a run (room `run`), and every computation on its tables (rooms `scoring`, `reporting`).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.loading import load_profile
from perg_utils.core.profile import Profile
from perg_utils.core.schema import conform
from perg_utils.core.workspace import Workspace

#: By this id a notebook's last cell finds the place at its head.
BOTTOM_LINE = "bottom-line"


@dataclass(frozen=True, repr=False)
class Run:
    """A profile and where its tables and figures are. Opening one creates nothing.

    >>> run = open_run("demo")
    >>> run.profile.judge.kind, run.invented, run.workspace.figures.name
    ('heuristic', True, 'demo')
    """

    profile: Profile
    workspace: Workspace
    tables: Mapping[str, pd.DataFrame] = field(default_factory=dict)

    def __repr__(self) -> str:
        return f"<run of profile '{self.profile.name}', its files in {self.workspace.run}>"

    def read(self, table: str, part: str | None = None) -> pd.DataFrame:
        """Return one of the tables of `core.schema.TABLES`, or one part of it (a model's responses, a judge's ratings).

        Raises `KeyError` for an unknown table, and `DataError`, naming the step that makes it, where it is not there.
        """
        held = self.tables.get(table) if part is None else None
        return self.workspace.read(table, part) if held is None else held

    def with_tables(self, **tables: pd.DataFrame) -> Run:
        """Return this run with other tables in place of the saved ones, e.g. `run.with_tables(metrics=some)`.

        Figures and tables made of it show these. Nothing is written. `scores` come with the `metrics` made of them:
        `run.with_tables(scores=some, metrics=perg.metrics(some))`. Raises `KeyError` for an unknown table, and
        `DataError` for scores without metrics and where columns or types do not fit the schema.
        """
        if "scores" in tables and "metrics" not in tables:
            raise DataError(
                "with other scores the metrics are others, too; give both: "
                "run.with_tables(scores=some, metrics=perg.metrics(some))"
            )
        return replace(self, tables={**self.tables, **{name: conform(name, own) for name, own in tables.items()}})

    def bottom_line(self, *said: str) -> None:
        """Show what a notebook finds on its first screen: called without words at its head, with them at its end.

        The call at the head holds the place; the one at the end shows the sentences (Markdown; several become a list;
        empty ones are left out) there, in the saved copy too, and once more where it stands. Needs IPython.
        """
        from IPython.display import Markdown, display, update_display  # noqa: PLC0415 - only a notebook asks for it

        if not said:
            waiting = Markdown("*What this run shows will stand here once the last cell has run.*")
            display(waiting, display_id=BOTTOM_LINE)
            return
        told = [sentence for sentence in said if sentence]
        head = f"**{self.profile.title}** ({self.profile.world} world)"
        text = f"{head}: {told[0]}" if len(told) == 1 else "\n".join([f"{head}:", "", *(f"- {one}" for one in told)])
        update_display(Markdown(text), display_id=BOTTOM_LINE)
        display(Markdown(text))

    @property
    def invented(self) -> bool:
        """Whether the questions are about the invented world, which every picture of it must say."""
        return self.profile.world == "invented"


def open_run(profile: str | Path = "demo", overrides: Iterable[str] = (), out: Path | str = ".") -> Run:
    """Return the run of a profile (its name or YAML file) below the folder `out`; nothing is run or written.

    `overrides` are those of the command line, e.g. `["data.limit=50"]`; a relative `out` is meant from the repository's
    root. Raises `ProfileError` with one line for every bad key.

    >>> run = open_run("demo")
    >>> run.profile.name, [model.name for model in run.profile.models]
    ('demo', ['S', 'M', 'L', 'S+L'])
    """
    loaded = load_profile(profile, overrides)
    return Run(loaded, Workspace.of(out, loaded.name))


def expect_run(run: object, asked_by: str) -> None:
    """Raise `TypeError`, naming the cure, where a figure or table is asked of something that is no run."""
    if not isinstance(run, Run):
        raise TypeError(f"{asked_by}() takes a run, e.g. perg.open_run('demo'); got {run!r:.80}")
