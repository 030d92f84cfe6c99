"""Labelled responses for the fine-tuned reader of answers, made by rule (in place of the paper's labelled ones).

The options are those of the study's questions, but which of them a response chooses is drawn at random and the right
answer is never looked at: a reader can learn to read from these responses, and nothing else. They come in equal shares
of each kind of `wordings`, some with a sentence before or after that decides nothing.

Left out: languages other than English, mistakes of spelling, and answers that take knowledge to be understood.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ..errors import DataError
from ..schema import LETTERS
from .wordings import CLOSINGS, KINDS, MOST_OPTIONS, OPENINGS, Kind

#: The parts of the wordings.
Part = Literal["train", "check", "test"]
_WORDS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh")
PLACES = (*_WORDS, *(f"{n}th" for n in range(len(_WORDS) + 1, 21)), "21st", "22nd", "23rd")
_ALTERNATIVES = re.compile(r"\[([^\]]*)\]")


@dataclass(frozen=True, slots=True)
class Sample:
    """A response, its options, and the label that a reader should give it: a letter, X, Y or Z (see `wordings`)."""

    response: str
    options: tuple[str, ...]
    label: str
    kind: str


class Corpus:
    """A seeded stream of labelled responses, e.g. `next(Corpus(options, seed=1).stream("train"))`.

    `options` are the option lists of questions. Raises `DataError` where they are too few to draw from.
    """

    def __init__(self, options: Sequence[Sequence[str]], seed: int) -> None:
        self._options = [tuple(o) for o in options if 2 <= len(set(o)) == len(o) <= MOST_OPTIONS]
        if len(set(self._options)) < 2:
            raise DataError("the reader of answers is trained on the options of several questions; there are not two")
        self._rng = random.Random(f"extractor:{seed}")

    def stream(self, part: Part) -> Iterator[Sample]:
        """Yield samples of one part of the wordings for ever, every kind as often."""
        while True:
            kind = self._rng.choice(KINDS)
            yield self._sample(kind, self._rng.choice(getattr(kind, part)))

    def take(self, part: Part, n: int) -> list[Sample]:
        """Return the next `n` samples of a part."""
        return list(itertools.islice(self.stream(part), n))

    def _sample(self, kind: Kind, wording: str) -> Sample:
        rng = self._rng
        options = list(rng.choice(self._options))
        rng.shuffle(options)  # in the study's order a text would tell its letter
        chosen, other = rng.sample(range(len(options)), 2)
        rest = [text for place, text in enumerate(options) if place != chosen]
        rng.shuffle(rest)
        last = chosen == len(options) - 1 and rng.random() < 0.5
        slots = {
            "text": options[chosen],
            "letter": LETTERS[chosen],
            "place": "last" if last else PLACES[chosen],
            "other": options[other],
            "other_letter": LETTERS[other],
            "rest": " and ".join([", ".join(rest[:-1]), rest[-1]] if len(rest) > 1 else rest),
            "alien": self._alien(options),
        }
        sentences = [rng.choice(OPENINGS)] if rng.random() < 0.3 else []
        sentences.append(_ALTERNATIVES.sub(lambda found: rng.choice(found[1].split("|")), wording))
        sentences += [rng.choice(CLOSINGS)] if rng.random() < 0.2 else []
        response = " ".join(sentences).format(**slots)
        return Sample(response, tuple(options), kind.label or LETTERS[chosen], kind.name)

    def _alien(self, options: Sequence[str]) -> str:
        for _ in range(1000):
            text = self._rng.choice(self._rng.choice(self._options))
            if text not in options:
                return text
        raise DataError("the questions all have the same options; the reader of answers cannot be trained on them")
