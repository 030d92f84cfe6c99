import os
import subprocess
import sys
import warnings

import pytest
import torch
from tiny_model import (
    CONTEXT,
    DROPS_SYSTEM,
    NO_SYSTEM,
    THINKING,
    TURNS,
    WORDS,
    chats,
    checkpoint_of,
    engine_of,
    essence,
    make_model,
    replies,
)

from perg_utils.core.profile import ROOT
from perg_utils.core.schema import Status
from perg_utils.engines.base import Decoding, Request, fold_system
from perg_utils.engines.reasoning import ends_inside_thinking, split_reasoning


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_model(tmp_path_factory.mktemp("model"))


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
    checkpoint = checkpoint_of(folder)
    prompt = checkpoint.render((("system", "system text"), ("user", "w1")))
    assert prompt == "<s><|system|> system text <|end|> <|user|> w1 <|end|> <|assistant|>"
    tokens = checkpoint.encode([prompt])[0]
    assert tokens[0] == 0 and tokens.count(0) == 1


@pytest.mark.parametrize("template", [NO_SYSTEM, DROPS_SYSTEM])
def test_where_a_template_has_no_system_role_its_text_opens_the_user_turn(tmp_path, template):
    make_model(tmp_path, template)
    checkpoint = checkpoint_of(tmp_path)
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
        thinking: checkpoint_of(tmp_path, thinking=thinking).render((("user", "w1"),))
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


def test_thinking_that_fills_the_limit_is_silence_with_its_reasoning_kept(tmp_path):
    make_model(tmp_path, TURNS.replace("<|assistant|>{% endif %}", "<|assistant|> <think> {% endif %}"))
    reply = replies(engine_of(tmp_path), [Request((("user", "w1 w5"),), Decoding(3))])[0]
    assert (reply.text, reply.status, reply.finish_reason) == (None, Status.SILENT, "length")
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


def test_sampling_is_seeded_and_leaves_the_callers_random_state_alone(folder):
    torch.manual_seed(5)
    untouched = torch.rand(3)
    torch.manual_seed(5)
    first = [r.text for r in replies(engine_of(folder), chats(6, temperature=1.5))]
    assert torch.equal(torch.rand(3), untouched)
    second = [r.text for r in replies(engine_of(folder), chats(6, temperature=1.5))]
    assert first == second != [r.text for r in replies(engine_of(folder), chats(6))]


def test_replies_come_batch_by_batch(folder):
    seen = engine_of(folder, batch_size=4, batching="static").generate(chats(8))
    lengths = [next(seen)[1].prompt_tokens for _ in range(4)]
    assert lengths == sorted(lengths, reverse=True)
    seen.close()


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
