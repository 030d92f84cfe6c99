"""The steps of the study as a table: each notebook, what it needs and makes, and the profiles to which it belongs.

A profile's plan is the rows that apply to it, in the table's order, with names put for files. The responses of a
published release are imported and checked; any other profile asks its models. Left out: running them (`pipeline`).
"""

from __future__ import annotations

import glob
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

from perg_utils.core.errors import PergError
from perg_utils.core.profile import ROOT, Profile
from perg_utils.core.workspace import Workspace
from perg_utils.extraction.layers import local_adapter
from perg_utils.judging.panel import null_paths, panel_paths
from perg_utils.proposals import choosing
from perg_utils.published.importing import AUDITED
from perg_utils.run.state import Step

NOTEBOOKS = ROOT / "notebooks"
#: The file that tells how an adapter was trained; adapters that others trained have none.
TRAINING = "training.json"


class UnknownStep(PergError):
    """A step was named that the profile does not have."""


def _published(profile: Profile) -> bool:
    return profile.data.origin == "published"


def _asks(profile: Profile) -> bool:
    return not _published(profile)


def _asks_whole(profile: Profile) -> bool:
    """A shard only asks its models; what comes after is for the whole run."""
    return _asks(profile) and profile.shard is None


def _ends(profile: Profile) -> bool:
    """A study has a notebook of its own in place of tables, figures and report."""
    return profile.study is None and (_published(profile) or profile.shard is None)


def _studies(name: str) -> Callable[[Profile], bool]:
    return lambda profile: profile.study == name and profile.shard is None


def _trains(profile: Profile) -> bool:
    return profile.extractor.base is not None and profile.extractor.adapter is None


def _shows_training(profile: Profile) -> bool:
    adapter = local_adapter(profile.extractor)
    return _asks_whole(profile) and (_trains(profile) or (adapter is not None and (adapter / TRAINING).is_file()))


def _has_finetuned_layer(profile: Profile) -> bool:
    return _asks_whole(profile) and profile.extractor.base is not None and profile.study is None


def _has_panel(profile: Profile) -> bool:
    return _asks_whole(profile) and bool(profile.judges) and profile.study is None


def _knows_the_training(profile: Profile) -> bool:
    """Only the embedded models can tell why an answer broke: their training is known."""
    embedded = any((ROOT / model.model / "training.json").is_file() for model in profile.models)
    return _asks_whole(profile) and profile.data.origin == "embedded" and embedded and profile.study is None


def _proposes(profile: Profile) -> bool:
    return _asks_whole(profile) and profile.candidates is not None


@dataclass(frozen=True)
class Row:
    """A notebook: the names of `_files` that it reads and writes, and who is asked in it besides the study's models."""

    notebook: str
    applies: Callable[[Profile], bool]
    needs: str
    makes: str
    may_make: str = ""
    asks: str = ""


ANSWERED = "examples preferences responses answers"
ALL = f"{ANSWERED} judgements scores metrics"
REPORTED = f"{ALL} nulls"

#: In the order of a run. Training waits for no model: it learns from made-up responses.
STUDY = (
    # What people choose from it is another run's bank: nothing else here waits for it.
    Row("00_generate_preferences", _proposes, "", "candidates", asks="writer"),
    Row("01_import_published", _published, "release", f"{ANSWERED} judgements scores imported"),
    Row("01_curate_data", _asks, "", "examples preferences"),
    Row("02_train_extractor", _shows_training, "examples", "adapter learning", asks="base"),
    Row("03_run_inference", _asks, "examples preferences", "responses"),  # once a model
    Row("04_extract_answers", _asks_whole, "examples responses adapter", "answers", asks="extractor"),
    Row(
        "05_judge_alignment",
        _asks_whole,
        "examples preferences responses raters",
        "judgements panel nulls",
        asks="judges",
    ),
    Row("06_score_metrics", _published, "scores", "metrics"),
    Row("06_score_metrics", _asks_whole, f"{ANSWERED} judgements", "scores metrics"),
    Row("07_render_tables", _ends, "answers judgements nulls scores metrics", "tables"),
    Row("08_render_figures", _ends, "nulls scores metrics", "figures"),
    Row("10_check_extraction", _has_finetuned_layer, f"{ANSWERED} adapter", "layers", asks="base"),
    # No figure where no question is right without a preference.
    Row("11_check_judges", _has_panel, f"{ANSWERED} judgements panel nulls", "", may_make="judges", asks="judges"),
    Row("12_explain_breakage", _knows_the_training, "examples responses answers scores", "practice"),
    Row("13_check_published", _published, f"{ALL} imported", "checks", may_make="tables figures"),
    Row("study_cost", _studies("cost"), ALL, "figures tables", asks="judges"),
    Row("study_delivery", _studies("delivery"), ALL, "figures tables", asks="judges"),
    Row("study_distance", _studies("distance"), ALL, "figures tables", asks="judges"),
    Row("study_free_form", _studies("free_form"), ALL, "figures tables", asks="judges"),
    Row("study_stages", _studies("stages"), ALL, "figures tables"),
    Row("study_tuning", _studies("tuning"), ALL, "figures tables", asks="judges"),
    Row("09_write_report", _ends, f"{REPORTED} imported checks tables figures", "report", may_make="browser"),
)


