"""Models behind any OpenAI-compatible server (OpenAI, vLLM, llama.cpp, ...), through the `openai` package.

Requests run on as many threads as the profile's `concurrency`. What is transient (429, 5xx, timeouts, dropped
connections) is tried again with backoff, then recorded as `api_error`. A prompt that a content filter refuses, or that
is too long, is `rejected` for good; any other refusal is an `api_error`, for it may be the settings' fault. A reply
without content is asked again, then `empty`. A wrong key, model or parameter, a server that refuses all it is asked
at first, or one that no longer answers, stops the run with everything kept.
A server that takes no system turn gets the system text at the head of the user's, from then on.

The server's address is no part of a reply's key: the same model behind another address is the same model.
Left out: several servers for one model, cost, batch mode.
"""

from __future__ import annotations

import ipaddress
import json
import os
import re
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from ..profile import ROOT, ModelConfig
from ..schema import Status
from .base import EngineError, Reply, Request, fold_system
from .reasoning import split_reasoning

if TYPE_CHECKING:
    from openai import OpenAI

OPENAI_URL = "https://api.openai.com/v1"
#: How often a request is tried again: after a transient error, and after a reply without content.
RETRIES, EMPTY_RETRIES = 5, 2
TIMEOUT_SECONDS = 300.0
#: So many requests in a row without any reply (or all of them, if fewer) mean that the server is dead; so many
#: refusals before the first reply, that the settings are at fault.
DEAD_AFTER = 16
_SETUP = re.compile(
    r"api.?key|unsupported_(?:parameter|value)|unknown_parameter|model_not_found|invalid_model|insufficient_quota|"
    r"no such model|model .{0,80}(?:does not exist|not found)|unrecognized request argument",
    re.IGNORECASE,
)
# What is said of the prompt itself, so that asking again is of no use.
_FINAL = re.compile(
    r"content.?(?:filter|policy|management|moderation)|moderation|flagged|responsible.?ai|"
    r"safety (?:system|filter|polic|setting|reason|check)|"
    r"context.?length|maximum context|context.?(?:window|size)|"
    r"(?:prompt|input|message)s? (?:is|are|was|were)? ?too long|too many (?:input|prompt) tokens|"
    r"(?:input|prompt)[^.]{0,60}(?:longer than|exceeds?)[^.]{0,60}tokens",
    re.IGNORECASE,
)
_REFUSALS = (400, 403, 413, 422)
_NO_SYSTEM = re.compile(
    r"(?:system|developer)\W{0,3}(?: (?:role|message|prompt|instruction)s?)? "
    r"(?:(?:is|are) )?(?:not (?:supported|enabled|allowed)|unsupported)|"
    r"not support\b[^.]{0,30}\bsystem\b|roles must alternate|only user(?:,| and) assistant",
    re.IGNORECASE,
)


