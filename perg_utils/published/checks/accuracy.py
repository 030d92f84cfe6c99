"""How right an extractor is on the labelled responses: by kind of difficulty, and estimated for all of them.

An extractor is right if it gives the letter of the label, and, where the response names no option, none. The labels
are a language model's (`gold`). The labelled rows were drawn by strata, so shares of all responses are weighted; their
intervals join exact ones of the strata (`weighting`). Shares of the labelled rows of one kind are plain ones, with
exact (Clopper-Pearson) intervals.

On unlabelled responses there is only agreement with the original extractor, which is no accuracy: an extractor without
any error would not reach 100 %. Every table says so in words where no released file is at hand. None holds a text of a
response: only counts and shares.

Left out: the drawing and keeping of the labels (`gold`), errors that both passes of labels share.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from perg_utils.core.schema import LETTERS
from perg_utils.extraction.answers import read_all
from perg_utils.extraction.reading import Layer
from perg_utils.published.checks import weighting
from perg_utils.published.checks.gold import NOTES
from perg_utils.scoring.intervals import exact_interval

#: What is estimated for an extractor, in percent.
ESTIMATES = {
    "precision": "of the letters it gives, those that are right",
    "coverage": "of the responses that name an option, those for which it gives a letter",
    "found": "of the responses that name an option, those for which it gives the right letter",
    "right": "of all responses, those with the right letter, or rightly without one",
}
#: What the tables say where there is nothing to count.
NOTHING = "no released files are at hand"


def read_by_rules(rows: pd.DataFrame) -> pd.DataFrame:
    """Return responses (of `gold.released`) with the rules' letter and the rule: the columns `rules` and `how`."""
    found = read_all(list(zip(rows["response"], rows["options"], strict=True)))
    rules = pd.Series([reading.letter for reading in found], rows.index, dtype=object)
    return rows.assign(rules=rules, how=pd.Series([reading.how for reading in found], rows.index, dtype=object))


