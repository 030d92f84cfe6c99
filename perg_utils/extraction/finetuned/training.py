"""Training of the fine-tuned layer: a LoRA adapter (peft) on the base model of the profile (paper, section 3.3).

Loss is on the label alone. Training stops when the templates kept for checking are no longer read better, and the best
adapter is kept. A temperature is then fitted on the same templates, so that a confidence of 0.9 means about 90 % right
on templates that training has not seen. Beside the adapter `training.json` tells the recipe, the learning curve and
what the adapter belongs to.
"""

from __future__ import annotations

import itertools
import json
import math
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from perg_utils.core.profile import ExtractorConfig, LoraTraining
from perg_utils.core.progress import Progress
from perg_utils.core.workspace import write_text
from perg_utils.extraction.finetuned.corpus import Corpus, Sample
from perg_utils.extraction.finetuned.scoring import Scorer
from perg_utils.extraction.reading import LABELS, ExtractorError

#: Samples of the templates kept for checking, and how often they are read during training.
CHECKED, CHECKS = 880, 20
#: The share of the samples, the first ones, that name an option by its text only. What binds a text to its letter is
#: learned from these alone; in the full mixture it was found or not by the seed.
FIRST = 0.15
#: Batches drawn at once and sorted by length, so that little is padded.
_POOL = 16
_TEMPERATURES = [0.5 * 1.05**step for step in range(60)]


@dataclass(frozen=True, slots=True)
class Trained:
    """What training came to: the learning curve (samples, loss, check_loss, check_right), and how it ended."""

    curve: list[dict[str, float]]
    samples: int
    best: int
    temperature: float
    parameters: int
    seconds: float


def train(config: ExtractorConfig, options: Sequence[Sequence[str]], folder: Path, seed: int = 42) -> Trained:
    """Train an adapter on the option lists of questions and write it to `folder`; right answers are not used.

    The same arguments give the same adapter on the same machine. Raises `ExtractorError` or `DataError`.
    """
    from peft import LoraConfig, get_peft_model  # noqa: PLC0415 - slow to import

    recipe, started = config.training, time.monotonic()
    checks = Corpus(options, seed + 1, recipe.leave).take("check", CHECKED)
    scorer = Scorer(config)
    with torch.random.fork_rng():  # for the adapter's start, and for bases with dropout
        torch.manual_seed(seed)
        lora = LoraConfig(
            r=recipe.rank,
            lora_alpha=2 * recipe.rank,
            target_modules="all-linear",
            trainable_token_indices=scorer.characters() if recipe.characters else None,
            task_type="CAUSAL_LM",
        )
        scorer.model = get_peft_model(scorer.model, lora)
        stream = Corpus(options, seed, recipe.leave).stream("train", first=round(FIRST * recipe.samples))
        best, curve, stopped = _fit(scorer, recipe, stream, checks)
    scores, wanted = score_samples(scorer, checks)
    temperature = fit_temperature(scores, wanted)
    parameters = sum(p.numel() for p in scorer.model.parameters() if p.requires_grad)
    result = Trained(curve, stopped, best, temperature, parameters, time.monotonic() - started)
    _save(scorer, config, result, folder, seed)
    return result


def score_samples(scorer: Scorer, samples: Sequence[Sample]) -> tuple[Tensor, Tensor]:
    """Return the scores (n, 26) of samples and the indices of their labels in `LABELS` (n); raises as `train` does."""
    scores = [row for row in scorer.read([(s.response, s.options) for s in samples]) if row is not None]
    _require_room(scorer, len(scores) == len(samples))
    return torch.stack(scores), torch.tensor([LABELS.index(s.label) for s in samples])


def fit_temperature(scores: Tensor, wanted: Tensor) -> float:
    """Return by what scores are divided so that their probabilities are honest, e.g. 2.1 for scores too bold."""
    return min(_TEMPERATURES, key=lambda t: float(cross_entropy(scores / t, wanted)))


