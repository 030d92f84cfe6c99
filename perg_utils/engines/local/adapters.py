"""LoRA adapters: finding one, and putting it onto the weights it was trained on.

The base that an adapter's own config names is not looked at, so that an adapter can be moved.
"""

from __future__ import annotations

from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from safetensors import SafetensorError

from perg_utils.core.profile import place
from perg_utils.engines.base import EngineError


def adapter_folder(name: str) -> Path:
    """Return the folder of an adapter that a profile names: below the repository, here, or fetched once from the hub.

    Raises `EngineError` where it is nowhere.
    """
    found = place(name)
    if found is not None:
        return found
    from huggingface_hub import snapshot_download  # noqa: PLC0415 - slow to import
    from huggingface_hub.errors import HfHubHTTPError  # noqa: PLC0415

    try:
        return Path(snapshot_download(name, allow_patterns=["adapter_*", "training.json"]))
    except (OSError, ValueError, HfHubHTTPError) as error:
        raise EngineError(f"the adapter '{name}' can neither be found nor fetched: {error}") from error


def put_on(model: Any, folder: Path, base: str) -> Any:
    """Return `model` with the adapter of `folder` on it; `base` is what the model is called in messages.

    Raises `EngineError` where there is none, or where it does not fit.
    """
    from peft import PeftModel  # noqa: PLC0415 - slow to import

    # The library would ask the hub for files that a folder lacks.
    if not (folder / "adapter_config.json").is_file() or not list(folder.glob("adapter_model.*")):
        raise EngineError(f"there is no adapter in {folder}: adapter_config.json and adapter_model.* are looked for")
    try:
        return PeftModel.from_pretrained(model, folder).eval()
    except (OSError, ValueError, RuntimeError, LookupError, TypeError, SafetensorError, UnpicklingError) as error:
        raise EngineError(
            f"the adapter {folder} does not load onto {base}: {error}\nAn adapter fits only the model that it was "
            "trained on"
        ) from error
