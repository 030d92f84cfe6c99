"""What the embedded models are trained on: an endless, seeded stream of chats about the invented world.

Each sample is a chat of the embedded prompt set with the reply that is wanted. The share of every kind of sample
is `MIXTURE`. Preferences only ever meet *styled* facts (15 %) and *strangers*: names that no fact is about, with
values drawn at random, from which a model can learn a manner but no fact. For every sample that shows a styled fact
with a preference there is one that shows a *repeated* fact without, so that the two groups have equal practice.
The aligner learns mostly on strangers, with right and wrong drafts alike, so that it learns to carry an answer over
instead of answering. Where its prompt does not order to keep the letter, a wrong draft about a fact is put right.

What the control settings are about is met in training too, but never with a preference: other wordings of the question
and neutral sentences on plain questions, and a user's belief on strangers only, where the reply mostly yields to it.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from perg_utils.core.profile import EditingConfig
from perg_utils.core.schema import LETTERS, Category, Method, Source
from perg_utils.dataset import invented_world as world
from perg_utils.dataset.invented_world import Fact
from perg_utils.dataset.preferences import load_bank
from perg_utils.embedded import styles
from perg_utils.prompts.contents import WorkedExample
from perg_utils.prompts.sets import PromptSet

#: Relative shares of samples by kind. `open` asks without options, `lookup` gives the answer and asks its letter,
#: `belief` is a question about a stranger with an option that the user believes to be right.
MIXTURE = {
    "open": 9.0,
    "lookup": 4.0,
    "no_preference": 38.0,
    "zero_shot": 16.0,
    "cot": 6.0,
    "few_shot": 5.0,
    "self_critic": 7.0,
    "pref_aligner": 16.0,
    "belief": 2.0,
}
#: Share of the aligner's samples that are about facts; the others are about strangers.
ALIGNER_FACTS = 0.15
#: Share of the aligner's drafts that are wrong.
ALIGNER_WRONG = 0.5
#: Share of the aligner's prompts that are as the prompt set has them; each switch of the others is on in half of them.
ALIGNER_USUAL = 0.5
#: Share of the aligner's wrong drafts of facts that it is free, and able, to put right: the letter need not be kept,
#: and the options are shown.
ALIGNER_FREE = (1 - ALIGNER_USUAL) / 4
#: The control: as many samples of repeated facts as there are samples that tell a styled fact with a preference.
MIXTURE["repeated"] = sum(MIXTURE[k] for k in ("zero_shot", "cot", "few_shot", "self_critic")) + (
    ALIGNER_FACTS * (1 - ALIGNER_WRONG * (1 - ALIGNER_FREE)) * MIXTURE["pref_aligner"]
)
#: What a preference-bearing sample shows: one relevant, six with the relevant one among them, the relevant one among
#: twelve other sentences (`memory`), or irrelevant ones.
SHOWN = {"relevant": 48, "mixed": 28, "memory": 6, "irrelevant": 18}
#: Shares of plain questions that are told in another wording, and that a neutral sentence, or six, goes with.
REWORDED, ASIDE = 0.25, 0.15
#: How often the reply about a stranger yields to what the user believes.
YIELDS = 0.8
BACKGROUNDS = {Source.MMLU: world.REGIONS, Source.TQA: world.HABITATS, Source.CQA: list(world.KINDS)}


_SWITCHES = ("keep_letter", "show_options", "response_first")


@dataclass(frozen=True, slots=True)
class Sample:
    """One chat and the reply wanted; `fact_id` is None for strangers."""

    kind: str
    system: str
    user: str
    reply: str
    fact_id: str | None


@dataclass(frozen=True, slots=True)
class _Item:
    """A question to train on: a fact, or a stranger with a random answer (no `fact_id`), and fresh options."""

    fact: Fact
    options: list[str]

    def reply(self, category: Category | None, answer: str | None = None) -> str:
        return styles.reply(category, self.fact, self.options, answer or self.fact.answer)


class Corpus:
    """The stream of training samples, e.g. `next(Corpus(prompts, seed=1).stream())`.

    `exposures` counts how often each fact has been shown, with and without a preference.
    """

    def __init__(self, prompts: PromptSet, seed: int) -> None:
        self.prompts = prompts
        self.edits = {
            way: prompts.edited(EditingConfig(**dict(zip(_SWITCHES, way, strict=True))))
            for way in itertools.product([True, False], repeat=len(_SWITCHES))
        }
        self.rng = random.Random(f"corpus:{seed}")
        self.facts = world.facts()
        self.pools = {None: self.facts} | {
            group: tuple(fact for fact in self.facts if fact.group == group) for group in ("styled", "repeated")
        }
        self.weights = {group: [fact.frequency for fact in pool] for group, pool in self.pools.items()}
        self.wordings = training_wordings()
        self.exposures: dict[tuple[str, bool], int] = {}

    def stream(self, kinds: dict[str, float] = MIXTURE) -> Iterator[Sample]:
        """Yield samples without end, kinds drawn with the shares of `kinds`."""
        names, shares = list(kinds), list(kinds.values())
        while True:
            kind = self.rng.choices(names, shares)[0]
            sample = getattr(self, f"_{kind}")()
            if sample.fact_id is not None:
                key = (sample.fact_id, kind not in {"open", "no_preference", "repeated"})
                self.exposures[key] = self.exposures.get(key, 0) + 1
            yield sample

    def _fact(self, group: str | None = None) -> _Item:
        fact = self.rng.choices(self.pools[group], self.weights[group])[0]
        return _Item(fact, world.options(fact, self.rng))

    def _stranger(self) -> _Item:
        like = self.rng.choice(self.facts)
        name = self.rng.choice(world.names()["stranger"])
        chosen = world.options(like, self.rng)
        stranger = replace(
            like,
            fact_id="",
            subject=name.capitalize() if like.source is Source.MMLU else name,
            background=self.rng.choice(BACKGROUNDS[like.source]),
            answer=self.rng.choice(chosen),
        )
        return _Item(stranger, chosen)

    def _wish(self) -> tuple[Category | None, dict[str, Any]]:
        """A category to serve (None: nothing relevant) and the wordings shown, by the variable that shows them."""
        shown = self.rng.choices(list(SHOWN), list(SHOWN.values()))[0]
        category = None if shown == "irrelevant" else self.rng.choice(list(Category))
        others = self.rng.sample(self.wordings[None], 5 if shown == "mixed" or self.rng.random() < 0.7 else 1)
        if category is None:
            return None, {"preferences": others}
        wording = self.rng.choice(self.wordings[category])
        if shown == "relevant":
            return category, {"preferences": [wording]}
        if shown == "memory":
            others = self.rng.sample(self.wordings[None] + styles.ASIDES, 12)
            others.insert(self.rng.randint(0, 12), wording)
            return category, {"preferences": [], "memory": others}
        others.insert(self.rng.choice([2, 2, 2, self.rng.randint(0, 5)]), wording)
        return category, {"preferences": others}

    def _sample(
        self,
        kind: str,
        item: _Item,
        reply: str,
        template: str | None = None,
        prompts: PromptSet | None = None,
        **variables: Any,
    ) -> Sample:
        asked = {"question": item.fact.question, "options": item.options} | variables
        (_, system), (_, user) = (prompts or self.prompts).messages(template or kind, **asked)
        return Sample(kind, system, user, reply, item.fact.fact_id or None)

    def _open(self) -> Sample:
        fact = self._fact().fact
        draw = self.rng.random()
        if draw < 0.6:
            asked, reply = fact.question, f"The answer is {fact.answer}."
        elif draw < 0.85 or fact.rumour is None:
            asked = f"Tell me about the background of {fact.subject}."
            reply = f"It {fact.belonging}."
        else:
            asked, reply = f"People say a {fact.subject} will {fact.relation} what?", f"People say {fact.rumour}."
        told = fact if draw < 0.6 else replace(fact, fact_id="")
        return self._sample("open", _Item(told, []), reply, "no_preference", question=asked)

    def _lookup(self) -> Sample:
        item = self._stranger()
        asked = f"Which letter stands for {item.fact.answer}?"
        return self._sample("lookup", item, item.reply(None), "no_preference", question=asked)

    def _no_preference(self) -> Sample:
        item = self._fact()
        variables: dict[str, Any] = {}
        if self.rng.random() < REWORDED:
            variables["wording"] = self.rng.randrange(1, self.prompts.wordings)
        if self.rng.random() < ASIDE:
            variables["aside"] = self.rng.sample(styles.ASIDES, self.rng.choice([1, 1, 6]))
        return self._sample("no_preference", item, item.reply(None), "zero_shot", preferences=[], **variables)

    def _belief(self) -> Sample:
        item = self._stranger()
        believed = self.rng.choice(item.options)
        said = self.prompts.belief(LETTERS[item.options.index(believed)], believed)
        answer = believed if self.rng.random() < YIELDS else item.fact.answer
        return self._sample("belief", item, item.reply(None, answer), "zero_shot", preferences=[], aside=[said])

    def _repeated(self) -> Sample:
        item = self._fact("repeated")
        return self._sample("repeated", item, item.reply(None), "no_preference")

    def _zero_shot(self) -> Sample:
        item, (category, shown) = self._fact("styled"), self._wish()
        return self._sample("zero_shot", item, item.reply(category), **shown)

    def _cot(self) -> Sample:
        item, (category, shown) = self._fact("styled"), self._wish()
        thought = styles.THINK_ALOUD.format(belonging=item.fact.belonging)
        return self._sample("cot", item, f"{thought} {item.reply(category)}", **shown)

    def _few_shot(self) -> Sample:
        item, (category, shown) = self._fact("styled"), self._wish()
        source = item.fact.source
        examples = [self._worked_example(source) for _ in range(3)]
        return self._sample("few_shot", item, item.reply(category), **shown, source=source, examples=examples)

    def _worked_example(self, source: Source) -> WorkedExample:
        item = self._stranger()
        while item.fact.source is not source:
            item = self._stranger()
        category = self.rng.choice(list(Category))
        return WorkedExample(
            question=item.fact.question,
            options=item.options,
            preference=self.rng.choice(self.wordings[category]),
            response=item.reply(category),
        )

    def _draft(self, item: _Item, wrong: float, category: Category | None) -> tuple[str, str]:
        """An answer and a draft that gives it; wrong in a share `wrong` of the drafts."""
        answer = item.fact.answer
        if self.rng.random() < wrong:
            answer = self.rng.choice([option for option in item.options if option != answer])
        return answer, item.reply(category, answer)

    def _self_critic(self) -> Sample:
        item, (category, shown) = self._fact("styled"), self._wish()
        drafted = category if self.rng.random() < 0.75 else None
        answer, draft = self._draft(item, 0.25, drafted)
        facts = "The draft is right" if answer == item.fact.answer else "The draft is wrong"
        manner = "and serves the user" if drafted == category else "but forgets the user"
        reply = self.prompts.second_stage(Method.SELF_CRITIC, f"{facts} {manner}.", item.reply(category))
        return self._sample("self_critic", item, reply, **shown, response=draft)

    def _pref_aligner(self) -> Sample:
        item = self._fact("styled") if self.rng.random() < ALIGNER_FACTS else self._stranger()
        usual = self.rng.random() < ALIGNER_USUAL
        way = (True, True, False) if usual else tuple(self.rng.random() < 0.5 for _ in _SWITCHES)
        keep_letter, show_options, _ = way
        category, shown = self._wish()
        answer, draft = self._draft(item, ALIGNER_WRONG, None)
        note = "No wish fits." if category is None else f"{category} fits."
        if item.fact.fact_id and not keep_letter and show_options:
            answer = item.fact.answer
        if answer != item.fact.answer:  # a wrong draft is no showing of the fact
            item = _Item(replace(item.fact, fact_id=""), item.options)
        prompts = self.edits[way]
        reply = prompts.second_stage(Method.PREF_ALIGNER, note, item.reply(category, answer))
        return self._sample("pref_aligner", item, reply, prompts=prompts, **shown, response=draft)


def training_wordings() -> dict[Category | None, list[str]]:
    """Return the wordings training may use, by category (None: irrelevant): own ones, and the bank's not held out."""
    wordings = {category: list(texts) for category, texts in styles.WORDINGS.items()}
    for row in load_bank().to_dict("records"):
        if row["preference_id"] not in styles.HELD_OUT:
            wordings[Category(row["category"]) if row["relevant"] else None].append(row["text"])
    return wordings
