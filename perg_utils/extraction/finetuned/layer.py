"""The fine-tuned layer of the extractor: what the rules leave undecided is scored by a model (paper, section 3.3).

It speaks only where it is sure: below the profile's `min_confidence`, and where its choice is *undecided*, the case
stays undecided for the next layer. Only letters of the case's options can be chosen, whatever a response says.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perg_utils.core.profile import ExtractorConfig
from perg_utils.core.schema import Status
from perg_utils.extraction.reading import LABELS, NONE, REFUSED, UNDECIDED, Case, ExtractorError, Reading

if TYPE_CHECKING:
    from perg_utils.extraction.finetuned.scoring import Scorer

#: What the table calls this layer.
NAME = "finetuned"


class FineTunedLayer:
    """A base model with the adapter in the folder `adapter`; the weights are loaded at the first case."""

    name = NAME

    def __init__(self, config: ExtractorConfig, adapter: Path) -> None:
        self._config, self._adapter = config, adapter
        self._temperature = 1.0
        self._scorer: Scorer | None = None

    def read(self, cases: Sequence[Case]) -> list[Reading]:
        """Return what each case names, e.g. `Reading("B", "scored", Status.OK, confidence=0.98, layer="finetuned")`.

        Raises `ExtractorError` where base or adapter cannot be loaded.
        """
        return [self._decide(label, sure) for label, sure in self.choices(cases)]

    def choices(self, cases: Sequence[Case]) -> list[tuple[str | None, float]]:
        """Return the most probable label of each case (letter, X, Y, Z) and its probability.

        The label is None, and the probability 0, where a case is too long or has more options than there are letters.
        """
        if not cases:
            return []
        scorer = self._load()
        out: list[tuple[str | None, float]] = []
        for scores in scorer.read(cases):
            shares = None if scores is None else (scores / self._temperature).softmax(-1)
            out.append((None, 0.0) if shares is None else (LABELS[int(shares.argmax())], float(shares.max())))
        return out

    def _decide(self, label: str | None, sure: float) -> Reading:
        if label is None:
            return Reading(None, "too_long", Status.UNPARSABLE, layer=NAME)
        if label == UNDECIDED or not sure >= self._config.min_confidence:  # nor is what is no number
            return Reading(None, "unsure", Status.UNPARSABLE, confidence=sure, layer=NAME)
        if label == NONE:
            return Reading(None, "none_of_the_options", Status.UNPARSABLE, confidence=sure, layer=NAME)
        if label == REFUSED:
            return Reading(None, "refusal", Status.REFUSED, confidence=sure, layer=NAME)
        return Reading(label, "scored", Status.OK, confidence=sure, layer=NAME)

    def _load(self) -> Scorer:
        if self._scorer is None:
            from perg_utils.extraction.finetuned.scoring import Scorer  # noqa: PLC0415 - imports torch

            scorer = Scorer(self._config, self._adapter)
            about = trained_as(self._adapter)
            if about is not None:
                self._check(about, scorer)
                self._temperature = float(about["temperature"])
            self._scorer = scorer
        return self._scorer

    def _check(self, about: dict[str, Any], scorer: Scorer) -> None:
        """Raise `ExtractorError` where an adapter trained here is used on other weights, or asked in another form."""
        trained = {"base": about["base"]["revision"], "form": about["form"]}
        now = {"base": scorer.revision, "form": {"template": self._config.template, "option": self._config.option}}
        wrong = [key for key in now if trained[key] != now[key]]
        if wrong:
            raise ExtractorError(
                f"the adapter {self._adapter} was trained with another {' and '.join(wrong)} "
                f"({', '.join(str(trained[key]) for key in wrong)}); name that in the profile, or run "
                "02_train_extractor again"
            )


def trained_as(adapter: Path) -> dict[str, Any] | None:
    """Return what `training.json` beside an adapter says; None for adapters that others trained.

    Raises `ExtractorError` for a file that `training.train` has not written so.
    """
    path = adapter / "training.json"
    if not path.is_file():
        return None
    try:
        about = json.loads(path.read_text(encoding="utf-8"))
        whole = {"revision"} <= set(about["base"]) and set(about["form"]) == {"template", "option"}
        if not (whole and float(about["temperature"]) > 0):
            raise ValueError("no revision, form or temperature above 0")
    except (ValueError, LookupError, TypeError) as error:
        raise ExtractorError(f"{path} cannot be read ({error}); run 02_train_extractor again") from error
    return about
