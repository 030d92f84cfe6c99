"""What tuning came to by the number of training samples: a panel a model, a line an arm (docs/studies.md)."""

from __future__ import annotations

import pandas as pd
from matplotlib import rc_context
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter, NullLocator

from perg_utils.core.run import Run
from perg_utils.reporting.figures.drawing import STYLE, canvas, looks, ticks
from perg_utils.reporting.figures.figure import Drawn, figure


@figure("tuning_{measure}")
def tuning(run: Run, curves: pd.DataFrame, measure: str = "robust_accuracy") -> Drawn:
    """Return one measure by the number of samples (percent; bands: over seeds), dashed the model as it was.

    `curves` is from `studies.tuning.outcomes.curves`.

    >>> import pandas as pd
    >>> rows = [("none", 0, 80.0, None, None), ("curated", 64, 82.0, 80.0, 84.0), ("curated", 256, 85.0, 84.0, 86.0)]
    >>> curves = pd.DataFrame(rows, columns=["arm", "size", "value", "low", "high"])
    >>> perg.figures.tuning(run, curves.assign(model="S", measure="accuracy", n=5), "accuracy").data["value"].tolist()
    [80.0, 82.0, 85.0]
    """
    measure = measure.replace("_", " ")
    data = curves[curves["measure"] == measure].reset_index(drop=True)
    trained = data[data["size"] > 0]
    models, arms = list(dict.fromkeys(data["model"])), looks(list(dict.fromkeys(trained["arm"])))
    with rc_context(STYLE):
        fig, panels = canvas(2.5, columns=max(len(models), 1), left=0.12, right=0.97)
        fig.subplots_adjust(bottom=0.92 / 2.5)
        for axes, model in zip(panels, models, strict=False):
            own = trained[trained["model"] == model]
            for arm, (colour, mark) in arms.items():
                line = own[own["arm"] == arm].sort_values("size")
                axes.fill_between(line["size"], line["low"], line["high"], color=colour, alpha=0.12, lw=0)
                axes.plot(line["size"], line["value"], color=colour, marker=mark, ms=2.8, lw=0.9)
            for value in data.loc[(data["model"] == model) & (data["size"] == 0), "value"]:
                axes.axhline(value, color="black", lw=0.8, ls="--", zorder=1)
            axes.set_xscale("log", base=2)
            axes.set_xticks(sorted(set(own["size"])))
            axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:,.0f}"))
            axes.xaxis.set_minor_locator(NullLocator())
            axes.tick_params(axis="x", labelsize=5)
            axes.set_title(model, pad=3)
            axes.yaxis.set_major_locator(ticks(6))
            axes.grid(True, axis="y")
        panels[0].set_ylabel(f"{measure}, %")
        fig.text(0.55, 0.56 / 2.5, "training samples", ha="center", size=7)
        keys = [Line2D([], [], color="black", lw=0.8, ls="--", label="not tuned")]
        for arm, (colour, mark) in arms.items():
            keys.append(Line2D([], [], color=colour, marker=mark, ms=3, lw=0.9, label=arm.replace("_", " ")))
        fig.legend(handles=keys, frameon=False, ncols=4, loc="lower center", columnspacing=1.2, handlelength=1.6)
    return fig, data
