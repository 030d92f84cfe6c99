"""Human raters as a judge of a profile (`kind: people`): the ratings of `annotate merge`, found again in a run.

A rating belongs to one response row and to the very texts that were on the sheet (`Case.pair`): where any of them has
changed since, it is not used. Several raters' ratings of a response are settled by their lower median: the middle
one, and of two middle ones the lower. So the result is always a rating that somebody gave, and a doubt counts against
"followed". What nobody rated is `unrated`, which is no rating: such rows have no part in alignment failure.

Left out: weights for raters, and for the strata of a balanced sheet. Rates over a sheet in which rare ratings are
frequent on purpose hold for that sheet and not for the run.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median_low

import pandas as pd

from perg_utils.core.errors import PergError
from perg_utils.core.schema import ROW_ID, Status
from perg_utils.judging.rubric import Case, Rating

#: What a file of ratings must have; `explanation`, a rater's note, is read where there is one.
COLUMNS = [*ROW_ID, "judge", "rating", "pair"]
_NOBODY = Rating(None, "nobody has rated this response", Status.UNRATED)


class RatingsError(PergError):
    """A file of human ratings cannot be used; the message names the file and the lines."""


@dataclass(frozen=True)
class HumanJudge:
    """Rates by the file at `path`; nobody is asked."""

    name: str
    path: Path

    def rate(self, cases: Sequence[Case]) -> list[Rating]:
        """Return one rating a case, `unrated` where nobody has rated it as it is now. Prints how many there are."""
        given = dict(iter(read_ratings(self.path).groupby(ROW_ID, sort=False)))
        out, split = [], 0
        changed = len(set(given) - {case.row for case in cases})  # of responses that are no longer in the run
        for case in cases:
            about = given.get(case.row)
            same = about[about["pair"] == case.pair()] if about is not None else None
            changed += same is not None and same.empty
            split += same is not None and same["rating"].nunique() > 1
            out.append(_settled(about, same))
        rated = sum(rating.status == Status.OK for rating in out)
        print(
            f"{self.name}: {rated:,} of {len(cases):,} responses rated, {split:,} of them differently by different "
            f"raters; {changed:,} more have changed since they were rated and count as unrated"
        )
        return out

    def check(self, responses: pd.DataFrame) -> None:
        """Raise `RatingsError` for a rating of a response that `responses` does not have."""
        known = set(responses[ROW_ID].itertuples(index=False, name=None))
        rows = read_ratings(self.path)[ROW_ID].itertuples(index=False, name=None)
        unknown = [f"entry {number}: {', '.join(row)}" for number, row in enumerate(rows, 1) if row not in known]
        if unknown:
            raise RatingsError(
                f"{self.path}: {len(unknown):,} ratings are of responses that this run does not have; is the file "
                "another profile's, or another --out's?\n" + "\n".join(unknown[:20])
            )


def read_ratings(path: Path) -> pd.DataFrame:
    """Return the lines of a file of ratings that hold a rating: `COLUMNS` (rating 1 to 5) and `explanation`, as text.

    Raises `RatingsError` for a missing file or column, a rating that is no whole number from 1 to 5, and a response
    that one rater has rated twice.
    """
    try:
        rows = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise RatingsError(
            f"no file of human ratings at {path}; `annotate merge` writes one, see judge.ratings"
        ) from error
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        raise RatingsError(f"{path} cannot be read as a table of ratings: {error}") from error
    missing = [name for name in COLUMNS if name not in rows]
    if missing:
        raise RatingsError(f"{path} has no columns {missing}; give the ratings.csv that `annotate merge` has written")
    given = rows["rating"].str.strip()
    bad = [
        f"entry {number}: rating {rating!r} is no whole number from 1 to 5 (empty: not rated)"
        for number, rating in enumerate(given, 1)
        if rating not in {"", "1", "2", "3", "4", "5"}
    ]
    twice = rows.duplicated([*ROW_ID, "judge"])
    bad += [f"entry {at + 1}: {rows['judge'][at]} has rated this response already" for at in rows.index[twice]]
    if bad:
        raise RatingsError(f"{path}: {len(bad):,} entries cannot be used:\n" + "\n".join(bad[:20]))
    notes = rows["explanation"].str.strip() if "explanation" in rows else ""
    kept = rows.assign(rating=given, explanation=notes)[[*COLUMNS, "explanation"]]
    return kept[given != ""].reset_index(drop=True)


def _settled(about: pd.DataFrame | None, same: pd.DataFrame | None) -> Rating:
    if about is None or same is None:
        return _NOBODY
    if same.empty:
        why = f"rated by {len(about)}, but what was shown (question, preference or a response) has changed since"
        return Rating(None, why, Status.UNRATED)
    said = [
        f"{who} {rating}" + (f" ({note})" if note else "")
        for who, rating, note in zip(same["judge"], same["rating"], same["explanation"], strict=True)
    ]
    return Rating(median_low(same["rating"].astype(int).tolist()), "; ".join(said))
