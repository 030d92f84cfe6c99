import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tiny_model import WORDS, chats, checkpoint_of, engine_of, essence, make_model, replies
from transformers import LlamaConfig

from perg_utils.engines.base import Decoding, Effort, EngineError, Request
from perg_utils.engines.local import decoding, memory, prefixes
from perg_utils.engines.local.scheduling import Job, Scheduler


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


def arms(questions, per_question=5, seed=5):
    """Requests as a study makes them: some to a question, which begin alike; not in this order."""
    dice = random.Random(seed)
    out = []
    for _ in range(questions):
        same = " ".join(dice.choices(WORDS, k=dice.randint(10, 30)))
        for _ in range(per_question):
            out.append(
                Request((("user", f"{same} {' '.join(dice.choices(WORDS, k=dice.randint(0, 9)))}"),), Decoding(20))
            )
    dice.shuffle(out)
    return out


def test_rows_that_share_join_and_leave_get_the_tokens_that_they_would_get_alone(folder):
    requests = [*arms(12), *chats(20, new=20)]
    alone = [essence(reply) for reply in replies(engine_of(folder, batching="static", batch_size=1), requests)]
    for rows in (1, 3, 16, 64):
        engine = engine_of(folder, batch_size=rows)
        assert [essence(reply) for reply in replies(engine, requests)] == alone
        assert engine._scheduler.flows
    lengths = {tokens for *_, tokens in alone}
    assert len(lengths) > 5, "rows must leave at different times for this to mean anything"


def test_a_beginning_is_read_once_and_rows_that_ended_do_no_work(folder):
    checkpoint, requests = checkpoint_of(folder), arms(10)
    prompts = checkpoint.encode([checkpoint.render(request.messages) for request in requests])
    families = prefixes.families(prompts, range(len(prompts)), 16)
    seen: list[Effort] = []
    done = list(checkpoint.decoder(Decoding(20), lambda e: seen.append(Effort(**vars(e)))).run(prompts, families, 16))
    assert sorted(index for index, *_ in done) == list(range(len(prompts)))
    read = sum(f.shared + sum(len(prompts[i]) - f.shared for i in f.members) for f in families)
    assert seen[-1].read == seen[-1].to_read == read < 0.6 * sum(map(len, prompts))
    assert seen[-1].written == sum(len(tokens) for _, tokens, _ in done), "one token a row and pass, none for others"
    assert sum(seconds for *_, seconds in done) == pytest.approx(seen[-1].reading + seen[-1].writing)


def test_a_running_batch_is_never_larger_than_allowed(folder, monkeypatch):
    sizes, note = [], decoding.Decoder._note

    def watched(self, rows, *more):
        sizes.append(len(rows))
        note(self, rows, *more)

    monkeypatch.setattr(decoding.Decoder, "_note", watched)
    replies(engine_of(folder, batch_size=7), arms(9, per_question=3))
    assert 3 < max(sizes) <= 7


def test_rows_that_do_not_fit_into_memory_are_run_again_in_a_smaller_batch(folder, monkeypatch, capsys):
    requests = arms(6)
    expected = [essence(reply) for reply in replies(engine_of(folder), requests)]
    note = decoding.Decoder._note

    def tight(self, rows, *more):
        if len(rows) > 9:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        note(self, rows, *more)

    monkeypatch.setattr(decoding.Decoder, "_note", tight)
    assert [essence(reply) for reply in replies(engine_of(folder, batch_size=32), requests)] == expected
    assert "going on with" in capsys.readouterr().out
    monkeypatch.setattr(decoding.Decoder, "_note", lambda *_: (_ for _ in ()).throw(MemoryError()))
    with pytest.raises(EngineError, match="single prompt"):
        replies(engine_of(folder, batch_size=4), requests)
    monkeypatch.setattr(decoding.Decoder, "_note", lambda *_: (_ for _ in ()).throw(RuntimeError("shapes")))
    with pytest.raises(RuntimeError, match="shapes"):
        replies(engine_of(folder, batch_size=4), requests)


