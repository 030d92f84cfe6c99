"""The layers that a profile opens, what is checked before a run, and what each of them is counted for."""

import json
from pathlib import Path

import pytest
from fake_layers import EXAMPLES, SEVERAL, SILENT, Fake, replied, scored, table

from perg_utils.core.errors import PergError
from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT, Profile, ProfileError
from perg_utils.core.schema import Status
from perg_utils.core.workspace import Workspace
from perg_utils.engines.base import EngineError
from perg_utils.engines.journal import Journal
from perg_utils.extraction.answers import extract
from perg_utils.extraction.layers import by_layer, check_extractor, described, local_adapter, open_layers
from perg_utils.extraction.reading import Reading


def test_what_each_layer_was_asked_and_decided_is_counted():
    tuned = Fake("finetuned", {SILENT: scored("C")})
    llm = Fake("llm", {SEVERAL: replied("A"), "Hm.": Reading(None, "no_reply", Status.API_ERROR, layer="llm")})
    llm.cost = 0.25
    responses = table(
        "B", "I cannot answer this.", SILENT, SILENT, SEVERAL, "Hm.", "Well.", None, status=["ok"] * 7 + ["empty"]
    )
    found = by_layer(extract(responses, EXAMPLES, [tuned, llm]), [tuned, llm])
    assert found.drop(columns="usd").to_dict("index") == {
        "rules": {"asked": 7, "letters": 1, "none": 1, "left": 5, "failed": 0},
        "finetuned": {"asked": 5, "letters": 2, "none": 0, "left": 3, "failed": 0},
        "llm": {"asked": 3, "letters": 1, "none": 0, "left": 2, "failed": 1},
    }
    assert found["usd"].fillna(-1).tolist() == [-1, -1, 0.25]
    assert by_layer(extract(responses, EXAMPLES), []).index.tolist() == ["rules"]


BASED = "extractor.base={name: x, model: data/embedded/models/S}"


@pytest.fixture
def opened(monkeypatch):
    """What the fine-tuned layer was opened with."""
    calls = []

    def opening(config, adapter):
        calls.append((config.base.name, adapter))
        return Fake("finetuned", {})

    monkeypatch.setattr("perg_utils.extraction.layers.FineTunedLayer", opening)
    return calls


def layers(profile, folder):
    with Journal(folder / "j.sqlite") as journal:
        return [layer.name for layer in open_layers(profile, Workspace(folder, folder), journal)]


LLM = "extractor.llm={name: far, engine: api, model: gpt-4o-mini, base_url: 'http://127.0.0.1:9/v1'}"


def test_a_profile_opens_its_layers_in_order_and_asks_nothing(tmp_path, opened):
    assert layers(load_profile("demo", ["extractor={}"]), tmp_path) == []
    assert layers(load_profile("demo", ["extractor={}", LLM]), tmp_path) == ["llm"]
    assert layers(load_profile("demo", [LLM]), tmp_path) == ["finetuned", "llm"]
    assert layers(load_profile("demo", ["extractor.adapter=null"]), tmp_path) == ["finetuned"]
    folders = (ROOT / "data" / "embedded" / "extractor", tmp_path / "extractor")
    assert opened == [("extractor", folder) for folder in folders]


def test_the_layers_of_a_profile_are_described_in_their_order():
    assert described(load_profile("demo", ["extractor={}"]))["layer"].tolist() == ["rules"]
    told = described(load_profile("demo", [LLM]))
    assert told["layer"].tolist() == ["rules", "finetuned", "llm"]
    assert told["how it decides"][1].startswith("scores the options; at least 90% sure")
    assert told["how it decides"][2].startswith("prompt ")


def test_an_adapter_of_ones_own_is_taken_from_its_folder_or_the_hub(tmp_path, opened, monkeypatch):
    own = load_profile("demo", [f"extractor.adapter={tmp_path}"])
    assert local_adapter(own.extractor) == tmp_path
    fetched = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: fetched.append(name) or "/cache/x")
    layers(own, tmp_path)
    layers(load_profile("demo", ["extractor.adapter=somebody/adapter"]), tmp_path)
    assert [adapter for _, adapter in opened] == [tmp_path, Path("/cache/x")] and fetched == ["somebody/adapter"]

    def offline(name, **_):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(EngineError, match=r"'somebody/adapter' can neither be found nor fetched: no"):
        layers(load_profile("demo", ["extractor.adapter=somebody/adapter"]), tmp_path)


