"""One running batch: what prompts share is read once, a row leaves when its reply ends, others take its place.

Only for models whose attention sees the whole past through a mask (`Checkpoint.can_share`). In float32 every row gets
the tokens that it would get alone; also where they are drawn, as each row has random numbers of its own. Why not the
library's own: `generate` keeps a batch together until its longest reply has ended and so works for rows that are done,
and its continuous batching was four times slower on a CPU. Importing this imports torch.

All rows of the batch end in the same column; what stands to the left of a row, or between its beginning and its rest,
is masked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch.nn.functional import pad
from transformers import DynamicCache
from transformers.cache_utils import DynamicLayer

from perg_utils.core.workspace import digest
from perg_utils.engines.base import Decoding, Effort
from perg_utils.engines.local.prefixes import Family

# Room for so many more tokens is made when a buffer is full.
_ROOM = 64
# Tokens read in one pass, with their padding: more took longer a token, as activations left the processor's cache.
_TOKENS = 1024


class _Buffer(DynamicLayer):
    """Keys and values of a layer with room to spare: a new token does not copy those before it."""

    keys: torch.Tensor
    values: torch.Tensor
    _room: list[torch.Tensor]

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        super().lazy_initialization(key_states, value_states)
        self._hold([_moved(some[:, :, :0], 0) for some in (key_states, value_states)], 0)

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Put new keys and values behind those that are there, and return all."""
        if not self.is_initialized:
            self.lazy_initialization(key_states, value_states)
        start = self.keys.shape[-2]
        end = start + key_states.shape[-2]
        if end > self._room[0].shape[-2]:
            self._room = [pad(room, (0, 0, 0, key_states.shape[-2] + _ROOM)) for room in self._room]
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, start:end] = new
        self._hold(self._room, end)
        return self.keys, self.values

    def choose(self, rows: torch.Tensor, first: int = 0) -> None:
        """Keep these rows, one that is named twice twice, without the columns before `first`."""
        some = [held[rows, :, first:] for held in (self.keys, self.values)]
        self._hold([_moved(held, held.shape[-2]) for held in some], some[0].shape[-2])

    def join(self, others: Sequence[_Buffer], width: int) -> None:
        """Put the rows of other buffers below these, all moved right to be `width` wide."""
        every = [self, *others]
        both = [some.keys for some in every], [some.values for some in every]
        self._hold([torch.cat([_moved(part, width) for part in parts]) for parts in both], width)

    def _hold(self, room: list[torch.Tensor], width: int) -> None:
        self._room = room
        self.keys, self.values = (held[:, :, :width] for held in room)


def _moved(some: torch.Tensor, width: int) -> torch.Tensor:
    """The same columns at the end of `width` columns, with room behind them."""
    out = some.new_zeros(*some.shape[:2], width + _ROOM, some.shape[-1])
    out[:, :, width - some.shape[-2] : width] = some
    return out


@dataclass
class _Row:
    index: int
    draw: torch.Generator | None
    tokens: list[int] = field(default_factory=list)
    seconds: float = 0.0


@dataclass
class _Batch:
    """Rows with their cache; `mask` (rows, columns) says what each row sees, `at` is the position of its next token."""

    rows: list[_Row]
    cache: Any
    mask: torch.Tensor
    at: torch.Tensor
    last: torch.Tensor

    def keep(self, rows: list[int]) -> None:
        """Let the other rows go, and the columns that only they had."""
        chosen = torch.tensor(rows)
        mask = self.mask[chosen]
        first = int(mask.any(0).int().argmax())
        for layer in self.cache.layers:
            layer.choose(chosen, first)
        self.rows = [self.rows[row] for row in rows]
        self.mask, self.at, self.last = mask[:, first:], self.at[chosen], self.last[chosen]


def _joined(batches: Sequence[_Batch]) -> _Batch:
    """All rows in one batch, as wide as the widest."""
    if len(batches) == 1:
        return batches[0]
    width = max(batch.mask.shape[1] for batch in batches)
    for first, *others in zip(*(batch.cache.layers for batch in batches), strict=True):
        first.join(others, width)
    masks = [pad(batch.mask, (width - batch.mask.shape[1], 0)) for batch in batches]
    rows = [row for batch in batches for row in batch.rows]
    at, last = (torch.cat([getattr(batch, name) for batch in batches]) for name in ("at", "last"))
    return _Batch(rows, batches[0].cache, torch.cat(masks), at, last)


