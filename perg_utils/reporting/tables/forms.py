"""One table in its four forms: CSV (raw numbers), Markdown, LaTeX (booktabs) and HTML for the report.

Small on purpose: two header rows, labels on the left, best values bold, everything escaped. LaTeX rows are written by
pandas' Styler; HTML and Markdown are not, since the Styler makes no row headings of label columns. In LaTeX a wide
table shrinks to the line and a long one is continued in further floats of the same number, which works in one column
and in two (`longtable` works in one only). What tables hold is not said here.
"""

from __future__ import annotations

import html
import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import wraps
from pathlib import Path

import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.run import Run, expect_run
from perg_utils.core.workspace import write_text

#: Rows that fit on a page beside a caption; a longer table is continued on the next.
ROWS_A_PAGE = 38
#: From this many columns on LaTeX sets them closer.
MANY_COLUMNS = 8
#: Columns that are labels in tables of studies.
_STUDIED = {
    *("question", "who", "against", "arm", "became", "stage", "draft", "fate", "generator", "aligner", "option"),
    *("cure", "what", "response"),
}
#: Why a run has no table of the release.
NOT_RELEASED = " Only the paper's released files have it; notebook 13 makes it."


@dataclass(frozen=True, repr=False)
class Table:
    """One table. `data` holds raw numbers; `cells` the texts shown, its columns (group, label); `best` what is bold."""

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    cells: pd.DataFrame
    best: pd.DataFrame
    folder: Path | None = None
    absent: str = ""

    def __repr__(self) -> str:
        return f"<table {self.name}: {self.absent or self.title}>"

    def to_markdown(self) -> str:
        """Return caption and pipe table, best values in bold; where the table is absent, why."""
        return f"*{self.absent}*\n" if self.absent else markdown(self)

    def to_latex(self) -> str:
        """Return LaTeX floats (packages booktabs and graphicx); an empty text where the table is absent."""
        return "" if self.absent else latex(self)

    def save(self, folder: Path | str | None = None) -> list[Path]:
        """Write `<name>.csv`, `.md` and `.tex` into the run's folder of tables, or `folder`; return their paths.

        Writes nothing where the table is absent. Raises `ValueError` for a table of no run and no folder.
        """
        into = self.folder if folder is None else Path(folder)
        if self.absent:
            return []
        if into is None:
            raise ValueError(f"table '{self.name}' belongs to no run: name a folder")
        return save(self, into)

    def _repr_html_(self) -> str:
        if self.absent:
            return f"<p><em>{html.escape(self.absent)}</em></p>"
        said = f"<b>{html.escape(self.title)}.</b> {html.escape(self.caption)}"
        return f"<p>{said}</p>{as_html(self)}"

    def _repr_markdown_(self) -> str:
        return self.to_markdown()


def table(title: str) -> Callable[[Callable[[Run], Table | None]], Callable[[Run], Table]]:
    """Make a function that returns a run's table, or None, into one whose absent table says so in words."""

    def decorate(build: Callable[[Run], Table | None]) -> Callable[[Run], Table]:
        name = build.__name__

        @wraps(build)
        def show(run: Run) -> Table:
            expect_run(run, name)
            why = ""
            try:
                made = build(run)
            except DataError as error:
                made, why = None, f" {error}"
            if made is None:
                return absent(name, title, why)
            return replace(made, folder=folder_of(run))

        show.__signature__ = inspect.signature(build).replace(return_annotation=Table)  # type: ignore[attr-defined]
        return show

    return decorate


def folder_of(run: Run) -> Path:
    """Return where the tables of a run are saved."""
    return run.workspace.figures / "tables"


def absent(name: str, title: str, why: str = "") -> Table:
    """Return the table of a run that has no rows for it: it says so, and saves nothing."""
    nothing = pd.DataFrame(columns=pd.MultiIndex.from_tuples([], names=["group", "label"]))
    return Table(name, title, "", pd.DataFrame(), nothing, nothing, absent=f"Not in this run: {title}.{why}")


class Tables(list[Table]):
    """Several tables of one kind: they show themselves one below the other and have the forms of a single one."""

    def __repr__(self) -> str:
        return f"<tables: {', '.join(table.name for table in self) or 'none'}>"

    def to_markdown(self) -> str:
        """Return all of them as Markdown, see `Table.to_markdown`."""
        return "\n".join(table.to_markdown() for table in self)

    def to_latex(self) -> str:
        """Return all of them as LaTeX floats, see `Table.to_latex`."""
        return "\n".join(table.to_latex() for table in self)

    def save(self, folder: Path | str | None = None) -> list[Path]:
        """Write all of them and return the paths, see `Table.save`."""
        return [path for table in self for path in table.save(folder)]

    def _repr_html_(self) -> str:
        return "".join(table._repr_html_() for table in self) or "<p><em>Not in this run.</em></p>"


def markdown(table: Table) -> str:
    """Return the table as Markdown: caption, then a pipe table with best values in bold."""
    heads = [" ".join(filter(None, head)) for head in zip(*_heads(table), strict=True)]
    numeric = _first_value(table)
    lines = [f"**{table.title}.** {table.caption}", "", _pipes(heads)]
    lines.append(_pipes(["---" if i < numeric else "---:" for i in range(len(heads))]))
    for texts, bold in _rows(table):
        lines.append(_pipes([f"**{t}**" if b else t for t, b in zip(texts, bold, strict=True)]))
    return "\n".join(lines) + "\n"


