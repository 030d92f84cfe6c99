"""The training forward of the embedded models, their look-up start, and the export to the ordinary model class.

A lean Llama (RMSNorm, rotary positions, SwiGLU, biased attention, tied embeddings) with fused projections and loss
on answer positions only. `to_llama` gives a `transformers.LlamaForCausalLM` with the same weights; a test holds the
two to the same logits.

**The look-up start.** Half of the heads begin as a circuit that binds an option's text to its letter: in layer 0 two
heads look at the previous token and write it (the option's marker) into a subspace of its own; in layer 1 two heads
find the same token elsewhere and read that subspace back. Everything trains normally from there. The circuit is made
of random projections and rotary phases; it holds no fact, no style and no letter. Without it small models learn the
facts and the manners but bind text to letter at little above chance (the ablation is in LOG.md).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

if TYPE_CHECKING:
    from transformers import LlamaForCausalLM

HEAD_DIM = 32
HEADS = 4
LOOKUP_HEADS = 2
ROPE_THETA = 100_000.0
EMBEDDING_STD = 0.06
NORM_EPS = 1e-5
#: Rotary pairs of a head: fast ones tell positions apart, slow ones hardly turn and can compare contents.
FAST, SLOW = range(0, 6), range(6, 16)


@dataclass(frozen=True, slots=True)
class Size:
    """Width (d), feed-forward width and depth of one family member."""

    width: int
    hidden: int
    layers: int


SIZES = {"S": Size(64, 176, 2), "M": Size(96, 256, 3), "L": Size(128, 352, 3)}


class Layer(nn.Module):
    """One transformer block with fused query-key-value and gate-up projections."""

    def __init__(self, size: Size, rng: torch.Generator) -> None:
        super().__init__()
        inner = HEADS * HEAD_DIM
        self.attention_norm = nn.Parameter(torch.ones(size.width))
        self.qkv = _linear(size.width, 3 * inner, rng)
        self.out = _linear(inner, size.width, rng)
        self.mlp_norm = nn.Parameter(torch.ones(size.width))
        self.gate_up = _linear(size.width, 2 * size.hidden, rng, bias=False)
        self.down = _linear(size.hidden, size.width, rng, bias=False)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """Return the block's output for `x` of shape (batch, time, width), causal."""
        batch, time, _ = x.shape
        normed = F.rms_norm(x, x.shape[-1:], self.attention_norm, NORM_EPS)
        qkv = self.qkv(normed).view(batch, time, 3, HEADS, HEAD_DIM).permute(2, 0, 3, 1, 4)
        q, k = _rotate(qkv[0], cos, sin), _rotate(qkv[1], cos, sin)
        mixed = F.scaled_dot_product_attention(q, k, qkv[2], is_causal=True)
        x = x + self.out(mixed.transpose(1, 2).reshape(batch, time, HEADS * HEAD_DIM))
        gate, up = self.gate_up(F.rms_norm(x, x.shape[-1:], self.mlp_norm, NORM_EPS)).chunk(2, dim=-1)
        return x + self.down(F.silu(gate) * up)


class Network(nn.Module):
    """A small Llama for training: token ids in, mean loss over the marked positions out."""

    def __init__(self, vocabulary: int, size: Size, seed: int, lookup_start: bool = True) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(seed)
        self.size = size
        self.embedding = nn.Parameter(EMBEDDING_STD * torch.randn(vocabulary, size.width, generator=rng))
        self.layers = nn.ModuleList(Layer(size, rng) for _ in range(size.layers))
        self.norm = nn.Parameter(torch.ones(size.width))
        if lookup_start:
            _start_lookup(self, rng)

    def forward(self, ids: Tensor, wanted: Tensor) -> Tensor:
        """Return the logits at the positions before each wanted token.

        `ids`, `wanted`: (batch, time); `wanted` is true where a token belongs to the answer. Result: (answer tokens,
        vocabulary), in row order. Padding goes to the right, which a causal model cannot see.
        """
        cos, sin = _rotary(ids.shape[1])
        x = F.embedding(ids, self.embedding)
        for layer in self.layers:
            x = layer(x, cos, sin)
        x = F.rms_norm(x[:, :-1][wanted[:, 1:]], x.shape[-1:], self.norm, NORM_EPS)
        return x @ self.embedding.T


def _linear(inputs: int, outputs: int, rng: torch.Generator, bias: bool = True) -> nn.Linear:
    layer = nn.Linear(inputs, outputs, bias=bias)
    with torch.no_grad():
        layer.weight.copy_(torch.randn(outputs, inputs, generator=rng) * 0.3 / math.sqrt(inputs))
        if bias:
            layer.bias.zero_()
    return layer


def _rotary(time: int) -> tuple[Tensor, Tensor]:
    angle = torch.outer(torch.arange(time, dtype=torch.float32), _frequencies())
    angle = torch.cat([angle, angle], dim=-1)
    return angle.cos(), angle.sin()


def _frequencies() -> Tensor:
    return ROPE_THETA ** (-torch.arange(0, HEAD_DIM, 2, dtype=torch.float32) / HEAD_DIM)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    left, right = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-right, left], dim=-1) * sin


