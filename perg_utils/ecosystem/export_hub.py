"""A run as a dataset folder in the hub's layout: card, Parquet files, manifest, Croissant. Uploading is the user's.

    README.md           the card: what it is, rates with both intervals, provenance, what is not in it
    data/*.parquet      the run's tables, one configuration each
    manifest.json       what the run was made of
    croissant.json      the same tables described for machines

`datasets.load_dataset(FOLDER, "scores", split="train")` reads it back. Left out: the journal, figures, and texts of
others unless the user asks for them.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from perg_utils.core.errors import DataError
from perg_utils.core.schema import ALL_SOURCES, TABLES, Metric, Setting, ordered
from perg_utils.core.workspace import write_atomically, write_text
from perg_utils.ecosystem import croissant
from perg_utils.ecosystem.export import Export

#: What a row of each table is.
ROWS = {
    "examples": "a question: source, subject, which preference it was given",
    "preferences": "a preference: category, whether it is relevant, for which sources",
    "responses": "a response: what was shown, status, tokens, seconds",
    "answers": "a response's answer: the option it names, and what read it",
    "judgements": "a judge's rating of how well a response follows the preference",
    "nulls": "a judge's rating of a response that did not know the preference",
    "scores": "a response's score: right without and with the preference, followed, robust",
    "metrics": "a rate in percent with both intervals, by model, method, setting, source",
}
_LOADED = """```python
from datasets import load_dataset

scores = load_dataset("FOLDER", "scores", split="train")
```
"""
_CITED = """@article{okite2025perg,
  title  = {Benchmarking and Improving LLM Robustness for Personalized Generation},
  author = {Okite, Chimaobi and Deng, Naihao and Bodipati, Kiran and Hou, Huaidian and Chai, Joyce and Mihalcea, Rada},
  year   = {2025},
  eprint = {2509.19358},
  archivePrefix = {arXiv}
}"""


def write(export: Export, folder: Path, licence: str | None = None) -> list[Path]:
    """Write the dataset folder and return the paths of its files.

    `licence`: an identifier of the hub, e.g. `cc-by-4.0`; None: `mit` for the invented world, else `other`.
    Raises `DataError` for a folder that is not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty; name a new folder")
    written = []
    for name, table in export.tables.items():
        fields = [(column, TABLES[name][column]) for column in map(str, table)]
        data = pa.Table.from_pandas(table, schema=pa.schema(fields), preserve_index=False)
        written.append(write_atomically(folder / "data" / f"{name}.parquet", partial(pq.write_table, data)))
    manifest = json.dumps(export.manifest, indent=1, ensure_ascii=False) + "\n"
    written.append(write_text(folder / "manifest.json", manifest))
    licence = licence or ("mit" if export.invented else "other")
    written.append(write_text(folder / "README.md", card(export, licence)))
    described = croissant.of_run(export, folder, licence)
    written.append(write_text(folder / "croissant.json", json.dumps(described, indent=1, ensure_ascii=False) + "\n"))
    return written


