"""What the paper's printed figures say among themselves, without any released file.

The four metrics of a cell bind each other. With q questions right without preference, w with it, b both,

    b = q (1 - BR),   q + w - b = b / (1 - PV),   so   w / q = (1 - BR) / (1 - PV) - BR

and a printed BR and PV tell by how much accuracy rises with the preference. The figures for ALL turn out to be pooled
over the questions of all sources: BR, AF and RE over ALL are one and the same weighted mean of the sources, whose
weights are the shares of the questions right without preference. Two configurations with one baseline must have the
same shares.

`option_order_prediction` says what PV must be if letters without preference were counted under another random order of
the options: right by chance, 1 in k, independent of the answer with preference, whose accuracy then is 1 - BR.

`identical_rows` looks for configurations that print the same BR and PV throughout, as reused responses would.

Left out: our own figures (`reproduction`), single rows (`audit`).
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.optimize import linprog

from perg_utils.core.schema import ALL_SOURCES, Method, Metric, Setting, Source
from perg_utils.dataset.questions import EXPECTED
from perg_utils.published.printed import printed_metrics

KEYS = ["setting", "method", "model", "source"]
#: How far a printed figure may be from what it was rounded from.
HALF = 0.05
#: Options of TruthfulQA's 817 questions: number of options -> questions.
TQA_OPTIONS = {2: 43, 3: 90, 4: 219, 5: 192, 6: 135, 7: 65, 8: 36, 9: 17, 10: 9, 11: 7, 12: 3, 13: 1}
#: Robustness error over all sources, zero_shot and Pref-Aligner, relevant (paper, Pref-Aligner table).
ALIGNER_TABLE = {
    "Llama3-8B": (20.9, 18.1),
    "Llama3-70B": (9.0, 6.5),
    "Mixtral-8x7B": (26.1, 18.9),
    "Gemma-2-9B": (12.6, 6.8),
}
#: Breakage of Llama3-70B over all sources, relevant / mixed / irrelevant (paper, 70B by setting).
BY_SETTING = {Method.ZERO_SHOT: (5.6, 6.9, 5.5), Method.PREF_ALIGNER: (1.1, 1.2, 1.2)}
#: A preference that changes the number of right answers by more than this factor is not believable.
RISE = 1.5


def option_order_prediction(
    paper: pd.DataFrame | None = None, options: Mapping[int, int] | None = None, source: str = Source.TQA
) -> pd.DataFrame:
    """Return, beside each published BR and PV of a source, the PV predicted for letters of two random option orders.

    Columns: setting, method, model, breakage, variation (both published), predicted, fits (within 5 points), and
    `shared`: PV of the same model's zero_shot relevant arm. `options` says how many questions have k options. Exact:
    a letter under a foreign random order is right in 1 of k cases whatever the answer with preference, so with accuracy
    w = 1 - BR with preference PV = 1 - sum(w/k) / sum(w + 1/k - w/k).
    """
    wide = _wide(printed(paper))
    own = wide.xs(source, level="source")[["breakage_rate", "performance_variation"]].reset_index()
    own.columns = pd.Index(["setting", "method", "model", "breakage", "variation"])
    counts = options or TQA_OPTIONS
    own["predicted"] = [predicted_variation(1 - b / 100, counts) for b in own["breakage"]]
    own["fits"] = (own["predicted"] - own["variation"]).abs() <= 5
    base = own[(own["setting"] == Setting.RELEVANT) & (own["method"] == Method.ZERO_SHOT)]
    return own.assign(shared=own["model"].map(base.set_index("model")["variation"]))


def predicted_variation(accuracy: float, options: Mapping[int, int]) -> float:
    """Return PV in percent when one answer is right by chance, e.g. 78.6 for accuracy 0.65 and TruthfulQA's options."""
    k, n = (np.array(list(part), dtype=float) for part in (options.keys(), options.values()))
    both = float((n * accuracy / k).sum())
    either = float((n * (accuracy + 1 / k - accuracy / k)).sum())
    return 100 * (1 - both / either)


