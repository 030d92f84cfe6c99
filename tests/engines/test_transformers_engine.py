import os
import random
import shutil
import subprocess
import sys
import threading
import warnings

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    GenerationConfig,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    PreTrainedTokenizerFast,
)

from perg_utils.core.profile import ROOT, ModelConfig
from perg_utils.core.schema import Status
from perg_utils.engines.base import Decoding, EngineError, Request, fold_system
from perg_utils.engines.local import memory, prefixes
from perg_utils.engines.local.checkpoint import Checkpoint
from perg_utils.engines.local.engine import hub_commit
from perg_utils.engines.local.scheduling import Scheduler
from perg_utils.engines.open import open_engine
from perg_utils.engines.reasoning import ends_inside_thinking, split_reasoning

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


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


def engine_of(folder, **more):
    return open_engine(ModelConfig(name="T", model=str(folder), dtype="float32", **more))


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


def test_batches_give_the_same_tokens_as_one_prompt_at_a_time(folder):
    requests = chats(80)
    alone = [essence(replies(engine_of(folder, batch_size=1), [request])[0]) for request in requests[:3]]
    single = [essence(reply) for reply in replies(engine_of(folder, batch_size=1), requests)]
    for size in (7, 64):
        assert [essence(reply) for reply in replies(engine_of(folder, batch_size=size), requests)] == single
    assert single[:3] == alone
    assert len({text for text, *_ in single}) > 60, "the replies must differ for this to mean anything"
    assert {finish for _, _, finish, *_ in single} == {"stop", "length"}


def test_greedy_replies_are_those_of_a_plain_argmax_loop(folder):
    """The settings saved with the checkpoint (sampling, repetition penalty) must not reach the replies."""
    engine = engine_of(folder, batch_size=8)
    requests = chats(8, seed=2)
    got = replies(engine, requests)
    checkpoint = engine._scheduler.checkpoint
    for request, reply in zip(requests, got, strict=True):
        tokens = checkpoint.encode([checkpoint.render(request.messages)])[0]
        new = []
        while len(new) < 24 and not (new and new[-1] in (1, 2)):
            with torch.inference_mode():
                new.append(int(checkpoint._model(torch.tensor([tokens + new])).logits[0, -1].argmax()))
        assert reply.completion_tokens == len(new)
        assert (reply.text or "") == checkpoint.decode(new).strip()
        assert reply.finish_reason == ("stop" if new[-1] in (1, 2) else "length")


def test_loading_and_generating_give_no_warnings(folder, capfd):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        replies(engine_of(folder), chats(3))
    assert "generation flags" not in (shown := capfd.readouterr()).err + shown.out


def test_the_prompt_opens_with_one_start_token_and_tells_roles_apart(folder):
    checkpoint = Checkpoint(ModelConfig(name="T", model=str(folder)), str(folder))
    prompt = checkpoint.render((("system", "system text"), ("user", "w1")))
    assert prompt == "<s><|system|> system text <|end|> <|user|> w1 <|end|> <|assistant|>"
    tokens = checkpoint.encode([prompt])[0]
    assert tokens[0] == 0 and tokens.count(0) == 1


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM])
def test_where_a_template_has_no_system_role_its_text_opens_the_user_turn(tmp_path, template):
    make_model(tmp_path, template)
    checkpoint = Checkpoint(ModelConfig(name="T", model=str(tmp_path)), str(tmp_path))
    prompt = checkpoint.render((("system", "system text"), ("user", "w1"), ("assistant", "w2"), ("user", "w3")))
    assert prompt == (
        "<s><|user|> system text\n\nw1 <|end|> <|assistant|> w2 <|end|> <|user|> w3 <|end|> <|assistant|>"
    )


def test_a_chat_of_only_a_system_text_becomes_a_user_turn():
    assert fold_system((("system", "a"),)) == [("user", "a")]
    assert fold_system((("user", "b"),)) == [("user", "b")]


def test_the_thinking_switch_reaches_the_template_only_when_it_is_set(tmp_path):
    make_model(tmp_path, THINKING)
    prompts = {
        thinking: Checkpoint(ModelConfig(name="T", model=str(tmp_path), thinking=thinking), str(tmp_path)).render(
            (("user", "w1"),)
        )
        for thinking in (None, True, False)
    }
    assert prompts[False].endswith("<think> </think>")
    assert "<think>" not in prompts[None] + prompts[True]


