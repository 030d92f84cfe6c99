"""Which stage of Pref-Aligner fails: what became of every question, and how much each stage is to blame.

A run of profile `study_stages` holds Pref-Aligner as the paper has it, and interventions on it: a draft that names the
right option or a wrong one (`editing.draft`), the relevant preference alone in place of it among irrelevant ones (an
oracle that filters, settings relevant and mixed), other aligners, the order to keep the letter on and off. Everything
here is worked out from the tables of such a run; no model is asked.

The shares are Shapley's: of the failures in the setting mixed, what each stage is to blame for, averaged over all
orders in which the stages could be mended. Draft and relevance are mended by the interventions and measured; delivery,
keeping and following are mended on paper, by putting the draft's letter where it was lost or changed and by counting
the preference as followed. Without the setting mixed they are shares of the failures in relevant, and relevance has
none. Not in the paper.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import combinations
from math import factorial
from typing import Any

import numpy as np
import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.profile import ModelConfig, Profile
from perg_utils.core.run import Run
from perg_utils.core.schema import LETTERS, RELEVANT_SHOWN, ROW_ID, Arm, Method, Setting, ordered
from perg_utils.extraction.answers import extract_answer
from perg_utils.studies.contrasts import Contrast, by_bootstrap, share

#: What can become of a question, in the order in which it is asked for; the last two are robust.
CLASSES = (
    "draft wrong",
    "unreadable or cut",
    "letter lost",
    "letter changed",
    "unchanged",
    "edited, not followed",
    "irrelevant one obeyed",
    "robust",
)
#: The stages that share the blame, in the order of the pipeline.
STAGES = ("draft", "relevance", "delivery", "keeping", "following")
_WORD = re.compile(r"[a-z]{4,}")
_JOIN = ["example_id", "model", "setting"]


def edits(run: Run) -> pd.DataFrame:
    """Return a row an edited answer of Pref-Aligner: model, setting, example_id, and what each stage made of it.

    `gold`, `draft` and `letter` are the right letter, the draft's and the response's (null: none). `followed` and
    `robust` are the scores' (null: not scored, `followed` also where no relevant preference is shown). `unreadable`:
    the second stage could not be read; `cut`: it ended at the limit; `unchanged`: the response is the draft, but for
    spaces and capitals; `obeyed`: something irrelevant was answered. Where nothing relevant is shown, that is any edit;
    in mixed it is a word of an irrelevant preference (four letters or more) that is in neither draft nor question, and
    not in what the same model wrote for the relevant one alone. Rows without a reply are left out. Raises `DataError`
    where the run has no Pref-Aligner.
    """
    responses, scores = run.read("responses"), run.read("scores")
    own = responses[(responses["method"] == Method.PREF_ALIGNER) & (responses["setting"] != Setting.NONE)]
    own = own[own["response"].notna()]
    if own.empty:
        raise DataError("no response of pref_aligner in this run")
    answers = run.read("answers")
    letters = answers[[*ROW_ID, "answer"]].rename(columns={"answer": "letter"})
    measured = scores[[*ROW_ID, "source", "followed", "robust", "truncated"]]
    out = own.merge(letters, on=ROW_ID, how="left", validate="1:1").merge(
        measured, on=ROW_ID, how="left", validate="1:1"
    )
    plain = answers[answers["method"] == Method.NO_PREFERENCE].set_index(["model", "example_id"])["answer"]
    examples = run.read("examples").set_index("example_id")
    bank = run.read("preferences")
    others: dict[str, str] = dict(
        bank.loc[~bank["relevant"].astype(bool), ["preference_id", "text"]].itertuples(index=False)
    )
    alone = own[own["setting"] == Setting.RELEVANT].set_index(["model", "example_id"])["response"]
    given = {m.name for m in run.profile.models if m.editing is not None and m.editing.draft is not None}
    rows = []
    for row in out.to_dict("records"):
        example, first = examples.loc[row["example_id"]], row["stages"][0]
        if row["model"] in given:
            draft = extract_answer(first, example["options"]).letter
        else:
            draft = plain.get((row["model"], row["example_id"]))
        unchanged = _spoken(first) == _spoken(row["response"])
        irrelevant = [others[i] for i in row["shown_preferences"] if i in others]
        known = f"{first} {example['question']} {' '.join(example['options'])}"
        known += f" {alone.get((row['model'], row['example_id']), '')}"
        echoes = bool(_words(" ".join(irrelevant)) & (_words(row["response"]) - _words(known)))
        obeyed = {Setting.IRRELEVANT: not unchanged, Setting.MIXED: echoes}
        rows.append(
            {
                **{name: row[name] for name in _JOIN},
                "source": row["source"],
                "gold": example["gold"],
                "draft": draft,
                "letter": row["letter"],
                "followed": row["followed"],
                "robust": row["robust"],
                "unreadable": bool(row["fallback"]),
                "cut": bool(row["truncated"]) if pd.notna(row["truncated"]) else False,
                "unchanged": unchanged,
                "obeyed": obeyed.get(row["setting"], False),
            }
        )
    made = ordered(pd.DataFrame(rows), ["model"], [m.name for m in run.profile.models]).reset_index(drop=True)
    for name in ("followed", "robust"):
        made[name] = made[name].astype("boolean")
    for name in ("draft", "letter"):
        made[name] = made[name].astype(object).where(made[name].isin(list(LETTERS)), None)
    return made


def classes(edited: pd.DataFrame) -> pd.DataFrame:
    """Return the rows of `edits` that are scored, with their class in the column `became` (one of `CLASSES`).

    The first reason that holds: a question that is not right fails at the draft, then at the second stage (unreadable
    or cut), then at the letter (lost or changed). One that is right but does not follow a relevant preference fails at
    the second stage, unchanged or edited. An answer edited for an irrelevant preference is robust by the metric, and
    stands apart.
    """
    scored = edited[edited["robust"].notna()].copy()
    right = scored["letter"].notna() & (scored["letter"] == scored["gold"])
    relevant = scored["setting"].isin(RELEVANT_SHOWN)
    robust = scored["robust"].astype(bool)
    unreadable = scored["unreadable"] | scored["cut"]
    tests = [
        ("draft wrong", ~right & (scored["draft"] != scored["gold"])),
        ("unreadable or cut", ~robust & unreadable),
        ("letter lost", ~right & scored["letter"].isna()),
        ("letter changed", ~right),
        ("unchanged", ~robust & relevant & scored["unchanged"]),
        ("edited, not followed", ~robust),
        ("irrelevant one obeyed", scored["obeyed"] & (scored["setting"] != Setting.RELEVANT)),
        ("robust", robust),
    ]
    scored["became"] = np.select([test for _, test in tests], [name for name, _ in tests], default="")
    return scored


def waterfall(classed: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Return the share of each class, a row a model, setting and class: value, low, high (exact, percent), n."""
    rows: list[dict[str, Any]] = []
    for (model, setting), own in classed.groupby(["model", "setting"], sort=False):
        shown = setting in (Setting.MIXED, Setting.IRRELEVANT)
        for name in CLASSES:
            if (name == "irrelevant one obeyed" and not shown) or (
                name in ("unchanged", "edited, not followed") and setting == Setting.IRRELEVANT
            ):
                continue
            at = {"model": model, "setting": setting, "became": name}
            rows.append(at | share(own["became"] == name, confidence))
    return pd.DataFrame(rows)


