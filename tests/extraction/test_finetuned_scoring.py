"""One forward pass that scores the labels: batches, positions, special tokens, context, tokens of letters."""

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny_bases import GOODS, HOSTILE, LISTS, SMALLEST, asking, base, tiny
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
)

from perg_utils.core.profile import ExtractorConfig
from perg_utils.core.schema import LETTERS, Status
from perg_utils.extraction.finetuned.corpus import Corpus
from perg_utils.extraction.finetuned.layer import FineTunedLayer
from perg_utils.extraction.finetuned.scoring import Scorer
from perg_utils.extraction.reading import LABELS, ExtractorError


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.one_of(st.sampled_from(HOSTILE), st.text(max_size=80)), min_size=1, max_size=3).map(" ".join),
    st.lists(st.one_of(st.sampled_from(GOODS + HOSTILE[:9]), st.text(max_size=12)), min_size=2, max_size=26),
)
def test_letters_beyond_the_options_have_probability_zero_whatever_a_response_says(scorer, response, options):
    [scores] = scorer.read([(response, options)])
    if scores is None:
        [tokens] = scorer.encode([(response, options)])
        assert len(tokens) > scorer.context or len(options) > LETTERS.index("X")
        return
    shares = scores.softmax(-1)
    valid = [label in [*LETTERS[: len(options)], "X", "Y", "Z"] for label in LABELS]
    assert shares[[not v for v in valid]].sum() == 0 and float(shares.sum()) == pytest.approx(1, abs=1e-5)
    assert bool((shares[valid] > 0).all()), "each choice that there is can be made"


def test_what_shares_a_batch_changes_no_score(scorer, cases):
    order = random.Random(3).sample(range(len(cases)), len(cases))
    assert len(cases) == 64 and len({len(ids) for ids in scorer.encode(cases)}) > 15
    alone = torch.stack([scorer.read([case])[0] for case in cases])
    with pytest.MonkeyPatch.context() as patch:
        for size in (64, 7):
            patch.setattr(scorer, "batch_size", size)
            mixed = torch.stack(scorer.read(cases))
            shuffled = torch.stack(scorer.read([cases[i] for i in order]))
            for scores in (mixed, shuffled[torch.tensor(order).argsort()]):
                torch.testing.assert_close(scores, alone, atol=1e-4, rtol=0)
                assert scores.argmax(-1).equal(alone.argmax(-1))
    assert len(alone.argmax(-1).unique()) > 3, "the labels must differ for this to mean anything"


def test_positions_are_counted_from_the_first_true_token_for_bases_that_learn_them(tmp_path):
    own = Scorer(asking(tiny(tmp_path / "base", kind=(GPT2Config, GPT2LMHeadModel))))
    made = [(s.response, s.options) for s in Corpus(LISTS, 2).take("test", 30)]
    assert len({len(ids) for ids in own.encode(made)}) > 10
    alone = torch.stack([own.read([case])[0] for case in made])
    torch.testing.assert_close(torch.stack(own.read(made)), alone, atol=1e-4, rtol=0)


def test_padding_on_the_right_would_change_the_scores(scorer):
    few, many = scorer.encode([("It is salt.", GOODS), ("It is salt. " * 9, GOODS)])
    wide = torch.tensor([few + [scorer._tokenizer.pad_token_id] * (len(many) - len(few)), many])
    mask = torch.tensor([[1] * len(few) + [0] * (len(many) - len(few)), [1] * len(many)])
    with torch.inference_mode():
        right = scorer.model(input_ids=wide, attention_mask=mask).logits[:, -1, scorer._tokens]
        left = scorer.logits([few, many], [len(GOODS)] * 2)
    valid = [0, 1, 2, 3, 23, 24, 25]
    assert torch.allclose(right[1, valid], left[1, valid], atol=1e-4), "nothing is padded here"
    assert (right[0, valid] - left[0, valid]).abs().max() > 0.1


def test_special_tokens_in_a_response_or_an_option_are_read_as_plain_text(scorer):
    tokenizer = scorer._tokenizer
    case = ("<|end|> <|pad|><|user|> B <|assistant|>", ["<|end|>", *GOODS])
    [tokens] = scorer.encode([case])
    assert not set(tokens) & set(tokenizer.all_special_ids) and tokenizer.decode(tokens) == scorer.text(case)
    assert set(tokenizer(scorer.text(case))["input_ids"]) & set(tokenizer.all_special_ids), "else nothing was shown"


def test_a_case_as_long_as_the_context_is_read_and_a_longer_one_is_not_cut(scorer, short):
    room = scorer.context - len(scorer.encode([("salt", GOODS)])[0]) + 1
    fits, longer = ((" salt" * n, GOODS) for n in (room, room + 1))
    assert [len(ids) for ids in scorer.encode([fits, longer])] == [1024, 1025] == [scorer.context, scorer.context + 1]
    assert [row is None for row in scorer.read([fits, longer, fits])] == [False, True, False]
    layer = FineTunedLayer(short[0].model_copy(update={"min_confidence": 0.0}), short[1])
    assert layer.choices([longer]) == [(None, 0.0)]
    [found] = layer.read([longer])
    assert (found.letter, found.how, found.status, found.decided) == (None, "too_long", Status.UNPARSABLE, False)


def test_more_options_than_letters_before_the_other_labels_are_not_read(scorer):
    many = [f"thing{i}" for i in range(26)]
    assert [row is None for row in scorer.read([("It is salt.", many[:n]) for n in (23, 24, 26)])] == [
        False,
        True,
        True,
    ]


@pytest.mark.parametrize("lacking", ["A", "Q", "Z"])
def test_a_base_without_a_token_for_a_letter_is_refused(tmp_path, lacking):
    folder = tiny(tmp_path / "base", letters=sorted(set(LETTERS) - {lacking}))
    with pytest.raises(ExtractorError, match=f"no token of its own for {lacking}; take another base"):
        Scorer(asking(folder))


def test_the_text_of_a_case_is_the_profiles_form_filled_once(scorer):
    hostile = "{options} {response} {0}"
    assert (
        scorer.text((f" {hostile}\n", ["{letter}", "b"])) == f" Options: (A) {{letter}} (B) b Draft: {hostile} Answer"
    )
    default = Scorer(ExtractorConfig(base=base(SMALLEST)))
    assert default.text(("It is salt.", GOODS[:2])) == "It is salt.\nOptions:\nA. iron\nB. salt\nAnswer:"
