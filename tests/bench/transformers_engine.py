"""How fast models run in this process: python tests/bench/transformers_engine.py [cpu | gpu | tiny]

cpu    the embedded model L, stage one of the demo's methods: tokens a CPU second of the engine, as it is and with
       parts of it switched off, against the one-at-a-time loop of the original project; tokens must be identical.
gpu    a Llama-shaped model of 8 billion random weights in bfloat16, 512 prompts of 200 to 600 tokens, 256 new tokens
       each: tokens a second in batches, with continuous batching and as the engine chooses, against the loop (on a
       sample of the prompts) and against the bound of memory bandwidth. Needs a CUDA GPU of 40 GB; no download.
tiny   the same script on a CPU with a tiny model, so that it is known to run.

The bound: in each step of a batch all weights, and the batch's keys and values so far, must be read once. It is given
for the loop (one row at a time) and for the rows that ran together, with the bandwidth measured by copying 1 GB.
"""

from __future__ import annotations

import argparse
import random
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ModelConfig
from perg_utils.core.schema import Method
from perg_utils.dataset import preferences
from perg_utils.dataset import questions as curation
from perg_utils.engines.base import Decoding, Request
from perg_utils.engines.local import prefixes
from perg_utils.engines.local.checkpoint import Checkpoint
from perg_utils.engines.local.engine import find_model
from perg_utils.engines.local.scheduling import Job, Scheduler
from perg_utils.inference import requests as tasks
from perg_utils.inference.methods import Chat
from perg_utils.prompts.sets import load_prompts

Answers = dict[int, list[int]]
TEMPLATE = "{% for m in messages %}{{ m['content'] }} {% endfor %}"


def loop(checkpoint: Checkpoint, prompts: list[list[int]], limit: int) -> Answers:
    """One prompt at a time, as the original did."""
    return {index: checkpoint.complete([prompt], limit, Decoding(limit))[0] for index, prompt in enumerate(prompts)}


def scheduled(scheduler: Scheduler, prompts: list[list[int]], limit: int) -> Answers:
    """Through the engine's scheduler."""
    job = Job(prompts, list(range(len(prompts))), limit, Decoding(limit))
    return {index: tokens for index, tokens, _ in scheduler.run(job)}


def tokens_of(answers: Answers) -> int:
    return sum(map(len, answers.values()))


def requests_of(method: Method, limit: int) -> list[Request]:
    """The demo's requests of one method, each once."""
    cfg = load_profile("demo", [f"data.limit={limit}"])
    bank, model = preferences.load_bank(), cfg.model("L")
    examples = preferences.assign(curation.load_examples(cfg.data, cfg.seed), bank)
    material = tasks.Material(examples, bank, load_prompts(cfg.prompts))
    chosen = tasks.settings(cfg, model)[method]
    chats = [
        Chat(material.prompts.messages(method, **row.task.variables()))
        for row in tasks.rows(cfg, method, chosen, material)
    ]
    return [tasks.request(chat, model, cfg.decoding, 1, method) for chat in dict.fromkeys(chats)]


