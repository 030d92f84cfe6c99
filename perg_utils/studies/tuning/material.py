"""What adapters are trained on: answers that the model writes itself, and what each arm keeps of them.

The questions are those of the sources that the run does not ask; the preferences are those of the bank that the study
does not try them with (`split`), without a whole category. For each the model is asked as in zero_shot; nothing is
written by a better model or by hand. The arms, all of the same size:

- *naive*: what the model wrote, right or wrong;
- *curated*: only where it names the right option;
- *random*: as many at random out of the answers among which *curated* found its own: the same filter, blind;
- *curated_more*: half *curated*; the other half shows irrelevant preferences or a neutral sentence, and the answer is
  the model's own plain one, unchanged, where that is right;
- *distilled*: what the model makes of its plain answer as its own Pref-Aligner, taught as an answer in one stage;
- *no_preference*: plain questions in several wordings, and the model's own right answers: tuning as such.
"""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.profile import TuningArm, TuningConfig
from perg_utils.core.run import Run
from perg_utils.core.schema import Method, Setting
from perg_utils.dataset import preferences
from perg_utils.dataset.questions import load_questions
from perg_utils.engines.base import Messages
from perg_utils.inference.requests import Row
from perg_utils.inference.shown import Deck
from perg_utils.prompts.sets import PromptSet, load_prompts
from perg_utils.studies import arms


class Lesson(NamedTuple):
    """One training sample: a chat and the reply that is taught, and the question it is about."""

    messages: Messages
    reply: str
    example_id: str


class Split(NamedTuple):
    """Ids of relevant preferences: those that adapters are trained with, and those that they are tried with.

    `kept` are other wordings of the trained categories, `new` those of the category that is left out.
    """

    taught: list[str]
    kept: list[str]
    new: list[str]


class Candidate(NamedTuple):
    """What the model wrote for a preference, whether it is right, what its Pref-Aligner made (None: unreadable), and
    the letter that it names."""

    lesson: Lesson
    right: bool
    aligned: Lesson | None
    letter: str | None = None


class Pool(NamedTuple):
    """What one model wrote: answers to preferences in a random order, to what is irrelevant, and plain ones.

    `unchanged` and `plain` hold right answers only.
    """

    styled: list[Candidate]
    unchanged: list[Lesson]
    plain: list[Lesson]


def split(bank: pd.DataFrame, config: TuningConfig) -> Split:
    """Return which preferences are for training and which for trying: of each category the second and the last, and
    all of the one that is left out.

    >>> bank = pd.DataFrame({"preference_id": ["a1", "a2", "a3", "b1", "b2"], "category": [*"AAA", *["Creative"] * 2]})
    >>> split(bank.assign(relevant=True), TuningConfig())
    Split(taught=['a1'], kept=['a2', 'a3'], new=['b1', 'b2'])
    """
    relevant = bank[bank["relevant"].astype(bool)]
    taught, kept, new = [], [], []
    for category, ids in relevant.groupby("category", sort=False)["preference_id"]:
        own = ids.tolist()
        tried = list(dict.fromkeys([*own[1:2], *own[-1:]]))
        if category == config.left_out:
            new += own
        else:
            kept += tried
            taught += [one for one in own if one not in tried]
    return Split(taught, kept, new)


