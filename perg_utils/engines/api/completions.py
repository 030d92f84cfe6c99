"""The chat completions protocol: what is sent for a request, and what an answer with its HTTP status means.

What is transient (429, 5xx, a body that is no JSON) is `Trouble` to be tried again. A prompt that a content filter
refuses, or that is too long, is `rejected` for good; any other refusal is an `api_error`, for it may be the settings'
fault. A wrong key, model or parameter is `Trouble` of kind `setup`: every request would fail so.
"""

from __future__ import annotations

import json
import re
from typing import Any, Literal, NamedTuple
from urllib.parse import urlsplit

from perg_utils.core.profile import ModelConfig
from perg_utils.core.schema import Status
from perg_utils.engines.base import Reply, Request, fold_system, without_content
from perg_utils.engines.reasoning import split_reasoning

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
_NO_SYSTEM = re.compile(
    r"(?:system|developer)\W{0,3}(?: (?:role|message|prompt|instruction)s?)? "
    r"(?:(?:is|are) )?(?:not (?:supported|enabled|allowed)|unsupported)|"
    r"not support\b[^.]{0,30}\bsystem\b|roles must alternate|only user(?:,| and) assistant",
    re.IGNORECASE,
)
# A single request above the limit of a minute's tokens comes as a 429 too, and waiting does not make it smaller.
_TOO_LARGE = re.compile(r"request too large", re.IGNORECASE)
_REFUSALS = (400, 403, 413, 422)
_TRANSIENT = (408, 409, 425)


class Trouble(NamedTuple):
    """An answer that is no reply: `limited` (too many requests), `failed` (try again), `setup`, or `system`."""

    kind: Literal["limited", "failed", "setup", "system"]
    reason: str


def is_openai(url: str) -> bool:
    """Return whether a server is OpenAI's own, also where Azure hosts it."""
    host = urlsplit(url).hostname or ""
    return host == "api.openai.com" or host.endswith(".azure.com")


def body(config: ModelConfig, request: Request, url: str, *, folds: bool = False) -> dict[str, Any]:
    """Return the JSON body of a request; `folds` puts the system text at the head of the user's turn."""
    decoding = request.decoding
    # OpenAI's own newer models refuse `max_tokens`; most other servers know nothing else.
    limit = "max_completion_tokens" if is_openai(url) else "max_tokens"
    messages = fold_system(request.messages) if folds else request.messages
    sent = {
        "model": config.model,
        "messages": [{"role": role, "content": content} for role, content in messages],
        "temperature": decoding.temperature,
        "seed": decoding.seed,
        limit: decoding.max_new_tokens,
    }
    if request.schema is not None:
        named = {"name": "reply", "strict": True, "schema": json.loads(request.schema)}
        sent["response_format"] = {"type": "json_schema", "json_schema": named}
    if config.thinking is not None:
        sent["chat_template_kwargs"] = {"enable_thinking": config.thinking}
    return sent | config.extra_body


def read(status: int, data: bytes, seconds: float | None = None, *, folded: bool = False) -> Reply | Trouble:
    """Return the reply in an answer, or what kept it from being one, e.g. `Trouble("failed", "status 500: ...")`.

    `folded`: the request had no system turn any more, so that none can be the trouble.
    """
    try:
        answer = json.loads(data)
    except ValueError:  # proxies send pages of HTML, also with status 200
        answer = None
    if status != 200:
        return _refused(status, reason(answer) or data[:300].decode(errors="replace"), folded)
    if not isinstance(answer, dict):
        return Trouble(
            "failed", f"status 200 with a body that is no JSON object: {data[:200].decode(errors='replace')}"
        )
    if answer.get("error") and not answer.get("choices"):  # some routers wrap a provider's failure in a 200
        code = answer["error"].get("code") if isinstance(answer["error"], dict) else None
        return _refused(code if isinstance(code, int) and code >= 400 else 502, reason(answer), folded)
    return _reply(answer, seconds)


def _refused(status: int, why: str, folded: bool) -> Reply | Trouble:
    what = f"status {status}: {why}"
    final = bool(_FINAL.search(why))
    if status in _REFUSALS and not folded and _NO_SYSTEM.search(why):
        return Trouble("system", what)
    if status in {401, 402, 404} or (not final and _SETUP.search(why)):
        return Trouble("setup", what)
    if status == 429 and not _TOO_LARGE.search(why):
        return Trouble("limited", what)
    if status >= 500 or status in _TRANSIENT:
        return Trouble("failed", what)
    return Reply(None, Status.REJECTED if final and status in _REFUSALS else Status.API_ERROR, error=what)


def is_refusal(reply: Reply) -> bool:
    """Return whether a reply is a refusal that may be the settings' fault, not the prompt's."""
    return reply.status == Status.API_ERROR and (reply.error or "").startswith("status ")


def reason(answer: Any) -> str:
    """Return the server's own words, e.g. `content_filter: The response was filtered ...`; empty if there are none."""
    error = answer.get("error", answer) if isinstance(answer, dict) else answer
    if not isinstance(error, dict):
        return "" if error is None else str(error)
    code, message = error.get("code") or error.get("type"), error.get("message") or error.get("detail")
    return f"{code}: {message}" if code and message else str(message or code or error)


def _reply(answer: dict[str, Any], seconds: float | None) -> Reply:
    """The reply in a completion; odd or missing fields make it `empty`, never an answer."""
    usage = answer.get("usage")
    usage = usage if isinstance(usage, dict) else {}
    counts: dict[str, Any] = {name: _count(usage.get(name)) for name in ("prompt_tokens", "completion_tokens")}
    counts["seconds"] = seconds
    choices = answer.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices and isinstance(choices[0], dict) else {}
    message, finish = choice.get("message"), choice.get("finish_reason")
    if not isinstance(message, dict):
        return Reply(None, Status.EMPTY, error="the server's reply holds no choice", **counts)
    thought, content = split_reasoning(_text(message.get("content")))
    if not content and (refusal := _text(message.get("refusal")).strip()):
        content, finish = refusal, "refusal"  # a response, told apart from the others by its finish reason
    given = _text(message.get("reasoning_content")) or _text(message.get("reasoning"))
    reasoning = given.strip() or thought
    if finish == "content_filter":
        return Reply(None, Status.REJECTED, finish, reasoning=reasoning, error="cut by the content filter", **counts)
    status = Status.OK if content else without_content(finish)
    return Reply(content or None, status, finish, reasoning=reasoning, **counts)


def _text(value: Any) -> str:
    """A message's content as text; some servers send it in parts."""
    if isinstance(value, list):
        return "".join(_text(part.get("text")) for part in value if isinstance(part, dict))
    return value if isinstance(value, str) else ""


def _count(value: Any) -> int | None:
    return value if isinstance(value, int) else None
