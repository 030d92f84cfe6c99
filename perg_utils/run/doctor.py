"""What this machine can run: versions, memory, GPU, disk, keys, hub and servers, and which profiles that allows.

Nothing is downloaded and no key is shown, only whether it is set. Memory needs are estimates from the number of
parameters in a model's name (or from the size of a local folder); where neither says, nothing is known of the need.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import psutil

from perg_utils.core.errors import PergError
from perg_utils.core.loading import PROFILES, load_profile
from perg_utils.core.profile import ROOT, ModelConfig, Profile, ProfileError
from perg_utils.core.workspace import Workspace
from perg_utils.engines.local.machine import fast_dtype
from perg_utils.extraction.layers import check_extractor

PACKAGES = ("torch", "transformers", "tokenizers", "datasets", "aiohttp", "pandas", "pyarrow", "papermill")
HUB = "https://huggingface.co"
#: Bytes a parameter; 4-bit weights include their scales.
_BYTES = {"float32": 4.0, "bfloat16": 2.0, "float16": 2.0, "auto": 2.0}
_NF4_BYTES = 0.6
#: Open chat models and their billions of parameters, from small to large: which of them fit is told.
SMALL_MODELS = {
    "SmolLM2-135M-Instruct": 0.135,
    "Qwen2.5-0.5B-Instruct": 0.49,
    "Llama-3.2-1B-Instruct": 1.24,
    "Qwen2.5-1.5B-Instruct": 1.54,
    "Qwen2.5-3B-Instruct": 3.09,
    "Qwen2.5-7B-Instruct": 7.62,
    "Llama-3.1-8B-Instruct": 8.03,
}
# A packed file of about 4.8 bits a weight, unpacked to 16 bits.
_UNPACKED = 3.3
#: Room beside the weights for activations and the cache of keys and values.
_HEADROOM = 1.2
_BATCH = 2.0  # GB
_TIMEOUT = 3.0


@dataclass(frozen=True)
class Machine:
    """What was found here. Memory and disk in GB; `gpus` holds (name, GB)."""

    memory: float
    disk: float
    gpus: tuple[tuple[str, float], ...] = ()
    hub: bool = False
    keys: frozenset[str] = frozenset()
    servers: dict[str, bool] = field(default_factory=dict)  # base_url -> reachable
    cached: Callable[[ModelConfig], bool] = lambda model: False  # weights already in the hub's cache


def report() -> str:
    """Return the report as text; it ends with each profile of the repository: it can run here, or what it lacks."""
    profiles = _profiles()
    machine = look(profiles)
    versions = ", ".join(f"{name} {_version(name)}" for name in PACKAGES)
    gpus = ", ".join(f"{name} ({memory:.0f} GB)" for name, memory in machine.gpus) or "none"
    hub = "reachable" if machine.hub else "off (HF_HUB_OFFLINE)" if _offline() else "not reachable"
    lines = [
        f"python    {platform.python_version()} on {platform.system()} {platform.machine()}",
        f"packages  {versions}",
        f"cpu       {os.cpu_count()} cores, {machine.memory:.0f} GB memory",
        f"gpu       {gpus}",
        f"models    {fitting(machine)}",
        f"disk      {machine.disk:.0f} GB free in {ROOT}",
        f"hub       {hub}",
        *(f"key       {name}: {'set' if name in machine.keys else 'not set'}" for name in _key_names(profiles)),
        *(f"server    {url}: {'reachable' if up else 'not reachable'}" for url, up in machine.servers.items()),
        "",
        "profiles",
    ]
    for name, profile in profiles.items():
        lacks = [str(profile)] if isinstance(profile, ProfileError) else obstacles(profile, machine)
        lines.append(f"  {name}: {'can run here' if not lacks else 'cannot run here'}")
        lines += [f"    - {lack}" for lack in lacks]
    return "\n".join(lines)


def fitting(machine: Machine) -> str:
    """Return which of `SMALL_MODELS` fit into memory, in what `dtype: auto` is here, with room for a batch."""
    kind = "bfloat16" if machine.gpus else fast_dtype()
    room = sum(memory for _, memory in machine.gpus) if machine.gpus else machine.memory
    fit = [name for name, size in SMALL_MODELS.items() if size * _BYTES[kind] * _HEADROOM + _BATCH < room]
    where = "on the GPU" if machine.gpus else "on the processor"
    return f"{where} in {kind}, these fit: {', '.join(fit) or 'none'}"


def obstacles(profile: Profile, machine: Machine) -> list[str]:
    """Return what keeps `profile` from running on `machine`, one line each; empty when nothing is known to."""
    found = []
    if profile.data.origin == "hub" and not machine.hub:
        found.append("questions come from the hub, which is not reachable (questions already in its cache can be used)")
    if profile.data.origin == "local" and profile.data.path is not None and not (ROOT / profile.data.path).is_dir():
        found.append(f"data.path {profile.data.path} does not exist")
    found += _adapter_obstacles(profile)
    missing = {}
    for model in profile.all_models():
        found += _model_obstacles(model, machine)
        if model.engine == "transformers" and not looks_local(model) and not machine.cached(model):
            missing[model.model] = (model.billions() or 0) * _BYTES["bfloat16"]  # also what will be 4-bit
    if missing and not machine.hub:
        found.append(f"weights are not in the hub's cache and the hub is not reachable: {', '.join(missing)}")
    download = sum(missing.values())
    if download > machine.disk:
        found.append(f"weights need about {download:.0f} GB of disk; {machine.disk:.0f} GB are free")
    return list(dict.fromkeys(found))


def _adapter_obstacles(profile: Profile) -> list[str]:
    try:
        check_extractor(profile.extractor, profile, Workspace.of(ROOT, profile.name))
    except PergError as error:
        return [str(error)]
    return []


def _model_obstacles(model: ModelConfig, machine: Machine) -> list[str]:
    if model.engine == "api":
        down = [url for url in _servers(model) if machine.servers.get(url) is False]
        if down:
            return [f"{model.name}: server {url} is not reachable" for url in down]
        local = bool(_servers(model)) and all(map(is_local, _servers(model)))
        missing = model.api_key_env not in machine.keys and not local
        return [f"{model.name}: key {model.api_key_env} is not set"] if missing else []
    found = []
    if looks_local(model) and model.place() is None:
        kind = "file" if model.model.endswith(".gguf") else "folder"
        found.append(f"{model.name}: {kind} {model.model} does not exist")
    if model.quantization is not None and not machine.gpus:
        found.append(f"{model.name}: {model.quantization} weights need a CUDA GPU")
    elif model.quantization is not None and importlib.util.find_spec("bitsandbytes") is None:
        found.append(f"{model.name}: {model.quantization} weights need the package bitsandbytes")
    need, where, room = memory_need(model), "GPU", sum(memory for _, memory in machine.gpus)
    if not machine.gpus:
        where, room = "main", machine.memory
    if need is not None and need > room:
        found.append(f"{model.name}: needs about {need:.0f} GB of {where} memory; this machine has {room:.0f} GB")
    return found


def memory_need(model: ModelConfig) -> float | None:
    """Return the estimated memory in GB, e.g. 19.2 for an 8B model in bfloat16; None where nothing says."""
    if (place := model.place()) is not None:
        packed = [place] if place.is_file() else [place / model.gguf_file] if model.gguf_file else []
        dense = () if packed else place.glob("*.safetensors")
        sizes = [_UNPACKED * path.stat().st_size for path in packed if path.is_file()]
        return (sum(sizes) + sum(path.stat().st_size for path in dense)) * _HEADROOM / 1e9
    billions = model.billions()
    bytes_each = _NF4_BYTES if model.quantization == "nf4" else _BYTES[model.dtype]
    return None if billions is None else billions * bytes_each * _HEADROOM


def looks_local(model: ModelConfig) -> bool:
    """Return whether `model` names a folder or file rather than a hub id (`owner/name`)."""
    by_path = model.model.count("/") > 1 or model.model.startswith((".", "/", "~")) or model.model.endswith(".gguf")
    return by_path or model.place() is not None


def is_local(url: str | None) -> bool:
    """Return whether a server runs on this machine, e.g. `http://localhost:8000/v1`; such servers need no key."""
    return url is not None and urlsplit(url).hostname in {"localhost", "127.0.0.1", "::1"}


def look(profiles: dict[str, Profile | ProfileError]) -> Machine:
    """Return what this machine has, as far as the given profiles ask; waits some seconds for hub and servers."""
    models = [model for profile in profiles.values() if isinstance(profile, Profile) for model in profile.all_models()]
    urls = sorted({url for model in models for url in _servers(model)})
    return Machine(
        memory=psutil.virtual_memory().total / 1e9,
        disk=shutil.disk_usage(ROOT).free / 1e9,
        gpus=_gpus(),
        hub=not _offline() and reachable(os.environ.get("HF_ENDPOINT", HUB)),
        keys=frozenset(name for name in _key_names(profiles) if os.environ.get(name)),
        servers={url: reachable(url) for url in urls if is_local(url) or not _offline()},
        cached=_cached,
    )


def reachable(url: str) -> bool:
    """Return whether a server answers at `url` within a few seconds; an HTTP error is an answer."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=_TIMEOUT):
            return True
    except urllib.error.HTTPError:
        return True
    except (OSError, ValueError):  # URLError and timeouts are OSErrors; ValueError: not a URL
        return False


