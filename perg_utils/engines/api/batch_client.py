"""The files and batches of OpenAI's Batch API over HTTP, with the patience that any server needs."""

from __future__ import annotations

import http.client
import json
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

from perg_utils.engines.api.completions import reason
from perg_utils.engines.api.endpoints import headers, is_loopback, without_key
from perg_utils.engines.api.retries import backoff, retry_after
from perg_utils.engines.base import EngineError

#: How often a call is tried before the run ends, and how long one may take (outputs can be 200 MB).
TRIES, CALL_SECONDS = 8, 300.0


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect could carry the key to another host."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


class BatchClient:
    """Calls of one server; whatever is transient is tried again, anything else is an `EngineError`."""

    def __init__(self, url: str, key: str) -> None:
        self.url, self._key = url, key
        proxies = [urllib.request.ProxyHandler({})] if is_loopback(url) else []
        self._opener = urllib.request.build_opener(_NoRedirect, *proxies)

    def upload(self, lines: bytes) -> str:
        """Return the id of a new file that holds `lines`."""
        edge = uuid.uuid4().hex
        head = (
            f'--{edge}\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n--{edge}\r\n'
            'Content-Disposition: form-data; name="file"; filename="requests.jsonl"\r\n'
            "Content-Type: application/jsonl\r\n\r\n"
        )
        data = head.encode() + lines + f"\r\n--{edge}--\r\n".encode()
        return json.loads(self._call("POST", "/files", data, f"multipart/form-data; boundary={edge}"))["id"]

    def submit(self, file: str, metadata: dict[str, str]) -> dict[str, Any]:
        """Return the new batch of an uploaded file; after a lost answer the list is looked up, not to submit twice."""
        asked = {"input_file_id": file, "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        data = json.dumps(asked | {"metadata": metadata}).encode()
        for attempt in range(1, TRIES + 1):
            try:
                return json.loads(self._call("POST", "/batches", data, "application/json", tries=1))
            except _Transient as error:
                if attempt == TRIES:
                    raise
                time.sleep(backoff(attempt, error.wait))
            for batch in self.batches():
                if batch.get("input_file_id") == file:
                    return batch
        raise AssertionError

    def batch(self, name: str) -> dict[str, Any]:
        """Return a batch as it stands."""
        return json.loads(self._call("GET", f"/batches/{name}"))

    def batches(self) -> Iterator[dict[str, Any]]:
        """Yield all batches of the account, newest first."""
        after = ""
        while True:
            page = json.loads(self._call("GET", f"/batches?limit=100{after}"))
            yield from page["data"]
            if not page.get("has_more") or not page["data"]:
                return
            after = f"&after={page['data'][-1]['id']}"

    def lines(self, file: str | None) -> list[dict[str, Any]]:
        """Return the JSON lines of a file; none for no file."""
        if file is None:
            return []
        return [json.loads(line) for line in self._call("GET", f"/files/{file}/content").splitlines() if line.strip()]

    def clean(self, text: str) -> str:
        """Return the server's words without the key."""
        return without_key(text.encode(), self._key).decode()

    def _call(self, method: str, path: str, data: bytes | None = None, kind: str = "", *, tries: int = TRIES) -> bytes:
        sent = headers(self.url, self._key) | ({"Content-Type": kind} if kind else {})
        request = urllib.request.Request(self.url + path, data, sent, method=method)
        for attempt in range(1, tries + 1):
            try:
                with self._opener.open(request, timeout=CALL_SECONDS) as answer:
                    return without_key(answer.read(), self._key)
            except urllib.error.HTTPError as error:
                why = self.clean(f"status {error.code}: {_words(error)}")
                if error.code not in {408, 409, 429} and error.code < 500:
                    raise EngineError(f"{method} {self.url}{path.partition('?')[0]} was refused ({why})") from None
                trouble = _Transient(self._gone(why), retry_after(error.headers))
            except (OSError, http.client.HTTPException) as error:
                trouble = _Transient(self._gone(self.clean(f"{type(error).__name__}: {error}")), None)
            if attempt == tries:
                raise trouble
            time.sleep(backoff(attempt, trouble.wait))
        raise AssertionError

    def _gone(self, why: str) -> str:
        return (
            f"the server at {self.url} did not answer (last: {why}). Batches that it has accepted go on and all "
            "replies so far are kept; run the same command again to collect the rest"
        )


class _Transient(EngineError):
    """A call that may succeed later; `wait` is the server's own wish in seconds."""

    def __init__(self, message: str, wait: float | None) -> None:
        super().__init__(message)
        self.wait = wait


def _words(error: urllib.error.HTTPError) -> str:
    data = error.read()
    try:
        return reason(json.loads(data)) or error.reason
    except ValueError:
        return data[:300].decode(errors="replace") or error.reason