def gather(run: Run, model: str) -> Pool:
    """Return what `model` writes to the questions that are for training, asking what the journal does not hold.

    Raises `DataError` where it is right too seldom for the largest size.
    """
    config = of(run)
    bank, prompts = run.read("preferences"), load_prompts(run.profile.prompts)
    questions = _others(run, bank)
    if questions.empty:
        raise DataError("no question is left for training; give data.limit, so that the run asks only some of them")
    deck = Deck(bank, prompts, run.profile.seed)
    writer = _Writer(run.with_tables(examples=questions), model, prompts)
    plain = writer.answers(_plain(questions, deck, prompts, config), "plain answers")
    own = {one.row.example_id: one for one in plain if one.row.task.wording == 0}
    wanted = _candidates(questions, deck, split(bank, config).taught, run.profile.seed)[: config.candidates]
    written = writer.answers(wanted, "answers to preferences")
    edited = writer.edits([one.row for one in written], own) if "distilled" in config.arms else {}
    styled = []
    for one in written:
        text = edited.get((one.row.example_id, one.row.preference_id))
        aligned = None if text is None else one.lesson._replace(reply=text)
        styled.append(Candidate(one.lesson, one.right, aligned, one.letter))
    found = sum(one.right for one in styled)
    if found < max(config.sizes):
        raise DataError(
            f"{model} is right in {found:,} of {len(styled):,} answers with a preference; tuning.sizes asks for "
            f"{max(config.sizes):,}: name smaller sizes, or more tuning.candidates"
        )
    right = {example: one.lesson.reply for example, one in own.items() if one.right}
    unchanged = [
        Lesson(writer.chat(row), right[row.example_id], row.example_id)
        for row in _nothing_relevant(questions, deck)
        if row.example_id in right
    ]
    return Pool(styled, unchanged, [one.lesson for one in plain if one.right])


def written(pools: Mapping[str, Pool]) -> pd.DataFrame:
    """Return what models wrote for preferences, of which *naive*, *curated* and *random* take: a row a model and what.

    Columns: model, what, value (percent), low, high (NaN: the answers are not independent), n. It is right; it names
    the letter that is named most; and that letter among the right ones.
    """
    rows = []
    for model, pool in pools.items():
        letters = [one.letter for one in pool.styled if one.letter is not None]
        right = [one for one in pool.styled if one.right]
        rows.append((model, "right", len(right), len(pool.styled)))
        if letters:
            most = max(sorted(set(letters)), key=letters.count)
            rows.append((model, f"names {most}, of all with a letter", letters.count(most), len(letters)))
            rows.append((model, f"names {most}, of the right ones", sum(o.letter == most for o in right), len(right)))
    found = pd.DataFrame(rows, columns=["model", "what", "hits", "n"])
    found["value"] = 100 * found["hits"] / found["n"]
    return found.assign(low=np.nan, high=np.nan)[["model", "what", "value", "low", "high", "n"]]


