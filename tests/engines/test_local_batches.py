import random
import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import CONTEXT, WORDS, chats, engine_of, essence, make_model, replies
from transformers import (
    LlamaConfig,
    MistralConfig,
    MistralForCausalLM,
)

from perg_utils.engines.base import Decoding, EngineError, Request
from perg_utils.engines.local import memory, prefixes
from perg_utils.engines.local.checkpoint import Checkpoint
from perg_utils.engines.local.scheduling import Scheduler


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


def test_a_batch_that_does_not_fit_is_halved_and_no_row_is_lost(folder, monkeypatch, capsys):
    requests = chats(21)
    expected = [essence(reply) for reply in replies(engine_of(folder), requests)]
    sizes, complete = [], Checkpoint.complete

    def tight(self, prompts, limit, decoding, shared=0):
        sizes.append(len(prompts))
        if len(prompts) > 5:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return complete(self, prompts, limit, decoding, shared)

    monkeypatch.setattr(Checkpoint, "complete", tight)
    assert [
        essence(reply) for reply in replies(engine_of(folder, batching="static", batch_size=16), requests)
    ] == expected
    assert sizes == [16, 8, 4, 4, 4, 4, 4, 1]
    assert "out of memory with 16" in capsys.readouterr().out


def test_a_small_last_batch_that_does_not_fit_is_halved_too(folder, monkeypatch):
    requests = chats(3)
    expected = [essence(reply) for reply in replies(engine_of(folder), requests)]
    sizes, complete = [], Checkpoint.complete

    def tight(self, prompts, limit, decoding, shared=0):
        sizes.append(len(prompts))
        if len(prompts) > 1:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        return complete(self, prompts, limit, decoding, shared)

    monkeypatch.setattr(Checkpoint, "complete", tight)
    assert [
        essence(reply) for reply in replies(engine_of(folder, batching="static", batch_size=64), requests)
    ] == expected
    assert sizes == [3, 1, 1, 1]


def test_an_error_that_is_not_about_memory_is_not_taken_for_one(folder, monkeypatch):
    def broken(self, prompts, limit, decoding, shared=0):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Checkpoint, "complete", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        replies(engine_of(folder, batching="static"), chats(2))


def test_what_a_full_memory_looks_like():
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**60, dtype=torch.uint8)
    assert memory.is_full(caught.value)
    assert memory.is_full(torch.OutOfMemoryError("CUDA out of memory")) and memory.is_full(MemoryError())
    assert not memory.is_full(RuntimeError("CUDA error: device-side assert triggered"))


def test_the_memory_of_a_row_is_cache_activations_mask_and_logits():
    config = LlamaConfig(
        hidden_size=8,
        intermediate_size=16,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=2,
        vocab_size=100,
    )
    cache, activations, mask, logits = 2 * 3 * 2 * 2 * 2 * (10 + 5), 10 * (4 * 8 + 3 * 16) * 2, 10 * 10 * 2, 8 * 100
    row = memory.bytes_per_row(config, 2, 10, 5)
    assert row == cache + activations + mask + logits
    assert memory.bytes_per_row(object(), 2, 10, 5) is None
    assert memory.rows_that_fit(row, free=row * 10, on_gpu=True) == 8, "a fifth stays free"
    assert memory.rows_that_fit(row, free=row * 10, on_gpu=False) == 4, "more than half, where others live too"
    assert memory.rows_that_fit(row, free=1, on_gpu=True) == 1
    assert memory.rows_that_fit(row, free=row * 10**6, on_gpu=True) == memory.MOST_ROWS_GPU
    llama = LlamaConfig(
        hidden_size=4096, intermediate_size=14336, num_hidden_layers=32, num_attention_heads=32, vocab_size=128256,
        num_key_value_heads=8,
    )  # fmt: skip
    assert memory.rows_that_fit(memory.bytes_per_row(llama, 2, 600, 1024), 40 * 10**9, on_gpu=True) == 111


