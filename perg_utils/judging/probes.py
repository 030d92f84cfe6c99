"""Known biases of judges, probed: length, position of the two responses, wording of the rubric, self-preference.

The first three are experiments: the same responses are rated again with one thing changed that should not matter, and
the change of the rating is what the bias does. Length: neutral sentences are added that answer nothing and have no
manner (for the category Clarity they do matter, so it has a row of its own). Position and wording: the rubric's
variants `judge_swapped` and `judge_paraphrased`; rules have neither. Self-preference is observed, not made: how much
better a judge rates its own model's responses than the other judges do, against the same for the other models'
responses.

Cases are of different questions, so that they are independent: shares have exact intervals, means those of
`mean_interval`, which are no points where nothing changed.

Left out: sentiment, formatting and authority cues, and a judge's agreement with itself at a temperature above 0. Human
raters (`human`) cannot be asked again and are not probed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from perg_utils.core.profile import JudgeConfig, Profile, StatisticsConfig
from perg_utils.core.schema import RELEVANT_SHOWN, Category, Status
from perg_utils.judging.human import HumanJudge
from perg_utils.judging.judges import Judge, LLMJudge
from perg_utils.judging.rubric import Case, Rating
from perg_utils.prompts.sets import JUDGE_VARIANTS, PromptSet, load_prompts
from perg_utils.scoring.intervals import Floats, exact_interval

#: Says nothing, whatever was asked.
PADDING = " That is what there is to say about this question. The options were all read. No more is to be added."


def sample(responses: pd.DataFrame, preferences: pd.DataFrame, n: int, seed: int = 42) -> list[int]:
    """Return positions of up to `n` rateable responses to different questions, of each category as equally many."""
    rows = responses.reset_index(drop=True)
    rows = rows[rows["setting"].isin(RELEVANT_SHOWN) & (rows["status"] == Status.OK)].sample(frac=1, random_state=seed)
    rows = rows.drop_duplicates("example_id")
    category = rows["preference_id"].map(preferences.set_index("preference_id")["category"])
    turn = category.groupby(category, sort=True).cumcount()
    return sorted(turn.sort_values(kind="stable").index[:n].tolist())


def padded(case: Case) -> Case:
    """Return the case with neutral sentences behind the response to rate."""
    return case._replace(response_with=case.response_with.rstrip() + PADDING)


def length_probe(judge: Judge, cases: Sequence[Case], **how: object) -> pd.DataFrame:
    """Return how ratings change when responses are padded: Clarity, and the other categories, apart.

    Columns: judge, probe, group, n, n_unscored, mean (rating before), change (mean, with bounds change_low and
    change_high), up and down (percent that cross the threshold, with exact bounds). No rows for human raters.
    """
    if isinstance(judge, HumanJudge):
        return pd.DataFrame()
    before, after = judge.rate(cases), judge.rate([padded(case) for case in cases])
    groups = {"Clarity": True, "other categories": False}
    parts = []
    for name, clarity in groups.items():
        chosen = [i for i, case in enumerate(cases) if (case.category == Category.CLARITY) == clarity]
        if chosen:
            line = compare([before[i] for i in chosen], [after[i] for i in chosen], **how)  # type: ignore[arg-type]
            parts.append({"judge": judge.name, "probe": "length", "group": name} | line)
    return pd.DataFrame(parts)


def rubric_probes(judge: Judge, cases: Sequence[Case], **how: object) -> pd.DataFrame:
    """Return how a language model's ratings change with the variants of its rubric that its prompt set has.

    No rows for rules, which have none. Columns as those of `length_probe`; `probe` is `swapped` or `paraphrased`.
    """
    if not isinstance(judge, LLMJudge):
        return pd.DataFrame()
    before, parts = judge.rate(cases), []
    for variant in _variants(judge.prompts, judge.rubric):
        after = judge.with_rubric(variant).rate(cases)
        line = compare(before, after, **how)  # type: ignore[arg-type]
        parts.append({"judge": judge.name, "probe": variant.removeprefix("judge_"), "group": "all"} | line)
    return pd.DataFrame(parts)


#: The experiments that one judge alone can be put through.
PROBES = (length_probe, rubric_probes)


def compare(
    before: Sequence[Rating],
    after: Sequence[Rating],
    *,
    threshold: int = 3,
    config: StatisticsConfig | None = None,
    seed: int = 42,
) -> dict[str, float]:
    """Return the change from `before` to `after` of the same cases, rated both times; see `length_probe`."""
    config = config or StatisticsConfig()
    old, new = (np.array([np.nan if r.rating is None else r.rating for r in side], float) for side in (before, after))
    both = ~(np.isnan(old) | np.isnan(new))
    old, new = old[both], new[both]
    n = len(old)
    out: dict[str, float] = {"n": n, "n_unscored": len(both) - n, "mean": float(old.mean()) if n else np.nan}
    # A mean rating of 4 can rise by 1 and fall by 3.
    bounds = mean_interval(new - old, (1 - out["mean"], 5 - out["mean"]), config, seed)
    out["change"] = float((new - old).mean()) if n else np.nan
    out["change_low"], out["change_high"] = bounds
    moves = {"up": (old < threshold) & (new >= threshold), "down": (old >= threshold) & (new < threshold)}
    for name, moved in moves.items():
        low, high = exact_interval(moved.sum(), n, config.confidence)
        out[name] = 100 * float(moved.mean()) if n else np.nan
        out |= {f"{name}_low": 100 * float(low), f"{name}_high": 100 * float(high)}
    return out


def _variants(prompts: PromptSet, rubric: str) -> list[str]:
    return [variant for variant in JUDGE_VARIANTS if variant != rubric and variant in prompts.hashes]


def coverage(profile: Profile) -> pd.DataFrame:
    """Return what can be probed with the judges of a profile: a row a bias, with its `judges`, or `why_not`."""
    everyone = profile.all_judges()
    variants = {
        one.label: _variants(load_prompts(one.prompts or profile.prompts), one.rubric)
        for one in everyone
        if one.model is not None
    }
    rubrics = {name: [who for who, has in variants.items() if name in has] for name in JUDGE_VARIANTS}
    no_rubric = (
        "the prompt set has no such rubric" if variants else "no language model judges, and rules read no rubric"
    )
    alone = "it takes a judge that is also a model of the study, and a second judge"
    found: dict[str, tuple[list[str], str]] = {
        "length": ([one.label for one in everyone if one.kind != "people"], "human raters cannot be asked again"),
        "position of the responses": (rubrics["judge_swapped"], no_rubric),
        "paraphrased rubric": (rubrics["judge_paraphrased"], no_rubric),
        "self-preference": (list(own_models(profile)) if len(everyone) > 1 else [], alone),
    }
    rows = [(bias, ", ".join(who) or "none", "" if who else why) for bias, (who, why) in found.items()]
    return pd.DataFrame(rows, columns=["bias", "judges", "why_not"])


def own_models(profile: Profile) -> dict[str, list[str]]:
    """Return, for judges that also answer in this study, the models with the same weights, e.g. `{"J": ["L"]}`."""

    def same(judge: JudgeConfig) -> list[str]:
        weights = judge.model and (judge.model.engine, judge.model.model, judge.model.revision)
        return [m.name for m in profile.models if (m.engine, m.model, m.revision) == weights]

    return {judge.label: names for judge in profile.all_judges() if (names := same(judge))}


def self_preference(
    ratings: pd.DataFrame,
    judges: Sequence[str],
    own: Mapping[str, Sequence[str]],
    config: StatisticsConfig | None = None,
    seed: int = 42,
) -> pd.DataFrame:
    """Return by how much judges favour their own model, in rating points, a row a judge that has one and is not alone.

    `ratings` has a column a judge (see `panel.side_by_side`). `own_lead` is the judge's rating less the other judges'
    mean on its own model's rows, `other_lead` the same on the other models' rows, both first within a question and then
    over the questions that have both; `change` is the difference of the two, with bounds. Above 0: it favours itself.
    """
    out = []
    for judge, models in own.items():
        others = [name for name in judges if name != judge]
        lead = ratings[judge] - ratings[others].mean(axis=1) if others else pd.Series(np.nan, ratings.index)
        rows = pd.DataFrame({"question": ratings["example_id"], "lead": lead, "own": ratings["model"].isin(models)})
        leads = rows.dropna().pivot_table(index="question", columns="own", values="lead").reindex(columns=[True, False])
        leads = leads.dropna()
        if leads.empty:
            continue
        mine, theirs = leads[True].to_numpy(), leads[False].to_numpy()
        # A lead is from -4 to 4, so two of them differ by 8 at most.
        low, high = mean_interval(mine - theirs, (-8, 8), config, seed)
        line = {"judge": judge, "own": ", ".join(models), "questions": len(leads)}
        line |= {"own_lead": mine.mean(), "other_lead": theirs.mean(), "change": (mine - theirs).mean()}
        out.append(line | {"change_low": low, "change_high": high})
    return pd.DataFrame(out)


def mean_interval(
    values: Floats, ends: tuple[float, float], config: StatisticsConfig | None = None, seed: int = 42
) -> tuple[float, float]:
    """Return bounds of the mean of values that can lie between `ends`, e.g. (-0.04, 0.04) of 98 zeros between -2 and 2.

    A bootstrap, to which two values are added: half of one at each end, and one at the mean. Without them it is a point
    where all values are alike, and held the truth in 9 to 38 % of simulated probes of 10 cases in which few ratings
    change (LOG.md); with them in 93 % or more of all that were tried. NaN where there are no values.
    """
    config, n = config or StatisticsConfig(), len(values)
    if n == 0:
        return np.nan, np.nan
    seen, counts = np.unique(values, return_counts=True)
    points, weights = np.array([*seen, *ends, values.mean()]), np.array([*counts, 0.5, 0.5, 1])
    drawn = np.random.default_rng(seed).multinomial(n + 2, weights / (n + 2), config.resamples) @ points / (n + 2)
    low, high = np.quantile(drawn, [(1 - config.confidence) / 2, (1 + config.confidence) / 2])
    return float(low), float(high)