def _fit(
    scorer: Scorer, recipe: LoraTraining, stream: Iterator[Sample], checks: Sequence[Sample]
) -> tuple[int, list[dict[str, float]], int]:
    """Train until the checked templates are read no better; return samples at the best point, curve, samples seen."""
    weights = {name: p for name, p in scorer.model.named_parameters() if p.requires_grad}
    # A short memory of squared gradients suits a short training.
    optimizer = torch.optim.AdamW(weights.values(), lr=recipe.learning_rate, betas=(0.9, 0.98), weight_decay=0.01)
    steps = max(recipe.samples // recipe.batch_size, 1)
    every = max(steps // CHECKS, 1)
    curve: list[dict[str, float]] = []
    best, best_loss, kept, running = 0, math.inf, {}, math.nan
    scorer.model.train()
    with Progress("training", steps * recipe.batch_size, unit="samples") as progress:
        for step, batch in zip(range(1, steps + 1), _batches(scorer, stream, recipe.batch_size), strict=False):
            for group in optimizer.param_groups:
                group["lr"] = recipe.learning_rate * min(1.0, step / 20) * _decay(step / steps)
            loss = _learn(scorer, optimizer, batch)
            running = loss if math.isnan(running) else 0.95 * running + 0.05 * loss
            progress.advance(recipe.batch_size)
            if step % every and step < steps:
                continue
            check_loss, right = _check(scorer, checks)
            seen = step * recipe.batch_size
            curve.append({"samples": seen, "loss": running, "check_loss": check_loss, "check_right": right})
            if check_loss < best_loss:
                best, best_loss = seen, check_loss
                kept = {name: p.detach().clone() for name, p in weights.items()}
            elif seen - best >= recipe.patience * every * recipe.batch_size:
                break
    if not kept:
        raise ExtractorError(
            f"training on {scorer.base.model} diverged: its loss is no number; take a smaller "
            f"extractor.training.learning_rate than {recipe.learning_rate:g}, or dtype float32"
        )
    with torch.no_grad():
        for name, values in kept.items():
            weights[name].copy_(values)
    scorer.model.eval()
    return best, curve, seen


def _decay(done: float) -> float:
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * done))


def _batches(scorer: Scorer, stream: Iterator[Sample], size: int) -> Iterator[list[tuple[list[int], Sample]]]:
    """Batches of samples of like length, in random order."""
    mix = torch.Generator().manual_seed(0)
    while True:
        samples = list(itertools.islice(stream, size * _POOL))
        encoded = scorer.encode([(s.response, s.options) for s in samples])
        _require_room(scorer, all(scorer.takes(ids) for ids in encoded))
        pairs = sorted(zip(encoded, samples, strict=True), key=lambda pair: len(pair[0]))
        for part in torch.randperm(_POOL, generator=mix).tolist():
            yield pairs[part * size : (part + 1) * size]


def _require_room(scorer: Scorer, enough: bool) -> None:
    if not enough:
        raise ExtractorError(
            f"a made-up response with its options is longer than {scorer.base.model} can read ({scorer.context} "
            "tokens); take another extractor.base"
        )


def _learn(scorer: Scorer, optimizer: torch.optim.Optimizer, batch: list[tuple[list[int], Sample]]) -> float:
    scores = scorer.logits([ids for ids, _ in batch], [len(s.options) for _, s in batch])
    wanted = torch.tensor([LABELS.index(s.label) for _, s in batch], device=scores.device)
    loss = cross_entropy(scores, wanted)
    loss.backward()
    torch.nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], 1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return float(loss.detach())


def _check(scorer: Scorer, checks: Sequence[Sample]) -> tuple[float, float]:
    """Mean loss on the checked templates, and the percentage read rightly."""
    scorer.model.eval()
    scores, wanted = score_samples(scorer, checks)
    scorer.model.train()
    right = 100 * float((scores.argmax(-1) == wanted).float().mean())
    return float(cross_entropy(scores / fit_temperature(scores, wanted), wanted)), right


def _save(scorer: Scorer, config: ExtractorConfig, result: Trained, folder: Path, seed: int) -> None:
    # The library writes the base's path as it was given: an absolute one is found from anywhere on this machine.
    local = Path(scorer.source)
    scorer.model.peft_config["default"].base_model_name_or_path = str(local.resolve() if local.is_dir() else local)
    folder.mkdir(parents=True, exist_ok=True)
    scorer.model.save_pretrained(folder)
    about: dict[str, Any] = {
        "base": {"model": scorer.base.model, "revision": scorer.revision},
        "form": {"template": config.template, "option": config.option},
        "recipe": config.training.model_dump(),
        "seed": seed,
        **asdict(result),
    }
    write_text(folder / "training.json", json.dumps(about, indent=1) + "\n")
