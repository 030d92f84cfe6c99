"""The command line: `python -m perg_utils COMMAND`, see `--help`. `./run_all.sh` is `run`.

A `PergError` becomes its message on stderr and exit status 2; Ctrl-C and SIGTERM end with 130. Each command imports
what it needs when it runs, so that `--help` and a mistyped option answer at once.
"""

from __future__ import annotations

import argparse
import errno
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perg_utils import __version__
from perg_utils.core.errors import PergError

if TYPE_CHECKING:
    from perg_utils.core.profile import Profile
    from perg_utils.core.workspace import Workspace
    from perg_utils.run.pipeline import Command

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOTDIR, errno.EEXIST}


def parser() -> argparse.ArgumentParser:
    """Return the parser of all subcommands."""
    main_parser = argparse.ArgumentParser(prog="perg_utils", description=__doc__.splitlines()[0])
    main_parser.add_argument("--version", action="version", version=f"perg_utils {__version__}")
    commands = main_parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    run = commands.add_parser("run", help="run a profile's notebooks in order (./run_all.sh)")
    _add_run_options(run)
    run.add_argument("--only", action="append", default=[], metavar="STEP[,STEP]", help="e.g. 06,07 or 03:S")
    run.add_argument("--dry-run", action="store_true", help="print the plan, requests and tokens; do nothing")
    run.add_argument("--force", action="store_true", help="run all steps again (replies still come from the journal)")
    run.add_argument("--verify", action="store_true", help="then compare its tables with the committed ones")
    run.add_argument("--cluster", metavar="auto|ADDRESS|local", help="spread the work on Ray (docs/cluster.md)")
    run.add_argument("--storage", metavar="DIR|URL", help="with --cluster: where replies pass (default: the run's)")

    journal = commands.add_parser("journal", help="count, export or drop the replies of a run")
    journal.add_argument("action", nargs="?", choices=["show", "export", "drop"], default="show", help="default: show")
    journal.add_argument("file", nargs="?", type=Path, help="export: what to write, *.parquet or *.jsonl")
    _add_run_options(journal)
    chosen = {
        "model": "as the first column shows it",
        "status": "e.g. empty",
        "finish-reason": "e.g. length",
        "key": "",
    }
    for name, text in chosen.items():
        journal.add_argument(f"--{name}", action="append", default=[], help=f"only these; may be repeated; {text}")
    journal.add_argument("--yes", action="store_true", help="drop: do it; without, it is only counted")

    merge = commands.add_parser("merge", help="join the shards of a run (--set shard=i/n), which then goes on with 04")
    merge.add_argument(
        "folders", nargs="*", type=Path, metavar="DIR", help="the --out of each shard; default: the run's"
    )
    _add_run_options(merge)

    results = commands.add_parser("results", help="a run's figures, tables and scores without any text, to be kept")
    results.add_argument("folder", type=Path, metavar="DIR", help="where they go; what is there is replaced")
    _add_run_options(results)

    _add_sharing(commands)

    annotate = commands.add_parser("annotate", help="people as judges: a blind sheet of responses, and what it says")
    annotate.add_argument("action", choices=["sample", "merge"])
    annotate.add_argument("folder", type=Path, metavar="DIR", help="of the sheet: sheet.csv, sheet.html, key.csv")
    annotate.add_argument("sheets", nargs="*", type=Path, metavar="SHEET", help="merge: filled sheets, one a person")
    annotate.add_argument("--rows", type=int, default=100, help="sample: how many responses (default: 100)")
    _add_run_options(annotate)

    preferences = commands.add_parser("preferences", help="the bank of those proposed preferences that people chose")
    preferences.add_argument("action", choices=["merge"])
    preferences.add_argument("folder", type=Path, metavar="DIR", help="candidates/ of a run of 00_generate_preferences")
    preferences.add_argument("sheets", nargs="+", type=Path, metavar="SHEET", help="filled sheets, one a person")

    commands.add_parser("doctor", help="what this machine can run")

    train = commands.add_parser("train-embedded", help="train the embedded models again (about 12 minutes on 2 cores)")
    train.add_argument("--out", type=Path, metavar="DIR", help="where the model folders go (default: the shipped ones)")
    train.add_argument("--size", action="append", metavar="S|M|L", help="may be repeated; default: all three")
    train.add_argument("--seed", type=int, default=1)

    published = commands.add_parser("import-published", help="the paper's released responses as the tables of a run")
    published.add_argument("folder", type=Path, metavar="DIR", help="a clone of the release, or a folder of its files")
    published.add_argument("--out", type=Path, required=True, metavar="DIR2", help="tables go to DIR2/tables")
    published.add_argument("--download", action="store_true", help="first fetch into DIR what is not there yet")
    published.add_argument(
        "--letters", choices=["published", "rules"], default="published", help="or read the responses by our rules"
    )

    _add_imports(commands)
    return main_parser


