"""Which notebooks a profile runs, in which order, and the loop that runs those not up to date (`state`).

An inference step that runs again takes its replies from the journal, so nothing is ever paid for twice.
"""

from __future__ import annotations

import fnmatch
import glob
import os
import resource
import shlex
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from perg_utils.core.errors import PergError
from perg_utils.core.loading import PROFILES, load_profile, profile_path
from perg_utils.core.profile import ROOT, Profile
from perg_utils.core.progress import LINE, clock
from perg_utils.core.schema import RELEVANT_SHOWN
from perg_utils.core.workspace import Workspace
from perg_utils.engines.open import check_engine
from perg_utils.extraction.layers import check_extractor
from perg_utils.extraction.llm import reading_cost
from perg_utils.inference import run as inference
from perg_utils.judging.panel import panel_paths
from perg_utils.judging.rating import check_judges
from perg_utils.prompts.sets import load_prompts
from perg_utils.published.importing import EVIDENCE
from perg_utils.run import unanswered
from perg_utils.run.notebook import StepFailed, execute
from perg_utils.run.state import Fingerprints, State, Step, files, locked

NOTEBOOKS = ROOT / "notebooks"


class PipelineError(PergError):
    """The run cannot start or go on."""


def steps(profile: Profile, workspace: Workspace) -> list[Step]:
    """Return the steps of `profile` in order: ids `01_curate_data`, `03_run_inference:S`, ..., `09_write_report`.

    The responses of a published release are imported and checked; any other profile asks its models.
    """
    run, pages = glob.escape(str(workspace.run)), glob.escape(str(workspace.figures))

    def tables(*names: str) -> tuple[str, ...]:
        return tuple(f"{run}/tables/{'responses/*' if name == 'responses' else name}.parquet" for name in names)

    def step(name: str, reads: tuple[str, ...], writes: tuple[str, ...], may_write: tuple[str, ...] = ()) -> Step:
        return Step(name, NOTEBOOKS / f"{name}.ipynb", reads, writes, may_write=may_write)

    def inference(model: str) -> Step:
        name, writes = "03_run_inference", glob.escape(str(workspace.table_path("responses", model)))
        return Step(f"{name}:{model}", NOTEBOOKS / f"{name}.ipynb", tables("examples", "preferences"), (writes,), model)

    imported = (f"{run}/files.csv", f"{run}/unread.csv", *(f"{run}/{kind}.parquet" for kind in EVIDENCE))
    everything = tables("examples", "preferences", "responses", "answers", "judgements", "scores", "metrics")
    printed = tuple(f"{pages}/tables/*.{form}" for form in ("csv", "md", "tex"))
    drawn = tuple(f"{pages}/*.{form}" for form in ("pdf", "png", "csv"))
    report, texts = (f"{pages}/report.html", f"{run}/manifest.json"), (f"{pages}/responses/*.js",)
    if profile.data.origin == "published":
        release = glob.escape(str((ROOT / profile.published_dir).resolve())) if profile.published_dir else None
        checked = tuple(f"{run}/{name}.parquet" for name in ("reproduction", "audit"))
        return [
            step("01_import_published", (f"{release}/**/*.csv",) if release else (), everything[:6] + imported),
            step("06_score_metrics", everything[5:6], everything[6:]),
            step("07_render_tables", everything[3:], printed),
            step("08_render_figures", everything[5:], drawn),
            step("13_check_published", everything + imported, checked, printed + drawn),
            step("09_write_report", everything + imported + checked + printed + drawn, report, texts),
        ]
    # Only the embedded models can tell why an answer broke: their training is known.
    trained_here = [m for m in profile.models if (ROOT / m.model / "training.json").is_file()]
    practice = tuple(f"{pages}/practice.{form}" for form in ("pdf", "png", "csv"))
    if profile.shard is not None:  # the rest is for the whole run, see `shards`
        return [
            step("01_curate_data", (), tables("examples", "preferences")),
            *(inference(m.name) for m in profile.models),
        ]
    # Trained on made-up responses: it waits for no model. An adapter that the profile names is only read.
    trains = profile.extractor.base is not None and profile.extractor.adapter is None
    names = ("adapter_model.safetensors", "adapter_config.json", "training.json")
    adapter = tuple(f"{glob.escape(str(workspace.extractor))}/{name}" for name in names) if trains else ()
    forms = ("pdf", "png", "csv")
    curve = tuple(f"{pages}/extractor.{form}" for form in forms)
    training = [step("02_train_extractor", tables("examples"), adapter + curve)] if trains else []
    panel = tuple(glob.escape(str(path)) for path in panel_paths(profile, workspace))
    people = tuple(glob.escape(str(ROOT / judge.ratings)) for judge in profile.all_judges() if judge.ratings)
    judges = tuple(f"{pages}/judges.{form}" for form in forms)
    layers = [
        step("10_check_extraction", everything[:4] + adapter, tuple(f"{pages}/extraction.{form}" for form in forms))
    ]
    compared = [step("11_check_judges", everything[:5] + panel, judges)]
    why = [step("12_explain_breakage", tables("examples", "responses", "answers", "scores"), practice)]
    return [
        step("01_curate_data", (), tables("examples", "preferences")),
        *training,
        *(inference(model.name) for model in profile.models),
        step("04_extract_answers", tables("examples", "responses") + adapter, tables("answers")),
        step("05_judge_alignment", everything[:3] + people, tables("judgements") + panel),
        step("06_score_metrics", everything[:5], tables("scores", "metrics")),
        step("07_render_tables", everything[3:], printed),
        step("08_render_figures", everything[5:], drawn),
        *(layers if profile.extractor.base is not None else []),
        *(compared if profile.judges else []),
        *(why if profile.data.origin == "embedded" and trained_here else []),
        step("09_write_report", everything + printed + drawn, report, texts),
    ]