def agreement(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how often the rules agree with the original extractor: a row a model, method and source, in percent.

    `speaks`: of the `n` responses with a valid original letter, those for which the rules give a letter; `agrees`: of
    these, those with the same one.
    """
    valid = _valid(rows)
    if valid.empty:
        return _nothing()
    groups = valid.groupby(["model", "method", "source"])
    return groups[["speaks", "agrees"]].mean().assign(n=groups.size()).round(2)


def by_rule(rows: pd.DataFrame) -> pd.DataFrame:
    """Return, for each rule that gave a letter, from the most used: n, and `agrees` with the original, in percent."""
    spoken = _valid(rows).dropna(subset="rules")
    if spoken.empty:
        return _nothing()
    found = spoken.groupby("how").agg(n=("agrees", "size"), agrees=("agrees", "mean"))
    return found.sort_values("n", ascending=False, kind="stable").round(2)


def letters_that_differ(rows: pd.DataFrame) -> pd.DataFrame:
    """Return how often each letter was given where the two differ: a row a letter, columns original and rules."""
    valid = _valid(rows)
    differ = valid[valid["agrees"] == 0]
    if differ.empty:
        return _nothing()
    counts = {name: differ[name].value_counts() for name in ("original", "rules")}
    return pd.DataFrame(counts).reindex(list(LETTERS)).dropna(how="all").fillna(0).astype(int).rename_axis("letter")


def two_passes(truth: pd.DataFrame) -> str:
    """Return in words how far the two passes of labels agree, e.g. `4 responses; the two passes agree on 75.0%, ...`"""
    if truth.empty:
        return NOTHING
    same, chance_free = (truth["label_a"] == truth["label_b"]).mean(), kappa(truth["label_a"], truth["label_b"])
    return f"{len(truth)} responses; the two passes agree on {same:.1%}, kappa {chance_free:.3f}"


def strata(truth: pd.DataFrame) -> pd.DataFrame:
    """Return a row a stratum: responses drawn, how many they stand for, and how many of the drawn name an option."""
    if truth.empty:
        return _nothing()
    groups = truth.groupby("stratum")
    return groups.agg(drawn=("row", "size"), stands_for=("weight", "sum"), names_an_option=("truth", "count")).round(1)


def read_by_layers(truth: pd.DataFrame, layers: Sequence[Layer]) -> pd.DataFrame:
    """Return the labelled responses with what rules and `layers` in turn make of them, in the column `layers`.

    `decided_by` names the layer that decided, `open` where none did.
    """
    found = read_all(list(zip(truth["response"], truth["options"], strict=True)), layers)
    letters = pd.Series([reading.letter for reading in found], truth.index, dtype=object)
    by = [(reading.layer or "open") if reading.decided else "open" for reading in found]
    return truth.assign(layers=letters, decided_by=pd.Series(by, truth.index, dtype=object))


def decided(truth: pd.DataFrame) -> pd.DataFrame:
    """Return how many of the labelled responses each layer decided, of `read_by_layers`: a row a layer, and `open`."""
    return _nothing() if truth.empty else truth["decided_by"].value_counts().to_frame("responses")


def is_right(rows: pd.DataFrame, extractor: str) -> pd.Series:
    """Whether the column `extractor` has the true letter, or none where there is none."""
    none = rows["truth"].isna() & rows[extractor].isna()
    return none | (rows["truth"].notna() & (rows[extractor] == rows["truth"]))


def by_difficulty(rows: pd.DataFrame, extractors: Sequence[str]) -> pd.DataFrame:
    """Return a row a kind of difficulty, and one for all: n, and for each extractor the right ones with their interval.

    Columns: difficulty, n, then for an extractor `rules` rules, rules_low, rules_high (percent).
    """
    if rows.empty:
        return _nothing()
    kinds = [note for note in NOTES if (rows["note"] == note).any()]
    out = []
    for kind in [*kinds, "all"]:
        of_kind = rows if kind == "all" else rows[rows["note"] == kind]
        line: dict[str, object] = {"difficulty": NOTES.get(kind, kind), "n": len(of_kind)}
        for extractor in extractors:
            right = int(is_right(of_kind, extractor).sum())
            low, high = exact_interval(right, len(of_kind))
            line |= {extractor: 100 * right / len(of_kind), f"{extractor}_low": 100 * float(low)}
            line[f"{extractor}_high"] = 100 * float(high)
        out.append(line)
    return pd.DataFrame(out)


def estimates(rows: pd.DataFrame, extractors: Sequence[str], seed: int = 0) -> pd.DataFrame:
    """Return the weighted shares of `ESTIMATES` for each extractor.

    Columns: extractor, share, percent, low and high (95 %, `weighting.limits`), of (what the share is one of).
    """
    if rows.empty:
        return _nothing()
    weight = rows["weight"].to_numpy(dtype=float)
    out = []
    for extractor in extractors:
        named, spoke = rows["truth"].notna().to_numpy(), rows[extractor].notna().to_numpy()
        right = is_right(rows, extractor).to_numpy()
        parts = {
            "precision": (right & spoke, spoke),
            "coverage": (named & spoke, named),
            "found": (named & right, named),
            "right": (right, np.ones_like(right)),
        }
        for share, (part, whole) in parts.items():
            low, high = weighting.limits(rows["stratum"], weight, part, whole, seed)
            out.append((extractor, share, weighting.share(weight, part, whole), low, high, ESTIMATES[share]))
    return pd.DataFrame(out, columns=["extractor", "share", "percent", "low", "high", "of"])


def kappa(one: pd.Series, two: pd.Series) -> float:
    """Return Cohen's kappa of two columns of labels, e.g. 1.0 where they are the same."""
    agree = float((one == two).mean())
    labels = sorted(set(one) | set(two))
    chance = float(sum((one == label).mean() * (two == label).mean() for label in labels))
    return 1.0 if chance == 1 else (agree - chance) / (1 - chance)


def in_words(rows: pd.DataFrame, truth: pd.DataFrame, shares: pd.DataFrame) -> str:
    """Return the sentence of part two: agreement on all responses, and from `estimates` how right each extractor is."""
    valid = _valid(rows)
    if valid.empty or truth.empty:
        return f"{NOTHING}, so nothing is said of genuine responses"
    at = shares.set_index(["extractor", "share"])["percent"]
    named = truth[truth["original"].notna() & truth["truth"].notna()]
    limit = named["weight"][named["truth"] == named["original"]].sum() / named["weight"].sum()
    return (
        f"The rules speak on {valid['speaks'].mean():.1f} % of the responses with a valid original letter and agree on "
        f"{valid['agrees'].mean():.1f} % of these; an extractor without error would agree on {limit:.1%}. Of the "
        f"letters that the original gives {at['original', 'precision']:.1f} % are right, of the rules' "
        f"{at['rules', 'precision']:.1f} %. Read rightly, with or without a letter: "
        f"{at['original', 'right']:.1f} % and {at['rules', 'right']:.1f} %."
    )


def _nothing() -> pd.DataFrame:
    return pd.DataFrame({"result": [NOTHING]})


def _valid(rows: pd.DataFrame) -> pd.DataFrame:
    """The responses with a valid original letter; `speaks` and `agrees` (null where the rules are silent): 0 or 100."""
    valid = rows[rows["original"].notna()]
    spoken = valid["rules"].notna()
    same = (100.0 * (valid["rules"] == valid["original"])).where(spoken)
    return valid.assign(speaks=100.0 * spoken, agrees=same)
