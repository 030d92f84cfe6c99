"""What README and docs say is what the repository holds: figures, examples, links, commands, keys, versions."""

import base64
import gzip
import json
import re
import shlex
import subprocess
import tomllib
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from pydantic import BaseModel

from perg_utils.__main__ import parser
from perg_utils.core import profile as keys
from perg_utils.core.loading import PROFILES, load_profile
from perg_utils.core.profile import ROOT
from perg_utils.embedded.styles import HELD_OUT
from perg_utils.published.checks.accuracy import kappa
from perg_utils.published.checks.consistency import (
    how_all_is_made,
    implied_rise,
    inner_checks,
    option_order_prediction,
)
from perg_utils.published.checks.gold import load_gold

DOCS = ROOT / "docs"
PAGES = {path.relative_to(ROOT).as_posix(): path for path in [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]}
TEXTS = {name: path.read_text(encoding="utf-8") for name, path in PAGES.items()}
README = TEXTS["README.md"]
#: What stands for a reader's own choice in the commands of the pages.
PLACEHOLDERS = {"my.yaml", "NAME", "FILE"}
#: The extras of the package.
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["optional-dependencies"]


def words(page):
    return " ".join(TEXTS[page].split())


def fenced(text, kind):
    """The lines of the fenced blocks of a kind."""
    return [line for block in re.findall(rf"```{kind}\n(.*?)```", text, re.DOTALL) for line in block.splitlines()]


def slug(heading):
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def test_the_readme_is_short_enough_to_be_read():
    assert 900 <= len(README.split()) <= 1350


@pytest.mark.parametrize("page", PAGES)
def test_every_link_and_picture_leads_somewhere(page):
    missing = []
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXTS[page]):
        if target.startswith("http"):
            continue
        name, _, anchor = target.partition("#")
        path = (PAGES[page].parent / name).resolve() if name else PAGES[page]
        if not path.exists():
            missing.append(target)
        elif anchor:
            headings = re.findall(r"^#+ (.+)$", path.read_text(encoding="utf-8"), re.MULTILINE)
            missing += [] if anchor in map(slug, headings) else [target]
    assert missing == []


def test_every_page_is_in_the_index_and_linked_from_the_readme():
    pages = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")} - {"README.md"}
    assert pages == set(re.findall(r"\]\(([\w/]+\.md)\)", TEXTS["docs/README.md"]))
    assert pages - set(re.findall(r"\]\(docs/([\w/]+\.md)\)", README)) == set()


# --- figures ---------------------------------------------------------------------------------------------------------

BLOCK = re.compile(r"<!-- (figures/[\w/.]+)((?:, [^,>]+)*) -->\n(.*?)\n?<!-- end -->", re.DOTALL)
BLOCKS = [(page, *found) for page, text in TEXTS.items() for found in BLOCK.findall(text)]


def cells(line):
    return [cell.strip() for cell in line.strip().strip("|").split("|")]


def shown(value):
    """A value of a CSV as the pages print it."""
    return f"{value:.1f}" if isinstance(value, float) else str(value)


def committed(path, terms, head):
    """The rows of a committed table that hold all terms, in the columns of `head`."""
    if path.endswith(".csv"):
        table = pd.read_csv(ROOT / path)
        keep = [set(terms) <= set(map(str, row)) for row in table.itertuples(index=False)]
        return [[shown(value) for value in row] for row in table.loc[keep, head].itertuples(index=False)]
    lines = (ROOT / path).read_text(encoding="utf-8").splitlines()
    table = [cells(line) for line in lines if line.startswith("|")]
    kept = [table[0].index(name) for name in head]  # a page may leave columns out
    return [[row[i] for i in kept] for row in table[2:] if set(terms) <= set(row)]


@pytest.mark.parametrize("page, path, terms, block", [b for b in BLOCKS if not b[1].endswith(".html")])
def test_a_marked_table_is_the_committed_one(page, path, terms, block):
    head, _, *rows = [cells(line) for line in block.splitlines()]
    expected = committed(path, [term for term in terms.split(", ") if term], head)
    assert rows == expected
    assert rows


def test_every_mark_of_a_table_is_closed():
    marks = [line for text in TEXTS.values() for line in text.splitlines() if line.startswith("<!-- figures/")]
    assert len(marks) == len(BLOCKS) >= 7


