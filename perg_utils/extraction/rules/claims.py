"""What a response says about the options it mentions: claimed as the answer, set aside ("not B"), or neither.

The rules, in the order in which they are tried:

    answer_statement      "the answer is B", "I would choose B", "the best option is salt"
    leading_option        the response begins with "B." or "(B) salt"
    letter_at_end         the response ends with "(B)" and names no other letter
    called_correct        "option B is the best"; after the next rule also 'option B, "salt", is the best answer'
    weak_statement        "therefore, B", "so we say salt"
    self_correction       a claim, then "actually", "wait" or the like, then a claim of another option: the last
    conclusion            the one option named in sentences such as "based on this, ..."
    first_sentence        the one option named in the first sentence
    item_verdict          a list of the options in which one is called correct
    line_start            the first letter that starts a line, with its text, where the others are set aside
    only_letter_named, only_option_text   no other option is mentioned, save those set aside; by a number only where
                          the first or last sentence ends with it ("the speed is 17.0 m/s")
    framed                the first sentence, and a last one that begins with "therefore" or the like, name one option

Several options in one claim ("A and C") are no answer, nor are contradictory claims of one kind, nor is what is left
when the others are ruled out: then nothing decides. What is said to be tempting, or a mistake to choose, is set aside.
"""

from __future__ import annotations

from itertools import zip_longest

from perg_utils.extraction.rules import patterns
from perg_utils.extraction.rules.context import Context
from perg_utils.extraction.rules.mentions import Mention
from perg_utils.extraction.rules.option_texts import at_line_start

Decision = tuple[Mention, str]
#: Rules of explicit answers, which only plain words take back.
_STATEMENTS = ("answer_statement", "leading_option", "letter_at_end")
#: Characters read of an item of a list.
_ITEM = 600
#: So many characters after words that take a claim back another option may follow: claimed, or just named.
_CORRECTS, _NEAR = 120, 30


