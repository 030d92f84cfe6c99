"""Tables of the studies (docs/studies.md): their contrasts, and whatever else a study's notebook has worked out."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from perg_utils.core.run import Run
from perg_utils.reporting.tables.forms import Table, absent, folder_of
from perg_utils.reporting.tables.layout import number, p_values, plain_table, with_interval

_PLANNED = (
    "Fixed before anything was run. Robust accuracy over all questions, in percent, difference in points with its own "
    "interval (paired by question); p: exact, a question being one unit, Holm-corrected over all rows."
)


def contrasts(
    run: Run, found: pd.DataFrame, *, name: str = "contrasts", title: str = "Planned contrasts", caption: str = _PLANNED
) -> Table:
    """Return the planned contrasts of a study as a table; `found` is from `studies.contrasts`.

    Those of another outcome than robust accuracy have another `name`, `title` and `caption`.

    >>> import pandas as pd
    >>> perg.tables.contrasts(run, pd.DataFrame()).absent
    'Not in this run: Planned contrasts.'
    """
    if found.empty:
        return absent(name, title)
    cells = found[["question", "who", "reference", "arm"]].astype(object).rename(columns={"reference": "against"})
    cells["before"], cells["after"] = ([number(v) for v in found[side]] for side in ("reference_value", "value"))
    cells["difference"] = with_interval(found.assign(value=found["difference"]), "{:+.1f}")
    cells["p"], cells["p Holm"] = p_values(found["p"]), p_values(found["p_holm"])
    cells["n"] = found["n"]
    made = plain_table(name, title, caption, run, data=found, cells=cells, judged=True)
    return replace(made, folder=folder_of(run))


def study(
    run: Run,
    name: str,
    title: str,
    caption: str,
    *,
    data: pd.DataFrame,
    labels: list[str],
    value: str = "percent",
    form: str = "{:.1f}",
) -> Table:
    """Return any table of a study: the columns `labels` as they are, then the value with its interval, and n.

    `data` has value, low, high and n beside them; other columns stand in the CSV only. `value` is the value's heading.

    >>> import pandas as pd
    >>> data = pd.DataFrame({"model": ["S"], "value": [9.04], "low": [5.0], "high": [14.0], "n": [360]})
    >>> perg.tables.study(run, "kept", "Kept", "How often.", data=data, labels=["model"]).cells.iloc[0, :2].tolist()
    ['S', '9.0 [5.0, 14.0]']
    """
    cells = data[labels].astype(object)
    cells[value], cells["n"] = with_interval(data, form), data["n"]
    return replace(plain_table(name, title, caption, run, data=data, cells=cells), folder=folder_of(run))
