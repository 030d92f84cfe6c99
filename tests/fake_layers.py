"""Layers that know what to say, and responses that they are asked about, for tests of the extractor."""

import pandas as pd

from perg_utils.core.schema import Status
from perg_utils.extraction.reading import Reading

GOODS = ["iron", "salt", "wool", "amber"]
SILENT = "It depends on whom you ask."
SEVERAL = "Either A or B could be right."


class Fake:
    """A layer that knows what to say of some responses, and remembers what it was asked."""

    def __init__(self, layer, known, otherwise=None):
        self.name, self.known, self.asked = layer, known, []
        self.otherwise = otherwise or Reading(None, "unsure", Status.UNPARSABLE, confidence=0.4, layer=layer)

    def read(self, cases):
        assert all(type(case) is tuple and len(case) == 2 for case in cases), "response and options, nothing else"
        self.asked.append([response for response, _ in cases])
        return [self.known.get(response, self.otherwise) for response, _ in cases]


def scored(letter, confidence=0.93):
    return Reading(letter, "scored", Status.OK, confidence=confidence, layer="finetuned")


def replied(letter):
    return Reading(letter, "replied", Status.OK, layer="llm")


def table(*responses, status=()):
    rows = pd.DataFrame({"response": responses, "status": [*status, *["ok"] * (len(responses) - len(status))]})
    rows = rows.assign(example_id="TQA-1", preference_id=None, model=[f"m{i}" for i in range(len(rows))])
    return rows.assign(method="no_preference", setting="none")


EXAMPLES = pd.DataFrame({"example_id": ["TQA-1"], "options": [GOODS]})