def test_without_a_batch_size_batches_are_as_large_as_memory_allows(folder, monkeypatch):
    requests = chats(40)
    expected = [essence(reply) for reply in replies(engine_of(folder, batch_size=1), requests)]
    engine, shapes, complete = engine_of(folder, batching="static"), [], Checkpoint.complete
    checkpoint = engine._load().checkpoint
    checkpoint._free = 2_000_000

    def watched(self, prompts, limit, decoding, shared=0):
        shapes.append((len(prompts), max(map(len, prompts))))
        return complete(self, prompts, limit, decoding, shared)

    monkeypatch.setattr(Checkpoint, "complete", watched)
    assert [essence(reply) for reply in replies(engine, requests)] == expected
    rows = [count for count, _ in shapes[:-1]]  # the last batch is what is left
    assert rows == sorted(rows) and rows[0] < rows[-1], "shorter prompts, more rows"
    assert all(count == checkpoint.rows_that_fit(longest, 24) for count, longest in shapes[:-1])


def alike(n, beginning=50, seed=3):
    dice = random.Random(seed)
    same = " ".join(dice.choices(WORDS, k=beginning))
    tails = [" ".join(dice.choices(WORDS, k=dice.randint(1, 15))) for _ in range(n)]
    return [Request((("user", f"{same} {tail}"),), Decoding(16)) for tail in tails]


def test_a_shared_beginning_is_read_once_and_changes_no_token(folder, monkeypatch):
    requests = [*alike(20), *chats(10, new=16), *alike(3, seed=4)]
    single = [essence(reply) for reply in replies(engine_of(folder, batching="static", batch_size=1), requests)]
    read, once = [], Checkpoint._read_once
    monkeypatch.setattr(
        Checkpoint,
        "_read_once",
        lambda self, tokens, rows: read.append((len(tokens), rows)) or once(self, tokens, rows),
    )
    assert [
        essence(reply) for reply in replies(engine_of(folder, batching="static", batch_size=64), requests)
    ] == single
    assert read == [(52, 20)], "<s>, the role and fifty words; the others have too little in common, or are too few"
    assert len({text for text, *_ in single}) > 20


