"""Does the preference break an answer, or want of practice? The embedded world can tell: it was trained here.

Training shows three groups of facts: *plain*, *repeated* (shown more often, never with a preference) and *styled*
(as often as repeated ones, mostly with a preference). If breakage were a matter of how well a fact is known,
repeated facts would break as rarely as styled ones. Where they break like plain ones, or in between, the difference
to styled ones is what practice *with preferences* is worth.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from ..drawing import STYLE, axis_end, canvas, interval_arms, looks
from ..errors import DataError
from ..schema import Method, Setting
from ..statistics import exact_interval
from . import world

GROUPS = ["plain", "repeated", "styled"]


def exposures(folder: Path) -> pd.DataFrame:
    """Return how often training showed each fact: example_id, group, without, with_preference (one row a fact).

    `folder` is a trained model's. Raises `DataError` where its `training.json` is missing.
    """
    path = folder / "training.json"
    if not path.is_file():
        raise DataError(f"{path} is missing; retrain the model: python -m perg_utils train-embedded")
    seen = json.loads(path.read_text(encoding="utf-8"))["exposures"]
    group = {fact.fact_id: fact.group for fact in world.facts()}
    rows = [(fact_id, group[fact_id], *counts) for fact_id, counts in seen.items()]
    return pd.DataFrame(rows, columns=["example_id", "group", "without", "with_preference"])


def breakage_by_group(scores: pd.DataFrame, folders: Mapping[str, Path], confidence: float = 0.95) -> pd.DataFrame:
    """Return breakage (percent) by model and group of facts, with how often the facts concerned had been shown.

    Zero-shot, relevant. Columns: model, group, value, low, high, n (|Q*|), shown (mean exposures). `folders` are the
    models' folders by name.
    """
    plain = scores[(scores["method"] == Method.ZERO_SHOT) & (scores["setting"] == Setting.RELEVANT) & scores["sampled"]]
    known = plain[plain["correct_without"].fillna(False) & plain["correct_with"].notna()]
    rows = []
    for model, folder in folders.items():
        seen = exposures(folder).assign(shown=lambda frame: frame["without"] + frame["with_preference"])
        own = known[known["model"] == model].merge(seen, on="example_id", validate="1:1")
        for group in GROUPS:
            some = own[own["group"] == group]
            broken, n = int((~some["correct_with"].astype(bool)).sum()), len(some)
            low, high = exact_interval([broken], [n], confidence)
            value = 100 * broken / n if n else float("nan")
            rows.append((model, group, value, 100 * low[0], 100 * high[0], n, some["shown"].mean()))
    return pd.DataFrame(rows, columns=["model", "group", "value", "low", "high", "n", "shown"])


def practice_figure(groups: pd.DataFrame) -> Figure:
    """Return breakage by group of facts, a line of points a model, with intervals."""
    models = list(dict.fromkeys(groups["model"]))
    marks = looks(models)
    with rc_context(STYLE):
        fig, (axes,) = canvas(0.85 + 0.16 * len(groups), True, left=0.2)
        for i, model in enumerate(models):
            own = groups[groups["model"] == model].reset_index(drop=True)
            at = [GROUPS.index(g) * (len(models) + 1) + i for g in own["group"]]
            colour, marker = marks[model]
            axes.errorbar(
                own["value"],
                at,
                xerr=interval_arms(own),
                fmt=marker,
                color=colour,
                ms=4.5,
                elinewidth=0.8,
                label=model,
                clip_on=False,
            )
        middle = (len(models) - 1) / 2
        axes.set_yticks([k * (len(models) + 1) + middle for k in range(len(GROUPS))], GROUPS)
        axes.invert_yaxis()
        axes.set_xlim(0, axis_end(groups))
        axes.set_xlabel("Breakage (BR), %")
        axes.grid(True, axis="x")
        axes.tick_params(axis="y", length=0)
        axes.legend(frameon=False, ncols=len(models), loc="lower center", bbox_to_anchor=(0.5, 1.0))
    return fig