def card(export: Export, licence: str) -> str:
    """Return the dataset card: metadata for the hub in YAML, then words, rates and provenance."""
    import yaml  # noqa: PLC0415

    metrics = export.tables["metrics"]
    configs = [{"config_name": name, "data_files": f"data/{name}.parquet"} for name in export.tables]
    configs[list(export.tables).index("scores")]["default"] = True  # type: ignore[assignment]
    head: dict[str, Any] = {
        **{"pretty_name": f"PERG: {export.title}", "license": licence, "language": ["en"]},
        **({"license_name": "see-the-card", "license_link": "README.md"} if licence == "other" else {}),
        "task_categories": ["multiple-choice", "question-answering"],
        "tags": ["evaluation", "personalization", "robustness", "perg"],
        "size_categories": [_size(len(export.tables["scores"]))],
        "configs": configs,
    }
    parts = [
        f"---\n{yaml.safe_dump(head, sort_keys=False, allow_unicode=True)}---\n",
        f"# PERG: {export.title}\n",
        "Does a language model stay right when it is asked to please a user? Multiple-choice questions with and "
        "without a stated preference, after [Benchmarking and Improving LLM Robustness for Personalized Generation]"
        "(https://arxiv.org/abs/2509.19358).\n",
        "**Invented world: made-up facts and small models trained for it. It says nothing about real models.**\n"
        if export.invented
        else "",
        f"**Texts.** {export.said_of_texts}{_gone(export)}\n",
        "## Robust accuracy\n",
        "Of all questions, the share answered right and, where one was relevant, as preferred, in percent. In square "
        f"brackets the {100 * export.confidence:g} % interval for these preferences, in curly ones that for "
        "preferences like these.\n",
        _rates(metrics),
        "## Tables\n",
        _pipes(
            ["configuration", "rows", "a row is"],
            [[name, f"{len(table):,}", ROWS[name]] for name, table in export.tables.items()],
        ),
        _LOADED,
        "Rows are joined on `example_id`, `preference_id`, `model`, `method`, `setting`. An empty value is no "
        "measurement, never a score; `status` says why.\n",
        "## Provenance\n",
        _pipes(["what", "value"], [[name, value] for name, value in _facts(export).items()]),
        "Everything else is in `manifest.json`.\n",
        "## Licence\n",
        _licence(export, licence),
        "## Citation\n",
        f"```bibtex\n{_CITED}\n```",
    ]
    return "\n".join(part for part in parts if part) + "\n"


def _rates(metrics: pd.DataFrame) -> str:
    rows = metrics[(metrics["source"] == ALL_SOURCES) & (metrics["metric"] == Metric.ROBUST_ACCURACY)]
    rows = ordered(rows[rows["value"].notna() & (rows["setting"] != Setting.NONE)], ["setting", "method"])
    shown = [
        [
            *(str(row[name]) for name in ("model", "method", "setting")),
            f"{row['value']:.1f}{_bounds(row['low'], row['high'], '[]')}"
            f"{_bounds(row['like_low'], row['like_high'], '{}')}",
            f"{row['n']:,}",
        ]
        for row in rows.to_dict("records")
    ]
    return _pipes(["model", "method", "setting", "robust accuracy", "n"], shown)


def _bounds(low: float, high: float, brackets: str) -> str:
    return "" if pd.isna(low) else f" {brackets[0]}{low:.1f}, {high:.1f}{brackets[1]}"


def _gone(export: Export) -> str:
    if not export.left_out:
        return ""
    told = "; ".join(f"{table}: {', '.join(columns)}" for table, columns in export.left_out.items())
    return f" Columns left out: {told}."


def _facts(export: Export) -> dict[str, str]:
    manifest, judge = export.manifest, export.profile.get("judge") or {}
    prompts = manifest.get("prompts") or {}
    models = [f"{name}: {own.get('model')}" for name, own in (manifest.get("models") or {}).items()]
    facts = {
        "run": export.name,
        "made by": f"perg_utils {export.version}",
        "commit": manifest.get("commit"),
        "date": manifest.get("date"),
        "models": "; ".join(models),
        "judge": judge.get("name") or (judge.get("model") or {}).get("name") or judge.get("kind"),
        "prompt set": prompts.get("set"),
        "preference bank (SHA-256)": manifest.get("preferences"),
        "seeds": ", ".join(f"{name} {seed}" for name, seed in (manifest.get("seeds") or {}).items()),
        "machine": manifest.get("system"),
    }
    return {name: str(value) for name, value in facts.items() if value}


def _licence(export: Export, licence: str) -> str:
    if export.invented:
        return "MIT, as the repository: questions, models and responses were made for it.\n"
    told = (
        "Scores and rates are this run's; who publishes them chooses the licence. Questions come from TruthfulQA "
        "(Apache-2.0), CommonsenseQA (MIT) and MMLU (MIT), by example id"
    )
    words = "; their texts and the responses are in it, under those licences and the terms of each model.\n"
    return told + (words if export.texts else ".\n") + (f"\nChosen: {licence}.\n" if licence != "other" else "")


def _size(rows: int) -> str:
    steps = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"))
    return next((name for limit, name in steps if rows < limit), "1M<n<10M")


def _pipes(heads: list[str], rows: list[list[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join("| " + " | ".join(cell.replace("|", r"\|") for cell in line) + " |" for line in lines) + "\n"