def select(plan: list[Step], only: Iterable[str]) -> list[Step]:
    """Return the steps named in `only`: `06`, `06_score_metrics`, `03:S` or `03_run_inference:S`; all when empty.

    Raises `PipelineError` listing the known names.
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
            raise PipelineError(f"no step '{wanted}' in this profile; known: {known} (the number alone will do)")
        chosen |= hits
    return [step for step in plan if step.id in chosen or not chosen]


@dataclass(frozen=True)
class Command:
    """What the user asked for: the options of `./run_all.sh`, paths made absolute."""

    profile: str = "demo"
    only: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    out: Path = ROOT
    force: bool = False

    def resume(self) -> str:
        """Return the shell line that goes on with this run; without --force, which would repeat finished steps."""
        script = os.path.relpath(ROOT / "run_all.sh")
        return shlex.join([script if "/" in script else f"./{script}", *self._words(self.only)])

    def drop(self, status: str) -> str:
        """Return the shell line that drops the replies of a status from this run's journal."""
        head = [".venv/bin/python", "-m", "perg_utils", "journal", "drop", "--status", status]
        return shlex.join([*head, *self._words(()), "--yes"])

    def _words(self, only: tuple[str, ...]) -> list[str]:
        words = [] if self.profile == "demo" else ["--profile", self.profile]
        words += ["--only", ",".join(only)] if only else []
        words += [word for item in self.overrides for word in ("--set", item)]
        return words + ([] if self.out == ROOT else ["--out", str(self.out)])