def _add_imports(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    inspect = commands.add_parser("import-inspect", help="logs of the Inspect task perg as the tables of a run")
    inspect.add_argument("logs", nargs="+", type=Path, metavar="LOG", help="one log an arm (model, setting, method)")
    inspect.add_argument("--name", default="inspect", help="of the run and its profile; default: inspect")
    inspect.add_argument(
        "--model", action="append", default=[], metavar="MODEL=NAME", help="what tables call a model of Inspect"
    )
    inspect.add_argument("--out", type=Path, metavar="DIR", help="tables go to DIR/data/runs/NAME, not the repository")

    harness = commands.add_parser("import-lm-eval", help="sample logs of lm-evaluation-harness as the tables of a run")
    harness.add_argument("logs", nargs="+", type=Path, metavar="FILE", help="samples_perg_*.jsonl, perg_plain's too")
    harness.add_argument("--model", required=True, metavar="NAME", help="what tables call the model")
    harness.add_argument("--name", default="lm-eval", help="of the run and its profile; default: lm-eval")
    harness.add_argument("--out", type=Path, metavar="DIR", help="tables go to DIR/data/runs/NAME, not the repository")


def _add_sharing(commands: Any) -> None:
    """The commands that set runs side by side, or hand them on."""
    compare = commands.add_parser("compare", help="several runs or exported results side by side on one page")
    compare.add_argument(
        "runs",
        nargs="+",
        metavar="RUN",
        help="a profile that has run, or a folder or table of results; LABEL=RUN names it",
    )
    compare.add_argument("--to", type=Path, metavar="FILE", help="default: figures/compare/compare.html")
    compare.add_argument("--out", type=Path, metavar="DIR", help="data/runs of named profiles is below DIR")

    export = commands.add_parser("export", help="a run in the formats of others: Every Eval Ever, or a hub's dataset")
    export.add_argument("run", metavar="RUN", help="a profile that has run, its folder, or a folder of results")
    export.add_argument("folder", type=Path, metavar="DIR", help="where it goes; must be empty or not there")
    export.add_argument("--to", choices=["eee", "hub"], required=True, dest="form", help="eee or hub")
    export.add_argument("--texts", action="store_true", help="with the texts of others, which else stay here")
    export.add_argument("--license", metavar="ID", help="hub: a licence's identifier, e.g. cc-by-4.0")
    export.add_argument("--organization", default="not stated", metavar="NAME", help="eee: who ran the evaluation")
    export.add_argument("--out", type=Path, metavar="DIR", help="data/runs of a named profile is below DIR")


def _add_run_options(command: argparse.ArgumentParser) -> None:
    command.add_argument("--profile", default="demo", metavar="NAME|FILE", help="default: demo")
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", dest="overrides", help="data.limit=50"
    )
    command.add_argument(
        "--out", type=Path, metavar="DIR", help="data/runs and figures are below DIR, not the repository"
    )


