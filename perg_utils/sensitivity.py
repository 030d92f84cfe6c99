"""What becomes of the metrics and of the ranking of models under another judge or another threshold.

Alignment failure and robustness error rest on a rating of 3 or more by one judge (paper, section 3.3); breakage and
performance variation rest on no judge at all, and are shown so. Left out: tests of differences between judges; the
agreement behind them is in room `agreement`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.figure import Figure

from .drawing import INVENTED, MARKERS, PALETTE, STYLE, axis_end, canvas, footer, names_room, ticks
from .metrics import metrics, score
from .profile import Profile
from .schema import ALL_SOURCES, RELEVANT_SHOWN, Method, Metric, Setting, Status

THRESHOLDS = (2, 3, 4)
#: The paper's four metrics; a judge has a say in the last two.
FOUR = [Metric.BREAKAGE_RATE, Metric.PERFORMANCE_VARIATION, Metric.ALIGNMENT_FAILURE, Metric.ROBUSTNESS_ERROR]
_ARM = ["model", "method", "setting", "source", "metric"]


def rated_by_all(panel: Mapping[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return the panel's judgements with only the ratings of rows that every judge rated, the others `unrated`.

    For a comparison on equal terms where judges rated different rows, as people do, who rate a part.
    """
    has = [(table["status"] == Status.OK) & table["rating"].notna() for table in panel.values()]
    drop = np.logical_or.reduce(has) & ~np.logical_and.reduce(has)
    out = {}
    for judge, table in panel.items():
        status = table["status"].mask(drop, str(Status.UNRATED))
        out[judge] = table.assign(rating=table["rating"].mask(drop), status=status)
    return out


def by_judge(
    panel: Mapping[str, pd.DataFrame],
    tables: Mapping[str, pd.DataFrame],
    profile: Profile,
    thresholds: Sequence[int] = THRESHOLDS,
) -> pd.DataFrame:
    """Return the four metrics where a relevant preference was shown, for every judge and threshold.

    `panel` holds judgements by judge, `tables` the tables examples, responses, answers and preferences. Columns:
    judge, threshold, then those of the table `metrics`, in percent.
    """
    bank = tables["preferences"]
    models = [model.name for model in profile.models]
    out = []
    for judge, judgements in panel.items():
        for threshold in thresholds:
            how: dict[str, Any] = {"threshold": threshold, "baseline": profile.baseline, "models": models}
            scores = score(tables["examples"], tables["responses"], tables["answers"], judgements, bank, **how)
            found = metrics(scores, profile.statistics, models)
            kept = found[found["metric"].isin(FOUR) & found["setting"].isin(RELEVANT_SHOWN)]
            out.append(kept.assign(judge=judge, threshold=threshold))
    whole = pd.concat(out, ignore_index=True)
    return whole[["judge", "threshold", *whole.columns.drop(["judge", "threshold"])]]


def spread(found: pd.DataFrame) -> pd.DataFrame:
    """Return how far each value moves: `lowest` and `highest` over all judges and thresholds, and their `range`.

    One row a model, method, setting, source and metric, in percent.
    """
    out = found.groupby(_ARM, sort=False)["value"].agg(lowest="min", highest="max").reset_index()
    return out.assign(range=out["highest"] - out["lowest"])


