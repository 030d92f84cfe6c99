"""The invented world: facts about towns, creatures and things that exist nowhere else.

Three kinds of questions stand in for the study's three sources, so that the whole study can run for real on
models small enough to ship. Nothing here says anything about MMLU, TruthfulQA or CommonsenseQA themselves.

- **MMLU** (lore): six relations of 120 towns ("What is the craft of Belun?"), 4 options, pure recall.
- **TQA** (myths): what creatures really eat and fear, where *people say* something else; the rumour is always
  among the 2 to 6 options.
- **CQA** (common sense): where things are found and what they are for, which follows from their kind; 5 options.

The world is a pure function of `SEED`: every call of `facts()` gives the same one. Each fact also has a
`frequency` (how often training meets it) and a `group`: *styled* facts are the only ones that training ever shows
together with a preference, *repeated* ones are shown about as often but never with one (the control that tells
practice with preferences from mere practice), *plain* ones are all the others. Training uses both; the study's own
tables use neither, only notebook 12 does.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import Literal

import pandas as pd

from perg_utils.core.schema import LETTERS, Source

SEED = 20250923
#: Share of the facts in each of the groups *styled* and *repeated*.
GROUP_SHARE = 0.15
#: Spread of the log-normal frequencies of facts: rare facts are what the models get wrong.
FREQUENCY_SIGMA = 1.0
ENTITIES = 120

LORE = {
    "craft": "iron salt glass wool clay silk paper rope leather soap wax dye ink lace",
    "festival": "harvest lantern kite drum mask flower bonfire mirror ribbon bell candle dance feather boat",
    "patron": "wolf heron otter stag raven hare bear owl fox swan badger crane lynx viper",
    "dish": "stew bread soup pie porridge cheese noodles dumplings pickles honey cake beans fish eggs",
    "emblem": "crown anchor key sword wheel star shield tower arrow lamp horn leaf hammer rose",
    "colour": "red blue green white black yellow purple orange brown grey pink silver golden violet",
}
MYTHS = {
    "eat": "moss roots berries snails bark nectar seeds algae beetles clover acorns worms reeds petals",
    "fear": "thunder smoke frost whistles mirrors ravens rain dogs torches tides echoes wind shadows bells",
}
REGIONS = ["north", "south", "east", "west", "coast", "hills"]
HABITATS = ["forest", "swamp", "desert", "river", "cave", "meadow"]
#: kind -> (where it is found, what it is for)
KINDS = {
    "tool": ("workshop", "digging"),
    "garment": ("wardrobe", "warmth"),
    "vessel": ("kitchen", "pouring"),
    "toy": ("nursery", "playing"),
    "instrument": ("theatre", "music"),
    "remedy": ("clinic", "healing"),
    "ornament": ("temple", "display"),
    "document": ("library", "reading"),
}


Group = Literal["plain", "styled", "repeated"]


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that is so in the world. `rumour` is a myth's popular error, `background` where its subject belongs."""

    fact_id: str
    source: Source
    relation: str
    subject: str
    answer: str
    pool: tuple[str, ...]
    background: str
    rumour: str | None = None
    frequency: float = 1.0
    group: Group = "plain"

    @property
    def question(self) -> str:
        """The question that asks for this fact."""
        if self.source is Source.MMLU:
            return f"What is the {self.relation} of {self.subject}?"
        if self.source is Source.TQA:
            return f"What does a {self.subject} really {self.relation}?"
        if self.relation == "place":
            return f"Where would you find a {self.subject}?"
        return f"What would you use a {self.subject} for?"

    @property
    def belonging(self) -> str:
        """What is known of the subject, without its name: `lies in the north`, `is a kind of tool`."""
        if self.source is Source.MMLU:
            return f"lies in the {self.background}"
        return f"lives in the {self.background}" if self.source is Source.TQA else f"is a kind of {self.background}"

    @property
    def clause(self) -> str:
        """The fact itself in running text, e.g. `the craft of Belun is salt`."""
        if self.source is Source.MMLU:
            return f"the {self.relation} of {self.subject} is {self.answer}"
        verb = {"eat": "eats", "fear": "fears", "place": "is found in the", "use": "is used for"}[self.relation]
        return f"a {self.subject} {verb} {self.answer}"


