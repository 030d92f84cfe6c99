"""What this machine's processor is good at, known without torch.

Weights in bfloat16 take half the memory of float32, but not every processor multiplies them fast. Without instructions
for it bfloat16 was four times slower here (38.6 against 8.5 tokens a CPU second); with AMX it was 8 times faster, with
AVX512-BF16 on an AMD processor 3 times; on an Intel one that has AVX512-BF16 and no AMX it was 1.5 to 1.7
times slower from 64 rows on, as prompts are read, and up to 2 times faster for 8 rows and fewer.
"""

from __future__ import annotations

import os
import platform
from functools import lru_cache
from pathlib import Path

# As Linux names them: Intel's and AMD's, and ARM's.
_FAST_BFLOAT16 = frozenset({"amx_bf16", "bf16", "svebf16"})
_FAST_ON_AMD = "avx512_bf16"
# Device files of graphics cards: NVIDIA's, AMD's, and either under Windows' Linux.
_GPUS = tuple(map(Path, ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")))


def cpu_flags() -> frozenset[str]:
    """Return the processor's features as Linux names them, e.g. `avx2`; empty where they are not told."""
    return frozenset(_told("flags", "Features").split())


def cpu_name() -> str:
    """Return what the processor calls itself, e.g. `AMD EPYC 9354`; empty where it is not told."""
    return _told("model name") or platform.processor()


def cpu_vendor() -> str:
    """Return who made the processor, as Linux names them, e.g. `AuthenticAMD`; empty where it is not told."""
    return _told("vendor_id")


@lru_cache(maxsize=4)
def _told(*names: str) -> str:
    """The first line of /proc/cpuinfo that begins with one of the names."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(names)), "")


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
    flags = cpu_flags()
    fast = flags & _FAST_BFLOAT16 or (_FAST_ON_AMD in flags and cpu_vendor() == "AuthenticAMD")
    return "bfloat16" if fast else "float32"
