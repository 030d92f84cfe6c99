"""The adapter that ships with the demo: it belongs to the shipped base, and its card says what its files say."""

import json
import re

import pandas as pd
import pytest

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT
from perg_utils.core.workspace import Workspace
from perg_utils.engines.local.engine import find_model
from perg_utils.extraction.finetuned.layer import FineTunedLayer, trained_as
from perg_utils.extraction.reading import ExtractorError

FOLDER = ROOT / "data" / "embedded" / "extractor"


@pytest.fixture(scope="module")
def about():
    return trained_as(FOLDER)


def test_the_demo_names_it_and_it_was_trained_as_the_demo_asks(about):
    profile = load_profile("demo")
    config = profile.extractor
    assert (ROOT / config.adapter).samefile(FOLDER)
    assert about["form"] == {"template": config.template, "option": config.option}
    assert about["recipe"] == config.training.model_dump() and about["seed"] == profile.seed
    assert about["base"] == {"model": config.base.model, "revision": find_model(config.base, fetch=False).revision}


def test_it_reads_the_demos_responses_and_is_refused_on_another_base():
    config = load_profile("demo").extractor
    cases = [("The answer is the second option.", ["salt", "iron", "wool", "clay"])]
    [(label, sure)] = FineTunedLayer(config, FOLDER).choices(cases)
    assert label == "B" and 0.5 < sure <= 1
    other = load_profile("demo", ["extractor.base.model=data/embedded/models/M"]).extractor
    with pytest.raises(ExtractorError, match="An adapter fits only the model that it was trained on"):
        FineTunedLayer(other, FOLDER).choices(cases)


def test_it_is_small_and_names_no_folder_of_the_machine_that_trained_it():
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 500_000
    config = json.loads((FOLDER / "adapter_config.json").read_text())
    assert config["base_model_name_or_path"] == "data/embedded/models/L"


def figures(card: str) -> dict[str, str]:
    """The rows of the card's tables: label -> figure."""
    return dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", card, flags=re.MULTILINE))


def test_the_cards_figures_are_those_of_training_json_and_of_the_committed_figure(about):
    last = min(about["curve"], key=lambda check: check["check_loss"])
    tested = pd.read_csv(ROOT / "figures" / "demo" / "extractor.csv").set_index("kind").loc["all"]
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert figures(card) == {
        "responses seen": f"{about['samples']:,}",
        "responses seen by the adapter that was kept": f"{about['best']:,}",
        "trainable weights": f"{about['parameters']:,}",
        "loss on wordings kept for checking": f"{last['check_loss']:.3f}",
        "of these read rightly, %": f"{last['check_right']:.1f}",
        "temperature": f"{about['temperature']:.2f}",
        "minutes": f"{about['seconds'] / 60:.1f}",
        "speaks, %": f"{tested['speaks']:.1f}",
        "right where it speaks, %": f"{tested['right_where_sure']:.1f}",
        "exact 95 % interval of that, %": f"{tested['low']:.1f} to {tested['high']:.1f}",
    }
    assert f"{tested['n']:,.0f} responses" in card and f"seed {about['seed']}" in card


def test_the_cards_command_is_one_that_trains_and_writes_where_it_says(about, tmp_path):
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    command = re.search(r"^    \./run_all\.sh (.*)$", card, flags=re.MULTILINE)[1].split()
    overrides = [command[i + 1] for i, word in enumerate(command) if word == "--set"]
    profile = load_profile("demo", overrides)
    assert profile.extractor.adapter is None and profile.extractor.training.model_dump() == about["recipe"]
    assert command[command.index("--only") + 1] == "01,02" and command[-2:] == ["--out", "DIR"]
    own = Workspace.of(tmp_path, profile.name).extractor
    assert f"`DIR/{own.relative_to(tmp_path.resolve()).as_posix()}`" in card