def carried_over(edited: pd.DataFrame, profile: Profile) -> pd.DataFrame:
    """Return what editors do with a draft's letter, a row a model and setting: percent, exact bounds, n drafts.

    `draft`: own, right or wrong. `fate`: kept; mended (the right letter in place of a wrong one); spoilt (a wrong one
    in place of another); lost. Only drafts that name an option.
    """
    kinds = {m.name: m.editing.draft for m in profile.models if m.editing is not None and m.editing.draft}
    named = edited[edited["draft"].notna()]
    gone, kept = named["letter"].isna(), named["letter"] == named["draft"]
    mended = ~gone & ~kept & (named["letter"] == named["gold"])
    fates = {"kept": kept & ~gone, "mended": mended, "spoilt": ~gone & ~kept & ~mended, "lost": gone}
    rows: list[dict[str, Any]] = []
    for (model, setting), own in named.groupby(["model", "setting"], sort=False):
        for fate, which in fates.items():
            at = {"model": model, "setting": setting, "draft": kinds.get(str(model), "own"), "fate": fate}
            rows.append(at | share(which.loc[own.index], profile.statistics.confidence))
    return pd.DataFrame(rows)


def blame(edited: pd.DataFrame, own: str, right: str) -> pd.DataFrame:
    """Return Shapley's shares of failure, a row a question, a column a stage of `STAGES`; each row sums to its failure.

    `own` is the model that edits its own answers and `right` the one that is given right drafts, both in the settings
    relevant and mixed. The failure of a question is 1 where Pref-Aligner in mixed is not robust, else 0. Where nobody
    was asked in mixed, the failure is that in relevant, and there is no column of relevance. Questions that are not
    scored in all arms are left out. Raises `DataError` where an arm is missing.
    """
    unfiltered = Setting.MIXED if (edited["setting"] == Setting.MIXED).any() else Setting.RELEVANT
    arms: dict[tuple[bool, bool], pd.DataFrame] = {}
    for draft, model in ((False, own), (True, right)):
        for relevance, setting in ((False, unfiltered), (True, Setting.RELEVANT)):
            rows = edited[(edited["model"] == model) & (edited["setting"] == setting)]
            if rows.empty:
                raise DataError(f"no response of {model}, pref_aligner, in {setting}")
            arms[draft, relevance] = rows[rows["robust"].notna()].set_index("example_id")
    common = sorted(set.intersection(*(set(rows.index) for rows in arms.values())))
    held = {key: rows.loc[common] for key, rows in arms.items()}
    value = {
        mended: _robust(held["draft" in mended, "relevance" in mended], mended).astype(float)
        for size in range(len(STAGES) + 1)
        for mended in map(frozenset, combinations(STAGES, size))
    }
    out = pd.DataFrame(0.0, index=pd.Index(common, name="example_id"), columns=list(STAGES))
    for stage in STAGES:
        others = [other for other in STAGES if other != stage]
        for size in range(len(STAGES)):
            weight = factorial(size) * factorial(len(STAGES) - size - 1) / factorial(len(STAGES))
            for mended in map(frozenset, combinations(others, size)):
                out[stage] += weight * (value[mended | {stage}] - value[mended])
    return out if unfiltered == Setting.MIXED else out.drop(columns="relevance")


