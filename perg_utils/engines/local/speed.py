"""How fast this machine runs a model, measured in seconds, before its weights are loaded. Importing this imports torch.

The time of a pass depends on the shape of a model and not on what its weights are: one of the same shape with made-up
weights reads some prompts and writes some replies, as the study will. Left out: how long the study's replies will be.
"""

from __future__ import annotations

import time
from typing import Any, NamedTuple

import psutil
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from perg_utils.core.profile import ModelConfig
from perg_utils.engines.base import Decoding
from perg_utils.engines.local import memory, prefixes
from perg_utils.engines.local.checkpoint import can_share
from perg_utils.engines.local.decoding import Decoder
from perg_utils.engines.local.engine import Found, resolved

# Prompts of one trial and their tokens, and the new tokens of each; a first, small trial warms up.
_TRIALS = (2, 16, 2), (32, 64, 8)
_SHARE = 0.8  # of the free memory


class Speed(NamedTuple):
    """Tokens a second, read and written in a running batch, and the memory of the weights in bytes."""

    read: float
    written: float
    weights: int

    def hours(self, prompt_tokens: int, completion_tokens: int) -> float:
        """Return the hours that so many tokens take, e.g. 1.5."""
        return (prompt_tokens / self.read + completion_tokens / self.written) / 3600


def measure(config: ModelConfig, found: Found) -> Speed | str:
    """Return the speed of a model on this machine's processor, or why it is not known (a GPU, no memory, no files)."""
    if torch.cuda.is_available():
        return "not measured on a GPU"
    try:
        more = {} if found.gguf is None else {"gguf_file": found.gguf}
        shape = AutoConfig.from_pretrained(found.source, revision=found.commit, local_files_only=True, **more)
        kind = getattr(torch, resolved(config).dtype)
        with torch.device("meta"):
            empty: Any = AutoModelForCausalLM.from_config(shape, dtype=kind)
    except Exception as error:
        return f"not measured: {str(error).splitlines()[0] if str(error) else type(error).__name__}"
    if not can_share(empty):
        return "not measured: its attention has windows or states, and it runs in plain batches"
    size = sum(weights.numel() * weights.element_size() for weights in empty.parameters())
    if size > _SHARE * psutil.virtual_memory().available:
        return f"does not fit: the weights take {size / 1e9:.1f} GB"
    model = empty.to_empty(device="cpu").eval()
    for weights in [*model.parameters(), *model.buffers()]:
        weights.data.fill_(0.01)
    memory.set_threads(model)
    return Speed(*_tokens_a_second(model), size)


def _tokens_a_second(model: Any) -> tuple[float, float]:
    read = written = 0.0
    for count, length, new in _TRIALS:
        decoder = Decoder(model, set(), 0, Decoding(new))
        prompts = [[n % 7 + 1] * length for n in range(count)]
        families = [prefixes.Family(length // 2, [n]) for n in range(count)]
        start = time.perf_counter()
        for _ in decoder.run(prompts, families, count):
            pass
        effort = decoder.effort
        read, written = effort.read / effort.reading, (effort.written - count) / effort.writing
        if time.perf_counter() - start > 5:
            break
    return read, written
