"""Truth for extractors: genuine responses and the labels that a language model gave them.

The released responses (paper, section 4) carry the letters of the original extractor, which are no truth. `draw` took
342 preference-conditioned responses where that letter and the rules agree, differ, or are missing; `draw_more` took 400
further ones of the stratum in which the two agree, where most responses are and an error counts most. Both were made
with the rules of commit cabae32; the strata are theirs.

**Model-labelled, not by people.** A language model labelled each response in two passes, seeing question, options and
response, and neither letters nor right answers; a third pass settled what the two disagreed on. The first pass of the
342 was by the model that also wrote the rules. Both passes of the 400 were by one language model in one sitting, in
two orders, and it knew that the two extractors agree on them, so these passes are less apart. No person has checked a
label. Where a letter stands beside another option's text (note LT), labels of the 342 follow the letter; the one such
label of the 400 follows the text, which counts as an error of the rules.

`data/extraction_gold.csv` keeps keys and labels, never a text:

    file, row (from 0), profile   which response: `profile` is a number in a wide file (0: without), else "preference"
    label_a, label_b, label       the two passes and the settled one: a letter of the options (in the file's order),
                                  X no option is right, Y refusal, Z undecided, several or broken off
    note                          the difficulty, see `NOTES`
    stratum, weight               where it was drawn, and how many responses of the sample it stands for (`shared_out`)

Left out: the responses themselves, which the user downloads (`published.files`); how right extractors are (`accuracy`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.profile import ROOT
from perg_utils.core.schema import LETTERS
from perg_utils.published.files import describe, find, load_manifest
from perg_utils.published.layouts import Layout, parse_options, read_letter, read_rows

GOLD = ROOT / "data" / "extraction_gold.csv"
#: Where released files are looked for, the first of these that exists: in the repository, and beside it.
FOLDERS = (ROOT / "data" / "published", ROOT.parent / "shared" / "real" / "published_sample")
KEY = ["file", "row", "profile"]
NOTES = {
    "-": "one plain statement",
    "LT": "letter and text disagree",
    "SC": "corrects or contradicts itself",
    "IM": "implied, in words of its own",
    "TX": "by the option's text only",
    "SV": "several options named as right",
    "CO": "broken off",
    "NO": "no option is right",
    "RE": "refusal",
    "OT": "other",
}
#: Responses that `draw` takes a stratum.
STRATA = {"agree": 110, "differ": 110, "rules_silent": 60, "only_rules": 30, "neither": 30}

#: From a response and its options to a letter or None.
Extractor = Callable[[str, Sequence[str]], str | None]


def load_gold(path: Path = GOLD) -> pd.DataFrame:
    """Return the labels, e.g. 742 rows; `truth` is the settled letter, null where the response names no option."""
    gold = pd.read_csv(path, dtype={"row": int, "weight": float, "profile": str}, keep_default_na=False)
    return gold.assign(truth=gold["label"].where(~gold["label"].isin(["X", "Y", "Z"])))


def with_responses(gold: pd.DataFrame, responses: pd.DataFrame) -> pd.DataFrame:
    """Return the labels with the responses they are of. Raises `DataError` where one of these is missing.

    Without any response (no released file is at hand) there is no row.
    """
    if responses.empty:
        gold = gold.head(0)
    found = gold.merge(responses, on=KEY, how="left", validate="one_to_one")
    lacking = found["response"].isna()
    if lacking.any():
        raise DataError(f"{lacking.sum()} labelled responses are not there, e.g. of {found['file'][lacking].iloc[0]}")
    return found


def released(folder: Path) -> pd.DataFrame:
    """Return every response of the released files below `folder` that is not empty, one a row.

    Columns: KEY, model, method, source, question, options (list), response, original (the released letter, null where
    it is no letter of an option). `profile` is the number of a wide file's preference (0: without), else
    preference or none.
    """
    paths, _ = find(folder, load_manifest().iloc[:0])
    parts = []
    for name, path in paths.items():
        about, rows = describe(name), read_rows(path)
        frame = rows.frame
        options = [list(parse_options(text)) for text in frame["options"]]
        for columns in rows.responses:
            wide = str(columns.number) if rows.layout is Layout.WIDE else "none"
            letters = [read_letter(raw, len(o)).index for raw, o in zip(frame[columns.answer], options, strict=True)]
            part = frame[["row", "question"]].assign(
                file=name,
                profile="preference" if columns.number is None else wide,
                model=about.model,
                method=str(about.method),
                source=frame["source"].where(frame["source"] != "", str(about.source or "")),
                options=pd.Series(options, index=frame.index, dtype=object),
                response=frame[columns.response],
                original=pd.Series([None if i is None else LETTERS[i] for i in letters], frame.index, dtype=object),
            )
            parts.append(part[part["response"].str.strip() != ""])
    out = pd.concat(parts, ignore_index=True)
    known = out[out["source"] != ""].drop_duplicates("question").set_index("question")["source"]
    return out.assign(source=out["source"].where(out["source"] != "", out["question"].map(known).fillna("?")))


def at_hand(folders: Iterable[Path] = FOLDERS) -> pd.DataFrame:
    """Return the responses below the first of `folders` that exists, as `released` does; no row where none exists."""
    folder = next((folder for folder in folders if folder.is_dir()), None)
    columns = ["row", "question", "file", "profile", "model", "method", "source", "options", "response", "original"]
    return pd.DataFrame(columns=columns) if folder is None else released(folder)


def draw(responses: pd.DataFrame, read: Extractor, seed: int = 5) -> pd.DataFrame:
    """Return the preference-conditioned rows to be labelled, in random order, with `stratum` and `weight`.

    The strata are those of `STRATA`, by what `original` and `read` say. Within a stratum every group of model, method
    and source gets a share by the square root of its size, so that no file dominates. No question is drawn twice.
    """
    random = np.random.default_rng(seed)
    rows = responses[~responses["profile"].isin(["0", "none"])].copy()
    rows["read"] = [read(r, o) for r, o in zip(rows["response"], rows["options"], strict=True)]
    rows["stratum"] = _strata(rows)
    rows = rows.iloc[random.permutation(len(rows))]
    taken: set[str] = set()
    parts = []
    for stratum, size in sorted(STRATA.items(), key=lambda item: int((rows["stratum"] == item[0]).sum())):
        groups = list(rows[rows["stratum"] == stratum].groupby(["model", "method", "source"], sort=True))
        share = np.sqrt([len(group) for _, group in groups])
        counts = np.maximum(1, np.floor(share / share.sum() * size + 0.5)).astype(int)
        for (_, group), count in zip(groups, counts, strict=True):
            new = group[~group["question"].isin(taken)].drop_duplicates("question").head(count)
            taken.update(new["question"])
            if len(new):
                parts.append(new.assign(weight=len(group) / len(new)))
    drawn = pd.concat(parts)
    return drawn.iloc[random.permutation(len(drawn))].reset_index(drop=True)


def held_out(question: str) -> bool:
    """Whether a question is of the half (by a hash of its text) that the rules were not developed on."""
    return int(hashlib.md5(question.encode(), usedforsecurity=False).hexdigest(), 16) % 2 == 1


def draw_more(
    responses: pd.DataFrame,
    read: Extractor,
    gold: pd.DataFrame,
    *,
    stratum: str = "agree",
    count: int = 400,
    seed: int = 11,
) -> pd.DataFrame:
    """Return `count` further rows of one stratum, in random order, each of its rows as likely as any other.

    Drawn among the responses to questions that are `held_out` and that are not in `gold` yet. `read` must be what the
    stratum was made with. Columns as `draw`, without weight (`shared_out`). Raises `DataError` where there are fewer.
    """
    rows = responses[~responses["profile"].isin(["0", "none"]) & responses["question"].map(held_out)].copy()
    rows["read"] = [read(r, o) for r, o in zip(rows["response"], rows["options"], strict=True)]
    rows = rows.assign(stratum=_strata(rows)).query("stratum == @stratum")
    rows = rows[~pd.MultiIndex.from_frame(rows[KEY]).isin(pd.MultiIndex.from_frame(gold[KEY]))]
    if len(rows) < count:
        raise DataError(f"stratum {stratum!r} has {len(rows)} responses left to draw, wanted are {count}")
    return rows.sample(count, random_state=np.random.default_rng(seed)).reset_index(drop=True)


def shared_out(gold: pd.DataFrame, responses: pd.DataFrame) -> pd.DataFrame:
    """Return the labels with each group's weight shared evenly among its rows, those of `draw_more` (null) included.

    The group is that of `draw` (stratum, model, method, source). E.g. weights 60, 60, null, null become 30 each.
    """
    known = with_responses(gold, responses)
    weights = known.groupby(["stratum", "model", "method", "source"])["weight"]
    return gold.assign(weight=(weights.transform("sum") / weights.transform("size")).round(4).to_numpy())


def _strata(rows: pd.DataFrame) -> list[str]:
    original, read = rows["original"].notna(), rows["read"].notna()
    names = np.where(original & read, "differ", np.where(original, "rules_silent", np.where(read, "only_rules", "")))
    names = np.where(rows["original"] == rows["read"], "agree", np.where(names == "", "neither", names))
    return [str(name) for name in names]
