"""What a run found, opened from wherever it was kept: side by side on one page, or exported for others.

    a profile's name, or data/runs/NAME     a run: tables/metrics.parquet, scores, manifest
    a folder of `results`                   rows/*.parquet without texts, manifest
    a folder of `export --to hub`           data/*.parquet, manifest
    a folder of `export --to eee`           data/*/*/*/*.json (Every Eval Ever)
    figures/NAME                            the raw numbers of the committed tables, tables/*.csv
    a table of metrics                      *.csv or *.parquet, such as data/paper_metrics.csv

Left out: everything that reads texts. Where a place holds no scores, what needs single answers cannot be told.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pandas as pd

from perg_utils.core.errors import DataError, PergError
from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT
from perg_utils.core.schema import ALL_SOURCES, TABLES, Metric, conform
from perg_utils.core.workspace import STUDY, Workspace, digest

#: Where a folder keeps its Parquet tables, by what wrote it.
_PARQUET = {"run": "tables", "results": "rows", "hub export": "data"}
_KEYS = ["model", "method", "setting", "source", "metric"]
_REQUIRED = [*_KEYS, "value"]


@dataclass(frozen=True)
class Results:
    """A run's rates, and its scores where they are at hand. `kind` says what they were read from.

    `manifest` is what the run wrote of itself (`run.provenance`), empty where nothing was kept; `folder` is where the
    Parquet tables are, None where there are none.
    """

    name: str
    place: str
    kind: str
    metrics: pd.DataFrame
    scores: pd.DataFrame | None = None
    manifest: dict[str, Any] = field(default_factory=dict)
    folder: Path | None = None

    @property
    def profile(self) -> dict[str, Any]:
        """The profile as the manifest has it; empty where it has none."""
        return dict(self.manifest.get("profile") or {})

    @property
    def world(self) -> str:
        """`invented`, `real`, or `unknown`."""
        return str(self.profile.get("world") or "unknown")

    @property
    def judge(self) -> str:
        """The main judge, e.g. `heuristic`; empty where it is not known."""
        judge = self.profile.get("judge") or {}
        model = judge.get("model") or {}
        return str(judge.get("name") or model.get("name") or judge.get("kind") or "")

    @property
    def questions(self) -> str:
        """A digest that is equal where two runs asked the same questions with the same preferences; empty: unknown."""
        asked = self.profile
        if self.scores is None or not {"world", "data", "seed"} <= set(asked):
            return ""
        return digest(asked["world"], asked["data"], asked["seed"], self.manifest.get("preferences"))

    def table(self, name: str) -> pd.DataFrame | None:
        """Return another table of the same place, e.g. `examples` (without texts in `results`); None if it has none."""
        return None if self.folder is None else _parquet(self.folder, name)


def open_results(where: Path | str, out: Path | str = ".") -> Results:
    """Return the results at `where`: a folder, a file, or the name of a profile that has run below the folder `out`.

    `label=where` gives them a name of the user's. Raises `DataError` for a place that holds none, saying what would do.

    >>> open_results("data/paper_metrics.csv").kind
    'table'
    """
    label, path = _split(str(where))
    if not path.exists() and (ROOT / path).exists():
        path = ROOT / path
    if path.is_file():
        found = _of_file(path)
    elif path.is_dir():
        found = _of_folder(path)
    else:
        found = _of_profile(str(path), out)
    return replace(found, name=label) if label else found


def open_all(places: Iterable[Path | str], out: Path | str = ".") -> list[Results]:
    """Return the results at all `places`, each with a name of its own: equal ones are numbered."""
    found, seen = [], dict[str, int]()
    for place in places:
        one = open_results(place, out)
        seen[one.name] = number = seen.get(one.name, 0) + 1
        found.append(one if number == 1 else replace(one, name=f"{one.name} ({number})"))
    return found


def _split(where: str) -> tuple[str, Path]:
    label, mark, rest = where.partition("=")
    return (label, Path(rest)) if mark and not Path(where).exists() else ("", Path(where))


def _of_profile(name: str, out: Path | str) -> Results:
    try:
        profile = load_profile(name)
    except PergError as error:
        raise DataError(
            f"'{name}' is no folder or file of results, and no profile ({error}); give data/runs/NAME, a folder of "
            f"`python -m perg_utils results` or `export`, figures/NAME, or a CSV with the columns {_REQUIRED}"
        ) from None
    workspace = Workspace.of(out, profile.name)
    workspace.read("metrics")  # says which step makes it, where it is not there
    return _of_folder(workspace.run)


def _of_folder(folder: Path) -> Results:
    manifest = _manifest(folder)
    named = str((manifest.get("profile") or {}).get("name") or folder.resolve().name)
    for kind, below in _PARQUET.items():
        metrics = _parquet(folder / below, "metrics")
        if metrics is not None:
            scores = _parquet(folder / below, "scores")
            scores = None if scores is None or scores.empty else scores
            return Results(named, _told(folder), kind, metrics, scores, manifest, folder / below)
    if files := sorted(folder.glob("data/*/*/*/*.json")):
        return _of_records(folder, files)
    if (folder / "tables").is_dir() and (rows := _of_tables(folder / "tables")) is not None:
        manifest = manifest or _shipped(folder)
        named = str((manifest.get("profile") or {}).get("name") or named)
        return Results(named, _told(folder), "tables", rows, None, manifest)
    raise DataError(
        f"{folder} holds no results: no {' or '.join(f'{below}/metrics.parquet' for below in _PARQUET.values())}, no "
        f"data/*/*/*/*.json and no table of metrics in tables/*.csv"
    )


def _of_file(path: Path) -> Results:
    try:
        frame = pd.read_parquet(path) if path.suffix == ".parquet" else pd.read_csv(path)
    except (ValueError, OSError) as error:
        raise DataError(f"{path} is no table that can be read: {error}") from error
    frame = frame.rename(columns={"percent": "value"})
    if missing := [name for name in _REQUIRED if name not in frame]:
        raise DataError(f"{path}: a table of metrics has the columns {_REQUIRED}; missing {missing}")
    printed = path.resolve() == (ROOT / "data" / "paper_metrics.csv").resolve()
    manifest = {"profile": {"world": "real"}} if printed else {}
    return Results("paper, as printed" if printed else path.stem, path.name, "table", _rates(frame), manifest=manifest)


def _of_tables(folder: Path) -> pd.DataFrame | None:
    """Rates over all sources from the raw numbers of the rendered tables; what several tables hold is taken once."""
    found = []
    for path in sorted(folder.glob("*.csv")):
        frame = pd.read_csv(path)
        if {*_REQUIRED, "low", "high", "n"} <= set(frame) and "category" not in frame:
            found.append(frame[frame["metric"].isin(list(Metric))])
    if not found:
        return None
    rows = pd.concat(found).drop_duplicates(_KEYS)
    return _rates(rows[rows["source"] == ALL_SOURCES])


def _of_records(folder: Path, files: list[Path]) -> Results:
    """Rates from the aggregates of Every Eval Ever that `ecosystem.export_eee` wrote; other people's have no arms."""
    rows, manifest = [], dict[str, Any]()
    for path in files:
        record = json.loads(path.read_text(encoding="utf-8"))
        own = record["eval_library"].get("additional_details", {})
        manifest = manifest or json.loads(own.get("perg_manifest", "{}"))
        for result in record["evaluation_results"]:
            told = result["metric_config"].get("additional_details", {})
            if not {"model", "method", "setting", "source", "metric"} <= set(told):
                continue
            score = result["score_details"]
            sure = score.get("uncertainty", {})
            exact, n = sure.get("confidence_interval", {}), sure.get("num_samples")
            like = json.loads(score.get("details", {}).get("interval_for_preferences_like_these", "[null, null]"))
            bounds = json.loads(score.get("details", {}).get("what_unscored_rows_could_make_of_it", "[null, null]"))
            rows.append(
                {
                    **{name: told[name] for name in _KEYS},
                    **{"value": score["score"], "low": exact.get("lower"), "high": exact.get("upper"), "n": n},
                    **dict(zip(("like_low", "like_high"), like, strict=True)),
                    **dict(zip(("least", "most"), bounds, strict=True)),
                    "n_unscored": int(score.get("details", {}).get("n_unscored", 0)),
                }
            )
    if not rows:
        raise DataError(f"{folder}: these records were not written by `perg_utils export --to eee`, and name no arms")
    named = str((manifest.get("profile") or {}).get("name") or folder.resolve().name)
    return Results(named, _told(folder), "eee export", _rates(pd.DataFrame(rows)), None, manifest)


