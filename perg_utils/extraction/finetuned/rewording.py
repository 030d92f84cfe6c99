"""What the layers make of a run's own responses when these are told in ways that are harder to read.

Responses whose letter the rules read from a plain statement are taken as they are, with that letter as the truth, and
told once more without the letter, and by the option's ordinal (`the second option`). So the truth stays known on
responses of the study's models, and not of the templates that the layer was trained on.

Left out: whether the first reading was right; on labelled responses that is known (`published.checks.accuracy`).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pandas as pd

from perg_utils.core.schema import LETTERS, Setting
from perg_utils.extraction.answers import read_all
from perg_utils.extraction.finetuned.corpus import ORDINALS
from perg_utils.extraction.reading import Case, Layer
from perg_utils.scoring.intervals import exact_interval

_LETTER = re.compile(r" ?\([A-Z]\)")


def stated(responses: pd.DataFrame, answers: pd.DataFrame, examples: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Return up to `n` different responses that state their answer, drawn with the seed: response, options, letter."""
    plain = (answers["layer"] == "rules") & answers["answer"].notna() & (answers["how"] != "letter_text_conflict")
    plain &= answers["setting"] != Setting.SHUFFLED  # whose letters are not those that the response states
    rows = responses[["example_id", "response"]].assign(letter=answers["answer"])[plain.to_numpy()]
    rows = rows.merge(examples[["example_id", "options"]], on="example_id", validate="m:1")
    rows = rows[["response", "options", "letter"]]
    rows = rows[~rows.assign(options=rows["options"].map(tuple)).duplicated()]
    return rows.sample(min(n, len(rows)), random_state=seed).reset_index(drop=True)


def _as_it_is(response: str, options: Sequence[str], letter: str) -> str | None:
    return response


def _without_letter(response: str, options: Sequence[str], letter: str) -> str | None:
    text = options[LETTERS.index(letter)]
    return _LETTER.sub("", response) if f"{text} ({letter})" in response else None


def _by_ordinal(response: str, options: Sequence[str], letter: str) -> str | None:
    chosen = LETTERS.index(letter)
    before, found, after = response.rpartition(f"{options[chosen]} ({letter})")
    return f"{before}the {ORDINALS[chosen]} option{after}" if found and chosen < len(ORDINALS) else None


#: How a response is told; None where it does not have the form `salt (B)`.
FORMS: dict[str, Callable[[str, Sequence[str], str], str | None]] = {
    "as it is": _as_it_is,
    "without the letter": _without_letter,
    "by the option's place": _by_ordinal,
}


def compare(rows: pd.DataFrame, layer: Layer) -> pd.DataFrame:
    """Return how the rules, the layer, and one after the other read `rows` (of `stated`) in each form.

    As they are, the rules' letter is the truth, so only the layer is held to it.

    Columns: form, layers, n, right, wrong, silent (percent of n), and right_where_speaks with low, high (exact 95 %).
    Forms that no response has are left out.
    """
    out = []
    for form, tell in FORMS.items():
        told = [tell(r, o, x) for r, o, x in zip(rows["response"], rows["options"], rows["letter"], strict=True)]
        kept = [row for row, text in enumerate(told) if text is not None]
        cases: list[Case] = [(str(told[row]), rows["options"][row]) for row in kept]
        if not cases:
            continue
        truth = rows["letter"].iloc[kept].tolist()
        rules = [reading.letter for reading in read_all(cases)]
        both = [reading.letter for reading in read_all(cases, [layer])]
        alone = [reading.letter for reading in layer.read(cases)]
        layered = [(layer.name, alone)]
        if tell is not _as_it_is:  # as they are the rules' letter is the truth, so that they cannot be wrong
            layered = [("rules", rules), *layered, (f"rules, then {layer.name}", both)]
        for layers, letters in layered:
            out.append({"form": form, "layers": layers, **_shares(letters, truth)})
    return pd.DataFrame(out)


def in_words(compared: pd.DataFrame) -> list[str]:
    """Return a sentence a form in which rules and layer were compared: right and wrong letters, without and with it."""
    told = compared[compared["layers"].str.startswith("rules")]
    return [
        f"{form}: right letters {one.right:.1f} %, with the layer {two.right:.1f} %; wrong ones {one.wrong:.1f} and "
        f"{two.wrong:.1f} %"
        for form, both in told.groupby("form", sort=False)
        for one, two in [both.itertuples()]
    ]


def _shares(letters: Sequence[str | None], truth: Sequence[str]) -> dict[str, float]:
    n, spoken = len(truth), sum(letter is not None for letter in letters)
    right = sum(letter == true for letter, true in zip(letters, truth, strict=True))
    low, high = (float(end) for end in exact_interval(right, spoken)) if spoken else (float("nan"), float("nan"))
    return {
        "n": n,
        "right": 100 * right / n,
        "wrong": 100 * (spoken - right) / n,
        "silent": 100 * (n - spoken) / n,
        "right_where_speaks": 100 * right / spoken if spoken else float("nan"),
        "low": 100 * low,
        "high": 100 * high,
    }
