"""What the sentence around each mention of an option says: claimed as the answer, set aside, or one of several.

    items        items of a list of the options, which what leads up to the list does not claim
    stated       claimed in so many words ("the answer is B") and not denied
    standing     not set aside ("not B", "B is wrong", "people think that B"); what is stated stands
    joined       in one list with another standing option ("A and C"), so that it is no single answer

The last two take time and are read only if a rule asks for them: most responses are decided by a claim that stands by
itself. Left out: which of these decides (`claims`), and the words (`patterns`).
"""

from __future__ import annotations

from functools import cached_property
from itertools import pairwise

from perg_utils.extraction.rules import patterns
from perg_utils.extraction.rules.mentions import Mention
from perg_utils.extraction.rules.option_texts import at_line_start

#: Characters read before and after a mention; so many between two mentions are too many for one list.
_BEFORE, _AFTER, _APART = 300, 90, 30


class Context:
    """What is said of the options mentioned; `lower` is `text` in lower case, of the same length."""

    def __init__(self, text: str, lower: str, mentions: list[Mention]) -> None:
        self.text, self.lower, self.mentions = text, lower, mentions
        self.around = {m: self._around(m) for m in mentions}
        self.starts = [m for m in mentions if m.by_letter and at_line_start(text, m.start)]
        self.enumerates = len({m.letter for m in self.starts}) > 2
        self.announced = {m for m in mentions if self._is_announced(m)}
        # The last item of a list may be the answer that follows the list.
        self.items = {a for a, b in pairwise(self.starts) if self.enumerates and a.letter < b.letter} | self.announced
        self.stated = {m for m in mentions if self._is_stated(m)}
        self._crowded = {m for a, b in pairwise(mentions) if b.start < a.end + _APART for m in (a, b)}

    @cached_property
    def standing(self) -> list[Mention]:
        """The mentions that are not set aside. What follows a list ("A and C are wrong") holds for all of it."""
        standing: list[Mention] = []
        before = self._denied_with_lists()
        following, follows_negation = None, False
        for mention in reversed(self.mentions):
            negated = self._is_negated_after(mention)
            if following is not None and follows_negation and self._joins(mention, following):
                negated = True
            following, follows_negation = mention, negated
            if mention in self.stated or not (negated or mention in before):
                standing.append(mention)
        return standing[::-1]

    @cached_property
    def joined(self) -> set[Mention]:
        """The standing mentions that are in one list with another option."""
        pairs = {m for a, b in pairwise(self.standing) if self._joins(a, b) for m in (a, b)}
        return pairs | {m for m in self.standing if m not in pairs and self._is_listed(m)}

    def stands(self, mention: Mention) -> bool:
        """Whether the mention is in `standing`; the others are read only where they are near."""
        if mention in self._crowded:
            return mention in self.standing
        return mention in self.stated or not (self._is_denied(mention) or self._is_negated_after(mention))

    def is_joined(self, mention: Mention) -> bool:
        """Whether the standing mention is in `joined`; the others are read only where they are near."""
        return mention in self.joined if mention in self._crowded else self._is_listed(mention)

    def quoted(self, mention: Mention) -> str:
        """The mention as the response has it, in lower case."""
        return self.lower[mention.start : mention.end]

    def _around(self, mention: Mention) -> tuple[str, str]:
        """What stands before the mention in its sentence (which a line break ends, save after a colon), and after."""
        lower, start = self.lower, mention.start
        led = lower[max(0, start - _BEFORE) : start]
        before = led.rstrip(" \n*_\"'“‘([$`#>-•")
        if "\n" in led[len(before) :] and not before.endswith((":", " is", " be", "=")):
            before = ""
        if before:
            breaks = map(before.rfind, ("\n", ". ", "! ", "? ", "; "))
            before = before[max(breaks) + 1 :]
        return before, lower[mention.end : mention.end + _AFTER]

    def _is_stated(self, mention: Mention) -> bool:
        before = self.around[mention][0]
        if self.quoted(mention).lstrip("*_([\"' ").startswith("answer"):
            return not self._is_denied(mention)
        if mention in self.items and not (
            before.endswith(("is:", "be:")) and patterns.HEADLINE.match(self.lower, mention.end)
        ):
            return False
        return self._is_called_answer(before) and not self._is_denied(mention)

    def _is_announced(self, mention: Mention) -> bool:
        before = self.around[mention][0]  # announced as a list, which claims none of its items
        return before.endswith(":") and bool(patterns.ANNOUNCES.search(before) or patterns.NO_ANSWER.search(before))

    def _is_called_answer(self, before: str) -> bool:
        if before.endswith(":") and patterns.LABEL.search(before):
            return True
        return patterns.may_lead(before) and bool(patterns.ANSWER.search(before)) and not patterns.LEAST.search(before)

    def _is_denied(self, mention: Mention) -> bool:
        before = self.around[mention][0]
        if patterns.may_deny(before) and patterns.NEGATED_BEFORE.search(before, max(0, len(before) - 60)):
            return True
        return bool(before and patterns.REPORTED.search(before))

    def _is_negated_after(self, mention: Mention) -> bool:
        return bool(patterns.NEGATED_AFTER.match(self.around[mention][1]))

    def _denied_with_lists(self) -> set[Mention]:
        """The mentions of which what stands before says no; it holds for all of a list ("not A and C")."""
        out: set[Mention] = set()
        previous = None
        for mention in self.mentions:
            shared = previous is not None and previous in out and self._shares(previous, mention)
            if shared or (mention not in self.stated and self._is_denied(mention)):
                out.add(mention)
            previous = mention
        return out

    def _shares(self, one: Mention, two: Mention) -> bool:
        """Whether what is said before one holds for two: "not A and C", "not A, C", but "unlike option A, option B"."""
        return self._joins(one, two) and (
            not self._is_called_option(two) or bool(patterns.AND.search(self.lower, one.end, two.start))
        )

    def _is_called_option(self, mention: Mention) -> bool:
        return self.quoted(mention).lstrip("*_([\"' ").startswith(("option", "choice", "answer"))

    def _is_listed(self, mention: Mention) -> bool:
        """Whether a letter that is no mention by itself stands in one list with the mention ("either C or ...")."""
        if not mention.by_letter or mention.by_text or self._is_called_option(mention):
            return bool(mention.by_letter and patterns.LISTED_AFTER.match(self.text, mention.end))
        after = patterns.LISTED_AFTER.match(self.text, mention.end)
        return bool(after or patterns.LISTED_BEFORE.search(self.text, max(0, mention.start - 16), mention.start))

    def _joins(self, one: Mention, two: Mention) -> bool:
        """Whether two mentions stand in one list ("A, B and D"), so that neither is a single answer."""
        near = one.letter != two.letter and one.end <= two.start < one.end + _APART
        if near and not two.by_letter and "." in self.lower[one.end : two.start]:
            return False  # a text behind a full stop begins a sentence of its own
        return near and bool(patterns.JOINT.fullmatch(self.lower, one.end, two.start))
