"""What the made-up responses say: wordings by kind of difficulty, in three parts.

`train` is learned from, `check` decides when training stops and how sure the reader may be, `test` is kept for the
last measurement: no wording stands in two parts, so that what is measured is reading and not recall.

Slots: the chosen option's {text}, {letter} and {place} (`second`, `last`); an {other} option and its {other_letter};
the {rest}: all options but the chosen one; an {alien}: the text of an option of some other question. `[one|two]` is
one of the alternatives, drawn at random.
"""

from __future__ import annotations

from dataclasses import dataclass

from perg_utils.core.schema import LETTERS

#: Labels that are no letter of an option (those of arXiv 2404.08382): no option is right, refusal, undecided.
NONE, REFUSED, UNDECIDED = "X", "Y", "Z"
#: With more options their letters would meet these labels.
MOST_OPTIONS = LETTERS.index(NONE)


#: The kind that names an option by its text alone.
TEXT = "text"


@dataclass(frozen=True, slots=True)
class Kind:
    """Wordings of one kind; `label` is None where they choose the option {text}."""

    name: str
    label: str | None
    train: tuple[str, ...]
    check: tuple[str, ...]
    test: tuple[str, ...]


KINDS = (
    Kind(
        "letter and text",
        None,
        train=(
            "[The|My] answer is {text} ({letter}).",
            "[In short, |So, |]({letter}) {text}",
            "[I|We] [choose|take|say|would take|go for] ({letter}) {text}.",
            "[It|This] must be {text}, which is ({letter}).",
            "Here ({letter}) is [right|best]: {text}.",
            "[In my view|To me] {text} ({letter}) [suits|fits] the question.",
            "Its [point|origin|answer] is {text} ({letter}).",
            "{text} ({letter}), [please|I think|I know].",
        ),
        check=(
            "So we find {text} ({letter}).",
            "Thus {text} ({letter}) it is.",
            "Put it down as ({letter}), {text}.",
            "{text} is ({letter}), which I like best.",
        ),
        test=("The one that fits is ({letter}), {text}.", "What I see here is {text} ({letter})."),
    ),
    Kind(
        "letter",
        None,
        train=(
            "[In short, |So, |]({letter})",
            "{letter}",
            "[The|My] [answer|option] is ({letter}).",
            "[I|We] [choose|take|say|would take|go for] ({letter}).",
            "Option ({letter}) is [right|best].",
            "My letter is {letter}.",
            "[It|This] must be ({letter}).",
        ),
        check=(
            "I find ({letter}) to be right.",
            "Just ({letter}).",
            "Thus we see that ({letter}) is it.",
            "The reply is ({letter}).",
        ),
        test=("Here ({letter}) fits best.", "The letter that I like most is ({letter})."),
    ),
    Kind(
        TEXT,
        None,
        train=(
            "[It|This] is {text}.",
            "The [right|best|simple] [answer|option] is {text}.",
            "[I|We] [choose|take|say|would say|would take|go for] {text}.",
            "{text}, [I think|I know|please].",
            "Most people [say|know] that it is {text}.",
            "The one to [choose|take] is {text}.",
            "It [comes|leads] to {text}.",
            "[In short|To be direct|In my view], {text}.",
            "Its [point|origin|story|answer] is {text}.",
            "{text} is [right|best] here.",
            "So it must be {text}[| then].",
            "Thus [we|I] [read|see] {text}.",
            "[Here|So|Then] [we|I] [choose|take|find|see] {text}.",
            "[Clear|Plain] and [simple|direct], {text}.",
            "{text} it is.",
            "You [will|should] [find|see|know] that it is {text}.",
            "{text} [suits|fits] the question.",
            "My [view|claim|reply] is [this: |]{text}.",
            "[The story|The song|Each step|All of this] leads to {text}.",
        ),
        check=(
            "Here we say {text}.",
            "What suits it is {text}.",
            "So the simple reply is {text}.",
            "I like {text} here.",
        ),
        test=("You will find that {text} fits best.", "Put simply, {text}."),
    ),
    Kind(
        "contrast",
        None,
        train=(
            "[It|The answer] is {text}, not {other}.",
            "Not {other}[,|] but {text}.",
            "[People|Some] say {other}, but [really |]it is {text}.",
            "{text} [fits|suits it] better than {other}.",
            "{other} is wrong, {text} is right.",
            "{text} is right and {other} is wrong.",
            "Some would [say|choose] {other}. I [say|choose] {text}.",
            "[It|The answer] is {text}. It is not {other}.",
            "[I|We] [choose|take|say] {text}[,|] and not {other}.",
            "It is not {other}. It is {text}.",
            "[I|We] prefer {text} to {other}.",
            "{other} [may|would] be wrong, but {text} [is|may be] right.",
            "{other} [may be|is] an option, but [I|we] [choose|say|go for] {text}.",
            "{text} is more [like it|right] than {other}.",
            "I would [never|not] say {other}. I would say {text}.",
            "[Some|People] [like|prefer|know] {other}, but the answer is {text}.",
            "[I|We] know {other}, but [here|really] it [is|must be] {text}.",
            "{text}, and [never|not] {other}, is right.",
        ),
        check=(
            "{other} is not right here, but {text} is.",
            "It is not {other} here. We choose {text}.",
            "{other} is found often, but I say {text}.",
            "{text} fits. {other} is not it.",
        ),
        test=("{other} may look right, but I take {text}.", "I like {text} more than {other}."),
    ),
    Kind(
        "weighing",
        None,
        train=(
            "[We|I] [weigh|compare] {other} [against|and|with] {text}. [It must be|So it is|I choose|Thus] {text}.",
            "Let us [weigh|compare] {text} [against|and|with] {other}. [It must be|So we say|I choose|Thus] {text}.",
            "[Think of|Look at] {rest} and {text}. I [choose|take|say] {text}.",
            "For example, [another question has the answer|some say] {alien}. [This one has|Here it is|We say] {text}.",
            "{other} is one thing and {alien} is another. It is {text}.",
            "Imagine {alien} and {other}. Then [say|think of|choose] {text}.",
        ),
        check=(
            "The options are {rest} and {text}. My view is {text}.",
            "Some know {alien}. Here we take {text}.",
            "Next to {rest} we see {text}. The answer is {text}.",
            "{alien} is for another question. We say {text}.",
        ),
        test=(
            "First, we read {text} and {rest}. Then, we weigh them. Thus it must be {text}.",
            "For example, {alien} is right somewhere else. Here we choose {text}.",
        ),
    ),
    Kind(
        "correction",
        None,
        train=(
            "[The answer|It] is {other}. No, [it is|I say|the answer is] {text}.",
            "I [say|think] {other}. On second thought, {text}.",
            "{other}, but wait, it must be {text}.",
            "First I think of {other} ({other_letter}), then I see that the answer is {text} ({letter}).",
            "[It|The answer] is ({other_letter}). No, [it is |I say |]({letter}).",
            "I [choose|take] {other}. Wait, that is wrong. I [choose|take] {text}.",
            "({other_letter}) {other}. No, ({letter}) {text}.",
            "[It is|I say] ({other_letter}). Wait, [it is|I say] ({letter}).",
        ),
        check=(
            "My answer was {other}. It is {text} now.",
            "({other_letter})? No, that is wrong: ({letter}).",
            "{other} ({other_letter}). Wait. No. {text} ({letter}).",
            "At first it is ({other_letter}), but then I see it must be ({letter}).",
        ),
        test=("At first I say {other}. No, wait, I say {text}.", "({other_letter}) is wrong, I see now: ({letter})."),
    ),
    Kind(
        "place",
        None,
        train=(
            "[I|We] [choose|take] the {place} [option|one].",
            "The {place} [option|one] is [right|best].",
            "[It|The answer] is the {place} of the options.",
            "Of all options the {place} is [right|best].",
            "[In short|So], the {place} [option|one].",
        ),
        check=(
            "I go for the {place} of them.",
            "The {place} option fits.",
            "Here the {place} one suits it.",
            "My reply is the {place} option.",
        ),
        test=("I would say the {place} one.", "The answer must be the {place} option."),
    ),
    Kind(
        "elimination",
        None,
        train=(
            "[It|The answer] is not {rest}. One option is left.",
            "{rest} are [all |]wrong, so take the other one.",
            "Without {rest} only one is left.",
            "The one that is none of these: {rest}.",
            "[I|We] never [choose|take] {rest}. One option is left.",
            "Not {rest}, so the other one.",
        ),
        check=(
            "Take out {rest}. Then one is left.",
            "All but {rest}.",
            "We see that {rest} are wrong. The one left is right.",
            "I say that it is not {rest}, but the other option.",
        ),
        test=("{rest} are wrong, which leaves one.", "The other one, not {rest}."),
    ),
    Kind(
        "none is right",
        NONE,
        train=(
            "[The|My] answer is {alien}.",
            "[None|Not one] of the options [is right|fits].",
            "It is {alien}, which is not in the options.",
            "[I|We] [choose|take|say|would say|go for] {alien}.",
            "No option [is right|fits].",
            "It must be {alien}, not {text}.",
            "[In short|So|To be direct], {alien}.",
            "Its [point|origin|story|answer] is {alien}.",
            "[Some say|It is not] {text}. It is {alien}.",
            "The options are all wrong.",
            "{alien}, [I think|I know|please].",
            "[We|I] weigh {other} against {text}. [It must be|So it is|Thus] {alien}.",
            "The [right|best] [answer|option] is {alien}.",
            "[It comes|It leads] to {alien}.",
            "[Here|So|Then] [we|I] [choose|take|find|see] {alien}.",
            "[Clear|Plain] and [simple|direct], {alien}.",
            "{alien} it is.",
            "You [will|should] [find|see|know] that it is {alien}.",
            "{alien} [suits|fits] the question[| best].",
            "[Not one|None] of [them|these] is right.",
            "There is no right option here.",
            "[Every|Each] [option|one] is wrong.",
            "All [options|these|of them] are wrong.",
            "Nothing [here|in this] is right.",
        ),
        check=(
            "What suits it is {alien}.",
            "There is nothing right in the options.",
            "So the simple reply is {alien}.",
            "I like {alien} here.",
        ),
        test=("Put simply, {alien}.", "All of the options are wrong."),
    ),
    Kind(
        "refusal",
        REFUSED,
        train=(
            "I [will not|cannot] [answer|say|choose|help].[| Please ask somebody else.]",
            "I am sorry, but I [will not|cannot] [answer|help with] this question.",
            "Please [find|ask] somebody else.",
            "I [would like to|must] avoid this [topic|question].",
            "As a model I do not [take a view on|answer|say anything about] this.",
            "[This|It] is not for me to [say|answer].",
            "I am not free to answer[| this question].",
        ),
        check=(
            "I cannot take a view on this.",
            "Sorry, this is a topic that I avoid.",
            "I will not say anything here.",
            "Please do not ask me that.",
        ),
        test=("I must not help with this topic.", "This is a question that I will not answer."),
    ),
    Kind(
        "undecided",
        UNDECIDED,
        train=(
            "[It|The answer] is {text} or {other}.",
            "[Both|All of] {text} and {other} are right.",
            "Let us [weigh|compare] {text} [against|and|with] {other}.",
            "It may be {text}. It may be {other}.",
            "I do not know[| the answer].",
            "Either ({letter}) or ({other_letter}).",
            "First, we read the options[.|. Then, we weigh|. Then]",
            "[I|We] [choose|take|say] {text} and {other}.",
            "I [like|see] {text} and {other}.",
            "It is hard to say.",
            "[Perhaps|Maybe] {text}, [perhaps|maybe] {other}.",
            "{text} and {other} [fit|may be right|are both right].",
            "The options are {rest} and {text}.",
            "[I|We] would [choose|take] {text} or {other}[| then].",
            "[I|We] [look at|think of|read] {rest} and {text}.",
        ),
        check=(
            "{text} or {other}, I think.",
            "I do not really know.",
            "It must be {text}, or it must be {other}.",
            "We read {text}. We read {other}.",
        ),
        test=("I may choose {text} or {other}.", "The right ones are {text} and {other}."),
    ),
)
OPENINGS = (
    "Let us think.",
    "You want me to be brief.",
    "Here is a little background.",
    "Let us read the question step by step.",
    "This is a question about {alien} and more.",
    "I know that you like examples.",
)
CLOSINGS = (
    "Please say if you want to know more.",
    "This is how I see it.",
    "You may like to know more about {alien}.",
    "I follow your wish to keep it short.",
)
