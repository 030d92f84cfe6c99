"""Free form: the same questions without options. Does a preference break free answers as it breaks a choice of letters?

In the invented world the truth is exact: the last sentence that names just one option says it. For real
questions a free answer is mapped to the option that says the same, by a model in a fresh context that has seen neither
question nor preference, and by the nearest option in a sentence embedder's space; both are validated on multiple-choice
responses whose letter is known, and rates are corrected by the errors found there. Not in the paper, which asks for
letters only.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from perg_utils.core.profile import StatisticsConfig
from perg_utils.core.run import Run
from perg_utils.core.schema import LETTERS, Method, Setting, Source
from perg_utils.engines.base import Messages
from perg_utils.inference.requests import Row
from perg_utils.prompts.sets import EXTRACT, FREE_FORM, load_prompts
from perg_utils.studies import arms
from perg_utils.studies.contrasts import Paired, by_bootstrap, of_sums, share
from perg_utils.studies.gate import vectors

FORMATS = ("letters", "free")
#: What is shown with the question; `again`: nothing, but the question in other words (churn).
SHOWN = ("none", "again", "placebo", "relevant")
_SETTINGS = {"again": Setting.PARAPHRASE, "placebo": Setting.PLACEBO, "relevant": Setting.RELEVANT}
#: Words that tell that a question does not stand without its options.
_NEEDS = re.compile(
    r"\b(?:which|following|these|those|none of|all of|except|best describes)\b|_{2,}|\.\.\.|:\s*$", re.I
)


def alone(run: Run) -> list[str]:
    """Return the questions that stand without their options: all of an invented world; else of TruthfulQA and
    CommonsenseQA those without words that point to the options (`which`, `the following`, ...)."""
    examples = run.read("examples")
    if run.invented:
        return list(examples["example_id"])
    stands = examples["source"].isin([Source.TQA, Source.CQA]) & ~examples["question"].str.contains(_NEEDS)
    return list(examples.loc[stands, "example_id"])


def asked(run: Run, model: str) -> pd.DataFrame:
    """Return the free answers: the table 'responses' with a column `shown` (one of `SHOWN`), a row a question each."""
    prompts, known = load_prompts(run.profile.prompts), set(alone(run))
    frames = []
    for shown in SHOWN:
        setting = _SETTINGS.get(shown, Setting.NONE)
        method = Method.ZERO_SHOT if setting is not Setting.NONE else Method.NO_PREFERENCE
        rows = [row for row in arms.one_stage_rows(run, method, setting) if row.example_id in known]
        chats: list[tuple[Row, Messages]] = []
        for row in rows:
            variables = row.task.variables() | {"options": (), "again": shown == "again"}
            chats.append((row, prompts.messages(FREE_FORM, **variables)))
        frames.append(arms.ask(run, model, f"free, {shown}", chats).assign(shown=shown))
    return pd.concat(frames, ignore_index=True)


def named(response: str, options: Sequence[str]) -> str | None:
    """Return the letter of the one option whose words stand in a response; None where none or several do.

    Words inside a longer option that is named are not counted for a shorter one.

    >>> named("It is grey salt, of course.", ["salt", "grey salt", "wool"])
    'B'
    """
    found, text = [], response.casefold()
    for letter, option in sorted(zip(LETTERS, options, strict=False), key=lambda one: -len(one[1])):
        pattern = rf"(?<!\w){re.escape(option.casefold().strip(' .'))}(?!\w)"
        text, hits = re.subn(pattern, " ", text)
        if hits:
            found.append(letter)
    return found[0] if len(found) == 1 else None


def settled(response: str, options: Sequence[str]) -> str | None:
    """Return the letter of the option on which a response settles: that of its last sentence that names just one.

    >>> settled("We weigh iron against salt. Thus it must be salt (A).", ["iron", "salt"])
    'B'
    """
    found = (named(sentence, options) for sentence in reversed(re.split(r"(?<=[.!?])\s+", response)))
    return next((letter for letter in found if letter is not None), None)


def nearest(texts: Sequence[str], options: Sequence[Sequence[str]], embedder: str | None) -> list[str]:
    """Return for each text the letter of the nearest of its options, by cosine of their vectors."""
    distinct = list(dict.fromkeys([*texts, *(one for some in options for one in some)]))
    at = {text: number for number, text in enumerate(distinct)}
    held = vectors(distinct, embedder)
    out = []
    for text, some in zip(texts, options, strict=True):
        likeness = held[[at[one] for one in some]] @ held[at[text]]
        out.append(LETTERS[int(np.argmax(likeness))])
    return out


def mapped(run: Run, model: str, responses: pd.DataFrame, how: str) -> pd.Series:
    """Return the letter that each free answer is mapped to (null: none), by `words`, `model` or `nearest`; same index.

    `words` is exact in the invented world; `model` asks the model itself in a fresh context, with the prompt set's
    template `extract`, which shows neither question nor preference.
    """
    options = run.read("examples").set_index("example_id")["options"]
    there = responses[responses["response"].notna()]
    lists = [list(options[example]) for example in there["example_id"]]
    found: list[str | None]
    if how == "words":
        found = [settled(text, some) for text, some in zip(there["response"], lists, strict=True)]
    elif how == "nearest":
        found = list(nearest([str(text) for text in there["response"]], lists, run.profile.embedder))
    else:
        prompts = load_prompts(run.profile.prompts)
        chats = []
        for row, some in zip(there.to_dict("records"), lists, strict=True):
            chat = prompts.messages(EXTRACT, response=row["response"], options=tuple(some))
            chats.append((Row(row["example_id"], None, Setting.NONE, [], _NO_TASK), chat))
        replies = arms.ask(run, model, "which option", chats)
        letters = arms.letters(run, replies)
        found = [x if isinstance(x, str) else None for x in letters]
    return pd.Series(found, index=there.index, dtype=object).reindex(responses.index)


_NO_TASK: Any = None
#: A share of resamples that may be without a value.
_UNDEFINED = 0.01


def validated(run: Run, model: str, how: str, limit: int = 120) -> dict[str, float]:
    """Return how a way of mapping does on multiple-choice responses whose letter is known, letters taken out.

    `sensitivity`: of responses that name the right option, the share (0 to 1) mapped to it; `specificity`: of those
    that name a wrong one, the share not mapped to the right one; `n_right`, `n_wrong`. At most `limit` responses, drawn
    by seed.
    """
    answers, responses = run.read("answers"), run.read("responses")
    keys = ["example_id", "preference_id", "model", "method", "setting"]
    own = responses[(responses["model"] == model) & (responses["method"] == Method.ZERO_SHOT)]
    own = own[(own["setting"] == Setting.RELEVANT) & own["response"].notna()]
    own = own.merge(answers[[*keys, "answer"]], on=keys)
    own = own[own["answer"].notna() & own["example_id"].isin(set(alone(run)))]
    own = own.sample(min(limit, len(own)), random_state=run.profile.seed)
    # The letter would give the answer away: what is mapped is the text.
    bare = own.assign(response=[re.sub(r"\(?\b[A-Z]\b[).:]?", " ", str(text)) for text in own["response"]])
    letters = mapped(run, model, bare.reset_index(drop=True), how)
    gold = own["example_id"].map(run.read("examples").set_index("example_id")["gold"]).to_numpy()
    right, hit = own["answer"].to_numpy() == gold, letters.to_numpy() == gold
    return {
        "sensitivity": float(hit[right].mean()) if right.any() else np.nan,
        "specificity": float((~hit[~right]).mean()) if (~right).any() else np.nan,
        "n_right": int(right.sum()),
        "n_wrong": int((~right).sum()),
    }


def corrected(seen: float, sensitivity: float, specificity: float) -> float:
    """Return a share (0 to 1) corrected by the errors of what measured it (Rogan and Gladen); NaN where that cannot be.

    >>> round(corrected(0.62, 0.9, 0.8), 3)
    0.6
    """
    spread = sensitivity + specificity - 1
    return float(np.clip((seen + specificity - 1) / spread, 0, 1)) if spread > 0 else np.nan


def mended(right: pd.Series, checked: Mapping[str, float], config: StatisticsConfig, seed: int) -> dict[str, float]:
    """Return accuracy as mapped, and corrected by what `validated` found, with bounds: percent.

    The bounds (`low`, `high`) carry what is not known of all three shares, each drawn from its Jeffreys posterior; they
    are NaN, as the value is, where the mapping may be no better than chance (in more draws than the bounds leave out).
    """
    known = right.dropna().astype(bool)
    n = {"seen": len(known), "sensitivity": int(checked["n_right"]), "specificity": int(checked["n_wrong"])}
    shares = {"seen": float(known.mean()) if len(known) else np.nan, **{x: checked[x] for x in list(n)[1:]}}
    value = corrected(**shares)
    tail, draw = (1 - config.confidence) / 2, np.random.default_rng(seed)
    low = high = np.nan
    if not np.isnan(value):
        seen, sensitivity, specificity = (
            draw.beta(shares[x] * n[x] + 0.5, (1 - shares[x]) * n[x] + 0.5, config.resamples) for x in n
        )
        spread = sensitivity + specificity - 1
        if float((spread <= 0).mean()) <= tail:
            drawn = np.clip((seen + specificity - 1) / np.where(spread > 0, spread, np.nan), 0, 1)
            low, high = (float(x) for x in np.nanquantile(drawn, [tail, 1 - tail]))
        else:
            value = np.nan
    return {"seen": 100 * shares["seen"], "value": 100 * value, "low": 100 * low, "high": 100 * high, "n": n["seen"]}


def outcomes(run: Run, model: str, free: pd.DataFrame, how: str) -> pd.DataFrame:
    """Return whether each question went well: format, shown, example_id, right, delivered (null: no reply).

    Letters are the run's own scores; free answers are mapped by `how`.
    """
    scores, gold = run.read("scores"), run.read("examples").set_index("example_id")["gold"]
    known = set(alone(run))
    own = scores[(scores["model"] == model) & scores["example_id"].isin(known)]
    parts = []
    for shown in SHOWN:
        setting = _SETTINGS.get(shown, Setting.NONE)
        method = Method.NO_PREFERENCE if setting is Setting.NONE else Method.ZERO_SHOT
        rows = own[(own["method"] == method) & (own["setting"] == setting)]
        side = "without" if setting is Setting.NONE else "with"
        part = rows[["example_id"]].assign(format="letters", shown=shown)
        parts.append(part.assign(right=rows[f"correct_{side}"], delivered=rows[f"delivered_{side}"]))
    letters = mapped(run, model, free, how)
    there = free["response"].notna()
    part = free[["example_id", "shown"]].assign(format="free")
    part["right"] = (letters == free["example_id"].map(gold)).astype("boolean").where(there)
    part["delivered"] = letters.notna().astype("boolean").where(there)
    return pd.concat([*parts, part], ignore_index=True).assign(model=model)


def rates(found: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Return accuracy, and breakage of what is right with nothing shown: a row a model, format, shown and measure."""
    rows: list[dict[str, Any]] = []
    for (model, kind), own in found.groupby(["model", "format"], sort=False):
        wide = own.pivot(index="example_id", columns="shown", values="right")
        held = wide[wide["none"].fillna(False).astype(bool)]
        for shown in SHOWN:
            at = {"model": model, "format": kind, "shown": shown}
            right = wide[shown].dropna().astype(bool)
            rows.append(at | {"measure": "accuracy"} | share(right, confidence))
            if shown != "none":
                broke = ~held[shown].dropna().astype(bool)
                rows.append(at | {"measure": "breakage"} | share(broke, confidence))
    return pd.DataFrame(rows)


