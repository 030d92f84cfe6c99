"""Q* chosen by an answer that no arm starts from: the paper's metrics without the aligner's advantage.

The paper's Q* are the questions that the plain answer gets right, and Pref-Aligner edits that very answer: chance that
made the draft right has chosen the question, so that on Q* a copied draft never breaks while every new answer falls
back to its mean. Here the answer to another wording of the plain question (setting `paraphrase`, zero_shot, which
without a preference is the plain prompt) chooses Q*, and Pref-Aligner's draft is the answer to the usual wording.
Chance is then spent on neither side. Not in the paper; printed beside its definition (section 3.3).
"""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd

from perg_utils.core.schema import Method, Setting

#: Whose answer chooses the questions.
CHOOSER = (Method.ZERO_SHOT, Setting.PARAPHRASE)


def crossfitted(scores: pd.DataFrame, stands_in: Mapping[str, str] | None = None) -> pd.DataFrame:
    """Return `scores` with `correct_without` by the paraphrased plain question, for all metrics that look at Q*.

    Rows of the chooser itself, of other answers to its wording and of plain answers are left out, and so are models
    without it; `stands_in` names the model whose chooser is used for one that has none of its own (`pairs.stand_ins`).
    A question whose chooser has no answer is unknown, as a missing plain answer is.

    >>> row = {"example_id": "q1", "model": "S", "method": "zero_shot", "correct_without": True}
    >>> scores = pd.DataFrame([row | {"setting": "paraphrase", "correct_with": False},
    ...                        row | {"setting": "relevant", "correct_with": True}])
    >>> crossfitted(scores)[["setting", "correct_without"]].to_numpy().tolist()
    [['relevant', False]]
    """
    method, setting = CHOOSER
    chooser = scores[(scores["method"] == method) & (scores["setting"] == setting)]
    known = set(chooser["model"])
    whose = scores["model"].map(lambda model: model if model in known else (stands_in or {}).get(model, model))
    wanted = ~scores["setting"].isin([Setting.NONE, setting]) & whose.isin(known)
    rows = scores[wanted]
    right = chooser.set_index(["model", "example_id"])["correct_with"].astype("boolean")
    keys = pd.MultiIndex.from_arrays([whose[wanted], rows["example_id"]])
    return rows.assign(correct_without=right.reindex(keys).to_numpy())
