"""Sample logs of the lm-evaluation-harness tasks as the tables examples, preferences and responses of a run.

The harness scores each row alone. Here the logs of several tasks of one model come together, so that a question's rows
find its plain answer (task `perg_plain`, which must be among them); letters, ratings and scores are then made by steps
04 to 06 of `./run_all.sh`. An empty reply is `empty`: unscored, as the log does not say whether model or server failed.

Left out: tokens, seconds and finish reasons, which these logs do not hold; whether a reply was cut is not known.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from perg_utils.core.errors import DataError
from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ModelConfig, Profile
from perg_utils.core.schema import ROW_ID, TABLES, Method, Setting, Status, conform, ordered
from perg_utils.core.workspace import Workspace, digest, write_text
from perg_utils.dataset import preferences

#: What a row of ours holds in the harness's log (`lm_eval_tasks.questions`).
_DOC = (
    "example_id",
    "source",
    "question",
    "options",
    "gold",
    "sampled_id",
    "setting",
    "method",
    "profile",
    "overrides",
)


@dataclass(frozen=True, slots=True)
class Imported:
    """What an import did: its profile, rows of each table, and replies that were empty."""

    profile: Path
    counts: dict[str, int]
    empty: int

    def summary(self) -> str:
        """Return the lines that the command prints, e.g. `24 rows of responses`."""
        lines = [f"{count:,} rows of {table}" for table, count in self.counts.items()]
        lines += [f"{self.empty:,} replies are empty: they are not scored"] if self.empty else []
        return "\n".join([*lines, f"profile: {self.profile}"])


def import_samples(paths: Sequence[Path], out: Path | str, name: str, model: str) -> Imported:
    """Write the tables of a run `name` below `out` from files `samples_perg_*.jsonl`, and return what was found.

    `model` is what tables call the model, of which the files say nothing. Raises `DataError` for a file that is no
    sample log of these tasks, files of different studies, a row given twice, and where the plain task is missing.
    """
    rows: dict[tuple[str, ...], dict[str, Any]] = {}
    examples: dict[str, dict[str, Any]] = {}
    studies: set[tuple[str, ...]] = set()
    for path in paths:
        for number, line in enumerate(_lines(path), start=1):
            doc = line["doc"]
            studies.add((doc["profile"], *doc["overrides"]))
            examples[doc["example_id"]] = _example(doc)
            row = _response(line, model, f"{path}, line {number}")
            key = tuple(str(row[column]) for column in ROW_ID)
            if key in rows:
                raise DataError(f"{path}, line {number}: a second reply to {key}; name the log of each task once")
            rows[key] = row
    if not rows:
        raise DataError("no samples; name files samples_perg_*.jsonl of lm_eval --log_samples")
    if len(studies) > 1:
        raise DataError(f"these logs are of different studies: {sorted(studies)}; import them as two runs")
    [(base, *overrides)] = studies
    responses = ordered(pd.DataFrame.from_records([*rows.values()]), ["method", "setting"])
    lacking = set(examples) - set(responses.loc[responses["setting"] == Setting.NONE, "example_id"])
    if lacking:
        raise DataError(
            f"{len(lacking)} questions have no plain answer (first: {min(lacking)}): the log of the task perg_plain, "
            "with the same questions, must be among the files"
        )
    profile = _profile(load_profile(base, overrides), responses, name, model)
    tables = {
        "examples": conform("examples", pd.DataFrame.from_records([*examples.values()])),
        "preferences": preferences.load_bank(profile.preferences),
        "responses": conform("responses", responses),
    }
    workspace = Workspace.of(out, name)
    for table, frame in tables.items():
        workspace.write(table, frame, part=model if table == "responses" else None)
    text = yaml.safe_dump(profile.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
    path = write_text(workspace.run / "profile.yaml", f"# Made by import-lm-eval from {len(paths)} files.\n{text}")
    empty = int((tables["responses"]["status"] == Status.EMPTY).sum())
    return Imported(path, {table: len(frame) for table, frame in tables.items()}, empty)


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The samples of a file, once for each question; the harness repeats a line for each filter."""
    seen: set[Any] = set()
    try:
        with path.open(encoding="utf-8") as handle:
            for number, text in enumerate(handle, start=1):
                line = json.loads(text)
                doc = line.get("doc") if isinstance(line, dict) else None
                if not isinstance(doc, dict) or any(key not in doc for key in _DOC):
                    raise DataError(f"{path}, line {number}: no sample of the tasks perg_*")
                if line["doc_id"] not in seen:
                    seen.add(line["doc_id"])
                    yield line
    except (OSError, ValueError) as error:
        raise DataError(f"{path} cannot be read as a sample log of lm_eval: {error}") from error


def _example(doc: dict[str, Any]) -> dict[str, Any]:
    found = {name: doc.get(name) for name in TABLES["examples"]}
    return found | {"preference_id": doc["sampled_id"]}


def _response(line: dict[str, Any], model: str, where: str) -> dict[str, Any]:
    doc = line["doc"]
    try:
        text = line["resps"][0][0]
    except (LookupError, TypeError):
        raise DataError(f"{where}: it holds no reply") from None
    text = text.strip() if isinstance(text, str) else ""
    identity = (doc["example_id"], doc["preference_id"] or None, model, doc["method"], doc["setting"])
    return dict.fromkeys(TABLES["responses"]) | {
        **dict(zip(ROW_ID, identity, strict=True)),
        "shown_preferences": list(doc["shown_preferences"]),
        "response": text or None,
        "stages": [text] if text else [],
        "status": str(Status.OK if text else Status.EMPTY),
        "key": digest("lm_eval", doc["system"], doc["user"]),
        "fallback": False,
    }


def _profile(base: Profile, responses: pd.DataFrame, name: str, model: str) -> Profile:
    """The study's profile with the arms that the logs hold."""
    grid: dict[str, list[str]] = {}
    arms = responses.loc[responses["method"] != Method.NO_PREFERENCE, ["setting", "method"]].drop_duplicates()
    for setting, method in arms.itertuples(index=False):
        grid.setdefault(setting, []).append(method)
    raw = base.model_dump(mode="json")
    entry = ModelConfig(name=model, engine="api", model=model).model_dump(mode="json")
    title = f"{raw['title']}, by lm-evaluation-harness"
    return Profile.model_validate(raw | {"name": name, "title": title, "grid": grid, "models": [entry], "judges": []})
