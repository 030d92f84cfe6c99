"""The words by which English responses claim an option, set one aside, take one back, or name several.

Each pattern is read against lower-case text: what stands before a mention in its sentence, what stands after it, or
what is between two mentions. `claims` says which rule uses which.

Left out: where options are mentioned (`mentions`); other languages' words.
"""

from __future__ import annotations

import re


def may_lead(before: str) -> bool:
    """Whether the last word allows what stands before an option to claim it, which is quicker to see than a claim."""
    word = before[before.rfind(" ") + 1 :].rstrip(",")
    return word in _LEADING or not (word.isalpha() or word.endswith("."))


def may_deny(before: str) -> bool:
    """The same of what stands before an option that it denies."""
    word = before[before.rfind(" ") + 1 :]
    return word in _DENYING or word.startswith(_DENYING_STEMS) or not (word.isalpha() or word.endswith((",", ".")))


def may_take_back(lower: str) -> bool:
    """Whether a response has the words by which one takes a claim back."""
    return any(map(lower.__contains__, _TAKING_BACK))


ENDS_SENTENCE = re.compile(r"[)\]*_\"'”’$]{0,4}[ ]?(?:[.!](?=\s|$)|$|\n)")
CONCLUDES = re.compile(r"\W*(?:therefore|thus|hence|so|in (?:conclusion|summary|short)|to sum up|overall)\b")
ENDS_TEXT = re.compile(r"[)\]*_\"'”’$.!\s]*$")
FIRST_BREAK = re.compile(r"[!?](?=\s)|(?<!\b[a-z])[.](?=\s)|\n")
AT_END = re.compile(r"\([A-Z]\)\W{0,3}$")

# What leads up to a claimed option: a link ("is", ":", "choose") and filler words, at the end of what is read.
_LINKS = "is|are|be|was|were|with|choose|select|pick|chose|say"
_FILLERS = (
    "most|likely|probably|therefore|thus|indeed|clearly|actually|option|choice|letter|answer|number|the|that|a|an|one|"
    "definitely|simply|represented|given|by|in|indicated|described|labeled|labelled|found|best|as|follows|"
    "corresponding to|corresponding|under"
)
_LINK = rf"(?:\b(?:{_LINKS})\b|[:=→]|'s|’s)[\s:]*(?:(?:{_FILLERS})\b[\s:,]*)*$"
_LEADING = frozenset({*_LINKS.split("|"), *_FILLERS.split("|"), "to", "for", "so", "hence", "match", "matches"})
#: "Answer" in other languages, where a colon follows; their sentences are not read.
LABEL = re.compile(
    r"(?<!\w)(?:antwort|respuesta|réponse|reponse|risposta|resposta|antwoord|svar|odpowiedź|cevap|jawaban|ответ|"
    r"відповідь|απάντηση|答案|答え|回答|正解|答|정답|답|الإجابة|الجواب|उत्तर)\s?:$"
)
ANSWER = re.compile(
    r"\b(?:(?<!\bto )answer|(?:correct|best|right|accurate|appropriate|suitable|likely|fitting|logical|closest|"
    r"plausible|relevant|reasonable|effective|aligned|matching|final)\b[^.\n]{0,60}?\b(?:choice|option|response|selection|"
    r"solution|statement|explanation|one|description|conclusion|term|example|reason|definition|argument)|"
    r"(?:option|choice|statement)\b[^.\n]{0,20}\bthat (?:best|most|correctly|accurately|is|does|would))\b"
    r"[^\n]{0,160}?" + _LINK + "|"
    r"\bi(?: would|'d|'ll| will)? (?:choose|select|pick|go with|go for|say|chose)(?: the| option| answer| letter)*:?$"
)
WEAK = re.compile(
    r"\b(?:correct|best|most|right|likely|therefore|thus|hence|so|conclu\w+|option|choice|statement|choose|select|pick|"
    r"go with|because|term|correctly|result|summary|short|final|means?)\b[^\n]{0,160}?"
    + _LINK
    + r"|^\W*(?:therefore|thus|hence|so),?$"
)
#: "The statement that does not hold is": said of a letter.
THE_ONE_THAT = re.compile(r"\bthe \w+ (?:that|which|who)\b[^\n]{0,160}?" + _LINK)
#: "Which corresponds to option": said of a letter.
CORRESPONDS = re.compile(
    r"\b(?:corresponds?|match(?:es)?|aligns?|closest)(?: \w+)? (?:to|with)(?: the)?$|\bmatch(?:es)?$"
)
#: Said of a letter; what "it is" says of an option's text may be about anything.
IT_IS = re.compile(r"^\W*(?:[a-z]+\W+){0,4}it(?: is|'s|’s| must be| would be| should be)$")
#: "The least likely option is": an answer only to some questions, which are not read.
LEAST = re.compile(r"\b(?:least|less|incorrect|inaccurate|inappropriate|unlikely|wrong|false)\b[^.\n]{0,80}$")