class Decoder:
    """Decodes with `model` as `how` says, up to its limit of new tokens; a reply ends with a token of `stop`.

    `filler` is any token. `tell` is called after every pass through the model.
    """

    def __init__(
        self, model: Any, stop: set[int], filler: int, how: Decoding, tell: Callable[[Effort], None] | None = None
    ) -> None:
        self._model, self._stop, self._filler, self._how, self._tell = model, stop, filler, how, tell
        self._limit = how.max_new_tokens
        #: How far the last or running `run` is.
        self.effort = Effort()

    def run(
        self, prompts: Sequence[list[int]], families: Sequence[Family], most: int, tokens: int | None = None
    ) -> Iterator[tuple[int, list[int], float]]:
        """Yield (member, new tokens, seconds) as replies end, each member of the families once.

        At most `most` rows run at a time, and so many that the longest of them would hold `tokens` tokens if all were
        as long (None: any); longest prompts first. A pass's seconds are shared out among its rows.
        """

        def room(width: int) -> int:
            return most if tokens is None else max(1, min(most, tokens // (width + self._limit)))

        waiting = list(families)[::-1]
        self.effort = Effort(
            to_read=sum(f.shared + sum(len(prompts[i]) - f.shared for i in f.members) for f in families),
            rows=sum(len(f.members) for f in families),
            limit=self._limit,
        )
        batch: _Batch | None = None
        with torch.inference_mode():
            while waiting or batch is not None:
                running, width = (len(batch.rows), batch.mask.shape[1]) if batch else (0, 0)
                if waiting:
                    width = max(width, *(len(prompts[index]) for index in waiting[-1].members))
                    free = room(width) - running
                    if not running and free < len(waiting[-1].members):
                        waiting[-1:] = _split(waiting[-1], free)
                # The running rows wait while others are read, and few at a time are read slowly.
                if waiting and (batch is None or free >= max(len(waiting[-1].members), room(width) // 4)):
                    coming: list[Family] = []
                    while waiting and len(waiting[-1].members) <= free:
                        coming.append(waiting.pop())
                        free -= len(coming[-1].members)
                    new = [self._read(prompts, some) for some in _portions(prompts, coming)]
                    batch = _joined(new if batch is None else [batch, *new])
                elif batch is not None:
                    self._write(batch)
                assert batch is not None
                done = [n for n, row in enumerate(batch.rows) if self._has_ended(row)]
                self.effort.ended += len(done)
                for n in done:
                    row = batch.rows[n]
                    yield row.index, row.tokens, row.seconds
                if len(done) == len(batch.rows):
                    batch = None
                elif done:
                    batch.keep(sorted(set(range(len(batch.rows))) - set(done)))

    def _has_ended(self, row: _Row) -> bool:
        return row.tokens[-1] in self._stop or len(row.tokens) >= self._limit

    def _read(self, prompts: Sequence[list[int]], families: Sequence[Family]) -> _Batch:
        """Read each family's beginning once, then the rests of its prompts, up to the first tokens of the replies."""
        start = time.perf_counter()
        cache: Any = DynamicCache()
        cache.layers = [_Buffer() for _ in range(self._model.config.get_text_config().num_hidden_layers)]
        tokens, seen = self._padded([prompts[family.members[0]][: family.shared] for family in families])
        owner = torch.tensor([n for n, family in enumerate(families) for _ in family.members])
        if seen.shape[1]:  # a prompt of one token has no beginning
            self._pass(tokens, seen, _positions(seen), cache)
            for layer in cache.layers:
                layer.choose(owner)
        rests = [prompts[index][family.shared :] for family in families for index in family.members]
        tokens, more = self._padded(rests)
        mask = torch.cat([seen[owner], more], 1)
        positions = _positions(mask)[:, seen.shape[1] :]
        rows = [_Row(index, self._draw(prompts[index])) for family in families for index in family.members]
        last = self._chosen(self._pass(tokens, mask, positions, cache), rows)
        self._note(rows, last, start, sum(family.shared for family in families) + sum(map(len, rests)))
        return _Batch(rows, cache, mask, positions[:, -1] + 1, last)

    def _write(self, batch: _Batch) -> None:
        """Give every row one more token."""
        start = time.perf_counter()
        batch.mask = pad(batch.mask, (0, 1), value=True)
        logits = self._pass(batch.last[:, None], batch.mask, batch.at[:, None], batch.cache)
        batch.last = self._chosen(logits, batch.rows)
        batch.at = batch.at + 1
        self._note(batch.rows, batch.last, start, 0)

    def _pass(self, tokens: torch.Tensor, mask: torch.Tensor, positions: torch.Tensor, cache: Any) -> torch.Tensor:
        """What the model says of the next token: (rows, words)."""
        out = self._model(
            input_ids=tokens,
            attention_mask=mask.long(),
            position_ids=positions,
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        return out.logits[:, -1]

    def _draw(self, prompt: list[int]) -> torch.Generator | None:
        """The random numbers of one reply: they depend on the seed and the prompt, and not on who runs beside it."""
        if self._how.temperature == 0:
            return None
        return torch.Generator().manual_seed(int(digest(self._how.seed, prompt)[:15], 16))

    def _chosen(self, logits: torch.Tensor, rows: Sequence[_Row]) -> torch.Tensor:
        """The next token of each row: the most likely one, or one that is drawn."""
        if self._how.temperature == 0:
            return logits.argmax(-1)
        shares = (logits.float() / self._how.temperature).softmax(-1).cpu()
        drawn = [torch.multinomial(some, 1, generator=row.draw) for some, row in zip(shares, rows, strict=True)]
        return torch.cat(drawn).to(logits.device)

    def _note(self, rows: Sequence[_Row], last: torch.Tensor, start: float, read: int) -> None:
        seconds = time.perf_counter() - start
        for row, token in zip(rows, last.tolist(), strict=True):
            row.tokens.append(token)
            row.seconds += seconds / len(rows)
        effort = self.effort
        effort.read, effort.written = effort.read + read, effort.written + len(rows)
        if read:
            effort.reading += seconds
        else:
            effort.writing += seconds
        if self._tell is not None:
            self._tell(effort)

    def _padded(self, rows: Sequence[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
        width = max(map(len, rows))
        tokens = torch.tensor([[self._filler] * (width - len(row)) + row for row in rows], dtype=torch.long)
        seen = [[False] * (width - len(row)) + [True] * len(row) for row in rows]
        return tokens, torch.tensor(seen, dtype=torch.bool)


def _split(family: Family, most: int) -> list[Family]:
    members = family.members
    return [Family(family.shared, members[at : at + most]) for at in range(0, len(members), most)]


def _positions(mask: torch.Tensor) -> torch.Tensor:
    return (mask.cumsum(1) - 1).clamp(min=0)


def _portions(prompts: Sequence[list[int]], families: Sequence[Family]) -> list[list[Family]]:
    """Families that are read together: with rests of like length, and no more than `_TOKENS` tokens in a pass.

    That is, of the beginnings, and then of the rests, with their padding; a family that has more is split, and each
    part reads the beginning. A single prompt may be longer.
    """

    def rest(family: Family) -> int:
        return max(len(prompts[index]) for index in family.members) - family.shared

    parts = []
    for family in families:
        members = sorted(family.members, key=lambda index: -len(prompts[index]))
        while members:
            fit = max(1, _TOKENS // (len(prompts[members[0]]) - family.shared))
            parts.append(Family(family.shared, members[:fit]))
            members = members[fit:]
    out: list[list[Family]] = []
    rows = longest = 0
    for family in sorted(parts, key=lambda family: (rest(family), family.shared), reverse=True):
        rows, longest = rows + len(family.members), max(longest, family.shared)
        if not out or max(rows * rest(out[-1][0]), (len(out[-1]) + 1) * longest) > _TOKENS:
            out.append([])
            rows, longest = len(family.members), family.shared
        out[-1].append(family)
    return out
