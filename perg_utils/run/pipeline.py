"""The loop that runs the steps of a profile (`steps`) that are not up to date (`state`), and the plan of it.

An inference step that runs again takes its replies from the journal, so nothing is ever paid for twice.
"""

from __future__ import annotations

import fnmatch
import os
import resource
import shlex
import sys
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from perg_utils.core.errors import PergError
from perg_utils.core.loading import PROFILES, load_profile, profile_path
from perg_utils.core.profile import ROOT, Profile
from perg_utils.core.progress import clock, line
from perg_utils.core.schema import CONTROLS, RELEVANT_SHOWN
from perg_utils.core.workspace import Workspace
from perg_utils.engines.local.engine import QUICK, find_model, resolved
from perg_utils.engines.open import check_engine
from perg_utils.extraction.layers import check_extractor
from perg_utils.extraction.llm import reading_cost
from perg_utils.inference.plan import NOMINAL_RULE, TOKEN_RULE, Plan, dollars, judge_cost, judge_tokens, plans
from perg_utils.inference.requests import pair
from perg_utils.judging.rating import check_judges
from perg_utils.prompts.sets import load_prompts
from perg_utils.reporting.limits import RULES_ALONE, reads_by_rules_alone
from perg_utils.run import provenance, unanswered
from perg_utils.run.spending import measured
from perg_utils.run.spread import Spread, on_servers, planned
from perg_utils.run.state import Fingerprints, State, Step, files, locked
from perg_utils.run.steps import select, steps


class PipelineError(PergError):
    """The run cannot start or go on."""


@dataclass(frozen=True)
class Command:
    """What the user asked for: the options of `./run_all.sh`, paths made absolute."""

    profile: str = "demo"
    only: tuple[str, ...] = ()
    overrides: tuple[str, ...] = ()
    out: Path = ROOT
    force: bool = False
    cluster: str | None = None  # auto, an address, or local
    storage: str | None = None

    def resume(self) -> str:
        """Return the shell line that goes on with this run; without --force, which would repeat finished steps."""
        script = os.path.relpath(ROOT / "run_all.sh")
        return shlex.join([script if "/" in script else f"./{script}", *self._words(self.only), *self._where()])

    def drop(self, status: str) -> str:
        """Return the shell line that drops the replies of a status from this run's journal."""
        head = [".venv/bin/python", "-m", "perg_utils", "journal", "drop", "--status", status]
        return shlex.join([*head, *self._words(()), "--yes"])

    def _words(self, only: tuple[str, ...]) -> list[str]:
        words = [] if self.profile == "demo" else ["--profile", self.profile]
        words += ["--only", ",".join(only)] if only else []
        words += [word for item in self.overrides for word in ("--set", item)]
        return words + ([] if self.out == ROOT else ["--out", str(self.out)])

    def _where(self) -> list[str]:
        named = (("--cluster", self.cluster), ("--storage", self.storage))
        return [word for name, value in named if value is not None for word in (name, value)]


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
    with locked(workspace.run), Spread(command, profile, workspace) as spread:
        state, fingerprints = State(workspace.run / "state.json"), Fingerprints(profile)
        for gone in state.forget_others(plan):
            print(f"removed the outputs of {gone}, which this profile does not have (its replies stay in the journal)")
        for step in plan[: plan.index(chosen[-1])]:
            if step not in chosen and not state.up_to_date(step, fingerprints.of(step)):
                print(
                    f"note: {step.id} is not up to date with this profile and code, and --only leaves it out",
                    flush=True,
                )
        at = {step.id: f"[{plan.index(step) + 1}/{len(plan)}] {step.id}" for step in plan}
        for some in spread.together(chosen):
            due: dict[str, str] = {}
            for step in some:
                _check_inputs(step, plan)
                due |= _due(step, at[step.id], state, fingerprints, force=command.force)
            for step, started, spent in _measured([s for s in some if s.id in due], at, command, workspace, spread):
                if not unanswered.to_be_asked(_unanswered(profile, workspace, [step])):
                    state.record(step, due[step.id], started, spent)
                ran += 1
                print(f"{at[step.id]}: done in {clock(time.time() - started)}", flush=True)
    print(f"{ran} of {len(chosen)} steps run, the others were up to date; {clock(time.monotonic() - began)}{_peak()}")
    if profile.shard is None:
        if ran:
            from perg_utils.run.executed import publish  # noqa: PLC0415 - nbformat takes seconds to import

            publish(plan if profile.study is None else plan[-1:], workspace)
        if ran and profile.study is not None:  # it has no report, which writes the manifest elsewhere
            provenance.write(provenance.collect(profile, ROOT, workspace), workspace)
        print(f"results: {workspace.figures}", flush=True)
    else:
        print(f"shard {profile.shard}: {workspace.run}; `python -m perg_utils merge` joins all shards", flush=True)
    lost = _unanswered(profile, workspace, chosen)
    if len(lost):
        raise unanswered.RowsUnanswered(unanswered.describe(lost, command.resume(), command.drop("rejected")))