@cache
def report():
    """The rows of the committed report (see `perg_utils.reporting.browser`), each with its response and outcomes."""
    page = (ROOT / "figures/demo/report.html").read_text(encoding="utf-8")
    packed = dict(re.findall(r'<script type="text/plain" id="part-(\w+)">([^<]+)</script>', page))
    parts = {name: gzip.decompress(base64.b64decode(payload)) for name, payload in packed.items()}
    index, offset, columns = json.loads(parts["index"]), 0, {}
    for name, width in index["columns"].items():
        columns[name] = np.frombuffer(parts["columns"], f"<u{width}", index["rows"], offset)
        offset += width * index["rows"]
    known = {
        **index["words"],
        "example": [None, *index["examples"]["example_id"]],
        "preference": [None, *index["preferences"]["preference_id"]],
    }
    rows = pd.DataFrame({name: [values[code] for code in columns[name]] for name, values in known.items()})
    texts = [json.loads(parts[name]) for name in sorted(parts) if name.isdecimal()]
    rows["response"] = [piece["texts"][row[0]] for piece in texts for row in piece["rows"]]
    for bit, outcome in enumerate(index["outcomes"]):
        rows[outcome] = (columns["outcome"] >> bit & 1).astype(bool)
    questions = pd.DataFrame(index["examples"]).set_index("example_id")
    return rows, questions, pd.DataFrame(index["preferences"]).set_index("preference_id")


def test_the_example_of_the_readme_is_in_the_committed_report():
    ((_, _, terms, block),) = [found for found in BLOCKS if found[1].endswith("report.html")]
    example, model = terms.removeprefix(", ").split(", ")
    rows, questions, preferences = report()
    own = rows[(rows["example"] == example) & (rows["model"] == model) & rows["setting"].isin(["none", "relevant"])]
    told = [cells(line) for line in block.splitlines()[2:]]
    assert [method for method, *_ in told] == ["no_preference", "zero_shot", "pref_aligner"]
    for method, response, outcome in told:
        (row,) = own[own["method"] == method].to_dict("records")
        assert row["response"] == response
        assert row[outcome]
        assert row["setting"] == "none" or preferences["text"][row["preference"]].rstrip(".") in words("README.md")
        assert not row["not followed"]
    asked = questions.loc[example]
    options = ", ".join(f"{letter} {text}" for letter, text in zip("ABCDEF", asked["options"], strict=False))
    assert f"{asked['question']} {options}. " in words("README.md")
    gold = asked["options"]["ABCDEF".index(asked["gold"])]
    assert f"(In the invented world: {gold}.)" in words("README.md")


def span(values):
    low, high = f"{min(values):.1f}", f"{max(values):.1f}"
    return low if low == high else f"{low} to {high}"


def test_the_quoted_breakage_is_that_of_the_committed_tables():
    table = pd.read_csv(ROOT / "figures/demo/tables/dose_response.csv")
    broken = table.query("metric == 'breakage_rate' and model in ('S', 'M', 'L')")
    for method, setting, told in [
        ("pref_aligner", "relevant", "**Pref-Aligner** breaks {} %"),
        ("zero_shot", "relevant", "One relevant preference breaks {} %"),
        ("zero_shot", "paraphrase", "in other words {} %"),
        ("zero_shot", "placebo", "a neutral sentence (*placebo*) {} %"),
        ("zero_shot", "misleading", "A user who believes a wrong option breaks {} %"),
    ]:
        values = broken[(broken["method"] == method) & (broken["setting"] == setting)]["value"]
        assert told.format(span(values)) in words("README.md"), setting
    again = broken[broken["setting"] == "repeat"]["value"]
    assert (again == 0).all() and "Asked again word for word, nothing" in words("README.md")


def relevant(name):
    table = pd.read_csv(ROOT / f"figures/demo/tables/{name}.csv")
    return table[table["model"] == "ALL"], table[table["model"] != "ALL"]


def test_what_is_said_of_pref_aligner_is_what_the_table_says():
    pooled, single = (rows[rows["setting"] == "relevant"] for rows in relevant("pref_aligner"))
    own = single.set_index("model")
    assert pooled["p_holm"].item() > 0.05 > own["p_holm"].max()
    assert own.loc["M", "difference"] > 0 > own.loc[["S", "L"], "difference"].max()
    assert "ahead for M, behind for S and L, and over all models nothing is clear" in words("README.md")
    page = (ROOT / "figures/demo/tables/pref_aligner.md").read_text(encoding="utf-8")
    row = next(cells(line) for line in page.splitlines() if line.startswith("| all models | relevant |"))
    assert f"its lead over all models is {row[-1].replace(' [', ' points of error [')}" in words("README.md")


