"""Options in another order, for the setting `shuffled`, and the way back from what was shown to a question's letters.

The order stands in `shown_preferences` as `order-CAB`: what is shown as A is the question's C. It is read from there
and never drawn anew, so that a saved table is read as it was made.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from perg_utils.core.schema import LETTERS

_MARK = "order-"


def another_order(count: int, draw: random.Random) -> str:
    """Return an order of `count` options (two or more) that is not their own, e.g. `order-CAB`."""
    order = list(LETTERS[:count])
    while order == sorted(order):
        draw.shuffle(order)
    return _MARK + "".join(order)


def options_shown(options: Sequence[str], shown: Sequence[str]) -> list[str]:
    """Return the options in the order in which they were shown, by `shown_preferences`; as they are but in `shuffled`.

    >>> options_shown(["salt", "iron", "wool"], ["order-CAB"])
    ['wool', 'salt', 'iron']
    """
    order = _order(shown)
    return list(options) if order is None else [options[LETTERS.index(letter)] for letter in order]


def letter_of_question(letter: str | None, shown: Sequence[str]) -> str | None:
    """Return the question's letter of the option that was shown as `letter`, e.g. C for A in `order-CAB`."""
    order = _order(shown)
    return letter if order is None or letter is None else order[LETTERS.index(letter)]


def _order(shown: Sequence[str]) -> str | None:
    return next((said.removeprefix(_MARK) for said in shown if said.startswith(_MARK)), None)
