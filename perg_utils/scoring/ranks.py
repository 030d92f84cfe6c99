"""Ranks with their uncertainty: who is shown to be ahead of whom, counted.

A rank read off point values pretends to an order that the data may not have. Here a contender's rank lies between one
plus those that are shown to be better and all less those that are shown to be worse, where "shown" holds for all pairs
of the list at once (Holm), so that all these ranges hold together (Mogstad, Romano, Shaikh and Wilhelm, 2024). Two
contenders on the same questions are compared question by question (McNemar's exact test); others by their counts
(Fisher's exact test). For preferences like these a pair must differ by an interval at Bonferroni's level, too:
`generalise.difference_like_these` on the same questions, else one made of both intervals (Zou and Donner, 2008). A pair
of which the single answers are not at hand is not shown to differ in that sense: the range is then wider, not wrong.

Left out: how much better (`comparisons`); ties in value share the better rank.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import pandas as pd

from perg_utils.scoring.generalise import difference_like_these, like_these
from perg_utils.scoring.intervals import holm, mcnemar_exact


@dataclass(frozen=True)
class Contender:
    """One arm to be ranked by a share of questions, in percent; more is better.

    `outcomes` has a row a question: `example_id` as index, `event` (0 or 1), `preference_id`; None where single
    answers are not at hand. Contenders with equal `questions` (not empty) were asked the same ones.
    """

    value: float
    n: int
    questions: str = ""
    outcomes: pd.DataFrame | None = None


def ranks(contenders: Sequence[Contender], confidence: float = 0.95) -> pd.DataFrame:
    """Return `rank`, `low`, `high` (for these preferences), `like_low`, `like_high`, a row a contender, in their order.

    Whole numbers from 1. `like_low` and `like_high` are missing where no contender has single answers with preferences.

    >>> found = ranks([Contender(90.0, 200), Contender(80.0, 200), Contender(50.0, 200)])
    >>> found["rank"].tolist(), found["low"].tolist(), found["high"].tolist()
    ([1, 2, 3], [1, 2, 3], [1, 2, 3])
    """
    pairs = list(combinations(range(len(contenders)), 2))
    p = holm([_p(contenders[a], contenders[b]) for a, b in pairs])
    level = 1 - (1 - confidence) / max(len(pairs), 1)
    wide = [_like(one, level) for one in contenders]
    exact, like = np.zeros((2, len(contenders)), dtype=int), np.zeros((2, len(contenders)), dtype=int)
    for (a, b), adjusted in zip(pairs, p, strict=True):
        if not adjusted < 1 - confidence:
            continue
        above, below = (a, b) if contenders[a].value > contenders[b].value else (b, a)
        counts = [exact, like] if _differ_like(contenders[a], contenders[b], wide[a], wide[b], level) else [exact]
        for count in counts:
            count[0, below] += 1  # one more is shown to be better than it
            count[1, above] += 1
    values = pd.Series([one.value for one in contenders], dtype=float)
    last = len(contenders)
    out = pd.DataFrame(
        {"rank": values.rank(method="min", ascending=False), "low": 1 + exact[0], "high": last - exact[1]}
    )
    known = any(bounds is not None for bounds in wide)
    out["like_low"], out["like_high"] = (1 + like[0], last - like[1]) if known else (pd.NA, pd.NA)
    return out.astype("Int64")


def _p(a: Contender, b: Contender) -> float:
    """The exact p value of "both are right equally often"; 1 where one has no questions."""
    if a.n == 0 or b.n == 0:
        return 1.0
    both = _paired(a, b)
    if both is not None:
        return float(mcnemar_exact((both["a"] < both["b"]).sum(), (both["a"] > both["b"]).sum()))
    from scipy.stats import fisher_exact  # noqa: PLC0415 - slow to import

    hits = [(round(one.value * one.n / 100), one.n) for one in (a, b)]
    return float(fisher_exact([[k, n - k] for k, n in hits])[1])


def _paired(a: Contender, b: Contender) -> pd.DataFrame | None:
    """Outcomes on the questions that both were asked, columns `a`, `b`, `preference`; None where they share none."""
    if not a.questions or a.questions != b.questions or a.outcomes is None or b.outcomes is None:
        return None
    first, second = a.outcomes, b.outcomes
    both = pd.concat({"a": first["event"], "b": second["event"], "preference": first["preference_id"]}, axis=1).dropna(
        subset=["a", "b"]
    )
    return both if len(both) else None


def _like(one: Contender, level: float) -> tuple[float, float] | None:
    """Bounds of the share for preferences like these at `level`; None where no preference stands beside the answers."""
    if one.outcomes is None or one.outcomes["preference_id"].nunique() < 2:
        return None
    rows = one.outcomes.dropna(subset=["event", "preference_id"]).assign(all=0)
    found = like_these(rows, ["all"], confidence=level)
    return float(found["low"].iloc[0]), float(found["high"].iloc[0])


def _differ_like(
    a: Contender,
    b: Contender,
    wide_a: tuple[float, float] | None,
    wide_b: tuple[float, float] | None,
    level: float,
) -> bool:
    if wide_a is None or wide_b is None:
        return False
    both = _paired(a, b)
    if both is not None:
        shown = both.dropna(subset=["preference"])
        low, high = difference_like_these(
            (shown["a"] - shown["b"]).to_numpy(dtype=float), shown["preference"].astype(str).to_numpy(), level
        )
        return bool(low > 0 or high < 0)
    (p, l_a, u_a), (q, l_b, u_b) = (a.value / 100, *wide_a), (b.value / 100, *wide_b)
    low = p - q - np.hypot(p - l_a, u_b - q)
    high = p - q + np.hypot(u_a - p, q - l_b)
    return bool(low > 0 or high < 0)