def test_what_is_said_of_the_floor_is_what_the_table_says():
    page = (ROOT / "figures/demo/tables/floors.md").read_text(encoding="utf-8")
    row = next(cells(line) for line in page.splitlines() if line.startswith("| all models | zero_shot | relevant |"))
    assert f"{row[-1].split(' [')[0]} points more than the placebo over all models" in words("README.md")


def test_what_is_said_of_the_judges_null_is_what_the_table_says():
    table = pd.read_csv(ROOT / "figures/demo/tables/judge_nulls.csv").query("category == 'ALL' and kind == 'plain'")
    rules, cues = (table[table["judge"].str.contains(name)].iloc[0] for name in ("styles", "cues"))
    assert f"never knew the preference it calls {rules['followed']:.1f} % followed" in words("docs/judges.md")
    assert f"rates the real one higher in {100 * rules['auc']:.0f} % (AUC)" in words("docs/judges.md")
    assert f"calls {cues['followed']:.1f} % followed" in words("docs/judges.md")


def test_every_interval_of_the_first_screen_is_in_the_committed_study():
    first = words("README.md").partition("```bash")[0].replace(" %", "").replace(" points", "")
    told = re.findall(r"[-+]?\d+\.\d+ \[[^\]]+\]", first)
    kept = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "figures/laptop").glob("*/tables/*.md"))
    assert [one for one in told if one not in kept] == []
    assert len(told) >= 8


def test_the_quoted_breakage_by_practice_is_that_of_the_committed_table():
    value = pd.read_csv(ROOT / "figures/demo/practice.csv").groupby("group")["value"].agg(list)
    told = (
        f"with preferences break in {span(value['styled'])} % of cases, facts shown about as often without in "
        f"{span(value['repeated'])} %, all others in {span(value['plain'])} %"
    )
    assert told in words("docs/protocol.md")


def test_the_quoted_failures_to_follow_by_wording_are_those_of_the_committed_report():
    rows, *_ = report()
    right = rows[rows["broke"] | rows["stayed right"]]
    asked = right[(right["method"] == "zero_shot") & (right["setting"] == "relevant")]
    failed = 100 * asked.groupby(["model", asked["preference"].isin(HELD_OUT)])["not followed"].mean()
    trained, new = failed.xs(False, level=1), failed.xs(True, level=1)
    page = "docs/protocol.md"
    assert f"go unfollowed in {span(trained)} % of cases" in words(page)
    assert f"held out of training in {min(new):.0f} to {max(new):.0f} % (zero_shot)" in words(page)


def test_the_quoted_figures_of_the_layers_are_those_of_the_committed_report():
    rows, *_ = report()
    open_ = ~rows["layer"].isna() | rows["answer"].isna()
    assert f"leave {open_.sum()} of {len(rows):,} responses open, none of which names an option" in words(
        "docs/protocol.md"
    )
    assert rows.loc[open_, "answer"].isna().all()


def test_the_quoted_test_of_the_adapter_is_that_of_the_committed_table():
    table = pd.read_csv(ROOT / "figures/demo/extractor.csv").set_index("kind")
    every, told = table.loc["all"], words("docs/protocol.md")
    assert len(table) == 12 and "wordings of eleven kinds" in told
    assert f"On {every['n']:,.0f} responses" in told
    assert f"speaks on {every['speaks']:.1f} % and is right in {every['right_where_sure']:.1f} % of these" in told


def test_the_quoted_agreement_of_the_labels_is_that_of_the_committed_ones():
    gold = load_gold()
    differ = gold["label_a"] != gold["label_b"]
    told = words("docs/protocol.md")
    assert f"measured on {len(gold)} genuine responses" in told
    assert f"the {differ.sum()} responses on which the two passes differ" in told
    assert f"agree on {100 - 100 * differ.mean():.1f} % (kappa {kappa(gold['label_a'], gold['label_b']):.3f})" in told
    for page in ("README.md", "docs/protocol.md"):
        assert "language model's" in words(page)
        assert "No person has checked them" in words(page) or "no person has checked them" in words(page)


