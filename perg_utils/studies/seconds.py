"""Seconds of Pref-Aligner and zero_shot on this machine: an answer by itself (latency), and many at once (throughput).

Calls are made in random order, several times each, and are never answered from the journal. For models that run in this
process. Seconds are one machine's and are not kept among the tables. Not in the paper.
"""

from __future__ import annotations

import random
from dataclasses import replace
from time import perf_counter

import numpy as np
import pandas as pd

from perg_utils.core.profile import StatisticsConfig
from perg_utils.core.run import Run
from perg_utils.core.schema import Method, Setting
from perg_utils.engines.base import Engine, Request
from perg_utils.engines.open import open_engine
from perg_utils.inference.methods import Chat
from perg_utils.inference.requests import request
from perg_utils.prompts.sets import load_prompts
from perg_utils.studies import arms

#: The calls of each arm, one after the other.
ARMS = {"zero_shot": ("zero_shot",), "pref_aligner": ("plain", "edit")}
_METHODS = {"plain": Method.NO_PREFERENCE, "zero_shot": Method.ZERO_SHOT, "edit": Method.PREF_ALIGNER}


def latency(run: Run, model: str, *, questions: int = 6, repeats: int = 3) -> pd.DataFrame:
    """Return seconds at batch 1, a row a call: model, stage, example_id, repeat, reading and writing.

    Stages: plain (no preference), zero_shot, edit (Pref-Aligner's second). Reading is the time to the first new token,
    writing the rest.
    """
    engine, draw = open_engine(run.profile.model(model)), random.Random(run.profile.seed)
    asked = _asked(run, model, draw, questions)
    calls = [(stage, example, repeat) for stage in asked for example in asked[stage] for repeat in range(repeats)]
    _load(engine, asked)
    draw.shuffle(calls)
    rows = []
    for stage, example, repeat in calls:
        made = asked[stage][example]
        first = replace(made, decoding=replace(made.decoding, max_new_tokens=1))
        reading, whole = _seconds(engine, [first]), _seconds(engine, [made])
        rows.append({"model": model, "stage": stage, "example_id": example, "repeat": repeat, "reading": reading})
        rows[-1]["writing"] = max(whole - reading, 0.0)
    return pd.DataFrame(rows)


def throughput(run: Run, model: str, *, questions: int = 48, repeats: int = 3) -> pd.DataFrame:
    """Return seconds of many calls at once, a row a stage and repeat: model, stage, repeat, seconds, n (answers).

    The model takes them in batches as in a run (`batch_size`).
    """
    engine, draw = open_engine(run.profile.model(model)), random.Random(run.profile.seed)
    asked = _asked(run, model, draw, questions)
    calls = [(stage, repeat) for stage in asked for repeat in range(repeats)]
    _load(engine, asked)
    draw.shuffle(calls)
    rows = []
    for stage, repeat in calls:
        batch = list(asked[stage].values())
        row = {"model": model, "stage": stage, "repeat": repeat, "seconds": _seconds(engine, batch), "n": len(batch)}
        rows.append(row)
    return pd.DataFrame(rows)


def _asked(run: Run, model: str, draw: random.Random, count: int) -> dict[str, dict[str, Request]]:
    """The requests of some questions with a relevant preference, by stage and question; those without a plain answer
    have no edit."""
    profile, own = run.profile, run.profile.model(model)
    prompts, responses = load_prompts(profile.prompts).edited(own.editing), run.read("responses")
    drafts = responses[(responses["model"] == model) & (responses["setting"] == Setting.NONE)].set_index("example_id")
    rows = arms.one_stage_rows(run, Method.ZERO_SHOT, Setting.RELEVANT)
    found = list({row.example_id: row for row in rows}.values())  # one preference a question
    out: dict[str, dict[str, Request]] = {stage: {} for stage in _METHODS}
    for row in draw.sample(found, min(count, len(found))):
        variables, draft = row.task.variables(), drafts["response"].get(row.example_id)
        chats = {"plain": prompts.messages(Method.NO_PREFERENCE, **row.task.bare().variables())}
        chats["zero_shot"] = prompts.messages(Method.ZERO_SHOT, **variables)
        if isinstance(draft, str):
            chats["edit"] = prompts.messages(Method.PREF_ALIGNER, **variables, response=draft)
        for stage, chat in chats.items():
            number = 2 if stage == "edit" else 1
            made = request(Chat(chat), own, profile.decoding, number, _METHODS[stage])
            out[stage][row.example_id] = made
    return {stage: made for stage, made in out.items() if made}


