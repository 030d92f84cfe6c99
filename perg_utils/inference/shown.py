"""What a row's setting shows: preferences, sentences, another wording or order; and the task the methods are given.

All is drawn by seed and question, so that a setting shows a question the same on every machine. What was drawn stands
in `shown_preferences`: the ids of preferences, `fact-07`, `placebo-03`, `wording-2`, `order-CAB` (what is shown as A is
the question's C), `belief-B`, `draw-1`. In a control no preference is shown: each method is asked as it is without one,
and only what the setting is about is changed.
"""

from __future__ import annotations

import random
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal, NamedTuple

import pandas as pd

from perg_utils.core.schema import LETTERS, Setting, Source
from perg_utils.dataset import orders, preferences
from perg_utils.inference.methods import Task
from perg_utils.prompts.sets import PromptSet

#: Neutral sentences in `placebo_long`, as many as mixed shows preferences; facts around the preference in `memory`.
LONG, FACTS = preferences.IRRELEVANT_SHOWN + 1, 12
#: Draws of six sentences, of which the one nearest in length to the mixed preferences is shown.
_TRIES = 40


class Shown(NamedTuple):
    """The ids of what is shown, for the table 'responses', and the task that shows it."""

    ids: list[str]
    task: Task


@dataclass(frozen=True)
class Deck:
    """What settings draw from: the table 'preferences', the prompt set's sentences, and the study's seed."""

    bank: pd.DataFrame
    prompts: PromptSet
    seed: int

    @cached_property
    def texts(self) -> dict[str, str]:
        """The preferences' texts by id."""
        return dict(zip(self.bank["preference_id"], self.bank["text"], strict=True))

    def show(self, example: Mapping[Hashable, Any], preference_id: str | None, setting: Setting) -> Shown:
        """Return what `setting` shows with one row of 'examples', e.g. `Shown(["placebo-03"], Task(...))`.

        `preference_id` is needed where a relevant preference is shown.
        """
        plain = Task(Source(example["source"]), example["question"], tuple(example["options"]))
        # A text as seed is hashed by Python itself: the same draw on every machine and version. The placebo settings
        # share theirs, so that the sentence is the same with and without a label.
        draw = random.Random(f"{setting.partition('_')[0]}:{self.seed}:{example['example_id']}")
        match setting:
            case Setting.REPEAT:
                shown = Shown(["draw-1"], plain._replace(draw=1))
            case Setting.PARAPHRASE:
                wording = draw.randrange(1, self.prompts.wordings)
                shown = Shown([f"wording-{wording}"], plain._replace(wording=wording))
            case Setting.SHUFFLED:
                order = orders.another_order(len(plain.options), draw)
                shown = Shown([order], plain._replace(options=tuple(orders.options_shown(plain.options, [order]))))
            case Setting.MISLEADING:
                letter = draw.choice([x for x in LETTERS[: len(plain.options)] if x != example["gold"]])
                belief = self.prompts.belief(letter, plain.options[LETTERS.index(letter)])
                shown = Shown([f"belief-{letter}"], plain._replace(aside=(belief,)))
            case Setting.PLACEBO | Setting.PLACEBO_LABELLED | Setting.PLACEBO_LONG:
                shown = self._placebo(example, plain, setting, draw)
            case Setting.MEMORY:
                shown = self._memory(example, preference_id, plain, draw)
            case _:
                ids = preferences.shown(example["example_id"], preference_id, setting, self.bank, self.seed)
                shown = Shown(ids, plain._replace(preferences=tuple(self.texts[i] for i in ids)))
        return shown

    def draft(self, example: Mapping[Hashable, Any], kind: Literal["right", "wrong"]) -> str:
        """Return a sentence that names the right option of a row of 'examples', or a wrong one drawn by seed and id."""
        letters = LETTERS[: len(example["options"])]
        draw = random.Random(f"draft:{self.seed}:{example['example_id']}")
        letter = example["gold"] if kind == "right" else draw.choice([x for x in letters if x != example["gold"]])
        return self.prompts.draft(letter, example["options"][letters.index(letter)])

    def _placebo(self, example: Mapping[Hashable, Any], plain: Task, setting: Setting, draw: random.Random) -> Shown:
        sentences = self.prompts.placebo
        chosen = [draw.randrange(len(sentences))]
        if setting is Setting.PLACEBO_LONG:
            ids = preferences.shown(
                example["example_id"], example["preference_id"], Setting.MIXED, self.bank, self.seed
            )
            chosen = _as_long(sentences, sum(len(self.texts[i]) for i in ids), draw)
        texts = tuple(sentences[i] for i in chosen)
        labelled = setting is Setting.PLACEBO_LABELLED
        task = plain._replace(preferences=texts) if labelled else plain._replace(aside=texts)
        return Shown([f"placebo-{i + 1:02d}" for i in chosen], task)

    def _memory(
        self, example: Mapping[Hashable, Any], preference_id: str | None, plain: Task, draw: random.Random
    ) -> Shown:
        [relevant] = preferences.shown(example["example_id"], preference_id, Setting.MEMORY, self.bank, self.seed)
        chosen = draw.sample(range(len(self.prompts.facts)), FACTS)
        known = [(f"fact-{i + 1:02d}", self.prompts.facts[i]) for i in chosen]
        known.insert(draw.randrange(FACTS + 1), (relevant, self.texts[relevant]))
        return Shown([i for i, _ in known], plain._replace(memory=tuple(text for _, text in known)))


def _as_long(sentences: Sequence[str], characters: int, draw: random.Random) -> list[int]:
    """Six sentences, of several draws those whose length in all is nearest to `characters`."""
    drawn = [draw.sample(range(len(sentences)), LONG) for _ in range(_TRIES)]
    return min(drawn, key=lambda chosen: abs(sum(len(sentences[i]) for i in chosen) - characters))
