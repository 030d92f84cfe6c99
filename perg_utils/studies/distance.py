"""Semantic distance: how far a preference moves a response, and whether distance goes with breakage.

Distances are 1 minus the cosine of sentence vectors (an embedder's, or weighted words), of what is left of a response
without its answer: sentences that name an option or its letter are taken out, or a broken answer would be far by
itself. Not in the paper, which names distance as an explanation (mechanism 2) and does not measure it.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from perg_utils.core.profile import StatisticsConfig
from perg_utils.core.run import Run
from perg_utils.core.schema import Method, Setting, ordered
from perg_utils.studies.contrasts import by_bootstrap
from perg_utils.studies.gate import vectors

_SENTENCE = re.compile(r"(?<=[.!?])\s+|\n+")
#: A letter that stands for an option.
_LETTER = re.compile(r"\([A-Z]\)|\b[A-Z][.):]|\boption [A-Z]\b|\banswer\b|\b[A-Z]$")


def without_answer(response: str, options: Sequence[str], *, sentences: bool = True) -> str:
    """Return a response without the sentences that name an option, its letter or "the answer".

    Without `sentences` only the options' words and letters are taken out: the embedded models say no sentence that
    names no option.

    >>> without_answer("Salt keeps food. In short, it is salt (B). Think of the sea.", ["iron", "salt"])
    'Think of the sea.'
    """
    named = [option.casefold().strip(" .") for option in options]
    if not sentences:
        text = _LETTER.sub(" ", response)
        for option in sorted(filter(None, named), key=len, reverse=True):
            text = re.sub(rf"\b{re.escape(option)}\b", " ", text, flags=re.IGNORECASE)
        return " ".join(text.split())
    kept = []
    for sentence in _SENTENCE.split(response):
        low = sentence.casefold()
        if sentence.strip() and not _LETTER.search(sentence.strip()) and not any(o and o in low for o in named):
            kept.append(sentence.strip())
    return " ".join(kept)


def pairs_of_run(run: Run) -> pd.DataFrame:
    """Return text pairs of a run, setting relevant: a plain answer against the aligned one and against zero_shot's.

    Columns: model, example_id, kind (`aligned`, `zero_shot`), one, other (texts without their answers), left: whether
    both have text left.
    """
    responses = run.read("responses")
    options = run.read("examples").set_index("example_id")["options"]
    there = responses[responses["response"].notna()]
    plain = there[(there["method"] == Method.NO_PREFERENCE) & (there["setting"] == Setting.NONE)]
    drafts = plain.set_index(["model", "example_id"])["response"]
    parts = []
    for method, kind in ((Method.PREF_ALIGNER, "aligned"), (Method.ZERO_SHOT, "zero_shot")):
        own = there[(there["method"] == method) & (there["setting"] == Setting.RELEVANT)]
        for row in own[["model", "example_id", "response"]].to_dict("records"):
            draft = drafts.get((row["model"], row["example_id"]))
            if isinstance(draft, str):
                known, whole = options[row["example_id"]], not run.invented
                texts = [without_answer(text, known, sentences=whole) for text in (draft, row["response"])]
                at = {"model": row["model"], "example_id": row["example_id"], "kind": kind}
                parts.append(at | {"one": texts[0], "other": texts[1], "left": all(texts)})
    found = pd.DataFrame(parts, columns=["model", "example_id", "kind", "one", "other", "left"])
    return ordered(found, ["model"], [model.name for model in run.profile.models]).reset_index(drop=True)


def measured(pairs: pd.DataFrame, embedder: str | None) -> pd.DataFrame:
    """Return the pairs that have text left, with `distance` (0 to 2)."""
    left = pairs[pairs["left"]].reset_index(drop=True)
    texts = list(dict.fromkeys([*left["one"], *left["other"]]))
    at = {text: number for number, text in enumerate(texts)}
    held = vectors(texts, embedder)
    one, other = (held[[at[text] for text in left[name]]] for name in ("one", "other"))
    return left.assign(distance=1 - (one * other).sum(axis=1) if len(left) else [])


def moved(found: pd.DataFrame, config: StatisticsConfig, seed: int) -> pd.DataFrame:
    """Return the mean distance of each kind, and zero_shot's less the aligned one's on the same questions.

    A row a model and kind: value, low, high (hundredths of a cosine, bootstrap by question), n.
    """
    frames = []
    for model, own in found.groupby("model", sort=False):
        wide = own.pivot(index="example_id", columns="kind", values="distance").dropna()
        if {"aligned", "zero_shot"} <= set(wide):
            wide["zero_shot less aligned"] = wide["zero_shot"] - wide["aligned"]
            made = by_bootstrap(wide, config, seed).rename_axis("kind").reset_index()
            frames.append(made.assign(model=model))
    return pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["model", "kind", "value"])


def pairs_of_release(run: Run, model: str, questions: int, preferences: int, seed: int) -> pd.DataFrame:
    """Return text pairs of a model that was asked each question with many preferences, and whether the letter changed.

    `plain to preferred`: the plain response and each of so many others, on questions that are right without a
    preference (a change is a break). `preferred to preferred`: the same responses, two by two; their changes cannot be
    a preference's against none, so they are the negative control. Columns as `pairs_of_run`, and `changed`.
    """
    responses, scores = run.read("responses"), run.read("scores")
    answers = run.read("answers")
    keys = ["example_id", "preference_id", "model", "method", "setting"]
    own = scores[
        (scores["model"] == model) & (scores["method"] == Method.ZERO_SHOT) & (scores["setting"] == Setting.RELEVANT)
    ]
    own = own[own["correct_without"].fillna(False).astype(bool) & own["correct_with"].notna()]
    own = own.merge(responses[[*keys, "response"]], on=keys).merge(answers[[*keys, "answer"]], on=keys)
    own = own[own["response"].notna()]
    plain = responses[
        (responses["model"] == model) & (responses["method"] == Method.NO_PREFERENCE) & responses["response"].notna()
    ]
    said = dict(zip(plain["example_id"], plain["response"], strict=True))
    ids = sorted(set(own["example_id"]) & set(said))
    chosen = set(random.Random(seed).sample(ids, min(questions, len(ids))))
    own = own[own["example_id"].isin(chosen)].sample(frac=1, random_state=seed).groupby("example_id").head(preferences)
    options = run.read("examples").set_index("example_id")["options"]
    rows = []
    for example, some in own.groupby("example_id"):
        texts = [without_answer(text, options[example]) for text in some["response"]]
        first = without_answer(said[example], options[example])
        broke = [not right for right in some["correct_with"].astype(bool)]
        letters = list(some["answer"].astype(object).where(some["answer"].notna(), None))
        at = {"model": model, "example_id": example}
        for text, changed in zip(texts, broke, strict=True):
            kind = {"kind": "plain to preferred", "one": first, "other": text, "changed": changed}
            rows.append(at | kind | {"left": bool(first and text)})
        for n in range(0, len(texts) - 1, 2):
            kind = {"kind": "preferred to preferred", "one": texts[n], "other": texts[n + 1]}
            rows.append(at | kind | {"changed": letters[n] != letters[n + 1], "left": bool(texts[n] and texts[n + 1])})
    return pd.DataFrame(rows)


def conditional(found: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Return odds ratios of a changed letter for 0.1 more distance, within questions (conditional logit, statsmodels).

    A row a kind of pair: value, low, high, `n` pairs, `questions` in which some letters changed and some did not: only
    these tell. NaN where there are none.
    """
    from scipy.stats import norm  # noqa: PLC0415
    from statsmodels.discrete.conditional_models import ConditionalLogit  # noqa: PLC0415 - slow to import

    rows = []
    for kind, own in found.groupby("kind", sort=False):
        spread = own.groupby("example_id")["changed"].transform("nunique") > 1
        some = own[spread]
        row = {"kind": kind, "value": np.nan, "low": np.nan, "high": np.nan, "n": len(some)}
        row["questions"] = some["example_id"].nunique()
        if len(some):
            codes = pd.Categorical(some["example_id"]).codes
            fit = ConditionalLogit(
                some["changed"].to_numpy(float), 10 * some[["distance"]].to_numpy(float), groups=codes
            ).fit(disp=False)
            reach = float(norm.ppf(1 - (1 - confidence) / 2)) * float(fit.bse[0])
            row |= {"value": float(np.exp(fit.params[0]))}
            row |= {"low": float(np.exp(fit.params[0] - reach)), "high": float(np.exp(fit.params[0] + reach))}
        rows.append(row)
    return pd.DataFrame(rows)
