import pytest

from perg_utils.core.profile import ModelConfig
from perg_utils.engines.base import Decoding, Request
from perg_utils.engines.open import open_engine


def key_of(message="hello", decoding=None, **model):
    settings = {"name": "A", "engine": "api", "model": "m", "base_url": "http://localhost:1/v1"} | model
    chat = message if isinstance(message, tuple) else (("user", message),)
    return Request(chat, decoding or Decoding(8)).key(open_engine(ModelConfig(**settings), fetch=False).identity)


@pytest.mark.parametrize(
    "change",
    [
        {"model": "other"},
        {"revision": "abc"},
        {"engine": "transformers"},
        {"thinking": True},
        {"extra_body": {"top_k": 1}},
        {"message": "hello!"},
        {"message": (("system", "hello"),)},
        {"message": (("user", "hello"), ("assistant", ""))},
        {"decoding": Decoding(9)},
        {"decoding": Decoding(8, temperature=0.5)},
        {"decoding": Decoding(8, seed=1)},
    ],
    ids=str,
)
def test_whatever_shapes_a_reply_is_in_its_key(change):
    assert key_of(**change) != key_of()


@pytest.mark.parametrize("change", [{"dtype": "bfloat16"}, {"quantization": "nf4"}, {"revision": "b"}], ids=str)
def test_precision_and_revision_of_weights_are_in_the_key(change):
    here = {"engine": "transformers", "model": "org/model", "revision": "a", "dtype": "float32"}
    assert key_of(**here | change) != key_of(**here)


@pytest.mark.parametrize(
    "change",
    [
        {"name": "B"},
        {"base_url": "http://localhost:2/v1"},
        {"api_key_env": "OTHER_KEY"},
        {"concurrency": 3},
        {"batch_size": 3},
        {"batching": "continuous"},
        {"aligner": "C"},
        {"methods": ["cot"]},
    ],
    ids=str,
)
def test_nothing_else_is_in_the_key(change):
    assert key_of(**change) == key_of()
    assert key_of(engine="transformers", **change) == key_of(engine="transformers")