def latex(table: Table) -> str:
    """Return the table as LaTeX floats, mostly one (needs the packages booktabs and graphicx)."""
    rows = _rows(table)
    parts = _pages(rows)
    title, name = _tex(table.title), f"tab:{table.name.replace('_', '-')}"
    floats = []
    for number, part in enumerate(parts, start=1):
        if number == 1:
            caption = [rf"\caption{{{title}. {_tex(table.caption)}}}", rf"\label{{{name}}}"]
        else:
            caption = [r"\addtocounter{table}{-1}", rf"\caption{{{title}, continued ({number} of {len(parts)}).}}"]
        caption.append(r"\smallskip")
        floats.append("\n".join([r"\begin{table}", r"\centering", *caption, _tabular(table, part), r"\end{table}", ""]))
    return "\n".join(floats)


def _pages(rows: list[tuple[list[str], list[bool]]]) -> list[list[tuple[list[str], list[bool]]]]:
    """`rows` in parts of at most `ROWS_A_PAGE`, of like length; where possible a part ends with a model (or source)."""
    count = -(-len(rows) // ROWS_A_PAGE)
    parts, start = [], 0
    for left in range(count, 0, -1):
        end = start + -(-(len(rows) - start) // left)
        # The last place nearby where the first label changes, if the rest still fits in the parts that are left.
        changes = [i for i in range(end, start, -1) if i == len(rows) or rows[i][0][0] != rows[i - 1][0][0]]
        near = [i for i in changes if len(rows) - i <= (left - 1) * ROWS_A_PAGE]
        end = near[0] if near else end
        parts.append(rows[start:end])
        start = end
    return parts or [rows]


def _tabular(table: Table, rows: list[tuple[list[str], list[bool]]]) -> str:
    numeric, (groups, labels) = _first_value(table), _heads(table)
    heads = [[_tex(group) for group in groups], [_tex(label) for label in labels]]
    cells = [[_tex_cell(*cell, i >= numeric) for i, cell in enumerate(zip(*row, strict=True))] for row in rows]
    shown = pd.DataFrame(cells, columns=pd.MultiIndex.from_arrays(heads) if any(groups) else heads[1])
    alignment = "l" * numeric + "r" * (len(labels) - numeric)
    text = shown.style.hide().to_latex(column_format=alignment, hrules=True, multicol_align="c")
    rules = [rf"\cmidrule(lr){{{first + 1}-{past}}}" for group, first, past in _spans(groups) if group]
    if rules:
        # The Styler has no rule under a group of columns.
        top, rest = text.split("\\\\\n", 1)
        text = "\\\\\n".join([top, " ".join(rules) + "\n" + rest])
    closer = "\\setlength{\\tabcolsep}{3pt}\n" if len(labels) >= MANY_COLUMNS else ""
    # A wide table shrinks to the line; a narrow one keeps its size.
    return closer + "\\resizebox{\\ifdim\\width>\\linewidth\\linewidth\\else\\width\\fi}{!}{%\n" + text.rstrip() + "}"


def as_html(table: Table) -> str:
    """Return the table as an HTML `<table>`, without caption."""
    numeric = _first_value(table)
    groups, labels = _heads(table)
    top = "".join(f'<th colspan="{b - a}">{html.escape(g)}</th>' for g, a, b in _spans(groups))
    head = f"<tr>{top}</tr>" if any(groups) else ""
    head += "<tr>" + "".join(f"<th>{html.escape(label)}</th>" for label in labels) + "</tr>"
    body = ""
    for texts, bold in _rows(table):
        cells = [f"<b>{html.escape(t)}</b>" if b else html.escape(t) for t, b in zip(texts, bold, strict=True)]
        body += "<tr>" + "".join(f"<th>{c}</th>" if i < numeric else f"<td>{c}</td>" for i, c in enumerate(cells))
        body += "</tr>"
    return f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"


def save(table: Table, folder: Path) -> list[Path]:
    """Write `<name>.csv`, `.md` and `.tex` below `folder` and return their paths."""
    texts = {"csv": table.data.to_csv(index=False), "md": markdown(table), "tex": latex(table)}
    return [write_text(folder / f"{table.name}.{form}", text) for form, text in texts.items()]


def _rows(table: Table) -> list[tuple[list[str], list[bool]]]:
    texts, bold = table.cells.astype(str).to_numpy().tolist(), table.best.to_numpy().tolist()
    return list(zip(texts, bold, strict=True))


def _heads(table: Table) -> tuple[list[str], list[str]]:
    groups, labels = (list(map(str, table.cells.columns.get_level_values(i))) for i in (0, 1))
    return groups, labels


def _first_value(table: Table) -> int:
    """How many leading columns are labels."""
    names = {"model", "method", "setting", "source", "metric", "judge", *_STUDIED}
    return sum(not group and label in names for group, label in zip(*_heads(table), strict=True))


def _spans(groups: list[str]) -> list[tuple[str, int, int]]:
    """Runs of equal groups as (group, first, past the last); columns without a group stay single."""
    starts = [i for i, g in enumerate(groups) if i == 0 or g != groups[i - 1]]
    return [(groups[a], a, b) for a, b in zip(starts, [*starts[1:], len(groups)], strict=True)]


def _pipes(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", r"\|") for cell in cells) + " |"


_TEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "{": r"\{",
        "}": r"\}",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "–": "--",
    }
)


def _tex_cell(text: str, bold: bool, value: bool) -> str:
    """A cell; the interval behind a value is set smaller, so that more columns fit."""
    shown, bracket, rest = text.partition(" [") if value else (text, "", "")
    shown = rf"\textbf{{{_tex(shown)}}}" if bold else _tex(shown)
    return rf"{shown} {{\scriptsize [{_tex(rest)}}}" if bracket else shown


def _tex(text: str) -> str:
    return text.translate(_TEX)
