"""Truth for the extractor: which genuine responses people read, their labels, and how right a reader of answers is.

The released responses (paper, section 4) carry the letters of the original extractor, which are no truth. `draw` takes
preference-conditioned responses where that letter and the rules agree, differ, or are missing; `data/extraction_gold.csv`
keeps what readers said of them: file, row (from 0) and profile, never a text.

    label   a letter of the options, X no option is right, Y refusal, Z undecided or several
    stratum, weight   where the row was drawn, and how many responses of the sample it stands for

Left out: the responses themselves, which the user downloads (`published_files`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from .published_files import describe, find, load_manifest
from .published_layouts import Layout, parse_options, read_letter, read_rows
from .schema import LETTERS

KEY = ["file", "row", "profile"]
#: Responses drawn a stratum.
STRATA = {"agree": 110, "differ": 110, "rules_silent": 60, "only_rules": 30, "neither": 30}

Reader = Callable[[str, Sequence[str]], str | None]


def released(folder: Path) -> pd.DataFrame:
    """Return every response of the released files below `folder` that is not empty, one a row.

    Columns: KEY, model, method, source, question, options (list), response, original (the released letter, null where
    it is no letter of an option). `profile` is the number of a wide file's arm (0 without preference), else
    preference or none.
    """
    paths, _ = find(folder, load_manifest().iloc[:0])
    parts = []
    for name, path in paths.items():
        about, rows = describe(name), read_rows(path)
        frame = rows.frame
        options = [list(parse_options(text)) for text in frame["options"]]
        for arm in rows.arms:
            wide = str(arm.number) if rows.layout is Layout.WIDE else "none"
            letters = [read_letter(raw, len(o)).index for raw, o in zip(frame[arm.answer], options, strict=True)]
            part = frame[["row", "question"]].assign(
                file=name,
                profile="preference" if arm.number is None else wide,
                model=about.model,
                method=str(about.method),
                source=frame["source"].where(frame["source"] != "", str(about.source or "")),
                options=options,
                response=frame[arm.response],
                original=[None if index is None else LETTERS[index] for index in letters],
            )
            parts.append(part[part["response"].str.strip() != ""])
    out = pd.concat(parts, ignore_index=True)
    known = out[out["source"] != ""].drop_duplicates("question").set_index("question")["source"]
    return out.assign(source=out["source"].where(out["source"] != "", out["question"].map(known).fillna("?")))


def draw(responses: pd.DataFrame, read: Reader, seed: int = 0) -> pd.DataFrame:
    """Return the preference-conditioned rows to be read by people, in random order, with `stratum` and `weight`.

    The strata are those of `STRATA`, by what `original` and `read` say. Within a stratum, every group of model, method,
    source and profile kind gets a share by the square root of its size, so that no file dominates. No question is
    drawn twice.
    """
    random = np.random.default_rng(seed)
    rows = responses[~responses["profile"].isin(["0", "none"])].copy()
    rows["read"] = [read(r, o) for r, o in zip(rows["response"], rows["options"], strict=True)]
    rows["stratum"] = _strata(rows)
    rows = rows.iloc[random.permutation(len(rows))]
    taken: set[str] = set()
    parts = []
    for stratum, size in sorted(STRATA.items(), key=lambda item: (rows["stratum"] == item[0]).sum()):
        of_stratum = rows[rows["stratum"] == stratum]
        groups = list(of_stratum.groupby(["model", "method", "source"], sort=True))
        share = np.sqrt([len(group) for _, group in groups])
        counts = np.maximum(1, np.floor(share / share.sum() * size + 0.5)).astype(int)
        for (_, group), count in zip(groups, counts, strict=True):
            new = group[~group["question"].isin(taken)].drop_duplicates("question").head(count)
            taken.update(new["question"])
            if len(new):
                parts.append(new.assign(weight=len(group) / len(new)))
    drawn = pd.concat(parts)
    return drawn.iloc[random.permutation(len(drawn))].reset_index(drop=True)


def _strata(rows: pd.DataFrame) -> np.ndarray:
    original, read = rows["original"].notna(), rows["read"].notna()
    names = ["differ", "rules_silent", "only_rules", "neither"]
    tests = [original & read & (rows["original"] != rows["read"]), original & ~read, ~original & read,
             ~original & ~read]  # fmt: skip
    return np.select([test.to_numpy() for test in tests], names, "agree")