def on_cpu(questions: int, repeats: int) -> None:
    """Print the table of (a)."""
    model = load_profile("demo").model("L")
    checkpoint = Checkpoint(model, find_model(model, fetch=False))
    print(f"embedded model L, {torch.get_num_threads()} thread(s), {questions} questions a source, best of {repeats}\n")
    print("| method | prompts | loop, tokens/CPU s | batches | shared beginnings too | ratio | identical |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    shortest = prefixes.SHORTEST
    for method in (Method.NO_PREFERENCE, Method.ZERO_SHOT, Method.COT, Method.FEW_SHOT):
        requests = requests_of(method, questions)
        prompts = checkpoint.encode([checkpoint.render(request.messages) for request in requests])
        limit = requests[0].decoding.max_new_tokens
        best, found = [float("inf")] * 3, [{}, {}, {}]
        for _ in range(repeats):  # alternating, so that a busy machine is as busy for all
            for way in range(3):
                prefixes.SHORTEST = 10**9 if way == 1 else shortest
                start = time.process_time()
                if way == 0:
                    found[way] = loop(checkpoint, prompts, limit)
                else:
                    found[way] = scheduled(Scheduler(checkpoint, None, "static"), prompts, limit)
                best[way] = min(best[way], time.process_time() - start)
        same = sum(found[0][index] == found[1][index] == found[2][index] for index in found[0])
        rates = [tokens_of(answers) / seconds for answers, seconds in zip(found, best, strict=True)]
        print(
            f"| {method} | {len(prompts)} | {rates[0]:,.0f} | {rates[1]:,.0f} | {rates[2]:,.0f} | "
            f"{rates[2] / rates[0]:.1f} | {same} of {len(prompts)} |",
            flush=True,
        )
    prefixes.SHORTEST = shortest


def random_model(folder: Path, tiny: bool) -> ModelConfig:
    """Save a model without weights' files worth: its shape and a tokenizer; the weights are made where they run."""
    shape = {"hidden_size": 4096, "intermediate_size": 14336, "num_hidden_layers": 32, "num_attention_heads": 32}
    shape |= {"num_key_value_heads": 8, "vocab_size": 128256, "max_position_embeddings": 8192}
    if tiny:
        shape = {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
        shape |= {"num_key_value_heads": 2, "vocab_size": 500, "max_position_embeddings": 2048}
    # No stop token: every reply has the same length, as the bound wants it.
    LlamaConfig(**shape, bos_token_id=0, eos_token_id=None, pad_token_id=1).save_pretrained(folder)
    words = Tokenizer(models.WordLevel({"<s>": 0, "<pad>": 1, "?": 2}, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, bos_token="<s>", pad_token="<pad>")
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    # In bfloat16 the kernels of some processors round apart, and two tokens that are nearly alike change places.
    return ModelConfig(name="tiny" if tiny else "8B", model=str(folder), dtype="float32" if tiny else "bfloat16")


def without_weights(source: str, *, dtype: str, **_: Any) -> Any:
    """Stand in for `from_pretrained`: random weights, made on the device itself."""
    torch.manual_seed(0)
    with torch.device("cuda" if torch.cuda.is_available() else "cpu"):
        return AutoModelForCausalLM.from_config(LlamaConfig.from_pretrained(source), dtype=getattr(torch, dtype))


def bandwidth(device: torch.device) -> float:
    """Return bytes a second read and written by a copy, best of five."""
    source = torch.ones(2**28 if device.type == "cuda" else 2**26, dtype=torch.float32, device=device)
    target, best = torch.empty_like(source), float("inf")
    for _ in range(5):
        best = min(best, timed(device, lambda: target.copy_(source))[0])
    return 2 * source.numel() * 4 / best


def timed(device: torch.device, work: Callable[[], Any]) -> tuple[float, Any]:
    if device.type == "cuda":
        torch.cuda.synchronize()
    start = time.perf_counter()
    out = work()
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - start, out


def bound(model: Any, bytes_a_second: float, prompts: list[list[int]], limit: int, rows: int) -> float:
    """Return the most tokens a second: `rows` prompts together, all weights and their cache read for each token."""
    c = model.config
    size = torch.finfo(model.dtype).bits // 8
    # Of the embedding only single rows are read.
    weights = (sum(p.numel() for p in model.parameters()) - c.vocab_size * c.hidden_size) * size
    head = getattr(c, "head_dim", None) or c.hidden_size // c.num_attention_heads
    token = 2 * c.num_hidden_layers * c.num_key_value_heads * head * size
    mean = sum(map(len, prompts)) / len(prompts) + limit / 2
    return rows * bytes_a_second / (weights + rows * mean * token)


def on_gpu(tiny: bool) -> None:
    """Print the table of (b)."""
    count, low, high, limit, sample = (24, 20, 60, 16, 6) if tiny else (512, 200, 600, 256, 8)
    dice = random.Random(1)
    with tempfile.TemporaryDirectory() as name:
        config = random_model(Path(name), tiny)
        known = AutoModelForCausalLM.from_pretrained
        AutoModelForCausalLM.from_pretrained = without_weights
        try:
            checkpoint = Checkpoint(config, find_model(config, fetch=False))
        finally:
            AutoModelForCausalLM.from_pretrained = known
    checkpoint.stop = set()  # whatever the tokenizer says
    model = checkpoint._model
    assert isinstance(model, LlamaForCausalLM)
    device, words = model.device, model.config.vocab_size
    prompts = [[dice.randrange(3, words) for _ in range(dice.randint(low, high))] for _ in range(count)]
    speed = bandwidth(device)
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"CPU, {torch.get_num_threads()} thread(s)"
    weights = sum(p.numel() for p in model.parameters())
    print(f"{where}, {speed / 1e9:,.0f} GB/s measured; {weights / 1e9:.3g} billion weights, {model.dtype}")
    print(f"{count} prompts of {low} to {high} tokens, {limit} new tokens; the loop: {sample} of them\n")
    rows = checkpoint.rows_that_fit(high, limit)
    loop(checkpoint, prompts[:1], limit)  # warm
    lines = []
    seconds, alone = timed(device, lambda: loop(checkpoint, prompts[:sample], limit))
    lines.append(("loop, one at a time", seconds, alone, 1))
    for name, batching in (
        ("batches", "static"),
        ("continuous batching", "continuous"),
        ("as the engine chooses", "auto"),
    ):
        scheduler = Scheduler(checkpoint, None, batching)
        seconds, found = timed(device, lambda scheduler=scheduler: scheduled(scheduler, prompts, limit))
        fell_back = batching == "continuous" and not scheduler.continuous
        lines.append((f"{name} (fell back to batches)" if fell_back else name, seconds, found, min(rows, count)))
    base = tokens_of(lines[0][2]) / lines[0][1]
    print("\n| | tokens/s | ratio to the loop | share of its bound | rows equal to the loop's |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for name, seconds, found, together in lines:
        assert all(len(tokens) == limit for tokens in found.values())
        rate, best = tokens_of(found) / seconds, bound(model, speed, prompts, limit, together)
        same = sum(found[index] == alone[index] for index in alone)
        print(f"| {name} | {rate:,.0f} | {rate / base:.1f} | {rate / best:.2f} | {same} of {len(alone)} |", flush=True)
    print(f"\nbound: {bound(model, speed, prompts, limit, 1):,.0f} tokens/s one at a time, ", end="")
    print(f"{bound(model, speed, prompts, limit, min(rows, count)):,.0f} with {min(rows, count)} rows together")


def main() -> None:
    """Run what is asked for; by default (b) where there is a GPU, else (a)."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    default = "gpu" if torch.cuda.is_available() else "cpu"
    parser.add_argument("what", nargs="?", choices=["cpu", "gpu", "tiny"], default=default)
    parser.add_argument("--questions", type=int, default=40, help="cpu: questions of each source")
    parser.add_argument("--repeats", type=int, default=2, help="cpu: times, alternating")
    options = parser.parse_args()
    if options.what == "cpu":
        on_cpu(options.questions, options.repeats)
    elif options.what == "gpu" and not torch.cuda.is_available():
        parser.error("no CUDA GPU here; `tiny` runs the same script on a CPU")
    else:
        on_gpu(tiny=options.what == "tiny")


if __name__ == "__main__":
    main()
