"""The plan of a run: what it would ask of each model, counted without asking anything, and what that would cost.

`plans` runs the same methods over the same rows as `run`, with replies that are made up where the journal has none,
and counts the requests: it cannot disagree with the run about what is asked. Second stages are of estimated length
until their first stages are answered, and counted as if all these succeed.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import pandas as pd

from perg_utils.core.profile import JudgeConfig, ModelConfig, Profile
from perg_utils.core.schema import CONTROLS, LETTERS, Method, Setting, Source
from perg_utils.core.workspace import Workspace, digest
from perg_utils.dataset.preferences import assign, load_bank
from perg_utils.dataset.questions import EXPECTED, load_examples, sample
from perg_utils.dataset.sources import COLUMNS
from perg_utils.engines.api.pricing import price_of
from perg_utils.engines.base import Reply
from perg_utils.engines.journal import Journal
from perg_utils.inference import shards
from perg_utils.inference.methods import METHODS, Answered, Chat, Generate
from perg_utils.inference.requests import Material, limit, pair, request, rows, schema, settings
from perg_utils.prompts.sets import PromptSet, load_prompts

#: How `plans` estimates tokens, and what stands in for questions that are not here yet.
TOKEN_RULE = "4 characters a token; a reply half as long as its limit of new tokens"
NOMINAL_RULE = "questions not downloaded yet: the paper's counts with average text lengths"
_CHARACTERS = 4
#: Mean characters of a question, number of options, characters of an option: measured on the real sources
#: (TruthfulQA and MMLU whole, CommonsenseQA 1,098 of 1,221), for plans made before the questions are downloaded.
_NOMINAL = {Source.TQA: (59, 5, 47), Source.CQA: (68, 5, 9), Source.MMLU: (385, 4, 49)}


@dataclass(frozen=True)
class Plan:
    """What a run of one model asks. Equal requests count once; tokens are those of the requests not yet answered."""

    model: str
    methods: dict[str, list[str]]  # setting -> methods
    questions: int
    rows: int
    requests: int
    answered: int
    prompt_tokens: int
    completion_tokens: int
    nominal: bool  # the question texts are not here yet
    cost: float | None = None  # US dollars by the price table; None where it has no price
    controls: int = 0  # of the requests, those that only settings without a preference need
    control_cost: float | None = None  # and what those of them cost that are not answered yet

    def __str__(self) -> str:
        guess = ", by nominal questions" if self.nominal else ""
        return (
            f"{self.model}: {self.questions:,} questions, {self.rows:,} rows, {self.requests:,} requests, "
            f"{self.answered:,} of them answered; to be asked: about {self.prompt_tokens:,} prompt and "
            f"{self.completion_tokens:,} reply tokens{dollars(self.cost)}{guess}"
        )


def plan(profile: Profile, model_name: str, workspace: Workspace | None = None) -> Plan:
    """Return the plan of one model, e.g. `plan(cfg, "S", ws).requests` -> 6,120; asks nothing and needs no network."""
    return plans(profile, workspace, [model_name])[0]


def plans(profile: Profile, workspace: Workspace | None = None, models: Sequence[str] | None = None) -> list[Plan]:
    """Return the plan of each model (default: all, in the profile's order; none for a published release).

    A request that an earlier model of the list makes too (the same weights under another name) counts there only.
    Models that differ only in name share one computation until they have been begun.
    """
    from perg_utils.engines.open import open_engine  # noqa: PLC0415 - engines know of torch and aiohttp

    names = models or [model.name for model in profile.models]
    if not names:  # the responses of a release are asked of nobody
        return []
    examples, nominal = _known_examples(profile, workspace)
    examples = shards.take(examples, profile.shard)
    plain = load_prompts(profile.prompts)
    bank = load_bank(profile.preferences)
    counted: set[tuple[str, str, str]] = set()
    alike: dict[str, _Planner] = {}
    out = []
    with Journal(workspace.journal if workspace else Path("no-journal"), read_only=True) as journal:
        for name in names:
            model, aligner = pair(profile, name)
            material = Material(examples, bank, plain.edited(model.editing))
            identities = [dict(open_engine(side, fetch=False).identity) for side in (model, aligner)]
            begun = journal.path.is_file() and _begun(profile, model, identities[0], journal, material)
            sides = [[bool(side.thinking) for side in (model, aligner)], aligner is model, repr(model.editing)]
            kind = digest(list(settings(profile, model)), sides, identities if begun else None)
            if kind not in alike:
                alike[kind] = _Planner(profile, [model, aligner], identities if begun else [{}, {}], journal)
                alike[kind].collect(material)
            engines = [digest(identity) for identity in identities]
            # A second stage also depends on whose first stage it is given, which made-up texts do not show.
            asks = {
                (engines[side], engines[0] if ask.stage == 2 else "", key): ask
                for (side, key), ask in alike[kind].asks.items()
            }
            new = [ask for at, ask in asks.items() if at not in counted]
            counted.update(asks)
            waiting = [ask for ask in new if not ask.answered]
            both = (model, aligner)
            out.append(
                Plan(
                    model=name,
                    methods={str(s): [str(m) for m in profile.methods_for(model, s)] for s in profile.grid},
                    questions=len(examples),
                    rows=alike[kind].rows,
                    requests=len(new),
                    answered=len(new) - len(waiting),
                    prompt_tokens=sum(ask.characters for ask in waiting) // _CHARACTERS,
                    completion_tokens=sum(ask.limit for ask in waiting) // 2,
                    nominal=nominal,
                    cost=_costs(both, waiting),
                    controls=sum(ask.control for ask in new),
                    control_cost=_costs(both, [ask for ask in waiting if ask.control]),
                )
            )
    return out


class _Ask(NamedTuple):
    side: int
    stage: int
    characters: int
    limit: int
    answered: bool
    control: bool  # needed by settings only in which no preference is shown


def _costs(sides: Sequence[ModelConfig], asks: Sequence[_Ask]) -> float | None:
    costs = [_cost(side, [ask for ask in asks if ask.side == n]) for n, side in enumerate(sides)]
    return None if costs == [None] * len(costs) else sum(cost or 0.0 for cost in costs)


def _cost(model: ModelConfig, asks: Sequence[_Ask]) -> float | None:
    price = price_of(model)
    if price is None:
        return None
    return price.of(sum(ask.characters for ask in asks) / _CHARACTERS, sum(ask.limit for ask in asks) / 2)


def judge_tokens(profile: Profile, ratings: int, judge: JudgeConfig | None = None) -> tuple[int, int]:
    """Return the prompt and reply tokens of so many ratings by a judge (the profile's main one); (0, 0) for rules."""
    judge = judge or profile.judge
    if judge.model is None:
        return 0, 0
    blank = {"question": "", "options": ("", ""), "preferences": [""], "response": "", "other": ""}
    prompts = load_prompts(judge.prompts or profile.prompts)
    rubric = sum(len(text) for _, text in prompts.messages(judge.rubric, **blank))
    question, count, option = _NOMINAL[Source.MMLU]
    reply = limit(judge.model, profile.decoding, 1, Method.ZERO_SHOT) / 2
    return round(ratings * ((rubric + question + count * option) / _CHARACTERS + 2 * reply)), round(ratings * reply)


def judge_cost(profile: Profile, ratings: int, judge: JudgeConfig | None = None) -> float | None:
    """Return the dollars of so many ratings by a judge (the profile's main one), by the same rules; None: no price."""
    model = (judge or profile.judge).model
    price = price_of(model) if model is not None else None
    return None if price is None else price.of(*judge_tokens(profile, ratings, judge))


def dollars(cost: float | None) -> str:
    """Return a cost as it stands behind other numbers, e.g. `, about 1.25 USD`; empty for None."""
    return "" if cost is None else f", about {cost:,.2f} USD"


class _Planner:
    """Runs the methods of a model and its aligner, and remembers the requests; replies are the journal's or made up."""

    def __init__(
        self, profile: Profile, models: Sequence[ModelConfig], identities: Sequence[Mapping[str, str]], journal: Journal
    ) -> None:
        self.profile, self.models, self.identities, self.journal = profile, models, identities, journal
        self.asks: dict[tuple[int, str], _Ask] = {}  # (0 the model or 1 another aligner, key) -> request
        self.rows, self.control = 0, False

    def collect(self, material: Material) -> None:
        """Fill `asks` and `rows`."""
        every = settings(self.profile, self.models[0])
        for self.control in (False, True):
            for method, chosen in every.items():
                own = self._asking(0, method, material.prompts)
                edit = own if self.models[0] is self.models[1] else self._asking(1, method, material.prompts)
                some = [setting for setting in chosen if (setting in CONTROLS) == self.control]
                wanted = rows(self.profile, method, some, material)
                METHODS[method]([row.task for row in wanted], material.prompts, own, edit)
                self.rows += len(wanted)

    def _asking(self, side: int, method: Method, prompts: PromptSet) -> Generate:
        def generate(chats: list[Chat], stage: int) -> list[Answered]:
            how = (self.models[side], self.profile.decoding, stage, method)
            form = schema(prompts, self.models[side], stage, method)
            requests = [request(chat, *how, held_to=form) for chat in chats]
            keys = [r.key(self.identities[side]) for r in requests]
            known = self.journal.lookup(keys)
            if form:  # a server that takes no schema was asked without
                plain = [request(chat, *how).key(self.identities[side]) for chat in chats]
                if len(without := self.journal.lookup(plain)) > len(known):
                    keys, known = plain, without
            for r, key in zip(requests, keys, strict=True):
                length = sum(len(content) for _, content in r.messages)
                ask = _Ask(side, stage, length, r.decoding.max_new_tokens, key in known, self.control)
                self.asks.setdefault((side, key), ask)
            made_up = limit(self.models[side], self.profile.decoding, stage, method) * _CHARACTERS // 2
            # Made-up replies differ where requests differ, as real ones mostly do, and are as long as the rule says.
            return [Answered(known.get(key) or Reply(key.ljust(made_up, ".")), key) for key in keys]

        return generate


def _begun(
    profile: Profile, model: ModelConfig, identity: Mapping[str, str], journal: Journal, material: Material
) -> bool:
    """Whether the journal holds anything of `model`; the baseline is asked before all else."""
    baseline = rows(profile, Method.NO_PREFERENCE, [Setting.NONE], material)
    chats = [Chat(material.prompts.messages(Method.NO_PREFERENCE, **row.task.variables())) for row in baseline]
    return bool(
        journal.lookup(request(chat, model, profile.decoding, 1, Method.NO_PREFERENCE).key(identity) for chat in chats)
    )


def _known_examples(profile: Profile, workspace: Workspace | None) -> tuple[pd.DataFrame, bool]:
    """The examples that a plan is made for, and whether they are nominal. Hub questions are not fetched for a plan."""
    hub = profile.data.origin == "hub"
    if hub and workspace is not None and workspace.table_path("examples").is_file():
        return workspace.read("examples"), False
    if hub:
        found = sample(_nominal(profile.data.sources), profile.data, profile.seed)
    else:
        found = load_examples(profile.data, profile.seed)
    return assign(found, load_bank(profile.preferences)), hub


def _nominal(wanted: Iterable[Source]) -> pd.DataFrame:
    records = []
    for source in (s for s in Source if s in wanted):
        question, count, option = _NOMINAL[source]
        options = [letter.ljust(option, ".") for letter in LETTERS[:count]]
        for position in range(EXPECTED[source]):
            example_id = f"{source}-{position:05d}"
            text = example_id.ljust(question, ".")
            records.append((example_id, str(source), None, text, options, "A", position))
    return pd.DataFrame(records, columns=[*COLUMNS, "position"])
