"""Which option a response chose: rules that are precise or silent, then the layers that a profile adds.

The paper reads with a fine-tuned model and asks another model where that fails (section 3.3). Here rules read first;
only what they leave undecided goes to the next layer, and what that leaves undecided to the one after it. Each row
says which layer decided, on which words, and how sure that is. No layer ever returns a letter beyond the options.

Left out: the layers themselves (`rules.decision`, `finetuned.layer`, `llm`) and their opening (`layers`), so that
this module needs no engine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.schema import LETTERS, MISSING, ROW_ID, Status, conform
from perg_utils.dataset.orders import letter_of_question, options_shown
from perg_utils.extraction.reading import Case, Layer, Reading
from perg_utils.extraction.rules.decision import read_by_rules


def extract_answer(response: str, options: Sequence[str], layers: Sequence[Layer] = ()) -> Reading:
    """Return which of `options` a `response` chose, as a `Reading`.

    `response` is one reply in English, of any length; `options` are the texts of the options in the order in which
    they were lettered: the first is A, at most 26 have a letter. The rules never guess. Where none speaks, or several
    options are named, `letter` is None and `status` says why: `unparsable`, or `refused` where the model declined.
    `how` names the rule that decided, `evidence` is the span of the stripped response that it read (offsets, the end
    exclusive), `confidence` how often such letters are right (a share, 0 to 1). What the rules leave undecided goes to
    `layers`, one after the other; their errors, e.g. `EngineError`, are passed on.
    Raises `TypeError` for a response that is no text.

    >>> from perg_utils import extract_answer
    >>> reading = extract_answer("They sell much, but the answer is B.", ["iron", "salt", "wool"])
    >>> reading.letter, reading.how, reading.confidence
    ('B', 'answer_statement', 0.995)
    >>> reading.words("They sell much, but the answer is B.")
    'B.'
    >>> unread = extract_answer("Either iron or salt.", ["iron", "salt", "wool"])
    >>> print(unread.letter, unread.how, unread.status)
    None several_options unparsable
    """
    if not isinstance(response, str):
        raise TypeError(f"extract_answer takes a response as text, got {type(response).__name__}")
    return read_all([(response, options)], layers)[0]


def read_all(cases: Sequence[Case], layers: Iterable[Layer] = ()) -> list[Reading]:
    """Return one reading a case, in order; every layer is asked once, and equal cases only once.

    Where all are undecided, the rules' reason stands. Where a layer fails, its status stands.
    """
    keys = [(response, tuple(options)) for response, options in cases]
    found = {key: read_by_rules(*key) for key in dict.fromkeys(keys)}
    for layer in layers:
        waiting = [key for key, reading in found.items() if not reading.decided and reading.status not in MISSING]
        for key, reading in zip(waiting, layer.read(waiting) if waiting else [], strict=True):
            held = _held(reading, key[1])
            if held.decided:
                found[key] = replace(held, layer=layer.name)
            elif held.status in MISSING:
                found[key] = replace(held, layer=None)
    return [found[key] for key in keys]


def extract(responses: pd.DataFrame, examples: pd.DataFrame, layers: Sequence[Layer] = ()) -> pd.DataFrame:
    """Return the table 'answers', one row a response row, in its order.

    A response that names no option has answer null and status unparsable or refused; a response that does not exist
    keeps the status that says why, and one that a layer failed to read has the status of that failure. A response is
    read by the options as it was shown them (`shown_preferences`; without that column, in the question's order);
    `answer` is the question's letter, `evidence` the response's own words.
    Raises `DataError` for a response to an unknown example.
    """
    options = dict(zip(examples["example_id"], examples["options"], strict=True))
    rows = list(zip(responses["example_id"], responses["status"], responses["response"], strict=True))
    shown = responses["shown_preferences"].tolist() if "shown_preferences" in responses else [[]] * len(rows)
    unknown = next((example for example, *_ in rows if example not in options), None)
    if unknown is not None:
        raise DataError(f"there is a response to {unknown}, but no such example; run 01_curate_data again")
    found = [Reading(None, "no_response", Status(status), layer=None) for _, status, _ in rows]
    exist = [row for row, (_, status, _) in enumerate(rows) if status == Status.OK]
    cases = [(rows[row][2], options_shown(options[rows[row][0]], shown[row])) for row in exist]
    evidence: list[str | None] = [None] * len(rows)
    for row, (response, _), reading in zip(exist, cases, read_all(cases, layers), strict=True):
        found[row], evidence[row] = reading, reading.words(response)
    table = responses[ROW_ID].reset_index(drop=True)
    letters = [letter_of_question(reading.letter, own) for reading, own in zip(found, shown, strict=True)]
    table["answer"], table["evidence"] = letters, evidence
    for name in ("how", "status", "layer", "confidence"):
        table[name] = [getattr(reading, name) for reading in found]
    return conform("answers", table)


def _held(reading: Reading, options: Sequence[str]) -> Reading:
    """A later layer's reading, or undecided where its letter is none of the options'."""
    names_one = reading.letter in list(LETTERS[: len(options)]) and reading.status == Status.OK
    # `letter_beyond_options` is a finding of the rules about the response; another layer that says so has read nothing.
    names_none = reading.letter is None and reading.status != Status.OK and reading.how != "letter_beyond_options"
    return reading if names_one or names_none else Reading(None, "unread", Status.UNPARSABLE)
