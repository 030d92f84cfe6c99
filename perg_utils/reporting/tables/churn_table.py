"""The table of what breaks with a preference beside what breaks when a preference is changed for another.

Only of questions that were asked under several preferences; `scoring.churn` says what each column is.
"""

from __future__ import annotations

from perg_utils.core.run import Run
from perg_utils.core.schema import ARM_ID
from perg_utils.reporting.tables.forms import Table, table
from perg_utils.reporting.tables.layout import as_listed, plain_table, with_interval
from perg_utils.scoring import churn as measured

_TITLE = "What adding a preference breaks, and what changing it breaks"
#: What heads the column of a quantity, and how its values are written.
_SHOWN = {
    "breakage": ("breakage", "{:.1f}"),
    "reverse_breakage": ("the reverse", "{:.1f}"),
    "preference_to_preference": ("preference to preference", "{:.1f}"),
    "excess": ("difference", "{:+.1f}"),
    "fixed_per_broken": ("fixed per broken", "{:.2f}"),
    "net": ("net", "{:+.1f}"),
    "unstable_share_of_questions": ("unstable: of Q*", "{:.1f}"),
    "unstable_share_of_breaks": ("of breaks", "{:.1f}"),
}


@table(_TITLE)
def churn(run: Run) -> Table | None:
    """Return breakage beside its reverse and beside breakage from one preference to another, by source.

    Absent where no question was asked under several preferences.

    >>> print(perg.tables.churn(run).absent)
    Not in this run: What adding a preference breaks, and what changing it breaks.
    """
    found = measured.churn(as_listed(run, "scores"), run.profile.statistics, run.profile.seed)
    if found.empty:
        return None
    cells = found[[*ARM_ID, "source"]].astype(object)
    for name, (head, form) in _SHOWN.items():
        columns = {name: "value", f"{name}_low": "low", f"{name}_high": "high"}
        cells[head] = with_interval(found[list(columns)].rename(columns=columns), form)
    cells[["preferences", "n"]] = found[["preferences", "n"]]
    caption = (
        "Mean over all preferences of a source, in percent. Breakage: of Q*, the questions right without preference, "
        "those wrong with one; the reverse: of those right with one, wrong without. Preference to preference: of those "
        "right with one preference, wrong with another; where it is as large as breakage (difference: breakage minus "
        "it, in points), adding a preference breaks no more than changing one. Fixed per broken: answers mended for "
        "each that breaks. Net: accuracy with minus without on all n questions, in points. Unstable: questions right "
        "under fewer than half of the preferences, as share of Q* and of the breaks. Bootstrap intervals over "
        "questions, for these preferences; on the sampled rows alone in the CSV."
    )
    return plain_table("churn", _TITLE, caption, run, data=found, cells=cells)
