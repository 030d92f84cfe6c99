"""Logs of the Inspect task `perg` as the tables of a run, so that every later step treats them like its own.

`import_logs` reads one log or several (each has one model, setting and method), and writes examples, preferences,
responses, answers and judgements, and beside them `profile.yaml`: the log's own profile with the arms that are there,
for the steps of `./run_all.sh` from 04 on. A sample that Inspect could not ask has rows of status `api_error`: they are
counted as unscored, never as wrong.

Rows are known by their ids, never by their order. The plain response is in every log of a model; the first log's
stands, and how many differ is said. Left out: further epochs than the first.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from perg_utils.core.errors import DataError
from perg_utils.core.profile import ModelConfig, Profile
from perg_utils.core.schema import ROW_ID, TABLES, Method, Setting, Status, conform, ordered
from perg_utils.core.workspace import Workspace, write_text

#: What a log must hold to be one of ours.
_NEEDED = ("profile", "preferences", "judge")


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: rows of each table, samples that failed, plain responses that a later log has otherwise."""

    profile: Path
    counts: dict[str, int]
    failed: int
    differing: int

    def summary(self) -> str:
        """Return the lines that the command prints, e.g. `24 rows of responses`."""
        lines = [f"{count:,} rows of {table}" for table, count in self.counts.items()]
        if self.failed:
            lines.append(f"{self.failed:,} samples failed in Inspect: they have no response and are not scored")
        if self.differing:
            lines.append(f"{self.differing:,} plain responses differ between logs: the first log's stand")
        return "\n".join([*lines, f"profile: {self.profile}"])


