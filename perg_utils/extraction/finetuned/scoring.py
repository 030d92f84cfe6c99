"""One forward pass that scores the labels of a response: the letters of its options, X, Y and Z, and nothing else.

The base model and its LoRA adapter read the response and the lettered options in the form of the profile; the
logits after the last token are those of each label's token. Rows are padded on the left, and positions are counted
from the first true token, so that what shares a batch changes nothing. Importing this imports torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from perg_utils.core.profile import ExtractorConfig, ModelConfig
from perg_utils.core.schema import LETTERS
from perg_utils.engines.base import EngineError
from perg_utils.engines.local.adapters import put_on
from perg_utils.engines.local.checkpoint import load
from perg_utils.engines.local.engine import find_model, resolved
from perg_utils.extraction.reading import LABELS, MOST_OPTIONS, NONE, REFUSED, UNDECIDED, Case, ExtractorError

_OTHERS = [LABELS.index(label) for label in (NONE, REFUSED, UNDECIDED)]
#: How a label may stand in a text; the first form that is one token of the model is used.
_FORMS = (" ({})", " {}", "{}")
BATCH = 16


class Scorer:
    """A base model with an adapter on it, and the form in which it is asked."""

    def __init__(self, config: ExtractorConfig, adapter: Path | None = None) -> None:
        """Load the base model of the profile, and the `adapter` in a folder onto it unless it is None.

        The base named in the adapter's own config is not looked at, so that an adapter can be moved.
        """
        if config.base is None:
            raise ExtractorError("the profile names no extractor.base; give the model that the adapter is for")
        self.base: ModelConfig = config.base
        found = find_model(config.base, fetch=True)
        self.source, self.revision = found.source, found.revision
        self._tokenizer, self.model = load(resolved(config.base), found)
        self._config = config
        self._tokens = torch.tensor(_label_tokens(self._tokenizer, config.base.model), device=self.model.device)
        self.batch_size = config.base.batch_size or BATCH
        self.context: int | None = getattr(self.model.config.get_text_config(), "max_position_embeddings", None)
        if adapter is not None:
            try:
                self.model = put_on(self.model, adapter, self.base.model)
            except EngineError as error:
                cure = "name that as extractor.base, or run 02_train_extractor, which makes one"
                raise ExtractorError(f"{error}; {cure}") from error

    def characters(self) -> list[int]:
        """Return the tokens of one character, which a small base may never have met in its training."""
        return sorted(token for piece, token in self._tokenizer.get_vocab().items() if len(piece) == 1)

    def text(self, case: Case) -> str:
        """Return what the model reads, e.g. `It is salt.` + `Options:` + `A. iron` + `B. salt` + `Answer:`."""
        response, options = case
        lines = (self._config.option.format(letter=x, text=text) for x, text in zip(LETTERS, options, strict=False))
        return self._config.template.format(response=response.strip(), options="".join(lines))

    def encode(self, cases: Sequence[Case]) -> list[list[int]]:
        """Return the tokens of each case; what looks like a special token in a response is read as plain text."""
        texts = [self.text(case) for case in cases]
        return self._tokenizer(texts, split_special_tokens=True)["input_ids"] if texts else []

    def takes(self, tokens: Sequence[int]) -> bool:
        """Return whether so many tokens fit into the model's context."""
        return self.context is None or len(tokens) <= self.context

    def logits(self, encoded: Sequence[list[int]], options: Sequence[int]) -> Tensor:
        """Return the scores of `LABELS`, shape (rows, 26); minus infinity for letters beyond a row's `options`."""
        padded = self._tokenizer.pad({"input_ids": list(encoded)}, padding_side="left", return_tensors="pt")
        ids, mask = padded["input_ids"].to(self.model.device), padded["attention_mask"].to(self.model.device)
        positions = (mask.cumsum(-1) - 1).clamp(min=0)
        out = self.model(input_ids=ids, attention_mask=mask, position_ids=positions, use_cache=False, logits_to_keep=1)
        scores = out.logits[:, -1, self._tokens].float()
        return scores.masked_fill(~_valid(options).to(scores.device), float("-inf"))

    def read(self, cases: Sequence[Case]) -> list[Tensor | None]:
        """Return the scores (26 numbers) of each case, without gradients; None for a case that it cannot take.

        That is one with more tokens than its context, of which none is cut, or with more than `MOST_OPTIONS` options.
        """
        encoded = self.encode(cases)
        fits = [i for i, ids in enumerate(encoded) if self.takes(ids) and len(cases[i][1]) <= MOST_OPTIONS]
        fits.sort(key=lambda i: len(encoded[i]))
        out: list[Tensor | None] = [None] * len(cases)
        with torch.inference_mode():
            for start in range(0, len(fits), self.batch_size):
                some = fits[start : start + self.batch_size]
                scores = self.logits([encoded[i] for i in some], [len(cases[i][1]) for i in some])
                for i, row in zip(some, scores.cpu(), strict=True):
                    out[i] = row
        return out


def _valid(options: Sequence[int]) -> Tensor:
    valid = torch.arange(len(LABELS))[None, :] < torch.tensor(options)[:, None]
    valid[:, _OTHERS] = True
    return valid


def _label_tokens(tokenizer: Any, model: str) -> list[int]:
    """The token of each label; raises `ExtractorError` where a letter is no single token."""
    found = []
    for label in LABELS:
        forms = [tokenizer(form.format(label), add_special_tokens=False)["input_ids"] for form in _FORMS]
        single = [ids[0] for ids in forms if len(ids) == 1 and ids[0] != tokenizer.unk_token_id]
        if not single or single[0] in found:
            raise ExtractorError(f"the tokenizer of {model} has no token of its own for {label}; take another base")
        found.append(single[0])
    return found
