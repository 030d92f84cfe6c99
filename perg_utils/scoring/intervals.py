"""Intervals, tests and effect sizes from counts alone (the paper reports none; its numbers are bare percentages).

Every metric of the study is a share of a set of questions, and given the size of that set such a share is binomial:
its interval is exact (Clopper-Pearson). A difference between two arms on the same questions has Tango's score interval,
McNemar's exact test, the matched odds ratio, the smallest difference that it could have found, and a test of
equivalence. Several models on the same questions have one exact test by question (`sign_flip_exact`). `comparisons`
makes the counts.

All of this speaks of the study's own preferences; `generalise` speaks of preferences like these.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Bounds = tuple[Floats, Floats]


def exact_interval(events: ArrayLike, n: ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Return the Clopper-Pearson bounds of the shares `events / n`, e.g. `exact_interval(0, 10)` -> (0, 0.308).

    Works elementwise; bounds are in [0, 1], and NaN where `n` is 0.
    """
    from scipy.stats import beta  # noqa: PLC0415 - half a second of import that most callers never need

    k, n = np.asarray(events, dtype=float), np.asarray(n, dtype=float)
    tail = (1 - confidence) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(k > 0, beta.ppf(tail, k, n - k + 1), 0.0)
        high = np.where(k < n, beta.ppf(1 - tail, k + 1, n - k), 1.0)
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


def bootstrap_interval(
    events: ArrayLike,
    n: ArrayLike,
    total: ArrayLike,
    rng: np.random.Generator,
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
) -> tuple[Floats, Floats]:
    """Return percentile bootstrap bounds of the shares `events / n`, where `n` of `total` questions are in the set.

    All `total` questions are resampled, so the set's size varies too. A question only matters by its cell (event, in
    the set without it, outside), so a resample is one multinomial draw; works elementwise, for all configurations at
    once. `bootstrap_interval(5, 70, 100, rng)` is about (0.015, 0.136); NaN where `n` is 0, (0, 0) where `events` is.
    """
    k, n, total = np.broadcast_arrays(np.asarray(events, float), np.asarray(n, float), np.asarray(total, float))
    with np.errstate(invalid="ignore", divide="ignore"):
        cells = np.nan_to_num(np.stack([k, n - k, total - n], axis=-1) / total[..., None])
    cells[..., 2] = 1 - cells[..., 0] - cells[..., 1]
    drawn = rng.multinomial(total[..., None].astype(int), np.clip(cells, 0, 1)[..., None, :], (*k.shape, resamples))
    within = drawn[..., 0] + drawn[..., 1]
    share = drawn[..., 0] / np.where(within > 0, within, np.nan)
    # A resample without any question of the set says nothing of the share.
    share[n == 0] = 0
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(share, [tail, 1 - tail], axis=-1)
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


def odds_ratio(worse: ArrayLike, better: ArrayLike) -> Floats:
    """Return the matched odds ratio `worse / better`, e.g. `odds_ratio(9, 3)` -> 3.0: above 1 the arm fails more often.

    Where one of the two is 0, half a question is added to both (Haldane and Anscombe): `odds_ratio(4, 0)` -> 9.0;
    NaN where no question differs.
    """
    b, c = np.asarray(worse, dtype=float), np.asarray(better, dtype=float)
    half = np.where((b == 0) | (c == 0), 0.5, 0.0)
    return np.where(b + c > 0, (b + half) / np.maximum(c + half, 0.5), np.nan)


def odds_ratio_interval(worse: ArrayLike, better: ArrayLike, confidence: float = 0.95) -> tuple[Floats, Floats]:
    """Return exact bounds of the matched odds ratio, e.g. `odds_ratio_interval(9, 3)` -> (0.748, 17.2).

    Given how many questions differ, those for the worse are binomial, so the bounds are Clopper-Pearson's as odds:
    0 and infinity where one count is 0, NaN where no question differs.
    """
    low, high = exact_interval(worse, np.asarray(worse) + np.asarray(better), confidence)
    with np.errstate(divide="ignore"):
        return low / (1 - low), high / (1 - high)


def mcnemar_exact(worse: ArrayLike, better: ArrayLike) -> Floats:
    """Return two-sided exact p values from the discordant pairs, e.g. `mcnemar_exact(1, 9)` -> 0.0215."""
    from scipy.stats import binom  # noqa: PLC0415

    b, c = np.asarray(worse), np.asarray(better)
    return np.minimum(1.0, 2 * binom.cdf(np.minimum(b, c), b + c, 0.5))


def holm(p: ArrayLike) -> Floats:
    """Return Holm's adjusted p values; NaN stays NaN and does not count as a comparison."""
    values = np.asarray(p, dtype=float)
    out = np.full_like(values, np.nan)
    made = np.flatnonzero(~np.isnan(values))
    ordered = made[np.argsort(values[made], kind="stable")]
    stepped = values[ordered] * np.arange(len(ordered), 0, -1)
    out[ordered] = np.minimum(1.0, np.maximum.accumulate(stepped))
    return out