def _load(engine: Engine, asked: dict[str, dict[str, Request]]) -> None:
    """The first call loads the weights, which is not timed."""
    list(engine.generate(list(asked["plain"].values())[:1]))


def _seconds(engine: Engine, made: list[Request]) -> float:
    began = perf_counter()
    list(engine.generate(made))
    return perf_counter() - began


def latencies(calls: pd.DataFrame, config: StatisticsConfig, seed: int) -> pd.DataFrame:
    """Return seconds an answer at batch 1, a row a model and arm: reading, writing, total with bounds by question.

    Pref-Aligner is a plain answer and an edit, one after the other. `value` is the total; `times` it against zero_shot.
    `calls` is from `latency`. Arms of which a stage was not called have no row.
    """
    rows = []
    tail = 100 * (1 - config.confidence) / 2
    for model, own in calls.groupby("model", sort=False):
        means = own.groupby(["stage", "example_id"])[["reading", "writing"]].mean()
        totals = {}
        for arm, stages in _there(means.index.get_level_values("stage")).items():
            parts = [means.loc[stage] for stage in stages]
            common = sorted(set.intersection(*(set(part.index) for part in parts)))  # some questions have no edit
            both = pd.concat([part.loc[common] for part in parts]).groupby(level=0).sum()
            total = both.sum(axis=1).to_numpy()
            totals[arm] = total.mean()
            draws = np.random.default_rng(seed).integers(0, len(total), (config.resamples, len(total)))
            low, high = np.percentile(total[draws].mean(axis=1), [tail, 100 - tail])
            row = {"model": model, "arm": arm, "reading": both["reading"].mean(), "writing": both["writing"].mean()}
            row |= {"value": total.mean(), "low": low, "high": high, "n": len(total)}
            rows.append(row | {"times": total.mean() / totals["zero_shot"]})
    return pd.DataFrame(rows)


def throughputs(calls: pd.DataFrame) -> pd.DataFrame:
    """Return answers a second of many at once, a row a model and arm: value, slowest and fastest repeat, n (answers
    of the arm's smallest call).

    Pref-Aligner writes all plain answers and then all edits. `times` is zero_shot's value by this one. `calls` is from
    `throughput`. Arms of which a stage was not called have no row.

    >>> calls = [("S", "zero_shot", 2.0), ("S", "plain", 2.0), ("S", "edit", 4.0)]
    >>> calls = pd.DataFrame(calls, columns=["model", "stage", "seconds"]).assign(repeat=0, n=12)
    >>> throughputs(calls)[["arm", "value", "times"]].values.tolist()
    [['zero_shot', 6.0, 1.0], ['pref_aligner', 2.0, 3.0]]
    """
    rows = []
    for model, own in calls.assign(each=calls["seconds"] / calls["n"]).groupby("model", sort=False):
        each = own.pivot(index="repeat", columns="stage", values="each")
        values = {}
        for arm, stages in _there(each.columns).items():
            seconds = each[list(stages)].sum(axis=1)  # of one answer, in each repeat
            values[arm] = 1 / seconds.mean()
            row = {"model": model, "arm": arm, "value": values[arm], "low": 1 / seconds.max()}
            row |= {"high": 1 / seconds.min(), "n": int(own.loc[own["stage"].isin(stages), "n"].min())}
            rows.append(row | {"times": values["zero_shot"] / values[arm]})
    return pd.DataFrame(rows)


def _there(called: pd.Index) -> dict[str, tuple[str, ...]]:
    """The arms of which all stages were called."""
    return {arm: stages for arm, stages in ARMS.items() if set(stages) <= set(called)}
