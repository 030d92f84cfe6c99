"""Labelled responses for the fine-tuned layer, made by rule (in place of the paper's labelled ones).

The options are those of the study's questions, but which of them a response chooses is drawn at random and the right
answer is never looked at: a model can learn to read from these responses, and nothing else. They come in equal shares
of each kind of `templates`, some with a sentence before or after that decides nothing, some with the marks of a chat.

Left out: languages other than English, mistakes of spelling, and answers that take knowledge to be understood.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from perg_utils.core.errors import DataError
from perg_utils.core.schema import LETTERS
from perg_utils.extraction.finetuned.templates import ALTERNATIVES, TEXT, Kind, Part, load_templates
from perg_utils.extraction.reading import MOST_OPTIONS, UNDECIDED

_WORDS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth", "eleventh")
ORDINALS = (*_WORDS, *(f"{n}th" for n in range(len(_WORDS) + 1, 21)), "21st", "22nd", "23rd")
#: The ways of writing, besides plainly, and the share of the responses that are written in one of them.
STYLES, STYLED = ("bold", "quoted", "lines", "B.", "B)"), 0.25
_MARKED = re.compile(r"\(([A-Z])\)")


@dataclass(frozen=True, slots=True)
class Sample:
    """A response, its options, and the label that it should be given: a letter, X, Y or Z."""

    response: str
    options: tuple[str, ...]
    label: str
    kind: str


class Corpus:
    """A seeded stream of labelled responses, e.g. `next(Corpus(options, seed=1).stream("train"))`.

    `options` are the option lists of questions; responses of the kinds in `leave` are labelled undecided, whatever they
    choose. Raises `DataError` where the options are too few to draw from, or there is no such kind.
    """

    def __init__(self, options: Sequence[Sequence[str]], seed: int, leave: Sequence[str] = ()) -> None:
        self._templates = load_templates()
        known = [kind.name for kind in self._templates.kinds]
        unknown = sorted(set(leave) - set(known))
        if unknown:
            raise DataError(f"no kind of template is called {unknown}; there are {known}")
        self._leave = frozenset(leave)
        self._options = [tuple(o) for o in options if 2 <= len(set(o)) == len(o) <= MOST_OPTIONS]
        if len(set(self._options)) < 2:
            raise DataError("the extractor is trained on the options of several questions; there are not two")
        self._rng = random.Random(f"extractor:{seed}")

    def stream(self, part: Part, first: int = 0) -> Iterator[Sample]:
        """Yield samples of one part of the templates for ever, every kind as often; the `first` name texts only."""
        kinds = self._templates.kinds
        texts = [kind for kind in kinds if kind.name == TEXT]
        for number in itertools.count():
            kind = self._rng.choice(texts if number < first else kinds)
            yield self._sample(kind, self._rng.choice(getattr(kind, part)))

    def take(self, part: Part, n: int) -> list[Sample]:
        """Return the next `n` samples of a part."""
        return list(itertools.islice(self.stream(part), n))

    def _sample(self, kind: Kind, template: str) -> Sample:
        rng = self._rng
        options = list(rng.choice(self._options))
        rng.shuffle(options)  # in the study's order a text would tell its letter
        chosen, other = rng.sample(range(len(options)), 2)
        rest = [text for number, text in enumerate(options) if number != chosen]
        rng.shuffle(rest)
        last = chosen == len(options) - 1 and rng.random() < 0.5
        slots = {
            "text": options[chosen],
            "letter": LETTERS[chosen],
            "ordinal": "last" if last else ORDINALS[chosen],
            "other": options[other],
            "other_letter": LETTERS[other],
            "rest": " and ".join([", ".join(rest[:-1]), rest[-1]] if len(rest) > 1 else rest),
            "alien": self._alien(options),
        }
        sentences = [rng.choice(self._templates.openings)] if rng.random() < 0.3 else []
        sentences.append(ALTERNATIVES.sub(lambda found: rng.choice(found[1].split("|")), template))
        sentences += [rng.choice(self._templates.closings)] if rng.random() < 0.2 else []
        label = UNDECIDED if kind.name in self._leave else kind.label or LETTERS[chosen]
        style = rng.choice(STYLES) if rng.random() < STYLED else "plain"
        return Sample(write(sentences, slots, style), tuple(options), label, kind.name)

    def _alien(self, options: Sequence[str]) -> str:
        for _ in range(1000):
            text = self._rng.choice(self._rng.choice(self._options))
            if text not in options:
                return text
        raise DataError("the questions all have the same options; the extractor cannot be trained on them")


def write(sentences: Sequence[str], slots: dict[str, str], style: str) -> str:
    """Return the sentences filled in, e.g. `It is **salt**.` in the style `bold`, or as they are where it is `plain`.

    `bold` and `quoted` mark the texts of options, `B.` and `B)` write their letters so, `lines` parts the sentences.
    """
    marks = {"bold": "**", "quoted": '"'}.get(style, "")
    slots = slots | {name: f"{marks}{slots[name]}{marks}" for name in ("text", "other", "alien")}
    response = ("\n\n" if style == "lines" else " ").join(sentences).format(**slots)
    return _MARKED.sub(lambda letter: style.replace("B", letter[1]), response) if style in {"B.", "B)"} else response