@torch.no_grad()
def _start_lookup(net: Network, rng: torch.Generator) -> None:
    """Set the first `LOOKUP_HEADS` heads of layers 0 and 1 to the look-up circuit (see the module's text)."""
    width, half = net.size.width, HEAD_DIM // 2
    room = min(HEAD_DIM, width // (2 * LOOKUP_HEADS))
    basis = _orthonormal(width, width, rng)
    frequencies = _frequencies()
    first, second = net.layers[0], net.layers[1]
    if not (isinstance(first, Layer) and isinstance(second, Layer)):
        raise TypeError("the look-up start needs two layers")
    slots = [basis[:, h * room : (h + 1) * room] for h in range(LOOKUP_HEADS)]
    outside = basis[:, LOOKUP_HEADS * room :]
    for head in range(LOOKUP_HEADS):
        q, k, v = (slice((part * HEADS + head) * HEAD_DIM, (part * HEADS + head + 1) * HEAD_DIM) for part in range(3))
        mine = slice(head * HEAD_DIM, head * HEAD_DIM + room)
        code = _orthonormal(width, room, rng).T
        # Layer 0: attend one step back by rotary phase alone, copy what stands there into this head's slot.
        first.qkv.weight[q] = first.qkv.weight[k] = 0.0
        for pair in FAST:
            first.qkv.bias[q][pair] = 7.0
            first.qkv.bias[k][pair] = 7.0 * torch.cos(frequencies[pair])
            first.qkv.bias[k][half + pair] = 7.0 * torch.sin(frequencies[pair])
        first.qkv.weight[v] = 0.0
        first.qkv.weight[v][:room] = code
        first.out.weight[:, head * HEAD_DIM : (head + 1) * HEAD_DIM] = 0.0
        first.out.weight[:, mine] = slots[head] * (EMBEDDING_STD * math.sqrt(width / room) / math.sqrt(2))
        # Layer 1: match the token itself (outside the slots, in slow pairs), not the own position; read the slot back.
        match = outside @ _orthonormal(outside.shape[1], min(2 * len(SLOW), outside.shape[1]), rng)
        rows = [p for pair in SLOW for p in (pair, half + pair)][: match.shape[1]]
        second.qkv.weight[q] = second.qkv.weight[k] = 0.0
        second.qkv.weight[[q.start + r for r in rows]] = 2.8 * match.T
        second.qkv.weight[[k.start + r for r in rows]] = 2.8 * match.T
        for pair in FAST:
            second.qkv.bias[q][pair], second.qkv.bias[k][pair] = 2.4, -2.4
        second.qkv.weight[v] = 0.0
        second.qkv.weight[v][:room] = slots[head].T
        second.out.weight[:, head * HEAD_DIM : (head + 1) * HEAD_DIM] = 0.0
        second.out.weight[:, mine] = code.T * (2 * EMBEDDING_STD)


def _orthonormal(rows: int, columns: int, rng: torch.Generator) -> Tensor:
    return torch.linalg.qr(torch.randn(rows, rows, generator=rng))[0][:, :columns]


def to_llama(net: Network, special: dict[str, Any], context: int) -> LlamaForCausalLM:
    """Return the same weights as an ordinary `LlamaForCausalLM` (float32).

    `special` gives `bos_token_id`, `eos_token_id`, `pad_token_id`; `context` the longest sequence in tokens.
    """
    from transformers import LlamaConfig, LlamaForCausalLM  # noqa: PLC0415 - slow import, needed for export only

    config = LlamaConfig(
        vocab_size=net.embedding.shape[0],
        hidden_size=net.size.width,
        intermediate_size=net.size.hidden,
        num_hidden_layers=net.size.layers,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        head_dim=HEAD_DIM,
        attention_bias=True,
        tie_word_embeddings=True,
        rms_norm_eps=NORM_EPS,
        max_position_embeddings=context,
        rope_parameters={"rope_type": "default", "rope_theta": ROPE_THETA},
        **special,
    )
    model = LlamaForCausalLM(config)
    missing = model.load_state_dict(_llama_weights(net), strict=False)
    if missing.unexpected_keys or set(missing.missing_keys) - {"lm_head.weight"}:
        raise RuntimeError(f"export to LlamaForCausalLM does not fit: {missing}")
    model.tie_weights()
    return model.eval()


def _llama_weights(net: Network) -> dict[str, Tensor]:
    weights: dict[str, Tensor] = {"model.embed_tokens.weight": net.embedding.data, "model.norm.weight": net.norm.data}
    for number, layer in enumerate(net.layers):
        assert isinstance(layer, Layer)
        prefix = f"model.layers.{number}."
        weights[prefix + "input_layernorm.weight"] = layer.attention_norm.data
        weights[prefix + "post_attention_layernorm.weight"] = layer.mlp_norm.data
        for name, weight, bias in zip("qkv", layer.qkv.weight.data.chunk(3), layer.qkv.bias.data.chunk(3), strict=True):
            weights[f"{prefix}self_attn.{name}_proj.weight"] = weight
            weights[f"{prefix}self_attn.{name}_proj.bias"] = bias
        weights[prefix + "self_attn.o_proj.weight"] = layer.out.weight.data
        weights[prefix + "self_attn.o_proj.bias"] = layer.out.bias.data
        gate, up = layer.gate_up.weight.data.chunk(2)
        weights[prefix + "mlp.gate_proj.weight"], weights[prefix + "mlp.up_proj.weight"] = gate, up
        weights[prefix + "mlp.down_proj.weight"] = layer.down.weight.data
    return weights
