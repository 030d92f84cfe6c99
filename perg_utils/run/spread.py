"""A run on a cluster (`--cluster`): Ray joined when a step needs it, steps of several models at once, their table.

Notebooks find the cluster by an environment variable and ask their models there (`engines.cluster`); nothing in the
profile changes, and neither do the tables. Without `--cluster` nothing here does anything.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any, Self

from perg_utils.core.errors import PergError
from perg_utils.core.profile import ModelConfig, Profile
from perg_utils.core.progress import clock
from perg_utils.core.workspace import Workspace, digest, write_text
from perg_utils.engines.api.pricing import cost_of
from perg_utils.engines.open import open_engine
from perg_utils.inference.requests import pair
from perg_utils.run import provenance
from perg_utils.run.state import Step

if TYPE_CHECKING:
    from perg_utils.engines.cluster.connection import Cluster
    from perg_utils.run.pipeline import Command
    from perg_utils.run.together import Job

#: Notebooks at once; each takes a few hundred megabytes of the driver's machine.
MOST = 16
#: What workers need of the environment besides the keys of the profile's models.
_PASSED = ("HF_TOKEN", "HF_HUB_OFFLINE")
#: And of the storage, where that is an object store; not what names files, profiles or roles of this machine.
_OF_STORAGE = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_ENDPOINT_URL",
    "AWS_ENDPOINT_URL_S3",
    "AWS_REGION",
    "AWS_DEFAULT_REGION",
    "GOOGLE_CLOUD_PROJECT",
)


@contextmanager
def planned(command: Command, profile: Profile, workspace: Workspace) -> Iterator[str]:
    """Let engines be those that the run would have on its cluster, for a plan; nothing is started.

    Replies of a served model have its server's version in their key. Which one that is a plan cannot ask: it goes by
    what the last run on a cluster wrote down. Gives a line that says so; an empty one where no model is served.
    """
    from perg_utils.engines.cluster.connection import VARIABLE, Where  # noqa: PLC0415 - only on clusters

    served = on_servers(command, profile)
    if not served:
        yield ""
        return
    known = provenance.cluster(workspace) or {"served": {}}
    versions = {" ".join([one["server"], *one["command"]]): one["version"] for one in known["served"].values()}
    usual = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = Where("", "", command.storage or str(workspace.run / "blocks"), versions).text()
    try:
        found = ", ".join(f"{name} {version}" for name, version in versions.items())
        by = f"as of the last run on a cluster ({found})" if found else "none so far, so none of their replies is known"
        yield f"servers of {', '.join(served)}: {by}"
    finally:
        os.environ.pop(VARIABLE)
        if usual is not None:
            os.environ[VARIABLE] = usual


def on_servers(command: Command, profile: Profile) -> list[str]:
    """Return the names of the models that the run's cluster would start servers for."""
    if command.cluster is None:
        return []
    from perg_utils.engines.cluster import serving  # noqa: PLC0415 - only on clusters

    return [model.name for model in _models(profile) if serving.kind(model) != "none"]


def _models(profile: Profile) -> list[ModelConfig]:
    return [model for model in profile.all_models() if model is not profile.extractor.base]