def _rates(frame: pd.DataFrame) -> pd.DataFrame:
    return conform("metrics", frame.reindex(columns=list(TABLES["metrics"])))


def _parquet(folder: Path, table: str) -> pd.DataFrame | None:
    """A table as it was kept, in one file or in parts; without texts some columns are missing."""
    whole = folder / f"{table}.parquet"
    parts = [whole] if whole.is_file() else sorted((folder / table).glob("[!.]*.parquet"))
    if not parts:
        return None
    try:
        frame = pd.concat([pd.read_parquet(path) for path in parts], ignore_index=True)
    except (ValueError, OSError) as error:
        raise DataError(f"{parts[0]} cannot be read ({error})") from error
    return conform(table, frame) if set(frame) == set(TABLES[table]) else frame


def _manifest(folder: Path) -> dict[str, Any]:
    path = folder / "manifest.json"
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}


def _shipped(folder: Path) -> dict[str, Any]:
    """What is known of committed figures by their folder's name: the profile that is shipped under it."""
    name = folder.resolve().name
    try:
        profile = load_profile(f"{STUDY}{name}" if folder.resolve().parent.name == "studies" else name)
    except PergError:
        return {}
    return {"profile": profile.model_dump(mode="json")}


def _told(folder: Path) -> str:
    """The place as it may be shown: below the repository its path, elsewhere the folder's name."""
    folder = folder.resolve()
    return folder.relative_to(ROOT).as_posix() if folder.is_relative_to(ROOT) else folder.name
