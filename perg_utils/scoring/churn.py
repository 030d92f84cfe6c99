"""How much of the breakage any change of the prompt would have brought: questions asked under several preferences.

Breakage takes the answer without preference as its baseline (paper, section 3.3). Where a question was asked under
several preferences, each of these can be a baseline as well. For the preferences p, p' of a source, each mean over p
(or over ordered pairs p, p') of a share of questions:

    breakage                  right without -> wrong with p
    reverse_breakage          right with p -> wrong without
    preference_to_preference  right with p -> wrong with p'
    excess                    breakage minus preference_to_preference: what adding breaks beyond changing
    net                       accuracy with p minus accuracy without, on all questions
    fixed_per_broken          answers mended for each that breaks; 1: the preference costs nothing
    unstable_share_...        of questions right under fewer than half of the preferences: their share of Q*, and of
                              the breaks

All rows count, not only the `sampled` ones; those have columns of their own, `sampled_...`, on the same questions.
Intervals resample questions, each with all its answers, within their source: they speak of other questions and of
*these* preferences. Left out: what other preferences would do; a test; the paper's metrics (`rates`). That unstable
questions break more often than the others follows from what they are; how much of the breakage lies there does not.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from perg_utils.core.profile import StatisticsConfig
from perg_utils.core.schema import ALL_SOURCES, ARM_ID, Setting, ordered, require_columns
from perg_utils.scoring.intervals import Floats

#: What is worked out, in the order of the columns; in percent (points) but for `PLAIN`.
QUANTITIES = (
    "breakage",
    "reverse_breakage",
    "preference_to_preference",
    "excess",
    "fixed_per_broken",
    "net",
    "unstable_share_of_questions",
    "unstable_share_of_breaks",
    "sampled_breakage",
    "sampled_fixed_per_broken",
    "sampled_net",
    "sampled_unstable_share_of_breaks",
)
#: Ratios of counts, which are no percentages.
PLAIN = ("fixed_per_broken", "sampled_fixed_per_broken")
COLUMNS = [
    *(*ARM_ID, "source"),
    *(f"{name}{end}" for name in QUANTITIES for end in ("", "_low", "_high")),
    *("preferences", "n", "n_unscored"),
]
#: A quantity as numerators and denominators, one an observed or resampled set of questions, the observed one first.
Ratio = tuple[Floats, Floats]
Mask = NDArray[np.bool_]


def churn(scores: pd.DataFrame, config: StatisticsConfig | None = None, seed: int = 42) -> pd.DataFrame:
    """Return what preferences break beside what would break anyway, a row a model, method, setting and source (or ALL).

    Over the questions that were asked under two preferences or more; no row where there are none. Each of `QUANTITIES`
    has a column and its bounds, e.g. `breakage`, `breakage_low`, `breakage_high`: in percent, `net` and `excess` in
    points, `fixed_per_broken` as a ratio; NaN where it has no denominator. `preferences` counts the preferences, `n`
    the questions, `n_unscored` the rows of such questions that lack an answer or its baseline and are left out.
    ALL pools the questions of all sources: a source weighs as much as it has questions (in the denominator), however
    many preferences it has. Bounds are percentiles of a bootstrap over questions, seeded by source; without `config`
    of 95 % and from 2,000 resamples. In 500 simulated studies of 100 and of 800 questions under 11 preferences
    those of 95 % held the truth in 92.8 to 96.0 % (`tests/bench/churn_coverage.py`); a share near 0 or 100 has too
    short an interval, as from any bootstrap. Raises `DataError` where `scores` lacks a column.

    >>> row = {"model": "S", "method": "zero_shot", "setting": "relevant", "source": "TQA", "correct_without": True}
    >>> asked = [("q1", "p1", True), ("q1", "p2", False), ("q2", "p1", True), ("q2", "p2", True)]
    >>> told = pd.DataFrame(asked, columns=["example_id", "preference_id", "correct_with"])
    >>> scores = told.assign(**row, sampled=told["preference_id"] == "p1")
    >>> churn(scores)[["source", "breakage", "preference_to_preference", "preferences", "n"]]
      source  breakage  preference_to_preference  preferences  n
    0    TQA      25.0                      25.0            2  2
    1    ALL      25.0                      25.0            2  2
    """
    needed = [*ARM_ID, "source", "example_id", "preference_id", "correct_without", "correct_with", "sampled"]
    require_columns("scores", scores, needed)
    config, rows = config or StatisticsConfig(), _asked_with_several(scores[needed])
    out = [line for arm, own in rows.groupby(ARM_ID, sort=False) for line in _of_arm(arm, own, config, seed)]
    table = pd.DataFrame(out, columns=COLUMNS)
    return ordered(table, [*ARM_ID, "source"], scores["model"].unique()).reset_index(drop=True)


def _asked_with_several(scores: pd.DataFrame) -> pd.DataFrame:
    """The rows of questions that an arm asked under two preferences or more."""
    rows = scores[scores["preference_id"].notna() & (scores["setting"] != Setting.NONE)]
    # A row is known by question and preference, so a question's rows count its preferences.
    asked = rows.groupby([*ARM_ID, "example_id"], sort=False)["example_id"].transform("size")
    return rows[asked > 1]


def _of_arm(
    arm: Iterable[Hashable], rows: pd.DataFrame, config: StatisticsConfig, seed: int
) -> list[dict[str, object]]:
    """A line for each source of one arm, and ALL."""
    rows = rows.assign(scored=rows["correct_without"].notna() & rows["correct_with"].notna())
    found: dict[str, dict[str, Ratio]] = {}
    for source, own in rows[rows["scored"]].groupby("source", sort=False):
        # By source: a line is the same whichever other sources stand beside it, and sources are independent.
        rng = np.random.default_rng([seed, *str(source).encode()])
        found[str(source)] = _ratios(_patterns(own), config.resamples, rng)
    if not found:
        return []
    pooled = {name: _sum([of_source[name] for of_source in found.values()]) for name in next(iter(found.values()))}
    lines = []
    for source, ratios in (found | {ALL_SOURCES: pooled}).items():
        own = rows if source == ALL_SOURCES else rows[rows["source"] == source]
        seen = own[own["scored"]]
        counts = {"preferences": seen["preference_id"].nunique(), "n": seen["example_id"].nunique()}
        named = dict(zip(ARM_ID, arm, strict=True)) | {"source": source}
        lines.append(named | _with_bounds(ratios, config.confidence) | counts | {"n_unscored": len(own) - len(seen)})
    return lines


class _Patterns(NamedTuple):
    """What questions look like, a row a pattern and a column a preference, and how many questions have each."""

    scored: Mask
    without: Mask
    right: Mask
    sampled: Mask
    questions: NDArray[np.int64]


def _patterns(rows: pd.DataFrame) -> _Patterns:
    """The patterns of one source: with these a question is all that is asked of it, and alike ones are one pattern."""
    question, preference = (pd.factorize(rows[name], sort=True)[0] for name in ("example_id", "preference_id"))
    cells = np.zeros((question.max() + 1, preference.max() + 1), dtype=np.uint8)
    flags = [rows[name].fillna(False).to_numpy(dtype=bool) for name in ("correct_without", "correct_with", "sampled")]
    cells[question, preference] = 1 + sum(flag * np.uint8(2 << bit) for bit, flag in enumerate(flags))
    cells, questions = np.unique(cells, axis=0, return_counts=True)
    scored, without, right, sampled = (cells & bit > 0 for bit in (1, 2, 4, 8))
    return _Patterns(scored, without, right, sampled, questions)


def _ratios(seen: _Patterns, resamples: int, rng: np.random.Generator) -> dict[str, Ratio]:
    """Each quantity (but `excess`) of the observed questions and of `resamples` draws of as many, with replacement."""
    total = seen.questions.sum()
    # A question only matters by its pattern, so a resample is one multinomial draw.
    drawn = rng.multinomial(total, seen.questions / total, resamples)
    weights = np.vstack([seen.questions, drawn]).astype(np.float64)
    right_before = seen.without
    broke, fixed = right_before & ~seen.right, seen.scored & ~right_before & seen.right
    unstable = (2 * seen.right.sum(axis=1) < seen.scored.sum(axis=1))[:, None]

    def count(mask: Mask) -> Floats:
        """Questions by set (observed, then resampled) and preference."""
        return weights @ mask.astype(np.float64)

    def on_sampled(mask: Mask) -> Floats:
        return count(mask & seen.sampled).sum(axis=1)

    broken, mended, known, right = count(broke), count(fixed), count(seen.scored), count(right_before)
    return {
        "breakage": _mean_share(broken, right),
        "reverse_breakage": _mean_share(mended, count(seen.right)),
        "preference_to_preference": _between(seen, weights),
        "fixed_per_broken": (mended.mean(axis=1), broken.mean(axis=1)),
        "net": _mean_share(mended - broken, known),
        "unstable_share_of_questions": (count(right_before & unstable).mean(axis=1), right.mean(axis=1)),
        "unstable_share_of_breaks": (count(broke & unstable).mean(axis=1), broken.mean(axis=1)),
        "sampled_breakage": (on_sampled(broke), on_sampled(right_before)),
        "sampled_fixed_per_broken": (on_sampled(fixed), on_sampled(broke)),
        "sampled_net": (on_sampled(fixed) - on_sampled(broke), on_sampled(seen.scored)),
        "sampled_unstable_share_of_breaks": (on_sampled(broke & unstable), on_sampled(broke)),
    }


def _between(seen: _Patterns, weights: Floats) -> Ratio:
    """Right with one preference, wrong with another, over all ordered pairs of them."""
    events, among = [], []
    for first in range(seen.scored.shape[1]):
        both = np.delete(seen.right[:, [first]] & seen.scored, first, axis=1)
        among.append(weights @ both)
        events.append(weights @ (both & ~np.delete(seen.right, first, axis=1)))
    return _mean_share(np.hstack(events), np.hstack(among))


def _mean_share(events: Floats, among: Floats) -> Ratio:
    """The mean over columns of `events / among`, those without any left out, as a ratio to the mean of `among`."""
    some = among > 0
    shares = np.where(some, events / np.where(some, among, 1), 0)
    mean = shares.sum(axis=1) / np.maximum(some.sum(axis=1), 1)
    size = among.sum(axis=1) / max(among.shape[1], 1)
    return mean * size, size


def _sum(parts: list[Ratio]) -> Ratio:
    return np.sum([top for top, _ in parts], axis=0), np.sum([bottom for _, bottom in parts], axis=0)


def _with_bounds(ratios: dict[str, Ratio], confidence: float) -> dict[str, float]:
    """Each quantity with its percentile bounds, in the unit that it is told in."""
    with np.errstate(invalid="ignore", divide="ignore"):
        # Nothing in the denominator (NaN) says nothing of the quantity, in a resample as in what was observed.
        values = {name: np.where(bottom > 0, top / bottom, np.nan) for name, (top, bottom) in ratios.items()}
    values["excess"] = values["breakage"] - values["preference_to_preference"]
    tail = (1 - confidence) / 2
    out: dict[str, float] = {}
    for name in QUANTITIES:
        scale = 1.0 if name in PLAIN else 100.0
        drawn = values[name][1:][~np.isnan(values[name][1:])]
        low, high = np.quantile(drawn, [tail, 1 - tail]) if len(drawn) else (np.nan, np.nan)
        ends = ("", values[name][0]), ("_low", low), ("_high", high)
        out |= {f"{name}{end}": scale * float(value) for end, value in ends}
    return out
