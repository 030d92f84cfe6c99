"""The figures of a run: each function takes a `Run` and returns a `Figure`, which draws itself in a notebook.

    run = perg.open_run("demo")
    perg.figures.scatter(run)                                            # picture and caption
    perg.figures.methods(run, methods=["zero_shot", "cot"], sources=["TQA"], colours={"S": "#882255"})
    perg.figures.scatter(run).save()                                     # PDF, PNG, CSV in the run's folder of figures
    perg.figures.scatter(run).data                                       # the numbers, a DataFrame
    [made.save() for made in perg.figures.all(run).values()]

A run that lacks what a figure shows gives a `Figure` that says "Not in this run" and saves nothing, so no caller needs
to ask first. `extractor`, `extraction`, `difficulty`, `judges` and `practice` are drawn from what notebooks 02, 10, 11
and 12 work out, and take it as a DataFrame; `reproduction` may. The functions of `study_figures` and `tuning_figure`
are the studies'.

In reading order: `figure` (what a figure is), `paper` (most of the functions), `selection` (models, sources and colours
to show), `captions`, `shapes` and `drawing` (how), then those with pictures of their own: `radar`, `violins`,
`robust_figures`, `dose_figure`, `churn_figure`, `diagram`, `extractor_figures`, `judges_figure`, `practice_figure`,
`reproduction_figure`, `study_figures`, `tuning_figure`.
"""

from perg_utils.core.run import Run
from perg_utils.core.schema import Source
from perg_utils.reporting.figures.captions import CAPTIONS
from perg_utils.reporting.figures.churn_figure import churn
from perg_utils.reporting.figures.diagram import pipeline
from perg_utils.reporting.figures.dose_figure import dose_response
from perg_utils.reporting.figures.extractor_figures import difficulty, extraction, extractor
from perg_utils.reporting.figures.figure import Figure
from perg_utils.reporting.figures.judges_figure import judges
from perg_utils.reporting.figures.paper import (
    accuracy,
    aligner,
    delivery,
    methods,
    net_change,
    one_model,
    scatter,
    settings,
    variation,
)
from perg_utils.reporting.figures.practice_figure import practice
from perg_utils.reporting.figures.radar import categories
from perg_utils.reporting.figures.reproduction_figure import reproduction
from perg_utils.reporting.figures.robust_figures import method_differences, robust_accuracy
from perg_utils.reporting.figures.study_figures import (
    acceptability,
    blame,
    contrasts,
    cures,
    delivery_cells,
    distance,
    free_form,
    frontier,
    judge_auc,
    latency,
    odds,
    stages,
)
from perg_utils.reporting.figures.tuning_figure import tuning
from perg_utils.reporting.figures.violins import preferences

__all__ = [
    "Figure",
    "acceptability",
    "accuracy",
    "aligner",
    "all",
    "blame",
    "categories",
    "churn",
    "contrasts",
    "cures",
    "delivery",
    "delivery_cells",
    "difficulty",
    "distance",
    "dose_response",
    "extraction",
    "extractor",
    "free_form",
    "frontier",
    "judge_auc",
    "judges",
    "latency",
    "method_differences",
    "methods",
    "net_change",
    "odds",
    "one_model",
    "pipeline",
    "practice",
    "preferences",
    "reproduction",
    "robust_accuracy",
    "scatter",
    "settings",
    "stages",
    "tuning",
    "variation",
]


def all(run: Run) -> dict[str, Figure]:
    """Return every figure that `metrics` and `scores` give, by file name in the order of the report; see `absent`.

    >>> [name for name, one in perg.figures.all(run).items() if one.absent]
    ['churn', 'preferences']
    """
    plain = (
        *(
            robust_accuracy,
            method_differences,
            accuracy,
            scatter,
            net_change,
            churn,
            dose_response,
            variation,
            settings,
            methods,
        ),
        *(aligner, one_model, delivery, preferences, pipeline),
    )
    made = [*(draw(run) for draw in plain), *(categories(run, source) for source in Source)]
    order = list(CAPTIONS)
    return {one.name: one for one in sorted(made, key=lambda one: order.index(one.name))}
