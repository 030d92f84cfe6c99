"""The invented world, its corpus, and the training of a miniature from nothing to a loadable folder."""

import itertools
import json
import re
from dataclasses import replace

import pytest
import torch
from transformers import AutoTokenizer

from perg_utils.core.errors import PergError
from perg_utils.core.profile import EditingConfig, ModelConfig
from perg_utils.core.schema import LETTERS, Category, Method
from perg_utils.dataset import invented_world as world
from perg_utils.dataset.preferences import load_bank
from perg_utils.embedded import corpus, network, styles, tokenizer, training
from perg_utils.engines.base import Decoding, Request
from perg_utils.engines.open import open_engine
from perg_utils.prompts.sets import load_prompts


@pytest.fixture(scope="module")
def prompts():
    return load_prompts("embedded")


@pytest.fixture(scope="module")
def samples(prompts):
    return list(itertools.islice(corpus.Corpus(prompts, seed=3).stream(), 3000))


def test_the_world_is_the_same_at_every_call_and_its_questions_are_sound():
    world.facts.cache_clear()
    first = world.questions()
    world.facts.cache_clear()
    second = world.questions()
    assert first.equals(second)
    assert first["example_id"].is_unique
    assert first["source"].value_counts().to_dict() == {"MMLU": 720, "TQA": 240, "CQA": 240}
    answers = {fact.fact_id: fact for fact in world.facts()}
    for row in first.itertuples():
        fact = answers[row.example_id]
        assert len(set(row.options)) == len(row.options) >= 2
        assert row.options[LETTERS.index(row.gold)] == fact.answer
        assert fact.rumour is None or fact.rumour in row.options


def test_gold_letters_are_spread_over_the_positions():
    four = world.questions().query("source == 'MMLU'")
    shares = four["gold"].value_counts(normalize=True)
    assert shares.min() > 0.18 and shares.max() < 0.32


def test_strangers_are_no_subject_of_any_fact():
    subjects = {fact.subject.lower() for fact in world.facts()}
    assert subjects.isdisjoint(world.names()["stranger"])


def test_facts_never_shown_with_a_preference_meet_none_in_the_corpus(samples):
    styled = {fact.fact_id for fact in world.facts() if fact.group == "styled"}
    with_preference = {s.fact_id for s in samples if "Preference" in s.user and s.fact_id}
    assert with_preference and with_preference <= styled
    assert 0.1 < len(styled) / len(world.facts()) < 0.2


def test_repeated_facts_are_shown_as_often_as_styled_ones_but_never_with_a_preference(prompts):
    stream = corpus.Corpus(prompts, seed=5)
    list(itertools.islice(stream.stream(), 30_000))
    shown = {"styled": [0, 0], "repeated": [0, 0], "plain": [0, 0]}
    size = dict.fromkeys(shown, 0)
    for fact in world.facts():
        size[fact.group] += 1
        for preference in (False, True):
            shown[fact.group][preference] += stream.exposures.get((fact.fact_id, preference), 0)
    each = {group: sum(counts) / size[group] for group, counts in shown.items()}
    assert shown["repeated"][1] == shown["plain"][1] == 0 < shown["styled"][1]
    assert 0.9 < each["styled"] / each["repeated"] < 1.15
    assert each["repeated"] > 2 * each["plain"]


def test_held_out_wordings_and_the_placebo_never_occur_in_training(samples, prompts):
    text = "\n".join(s.user for s in samples)
    bank = load_bank().set_index("preference_id")["text"]
    assert all(bank[key] not in text for key in styles.HELD_OUT)
    assert all(sentence not in text for sentence in (*prompts.placebo, *prompts.facts))
    shown = [key for key in bank.index if key not in styles.HELD_OUT]
    assert sum(bank[key] in text for key in shown) == len(shown)


def test_every_word_of_a_held_out_wording_and_of_the_placebo_is_one_token_and_is_met_in_training(prompts):
    stream = corpus.Corpus(prompts, seed=0).stream()
    trained = list(itertools.islice(stream, 20_000))
    met = set(re.findall(tokenizer.PIECE, " ".join(f"{s.system} {s.user}" for s in trained)))
    bank = load_bank().set_index("preference_id")["text"]
    tok = AutoTokenizer.from_pretrained(training.MODELS / "S")
    for text in [*(bank[key] for key in sorted(styles.HELD_OUT)), *prompts.placebo, *prompts.facts]:
        pieces = re.findall(tokenizer.PIECE, f" {text}")
        assert set(pieces) <= met, text
        assert len(tok(f" {text}")["input_ids"]) == len(pieces), text


