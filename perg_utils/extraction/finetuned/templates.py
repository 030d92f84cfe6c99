"""What the made-up responses say: the templates of `data/extraction_templates.yaml`, loaded and checked.

The head of that file says what its kinds, parts and slots are. Left out: the filling of the slots (`corpus`).
"""

from __future__ import annotations

import itertools
import re
import string
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from perg_utils.core.errors import DataError
from perg_utils.core.profile import ROOT

TEMPLATES = ROOT / "data" / "extraction_templates.yaml"
#: The parts of the templates.
Part = Literal["train", "check", "test"]
#: The kind that names an option by its text alone.
TEXT = "text"
#: What a template may hold, and of that what tells which option it chooses.
SLOTS = frozenset({"text", "letter", "ordinal", "other", "other_letter", "rest", "alien"})
_CHOSEN = frozenset({"text", "letter", "ordinal", "rest"})
#: `[one|two]` in a template.
ALTERNATIVES = re.compile(r"\[([^\]]*)\]")


class Kind(BaseModel):
    """Templates of one kind; `label` is None where they choose the option {text}."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    label: Literal["X", "Y", "Z"] | None
    train: tuple[str, ...] = Field(min_length=1)
    check: tuple[str, ...] = Field(min_length=1)
    test: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _tells_its_label(self) -> Kind:
        for template in self.train + self.check + self.test:
            if self.label is None and not slots(template) & _CHOSEN:
                raise ValueError(
                    f"'{template}' does not tell which option it chooses; it needs one of {_named(_CHOSEN)}"
                )
        return self


class Templates(BaseModel):
    """All kinds, and the sentences that may stand before and behind a response and decide nothing."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    kinds: tuple[Kind, ...] = Field(min_length=1)
    openings: tuple[str, ...] = Field(min_length=1)
    closings: tuple[str, ...] = Field(min_length=1)

    @model_validator(mode="after")
    def _kept_apart(self) -> Templates:
        names = [kind.name for kind in self.kinds]
        if len(set(names)) < len(names) or TEXT not in names:
            raise ValueError(f"kinds need names of their own, one of them '{TEXT}'; got {names}")
        for sentence in self.openings + self.closings:
            if not slots(sentence) <= {"alien"}:
                raise ValueError(f"'{sentence}' stands beside any response; it may hold {{alien}} only")
        home: dict[str, tuple[str, str]] = {}
        for kind, part in itertools.product(self.kinds, ("train", "check", "test")):
            for text in itertools.chain.from_iterable(map(spelled_out, getattr(kind, part))):
                if home.setdefault(text, (kind.name, part)) != (kind.name, part):
                    raise ValueError(f"'{text}' stands in {home[text]} and in {(kind.name, part)}")
        return self


def slots(template: str) -> set[str]:
    """Return the names of a template's slots, e.g. `{"text"}`; raises `ValueError` for one that is not in `SLOTS`."""
    found = {name for _, name, _, _ in string.Formatter().parse(template) if name is not None}
    if not found <= SLOTS:
        raise ValueError(f"'{template}' has the slots {_named(found - SLOTS)}; there are {_named(SLOTS)}")
    return found


def spelled_out(template: str) -> Iterator[str]:
    """Yield every text that the `[one|two]` of a template stand for."""
    found = ALTERNATIVES.search(template)
    if found is None:
        yield template
        return
    for one in found[1].split("|"):
        yield from spelled_out(template[: found.start()] + one + template[found.end() :])


@lru_cache
def load_templates(path: Path = TEMPLATES) -> Templates:
    """Return the templates of a file, checked. Raises `DataError` that says all that is wrong with it."""
    try:
        return Templates.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except OSError as error:
        raise DataError(f"the extractor's templates cannot be read: {error}") from error
    except yaml.YAMLError as error:
        raise DataError(f"{path} cannot be used: {error}") from error
    except ValidationError as error:
        wrong = [f"{'.'.join(map(str, one['loc'])) or 'file'}: {one['msg']}" for one in error.errors()]
        raise DataError(f"{path} cannot be used: {'; '.join(wrong)}") from error


def _named(names: set[str] | frozenset[str]) -> str:
    return ", ".join(f"{{{name}}}" for name in sorted(names))
