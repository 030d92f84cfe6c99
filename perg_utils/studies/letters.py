"""Which of a few labels a model would write next, letters of options or ratings: their likelihoods.

Importing this imports torch. For models that run in this process.
"""

from __future__ import annotations

from collections.abc import Sequence

from perg_utils.core.profile import ModelConfig
from perg_utils.core.progress import Progress
from perg_utils.core.schema import LETTERS
from perg_utils.engines.base import EngineError, Messages
from perg_utils.engines.local.checkpoint import Checkpoint
from perg_utils.engines.local.engine import find_model, resolved

#: How a label may follow; the first form that is one token a label is used.
_FORMS = (" {}", "{}")
#: Questions have no more options.
_LETTERS = LETTERS[:12]
_BATCH = 8


def likelihoods(
    config: ModelConfig, asked: Sequence[tuple[Messages, str, int]], labels: Sequence[str] = _LETTERS
) -> list[list[float]]:
    """Return the probability of each label as the next token, among the first labels of the row: its options' letters.

    Each row: the chat, what stands behind it (a response and what is appended to it), and how many labels it has.
    Rows too long for the model's context are cut at their beginning. Raises `EngineError` for a server, and where no
    form of the labels is one token each.
    """
    if config.engine != "transformers":
        raise EngineError(f"'{config.name}': likelihoods need a model that runs here, not a server")
    chosen = resolved(config)
    checkpoint = Checkpoint(chosen, find_model(chosen, fetch=True))
    forms = (checkpoint.single_tokens([form.format(x) for x in labels]) for form in _FORMS)
    tokens = next((found for found in forms if found is not None), None)
    if tokens is None:
        raise EngineError(f"'{config.name}': its tokenizer has no single token for each of {', '.join(labels)}")
    encoded = checkpoint.encode([checkpoint.render(chat) + behind for chat, behind, _ in asked])
    room = checkpoint.context or max(map(len, encoded), default=1)
    order = sorted(range(len(encoded)), key=lambda row: len(encoded[row]))
    out: list[list[float]] = [[] for _ in encoded]
    with Progress(f"{config.name}, likelihoods", len(order)) as progress:
        for start in range(0, len(order), _BATCH):
            some = order[start : start + _BATCH]
            logits = checkpoint.logits_behind([encoded[row][-room:] for row in some])
            for row, own in zip(some, logits, strict=True):
                out[row] = own[tokens[: asked[row][2]]].softmax(-1).tolist()
            progress.advance(len(some))
    return out