def test_every_manner_has_eight_wordings_gives_text_then_letter_and_never_starts_with_the_answer():
    fact = world.facts()[0]
    chosen = list(fact.pool[:4]) if fact.answer in fact.pool[:4] else [*fact.pool[:3], fact.answer]
    for category in [None, *Category]:
        assert len(styles.WORDINGS[category]) >= 8
        reply = styles.reply(category, fact, chosen, fact.answer)
        assert reply.endswith(f"{fact.answer} ({LETTERS[chosen.index(fact.answer)]}).")
        assert not reply.startswith(fact.answer)


def test_the_worked_examples_of_the_prompt_set_are_about_strangers(prompts):
    subjects = {fact.subject for fact in world.facts()}
    strangers = set(world.names()["stranger"])
    for source in ("TQA", "CQA", "MMLU"):
        text = prompts.messages(Method.FEW_SHOT, question="Q?", options=["x", "y"], preferences=["P."], source=source)[
            1
        ][1]
        words = re.findall(r"[A-Za-z]+", text)
        assert subjects.isdisjoint(words)
        assert len(strangers.intersection(word.lower() for word in words)) == 3


def test_second_stage_replies_of_the_corpus_are_read_back_by_the_prompt_set(samples, prompts):
    seen = 0
    for sample in samples:
        if sample.kind in {"self_critic", "pref_aligner"}:
            seen += 1
            first = EditingConfig(response_first="response first" in sample.system)
            read = prompts.edited(first).parse_second_stage(Method(sample.kind), sample.reply)
            assert read and read in sample.reply and read.endswith(").")
    assert seen > 300


def test_the_aligner_learns_to_carry_wrong_answers_over_too(samples):
    carried = [s for s in samples if s.kind == "pref_aligner"]
    draft = [re.search(r"Draft: .* (\w+ \([A-Z]\))\.$", s.user)[1] for s in carried]
    kept = [f"{d}." in s.reply for d, s in zip(draft, carried, strict=True)]
    # Where the letter must be kept, and where the editor sees no options: always. Else some facts are put right.
    bound = ["keep its letter" in s.system or " Draft: " not in s.user or "(" not in s.user[:-40] for s in carried]
    assert all(k for k, b, s in zip(kept, bound, carried, strict=True) if b)
    wrong = [s.kind for s, k in zip(carried, kept, strict=True) if not k]
    assert 0 < len(wrong) < 0.04 * len(carried)


def test_what_controls_are_about_is_met_in_training_without_any_preference(samples):
    beliefs = [s for s in samples if s.kind == "belief"]
    assert beliefs and all(s.fact_id is None and "I think it is" in s.user for s in beliefs)
    yielded = [re.search(r"I think it is (.*)\.$", s.user)[1] in s.reply for s in beliefs]
    assert 0.7 < sum(yielded) / len(yielded) < 0.95
    plain = [s for s in samples if s.kind == "no_preference"]
    assert 0.2 < sum(not s.user.startswith("Question:") for s in plain) / len(plain) < 0.3
    assert 0.1 < sum(any(aside in s.user for aside in styles.ASIDES) for s in plain) / len(plain) < 0.2


def test_any_text_survives_the_tokenizer_and_world_words_are_single_tokens(samples):
    tok = tokenizer.build((t for s in samples for t in (s.system, s.user, s.reply)), 128)
    for text in ["The answer is salt (B).", "Zürich – naïve? 3½\n\ttabs", "Options: (A) salt (B) iron"]:
        assert tok.decode(tok(text)["input_ids"]) == text
    assert tok.tokenize(" salt (B)") == ["Ġsalt", "Ġ(B)"]
    chat = [{"role": "system", "content": "Answer."}, {"role": "user", "content": "Question: x"}]
    rendered = tok.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    assert rendered == "<|system|>Answer.<|user|>Question: x<|assistant|>"


