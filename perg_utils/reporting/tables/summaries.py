"""Tables that say what the metrics rest on: preference categories, how letters were found, what the judge gave.

Extraction and judging are summed over all rows of a configuration, those of preferences that were not sampled
included; the metrics use the sampled rows.
"""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from perg_utils.core.run import Run
from perg_utils.core.schema import ALL_SOURCES, ARM_ID, MISSING, Status, ordered
from perg_utils.reporting.tables.forms import Table, table
from perg_utils.reporting.tables.layout import (
    as_listed,
    grid_table,
    judges_and_nulls,
    number,
    plain_table,
    with_bounds,
)
from perg_utils.scoring import plain
from perg_utils.scoring.categories import by_category, category_tests
from perg_utils.scoring.discrimination import ALL_CATEGORIES, LEAST_AUC, gain

#: How many ways of finding a letter have a column of their own; the rest is summed up.
MOST_WAYS = 5
_NOT_READ = {
    "names no option": (Status.UNPARSABLE,),
    "refused": (Status.REFUSED,),
    "silent": (Status.SILENT,),
    "missing": MISSING,
}


@table("Plain answers against chance")
def plain_answers(run: Run) -> Table | None:
    """Return accuracy without preference against guessing, and the letter named most, by model and source.

    >>> perg.tables.plain_answers(run).data.query("source == 'ALL'")["near_chance"].any()
    np.False_
    """
    answers = as_listed(run, "answers")
    if answers.empty:
        return None
    found = plain.plain_answers(answers, run.read("examples"), run.profile.statistics)
    if found.empty:
        return None
    cells = found[["model", "method", "source"]].astype(object)
    texts = ["{:.1f} [{:.1f}, {:.1f}]".format(*v) for v in found[["accuracy", "low", "high"]].to_numpy()]
    cells["right"] = [
        f"{text} (near chance)" if near else text for text, near in zip(texts, found["near_chance"], strict=True)
    ]
    cells["by chance"] = [number(v) for v in found["chance"]]
    cells["names most"] = found["letter"].fillna("–")
    cells["in"], cells["is right in"] = ([number(v) for v in found[name]] for name in ("named", "right"))
    cells["letters off by"], cells["no letter"] = (
        [number(v) for v in found[name]] for name in ("distance", "no_letter")
    )
    cells["n"] = found["n"]
    caption = (
        "Answers without preference, in percent, beside what guessing among the options would give; near chance: the "
        "exact interval does not lie above it. Of such a model the questions of Q* are luck, and its breakage measures "
        "churn. The letter that it names most, in how many of its answers, and in how many questions it is right; "
        "letters off by: how many answers would have to name another letter for all letters to be as frequent as the "
        "right ones."
    )
    return plain_table("plain_answers", "Plain answers against chance", caption, run, data=found, cells=cells)


@table("Categories of preferences")
def categories(run: Run) -> Table | None:
    """Return breakage by category of the preference, for each source and model (zero-shot, relevant).

    >>> perg.tables.categories(run).data["category"].nunique()
    5
    """
    scores = as_listed(run, "scores")
    data = by_category(scores, run.profile.statistics)
    tests = category_tests(scores, seed=run.profile.seed)
    pooled = data.loc[data["source"] == ALL_SOURCES, "sources"].unique()
    everywhere = (
        f"ALL: mean of the sources that have every category ({'; '.join(pooled)}), weighted alike for all categories."
        if len(pooled)
        else "No row for ALL: fewer than two sources have every category."
    )
    told = ", ".join(f"{model} {number(p, '{:.3f}')}" for model, p in zip(tests["model"], tests["p_holm"], strict=True))
    made = grid_table(
        "categories",
        "Categories of preferences",
        f"Breakage rate by category of the preference, zero_shot, in percent. {everywhere} Whether categories differ "
        f"at all (permutation within sources, Holm-corrected over the models): p {told}. Single categories are not "
        "tested against each other, so none is bold.",
        run,
        data=data,
        index=["source", "model"],
        across=["category"],
    )
    return None if made is None else replace(made, best=made.best & False)


@table("Extraction of letters")
def extraction(run: Run) -> Table | None:
    """Return, for each configuration, how many letters each rule found, and how many responses gave none and why.

    >>> perg.tables.extraction(run).data["rows"].sum()
    np.int64(6480)
    """
    answers = as_listed(run, "answers")
    if answers.empty:
        return None
    raw = _counted(answers.assign(how=answers["how"].fillna("")), [*ARM_ID, "status", "how", "layer"])
    found = raw[raw["status"] == Status.OK]
    ways = found.groupby("how")["rows"].sum().sort_values(ascending=False, kind="stable").index.tolist()
    columns = {way: (raw["status"] == Status.OK) & (raw["how"] == way) for way in ways[:MOST_WAYS]}
    if len(ways) > MOST_WAYS:
        columns["other rules"] = (raw["status"] == Status.OK) & raw["how"].isin(ways[MOST_WAYS:])
    columns |= {name: raw["status"].isin(statuses) for name, statuses in _NOT_READ.items()}
    cells = _summed(raw, columns | {"n": pd.Series(True, raw.index)}, ARM_ID)
    caption = (
        "How the letter of each response was found (counts of responses; scored, replied: by a model); a response that "
        "names no option, or declines to, counts as wrong; missing: the response or its reading could not be obtained, "
        "so it is not scored. All reasons are in the CSV."
    )
    return plain_table("extraction", "Extraction of letters", caption, run, data=raw, cells=cells)