#: "The others are not the best answer because:".
NO_ANSWER = re.compile(
    r"(?:\bnot|n't|n’t) (?:(?:the|an?|be|one|of|among|really|necessarily) )*(?:\w+ )?"
    r"(?:answers?|options?|choices?|match)\b[^.,;\n]{0,40}:$"
)
#: Announces a list of the options: "let's break down each option to find the best answer:".
ANNOUNCES = re.compile(
    r"\b(?:break(?:ing)? (?:\w+ )?down|analy[sz]e|examine|evaluate|consider|look at|go (?:through|over)|explore|review|"
    r"summari[sz]e|understand|discuss)\b[^.\n]*(?<!\bis)(?<!\bbe)(?<!\bare)(?<!answer)(?<!option):$"
)
_OPTIONS = r"(?:options?|choices?|answers?|alternatives?|possibilit(?:y|ies))"
#: A claim that is reported, supposed or added to another one, and not made; or one of "the other options".
REPORTED = re.compile(
    r"\b(?:mistake|wrong|incorrect|error|tempting|tempted|misleading)(?: is| would be)? to\b|"
    r"\b(?:one|some|you|people|many|someone) (?:people |students )?(?:might|may|could) "
    r"(?:first |initially |also |be )?(?:think|say|choose|pick|assume|believe|argue|select|guess)\b|"
    r"\b(?:people|many|some|others) (?:\w+ )?(?:believed?|thought|think|assumed?|claim(?:ed)?|argued?)\b|"
    r"\b(?:could|may|might|can|would) also (?:be|include|consider|work|argue|say)\b|"
    rf"\b(?:other|remaining|rest of the) (?:\w+ )?{_OPTIONS}\W{{0,3}}$|"
    r"\b(?:other|remaining)$|\b(?:whether|determine if|nor|neither)\b[^.,;:!?\n]{0,80}$"
)
_DENIALS = "not|never|neither|nor|than|unlike|except|besides|against|incorrect|wrong"
_DENIED = "option|options|choice|choices|answer|answers|the|be|a|an|both|either"
NEGATED_BEFORE = re.compile(
    rf"(?:\b(?:{_DENIALS}|(?:rule|ruled|ruling) out|eliminat\w+|exclud\w+|discard\w*|reject\w*|instead of|dismiss\w*|"
    r"(?:contrast|opposed|compared) (?:to|with))\b|n't\b|n’t\b)"
    rf"[\s:\"'(*“]*(?:(?:{_DENIED})\b[\s:]*){{0,3}}$"
)
_DENYING = frozenset({*_DENIALS.split("|"), *_DENIED.split("|"), "out", "of", "to", "with"})
_DENYING_STEMS = ("eliminat", "exclud", "discard", "reject", "dismiss")
_HEAD = r"[\s\"'”’)*,.:]*"
NEGATED_AFTER = re.compile(
    _HEAD + r"(?:(?:is|are|was|were|can|could|would|should|does|do|did|may|might|and \w+ (?:is|are))"
    r"(?:n't|n’t| not\b|not\b)|(?:is|are|would be|can be|could be|seems|was|were) (?:\w+ )?(?:incorrect|wrong|false|"
    r"less|unlikely|irrelevant|ruled|eliminated|excluded|unrelated|inaccurate|neither|also|too|partially|partly)\b"
    r"(?! (?:statement|one|option|sentence|answer)\b)|"
    r"(?:incorrect|wrong)\b|(?:is|are|seems|looks|sounds|may be|might be) (?:\w+ )?tempting\b|"
    r"(?:might|may|could) (?:also\b|be considered\s*[,;.]|(?:\w+ )?(?:seem|appear|look|sound)\b))"
)
CLAIMED_AFTER = re.compile(
    _HEAD + r"(?:(?:is|are|would be|seems|appears|must be|should be|stands out|remains|was|'s)\b"
    r"(?: (?:to be|as|therefore|thus|indeed|the|an?|clearly|likely|probably|definitely|my|most|your|only|more)\b)*"
    r" (?:\w+ )?(?:(?:correct|best|right|answer|accurate|true|fitting|closest|one that)\b|"
    r"(?:appropriate|suitable|likely|plausible|logical|reasonable)\b(?! (?:\w+ )?(?:if|when|to)\b)|"
    r"(?<!\ba )(?:option|choice|one|statement|situation|place|thing|answer) (?:that|where|which)\b)|"
    r"(?:has|have|provides|offers|represents|describes|would have|fits|captures) (?:the )?(?:most|best|greatest|"
    r"highest|strongest|closest)\b|comes? (?:the )?closest\b|"
    r"(?:is|would be) the (?:only )?(?:(?:false|incorrect|inaccurate|untrue|wrong) (?:statement|one|option)|"
    r"exception)\b|"
    r"(?:is|are|would be|seems) (?:\w+ )?(?:the |a )?better(?: (?:choice|option|answer|fit)\b|[.!]|$)|"
    r"[-–—]?\s*correct[.!]?\s*(?:$|\n|[-–—:(,])|"
    r"(?:(?:would|will|could) )?(?:best|most (?:closely|accurately|likely|directly|effectively)) \w+)"
)
#: The same after what the option says: 'option B, "salt", is the best answer'.
CALLED_BEST = re.compile(
    r"(?:,|:|\)?[,:]? ?[(\"“'])[^.\n]{1,200}?[,)\"”'] (?:is|would be|seems to be|must be)(?: (?!not)\w+)? the "
    r"(?:correct|right|best|most \w+)(?: \w+)? (?:answer|option|choice)\b"
)
CONCLUSION = re.compile(
    r"\s*(?:[-*#]\s*)?(?:so|therefore|thus|hence|based on|in conclusion|in summary|in short|to summarize|to sum up|"
    r"comparing|given|overall|considering|taking|among|of the|out of|from (?:the|these|this)|"
    r"we can (?:see|conclude|say)|this (?:means|suggests)|as a result|consequently|ultimately|best|final|conclusion)\b|"
    r".*\b(?:answer|(?:most|best) (?:\w+ )?(?:likely|appropriate|accurate|suitable|common|logical|option|choice|fit))\b"
)
VERDICT = re.compile(
    r"\bth(?:is|e)(?: (?:option|answer|choice|one))? (?:is|seems|appears|would be)(?: to be)?(?: indeed)? (?:the |a )?"
    r"(?:most \w+|best|correct|right|accurate)\b|[:(\n-]\s*correct\b"
)
#: An option named by its ordinal, as in "it must be the second option": which one that is, rules do not count.
BY_ORDINAL = re.compile(r"\bthe (?:first|second|third|fourth|fifth|sixth|last) (?:one|option|choice)\b")
_AND = r"(?:and|or|&|nor|as well as|and/or)\b"
JOINT = re.compile(
    rf"[)*\"'”.]*(?:[,;]\s*(?:{_AND})?|\s+{_AND}|[ ]*\n(?!\n)[-*• ]*|\s*/\s*)"
    r"[\s(*\"'“]*(?:(?:options?|choices?|both|an?|the)\b)?[\s(*\"'“]*"
)
AND = re.compile(r"\b(?:and|or|nor)\b|&")
#: A letter that is no mention by itself, in one list with the mention before or after it ("either C or", "A, C, E").
_AND_LETTER = r"(?:,?\s*(?:and|or|&)\s+|\s*/\s*)(?:[Oo]ptions? )?"
LISTED_AFTER = re.compile(rf"[)\]*\"']*(?:{_AND_LETTER}|,\s*)[(\[*\"']*(?:[B-HJ-Z]|A(?=[),.;]))(?![\w'’])")
LISTED_BEFORE = re.compile(rf"(?<![\w'’])[A-HJ-Z][)\]*\"']*(?:{_AND_LETTER}|,\s*)[(\[*\"']*\Z")
_TAKES_BACK = (
    r"correction|on second thoughts?|on reflection|hmm+|scratch that|let me (?:reconsider|correct)|"
    r"no, (?:it|the|that|wait)|i was wrong|(?:my|i made a) mistake"
)
_TAKING_BACK = (
    "actually", "correction", "wait", "on second", "on reflection", "hmm", "scratch", "let me", "no, ", "i was",
    "mistake",
)  # fmt: skip
#: "It actually is", "they wait" and the like take nothing back by themselves.
TAKEN_BACK = re.compile(rf"\b(?:(?<![a-z\d] )(?:actually|wait)|(?<=\bbut )actually|{_TAKES_BACK})\b")
#: Enough between two claims of one kind.
CORRECTION = re.compile(rf"\b(?:actually|wait|{_TAKES_BACK}|mistake|apologi\w+|sorry)\b")
_NOT = r"(?:this|that|it|which)(?: \w+)? (?:is|was|does|do)(?: still)?(?:n't|n’t| not) "
#: Right behind a claim: it does not hold.
RETRACTED = re.compile(
    rf"[^.\n]{{0,80}}[.,;:]?\s*\(?(?:however|but|although|though),? {_NOT}"
    r"(?:the |a |an |one |among |match|in |listed|entirely |exactly )?"
    r"(?:correct|right|answer|option|match|our|any|of|listed|the)"
)
#: The same where it leaves standing what was stated: "although it is not the most detailed answer".
CONCEDED = re.compile(rf"[^.\n]{{0,80}}[.,;:]?\s*\(?(?:but|although|though),? {_NOT}the (?:most|only|complete|full)\b")
#: After an option on a line of its own: a paragraph on it, which is not one of a walk through the options.
HEADLINE = re.compile(
    r"[^\w\n]{0,8}\n[ ]*\n(?:\W{0,3}[a-z' ]{3,40}:\W{0,3}\n\s{0,3})?"
    r"\W{0,3}(?!this\b|these\b|[a-z][.):]|option|\d)\w[^\n]{20}"
)
CONTRAST = re.compile(r"\b(?:but|however|though|although|while|whereas|yet|instead)\b")
