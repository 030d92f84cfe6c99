"""OpenAI's Batch API: the same requests at half the price, answered within a day (`batch: true` in the profile).

Requests go up as files, batches are polled, and their outputs collected. Nothing is kept here between runs: a batch
carries the engine's identity in its metadata and each request its journal key, so a run that was ended finds its
batches in the account's list again, waits for those that are under way and collects those that are done. What failed
in part (expired, server errors, no content) goes into another batch.

Left out: cancelling batches, deleting files. As long as the server keeps a finished batch (OpenAI: 30 days), a request
dropped from the journal gets the batch's reply again.
"""

from __future__ import annotations

import json
import time
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from openai.types import Batch

from perg_utils.core.profile import ModelConfig
from perg_utils.core.progress import Progress
from perg_utils.core.schema import Status
from perg_utils.core.workspace import digest
from perg_utils.engines.api.account import Account
from perg_utils.engines.api.completions import Trouble, body, is_refusal, read
from perg_utils.engines.api.endpoints import faulty, urls
from perg_utils.engines.api.pricing import Meter
from perg_utils.engines.api.retries import EMPTIES
from perg_utils.engines.base import EngineError, Reply, Request

#: What one batch may hold (OpenAI: 50,000 requests, 200 MB).
MOST_REQUESTS, MOST_BYTES = 50_000, 100_000_000
POLL_SECONDS = 20.0
#: How often a request may fail before it is set aside, and a batch be refused for want of quota while none is running.
ROUNDS, REFUSALS = 4, 5
#: A batch may take a day: with less budget left than for this share of what is open, the run ends instead.
WORTH = 0.05
_DEAD_AFTER = 16
_UNDER_WAY = {"validating", "in_progress", "finalizing", "cancelling"}


