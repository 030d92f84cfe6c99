"""What a response says about the options it mentions: claimed as the answer, set aside ("not B"), or neither.

The rules, in the order in which they are tried:

    answer_statement      "the answer is B", "I would choose B", "the best option is salt"
    leading_option        the response begins with "B." or "(B) salt"
    letter_at_end         the response ends with "(B)" and names no other letter
    called_correct        "option B is the best"
    weak_statement        "therefore, B", "so we say salt"
    self_correction       a claim, then "actually", "wait" or the like, then a claim of another option: the last
    conclusion            the one option named in sentences such as "based on this, ..."
    first_sentence        the one option named in the first sentence
    item_verdict          a list of the options in which one is called correct
    line_start            the first letter that starts a line, with its text, where the others are set aside
    only_letter_named, only_option_text   no other option is mentioned, save those set aside

Several options in one claim ("A and C") are no answer, nor are contradictory claims of one kind, nor is what is left
when the others are ruled out: then nothing decides. What is said to be tempting, or a mistake to choose, is set aside.
"""

from __future__ import annotations

from itertools import pairwise, zip_longest

from . import phrases as say
from .mentions import Mention
from .option_texts import at_line_start

Decision = tuple[Mention, str]
#: Characters read before and after a mention, and of an item of a list.
_BEFORE, _AFTER, _ITEM = 300, 90, 600
#: So many characters after words that take a claim back another option may follow: claimed, or just named.
_CORRECTS, _NEAR = 120, 30


