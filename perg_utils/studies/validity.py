"""Cross-judge validity: can judges tell a response that knew the preference from one that did not?

Every judge rates, on the same questions, the response to its preference (*matched*), the *plain* one by that
preference and the matched one by a preference of another category (*mismatched*). Judges: rules of cues, a contrast of
sentence vectors, models by the rating that they expect (from the likelihoods of 1 to 5, in one pass), and whoever the
run's own ratings are from. Extends `judging.nulls`, which asks the judges of a run about one arm.
"""

from __future__ import annotations

import itertools
import random
from typing import Any

import numpy as np
import pandas as pd

from perg_utils.core.profile import ModelConfig, StatisticsConfig
from perg_utils.core.run import Run
from perg_utils.core.schema import ROW_ID, Category, Method, Metric, Null, Setting
from perg_utils.engines.journal import Journal
from perg_utils.judging.judges import CueJudge
from perg_utils.judging.nulls import another
from perg_utils.judging.rating import open_judge
from perg_utils.judging.rubric import Case
from perg_utils.prompts.sets import JUDGE, load_prompts
from perg_utils.scoring.discrimination import mean_by_unit
from perg_utils.scoring.rates import summarise
from perg_utils.scoring.scores import is_robust
from perg_utils.studies.gate import vectors


def contrasts(embedder: str | None) -> dict[str, str | None]:
    """Return the contrasts that judge, by name, and where each has its vectors from: words, and an embedder, if any."""
    by_words: dict[str, str | None] = {"contrast of words": None}
    return by_words if embedder is None else {"contrast of vectors": embedder, **by_words}


def sample(run: Run, model: str, questions: int, preferences: int, seed: int) -> pd.DataFrame:
    """Return cases of zero_shot responses of a run: `ROW_ID`, kind (`Null`), `case`, and `matched`, the row it is from.

    So many questions of those with a plain response, drawn by seed, and so many of their responses each. The run may
    be one of the profile `published`.
    """
    responses, examples, bank = run.read("responses"), run.read("examples"), run.read("preferences")
    own = responses[(responses["model"] == model) & responses["response"].notna()]
    plain = own[(own["method"] == Method.NO_PREFERENCE) & (own["setting"] == Setting.NONE)]
    said = dict(zip(plain["example_id"], plain["response"], strict=True))
    shown = own[(own["method"] == Method.ZERO_SHOT) & (own["setting"] == Setting.RELEVANT)]
    shown = shown[shown["example_id"].isin(said)]
    draw = random.Random(seed)
    ids = sorted(shown["example_id"].unique())
    chosen = set(draw.sample(ids, min(questions, len(ids))))
    shown = shown[shown["example_id"].isin(chosen)].sample(frac=1, random_state=seed)
    shown = shown.groupby("example_id").head(preferences).sort_values(["example_id", "preference_id"])
    asked = examples.set_index("example_id")
    texts = {
        p["preference_id"]: (p["text"], Category(p["category"])) for p in bank[bank["relevant"]].to_dict("records")
    }
    rows: list[dict[str, Any]] = []
    for row in shown.to_dict("records"):
        example = asked.loc[row["example_id"]]
        text, category = texts[row["preference_id"]]
        base = Case(
            example["question"], tuple(example["options"]), text, category, said[row["example_id"]], row["response"]
        )
        other = another(row["example_id"], row["preference_id"], bank, example["source"], seed)
        cases = {Null.MATCHED: (row["preference_id"], base)}
        cases[Null.PLAIN] = (
            row["preference_id"],
            base._replace(response_with=base.response_without, response_without=base.response_with),
        )
        if other is not None:
            cases[Null.MISMATCHED] = (other, base._replace(preference=texts[other][0], category=texts[other][1]))
        at = {name: row[name] for name in ROW_ID} | {"matched": row["preference_id"]}
        rows += [at | {"preference_id": p, "kind": str(kind), "case": case} for kind, (p, case) in cases.items()]
    return pd.DataFrame(rows)


def by_cues(cases: pd.DataFrame) -> pd.Series:
    """Return the ratings of the rules of cues, 1 to 5."""
    return pd.Series([r.rating for r in CueJudge().rate(list(cases["case"]))], index=cases.index, dtype=float)