class BatchRun:
    """One run over `requests`; `replies` yields (position, reply) as batches finish."""

    def __init__(
        self, config: ModelConfig, identity: Mapping[str, str], key: str, requests: Sequence[Request], meter: Meter
    ) -> None:
        self.config, self.meter, self.total = config, meter, len(requests)
        self.account = Account(urls(config)[0], key)
        self.mark = digest(dict(identity))
        self.positions: dict[str, list[int]] = defaultdict(list)
        self.requests: dict[str, Request] = {}
        for position, request in enumerate(requests):
            name = request.key(identity)
            self.positions[name].append(position)
            self.requests[name] = request
        self.open = dict.fromkeys(self.requests)  # keys without a reply, in order
        self.running: dict[str, set[str]] = {}  # batch -> keys
        self.bounds: dict[str, float] = {}  # key -> dollars set aside
        self.failures: Counter[str] = Counter()
        self.empties: Counter[str] = Counter()
        self.folds = False
        self._answered = self._refused = self._quota = 0
        self._most = MOST_REQUESTS

    def replies(self) -> Iterator[tuple[int, Reply]]:
        """Yield (position, reply); raises `EngineError` when going on makes no sense."""
        for batch in self._found():
            if batch.status in _UNDER_WAY:
                lines = self.account.lines(batch.input_file_id)
                self.running[batch.id] = {line["custom_id"] for line in lines} & set(self.open)
                for name in self.running[batch.id]:
                    self.bounds[name] = self.meter.bound(self.requests[name])
                    self.meter.reserve(self.bounds[name], sent=True)
            else:
                yield from self._collect(batch, earlier=True)
        if not self.open:
            return
        with Progress("at the server", len(self.requests), unit="requests", every=0) as progress:
            while self.open:
                self._submit()
                if not self.running:
                    raise self.meter.exhausted(len(self.open))
                yield from self._poll(progress)
                progress.done = self._done()

    def _found(self) -> list[Batch]:
        """Batches of this engine in the account, those under way first: what they hold is not asked again."""
        mine = [b for b in self.account.batches() if (b.metadata or {}).get("perg") == self.mark]
        return sorted(mine, key=lambda batch: batch.status not in _UNDER_WAY)

    def _submit(self) -> None:
        """Put what is neither answered nor under way into batches, as far as the budget goes."""
        under_way = set().union(*self.running.values())
        todo = [name for name in self.open if name not in under_way]
        while todo:
            lines: list[bytes] = []
            size = 0
            for name in todo[: self._most]:
                sent = body(self.config, self.requests[name], self.account.url, folds=self.folds)
                row = {"custom_id": name, "method": "POST", "url": "/v1/chat/completions", "body": sent}
                line = json.dumps(row).encode() + b"\n"
                bound = self.meter.bound(self.requests[name])
                if (lines and size + len(line) > MOST_BYTES) or not self.meter.reserve(bound):
                    break
                self.bounds[name] = bound
                lines.append(line)
                size += len(line)
            if len(lines) < len(todo) * WORTH and len(lines) < self._most and size < MOST_BYTES / 2:
                for name in todo[: len(lines)]:  # the rest of the budget is not worth another day
                    self._settle(name, None)
                return
            mark = {"perg": self.mark, "folded": str(self.folds)}
            batch = self.account.submit(self.account.upload(b"".join(lines)), mark)
            self.running[batch.id] = set(todo[: len(lines)])
            todo = todo[len(lines) :]

    def _done(self) -> int:
        """How many requests have their reply here."""
        return len(self.requests) - len(self.open)

    def _poll(self, progress: Progress) -> Iterator[tuple[int, Reply]]:
        """Wait until a batch has finished, and collect it."""
        while True:
            done = 0
            for name in list(self.running):
                batch = self.account.batch(name)
                if batch.status not in _UNDER_WAY:
                    yield from self._collect(batch)
                    return
                done += batch.request_counts.completed if batch.request_counts else 0
            progress.reach(self._done() + done)
            time.sleep(POLL_SECONDS)

    def _collect(self, batch: Batch, *, earlier: bool = False) -> Iterator[tuple[int, Reply]]:
        """Yield the replies of a finished batch; what failed stays open. Of an `earlier` run only final ones count."""
        fault, folded = "", (batch.metadata or {}).get("folded") == "True"
        for file in (batch.output_file_id, batch.error_file_id):
            for line in self.account.lines(file):
                name = line["custom_id"]
                if name not in self.open:
                    continue
                found = _read(line, folded)
                if earlier and not (isinstance(found, Reply) and found.is_final):
                    continue
                self._settle(name, found)
                if isinstance(found, Trouble) and found.kind == "setup":
                    fault = fault or found.reason
                reply = self._verdict(name, found)
                if reply is not None:
                    fault = fault or self._all_refused(reply)
                    del self.open[name]
                    yield from ((position, reply) for position in self.positions[name])
        for name in self.running.pop(batch.id, set()):
            self._settle(name, None)  # what the server did not answer it does not charge
        if not earlier:
            self._check(batch, fault)

    def _verdict(self, name: str, found: Reply | Trouble) -> Reply | None:
        """The reply for good, or None where the request is to be asked again."""
        if isinstance(found, Trouble):
            self.folds = self.folds or found.kind == "system"
            self.failures[name] += 1
            if self.failures[name] < ROUNDS or found.kind == "setup":
                return None
            return Reply(None, Status.API_ERROR, error=f"tried {ROUNDS} times, last: {found.reason}")
        if found.status == Status.EMPTY and not found.is_final:
            self.empties[name] += 1
            return found if self.empties[name] >= EMPTIES else None
        return found

    def _settle(self, name: str, found: Reply | Trouble | None) -> None:
        reply = found if isinstance(found, Reply) else None
        self.meter.settle(self.bounds.pop(name, 0.0), reply, billed=reply is not None and reply.status == Status.OK)

    def _all_refused(self, reply: Reply) -> str:
        """The reason, where the server has refused all that it was asked at first."""
        self._answered += not is_refusal(reply)
        self._refused += is_refusal(reply)
        return str(reply.error) if not self._answered and self._refused >= min(_DEAD_AFTER, self.total) else ""

    def _check(self, batch: Batch, fault: str) -> None:
        """Raise `EngineError` where another batch would end like this one."""
        errors = (batch.errors.data if batch.errors else None) or []
        why = self.account.clean("; ".join(f"{e.code}: {e.message}" for e in errors[:3]))
        if fault:
            raise faulty(self.account.url, self.config, fault)
        if batch.status == "cancelled":
            raise EngineError(f"batch {batch.id} was cancelled; what it had is kept; run again to ask the rest")
        if batch.status != "failed":
            self._quota = 0
        elif any("token_limit" in str(e.code) for e in errors) and self._quota < REFUSALS:
            # The account's queue is full: smaller batches, after a while.
            self._quota += 1
            self._most = max(1, min(self._most, len(self.open)) // 2)
            time.sleep(POLL_SECONDS)
        else:
            raise EngineError(f"batch {batch.id} was not accepted by {self.account.url} ({why or 'no reason given'})")


def _read(line: dict[str, Any], folded: bool) -> Reply | Trouble:
    """What a line of an output or error file says."""
    response = line.get("response")
    if not response:
        error = line.get("error") or {}
        return Trouble("failed", f"{error.get('code')}: {error.get('message')}")
    return read(int(response["status_code"]), json.dumps(response.get("body")).encode(), folded=folded)