def interaction(found: pd.DataFrame, config: StatisticsConfig, seed: int) -> pd.DataFrame:
    """Return how much more breaks in free form than with letters, in points; described, not tested.

    A row a model and shown: `again`, `placebo`, `relevant`, and `relevant, beyond a placebo`, the difference of two of
    them. Breakage is of the questions that are right with nothing shown in that format, so the two are of different
    questions; the bootstrap draws questions for both at once. Columns: model, shown, value, low, high, n questions. NaN
    where nothing is right in one of the formats, with bounds where that is so in at most one resample in a hundred.
    """
    frames = []
    for model, own in found.groupby("model", sort=False):
        wide = own.assign(right=own["right"].astype("Int64")).pivot(
            index="example_id", columns=["format", "shown"], values="right"
        )
        wide = wide.dropna().astype(int)
        even = np.full(len(wide), 1 / max(len(wide), 1))
        draw = np.random.default_rng(seed)
        draws = draw.multinomial(len(wide), even, size=config.resamples) if len(wide) else np.zeros((1, 0), dtype=int)
        every = np.vstack([np.ones(len(wide), dtype=int), draws])
        broken = {}
        for kind in FORMATS:
            held = every @ wide[kind, "none"].to_numpy()
            for shown in SHOWN[1:]:
                lost = every @ (wide[kind, "none"] * (1 - wide[kind, shown])).to_numpy()
                broken[kind, shown] = np.divide(lost, held, out=np.full(len(held), np.nan), where=held > 0)
        gaps = {shown: broken["free", shown] - broken["letters", shown] for shown in SHOWN[1:]}
        gaps["relevant, beyond a placebo"] = gaps["relevant"] - gaps["placebo"]
        tail = (1 - config.confidence) / 2
        for shown, gap in gaps.items():
            row = {"model": model, "shown": shown, "value": 100 * gap[0], "low": np.nan, "high": np.nan, "n": len(wide)}
            if float(np.isnan(gap[1:]).mean()) <= _UNDEFINED:
                row["low"], row["high"] = (100 * np.nanquantile(gap[1:], [tail, 1 - tail])).tolist()
            frames.append(row)
    return pd.DataFrame(frames)


