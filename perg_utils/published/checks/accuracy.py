"""How right an extractor is on the labelled responses: by kind of difficulty, and estimated for all of them.

An extractor is right if it gives the letter of the label, and, where the response names no option, none. The
labelled rows were drawn by strata, so shares of all responses are weighted; their intervals come from a bootstrap
within strata. Shares of the labelled rows of one kind are plain ones, with exact (Clopper-Pearson) intervals.

Left out: agreement of extractors with each other on unlabelled responses (`tests/bench/extraction.py`).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from perg_utils.published.checks.gold import NOTES
from perg_utils.scoring.intervals import Floats, exact_interval

#: What is estimated for an extractor, in percent.
ESTIMATES = {
    "precision": "of the letters it gives, those that are right",
    "coverage": "of the responses that name an option, those for which it gives a letter",
    "found": "of the responses that name an option, those for which it gives the right letter",
    "right": "of all responses, those with the right letter, or rightly without one",
}


def is_right(rows: pd.DataFrame, extractor: str) -> pd.Series:
    """Whether the column `extractor` has the true letter, or none where there is none."""
    none = rows["truth"].isna() & rows[extractor].isna()
    return none | (rows["truth"].notna() & (rows[extractor] == rows["truth"]))


def by_difficulty(rows: pd.DataFrame, extractors: Sequence[str]) -> pd.DataFrame:
    """Return a row a kind of difficulty, and one for all: n, and for each extractor the right ones with their interval.

    Columns: difficulty, n, then for an extractor `rules` rules, rules_low, rules_high (percent).
    """
    kinds = [note for note in NOTES if (rows["note"] == note).any()]
    out = []
    for kind in [*kinds, "all"]:
        of_kind = rows if kind == "all" else rows[rows["note"] == kind]
        line: dict[str, object] = {"difficulty": NOTES.get(kind, kind), "n": len(of_kind)}
        for extractor in extractors:
            right = int(is_right(of_kind, extractor).sum())
            low, high = exact_interval(right, len(of_kind))
            line |= {extractor: 100 * right / len(of_kind), f"{extractor}_low": 100 * float(low)}
            line[f"{extractor}_high"] = 100 * float(high)
        out.append(line)
    return pd.DataFrame(out)


def estimates(rows: pd.DataFrame, extractors: Sequence[str], resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """Return the weighted shares of `ESTIMATES` for each extractor: extractor, share, percent, low, high (95 %)."""
    random = np.random.default_rng(seed)
    strata = [np.flatnonzero(rows["stratum"] == stratum) for stratum in sorted(rows["stratum"].unique())]
    draws = [np.concatenate([random.choice(stratum, len(stratum)) for stratum in strata]) for _ in range(resamples)]
    weight = rows["weight"].to_numpy(dtype=float)
    out = []
    for extractor in extractors:
        named, spoke = rows["truth"].notna().to_numpy(), rows[extractor].notna().to_numpy()
        right = is_right(rows, extractor).to_numpy()
        parts = {
            "precision": (right & spoke, spoke),
            "coverage": (named & spoke, named),
            "found": (named & right, named),
            "right": (right, np.ones_like(right)),
        }
        for share, (part, whole) in parts.items():
            values = np.array([_share(weight[d], part[d], whole[d]) for d in draws])
            low, high = np.nanquantile(values, [0.025, 0.975])
            out.append((extractor, share, _share(weight, part, whole), float(low), float(high)))
    return pd.DataFrame(out, columns=["extractor", "share", "percent", "low", "high"])


def kappa(one: pd.Series, two: pd.Series) -> float:
    """Return Cohen's kappa of two columns of labels, e.g. 1.0 where they are the same."""
    agree = float((one == two).mean())
    labels = sorted(set(one) | set(two))
    chance = float(sum((one == label).mean() * (two == label).mean() for label in labels))
    return 1.0 if chance == 1 else (agree - chance) / (1 - chance)


def _share(weight: Floats, part: np.ndarray, whole: np.ndarray) -> float:
    total = weight[whole].sum()
    return 100 * float(weight[part].sum() / total) if total > 0 else float("nan")
