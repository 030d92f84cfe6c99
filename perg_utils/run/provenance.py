"""What a run was made of, and what it cost: configuration, commit, versions, hashes, seeds, machine, date, steps.

The manifest lies beside a run's tables and is printed in its report. Left out: anything secret (keys are never
read here) and the machine's paths and name.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from perg_utils.core.errors import PergError
from perg_utils.core.profile import ROOT, ModelConfig, Profile, place
from perg_utils.core.workspace import Workspace, file_digest, write_text
from perg_utils.engines.local.engine import hub_commit
from perg_utils.engines.local.machine import cpu_name, fast_dtype
from perg_utils.extraction.llm import extract_prompts
from perg_utils.prompts.sets import EXTRACT, load_prompts
from perg_utils.published.files import COMMIT, REPOSITORY
from perg_utils.run import spending

PACKAGES = [
    *("perg-utils", "torch", "transformers", "tokenizers", "aiohttp", "datasets", "numpy", "pandas", "pyarrow"),
    *("scipy", "matplotlib", "pydantic", "papermill", "jinja2", "peft", "safetensors"),
]

#: What a plan needs to know of each served model, with the type of each.
_SERVER = {"server": str, "version": str, "command": list}


def collect(profile: Profile, root: Path, workspace: Workspace | None = None) -> dict[str, Any]:
    """Return the manifest of a run of `profile` by the code in `root`; everything in it is plain JSON.

    An adapter that the run itself has trained is found in its `workspace`.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": git_commit(root),
        "python": platform.python_version(),
        "processor": {
            "name": cpu_name(),
            "cores": os.cpu_count(),
            "dtype": fast_dtype(),
        },
        "steps": {} if workspace is None else spending.steps(workspace),
        "system": f"{platform.system()} {platform.machine()}, {os.cpu_count()} cores",
        "packages": {name: _version(name) for name in PACKAGES},
        "seeds": {"study": profile.seed, "decoding": profile.decoding.seed},
        "preferences": file_digest(ROOT / profile.preferences),
        "prompts": {"set": profile.prompts, "hashes": load_prompts(profile.prompts).hashes | _extract_hash(profile)},
        "models": {m.name: _model(m, root) for m in profile.models},
        "extractor": _extractor(profile, root, None if workspace is None else workspace.extractor),
        # The origin of responses that no model generated here.
        "release": f"{REPOSITORY}@{COMMIT}" if profile.data.origin == "published" else None,
        # Where replicas on a cluster started servers: their versions and flags.
        "cluster": None if workspace is None else cluster(workspace),
        "profile": profile.model_dump(mode="json"),
    }


def cluster(workspace: Workspace) -> dict[str, Any] | None:
    """Return what the last run on a cluster wrote down: Ray's version, and each served model's server; None: no such
    run. Raises `PergError` where the file is damaged."""
    path = workspace.run / "cluster.json"
    if not path.is_file():
        return None
    try:
        known = json.loads(path.read_text(encoding="utf-8"))
        if all(isinstance(one[key], kind) for one in known["served"].values() for key, kind in _SERVER.items()):
            return dict(known)
        problem = "a server without its kind, words or version"
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        problem = f"{type(error).__name__}: {error}"
    raise PergError(f"{path} is damaged ({problem}); remove it: the next run with --cluster writes it anew")


def write(manifest: dict[str, Any], workspace: Workspace) -> Path:
    """Write the manifest to `manifest.json` in the run's folder and return its path."""
    return write_text(workspace.run / "manifest.json", json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")


def git_commit(root: Path) -> str | None:
    """Return the commit of the code, e.g. `433ca73... (with uncommitted changes)`; None outside a repository."""
    try:
        head = _git(root, "rev-parse", "HEAD")
        # What a run itself renders is no change of the code.
        changed = _git(root, "status", "--porcelain", "--", ".", ":(exclude)figures")
    except (OSError, subprocess.CalledProcessError):
        return None
    return f"{head} (with uncommitted changes)" if changed else head


def _git(root: Path, *words: str) -> str:
    done = subprocess.run(["git", "-C", str(root), *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def _model(config: ModelConfig, root: Path) -> dict[str, Any]:
    about = {"model": config.model, "revision": _revision(config, root), "files": _weights(config.place(root))}
    if config.adapter is not None:
        about |= {"adapter": config.adapter, "adapter_files": _weights(place(config.adapter, root))}
    return about


def _extract_hash(profile: Profile) -> dict[str, str]:
    """The hash of what the extractor's language model is asked, which may come from another set than the profile's."""
    return {EXTRACT: extract_prompts(profile).hashes[EXTRACT]} if profile.extractor.llm else {}


def _extractor(profile: Profile, root: Path, trained: Path | None) -> dict[str, Any] | None:
    """The fine-tuned layer's base and adapter, the profile's or the one that was `trained`; None without a layer."""
    config = profile.extractor
    if config.base is None:
        return None
    return {
        "base": config.base.model,
        "revision": _revision(config.base, root),
        "files": _weights(config.base.place(root)),
        "adapter": config.adapter,
        "adapter_files": _weights(root / config.adapter if config.adapter else trained),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def _revision(model: ModelConfig, root: Path) -> str | None:
    """The revision that the profile names, or the commit that a hub model is pinned to; None for anything else."""
    on_hub = model.engine == "transformers" and model.place(root) is None
    return model.revision or (hub_commit(model.model, file=model.gguf_file or "config.json") if on_hub else None)


def _weights(place: Path | None) -> dict[str, str]:
    """SHA-256 of a GGUF file, or of the files of a model's folder; empty for a name on a hub or server."""
    if place is None or not place.exists():
        return {}
    files = [place] if place.is_file() else sorted(path for path in place.glob("*") if path.is_file())
    return {path.name: file_digest(path) for path in files}
