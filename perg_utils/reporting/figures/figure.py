"""What a figure is: a picture, the data it was drawn from, and what is said of it. It shows and saves itself.

A figure of a run that lacks what it shows is `absent`: it says so in words where it would be drawn, and saves nothing.
"""

from __future__ import annotations

import base64
import html
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import wraps
from io import BytesIO
from pathlib import Path
from typing import Any, Concatenate, ParamSpec

import pandas as pd
from matplotlib import figure as mpl
from matplotlib import rc_context

from perg_utils.core.errors import DataError
from perg_utils.core.run import Run, expect_run
from perg_utils.core.schema import JUDGED_METRICS, Source
from perg_utils.core.workspace import write_atomically, write_text
from perg_utils.reporting.figures.captions import CAPTIONS
from perg_utils.reporting.figures.drawing import INVENTED, STYLE, footer
from perg_utils.reporting.figures.selection import check
from perg_utils.reporting.tables.layout import weak_judge

#: Corner note of figures that show printed numbers.
REDRAWN = "redrawn from the paper's published figures"
#: Dates and versions in a file's metadata would make every re-rendering a change.
_BLANK: dict[str, dict[str, Any]] = {
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
    "png": {"Software": None},
}
#: Pixels that a figure is wide in a notebook.
_SHOWN = 560

Drawn = tuple[mpl.Figure, pd.DataFrame]
P = ParamSpec("P")


@dataclass(frozen=True)
class Figure:
    """One figure: draws itself in a notebook, with its caption.

    `name` is its file name, `data` the table it was drawn from (percent; one row a value), `figure` the matplotlib
    figure, to be changed before it is saved. `absent` is empty, or says why there is nothing to show.
    """

    name: str
    title: str
    caption: str
    folder: Path = field(repr=False)
    data: pd.DataFrame = field(default_factory=pd.DataFrame, repr=False)
    figure: mpl.Figure | None = field(default=None, repr=False)
    absent: str = ""

    def save(self, folder: Path | str | None = None, name: str | None = None) -> list[Path]:
        """Write PDF, PNG (200 dpi) and CSV into the run's folder of figures, or `folder`; return their paths.

        The same data give the same bytes. Writes nothing and returns an empty list where the figure is absent.
        """
        if self.figure is None:
            return []
        stem = (self.folder if folder is None else Path(folder)) / (name or self.name)
        drawn = [write_atomically(stem.with_name(f"{stem.name}.{form}"), self._write) for form in _BLANK]
        return [*drawn, write_text(stem.with_name(f"{stem.name}.csv"), self.data.to_csv(index=False))]

    def _write(self, path: Path) -> None:
        self._draw(path, path.suffix[1:])

    def _draw(self, to: Path | BytesIO, form: str) -> None:
        with rc_context(STYLE):
            self.figure.savefig(to, format=form, dpi=200, metadata=_BLANK[form])  # type: ignore[union-attr]

    def _repr_png_(self) -> bytes | None:
        if self.figure is None:
            return None
        held = BytesIO()
        self._draw(held, "png")
        return held.getvalue()

    def _repr_markdown_(self) -> str:
        return self.absent or f"**{self.title}.** {self.caption}"

    def _repr_html_(self) -> str:
        png = self._repr_png_()
        if png is None:
            return f"<p><em>{html.escape(self.absent)}</em></p>"
        picture = f'<img width="{_SHOWN}" alt="{html.escape(self.title)}" src="data:image/png;base64,'
        said = f"<b>{html.escape(self.title)}.</b> {html.escape(self.caption)}"
        return f'<figure>{picture}{base64.b64encode(png).decode()}"><figcaption>{said}</figcaption></figure>'

    def _ipython_display_(self) -> None:
        # Picture and words as two outputs: code hosts show a PNG, and strip pictures out of HTML.
        from IPython.display import Image, Markdown, display  # noqa: PLC0415 - only a notebook asks for it

        if (png := self._repr_png_()) is not None:
            display(Image(png, width=_SHOWN))
        display(Markdown(self._repr_markdown_()))


def figure(
    name: str, corner: bool = True
) -> Callable[[Callable[Concatenate[Run, P], Drawn]], Callable[Concatenate[Run, P], Figure]]:
    """Make a function that draws (matplotlib figure, data) of a run into one that returns a `Figure`.

    `name` may hold an option, e.g. `categories_{source}`. In the corner stands what a reader must know: an invented
    world, redrawn numbers, the sources where not all are shown and, beside ratings, whose these are.
    """

    def decorate(draw: Callable[Concatenate[Run, P], Drawn]) -> Callable[Concatenate[Run, P], Figure]:
        signature = inspect.signature(draw)

        @wraps(draw)
        def show(run: Run, *args: P.args, **options: P.kwargs) -> Figure:
            expect_run(run, draw.__name__)
            try:
                asked = signature.bind(run, *args, **options)
            except TypeError as error:
                raise TypeError(f"{draw.__name__}(): {error}; it takes {', '.join(signature.parameters)}") from error
            asked.apply_defaults()
            if "source" in asked.arguments:
                check("source", [asked.arguments["source"]], Source)
            own = name.format(**asked.arguments)
            title, caption = CAPTIONS[own]
            caption = caption.replace("zero_shot", str(asked.arguments.get("method", "zero_shot")))
            made = Figure(own, title, caption, run.workspace.figures)
            try:
                drawn, data = draw(run, *args, **options)
            except DataError as error:
                return Figure(own, title, caption, made.folder, absent=f"Not in this run: {title}. {error}")
            if data.empty:
                return Figure(own, title, caption, made.folder, absent=f"Not in this run: {title}.")
            said = _corner(run, data, asked.arguments.get("sources")) if corner else ""
            if said:
                footer(drawn, said)
            return Figure(own, title, caption, made.folder, data, drawn)

        show.__signature__ = signature.replace(return_annotation=Figure)  # type: ignore[attr-defined]
        return show

    return decorate


def _corner(run: Run, data: pd.DataFrame, sources: Any) -> str:
    rated = "metric" in data and data["metric"].isin(JUDGED_METRICS).any()
    printed = "n" in data and "value" in data and bool((data["value"].notna() & data["n"].isna()).any())
    said = {
        INVENTED: run.invented,
        REDRAWN: printed,
        f"judge: {run.profile.judge.label}{' (weak)' if rated and weak_judge(run) else ''}": rated,
        f"only {', '.join(sources or ())}": bool(sources),
    }
    return " · ".join(words for words, holds in said.items() if holds)