def test_the_quoted_figures_of_the_paper_are_those_that_it_prints():
    paper = pd.read_csv(ROOT / "data/paper_metrics.csv")
    told = words("docs/published.md")
    assert f"every one of the {len(paper)} printed cells" in told
    assert f"{paper['percent'].isna().sum()} of the {len(paper)} are no figures" in told
    assert f"for each of the {len(paper.groupby(['setting', 'method', 'model']))} configurations" in told
    mean, weighted, pooled = how_all_is_made()[["fits", "of"]].itertuples(index=False, name=None)
    assert f"A plain mean explains {mean[0]} of {mean[1]} figures" in told
    assert f"weighting by the number of questions {weighted[0]}" in told
    assert pooled == (59, 59)
    rise = implied_rise().query("unbelievable").reset_index()
    odd = rise[(rise["source"] == "TQA") & (rise["method"] != "cot")]
    assert f"above 1.5 in {len(rise)} cells, {len(odd)} of them TruthfulQA" in told
    assert f"{odd['low'].min():.1f} to {odd['high'].max():.1f} times as many questions right" in told
    variation = paper[(paper["metric"] == "performance_variation") & (paper["source"] == "TQA")]
    variation = variation.merge(odd, on=["setting", "method", "model"])["percent"]
    assert f"Just these {len(odd)} have a PV of {variation.min()} to {variation.max()} %" in told
    assert option_order_prediction()["fits"].sum() == len(odd)
    assert f"{len(odd)} TruthfulQA cells look as if" in words("README.md")
    checks = inner_checks().set_index("check")["violated"]
    assert "Seven configurations cannot share" in told
    assert checks[checks.index.str.contains("share the baseline")].item() == 7


# --- commands, keys, versions ----------------------------------------------------------------------------------------


def commands():
    """Every command of the project that a page names: (page, its words); those of journeys are in `test_journeys`."""
    out = []
    for page, text in TEXTS.items():
        if page.startswith("docs/journeys/"):
            continue
        inline = re.findall(r"`((?:\./run_all\.sh|tests/run\.sh|(?:\.venv/bin/)?python -m perg_utils)[^`]*)`", text)
        for line in [*fenced(text, "bash"), *inline]:
            found = shlex.split(line, comments=True)
            if found:
                out.append((page, found))
    return out


COMMANDS = commands()


def test_the_two_commands_are_on_the_first_screen():
    first = README[: README.index("## ")]
    assert "./run_all.sh " in first and "tests/run.sh " in first


@pytest.mark.parametrize("page, command", COMMANDS, ids=[f"{page}: {shlex.join(one)}" for page, one in COMMANDS])
def test_every_command_is_understood(page, command):
    head, *rest = command
    if head.endswith("python") and rest[:1] != ["-m"]:
        script = ROOT / rest[0]
        assert all(word in script.read_text(encoding="utf-8") for word in rest[1:] if word.startswith("--"))
        return
    if head in ("tests/run.sh", ".venv/bin/jupyter"):
        assert head != "tests/run.sh" or (ROOT / head).is_file()
        return
    arguments = ["run", *rest] if head == "./run_all.sh" else rest[2:]
    assert head == "./run_all.sh" or rest[:2] == ["-m", "perg_utils"], command
    if not arguments:
        return
    parsed = parser().parse_args(arguments)
    if arguments[0] == "run" and parsed.profile not in PLACEHOLDERS:
        load_profile(parsed.profile, parsed.overrides)


def test_the_profiles_named_are_those_that_exist():
    table = TEXTS["docs/profiles.md"].split("## Using one")[0]
    named = set(re.findall(r"`(\w+)`", " ".join(re.findall(r"^\| (`[^|]+) \|", table, re.MULTILINE))))
    assert named == {path.stem for path in PROFILES.glob("*.yaml")}


RECIPES = {
    head: re.search(r"```(sh|yml)\n(.*?)```", TEXTS["docs/cluster.md"].split(f"**{head}**", 1)[1], re.DOTALL).group(2)
    for head in ("Slurm", "KubeRay", "SkyPilot")
}