def rankings(found: pd.DataFrame, judge: str, threshold: int, source: str = ALL_SOURCES) -> pd.DataFrame:
    """Return the order of models under each judge and threshold, beside that of the main `judge` and `threshold`.

    One row a judge, threshold, method, setting and metric with two models or more: `ranking` (best first, equal ones
    joined by =), `tau` (Kendall's tau-b with the main ranking; NaN where either has ties only), `same_best`, and
    `same_order`. Values are compared as they are, without regard to their intervals.
    """
    rows = found[(found["source"] == source) & found["value"].notna()]
    main = rows[(rows["judge"] == judge) & (rows["threshold"] == threshold)]
    keys = ["method", "setting", "metric"]
    reference = {key: part.set_index("model")["value"] for key, part in main.groupby(keys, sort=False)}
    out = []
    for key, part in rows.groupby(["judge", "threshold", *keys], sort=False):
        values, before = part.set_index("model")["value"], reference.get(key[2:])
        if before is None or len(values) < 2 or set(values.index) != set(before.index):
            continue
        line = dict(zip(["judge", "threshold", *keys], key, strict=True)) | {"ranking": _order(values)}
        same = {"same_best": _best(values) == _best(before), "same_order": _order(values) == _order(before)}
        out.append(line | {"tau": _tau(values, before)} | same)
    return pd.DataFrame(out, columns=["judge", "threshold", *keys, "ranking", "tau", "same_best", "same_order"])


def draw(found: pd.DataFrame, profile: Profile, method: str = Method.ZERO_SHOT) -> tuple[Figure, pd.DataFrame]:
    """Return alignment failure by model, judge and threshold, relevant setting, as figure and as the rows drawn."""
    keep = (found["metric"] == Metric.ALIGNMENT_FAILURE) & (found["setting"] == Setting.RELEVANT)
    keep &= (found["source"] == ALL_SOURCES) & (found["method"] == method) & (found["n"] > 0)
    data = found[keep].reset_index(drop=True)
    judges, models = list(dict.fromkeys(data["judge"])), list(dict.fromkeys(data["model"]))
    with rc_context(STYLE):
        fig, axes = canvas(1.2 + 0.26 * len(models), columns=max(1, len(judges)), left=0.04 + names_room(models))
        for axis, judge in zip(axes, judges, strict=True):
            for number, (threshold, part) in enumerate(data[data["judge"] == judge].groupby("threshold")):
                # Side by side within a model's row: equal values would hide each other.
                places = [models.index(model) + 0.24 * (number - 1) for model in part["model"]]
                look: dict[str, Any] = {"marker": MARKERS[number], "color": PALETTE[number], "ls": "none", "ms": 3}
                axis.plot(part["value"], places, label=f"{threshold} or more", **look)
                axis.hlines(places, part["low"], part["high"], lw=0.7, color=PALETTE[number])
            axis.set(xlim=(0, axis_end(data)), ylim=(len(models) - 0.5, -0.5), title=judge)
            axis.set_yticks(range(len(models)), models)
            axis.grid(axis="x")
            axis.xaxis.set_major_locator(ticks(4, prune="upper"))
        fig.subplots_adjust(bottom=0.7 / fig.get_figheight())
        axes[0].set_xlabel("alignment failure (AF), %", loc="left")
        handles, labels = axes[0].get_legend_handles_labels()
        labels = [f"followed: {labels[0]}", *labels[1:]] if labels else []
        place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (0, 0.08 / fig.get_figheight())}
        fig.legend(handles, labels, ncols=len(labels) or 1, frameon=False, handletextpad=0, columnspacing=1, **place)
        footer(fig, f"{method}, relevant" + (f" · {INVENTED}" if profile.world == "invented" else ""))
    return fig, data


def _order(values: pd.Series) -> str:
    ordered = values.round(9).sort_values(kind="stable")
    parts = [str(ordered.index[0])]
    for (_, before), (model, value) in zip(ordered.iloc[:-1].items(), ordered.iloc[1:].items(), strict=True):
        parts += ["=" if value == before else "<", str(model)]
    return " ".join(parts)


def _best(values: pd.Series) -> set[str]:
    rounded = values.round(9)
    return set(rounded.index[rounded == rounded.min()])


def _tau(values: pd.Series, before: pd.Series) -> float:
    from scipy.stats import kendalltau  # noqa: PLC0415

    with np.errstate(invalid="ignore"):
        return float(kendalltau(values.round(9), before.loc[values.index].round(9)).statistic)
