"""Training of the adapter: repeatable, stopped in time, kept at its best, and honest in its confidence."""

import json
import re

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file
from tiny_bases import LISTS, SMALLEST, asking, base, tiny
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
)

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT, ExtractorConfig, LoraTraining, ProfileError
from perg_utils.core.schema import LETTERS
from perg_utils.extraction.finetuned import training
from perg_utils.extraction.finetuned.corpus import Corpus
from perg_utils.extraction.finetuned.layer import FineTunedLayer, trained_as
from perg_utils.extraction.finetuned.scoring import Scorer
from perg_utils.extraction.finetuned.training import fit_temperature, score_samples, train
from perg_utils.extraction.reading import ExtractorError


def test_a_mistral_in_bfloat16_with_the_default_form_is_trained_and_read(tmp_path):
    folder = tiny(tmp_path / "base", dtype="bfloat16")
    recipe = LoraTraining(samples=960, batch_size=32, rank=8, learning_rate=0.01, patience=20)
    config = ExtractorConfig(base=base(folder, dtype="bfloat16"), training=recipe)
    trained = train(config, LISTS, tmp_path / "adapter")
    assert trained.samples == 960 and trained.curve[-1]["loss"] < trained.curve[0]["loss"] - 0.2
    weights = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {w.dtype for w in weights.values()} == {torch.float32} and not any("embed" in name for name in weights)
    own = Scorer(config, tmp_path / "adapter")
    assert own.model.dtype == torch.bfloat16
    [tokens] = own.encode([("</s> It is thing001.", LISTS[0])])
    assert tokens.count(1) == 1 and tokens[0] == 1 and 2 not in tokens, "one opening token, and no end in the text"
    made = [(s.response, s.options) for s in Corpus(LISTS, 4).take("test", 40)]
    found = FineTunedLayer(config, tmp_path / "adapter").choices(made)
    assert all(label in [*LETTERS[: len(o)], "X", "Y", "Z"] for (label, _), (_, o) in zip(found, made, strict=True))
    assert all(0 < sure <= 1 for _, sure in found) and len({label for label, _ in found}) > 1


pytestmark = pytest.mark.usefixtures("few_checks")


def weights(folder):
    return (folder / "adapter_model.safetensors").read_bytes()


def test_the_same_arguments_give_the_same_adapter_and_another_seed_another(tmp_path, options):
    config = asking(SMALLEST, samples=192)
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        torch.manual_seed(len(name))
        train(config, options, tmp_path / name, seed)
    assert weights(tmp_path / "one") == weights(tmp_path / "again") != weights(tmp_path / "other")


def test_training_a_base_with_dropout_is_repeatable_and_leaves_the_callers_dice_alone(tmp_path):
    folder = tiny(tmp_path / "base", attention_dropout=0.5)
    config = asking(folder, samples=96, characters=False)
    for name, seed in (("one", 5), ("again", 6)):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        train(config, LISTS, tmp_path / name, 1)
        assert torch.get_rng_state().equal(before)
    assert weights(tmp_path / "one") == weights(tmp_path / "again")


def test_a_short_training_lowers_the_loss_on_new_templates_and_reads_more_of_them(short, options):
    config, folder, trained = short
    checks = Corpus(options, 100).take("check", 220)
    loss, right = {}, {}
    for name, adapter in (("before", None), ("after", folder)):
        scores, wanted = score_samples(Scorer(config, adapter), checks)
        loss[name] = float(torch.nn.functional.cross_entropy(scores / fit_temperature(scores, wanted), wanted))
        right[name] = float((scores.argmax(-1) == wanted).float().mean())
    assert loss["after"] < loss["before"] - 0.05 and right["after"] > right["before"]
    assert trained.curve[-1]["loss"] < 0.8 * trained.curve[0]["loss"]
    assert [c["samples"] for c in trained.curve] == sorted({c["samples"] for c in trained.curve})


def check_loss(config, folder, options, seed):
    scores, wanted = score_samples(Scorer(config, folder), Corpus(options, seed + 1).take("check", training.CHECKED))
    return float(torch.nn.functional.cross_entropy(scores / fit_temperature(scores, wanted), wanted))