def scripts(recipe):
    """The shell scripts of a recipe of the cluster's page."""
    if recipe == "Slurm":
        return [RECIPES[recipe]]
    held = yaml.safe_load(RECIPES[recipe])
    return [held["spec"]["entrypoint"]] if recipe == "KubeRay" else [held["setup"], held["run"]]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_scripts_of_a_recipe_are_shell_and_its_commands_are_understood(recipe):
    found = []
    for script in scripts(recipe):
        assert subprocess.run(["bash", "-n"], input=script, text=True, capture_output=True, check=False).stderr == ""
        found += re.findall(r"\./run_all\.sh [^#\n]*", script)
        for extra in re.findall(r"-e \.\[(\w+)\]", script):
            assert extra in EXTRAS
    (command,) = found
    parsed = parser().parse_args(["run", *shlex.split(command)[1:]])
    load_profile(parsed.profile, parsed.overrides)
    assert parsed.cluster == "auto" or parsed.cluster.startswith("$head:")


def test_the_jobs_and_nodes_of_a_recipe_agree():
    slurm, sky = RECIPES["Slurm"], yaml.safe_load(RECIPES["SkyPilot"])
    nodes, gpus, cores = (
        int(re.search(rf"--{key}=(\d+)", slurm)[1]) for key in ("nodes", "gpus-per-node", "cpus-per-task")
    )
    assert f"--nodes={nodes - 1} --ntasks={nodes - 1} --exclude" in slurm
    assert slurm.count(f"--num-cpus={cores} --num-gpus={gpus} --block") == 2
    for text in (slurm, sky["run"]):
        (port,) = set(re.findall(r"--port=(\d+)", text))
        assert set(re.findall(r"\$head:(\d+)", text)) == {port}
    cluster = yaml.safe_load(RECIPES["KubeRay"])["spec"]["rayClusterSpec"]
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    assert len({c["image"] for group in groups for c in group["template"]["spec"]["containers"]}) == 1
    assert all(0 <= group["minReplicas"] <= group["maxReplicas"] for group in cluster["workerGroupSpecs"])


YAML = [(page, block) for page, text in TEXTS.items() for block in re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)]


@pytest.mark.parametrize("page, block", YAML)
def test_every_yaml_makes_a_valid_profile(page, block, tmp_path):
    demo = yaml.safe_load((PROFILES / "demo.yaml").read_text(encoding="utf-8"))
    path = tmp_path / "my.yaml"
    own = yaml.safe_load(block)
    path.write_text(yaml.safe_dump(own if "name" in own else demo | own), encoding="utf-8")
    load_profile(path)


def test_every_key_of_a_profile_is_explained_with_its_default():
    models = [
        one
        for one in vars(keys).values()
        if isinstance(one, type) and issubclass(one, BaseModel) and one.__module__ == keys.__name__ and one.model_fields
    ]
    explained = {tuple(cells(line)[:2]) for line in TEXTS["docs/profiles.md"].splitlines() if line.startswith("| `")}
    missing = []
    for model in models:
        for name, field in model.model_fields.items():
            default = field.get_default(call_default_factory=True)
            if field.is_required():
                told = "required"
            elif isinstance(default, BaseModel):
                told = "rules alone" if isinstance(default, keys.ExtractorConfig) else "see below"
            elif isinstance(default, str | Path):
                told = f"`{default}`".replace("\n", "\\n")
            else:
                told = f"`{yaml.safe_dump(json.loads(json.dumps(default)), default_flow_style=True).split(chr(10))[0]}`"
            missing += [] if (f"`{name}`", told) in explained else [f"{model.__name__}.{name}: {told}"]
    assert missing == []
    assert len(models) >= 8


def test_the_pythons_named_are_those_of_the_project():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    low, beyond = re.fullmatch(r">=3\.(\d+),<3\.(\d+)", project["requires-python"]).groups()
    for page in ("README.md", "docs/development.md"):
        assert set(re.findall(r"Python (3\.\d+ to 3\.\d+)", TEXTS[page])) == {f"3.{low} to 3.{int(beyond) - 1}"}


def test_readme_and_citation_file_name_the_same_paper():
    (paper,) = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))["references"]
    authors = " and ".join(f"{one['family-names']}, {one['given-names']}" for one in paper["authors"])
    told = words("README.md")
    assert f"author = {{{authors}}}" in told
    assert paper["title"] in told
    assert paper["url"] in told and str(paper["year"]) in told
