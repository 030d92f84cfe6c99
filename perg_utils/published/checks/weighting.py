"""Shares of all responses from some that were drawn by strata, with intervals that hold where a stratum has no error.

A stratum without an error in its sample may still have some in the rest: of `n` responses none wrong leaves up to
3.7 / n wrong ones (Clopper and Pearson, 1934). A bootstrap within strata gives such a stratum no variance. Here each
stratum gets the Beta distributions whose quantiles are Clopper and Pearson's limits, one for the lower and one for the
upper limit; seeded draws of them are weighted by the strata's sizes, and the limits are quantiles of the sums. How many
responses of a stratum belong to the share's whole (of the spoken, say) is drawn from Jeffreys' Beta distribution.

In simulated studies with the strata and weights of `data/extraction_gold.csv` and 0.05 to 2 % wrong letters in the
heavy stratum (400 studies for each of seven such rates) the 95 % interval of the precision held the truth in 97.3 to
99.5 %, with its first 342 rows alone in 98.3 to 99.3 %; a bootstrap within strata of those 342 in 50 to 92 %. Where it
misses, the truth mostly lies above it. The other shares of `accuracy` were held in 98.3 % or more (300 studies for each
of two sets of rates): the intervals are wider than they need be rather than too narrow. A test repeats part of this.

Weights may differ within a stratum: it counts as as many rows as give the same variance with equal weights
(`effective`, Kish, 1965), as Korn and Graubard (1998) do. Left out: that responses to one question are alike.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from perg_utils.scoring.intervals import Floats

#: Draws of each stratum.
DRAWS = 10_000


def effective(weight: Floats) -> float:
    """Return how many equally weighted rows these are worth, e.g. 1.6 for weights 3 and 1, 0 for none."""
    return float(weight.sum() ** 2 / (weight**2).sum()) if len(weight) else 0.0


def share(weight: Floats, part: np.ndarray, whole: np.ndarray) -> float:
    """Return the weighted share in percent of `part` in `whole` (booleans a row); NaN where the whole is empty."""
    total = weight[whole].sum()
    return 100 * float(weight[part & whole].sum() / total) if total > 0 else float("nan")


def limits(
    stratum: pd.Series, weight: Floats, part: np.ndarray, whole: np.ndarray, seed: int = 0
) -> tuple[float, float]:
    """Return the 95 % limits of `share`, in percent, for rows drawn by `stratum`; NaN where the whole is empty.

    All four are as long as there are rows. One stratum of 79 rows without an error: 95.4 to 100, as the exact interval.
    The same `seed` gives the same limits.
    """
    if not whole.any():
        return float("nan"), float("nan")
    random = np.random.default_rng(seed)
    low, high, among = np.zeros(DRAWS), np.zeros(DRAWS), np.zeros(DRAWS)
    for name in sorted(stratum.unique()):
        rows = (stratum == name).to_numpy()
        inside = _inside(random, weight[rows], whole[rows])
        hits, n = _hits(weight[rows & whole], part[rows & whole])
        low += inside * _beta(random, hits, n - hits + 1)
        high += inside * _beta(random, hits + 1, n - hits)
        among += inside
    return 100 * float(np.quantile(low / among, 0.025)), 100 * float(np.quantile(high / among, 0.975))


def _inside(random: np.random.Generator, weight: Floats, whole: np.ndarray) -> Floats:
    """Draws of how many of the stratum's responses are of the whole: all of them, where every row is."""
    if whole.all():
        return np.full(DRAWS, weight.sum())
    hits, n = _hits(weight, whole)
    return weight.sum() * _beta(random, hits + 0.5, n - hits + 0.5)


def _hits(weight: Floats, hit: np.ndarray) -> tuple[float, float]:
    """The rows that are hit, of how many: both in effective rows."""
    n = effective(weight)
    return (n * float(weight[hit].sum() / weight.sum()) if n else 0.0), n


def _beta(random: np.random.Generator, a: float, b: float) -> Floats:
    """Draws of a Beta distribution, all 0 where `a` is none and all 1 where `b` is none."""
    if min(a, b) < 1e-9:
        return np.full(DRAWS, 0.0 if a < b else 1.0)
    return random.beta(a, b, DRAWS)
