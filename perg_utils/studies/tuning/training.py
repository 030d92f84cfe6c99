"""A LoRA adapter on lessons: loss on the reply alone, a fixed number of steps, nothing chosen by looking.

All arms of a size are trained for the same number of steps on batches of the same size. An adapter that is there, made
of the same lessons by the same recipe, is not trained again. Beside it `training.json` says what it was made of. Left
out: early stopping, which would look at the questions that adapters are tried on. Importing this imports torch.
"""

from __future__ import annotations

import json
import math
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.nn.functional import cross_entropy

from perg_utils.core.profile import ModelConfig, TuningConfig
from perg_utils.core.progress import Progress
from perg_utils.core.workspace import digest, write_text
from perg_utils.engines.base import EngineError
from perg_utils.engines.local.checkpoint import Checkpoint
from perg_utils.engines.local.engine import find_model, resolved
from perg_utils.studies.tuning.material import Lesson

#: The file that says what an adapter was made of; written last, so that an adapter without it is trained again.
RECORD = "training.json"
_WARM_UP = 0.1
_TARGETS = "all-linear"
#: Batches sorted by length together, so that little is padded.
_SORTED = 8
#: Padded tokens x layers x width that go through the model at a time (SmolLM2-135M: 1,157 tokens, 5.5 GB in all): a
#: batch of a large model goes in parts, and its gradient is their sum.
_AT_A_TIME = 20_000_000


@dataclass(frozen=True)
class Encoded:
    """A lesson as tokens: prompt and reply with its end, and where the reply begins."""

    tokens: list[int]
    start: int


def steps(size: int, config: TuningConfig) -> int:
    """Return the steps of a training on `size` samples, e.g. 32 for 64 and 256 for 4,096 in batches of 16."""
    return -(-max(size, config.shown) // config.batch_size)


def train(base: ModelConfig, lessons: Sequence[Lesson], config: TuningConfig, seed: int, folder: Path) -> Path:
    """Train an adapter on `base` and write it to `folder`, unless it is there; returns the folder.

    The same arguments give the same adapter on the same machine with one thread. Raises `EngineError` where a lesson is
    longer than the model's context, or the loss is no number.
    """
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - slow to import

    chosen = resolved(base)
    found = find_model(chosen, fetch=True)
    recipe = {**config.model_dump(include={"shown", "rank", "batch_size", "learning_rate"}), "dtype": chosen.dtype}
    made_of = digest(found.name, found.revision, recipe, [tuple(one) for one in lessons], seed)
    if _is_there(folder, made_of):
        return folder
    started = time.monotonic()
    checkpoint = Checkpoint(chosen, found)
    encoded = _encode(checkpoint, lessons, base.name)
    with torch.random.fork_rng():  # for the adapter's start
        torch.manual_seed(seed)
        lora = LoraConfig(r=config.rank, lora_alpha=2 * config.rank, target_modules=_TARGETS, task_type="CAUSAL_LM")
        model = get_peft_model(checkpoint.weights, lora)
    weights = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=config.learning_rate, weight_decay=0.0)
    total, losses = steps(len(lessons), config), []
    model.train()
    batches = _batches(encoded, config.batch_size, random.Random(f"batches:{seed}"))
    with Progress(f"{folder.parent.name}, {folder.name}", total, unit="steps") as progress:
        for step in range(total):
            for group in optimizer.param_groups:
                group["lr"] = config.learning_rate * _rate(step, total)
            losses.append(_gradient(model, next(batches)))
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            progress.advance(1)
    if not all(map(math.isfinite, losses)):
        raise EngineError(f"training on {base.model} diverged; take a smaller tuning.learning_rate, or dtype float32")
    # The library writes the base's path as it was given: an absolute one is found from anywhere on this machine.
    local = Path(found.source)
    model.peft_config["default"].base_model_name_or_path = str(local.resolve() if local.is_dir() else local)
    (folder / RECORD).unlink(missing_ok=True)
    model.save_pretrained(str(folder))
    record = {
        "made_of": made_of,
        "base": {"model": found.name, "revision": found.revision},
        "recipe": recipe,
        "seed": seed,
        "samples": len(lessons),
        "distinct": len(set(lessons)),
        "questions": len({one.example_id for one in lessons}),
        "steps": total,
        "loss": [round(sum(part) / len(part), 4) for part in _eighths(losses)],
        "parameters": sum(p.numel() for p in weights),
        "seconds": round(time.monotonic() - started, 1),
    }
    write_text(folder / RECORD, json.dumps(record, indent=1) + "\n")
    return folder