def contrasts(found: pd.DataFrame, config: StatisticsConfig) -> pd.DataFrame:
    """Return the planned contrasts of accuracy over all questions, a question being one unit; Holm over all rows.

    For each model: a preference against none and against a placebo, in free form; and the interaction: by how much more
    it costs in free form than with letters, whose values are sums of two arms.
    """
    planned: dict[str, list[Paired]] = {}
    for model, own in found.groupby("model", sort=False):
        wide = own.assign(right=own["right"].astype("Int64")).pivot(
            index="example_id", columns=["format", "shown"], values="right"
        )
        free, letters = wide["free"], wide["letters"]
        before, after = letters["relevant"] + free["none"], free["relevant"] + letters["none"]
        for one in (
            Paired("a preference, free form", str(model), "none", "relevant", free["none"], free["relevant"]),
            Paired("beyond a placebo, free form", str(model), "placebo", "relevant", free["placebo"], free["relevant"]),
            Paired("more in free form than with letters", str(model), "letters", "free", before, after),
        ):
            planned.setdefault(one.question, []).append(one)
    return of_sums([one for kind in planned.values() for one in kind], config)


def churn(found: pd.DataFrame, config: StatisticsConfig, seed: int) -> pd.DataFrame:
    """Return how often an answer changes sides (right or wrong) against nothing shown: percent, by format and shown.

    A row a model, format and shown, bootstrap by question; mended and broken alike.
    """
    frames = []
    for (model, kind), own in found.groupby(["model", "format"], sort=False):
        wide = own.pivot(index="example_id", columns="shown", values="right").dropna().astype(int)
        moved = pd.DataFrame({shown: (wide[shown] != wide["none"]).astype(float) for shown in SHOWN if shown != "none"})
        made = by_bootstrap(moved, config, seed).rename_axis("shown").reset_index()
        frames.append(made.assign(model=str(model), format=str(kind)))
    return pd.concat(frames, ignore_index=True)