def _cached(model: ModelConfig) -> bool:
    from huggingface_hub import try_to_load_from_cache  # noqa: PLC0415 - half a second

    try:
        return isinstance(try_to_load_from_cache(model.model, "config.json", revision=model.revision), str)
    except ValueError:  # not a valid hub id
        return False


def _gpus() -> tuple[tuple[str, float], ...]:
    import torch  # noqa: PLC0415 - seconds

    if not torch.cuda.is_available():
        return ()
    found = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
    return tuple((gpu.name, gpu.total_memory / 1e9) for gpu in found)


def _profiles() -> dict[str, Profile | ProfileError]:
    found: dict[str, Profile | ProfileError] = {}
    for path in sorted(PROFILES.glob("*.yaml")):
        try:
            found[path.stem] = load_profile(path)
        except ProfileError as error:
            found[path.stem] = error
    return found


def _servers(model: ModelConfig) -> list[str]:
    return [model.base_url] if isinstance(model.base_url, str) else model.base_url or []


def _key_names(profiles: dict[str, Profile | ProfileError]) -> list[str]:
    models = [model for profile in profiles.values() if isinstance(profile, Profile) for model in profile.all_models()]
    return [*sorted({model.api_key_env for model in models if model.engine == "api"}), "HF_TOKEN"]


def _offline() -> bool:
    return os.environ.get("HF_HUB_OFFLINE", "").upper() in {"1", "ON", "YES", "TRUE"}


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "missing"
