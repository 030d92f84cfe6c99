import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import BertConfig, BertModel, PreTrainedTokenizerFast

from perg_utils.core.errors import PergError
from perg_utils.proposals import similar

TEXTS = ["i like short answers", "i like long answers with examples and some more words", "i like short answers"]
WORDS = ["[PAD]", "[UNK]", *sorted({word for text in TEXTS for word in text.split()})]


@pytest.fixture(scope="module")
def embedder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("embedder")
    torch.manual_seed(0)
    config = BertConfig(
        vocab_size=len(WORDS), hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32
    )
    BertModel(config).save_pretrained(folder)
    raw = Tokenizer(models.WordLevel({word: n for n, word in enumerate(WORDS)}, unk_token="[UNK]"))
    raw.pre_tokenizer = pre_tokenizers.Whitespace()
    PreTrainedTokenizerFast(tokenizer_object=raw, pad_token="[PAD]", unk_token="[UNK]").save_pretrained(folder)
    return str(folder)


def test_a_vector_has_length_one_and_does_not_depend_on_the_texts_beside_it(embedder):
    together = similar.embed(TEXTS, embedder)
    alone = np.concatenate([similar.embed([text], embedder) for text in TEXTS])
    assert together.shape == (3, 16) and np.allclose(np.linalg.norm(together, axis=1), 1, atol=1e-5)
    assert np.allclose(together, alone, atol=1e-5) and np.allclose(together[0], together[2])
    assert similar.embed([], embedder).shape == (0, 16)


def test_an_embedder_that_cannot_be_loaded_is_named_with_the_cure(tmp_path):
    with pytest.raises(PergError, match=r"--set candidates.embedder=FOLDER"):
        similar.embed(["x"], str(tmp_path))


def test_a_row_stands_for_what_is_as_near_as_said_and_for_nothing_else():
    angles = np.radians([0, 10, 90, 95, 50])
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1).astype(np.float32)
    assert similar.first_of_kind(vectors, np.cos(np.radians(15))) == [0, 0, 2, 2, 4]
    assert similar.first_of_kind(vectors, 1.0) == [0, 1, 2, 3, 4]


SOME = arrays(np.float32, st.tuples(st.integers(0, 12), st.just(3)), elements=st.floats(-1, 1, width=32))


@given(SOME, st.floats(0.1, 1))
def test_rows_that_are_kept_differ_and_all_others_are_near_the_one_that_stands_for_them(vectors, least):
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    vectors = (vectors / np.where(lengths > 0, lengths, 1)).astype(np.float32)
    stands = similar.first_of_kind(vectors, least)
    likeness = vectors @ vectors.T
    kept = sorted(set(stands))
    assert all(stands[row] == row for row in kept)
    assert all(likeness[a, b] < least for a in kept for b in kept if a < b)
    assert all(likeness[row, other] >= least and other < row for row, other in enumerate(stands) if other != row)