@pytest.mark.parametrize(
    ("text", "opened", "expected"),
    [
        ("B.", False, (None, "B.")),
        ("<think>so it is B</think>\n\nB.", False, ("so it is B", "B.")),
        ("so it is B</think>B.", False, ("so it is B", "B.")),  # the template had opened it
        ("so it is B</think>B.", True, ("so it is B", "B.")),
        ("<think>so it is", False, ("so it is", "")),  # cut at the length limit
        ("so it is", True, ("so it is", "")),
        ("<think>\n\n</think>\n\nB.", False, (None, "B.")),  # thinking switched off
        ("<think>a</think><think>b</think>B.", False, ("ab", "B.")),
        ("", False, (None, "")),
    ],
)
def test_reasoning_is_split_from_the_reply(text, opened, expected):
    assert split_reasoning(text, opened=opened) == expected


def test_a_prompt_may_leave_the_model_inside_its_thinking():
    assert ends_inside_thinking("<|assistant|><think>\n")
    assert not ends_inside_thinking("<|assistant|><think>\n\n</think>\n\n")
    assert not ends_inside_thinking("what does <think> mean? <|assistant|>")


def test_thinking_that_fills_the_limit_is_an_empty_reply_with_its_reasoning_kept(tmp_path):
    make_model(tmp_path, TURNS.replace("<|assistant|>{% endif %}", "<|assistant|> <think> {% endif %}"))
    reply = replies(engine_of(tmp_path), [Request((("user", "w1 w5"),), Decoding(3))])[0]
    assert (reply.text, reply.status, reply.finish_reason) == (None, Status.EMPTY, "length")
    assert reply.reasoning


def test_a_prompt_beyond_the_context_is_rejected_and_the_others_are_answered(folder):
    long = Request((("user", " ".join(WORDS[:100])),), Decoding(8))
    got = replies(engine_of(folder), [long, *chats(2)])
    assert (got[0].status, got[0].text) == (Status.REJECTED, None)
    assert "104 tokens" in got[0].error and str(CONTEXT) in got[0].error
    assert all(reply.status == Status.OK for reply in got[1:])


def test_a_reply_ends_where_the_context_ends_whatever_else_is_in_the_batch(folder):
    tight = Request((("user", " ".join(WORDS[:80])),), Decoding(64))
    short = chats(4, new=64)
    together = replies(engine_of(folder), [tight, *short])
    assert [essence(r) for r in together[1:]] == [essence(r) for r in replies(engine_of(folder), short)]
    assert together[0].prompt_tokens + together[0].completion_tokens <= CONTEXT


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
    assert [essence(reply) for reply in replies(engine_of(folder, batch_size=16), requests)] == expected
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
    assert [essence(reply) for reply in replies(engine_of(folder, batch_size=64), requests)] == expected
    assert sizes == [3, 1, 1, 1]


