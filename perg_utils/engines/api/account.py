"""An account's files and batches at a server with OpenAI's Batch API, through OpenAI's own client.

The client's own retries are off: it repeats a submission whose answer was lost, which would be paid for twice, and it
gives up where a server asks for more than two minutes. Here each call has the patience of chat requests (`retries`).
Importing this module loads `openai`, so only a batch run does.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import openai
from openai.types import Batch

from perg_utils.engines.api.completions import reason
from perg_utils.engines.api.endpoints import headers, is_loopback, without_key
from perg_utils.engines.api.retries import backoff, retry_after
from perg_utils.engines.base import EngineError

#: How often a call is tried before the run ends, and how long its server may be silent (outputs can be 200 MB).
TRIES, CALL_SECONDS = 8, 300.0
_TRANSIENT = {408, 409, 429}
_Found = TypeVar("_Found")


class Account:
    """Calls of one server; whatever is transient is tried again, anything else is an `EngineError`."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self._key = url, key
        self._client = openai.OpenAI(
            base_url=url,
            api_key=key,
            organization="",  # else it sends what the environment says, which chat requests do not
            project="",
            default_headers=headers(url, key),
            timeout=CALL_SECONDS,
            max_retries=0,
            # A redirect could carry the key to another host; a proxy must not get between two processes of a machine.
            http_client=openai.DefaultHttpxClient(follow_redirects=False, trust_env=not is_loopback(url)),
        )

    def upload(self, lines: bytes) -> str:
        """Return the id of a new file that holds `lines`."""
        file = ("requests.jsonl", lines, "application/jsonl")
        return self._patiently(lambda: self._client.files.create(file=file, purpose="batch")).id

    def submit(self, file: str, metadata: dict[str, str]) -> Batch:
        """Return the new batch of an uploaded file; after a lost answer the list is looked up, not to submit twice."""

        def create() -> Batch:
            return self._client.batches.create(
                input_file_id=file, endpoint="/v1/chat/completions", completion_window="24h", metadata=metadata
            )

        def lost() -> Batch | None:
            return next((batch for batch in self.batches() if batch.input_file_id == file), None)

        return self._patiently(create, lost)

    def batch(self, name: str) -> Batch:
        """Return a batch as it stands."""
        return self._patiently(lambda: self._client.batches.retrieve(name))

    def batches(self) -> Iterator[Batch]:
        """Yield all batches of the account, newest first."""
        page = self._patiently(lambda: self._client.batches.list(limit=100))
        yield from page.data
        while page.has_next_page():
            page = self._patiently(page.get_next_page)
            yield from page.data

    def lines(self, file: str | None) -> list[dict[str, Any]]:
        """Return the JSON lines of a file; none for no file."""
        if file is None:
            return []
        data = self._patiently(lambda: self._client.files.content(file).content)
        return [json.loads(line) for line in without_key(data, self._key).splitlines() if line.strip()]

    def clean(self, text: str) -> str:
        """Return the server's words without the key."""
        return without_key(text.encode(), self._key).decode()

    def _patiently(self, call: Callable[[], _Found], lost: Callable[[], _Found | None] | None = None) -> _Found:
        """Return what `call` returns, tried again while that may help; `lost` finds what a failed call did after all.

        Raises `EngineError` for a refusal, and after `TRIES` failures; never with the key in it.
        """
        for attempt in range(1, TRIES + 1):
            wait = None
            try:
                found = call()
                if not isinstance(found, str):
                    return found
                why = f"status 200 with a body that is no JSON: {found[:200]}"  # a proxy's page of HTML
            except openai.APIStatusError as error:
                why, wait = f"status {error.status_code}: {_words(error)}", retry_after(error.response.headers)
                if error.status_code not in _TRANSIENT and error.status_code < 500:
                    asked = f"{error.request.method} {str(error.request.url).partition('?')[0]}"
                    raise EngineError(f"{asked} was refused ({self.clean(why)})") from None
            except openai.APIConnectionError as error:
                why = f"{type(error).__name__}: {error.__cause__ or error}"
            except ValueError as error:
                why = f"status 200 with a body that is no JSON: {error}"
            if attempt < TRIES:
                time.sleep(backoff(attempt, wait))
                if lost is not None and (there := lost()) is not None:
                    return there
        raise EngineError(
            f"the server at {self.url} did not answer (last: {self.clean(why)}). Batches that it has accepted go on "
            "and all replies so far are kept; run the same command again to collect the rest"
        )


def _words(error: openai.APIStatusError) -> str:
    text = error.response.text
    try:
        return reason(json.loads(text)) or error.response.reason_phrase
    except ValueError:
        return text[:300] or error.response.reason_phrase
