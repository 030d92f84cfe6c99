"""A chat model in memory: tokenizer, chat template and weights. Importing this imports torch.

Only the stop tokens of a checkpoint's generation settings are kept, so that every model of a study decodes by the
profile alone (paper, appendix).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from typing import Any

import torch
from jinja2 import TemplateError
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    BitsAndBytesConfig,
    ContinuousBatchingConfig,
    DynamicCache,
    GenerationConfig,
    GgufConfig,
)
from transformers.cache_utils import DynamicLayer

from perg_utils.core.profile import ModelConfig
from perg_utils.engines.base import Decoding, Effort, EngineError, Messages, fold_system
from perg_utils.engines.local import memory
from perg_utils.engines.local.adapters import adapter_folder, put_on
from perg_utils.engines.local.decoding import Decoder
from perg_utils.engines.local.engine import Found

_PROBE = "PROBE-7QX"
_STOP_SECONDS = 60.0
# On a GPU the library fills the free memory; on a CPU it would too, which others need.
_CPU_CACHE = 256, 1024  # blocks of 256 tokens, tokens a step


def load(config: ModelConfig, found: Found) -> tuple[Any, Any]:
    """Return tokenizer (padding on the left) and weights of a model that was found, ready to be run.

    Those of a GGUF file are unpacked: packed ones cannot be trained or saved. An adapter is added into the weights.
    Raises `EngineError` where they cannot be loaded.
    """
    settings: dict[str, Any] = {"revision": found.commit, "dtype": config.dtype}
    words: dict[str, Any] = {"revision": found.commit, "padding_side": "left"}
    if found.gguf is not None:
        settings |= {"gguf_file": found.gguf, "quantization_config": GgufConfig(dequantize=True)}
        words["gguf_file"] = found.gguf
    if config.quantization == "nf4":
        settings["quantization_config"] = _nf4(config.name)
    if config.device_map or config.quantization:
        settings["device_map"] = config.device_map or "auto"
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(found.source, **words)
        model: Any = AutoModelForCausalLM.from_pretrained(found.source, **settings)
    except Exception as error:
        if found.gguf is not None:  # a broken file may bring up anything: its readers trust what it says
            raise EngineError(_unreadable(config, found.gguf, error)) from error
        if not isinstance(error, OSError | ValueError | ImportError):
            raise
        raise EngineError(
            f"model '{config.model}' of '{config.name}' cannot be loaded: {error}\nCheck the name, that the hub "
            "can be reached, and for gated models that you are logged in (hf auth login)"
        ) from error
    if config.adapter is not None:
        model = put_on(model, adapter_folder(config.adapter), config.model).merge_and_unload()
    if tokenizer.pad_token_id is None:
        tokenizer.pad_token = tokenizer.eos_token
    if torch.cuda.is_available() and "device_map" not in settings:
        model = model.to("cuda")
    elif not torch.cuda.is_available():
        memory.set_threads(model)
    return tokenizer, model.eval()


class Checkpoint:
    """The model of `config`, loaded from where it was found. Raises `EngineError` where it cannot be."""

    def __init__(self, config: ModelConfig, found: Found) -> None:
        self.name = config.name
        self._tokenizer, model = load(config, found)
        if self._tokenizer.chat_template is None:
            raise EngineError(f"model '{config.model}' has no chat template; choose the chat (instruct) version")
        self.stop = _stop_tokens(model.generation_config.eos_token_id, self._tokenizer.eos_token_id)
        # generate() fills what a call leaves open from here: keep nothing of the checkpoint's sampling.
        model.generation_config = GenerationConfig()
        self._model = model
        self._switch = {} if config.thinking is None else {"enable_thinking": config.thinking}
        self._system_role = self._has_system_role()
        self.on_gpu = self._model.device.type == "cuda"
        self.on_one_gpu = self.on_gpu and len({weights.device for weights in model.parameters()}) == 1
        self._free = memory.free_bytes(model)
        #: Whether padding may stand between a beginning that prompts share and the rest.
        self.can_share = can_share(model)

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

    @property
    def weights(self) -> Any:
        """The model itself, for whoever trains it."""
        return self._model

    def end_of_reply(self) -> int:
        """Return the token that ends a reply: the tokenizer's, or else the lowest stop token there is.

        Raises `EngineError` where the checkpoint has none.
        """
        own = self._tokenizer.eos_token_id
        if own is None and not self.stop:
            raise EngineError(f"'{self.name}' has no token that ends a reply")
        return own if own is not None else min(self.stop)

    def single_tokens(self, texts: list[str]) -> list[int] | None:
        """Return the one token of each text; None unless each is one token, and all of them different."""
        found = self._tokenizer(texts, add_special_tokens=False)["input_ids"]
        tokens = [one[0] for one in found if len(one) == 1]
        return tokens if len(set(tokens)) == len(texts) else None

    @torch.inference_mode()
    def logits_behind(self, rows: list[list[int]], shared: int = 0) -> torch.Tensor:
        """Return the logits of the token behind each row of tokens, shape (rows, vocabulary), in float32.

        The first `shared` tokens, fewer than any row has, are the same in all of them and are read once.
        """
        shared = shared if self.can_share else 0
        batch = self._batch(rows, shared)
        positions = (batch["attention_mask"].cumsum(-1) - 1).clamp(min=0)[:, shared:]
        batch["input_ids"] = batch["input_ids"][:, shared:]
        if shared:
            batch["past_key_values"] = self._read_once(rows[0][:shared], len(rows))
        return self._model(**batch, position_ids=positions, logits_to_keep=1).logits[:, -1].float()

    def complete(self, prompts: list[list[int]], limit: int, decoding: Decoding, shared: int = 0) -> list[list[int]]:
        """Return up to `limit` new tokens of each prompt, up to and with its stop token.

        The first `shared` tokens are the same in all prompts and are read once for all.
        """
        sampling = decoding.temperature > 0
        config = self._generation(limit, decoding)
        with torch.inference_mode(), torch.random.fork_rng() if sampling else nullcontext():
            if sampling:
                torch.manual_seed(decoding.seed)
            batch = self._batch(prompts, shared)
            if shared and self.can_share:
                batch["past_key_values"] = self._read_once(prompts[0][:shared], len(prompts))
            out = self._model.generate(**batch, generation_config=config)
        return [self.until_stop(row) for row in out[:, batch["input_ids"].shape[1] :].tolist()]

    def decoder(self, how: Decoding, tell: Callable[[Effort], None] | None = None) -> Decoder:
        """Return what runs replies in one running batch, greedy or drawn as `how` says; needs `can_share`."""
        return Decoder(self._model, self.stop, self._tokenizer.pad_token_id, how, tell)

    @contextmanager
    def streaming(
        self, prompts: Sequence[list[int]], members: list[int], limit: int
    ) -> Iterator[Iterator[tuple[int, list[int]]]]:
        """Give an iterator over (member, new tokens) of greedy replies as they end: continuous batching.

        What `generate_batch` does, but each reply is given away the moment it ends. Raises `RuntimeError` or
        `ValueError` where the library cannot do it for this model, or fails on the way; what it gave before is good.
        """
        # Importing this makes a folder for compiled code.
        from transformers.generation.continuous_batching.utils import WorkloadHints  # noqa: PLC0415

        config = self._generation(limit, Decoding(limit))
        hints = WorkloadHints(max(len(prompts[index]) for index in members), limit, len(members))
        blocks, tokens = (None, None) if self.on_gpu else _CPU_CACHE
        size = ContinuousBatchingConfig(num_blocks=blocks, max_batch_tokens=tokens)
        manager = self._model.init_continuous_batching(
            generation_config=config, continuous_batching_config=size, workload_hints=hints
        )
        try:
            with torch.no_grad():
                manager.warmup()
            manager.start()
            # Neighbours in sorted order share pages of the cache.
            for index in sorted(members, key=lambda index: prompts[index], reverse=True):
                manager.add_request(prompts[index], str(index), max_new_tokens=limit, eos_token_id=config.eos_token_id)
            yield self._results(manager, len(members))
        finally:  # what is still running when the caller has gone is not waited for
            manager.stop(block=True, timeout=_STOP_SECONDS, hard_stop=True)
            manager.destroy()

    def _results(self, manager: Any, left: int) -> Iterator[tuple[int, list[int]]]:
        while left:
            result = manager.get_result(timeout=1)
            if result is None:
                if not manager.is_running():
                    raise RuntimeError("it stopped without a word")
            elif result.error is not None:
                raise RuntimeError(result.error)
            elif result.is_finished():
                left -= 1
                yield int(result.request_id), self.until_stop(result.generated_tokens)

    def rows_that_fit(self, length: int, limit: int) -> int:
        """Return how many prompts of `length` tokens with replies of `limit` fit into memory, by an estimate."""
        config, element = self._model.config.get_text_config(), torch.finfo(self._model.dtype).bits // 8
        return memory.rows_that_fit(memory.bytes_per_row(config, element, length, limit), self._free, self.on_gpu)

    def tokens_that_fit(self) -> int | None:
        """Return how many tokens a running batch may hold in the memory that is free now; None where unknown."""
        config, element = self._model.config.get_text_config(), torch.finfo(self._model.dtype).bits // 8
        return memory.tokens_that_fit(config, element, memory.free_bytes(self._model))

    def _generation(self, limit: int, decoding: Decoding) -> GenerationConfig:
        sampling = decoding.temperature > 0
        how = {"temperature": decoding.temperature, "top_k": 0, "top_p": 1.0} if sampling else {}
        return GenerationConfig(
            max_new_tokens=limit,
            do_sample=sampling,
            eos_token_id=sorted(self.stop) or None,
            pad_token_id=self._tokenizer.pad_token_id,
            **how,
        )

    def _batch(self, prompts: list[list[int]], shared: int) -> dict[str, Any]:
        """Tokens and mask, padded on the left, or between the shared beginning and the rest."""
        shared = shared if self.can_share else 0
        width, pad = max(map(len, prompts)), self._tokenizer.pad_token_id
        rows = [p[:shared] + [pad] * (width - len(p)) + p[shared:] for p in prompts]
        masks = [[1] * shared + [0] * (width - len(p)) + [1] * (len(p) - shared) for p in prompts]
        device = self._model.device
        return {
            "input_ids": torch.tensor(rows, device=device),
            "attention_mask": torch.tensor(masks, device=device),
        }

    def _read_once(self, tokens: list[int], rows: int) -> DynamicCache:
        cache = DynamicCache(config=self._model.config)
        self._model(
            input_ids=torch.tensor([tokens], device=self._model.device),
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        )
        cache.batch_repeat_interleave(rows)
        return cache

    def until_stop(self, tokens: list[int]) -> list[int]:
        """Return `tokens` up to and with the first stop token."""
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


def can_share(model: Any) -> bool:
    """Whether padding may stand between a shared beginning and the rest.

    Only where attention sees the whole past through the mask and positions are given: not with sliding windows,
    recurrent layers, or positions counted by place.
    """
    takes = inspect.signature(model.forward).parameters
    if not {"position_ids", "past_key_values", "logits_to_keep"} <= set(takes):
        return False
    layers = DynamicCache(config=model.config).layers
    return bool(layers) and all(type(layer) is DynamicLayer for layer in layers)


def _stop_tokens(*ids: int | Iterable[int] | None) -> set[int]:
    """Every stop token of the checkpoint and its tokenizer, e.g. `{2, 7}`; chat models often have several."""
    stop: set[int] = set()
    for some in ids:
        if some is not None:
            stop |= {some} if isinstance(some, int) else set(some)
    return stop


def _unreadable(config: ModelConfig, file: str, error: Exception) -> str:
    return (
        f"the GGUF file {file} of '{config.name}' cannot be loaded ({type(error).__name__}: {error}). If it was cut "
        "off or damaged, get it again; if transformers does not know its architecture or its way of packing, take the "
        "same model in another file, as a folder or hub id, or run llama.cpp's server and name it as base_url"
    )


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
