"""What requests cost: a dated, editable price table, the live count of tokens and dollars, and the limit on them.

Prices are the providers' list prices as `data/prices.csv` says, with date and source; check them before you rely on
them. Left out: discounts for cached prompts, taxes, negotiated prices.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from perg_utils.core.profile import ROOT, ModelConfig
from perg_utils.engines.base import EngineError, Reply, Request, short
from perg_utils.engines.journal import Journal

PRICES = ROOT / "data" / "prices.csv"
#: Tokens of a chat beyond its texts (roles, separators): an upper bound for one message.
_MESSAGE_TOKENS = 16


@dataclass(frozen=True)
class Price:
    """US dollars for a million tokens, and when that was so."""

    prompt: float
    completion: float
    as_of: str

    def of(self, prompt_tokens: float, completion_tokens: float) -> float:
        """Return the dollars for so many tokens."""
        return (self.prompt * prompt_tokens + self.completion * completion_tokens) / 1e6


def price_of(config: ModelConfig) -> Price | None:
    """Return the price of a model, e.g. `Price(0.15, 0.6, "2024-07-18")`; None for one the table does not have.

    A dated name (`gpt-4o-mini-2024-07-18`) without a row of its own has the price of the undated one. Raises
    `EngineError` for a table that cannot be read.
    """
    if config.engine != "api":
        return None
    table = _table(PRICES)
    row = table.get(config.model) or table.get(re.sub(r"-\d{4}-?\d{2}-?\d{2}$", "", config.model))
    if row is None:
        return None
    share = float(row["batch_share"] or 1) if config.batch else 1.0
    return Price(float(row["prompt_usd"]) * share, float(row["completion_usd"]) * share, row["as_of"])


def cost_of(configs: Iterable[ModelConfig]) -> Callable[[str, int, int], float | None] | None:
    """Return the dollars of (model, prompt tokens, completion tokens) by the prices of `configs`; None if none has one.

    The model is the server's name of it, as the journal keeps it.
    """
    prices = {config.model: price for config in configs if (price := price_of(config)) is not None}
    if not prices:
        return None
    return lambda model, asked, replied: prices[model].of(asked, replied) if model in prices else None


def _table(path: Path) -> dict[str, dict[str, str]]:
    columns = {"model", "prompt_usd", "completion_usd", "batch_share", "as_of", "source"}
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        for row in rows:
            if set(row) != columns:
                raise ValueError(f"its columns must be {', '.join(sorted(columns))}")
            for name in ("prompt_usd", "completion_usd", "batch_share"):
                if float(row[name] or 0) < 0:
                    raise ValueError(f"{row['model']}: {name} is {row[name]}")
    except (OSError, ValueError) as error:
        raise EngineError(f"the price table {path} cannot be used: {error}") from error
    return {row["model"]: row for row in rows}


class Meter:
    """Tokens and dollars of a model in this run, and whether one more request fits below `max_cost_usd`."""

    def __init__(self, config: ModelConfig) -> None:
        self.config, self.price = config, price_of(config)
        self.prompt_tokens = self.completion_tokens = 0
        self.spent = self.earlier = self._reserved = 0.0

    def check(self) -> None:
        """Raise `EngineError` where there is a limit on the cost but no price."""
        if self.config.max_cost_usd is not None and self.price is None:
            raise EngineError(
                f"'{self.config.name}' has max_cost_usd {self.config.max_cost_usd}, but {PRICES} has no price for "
                f"'{self.config.model}': add a row (US dollars for a million tokens), or leave max_cost_usd out"
            )

    def carry(self, journal: Journal) -> None:
        """Count towards the limit what the journal's replies of this model have cost, at today's prices.

        May be called again at any time: what this meter has seen itself is not counted twice.
        """
        sums = "coalesce(sum(prompt_tokens), 0), coalesce(sum(completion_tokens), 0)"
        found = journal.execute(f"SELECT {sums} FROM replies WHERE model = ?", [self.config.model])
        if self.price and found:
            self.carry_dollars(self.price.of(*found[0]))

    def carry_dollars(self, total: float) -> None:
        """Count towards the limit that the model has cost `total` dollars so far, this meter's own among them."""
        if self.price:
            # Never less than before: not all that was seen is in the journal (content that came empty at first).
            seen = self.price.of(self.prompt_tokens, self.completion_tokens)
            self.earlier = max(self.earlier, total - seen)

    def bound(self, request: Request) -> float:
        """Return the most that one attempt at a request can cost: no token is shorter than a byte."""
        if self.price is None:
            return 0.0
        prompt = sum(len(content.encode()) + _MESSAGE_TOKENS for _, content in request.messages)
        return self.price.of(prompt + _MESSAGE_TOKENS, request.decoding.max_new_tokens)

    def reserve(self, bound: float, *, sent: bool = False) -> bool:
        """Set `bound` dollars aside for a request about to be sent; false, and nothing done, where that is too much.

        One that was `sent` by an earlier run and is not answered yet will cost whatever the limit says.
        """
        most = self.config.max_cost_usd
        if not sent and most is not None and self.earlier + self.spent + self._reserved + bound > most:
            return False
        self._reserved += bound
        return True

    def settle(self, bound: float, reply: Reply | None, *, billed: bool = True) -> None:
        """Replace what was set aside by what the reply cost; by the bound where nobody says and it may be `billed`."""
        self._reserved -= bound
        if reply is not None and reply.prompt_tokens is not None and reply.completion_tokens is not None:
            self.prompt_tokens += reply.prompt_tokens
            self.completion_tokens += reply.completion_tokens
            self.spent += self.price.of(reply.prompt_tokens, reply.completion_tokens) if self.price else 0.0
        elif billed:
            self.spent += bound

    def exhausted(self, waiting: int) -> EngineError:
        """Return the error that says that the limit is reached with so many requests not yet answered."""
        return EngineError(
            f"'{self.config.name}' has cost {self.earlier + self.spent:.4f} USD; the next request could cross "
            f"max_cost_usd {self.config.max_cost_usd}. All replies so far are kept and {waiting:,} requests are left; "
            "raise max_cost_usd and run the same command to go on"
        )

    def __str__(self) -> str:
        if not self.prompt_tokens:
            return ""
        tokens = f"{short(self.prompt_tokens)}+{short(self.completion_tokens)} tokens"
        return tokens if self.price is None else f"{tokens}, {self.spent:,.2f} USD"
