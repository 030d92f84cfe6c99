"""The paper's tables, for any run, in the order of the report (room `table_forms` writes them in four forms).

Rendering only. Rates come from the table `metrics` (`table_rates`), comparisons on the same questions from `scores`
(`table_comparisons`), summaries of extraction and judging from `answers` and `judgements` (`table_summaries`). A
builder returns a `Table`, or None where the run holds nothing to show. Best values are bold, ties included.
"""

from __future__ import annotations

import pandas as pd

from perg_utils.core.profile import Profile
from perg_utils.core.schema import ordered
from perg_utils.reporting.tables.comparisons import (
    aligner_table,
    delivery_table,
    method_comparison_table,
    net_table,
    placebo_table,
    setting_comparison_table,
)
from perg_utils.reporting.tables.forms import Table
from perg_utils.reporting.tables.layout import notes
from perg_utils.reporting.tables.rates import (
    accuracy_table,
    main_table,
    method_table,
    one_model_table,
    redrawn_aligner_table,
    setting_table,
    source_tables,
)
from perg_utils.reporting.tables.summaries import category_table, extraction_table, judging_table
from perg_utils.scoring.rates import redrawn

__all__ = ["all_tables", "notes"]


def all_tables(
    metrics: pd.DataFrame,
    scores: pd.DataFrame,
    profile: Profile,
    answers: pd.DataFrame | None = None,
    judgements: pd.DataFrame | None = None,
) -> list[Table]:
    """Return every table for which the run has data; summaries of extraction and judging where these are given."""
    models = metrics["model"].unique()
    run = (metrics, ordered(scores, ["model"], models), profile)
    made = [
        main_table(metrics, profile),
        accuracy_table(metrics, profile),
        net_table(*run),
        placebo_table(*run),
        setting_table(metrics, profile),
        one_model_table(metrics, profile),
        setting_comparison_table(*run),
        method_table(metrics, profile),
        method_comparison_table(*run),
        redrawn_aligner_table(metrics, profile) if redrawn(metrics) else aligner_table(*run),
        category_table(*run),
        delivery_table(*run),
        None if answers is None else extraction_table(metrics, ordered(answers, ["model"], models), profile),
        None if judgements is None else judging_table(metrics, ordered(judgements, ["model"], models), profile),
        *source_tables(metrics, profile),
    ]
    return [table for table in made if table is not None]