def _files(profile: Profile, workspace: Workspace) -> dict[str, list[str]]:
    """Glob patterns of the files behind each name of `STUDY`; empty where the profile has no such files."""
    run, pages = glob.escape(str(workspace.run)), glob.escape(str(workspace.figures))

    def drawn(name: str) -> list[str]:
        return [f"{pages}/{name}.{form}" for form in ("pdf", "png", "csv")]

    def exact(paths: Iterable[Path]) -> list[str]:
        return [glob.escape(str(path)) for path in paths]

    released, trained = _published(profile), _trains(profile)
    release = [(ROOT / profile.published_dir).resolve()] if profile.published_dir else []
    adapter = ("adapter_model.safetensors", "adapter_config.json", TRAINING)
    imported = ("files.csv", "unread.csv", *(f"{kind}.parquet" for kind in AUDITED))
    checks = ("reproduction.parquet", "audit.parquet")
    return {
        **{name: [f"{run}/tables/{name}.parquet"] for name in ALL.split()},
        "responses": [f"{run}/tables/responses/*.parquet"],
        "panel": exact(panel_paths(profile, workspace)),
        "nulls": [] if released else exact(null_paths(profile, workspace)),
        "raters": exact(ROOT / judge.ratings for judge in profile.all_judges() if judge.ratings),
        "adapter": exact(workspace.extractor / name for name in adapter) if trained else [],
        "release": [f"{folder}/**/*.csv" for folder in exact(release)],
        "imported": [f"{run}/{name}" for name in imported] if released else [],
        "checks": [f"{run}/{name}" for name in checks] if released else [],
        "candidates": exact(workspace.candidates / name for name in choosing.FILES),
        "learning": drawn("extractor"),
        "layers": drawn("extraction"),
        "judges": drawn("judges"),
        "practice": drawn("practice"),
        "figures": drawn("*"),
        "tables": [f"{pages}/tables/*.{form}" for form in ("csv", "md", "tex")],
        "report": [f"{pages}/report.html", f"{run}/manifest.json"],
        "browser": [f"{pages}/responses/*.js"],
    }


def steps(profile: Profile, workspace: Workspace) -> list[Step]:
    """Return the steps of `profile` in order: ids `01_curate_data`, `03_run_inference:S`, ..., `09_write_report`."""
    files = _files(profile, workspace)

    def patterns(names: str) -> tuple[str, ...]:
        return tuple(pattern for name in names.split() for pattern in files[name])

    def step(row: Row, model: str | None) -> Step:
        own = None if model is None else (glob.escape(str(workspace.table_path("responses", model))),)
        return Step(
            row.notebook if model is None else f"{row.notebook}:{model}",
            NOTEBOOKS / f"{row.notebook}.ipynb",
            patterns(row.needs),
            own or patterns(row.makes),
            model,
            patterns(row.may_make),
            row.asks,
        )

    models = [model.name for model in profile.models]
    return [
        step(row, model)
        for row in STUDY
        if row.applies(profile)
        for model in (models if row.makes == "responses" else [None])
    ]


def select(plan: list[Step], only: Iterable[str]) -> list[Step]:
    """Return the steps named in `only`: `06`, `06_score_metrics`, `03:S` or `03_run_inference:S`; all when empty.

    Raises `UnknownStep` listing the known names.
    """
    chosen: set[str] = set()
    for wanted in only:
        name, _, model = wanted.partition(":")
        hits = {
            step.id
            for step in plan
            if name in (step.notebook.stem, step.notebook.stem.split("_")[0]) and model in ("", step.model)
        }
        if not hits:
            known = ", ".join(step.id for step in plan)
            raise UnknownStep(f"no step '{wanted}' in this profile; known: {known} (the number alone will do)")
        chosen |= hits
    return [step for step in plan if step.id in chosen or not chosen]
