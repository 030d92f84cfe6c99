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
    line_start            the only letter that starts a line
    only_letter_named, only_option_text   no other option is mentioned, save those set aside

Several options in one claim ("A and C") are no answer, nor are contradictory claims of one kind, nor is what is left
when the others are ruled out: then nothing decides. What is said to be tempting, or a mistake to choose, is set aside.
"""

from __future__ import annotations

import re
from itertools import pairwise, zip_longest

from .mentions import Mention, at_line_start

Decision = tuple[Mention, str]
#: How many characters before and after a mention, and of an item of a list, are read.
_BEFORE, _AFTER, _ITEM = 300, 90, 600

_BREAK = re.compile(r"[.!?;](?=\s)|\n")
_FIRST_BREAK = re.compile(r"[!?](?=\s)|(?<!\b[a-z])[.](?=\s)|\n")
_AT_END = re.compile(r"\([A-Z]\)\W{0,3}$")

# What leads up to a claimed option: a link ("is", ":", "choose") and filler words, at the end of what is read.
_LINK = (
    r"(?:\b(?:is|are|be|was|were|with|choose|select|pick|chose|say)|[:=→]|'s|’s)[\s:]*"
    r"(?:(?:most|likely|probably|therefore|thus|indeed|clearly|actually|option|choice|letter|answer|number|the|that|"
    r"an?|one|definitely|simply|represented|given|by|in|indicated|described|labell?ed|found|best|as|follows|"
    r"corresponding|to|under)\b[\s:,]*)*$"
)
_ANSWER = re.compile(
    r"\b(?:answer|(?:correct|best|right|accurate|appropriate|suitable|likely|fitting|logical|closest|plausible|"
    r"relevant|reasonable|effective|aligned|matching|final)\b[^.\n]{0,60}?\b(?:choice|option|response|selection|"
    r"solution|statement|explanation|one|description|conclusion|term|example|reason|definition|argument)|"
    r"(?:option|choice|statement)\b[^.\n]{0,20}\bthat (?:best|most|correctly|accurately))\b[^\n]{0,160}?" + _LINK + "|"
    r"\bi(?: would|'d|'ll| will)? (?:choose|select|pick|go with|go for|say|chose)(?: the| option| answer| letter)*:?$"
)
_WEAK = re.compile(
    r"\b(?:correct|best|most|right|likely|therefore|thus|hence|so|conclu\w+|option|choice|statement|choose|select|pick|"
    r"go with|because|term|correctly|result|summary|short|final|means?)\b[^\n]{0,160}?"
    + _LINK
    + r"|^\W*(?:therefore|thus|hence|so),?$"
)
#: Said of a letter; what "it is" says of an option's text may be about anything.
_IT_IS = re.compile(r"^\W*(?:[a-z]+\W+){0,4}it(?: is|'s|’s| must be| would be| should be)$")
#: A claim that is reported, and not made.
_REPORTED = re.compile(
    r"\b(?:mistake|wrong|incorrect|error|tempting|tempted|misleading)(?: is| would be)? to\b|"
    r"\b(?:one|some|you|people|many|someone) (?:people |students )?(?:might|may|could) "
    r"(?:first |initially |also |be )?(?:think|say|choose|pick|assume|believe|argue|select|guess)\b"
)
_NEGATED_BEFORE = re.compile(
    r"(?:\b(?:not|never|neither|nor|than|unlike|except|besides|against|(?:rule|ruled|ruling) out|"
    r"eliminat\w+|exclud\w+|discard\w*|reject\w*|instead of|dismiss\w*|incorrect|wrong)\b|n't\b|n’t\b)"
    r"[\s:\"'(*“]*(?:(?:option|choice|answer|the|be|an?|both|either)s?\b[\s:]*){0,3}$"
)
_HEAD = r"^[\s\"'”’)*,.:]*"
_NEGATED_AFTER = re.compile(
    _HEAD + r"(?:(?:is|are|was|were|can|could|would|should|does|do|did|may|might|and \w+ (?:is|are))"
    r"(?:n't|n’t| not\b|not\b)|(?:is|are|would be|can be|could be|seems|was|were) (?:\w+ )?(?:incorrect|wrong|false|"
    r"less|unlikely|irrelevant|ruled|eliminated|excluded|unrelated|inaccurate|neither|also|too|partially|partly)\b|"
    r"(?:incorrect|wrong)\b|(?:is|are|seems|looks|sounds|may be|might be) (?:\w+ )?tempting\b|"
    r"(?:might|may|could) (?:be considered\s*[,;.]|(?:\w+ )?(?:seem|appear|look|sound)\b))"
)
_CLAIMED_AFTER = re.compile(
    _HEAD + r"(?:(?:is|are|would be|seems|appears|must be|should be|stands out|remains|was|'s)\b"
    r"(?: (?:to be|as|therefore|thus|indeed|the|an?|clearly|likely|probably|definitely|my|most|your|only|more)\b)*"
    r" (?:\w+ )?(?:correct|best|right|answer|accurate|appropriate|suitable|likely|true|fitting|closest|plausible|"
    r"logical|reasonable|one that|(?:option|choice|one|statement|situation|place|thing|answer) (?:that|where|which))\b|"
    r"(?:has|have|provides|offers|represents|describes|would have|fits|captures) (?:the )?(?:most|best|greatest|"
    r"highest|strongest|closest)\b|"
    r"(?:is|are|would be|seems) (?:\w+ )?(?:the |a )?better(?: (?:choice|option|answer|fit)\b|[.!]|$)|"
    r"[-–—]?\s*correct[.!]?\s*(?:$|\n|[-–—:(,])|"
    r"(?:(?:would|will|could) )?(?:best|most (?:closely|accurately|likely|directly|effectively)) \w+)"
)
_CONCLUSION = re.compile(
    r"\s*(?:[-*#]\s*)?(?:so|therefore|thus|hence|based on|in conclusion|in summary|in short|to summarize|to sum up|"
    r"comparing|given|overall|considering|taking|among|of the|out of|from (?:the|these|this)|"
    r"we can (?:see|conclude|say)|this (?:means|suggests)|as a result|consequently|ultimately|best|final|conclusion)\b|"
    r".*\b(?:answer|(?:most|best) (?:\w+ )?(?:likely|appropriate|accurate|suitable|common|logical|option|choice|fit))\b"
)
_VERDICT = re.compile(
    r"\bth(?:is|e)(?: (?:option|answer|choice|one))? (?:is|seems|appears|would be)(?: to be)?(?: indeed)? (?:the |a )?"
    r"(?:most \w+|best|correct|right|accurate)\b|[:(\n-]\s*correct\b"
)
_AND = r"(?:and|or|&|nor|as well as|and/or)\b"
_JOINT = re.compile(
    rf"[)*\"'”.]*(?:[,;]\s*(?:{_AND})?|\s+{_AND}|[ ]*\n(?!\n)[-*• ]*)"
    r"[\s(*\"'“]*(?:(?:options?|choices?|both)\b)?[\s(*\"'“]*"
)
_TAKES_BACK = (
    r"actually|correction|wait|on second thoughts?|on reflection|hmm+|scratch that|let me (?:reconsider|correct)|"
    r"no, (?:it|the|that|wait)|i was wrong|(?:my|i made a) mistake"
)
_TAKEN_BACK = re.compile(rf"\b(?:{_TAKES_BACK})\b")
#: Enough between two claims of one kind.
_CORRECTION = re.compile(rf"\b(?:{_TAKES_BACK}|mistake|apologi\w+|sorry)\b")
#: So many characters after such words another option may follow: claimed, or just named.
_CORRECTS, _NEAR = 120, 30
_CONTRAST = re.compile(r"\b(?:but|however|though|although|while|whereas|yet|instead)\b")


class Reading:
    """What a response says about the options it mentions; `lower` is `text` in lower case, of the same length."""

    def __init__(self, text: str, lower: str, mentions: list[Mention]) -> None:
        self.text, self.lower, self.mentions = text, lower, mentions
        self.around = {m: self._around(m) for m in mentions}
        self.starts = [m for m in mentions if m.by_letter and at_line_start(text, m.start)]
        self.enumerates = len({m.letter for m in self.starts}) > 2
        # Items of a list of the options, save its last: what leads up to a list claims none of its items.
        self.items = {a for a, b in pairwise(self.starts) if self.enumerates and a.letter < b.letter}
        self.stated = {m for m in mentions if self._is_stated(m)}
        self.standing = self._not_set_aside()
        self.joined = {m for a, b in pairwise(self.standing) if self._joins(a, b) for m in (a, b)}

    def decide(self) -> Decision | None:
        """Return the mention that decides and the rule, or None."""
        decided = self._first_rule()
        return self._corrected(decided) if decided else None

    def _first_rule(self) -> Decision | None:
        if self.stated:
            return self._of_claims([m for m in self.standing if m in self.stated], "answer_statement")
        if found := self._leading() or self._at_end():
            return found
        if correct := [m for m in self.standing if _CLAIMED_AFTER.search(self.around[m][1])]:
            return self._of_claims(correct, "called_correct")
        free = [m for m in self.standing if m not in self.items]
        if weak := [m for m in free if self._is_weak(m)]:
            return self._of_claims(weak, "weak_statement")
        closing = [m for m in free if m.by_letter and m not in self.joined and _CONCLUSION.match(self.around[m][0])]
        return (
            _only(closing, "conclusion")
            or _only(self._first_sentence(free), "first_sentence")
            or _only(self._called_correct_in_list(), "item_verdict")
            or _only([m for m in self.starts if m in self.standing], "line_start")
            or _only([m for m in self.standing if m.by_letter], "only_letter_named")
            or _only(
                [m for m in self.standing if sum(map(str.isalpha, self._quoted(m))) > 3],
                "only_option_text",
            )
        )

    def _around(self, mention: Mention) -> tuple[str, str]:
        """What stands before the mention in its sentence (which a line break ends, save after a colon), and after."""
        window = self.lower[max(0, mention.start - _BEFORE) : mention.start]
        before = window.rstrip(" \n*_\"'“‘([$`#>-•")
        if "\n" in window[len(before) :] and not before.endswith((":", " is", " be", "=")):
            before = ""
        return _BREAK.split(before)[-1], self.lower[mention.end : mention.end + _AFTER]

    def _is_stated(self, mention: Mention) -> bool:
        before = self.around[mention][0]
        named = self._quoted(mention).lstrip("*_([\"' ").lower().startswith("answer")
        stated = named or (mention not in self.items and _ANSWER.search(before))
        return bool(stated) and not self._is_negated_before(mention)

    def _is_weak(self, mention: Mention) -> bool:
        before = self.around[mention][0]
        return bool(_WEAK.search(before) or (mention.by_letter and _IT_IS.search(before)))

    def _is_negated_before(self, mention: Mention) -> bool:
        before = self.around[mention][0]
        return bool(_NEGATED_BEFORE.search(before) or _REPORTED.search(before))

    def _not_set_aside(self) -> list[Mention]:
        """The mentions that are not negated. What follows a list ("A and C are wrong") holds for all of it."""
        standing: list[Mention] = []
        following, follows_negation = None, False
        for mention in reversed(self.mentions):
            negated = bool(_NEGATED_AFTER.search(self.around[mention][1]))
            if following is not None and follows_negation and self._joins(mention, following):
                negated = True
            following, follows_negation = mention, negated
            if mention in self.stated or not (negated or self._is_negated_before(mention)):
                standing.append(mention)
        return standing[::-1]

    def _joins(self, one: Mention, two: Mention) -> bool:
        """Whether two mentions stand in one list ("A, B and D"), so that neither is a single answer."""
        near = one.letter != two.letter and one.end <= two.start < one.end + 30
        return near and bool(_JOINT.fullmatch(self.lower, one.end, two.start))

    def _of_claims(self, claims: list[Mention], how: str) -> Decision | None:
        single = [m for m in claims if m not in self.joined]
        single = [m for m in single if m.by_letter] or single
        if len({m.letter for m in single}) > 1:
            corrected = _CORRECTION.search(self.lower, single[-2].end, single[-1].start)
            return (single[-1], "self_correction") if corrected else None
        return (single[-1], how) if single else None

    def _corrected(self, decided: Decision) -> Decision | None:
        """The decision, unless another option follows words that take it back: then that, if claimed, or nothing."""
        claim = decided[0]
        others = [
            m for m in self.standing if m.letter != claim.letter and m.start >= claim.end and m not in self.joined
        ]
        word = _TAKEN_BACK.search(self.lower, claim.end, others[-1].start) if others else None
        if word is None:
            return decided
        later = [m for m in others if word.end() <= m.start <= word.end() + _CORRECTS]
        claimed = [m for m in later if _CLAIMED_AFTER.search(self.around[m][1]) or self._is_weak(m)]
        if claimed:
            return _only(claimed, "self_correction")
        return None if any(m.by_letter and m.start < word.end() + _NEAR for m in later) else decided

    def _leading(self) -> Decision | None:
        first = self.mentions[0]
        listed = self.enumerates and (first in self.items or not first.by_letter)
        leads = first.start <= 2 and first in self.standing and first not in self.joined
        return (first, "leading_option") if leads and not listed and not self._contrasted(first) else None

    def _contrasted(self, first: Mention) -> bool:
        """Whether its sentence goes on to another option with "but" or the like."""
        end = _FIRST_BREAK.search(self.lower, first.end)
        others = [m for m in self.standing if m.by_letter and m.letter != first.letter]
        following = [m for m in others if m.start >= first.end and (end is None or m.start < end.start())]
        return bool(following) and bool(_CONTRAST.search(self.lower, first.end, following[0].start))

    def _at_end(self) -> Decision | None:
        last = self.mentions[-1]
        ends = last.by_letter and last in self.standing and _AT_END.search(self.text, max(0, last.end - 6))
        alone = {m.letter for m in self.mentions if m.by_letter} == {last.letter}
        return (last, "letter_at_end") if ends and alone else None

    def _first_sentence(self, mentions: list[Mention]) -> list[Mention]:
        """The mentions in the first sentence, if one of them is by letter."""
        end = _FIRST_BREAK.search(self.lower)
        opening = [m for m in mentions if end is None or m.start < end.start()]
        return opening if any(m.by_letter for m in opening) else []

    def _called_correct_in_list(self) -> list[Mention]:
        """The items of a list of the options that are called correct in their own lines."""
        if not self.enumerates:
            return []
        out = []
        for item, following in zip_longest(self.starts, self.starts[1:]):
            end = min(following.start if following else item.end + _ITEM, item.end + _ITEM)
            if _VERDICT.search(self.lower, item.end, end):
                out.append(item)
        return out

    def _quoted(self, mention: Mention) -> str:
        return self.text[mention.start : mention.end]


def _only(mentions: list[Mention], how: str) -> Decision | None:
    return (mentions[-1], how) if len({m.letter for m in mentions}) == 1 else None