class Spread:
    """The cluster of a run, a context manager; without one, steps run one after the other, as ever."""

    def __init__(self, command: Command, profile: Profile, workspace: Workspace) -> None:
        self.command, self.profile, self.workspace = command, profile, workspace
        self.cluster: Cluster | None = None
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self.cluster is not None:
            from perg_utils.engines.cluster.blocks import Blocks  # noqa: PLC0415 - only on clusters
            from perg_utils.engines.cluster.connection import VARIABLE  # noqa: PLC0415

            os.environ.pop(VARIABLE, None)
            Blocks(self.cluster.where.storage).tidy()
        self._stack.close()

    def together(self, chosen: Sequence[Step]) -> Iterator[list[Step]]:
        """Yield the steps that run at once: one by one, or on a cluster those of models that share no weights.

        Models with the same weights share replies, and the second must find those of the first.
        """
        batch: list[Step] = []
        weights: set[str] = set()
        for step in chosen:
            own = self._weights(step)
            if batch and (self.command.cluster is None or not own or own & weights or len(batch) == MOST):
                yield batch
                batch, weights = [], set()
            if own is None:
                yield [step]
                continue
            batch.append(step)
            weights |= own
        if batch:
            yield batch

    def _weights(self, step: Step) -> set[str] | None:
        """What a step's models are known by; None for a step that runs by itself."""
        if step.model is None or self.command.cluster is None:
            return None
        return {digest(dict(open_engine(side).identity)) for side in pair(self.profile, step.model)}

    def ready_for(self, steps: Sequence[Step]) -> None:
        """Start or join Ray, once, if any of these steps may ask a model."""
        asks = any(step.model is not None or step.asks in {"judges", "extractor", "writer"} for step in steps)
        if self.command.cluster is None or self.cluster is not None or not asks:
            return
        from perg_utils.engines.cluster.blocks import Blocks  # noqa: PLC0415 - only on clusters
        from perg_utils.engines.cluster.connection import VARIABLE, running  # noqa: PLC0415

        storage = self.command.storage or str(self.workspace.run / "blocks")
        Blocks(storage).check()
        namespace = f"perg-{digest(str(self.workspace.run))}"
        self.cluster = self._stack.enter_context(
            running(self.command.cluster, namespace, storage, keys=self._keys(storage))
        )
        told = f", dashboard: http://{self.cluster.dashboard}" if self.cluster.dashboard else ""
        print(f"cluster: Ray at {self.cluster.where.address}, {self.cluster.room()}{told}", flush=True)
        os.environ[VARIABLE] = self.cluster.where.text()
        versions = self._versions()
        if versions:
            from dataclasses import replace  # noqa: PLC0415

            os.environ[VARIABLE] = replace(self.cluster.where, versions=versions).text()
        self._write_down()

    def _keys(self, storage: str) -> dict[str, str]:
        """What workers are to find in their environment: keys of servers and of the storage."""
        names = {model.api_key_env for model in _models(self.profile)} | set(_PASSED)
        if "://" in storage and not storage.startswith("file://"):
            names |= {*_OF_STORAGE, *(name for name in os.environ if name.startswith("FSSPEC_"))}
        return {name: os.environ[name] for name in sorted(names) if os.environ.get(name)}

    def _versions(self) -> dict[str, str]:
        """The versions of the servers that replicas start, found out on a node for each kind."""
        from perg_utils.engines.cluster import serving  # noqa: PLC0415 - only on clusters
        from perg_utils.engines.cluster.engine import version_key  # noqa: PLC0415

        assert self.cluster is not None
        found: dict[str, str] = {}
        for model in _models(self.profile):
            if serving.kind(model) == "none" or version_key(model) in found:
                continue
            found[version_key(model)] = version = self.cluster.version(model)
            if version == serving.UNKNOWN:
                raise PergError(
                    f"'{model.name}': no {serving.kind(model)} on the cluster's nodes: install it there, name what "
                    "starts it (replica.command), or run the weights in the replica's process (replica.server: none)"
                )
            print(f"cluster: {model.name} is served by {serving.kind(model)} {version}", flush=True)
        return found

    def _write_down(self) -> None:
        """What the manifest says of the cluster, in `cluster.json`."""
        from importlib.metadata import version  # noqa: PLC0415

        from perg_utils.engines.cluster import serving  # noqa: PLC0415 - only on clusters

        served = {
            model.name: serving.describe(model, open_engine(model).identity)
            for model in _models(self.profile)
            if serving.kind(model) != "none"
        }
        known = {"ray": version("ray"), "served": served}
        write_text(self.workspace.run / "cluster.json", json.dumps(known, indent=1, sort_keys=True) + "\n")

    def table(self, jobs: Sequence[Job]) -> list[str]:
        """Return the lines that say how far the models are that run at once."""
        cost = cost_of(self.profile.all_models())
        pools = {} if self.cluster is None else {row["model"]: row for row in self.cluster.status()}
        rows = [_row(job, pools, self.profile, cost) for job in jobs]
        head = ["model", "now", "units", "waiting", "rows/s", "tokens/s", "USD", "replicas", "left", ""]
        widths = [max(len(row[i]) for row in [head, *rows]) for i in range(len(head))]
        lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in [head, *rows]]
        return [line.rstrip() for line in lines]


def _row(job: Job, pools: Mapping[str, Mapping[str, Any]], profile: Profile, cost: Any) -> list[str]:
    name = str(job.step.model)
    # Models with the same weights share replicas, which are called after the first of them.
    pool = pools.get(name) or {}
    now = f"{job.said['label']}: {job.said['done']:,}/{job.said['total']:,}" if "label" in job.said else "starting"
    now = now.removeprefix(f"{name}, ")
    if not pool:
        return [name, now, *[""] * 8]
    rate, waiting = pool["rate"], pool["waiting"]
    spent = cost(profile.model(name).model, 0, pool["tokens"]) if cost else None
    return [
        name,
        now,
        f"{pool['done']}/{pool['submitted']}" + (f" ({pool['aside']} set aside)" if pool["aside"] else ""),
        f"{waiting:,}",
        f"{rate:.1f}",
        f"{pool['token_rate']:.0f}",
        "" if spent is None else f"{spent:.2f}",
        f"{pool['replicas']}" + (f"+{pool['starting']}" if pool["starting"] else ""),
        clock(waiting / rate) if rate else "?",
        pool["reason"][:80],
    ]