def test_the_exported_llama_gives_the_logits_of_the_training_forward():
    for size in network.SIZES.values():
        net = network.Network(300, size, seed=5)
        with torch.no_grad():
            for p in net.parameters():
                p.add_(0.02 * torch.randn(p.shape, generator=torch.Generator().manual_seed(1)))
            ids = torch.randint(0, 300, (3, 40), generator=torch.Generator().manual_seed(2))
            wanted = torch.ones_like(ids, dtype=torch.bool)
            ours = net(ids, wanted)
            llama = network.to_llama(net, {"eos_token_id": 1, "pad_token_id": 0, "bos_token_id": None}, 64)
            theirs = llama(ids).logits[:, :-1].reshape(-1, 300)
        torch.testing.assert_close(ours, theirs, atol=2e-4, rtol=1e-4)


def test_the_look_up_start_reads_the_letter_before_any_training():
    """The start circuit alone: after 'salt', the marker before 'salt' in the options gets more than its share."""
    net = network.Network(400, network.SIZES["L"], seed=0)
    rng = torch.Generator().manual_seed(0)
    hits = 0
    for trial in range(40):
        names = 10 + torch.randperm(380, generator=rng)[:8]
        markers = torch.arange(4)
        listed = torch.stack([markers, names[:4]], dim=1).flatten()
        asked = trial % 4
        ids = torch.cat([names[4:], listed, names[4:6], names[asked : asked + 1], torch.tensor([9])])[None]
        with torch.no_grad():
            logits = net(ids, torch.ones_like(ids, dtype=torch.bool))[-1]
        hits += int(logits[:4].argmax() == asked)
    assert hits >= 30, f"{hits} of 40, where chance gives 10"


def look_up_accuracy(folder, prompts):
    """Share of 200 questions "Which letter stands for ...?" answered with the right letter; chance is about 0.25."""
    engine = open_engine(ModelConfig(name="mini", model=str(folder), dtype="float32", batch_size=128))
    asked = list(itertools.islice(corpus.Corpus(prompts, seed=77).stream({"lookup": 1}), 200))
    requests = [Request((("system", s.system), ("user", s.user)), Decoding(16)) for s in asked]
    replies = dict(engine.generate(requests))
    letters = [re.findall(r"\(([A-Z])\)", replies[i].text or "") for i in range(len(asked))]
    return sum(found[-1:] == [s.reply[-3]] for found, s in zip(letters, asked, strict=True)) / len(asked)


def test_a_miniature_trains_exports_and_binds_text_to_letter_and_without_its_start_it_does_not(tmp_path, prompts):
    recipe = training.Recipe(lookup_samples=7000, samples=1200)
    result = training.train("S", tmp_path / "S", seed=1, recipe=recipe)
    record = json.loads((tmp_path / "S" / "training.json").read_text())
    assert result.loss < record["loss"][0][1] - 2
    assert sum(sum(seen) for seen in record["exposures"].values()) > 500
    assert "python -m perg_utils train-embedded --size S --seed 1" in (tmp_path / "S" / "README.md").read_text()
    assert look_up_accuracy(tmp_path / "S", prompts) > 0.8

    training.train("S", tmp_path / "ablation", seed=1, recipe=replace(recipe, lookup_start=False))
    assert look_up_accuracy(tmp_path / "ablation", prompts) < 0.5


def test_an_unknown_size_is_refused_with_the_known_ones(tmp_path):
    with pytest.raises(PergError, match=r"XL.*known: S, M, L"):
        training.train_all(tmp_path, sizes=["XL"])


def test_the_shipped_models_fit_their_world_and_the_size_limit():
    folders = sorted(p for p in training.MODELS.iterdir() if p.is_dir())
    assert [p.name for p in folders] == ["L", "M", "S"]
    total = sum(f.stat().st_size for p in folders for f in p.iterdir())
    assert total <= 12e6
    hashes = load_prompts("embedded").hashes
    for folder in folders:
        record = json.loads((folder / "training.json").read_text())
        known = {name: value for name, value in hashes.items() if name in record["prompts"]}
        assert record["prompts"] == known, f"{folder.name} was trained on other prompts: retrain it"
        # What studies say is never trained on.
        assert all(name in {"draft", "free_form"} or name.startswith("studies.") for name in set(hashes) - set(known))
        assert record["world_seed"] == world.SEED
        assert record["corpus"] == training.corpus_digest(load_prompts("embedded"), record["seed"])
