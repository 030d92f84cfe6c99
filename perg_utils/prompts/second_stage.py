"""Reading a second stage's reply: the response that self_critic or Pref-Aligner wrote, or nothing.

Implements the paper's rule that an unparsable JSON reply leaves the first stage's answer: None is returned rather than
guessed at. The response is a model's text and may hold anything, also what looks like another reply.
"""

from __future__ import annotations

import json
import re
from collections.abc import Set
from typing import Any


def read_json(text: str, key: str) -> str | None:
    """Return the text under `key` of the one JSON object in `text`, e.g. `read_json('{"a": "B."}', "a")` -> `B.`.

    Text and code fences around it, line breaks inside strings and stray backslashes (LaTeX) are accepted. None when
    the first object is broken, lacks the key or has it twice, or when a second object follows: nothing is read from
    inside a broken object, where a quoted answer could pose as the reply.
    """
    start = _OBJECT.search(text)
    if start is None:
        return None
    for candidate in (text[start.start() :], _ESCAPE.sub(_mend_escape, text[start.start() :])):
        try:
            found, end = _DECODER.raw_decode(candidate)
        except ValueError:  # JSONDecodeError, or the key twice
            continue
        except RecursionError:
            return None
        value = found.get(key)
        if not isinstance(value, str) or not value.strip() or _OBJECT.search(candidate, end):
            return None
        return value.strip()
    return None


def read_labelled(text: str, response: str, note: str | None, *, response_first: bool = False) -> str | None:
    """Return what follows the label `response`, which stands first or, where there is a note, after the note's label.

    E.g. `read_labelled("thought: fine answer: salt (B).", "answer:", "thought:")` -> `salt (B).`. Only the first
    `response` label counts, so that the same word inside the response changes nothing. With `response_first` the
    response is what stands before the last label of the note, which may be missing.
    """
    text = text.strip()
    if response_first:
        if not text.startswith(response):
            return None
        value = text.removeprefix(response)
        return (value.rpartition(note)[0] if note and note in value else value).strip() or None
    if not text.startswith(response if note is None else note):
        return None
    _, found, value = text.partition(response)
    return value.strip() or None if found else None


def quoted(template: str) -> set[str]:
    """Return what a template says between quotes, e.g. `{"the edited answer"}`."""
    return {text for marks in _QUOTED for text in marks.findall(template)}


def without_echo(response: str, said: Set[str]) -> str | None:
    """Return a response without the marks that fenced an earlier one; None where it is only what the prompt `said`.

    E.g. `without_echo("<<< B. >>>", set())` -> `B.`; a response of nothing but dots and brackets is none either.
    """
    response = _FENCE.sub("", response).strip()
    bare = _bare(response)
    return None if not bare or bare in {_bare(text) for text in said} else response


def _bare(text: str) -> str:
    return " ".join(re.findall(r"\w+", text.casefold()))


_QUOTED = re.compile(r'"([^"\n]+)"'), re.compile(r"'([^'\n]+)'")
_FENCE = re.compile(r"^\s*<{3,}|>{3,}\s*$")
_OBJECT = re.compile(r'\{\s*"')
_ESCAPE = re.compile(r"\\(u[0-9a-fA-F]{4}|.)", re.DOTALL)


def _mend_escape(match: re.Match[str]) -> str:
    body = match[1]
    return match[0] if len(body) > 1 or body in '"\\/bfnrt' else "\\\\" + body


def _no_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key for key, _ in pairs}) < len(pairs):
        raise ValueError("a key occurs twice")
    return dict(pairs)


_DECODER = json.JSONDecoder(strict=False, object_pairs_hook=_no_twins)
