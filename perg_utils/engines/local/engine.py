"""Models run in this process with `transformers`, greedy unless told otherwise; `scheduling` says what runs together.

In float32 a batch gives the same tokens as one request at a time; in bfloat16 a rounding may differ. Where a chat
template has no system role the system text opens the first user turn.

A hub model without a `revision` is pinned to the commit that the hub's cache holds (at the first run the newest is
looked up), which is loaded and is part of the key of its replies: what the hub changes later changes no study. Another
commit is had by naming it as `revision`.

The weights are loaded once, at the first request that the journal cannot answer, and stay for all methods.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from perg_utils.core.profile import ROOT, ModelConfig, place
from perg_utils.core.progress import say
from perg_utils.core.schema import Status
from perg_utils.core.workspace import file_digest
from perg_utils.engines.base import Decoding, Effort, EngineError, Reply, Request
from perg_utils.engines.local.machine import fast_dtype
from perg_utils.engines.reasoning import ends_inside_thinking, split_reasoning

if TYPE_CHECKING:
    from perg_utils.engines.local.checkpoint import Checkpoint
    from perg_utils.engines.local.scheduling import Scheduler

#: Files of a model folder that shape its replies.
_WEIGHTS = ("*.safetensors", "*.bin")
_SHAPING = (*_WEIGHTS, "*.json", "*.jinja", "*.model", "*.txt")


#: Weights of fewer bytes are loaded within a second.
QUICK = 50_000_000


class TransformersEngine:
    """The engine of one checkpoint, a hub id, a folder or a GGUF file; it is loaded at the first request.

    `tell`, if it is set, is called with how far a batch of requests is.
    """

    def __init__(self, config: ModelConfig, *, fetch: bool = True) -> None:
        self.config = resolved(config)
        self.tell: Callable[[Effort], None] | None = None
        self.found = find_model(config, fetch)
        self.identity: Mapping[str, str] = {
            "kind": "transformers",
            "model": self.found.name,
            "revision": self.found.revision,
            "dtype": self.config.dtype,
            "quantization": str(config.quantization),
            "thinking": str(config.thinking),
        }
        if config.adapter is not None:
            self.identity = {**self.identity, "adapter": _adapter_digest(config.adapter)}
        self._scheduler: Scheduler | None = None

    def generate(self, requests: Sequence[Request]) -> Iterator[tuple[int, Reply]]:
        """Yield (position, reply) batch by batch, longest prompts first; a prompt too long is `rejected`."""
        from perg_utils.engines.local.scheduling import Job  # noqa: PLC0415 - imports torch, which a dry run does not need

        scheduler = self._load()
        checkpoint = scheduler.checkpoint
        prompts = [checkpoint.render(request.messages) for request in requests]
        encoded = checkpoint.encode(prompts)
        groups: dict[tuple[int, Decoding], list[int]] = defaultdict(list)
        for index, request in enumerate(requests):
            length, limit = len(encoded[index]), request.decoding.max_new_tokens
            room = limit if checkpoint.context is None else checkpoint.context - length
            if room < 1:
                error = f"the prompt has {length} tokens, '{self.config.name}' takes {checkpoint.context}"
                yield index, Reply(None, Status.REJECTED, prompt_tokens=length, error=error)
            else:
                # Rows with less room than the limit go by themselves: a batch stops all its rows at one length.
                groups[min(limit, room), request.decoding].append(index)
        for (limit, decoding), members in groups.items():
            for index, tokens, seconds in scheduler.run(Job(encoded, members, limit, decoding), self.tell):
                yield index, _reply(checkpoint, prompts[index], len(encoded[index]), tokens, seconds)

    def _load(self) -> Scheduler:
        if self._scheduler is None:
            from perg_utils.engines.local.checkpoint import Checkpoint  # noqa: PLC0415 - imports torch, which a dry run does not need
            from perg_utils.engines.local.scheduling import Scheduler  # noqa: PLC0415 - the same

            if (size := self.found.size()) is None or size > QUICK:
                much = "" if size is None else f" ({size / 1e9:.1f} GB)"
                say(f"{self.config.name}: loading {self.found.name}{much} as {self.config.dtype}")
            checkpoint = Checkpoint(self.config, self.found)
            self._scheduler = Scheduler(checkpoint, self.config.batch_size, self.config.batching)
        return self._scheduler


def _reply(checkpoint: Checkpoint, prompt: str, prompt_tokens: int, tokens: list[int], seconds: float) -> Reply:
    text = checkpoint.decode(tokens)
    reasoning, content = split_reasoning(text, opened=ends_inside_thinking(prompt))
    return Reply(
        text=content or None,
        status=Status.OK if content else Status.SILENT,
        finish_reason="stop" if tokens and tokens[-1] in checkpoint.stop else "length",
        prompt_tokens=prompt_tokens,
        completion_tokens=len(tokens),
        seconds=seconds,
        reasoning=reasoning,
    )


def hub_commit(model: str, *, fetch: bool = False, file: str = "config.json") -> str | None:
    """Return the commit of hub model `model` in the cache, e.g. `a8b602d9...`; None where it is not there.

    It is the one of `file`. With `fetch` the hub is asked if the cache does not know; None if it cannot be reached, or
    refuses.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache  # noqa: PLC0415 - slow to import
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    try:
        found = try_to_load_from_cache(model, file)
        if not isinstance(found, str) and fetch:
            found = hf_hub_download(model, file)
    except (OSError, ValueError, HfHubHTTPError):  # loading will say what is wrong
        return None
    # .../snapshots/<commit>/config.json
    return Path(found).parents[file.count("/")].name if isinstance(found, str) else None


