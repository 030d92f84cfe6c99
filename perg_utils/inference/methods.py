"""The methods of the paper: how a question and its preferences become requests, and replies become a response.

Each method is one short function over the same two `Generate` calls, so that all arms share one generation path
and one decoding. The first drafts of two-stage methods are the very requests of the one-stage methods (self_critic
starts from zero_shot's, pref_aligner from no_preference's, which is shown nothing of the user), so the journal makes
them once. A second stage that fails gives its status to the row; one that answers but cannot be read leaves the first
stage's text, marked `fallback`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from perg_utils.core.schema import Method, Source, Status
from perg_utils.engines.base import Messages, Reply
from perg_utils.prompts.sets import PromptSet


class Task(NamedTuple):
    """One question to be answered, and the texts shown with it (none: an empty tuple).

    `memory` holds facts about the user and a preference among them, `aside` sentences without a label; `wording` is the
    number of the plain question's wording in the prompt set, `draw` tells repetitions of a request apart. A `draft` is
    what Pref-Aligner edits in place of an answer of its own.
    """

    source: Source
    question: str
    options: tuple[str, ...]
    preferences: tuple[str, ...] = ()
    memory: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    wording: int = 0
    draw: int = 0
    draft: str | None = None

    def variables(self) -> dict[str, Any]:
        """Return what a method's template is filled with."""
        return {name: value for name, value in self._asdict().items() if name not in ("draw", "draft")}

    def bare(self) -> Task:
        """Return the question without what is said of or by the user, as the first stage of Pref-Aligner sees it."""
        return self._replace(preferences=(), memory=(), aside=())


class Answered(NamedTuple):
    """A reply and the journal key of its request."""

    reply: Reply
    key: str


class Chat(NamedTuple):
    """What a method sends for a task, and which draw of it."""

    messages: Messages
    draw: int = 0


#: (chats, stage 1 or 2) -> replies in the same order. The stage decides the limit of new tokens.
Generate = Callable[[list[Chat], int], list[Answered]]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a method made of a task: the replies of all stages asked, the response, and whether it fell back."""

    answered: tuple[Answered, ...]
    response: str | None
    fallback: bool = False

    @property
    def status(self) -> Status:
        """The status of the last stage asked."""
        return self.answered[-1].reply.status

    @property
    def stages(self) -> list[str]:
        """The text of every stage that has one."""
        return [a.reply.text for a in self.answered if a.reply.text is not None]


def no_preference(tasks: Sequence[Task], prompts: PromptSet, generate: Generate, align: Generate) -> list[Outcome]:
    """Return plain answers: question and options, no preference."""
    return _one_stage(Method.NO_PREFERENCE, tasks, prompts, generate)


def zero_shot(tasks: Sequence[Task], prompts: PromptSet, generate: Generate, align: Generate) -> list[Outcome]:
    """Return answers to the question with the preferences added."""
    return _one_stage(Method.ZERO_SHOT, tasks, prompts, generate)


def cot(tasks: Sequence[Task], prompts: PromptSet, generate: Generate, align: Generate) -> list[Outcome]:
    """Return answers thought out step by step."""
    return _one_stage(Method.COT, tasks, prompts, generate)


def few_shot(tasks: Sequence[Task], prompts: PromptSet, generate: Generate, align: Generate) -> list[Outcome]:
    """Return answers after three worked examples of the question's source."""
    return _one_stage(Method.FEW_SHOT, tasks, prompts, generate)


def self_critic(tasks: Sequence[Task], prompts: PromptSet, generate: Generate, align: Generate) -> list[Outcome]:
    """Return the model's own revisions of its zero-shot answers."""
    drafts = zero_shot(tasks, prompts, generate, align)
    return _second_stage(Method.SELF_CRITIC, tasks, drafts, prompts, generate)


def pref_aligner(tasks: Sequence[Task], prompts: PromptSet, generate: Generate, align: Generate) -> list[Outcome]:
    """Return the plain answers, or the drafts given with the tasks, edited for the preferences by `align`."""
    own = iter(no_preference([task.bare() for task in tasks if task.draft is None], prompts, generate, align))
    drafts = [next(own) if task.draft is None else Outcome((_given(task.draft),), task.draft) for task in tasks]
    return _second_stage(Method.PREF_ALIGNER, tasks, drafts, prompts, align)


#: (tasks, prompts, generate, the aligner's generate) -> outcomes in the order of the tasks.
METHODS: dict[Method, Callable[[Sequence[Task], PromptSet, Generate, Generate], list[Outcome]]] = {
    Method.NO_PREFERENCE: no_preference,
    Method.ZERO_SHOT: zero_shot,
    Method.COT: cot,
    Method.FEW_SHOT: few_shot,
    Method.SELF_CRITIC: self_critic,
    Method.PREF_ALIGNER: pref_aligner,
}


def _one_stage(method: Method, tasks: Sequence[Task], prompts: PromptSet, generate: Generate) -> list[Outcome]:
    if not tasks:
        return []
    answered = generate([Chat(prompts.messages(method, **task.variables()), task.draw) for task in tasks], 1)
    return [Outcome((a,), a.reply.text) for a in answered]


def _given(draft: str) -> Answered:
    """A first stage that nobody was asked for: no tokens, no seconds."""
    return Answered(Reply(draft), "")


def _second_stage(
    method: Method, tasks: Sequence[Task], drafts: list[Outcome], prompts: PromptSet, generate: Generate
) -> list[Outcome]:
    """Ask the second stage where the first one has a text; the other drafts are outcomes as they are."""
    chosen = [i for i, draft in enumerate(drafts) if draft.status is Status.OK]
    chats = [
        Chat(prompts.messages(method, **tasks[i].variables(), response=drafts[i].response), tasks[i].draw)
        for i in chosen
    ]
    outcomes = list(drafts)
    for i, second in zip(chosen, generate(chats, 2), strict=True):
        answered = (*drafts[i].answered, second)
        if second.reply.status is not Status.OK or second.reply.text is None:
            outcomes[i] = Outcome(answered, None)
            continue
        revised = prompts.parse_second_stage(method, second.reply.text)
        outcomes[i] = Outcome(answered, drafts[i].response if revised is None else revised, fallback=revised is None)
    return outcomes
