"""A language model of some thousand weights in a GGUF file, packed as such files are, made on the spot."""

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter
from gguf.quants import quantize

TURNS = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
_PAIRS = ["an", "in"]
_SPECIAL = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
_HIDDEN, _WIDE, _HEADS, _KEY_HEADS, _LAYERS, CONTEXT = 64, 96, 4, 2, 2, 4096


def _letters():
    """The 256 bytes as byte-level tokenizers write them."""
    plain = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = [byte for byte in range(256) if byte not in plain]
    names = dict(zip(plain, map(chr, plain), strict=True)) | {b: chr(256 + n) for n, b in enumerate(others)}
    return [names[byte] for byte in range(256)]


def make_gguf(path, *, template=TURNS, architecture="qwen2", seed=0):
    """Write a tiny random model to `path` and return it."""
    tokens = [*_letters(), *_SPECIAL, *_PAIRS]
    dice = np.random.default_rng(seed)
    writer = GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(_HIDDEN)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_WIDE)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_KEY_HEADS)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10000.0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 256 + [3] * len(_SPECIAL) + [1] * len(_PAIRS))
    writer.add_token_merges(["a n", "i n"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(258)
    writer.add_pad_token_id(256)
    if template is not None:
        writer.add_chat_template(template)

    def add(name, *shape, packed=True):
        weights = dice.normal(0, 0.5, shape).astype(np.float32)
        if packed:
            kind = GGMLQuantizationType.Q8_0
            writer.add_tensor(name, quantize(weights, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, weights)

    size = _HIDDEN // _HEADS
    add("token_embd.weight", len(tokens), _HIDDEN)
    add("output.weight", len(tokens), _HIDDEN)
    writer.add_tensor("output_norm.weight", np.ones(_HIDDEN, np.float32))
    for n in range(_LAYERS):
        for part, rows in (("attn_q", _HIDDEN), ("attn_k", size * _KEY_HEADS), ("attn_v", size * _KEY_HEADS)):
            add(f"blk.{n}.{part}.weight", rows, _HIDDEN)
            add(f"blk.{n}.{part}.bias", rows, packed=False)
        add(f"blk.{n}.attn_output.weight", _HIDDEN, _HIDDEN)
        for part in ("ffn_gate", "ffn_up"):
            add(f"blk.{n}.{part}.weight", _WIDE, _HIDDEN)
        add(f"blk.{n}.ffn_down.weight", _HIDDEN, _WIDE)
        for part in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{n}.{part}.weight", np.ones(_HIDDEN, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