def test_a_drawn_reply_depends_on_seed_and_prompt_and_not_on_its_neighbours(folder):
    requests = [replace(r, decoding=Decoding(20, temperature=1.5, seed=3)) for r in arms(6)]
    alone = [essence(reply) for reply in replies(engine_of(folder, batch_size=1), requests)]
    assert [essence(reply) for reply in replies(engine_of(folder, batch_size=16), requests)] == alone
    assert len(set(alone)) > len(requests) // 2
    for other in (Decoding(20, temperature=1.5, seed=4), Decoding(20, temperature=0.7, seed=3), Decoding(20)):
        changed = replies(engine_of(folder), [replace(r, decoding=other) for r in requests])
        assert [essence(reply) for reply in changed] != alone


def test_tokens_are_drawn_as_often_as_the_model_says():
    decoder = decoding.Decoder(None, set(), 0, Decoding(1, temperature=2.0))
    logits = 2 * torch.tensor([0.5, 0.3, 0.2]).log()
    rows = [decoding._Row(n, decoder._draw([n])) for n in range(4000)]
    drawn = decoder._chosen(logits.expand(len(rows), 3), rows)
    shares = torch.bincount(drawn, minlength=3) / len(rows)
    assert torch.allclose(shares, torch.tensor([0.5, 0.3, 0.2]), atol=0.03)


def test_a_named_way_of_batching_does_not_run_there(folder, monkeypatch):
    monkeypatch.setattr(decoding.Decoder, "run", lambda *_: pytest.fail("only by default"))
    replies(engine_of(folder, batching="static"), chats(4))


def test_families_are_what_reads_the_fewest_tokens():
    question = [list(range(30)) + [100 + q] * 90 for q in range(2)]
    prompts = [[*question[q], 300 + arm, 7] for arm in range(3) for q in range(2)]
    found = prefixes.families(prompts, range(6))
    assert [(f.shared, sorted(f.members)) for f in found] == [(120, [1, 3, 5]), (120, [0, 2, 4])]
    assert prefixes.families([[1, 2]] * 3, range(3)) == [prefixes.Family(1, [0, 1, 2])], "one token is left to be read"


@given(st.lists(st.lists(st.sampled_from([1, 2]), min_size=1, max_size=7), max_size=12), st.integers(1, 5))
def test_every_prompt_is_in_one_family_that_begins_alike_and_no_partition_of_neighbours_reads_less(prompts, most):
    found = prefixes.families(prompts, range(len(prompts)), most)
    assert sorted(i for f in found for i in f.members) == list(range(len(prompts)))
    for family in found:
        assert len(family.members) <= most
        assert len({tuple(prompts[i][: family.shared]) for i in family.members}) == 1
        assert all(len(prompts[i]) > family.shared for i in family.members)
    ordered = sorted(prompts)

    def saved(run):
        shared = min(map(len, run)) - 1
        while len({tuple(p[:shared]) for p in run}) > 1:
            shared -= 1
        return (len(run) - 1) * shared

    best = [0]
    for end in range(1, len(ordered) + 1):
        best.append(max(best[start] + saved(ordered[start:end]) for start in range(max(0, end - most), end)))
    assert sum((len(f.members) - 1) * f.shared for f in found) == best[-1]


def test_the_time_left_is_told_from_what_was_read_and_written():
    half = Effort(to_read=200, rows=10, limit=100, read=100, written=50, ended=5, reading=4.0, writing=10.0)
    mean = (50 + 8 * 25) / (5 + 8)
    assert half.left() == pytest.approx(100 * 0.04 + (10 * mean - 50) * 0.2)
    assert Effort(to_read=200, rows=10, read=100, written=50).left() is None, "nothing has ended: nobody knows"
    tail = Effort(to_read=9, rows=100, limit=30, read=9, written=3000, ended=99, writing=3000.0)
    assert tail.left() <= 30, "one reply is left, and it ends at the limit"
    assert str(half) == "100+50 tokens" and str(Effort()) == ""


def test_who_watches_hears_of_every_pass(folder):
    engine, heard = engine_of(folder), []
    engine.tell = lambda effort: heard.append(effort.written)
    replies(engine, chats(5))
    assert heard == sorted(heard) and len(heard) > 10
    scheduler = Scheduler(checkpoint_of(folder), None, "auto")
    assert next(scheduler.run(Job([[0, 5]], [0], 1, Decoding(1))))[1], "nobody need watch"


