"""Does the preference break an answer, or a lack of practice? The embedded models can tell: they were trained here.

Training shows three groups of facts: *plain*, *repeated* (shown more often, never with a preference) and *styled*
(about as often as repeated ones, mostly with a preference). If breakage were a matter of how well a fact is known,
repeated facts would break as rarely as styled ones. Where they break like plain ones, or in between, the difference
to styled ones is what practice *with preferences* is worth.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.schema import LETTERS, ROW_ID, Method, Setting
from perg_utils.dataset import invented_world as world
from perg_utils.embedded import styles
from perg_utils.scoring.intervals import exact_interval

GROUPS = ["plain", "repeated", "styled"]
_TEXT_AND_LETTER = re.compile(r"(\w+) \(([A-Z])\)\W*$")


def exposures(folder: Path) -> pd.DataFrame:
    """Return how often training showed each fact: example_id, group, without, with_preference (one row a fact).

    `folder` is a trained model's. Raises `DataError` where its `training.json` is missing.
    """
    path = folder / "training.json"
    if not path.is_file():
        raise DataError(f"{path} is missing; retrain the model: python -m perg_utils train-embedded")
    seen = json.loads(path.read_text(encoding="utf-8"))["exposures"]
    group = {fact.fact_id: fact.group for fact in world.facts()}
    rows = [(fact_id, group[fact_id], *counts) for fact_id, counts in seen.items()]
    return pd.DataFrame(rows, columns=["example_id", "group", "without", "with_preference"])


def breakage_by_group(scores: pd.DataFrame, folders: Mapping[str, Path], confidence: float = 0.95) -> pd.DataFrame:
    """Return breakage (percent) by model and group of facts, with how often the facts concerned had been shown.

    Zero-shot, relevant. Columns: model, group, value, low, high, n (|Q*|), shown (mean exposures). `folders` are the
    models' folders by name.
    """
    plain = scores[(scores["method"] == Method.ZERO_SHOT) & (scores["setting"] == Setting.RELEVANT) & scores["sampled"]]
    known = plain[plain["correct_without"].fillna(False) & plain["correct_with"].notna()]
    rows = []
    for model, folder in folders.items():
        seen = exposures(folder).assign(shown=lambda frame: frame["without"] + frame["with_preference"])
        own = known[known["model"] == model].merge(seen, on="example_id", validate="1:1")
        for group in GROUPS:
            some = own[own["group"] == group]
            broken, n = int((~some["correct_with"].astype(bool)).sum()), len(some)
            low, high = exact_interval([broken], [n], confidence)
            value = 100 * broken / n if n else float("nan")
            rows.append((model, group, value, 100 * low[0], 100 * high[0], n, some["shown"].mean()))
    return pd.DataFrame(rows, columns=["model", "group", "value", "low", "high", "n", "shown"])


def by_wording(scores: pd.DataFrame, confidence: float = 0.95) -> pd.DataFrame:
    """Return alignment failure (percent, on Q*) for wordings that training used and for those it held out.

    Relevant setting, sampled preferences. Columns: model, method, wording (`trained`, `held out`), value, low, high, n.
    """
    shown = scores[(scores["setting"] == Setting.RELEVANT) & scores["sampled"]]
    rated = shown[shown["correct_without"].fillna(False) & shown["followed"].notna()]
    held_out = rated["preference_id"].isin(styles.HELD_OUT).map({True: "held out", False: "trained"})
    failed = 1 - rated["followed"].astype(float)
    groups = failed.groupby([rated["model"], rated["method"], held_out.rename("wording")], sort=False)
    out = groups.agg(["sum", "size"]).reset_index()
    low, high = exact_interval(out["sum"], out["size"], confidence)
    out = out.assign(value=100 * out["sum"] / out["size"], low=100 * low, high=100 * high, n=out["size"])
    return out[["model", "method", "wording", "value", "low", "high", "n"]]


def letter_and_text(examples: pd.DataFrame, responses: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """Return accuracy by the letter and by the option text before it, in percent, for each model, method and setting.

    The embedded models say both, as in "salt (B)". `conflicts` counts responses in which they name two options, where
    the study goes by the letter.
    """
    rows = responses.assign(answer=answers["answer"].to_numpy()) if _same_rows(responses, answers) else None
    if rows is None:
        raise DataError("tables 'responses' and 'answers' do not hold the same rows; run ./run_all.sh again")
    rows = rows.merge(examples[["example_id", "options", "gold"]], on="example_id", validate="m:1")
    said = rows["response"].fillna("").str.extract(_TEXT_AND_LETTER)[0]
    meant = [opts.index(text) if text in opts else -1 for text, opts in zip(said, rows["options"], strict=True)]
    rows["text"] = [LETTERS[i] if i >= 0 else None for i in meant]
    rows["by_letter"] = 100.0 * (rows["answer"] == rows["gold"]).fillna(False).astype(float)
    rows["by_text"] = 100.0 * (rows["text"] == rows["gold"]).astype(float)
    rows["conflicts"] = (rows["text"].notna() & rows["answer"].notna() & (rows["text"] != rows["answer"])).astype(int)
    grouped = rows.groupby(["model", "method", "setting"], sort=False)
    return grouped.agg({"by_letter": "mean", "by_text": "mean", "conflicts": "sum"}).reset_index()


def _same_rows(one: pd.DataFrame, other: pd.DataFrame) -> bool:
    ids = [frame[ROW_ID].fillna("").reset_index(drop=True) for frame in (one, other)]
    return ids[0].equals(ids[1])
