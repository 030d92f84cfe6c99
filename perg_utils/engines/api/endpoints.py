"""The servers of a model: where requests go, with which key, and how many at a time.

Each server (replica) has its own limit of requests in flight. Where more than a tenth of the answers say "too many
requests" the limit shrinks, and grows back when they stop; a server that fails again and again gets single requests,
ever more seldom, until it answers.
"""

from __future__ import annotations

import ipaddress
import os
from urllib.parse import urlsplit

from perg_utils.core.profile import ROOT, ModelConfig
from perg_utils.engines.api.retries import backoff
from perg_utils.engines.base import EngineError

OPENAI_URL = "https://api.openai.com/v1"
#: So many failures in a row, and a server is only probed.
BREAK_AFTER = 8
#: Answers in which the share of "too many requests" is measured, and the share above which the limit shrinks.
WINDOW, TOO_MANY = 50, 0.10


def urls(config: ModelConfig) -> tuple[str, ...]:
    """Return the base URLs of a model's servers, e.g. `("http://localhost:8000/v1",)`."""
    given = config.base_url or OPENAI_URL
    return tuple(url.rstrip("/") for url in ([given] if isinstance(given, str) else given))


def is_loopback(url: str) -> bool:
    """Return whether a server runs on this very machine."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def is_plain(url: str) -> bool:
    """Return whether texts and key would cross a network unencrypted."""
    return urlsplit(url).scheme != "https" and not is_loopback(url)


def find_key(config: ModelConfig) -> str:
    """Return the key, from the environment or `.env`; raises `EngineError` where a server needs one."""
    from dotenv import dotenv_values  # noqa: PLC0415 - only where keys are needed

    name, remote = config.api_key_env, [url for url in urls(config) if not is_loopback(url)]
    # A file's last line break is no part of a key, and a server that repeats the key does so without it.
    key = (os.environ.get(name) or dotenv_values(ROOT / ".env").get(name) or "").strip()
    if not (key.isascii() and key.isprintable()):
        raise EngineError(f"the key in {name} holds a line break or another character that no key has; copy it again")
    if not key and remote:
        raise EngineError(
            f"'{config.name}' needs a key for {remote[0]}: set the environment variable {name}, or put "
            f"the line {name}=... into the file .env beside README.md (any value, if the server asks for none)"
        )
    return key or "no-key-needed"


def faulty(where: str, config: ModelConfig, reason: str) -> EngineError:
    """Return the error that says that a server refuses every request, and what may be the cause."""
    return EngineError(
        f"the server at {where} refuses every request for '{config.model}' ({reason}). Check the model's name, the key "
        f"in {config.api_key_env}, extra_body and the limits of new tokens, and run again: nothing refused so is kept "
        "as an answer, and all replies so far are kept"
    )


def headers(url: str, key: str) -> dict[str, str]:
    """Return the headers that carry the key; Azure has one of its own."""
    azure = (urlsplit(url).hostname or "").endswith(".azure.com")
    return {"Authorization": f"Bearer {key}"} | ({"api-key": key} if azure else {})


def without_key(data: bytes, key: str) -> bytes:
    """Return a server's words without the key, should it repeat it. Placeholders are too short to be secret."""
    return data.replace(key.encode(), b"[key]") if len(key) >= 8 else data


class Endpoint:
    """One server: requests in flight, the limit on them, and its health. Times are the event loop's, in seconds."""

    def __init__(self, url: str, most: int) -> None:
        self.url, self.most = url, most
        self.limit = float(most)
        self.in_flight = 0
        self.failing_since: float | None = None
        self._failures = self._limited = self._trips = 0  # in a row
        self._paused_until = 0.0
        self._seen = self._too_many = 0  # in this window
        self._changed = 0.0

    @property
    def is_probed(self) -> bool:
        """Whether the server has failed so often that only single requests are sent, to see whether it answers."""
        return self._failures >= BREAK_AFTER

    def room(self, now: float) -> float:
        """Return the free share of the limit; zero or less while nothing more may be sent."""
        if now < self._paused_until:
            return 0.0
        limit = 1 if self.is_probed else int(self.limit)
        return (limit - self.in_flight) / limit

    def answered(self, now: float) -> None:
        """Note an answer of any kind but failure."""
        self.failing_since = None
        self._failures = self._limited = self._trips = 0
        self._count(now, False)

    def limited(self, now: float, wait: float | None) -> None:
        """Note "too many requests"; when nothing else comes, the whole server is left alone for a while."""
        self.failing_since = None
        self._failures = 0
        self._limited += 1
        self._count(now, True)
        if self._limited >= BREAK_AFTER and now >= self._paused_until:
            self._trips += 1
            self._paused_until = now + (backoff(self._trips) if wait is None else wait)

    def failed(self, now: float) -> None:
        """Note a failure: no connection, no answer in time, or a server error."""
        self._failures += 1
        self.failing_since = now if self.failing_since is None else self.failing_since
        if self.is_probed and now >= self._paused_until:
            self._trips += 1
            self.limit = max(1.0, self.limit / 2)
            self._paused_until = now + min(8.0, backoff(self._trips))

    def _count(self, now: float, too_many: bool) -> None:
        self._seen += 1
        self._too_many += too_many
        # What was sent before the last change says nothing about the limit since, hence the half second.
        if self._seen < WINDOW or now < self._changed + 0.5:
            return
        share = self._too_many / self._seen
        if share > TOO_MANY:
            self.limit = max(1.0, self.limit * max(0.5, 1 - share))
        elif self.limit < self.most:
            self.limit = min(self.most, self.limit + max(1.0, 0.1 * self.limit))
        self._seen = self._too_many = 0
        self._changed = now