def test_buffers_keep_rows_and_columns_in_their_places():
    buffer = decoding._Buffer()
    keys = torch.arange(2 * 1 * 3 * 1.0).reshape(2, 1, 3, 1)
    buffer.update(keys, -keys)
    for step in range(2 * decoding._ROOM):  # past the room that was made
        buffer.update(torch.full((2, 1, 1, 1), 100.0 + step), torch.zeros(2, 1, 1, 1))
    assert (
        buffer.keys[1, 0, :5, 0].tolist() == [3, 4, 5, 100, 101] and buffer.get_seq_length() == 3 + 2 * decoding._ROOM
    )
    buffer.choose(torch.tensor([1, 1]), first=1)
    assert buffer.keys[0, 0, :3, 0].tolist() == [4, 5, 100]
    other = decoding._Buffer()
    other.update(torch.ones(1, 1, 1, 1), torch.ones(1, 1, 1, 1))
    buffer.join([other], buffer.get_seq_length() + 2)
    assert buffer.keys.shape[0] == 3 and buffer.keys[2, 0, -2:, 0].tolist() == [0, 1]
    assert buffer.keys[0, 0, :3, 0].tolist() == [0, 0, 4]


def test_long_rows_are_fewer_at_a_time_where_memory_is_short_and_short_ones_are_more(folder, monkeypatch):
    requests = [*arms(4), *chats(30, new=20)]
    expected = [essence(reply) for reply in replies(engine_of(folder), requests)]
    seen, note = [], decoding.Decoder._note
    engine = engine_of(folder)
    checkpoint = engine._load().checkpoint

    def watched(self, rows, *more):
        seen.append(len(rows))
        note(self, rows, *more)

    monkeypatch.setattr(checkpoint, "tokens_that_fit", lambda: 220)
    monkeypatch.setattr(decoding.Decoder, "_note", watched)
    assert [essence(reply) for reply in replies(engine, requests)] == expected
    assert max(seen) <= 220 // (20 + 5) and len(set(seen)) > 2
    monkeypatch.setattr(checkpoint, "tokens_that_fit", lambda: 1)
    seen.clear()
    assert [essence(reply) for reply in replies(engine, requests)] == expected
    assert set(seen) == {1}, "one at a time is always tried"


def test_the_tokens_that_fit_are_those_of_the_cache_twice():
    config = LlamaConfig(hidden_size=8, num_hidden_layers=3, num_attention_heads=4, num_key_value_heads=2, head_dim=2)
    assert memory.tokens_that_fit(config, 2, free=1000 * 2 * (2 * 3 * 2 * 2 * 2)) == 400, "two fifths of the memory"
    assert memory.tokens_that_fit(object(), 2, 10**9) is None


def test_no_pass_reads_more_than_a_portion(folder, monkeypatch):
    monkeypatch.setattr(decoding, "_TOKENS", 100)
    passes, read = [], decoding.Decoder._pass
    checkpoint, requests = checkpoint_of(folder), [*arms(10), *chats(20, new=20)]
    expected = [essence(reply) for reply in replies(engine_of(folder, batching="static", batch_size=1), requests)]

    def watched(self, tokens, *more):
        passes.append(tuple(tokens.shape))
        return read(self, tokens, *more)

    monkeypatch.setattr(decoding.Decoder, "_pass", watched)
    assert [essence(reply) for reply in replies(engine_of(folder), requests)] == expected
    assert max(rows * width for rows, width in passes if rows > 1) <= 100
    prompts = checkpoint.encode([checkpoint.render(request.messages) for request in requests])
    assert max(width for _, width in passes) < max(map(len, prompts)), "its last token is read with the rests"


def test_prompts_of_one_token_and_prompts_without_anything_in_common_are_read_too(folder):
    checkpoint = checkpoint_of(folder)
    prompts = [[7], [8], [9, 9, 9, 4], [10, 11], [7]]
    job = Job(prompts, list(range(5)), 8, Decoding(8))
    together = {index: tokens for index, tokens, _ in Scheduler(checkpoint, None, "auto").run(job)}
    assert together == {index: checkpoint.complete([prompts[index]], 8, Decoding(8))[0] for index in range(5)}
