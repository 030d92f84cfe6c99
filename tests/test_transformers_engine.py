import random
import shutil
import sys
import warnings

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import GenerationConfig, LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from perg_utils.engines.base import Decoding, EngineError, Request, fold_system
from perg_utils.engines.checkpoint import Checkpoint
from perg_utils.engines.open import open_engine
from perg_utils.engines.reasoning import ends_inside_thinking, split_reasoning
from perg_utils.engines.transformers_engine import hub_commit
from perg_utils.profile import ROOT, ModelConfig
from perg_utils.schema import Status

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
    monkeypatch.setattr("perg_utils.engines.checkpoint.Checkpoint", lambda config, source: loaded.append(config))
    engine._load()
    assert loaded[0].revision == commit, "what is loaded is what the key says"


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
    import subprocess

    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