def paired_interval(worse: ArrayLike, better: ArrayLike, n: ArrayLike, confidence: ArrayLike = 0.95) -> Bounds:
    """Return bounds of the difference `(worse - better) / n` between two arms on the same `n` questions.

    Tango's score interval (1998): the differences that its score test does not reject, so it is never empty and keeps
    its level with few discordant questions too. It is widened to touch 0 where McNemar's exact test, which is the more
    careful one with few questions, sees no difference at this level: interval and test never contradict each other.
    `paired_interval(9, 1, 100)` is about (0.023, 0.154); elementwise, NaN where `n` is 0.
    """
    from scipy.stats import norm  # noqa: PLC0415

    b, c, n, level = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (worse, better, n, confidence)))
    z, seen = norm.ppf(1 - (1 - level) / 2), (b - c) / np.where(n > 0, n, np.nan)

    def solve(end: float, sign: float) -> Floats:
        """The difference between what was seen and `end` where the score is `sign * z`, by bisection."""
        inside, outside = seen.copy(), np.full_like(seen, end)
        for _ in range(50):
            middle = (inside + outside) / 2
            within = sign * tango_score(b, c, n, middle) < z
            inside, outside = np.where(within, middle, inside), np.where(within, outside, middle)
        return np.where(np.isnan(seen), np.nan, (inside + outside) / 2)

    low, high = solve(-1.0, 1.0), solve(1.0, -1.0)
    unclear = mcnemar_exact(b, c) >= 1 - level
    return np.where(unclear, np.minimum(low, 0), low), np.where(unclear, np.maximum(high, 0), high)


def tango_score(worse: ArrayLike, better: ArrayLike, n: ArrayLike, difference: ArrayLike) -> Floats:
    """Return the score statistic of "the true difference `(worse - better) / n` is `difference`", about normal.

    At 0 it is McNemar's `(worse - better) / sqrt(worse + better)`.
    """
    b, c, n, d = (np.asarray(x, dtype=float) for x in (worse, better, n, difference))
    middle = -b - c + (2 * n - b + c) * d
    share = (np.sqrt(np.maximum(middle**2 + 8 * n * c * d * (1 - d), 0)) - middle) / (4 * np.where(n > 0, n, np.nan))
    variance = n * (2 * share + d * (1 - d))
    distance = b - c - n * d
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(variance > 1e-12, distance / np.sqrt(variance), np.sign(np.round(distance, 9)) * np.inf)


def equivalence(worse: ArrayLike, better: ArrayLike, n: ArrayLike, margin: ArrayLike) -> Floats:
    """Return the p value of two one-sided score tests (TOST): the difference lies within `margin` of 0 on both sides.

    `margin` is a share, e.g. 0.03 for three points. `equivalence(5, 6, 500, 0.03)` is about 0.001: small means
    equivalent. NaN where `n` is 0.
    """
    from scipy.stats import norm  # noqa: PLC0415

    size = np.asarray(margin, dtype=float)
    above = norm.sf(tango_score(worse, better, n, -size))
    below = norm.cdf(tango_score(worse, better, n, size))
    return np.where(np.asarray(n) > 0, np.maximum(above, below), np.nan)


def detectable(
    worse: ArrayLike, better: ArrayLike, n: ArrayLike, alpha: ArrayLike = 0.05, power: float = 0.8
) -> Floats:
    """Return the smallest true difference (a share) that McNemar's test at `alpha` finds with `power` in such a study.

    "Such" means: as many questions, and as large a share of them on which the arms differ (half a question added to
    either side); where that share is smaller than the difference asked for, all of it lies on one side.
    `detectable(10, 12, 345)` is about 0.039. NaN where `n` is 0.
    """
    from scipy.stats import norm  # noqa: PLC0415

    b, c, n, level = np.broadcast_arrays(*(np.asarray(x, dtype=float) for x in (worse, better, n, alpha)))
    questions = np.where(n > 0, n, np.nan)
    differ = (b + c + 1) / (questions + 2)
    z_level, z_power = norm.ppf(1 - level / 2), norm.ppf(power)
    low, high = np.zeros_like(differ), np.ones_like(differ)
    for _ in range(50):
        middle = (low + high) / 2
        share = np.maximum(differ, middle)
        found = np.sqrt(questions) * middle >= z_level * np.sqrt(share) + z_power * np.sqrt(share - middle**2)
        low, high = np.where(found, low, middle), np.where(found, middle, high)
    return np.where(np.isnan(differ), np.nan, high)


def sign_flip_exact(differences: ArrayLike) -> float:
    """Return the two-sided exact p value of "the sign of each question's difference is a coin's".

    `differences` is one whole number a question, e.g. over three models how many more of them fail in one arm than in
    the other. All signs of the differences that are not 0 are equally likely where the arms are alike, whatever hangs
    together within a question; the distribution of their sum is built up exactly. With one model it is McNemar's test:
    `sign_flip_exact([1] * 9 + [-1])` -> 0.0215.
    """
    sizes = np.abs(np.asarray(differences, dtype=np.int64))
    sizes = sizes[sizes > 0]
    total, seen = int(sizes.sum()), abs(int(np.sum(differences)))
    chance = np.ones(1)  # of the sum of the positive ones being 0, 1, ...
    for size in sizes.tolist():
        wider = np.zeros(len(chance) + size)
        wider[: len(chance)] += chance / 2
        wider[size:] += chance / 2
        chance = wider
    return float(min(1.0, chance[np.abs(2 * np.arange(total + 1) - total) >= seen].sum()))


def clustered_interval(differences: ArrayLike, models: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return bounds of the mean over questions and models of whole `differences`, one sum over `models` a question.

    A t interval with questions as units, for a question with a difference of +1 and one of -1 added (half of each where
    a question is many), so that it is not empty where no question differs; touches 0 where `sign_flip_exact` sees no
    difference. NaN without questions.
    """
    from scipy.stats import t  # noqa: PLC0415

    found = np.asarray(differences, dtype=float)
    if not len(found):
        return np.nan, np.nan
    n = len(found)
    mean, squares = found.mean(), (found**2).sum() + 1
    error = np.sqrt(max(squares / n - mean**2, 0) / n)
    reach = float(t.ppf(1 - (1 - confidence) / 2, max(n - 1, 1))) * error
    low, high = (mean - reach) / models, (mean + reach) / models
    if sign_flip_exact(found) >= 1 - confidence:
        low, high = min(low, 0.0), max(high, 0.0)
    return low, high