def test_a_model_with_a_sliding_window_shares_no_beginning(tmp_path):
    make_model(tmp_path)
    settings = {"vocab_size": 6 + 5 + 120, "hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2}
    settings |= {"num_attention_heads": 4, "num_key_value_heads": 4, "max_position_embeddings": CONTEXT}
    settings |= {"initializer_range": 0.5, "bos_token_id": 0, "eos_token_id": 1}
    torch.manual_seed(0)
    MistralForCausalLM(MistralConfig(sliding_window=16, **settings)).save_pretrained(tmp_path)
    requests = alike(12)
    engine = engine_of(tmp_path, batch_size=64)
    together = [essence(reply) for reply in replies(engine, requests)]
    assert not engine._scheduler.checkpoint.can_share
    assert together == [essence(reply) for reply in replies(engine_of(tmp_path, batch_size=1), requests)]


def test_groups_are_found_by_what_prompts_begin_with():
    common = list(range(100))
    long = [[*common[:40], 7, n] for n in range(8)]
    few = [[9, *common[:60], n] for n in range(7)]
    prompts = [*long, *few, [1], [1, 2]]
    found = prefixes.groups(prompts, list(range(len(prompts))))
    assert [(length, sorted(members)) for length, members in found] == [(41, list(range(8))), (0, list(range(8, 17)))]
    same = [common[:50]] * 9
    assert prefixes.groups(same, list(range(9))) == [(49, list(range(9)))], "one token is left to be read"
    assert prefixes.groups([], []) == []


@given(st.lists(st.lists(st.sampled_from([1, 2]), min_size=1, max_size=6), max_size=40))
def test_every_prompt_is_in_one_group_and_begins_as_the_group_does(tails):
    prompts = [[5] * 40 * (tail[0] - 1) + tail for tail in tails]
    found = prefixes.groups(prompts, list(range(len(prompts))))
    assert sorted(index for _, members in found for index in members) == list(range(len(prompts)))
    for length, members in found:
        assert len({tuple(prompts[index][:length]) for index in members}) == 1
        assert all(len(prompts[index]) > length for index in members)


def test_continuous_batching_gives_the_same_replies_as_they_end(folder):
    requests = [*chats(30), *alike(10)]
    expected = [essence(reply) for reply in replies(engine_of(folder), requests)]
    engine = engine_of(folder, batching="continuous")
    assert [essence(reply) for reply in replies(engine, requests)] == expected
    assert engine._scheduler.continuous
    assert not [t for t in threading.enumerate() if "generation" in t.name]


def test_who_leaves_a_running_batch_early_does_not_wait_for_the_rest(folder):
    seen = engine_of(folder, batching="continuous").generate(chats(40))
    assert next(seen)[1].text is not None
    seen.close()
    assert not [t for t in threading.enumerate() if "generation" in t.name]


def test_where_continuous_batching_breaks_off_no_row_is_lost_or_repeated(folder, monkeypatch, capsys):
    requests = chats(30)
    expected = [essence(reply) for reply in replies(engine_of(folder), requests)]
    results = Checkpoint._results

    def broken(self, manager, left):
        for count, result in enumerate(results(self, manager, left)):
            if count == 7:
                raise RuntimeError("no more blocks")
            yield result

    monkeypatch.setattr(Checkpoint, "_results", broken)
    engine = engine_of(folder, batching="continuous")
    assert [essence(reply) for reply in replies(engine, requests)] == expected
    assert not engine._scheduler.continuous
    assert "no more blocks" in capsys.readouterr().out


def test_sampled_replies_never_run_in_a_continuous_batch(folder, monkeypatch):
    monkeypatch.setattr(Checkpoint, "streaming", lambda *_: pytest.fail("sampling is seeded a batch"))
    replies(engine_of(folder, batching="continuous"), chats(4, temperature=1.0))


@pytest.mark.parametrize(
    "case",
    [(0.001, False, True), (1000.0, False, False), (0.001, True, False)],
    ids=["faster and the same", "slower", "faster and not the same"],
)
def test_on_a_gpu_the_first_prompts_decide_how_the_others_run(folder, monkeypatch, capsys, case):
    """There is no GPU here: the machine's answer and the clock are made up, both ways of running are real."""
    speed, change, chosen = case
    requests = chats(100)
    expected = [essence(reply) for reply in replies(engine_of(folder), requests)]
    engine = engine_of(folder)
    scheduler = engine._load()
    scheduler.continuous, scheduler.flows = None, False  # what a model on one GPU begins with
    clock, results, streamed = [0.0], Checkpoint._results, []
    monkeypatch.setattr("perg_utils.engines.local.scheduling.time.perf_counter", lambda: clock[0])

    def timed(self, manager, left):
        streamed.append(left)
        for index, tokens in results(self, manager, left):
            clock[0] += speed
            yield index, [*tokens, 9] if change else tokens

    complete = Checkpoint.complete

    def counted(self, prompts, *more):
        clock[0] += len(prompts)
        return complete(self, prompts, *more)

    monkeypatch.setattr(Checkpoint, "_results", timed)
    monkeypatch.setattr(Checkpoint, "complete", counted)
    assert [essence(reply) for reply in replies(engine, requests)] == expected
    assert scheduler.continuous is chosen
    assert streamed == ([64, 36] if chosen else [64])
    assert f"going on {'continuous' if chosen else 'in batches'}" in capsys.readouterr().out


def test_a_profile_leaves_batching_open_on_one_gpu_only(folder):
    checkpoint = engine_of(folder)._load().checkpoint
    assert Scheduler(checkpoint, None, "auto").continuous is False
    checkpoint.on_one_gpu = True
    assert Scheduler(checkpoint, None, "auto").continuous is None
    assert Scheduler(checkpoint, None, "static").continuous is False


def test_one_prompt_that_does_not_fit_is_an_error_with_the_cure(folder, monkeypatch):
    def full(self, prompts, limit, decoding, shared=0):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Checkpoint, "complete", full)
    with pytest.raises(EngineError, match="nf4"):
        replies(engine_of(folder, batching="static"), chats(2))
