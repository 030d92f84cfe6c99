"""Ten questions with hand-made answers and ratings, as the tables of a run, and one metric read from a table."""

import pandas as pd

from perg_utils.core.schema import RELEVANT_SHOWN, conform

# Ten questions, gold always A. Each letter of a string is one question's answer: A right, B wrong,
# "-" a reply that no layer can read, "r" a refusal, "s" the model's silence, "x" a response that does not exist,
# "f" a right answer of the first stage that stands because the second could not be read.
#             0123456789
WITHOUT = "AAAAAAAABx"
WITH = "AAAABB-xAA"
RATINGS = "55?1151551"  # "?" a rating that cannot be had
SOURCES = ["TQA"] * 5 + ["MMLU"] * 35


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
            lost = letter in "xs"
            gone = {"x": "api_error", "s": "silent"}.get(letter, "ok")
            responses.append(
                row
                | {
                    "shown_preferences": [],
                    "response": None if lost else letter,
                    "stages": [],
                    "finish_reason": "length" if letter == "s" else "stop",
                    "key": "",
                    "status": gone,
                    "prompt_tokens": 1,
                    "completion_tokens": 1,
                    "seconds": 0.0,
                    "fallback": letter == "f",
                }
            )
            status = gone if lost else {"-": "unparsable", "r": "refused"}.get(letter, "ok")
            read = READ | {"layer": None} if lost or letter == "-" else READ
            named = {"f": "A"}.get(letter, letter) if status == "ok" else None
            answers.append(row | {"answer": named, "how": "", "status": status, **read})
            rating = None if not shown or lost or ratings[i] == "?" else int(ratings[i])
            why = "ok" if rating else "not_applicable" if not shown else gone if lost else "unparsable"
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
