"""A profile by name or file, with the overrides of the command line, validated; and what a bad one is told.

`load_profile("demo")` reads `notebooks/profiles/demo.yaml`; a path reads that file; `overrides` are the
`--set KEY=VALUE` of the command line (dotted keys, values as YAML). An unknown key or a bad value raises
`ProfileError` with the key, the value got and what is allowed.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, ValidationError

from perg_utils.core.profile import ROOT, Profile, ProfileError

PROFILES = ROOT / "notebooks" / "profiles"


def profile_path(name_or_path: str | Path) -> Path:
    """Return the YAML file of a profile's name (`demo`) or path; raises `ProfileError` listing the known names."""
    path = Path(name_or_path)
    if path.suffix in {".yaml", ".yml"}:
        if path.is_file():
            return path
        raise ProfileError(f"profile file '{path}' does not exist")
    named = PROFILES / f"{name_or_path}.yaml"
    if named.is_file():
        return named
    known = sorted(p.stem for p in PROFILES.glob("*.yaml"))
    near = difflib.get_close_matches(str(name_or_path), known, n=1)
    hint = f" Did you mean '{near[0]}'?" if near else ""
    raise ProfileError(f"no profile '{name_or_path}'; known: {', '.join(known)}, or a path to a .yaml file.{hint}")


def load_profile(name_or_path: str | Path, overrides: Iterable[str] = ()) -> Profile:
    """Return the validated profile of that name (a file of `notebooks/profiles`) or of a YAML file.

    `overrides` are those of the command line, KEY=VALUE with dotted keys, values as YAML. A shard's profile is called
    after it, e.g. `demo.shard-2-of-8`. Raises `ProfileError` with one line for every bad key.

    >>> profile = load_profile("demo", ["data.limit=50", "models.0.batch_size=8"])
    >>> profile.data.limit, profile.models[0].batch_size, profile.judge.threshold
    (50, 8, 3)
    """
    if isinstance(overrides, str):
        raise ProfileError(f"overrides are a list, e.g. ['{overrides}'], not the text '{overrides}'")
    path = profile_path(name_or_path)
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ProfileError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(raw, dict):
        raise ProfileError(f"{path} must hold a mapping of settings, got {type(raw).__name__}")
    for item in overrides:
        _override(raw, item)
    try:
        profile = Profile.model_validate(raw)
    except ValidationError as error:
        raise ProfileError(f"profile {path} cannot be used:\n" + _explain(error)) from error
    if profile.shard is None:
        return profile
    # A shard is a run of its own, in folders of its own.
    return profile.model_copy(update={"name": f"{profile.name}.shard-{profile.shard.replace('/', '-of-')}"})


def _override(raw: dict[str, Any], item: str) -> None:
    key, sign, value = item.partition("=")
    if not sign or not key:
        raise ProfileError(f"--set takes KEY=VALUE (e.g. data.limit=50), got '{item}'")
    *parents, last = key.split(".")
    node: Any = raw
    for part in parents:
        node = node[_position(node, part, item)] if isinstance(node, list) else node.setdefault(part, {})
        if not isinstance(node, dict | list):
            hint = "; a model that is named is set where it is listed, e.g. models.0" if part == "model" else ""
            raise ProfileError(f"--set {item}: '{part}' is a plain value, it has no keys below it{hint}")
    try:
        parsed = yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ProfileError(f"--set {item}: the value is not valid YAML: {error}") from error
    node[_position(node, last, item) if isinstance(node, list) else last] = parsed


def _position(node: list[Any], part: str, item: str) -> int:
    if not part.isdecimal() or int(part) >= len(node):
        raise ProfileError(f"--set {item}: '{part}' must be a position from 0 to {len(node) - 1}")
    return int(part)


def _explain(error: ValidationError) -> str:
    lines = []
    for problem in error.errors():
        # Where several types are allowed, pydantic adds the one tried, e.g. `dict[str,int]` or `constrained-int`.
        where = ".".join(part for part in map(str, problem["loc"]) if not {"[", "-"} & set(part)) or "profile"
        if problem["type"] == "extra_forbidden":
            allowed = _fields_at(problem["loc"][:-1])
            near = difflib.get_close_matches(str(problem["loc"][-1]), allowed, n=1)
            hint = f" (did you mean '{near[0]}'?)" if near else ""
            lines.append(f"- {where}: unknown key{hint}; allowed here: {', '.join(allowed)}")
        else:
            # A base_url may hold a secret: it is not repeated.
            silent = problem["type"] == "missing" or "base_url" in problem["loc"]
            got = "" if silent else f"; got {problem['input']!r:.120}"
            lines.append(f"- {where}: {problem['msg']}{got}")
    return "\n".join(lines)


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    """The keys allowed at a place in the profile, found by walking the models' fields."""
    kind: type[BaseModel] = Profile
    for name in (part for part in location if isinstance(part, str)):
        kind = _model_in(kind.model_fields[name].annotation)
    return sorted(kind.model_fields)


def _model_in(annotation: Any) -> type[BaseModel]:
    """The model in a field's annotation, e.g. that of `list[ModelConfig]` or of `ModelConfig | None`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next(_model_in(part) for part in get_args(annotation) if part is not type(None))
