"""What the README says is what the repository holds."""

import re

import pandas as pd
import yaml

from perg_utils.core.loading import PROFILES, load_profile
from perg_utils.core.profile import ROOT

README = (ROOT / "README.md").read_text(encoding="utf-8")


def test_every_link_and_picture_of_the_readme_is_there():
    targets = [t for t in re.findall(r"\]\(([^)]+)\)", README) if not t.startswith(("http", "#"))]
    assert len(targets) > 8
    assert all((ROOT / target).exists() for target in targets)


def test_the_quoted_table_is_the_committed_one():
    quoted = README.split("<!-- figures/demo/tables/pref_aligner.md, relevant -->")[1].split("<!-- end -->")[0]
    rows = [line for line in quoted.splitlines() if "| relevant |" in line]
    committed = (ROOT / "figures/demo/tables/pref_aligner.md").read_text(encoding="utf-8").splitlines()
    assert rows == [line for line in committed if "| relevant |" in line]
    assert len(rows) == 4


def test_the_profiles_named_are_those_that_exist():
    named = set(re.findall(r"^\| `(\w+)` \|", README, re.MULTILINE))
    assert named == {path.stem for path in PROFILES.glob("*.yaml")}


def test_the_yaml_of_the_readme_makes_valid_profiles(tmp_path):
    blocks = [yaml.safe_load(block.split("```")[0]) for block in README.split("```yaml\n")[1:]]
    demo = yaml.safe_load((PROFILES / "demo.yaml").read_text(encoding="utf-8"))
    profiles = []
    for number, block in enumerate(blocks):
        path = tmp_path / f"my{number}.yaml"
        path.write_text(yaml.safe_dump(demo | block), encoding="utf-8")
        profiles.append(load_profile(path))
    extractor, models = profiles
    assert [model.engine for model in extractor.extractor.models()] == ["transformers", "api"]
    assert [model.engine for model in models.models] == ["transformers", "api", "api"]


def test_the_quoted_figures_of_the_layers_are_those_of_the_committed_table():
    compared = pd.read_csv(ROOT / "figures/demo/extraction.csv").set_index(["form", "layers"])
    told = " ".join((ROOT / "LOG.md").read_text(encoding="utf-8").split())
    place = compared.loc[("by the option's place", "rules, then finetuned")]
    bare = compared.loc[("without the letter", "rules, then finetuned")]
    assert f"with the reader {bare.right:.1f} %; by the option's place 0.0 and {place.right:.1f} %" in told
    wrong = compared["wrong"].unstack("layers").dropna()
    assert (wrong["rules, then finetuned"] == wrong["rules"]).all()


def test_the_quoted_breakage_is_that_of_the_committed_tables():
    methods = pd.read_csv(ROOT / "figures/demo/tables/methods.csv")
    settings = pd.read_csv(ROOT / "figures/demo/tables/settings.csv")
    broken = pd.concat([methods, settings]).query("metric == 'breakage_rate' and model in ('S', 'M', 'L')")
    told = " ".join(README.split())
    for method, setting, words in [
        ("pref_aligner", "relevant", "breaks {} of the right answers"),
        ("zero_shot", "relevant", "zero_shot breaks {}"),
        ("few_shot", "relevant", "few_shot {}"),
        ("zero_shot", "placebo", "breaks {} too"),
    ]:
        values = broken[(broken["method"] == method) & (broken["setting"] == setting)]["value"]
        assert words.format(f"{values.min():.1f} to {values.max():.1f} %") in told
