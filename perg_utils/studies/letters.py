"""Which of a few labels a model would write next, letters of options or ratings: their likelihoods.

They go through the run's journal like any reply, as JSON, so that what was computed is kept. Importing this imports
torch. For models that run in this process.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from perg_utils.core.profile import ModelConfig
from perg_utils.core.schema import LETTERS
from perg_utils.engines.base import Decoding, EngineError, Messages, Reply, Request
from perg_utils.engines.journal import Journal
from perg_utils.engines.local.checkpoint import Checkpoint
from perg_utils.engines.local.engine import TransformersEngine, find_model, resolved
from perg_utils.engines.local.prefixes import families
from perg_utils.engines.watching import watched

#: How a label may follow; the first form that is one token a label is used.
_FORMS = (" {}", "{}")
#: Questions have no more options.
_LETTERS = LETTERS[:12]
_BATCH = 8
_NOTHING_WRITTEN = Decoding(max_new_tokens=0)


def likelihoods(
    journal: Path,
    config: ModelConfig,
    asked: Sequence[tuple[Messages, str, int]],
    labels: Sequence[str] = _LETTERS,
) -> list[list[float]]:
    """Return the probability of each label as the next token, among the first labels of the row: its options' letters.

    Each row: the chat, what stands behind it (a response and what is appended to it), and how many labels it has.
    Rows too long for the model's context are cut at their beginning. What `journal` holds is not computed again. Raises
    `EngineError` for a server, and where no form of the labels is one token each.
    """
    if config.engine != "transformers":
        raise EngineError(f"'{config.name}': likelihoods need a model that runs here, not a server")
    engine = _Reader(config)
    requests = [
        Request((*chat, ("behind", behind), ("labels", "".join(labels[:count]))), _NOTHING_WRITTEN)
        for chat, behind, count in asked
    ]
    with Journal(journal) as held, watched(f"{config.name}, likelihoods", len(requests), engine, held) as progress:
        return [json.loads(str(reply.text)) for reply in held.ask(engine, requests, progress.advance)]


class _Reader:
    """An engine whose replies are the likelihoods of labels; requests end in `behind` and `labels`."""

    def __init__(self, config: ModelConfig) -> None:
        self._config = resolved(config)
        self.identity: Mapping[str, str] = {**TransformersEngine(config).identity, "gives": "likelihoods"}

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Yield the likelihoods of each request as JSON; prompts that begin alike are read together."""
        checkpoint = Checkpoint(self._config, find_model(self._config, fetch=True))
        chats = [(request.messages[:-2], request.messages[-2][1]) for request in requests]
        labels = [request.messages[-1][1] for request in requests]
        found = self._tokens(checkpoint, max(labels, key=len))
        encoded = checkpoint.encode([checkpoint.render(chat) + behind for chat, behind in chats])
        room = checkpoint.context or max(map(len, encoded), default=1)
        prompts = [tokens[-room:] for tokens in encoded]
        for shared, members in families(prompts, range(len(prompts)), _BATCH):
            logits = checkpoint.logits_behind([prompts[row] for row in members], shared)
            for row, own in zip(members, logits, strict=True):
                shares = own[found[: len(labels[row])]].softmax(-1).tolist()
                yield row, Reply(json.dumps(shares), finish_reason="stop", prompt_tokens=len(prompts[row]))

    def _tokens(self, checkpoint: Checkpoint, labels: str) -> list[int]:
        forms = (checkpoint.single_tokens([form.format(x) for x in labels]) for form in _FORMS)
        found = next((tokens for tokens in forms if tokens is not None), None)
        if found is None:
            raise EngineError(
                f"'{self._config.name}': its tokenizer has no single token for each of {', '.join(labels)}"
            )
        return found