def test_an_adapters_folder_that_is_missing_or_the_runs_own_is_found_before_the_run(tmp_path):
    for name in ("./nowhere", "/no/such/folder", "just_a_name"):
        profile = load_profile("demo", [f"extractor.adapter={name}"])
        with pytest.raises(PergError, match=rf"no folder '{name}'.*leave it out to train one"):
            check_extractor(profile.extractor, profile, Workspace.of(tmp_path, "demo"))
    hub = load_profile("demo", ["extractor.adapter=somebody/adapter"])
    check_extractor(hub.extractor, hub, Workspace.of(tmp_path, "demo"))
    own = Workspace.of(tmp_path, "demo").extractor
    own.mkdir(parents=True)
    profile = load_profile("demo", [f"extractor.adapter={own}"])
    with pytest.raises(PergError, match=r"is this run's own folder .* copy it to another place"):
        check_extractor(profile.extractor, profile, Workspace.of(tmp_path, "demo"))
    check_extractor(profile.extractor, profile, Workspace.of(tmp_path / "other", "demo"))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("extractor.base={name: x, engine: api, model: m}", r"extractor\.base is run in process.*not 'api'"),
        ("extractor={adapter: a/b}", r"extractor\.adapter needs extractor\.base"),
        ("extractor.template='{response} only'", r"extractor\.template must hold \{response\} and \{options\}"),
        ("extractor.template='{response}{response}{options}'", r"each once"),
        ("extractor.template='{response} {options} {question}'", r"no other braces \(KeyError\('question'\)\)"),
        ("extractor.template='{response} {options} {'", r"no other braces"),
        ("extractor.template='{response.x} {options}'", r"no other braces"),
        ("extractor.template='{} {response} {options}'", r"no other braces"),
        ("extractor.min_confidence=1.2", r"extractor\.min_confidence: .*less than or equal to 1; got 1\.2"),
        ("extractor.lmm={}", r"extractor\.lmm: unknown key \(did you mean 'llm'\?\)"),
        ("extractor.base.modle=x", r"extractor\.base\.modle: unknown key \(did you mean 'model'\?\)"),
        ("extractor.llm={name: x, model: m, bse_url: y}", r"extractor\.llm\.bse_url: unknown key"),
    ],
)
def test_an_extractor_that_makes_no_sense_is_refused_with_the_cure(override, said):
    with pytest.raises(ProfileError, match=said):
        load_profile("demo", [override])


def test_the_release_brings_its_own_letters():
    with pytest.raises(ProfileError, match=r"extractor: with data\.origin 'published' the letters are the release's"):
        load_profile("published", [BASED])


def test_rules_alone_are_the_default_and_the_shipped_profiles_say_what_they_add():
    assert load_profile("laptop").extractor.models() == []
    assert [m.name for m in load_profile("demo").extractor.models()] == ["extractor"]
    assert [m.name for m in load_profile("paper").extractor.models()] == ["extractor", "gpt-4o-mini"]
    assert [m.name for m in load_profile("paper_small").extractor.models()] == ["gpt-4o-mini"]


@pytest.mark.parametrize("name", ["demo", "paper", "paper_small", "laptop"])
def test_a_dumped_profile_with_an_extractor_reads_back(name):
    profile = load_profile(name)
    assert Profile.model_validate(json.loads(profile.model_dump_json())) == profile


def test_the_released_adapters_form_of_input_is_allowed():
    template = r"[INST] Classify the response.{response}\nReferences: \n{options}\nAnswer: [/INST]"
    config = load_profile("demo", [f'extractor.template="{template}"']).extractor
    assert config.template.format(response="r", options="o").endswith("r\nReferences: \no\nAnswer: [/INST]")