def _due(step: Step, head: str, state: State, fingerprints: Fingerprints, *, force: bool) -> dict[str, str]:
    """The step's fingerprint by its id, if it is to run; none if it is up to date, which is said."""
    fingerprint = fingerprints.of(step)
    if not force and state.up_to_date(step, fingerprint):
        print(f"{head}: up to date", flush=True)
        return {}
    return {step.id: fingerprint}


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
        with planned(command, profile, workspace) as servers:
            found = plans(profile, workspace, models)
        total = f"{sum(p.requests for p in found):,} requests, {sum(p.answered for p in found):,} of them answered"
        tokens = sum(p.prompt_tokens for p in found), sum(p.completion_tokens for p in found)
        lines += ["", "models (equal requests counted once)", *(f"  {p}" for p in found)]
        costs = [p.cost for p in found if p.cost is not None]
        cost = dollars(sum(costs) if costs else None)
        lines += [f"  all: {total}; to be asked: about {tokens[0]:,} prompt and {tokens[1]:,} reply tokens{cost}"]
        if controls := sum(p.controls for p in found):
            names = ", ".join(setting for setting in CONTROLS if setting in profile.grid)
            dear = [p.control_cost for p in found if p.control_cost is not None]
            share = f"{controls:,} requests{dollars(sum(dear) if dear else None)}"
            lines += [f"  of these for the controls ({names}): {share}"]
        whole = profile.shard is None  # a shard's answers are read and judged once merged
        arms = [sum(len(p.methods.get(setting, [])) for setting in RELEVANT_SHOWN) for p in found]
        # And of each model's first arm the plain and the mismatched response (judging.nulls).
        rated = sum(p.questions * (own + 2 * bool(own)) for p, own in zip(found, arms, strict=True))
        lines += _hours(profile, found, rated if whole else 0, served=on_servers(command, profile))
        lines += [f"  {servers}"] if servers else []
        lines += [f"  ({TOKEN_RULE})"]
        lines += [f"  ({NOMINAL_RULE})"] if any(p.nominal for p in found) else []
        lines += ["", f"warning: {RULES_ALONE}"] if reads_by_rules_alone(profile) else []
        llm, responses = profile.extractor.llm if whole else None, sum(p.rows for p in found)
        reading = reading_cost(profile, responses) if llm else None
        if llm:
            head = f"extractor: at most {responses:,} responses, those that no rule can read, to be read by"
            lines += ["", f"{head} {llm.name}{dollars(reading)}"]
        judges = profile.all_judges() if whole else []
        ratings = [(judge.label, judge_cost(profile, rated, judge)) for judge in judges]
        head = f"judge: at most {rated:,} responses to be rated by"
        lines += ["", *(f"{head} {who}{dollars(cost)}" for who, cost in ratings)] if ratings else []
        if costs or any(cost is not None for cost in (reading, *(cost for _, cost in ratings))):
            lines += ["", "prices: data/prices.csv, list prices as of the dates there; check them"]
    return "\n".join(lines)


