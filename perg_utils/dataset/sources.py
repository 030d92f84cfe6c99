"""Reading the three sources: from the hub, from local Parquet files in the hub's schema, or from the invented world.

Implements the data section of the paper: TruthfulQA (mc1), CommonsenseQA and 21 subjects of MMLU. An `example_id` is
the source and the row's position in it (`MMLU-00012`; for MMLU the position among the rows of the 21 subjects), never
its text: 47 MMLU texts occur twice. CommonsenseQA goes by position too although the hub gives it ids: one rule for all
sources, preferences go by position anyway, and copies of CommonsenseQA come with other ids. It follows that an
incomplete file numbers only what is there.

Left out: revisions of the hub's data sets are not pinned; `questions` checks the counts instead.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Hashable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from perg_utils.core.errors import DataError, PergError
from perg_utils.core.profile import ROOT, DataConfig
from perg_utils.core.schema import LETTERS, Source
from perg_utils.dataset import invented_world

# fmt: off
MMLU_SUBJECTS = frozenset({
    "professional_law", "high_school_biology", "professional_accounting", "professional_medicine",
    "high_school_mathematics", "high_school_microeconomics", "conceptual_physics", "marketing",
    "high_school_statistics", "high_school_chemistry", "college_medicine", "high_school_physics",
    "electrical_engineering", "college_biology", "anatomy", "formal_logic", "college_physics",
    "college_mathematics", "abstract_algebra", "business_ethics", "college_chemistry",
})
# fmt: on
#: TruthfulQA lists the right option first. One order for all seeds, so that the letters of all runs agree.
SHUFFLE_SEED = 42
#: Fewest and most options in each source.
OPTIONS = {Source.TQA: (2, 13), Source.CQA: (5, 5), Source.MMLU: (4, 4)}
COLUMNS = ["example_id", "source", "subject", "question", "options", "gold"]


class Hub(NamedTuple):
    """Where a source lives on the hub, how its file is called there and in a flat folder, and its columns."""

    repo: str
    config: str
    split: str
    file: str
    flat: str
    columns: tuple[str, ...]


HUB = {
    Source.TQA: Hub(
        "truthfulqa/truthful_qa",
        "multiple_choice",
        "validation",
        "multiple_choice/validation-00000-of-00001.parquet",
        "truthful_qa_multiple_choice_validation.parquet",
        ("question", "mc1_targets"),
    ),
    Source.CQA: Hub(
        "tau/commonsense_qa",
        "default",
        "validation",
        "data/validation-00000-of-00001.parquet",
        "commonsense_qa_validation.parquet",
        ("question", "choices", "answerKey"),
    ),
    Source.MMLU: Hub(
        "cais/mmlu",
        "all",
        "test",
        "all/test-00000-of-00001.parquet",
        "mmlu_test.parquet",
        ("question", "subject", "choices", "answer"),
    ),
}


def load_source(source: Source, data: DataConfig) -> pd.DataFrame:
    """Return all questions of one source with the columns `COLUMNS`, e.g. 5,170 rows for MMLU (invented: 720).

    Raises `DataError` for a missing or unreadable file and for a broken row (file, row and what is wrong), `PergError`
    when the hub cannot be reached.
    """
    if data.origin == "embedded":
        return _from_invented_world(source)
    raw, where = _from_hub(source) if data.origin == "hub" else _from_folder(source, Path(data.path or "."))
    missing = [name for name in HUB[source].columns if name not in raw]
    if missing:
        raise DataError(f"{where}: columns {missing} are missing; expected those of the hub: {HUB[source].columns}")
    if source is Source.MMLU:
        # Broken subjects must not vanish with those the paper leaves out.
        nameless = raw["subject"].map(lambda s: not isinstance(s, str) or not s.strip())
        raw = raw[raw["subject"].isin(MMLU_SUBJECTS) | nameless]
    rows = []
    for position, (number, row) in enumerate(zip(raw.index, raw.to_dict("records"), strict=True)):
        example_id = f"{source}-{position:05d}"
        try:
            rows.append({"example_id": example_id, "source": str(source), **_READERS[source](row, example_id)})
        except (ValueError, TypeError, KeyError, IndexError) as error:
            reason = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{where}, row {number}: {reason}; mend or replace the file") from error
    frame = pd.DataFrame(rows, columns=COLUMNS)
    check_rows(where, frame, raw.index.tolist(), OPTIONS[source])
    return frame


def _from_invented_world(source: Source) -> pd.DataFrame:
    table = invented_world.questions()
    frame = table.loc[table["source"] == source, COLUMNS].reset_index(drop=True)
    check_rows("the invented world", frame)
    return frame


def _from_hub(source: Source) -> tuple[pd.DataFrame, str]:
    from datasets import load_dataset  # noqa: PLC0415 - heavy, and reads its environment at import
    from datasets.exceptions import DatasetsError  # noqa: PLC0415

    hub = HUB[source]
    try:
        frame = load_dataset(hub.repo, hub.config, split=hub.split).to_pandas()
    except (OSError, ValueError, DatasetsError) as error:
        raise PergError(
            f"{source}: dataset '{hub.repo}' ({hub.config}, {hub.split}) could not be read from the hub: {error}\n"
            "Run once with a network (it is cached then), or download the Parquet files and use "
            "--set data.origin=local --set data.path=FOLDER, or run the profile 'demo', which needs no network."
        ) from error
    return frame, f"hub dataset {hub.repo}"


def _from_folder(source: Source, folder: Path) -> tuple[pd.DataFrame, str]:
    hub = HUB[source]
    if not folder.is_absolute() and not folder.exists():
        folder = ROOT / folder  # notebooks may run elsewhere than in the project's folder
    names = [hub.flat, f"{hub.repo.split('/')[1]}/{hub.file}", f"{hub.repo}/{hub.file}", hub.file]
    path = next((folder / name for name in names if (folder / name).is_file()), None)
    if path is None:
        raise DataError(f"{source}: no file in data.path '{folder}'; looked for {', '.join(names)}")
    try:
        return pd.read_parquet(path), path.name
    except (OSError, ValueError) as error:  # ArrowInvalid is a ValueError
        raise DataError(f"{path} is no readable Parquet file ({error}); download it again") from error


def _read_tqa(row: dict[Hashable, Any], example_id: str) -> dict[str, Any]:
    choices, labels = list(row["mc1_targets"]["choices"]), [int(v) for v in row["mc1_targets"]["labels"]]
    if len(choices) != len(labels) or labels.count(1) != 1:
        raise ValueError(f"mc1_targets must mark exactly one right choice, got {len(choices)} choices, labels {labels}")
    order = list(range(len(choices)))
    random.Random(f"{SHUFFLE_SEED}:{example_id}").shuffle(order)
    gold = LETTERS[order.index(labels.index(1))]
    return {"subject": None, "question": row["question"], "options": [choices[i] for i in order], "gold": gold}


def _read_cqa(row: dict[Hashable, Any], example_id: str) -> dict[str, Any]:
    labels, texts = list(row["choices"]["label"]), list(row["choices"]["text"])
    if row["answerKey"] not in labels or len(labels) != len(texts):
        raise ValueError(f"answerKey {row['answerKey']!r} is not among the labels {labels}")
    concept = row.get("question_concept") or None
    return {
        "subject": concept,
        "question": row["question"],
        "options": texts,
        "gold": LETTERS[labels.index(row["answerKey"])],
    }


def _read_mmlu(row: dict[Hashable, Any], example_id: str) -> dict[str, Any]:
    options, answer = list(row["choices"]), row["answer"]
    if isinstance(answer, bool) or answer != int(answer) or not 0 <= answer < len(options):
        raise ValueError(f"answer must be from 0 to {len(options) - 1}, got {answer!r}")
    return {
        "subject": row["subject"],
        "question": row["question"],
        "options": options,
        "gold": LETTERS[int(answer)],
    }


_READERS: Mapping[Source, Callable[[dict[Hashable, Any], str], dict[str, Any]]] = {
    Source.TQA: _read_tqa,
    Source.CQA: _read_cqa,
    Source.MMLU: _read_mmlu,
}


def check_rows(
    where: str, frame: pd.DataFrame, numbers: list[Any] | None = None, options: tuple[int, int] = (2, len(LETTERS))
) -> None:
    """Raise `DataError` at the first row whose texts, options or gold letter cannot be used.

    `where` and `numbers` say in the message which file and which of its rows it is; `options` is fewest and most.
    """
    low, high = options
    for number, row in zip(numbers or range(len(frame)), frame.to_dict("records"), strict=True):
        question, subject, gold = row["question"], row["subject"], row["gold"]
        count = len(row["options"])
        wrong = None
        if not isinstance(question, str) or not question.strip():
            wrong = f"the question must be a text, got {question!r}"
        elif not low <= count <= high:
            wrong = f"{count} options, expected {low if low == high else f'{low} to {high}'}"
        elif any(not isinstance(option, str) or not option.strip() for option in row["options"]):
            wrong = f"every option must be a text, got {row['options']!r}"
        elif gold not in list(LETTERS[:count]):
            wrong = f"gold {gold!r} names none of the {count} options"
        elif row["source"] == Source.MMLU and (not isinstance(subject, str) or not subject.strip()):
            wrong = f"the subject must be a text, got {subject!r}"
        if wrong:
            raise DataError(f"{where}, row {number}: {wrong}; mend or replace the file")