class Claims(Context):
    """A response's mentions of options, what is said of them, and which of them decides."""

    def decide(self) -> Decision | None:
        """Return the mention that decides and the rule, or None."""
        decided = self._first_rule()
        if decided is None or self._is_retracted(*decided):
            return None
        return self._corrected(decided)

    def _is_retracted(self, mention: Mention, how: str) -> bool:
        if not patterns.RETRACTED.match(self.lower, mention.end):
            return False
        return how not in _STATEMENTS or not patterns.CONCEDED.match(self.lower, mention.end)

    def _first_rule(self) -> Decision | None:
        if self.stated:
            claims = [m for m in self.mentions if m in self.stated]
            return self._of_claims(claims, "answer_statement") or self._leading()
        if found := self._leading() or self._at_end():
            return found
        if correct := [m for m in self.standing if patterns.CLAIMED_AFTER.match(self.around[m][1])]:
            return self._of_claims(correct, "called_correct")
        free = [m for m in self.standing if m not in self.items]
        last = self.mentions[-1].letter
        if weak := [m for m in free if (m.by_letter or m.letter == last) and self._is_weak(m)]:
            return self._of_claims(weak, "weak_statement")
        if best := [m for m in free if self._is_called_best(m)]:
            return self._of_claims(best, "called_correct")
        single = [m for m in free if m.by_letter and m not in self.joined]
        closing = [m for m in single if patterns.CONCLUSION.match(self.around[m][0])]
        return (
            _only(closing, "conclusion")
            or _only(self._first_sentence(free), "first_sentence")
            or _only(self._called_correct_in_list(), "item_verdict")
            or self._only_one()
            or self._framed(free)
        )

    def _only_one(self) -> Decision | None:
        """The one option there is, but not a list's first item or the one that is left when the others are wrong."""
        starts = [m for m in self.starts if m.by_text and m in self.standing and m not in self.joined]
        found = _only(starts, "line_start") or self._only_letter() or self._only_text()
        left_over = found is not None and (found[0] in self.announced or found[0] in self.starts[1:])
        return None if left_over else found

    def _is_weak(self, mention: Mention) -> bool:
        before = self.around[mention][0]
        if not patterns.may_lead(before) or (not mention.by_letter and at_line_start(self.text, mention.start)):
            return False  # the latter an item of some list
        of_letters = (patterns.IT_IS, patterns.THE_ONE_THAT, patterns.CORRESPONDS) if mention.by_letter else ()
        return any(pattern.search(before) for pattern in (patterns.WEAK, *of_letters))

    def _is_called_best(self, mention: Mention) -> bool:
        named = mention.by_letter and self.quoted(mention).startswith("option")
        return named and bool(patterns.CALLED_BEST.match(self.lower, mention.end))

    def _of_claims(self, claims: list[Mention], how: str) -> Decision | None:
        single = [m for m in claims if not self.is_joined(m)]
        single = [m for m in single if m.by_letter] or single
        if len({m.letter for m in single}) > 1:
            corrected = patterns.CORRECTION.search(self.lower, single[-2].end, single[-1].start)
            return (single[-1], "self_correction") if corrected else None
        return (single[-1], how) if single else None

    def _corrected(self, decided: Decision) -> Decision | None:
        """The decision, unless another option follows words that take it back: then that, if claimed, or nothing."""
        claim = decided[0]
        others = [m for m in self.mentions if m.letter != claim.letter and m.start >= claim.end]
        if not others or not patterns.may_take_back(self.lower[claim.end : others[-1].start]):
            return decided
        others = [m for m in others if self.stands(m) and not self.is_joined(m)]
        word = patterns.TAKEN_BACK.search(self.lower, claim.end, others[-1].start) if others else None
        if word is None:
            return decided
        later = [m for m in others if word.end() <= m.start <= word.end() + _CORRECTS]
        claimed = [m for m in later if patterns.CLAIMED_AFTER.match(self.around[m][1]) or self._is_weak(m)]
        if claimed:
            return _only(claimed, "self_correction")
        return None if any(m.by_letter and m.start < word.end() + _NEAR for m in later) else decided

    def _leading(self) -> Decision | None:
        first = self.mentions[0]
        item = self.enumerates and (first in self.items or not first.by_letter)
        listed = item and not patterns.HEADLINE.match(self.lower, first.end)
        leads = first.start <= 2 and not listed and self.stands(first) and not self.is_joined(first)
        return (first, "leading_option") if leads and not self._contrasted(first) else None

    def _contrasted(self, first: Mention) -> bool:
        """Whether its sentence goes on to another option with "but" or the like."""
        others = [m for m in self.mentions if m.by_letter and m.letter != first.letter and m.start >= first.end]
        if not others:
            return False
        end = patterns.FIRST_BREAK.search(self.lower, first.end)
        following = [m for m in others if (end is None or m.start < end.start()) and self.stands(m)]
        return bool(following) and bool(patterns.CONTRAST.search(self.lower, first.end, following[0].start))

    def _at_end(self) -> Decision | None:
        last = self.mentions[-1]
        ends = last.by_letter and patterns.AT_END.search(self.text, max(0, last.end - 6)) and self.stands(last)
        alone = {m.letter for m in self.mentions if m.by_letter} == {last.letter}
        return (last, "letter_at_end") if ends and alone else None

    def _first_sentence(self, mentions: list[Mention]) -> list[Mention]:
        """The mentions in the first sentence, if one of them is by letter."""
        end = patterns.FIRST_BREAK.search(self.lower)
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
            if patterns.VERDICT.search(self.lower, item.end, end):
                out.append(item)
        return out

    def _only_letter(self) -> Decision | None:
        """The one option that is named by its letter, never in a list."""
        named = [m for m in self.standing if m.by_letter]
        return None if any(m in self.joined for m in named) else _only(named, "only_letter_named")

    def _only_text(self) -> Decision | None:
        """The one option mentioned, by a text of more than three letters, if none is pointed at by its ordinal."""
        if any(m.by_letter for m in self.standing) or patterns.BY_ORDINAL.search(self.lower):
            return None
        long = [m for m in self.standing if self._is_long(m)]
        return _only(long or [m for m in self.standing if self._is_all_that_is_said(m)], "only_option_text")

    def _is_long(self, mention: Mention) -> bool:
        return sum(map(str.isalpha, self.quoted(mention))) > 3

    def _is_all_that_is_said(self, mention: Mention) -> bool:
        """Whether the first or last sentence ends with "is" and the mention, and no other option stands."""
        others = any(m.letter != mention.letter for m in self.standing)
        if others or not self.around[mention][0].endswith((" is", " are", " was", " be", "=")):
            return False
        first, ends = patterns.FIRST_BREAK.search(self.lower), patterns.ENDS_SENTENCE.match(self.text, mention.end)
        opens = first is None or mention.end <= first.start()
        return bool(ends and (opens or patterns.ENDS_TEXT.match(self.text, mention.end)))

    def _framed(self, mentions: list[Mention]) -> Decision | None:
        """The one option whose text is in the first sentence and in a last one that concludes, no other beside it."""
        breaks = list(patterns.FIRST_BREAK.finditer(self.lower.rstrip(" \n.!?*")))
        opening = [m for m in mentions if breaks and m.end <= breaks[0].start()]
        concludes = breaks and patterns.CONCLUDES.match(self.lower, breaks[-1].end())
        closing = [m for m in mentions if concludes and m.start >= breaks[-1].end()]
        if not all(self._is_long(m) for m in [*opening, *closing]):
            return None
        return _only([*opening, *closing], "framed") if opening and closing else None


def _only(mentions: list[Mention], how: str) -> Decision | None:
    return (mentions[-1], how) if len({m.letter for m in mentions}) == 1 else None
