"""What an export of a run is made of, whatever its format: tables, manifest, and whether texts may go along.

Texts of the invented world are this project's own and go along. Texts of other questions, options, responses and
judges belong to others: they stay here unless the user asks for them, and the export says so. Folders of a machine and
addresses of servers never leave.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.profile import ROOT
from perg_utils.core.results import Results
from perg_utils.core.schema import TABLES, TEXT_COLUMNS
from perg_utils.core.workspace import file_digest

#: Said in place of a text that stayed where it was.
NOT_SHIPPED = "not shipped: a text of others; example_id and source name it"
#: A folder on somebody's machine.
_FOLDER = re.compile(r"(?<![\w./<:])/(?:home|root|tmp|work|Users|var|private|mnt|opt)/[^\s\"'<>)\],]*")
#: Keys of a profile that may name a server or hold a secret.
_PRIVATE = {"base_url", "extra_body", "api_key_env"}


@dataclass(frozen=True)
class Export:
    """A run ready to be written in some format: tables by name, texts taken out unless `texts`."""

    name: str
    tables: dict[str, pd.DataFrame]
    manifest: dict[str, Any]
    texts: bool
    invented: bool
    left_out: dict[str, list[str]]

    @property
    def profile(self) -> dict[str, Any]:
        """The profile as the manifest has it."""
        return dict(self.manifest.get("profile") or {})

    @property
    def title(self) -> str:
        """The profile's title, or the run's name."""
        return str(self.profile.get("title") or self.name)

    @property
    def version(self) -> str:
        """The version of PERG that made the run, or `unknown`."""
        return str((self.manifest.get("packages") or {}).get("perg-utils") or "unknown")

    @property
    def confidence(self) -> float:
        """The level of the run's intervals, e.g. 0.95."""
        return float((self.profile.get("statistics") or {}).get("confidence", 0.95))

    @property
    def said_of_texts(self) -> str:
        """One sentence on which texts are in the export."""
        if self.invented:
            return "All texts are in it: they are about an invented world, made for this project."
        if self.texts:
            return "Texts of questions, options and responses are in it, because the user asked for them."
        return (
            "Texts of questions, options, responses and judges are not in it: they are others'. Example ids name the "
            "rows of the sources."
        )


def gathered(found: Results, texts: bool = False) -> Export:
    """Return the export of a run or of its results without texts.

    `texts`: with those of others, too. Raises `DataError` for results that hold no scores, such as printed figures.
    """
    if found.scores is None or found.folder is None:
        raise DataError(
            f"{found.place} ({found.kind}) holds no scores, so there is nothing an export could be checked by; give a "
            f"run (data/runs/NAME) or a folder of `python -m perg_utils results`"
        )
    origin = (found.profile.get("data") or {}).get("origin")
    invented = found.world == "invented" and origin == "embedded"
    tables, left_out = dict[str, pd.DataFrame](), dict[str, list[str]]()
    for name in TABLES:
        table = found.metrics if name == "metrics" else found.scores if name == "scores" else found.table(name)
        if table is None:
            continue
        own = _texts(name, found.manifest)
        gone = [] if texts or invented else [column for column in table if column in own]
        left_out |= {name: gone} if gone else {}
        tables[name] = table.drop(columns=gone)
    return Export(found.name, tables, public(found.manifest), texts, invented, left_out)


def public(manifest: dict[str, Any]) -> dict[str, Any]:
    """Return a manifest without addresses of servers and without folders of this machine."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: clean(own) for key, own in value.items() if key not in _PRIVATE}
        if isinstance(value, list):
            return [clean(own) for own in value]
        return _FOLDER.sub(lambda path: Path(path[0]).name, value) if isinstance(value, str) else value

    return dict(clean(json.loads(json.dumps(manifest, default=str))))


def _texts(table: str, manifest: dict[str, Any]) -> set[str]:
    """Columns of a table that hold texts of others; a bank of preferences does where it is not the shipped one."""
    if table != "preferences":
        return set(TEXT_COLUMNS)
    shipped = manifest.get("preferences") == file_digest(ROOT / "data" / "preferences.csv")
    return set() if shipped else {"text"}
