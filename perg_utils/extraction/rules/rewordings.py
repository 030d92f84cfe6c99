"""An option told in its own words in another order, where no rule on mentions decides.

"The best known poet of the town is Ana" has the words of the option "Ana is the best known poet of the town". Only
whole sentences count, the first and the last one, and only options of four words or more that no other option repeats.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from perg_utils.core.schema import LETTERS
from perg_utils.extraction.rules import patterns

_WORD = re.compile(r"[^\W_]+(?:[.,'’-][^\W_]+)*|[%$€£]")
_SHORT = (("won't", "will not"), ("can't", "can not"), ("cannot", "can not"), ("n't", " not"), ("'re", " are"))
_FEWEST = 4


def read_rewording(lower: str, options: Sequence[str]) -> str | None:
    """Return the letter of the option that the first or the last sentence tells, e.g. `B`; None where none or two are.

    `lower` is the response in lower case.
    """
    of_options = [_words(option.lower()) for option in options]
    breaks = [match.end() for match in patterns.FIRST_BREAK.finditer(lower)]
    body = lower.rstrip()
    inner = [at for at in breaks if at < len(body)]
    sentences = [body[: inner[0]], body[inner[-1] :]] if inner else [body]
    found = set()
    for sentence in sentences:
        said = _words(sentence)
        if len(said) >= _FEWEST and of_options.count(said) == 1:
            found.add(LETTERS[of_options.index(said)])
    return found.pop() if len(found) == 1 else None


def _words(text: str) -> list[str]:
    """The words in alphabetical order, short forms in full."""
    text = text.replace("’", "'")
    for short, full in _SHORT:
        text = text.replace(short, full)
    return sorted(_WORD.findall(text))
