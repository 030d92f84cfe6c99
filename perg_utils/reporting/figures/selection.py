"""Which part of a run a figure shows: an analyst's choice of models, sources and colours, and the rows left."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import cycle

import pandas as pd
from matplotlib.colors import is_color_like

from perg_utils.core.errors import PergError
from perg_utils.core.run import Run
from perg_utils.core.schema import ALL_SOURCES, Method, Setting, Source
from perg_utils.reporting.figures.drawing import looks
from perg_utils.scoring.rates import metrics

#: The method that is shown where a figure shows one.
PLAIN = Method.ZERO_SHOT.value
#: Names to show; all where there is None.
Names = Sequence[str] | None
#: A colour for some models by name, or a palette in the order of the models.
Colours = Mapping[str, str] | Sequence[str] | None


@dataclass(frozen=True)
class Selection:
    """The rows of a run that are shown. Raises `PergError` for a name that the run does not hold, or no colour."""

    run: Run
    models: Names = None
    sources: Names = None
    colours: Colours = None

    @cached_property
    def metrics(self) -> pd.DataFrame:
        """The table `metrics` with the chosen models; `ALL` stands for the chosen sources pooled."""
        every = self.run.read("metrics")
        own = _known(every, "model", self.models)
        if self.sources is None:
            return own
        check("source", self.sources, list(Source))
        if len(self.sources) > 1:
            return metrics(self.scores, self.run.profile.statistics, list(dict.fromkeys(every["model"])))
        chosen = own[own["source"] == self.sources[0]]
        return pd.concat([chosen, chosen.assign(source=ALL_SOURCES)], ignore_index=True)

    @cached_property
    def scores(self) -> pd.DataFrame:
        """The table `scores` with the chosen models and sources."""
        own = _known(self.run.read("scores"), "model", self.models)
        return own if self.sources is None else own[own["source"].isin(self.sources)]

    @cached_property
    def looks(self) -> dict[str, tuple[str, str]]:
        """Colour and marker of each model: by its position in the whole run, so that a choice changes no colour."""
        own = looks(list(self.run.read("metrics")["model"]))
        if self.colours is None:
            return own
        if isinstance(self.colours, str):
            raise PergError(f"colours are a list or by model, e.g. ['{self.colours}'], not the word '{self.colours}'")
        named = self.colours if isinstance(self.colours, Mapping) else dict(zip(own, cycle(self.colours), strict=False))
        check("model", named, own)
        for colour in named.values():
            if not is_color_like(colour):
                raise PergError(f"'{colour}' is no colour; write e.g. '#882255' or 'teal'")
        return {m: (named.get(m, colour), mark) for m, (colour, mark) in own.items()}

    def values(self, wanted: Sequence[str], **only: str) -> pd.DataFrame:
        """Return the measured values of these metrics, of rows that were shown something unless asked for."""
        rows = self.metrics
        keep = rows["metric"].isin(wanted) & (rows["source"] == ALL_SOURCES) & rows["value"].notna()
        if only.get("setting") != Setting.NONE:
            keep &= rows["setting"] != Setting.NONE
        for column, value in only.items():
            keep &= rows[column] == value
        own = rows[keep].reset_index(drop=True)
        # One source alone is named; several pooled are said in the corner.
        return own.assign(source=self.sources[0]) if self.sources and len(self.sources) == 1 else own


def check(kind: str, names: Iterable[str], known: Iterable[str]) -> None:
    """Raise `PergError` for a name that is not among the known ones."""
    if isinstance(names, str):
        raise PergError(f"{kind}s are a list, e.g. ['{names}'], not the word '{names}'")
    known = [str(name) for name in known]
    for name in names:
        if name not in known:
            raise PergError(f"no {kind} '{name}' to show; there are: {', '.join(known)}")


def check_method(method: str) -> str:
    """Return `method`. Raises `PergError` where there is no such method."""
    check("method", [method], list(Method))
    return method


def _known(rows: pd.DataFrame, column: str, names: Names) -> pd.DataFrame:
    if names is None:
        return rows
    check(column, names, dict.fromkeys(rows[column]))
    return rows[rows[column].isin(names)]
