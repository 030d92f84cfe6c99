"""The first layer: rules for English that say which option a response names, or keep silent.

    decision.py      `read_by_rules`: which kind of response it is, and what the kind decides
    boxes.py         answers in a LaTeX box
    mentions.py      where options are mentioned, by letter or by text
    option_texts.py  where the text of an option stands as words of its own
    context.py       what the sentence around a mention says of it
    claims.py        which mention is the answer: the list of the rules
    patterns.py      the words by which English claims, denies, takes back
    refusals.py      responses that refuse, or say that no option is right
    rewordings.py    an option told in its own words in another order

How right the rules are is measured on labelled responses (room `published`, `checks.accuracy`).
"""