def run(command: Command, make_steps: Callable[[Profile, Workspace], list[Step]] = steps) -> None:
    """Run the steps of a profile that are not up to date, in order, with a line of progress for each.

    Raises `PergError`: for a failed notebook with the cell, the error and the command that resumes.
    """
    profile = load_profile(command.profile, command.overrides)
    _check_place(command, profile)
    workspace = Workspace.of(command.out, profile.name)
    plan = make_steps(profile, workspace)
    chosen = select(plan, command.only)
    _check_ready(profile, chosen, workspace)
    began, ran = time.monotonic(), 0
    with locked(workspace.run):
        state, fingerprints = State(workspace.run / "state.json"), Fingerprints(profile)
        for gone in state.forget_others(plan):
            print(f"removed the outputs of {gone}, which this profile does not have (its replies stay in the journal)")
        for step in plan[: plan.index(chosen[-1])]:
            if step not in chosen and not state.up_to_date(step, fingerprints.of(step)):
                print(
                    f"note: {step.id} is not up to date with this profile and code, and --only leaves it out",
                    flush=True,
                )
        for step in chosen:
            head = f"[{plan.index(step) + 1}/{len(plan)}] {step.id}"
            _check_inputs(step, plan)
            fingerprint = fingerprints.of(step)
            if not command.force and state.up_to_date(step, fingerprint):
                print(f"{head}: up to date", flush=True)
                continue
            started = time.time()
            _run_step(step, head, command, workspace)
            if not unanswered.to_be_asked(_unanswered(profile, workspace, [step])):
                state.record(step, fingerprint, started)
            ran += 1
            print(f"{head}: done in {clock(time.time() - started)}", flush=True)
    print(f"{ran} of {len(chosen)} steps run, the others were up to date; {clock(time.monotonic() - began)}{_peak()}")
    if profile.shard is None:
        print(f"results: {workspace.figures}", flush=True)
    else:
        print(f"shard {profile.shard}: {workspace.run}; `python -m perg_utils merge` joins all shards", flush=True)
    lost = _unanswered(profile, workspace, chosen)
    if len(lost):
        raise unanswered.RowsUnanswered(unanswered.describe(lost, command.resume(), command.drop("rejected")))


def dry_run(command: Command) -> str:
    """Return the plan of a run as text: steps, models, methods and settings, requests and tokens. Changes nothing."""
    profile = load_profile(command.profile, command.overrides)
    workspace = Workspace.of(command.out, profile.name)
    plan = steps(profile, workspace)
    chosen = select(plan, command.only)
    state, fingerprints = State(workspace.run / "state.json"), Fingerprints(profile)
    lines, earlier = [f"{profile.name}: {profile.title}", "", "steps"], False
    for step in chosen:
        due = command.force or not state.up_to_date(step, fingerprints.of(step))
        verdict = "to run" if due else "to run if an earlier step changes what it reads" if earlier else "up to date"
        lines.append(f"  [{plan.index(step) + 1}/{len(plan)}] {step.id}: {verdict}")
        earlier |= due
    lines += ["", "methods in each setting (and no_preference, the baseline)"]
    lines += [f"  {setting}: {', '.join(methods)}" for setting, methods in profile.grid.items()]
    models = [step.model for step in chosen if step.model is not None]
    if models:
        found = inference.plans(profile, workspace, models)
        total = f"{sum(p.requests for p in found):,} requests, {sum(p.answered for p in found):,} of them answered"
        tokens = sum(p.prompt_tokens for p in found), sum(p.completion_tokens for p in found)
        lines += ["", "models (equal requests counted once)", *(f"  {p}" for p in found)]
        costs = [p.cost for p in found if p.cost is not None]
        cost = inference.dollars(sum(costs) if costs else None)
        lines += [f"  all: {total}; to be asked: about {tokens[0]:,} prompt and {tokens[1]:,} reply tokens{cost}"]
        lines += [f"  ({inference.TOKEN_RULE})"]
        lines += [f"  ({inference.NOMINAL_RULE})"] if any(p.nominal for p in found) else []
        rated = sum(p.questions * len(p.methods.get(setting, [])) for p in found for setting in RELEVANT_SHOWN)
        whole = profile.shard is None  # a shard's answers are read and judged once merged
        fallback, responses = profile.extractor.fallback if whole else None, sum(p.rows for p in found)
        reading = reading_cost(profile, responses) if fallback else None
        if fallback:
            head = f"extractor: at most {responses:,} responses, those that no rule can read, to be read by"
            lines += ["", f"{head} {fallback.name}{inference.dollars(reading)}"]
        judges = profile.all_judges() if whole else []
        ratings = [(judge.label, inference.judge_cost(profile, rated, judge)) for judge in judges]
        head = f"judge: at most {rated:,} responses to be rated by"
        lines += ["", *(f"{head} {who}{inference.dollars(cost)}" for who, cost in ratings)] if ratings else []
        if costs or any(cost is not None for cost in (reading, *(cost for _, cost in ratings))):
            lines += ["", "prices: data/prices.csv, list prices as of the dates there; check them"]
    return "\n".join(lines)