class Found(NamedTuple):
    """Where a model lies: a folder or hub id, the GGUF file in it if it is one, and what its replies are known by."""

    source: str
    gguf: str | None
    name: str
    revision: str  # of the weights, in the key of replies
    commit: str | None  # what the hub is asked for

    def size(self) -> int | None:
        """Return the bytes of the weights on this machine; None for a model of the hub."""
        if self.gguf is not None and (file := Path(self.source) / self.gguf).is_file():
            return file.stat().st_size
        files = [path for pattern in _WEIGHTS for path in Path(self.source).glob(pattern)]
        return sum(path.stat().st_size for path in files) or None


def resolved(config: ModelConfig) -> ModelConfig:
    """Return the model with the `dtype` that it is loaded in here, where the profile leaves it open."""
    return config if config.dtype != "auto" else config.model_copy(update={"dtype": fast_dtype()})


def find_model(config: ModelConfig, fetch: bool) -> Found:
    """Return where the model lies: below the repository, or here, or on the hub. Raises `EngineError` if nowhere.

    A GGUF file is known by its name and content wherever it lies.
    """
    path = config.place()
    if path is not None and path.is_file():
        return Found(str(path.parent), path.name, path.name, _file_digest(path), None)
    if path is not None:
        if config.gguf_file is None:
            return Found(str(path), None, config.model, _folder_digest(path), config.revision)
        if (path / config.gguf_file).is_file():
            return Found(str(path), config.gguf_file, config.gguf_file, _file_digest(path / config.gguf_file), None)
        raise EngineError(f"'{config.name}': there is no file {config.gguf_file} in {path}")
    looked = f"it is looked for in {ROOT} and then in {Path.cwd()}"
    if config.model.endswith(".gguf"):
        raise EngineError(
            f"GGUF file '{config.model}' of '{config.name}' does not exist: {looked}; one on the hub is named by its "
            "repository as model and the file as gguf_file"
        )
    if config.model.count("/") > 1 or config.model.startswith((".", "/", "~")):
        raise EngineError(
            f"model folder '{config.model}' of '{config.name}' does not exist: {looked}; embedded models are made by: "
            "python -m perg_utils train-embedded"
        )
    commit = config.revision or hub_commit(config.model, fetch=fetch, file=config.gguf_file or "config.json")
    name = config.model if config.gguf_file is None else f"{config.model}/{config.gguf_file}"
    return Found(config.model, config.gguf_file, name, commit or "main", commit)


def _file_digest(path: Path) -> str:
    """A GGUF file's digest, computed once a process: it may have gigabytes."""
    about = path.stat()
    return _digest_of(str(path), about.st_size, about.st_mtime_ns)


@lru_cache(maxsize=64)
def _digest_of(path: str, _size: int, _changed: int) -> str:
    return file_digest(Path(path))[:16]


def _adapter_digest(name: str) -> str:
    """What an adapter is known by: the content of its folder, or the commit in the hub's cache, else its name."""
    folder = place(name)
    if folder is not None:
        return _folder_digest(folder)
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        raise EngineError(f"adapter folder '{name}' does not exist: it is looked for in {ROOT}, then in {Path.cwd()}")
    return hub_commit(name, file="adapter_config.json") or name


def _folder_digest(folder: Path) -> str:
    files = sorted({path for pattern in _SHAPING for path in folder.glob(pattern)})
    lines = "\n".join(f"{path.name} {file_digest(path)}" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]