def main(argv: list[str] | None = None) -> int:
    """Run one subcommand and return the exit status.

    0; 1 where `--verify` finds a difference; 2 after a `PergError`; 130 after Ctrl-C or SIGTERM.
    """
    arguments = parser().parse_args(argv)
    try:
        return _COMMANDS[arguments.command](arguments) or 0
    except PergError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in _DISK:
            raise
        print(f"error: cannot write: {error}; free some space, or choose another folder with --out", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


def _run(arguments: argparse.Namespace) -> int | None:
    from perg_utils.core.profile import ROOT
    from perg_utils.run import pipeline
    from perg_utils.run.verify import committed_tables, verify

    _load_keys()
    only = tuple(step.strip() for item in arguments.only for step in item.split(",") if step.strip())
    if arguments.storage is not None and arguments.cluster is None:
        raise PergError(f"--storage {arguments.storage} is for replies on a cluster: it needs --cluster")
    where = {"cluster": arguments.cluster, "storage": arguments.storage}
    command = replace(_command(arguments), only=only, force=arguments.force, **where)
    os.chdir(ROOT)  # paths inside a profile are relative to the repository, here as in the notebooks
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # ends like Ctrl-C: the kernel goes, work is kept
    figures = _opened(command)[1].figures
    committed = committed_tables(figures) if arguments.verify else None  # before the run, which may write over them
    if arguments.dry_run:
        print(pipeline.dry_run(command))
        if committed is not None:
            print(f"\nverify: then compared with {len(committed.tables)} tables in {committed.where}")
        return None
    pipeline.run(command)
    if committed is None:
        return None
    told, agrees = verify(figures, committed)
    print(told)
    return 0 if agrees else 1


def _command(arguments: argparse.Namespace) -> Command:
    from perg_utils.core.loading import profile_path
    from perg_utils.core.profile import ROOT
    from perg_utils.run.pipeline import Command

    name = arguments.profile
    path = profile_path(name)
    return Command(
        profile=str(path.resolve()) if path == Path(name) else name,
        overrides=tuple(arguments.overrides),
        out=ROOT if arguments.out is None else arguments.out.resolve(),
    )


def _opened(command: Command) -> tuple[Profile, Workspace]:
    from perg_utils.core.loading import load_profile
    from perg_utils.core.workspace import Workspace

    profile = load_profile(command.profile, command.overrides)
    return profile, Workspace.of(command.out, profile.name)


def _journal(arguments: argparse.Namespace) -> None:
    from perg_utils.engines import journal_tools
    from perg_utils.engines.api.pricing import cost_of
    from perg_utils.run.state import State, locked

    command = _command(arguments)
    profile, workspace = _opened(command)
    choice = journal_tools.Choice(
        *map(tuple, (arguments.model, arguments.status, arguments.finish_reason, arguments.key))
    )
    if arguments.action != "export" and arguments.file is not None:
        raise PergError(f"only export takes a file, got '{arguments.file}'; another run's journal: --profile, --out")
    if arguments.action == "drop":
        choice.must_choose()
    if arguments.action == "export":
        if arguments.file is None:
            raise PergError("say where the replies go: journal export FILE.parquet (or .jsonl)")
        total = journal_tools.export(workspace.journal, arguments.file, choice)
        print(f"{total:,} replies: {arguments.file}")
    elif arguments.action == "drop" and arguments.yes and workspace.journal.is_file():
        with locked(workspace.run):  # a run that goes on meanwhile would not ask them again
            total = journal_tools.drop(workspace.journal, choice)
            State(workspace.run / "state.json").redo(["03", "04", "05"])
        print(f"{total:,} replies dropped; to ask them again: {command.resume()}")
    else:
        print(journal_tools.describe(workspace.journal, cost_of(profile.all_models()), choice))
        if arguments.action == "drop" and journal_tools.counts(workspace.journal, choice):
            print("to drop these, so that the next run asks them again, add --yes")


def _merge(arguments: argparse.Namespace) -> None:
    from perg_utils.core.profile import ROOT
    from perg_utils.run.merge import merge

    command = _command(arguments)
    folders = [folder.resolve() for folder in arguments.folders] or [command.out]
    os.chdir(ROOT)
    print(merge(command, folders))


def _results(arguments: argparse.Namespace) -> None:
    from perg_utils.run import textless

    left_out = textless.write(*_opened(_command(arguments)), arguments.folder)
    print(f"{arguments.folder}: results without texts; left out: {', '.join(left_out) or 'nothing'}")


def _compare(arguments: argparse.Namespace) -> None:
    from perg_utils.core.profile import ROOT
    from perg_utils.core.results import open_all
    from perg_utils.reporting import compare

    out = ROOT if arguments.out is None else arguments.out.resolve()
    to = arguments.to or out / "figures" / "compare" / "compare.html"
    for path in compare.write(open_all(arguments.runs, out), to):
        print(path)


def _export(arguments: argparse.Namespace) -> None:
    from perg_utils.core.profile import ROOT
    from perg_utils.core.results import open_results
    from perg_utils.ecosystem import export, export_eee, export_hub

    out = ROOT if arguments.out is None else arguments.out.resolve()
    gathered = export.gathered(open_results(arguments.run, out), arguments.texts)
    if arguments.form == "hub":
        written = export_hub.write(gathered, arguments.folder, arguments.license)
    else:
        written = export_eee.write(gathered, arguments.folder, arguments.organization)
    print(f"{arguments.folder}: {len(written)} files. {gathered.said_of_texts}")


def _annotate(arguments: argparse.Namespace) -> None:
    from perg_utils.judging import annotation, correction

    profile, workspace = _opened(_command(arguments))
    if arguments.action == "merge":
        people, found = annotation.merge(profile, workspace, arguments.folder, arguments.sheets)
        print(annotation.describe(people, found))
        print(correction.correct(profile, workspace, arguments.folder, people))
        ratings = (arguments.folder / "ratings.csv").resolve()
        print(f"as a judge of a profile: {{kind: people, ratings: {ratings}}}")
        return
    for path in annotation.sample(profile, workspace, arguments.folder, arguments.rows):
        print(path)
    print("give the sheet to the people who rate, and keep the key from them")


def _preferences(arguments: argparse.Namespace) -> None:
    from perg_utils.proposals import choosing

    bank, found = choosing.merge(arguments.folder, arguments.sheets)
    print(choosing.describe(bank, found, arguments.sheets))
    print(f"as the bank of a profile: preferences: {(arguments.folder / 'bank.csv').resolve()}")


def _doctor(_: argparse.Namespace) -> None:
    from perg_utils.run import doctor

    _load_keys()
    print(doctor.report())


def _train(arguments: argparse.Namespace) -> None:
    from perg_utils.embedded import training

    training.train_all(arguments.out or training.MODELS, arguments.size or ["L", "M", "S"], arguments.seed)


def _import_published(arguments: argparse.Namespace) -> None:
    from perg_utils.core.workspace import Workspace
    from perg_utils.published import files as published_files
    from perg_utils.published import importing as published

    if arguments.download:
        for problem in published_files.download(arguments.folder, published_files.load_manifest()):
            print(f"error: {problem.path}: {problem.status}: {problem.reason}", file=sys.stderr)
    found = published.import_published(
        arguments.folder, Workspace(arguments.out, arguments.out / "figures"), letters=arguments.letters
    )
    print(found.summary())


def _import_inspect(arguments: argparse.Namespace) -> None:
    from importlib.util import find_spec

    from perg_utils.core.profile import ROOT

    if find_spec("inspect_ai") is None:
        raise PergError("import-inspect needs the package of Inspect: pip install -e .[inspect] (docs/inspect.md)")
    from perg_utils.ecosystem.inspect_log import import_logs

    wrong = [item for item in arguments.model if "=" not in item]
    if wrong:
        raise PergError(f"--model takes MODEL=NAME, e.g. openai/gpt-4o=GPT-4o; got '{wrong[0]}'")
    labels = dict(item.split("=", 1) for item in arguments.model)
    out = ROOT if arguments.out is None else arguments.out.resolve()
    found = import_logs(arguments.logs, out, arguments.name, labels)
    print(found.summary())
    print(_going_on(found.profile, out))


def _import_lm_eval(arguments: argparse.Namespace) -> None:
    from perg_utils.core.profile import ROOT
    from perg_utils.ecosystem.lm_eval_log import import_samples

    out = ROOT if arguments.out is None else arguments.out.resolve()
    found = import_samples(arguments.logs, out, arguments.name, arguments.model)
    print(found.summary())
    print(_going_on(found.profile, out))


def _going_on(path: Path, out: Path) -> str:
    """The command that runs every step of an imported run but those that get questions and ask models."""
    from perg_utils.core.loading import load_profile
    from perg_utils.core.profile import ROOT
    from perg_utils.core.workspace import Workspace
    from perg_utils.run.steps import steps

    profile = load_profile(path)
    numbers = dict.fromkeys(step.id.partition("_")[0] for step in steps(profile, Workspace.of(out, profile.name)))
    place = "" if out == ROOT else f" --out {out}"
    only = ",".join(number for number in numbers if number not in ("00", "01", "03"))
    return f"to go on: ./run_all.sh --profile {path}{place} --only {only}"


def _load_keys() -> None:
    """Keys in the repository's `.env` count as set in the environment; the environment itself goes first."""
    from dotenv import load_dotenv

    from perg_utils.core.profile import ROOT

    load_dotenv(ROOT / ".env")


_COMMANDS = {
    "run": _run,
    "journal": _journal,
    "merge": _merge,
    "results": _results,
    "compare": _compare,
    "export": _export,
    "annotate": _annotate,
    "preferences": _preferences,
    "doctor": _doctor,
    "train-embedded": _train,
    "import-published": _import_published,
    "import-inspect": _import_inspect,
    "import-lm-eval": _import_lm_eval,
}


if __name__ == "__main__":
    sys.exit(main())
