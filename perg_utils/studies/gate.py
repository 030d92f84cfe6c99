"""A gate before Pref-Aligner: is a preference one about answers at all, or about something else in a user's life?

Decided for each preference of the bank by its nearest neighbour among all others (leave one out), so that the gate has
never seen the preference itself: by a sentence embedder's vectors, or without one by the words.
"""

from __future__ import annotations

import re
from collections import Counter
from math import log

import numpy as np
import numpy.typing as npt
import pandas as pd

_WORD = re.compile(r"[a-z']+")
#: Words that count where there is no embedder: those in most texts.
_VOCABULARY = 5000


def vectors(texts: list[str], embedder: str | None) -> npt.NDArray[np.float64]:
    """Return a vector of length 1 a text: the embedder's (a hub id or folder), or for None counts of its words.

    A word that is in many texts counts less.
    """
    if embedder is not None:
        from perg_utils.proposals.similar import embed  # noqa: PLC0415 - imports torch

        return embed(texts, embedder).astype(np.float64)
    if not texts:
        return np.zeros((0, 1))
    words = [Counter(_WORD.findall(text.casefold())) for text in texts]
    seen = Counter(word for some in words for word in some)
    known = {word: number for number, (word, _) in enumerate(seen.most_common(_VOCABULARY))}
    held = np.zeros((len(texts), max(len(known), 1)))
    for row, some in enumerate(words):
        for word, count in some.items():
            if word in known:
                held[row, known[word]] = count * log((1 + len(texts)) / (1 + seen[word]))
    size = np.linalg.norm(held, axis=1, keepdims=True)
    return np.divide(held, size, out=np.zeros_like(held), where=size > 0)


def relevant(bank: pd.DataFrame, embedder: str | None) -> pd.DataFrame:
    """Return the bank with `gate`: whether the gate takes each preference for relevant, and `nearest`, its neighbour.

    `bank` is the table 'preferences' (preference_id, text, relevant).
    """
    held = vectors([str(text) for text in bank["text"]], embedder)
    likeness = held @ held.T
    np.fill_diagonal(likeness, -np.inf)
    nearest = likeness.argmax(axis=1)
    return bank.assign(
        gate=bank["relevant"].to_numpy(dtype=bool)[nearest], nearest=bank["preference_id"].to_numpy()[nearest]
    )
