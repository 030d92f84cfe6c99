"""The table of an ablation: what each switch of Pref-Aligner's editing is worth, from `scoring.ablation`."""

from __future__ import annotations

from perg_utils.core.run import Run
from perg_utils.core.schema import Metric
from perg_utils.reporting.tables.forms import Table, table
from perg_utils.reporting.tables.layout import as_listed, number, p_values, plain_table, with_bounds
from perg_utils.scoring.ablation import switch_effects


@table("Ways of editing")
def ablation(run: Run) -> Table | None:
    """Return the effect of each switch of `editing` on Pref-Aligner: robust accuracy, accuracy and breakage.

    None where a profile has no models that differ in a switch only (profile `ablation` has).

    >>> perg.tables.ablation(run).absent
    'Not in this run: Ways of editing.'
    """
    scores = as_listed(run, "scores")
    found = switch_effects(scores, run.profile)
    if found.empty or not (found["n"] > 0).any():
        return None
    cells = found[["method", "setting"]].astype(object).rename(columns={"method": "switch"})
    cells["off"], cells["on"] = ([number(v) for v in found[name]] for name in ("reference_value", "value"))
    cells["difference"] = with_bounds(found.assign(value=found["difference"]), "{:+.1f}")
    cells["p"], cells["p Holm"] = p_values(found["p"]), p_values(found["p_holm"])
    keys = ["method", "setting"]
    for metric in (Metric.ACCURACY_WITH, Metric.BREAKAGE_RATE):
        own = found[keys].merge(switch_effects(scores, run.profile, metric), on=keys, how="left")
        cells[f"{metric.short} difference"] = with_bounds(own.assign(value=own["difference"]), "{:+.1f}")
    cells["n"] = found["n"]
    caption = (
        "Pref-Aligner with a switch on against off, all else equal, over all models and the other switches (n pairs of "
        "answers; a question is one unit). keep_letter: the editor is ordered to keep the option with its letter; "
        "show_options: it is shown question and options; response_first: it writes the response before its note; form: "
        "JSON against labelled text. Robust accuracy over all questions, in percent, difference in points with its own "
        "interval; p: exact by question, Holm-corrected over the rows; accuracy and breakage with their own intervals."
    )
    return plain_table("ablation", "Ways of editing", caption, run, data=found, cells=cells, judged=True)
