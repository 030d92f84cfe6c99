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
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from perg_utils.core.profile import ROOT, ModelConfig
from perg_utils.core.schema import Status
from perg_utils.core.workspace import file_digest
from perg_utils.engines.base import Decoding, EngineError, Reply, Request
from perg_utils.engines.reasoning import ends_inside_thinking, split_reasoning

if TYPE_CHECKING:
    from perg_utils.engines.local.checkpoint import Checkpoint
    from perg_utils.engines.local.scheduling import Scheduler

#: Files of a model folder that shape its replies.
_SHAPING = ("*.safetensors", "*.bin", "*.json", "*.jinja", "*.model", "*.txt")


class TransformersEngine:
    """The engine of one checkpoint, a hub id or a folder; it is loaded at the first request."""

    def __init__(self, config: ModelConfig, *, fetch: bool = True) -> None:
        self.config = config
        self.source, revision, self._commit = find_model(config, fetch)
        self.identity: Mapping[str, str] = {
            "kind": "transformers",
            "model": config.model,
            "revision": revision,
            "dtype": config.dtype,
            "quantization": str(config.quantization),
            "thinking": str(config.thinking),
        }
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
            for index, tokens, seconds in scheduler.run(Job(encoded, members, limit, decoding)):
                yield index, _reply(checkpoint, prompts[index], len(encoded[index]), tokens, seconds)

    def _load(self) -> Scheduler:
        if self._scheduler is None:
            from perg_utils.engines.local.checkpoint import Checkpoint  # noqa: PLC0415 - imports torch, which a dry run does not need
            from perg_utils.engines.local.scheduling import Scheduler  # noqa: PLC0415 - the same

            pinned = self.config.model_copy(update={"revision": self._commit})
            checkpoint = Checkpoint(pinned, self.source)
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


def hub_commit(model: str, *, fetch: bool = False) -> str | None:
    """Return the commit of hub model `model` in the cache, e.g. `a8b602d9...`; None where it is not there.

    With `fetch` the hub is asked if the cache does not know; None if it cannot be reached, or refuses.
    """
    from huggingface_hub import hf_hub_download, try_to_load_from_cache  # noqa: PLC0415 - slow to import
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    try:
        found = try_to_load_from_cache(model, "config.json")
        if not isinstance(found, str) and fetch:
            found = hf_hub_download(model, "config.json")
    except (OSError, ValueError, HfHubHTTPError):  # loading will say what is wrong
        return None
    return Path(found).parent.name if isinstance(found, str) else None  # .../snapshots/<commit>/config.json


def find_model(config: ModelConfig, fetch: bool) -> tuple[str, str, str | None]:
    """Return what to load (a folder below the repository, or here, or a hub id), its revision, and the hub's for it."""
    for folder in (ROOT / config.model, Path(config.model)):
        if folder.is_dir():
            return str(folder), _folder_digest(folder), config.revision
    if config.model.count("/") > 1 or config.model.startswith((".", "/", "~")):
        raise EngineError(
            f"model folder '{config.model}' of '{config.name}' does not exist: it is looked for in {ROOT} and then in "
            f"{Path.cwd()}; embedded models are made by: python -m perg_utils train-embedded"
        )
    commit = config.revision or hub_commit(config.model, fetch=fetch)
    return config.model, commit or "main", commit


def _folder_digest(folder: Path) -> str:
    files = sorted({path for pattern in _SHAPING for path in folder.glob(pattern)})
    lines = "\n".join(f"{path.name} {file_digest(path)}" for path in files)
    return hashlib.sha256(lines.encode()).hexdigest()[:16]
