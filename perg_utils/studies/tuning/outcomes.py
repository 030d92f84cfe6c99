"""What tuning came to: every adapter tried on questions and preferences that no adapter was trained on.

Each adapter answers the run's questions with nothing shown, with a preference of a trained category in another wording
(*kept*), with one of the category that was left out (*new*), with irrelevant preferences, and with a neutral sentence
(*placebo*). The unit is the seed: what is compared are adapters that saw the same answers in the same order, filtered
in different ways. Intervals say how another training would come out on these questions, not how other questions would.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import t as student

from perg_utils.core.profile import ModelConfig, StatisticsConfig
from perg_utils.core.run import Run
from perg_utils.core.schema import Method, Setting
from perg_utils.dataset import preferences
from perg_utils.inference.requests import Row
from perg_utils.prompts.sets import load_prompts
from perg_utils.scoring.intervals import holm
from perg_utils.studies import arms
from perg_utils.studies.tuning.material import gather, lessons, of, split
from perg_utils.studies.tuning.training import train

#: The arm of the model as it is.
UNTUNED = "none"
#: What is measured, in percent. The first one is the outcome of the contrasts; the last one, of all letters named in
#: any setting, tells a model that has learned an answer from one that has learned a letter.
MEASURES = (
    "robust accuracy",
    "robust accuracy, new category",
    "accuracy",
    "accuracy with",
    "breakage",
    "placebo breakage",
    "irrelevant breakage",
    "followed",
    "followed, new category",
    "the letter named most",
)
#: Points of percent below which values differ by rounding alone.
_SAME = 1e-9
#: (question, arm, against): fixed beforehand, each at every size.
CONTRASTS = (
    ("the filter", "curated", "random"),
    ("irrelevant ones and placebos among it", "curated_more", "curated"),
    ("Pref-Aligner's answers in place of its own", "distilled", "random"),
)


def tuned(run: Run, model: str) -> pd.DataFrame:
    """Return what all adapters of a model, and the model itself, come to; what is not there yet is trained.

    A row an adapter and measure. Columns: model, arm, size, seed (both 0 for the model itself), measure, value
    (percent), n (questions).
    """
    config, base = of(run), run.profile.model(model)
    pool, rows = gather(run, model), _rows(run)
    made: list[tuple[str, int, int]] = [(UNTUNED, 0, 0)]
    replies = [_tried(run, base, rows)]
    for seed in range(1, config.seeds + 1):
        for size in config.sizes:
            for arm in config.arms:
                folder = run.workspace.run / "adapters" / model / f"{arm}-{size}-{seed}"
                train(base, lessons(pool, arm, size, seed), config, seed, folder)
                adapted = base.model_copy(update={"name": f"{model}.{folder.name}", "adapter": str(folder)})
                made.append((arm, size, seed))
                replies.append(_tried(run, adapted, rows))
    every = pd.concat(replies, ignore_index=True)
    plain = every["setting"] == Setting.NONE
    scores = arms.scored(run, every[~plain], every[plain].assign(method=str(Method.NO_PREFERENCE)))
    by_adapter, named = dict(list(scores.groupby("model"))), arms.letters(run, every).groupby(every["model"])
    new, frames = split(run.read("preferences"), config).new, []
    for (kind, samples, number), own in zip(made, replies, strict=True):
        name = own["model"].iloc[0]
        frame = _measured(by_adapter[name], named.get_group(name), new)
        frames.append(frame.assign(model=model, arm=kind, size=samples, seed=number))
    columns = ["model", "arm", "size", "seed", "measure", "value", "n"]
    return pd.concat(frames, ignore_index=True)[columns]


def _rows(run: Run) -> list[Row]:
    """Every question of the run in the five ways that an adapter is tried."""
    parts = split(run.read("preferences"), of(run))
    out = arms.one_stage_rows(run, Method.NO_PREFERENCE, Setting.NONE)
    for ids in (parts.kept, parts.new):
        out += arms.rows_with(run, _assigned(run, ids))
    for setting in (Setting.IRRELEVANT, Setting.PLACEBO):
        out += arms.one_stage_rows(run, Method.ZERO_SHOT, setting)
    return out


def _assigned(run: Run, ids: Sequence[str]) -> dict[str, str]:
    """One of `ids` for each question, in turn; questions of a source for which there is none are left out."""
    bank, examples, out = run.read("preferences"), run.read("examples"), {}
    for number, (example, source) in enumerate(zip(examples["example_id"], examples["source"], strict=True)):
        if own := [one for one in ids if one in preferences.relevant_ids(bank, source)]:
            out[example] = own[number % len(own)]
    return out


def _tried(run: Run, model: ModelConfig, rows: Sequence[Row]) -> pd.DataFrame:
    """The replies of one adapter, the table 'responses'."""
    prompts, chats = load_prompts(run.profile.prompts), []
    for row in rows:
        method = Method.NO_PREFERENCE if row.setting is Setting.NONE else Method.ZERO_SHOT
        chats.append((row, prompts.messages(method, **row.task.variables())))
    return arms.ask(run, model, "tried", chats)


def _measured(scores: pd.DataFrame, letters: pd.Series, new: Sequence[str]) -> pd.DataFrame:
    """Every measure of one adapter from its scores and the letters that it names; `new` are the preferences of the
    category that was left out."""
    relevant, other = scores["setting"] == Setting.RELEVANT, scores["preference_id"].isin(new)
    kept, unseen = scores[relevant & ~other], scores[relevant & other]
    values = {
        "robust accuracy": kept["robust"],
        "robust accuracy, new category": unseen["robust"],
        "accuracy": kept["correct_without"],
        "accuracy with": kept["correct_with"],
        "breakage": _broken(kept),
        "placebo breakage": _broken(scores[scores["setting"] == Setting.PLACEBO]),
        "irrelevant breakage": _broken(scores[scores["setting"] == Setting.IRRELEVANT]),
        "followed": kept["followed"],
        "followed, new category": unseen["followed"],
        "the letter named most": letters.dropna() == next(iter(letters.mode()), None),
    }
    known = {measure: values[measure].dropna().astype(float) for measure in MEASURES}
    rows = [{"measure": name, "value": 100 * own.mean(), "n": len(own)} for name, own in known.items()]
    return pd.DataFrame(rows)


def _broken(scores: pd.DataFrame) -> pd.Series:
    """Of the questions that are right with nothing shown: whether the answer is wrong (null: not scored)."""
    held = scores[scores["correct_without"].fillna(False).astype(bool)]
    return ~held["correct_with"]


def curves(found: pd.DataFrame, config: StatisticsConfig) -> pd.DataFrame:
    """Return mean and t interval (within 0 to 100) over seeds: a row a model, arm, size and measure.

    The model itself has no interval, nor have seeds that all came to the same: they say nothing of their spread.
    `found` is from `tuned`. Columns: model, arm, size, measure, value, low, high, n (seeds).
    """
    keys = ["model", "arm", "size", "measure"]
    rows = []
    for key, own in found.groupby(keys, sort=False):
        low, high = np.clip(_interval(own["value"].to_numpy(dtype=float), config.confidence), 0, 100)
        rows.append({**dict(zip(keys, key, strict=True)), "value": own["value"].mean(), "low": low, "high": high})
        rows[-1]["n"] = len(own)
    return pd.DataFrame(rows)


def _interval(values: np.ndarray, confidence: float) -> tuple[float, float]:
    if len(values) < 2 or np.ptp(values) < _SAME:
        return np.nan, np.nan
    reach = student.ppf((1 + confidence) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean() - reach), float(values.mean() + reach)


def contrasts(found: pd.DataFrame, config: StatisticsConfig, measure: str = MEASURES[0]) -> pd.DataFrame:
    """Return the planned contrasts, a row each: an arm against another of the same seeds, at one size, over all models.

    A mixed model of the differences, models as fixed and seeds as random effects; the value is the mean over the
    models. Degrees of freedom are those of the seeds, which is on the safe side. Holm's correction and the joint
    bounds are over all rows. Where all seeds came to the same difference there are no bounds, and no p. Arms that were
    not trained give no row. Columns are those of `studies.contrasts`.
    """
    own = found[found["measure"] == measure]
    there = {key: part.set_index(["model", "seed"])["value"] for key, part in own.groupby(["arm", "size"])}
    rows: list[dict[str, Any]] = []
    sizes = sorted(set(own["size"]) - {0})
    planned = [
        (question, arm, against, n)
        for question, arm, against in CONTRASTS
        for n in sizes
        if (arm, n) in there and (against, n) in there
    ]
    joint = 1 - (1 - config.confidence) / max(len(planned), 1)
    for question, arm, against, size in planned:
        after, before = there[arm, size], there[against, size]
        mean, error, free = mixed((after - before).rename("difference").reset_index())
        row: dict[str, Any] = {"question": question, "who": f"{size:,} samples", "reference": against, "arm": arm}
        row |= {"reference_value": before.mean(), "value": after.mean(), "difference": mean}
        for name, level in (("", config.confidence), ("joint_", joint)):
            reach = student.ppf((1 + level) / 2, free) * error if error > _SAME else np.nan
            row |= {f"{name}low": mean - reach, f"{name}high": mean + reach}
        p = 2 * student.sf(abs(mean) / error, free) if error > _SAME else np.nan
        rows.append(row | {"p": p, "n": len(after)})
    out = pd.DataFrame(rows)
    if rows:
        out["p_holm"], out["family"] = holm(out["p"]), int(out["p"].notna().sum())
    return out


def mixed(differences: pd.DataFrame) -> tuple[float, float, int]:
    """Return mean over models, standard error and degrees of freedom of `difference` by `model` and `seed`.

    Restricted maximum likelihood with a random effect of the seed, which one seed's adapters of all models share. With
    one model it is the mean over seeds.

    >>> rows = [("S", 1, 2.0), ("S", 2, 4.0), ("S", 3, 3.0), ("L", 1, 1.0), ("L", 2, 2.0), ("L", 3, 3.0)]
    >>> mean, error, free = mixed(pd.DataFrame(rows, columns=["model", "seed", "difference"]))
    >>> round(mean, 2), round(error, 2), free
    (2.5, 0.43, 2)
    """
    wide = differences.pivot(index="seed", columns="model", values="difference")
    seeds, models = wide.shape
    values = wide - wide.mean()  # models are fixed effects
    by_seed = values.mean(axis=1).to_numpy()
    # A balanced design: the estimates have a closed form. A seed's variance below zero counts as none.
    between = models * float((by_seed**2).sum()) / (seeds - 1)
    within = float(((values.sub(by_seed, axis=0)) ** 2).to_numpy().sum()) / max((seeds - 1) * (models - 1), 1)
    if models > 1 and between < within:
        pooled = float((values**2).to_numpy().sum()) / ((seeds - 1) * models)
        between = pooled
    return float(wide.to_numpy().mean()), float(np.sqrt(between / (seeds * models))), seeds - 1
