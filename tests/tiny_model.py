"""A language model of some thousand weights, made on the spot, for tests of the local engine."""

import random

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    PreTrainedTokenizerFast,
)

from perg_utils.core.profile import ModelConfig
from perg_utils.engines.base import Decoding, Request
from perg_utils.engines.local.checkpoint import Checkpoint
from perg_utils.engines.local.engine import find_model
from perg_utils.engines.open import open_engine

WORDS = [f"w{i}" for i in range(120)]
SPECIAL = ["<s>", "</s>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>"]
CONTEXT = 96
TURNS = (
    "<s>{% for m in messages %}<|{{ m['role'] }}|> {{ m['content'] }} <|end|> {% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
NO_SYSTEM = "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}" + TURNS
DROPS_SYSTEM = TURNS.replace("{% for m in messages %}", "{% for m in messages if m['role'] != 'system' %}")
THINKING = TURNS + "{% if enable_thinking is defined and not enable_thinking %} <think> </think>{% endif %}"


def make_model(folder, template=TURNS):
    """A tiny random Llama with a word tokenizer, whose saved settings ask for sampling."""
    vocabulary = {token: i for i, token in enumerate([*SPECIAL, "<think>", "</think>", "system", "text", "?", *WORDS])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="?"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.decoder = decoders.Fuse()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, bos_token="<s>", eos_token="</s>", additional_special_tokens=SPECIAL[2:]
    )
    tokenizer.chat_template = template
    torch.manual_seed(0)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(vocabulary),
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=CONTEXT,
            initializer_range=0.5,
            bos_token_id=0,
            eos_token_id=1,
            pad_token_id=None,
        )
    )
    # Two stop tokens, as chat models have them, and settings that must not reach a greedy study.
    model.generation_config = GenerationConfig(
        eos_token_id=[1, 2], do_sample=True, temperature=0.6, top_p=0.9, top_k=5, repetition_penalty=1.5
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def engine_of(folder, **more):
    return open_engine(ModelConfig(name="T", model=str(folder), dtype="float32", **more))


def checkpoint_of(folder, **more):
    config = ModelConfig(name="T", model=str(folder), dtype="float32", **more)
    return Checkpoint(config, find_model(config, fetch=False))


def chats(n, seed=1, new=24, temperature=0.0):
    dice = random.Random(seed)
    return [
        Request(
            (("system", "system text"), ("user", " ".join(dice.choices(WORDS, k=dice.randint(1, 40))))),
            Decoding(new, temperature),
        )
        for _ in range(n)
    ]


def replies(engine, requests):
    out = dict(engine.generate(requests))
    assert sorted(out) == list(range(len(requests))), "each position once"
    return [out[index] for index in range(len(requests))]


def essence(reply):
    return reply.text, reply.status, reply.finish_reason, reply.prompt_tokens, reply.completion_tokens