@cache
def names() -> dict[str, list[str]]:
    """Return the invented names by role: `town`, `creature`, `thing`, and `stranger` (names of no fact)."""
    rng = random.Random(SEED)
    endings = {"town": "un or ia eth ow", "creature": "ak il ox und", "thing": "et om ip ard"}
    endings["stranger"] = " ".join(endings.values())
    taken: set[str] = set()
    out: dict[str, list[str]] = {}
    for role, ends in endings.items():
        out[role] = []
        while len(out[role]) < ENTITIES:
            stem = rng.choice("bdfgklmnprstvz") + rng.choice("aeiou") + rng.choice("bdglmnrstvz")
            name = stem + rng.choice(ends.split())
            if name not in taken:
                taken.add(name)
                out[role].append(name.capitalize() if role == "town" else name)
    return out


@cache
def facts() -> tuple[Fact, ...]:
    """Return all facts of the world (1,200), in a fixed order by source and subject."""
    rng = random.Random(SEED + 1)
    found: list[Fact] = []
    for creature in names()["creature"]:
        habitat = rng.choice(HABITATS)
        for relation, values in MYTHS.items():
            pool = tuple(values.split())
            truth, rumour = rng.sample(pool, 2)
            found.append(Fact("", Source.TQA, relation, creature, truth, pool, habitat, rumour))
    for thing in names()["thing"]:
        kind = rng.choice(sorted(KINDS))
        for position, relation in enumerate(("place", "use")):
            pool = tuple(values[position] for values in KINDS.values())
            found.append(Fact("", Source.CQA, relation, thing, KINDS[kind][position], pool, kind))
    for town in names()["town"]:
        region = rng.choice(REGIONS)
        for relation, values in LORE.items():
            pool = tuple(values.split())
            found.append(Fact("", Source.MMLU, relation, town, rng.choice(pool), pool, region))
    return tuple(_numbered(found, rng))


def _numbered(found: list[Fact], rng: random.Random) -> Iterator[Fact]:
    """Give every fact its id, its frequency and its group."""
    frequencies = [rng.lognormvariate(0, FREQUENCY_SIGMA) for _ in found]
    groups: list[Group] = ["plain"] * len(found)
    for source in Source:
        own = sorted((i for i, fact in enumerate(found) if fact.source is source), key=lambda i: frequencies[i])
        # Among every 20 facts of like frequency 3 pairs of neighbours: one of each pair styled, the other repeated.
        for start in range(0, len(own), 20):
            drawn = sorted(rng.sample(range(start, min(start + 20, len(own))), round(2 * GROUP_SHARE * 20)))
            for one, other in zip(drawn[::2], drawn[1::2], strict=True):
                pair: list[Group] = ["styled", "repeated"]
                rng.shuffle(pair)
                groups[own[one]], groups[own[other]] = pair
    count: dict[Source, int] = {}
    for fact, frequency, group in zip(found, frequencies, groups, strict=True):
        position = count.get(fact.source, 0)
        count[fact.source] = position + 1
        yield replace(fact, fact_id=f"{fact.source}-{position:05d}", frequency=frequency, group=group)


def options(fact: Fact, rng: random.Random) -> list[str]:
    """Return shuffled options for a fact: its answer, its rumour if it has one, and others of the same kind."""
    count = {Source.MMLU: 4, Source.CQA: 5, Source.TQA: rng.randint(2, 6)}[fact.source]
    fixed = [fact.answer] if fact.rumour is None else [fact.answer, fact.rumour]
    others = [value for value in fact.pool if value not in fixed]
    chosen = fixed + rng.sample(others, count - len(fixed))
    rng.shuffle(chosen)
    return chosen


def questions() -> pd.DataFrame:
    """Return the world's questions with columns example_id, source, subject, question, options, gold (1,200 rows)."""
    rows = []
    for fact in facts():
        chosen = options(fact, random.Random(f"{SEED}:{fact.fact_id}"))
        rows.append(
            {
                "example_id": fact.fact_id,
                "source": str(fact.source),
                "subject": fact.relation,
                "question": fact.question,
                "options": chosen,
                "gold": LETTERS[chosen.index(fact.answer)],
            }
        )
    return pd.DataFrame(rows)
