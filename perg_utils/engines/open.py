"""The engine that a profile's model asks for. Opening is cheap: weights and keys wait for the first request."""

from __future__ import annotations

from ..profile import ModelConfig
from .api_engine import ApiEngine
from .base import Engine
from .transformers_engine import TransformersEngine

ENGINES: dict[str, type[TransformersEngine] | type[ApiEngine]] = {"transformers": TransformersEngine, "api": ApiEngine}


def open_engine(model: ModelConfig) -> Engine:
    """Return the engine of `model`, e.g. a `TransformersEngine`; its `identity` can be read without loading anything.

    Raises `EngineError` when a local model folder is missing.
    """
    return ENGINES[model.engine](model)