class ApiEngine:
    """The engine of one model behind a server; key and client are looked up at the first request."""

    def __init__(self, config: ModelConfig) -> None:
        self.config = config
        self.base_url = config.base_url or OPENAI_URL
        self.identity: Mapping[str, str] = {
            "kind": "api",
            "model": config.model,
            "revision": str(config.revision),
            "thinking": str(config.thinking),
            "extra_body": json.dumps(config.extra_body, sort_keys=True),
        }
        self._key = ""
        self._folds = False  # whether the server has said that it takes no system turn

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Yield (position, reply) as replies arrive. Raises `EngineError` when going on makes no sense."""
        client = self._open()
        pool = ThreadPoolExecutor(self.config.concurrency, thread_name_prefix="perg-api")
        running: dict[Future[Reply], int] = {}
        todo, stop, stopped = iter(range(len(requests))), threading.Event(), None
        done = failed = refused = 0  # the latter two in a row
        try:
            while True:
                for index in todo:
                    running[pool.submit(self._ask, client, requests[index], stop)] = index
                    if len(running) >= 2 * self.config.concurrency:
                        break
                if not running:
                    return
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    index = running.pop(future)
                    try:
                        reply = future.result()
                    except EngineError as error:  # what else has arrived is still to be kept
                        stopped = error
                        continue
                    done += 1
                    lost = reply.status == Status.API_ERROR
                    failed, refused = (failed + 1, refused + _is_refusal(reply)) if lost else (0, 0)
                    yield index, reply
                    if failed >= min(DEAD_AFTER, len(requests)) and (failed == done or not refused):
                        stopped = stopped or self._stopped(failed, refused, reply)
                if stopped is not None:
                    raise stopped
        finally:
            stop.set()
            pool.shutdown(wait=False, cancel_futures=True)
            client.close()

    def _ask(self, client: OpenAI, request: Request, stop: threading.Event) -> Reply:
        """One request with its retries. Returns a reply of any status; raises `EngineError` for faulty settings."""
        from openai import APIConnectionError, APIStatusError, OpenAIError  # noqa: PLC0415 - a second to import

        start = time.perf_counter()
        reply = Reply(None, Status.API_ERROR, error="not asked")
        for _ in range(1 + EMPTY_RETRIES):
            if stop.is_set():
                break
            try:
                reply = _read(self._complete(client, request), time.perf_counter() - start)
            except APIStatusError as error:
                return self._refused(error.status_code, self._clean(_reason(error)))
            except (APIConnectionError, OpenAIError, ValueError) as error:
                # ValueError: a body that is no JSON, as proxies send it.
                return Reply(None, Status.API_ERROR, error=self._clean(f"{type(error).__name__}: {error}"))
            # Thinking that filled the whole limit would do so again.
            if reply.status != Status.EMPTY or reply.finish_reason == "length":
                break
        return reply

    def _complete(self, client: OpenAI, request: Request) -> Any:
        from openai import APIStatusError  # noqa: PLC0415 - a second to import

        folds = self._folds  # another thread may learn of it while this one waits
        try:
            return client.chat.completions.create(**self._body(request, folds))
        except APIStatusError as error:
            has_system = any(role == "system" for role, _ in request.messages)
            if folds or not has_system or not _NO_SYSTEM.search(_reason(error)):
                raise
        self._folds = True
        return client.chat.completions.create(**self._body(request, True))

    def _body(self, request: Request, folds: bool = False) -> dict[str, Any]:
        decoding = request.decoding
        # OpenAI's own newer models refuse `max_tokens`; most other servers know nothing else.
        limit = "max_completion_tokens" if urlsplit(self.base_url).hostname == "api.openai.com" else "max_tokens"
        extra = dict(self.config.extra_body)
        if self.config.thinking is not None:
            extra.setdefault("chat_template_kwargs", {"enable_thinking": self.config.thinking})
        messages = fold_system(request.messages) if folds else request.messages
        return {
            "model": self.config.model,
            "messages": [{"role": role, "content": content} for role, content in messages],
            "temperature": decoding.temperature,
            "seed": decoding.seed,
            limit: decoding.max_new_tokens,
            "extra_body": extra or None,
        }

    def _refused(self, code: int, reason: str) -> Reply:
        """What an error status means: faulty settings end the run, a refused prompt is `rejected`, else `api_error`."""
        final = bool(_FINAL.search(reason))
        if code in {401, 402, 404} or (not final and _SETUP.search(reason)):
            raise self._faulty(f"status {code}: {reason}")
        status = Status.REJECTED if final and code in _REFUSALS else Status.API_ERROR
        return Reply(None, status, error=f"status {code}: {reason}")

    def _stopped(self, failed: int, refused: int, last: Reply) -> EngineError:
        """Why going on makes no sense after `failed` requests without a reply."""
        if refused:
            return self._faulty(str(last.error))
        return EngineError(
            f"the server at {self.base_url} did not answer {failed} requests in a row, each tried "
            f"{RETRIES + 1} times (last: {last.error}). All replies so far are kept; see that the "
            "server is up and run the same command again"
        )

    def _faulty(self, reason: str) -> EngineError:
        return EngineError(
            f"the server at {self.base_url} refuses every request for '{self.config.model}' ({reason}). Check the "
            f"model's name, the key in {self.config.api_key_env}, extra_body and the limits of new tokens, and run "
            "again: nothing refused so is kept as an answer, and all replies so far are kept"
        )

    def _clean(self, text: str) -> str:
        return text.replace(self._key, "[key]")[:2000]

    def key(self) -> str:
        """Return the key, from the environment or `.env`; raises `EngineError` where the server needs one."""
        from dotenv import dotenv_values  # noqa: PLC0415 - only where keys are needed

        name, local = self.config.api_key_env, _is_loopback(self.base_url)
        key = os.environ.get(name) or dotenv_values(ROOT / ".env").get(name)
        if not key and not local:
            raise EngineError(
                f"'{self.config.name}' needs a key for {self.base_url}: set the environment variable {name}, or put "
                f"the line {name}=... into the file .env beside README.md (any value, if the server asks for none)"
            )
        return key or "no-key-needed"

    def _open(self) -> OpenAI:
        from openai import DefaultHttpxClient, OpenAI  # noqa: PLC0415 - a second to import

        self._key = self.key()
        local = _is_loopback(self.base_url)
        # A proxy of the environment must not get between this process and a server on the same machine.
        http = DefaultHttpxClient(trust_env=not local)
        return OpenAI(
            api_key=self._key, base_url=self.base_url, max_retries=RETRIES, timeout=TIMEOUT_SECONDS, http_client=http
        )


def _read(completion: Any, seconds: float) -> Reply:
    """The reply in a completion; odd or missing fields make it `empty`, never an answer."""
    usage = getattr(completion, "usage", None)
    counts: dict[str, Any] = {
        "prompt_tokens": getattr(usage, "prompt_tokens", None),
        "completion_tokens": getattr(usage, "completion_tokens", None),
        "seconds": seconds,
    }
    choices = getattr(completion, "choices", None)
    if not choices or choices[0].message is None:
        return Reply(None, Status.EMPTY, error="the server's reply holds no choice", **counts)
    message, finish = choices[0].message, choices[0].finish_reason
    thought, content = split_reasoning(message.content or getattr(message, "refusal", None) or "")
    given = getattr(message, "reasoning_content", None) or getattr(message, "reasoning", None)
    reasoning = str(given).strip() if given else thought
    if finish == "content_filter":
        return Reply(None, Status.REJECTED, finish, reasoning=reasoning, error="cut by the content filter", **counts)
    return Reply(content or None, Status.OK if content else Status.EMPTY, finish, reasoning=reasoning, **counts)


def _reason(error: Any) -> str:
    """The server's own words, e.g. `content_filter: The response was filtered ...`."""
    body = error.body if isinstance(error.body, dict) else {}
    code, message = body.get("code") or body.get("type"), body.get("message")
    return f"{code}: {message}" if code and message else str(message or error)


def _is_refusal(reply: Reply) -> bool:
    return (reply.error or "").startswith(tuple(f"status {code}:" for code in _REFUSALS))


def _is_loopback(url: str) -> bool:
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
