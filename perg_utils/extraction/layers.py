"""The extractor's layers as a profile names them: rules always, a fine-tuned model and a language model where it does.

`answers` asks them one after the other; here they are opened, what they need is checked before a run, and what each
of them decided is counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from perg_utils.core.profile import ROOT, ExtractorConfig, Profile, place
from perg_utils.core.schema import MISSING
from perg_utils.core.workspace import Workspace
from perg_utils.engines.base import EngineError
from perg_utils.engines.journal import Journal
from perg_utils.engines.local import adapters
from perg_utils.extraction.finetuned.layer import FineTunedLayer
from perg_utils.extraction.llm import extract_prompts, open_llm
from perg_utils.extraction.reading import Layer
from perg_utils.prompts.sets import EXTRACT


def open_layers(profile: Profile, workspace: Workspace, journal: Journal) -> list[Layer]:
    """Return the layers after the rules, in the order in which they are asked; loads no weights and asks nothing.

    Raises `EngineError` where the fine-tuned model's adapter is not there.
    """
    layers: list[Layer] = []
    if profile.extractor.base is not None:
        layers.append(FineTunedLayer(profile.extractor, adapter_folder(profile.extractor, workspace)))
    llm = open_llm(profile, journal)
    return layers if llm is None else [*layers, llm]


def described(profile: Profile) -> pd.DataFrame:
    """Return the layers of a profile in their order: layer, model, how it decides."""
    rows = [("rules", "none", "the words of the response")]
    if profile.extractor.base is not None:
        sure = f"scores the options; at least {profile.extractor.min_confidence:.0%} sure"
        rows.append(("finetuned", profile.extractor.base.model, sure))
    if profile.extractor.llm is not None:
        asked = f"prompt {extract_prompts(profile).hashes[EXTRACT]}, one letter"
        rows.append(("llm", profile.extractor.llm.model, asked))
    return pd.DataFrame(rows, columns=["layer", "model", "how it decides"])


def check_extractor(config: ExtractorConfig, profile: Profile, workspace: Workspace) -> None:
    """Raise `PergError` for a prompt or an adapter's folder that cannot be used; models are checked like any others."""
    if config.llm is not None:
        extract_prompts(profile).messages(EXTRACT, response="", options=("", ""))
    own = local_adapter(config)
    if config.adapter is not None and own is None and _is_path(config.adapter):
        raise EngineError(
            f"extractor.adapter: no folder '{config.adapter}' in {ROOT} nor in {Path.cwd()}; leave it out to train one"
        )
    if own is not None and own.resolve() == workspace.extractor.resolve():
        raise EngineError(
            f"extractor.adapter is this run's own folder {own}, which is cleared where no step trains one; copy it to "
            "another place and name that"
        )


def local_adapter(config: ExtractorConfig) -> Path | None:
    """Return the folder that `extractor.adapter` names, below the repository or here; None where it is a hub id."""
    return None if config.adapter is None else place(config.adapter)


def by_layer(answers: pd.DataFrame, layers: Sequence[Layer]) -> pd.DataFrame:
    """Return a row a layer: asked, letters, none (read, and names no option), left, of these failed; and usd, its cost.

    `asked` counts rows with a response; equal responses to the same options are asked once. A `failed` reading is one
    that the layer could not make: these rows are not scored, and are asked again by the next run.
    """
    exist = answers[answers["how"] != "no_response"]
    left, out = len(exist), []
    for name, layer in [("rules", None), *((layer.name, layer) for layer in layers)]:
        own = exist[exist["layer"] == name]
        letters = int(own["answer"].notna().sum())
        counts = {"asked": left, "letters": letters, "none": len(own) - letters, "left": left - len(own)}
        left -= len(own)
        # Whoever fails is the last that is asked.
        counts["failed"] = int(exist["status"].isin(MISSING).sum()) if layers and layer is layers[-1] else 0
        out.append({"layer": name, **counts, "usd": getattr(layer, "cost", None)})
    return pd.DataFrame(out).set_index("layer").astype({"usd": "float64"})


def adapter_folder(config: ExtractorConfig, workspace: Workspace) -> Path:
    """Return the folder of the adapter: the run's own, the user's, or the hub's, fetched once."""
    if config.adapter is None:
        return workspace.extractor
    return adapters.adapter_folder(config.adapter)


def _is_path(name: str) -> bool:
    return name.count("/") != 1 or name.startswith((".", "/", "~"))
