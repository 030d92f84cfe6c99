"""The released per-example files: which there are, whose they are, and how to get and verify them.

`data/published_files.csv` lists 140 files of one pinned commit with the git blob id each must have. A file's setting,
method and model are read from its path by the explicit registries below, in the names of `data/paper_metrics.csv`.

Left out: what is inside a file (`layouts`).
"""

from __future__ import annotations

import hashlib
import http.client
import re
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import cast
from urllib.parse import quote

import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.profile import ROOT
from perg_utils.core.progress import Progress
from perg_utils.core.schema import Method, Setting, Source
from perg_utils.core.workspace import write_atomically

MANIFEST = ROOT / "data" / "published_files.csv"
COMMIT = "0521b0c5ca9e284f37c2cc7818b57d439ea39bf0"
REPOSITORY = "chimaobi-okite/pref_aligner"
ADDRESS = f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}/"
#: The released dataset: every question in released order, no responses.
DATASET = "data/robuset_main.csv"

SETTINGS = {
    "relevant": Setting.RELEVANT,
    "irrelevant_set": Setting.MIXED,  # sic: the relevant preference among irrelevant ones
    "irrelevant": Setting.IRRELEVANT,
}
METHODS = {
    "direct": Method.ZERO_SHOT,
    "cot": Method.COT,
    "icl": Method.FEW_SHOT,
    "self_critic": Method.SELF_CRITIC,
    "aligner": Method.PREF_ALIGNER,
}
SOURCES = {"truthful_qa": Source.TQA, "commonsense_qa": Source.CQA, "mmlu": Source.MMLU}
#: File name -> name in the paper's tables. GPT-4.1 is in the paper's first version only.
MODELS = {
    "Llama-3.1-8B-Instruct": "Llama3-8B",
    "Llama-3.3-70B-Instruct": "Llama3-70B",
    "Llama-3.3-70B-Instruct-Turbo": "Llama3-70B",
    "Llama-3.3-70B-Instruct-Turbo-Free": "Llama3-70B",
    "Mistral-7B-Instruct-v0.3": "Mistral-7B",
    "janus-7b": "Janus-7B",
    "Mixtral-8x7B-Instruct-v0.1": "Mixtral-8x7B",
    "gpt-4o-mini-2024-07-18": "GPT-4o-mini",
    "gpt-4.1": "GPT-4.1",
    "gpt-4.1-mini": "GPT-4.1-mini",
    "DeepSeek-R1-Distill-Llama-70B-free": "DeepSeek-R1-70B",
    "gemma-2-9b-it": "Gemma-2-9B",
    "gemma-2-27b-it": "Gemma-2-27B",
    "Qwen3-8B": "Qwen3-8B",
    "Qwen3-8B_thinking": "Qwen3-8B-Thinking",
    "Qwen3-32B": "Qwen3-32B",
    "Qwen3-32B_thinking": "Qwen3-32B-Thinking",
}
_NUMBER = r"-?\d+(?:\.\d+)?(?:e-?\d+)?"
#: model[_chunk][_rows_number_number][-method-full | -full][_eval]
_NAME = re.compile(
    rf"(?P<model>.+?)(?:_(?P<chunk>\d+))?(?:_\d+_{_NUMBER}_{_NUMBER})?(?P<full>-(?:\w+-)?full)?(?P<scored>_eval)?"
)


@dataclass(frozen=True, slots=True)
class PublishedFile:
    """What a path says: `relevant/direct/mmlu/janus-7b_3.csv` is Janus-7B, zero_shot, relevant, chunk 3 of MMLU."""

    path: str
    setting: Setting
    method: Method
    model: str
    source: Source | None
    chunk: int | None
    rank: int  # of two files with the same row the one with the lower rank is used: scored, merged, plain, by source


@dataclass(frozen=True, slots=True)
class Problem:
    """A file that cannot be used, or is not there: its path in the release, missing / altered / ..., and the reason."""

    path: str
    status: str
    reason: str


def load_manifest(path: Path = MANIFEST) -> pd.DataFrame:
    """Return the manifest, e.g. 140 rows: path, git_blob_sha1, setting, method, model, kind."""
    return pd.read_csv(path, dtype=str, keep_default_na=False)


