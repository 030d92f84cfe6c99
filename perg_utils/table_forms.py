"""One table in its four forms: CSV (raw numbers), Markdown, LaTeX (booktabs) and HTML for the report.

Small on purpose: two header rows, labels on the left, best values bold, everything escaped. Room `tables` says
what the tables hold. Left out: long tables that break over pages.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from .workspace import write_text


@dataclass(frozen=True)
class Table:
    """One table. `data` holds raw numbers; `cells` the texts shown, its columns (group, label); `best` what is bold."""

    name: str
    title: str
    caption: str
    data: pd.DataFrame
    cells: pd.DataFrame
    best: pd.DataFrame


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
    """Return the table as a LaTeX float (needs the packages booktabs and graphicx)."""
    numeric = _first_value(table)
    groups, labels = _heads(table)
    heads = [" & ".join(_tex(label) for label in labels) + r" \\"]
    spans = _spans(groups)
    if any(group for group, *_ in spans):
        top = [rf"\multicolumn{{{b - a}}}{{c}}{{{_tex(g)}}}" if g else " & ".join([""] * (b - a)) for g, a, b in spans]
        rules = " ".join(rf"\cmidrule(lr){{{a + 1}-{b}}}" for g, a, b in spans if g)
        heads = [" & ".join(top) + r" \\", rules, *heads]
    body = [
        " & ".join(rf"\textbf{{{_tex(t)}}}" if b else _tex(t) for t, b in zip(texts, bold, strict=True)) + r" \\"
        for texts, bold in _rows(table)
    ]
    return "\n".join(
        [
            r"\begin{table}",
            r"\centering",
            rf"\caption{{{_tex(table.title)}. {_tex(table.caption)}}}",
            rf"\label{{tab:{table.name.replace('_', '-')}}}",
            # A wide table shrinks to the line; a narrow one keeps its size.
            r"\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%",
            rf"\begin{{tabular}}{{{'l' * numeric}{'r' * (len(labels) - numeric)}}}",
            r"\toprule",
            *heads,
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}}",
            r"\end{table}",
            "",
        ]
    )


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
    names = {"model", "method", "setting", "source"}
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
        "–": "--",
    }
)


def _tex(text: str) -> str:
    return text.translate(_TEX)
