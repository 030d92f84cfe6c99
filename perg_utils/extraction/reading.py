"""What a layer of the extractor says of a response: a letter, none with the reason, or that it could not be read.

A `Reading` is what every layer returns and the table `answers` keeps; `Layer` is what a layer after the rules looks
like to the others. The labels X, Y and Z are those of arXiv 2404.08382. Left out: how a layer comes to its reading.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from perg_utils.core.errors import PergError
from perg_utils.core.schema import LETTERS, Status

#: A response and its options, in the order in which they were lettered.
Case = tuple[str, Sequence[str]]

#: Labels of a response that are no letter of an option: no option is right, refusal, undecided.
NONE, REFUSED, UNDECIDED = "X", "Y", "Z"
#: All labels, in the order in which a model's scores of them stand.
LABELS = LETTERS
#: With more options their letters would meet these labels.
MOST_OPTIONS = LETTERS.index(NONE)

#: Rules (see `Reading.how`) by which a response states its answer in so many words.
STATED = frozenset({"bare_letter", "boxed", "boxed_text", "leading_option", "answer_statement", "letter_at_end"})
#: Rules that read a response and find that it names no option, so that there is nothing left to ask.
_NAMES_NONE = frozenset({"none_of_the_options", "letter_beyond_options"})


@dataclass(frozen=True, slots=True)
class Reading:
    """A letter and the rule that found it, or no letter and the status that says why: unparsable or refused.

    `evidence` is the span of the stripped response that the letter rests on: the offsets of its first character and of
    the one behind its last, or None where the response as a whole decides. `layer` names the layer that decided, None
    where none did. `confidence` is a share from 0 to 1, or None where nothing tells.
    """

    letter: str | None
    how: str
    status: Status
    evidence: tuple[int, int] | None = None
    layer: str | None = "rules"
    confidence: float | None = None

    @property
    def sure(self) -> bool:
        """Whether the response states its answer; other rules conclude it from what is said of the options."""
        return self.how.removeprefix("json:") in STATED

    @property
    def decided(self) -> bool:
        """Whether the response is read: it names an option, says that none is right, or refuses."""
        named_none = self.status == Status.UNPARSABLE and self.how.removeprefix("json:") in _NAMES_NONE
        return self.letter is not None or self.status == Status.REFUSED or named_none

    def words(self, response: str) -> str | None:
        """Return the words of the response that the letter rests on, e.g. `B.` of `The answer is B.`"""
        return None if self.evidence is None else response.strip()[slice(*self.evidence)]


class ExtractorError(PergError):
    """A layer cannot be trained or loaded; the message says why and what to do."""


class Layer(Protocol):
    """A layer after the rules."""

    @property
    def name(self) -> str:
        """What the column `layer` of the table 'answers' calls it, e.g. `llm`."""
        ...

    def read(self, cases: Sequence[Case]) -> list[Reading]:
        """Return one reading a case, in order: decided, undecided, or failed (a status of `core.schema.MISSING`)."""
        ...