class Reading:
    """What a response says about the options it mentions; `lower` is `text` in lower case, of the same length."""

    def __init__(self, text: str, lower: str, mentions: list[Mention]) -> None:
        self.text, self.lower, self.mentions = text, lower, mentions
        self.around = {m: self._around(m) for m in mentions}
        self.starts = [m for m in mentions if m.by_letter and at_line_start(text, m.start)]
        self.enumerates = len({m.letter for m in self.starts}) > 2
        # Items of a list of the options, save its last: what leads up to a list claims none of its items.
        self.items = {a for a, b in pairwise(self.starts) if self.enumerates and a.letter < b.letter}
        self.announced = {m for m in mentions if self._is_announced(m)}
        self.items |= self.announced
        self.denied = {m for m in mentions if self._is_negated_before(m)}
        self.stated = {m for m in mentions if self._is_stated(m)}
        self.standing = self._not_set_aside()
        self.joined = {m for a, b in pairwise(self.standing) if self._joins(a, b) for m in (a, b)}
        self.joined.update(m for m in self.standing if m not in self.joined and self._is_listed(m))

    def decide(self) -> Decision | None:
        """Return the mention that decides and the rule, or None."""
        decided = self._first_rule()
        if decided is None or say.RETRACTED.match(self.lower, decided[0].end):
            return None
        return self._corrected(decided)

    def _first_rule(self) -> Decision | None:
        if self.stated:
            claims = [m for m in self.standing if m in self.stated]
            return self._of_claims(claims, "answer_statement") or self._leading()
        if found := self._leading() or self._at_end():
            return found
        if correct := [m for m in self.standing if say.CLAIMED_AFTER.match(self.around[m][1])]:
            return self._of_claims(correct, "called_correct")
        free = [m for m in self.standing if m not in self.items]
        last = self.mentions[-1].letter
        if weak := [m for m in free if (m.by_letter or m.letter == last) and self._is_weak(m)]:
            return self._of_claims(weak, "weak_statement")
        closing = [m for m in free if m.by_letter and m not in self.joined and say.CONCLUSION.match(self.around[m][0])]
        return (
            _only(closing, "conclusion")
            or _only(self._first_sentence(free), "first_sentence")
            or _only(self._called_correct_in_list(), "item_verdict")
            or self._only_one()
        )

    def _only_one(self) -> Decision | None:
        """The one option there is, but not a list's first item or the one that is left when the others are wrong."""
        starts = [m for m in self.starts if m.by_text and m in self.standing and m not in self.joined]
        found = _only(starts, "line_start") or self._only_letter() or self._only_text()
        left_over = found is not None and (found[0] in self.announced or found[0] in self.starts[1:])
        return None if left_over else found

    def _around(self, mention: Mention) -> tuple[str, str]:
        """What stands before the mention in its sentence (which a line break ends, save after a colon), and after."""
        lower, first, end = self.lower, max(0, mention.start - _BEFORE), mention.start
        while end > first and lower[end - 1] in " \n*_\"'“‘([$`#>-•":
            end -= 1
        if "\n" in lower[end : mention.start] and not lower.endswith((":", " is", " be", "="), first, end):
            first = end
        for mark in ("\n", ". ", "! ", "? ", "; "):
            first = max(first, lower.rfind(mark, first, end) + 1)
        return lower[first:end], lower[mention.end : mention.end + _AFTER]

    def _is_stated(self, mention: Mention) -> bool:
        before = self.around[mention][0]
        named = self._quoted(mention).lstrip("*_([\"' ").startswith("answer")
        named_it = before.endswith(("is:", "be:")) and say.HEADLINE.match(self.lower, mention.end)
        stated = named or ((mention not in self.items or named_it) and self._is_called_answer(before))
        return bool(stated) and mention not in self.denied

    def _is_announced(self, mention: Mention) -> bool:
        before = self.around[mention][0]  # announced as a list, which claims none of its items
        return before.endswith(":") and bool(say.ANNOUNCES.search(before) or say.NO_ANSWER.search(before))

    def _is_called_answer(self, before: str) -> bool:
        return bool(before and say.ANSWER.search(before) and not say.LEAST.search(before))

    def _is_weak(self, mention: Mention) -> bool:
        before = self.around[mention][0]
        if not mention.by_letter and at_line_start(self.text, mention.start):  # an item of some list
            return False
        return bool(
            say.WEAK.search(before)
            or (mention.by_letter and any(p.search(before) for p in (say.IT_IS, say.THE_ONE_THAT, say.CORRESPONDS)))
        )

    def _is_negated_before(self, mention: Mention) -> bool:
        before = self.around[mention][0]
        near = max(0, len(before) - 60)
        return bool(before and (say.NEGATED_BEFORE.search(before, near) or say.REPORTED.search(before)))

    def _not_set_aside(self) -> list[Mention]:
        """The mentions that are not negated. What follows a list ("A and C are wrong") holds for all of it."""
        standing: list[Mention] = []
        before = self._negated_before()
        following, follows_negation = None, False
        for mention in reversed(self.mentions):
            negated = bool(say.NEGATED_AFTER.match(self.around[mention][1]))
            if following is not None and follows_negation and self._joins(mention, following):
                negated = True
            following, follows_negation = mention, negated
            if mention in self.stated or not (negated or mention in before):
                standing.append(mention)
        return standing[::-1]

    def _negated_before(self) -> set[Mention]:
        """The mentions of which what stands before says no; it holds for all of a list ("not A and C")."""
        out: set[Mention] = set()
        previous = None
        for mention in self.mentions:
            shared = previous is not None and previous in out and self._shares(previous, mention)
            if shared or mention in self.denied:
                out.add(mention)
            previous = mention
        return out

    def _shares(self, one: Mention, two: Mention) -> bool:
        """Whether what is said before one holds for two: "not A and C", "not A, C", but "unlike option A, option B"."""
        return self._joins(one, two) and (
            not self._is_called_option(two) or bool(say.AND.search(self.lower, one.end, two.start))
        )

    def _is_called_option(self, mention: Mention) -> bool:
        return self._quoted(mention).lstrip("*_([\"' ").startswith(("option", "choice", "answer"))

    def _is_listed(self, mention: Mention) -> bool:
        """Whether a letter that is no mention by itself stands in one list with the mention ("either C or ...")."""
        if not mention.by_letter or mention.by_text or self._is_called_option(mention):
            return bool(mention.by_letter and say.LISTED_AFTER.match(self.text, mention.end))
        after = say.LISTED_AFTER.match(self.text, mention.end)
        return bool(after or say.LISTED_BEFORE.search(self.text, max(0, mention.start - 16), mention.start))

    def _joins(self, one: Mention, two: Mention) -> bool:
        """Whether two mentions stand in one list ("A, B and D"), so that neither is a single answer."""
        near = one.letter != two.letter and one.end <= two.start < one.end + 30
        return near and bool(say.JOINT.fullmatch(self.lower, one.end, two.start))

    def _of_claims(self, claims: list[Mention], how: str) -> Decision | None:
        single = [m for m in claims if m not in self.joined]
        single = [m for m in single if m.by_letter] or single
        if len({m.letter for m in single}) > 1:
            corrected = say.CORRECTION.search(self.lower, single[-2].end, single[-1].start)
            return (single[-1], "self_correction") if corrected else None
        return (single[-1], how) if single else None

    def _corrected(self, decided: Decision) -> Decision | None:
        """The decision, unless another option follows words that take it back: then that, if claimed, or nothing."""
        claim = decided[0]
        others = [
            m for m in self.standing if m.letter != claim.letter and m.start >= claim.end and m not in self.joined
        ]
        word = say.TAKEN_BACK.search(self.lower, claim.end, others[-1].start) if others else None
        if word is None:
            return decided
        later = [m for m in others if word.end() <= m.start <= word.end() + _CORRECTS]
        claimed = [m for m in later if say.CLAIMED_AFTER.match(self.around[m][1]) or self._is_weak(m)]
        if claimed:
            return _only(claimed, "self_correction")
        return None if any(m.by_letter and m.start < word.end() + _NEAR for m in later) else decided

    def _leading(self) -> Decision | None:
        first = self.mentions[0]
        item = self.enumerates and (first in self.items or not first.by_letter)
        listed = item and not say.HEADLINE.match(self.lower, first.end)
        leads = first.start <= 2 and first in self.standing and first not in self.joined
        return (first, "leading_option") if leads and not listed and not self._contrasted(first) else None

    def _contrasted(self, first: Mention) -> bool:
        """Whether its sentence goes on to another option with "but" or the like."""
        end = say.FIRST_BREAK.search(self.lower, first.end)
        others = [m for m in self.standing if m.by_letter and m.letter != first.letter]
        following = [m for m in others if m.start >= first.end and (end is None or m.start < end.start())]
        return bool(following) and bool(say.CONTRAST.search(self.lower, first.end, following[0].start))

    def _at_end(self) -> Decision | None:
        last = self.mentions[-1]
        ends = last.by_letter and last in self.standing and say.AT_END.search(self.text, max(0, last.end - 6))
        alone = {m.letter for m in self.mentions if m.by_letter} == {last.letter}
        return (last, "letter_at_end") if ends and alone else None

    def _first_sentence(self, mentions: list[Mention]) -> list[Mention]:
        """The mentions in the first sentence, if one of them is by letter."""
        end = say.FIRST_BREAK.search(self.lower)
        opening = [m for m in mentions if end is None or m.start < end.start()]
        named = any(m.by_letter for m in opening) and not any(m in self.joined for m in opening)
        return opening if named else []

    def _called_correct_in_list(self) -> list[Mention]:
        """The items of a list of the options that are called correct in their own lines."""
        if not self.enumerates:
            return []
        out = []
        for item, following in zip_longest(self.starts, self.starts[1:]):
            end = min(following.start if following else item.end + _ITEM, item.end + _ITEM)
            if say.VERDICT.search(self.lower, item.end, end):
                out.append(item)
        return out

    def _only_letter(self) -> Decision | None:
        """The one option that is named by its letter, never in a list."""
        named = [m for m in self.standing if m.by_letter]
        return None if any(m in self.joined for m in named) else _only(named, "only_letter_named")

    def _only_text(self) -> Decision | None:
        """The one option that is mentioned, by a text of more than three letters."""
        if any(m.by_letter for m in self.standing):
            return None
        return _only([m for m in self.standing if sum(map(str.isalpha, self._quoted(m))) > 3], "only_option_text")

    def _quoted(self, mention: Mention) -> str:
        return self.lower[mention.start : mention.end]


def _only(mentions: list[Mention], how: str) -> Decision | None:
    return (mentions[-1], how) if len({m.letter for m in mentions}) == 1 else None