@table("Ratings")
def judging(run: Run) -> Table | None:
    """Return, for each configuration with a relevant preference, the ratings from 1 to 5 and how many are missing.

    >>> perg.tables.judging(run).cells["", "n"].tolist()[:2]
    [120, 120]
    """
    judgements = as_listed(run, "judgements")
    rated = judgements[judgements["status"] != Status.NOT_APPLICABLE]
    if rated.empty:
        return None
    keys = [*ARM_ID, "judge"]
    rating = rated["rating"].where(rated["status"] == Status.OK)
    raw = _counted(rated.assign(judge=rated["judge"].fillna("–"), rating=rating), [*keys, "status", "rating"])
    columns = {str(value): (raw["rating"] == value).fillna(False) for value in range(1, 6)}
    columns |= {"missing": raw["rating"].isna(), "n": pd.Series(True, raw.index)}
    threshold = run.profile.judge.threshold
    followed = (raw["rating"] >= threshold).fillna(False)
    cells = _summed(raw, columns | {"_followed": followed}, keys)
    share = 100 * cells.pop("_followed") / (cells["n"] - cells["missing"]).astype(float).replace(0, float("nan"))
    cells.insert(len(keys) + 5, "followed", [number(v, "{:.1f} %") for v in share])
    caption = (
        f"Ratings of all responses to a relevant preference, right or wrong (counts); followed: {threshold} or more, "
        "of those rated. A missing rating leaves its row out of AF; in RA and RE a right answer "
        "without one is taken to follow as often as the others."
    )
    return plain_table("judging", "Ratings", caption, run, data=raw, cells=cells, judged=True)


@table("Judges and their nulls")
def judge_nulls(run: Run) -> Table | None:
    """Return false-follow rates and AUC of every judge by category: how far "followed" holds (not in the paper).

    >>> made = perg.tables.judge_nulls(run).data
    >>> made["kind"].unique().tolist()
    ['plain', 'mismatched']
    """
    found = judges_and_nulls(run)
    if found.empty:
        return None
    cells = found[["judge", "category", "kind"]].astype(object).replace(ALL_CATEGORIES, "all")
    cells["AUC"] = [
        "–" if pd.isna(v) else f"{v:.2f} [{a:.2f}, {b:.2f}]"
        for v, a, b in zip(found["auc"], found["auc_low"], found["auc_high"], strict=True)
    ]
    cells["questions"] = found["pairs"]
    cells["matched"] = [number(v) for v in found["matched"]]
    cells["null called followed"] = with_bounds(found.assign(value=found["followed"]))
    cells["n"] = found["n"]
    caption = (
        "Ratings, blind, of responses that were not written for the preference: plain, without any, and mismatched, "
        "written for a preference of another category. AUC: how often the response to the preference is rated higher "
        f"than the null on the same question, ties half (0.5: chance; a judge below {LEAST_AUC:g} is marked wherever a "
        "number rests on it). matched: percent of the responses to the preference that are called followed; null "
        f"called followed: percent of the nulls, rated {run.profile.judge.threshold} or more. Of mismatched ones the "
        "category is that of the preference judged by, in AUC that of the preference written for."
    )
    return plain_table("judge_nulls", "Judges and their nulls", caption, run, data=found, cells=cells)


@table("Alignment gain")
def alignment_gain(run: Run) -> Table | None:
    """Return by how much more often a preference is followed where it was shown than by the plain response.

    >>> perg.tables.alignment_gain(run).data["gain"].min() > 0
    np.True_
    """
    judgements = as_listed(run, "judgements")
    nulls = run.read("nulls")
    found = gain(judgements, nulls, threshold=run.profile.judge.threshold, config=run.profile.statistics)
    if found.empty:
        return None
    found = ordered(found, ARM_ID, run.read("metrics")["model"].unique()).reset_index(drop=True)
    cells = found[ARM_ID].astype(object)
    cells["plain"], cells["followed"] = ([number(v) for v in found[name]] for name in ("plain", "followed"))
    cells["gain"] = with_bounds(found.assign(value=found["gain"]), "{:+.1f}")
    cells["n"] = found["n"]
    caption = (
        "Followed, in percent of the n questions that were rated both ways, right or wrong: by the plain response, "
        "which did not know the preference, and by the response to it; gain: the difference in points with paired "
        "score interval."
    )
    return plain_table("alignment_gain", "Alignment gain", caption, run, data=found, cells=cells, judged=True)


def _counted(frame: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Rows of `frame` counted by `keys`, configurations in the study's order."""
    counted = frame.groupby(keys, sort=False, dropna=False, observed=True).size().reset_index(name="rows")
    return ordered(counted, ARM_ID).reset_index(drop=True)


def _summed(raw: pd.DataFrame, columns: dict[str, pd.Series], keys: list[str]) -> pd.DataFrame:
    """One row per `keys` with the sum of `rows` where each column's condition holds."""
    parts = raw[keys].assign(**{name: raw["rows"].where(chosen, 0) for name, chosen in columns.items()})
    return parts.groupby(keys, sort=False, observed=True)[list(columns)].sum().reset_index()