def inner_checks(paper: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return the checks of the printed figures against each other: check, checked, violated, and the cells that fail.

    A figure may be half a unit of its last digit away from what it was rounded from; that much is allowed.
    """
    figures = printed(paper)
    wide = _wide(figures)
    br, af, re = wide["breakage_rate"], wide["alignment_failure"], wide["robustness_error"]
    relevant = af.notna()
    spread = figures.dropna(subset="published").pivot_table(
        index=[*KEYS[:3], "metric"], columns="source", values="published", sort=False
    )
    parts = spread[[str(s) for s in Source]]
    pooled = spread[ALL_SOURCES]
    low, high = parts.min(axis=1), parts.max(axis=1)
    shares = implied_shares(figures)
    rise = implied_rise(figures)
    lines = [
        _check("RE is at least the larger of BR and AF", (re < np.maximum(br, af) - 2 * HALF)[relevant]),
        _check("RE is at most BR + AF", (re > br + af + 3 * HALF)[relevant]),
        _check("without a relevant preference RE is BR", (re != br)[~relevant]),
        _check("ALL lies within the sources", (pooled < low - 2 * HALF) | (pooled > high + 2 * HALF)),
        _check("BR, AF and RE over ALL are one weighted mean of the sources (pooled)", ~shares["possible"]),
        _check(
            "a model's configurations share the baseline of its zero_shot relevant one (Pref-Aligner aside)",
            _other_baseline(shares),
        ),
        _check(f"accuracy with preference is {1 / RISE:.2f} to {RISE} times that without", rise["unbelievable"]),
        _check("no two configurations print the same BR and PV in every source", _twins(figures)),
        *_tables(figures),
    ]
    return pd.DataFrame(lines, columns=["check", "checked", "violated", "cells"])


def how_all_is_made(paper: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return how many figures for ALL each reading explains: reading, fits, of.

    Readings: the plain mean of the three sources; their mean by number of questions; pooled, weighted by the unknown
    numbers of questions right without preference (one set of weights for BR, AF and RE of a configuration).
    """
    figures = printed(paper).dropna(subset="published")
    spread = figures.pivot_table(index=[*KEYS[:3], "metric"], columns="source", values="published", sort=False)
    parts = spread[[str(s) for s in EXPECTED]]
    sizes = np.array([EXPECTED[s] for s in EXPECTED], dtype=float)
    readings = {"plain mean of the sources": np.full(3, 1 / 3), "mean by number of questions": sizes / sizes.sum()}
    lines = [
        (name, int(((parts @ weights - spread[ALL_SOURCES]).abs() <= 2 * HALF + 1e-9).sum()), len(spread))
        for name, weights in readings.items()
    ]
    possible = implied_shares(figures)["possible"]
    lines.append(
        ("pooled over the questions right without preference (configurations)", int(possible.sum()), len(possible))
    )
    return pd.DataFrame(lines, columns=["reading", "fits", "of"])


#: What is read from letters alone, and what rests on ratings.
_LETTERS = (Metric.BREAKAGE_RATE, Metric.PERFORMANCE_VARIATION)
_RATED = (Metric.ALIGNMENT_FAILURE, Metric.ROBUSTNESS_ERROR)


def identical_rows(paper: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return every two configurations by how many of their BR and PV cells are the same, those with all of them first.

    Columns: setting, method, model of one; `twin` (setting, method, model of the other, as text); `same` of the `cells`
    that both print; `rated_same` of the `rated` AF and RE cells; `identical`: all cells, of every source. Only pairs
    with a cell in common. The same letters throughout, under ratings that differ here and there, look like reused
    responses (likely, not proven): nobody but the authors can tell.
    """
    figures = printed(paper).dropna(subset="published")
    wide = figures.pivot_table(index=KEYS[:3], columns=["metric", "source"], values="published", sort=False)
    chosen = {kind: wide.loc[:, wide.columns.get_level_values(0).isin(kind)] for kind in (_LETTERS, _RATED)}
    lines = []
    for one, other in combinations(wide.index, 2):
        counts = []
        for kind in (_LETTERS, _RATED):
            a, b = chosen[kind].loc[one], chosen[kind].loc[other]
            both = a.notna() & b.notna()
            counts += [int((a[both] == b[both]).sum()), int(both.sum())]
        if counts[0]:
            lines.append((*one, ", ".join(other), *counts, counts[0] == counts[1] == len(_LETTERS) * (len(Source) + 1)))
    columns = [*KEYS[:3], "twin", "same", "cells", "rated_same", "rated", "identical"]
    found = pd.DataFrame(lines, columns=columns)
    return found.sort_values("same", ascending=False, kind="stable").reset_index(drop=True)


def coincidence(paper: pd.DataFrame | None = None) -> tuple[float, int]:
    """Return how often two Pref-Aligner rows of one model share a BR or PV cell (percent) where not all are the same.

    And the most cells of one such pair. Pref-Aligner edits one draft in every setting and breaks little, so its rows
    are the ones that come closest by chance.
    """
    aligner = printed(paper).query("method == 'pref_aligner'")
    models = aligner.groupby("model")["setting"].nunique()
    pairs = int((models * (models - 1) / 2).sum())
    near = identical_rows(aligner)
    near = near[[twin.endswith(f", {model}") for twin, model in zip(near["twin"], near["model"], strict=True)]]
    rest = near[~near["identical"]]
    cells = (pairs - int(near["identical"].sum())) * len(_LETTERS) * (len(Source) + 1)
    return 100 * float(rest["same"].sum()) / cells, int(rest["same"].max())


def implied_rise(paper: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return how many times as many answers are right with preference as without, from BR and PV alone.

    Index KEYS; columns low, high (the figures being rounded) and `unbelievable`: surely above `RISE` or below 1/RISE.
    """
    wide = _wide(printed(paper))
    br, pv = wide["breakage_rate"], wide["performance_variation"]

    def ratio(b: pd.Series, v: pd.Series) -> pd.Series:
        return (1 - b / 100) / (1 - v / 100) - b / 100

    low, high = ratio(br + HALF, pv - HALF), ratio(br - HALF, pv + HALF)
    return pd.DataFrame({"low": low, "high": high, "unbelievable": (low > RISE) | (high < 1 / RISE)})


def implied_shares(paper: pd.DataFrame | None = None) -> pd.DataFrame:
    """Return, by configuration, between which bounds each source's share of Q* must lie, from BR, AF and RE alone.

    Q*: the questions right without preference. Columns possible, and low_S, high_S (0 to 1) for each source S; bounds
    are NaN where no weights give the printed figures for ALL.
    """
    wide = _wide(printed(paper))
    lines = {}
    for config, own in wide.groupby(level=[0, 1, 2], sort=False):
        cell = own.droplevel([0, 1, 2])
        bound = []
        for metric in (Metric.BREAKAGE_RATE, Metric.ALIGNMENT_FAILURE, Metric.ROBUSTNESS_ERROR):
            if cell[metric].notna().all():
                column = cell[metric].astype(float)
                gap = column[[str(s) for s in Source]].to_numpy() - column[ALL_SOURCES]
                bound += [gap, -gap]
        lines[config] = _bounds(np.array(bound))
    columns = ["possible", *(f"{end}_{s}" for s in Source for end in ("low", "high"))]
    out = pd.DataFrame.from_dict(lines, orient="index", columns=columns)
    out.index = pd.MultiIndex.from_tuples(out.index, names=KEYS[:3])
    return out.astype({"possible": bool})


def printed(paper: pd.DataFrame | None) -> pd.DataFrame:
    """Return the figures (the paper's where none are given) as KEYS, metric, published."""
    out = printed_metrics() if paper is None else paper
    return out.rename(columns={"value": "published", "percent": "published"})[[*KEYS, "metric", "published"]]


def _wide(figures: pd.DataFrame) -> pd.DataFrame:
    return figures.set_index([*KEYS, "metric"])["published"].unstack("metric", sort=False)


def _bounds(gaps: np.ndarray) -> tuple[object, ...]:
    """Whether weights exist with |gaps @ weights| <= a unit, and the least and greatest of each weight."""
    out: list[object] = []
    for i in range(3):
        for sign in (1, -1):
            goal = np.zeros(3)
            goal[i] = sign
            # Each of the four figures may be half a unit off; the weights add up to 1.
            found = linprog(goal, gaps, np.full(len(gaps), 2 * HALF + 1e-9), [[1, 1, 1]], [1], bounds=(0, 1))
            out.append(sign * found.fun if found.status == 0 else np.nan)
    return (not np.isnan(np.array(out, dtype=float)).any(), *out)


def _other_baseline(shares: pd.DataFrame) -> pd.Series:
    """Configurations whose shares of Q* cannot be those of the model's zero_shot relevant arm (Pref-Aligner aside)."""
    own = shares[shares["possible"]].reset_index()
    base = own[(own["setting"] == Setting.RELEVANT) & (own["method"] == Method.ZERO_SHOT)].set_index("model")
    own = own[(own["method"] != Method.PREF_ALIGNER) & own["model"].isin(base.index)]
    own = own[(own["setting"] != Setting.RELEVANT) | (own["method"] != Method.ZERO_SHOT)].set_index(KEYS[:3])
    theirs = base.reindex(own.index.get_level_values("model")).set_axis(own.index)
    apart = [
        (own[f"low_{s}"] > theirs[f"high_{s}"] + 1e-6) | (own[f"high_{s}"] < theirs[f"low_{s}"] - 1e-6) for s in Source
    ]
    return pd.concat(apart, axis=1).any(axis=1)


def _twins(figures: pd.DataFrame) -> pd.Series:
    found = identical_rows(figures)
    twice = set(found.loc[found["identical"], KEYS[:3]].itertuples(index=False, name=None))
    configurations = pd.MultiIndex.from_frame(figures[KEYS[:3]].drop_duplicates())
    return pd.Series([key in twice for key in configurations], index=configurations)


def _check(name: str, violated: pd.Series) -> tuple[str, int, int, str]:
    cells = [" ".join(map(str, key)) for key in violated.index[violated.to_numpy(dtype=bool)]]
    return name, len(violated), len(cells), "; ".join(cells)


def _tables(figures: pd.DataFrame) -> list[tuple[str, int, int, str]]:
    """The paper's two small tables against the released figures."""
    value = figures.set_index([*KEYS, "metric"])["published"].astype(float).to_dict()
    aligner = {
        (m, method): value[Setting.RELEVANT, method, m, ALL_SOURCES, Metric.ROBUSTNESS_ERROR] - figure
        for m, pair in ALIGNER_TABLE.items()
        for method, figure in zip((Method.ZERO_SHOT, Method.PREF_ALIGNER), pair, strict=True)
    }
    settings = {
        (method, s): value[s, method, "Llama3-70B", ALL_SOURCES, Metric.BREAKAGE_RATE] - figure
        for method, figures in BY_SETTING.items()
        for s, figure in zip((Setting.RELEVANT, Setting.MIXED, Setting.IRRELEVANT), figures, strict=True)
    }
    return [
        _check("the Pref-Aligner table repeats RE over ALL", pd.Series(aligner).abs() > 1e-6),
        _check("the table of Llama3-70B by setting repeats BR over ALL", pd.Series(settings).abs() > 1e-6),
    ]
