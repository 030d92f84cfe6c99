"""Models in GGUF files: a tiny one made here, and real ones where PERG_REAL_MODELS names a folder of them."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from tiny_gguf import CONTEXT, make_gguf
from tiny_model import essence, replies

from perg_utils.core.profile import ROOT, ModelConfig
from perg_utils.core.schema import Status
from perg_utils.engines.base import Decoding, EngineError, Request
from perg_utils.engines.local import machine
from perg_utils.engines.local.checkpoint import Checkpoint
from perg_utils.engines.local.engine import find_model
from perg_utils.engines.open import open_engine

ASKED = [Request((("system", "Be brief."), ("user", f"Which one, {word}?")), Decoding(12)) for word in ("tin", "iron")]
REAL = Path(os.environ.get("PERG_REAL_MODELS", ""))
#: Texts, and the tokens that llama.cpp's own tokenizer makes of them with the same files.
TOKENS = json.loads((Path(__file__).parent / "llama_cpp_tokens.json").read_text(encoding="utf-8"))


def engine_of(path, **more):
    return open_engine(ModelConfig(name="T", model=str(path), dtype="float32", **more))


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return make_gguf(tmp_path_factory.mktemp("gguf") / "tiny-q8_0.gguf")


def test_a_gguf_file_runs_like_the_dense_model_that_it_holds(file, tmp_path):
    engine = engine_of(file)
    got = [essence(reply) for reply in replies(engine, ASKED)]
    checkpoint = engine._scheduler.checkpoint
    assert checkpoint.render((("user", "hi"),)) == "<|im_start|>user\nhi<|im_end|>\n<|im_start|>assistant\n"
    assert checkpoint.encode(["<|im_start|>ban"])[0][0] == 257
    assert 258 in checkpoint.stop and checkpoint.context == CONTEXT
    assert all(weights.dtype == torch.float32 for weights in checkpoint._model.parameters()), "unpacked"
    checkpoint._model.save_pretrained(tmp_path)  # packed weights could not be saved
    checkpoint._tokenizer.save_pretrained(tmp_path)
    assert [essence(reply) for reply in replies(engine_of(tmp_path), ASKED)] == got


def test_a_file_is_known_by_its_name_and_content_wherever_it_lies(file, tmp_path):
    again = tmp_path / file.name
    again.write_bytes(file.read_bytes())
    assert engine_of(file).identity == engine_of(again).identity
    other = make_gguf(tmp_path / "other" / file.name if (tmp_path / "other").mkdir() is None else None, seed=1)
    assert engine_of(file).identity != engine_of(other).identity
    by_folder = engine_of(tmp_path, gguf_file=file.name)
    assert by_folder.identity == engine_of(file).identity
    assert replies(by_folder, ASKED[:1])[0].status == Status.OK


@pytest.mark.parametrize("kept", [0, 100, 0.3, 0.7])
def test_a_file_that_was_cut_off_is_an_error_that_says_so(file, tmp_path, kept):
    content = file.read_bytes()
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(content[: int(kept * len(content)) if kept < 1 else kept])
    with pytest.raises(EngineError, match=r"broken\.gguf.*get it again"):
        replies(engine_of(broken), ASKED)


def test_a_file_of_something_else_and_an_unknown_architecture_are_errors_too(tmp_path):
    text = tmp_path / "readme.gguf"
    text.write_text("this is no model " * 100, encoding="utf-8")
    with pytest.raises(EngineError, match=r"readme\.gguf.*cannot be loaded"):
        replies(engine_of(text), ASKED)
    with pytest.raises(EngineError, match="does not know its architecture"):
        replies(engine_of(make_gguf(tmp_path / "new.gguf", architecture="neverheardof")), ASKED)
    with pytest.raises(EngineError, match="no chat template"):
        replies(engine_of(make_gguf(tmp_path / "base.gguf", template=None)), ASKED)


def test_a_missing_file_says_where_it_was_looked_for(file):
    with pytest.raises(EngineError, match=r"'nowhere\.gguf' of 'T' does not exist.*gguf_file"):
        engine_of("nowhere.gguf")
    with pytest.raises(EngineError, match=r"no file other\.gguf in"):
        engine_of(file.parent, gguf_file="other.gguf")


@pytest.mark.parametrize(
    ("vendor", "flags", "means"),
    [
        ("GenuineIntel", "avx2 fma", "float32"),
        ("AuthenticAMD", "avx512f avx512_bf16", "bfloat16"),
        ("GenuineIntel", "avx512f avx512_bf16", "float32"),
        ("GenuineIntel", "avx512f avx512_bf16 amx_bf16", "bfloat16"),
        ("", "asimd bf16", "bfloat16"),
    ],
)
def test_dtype_auto_is_what_is_fast_here_and_part_of_the_key(file, monkeypatch, vendor, flags, means):
    monkeypatch.setattr(machine, "cpu_flags", lambda: frozenset(flags.split()))
    monkeypatch.setattr(machine, "cpu_vendor", lambda: vendor)
    monkeypatch.setattr(machine, "has_gpu", lambda: False)
    engine = open_engine(ModelConfig(name="T", model=str(file)))
    assert engine.identity["dtype"] == means
    checkpoint = Checkpoint(engine.config, find_model(engine.config, fetch=False))
    assert str(checkpoint._model.dtype) == f"torch.{means}"
    monkeypatch.setattr(machine, "has_gpu", lambda: True)
    assert open_engine(ModelConfig(name="T", model=str(file))).identity["dtype"] == "auto", "the checkpoint's"


def test_the_benchmark_of_real_models_runs_and_finds_all_texts_equal(file):
    command = [sys.executable, "tests/bench/real_models.py", str(file), "--questions", "1", "--limit", "6"]
    command += ["--dtype", "float32", "--few", "5", "--ways", "ours", "batches", "alone"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    rows = [line.split(" | ") for line in done.stdout.splitlines() if line.startswith("|")][2:]
    assert [row[0] for row in rows] == ["| ours", "| batches", "| alone"]
    assert [row[1] for row in rows] == ["21", "21", "5"]
    assert [row[-1] for row in rows] == ["– |", "21 of 21 |", "5 of 5 |"]


@pytest.mark.skipif(not REAL.name, reason="PERG_REAL_MODELS names no folder of real models")
@pytest.mark.parametrize("name", list(TOKENS["tokens"]))
def test_the_tokens_of_real_files_are_those_of_llama_cpp(name):
    config = ModelConfig(name="T", model=str(REAL / f"{name}.gguf"))
    if not Path(config.model).is_file():
        pytest.skip(f"there is no {config.model}")
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(REAL, gguf_file=f"{name}.gguf")
    assert tokenizer(TOKENS["texts"], add_special_tokens=False)["input_ids"] == TOKENS["tokens"][name]
    chat = [{"role": "system", "content": "S."}, {"role": "user", "content": "U?"}]
    prompt = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert prompt == "<|im_start|>system\nS.<|im_end|>\n<|im_start|>user\nU?<|im_end|>\n<|im_start|>assistant\n"
    assert tokenizer.eos_token == "<|im_end|>"


@pytest.mark.skipif(not (REAL / "smollm2-135m.gguf").is_file(), reason="PERG_REAL_MODELS has no smollm2-135m.gguf")
def test_a_real_model_gives_in_a_running_batch_the_tokens_that_it_gives_alone():
    asked = [
        Request((("user", f"Which is a {kind}? A. {one} B. {two}. {more}"),), Decoding(24))
        for kind, one, two in (("metal", "tin", "oak"), ("bird", "owl", "cod"), ("tree", "elm", "ant"))
        for more in ("Be brief.", "Give an example from daily life.", "Paint it in words.", "Go step by step, please.")
    ]
    together = [essence(reply) for reply in replies(engine_of(REAL / "smollm2-135m.gguf"), asked)]
    alone = engine_of(REAL / "smollm2-135m.gguf", batching="static", batch_size=1)
    assert [essence(reply) for reply in replies(alone, asked)] == together
    assert len({text for text, *_ in together}) > 8
