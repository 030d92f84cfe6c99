"""Which prompts run together: batches of like length, prompts that begin alike, or a running batch that rows join.

On a CPU greedy replies run in one batch that rows leave and join (`decoding`), families of prompts that begin alike
together. Batches, for all else: longest prompts first, padded on the left, as many as fit into memory; one that does
not fit is halved and run again. Continuous batching, the library's (greedy replies only), is what a GPU has for it:
whether that is faster, and gives the very same tokens, is measured on the first prompts where the profile leaves it
open (`batching: auto`); on a CPU batches were four times as fast.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import NamedTuple

from perg_utils.engines.base import Decoding, Effort, EngineError
from perg_utils.engines.local import memory, prefixes
from perg_utils.engines.local.checkpoint import Checkpoint

#: So many prompts are run both ways before one is chosen.
PILOT = 64
# What the library raises for a model or machine that continuous batching does not suit.
_STREAM_ERRORS = (RuntimeError, ValueError, ImportError, AttributeError, TypeError)


class Job(NamedTuple):
    """Prompts (tokens) with one decoding and one limit of new tokens; `members` are positions in `prompts`."""

    prompts: Sequence[list[int]]
    members: list[int]
    limit: int
    decoding: Decoding

    def by_length(self) -> list[int]:
        """Return the members, longest prompt first."""
        return sorted(self.members, key=lambda index: -len(self.prompts[index]))


#: (position, new tokens, seconds: a share of the time it took)
Done = tuple[int, list[int], float]


class Scheduler:
    """Runs jobs on a checkpoint. `batch_size` None: as many as fit; `batching` as in the profile."""

    def __init__(self, checkpoint: Checkpoint, batch_size: int | None, batching: str) -> None:
        self.checkpoint, self.batch_size = checkpoint, batch_size
        self._share = 1.0  # of the rows that should fit: halved when they did not
        #: Whether rows join a running batch; None: to be found out.
        self.continuous: bool | None = batching == "continuous"
        if batching == "auto" and checkpoint.on_one_gpu:
            self.continuous = None
        #: Whether replies run in `decoding`'s batch.
        self.flows = batching == "auto" and not checkpoint.on_gpu and checkpoint.can_share

    def run(self, job: Job, tell: Callable[[Effort], None] | None = None) -> Iterator[Done]:
        """Yield each member once, in any order. Raises `EngineError` where not even one prompt fits into memory.

        Where rows run in a batch of our own, `tell` is called after every pass.
        """
        greedy = job.decoding.temperature == 0
        if self.flows:
            yield from self._flow(job, tell)
        elif not greedy or self.continuous is False:
            yield from self._batches(job)
        elif self.continuous:
            yield from self._stream(job)
        elif len(job.members) < PILOT:
            yield from self._batches(job)
        else:
            step = len(job.members) // PILOT
            chosen = job.by_length()[::step][:PILOT]
            yield from self._pilot(job._replace(members=chosen))
            yield from self.run(job._replace(members=sorted(set(job.members) - set(chosen))), tell)

    def _pilot(self, job: Job) -> Iterator[Done]:
        """Answer the job in batches, then again with continuous batching, and choose."""
        start, known = time.perf_counter(), {}
        for done in self._batches(job):
            known[done[0]] = done[1]
            yield done
        plain = time.perf_counter() - start
        memory.release()  # continuous batching takes what is free
        try:
            with self.checkpoint.streaming(job.prompts, job.members, job.limit) as stream:
                start = time.perf_counter()
                same = dict(stream) == known
                joined = time.perf_counter() - start
        except _STREAM_ERRORS as error:
            self._give_up(error)
            return
        self.continuous = same and joined < plain
        verdict = "continuous" if self.continuous else "in batches"
        print(
            f"{self.checkpoint.name}: {len(known)} prompts took {plain:.1f} s in batches and {joined:.1f} s with "
            f"continuous batching, {'the same' if same else 'other'} tokens; going on {verdict}"
        )

    def _stream(self, job: Job) -> Iterator[Done]:
        waiting = set(job.members)
        try:
            with self.checkpoint.streaming(job.prompts, job.members, job.limit) as stream:
                last = time.perf_counter()
                for index, tokens in stream:
                    waiting.discard(index)
                    now = time.perf_counter()
                    yield index, tokens, now - last
                    last = now
        except _STREAM_ERRORS as error:
            self._give_up(error)
        if waiting:
            yield from self._batches(job._replace(members=sorted(waiting)))

    def _give_up(self, error: Exception) -> None:
        self.continuous = False
        memory.release()
        print(f"{self.checkpoint.name}: no continuous batching here ({error}); going on in batches")

    def _flow(self, job: Job, tell: Callable[[Effort], None] | None) -> Iterator[Done]:
        waiting = set(job.members)
        while waiting:
            rows, failure = max(1, int(self._share * (self.batch_size or memory.MOST_ROWS_CPU))), None
            tokens = None if self.batch_size else self.checkpoint.tokens_that_fit()
            try:
                found = prefixes.families(job.prompts, sorted(waiting), rows)
                how = replace(job.decoding, max_new_tokens=job.limit)
                for done in self.checkpoint.decoder(how, tell).run(job.prompts, found, rows, tokens):
                    waiting.discard(done[0])
                    yield done
            except (RuntimeError, MemoryError) as error:
                if not memory.is_full(error):
                    raise
                failure = str(error)
            if failure is not None:
                self._halve(job.by_length()[:rows], job, failure, rows)

    def _batches(self, job: Job) -> Iterator[Done]:
        for shared, members in prefixes.groups(job.prompts, job.members):
            queue = job._replace(members=members).by_length()
            while queue:
                batch = queue[: self._rows(len(job.prompts[queue[0]]), job.limit)]
                start, failure = time.perf_counter(), None
                try:
                    replies = self.checkpoint.complete(
                        [job.prompts[index] for index in batch], job.limit, job.decoding, shared
                    )
                except (RuntimeError, MemoryError) as error:
                    if not memory.is_full(error):
                        raise
                    failure = str(error)
                if failure is not None:  # only now: inside `except` the error still holds the batch
                    self._halve(batch, job, failure)
                    continue
                del queue[: len(batch)]
                seconds = (time.perf_counter() - start) / len(batch)
                for index, tokens in zip(batch, replies, strict=True):
                    yield index, tokens, seconds

    def _rows(self, length: int, limit: int) -> int:
        wanted = self.batch_size or self.checkpoint.rows_that_fit(length, limit)
        return max(1, int(wanted * self._share))

    def _halve(self, batch: list[int], job: Job, failure: str, allowed: int | None = None) -> None:
        memory.release()
        longest = len(job.prompts[batch[0]])
        if len(batch) == 1:
            raise EngineError(
                f"'{self.checkpoint.name}': out of memory with a single prompt of {longest} tokens ({failure}); set "
                "quantization: nf4 or device_map: auto for it, or choose a smaller model"
            )
        # A last batch may have held fewer rows than were allowed.
        self._share *= (len(batch) // 2 + 0.5) / (allowed or self._rows(longest, job.limit))
        print(f"{self.checkpoint.name}: out of memory with {len(batch)} prompts, going on with {len(batch) // 2}")