def describe(path: str) -> PublishedFile:
    """Return whose responses the file at `path` holds. Raises `DataError` for a folder or name it does not know."""
    parts = path.split("/")
    if len(parts) < 4 or parts[-4] not in SETTINGS or parts[-3] not in METHODS:
        raise DataError(
            f"{path}: a folder of responses is called <setting>/<method>/<source or full>, with the settings "
            f"{', '.join(SETTINGS)} and the methods {', '.join(METHODS)}"
        )
    if parts[-2] != "full" and parts[-2] not in SOURCES:
        raise DataError(f"{path}: unknown source folder '{parts[-2]}'; known: full, {', '.join(SOURCES)}")
    match = _NAME.fullmatch(parts[-1].removesuffix(".csv"))
    if match is None or match["model"] not in MODELS:
        raise DataError(f"{path}: unknown model in the file name; known: {', '.join(MODELS)}")
    source = SOURCES.get(parts[-2])
    rank = 0 if match["scored"] else 1 if match["full"] else 2 if source is None else 3
    chunk = None if match["chunk"] is None else int(match["chunk"])
    return PublishedFile(path, SETTINGS[parts[-4]], METHODS[parts[-3]], MODELS[match["model"]], source, chunk, rank)


def blob_id(content: bytes) -> str:
    """Return the id git gives to a file's content, e.g. `blob_id(b"")` -> e69de29bb2d1d6434b8b29ae775ad8c2e48c5391."""
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


def find(folder: Path, manifest: pd.DataFrame) -> tuple[dict[str, Path], list[Problem]]:
    """Return the CSV files below `folder` to be read, and the files of the manifest that are missing or altered.

    The former as path in the release -> path here; `folder` may be the release's top or a folder below it. A file that
    the manifest does not list (earlier commits hold more) is read unverified. Raises `DataError` for no CSV at all.
    """
    if not folder.is_dir():
        raise DataError(f"no folder '{folder}'; give a clone of the release, or the folder of its files")
    listed = dict(zip(manifest["path"], manifest["git_blob_sha1"], strict=True))
    found = {release_path(path, folder): path for path in sorted(folder.rglob("*.csv"))}
    good: dict[str, Path] = {}
    problems: list[Problem] = []
    for name, path in found.items():
        got = blob_id(path.read_bytes()) if name in listed else None
        if got is None or got == listed[name]:
            good[name] = path
        else:
            reason = f"git blob id {got}, the manifest has {listed[name]}; fetch it again"
            problems.append(Problem(name, "altered", reason))
    for name in listed:
        if name not in found:
            problems.append(Problem(name, "missing", "listed in the manifest, not in the folder"))
    if not found:
        raise DataError(f"no CSV file below '{folder}'; give a clone of the release, or the folder of its files")
    return good, problems


def release_path(path: Path, folder: Path) -> str:
    """Return a file's path in the release, e.g. `results/mcq_results/relevant/cot/full/janus-7b.csv`."""
    name = path.resolve().as_posix()
    for top in ("/results/mcq_results/", "/data/"):
        if top in name and (top != "/data/" or name.endswith("/" + DATASET)):
            return top[1:] + name.rpartition(top)[2]
    return path.relative_to(folder).as_posix()


def download(folder: Path, manifest: pd.DataFrame, address: str = ADDRESS, workers: int = 8) -> list[Problem]:
    """Fetch the manifest's files into `folder` and return those that could not be had (missing, altered, unreachable).

    Files that are there with the right blob id are kept, so a second call resumes. A file is put in place only after
    its blob id was checked. Where the server was never reached, the rest is not tried.
    """
    rows: Sequence[tuple[str, str]] = list(zip(manifest["path"], manifest["git_blob_sha1"], strict=True))
    problems = []
    line = _Line()
    with Progress("published files", len(rows), unit="files") as progress, ThreadPoolExecutor(workers) as pool:
        for problem in pool.map(lambda row: _fetch(folder, row[0], row[1], address, line), rows):
            progress.advance()
            if problem is not None:
                problems.append(problem)
    return problems


@dataclass
class _Line:
    """Whether the server was ever reached; threads only ever set the flags."""

    reached: bool = False
    dead: bool = False


def _fetch(folder: Path, name: str, expected: str, address: str, line: _Line) -> Problem | None:
    path = folder / name
    if path.is_file() and blob_id(path.read_bytes()) == expected:
        return None
    if line.dead and not line.reached:
        return Problem(name, "unreachable", f"not tried: no connection to {address}")
    try:
        with urllib.request.urlopen(address + quote(name), timeout=60) as reply:
            line.reached = True
            content = cast(bytes, reply.read())
    except urllib.error.HTTPError as error:
        line.reached = True
        status = "missing" if error.code == 404 else "unreachable"
        return Problem(name, status, f"the server answered {error.code} {error.reason} for {address + quote(name)}")
    except (OSError, http.client.HTTPException) as error:  # URLError, a timeout, a broken-off transfer
        line.dead = True
        return Problem(name, "unreachable", f"{address + quote(name)}: {error}; try again, what is there is kept")
    if blob_id(content) != expected:
        return Problem(name, "altered", f"git blob id {blob_id(content)}, the manifest has {expected}")
    write_atomically(path, lambda draft: draft.write_bytes(content))
    return None
