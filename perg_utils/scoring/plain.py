"""Does a model know anything here at all? Its plain answers against guessing, and its letters against the right ones.

Breakage and the paper's other metrics look at the questions that a model answers right without a preference (Q*). Where
it answers no better than chance, Q* is luck: what "breaks" there would have broken by itself, and breakage measures
churn. A model that likes one letter is right as often as that letter is.
"""

from __future__ import annotations

import pandas as pd

from perg_utils.core.profile import StatisticsConfig
from perg_utils.core.schema import ALL_SOURCES, LETTERS, MISSING, Setting, ordered
from perg_utils.scoring.intervals import exact_interval

COLUMNS = [
    *("model", "method", "source", "n", "accuracy", "low", "high", "chance"),
    *("letter", "named", "right", "distance", "no_letter", "near_chance"),
]


def plain_answers(
    answers: pd.DataFrame, examples: pd.DataFrame, config: StatisticsConfig | None = None
) -> pd.DataFrame:
    """Return accuracy and letters of the answers without preference, a row a model, method and source (or ALL).

    `accuracy` with its exact interval and `chance`, the mean of 1 / (number of options), in percent of the `n` answers
    that there are. `letter` is the one named most, in `named` percent of the answers; it is right in `right` percent
    of the questions. `distance`: how many percent of the answers would have to name another letter for the letters to
    be as frequent as the right ones (total variation). `no_letter`: percent that name none. `near_chance`: the interval
    does not lie above chance. Needs `gold` and `options` in `examples`.

    >>> asked = pd.DataFrame({"example_id": ["q1", "q2"], "options": [["x", "y"]] * 2, "gold": ["A", "B"]})
    >>> asked["source"] = "TQA"
    >>> row = {"model": "S", "method": "no_preference", "setting": "none", "status": "ok"}
    >>> told = pd.DataFrame({"example_id": ["q1", "q2"], "answer": ["A", "A"]}).assign(**row)
    >>> plain_answers(told, asked).iloc[0][["accuracy", "chance", "letter", "named", "right", "near_chance"]].tolist()
    [50.0, 50.0, 'A', 100.0, 50.0, True]
    """
    config = config or StatisticsConfig()
    there = answers[(answers["setting"] == Setting.NONE) & ~answers["status"].isin(MISSING)]
    rows = there.merge(examples[["example_id", "source", "options", "gold"]], on="example_id")
    if rows.empty:
        return pd.DataFrame(columns=COLUMNS)
    rows = pd.concat([rows, rows.assign(source=ALL_SOURCES)])
    out = []
    for (model, method, source), some in rows.groupby(["model", "method", "source"], sort=False):
        n, right = len(some), int((some["answer"] == some["gold"]).sum())
        low, high = exact_interval(right, n, config.confidence)
        chance = (1 / some["options"].map(len)).mean()
        named = some["answer"].value_counts().reindex(list(LETTERS), fill_value=0) / n
        gold = some["gold"].value_counts().reindex(list(LETTERS), fill_value=0) / n
        letter = str(named.idxmax()) if named.any() else None
        none = 1 - named.sum()
        out.append(
            {
                "model": model,
                "method": method,
                "source": source,
                "n": n,
                "accuracy": 100 * right / n,
                "low": 100 * float(low),
                "high": 100 * float(high),
                "chance": 100 * chance,
                "letter": letter,
                "named": 100 * named.max(),
                "right": 100 * float(gold.loc[letter]) if letter else float("nan"),
                "distance": 50 * (float((named - gold).abs().sum()) + none),
                "no_letter": 100 * none,
                "near_chance": bool(float(low) <= chance),
            }
        )
    return ordered(pd.DataFrame(out, columns=COLUMNS), ["source"]).reset_index(drop=True)


def near_chance(found: pd.DataFrame) -> list[str]:
    """Return a warning for each model whose plain answers cannot be told from guessing, over all sources."""
    rows = found[(found["source"] == ALL_SOURCES) & found["near_chance"]]
    return [
        f"{row.model}, {row.method}: plain answers that cannot be told from guessing ({row.accuracy:.0f} % "
        f"[{row.low:.0f}, {row.high:.0f}] right on {row.n:,} questions, {row.chance:.0f} % by chance; "
        f"{row.named:.0f} % name {row.letter}, which is right in {row.right:.0f} %; {row.no_letter:.0f} % name none). "
        "As far as they are luck, so are its questions of Q*, and its breakage measures churn: read it as a negative "
        "control."
        for row in rows.itertuples()
    ]
