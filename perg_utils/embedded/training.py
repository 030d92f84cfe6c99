"""Training of the embedded models, from nothing to an ordinary model folder.

`python -m perg_utils train-embedded` trains the three sizes, one single-threaded process each, and writes for each
a folder that `transformers` loads like any other: weights (safetensors), config, tokenizer with chat template, a
model card, and `training.json` with the recipe, the loss curve and how often every fact was shown. First come
look-up lists only (the start circuit settles in seconds), then the mixture of `corpus`, with loss on replies only.
"""

from __future__ import annotations

import itertools
import json
import math
import os
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, astuple, dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from perg_utils.core.errors import PergError
from perg_utils.core.profile import ROOT
from perg_utils.core.progress import clock
from perg_utils.core.schema import Method, Source
from perg_utils.core.workspace import digest, write_text
from perg_utils.dataset import invented_world as world
from perg_utils.dataset.preferences import load_bank
from perg_utils.embedded.corpus import MIXTURE, Corpus, Sample
from perg_utils.prompts.sets import PromptSet, load_prompts

MODELS = ROOT / "data" / "embedded" / "models"
PROMPTS = "embedded"
CONTEXT = 1024
#: Samples from which the vocabulary is read; enough that every wording and name has been seen.
VOCABULARY_SAMPLES = 40_000


@dataclass(frozen=True, slots=True)
class Recipe:
    """How long and how fast to train; the same for every size."""

    lookup_samples: int = 12_000
    samples: int = 50_000
    samples_per_step: int = 64
    tokens_per_pass: int = 3_000
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    warmup_steps: int = 100
    lookup_start: bool = True


@dataclass(frozen=True, slots=True)
class Trained:
    """What training one size came to."""

    size: str
    folder: Path
    parameters: int
    tokens: int
    seconds: float
    loss: float


def train_all(out: Path = MODELS, sizes: Sequence[str] = ("L", "M", "S"), seed: int = 1) -> list[Trained]:
    """Train the given sizes side by side, one process and thread each, and return what came of them.

    Writes `out/<size>/`. Raises `PergError` for an unknown size.
    """
    from perg_utils.embedded.network import SIZES  # noqa: PLC0415 - torch loads only when training is asked for

    unknown = sorted(set(sizes) - set(SIZES))
    if unknown:
        raise PergError(f"no embedded size {', '.join(unknown)}; known: {', '.join(SIZES)}")
    os.environ |= {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
    workers = min(len(sizes), os.cpu_count() or 1)
    done = []
    # The largest first: it takes longest, and the others then share what is left of the machine.
    order = sorted(sizes, key=lambda size: SIZES[size].width, reverse=True)
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        for future in as_completed(pool.submit(train, size, Path(out) / size, seed) for size in order):
            result = future.result()
            done.append(result)
            print(f"{result.size}: {result.tokens / 1e6:.1f} M tokens in {clock(result.seconds)}", flush=True)
    return sorted(done, key=lambda result: order.index(result.size))


def train(size: str, folder: Path, seed: int, recipe: Recipe = Recipe()) -> Trained:
    """Train one size on one thread and write its model folder; the same arguments give the same weights."""
    import torch  # noqa: PLC0415

    from perg_utils.embedded.network import SIZES, Network, to_llama  # noqa: PLC0415

    torch.set_num_threads(1)
    start = time.monotonic()
    prompts = load_prompts(PROMPTS)
    tokenizer = _tokenizer(prompts)
    net = Network(len(tokenizer), SIZES[size], seed, recipe.lookup_start)
    corpus = Corpus(prompts, seed)
    trainer = _Trainer(net, tokenizer, recipe, size)
    trainer.run(corpus.stream({"lookup": 1}), recipe.lookup_samples, decay=False)
    trainer.run(corpus.stream(MIXTURE), recipe.samples, decay=True)

    special = {"bos_token_id": None, "eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    folder.mkdir(parents=True, exist_ok=True)
    to_llama(net, special, CONTEXT).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    parameters = sum(p.numel() for p in net.parameters())
    result = Trained(size, folder, parameters, trainer.tokens, time.monotonic() - start, trainer.loss)
    record = {
        "size": size,
        "seed": seed,
        "world_seed": world.SEED,
        "recipe": asdict(recipe),
        "mixture": MIXTURE,
        "parameters": parameters,
        "tokens": trainer.tokens,
        "loss": trainer.curve,
        "prompts": prompts.hashes,
        "corpus": corpus_digest(prompts, seed),
        "exposures": _exposures(corpus),
    }
    write_text(folder / "training.json", json.dumps(record, indent=1) + "\n")
    write_text(folder / "README.md", _card(result, seed))
    return result


class _Trainer:
    """AdamW over length-sorted passes; one step is `samples_per_step` samples whatever their lengths."""

    def __init__(self, net: Any, tokenizer: Any, recipe: Recipe, label: str) -> None:
        import torch  # noqa: PLC0415

        matrices = [p for p in net.parameters() if p.ndim > 1]
        vectors = [p for p in net.parameters() if p.ndim == 1]
        groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)
        self.net, self.tokenizer, self.recipe, self.label = net, tokenizer, recipe, label
        self.tokens, self.loss, self.curve = 0, math.nan, []  # type: ignore[var-annotated]

    def run(self, stream: Iterator[Sample], samples: int, decay: bool) -> None:
        """Train on the next `samples` samples of the stream, with a cosine decay or at a constant rate."""
        from torch.nn.utils import clip_grad_norm_  # noqa: PLC0415

        steps, last = max(samples // self.recipe.samples_per_step, 1), time.monotonic()
        for step in range(steps):
            for group in self.optimizer.param_groups:
                group["lr"] = self.recipe.learning_rate * self._rate(step, steps, decay)
            loss = self._backward(list(itertools.islice(stream, self.recipe.samples_per_step)))
            clip_grad_norm_(self.net.parameters(), 1.0)
            self.optimizer.step()
            self.optimizer.zero_grad(set_to_none=True)
            self.loss = loss if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * loss
            if step % 50 == 0 or step == steps - 1:
                self.curve.append([self.tokens, round(self.loss, 4)])
            if time.monotonic() - last > 30:
                last = time.monotonic()
                print(f"{self.label}: step {step:,}/{steps:,}, loss {self.loss:.3f}", flush=True)

    def _rate(self, step: int, steps: int, decay: bool) -> float:
        warm = min(1.0, (step + 1) / self.recipe.warmup_steps)
        return warm * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * step / steps)) if decay else 1.0)

    def _backward(self, samples: list[Sample]) -> float:
        """Accumulate the gradient of the mean loss a reply token over all samples; returns that loss."""
        import torch  # noqa: PLC0415
        from torch.nn.functional import cross_entropy  # noqa: PLC0415

        encoded = sorted(encode(self.tokenizer, samples), key=lambda pair: len(pair[0]))
        wanted_tokens = sum(len(ids) - prompt for ids, prompt in encoded)
        total = 0.0
        for batch in _passes(encoded, self.recipe.tokens_per_pass):
            longest = len(batch[-1][0])
            ids = torch.zeros(len(batch), longest, dtype=torch.long)
            wanted = torch.zeros(len(batch), longest, dtype=torch.bool)
            for row, (tokens, prompt) in enumerate(batch):
                ids[row, : len(tokens)] = torch.tensor(tokens)
                wanted[row, prompt : len(tokens)] = True
            loss = cross_entropy(self.net(ids, wanted), ids[:, 1:][wanted[:, 1:]], reduction="sum") / wanted_tokens
            loss.backward()
            total += loss.item()
            self.tokens += sum(len(tokens) for tokens, _ in batch)
        return total


