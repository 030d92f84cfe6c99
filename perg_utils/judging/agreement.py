"""How far judges, human raters among them, agree on the same responses: kappa, alpha, followed or not, confusion.

Every number here is a function of how often two values from 1 to 5 stand beside each other, so a bootstrap resample
is a weighted sum of such 5 x 5 counts. Questions are resampled, not rows: the responses of several models and methods
to one question are no independent observations, and intervals that treat them so are too short.

    kappa     Cohen's, with quadratic weights (Cohen 1968): two judges, each with their own habits
    alpha     Krippendorff's (2011), ordinal or interval: any number of judges, missing ratings allowed
    followed  share of rows on which two judges say the same at a threshold, beside Cohen's kappa of it

All are 1 where judges always agree; kappa and alpha are 0 at chance, and NaN where no ratings vary. Where every
resample is alike a bootstrap says nothing: complete agreement on m questions then has the exact lower bound of a share
of m out of m, no agreement at all the upper one of 0 out of m, and anything else no bounds. Left out: models of raters
and items; agreement of one judge with itself.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from functools import partial
from itertools import combinations
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from perg_utils.core.profile import StatisticsConfig
from perg_utils.core.schema import ROW_ID, Status
from perg_utils.scoring.intervals import Floats, exact_interval

RATINGS = np.arange(1, 6)
_SQUARED: Floats = np.subtract.outer(RATINGS, RATINGS).astype(np.float64) ** 2
_CHUNK = 20_000_000  # weights drawn at once: 160 MB


def quadratic_kappa(counts: Floats) -> Floats:
    """Return Cohen's kappa with quadratic weights of 5 x 5 counts (first judge's rating down), e.g. 1 of a diagonal.

    Works on the last two axes. NaN where the two give the same single rating throughout.
    """
    return _kappa(counts, _SQUARED)


def followed_kappa(counts: Floats, threshold: int) -> Floats:
    """Return Cohen's plain kappa of followed (rating >= threshold) or not, from the same 5 x 5 counts."""
    yes = threshold <= RATINGS
    return _kappa(counts, (yes[:, None] != yes[None, :]).astype(float))


def followed_agreement(counts: Floats, threshold: int) -> Floats:
    """Return the share of rows, 0 to 1, on which two judges both say followed, or both not."""
    yes = threshold <= RATINGS
    with np.errstate(invalid="ignore"):
        return (counts * (yes[:, None] == yes[None, :])).sum((-2, -1)) / counts.sum((-2, -1))