def _robust(rows: pd.DataFrame, mended: frozenset[str]) -> np.ndarray:
    """Whether each answer would be robust with the stages `mended`."""
    letter, draft = rows["letter"].to_numpy(dtype=object), rows["draft"].to_numpy(dtype=object)
    lost = pd.isna(letter)
    changed = ~lost & ~pd.isna(draft) & (letter != draft)
    back = (lost & ("delivery" in mended)) | (changed & ("keeping" in mended))
    right = np.where(back, draft, letter) == rows["gold"].to_numpy(dtype=object)
    followed = rows["followed"].fillna(False).to_numpy(dtype=bool) | ("following" in mended)
    return np.asarray(right & followed, dtype=bool)


def shares(run: Run, edited: pd.DataFrame) -> pd.DataFrame:
    """Return each model's shares of blame in percent of all questions and of its failures, with bootstrapped bounds.

    Columns: model, stage, value, low, high (of all questions), share, share_low, share_high (of the failures), n.
    """
    config, seed = run.profile.statistics, run.profile.seed
    frames = []
    for model, right in given_drafts(run.profile, "right").items():
        found = blame(edited, model, right)
        both = by_bootstrap(found, config, seed)
        part = by_bootstrap(found, config, seed, of_whole=True).add_prefix("share_").drop(columns="share_n")
        both = both.join(part.rename(columns={"share_value": "share"}))
        frames.append(both.rename_axis("stage").reset_index().assign(model=model))
    made = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame(columns=["model", "stage"])
    return made[["model", *[name for name in made if name != "model"]]]


