"""Exports: what the formats' own validators and readers say of them, and that no text of others leaves unasked."""

import hashlib
import json
import os
import re
import shutil
import subprocess

import pandas as pd
import pytest
import synthetic
import yaml

from perg_utils.__main__ import main
from perg_utils.core.errors import DataError
from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT
from perg_utils.core.results import open_results
from perg_utils.core.schema import TEXT_COLUMNS
from perg_utils.core.workspace import Workspace, file_digest
from perg_utils.ecosystem import export, export_eee, export_hub
from perg_utils.scoring.rates import metrics
from perg_utils.scoring.scores import score

STUDY = "figures/laptop/study"
#: The validator of Every Eval Ever needs Python 3.12 and other versions of our packages: an environment of its own.
VALIDATOR = os.environ.get("EEE_VALIDATOR") or shutil.which("every_eval_ever")
SECRET = "the third moon of Oro is older than its name"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of real questions, made up, with texts and a server whose address is nobody's business."""
    out = tmp_path_factory.mktemp("run")
    profile = load_profile(synthetic.write(out, 2, 24))
    workspace = Workspace.of(out, profile.name)
    tables = {name: workspace.read(name) for name in ("examples", "preferences", "responses", "answers", "judgements")}
    tables["examples"]["question"] = SECRET
    tables["responses"]["response"] = f"Well, {SECRET}."
    for name in ("examples", "responses"):
        workspace.write(name, tables[name])
    scores = score(**tables)
    workspace.write("scores", scores)
    workspace.write("metrics", metrics(scores))
    told = profile.model_dump(mode="json") | {"world": "real"}
    told["models"][0] |= {"engine": "api", "model": "/home/me/models/one.gguf", "base_url": "http://key@host"}
    told["data"] |= {"origin": "hub"}
    manifest = {"date": "2026-11-27T02:12:55+00:00", "commit": "abc", "profile": told, "seeds": {"study": 1}}
    manifest |= {"preferences": file_digest(ROOT / "data" / "preferences.csv"), "models": {}, "packages": {}}
    (workspace.run / "manifest.json").write_text(json.dumps(manifest))
    return workspace.run


@pytest.fixture(scope="module")
def study():
    return export.gathered(open_results(STUDY))


