"""Ten questions with hand-made answers and ratings, as the tables of a run, and one metric read from a table."""

import pandas as pd

from perg_utils.core.schema import RELEVANT_SHOWN, conform

# Ten questions, gold always A. Each letter of a string is one question's answer: A right, B wrong,
# "-" a reply that names no option, "x" a response that does not exist.
#             0123456789
WITHOUT = "AAAAAAAABx"
WITH = "AAAABB-xAA"
RATINGS = "55?1151551"  # "?" a rating that cannot be had
SOURCES = ["TQA"] * 5 + ["MMLU"] * 5


def toy(arms: dict, *, sampled: str = "clarity-1") -> dict[str, pd.DataFrame]:
    """Tables of one model "S"; `arms` maps (method, setting) or (method, setting, preference) to (answers, ratings)."""
    examples = pd.DataFrame(
        [
            {
                "example_id": f"q{i}",
                "source": s,
                "subject": "",
                "question": "",
                "options": ["a", "b"],
                "gold": "A",
                "preference_id": sampled,
            }
            for i, s in enumerate(SOURCES)
        ]
    )
    preferences = pd.DataFrame(
        [
            {"preference_id": f"{kind.lower()}-1", "text": "", "category": kind, "relevant": True, "sources": []}
            for kind in ("Clarity", "Context")
        ]
    )
    responses, answers, judgements = [], [], []
    for arm, (letters, ratings) in arms.items():
        method, setting, *preference = arm
        shown = setting in RELEVANT_SHOWN
        for i, letter in enumerate(letters):
            row = {"example_id": f"q{i}", "model": "S", "method": method, "setting": setting}
            row["preference_id"] = (preference or [sampled])[0] if shown else None
            lost = letter == "x"
            responses.append(
                row
                | {
                    "shown_preferences": [],
                    "response": None if lost else letter,
                    "stages": [],
                    "finish_reason": None,
                    "key": "",
                    "status": "api_error" if lost else "ok",
                    "prompt_tokens": 1,
                    "completion_tokens": 1,
                    "seconds": 0.0,
                    "fallback": False,
                }
            )
            status = "api_error" if lost else "unparsable" if letter == "-" else "ok"
            answers.append(row | {"answer": letter if status == "ok" else None, "how": "", "status": status, **READ})
            rating = None if not shown or ratings[i] == "?" else int(ratings[i])
            why = "ok" if rating else "unparsable" if shown else "not_applicable"
            judgements.append(row | {"judge": "j", "rating": rating, "explanation": None, "status": why})
    frames = {
        "examples": examples,
        "preferences": preferences,
        "responses": responses,
        "answers": answers,
        "judgements": judgements,
    }
    return {name: conform(name, pd.DataFrame(rows)) for name, rows in frames.items()}


READ = {"layer": "rules", "evidence": None, "confidence": None}
BASE = {("no_preference", "none"): (WITHOUT, "")}
RELEVANT = BASE | {("zero_shot", "relevant"): (WITH, RATINGS)}


def value(table: pd.DataFrame, metric: str, source: str = "ALL", **where: str) -> tuple[float, int, int]:
    """(value, n, n_unscored) of one metric of the zero-shot rows (unless `where` says otherwise)."""
    wanted = {"method": "zero_shot", "metric": metric, "source": source} | where
    for column, one in wanted.items():
        table = table[table[column] == one]
    (row,) = table.itertuples()
    return (row.value, row.n, row.n_unscored)