def test_training_stops_when_it_no_longer_helps_and_keeps_the_best_adapter(tmp_path, options):
    config = asking(SMALLEST, samples=1280, patience=2, learning_rate=0.03)
    trained = train(config, options, tmp_path / "adapter", seed=3)
    losses = {int(c["samples"]): c["check_loss"] for c in trained.curve}
    assert trained.samples == max(losses) < 1280, "it must have stopped for this to mean anything"
    assert trained.samples - trained.best == 2 * 64, "two checks, of 20, without gain"
    assert trained.best == min(losses, key=losses.get) and losses[trained.best] < losses[trained.samples]
    assert check_loss(config, tmp_path / "adapter", options, 3) == pytest.approx(losses[trained.best], abs=1e-5)


def test_the_adapter_that_is_saved_is_the_one_with_the_curves_lowest_loss(short, options):
    config, folder, trained = short
    assert check_loss(config, folder, options, 7) == pytest.approx(
        min(c["check_loss"] for c in trained.curve), abs=1e-5
    )


@pytest.mark.parametrize("bold", [1.0, 3.0, 0.6])
def test_scores_that_are_too_bold_by_a_factor_are_divided_by_it(bold):
    dice = torch.Generator().manual_seed(1)
    honest = 2 * torch.randn(8000, 26, generator=dice)
    honest[:, 5:23] = float("-inf")
    wanted = torch.multinomial(honest.softmax(-1), 1, generator=dice).squeeze(1)
    assert fit_temperature(bold * honest, wanted) == pytest.approx(bold, rel=0.06)


def test_the_adapters_folder_tells_the_whole_recipe_and_where_its_base_is(short):
    config, folder, trained = short
    about = json.loads((folder / "training.json").read_text())
    assert about == trained_as(folder)
    assert set(about) == {"base", "form", "recipe", "seed", *trained.__slots__}
    assert about["base"]["model"] == config.base.model and re.fullmatch("[0-9a-f]{16}", about["base"]["revision"])
    assert about["form"] == {"template": config.template, "option": config.option}
    assert about["recipe"] == config.training.model_dump() and about["seed"] == 7
    assert about["curve"] == trained.curve and set(about["curve"][0]) == {
        "samples",
        "loss",
        "check_loss",
        "check_right",
    }
    assert about["best"] in [c["samples"] for c in trained.curve] and about["samples"] == trained.curve[-1]["samples"]
    assert 0.4 < about["temperature"] < 10 and about["seconds"] > 0
    stored = load_file(folder / "adapter_model.safetensors")
    assert about["parameters"] == sum(w.numel() for w in stored.values())
    written = json.loads((folder / "adapter_config.json").read_text())
    assert written["base_model_name_or_path"] == str((ROOT / config.base.model).resolve())


def test_a_local_base_named_below_the_repository_is_written_as_an_absolute_path(tmp_path, options):
    config = asking("data/embedded/models/S", samples=32)
    train(config, options, tmp_path)
    assert json.loads((tmp_path / "adapter_config.json").read_text())["base_model_name_or_path"] == str(SMALLEST)
    assert trained_as(tmp_path)["base"]["model"] == "data/embedded/models/S"


def test_training_that_diverges_writes_nothing_and_says_so(tmp_path, options):
    with pytest.raises(ExtractorError, match=r"diverged.*smaller extractor\.training\.learning_rate than 1e\+38"):
        train(asking(SMALLEST, samples=96, learning_rate=1e38), options, tmp_path / "adapter")
    assert not (tmp_path / "adapter").exists()


def test_a_base_too_short_for_the_made_up_responses_is_refused(tmp_path):
    with pytest.raises(ExtractorError, match=r"longer than .* can read \(16 tokens\); take another extractor\.base"):
        train(asking(tiny(tmp_path / "base", context=16), samples=64), LISTS, tmp_path / "adapter")


def test_embeddings_are_found_whatever_the_base_calls_them(tmp_path):
    folder = tiny(tmp_path / "base", kind=(GPT2Config, GPT2LMHeadModel))
    train(asking(folder, samples=64), LISTS, tmp_path / "adapter")
    assert any("wte" in name for name in load_file(tmp_path / "adapter" / "adapter_model.safetensors"))


def test_a_profile_does_not_train_on_quantized_weights():
    quantized = "extractor.base={name: x, model: data/embedded/models/S, quantization: nf4}"
    with pytest.raises(ProfileError, match="not trained on quantized weights; drop quantization"):
        load_profile("demo", [quantized, "extractor.adapter=null"])
    assert load_profile("demo", [quantized, "extractor.adapter=somebody/adapter"]).extractor.base.quantization == "nf4"


def curve():
    return pd.DataFrame({"samples": [64, 128], "loss": [2.0, 1.0], "check_loss": [2.1, 1.4]})
