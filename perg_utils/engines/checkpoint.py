"""A chat model in memory: tokenizer, chat template and weights. Importing this imports torch.

Only the stop tokens of a checkpoint's generation settings are kept, so that every model of a study decodes by the
profile alone (paper, appendix).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import nullcontext
from importlib.util import find_spec
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig, GenerationConfig

from ..profile import ModelConfig
from .base import Decoding, EngineError, Messages, fold_system

#: What it looks like when a batch does not fit.
MEMORY_ERRORS = (torch.OutOfMemoryError, MemoryError)
# Below so many weights a step is too short to be worth sharing: on two cores that also did other work, two threads
# mostly waited for each other (1 million weights, 1,440 short replies: 35 a second against 540 with one thread).
_SMALL = 20_000_000
_PROBE = "PROBE-7QX"


class Checkpoint:
    """The model of `config`, loaded from `source` (a folder or hub id). Raises `EngineError` where it cannot be."""

    def __init__(self, config: ModelConfig, source: str) -> None:
        self.name = config.name
        settings: dict[str, Any] = {"revision": config.revision, "dtype": config.dtype}
        if config.quantization == "nf4":
            settings["quantization_config"] = _nf4(config.name)
        if config.device_map or config.quantization:
            settings["device_map"] = config.device_map or "auto"
        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(source, revision=config.revision, padding_side="left")
            model: Any = AutoModelForCausalLM.from_pretrained(source, **settings)
        except (OSError, ValueError, ImportError) as error:
            raise EngineError(
                f"model '{config.model}' of '{config.name}' cannot be loaded: {error}\nCheck the name, that the hub "
                "can be reached, and for gated models that you are logged in (hf auth login)"
            ) from error
        if self._tokenizer.chat_template is None:
            raise EngineError(f"model '{config.model}' has no chat template; choose the chat (instruct) version")
        if self._tokenizer.pad_token_id is None:
            self._tokenizer.pad_token = self._tokenizer.eos_token
        if torch.cuda.is_available() and "device_map" not in settings:
            model = model.to("cuda")
        elif not torch.cuda.is_available() and "OMP_NUM_THREADS" not in os.environ:
            small = sum(weights.numel() for weights in model.parameters()) < _SMALL
            torch.set_num_threads(1 if small else os.cpu_count() or 1)
        self.stop = _stop_tokens(model.generation_config.eos_token_id, self._tokenizer.eos_token_id)
        # generate() fills what a call leaves open from here: keep nothing of the checkpoint's sampling.
        model.generation_config = GenerationConfig()
        self._model = model.eval()
        self._switch = {} if config.thinking is None else {"enable_thinking": config.thinking}
        self._system_role = self._has_system_role()

    @property
    def context(self) -> int | None:
        """The most tokens that prompt and reply may have together; None where the model does not say."""
        return getattr(self._model.config.get_text_config(), "max_position_embeddings", None)

    def render(self, messages: Messages) -> str:
        """Return the prompt as the chat template words it, ending where the reply begins."""
        return self._template(list(messages) if self._system_role else fold_system(messages))

    def encode(self, prompts: list[str]) -> list[list[int]]:
        """Return the tokens of rendered prompts; the template has already written the opening tokens."""
        return self._tokenizer(prompts, add_special_tokens=False)["input_ids"] if prompts else []

    def decode(self, tokens: list[int]) -> str:
        """Return the text of `tokens` without special tokens."""
        return self._tokenizer.decode(tokens, skip_special_tokens=True)

    def complete(self, prompts: list[list[int]], limit: int, decoding: Decoding) -> list[list[int]]:
        """Return up to `limit` new tokens of each prompt, up to and with its stop token."""
        batch = self._tokenizer.pad({"input_ids": prompts}, return_tensors="pt").to(self._model.device)
        sampling = decoding.temperature > 0
        how = {"temperature": decoding.temperature, "top_k": 0, "top_p": 1.0} if sampling else {}
        config = GenerationConfig(
            max_new_tokens=limit,
            do_sample=sampling,
            eos_token_id=sorted(self.stop) or None,
            pad_token_id=self._tokenizer.pad_token_id,
            **how,
        )
        with torch.inference_mode(), torch.random.fork_rng() if sampling else nullcontext():
            if sampling:
                torch.manual_seed(decoding.seed)
            out = self._model.generate(**batch, generation_config=config)
        return [self._until_stop(row) for row in out[:, batch["input_ids"].shape[1] :].tolist()]

    def _until_stop(self, tokens: list[int]) -> list[int]:
        stop = next((i for i, token in enumerate(tokens) if token in self.stop), None)
        return tokens if stop is None else tokens[: stop + 1]

    def _template(self, chat: list[tuple[str, str]]) -> str:
        turns = [{"role": role, "content": content} for role, content in chat]
        return self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **self._switch)

    def _has_system_role(self) -> bool:
        """Some templates refuse a system turn with an error, some drop it without a word: look for its text."""
        try:
            return _PROBE in self._template([("system", _PROBE), ("user", "?")])
        except TemplateError:
            return False


def free_memory() -> None:
    """Give cached GPU memory back, after a batch that did not fit."""
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _stop_tokens(*ids: int | Iterable[int] | None) -> set[int]:
    """Every stop token of the checkpoint and its tokenizer, e.g. `{2, 7}`; chat models often have several."""
    stop: set[int] = set()
    for some in ids:
        if some is not None:
            stop |= {some} if isinstance(some, int) else set(some)
    return stop


def _nf4(name: str) -> Any:
    if not torch.cuda.is_available() or find_spec("bitsandbytes") is None:
        lacks = "the package bitsandbytes" if torch.cuda.is_available() else "a CUDA GPU"
        raise EngineError(f"'{name}' asks for quantization nf4, but this machine lacks {lacks}; drop quantization")
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
