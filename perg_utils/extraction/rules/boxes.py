r"""The answer in a LaTeX box: its letter (`\boxed{\text{(B)}}`, `\boxed{B. salt}`) or one option's text (`\boxed{42}`).

The last box that can be read counts. Left out: boxes that say the same as an option in other words or another form
(`\frac12` for `0.5`), and several letters in one box, which are no single answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from perg_utils.core.schema import LETTERS
from perg_utils.extraction.rules.option_texts import core_of

#: What a box holds, with two layers of braces. Bounded, so that time stays linear on boxes that are never closed.
_BOX = re.compile(r"\\f?boxed\s{0,4}\{((?:[^{}]|\{(?:[^{}]|\{[^{}]{0,80}\}){0,100}\}){0,300})\}")
_DRESS = re.compile(
    r"\\(?:text|mathrm|textbf|mathbf|textit|mathit|textrm|textsf|mathsf|bf|rm)\b\s?\{([^{}]*)\}|\\[,;:! ]|[$~]"
)
_LETTER = re.compile(r"[(\[]?([A-Z])[)\]]?(?:[.:)]?|[.:)] .*)", re.DOTALL)
#: Boxes read, from the last one on.
_MOST = 20


def read_box(text: str, options: Sequence[str]) -> tuple[str, str] | None:
    r"""Return the letter and the rule of the last box that names an option, e.g. `("B", "boxed_text")`, else None.

    The letter may be beyond the options, where no other box and no text is one: the caller tells.
    """
    beyond = None
    for content in reversed(_BOX.findall(text)[-_MOST:]):
        plain = _undressed(content)
        letter = _LETTER.fullmatch(plain)
        if letter and letter[1] in LETTERS[: len(options)]:
            return letter[1], "boxed"
        same = [x for x, option in zip(LETTERS, options, strict=False) if core_of(_undressed(option)) == core_of(plain)]
        if len(same) == 1 and plain:
            return same[0], "boxed_text"
        if letter and beyond is None:
            beyond = letter[1], "boxed"
    return beyond


def _undressed(latex: str) -> str:
    r"""A text without the commands that only change how it looks, e.g. `\text{ salt}` -> `salt`."""
    for _ in range(2):
        latex = _DRESS.sub(lambda match: match[1] or " ", latex)
    return " ".join(latex.split())