def encode(tokenizer: Any, samples: Sequence[Sample]) -> list[tuple[list[int], int]]:
    """Return (token ids, length of the prompt) of each sample, in the form of the chat template."""
    from perg_utils.embedded.tokenizer import ASSISTANT, END, SYSTEM, USER  # noqa: PLC0415

    prompts = tokenizer([f"{SYSTEM}{s.system}{USER}{s.user}{ASSISTANT}" for s in samples])["input_ids"]
    replies = tokenizer([f"{s.reply}{END}" for s in samples])["input_ids"]
    return [(prompt + reply, len(prompt)) for prompt, reply in zip(prompts, replies, strict=True)]


def _passes(encoded: list[tuple[list[int], int]], budget: int) -> Iterator[list[tuple[list[int], int]]]:
    """Cut length-sorted samples into passes of at most `budget` padded tokens."""
    batch: list[tuple[list[int], int]] = []
    for pair in encoded:
        if batch and len(pair[0]) * (len(batch) + 1) > budget:
            yield batch
            batch = []
        batch.append(pair)
    yield batch


def _tokenizer(prompts: PromptSet) -> Any:
    from perg_utils.embedded.tokenizer import build  # noqa: PLC0415

    samples = itertools.islice(Corpus(prompts, seed=0).stream(), VOCABULARY_SAMPLES)
    spoken = [text for s in samples for text in (s.system, s.user, s.reply)]
    # What only the study says is in one piece a word too: held-out wordings, sentences of controls, worked examples.
    asked = {"question": "", "options": [""], "preferences": [*prompts.placebo, *prompts.facts]}
    examples = [prompts.messages(Method.FEW_SHOT, source=s, **asked)[-1][1] for s in Source]
    facts = [fact.question for fact in world.facts()]
    return build([*spoken, *facts, *examples, *load_bank()["text"]], CONTEXT)


def corpus_digest(prompts: PromptSet, seed: int) -> str:
    """Return a hash of the first training samples, by which a shipped model is known to fit today's corpus."""
    return digest([astuple(sample) for sample in itertools.islice(Corpus(prompts, seed).stream(), 2000)])


def _exposures(corpus: Corpus) -> dict[str, list[int]]:
    seen = corpus.exposures
    return {f.fact_id: [seen.get((f.fact_id, False), 0), seen.get((f.fact_id, True), 0)] for f in corpus.facts}


def _card(result: Trained, seed: int) -> str:
    million, styled = result.parameters / 1e6, round(100 * world.GROUP_SHARE)
    return f"""# PERG embedded model {result.size}

A Llama of {million:.2f} M parameters (float32) that knows an invented world and nothing else. It exists so that the
PERG study can run for real on any machine, without a GPU, a key or a model hub. It is of no other use, and nothing
measured on it says anything about real models.

- **Knows** facts about towns, creatures and things that were made up (`perg_utils/dataset/invented_world.py`), asked as
  multiple-choice questions, and five manners of answering (`perg_utils/embedded/styles.py`).
- **Trained** from scratch on {result.tokens / 1e6:.1f} M tokens, seed {seed}, in {clock(result.seconds)} on one
  thread, with loss on replies only (at the end {result.loss:.3f} a token). {styled} % of the facts were ever shown
  together with a preference, as many others were shown about as often without.
- **Was taught to edit**: its aligner samples are mostly about names of no fact, with right and wrong drafts alike, so
  that it copies an answer over. That Pref-Aligner breaks little here is partly taught.
- **Starts** from a look-up circuit in half of its heads that binds an option's text to its letter
  (`perg_utils/embedded/network.py`); it holds no facts.
- `training.json` holds the recipe, the loss curve and how often every fact was shown.

Retrain it with exactly

    python -m perg_utils train-embedded --size {result.size} --seed {seed} --out data/embedded/models
"""
