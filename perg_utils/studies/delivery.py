"""Why answers name no option, and what brings the letter back.

What goes with it in the paper's released responses is in `named_none`. Here: an experiment on the study's own models (a
preference shown or not, in a style that leaves room for a letter or one that does not, the letter asked
for first or last); whether the letter is still there when nobody asks for it (its likelihood behind the response); and
cures, with their cost and what they cost in alignment. Not in the paper, which reports the rate only.
"""

from __future__ import annotations

import json
import random
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from perg_utils.core.profile import Profile, StatisticsConfig
from perg_utils.core.run import Run
from perg_utils.core.schema import LETTERS, Category, Method, Setting
from perg_utils.dataset.preferences import relevant_ids
from perg_utils.engines.base import Messages
from perg_utils.inference.requests import Row
from perg_utils.prompts.sets import load_prompts
from perg_utils.scoring.intervals import clustered_interval
from perg_utils.studies import arms
from perg_utils.studies.contrasts import Paired, of_sums, share

#: Categories whose style leaves room for a letter, and those that have none for it.
ROOM, CONFLICT = (Category.CLARITY, Category.THINKING), (Category.CREATIVE, Category.EXAMPLES)
PREFERENCES = ("none", "room", "conflict")
PLACES = ("first", "last")
#: What may bring the letter back; the first is what they are compared with.
CURES = ("zero_shot", "reminder", "letter then style", "follow-up", "JSON", "pref_aligner")
_ADDED = {"reminder": "reminder", "letter then style": "letter_then_style", "JSON": "as_json"}
_SCHEMA = {
    "type": "object",
    "properties": {"letter": {"type": "string"}, "answer": {"type": "string"}},
    "required": ["letter", "answer"],
    "additionalProperties": False,
}


def cells(run: Run, model: str) -> pd.DataFrame:
    """Return the experiment's answers: model, example_id, preference, letter, named, right (null: no reply).

    Every question is asked zero_shot without a preference, with one in whose style a letter has room (`ROOM`), and with
    one in conflict with it (`CONFLICT`), each with the letter asked for first and last. The preferences are drawn by
    seed from the question's source.
    """
    examples, bank = run.read("examples"), run.read("preferences")
    prompts = load_prompts(run.profile.prompts)
    frames = []
    for kind in PREFERENCES:
        if kind == "none":
            rows = arms.one_stage_rows(run, Method.NO_PREFERENCE, Setting.NONE)
        else:
            chosen = assigned(examples, bank, ROOM if kind == "room" else CONFLICT, run.profile.seed)
            rows = arms.rows_with(run, chosen)
        method = Method.NO_PREFERENCE if kind == "none" else Method.ZERO_SHOT
        for place in PLACES:
            chats = [
                (row, _with(prompts.messages(method, **row.task.variables()), prompts.added(f"letter_{place}")))
                for row in rows
            ]
            replies = arms.ask(run, model, f"{kind}, letter {place}", chats)
            frames.append(_read(run, replies).assign(preference=kind, place=place))
    made = pd.concat(frames, ignore_index=True)
    return made.assign(model=model)[["model", "example_id", "preference", "place", "named", "right"]]


def assigned(examples: pd.DataFrame, bank: pd.DataFrame, categories: tuple[Category, ...], seed: int) -> dict[str, str]:
    """Return a preference of some categories for each question, of those that its source may have, drawn by seed."""
    of = dict(zip(bank["preference_id"], bank["category"], strict=True))
    out = {}
    for example, source in zip(examples["example_id"], examples["source"], strict=True):
        known = [one for one in relevant_ids(bank, source) if of[one] in {str(c) for c in categories}]
        if known:
            out[example] = random.Random(f"delivery:{seed}:{example}:{categories[0]}").choice(known)
    return out


def _with(chat: Messages, text: str) -> Messages:
    role, content = chat[-1]
    return (*chat[:-1], (role, content + text))


def _read(run: Run, replies: pd.DataFrame) -> pd.DataFrame:
    gold = run.read("examples").set_index("example_id")["gold"]
    letters = arms.letters(run, replies)
    there = replies["response"].notna()
    right = letters == replies["example_id"].map(gold)
    out = replies[["example_id"]].copy()
    out["named"] = letters.notna().astype("boolean").where(there)
    out["right"] = right.astype("boolean").where(there)
    return out