def test_an_error_that_is_not_about_memory_is_not_taken_for_one(folder, monkeypatch):
    def broken(self, prompts, limit, decoding, shared=0):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(Checkpoint, "complete", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        replies(engine_of(folder), chats(2))


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
    engine, shapes, complete = engine_of(folder), [], Checkpoint.complete
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
    single = [essence(reply) for reply in replies(engine_of(folder, batch_size=1), requests)]
    read, once = [], Checkpoint._read_once
    monkeypatch.setattr(
        Checkpoint,
        "_read_once",
        lambda self, tokens, rows: read.append((len(tokens), rows)) or once(self, tokens, rows),
    )
    assert [essence(reply) for reply in replies(engine_of(folder, batch_size=64), requests)] == single
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
    assert not engine._scheduler.checkpoint._can_share
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
    scheduler.continuous = None  # what a model on one GPU begins with
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
        replies(engine_of(folder), chats(2))


def test_sampling_is_seeded_and_leaves_the_callers_random_state_alone(folder):
    torch.manual_seed(5)
    untouched = torch.rand(3)
    torch.manual_seed(5)
    first = [r.text for r in replies(engine_of(folder), chats(6, temperature=1.5))]
    assert torch.equal(torch.rand(3), untouched)
    second = [r.text for r in replies(engine_of(folder), chats(6, temperature=1.5))]
    assert first == second != [r.text for r in replies(engine_of(folder), chats(6))]


def test_replies_come_batch_by_batch(folder):
    seen = engine_of(folder, batch_size=4).generate(chats(8))
    lengths = [next(seen)[1].prompt_tokens for _ in range(4)]
    assert lengths == sorted(lengths, reverse=True)
    seen.close()


def test_identity_changes_with_the_weights_and_needs_no_loading(tmp_path):
    first = engine_of(make_model(tmp_path / "a"))
    assert first._scheduler is None
    assert first.identity == engine_of(tmp_path / "a").identity
    weights = tmp_path / "a" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    assert engine_of(tmp_path / "a").identity["revision"] != first.identity["revision"]
    assert engine_of(tmp_path / "a", thinking=True).identity != engine_of(tmp_path / "a").identity


def test_a_hub_model_is_named_by_its_revision_without_any_request():
    config = ModelConfig(name="T", model="some-org/some-model", revision="abc123")
    assert open_engine(config).identity["revision"] == "abc123"


def test_a_hub_model_without_a_revision_is_pinned_to_the_commit_in_the_cache(monkeypatch, tmp_path, folder):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    config = ModelConfig(name="T", model="some-org/some-model", dtype="float32")
    assert open_engine(config, fetch=False).identity["revision"] == "main", "nothing here yet"
    assert open_engine(config).identity["revision"] == "main", "nor can the hub be asked"
    commit, cached = "ab" * 20, tmp_path / "models--some-org--some-model"
    shutil.copytree(folder, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    engine = open_engine(config, fetch=False)
    assert engine.identity["revision"] == commit == hub_commit("some-org/some-model")
    loaded = []
    monkeypatch.setattr("perg_utils.engines.local.checkpoint.Checkpoint", lambda config, source: loaded.append(config))
    monkeypatch.setattr("perg_utils.engines.local.scheduling.Scheduler", lambda *_: None)
    engine._load()
    assert loaded[0].revision == commit, "what is loaded is what the key says"


@pytest.mark.parametrize(("setting", "threads"), [(None, "1"), ("2", "2")])
def test_a_small_model_takes_one_thread_unless_told_otherwise(folder, setting, threads):
    code = (
        "import sys, torch\nfrom perg_utils.engines.local.checkpoint import Checkpoint\n"
        "from perg_utils.core.profile import ModelConfig\n"
        "Checkpoint(ModelConfig(name='T', model=sys.argv[1]), sys.argv[1])\nprint(torch.get_num_threads())"
    )
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    environment |= {"OMP_NUM_THREADS": setting} if setting else {}
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder)], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
    )
    assert done.stdout.split()[-1] == threads


def test_a_missing_folder_says_how_to_make_it():
    with pytest.raises(EngineError, match="train-embedded"):
        open_engine(ModelConfig(name="T", model="data/embedded/models/XXL"))


def test_a_relative_folder_is_looked_for_below_the_repository(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert open_engine(ModelConfig(name="T", model="perg_utils/engines")).source == str(ROOT / "perg_utils/engines")
    make_model(tmp_path / "own" / "model")
    assert open_engine(ModelConfig(name="T", model="own/model")).source == "own/model"


def test_quantization_without_a_gpu_is_an_error_and_not_a_crash(folder):
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    with pytest.raises(EngineError, match="CUDA GPU"):
        replies(engine_of(folder, quantization="nf4"), chats(1))


def test_a_folder_that_is_no_model_is_an_error_and_not_a_crash(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(EngineError, match="cannot be loaded"):
        replies(engine_of(tmp_path), chats(1))


def test_opening_an_engine_does_not_import_torch():
    code = "import sys, perg_utils.engines.open; sys.exit('torch' in sys.modules or 'openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0


@pytest.mark.parametrize("what", [["tiny"], ["cpu", "--questions", "2", "--repeats", "1"]], ids=["tiny", "cpu"])
def test_the_benchmark_runs_and_finds_all_tokens_equal(what):
    command = [sys.executable, "tests/bench/transformers_engine.py", *what]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line for line in done.stdout.splitlines() if line.startswith("|")][2:]
    assert len(rows) == 4
    for row in rows:
        same, of = row.split("|")[-2].split(" of ")
        assert int(same) == int(of) > 0