def by_contrast(cases: pd.DataFrame, bank: pd.DataFrame, embedder: str | None) -> pd.Series:
    """Return how much nearer each response is to its preference than to the bank's other relevant ones (cosines)."""
    texts = [str(text) for text in bank.loc[bank["relevant"], "text"]]
    responses = [case.response_with for case in cases["case"]]
    distinct = list(dict.fromkeys([*texts, *responses]))
    at = {text: number for number, text in enumerate(distinct)}
    held = vectors(distinct, embedder)
    wishes = held[[at[text] for text in texts]]
    likeness = held[[at[text] for text in responses]] @ wishes.T
    own = np.array([texts.index(case.preference) for case in cases["case"]])
    mine = likeness[np.arange(len(own)), own]
    others = (likeness.sum(axis=1) - mine) / (len(texts) - 1)
    return pd.Series(mine - others, index=cases.index)


def by_expectation(run: Run, cases: pd.DataFrame, model: ModelConfig) -> pd.Series:
    """Return the rating that a model expects (1 to 5) behind the start of its reply, in one pass, nothing written.

    They are kept in `run`'s journal.
    """
    from perg_utils.studies.letters import likelihoods  # noqa: PLC0415 - imports torch

    prompts = load_prompts(run.profile.prompts)
    asked = [(prompts.messages(JUDGE, **case.variables()), prompts.added("rating"), 5) for case in cases["case"]]
    found = likelihoods(run.workspace.journal, model, asked, "12345")
    return pd.Series([sum((n + 1) * p for n, p in enumerate(row)) for row in found], index=cases.index)


def by_own_judge(run: Run, cases: pd.DataFrame) -> pd.Series:
    """Return the ratings of the run's own judge, a language model, 1 to 5, null where it gave none.

    It is asked as in the run, through the run's journal: behind an API every rating is a request that may be paid for.
    """
    with Journal(run.workspace.journal) as journal:
        ratings = open_judge(run.profile, run.profile.judge, journal).rate(list(cases["case"]))
    return pd.Series([r.rating for r in ratings], index=cases.index, dtype=float)


def at_the_same_rate(ratings: pd.Series, matched: pd.Series, share: float, threshold: int = 3) -> pd.Series:
    """Return ratings moved so that a `share` (0 to 1) of the `matched` ones reaches the threshold.

    A scale without a threshold of its own is read at the rate of another judge.
    """
    known = ratings[matched].dropna()
    cut = float(np.quantile(known, 1 - share)) if len(known) else 0.0
    return ratings - cut + threshold


def as_nulls(cases: pd.DataFrame, judge: str, ratings: pd.Series) -> pd.DataFrame:
    """Return rated cases in the form that `scoring.discrimination` takes, with their `question` as the unit to draw.

    A pair is one response with its nulls, so that `example_id` names the preference, too: the question alone would
    cross its preferences. The pairs of a question are not independent of each other.
    """
    out = cases[[*ROW_ID, "kind"]].assign(judge=judge, rating=ratings, question=cases["example_id"])
    out["example_id"] = cases["example_id"] + "/" + cases["matched"]
    return out


def agreement(
    cases: pd.DataFrame, rated: dict[str, pd.Series], config: StatisticsConfig, seed: int, threshold: int = 3
) -> pd.DataFrame:
    """Return for each two judges how often they agree whether a matched response follows, a row a pair.

    Columns: judge, other, value, low, high (percent, bootstrap by question), kappa (Cohen's), n responses that both
    rated. Judges without ratings are left out.
    """
    matched = cases["kind"] == Null.MATCHED
    names = [name for name, ratings in rated.items() if ratings[matched].notna().any()]
    rows = []
    for one, other in itertools.combinations(names, 2):
        both = pd.concat({"a": rated[one][matched], "b": rated[other][matched]}, axis=1).dropna() >= threshold
        a, b, same = both["a"].mean(), both["b"].mean(), both["a"] == both["b"]
        chance = a * b + (1 - a) * (1 - b)
        kappa = (same.mean() - chance) / (1 - chance) if chance < 1 else np.nan
        value, low, high = (100 * x for x in mean_by_unit(same, cases["example_id"].reindex(both.index), config, seed))
        rows.append((one, other, value, low, high, float(kappa), len(both)))
    return pd.DataFrame(rows, columns=["judge", "other", "value", "low", "high", "kappa", "n"])


