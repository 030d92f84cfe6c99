"""What a run is made of, as hashes: code, pinned versions, committed data, the user's own files, and local weights."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from perg_utils.core.profile import ROOT, Profile
from perg_utils.core.workspace import file_digest


def ingredients(profile: Profile) -> dict[str, str]:
    """Return path (relative to the repository) -> SHA-256 of what shapes a run and is the same wherever it runs.

    That is this package's code, the pinned versions, the committed data, and the user's own files in the profile.
    """
    found = [path for path in (ROOT / "perg_utils").rglob("*") if "__pycache__" not in path.parts]
    found += [*(ROOT / "data").glob("*.csv"), *(ROOT / "data").glob("*.yaml"), ROOT / "constraints.txt"]
    rubrics = [Path(judge.prompts) for judge in profile.all_judges() if judge.prompts is not None]
    found.append(ROOT / profile.preferences)
    own = (profile.data.path, Path(profile.prompts), *rubrics)
    for folder in (ROOT / "data" / "prompts", ROOT / "data" / "embedded", *own):
        if folder is not None and folder.suffix in {".yaml", ".yml"}:
            found.append(folder)
        elif folder is not None and folder.parts and folder.is_dir():
            found.extend(folder.rglob("*"))
    return {os.path.relpath(path, ROOT): file_digest(path) for path in sorted(set(found)) if path.is_file()}


def local_weights(profile: Profile) -> dict[str, Any]:
    """Return size and date of the files of models that are local folders; too large to be read at every call."""
    found: set[Path] = set()
    here = [model for model in profile.all_models() if model.engine == "transformers"]
    adapters = [*(model.adapter for model in here), profile.extractor.adapter]
    for name in [*(model.model for model in here), *filter(None, adapters)]:
        # Where the engine looks, and in its order.
        folder = next((f for f in (ROOT / name, Path(name)) if f.is_dir()), None)
        # The content of the embedded models' files is read, see `ingredients`.
        if folder and (ROOT / "data" / "embedded") not in folder.resolve().parents:
            found |= {path for path in folder.rglob("*") if path.is_file()}
    return {str(path): (path.stat().st_size, path.stat().st_mtime) for path in sorted(found)}