def own_models(profile: Profile) -> list[str]:
    """Return the models that run all methods: they answer, and edit their own answers as the prompt set says."""
    return [m.name for m in profile.models if m.editing is None and m.aligner in (None, m.name)]


def given_drafts(profile: Profile, kind: str) -> dict[str, str]:
    """Return, for each of `own_models`, the model that edits a given draft in its place, e.g. `{"S": "S.right"}`."""
    return {own: other.name for own, other in _variants(profile) if _draft(other) == kind and other.aligner is None}


def planned(profile: Profile) -> list[Contrast]:
    """Return the contrasts of the study, fixed before it was run; those whose arms the profile has.

    For each model that edits its own answers: a right draft against its own (relevant); an oracle that filters against
    none (relevant against mixed); the order to keep the letter against none (relevant); every other aligner against
    itself (relevant).
    """
    method, relevant, mixed = str(Method.PREF_ALIGNER), str(Setting.RELEVANT), str(Setting.MIXED)
    variants = list(_variants(profile))
    out: dict[str, list[Contrast]] = {}
    for own in own_models(profile):
        arm = Arm(own, method, relevant)
        mine = [other for name, other in variants if name == own]
        keep = {m.editing.keep_letter: m.name for m in mine if m.editing is not None and _draft(m) is None}
        pairs = [("a right draft", own, arm, arm._replace(model=m.name)) for m in mine if _draft(m) == "right"]
        pairs.append(("an oracle that filters", own, arm._replace(setting=mixed), arm))
        if True in keep and False in keep:
            free, ordered_to = (arm._replace(model=keep[state]) for state in (False, True))
            pairs.append(("the order to keep the letter", own, free, ordered_to))
        pairs += [("another editor", m.name, arm, arm._replace(model=m.name)) for m in mine if m.aligner]
        for pair in pairs:
            out.setdefault(pair[0], []).append(Contrast(*pair))
    run = {
        (model.name, str(setting))
        for model in profile.models
        for setting in profile.grid
        if Method.PREF_ALIGNER in profile.methods_for(model, setting)
    }
    every = [one for kind in out.values() for one in kind]
    return [one for one in every if {(arm.model, arm.setting) for arm in (one.arm, one.reference)} <= run]


def crossed(scores: pd.DataFrame, profile: Profile, confidence: float = 0.95) -> pd.DataFrame:
    """Return robust accuracy of every generator with every aligner (relevant): generator, aligner, value, bounds, n."""
    names = {(own, own): own for own in own_models(profile)}
    names |= {(own, m.aligner): m.name for own, m in _variants(profile) if m.aligner and m.editing is None}
    rows = []
    for (generator, editor), name in names.items():
        own = scores[
            (scores["model"] == name)
            & (scores["method"] == Method.PREF_ALIGNER)
            & (scores["setting"] == Setting.RELEVANT)
        ]
        found = share(own["robust"].dropna().astype(bool), confidence)
        rows.append({"generator": generator, "aligner": editor} | found)
    return pd.DataFrame(rows)


def _variants(profile: Profile) -> Sequence[tuple[str, ModelConfig]]:
    """(own model, variant of it) for all models with the weights of one of `own_models` and another way to edit."""
    names = own_models(profile)
    own = {(m.engine, m.model, m.gguf_file, m.revision): m.name for m in profile.models if m.name in names}
    keys = [((m.engine, m.model, m.gguf_file, m.revision), m) for m in profile.models]
    return [(own[key], m) for key, m in keys if key in own and m.name not in names]


def _draft(model: ModelConfig) -> str | None:
    return model.editing.draft if model.editing is not None else None


def _spoken(text: str) -> str:
    return " ".join(text.split()).casefold()


def _words(text: str) -> set[str]:
    return set(_WORD.findall(text.casefold()))
