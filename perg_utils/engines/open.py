"""The engine that a profile's model asks for. Opening is cheap: weights and keys wait for the first request.

On a cluster (the environment variable `PERG_CLUSTER`, which a run's driver sets for its notebooks) the same model's
replicas are asked there. A model asked through a Batch API is not: its server spreads the work itself.
"""

from __future__ import annotations

import os

from perg_utils.core.profile import ModelConfig
from perg_utils.engines.api.engine import ApiEngine
from perg_utils.engines.base import Engine
from perg_utils.engines.local.engine import TransformersEngine


def open_engine(model: ModelConfig, *, fetch: bool = True) -> Engine:
    """Return the engine of `model`, e.g. a `TransformersEngine`; its `identity` can be read without loading weights.

    `fetch` allows to ask the hub which commit of a model is the newest, once, if the cache does not say; a plan
    must not. Raises `EngineError` when a local model folder is missing.
    """
    plain = ApiEngine(model) if model.engine == "api" else TransformersEngine(model, fetch=fetch)
    if not os.environ.get("PERG_CLUSTER") or model.batch:
        return plain
    from perg_utils.engines.cluster.connection import Where  # noqa: PLC0415 - only on clusters
    from perg_utils.engines.cluster.engine import ClusterEngine  # noqa: PLC0415

    where = Where.current()
    return plain if where is None else ClusterEngine(model, plain, where)


def check_engine(model: ModelConfig) -> None:
    """Raise `EngineError` for what can be known before anything is asked: a missing folder, a missing key."""
    engine = open_engine(model, fetch=False)
    plain = getattr(engine, "plain", engine)
    if isinstance(plain, ApiEngine):
        plain.check()
