"""The tables of a run: each function takes a `Run` and returns a `Table`, which shows itself in a notebook.

    run = perg.open_run("demo")
    perg.tables.main(run)                                                # title, caption, HTML
    perg.tables.main(run).to_latex(), perg.tables.main(run).to_markdown()
    perg.tables.main(run).save()                                         # CSV, Markdown, LaTeX in the run's folder
    perg.tables.main(run).data                                           # raw numbers with intervals, a DataFrame
    [made.save() for made in perg.tables.all(run).values()]

Best values are bold, ties included. A run that holds no rows for a table gives a `Table` that says "Not in this run"
and saves nothing, so no caller needs to ask first.

In reading order: `forms` (what a table is, and its four forms), `layout` (from numbers to a table), `rates` (from
`metrics`), `comparisons` (from `scores`), `ablation_table`, `churn_table` (of questions with several preferences),
`summaries` (from `answers` and `judgements`), `study_tables` (from what `perg_utils.studies` works out),
`reproduction_tables` and `audit_tables` (the paper's released files,
from what notebook 13 saved). `by_source`, `reproduction` and `audit` return several tables in a list.
"""

from perg_utils.core.run import Run
from perg_utils.reporting.tables.ablation_table import ablation
from perg_utils.reporting.tables.audit_tables import audit
from perg_utils.reporting.tables.churn_table import churn
from perg_utils.reporting.tables.comparisons import (
    delivery,
    floors,
    method_comparisons,
    net_change,
    pref_aligner,
    setting_comparisons,
)
from perg_utils.reporting.tables.forms import Table
from perg_utils.reporting.tables.layout import notes
from perg_utils.reporting.tables.rates import (
    accuracy,
    by_source,
    dose_response,
    main,
    methods,
    one_model,
    robust_accuracy,
    settings,
)
from perg_utils.reporting.tables.reproduction_tables import reproduction
from perg_utils.reporting.tables.study_tables import contrasts, study
from perg_utils.reporting.tables.summaries import (
    alignment_gain,
    categories,
    extraction,
    judge_nulls,
    judging,
    plain_answers,
)

__all__ = [
    "Table",
    "ablation",
    "accuracy",
    "alignment_gain",
    "all",
    "audit",
    "by_source",
    "categories",
    "churn",
    "contrasts",
    "delivery",
    "dose_response",
    "extraction",
    "floors",
    "judge_nulls",
    "judging",
    "main",
    "method_comparisons",
    "methods",
    "net_change",
    "notes",
    "one_model",
    "plain_answers",
    "pref_aligner",
    "reproduction",
    "robust_accuracy",
    "setting_comparisons",
    "settings",
    "study",
]


def all(run: Run) -> dict[str, Table]:
    """Return every table by its name, in the order of the report; see `Table.absent`.

    >>> list(perg.tables.all(run))[:3]
    ['robust_accuracy', 'method_comparisons', 'main']
    """
    builders = (
        *(robust_accuracy, method_comparisons, main, plain_answers, accuracy, net_change, churn, floors, dose_response),
        *(settings, one_model, setting_comparisons, methods, pref_aligner, ablation, categories),
        *(delivery, extraction, judging, judge_nulls, alignment_gain),
    )
    return {one.name: one for one in [*(build(run) for build in builders), *by_source(run)]}
