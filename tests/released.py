"""A made-up release in the layouts of the real one: 7,208 invented questions, texts of our own.

`python tests/released.py FOLDER [CONFIGURATIONS]` writes scored files (59 are 425,000 rows) and times an import.
"""

from __future__ import annotations

import ast
import resource
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from perg_utils.core.schema import Source
from perg_utils.core.workspace import Workspace
from perg_utils.published.assignment import FIRST, PREFERENCES, SOURCE_AT, assigned
from perg_utils.published.files import METHODS, MODELS, SETTINGS
from perg_utils.published.importing import import_published

TOP = "results/mcq_results"
HUB = {"TQA": "truthfulqa/truthful_qa", "CQA": "tau/commonsense_qa", "MMLU": "cais/mmlu"}
NO_FILES = pd.DataFrame({"path": [], "git_blob_sha1": []}, dtype=str)


def questions() -> pd.DataFrame:
    """The dataset: question, options (a printed list), source, gold_option, preference."""
    rows = []
    for position, source in enumerate(SOURCE_AT):
        options = [f"thing {(position * 7 + k) % 1000}" for k in range(4)]
        text = f"preference {assigned(position)} of {source}"
        gold = "ABCD"[position % 4]
        rows.append((f"What is it that number {position} is?", str(options), HUB[source], gold, text))
    return pd.DataFrame(rows, columns=["question", "options", "source", "gold_option", "preference"])


def scored(data: pd.DataFrame, seed: int = 0, length: int = 20) -> pd.DataFrame:
    """A scored file: four of five answers right in either arm, ratings 1 to 5."""
    random = np.random.default_rng(seed)
    letters = np.array(list("ABCD"))
    out = data.copy()
    for arm in ("nopref", "pref"):
        wrong = letters[random.integers(0, 4, len(data))]
        answer = np.where(random.random(len(data)) < 0.8, data["gold_option"], wrong)
        out[f"{arm}_res"] = [
            f"I choose {a}. Case {i}, {arm} {seed}. " + "word " * length
            for i, a in zip(data.index, answer, strict=True)
        ]
        out[f"{arm}_answer"] = answer
    out["pref_eval_rating"] = random.integers(1, 6, len(data)).astype(float)
    out["pref_eval_explanation"] = "because"
    return concluded(out)


def concluded(rows: pd.DataFrame) -> pd.DataFrame:
    """Set what a scored file concludes from its letters and ratings, as the release does: no rating, not followed."""
    for arm in ("nopref", "pref"):
        rows[f"{arm}_correct"] = rows[f"{arm}_answer"] == rows["gold_option"]
    rows["followed_pref"] = rows["pref_eval_rating"] >= 3
    rows["is_robust"] = rows["pref_correct"] & rows["followed_pref"]
    return rows


def unscored(rows: pd.DataFrame) -> pd.DataFrame:
    """The same rows in the long layout."""
    names = {"nopref_res": "no_pref_res", "nopref_answer": "no_pref_ans", "pref_answer": "pref_ans"}
    return rows[["question", "options", "nopref_res", "nopref_answer", "pref_res", "pref_answer", "gold_option",
                 "preference"]].rename(columns=names)  # fmt: skip


def wide(data: pd.DataFrame, source: str) -> pd.DataFrame:
    """All rows of a source in the wide layout; profile k answers right but where k divides the position."""
    rows = data[data["source"] == HUB[source]].reset_index(drop=True)
    out = rows[["question", "options"]].copy()
    gold = rows["gold_option"]
    other = gold.map({"A": "B", "B": "C", "C": "D", "D": "A"})
    for k in range(PREFERENCES[Source(source)] + 1):
        wrong = (rows.index % k == 0) if k else np.zeros(len(rows), dtype=bool)
        out[f"profile_{k}_answer"] = gold.where(~wrong, other)
        out[f"profile_{k}_res"] = "It is " + out[f"profile_{k}_answer"]
    return out.assign(gold_option=gold, num_invalid_preds=0)


def put(folder: Path, name: str, frame: pd.DataFrame) -> Path:
    """Write a CSV of the release and return its path."""
    path = folder / (name if name.startswith("data/") else f"{TOP}/{name}")
    path.parent.mkdir(parents=True, exist_ok=True)
    frame.to_csv(path, index=False)
    return path


RELEVANT, MIXED = (f"{s}/direct/full/janus-7b-direct-full" for s in ("relevant", "irrelevant_set"))
TWICE = {"same": (3, 5, 40), "text": (100, 101)}


def repeating(data: pd.DataFrame) -> pd.DataFrame:
    """The dataset with texts that repeat in MMLU: three rows alike, and two with one text and other options."""
    out, base = data.copy(), FIRST[Source.MMLU]
    for name, columns in (("same", ["question", "options", "gold_option"]), ("text", ["question"])):
        at, *others = TWICE[name]
        for other in others:
            for column in columns:
                out.loc[base + other, column] = out.loc[base + at, column]
    return out


def sound(data: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """A release without a fault: zero_shot relevant and mixed, scored and unscored, one baseline for both."""
    relevant, mixed = scored(data, 0), scored(data, 1)
    for name in ("nopref_res", "nopref_answer"):
        mixed[name] = relevant[name]
    files = {f"{RELEVANT}_eval": relevant, f"{MIXED}_eval": concluded(mixed)}
    plain = {name.removesuffix("_eval"): unscored(rows) for name, rows in files.items()}
    plain[MIXED][["no_pref_res", "no_pref_ans"]] = ""  # only relevant files have them
    return {"data/robuset_main": data, **files, **plain}


def put_all(folder: Path, files: dict[str, pd.DataFrame]) -> None:
    """Write the files of a release."""
    for name, frame in files.items():
        put(folder, f"{name}.csv", frame)


def reorder(rows: pd.DataFrame, at: Sequence[int], letters: Sequence[str], seed: int = 5) -> dict[int, str]:
    """Turn the options of rows `at`, with the gold letter and those of the columns `letters`; return the orders."""
    random = np.random.default_rng(seed)
    orders = {}
    for i in at:
        order = "".join(random.permutation(list("ABCD")))
        options = ast.literal_eval(rows.at[i, "options"])
        rows.at[i, "options"] = str([options["ABCD".index(letter)] for letter in order])
        for column in ("gold_option", *letters):
            rows.at[i, column] = "ABCD"[order.index(rows.at[i, column])]
        orders[i] = order
    return orders


def first(source: str) -> int:
    """The first position of a source."""
    return FIRST[Source(source)]


def benchmark(folder: Path, configurations: int) -> None:
    """Write `configurations` scored files below `folder` and import them in this process."""
    data = questions()
    names = [(s, m, x) for x in sorted(MODELS, key=len) for s in SETTINGS for m in METHODS]
    for i, (setting, method, model) in enumerate(names[:configurations]):
        put(folder, f"{setting}/{method}/full/{model}-{method}-full_eval.csv", scored(data, i, length=120))
    before = time.perf_counter()
    with tempfile.TemporaryDirectory() as out:
        found = import_published(folder, Workspace(Path(out), Path(out)), NO_FILES)
    seconds = time.perf_counter() - before
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{found.files['rows'].sum():,} rows: {seconds:.0f} s wall, {time.process_time():.0f} s CPU, {peak:.1f} GiB")


if __name__ == "__main__":
    benchmark(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 59)