def rates(found: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Return the share that names no option in each cell of the experiment, percent with exact bounds."""
    rows: list[dict[str, Any]] = []
    for (model, preference, place), own in found.groupby(["model", "preference", "place"], sort=False):
        none = ~own["named"].dropna().astype(bool)
        rows.append({"model": model, "preference": preference, "letter": place} | share(none, confidence))
    return pd.DataFrame(rows)


def factorial(found: pd.DataFrame, config: StatisticsConfig) -> pd.DataFrame:
    """Return the experiment's contrasts of naming an option, four a model, a question being one unit; Holm over all.

    A preference shown against none; a style in conflict with a letter against one with room; the letter asked for first
    against last; and whether asking first helps more where the style is in conflict (interaction: its values are sums
    of two cells).
    """
    planned: dict[str, list[Paired]] = {}
    for model, own in found.groupby("model", sort=False):
        wide = own.assign(named=own["named"].astype("Int64")).pivot_table(
            index="example_id", columns=["preference", "place"], values="named", aggfunc="first"
        )
        wide = wide.dropna()
        if len(wide.columns) < len(PREFERENCES) * len(PLACES):
            continue
        by = {name: wide[name, "first"] + wide[name, "last"] for name in PREFERENCES}
        at = {place: sum((wide[name, place] for name in PREFERENCES[1:]), wide["none", place]) for place in PLACES}
        last = wide["conflict", "last"] + wide["room", "first"]
        first = wide["conflict", "first"] + wide["room", "last"]
        for one in (
            Paired("a preference shown", str(model), "none", "shown", 2 * by["none"], by["room"] + by["conflict"], 4),
            Paired("a style in conflict", str(model), "room", "conflict", by["room"], by["conflict"], 2),
            Paired("the letter asked for first", str(model), "last", "first", at["last"], at["first"], 3),
            Paired("first, where in conflict", str(model), "no interaction", "interaction", last, first),
        ):
            planned.setdefault(one.question, []).append(one)
    return of_sums([one for kind in planned.values() for one in kind], config)


def still_there(run: Run, model: str) -> pd.DataFrame:
    """Return, for each zero_shot answer in relevant, whether the letter is still likeliest behind the response.

    Columns: model, example_id, named (it names an option), plain_right (the plain answer was right), likeliest_right
    (the likeliest letter is), same (it is the letter that the response names; null where it names none). For models
    that run here.
    """
    from perg_utils.studies.letters import likelihoods  # noqa: PLC0415 - imports torch

    prompts = load_prompts(run.profile.prompts)
    responses, scores = run.read("responses"), run.read("scores")
    own = responses[
        (responses["model"] == model)
        & (responses["method"] == Method.ZERO_SHOT)
        & (responses["setting"] == Setting.RELEVANT)
        & responses["response"].notna()
    ].set_index("example_id")["response"]
    rows = [row for row in arms.one_stage_rows(run, Method.ZERO_SHOT, Setting.RELEVANT) if row.example_id in own]
    asked = [
        (
            prompts.messages(Method.ZERO_SHOT, **row.task.variables()),
            own[row.example_id] + prompts.added("probe"),
            len(row.task.options),
        )
        for row in rows
    ]
    found = likelihoods(run.workspace.journal, run.profile.model(model), asked)
    letters = [LETTERS[int(np.argmax(one))] for one in found]
    held = scores[
        (scores["model"] == model) & (scores["method"] == Method.ZERO_SHOT) & (scores["setting"] == Setting.RELEVANT)
    ].set_index("example_id")
    answers = run.read("answers")
    named = answers[
        (answers["model"] == model) & (answers["method"] == Method.ZERO_SHOT) & (answers["setting"] == Setting.RELEVANT)
    ].set_index("example_id")["answer"]
    gold = run.read("examples").set_index("example_id")["gold"]
    ids = [row.example_id for row in rows]
    out = pd.DataFrame({"model": model, "example_id": ids, "letter": letters})
    out["named"] = out["example_id"].map(named).notna()
    out["plain_right"] = out["example_id"].map(held["correct_without"]).astype("boolean")
    out["likeliest_right"] = out["letter"] == out["example_id"].map(gold)
    out["same"] = (out["letter"] == out["example_id"].map(named)).astype("boolean").where(out["named"])
    return out


#: What `still_there` returns, without a row.
BEHIND = pd.DataFrame(
    {name: [] for name in ("model", "example_id", "letter", "named", "plain_right", "likeliest_right", "same")}
)


def knowledge(behind: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Return how often the likeliest letter is right, by whether the response names an option; percent, exact bounds.

    `behind` is from `still_there`. Rows: model, response (names an option, names none) and what: still right; plain
    right, the plain answers to the same questions; same, where the response names an option.
    """
    rows: list[dict[str, Any]] = []
    for (model, named), own in behind.groupby(["model", "named"], sort=False):
        at = {"model": model, "response": "names an option" if named else "names none"}
        for what, column in (("still right", "likeliest_right"), ("plain right", "plain_right"), ("same", "same")):
            if what != "same" or named:
                rows.append(at | {"what": what} | share(own[column].dropna().astype(bool), confidence))
    return pd.DataFrame(rows)


def cured(run: Run, model: str) -> pd.DataFrame:
    """Return what each of `CURES` makes of every question in relevant: model, cure, example_id, named, right, followed,
    robust, read, written (tokens). Null where there is no reply or no rating."""
    prompts = load_prompts(run.profile.prompts)
    responses = run.read("responses")
    at = (responses["model"] == model) & (responses["setting"] == Setting.RELEVANT)
    base = responses[at & (responses["method"] == Method.ZERO_SHOT)]
    rows = arms.one_stage_rows(run, Method.ZERO_SHOT, Setting.RELEVANT)
    chats = [(row, prompts.messages(Method.ZERO_SHOT, **row.task.variables())) for row in rows]
    parts = [_outcome(run, base, "zero_shot")]
    for cure, name in _ADDED.items():
        schema = json.dumps(_SCHEMA) if cure == "JSON" else None
        asked = [(row, _with(chat, prompts.added(name))) for row, chat in chats]
        replies = arms.ask(run, model, cure, asked, schema=schema)
        parts.append(_outcome(run, _unpacked(replies) if cure == "JSON" else replies, cure))
    parts.append(_followed_up(run, model, base, parts[0], chats))
    edited = responses[at & (responses["method"] == Method.PREF_ALIGNER)]
    if len(edited):
        parts.append(_outcome(run, edited.assign(method=str(Method.ZERO_SHOT)), "pref_aligner"))
    made = pd.concat(parts, ignore_index=True)
    return made.assign(model=model)


def _outcome(run: Run, replies: pd.DataFrame, cure: str) -> pd.DataFrame:
    """The outcome of one cure's replies; their letters are read, where no column `letter` tells them."""
    gold = run.read("examples").set_index("example_id")["gold"]
    replies = replies.reset_index(drop=True)
    found = replies["letter"] if "letter" in replies else arms.letters(run, replies)
    rated = arms.scored(run, replies).set_index("example_id")["followed"]
    out = replies[["example_id"]].copy()
    there = replies["response"].notna()
    out["named"] = found.notna().astype("boolean").where(there)
    out["right"] = (found == replies["example_id"].map(gold)).astype("boolean").where(there)
    out["followed"] = out["example_id"].map(rated).astype("boolean")
    out["robust"] = out["right"] & out["followed"]
    out["read"], out["written"] = replies["prompt_tokens"], replies["completion_tokens"]
    return out.assign(cure=cure)


def _unpacked(replies: pd.DataFrame) -> pd.DataFrame:
    """Replies in JSON as their answers, with the letters that they name; what is no such JSON names none."""
    texts, letters = [], []
    for text in replies["response"]:
        letter, answer = unpack(text) if isinstance(text, str) else (None, None)
        letters.append(letter)
        texts.append(answer if answer is not None else text)
    return replies.assign(response=texts, letter=pd.Series(letters, index=replies.index, dtype=object))


def unpack(text: str) -> tuple[str | None, str | None]:
    """Return the letter and the answer of a reply in JSON, e.g. `("B", "It is iron.")`; (None, None) for any other.

    >>> unpack('```json\\n{"letter": "b", "answer": "It is iron."}\\n```')
    ('B', 'It is iron.')
    """
    start, end = text.find("{"), text.rfind("}")
    try:
        found = json.loads(text[start : end + 1]) if start >= 0 else None
    except ValueError:
        return None, None
    if not isinstance(found, Mapping) or not isinstance(found.get("answer"), str):
        return None, None
    letter = str(found.get("letter", "")).strip(" ().").upper()
    return (letter if len(letter) == 1 and letter.isalpha() else None), found["answer"]


def _followed_up(
    run: Run, model: str, base: pd.DataFrame, before: pd.DataFrame, chats: list[tuple[Row, Messages]]
) -> pd.DataFrame:
    """zero_shot, and where it names no option one more turn that asks for the letter alone."""
    prompts, said = load_prompts(run.profile.prompts), base.set_index("example_id")["response"]
    silent = set(before.loc[~before["named"].fillna(True).astype(bool), "example_id"])
    asked = [
        (row, (*chat, ("assistant", said[row.example_id]), ("user", prompts.added("follow_up"))))
        for row, chat in chats
        if row.example_id in silent
    ]
    out = before.assign(cure="follow-up")
    if not asked:
        return out
    replies = arms.ask(run, model, "follow-up", asked)
    letters = arms.letters(run, replies)
    gold = run.read("examples").set_index("example_id")["gold"]
    said_now = pd.Series(letters.to_numpy(), index=replies["example_id"], dtype=object)
    more = replies.set_index("example_id")[["prompt_tokens", "completion_tokens"]].fillna(0)
    asked_now = out["example_id"].isin(said_now.index)
    named = out["example_id"].map(said_now)
    out["named"] = out["named"].mask(asked_now, named.notna())
    out["right"] = out["right"].mask(asked_now, named == out["example_id"].map(gold))
    for name, tokens in (("read", "prompt_tokens"), ("written", "completion_tokens")):
        out[name] = out[name] + out["example_id"].map(more[tokens]).fillna(0).astype("Int64")
    out["robust"] = out["right"] & out["followed"]
    return out


def recovery(found: pd.DataFrame, config: StatisticsConfig) -> pd.DataFrame:
    """Return a row a model and cure: what of the lost letters came back, at which cost, and what it does to alignment.

    `value`: of the questions in which zero_shot named no option, the percentage in which the cure does, exact bounds
    (`n` of them). `none`: percent that name none under the cure. `tokens`: read and written, against zero_shot.
    `followed`: points against zero_shot, bounds, and `not_worse`: the lower bound is above minus the profile's margin.
    """
    rows: list[dict[str, Any]] = []
    for model, own in found.groupby("model", sort=False):
        base = own[own["cure"] == "zero_shot"].set_index("example_id")
        lost = base.index[~base["named"].fillna(True).astype(bool)]
        spent = float((base["read"] + base["written"]).mean())
        for cure, some in own.groupby("cure", sort=False):
            if cure == "zero_shot":
                continue
            held = some.set_index("example_id")
            back = held["named"].reindex(lost).dropna().astype(bool)
            both = pd.concat({"was": base["followed"], "is": held["followed"]}, axis=1).dropna().astype(int)
            gap = (both["is"] - both["was"]).to_numpy()
            low, high = clustered_interval(gap, 1, config.confidence)
            named = held["named"].dropna().astype(bool)
            row = {"model": model, "cure": cure, **share(back, config.confidence)}
            row |= {"none": 100 * float(1 - named.mean()), "followed": 100 * float(gap.mean()) if len(gap) else np.nan}
            row |= {"followed_low": 100 * low, "followed_high": 100 * high}
            row["not_worse"] = bool(100 * low > -config.margin)
            rows.append(row | {"tokens": float((held["read"] + held["written"]).mean()) / spent})
    return pd.DataFrame(rows)


def contrasts(found: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """Return each cure against zero_shot by robust accuracy over all questions, a question being one unit; Holm."""
    planned = []
    for cure in CURES[1:]:
        for model, own in found.groupby("model", sort=False):
            wide = own.pivot(index="example_id", columns="cure", values="robust")
            if cure in wide:
                planned.append(Paired(cure, str(model), "zero_shot", cure, wide["zero_shot"], wide[cure]))
    return of_sums(planned, profile.statistics)
