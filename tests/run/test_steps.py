"""Which notebooks a profile runs, in which order, and how a user names some of them."""

from pathlib import Path

import pytest

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT
from perg_utils.core.workspace import Workspace
from perg_utils.run.state import Step, files
from perg_utils.run.steps import STUDY, UnknownStep, _files, select, steps


def demo_steps(tmp_path: Path) -> list[Step]:
    profile = load_profile("demo")
    return steps(profile, Workspace.of(tmp_path, profile.name))


def test_inference_runs_once_for_every_model_and_all_steps_are_in_order(tmp_path):
    assert [step.id for step in demo_steps(tmp_path)] == [
        "01_curate_data",
        "02_train_extractor",
        "03_run_inference:S",
        "03_run_inference:M",
        "03_run_inference:L",
        "03_run_inference:S+L",
        "04_extract_answers",
        "05_judge_alignment",
        "06_score_metrics",
        "07_render_tables",
        "08_render_figures",
        "10_check_extraction",
        "11_check_judges",
        "12_explain_breakage",
        "09_write_report",
    ]


def test_judges_are_compared_only_where_there_are_several(tmp_path):
    profile = load_profile("demo", ["judges=[]"])
    plan = steps(profile, Workspace.of(tmp_path, profile.name))
    assert "11_check_judges" not in [step.id for step in plan]
    [judging] = [step for step in demo_steps(tmp_path) if step.id == "05_judge_alignment"]
    assert [path.split("/tables/")[1] for path in judging.writes] == [
        "judgements.parquet",
        "judgements/heuristic-cues.parquet",
        "nulls/heuristic-embedded-styles.parquet",
        "nulls/heuristic-cues.parquet",
    ]


ADAPTER = ("adapter_model.safetensors", "adapter_config.json", "training.json")


def by_id(tmp_path: Path, *overrides: str) -> dict[str, Step]:
    profile = load_profile("demo", overrides)
    return {step.id: step for step in steps(profile, Workspace.of(tmp_path, profile.name))}


def test_the_reader_is_trained_where_a_profile_has_a_base_and_no_adapter_and_what_reads_waits_for_it(tmp_path):
    plan = by_id(tmp_path, "extractor.adapter=null")
    adapter = {str(Workspace.of(tmp_path, "demo").extractor / name) for name in ADAPTER}
    training = plan["02_train_extractor"]
    assert [Path(path).name for path in training.reads] == ["examples.parquet"] and adapter < set(training.writes)
    figure = {f"extractor.{form}" for form in ("pdf", "png", "csv")}
    assert {Path(path).name for path in set(training.writes) - adapter} == figure
    assert adapter < set(plan["04_extract_answers"].reads) and adapter < set(plan["10_check_extraction"].reads)


def test_a_brought_adapter_is_only_read_and_its_training_is_shown_where_it_is_told(tmp_path):
    adapter = {str(Workspace.of(tmp_path, "demo").extractor / name) for name in ADAPTER}
    shipped = by_id(tmp_path)
    for step in shipped.values():
        assert not adapter & {*step.reads, *step.writes}
    assert {Path(path).suffix for path in shipped["02_train_extractor"].writes} == {".pdf", ".png", ".csv"}
    others = tmp_path / "others"
    others.mkdir()
    for name in ADAPTER[:2]:
        (others / name).touch()
    for brought in ("extractor={}", "extractor.adapter=somebody/reader", f"extractor.adapter={others}"):
        assert "02_train_extractor" not in by_id(tmp_path, brought)
    (others / ADAPTER[2]).touch()
    assert "02_train_extractor" in by_id(tmp_path, f"extractor.adapter={others}")
    assert "02_train_extractor" not in by_id(tmp_path, "shard=1/2"), "a shard only asks"


def test_every_name_in_the_table_of_steps_is_known_and_made_before_it_is_needed():
    given, made = {"release", "raters"}, set()
    for row in STUDY:
        needs = set(row.needs.split())
        assert needs <= made | given, f"{row.notebook} needs {needs - made - given}, which no row before it makes"
        made |= {*row.makes.split(), *row.may_make.split()}
    assert made | given == set(_files(load_profile("demo"), Workspace.of("out", "demo")))
    assert {row.notebook for row in STUDY} == {path.stem for path in (ROOT / "notebooks").glob("*.ipynb")}


def test_only_the_embedded_world_is_explained_by_its_training(tmp_path):
    profile = load_profile("paper")
    ids = [step.id for step in steps(profile, Workspace.of(tmp_path, profile.name))]
    assert "12_explain_breakage" not in ids and ids[-1] == "09_write_report"


@pytest.mark.parametrize(
    ("only", "expected"),
    [
        (["06", "07"], ["06_score_metrics", "07_render_tables"]),
        (["07_render_tables"], ["07_render_tables"]),
        (["03:S+L"], ["03_run_inference:S+L"]),
        (["03_run_inference:M", "01"], ["01_curate_data", "03_run_inference:M"]),
    ],
)
def test_only_takes_numbers_and_names_and_keeps_the_order(tmp_path, only, expected):
    assert [step.id for step in select(demo_steps(tmp_path), only)] == expected


@pytest.mark.parametrize("wrong", ["6", "2", "03:XL", "06_score", "scores"])
def test_an_unknown_step_is_an_error_that_lists_the_known_ones(tmp_path, wrong):
    with pytest.raises(UnknownStep, match=rf"no step '{wrong}'.*03_run_inference:S\+L.*09_write_report"):
        select(demo_steps(tmp_path), [wrong])


def test_patterns_never_match_drafts_and_take_folders_with_brackets_literally(tmp_path):
    profile = load_profile("demo")
    workspace = Workspace.of(tmp_path / "out [1]", profile.name)
    written = workspace.table_path("responses", "S")
    written.parent.mkdir(parents=True)
    for name in ("S.parquet", ".S.99.parquet"):
        (written.parent / name).touch()
    [extraction] = [s for s in steps(profile, workspace) if s.id == "04_extract_answers"]
    assert files(extraction.reads) == [written]


def test_models_without_a_training_record_are_not_explained_by_it(tmp_path):
    models = "models=[{name: far, engine: api, model: m, base_url: 'http://127.0.0.1:1/v1'}]"
    profile = load_profile("demo", [models])
    ids = [step.id for step in steps(profile, Workspace.of(tmp_path, profile.name))]
    assert "12_explain_breakage" not in ids