def _run_step(step: Step, head: str, command: Command, workspace: Workspace) -> None:
    parameters = {"profile": command.profile, "overrides": list(command.overrides), "out": str(command.out)}
    parameters |= {} if step.model is None else {"model": step.model}
    executed = workspace.executed / f"{step.id.replace(':', '.')}.ipynb"
    began = time.monotonic()
    print(head, flush=True)

    def show(line: str) -> None:
        if LINE.search(line):
            print(f"{head} ({clock(time.monotonic() - began)}) {line}", flush=True)

    try:
        execute(step.notebook, executed, parameters, cwd=ROOT, show=show)
    except StepFailed as error:
        raise StepFailed(
            f"{step.notebook.name}{f' for model {step.model}' if step.model else ''} failed: {error}\n"
            f"executed notebook: {executed}\nto resume: {command.resume()}"
        ) from error
    except KeyboardInterrupt:
        print(f"\ninterrupted in {step.id}; finished work is kept\nto resume: {command.resume()}", file=sys.stderr)
        raise


def _unanswered(profile: Profile, workspace: Workspace, chosen: list[Step]) -> pd.DataFrame:
    """The rows without an answer that these steps have left."""
    models, ids = [step.model for step in chosen if step.model is not None], {step.id for step in chosen}
    read = profile if "04_extract_answers" in ids else None
    return unanswered.find(workspace, models, judge="05_judge_alignment" in ids, extractor=read)


def _check_place(command: Command, profile: Profile) -> None:
    """Keep a user's own profile, and tried-out settings, from replacing the results of a shipped profile unseen."""
    if command.out != ROOT:
        return
    path = profile_path(command.profile)
    if path.resolve().parent != PROFILES and (PROFILES / f"{profile.name}.yaml").is_file():
        raise PipelineError(
            f"{path} is called '{profile.name}', like a profile that is shipped, and would replace its results; "
            f"change its `name`, or use --out DIR"
        )
    if command.overrides and profile.shard is None:
        print(f"note: with --set, the results of '{profile.name}' are replaced; --out DIR keeps them apart", flush=True)


def _check_ready(profile: Profile, chosen: list[Step], workspace: Workspace) -> None:
    """Find before the first step what would stop a later one: prompts, model folders, keys, the released files."""
    if profile.published_dir is not None and not (ROOT / profile.published_dir).is_dir():
        raise PipelineError(
            f"published_dir: no folder '{profile.published_dir}'; give a clone of the release, or a folder with some "
            f"of its files, or leave published_dir out to download them"
        )
    load_prompts(profile.prompts)
    models = [profile.model(step.model) for step in chosen if step.model is not None]
    models += [profile.model(model.aligner) for model in models if model.aligner is not None]
    if any(step.id in {"05_judge_alignment", "11_check_judges"} for step in chosen):
        check_judges(profile)
        models += profile.judge_models()
    if any(step.id == "04_extract_answers" for step in chosen):
        check_extractor(profile.extractor, profile, workspace)
        models += profile.extractor.models()
    elif any(step.id == "02_train_extractor" for step in chosen):
        models += profile.extractor.models()[:1]
    for model in models:
        check_engine(model)


def _check_inputs(step: Step, plan: list[Step]) -> None:
    """Raise `PipelineError` naming the earlier step whose output is not there."""
    for maker in plan[: plan.index(step)]:
        for made in maker.writes:
            needed = made in step.reads or any(fnmatch.fnmatch(made, pattern) for pattern in step.reads)
            if needed and not files([made]):
                raise PipelineError(
                    f"{step.id} needs {made}, which is not there; {maker.id} makes it: "
                    f"add it to --only, or leave --only out"
                )


def _peak() -> str:
    """Largest memory of any one notebook so far (none ran: empty), e.g. `, peak memory 1.2 GB`."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss  # kilobytes; bytes on macOS
    gigabytes = peak / (1e9 if sys.platform == "darwin" else 1e6)
    return f", peak memory {gigabytes:.1f} GB" if gigabytes > 0.05 else ""
