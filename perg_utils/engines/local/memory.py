"""How many prompts fit into memory at once, and how many threads a CPU model should have. Importing this imports torch.

The estimate: the cache of keys and values for prompt and reply, the widest layer's activations while the prompt is
read, the attention mask, and the logits. It is an estimate: a batch that does not fit all the same is halved by the
engine.
"""

from __future__ import annotations

import os
from typing import Any

import psutil
import torch

#: Rows a batch: beyond these nothing was gained on a CPU, and a batch of one length stops too late.
MOST_ROWS_CPU, MOST_ROWS_GPU = 64, 256
#: Where a model's shape cannot be read.
_UNKNOWN_ROWS = 32
#: The share of the free memory that a batch may take: a CPU's is shared with everything else on the machine.
_SHARE_CPU, _SHARE_GPU = 0.4, 0.8
# Below so many weights a step is too short to be worth sharing: on two cores that also did other work, two threads
# mostly waited for each other (1 million weights, 1,440 short replies: 35 a second against 540 with one thread).
_SMALL = 20_000_000


def rows_that_fit(row: int | None, free: int, on_gpu: bool) -> int:
    """Return how many rows of `row` bytes (None: unknown) fit into `free` bytes, at least 1.

    E.g. 111 for an 8-billion-parameter Llama in bfloat16, 40 GB free, 600 tokens asked and 1,024 answered.
    """
    most, share = (MOST_ROWS_GPU, _SHARE_GPU) if on_gpu else (MOST_ROWS_CPU, _SHARE_CPU)
    return min(_UNKNOWN_ROWS, most) if row is None else max(1, min(most, int(share * free / row)))


def tokens_that_fit(config: Any, element: int, free: int) -> int | None:
    """Return how many tokens of prompts and replies a running batch on a CPU may hold in `free` bytes; None: unknown.

    The cache of keys and values alone: prompts are read a portion at a time. Where rows join it is there twice.
    """
    cache = _cache_of_token(config, element)
    return None if cache is None else max(1, int(_SHARE_CPU * free / (2 * cache)))


def _cache_of_token(config: Any, element: int) -> int | None:
    try:
        heads, layers, hidden = config.num_attention_heads, config.num_hidden_layers, config.hidden_size
    except AttributeError:
        return None
    key_heads = getattr(config, "num_key_value_heads", None) or heads
    size = getattr(config, "head_dim", None) or hidden // heads
    return 2 * layers * key_heads * size * element


def bytes_per_row(config: Any, element: int, length: int, limit: int) -> int | None:
    """Return the estimated bytes of one row of a batch; None where the configuration does not tell."""
    cache = _cache_of_token(config, element)
    try:
        hidden, wide, words = config.hidden_size, config.intermediate_size, config.vocab_size
    except AttributeError:
        return None
    if cache is None:
        return None
    activations = length * (4 * hidden + 3 * wide) * element
    return cache * (length + limit) + activations + length * length * element + 2 * 4 * words


def free_bytes(model: Any) -> int:
    """Return the bytes free for batches beside the loaded `model`, on its GPUs or in main memory."""
    devices = {weights.device for weights in model.parameters() if weights.device.type == "cuda"}
    if not devices:
        return int(psutil.virtual_memory().available)
    # Layers lie on all of them: the fullest one decides.
    return len(devices) * min(_free_on(device) for device in devices)


def _free_on(device: torch.device) -> int:
    held = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return int(torch.cuda.mem_get_info(device)[0]) + held


def release() -> None:
    """Give cached GPU memory back, after a batch that did not fit."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def is_full(error: Exception) -> bool:
    """Whether `error` says that something did not fit into memory; torch has no error of its own for a CPU."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or "can't allocate memory" in str(error)


def set_threads(model: Any) -> None:
    """Let a model on the CPU use the cores this process may use, a small one only one; `OMP_NUM_THREADS` goes first."""
    if "OMP_NUM_THREADS" in os.environ:
        return
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    cores = min(allowed, psutil.cpu_count(logical=False) or allowed)
    small = sum(weights.numel() for weights in model.parameters()) < _SMALL
    torch.set_num_threads(1 if small else cores)
