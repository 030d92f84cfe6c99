"""The rows of the lm-evaluation-harness tasks, and the filter that reads their letters: our prompts, our extractor.

The harness sends one request a row and scores each row alone, so that these tasks ask the methods of one stage and
report accuracy. Left out: self_critic and pref_aligner (two stages), the judge, and what compares a row with the plain
answer of its question: `import-lm-eval` pairs the sample logs of several tasks. An empty reply counts as wrong here,
for the harness does not say why it is empty; the import leaves it unscored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from datasets import Dataset

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ProfileError
from perg_utils.core.schema import Method, Setting
from perg_utils.dataset import orders, preferences
from perg_utils.dataset import questions as curation
from perg_utils.extraction.answers import read_all
from perg_utils.inference.requests import Material, rows
from perg_utils.prompts.sets import load_prompts

DEFAULT = Path(__file__).resolve().parents[1] / "inspect.yaml"
#: What the filter gives for a response that names no option: never equal to a letter.
NONE = "none"
#: The methods that one request makes.
ONE_STAGE = (Method.NO_PREFERENCE, Method.ZERO_SHOT, Method.COT, Method.FEW_SHOT)


def questions(
    *,
    setting: str = "relevant",
    method: str = "zero_shot",
    profile: str = str(DEFAULT),
    limit: int | None = None,
    sources: str | list[str] | None = None,
    prompts: str | None = None,
    **_: Any,
) -> dict[str, Dataset]:
    """Return the split `test`: one row a question, with the chat that is sent, the gold letter and the identity.

    The task's YAML gives `setting` and `method`; the others come from the harness's `--metadata`, e.g.
    `{"limit": 50, "sources": ["TQA"]}`. Raises `ProfileError` for a method of two stages or an unknown name.
    """
    if method not in ONE_STAGE:
        raise ProfileError(f"method: '{method}' is none of {', '.join(ONE_STAGE)}; two stages are for the Inspect task")
    overrides = [] if limit is None else [f"data.limit={limit}"]
    named = sources if sources is None or isinstance(sources, str) else ",".join(sources)
    overrides += [] if named is None else [f"data.sources=[{named}]"]
    overrides += [] if prompts is None else [f"prompts={prompts}"]
    study = load_profile(profile, overrides)
    bank = preferences.load_bank(study.preferences)
    examples = preferences.assign(curation.load_examples(study.data, study.seed), bank)
    material = Material(examples, bank, load_prompts(study.prompts))
    known = examples.set_index("example_id").to_dict("index")
    texts = dict(zip(bank["preference_id"], bank["text"], strict=True))
    out = []
    for row in rows(study, Method(method), [Setting(setting)], material):
        example = known[row.example_id]
        chat = dict(material.prompts.messages(method, **row.task.variables()))
        out.append(
            {
                "example_id": row.example_id,
                "source": example["source"],
                "subject": str(example["subject"]),
                "question": example["question"],
                "options": list(example["options"]),
                "gold": example["gold"],
                "sampled_id": example["preference_id"],
                "preference_id": row.preference_id or "",
                "preference": texts.get(row.preference_id or "", ""),
                "setting": str(row.setting),
                "method": method,
                "shown_preferences": list(row.shown),
                "system": chat.get("system", ""),
                "user": chat["user"],
                "profile": str(profile),
                "overrides": overrides,
            }
        )
    return {"test": Dataset.from_list(out)}


def read_letters(resps: Iterable[Sequence[str]], docs: Sequence[dict[str, Any]]) -> list[list[str]]:
    """Return the question's letter that each response names, or `none`: the rules of our extractor."""
    out = []
    for replies, doc in zip(resps, docs, strict=True):
        shown = orders.options_shown(doc["options"], doc["shown_preferences"])
        found = read_all([(reply or "", shown) for reply in replies])
        letters = [orders.letter_of_question(reading.letter, doc["shown_preferences"]) for reading in found]
        out.append([letter or NONE for letter in letters])
    return out
