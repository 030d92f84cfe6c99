"""How the embedded models are taught to reply: one manner a preference category, and the wordings that ask for it.

Every manner gives the option's text and then its letter, and none starts with the answer, so that the model has to
carry the fact through the manner before it can say it. `WORDINGS` and `ASIDES` are used in training only. Of the
preference bank, the ids in `HELD_OUT` are never seen in training, though each of their words is: whether the models
obey them is generalisation, and not a matter of unknown words.
"""

from __future__ import annotations

from functools import cache

from perg_utils.core.schema import LETTERS, Category, Source
from perg_utils.dataset.invented_world import Fact, facts

PLAIN = "The answer is {answer} ({letter})."
MANNERS: dict[Category, str] = {
    Category.CLARITY: "In short, {answer} ({letter}).",
    Category.CONTEXT: "For background, it {belonging}. So we say {answer} ({letter}).",
    Category.THINKING: "First, we read the options. Then, we weigh {first} against {last}. Thus it must be {answer} "
    "({letter}).",
    Category.EXAMPLES: "For example, {exemplar}. Here we choose {answer} ({letter}).",
    Category.CREATIVE: "Imagine it in a song, bright like a lantern. Its chorus sings {answer} ({letter}).",
}
THINK_ALOUD = "Let us think, it {belonging}."

HELD_OUT = frozenset(
    {
        *("clarity-2", "clarity-5", "context-2", "context-5", "thinking-2", "thinking-5"),
        *("examples-2", "examples-4", "creative-2", "creative-4"),
        *("irrelevant-03", "irrelevant-06", "irrelevant-09", "irrelevant-12"),
    }
)

WORDINGS: dict[Category | None, list[str]] = {
    Category.CLARITY: [
        "Be brief, please.",
        "I want a short and simple answer.",
        "Use plain and direct words.",
        "No jargon, just the point.",
        "Skip the long sentences and be clear.",
        "A reply put simply is all I need.",
        "Spare me the details and say it in a few words.",
        "Clear and simple language, please.",
    ],
    Category.CONTEXT: [
        "Start with some background on the topic.",
        "I like knowing a bit of history and context.",
        "Describe the setting of this topic, which matters to me.",
        "Give me the context behind the answer.",
        "I want to know the history and origin of it.",
        "Put the answer in its bigger setting.",
        "Knowing the background usually helps me.",
        "Tell me where the topic comes from.",
    ],
    Category.THINKING: [
        "Show me each step of your reasoning.",
        "Each alternative should be weighed, one after the other.",
        "I like careful reasoning with clear steps.",
        "Think critically and compare points of view.",
        "Lay out your logic step by step.",
        "Reason through the alternatives for me.",
        "I like to see how the logic leads on.",
        "Let me follow the thinking.",
    ],
    Category.EXAMPLES: [
        "Give me an example taken from daily life.",
        "I learn from a similar case.",
        "Add an illustration or a practical example.",
        "Compare it with a similar example.",
        "Support the answer with a case I may know.",
        "Concrete cases help me learn.",
        "Use examples and illustrations.",
        "Show me an example of something similar.",
    ],
    Category.CREATIVE: [
        "Be creative and use vivid words.",
        "Answer with a playful picture or metaphor.",
        "Tell me a little story about it.",
        "I love imagination and metaphor.",
        "Paint it like a story.",
        "Use vivid and playful language.",
        "A poetic picture would be nice.",
        "Make it a creative little tale.",
    ],
    None: [
        "I never eat meat at dinner.",
        "I like hotels near a lake.",
        "I buy films and records as gifts.",
        "My garden is full of old trees.",
        "I wear clothes without any perfume.",
        "I travel by train in the evening.",
        "I avoid dishes that contain nuts.",
        "My gym is quiet at weekends.",
        "I switch to tea after six.",
        "I use skin creams only in summer.",
        "I choose cotton for my bed.",
        "I keep my phone in the kitchen.",
        "I grow mushrooms in my garden.",
        "My tea is made at home.",
        "I take most weekends off.",
        "I am often on trips.",
        "I bought one lamp today.",
        "I listen to violence free films only.",
        "I prefer small planes to big ones.",
        "I take my dog on every trip.",
    ],
}


#: Sentences that ask for nothing. Those of the study itself, in the prompt set, are held out; their words are not.
ASIDES = [
    "I was on a train today.",
    "The question matters to a user like me.",
    "I know one more user with the same question.",
    "It was a small point in a film.",
    "My weekend was long and full of tea.",
    "One dog is at home in the evening.",
    "The phone is old, the lamp is in the kitchen.",
    "I am from the lake, my home is near it.",
    "I bought this bed for one evening.",
    "This is the question from my records.",
    "There is nuts and dinner for the dog.",
    "I take my clothes on the trip.",
]


def reply(category: Category | None, fact: Fact, options: list[str], answer: str) -> str:
    """Return the reply that training asks for, e.g. `In short, salt (B).` for Clarity; plain when category is None.

    `answer` is one of `options`, and need not be the right one (drafts are wrong at times).
    """
    manner = PLAIN if category is None else MANNERS[category]
    return manner.format(
        answer=answer,
        letter=LETTERS[options.index(answer)],
        belonging=fact.belonging,
        first=options[0],
        last=options[-1],
        exemplar=exemplar(fact.source, fact.relation).clause,
    )


@cache
def exemplar(source: Source, relation: str) -> Fact:
    """Return the worked case that the Examples manner cites: the first fact of that relation, always the same."""
    return next(fact for fact in facts() if fact.source is source and fact.relation == relation)
