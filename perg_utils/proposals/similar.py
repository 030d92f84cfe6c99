"""Which texts say nearly the same: cosine similarity of a sentence embedder's vectors (all-MiniLM-L6-v2).

Importing this imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from transformers import AutoModel, AutoTokenizer

from perg_utils.core.errors import PergError
from perg_utils.core.profile import ROOT

_BATCH = 64


def embed(texts: Sequence[str], embedder: str) -> npt.NDArray[np.float32]:
    """Return a vector of length 1 a text, e.g. (165, 384): the mean of its tokens' vectors, as the card says.

    `embedder` is a hub id or a local folder. Raises `PergError` where it cannot be loaded.
    """
    local = next((path for path in (ROOT / embedder, Path(embedder)) if path.is_dir()), None)
    try:
        tokenizer = AutoTokenizer.from_pretrained(local or embedder)
        model = AutoModel.from_pretrained(local or embedder, dtype=torch.float32).eval()
    except (OSError, ValueError) as error:
        raise PergError(
            f"the sentence embedder '{embedder}' cannot be loaded ({str(error).splitlines()[0]}); without a hub give a "
            "folder: --set candidates.embedder=FOLDER"
        ) from error
    parts = []
    with torch.inference_mode():
        for start in range(0, len(texts), _BATCH):
            some = tokenizer(list(texts[start : start + _BATCH]), padding=True, truncation=True, return_tensors="pt")
            vectors = model(**some).last_hidden_state
            seen = some["attention_mask"][:, :, None].to(vectors.dtype)
            parts.append(torch.nn.functional.normalize((vectors * seen).sum(1) / seen.sum(1), dim=1).numpy())
    return np.concatenate(parts) if parts else np.zeros((0, model.config.hidden_size), np.float32)


def first_of_kind(vectors: npt.NDArray[np.float32], least: float) -> list[int]:
    """Return for each row the row that stands for it: itself, or the most similar one kept before it.

    A row is kept if its cosine similarity to every row kept so far is below `least`, e.g. 0.8.
    """
    likeness = vectors @ vectors.T
    kept: list[int] = []
    stands: list[int] = []
    for row in range(len(vectors)):
        nearest = max(kept, key=lambda other: likeness[row, other], default=None)
        if nearest is not None and likeness[row, nearest] >= least:
            stands.append(nearest)
        else:
            kept.append(row)
            stands.append(row)
    return stands