def by_judge(run: Run, ratings: dict[str, pd.Series], threshold: int = 3) -> pd.DataFrame:
    """Return what every method of a run comes to (relevant) by each judge: a row a judge, model, method and measure.

    `ratings` hold a rating for each row of the run's scores in the setting relevant, by their index; a row without one
    is open, but for what is known without it (`scoring.rates`). Measures: robust accuracy, of all questions; of those
    that are right without, breakage (the same by every judge), alignment failure and robustness error. Columns: value,
    low, high (percent, exact bounds), n, and rank, of the model's methods by robust accuracy.
    """
    scores = run.read("scores")
    own = scores[scores["setting"] == Setting.RELEVANT]
    wanted = [Metric.ROBUST_ACCURACY, Metric.BREAKAGE_RATE, Metric.ALIGNMENT_FAILURE, Metric.ROBUSTNESS_ERROR]
    frames = []
    for judge, rated in ratings.items():
        rating = rated.reindex(own.index).astype("Float64")
        follows = (rating >= threshold).astype("boolean")
        robust = is_robust(own["correct_with"], follows, pd.Series(True, index=own.index))
        held = own.assign(followed=follows, robust=robust)
        found = summarise(held, wanted, ["model", "method"], run.profile.statistics)
        frames.append(found.assign(judge=judge, measure=found["metric"].astype(str).str.replace("_", " ")))
    out = pd.concat(frames, ignore_index=True)
    ahead = out[out["metric"] == Metric.ROBUST_ACCURACY].set_index(["judge", "model", "method"])["value"]
    rank = ahead.groupby(["judge", "model"]).rank(ascending=False, method="min").rename("rank")
    columns = ["judge", "model", "method", "measure", "value", "low", "high", "n", "rank"]
    return out.join(rank, on=["judge", "model", "method"])[columns]


def cases_of_scores(run: Run) -> pd.DataFrame:
    """Return the run's own responses in relevant as cases, indexed as its scores; what `by_judge` takes is rated so.

    Only those whose rating decides something: right, or right without. A wrong answer fails whatever a judge says.
    """
    scores, responses = run.read("scores"), run.read("responses")
    examples, bank = run.read("examples").set_index("example_id"), run.read("preferences").set_index("preference_id")
    plain = responses[responses["method"] == Method.NO_PREFERENCE]
    said = {(r["example_id"], r["model"]): r["response"] for r in plain.to_dict("records")}
    texts = responses.set_index(ROW_ID)["response"]
    rows = {}
    decides = (scores["correct_with"] | scores["correct_without"]).fillna(False)
    for index, row in scores[(scores["setting"] == Setting.RELEVANT) & decides].iterrows():
        response = texts.get(tuple(row[name] for name in ROW_ID))
        if not isinstance(response, str):
            continue
        example, wish = examples.loc[row["example_id"]], bank.loc[row["preference_id"]]
        without = said.get((row["example_id"], row["model"])) or ""
        category = Category(wish["category"])
        case = Case(example["question"], tuple(example["options"]), wish["text"], category, without, response)
        rows[index] = case
    return pd.DataFrame({"case": pd.Series(rows, dtype=object)})


def own_ratings(run: Run, cases: pd.DataFrame) -> pd.Series:
    """Return the run's main judge's ratings of the matched cases, null for the others: as the run's tables have them.

    A release that holds no ratings but what was followed gives 5 and 1.
    """
    ratings = run.read("judgements").set_index(ROW_ID)["rating"].astype(float)
    if ratings.empty:
        followed = run.read("scores").set_index(ROW_ID)["followed"].dropna()
        ratings = followed.astype(bool).map({True: 5.0, False: 1.0})
    held = ratings.to_dict()
    keys = cases[ROW_ID].itertuples(index=False, name=None)
    found = [held.get(key) if kind == Null.MATCHED else None for key, kind in zip(keys, cases["kind"], strict=True)]
    return pd.Series(found, index=cases.index, dtype=float)


def followed_share(ratings: pd.Series, threshold: int = 3) -> float:
    """Return the share (0 to 1) of ratings that reach the threshold; a half where there are none to go by."""
    known = ratings.dropna()
    return float((known >= threshold).mean()) if len(known) else 0.5