def _is_there(folder: Path, made_of: str) -> bool:
    try:
        return bool(json.loads((folder / RECORD).read_text(encoding="utf-8"))["made_of"] == made_of)
    except (OSError, ValueError, KeyError):
        return False


def _encode(checkpoint: Checkpoint, lessons: Sequence[Lesson], name: str) -> list[Encoded]:
    prompts = checkpoint.encode([checkpoint.render(one.messages) for one in lessons])
    replies = checkpoint.encode([one.reply for one in lessons])
    end, room = checkpoint.end_of_reply(), checkpoint.context
    out = [Encoded([*prompt, *reply, end], len(prompt)) for prompt, reply in zip(prompts, replies, strict=True)]
    longest = max(len(one.tokens) for one in out)
    if room is not None and longest > room:
        raise EngineError(f"a training sample has {longest:,} tokens, '{name}' takes {room:,}")
    return out


def _batches(encoded: Sequence[Encoded], size: int, draw: random.Random) -> Iterator[list[Encoded]]:
    """Batches without end, each sample once a pass; those of like length together, batches in random order."""
    while True:
        order = draw.sample(list(encoded), len(encoded))
        order += draw.sample(order, -len(order) % size)  # the last batch is a whole one, too
        for start in range(0, len(order), size * _SORTED):
            some = sorted(order[start : start + size * _SORTED], key=lambda one: len(one.tokens))
            parts = [some[i : i + size] for i in range(0, len(some), size)]
            draw.shuffle(parts)
            yield from parts


def _gradient(model: torch.nn.Module, batch: Sequence[Encoded]) -> float:
    """Add the gradient of a batch, and return its mean loss a token of the replies."""
    written = sum(len(one.tokens) - one.start for one in batch)
    config: Any = model.config
    room: int = _AT_A_TIME // (config.num_hidden_layers * config.hidden_size)
    few = max(room // max(len(one.tokens) for one in batch), 1)
    total = 0.0
    for start in range(0, len(batch), few):
        loss = _loss(model, batch[start : start + few], written)
        loss.backward()
        total += float(loss.detach())
    return total


def _loss(model: torch.nn.Module, batch: Sequence[Encoded], written: int) -> torch.Tensor:
    """The loss of all tokens of the replies by `written`. Padding stands on the left, so that replies end together."""
    width, behind = max(len(one.tokens) for one in batch), max(len(one.tokens) - one.start for one in batch)
    ids, mask = torch.zeros(len(batch), width, dtype=torch.long), torch.zeros(len(batch), width, dtype=torch.long)
    wanted = torch.full((len(batch), behind), -100)
    for row, one in enumerate(batch):
        ids[row, width - len(one.tokens) :] = torch.tensor(one.tokens)
        mask[row, width - len(one.tokens) :] = 1
        reply = one.tokens[one.start :]
        wanted[row, behind - len(reply) :] = torch.tensor(reply)
    device = next(model.parameters()).device
    positions = (mask.cumsum(-1) - 1).clamp(min=0)
    out = model(
        input_ids=ids.to(device),
        attention_mask=mask.to(device),
        position_ids=positions.to(device),
        use_cache=False,
        logits_to_keep=behind + 1,
    )
    logits = out.logits[:, :-1].float()
    return cross_entropy(logits.flatten(0, 1), wanted.to(device).flatten(), reduction="sum") / written


def _rate(step: int, total: int) -> float:
    """Warm-up, then a straight line down to nearly nothing."""
    warm = max(round(_WARM_UP * total), 1)
    return min((step + 1) / warm, (total - step) / max(total - warm, 1), 1.0)


def _eighths(losses: Sequence[float]) -> Iterator[Sequence[float]]:
    size = max(len(losses) // 8, 1)
    yield from (losses[start : start + size] for start in range(0, len(losses), size))