def lessons(pool: Pool, arm: TuningArm, size: int, seed: int) -> list[Lesson]:
    """Return the `size` training samples of an arm, drawn by `seed`; all arms of a seed see the answers in one order.

    Of plain answers, which may be fewer, some are taken again. Raises `DataError` where an arm has too few.
    """
    draw = random.Random(f"tuning:{seed}")
    order = draw.sample(pool.styled, len(pool.styled))
    right = [one.lesson for one in order if one.right]
    chosen: list[Lesson]
    match arm:
        case "naive":
            chosen = [one.lesson for one in order[:size]]
        case "curated":
            chosen = right[:size]
        case "random":
            seen = order[: order.index(next(one for one in order if one.lesson is right[size - 1])) + 1]
            chosen = [one.lesson for one in random.Random(f"blind:{seed}").sample(seen, size)]
        case "curated_more":
            chosen = right[: size - size // 2] + _repeated(pool.unchanged, size // 2, draw)
        case "distilled":
            chosen = [one.aligned for one in order if one.aligned is not None][:size]
        case "no_preference":
            chosen = _repeated(pool.plain, size, draw)
    if len(chosen) < size:
        raise DataError(f"arm {arm}: {len(chosen):,} training samples, {size:,} wanted; name smaller tuning.sizes")
    return chosen


def _repeated(some: Sequence[Lesson], size: int, draw: random.Random) -> list[Lesson]:
    """Draw without repeats as long as there are any left."""
    out: list[Lesson] = []
    while some and len(out) < size:
        out += draw.sample(some, min(len(some), size - len(out)))
    return out


def of(run: Run) -> TuningConfig:
    """Return the profile's key `tuning`; raises `DataError` where it has none."""
    if run.profile.tuning is None:
        raise DataError(f"profile '{run.profile.name}' has no key `tuning`; take notebooks/profiles/study_tuning.yaml")
    return run.profile.tuning


def _others(run: Run, bank: pd.DataFrame) -> pd.DataFrame:
    """The table 'examples' of the questions that the run does not ask, nor others in the same words; as many as are
    needed."""
    asked, every = run.read("examples"), load_questions(run.profile.data)
    left = every[~every["example_id"].isin(asked["example_id"]) & ~every["question"].isin(asked["question"])]
    some = left.sample(min(len(left), of(run).candidates), random_state=run.profile.seed).sort_index()
    return preferences.assign(some.reset_index(drop=True), bank)


def _plain(questions: pd.DataFrame, deck: Deck, prompts: PromptSet, config: TuningConfig) -> list[Row]:
    """Every question with nothing shown with it, as far as an arm takes such answers: *no_preference* in every wording
    of the prompt set."""
    if not {"curated_more", "distilled", "no_preference"} & set(config.arms):
        return []
    wordings = prompts.wordings if "no_preference" in config.arms else 1
    out = []
    for example in questions.to_dict("records"):
        shown = deck.show(example, None, Setting.NONE)
        for wording in range(wordings):
            task = shown.task._replace(wording=wording)
            out.append(Row(example["example_id"], None, Setting.NONE, shown.ids, task))
    return out


def _candidates(questions: pd.DataFrame, deck: Deck, taught: Sequence[str], seed: int) -> list[Row]:
    """Every question with every preference that is for training and for its source, in a random order."""
    out = []
    for example in questions.to_dict("records"):
        for preference in set(preferences.relevant_ids(deck.bank, example["source"])) & set(taught):
            shown = deck.show(example, preference, Setting.RELEVANT)
            out.append(Row(example["example_id"], preference, Setting.RELEVANT, shown.ids, shown.task))
    out.sort(key=lambda row: (row.example_id, str(row.preference_id)))
    random.Random(f"candidates:{seed}").shuffle(out)
    return out


def _nothing_relevant(questions: pd.DataFrame, deck: Deck) -> list[Row]:
    """Every question with irrelevant preferences, and with a neutral sentence."""
    return [
        Row(example["example_id"], None, setting, *deck.show(example, None, setting))
        for example in questions.to_dict("records")
        for setting in (Setting.IRRELEVANT, Setting.PLACEBO)
    ]


class _Written(NamedTuple):
    row: Row
    lesson: Lesson
    letter: str | None
    right: bool


@dataclass(frozen=True)
class _Writer:
    """The model at work on the questions of `run`; rows without a text are left out of what it gives."""

    run: Run
    model: str
    prompts: PromptSet

    def chat(self, row: Row) -> Messages:
        method = Method.NO_PREFERENCE if row.setting is Setting.NONE else Method.ZERO_SHOT
        return self.prompts.messages(method, **row.task.variables())

    def answers(self, rows: Sequence[Row], what: str) -> list[_Written]:
        """The model's answers, and whether each names the right option."""
        asked = [(row, self.chat(row)) for row in rows]
        responses = arms.ask(self.run, self.model, what, asked)
        letters = arms.letters(self.run, responses)
        gold = self.run.read("examples").set_index("example_id")["gold"]
        return [
            _Written(
                row,
                Lesson(chat, text, row.example_id),
                letter if isinstance(letter, str) else None,
                letter == gold[row.example_id],
            )
            for (row, chat), text, letter in zip(asked, responses["response"], letters, strict=True)
            if isinstance(text, str)
        ]

    def edits(self, rows: Sequence[Row], drafts: Mapping[str, _Written]) -> dict[tuple[str, str | None], str]:
        """What the model's Pref-Aligner makes of its plain answers, by question and preference, where readable."""
        known, method = [row for row in rows if row.example_id in drafts], Method.PREF_ALIGNER
        chats = []
        for row in known:
            draft = drafts[row.example_id].lesson.reply
            chats.append((row, self.prompts.messages(method, **row.task.variables(), response=draft)))
        replies = arms.ask(self.run, self.model, "edits", chats, method=method, stage=2)
        out = {}
        for row, text in zip(known, replies["response"], strict=True):
            revised = self.prompts.parse_second_stage(method, text) if isinstance(text, str) else None
            if revised is not None:
                out[row.example_id, row.preference_id] = revised
        return out
