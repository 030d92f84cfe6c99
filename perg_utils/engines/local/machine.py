"""What this machine's processor is good at, known without torch.

Weights in bfloat16 take half the memory of float32, but only processors with instructions of their own for it multiply
them fast: without, it was four times slower here (38.6 against 8.5 tokens a CPU second), with AMX it is several times
faster.
"""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from pathlib import Path

# As Linux names them: Intel's and AMD's, and ARM's.
_FAST_BFLOAT16 = frozenset({"amx_bf16", "avx512_bf16", "bf16", "svebf16"})
# Device files of graphics cards: NVIDIA's, AMD's, and either under Windows' Linux.
_GPUS = tuple(map(Path, ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")))


@lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """Return the processor's features as Linux names them, e.g. `avx2`; empty where they are not told."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return frozenset()
    found = [line.partition(":")[2] for line in lines if line.startswith(("flags", "Features"))]
    return frozenset(found[0].split()) if found else frozenset()


@lru_cache(maxsize=1)
def cpu_name() -> str:
    """Return what the processor calls itself, e.g. `AMD EPYC 9354`; empty where it is not told."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    found = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return found[0] if found else platform.processor()


def has_gpu() -> bool:
    """Whether torch can use a CUDA device; torch is imported only where the machine has something like it."""
    if os.environ.get("CUDA_VISIBLE_DEVICES") == "" or not any(path.exists() for path in _GPUS):
        return False
    import torch  # noqa: PLC0415 - slow to import, and a plan needs none of it

    return torch.cuda.is_available()


def fast_dtype() -> str:
    """Return what `dtype: auto` means here: `auto` (the checkpoint's) on a GPU, else `bfloat16` or `float32`."""
    if has_gpu():
        return "auto"
    return "bfloat16" if cpu_flags() & _FAST_BFLOAT16 else "float32"