@pytest.fixture(scope="module")
def records(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("eee")
    export_eee.write(study, folder)
    return folder


@pytest.fixture(scope="module")
def hub(study, tmp_path_factory):
    folder = tmp_path_factory.mktemp("hub")
    export_hub.write(study, folder)
    return folder


def everything(folder):
    """All that an export holds, as one text."""
    told = []
    for path in (path for path in folder.rglob("*") if path.is_file()):
        told.append(str(pd.read_parquet(path).to_dict("list")) if path.suffix == ".parquet" else path.read_text())
    return "\n".join(told)


@pytest.mark.parametrize("form", ["eee", "hub"])
def test_texts_of_others_leave_only_when_asked_for_and_addresses_never(run, form, tmp_path, capsys):
    assert main(["export", str(run), str(tmp_path / "bare"), "--to", form]) == 0
    assert "are not in it: they are others'" in capsys.readouterr().out
    bare = everything(tmp_path / "bare")
    assert SECRET not in bare and "key@host" not in bare and "/home/me" not in bare
    assert main(["export", str(run), str(tmp_path / "full"), "--to", form, "--texts"]) == 0
    assert "because the user asked" in capsys.readouterr().out
    full = everything(tmp_path / "full")
    assert SECRET in full and "key@host" not in full and "/home/me" not in full


def test_an_export_goes_nowhere_where_something_is_and_needs_scores(run, tmp_path, capsys):
    (tmp_path / "file").write_text("mine")
    for form in ("eee", "hub"):
        assert main(["export", str(run), str(tmp_path), "--to", form]) == 2
    assert "is not empty" in capsys.readouterr().err
    with pytest.raises(DataError, match="holds no scores"):
        export.gathered(open_results("data/paper_metrics.csv"))


def test_every_rate_of_a_run_is_in_its_record_with_both_intervals(study, records):
    (path,) = records.glob("data/*/*/*/*.json")
    record = json.loads(path.read_text())
    rates = study.tables["metrics"].dropna(subset="value").reset_index(drop=True)
    assert len(record["evaluation_results"]) == len(rates)
    for result, row in zip(record["evaluation_results"], rates.to_dict("records"), strict=True):
        score = result["score_details"]
        assert score["score"] == row["value"]
        bounds = score["uncertainty"]["confidence_interval"]
        assert (bounds["lower"], bounds["upper"], bounds["confidence_level"]) == (row["low"], row["high"], 0.95)
        like = json.loads(score["details"]["interval_for_preferences_like_these"])
        assert like == ([None, None] if pd.isna(row["like_low"]) else [row["like_low"], row["like_high"]])
    assert json.loads(record["eval_library"]["additional_details"]["perg_manifest"]) == study.manifest
    # Read back, they stand beside other runs (`compare`).
    again = open_results(records)
    assert again.kind == "eee export" and again.world == "real"
    pd.testing.assert_frame_equal(again.metrics, rates)


def test_every_scored_answer_has_its_line_and_adds_up_to_the_rate(study, records):
    (path,) = records.glob("data/*/*/*/*_samples.jsonl")
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    (whole,) = records.glob("data/*/*/*/*.json")
    record = json.loads(whole.read_text())
    told = record["detailed_evaluation_results"]
    assert told["total_rows"] == len(lines)
    assert told["checksum"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert told["file_path"] == path.relative_to(records).as_posix()
    scored = pd.DataFrame({"id": line["evaluation_result_id"], "score": line["evaluation"]["score"]} for line in lines)
    means = 100 * scored.groupby("id")["score"].mean()
    rates = {one["evaluation_result_id"]: one["score_details"]["score"] for one in record["evaluation_results"]}
    assert len(means) > 10
    for name, mean in means.items():
        assert mean == pytest.approx(rates[name])
    assert all(line["input"]["raw"] == export.NOT_SHIPPED and line["output"]["raw"] == [] for line in lines)
    tokens = sum(line["token_usage"]["output_tokens"] for line in lines if "token_usage" in line)
    assert tokens == study.tables["responses"]["completion_tokens"].sum()  # no reply is counted twice


def test_the_same_run_gives_the_same_records(study, records, tmp_path):
    export_eee.write(study, tmp_path / "again")
    names = sorted(path.relative_to(records) for path in records.rglob("*.json*"))
    assert names and all((records / n).read_bytes() == (tmp_path / "again" / n).read_bytes() for n in names)


def test_a_record_that_the_schema_does_not_allow_is_not_written():
    with pytest.raises(DataError, match=r"does not fit eval.schema.json: data must contain .* properties"):
        export_eee.check("eval.schema.json", {"schema_version": "0.3.0"})


def test_the_schemas_are_those_that_were_published():
    said = (export_eee.SCHEMAS.parent / "README.md").read_text()
    listed = re.findall(r"^\| ([\w.]+) \| .*?\| ([0-9a-f]{64}) \|$", said, re.MULTILINE)
    assert {name for name, _ in listed} == {path.name for path in export_eee.SCHEMAS.iterdir()}
    for name, digest in listed:
        assert file_digest(export_eee.SCHEMAS / name) == digest


@pytest.mark.skipif(VALIDATOR is None, reason="the validator of Every Eval Ever is not installed (docs/ecosystem.md)")
def test_the_validator_of_every_eval_ever_finds_nothing(records, run, tmp_path):
    export_eee.write(export.gathered(open_results(run), texts=True), tmp_path)
    for folder in (records, tmp_path):
        done = subprocess.run(
            [VALIDATOR, "validate", "--format", "json", "data/*/*/*/*.json*"],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr  # 2 where it warns


def test_datasets_loads_a_hub_folder_back(study, hub, tmp_path):
    datasets = pytest.importorskip("datasets")
    for name in ("scores", "metrics", "responses"):
        loaded = datasets.load_dataset(str(hub), name, split="train", cache_dir=str(tmp_path)).to_pandas()
        want = study.tables[name]
        assert list(loaded) == list(want) and len(loaded) == len(want)
        for column in set(want) - {"shown_preferences"}:
            own = want[column].astype(object).where(want[column].notna(), None)
            back = loaded[column].astype(object).where(loaded[column].notna(), None)
            assert own.tolist() == back.tolist()
    default = datasets.load_dataset(str(hub), split="train", cache_dir=str(tmp_path))
    assert len(default) == len(study.tables["scores"])


def test_the_card_says_what_the_hub_and_a_reader_ask(study, hub):
    card = (hub / "README.md").read_text()
    head = yaml.safe_load(card.split("---")[1])
    assert {one["config_name"] for one in head["configs"]} == set(study.tables)
    assert all((hub / one["data_files"]).is_file() for one in head["configs"])
    assert head["license"] == "other" and head["size_categories"] == ["1K<n<10K"]
    assert "21.7 [15.9, 28.4] {14.4, 30.5}" in card and study.manifest["commit"] in card
    assert "are not in it: they are others'" in card and "Invented world" not in card
    for name, table in study.tables.items():
        assert not TEXT_COLUMNS & set(table), name
    again = open_results(hub)
    assert (again.kind, again.name) == ("hub export", "laptop_study") and len(again.scores) == 1620