def _hours(profile: Profile, found: Sequence[Plan], ratings: int, served: Collection[str]) -> list[str]:
    """What models and judges that run here would take, by this machine's speed; nothing of small ones and servers.

    Models named in `served` are run by servers on other nodes.
    """
    work = [(plan.model, *pair(profile, plan.model), plan.prompt_tokens, plan.completion_tokens) for plan in found]
    for judge in profile.all_judges():
        if judge.model is not None:
            work.append((f"{judge.label} as judge", judge.model, judge.model, *judge_tokens(profile, ratings, judge)))
    lines: list[str] = []
    speeds: dict[object, Any] = {}  # by weights and type
    for who, model, editor, read, written in work:
        if model.engine != "transformers" or model.name in served or not read:
            continue
        where = find_model(model, fetch=False)
        if (size := where.size()) is not None and size < QUICK:
            continue
        from perg_utils.engines.local.speed import measure  # noqa: PLC0415 - imports torch

        key = (where, resolved(model).dtype)
        speed = speeds[key] = speeds.get(key) or measure(model, where)
        if isinstance(speed, str):
            lines.append(f"  {who} here: {speed}")
            continue
        rates = f"reads {speed.read:,.0f} and writes {speed.written:,.0f} tokens/s as {resolved(model).dtype}"
        other = "" if editor is model else f", if {editor.name} is as fast"
        lines.append(f"  {who} here: {rates}, so at most about {speed.hours(read, written):.1f} hours{other}")
    return lines


def _measured(
    some: list[Step], at: Mapping[str, str], command: Command, workspace: Workspace, spread: Spread
) -> Iterator[tuple[Step, float, dict[str, float]]]:
    """Run steps and yield each that has ended well, its start, and what it cost.

    Of steps that run at the same time only the seconds are known, which `State.record` keeps.
    """
    if len(some) == 1:
        with measured(workspace.journal) as spent:
            [(step, started)] = _run_steps(some, at, command, workspace, spread)
        yield step, started, spent
        return
    for step, started in _run_steps(some, at, command, workspace, spread):
        yield step, started, {}


def _run_steps(
    some: list[Step], at: Mapping[str, str], command: Command, workspace: Workspace, spread: Spread
) -> Iterator[tuple[Step, float]]:
    """Run steps, several at once where they are several, and yield each that has ended well with its start."""
    from perg_utils.run.notebook import StepFailed, execute  # noqa: PLC0415 - slow to import, and most calls run nothing
    from perg_utils.run.together import Job, execute_together  # noqa: PLC0415 - the same

    spread.ready_for(some)
    jobs = [Job(step, at[step.id], *_copy_and_parameters(step, command, workspace)) for step in some]
    for job in jobs:
        print(job.head, flush=True)
    try:
        if len(jobs) > 1:
            yield from execute_together(jobs, spread.table)
            return
        for job in jobs:
            began = time.time()

            def show(state: Mapping[str, Any], head: str = job.head, began: float = began) -> None:
                print(f"{head} ({clock(time.time() - began)}) {line(state)}", flush=True)

            execute(job.step.notebook, job.executed, job.parameters, cwd=ROOT, show=show)
            yield job.step, began
    except StepFailed as error:
        job = next(job for job in jobs if job.step.id == (error.step or job.step.id))
        model = f" for model {job.step.model}" if job.step.model else ""
        raise StepFailed(
            f"{job.step.notebook.name}{model} failed: {error}\nexecuted notebook: {job.executed}\n"
            f"to resume: {command.resume()}"
        ) from error
    except KeyboardInterrupt:
        names = ", ".join(job.step.id for job in jobs)
        print(f"\ninterrupted in {names}; finished work is kept\nto resume: {command.resume()}", file=sys.stderr)
        raise


def _copy_and_parameters(step: Step, command: Command, workspace: Workspace) -> tuple[Path, dict[str, Any]]:
    parameters = {"profile": command.profile, "overrides": list(command.overrides), "out": str(command.out)}
    parameters |= {} if step.model is None else {"model": step.model}
    return workspace.executed / f"{step.id.replace(':', '.')}.ipynb", parameters


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
    if reads_by_rules_alone(profile) and any(step.asks == "extractor" for step in chosen):
        print(f"warning: {RULES_ALONE}", flush=True)
    load_prompts(profile.prompts)
    models = [profile.model(step.model) for step in chosen if step.model is not None]
    models += [profile.model(model.aligner) for model in models if model.aligner is not None]
    asked = {step.asks for step in chosen}
    if "judges" in asked:
        check_judges(profile)
        models += profile.judge_models()
    if asked & {"base", "extractor"}:
        check_extractor(profile.extractor, profile, workspace)
        models += profile.extractor.models() if "extractor" in asked else profile.extractor.models()[:1]
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