def alpha(coincidences: Floats, metric: str = "ordinal") -> Floats:
    """Return Krippendorff's alpha of a coincidence matrix (see `coincidences`), `metric` ordinal or interval.

    Works on the last two axes. NaN where all values are the same, or there are none.
    """
    totals = coincidences.sum(-1)
    n = totals.sum(-1)
    if metric == "ordinal":  # the distance of two ratings is how many ratings lie between them
        up_to = np.cumsum(totals, -1) - totals / 2
        distance = (up_to[..., :, None] - up_to[..., None, :]) ** 2
    else:
        distance = np.broadcast_to(_SQUARED, coincidences.shape)
    seen = (coincidences * distance).sum((-2, -1))
    by_chance = (totals[..., :, None] * totals[..., None, :] * distance).sum((-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(by_chance > 0, 1 - (n - 1) * seen / by_chance, np.nan)


def coincidences(ratings: Floats) -> Floats:
    """Return each row's 5 x 5 share of the coincidence matrix; `ratings` is rows x judges, NaN where one is missing.

    A row of m >= 2 ratings holds each ordered pair of them, weighted 1 / (m - 1); a single rating says nothing.
    """
    counts = (ratings[:, :, None] == RATINGS).sum(1).astype(float)
    pairs = counts[:, :, None] * counts[:, None, :] - counts[:, :, None] * np.eye(len(RATINGS))
    given = counts.sum(1)
    return pairs / np.where(given > 1, given - 1, np.inf)[:, None, None]


def confusions(first: Floats, second: Floats) -> Floats:
    """Return each row's 5 x 5 count: a single 1 where both ratings are there, else zeros."""
    return ((first[:, None] == RATINGS)[:, :, None] & (second[:, None] == RATINGS)[:, None, :]).astype(float)


def _kappa(counts: Floats, cost: Floats) -> Floats:
    n = counts.sum((-2, -1))
    expected = counts.sum(-1)[..., :, None] * counts.sum(-2)[..., None, :]
    by_chance = (expected * cost).sum((-2, -1))
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(by_chance > 0, 1 - n * (counts * cost).sum((-2, -1)) / by_chance, np.nan)


def wide(judgements: pd.DataFrame) -> pd.DataFrame:
    """Return ratings side by side: `ROW_ID` as columns, then a column a judge, NaN where a rating is missing.

    `judgements` are rows of that table from several judges. Only rows that at least one judge has rated are kept.
    """
    rated = judgements[(judgements["status"] == Status.OK) & judgements["rating"].notna()]
    twice = rated.duplicated([*ROW_ID, "judge"])
    if twice.any():
        raise ValueError(f"{twice.sum()} rows are rated twice by one judge")
    judges = list(dict.fromkeys(judgements["judge"]))
    keyed = rated.assign(rating=rated["rating"].astype(float), preference_id=rated["preference_id"].fillna(""))
    out = keyed.pivot(index=ROW_ID, columns="judge", values="rating").reindex(columns=judges)
    out.columns.name = None
    return out.reset_index()


class _Sums(NamedTuple):
    """The 5 x 5 counts of a group of rows, summed, and those of each resample of its `questions`."""

    total: Floats
    resampled: Floats
    questions: int


def _sums(rows: Floats, questions: pd.Series, config: StatisticsConfig, seed: int) -> _Sums:
    codes, names = pd.factorize(questions)
    by_question = np.zeros((len(names), 25))
    np.add.at(by_question, codes, rows.reshape(len(rows), 25))
    # Seeded anew for each group: it has the same interval in whichever table it stands.
    rng, size = np.random.default_rng(seed), len(names)
    at_once = max(1, _CHUNK // max(size, 1))
    drawn = [
        rng.multinomial(size, np.full(size, 1 / size), min(at_once, config.resamples - start)) @ by_question
        for start in range(0, config.resamples if size else 0, at_once)
    ]
    resampled = np.concatenate(drawn) if drawn else np.zeros((0, 25))
    return _Sums(by_question.sum(0).reshape(5, 5), resampled.reshape(-1, 5, 5), size)


def _with_bounds(
    name: str, coefficient: Callable[[Floats], Floats], sums: _Sums, confidence: float, *, share: bool = False
) -> dict[str, float]:
    """A coefficient with its bounds; `share`: it is a share, given in percent, and cannot be below 0."""
    value, resampled = float(coefficient(sums.total)), coefficient(sums.resampled)
    known = resampled[~np.isnan(resampled)]
    low, high = np.nan, np.nan
    if len(known) and np.ptp(known) > 1e-9:  # rounding alone is no spread
        low, high = np.quantile(known, [(1 - confidence) / 2, (1 + confidence) / 2])
    elif len(known) and (value == 1 or (share and value == 0)):
        low, high = (float(bound) for bound in exact_interval(sums.questions * value, sums.questions, confidence))
    scale = 100 if share else 1
    return {name: scale * value, f"{name}_low": scale * float(low), f"{name}_high": scale * float(high)}


def pairs(
    ratings: pd.DataFrame,
    judges: Sequence[str],
    *,
    by: Sequence[str] = (),
    threshold: int = 3,
    config: StatisticsConfig | None = None,
    seed: int = 42,
) -> pd.DataFrame:
    """Return the agreement of every two of `judges`, a row a pair and group, those of all rows first.

    `ratings` has a column a judge, `example_id`, and the columns `by`, each of which groups the rows by itself, e.g.
    `["category", "source"]`. Columns: judge, other, by, group, n (rows rated by both), questions, mean and other_mean
    (of the ratings), kappa, alpha_ordinal, alpha_interval, followed (percent on which the two say the same) and
    followed_kappa, each with bounds `_low` and `_high`.
    """
    config = config or StatisticsConfig()
    out = []
    for first, second in combinations(judges, 2):
        both = ratings[ratings[first].notna() & ratings[second].notna()]
        for column, group, rows in _groups(both, by):
            a, b = rows[first].to_numpy(dtype=float), rows[second].to_numpy(dtype=float)
            sums = _sums(confusions(a, b), rows["example_id"], config, seed)
            line: dict[str, object] = {"judge": first, "other": second, "by": column, "group": group, "n": len(rows)}
            line |= {"questions": rows["example_id"].nunique(), "mean": _mean(a), "other_mean": _mean(b)}
            out.append(line | _pair(sums, threshold, config.confidence))
    return pd.DataFrame(out, columns=None if out else ["judge", "other", "by", "group", "n", "questions"])


def _pair(sums: _Sums, threshold: int, confidence: float) -> dict[str, float]:
    # With two judges the coincidence matrix is the confusion and its mirror.
    coefficients: dict[str, Callable[[Floats], Floats]] = {
        "kappa": quadratic_kappa,
        "alpha_ordinal": lambda c: alpha(c + np.swapaxes(c, -1, -2), "ordinal"),
        "alpha_interval": lambda c: alpha(c + np.swapaxes(c, -1, -2), "interval"),
        "followed": lambda c: followed_agreement(c, threshold),
        "followed_kappa": lambda c: followed_kappa(c, threshold),
    }
    out: dict[str, float] = {}
    for name, coefficient in coefficients.items():
        out |= _with_bounds(name, coefficient, sums, confidence, share=name == "followed")
    return out


def together(
    ratings: pd.DataFrame,
    judges: Sequence[str],
    *,
    by: Sequence[str] = (),
    config: StatisticsConfig | None = None,
    seed: int = 42,
) -> pd.DataFrame:
    """Return Krippendorff's alpha of all `judges` together, a row a group, that of all rows first.

    Columns: by, group, n (rows with two ratings or more), questions, alpha_ordinal and alpha_interval with
    bounds; no row for one judge alone.
    """
    if len(judges) < 2:
        return pd.DataFrame(columns=["by", "group", "n", "questions"])
    config = config or StatisticsConfig()
    shared = ratings[ratings[list(judges)].notna().sum(axis=1) > 1]
    out = []
    for column, group, rows in _groups(shared, by):
        sums = _sums(coincidences(rows[list(judges)].to_numpy(dtype=float)), rows["example_id"], config, seed)
        line: dict[str, object] = {"by": column, "group": group, "n": len(rows)}
        line["questions"] = rows["example_id"].nunique()
        for metric in ("ordinal", "interval"):
            line |= _with_bounds(f"alpha_{metric}", partial(alpha, metric=metric), sums, config.confidence)
        out.append(line)
    return pd.DataFrame(out)


def _pair_in_words(row: Mapping[Hashable, Any]) -> str:
    both = f"{row['judge']} and {row['other']}"
    if not row["n"]:
        return f"{both}: no response that both rated"
    return (
        f"{both}: kappa {row['kappa']:.2f} ({row['kappa_low']:.2f} to {row['kappa_high']:.2f}), the same verdict on "
        f"{row['followed']:.2f} % ({row['followed_low']:.2f} to {row['followed_high']:.2f}) of {row['n']:,} responses"
    )


def in_words(found: pd.DataFrame) -> str:
    """Return the agreement of each pair of judges over all responses (of `pairs`), as one sentence."""
    said = [_pair_in_words(row) for row in found.to_dict("records") if row["by"] == "all"]
    return f"{'; '.join(said) or 'one judge, so no agreement'}."


def confusion(ratings: pd.DataFrame, first: str, second: str) -> pd.DataFrame:
    """Return how often `first` rates 1 to 5 (down) where `second` rates 1 to 5 (across), counts of rows."""
    rows = confusions(ratings[first].to_numpy(dtype=float), ratings[second].to_numpy(dtype=float))
    names = [pd.Index(RATINGS, name=name) for name in (first, second)]
    return pd.DataFrame(rows.sum(0).astype(int), index=names[0], columns=names[1])


def _groups(rows: pd.DataFrame, by: Sequence[str]) -> list[tuple[str, str, pd.DataFrame]]:
    parts = [("all", "all", rows)]
    for column in by:
        parts += [(column, str(group), part) for group, part in rows.groupby(column, sort=True, observed=True)]
    return parts


def _mean(values: Floats) -> float:
    return float(values.mean()) if len(values) else np.nan