def import_logs(paths: Sequence[Path], out: Path | str, name: str, labels: Mapping[str, str] | None = None) -> Imported:
    """Write the tables of a run `name` below `out` from logs of the task `perg`, and return what was found.

    `labels` gives models of Inspect a name in our tables, e.g. `{"openai/gpt-4o": "GPT-4o"}`; else it is the last
    part. Raises `DataError` for a file that is no log of this task, for logs of different studies, and for an arm
    given twice.
    """
    logs = [_Log.read(path) for path in paths]
    if not logs:
        raise DataError("name at least one log, e.g. logs/2026-01-01T00-00-00_perg_AbC.eval")
    _check_same(logs)
    names = _names(logs, labels or {})
    profile = _profile(logs, names, name)
    rows = [row for log in logs for row in log.rows(names[log.model])]
    tables, differing = _tables(rows, [*names.values()])
    examples = {one["example_id"]: one for log in logs for one in log.examples()}
    tables["examples"] = conform("examples", pd.DataFrame.from_records([*examples.values()]))
    bank = pd.DataFrame.from_records(logs[0].metadata["preferences"])
    tables["preferences"] = conform("preferences", bank)
    workspace = Workspace.of(out, name)
    for table in ("examples", "preferences", "answers", "judgements"):
        workspace.write(table, tables[table])
    responses = tables["responses"]
    written = {workspace.write("responses", responses[responses["model"] == one], part=one) for one in names.values()}
    for old in set(workspace.table_path("responses", "x").parent.glob("*.parquet")) - written:
        old.unlink()  # of an earlier import: reading joins all parts
    text = yaml.safe_dump(profile.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    path = write_text(workspace.run / "profile.yaml", f"# Made by import-inspect from {len(logs)} logs.\n{text}")
    counts = {table: len(tables[table]) for table in TABLES if table in tables}
    return Imported(path, counts, sum(log.failed for log in logs), differing)


@dataclass(frozen=True)
class _Log:
    """One log: its model, its arm, the task's metadata, and its samples in the order of the data set."""

    path: Path
    model: str
    setting: Setting
    method: Method
    metadata: Mapping[str, Any]
    samples: list[Any]

    @classmethod
    def read(cls, path: Path) -> _Log:
        from inspect_ai.log import read_eval_log  # noqa: PLC0415 - an optional extra

        try:
            log = read_eval_log(str(path))
        except (OSError, ValueError, KeyError, NotImplementedError) as error:
            raise DataError(f"{path} cannot be read as a log of Inspect: {error}") from error
        metadata = log.eval.metadata or {}
        lacking = [key for key in _NEEDED if key not in metadata]
        if lacking:
            raise DataError(f"{path} is no log of the task perg: its metadata lacks {', '.join(lacking)}")
        place = {str(one): at for at, one in enumerate(log.eval.dataset.sample_ids or [])}
        found = [sample for sample in log.samples or [] if sample.epoch == 1 and "example" in sample.metadata]
        if not found:
            raise DataError(f"{path} holds no samples (status {log.status}); run the task again, or name another log")
        found.sort(key=lambda sample: place.get(str(sample.id), len(place)))
        [(setting, [method])] = metadata["profile"]["grid"].items()
        return cls(path, log.eval.model, Setting(setting), Method(method), metadata, found)

    def examples(self) -> list[dict[str, Any]]:
        return [sample.metadata["example"] for sample in self.samples]

    @property
    def failed(self) -> int:
        return sum("with" not in sample.metadata for sample in self.samples)

    def rows(self, model: str) -> list[_Row]:
        """The two rows of each sample, under the model's name in our tables."""
        out = []
        for sample in self.samples:
            data = sample.metadata
            plain = _identity(data["example"]["example_id"], None, model, Method.NO_PREFERENCE, Setting.NONE)
            asked = _identity(plain["example_id"], data["preference_id"], model, self.method, self.setting)
            why = "not asked to the end" if sample.error is None else str(sample.error.message)
            if "with" not in data:
                out += [_Row.failed(plain), _Row.failed(asked, why, self.judge)]
                continue
            out.append(_Row(data["without"] | plain, _known(data, "answer_without", plain), None))
            judgement = _known(data, "judgement", asked)
            out.append(_Row(data["with"] | asked, _known(data, "answer_with", asked), judgement))
        return out

    @property
    def judge(self) -> str:
        return Profile.model_validate(self.metadata["profile"]).judge.label


@dataclass(frozen=True)
class _Row:
    """A row of 'responses' with what was read and rated of it; None where the log does not say."""

    response: dict[str, Any]
    answer: dict[str, Any] | None
    judgement: dict[str, Any] | None

    @classmethod
    def failed(cls, row: dict[str, Any], why: str = "", judge: str | None = None) -> _Row:
        lost = str(Status.API_ERROR)
        response = dict.fromkeys(TABLES["responses"]) | row | {"status": lost, "shown_preferences": [], "stages": []}
        answer = dict.fromkeys(TABLES["answers"]) | row | {"how": "no_response", "status": lost}
        judged = dict.fromkeys(TABLES["judgements"]) | row
        judged |= {"judge": judge, "explanation": why or None, "status": lost}
        return cls(response, answer, None if judge is None else judged)


def _identity(example: str, preference: str | None, model: str, method: Method, setting: Setting) -> dict[str, Any]:
    return dict(zip(ROW_ID, (example, preference, model, str(method), str(setting)), strict=True))


def _known(data: Mapping[str, Any], key: str, row: dict[str, Any]) -> dict[str, Any] | None:
    return data[key] | row if key in data else None


def _tables(rows: Iterable[_Row], models: Sequence[str]) -> tuple[dict[str, pd.DataFrame], int]:
    """The tables of rows, each row once, and how many plain responses a later log has otherwise."""
    kept: dict[tuple[Any, ...], _Row] = {}
    differing = 0
    for row in rows:
        key = tuple(row.response[name] for name in ROW_ID)
        if key not in kept or kept[key].response["status"] == Status.API_ERROR:
            kept[key] = row
        elif row.response["setting"] != Setting.NONE:
            raise DataError(f"two logs have the same arm: {dict(zip(ROW_ID, key, strict=True))}; name each arm once")
        elif row.response["status"] != Status.API_ERROR:
            differing += row.response["response"] != kept[key].response["response"]
    responses = pd.DataFrame.from_records([row.response for row in kept.values()])
    order = ordered(responses, ["model", "method", "setting"], models).index
    found = [list(kept.values())[place] for place in order]
    judge = next((row.judgement["judge"] for row in found if row.judgement is not None), None)
    lost = [row for row in found if row.answer is None]
    if lost:
        raise DataError(
            f"{len(lost)} samples were asked but not scored; score the log first: inspect score LOG --action append"
        )
    judgements = [row.judgement or _unjudged(row, judge) for row in found]
    tables = {
        "responses": responses.loc[order],
        "answers": pd.DataFrame.from_records([row.answer for row in found if row.answer is not None]),
        "judgements": pd.DataFrame.from_records(judgements),
    }
    return {name: conform(name, frame) for name, frame in tables.items()}, differing


def _unjudged(row: _Row, judge: str | None) -> dict[str, Any]:
    """What a run's judge says of a plain response: there is nothing to follow."""
    identity = {name: row.response[name] for name in ROW_ID}
    said = {"judge": judge, "rating": None, "explanation": None, "status": str(Status.NOT_APPLICABLE)}
    return identity | said


def _check_same(logs: Sequence[_Log]) -> None:
    """Raise `DataError` where logs are of different studies: another seed, prompt set, bank, judge or decoding."""
    for log in logs[1:]:
        for key in ("preferences", "prompt_hashes", "judge"):
            if log.metadata.get(key) != logs[0].metadata.get(key):
                raise DataError(f"{log.path} and {logs[0].path} differ in {key}; import them as two runs")
        mine, first = (dict(one.metadata["profile"]) for one in (log, logs[0]))
        other = [key for key in ("seed", "data", "decoding", "extractor", "judge") if mine.get(key) != first.get(key)]
        if other:
            raise DataError(f"{log.path} and {logs[0].path} differ in {', '.join(other)}; import them as two runs")


def _names(logs: Sequence[_Log], labels: Mapping[str, str]) -> dict[str, str]:
    """What our tables call each model of the logs, e.g. `{"openai/gpt-4o": "gpt-4o"}`."""
    from perg_utils.ecosystem.inspect_task import model_label  # noqa: PLC0415 - an optional extra

    names = {log.model: labels.get(log.model, model_label(log.model)) for log in logs}
    unknown = sorted(set(labels) - set(names))
    if unknown:
        raise DataError(f"--model: no log is of {', '.join(unknown)}; they are of {', '.join(names)}")
    if len(set(names.values())) < len(names):
        raise DataError(f"these models would have one name: {names}; tell them apart with --model MODEL=NAME")
    return names


def _profile(logs: Sequence[_Log], names: Mapping[str, str], name: str) -> Profile:
    """The study's profile with the arms that the logs hold; servers by their names only, no address and no key."""
    from perg_utils.ecosystem.inspect_task import server_name  # noqa: PLC0415

    raw = dict(logs[0].metadata["profile"])
    grid: dict[str, list[str]] = {}
    for log in logs:
        methods = grid.setdefault(str(log.setting), [])
        methods += [] if log.method in methods else [str(log.method)]
    models = []
    for model, label in names.items():
        arms = [log for log in logs if log.model == model]
        entry: dict[str, Any] = {"name": label, "engine": "api", "model": server_name(model)}
        entry["methods"] = [*dict.fromkeys(str(log.method) for log in arms)]
        entry["settings"] = [*dict.fromkeys(str(log.setting) for log in arms)]
        models.append(ModelConfig.model_validate(entry).model_dump(mode="json"))
    return Profile.model_validate(
        raw | {"name": name, "title": f"{raw['title']}, by Inspect", "grid": grid, "models": models, "judges": []}
    )
