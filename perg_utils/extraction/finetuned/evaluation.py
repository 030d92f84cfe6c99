"""How well the fine-tuned layer reads labelled responses: by kind of template, as a confusion, and how honest it is.

Left out: genuine responses (room `published`, `checks.gold`), on which the embedded world's adapter is silent.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from perg_utils.extraction.answers import extract_answer
from perg_utils.extraction.finetuned.corpus import Sample
from perg_utils.extraction.finetuned.layer import FineTunedLayer
from perg_utils.extraction.finetuned.templates import load_templates
from perg_utils.extraction.reading import NONE, REFUSED, UNDECIDED
from perg_utils.scoring.intervals import exact_interval

#: What a label or a reading comes to, in the order of the confusion.
OUTCOMES = {NONE: "none is right", REFUSED: "refusal", UNDECIDED: "undecided"}


def check(layer: FineTunedLayer, samples: Sequence[Sample], min_confidence: float) -> pd.DataFrame:
    """Return a row a sample: kind, label, read, confidence, sure, right; and of the rules: rules, rules_right, open.

    `sure`: the layer speaks, which takes a confidence of `min_confidence` and a choice that is not *undecided*; it is
    silent on what is too long (read: None). The rules are right where they give the letter, or where there is none and
    they give none. `open`: they leave it undecided, so that it is this layer's turn in the extractor.
    """
    read = layer.choices([(s.response, s.options) for s in samples])
    rules = [extract_answer(s.response, s.options) for s in samples]
    out = pd.DataFrame(
        {
            "kind": [s.kind for s in samples],
            "label": [s.label for s in samples],
            "read": [label for label, _ in read],
            "confidence": [sure for _, sure in read],
            "rules": pd.Series([reading.letter for reading in rules], dtype=object),
            "open": [not reading.decided for reading in rules],
        }
    )
    out["sure"] = (out["confidence"] >= min_confidence) & (out["read"] != UNDECIDED) & out["read"].notna()
    out["right"] = out["read"] == out["label"]
    named = ~out["label"].isin(list(OUTCOMES))
    out["rules_right"] = np.where(named, out["rules"] == out["label"], out["rules"].isna())
    return out


def by_kind(checked: pd.DataFrame) -> pd.DataFrame:
    """Return a row a kind of template, and one for all, in percent.

    Columns: kind, n, right (of all, its most probable choice), speaks, right_where_sure with low and high (exact
    95 % interval; NaN where it never speaks), rules_speak.
    """
    kinds = [kind.name for kind in load_templates().kinds if (checked["kind"] == kind.name).any()]
    lines = []
    for kind in [*kinds, "all"]:
        rows = checked if kind == "all" else checked[checked["kind"] == kind]
        sure = rows[rows["sure"]]
        low, high = exact_interval(int(sure["right"].sum()), len(sure)) if len(sure) else (np.nan, np.nan)
        lines.append(
            {
                "kind": kind,
                "n": len(rows),
                "right": 100 * rows["right"].mean(),
                "speaks": 100 * rows["sure"].mean(),
                "right_where_sure": 100 * sure["right"].mean() if len(sure) else np.nan,
                "low": 100 * float(low),
                "high": 100 * float(high),
                "rules_speak": 100 * rows["rules"].notna().mean(),
            }
        )
    return pd.DataFrame(lines)


def confusion(checked: pd.DataFrame) -> pd.DataFrame:
    """Return how often each label (rows) was read as what (columns), in numbers; `unsure` is what is not said."""
    wanted = checked["label"].map(OUTCOMES).fillna("an option")
    letters = checked["right"].map({True: "the right option", False: "a wrong option"})
    read = checked["read"].map(OUTCOMES).combine_first(letters)
    read = read.where(checked["sure"] | (checked["read"] == UNDECIDED), "unsure")
    rows = ["an option", *OUTCOMES.values()]
    columns = ["the right option", "a wrong option", *OUTCOMES.values(), "unsure"]
    return pd.crosstab(wanted, read).reindex(index=rows, columns=columns, fill_value=0)


def reliability(checked: pd.DataFrame, bins: int = 10) -> pd.DataFrame:
    """Return confidence (mean) against truth (right: share) in `bins` equal parts, with n; empty parts left out."""
    part = np.minimum((checked["confidence"] * bins).astype(int), bins - 1)
    grouped = checked.groupby(part)
    return grouped.agg(confidence=("confidence", "mean"), right=("right", "mean"), n=("right", "size"))


def with_the_rules(checked: pd.DataFrame) -> pd.DataFrame:
    """Return what the rules alone, this layer alone and both in turn make of the responses that choose an option.

    Columns, in percent: speaks (gives a letter), right (of the letters given), found (right letters of all); n.
    """
    rows = checked[~checked["label"].isin(list(OUTCOMES))]
    own = rows["read"].where(rows["sure"] & ~rows["read"].isin(list(OUTCOMES)))
    lines = {"rules": rows["rules"], "fine-tuned": own, "rules, then fine-tuned": rows["rules"].fillna(own)}
    out = {}
    for name, letters in lines.items():
        right = letters == rows["label"]
        share = 100 * right[letters.notna()].mean() if letters.notna().any() else np.nan
        out[name] = {
            "speaks": 100 * letters.notna().mean(),
            "right": share,
            "found": 100 * right.mean(),
            "n": len(rows),
        }
    return pd.DataFrame.from_dict(out, orient="index")


def in_words(checked: pd.DataFrame) -> str:
    """Return what the test comes to: how often the layer speaks and is right, alone and together with the rules."""
    total, opened = (by_kind(rows).set_index("kind").loc["all"] for rows in (checked, checked[checked["open"]]))
    wrong = int(confusion(checked)["a wrong option"].sum())
    both = with_the_rules(checked)
    rules, together = both.loc["rules"], both.loc["rules, then fine-tuned"]
    return (
        f"On templates it has never seen the layer speaks on {total['speaks']:.1f} % and is right in "
        f"{total['right_where_sure']:.1f} % [{total['low']:.1f}, {total['high']:.1f}] of these; {wrong} of "
        f"{len(checked):,} got the letter of a wrong option. Of the {opened['n']:.0f} that the rules leave open it "
        f"speaks on {opened['speaks']:.1f} %, right in {opened['right_where_sure']:.1f} %. Of the responses that "
        f"choose an option the rules find {rules['found']:.1f} %, rules and layer together "
        f"{together['found']:.1f} %, with {together['right']:.1f} % of their letters right."
    )
