"""What every engine takes and gives: requests, replies, and the key under which a reply is kept.

The key is the hash of everything that shapes a reply (engine kind, model and revision, messages, decoding)
and of nothing else, so that equal requests are made once whichever method asks.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

from perg_utils.core.errors import PergError
from perg_utils.core.schema import Status
from perg_utils.core.workspace import digest

#: A chat: (role, content) pairs, roles `system`, `user`, `assistant`.
Messages = tuple[tuple[str, str], ...]


class EngineError(PergError):
    """A model, key or server cannot be used; the message says which and what to do."""


@dataclass(frozen=True, slots=True)
class Decoding:
    """How a reply is decoded; `temperature` 0 is greedy."""

    max_new_tokens: int
    temperature: float = 0.0
    seed: int = 42


@dataclass(frozen=True, slots=True)
class Request:
    """One chat to be completed; `draw` tells repetitions of the very same request apart.

    `schema` is the JSON schema that the reply is held to, as JSON text; None: no schema.
    """

    messages: Messages
    decoding: Decoding
    draw: int = 0
    schema: str | None = None

    def key(self, identity: Mapping[str, str]) -> str:
        """Return the journal key of this request to the engine with `identity`, 16 hex digits."""
        more = [part for part in (self.draw, self.schema) if part]
        return digest(dict(identity), self.messages, asdict(self.decoding), *more)


@dataclass(frozen=True, slots=True)
class Reply:
    """One completed request. `text` is None unless `status` is ok; `reasoning` is what a thinking model thought."""

    text: str | None
    status: Status = Status.OK
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    seconds: float | None = None
    reasoning: str | None = None
    error: str | None = None

    @property
    def is_final(self) -> bool:
        """Whether this is an answer for good (`is_final`); anything else is asked again."""
        return is_final(self.status, self.finish_reason)


def is_final(status: str, finish_reason: str | None) -> bool:
    """Return whether a reply with this status is never asked again, e.g. true for `ok`, false for `api_error`.

    `ok`, `rejected` and `silent` are final: where a model wrote nothing, or its thinking filled the limit of tokens,
    the same request would end there again, and be paid for again. (`empty` with `length` is what earlier versions
    kept for the latter.)
    """
    return status in {Status.OK, Status.REJECTED, Status.SILENT} or (
        status == Status.EMPTY and finish_reason == "length"
    )


def without_content(finish_reason: str | None) -> Status:
    """Return the status of a server's reply that has no content: the model's silence where it wrote to its limit.

    Otherwise nobody can tell whether the model or the server failed, so it is asked again.
    """
    return Status.SILENT if finish_reason == "length" else Status.EMPTY


# As many replies as the guess of their length counts for.
_GUESSES = 8


@dataclass
class Effort:
    """How far an engine in this process is with a batch of requests: rows, tokens, and the seconds they took."""

    to_read: int = 0
    rows: int = 0
    limit: int = 0  # the most new tokens of a reply
    read: int = 0
    written: int = 0
    ended: int = 0
    reading: float = 0.0
    writing: float = 0.0

    def left(self) -> float | None:
        """Return the seconds that are left, from the speed and the mean length of replies so far; None at first.

        A reply that runs still counts with what it has written: the mean is all tokens by the replies that ended. While
        few have, it leans on a guess, a quarter of the limit.
        """
        if not self.ended or not self.read:
            return None
        steady = self.writing / self.written
        open_ones = self.rows - self.ended
        mean = (self.written + _GUESSES * self.limit / 4) / (self.ended + _GUESSES)
        more = min(max(self.rows * mean - self.written, open_ones), open_ones * self.limit)
        return max(self.to_read - self.read, 0) * self.reading / self.read + more * steady

    def __str__(self) -> str:
        return f"{short(self.read)}+{short(self.written)} tokens" if self.read else ""


def short(count: int) -> str:
    """Return a count in few characters, e.g. `950`, `12.3k`, `4.5M`."""
    for size, letter in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.1f}{letter}"
    return str(count)


class Engine(Protocol):
    """Anything that completes chats. `identity` names kind, model and revision: all that shapes its replies."""

    identity: Mapping[str, str]

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Yield (position in `requests`, reply) as replies finish, in any order, each position once."""
        ...


def fold_system(messages: Messages) -> list[tuple[str, str]]:
    """Return the chat with the system text at the head of the first user turn, for models without a system role."""
    system = "\n\n".join(content for role, content in messages if role == "system")
    chat = [(role, content) for role, content in messages if role != "system"]
    if system and chat and chat[0][0] == "user":
        chat[0] = ("user", f"{system}\n\n{chat[0][1]}")
    elif system:
        chat.insert(0, ("user", system))
    return chat
