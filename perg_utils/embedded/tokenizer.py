"""The tokenizer and chat template of the embedded models.

A Unigram tokenizer over bytes whose vocabulary is every word of the invented world and of its prompts, each one
token, option markers such as ` (B)` too; anything else falls back to bytes, so that any text can be encoded and
decoded without loss.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

SYSTEM, USER, ASSISTANT, END, PAD = "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|pad|>"
SPECIAL = [PAD, END, SYSTEM, USER, ASSISTANT]
#: One piece: an option marker, a word, a number or a sign, each with the space before it.
PIECE = r" ?\([A-Z]\)| ?[A-Za-z]+| ?[0-9]+| ?[^\sA-Za-z0-9]|\s"
CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{% if m['role'] == 'system' %}<|system|>{{ m['content'] }}"
    "{% elif m['role'] == 'user' %}<|user|>{{ m['content'] }}"
    "{% else %}<|assistant|>{{ m['content'] }}<|end|>{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)


def build(texts: Iterable[str], context: int) -> PreTrainedTokenizerFast:
    """Return a tokenizer whose vocabulary is every piece of `texts` plus all bytes; `context` is its length limit.

    >>> build(["The answer is salt (B)."], 64).tokenize(" salt (B)")
    ['Ġsalt', 'Ġ(B)']
    """
    from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers  # noqa: PLC0415 - slow imports
    from transformers import PreTrainedTokenizerFast  # noqa: PLC0415

    split = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(PIECE), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    counts = Counter(piece for text in texts for piece, _ in split.pre_tokenize_str(text))
    single = pre_tokenizers.ByteLevel.alphabet()
    words = sorted(piece for piece in counts if piece not in single)
    # Whole pieces must win over any spelling in bytes: score 0 against -20 a byte.
    vocabulary = [(token, 0.0) for token in SPECIAL] + [(byte, -20.0) for byte in sorted(single)]
    vocabulary += [(word, 0.0) for word in words]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=None, byte_fallback=False))
    tokenizer.pre_tokenizer = split
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(SPECIAL)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token=PAD,
        eos_token=END,
        padding_side="left",
        model_max_length=context,
        additional_special_tokens=[SYSTEM, USER, ASSISTANT],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
