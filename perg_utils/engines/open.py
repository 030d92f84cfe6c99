"""The engine that a profile's model asks for. Opening is cheap: weights and keys wait for the first request."""

from __future__ import annotations

from perg_utils.core.profile import ModelConfig
from perg_utils.engines.api.engine import ApiEngine
from perg_utils.engines.base import Engine
from perg_utils.engines.local.engine import TransformersEngine


def open_engine(model: ModelConfig, *, fetch: bool = True) -> Engine:
    """Return the engine of `model`, e.g. a `TransformersEngine`; its `identity` can be read without loading weights.

    `fetch` allows to ask the hub which commit of a model is the newest, once, if the cache does not say; a plan
    must not. Raises `EngineError` when a local model folder is missing.
    """
    return ApiEngine(model) if model.engine == "api" else TransformersEngine(model, fetch=fetch)


def check_engine(model: ModelConfig) -> None:
    """Raise `EngineError` for what can be known before anything is asked: a missing folder, a missing key."""
    engine = open_engine(model, fetch=False)
    if isinstance(engine, ApiEngine):
        engine.check()
