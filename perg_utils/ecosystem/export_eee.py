"""A run in the format of Every Eval Ever 0.3.0: one aggregate a model, and beside it one line an answer and metric.

    data/perg-<run>/<developer>/<model>/<uuid>.json            every rate with its interval, and what it was made of
    data/perg-<run>/<developer>/<model>/<uuid>_samples.jsonl   whether each answer was robust, and whether it was right

The same run gives the same bytes: ids are made of what they name, and the time is the run's own. Every record is
checked by the published JSON schemas as it is written; the project's own validator also looks at files together
(docs/ecosystem.md has the command).

The schema has one interval a score: the one for these preferences. The one for preferences like these is in
`score_details.details`. Left out: rows without a score (a failure to measure is no score; their number is in the
aggregate), single answers behind the paper's metrics other than robustness, and the stages of methods that have two.
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from perg_utils.core.errors import DataError
from perg_utils.core.schema import ALL_SOURCES, ROW_ID, Metric, Setting, Source, Status
from perg_utils.core.workspace import write_text
from perg_utils.dataset.sources import HUB
from perg_utils.ecosystem.export import NOT_SHIPPED, Export

VERSION = "0.3.0"
SCHEMAS = Path(__file__).parent / "vendor" / "every_eval_ever"
#: The metrics that have a line an answer, and the scores column behind each.
SINGLE = {
    Metric.ROBUST_ACCURACY: "robust",
    Metric.ACCURACY_WITH: "correct_with",
    Metric.ACCURACY_WITHOUT: "correct_without",
}
Record = dict[str, Any]
#: A row of a table.
Row = Mapping[Any, Any]


def write(export: Export, folder: Path, organization: str = "not stated") -> list[Path]:
    """Write the records of a run below `folder`, two files a model, and return their paths.

    `organization`: who ran the evaluation, as the schema asks. Raises `DataError` for a folder that is not empty, and,
    naming the place in it, for a record that the schema does not allow.
    """
    if folder.exists() and any(folder.iterdir()):
        raise DataError(f"{folder} is not empty; name a new folder")
    written = []
    metrics = export.tables["metrics"]
    for model in metrics["model"].unique():
        lines = list(samples(export, model))
        record = aggregate(export, model, organization, lines)
        check("eval.schema.json", record)
        for line in lines:
            check("instance_level_eval.schema.json", line)
        path = folder / place(export, model)
        if lines:
            written.append(write_text(path.with_name(f"{path.stem}_samples.jsonl"), _jsonl(lines)))
        written.append(write_text(path, json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n"))
    return written


def check(schema: str, record: Record) -> None:
    """Raise `DataError` where `record` does not fit the published schema, naming the place."""
    import fastjsonschema  # noqa: PLC0415

    try:
        _checker(schema)(record)
    except fastjsonschema.JsonSchemaValueException as error:
        raise DataError(f"this record does not fit {schema}: {error}") from error


@cache
def _checker(schema: str) -> Callable[[Record], Record]:
    import fastjsonschema  # noqa: PLC0415 - a dependency of nbformat

    return fastjsonschema.compile(json.loads((SCHEMAS / schema).read_text(encoding="utf-8")))


def place(export: Export, model: str) -> str:
    """Return where a model's aggregate goes, e.g. `data/perg-demo/perg/S/<uuid>.json`."""
    developer, name = _model_id(export, model).split("/", 1)
    parts = "data", _collection(export), developer, name.replace("/", "_"), f"{_uuid(export, model)}.json"
    return "/".join(parts)


def aggregate(export: Export, model: str, organization: str, lines: list[Record]) -> Record:
    """Return a model's record: every rate that is known, with intervals, and the run's manifest."""
    metrics = export.tables["metrics"]
    rows = metrics[(metrics["model"] == model) & metrics["value"].notna()]
    record = {
        "schema_version": VERSION,
        "evaluation_id": _evaluation_id(export, model),
        "evaluation_timestamp": str(export.manifest.get("date") or "unknown"),
        "retrieved_timestamp": str(_when(export)),
        "source_metadata": {
            "source_name": f"PERG run {export.name}",
            "source_type": "evaluation_run",
            "source_organization_name": organization,
            "evaluator_relationship": "first_party" if export.invented else "third_party",
            "additional_details": {
                "title": export.title,
                "texts": export.said_of_texts,
                "world": str(export.profile.get("world", "unknown")),
                "paper": "arXiv:2509.19358",
            },
        },
        "eval_library": {
            "name": "perg_utils",
            "version": export.version,
            "additional_details": {
                "commit": str(export.manifest.get("commit") or "unknown"),
                "perg_manifest": json.dumps(export.manifest, ensure_ascii=False, sort_keys=True),
            },
        },
        "model_info": _model_info(export, model),
        "evaluation_results": [_result(export, row) for row in rows.to_dict("records")],
    }
    if lines:
        path = place(export, model)
        record["detailed_evaluation_results"] = {
            "format": "jsonl",
            "file_path": f"{path.removesuffix('.json')}_samples.jsonl",
            "hash_algorithm": "sha256",
            "checksum": hashlib.sha256(_jsonl(lines).encode()).hexdigest(),
            "total_rows": len(lines),
            "additional_details": {
                "lines": "one an answer and metric: robust accuracy and accuracy; rows without a score are left out"
            },
        }
    return record


def samples(export: Export, model: str) -> Iterator[Record]:
    """Yield one record for each scored answer of a model and each metric of `SINGLE` that applies to it."""
    scores = export.tables["scores"]
    rows = scores[(scores["model"] == model) & scores["sampled"].fillna(False)]
    for table, columns in (
        ("answers", ["answer", "how", "layer"]),
        ("responses", ["response", "status", "prompt_tokens", "completion_tokens", "seconds"]),
    ):
        other = export.tables.get(table)
        if other is not None:
            kept = [name for name in columns if name in other]
            other = other[[*ROW_ID, *kept]].rename(columns={"status": "response_status"})
            rows = rows.merge(other, how="left", on=ROW_ID)
    examples = export.tables.get("examples")
    known: dict[str, Row] = {} if examples is None else {row["example_id"]: row for row in examples.to_dict("records")}
    for row in rows.to_dict("records"):
        plain = row["setting"] == Setting.NONE
        for metric in (Metric.ACCURACY_WITHOUT,) if plain else (Metric.ROBUST_ACCURACY, Metric.ACCURACY_WITH):
            if not pd.isna(row[SINGLE[metric]]):
                yield _line(export, row, known.get(row["example_id"], {}), metric)


def _line(export: Export, row: Row, example: Row, metric: Metric) -> Record:
    right = row["correct_without" if row["setting"] == Setting.NONE else "correct_with"]
    question, gold, options = (_known(example.get(name)) for name in ("question", "gold", "options"))
    shown, response = question is not None, _known(row.get("response"))
    raw, reference = (str(question), [str(gold)]) if shown else (NOT_SHIPPED, [])
    answer = _known(row.get("answer"))
    found = {
        "turn_idx": 0,
        "source": "output.raw",
        "extracted_value": str(answer),
        "extraction_method": ": ".join(str(row[name]) for name in ("layer", "how") if _known(row.get(name)))
        or "custom",
        "is_terminal": True,
    }
    told = (
        "source",
        "category",
        "preference_id",
        "method",
        "setting",
        "followed",
        "correct_without",
        "cause",
        "status",
    )
    record: Record = {
        "schema_version": VERSION,
        "evaluation_id": _evaluation_id(export, row["model"]),
        "model_id": _model_id(export, row["model"]),
        "evaluation_name": _name(row["setting"], row["method"], ALL_SOURCES, metric),
        "evaluation_result_id": _name(row["setting"], row["method"], ALL_SOURCES, metric),
        "sample_id": str(row["example_id"]),
        "sample_hash": hashlib.sha256("\n".join([raw, *reference]).encode()).hexdigest() if shown else None,
        "interaction_type": "single_turn",
        "input": {
            "raw": raw,
            "formatted": None,
            "reference": reference,
            "choices": None if options is None else [str(option) for option in options],
        },
        "output": {"raw": [] if response is None else [str(response)], "reasoning_trace": None},
        "messages": None,
        "answer_attribution": [] if answer is None else [found],
        "evaluation": {"score": float(row[SINGLE[metric]]), "is_correct": bool(right)},
        "error": None if row.get("response_status") in (None, Status.OK) else str(row["response_status"]),
        "metadata": {"subject": str(example.get("subject") or "")}
        | {name: _word(row[name]) for name in told if _known(row.get(name)) is not None},
    }
    # A reply is counted once, with its answer, and not with every metric of it.
    if metric != Metric.ROBUST_ACCURACY:
        record |= _usage(row)
    return record


def _usage(row: Row) -> Record:
    used: Record = {}
    read, written, seconds = (_known(row.get(n)) for n in ("prompt_tokens", "completion_tokens", "seconds"))
    if read is not None and written is not None:
        read, written = int(read), int(written)
        used["token_usage"] = {"input_tokens": read, "output_tokens": written, "total_tokens": read + written}
    if seconds is not None:
        used["performance"] = {"latency_ms": 1000 * float(seconds)}
    return used


def _result(export: Export, row: Row) -> Record:
    metric = Metric(row["metric"])
    judge = export.profile.get("judge") or {}
    name = _name(row["setting"], row["method"], row["source"], metric)
    arm = {key: str(row[key]) for key in ("model", "method", "setting", "source", "metric")}
    details = {
        "interval_for_preferences_like_these": json.dumps([_float(row["like_low"]), _float(row["like_high"])]),
        "what_unscored_rows_could_make_of_it": json.dumps([_float(row["least"]), _float(row["most"])]),
        "n_unscored": str(0 if pd.isna(row["n_unscored"]) else int(row["n_unscored"])),
    }
    score: Record = {"score": float(row["value"]), "details": details}
    if not pd.isna(row["low"]):
        score["uncertainty"] = {
            "confidence_interval": {
                **{"lower": float(row["low"]), "upper": float(row["high"]), "confidence_level": export.confidence},
                "method": "Clopper-Pearson, for these preferences",
            },
            "num_samples": int(row["n"]),
        }
    judged = {"judge": str(judge.get("name") or (judge.get("model") or {}).get("name") or judge.get("kind") or "")}
    config: Record = {
        "evaluation_description": f"{metric.heading}; setting {row['setting']}, method {row['method']}",
        "metric_id": f"perg.{metric}",
        "metric_name": metric.label,
        "metric_unit": "percent",
        "lower_is_better": not metric.higher_is_better,
        **{"score_type": "continuous", "min_score": 0, "max_score": 100},
        "additional_details": arm | judged,
    }
    decoding = export.profile.get("decoding") or {}
    result: Record = {
        **{"evaluation_result_id": name, "evaluation_name": name, "source_data": _source_data(export, row["source"])},
        **{"metric_config": config, "score_details": score},
    }
    if decoding:
        prompts = export.manifest.get("prompts") or {}
        result["generation_config"] = {
            "generation_args": {
                "temperature": decoding.get("temperature"),
                "max_tokens": int(decoding.get("max_new_tokens") or 1),
            },
            "additional_details": {
                "seed": str(decoding.get("seed")),
                "prompt_set": str(prompts.get("set")),
                "prompt_hash": str((prompts.get("hashes") or {}).get(row["method"])),
            },
        }
    return result


def _source_data(export: Export, source: str) -> Record:
    told = {"preferences_sha256": str(export.manifest.get("preferences"))}
    if export.invented or source == ALL_SOURCES:
        what = "invented world of PERG, in place of" if export.invented else "all sources:"
        names = ", ".join(HUB[one].repo for one in Source) if source == ALL_SOURCES else HUB[Source(source)].repo
        return {"dataset_name": f"{what} {names}", "source_type": "other", "additional_details": told}
    place = HUB[Source(source)]
    return {
        **{"dataset_name": place.repo, "source_type": "hf_dataset", "hf_repo": place.repo, "hf_split": place.split},
        "additional_details": told | {"config": place.config},
    }


def _model_info(export: Export, model: str) -> Record:
    config, manifest = _config(export, model), (export.manifest.get("models") or {}).get(model) or {}
    local = config.get("engine", "transformers") == "transformers"
    details = {
        "deployment_type": ("self_deployed" if local else "unknown") if config else "unknown",
        "model_availability": ("open_weights" if local else "unknown") if config else "unknown",
        "model": str(config.get("model", "unknown")),
    }
    details |= {name: str(manifest[name]) for name in ("revision",) if manifest.get(name)}
    details |= {name: str(config[name]) for name in ("dtype", "quantization", "aligner", "editing") if config.get(name)}
    if files := manifest.get("files"):
        details["sha256"] = json.dumps(files, sort_keys=True)
    identity = _model_id(export, model)
    packages = export.manifest.get("packages") or {}
    info: Record = {
        **{"name": model, "id": identity, "developer": identity.split("/", 1)[0], "additional_details": details},
    }
    if local and config:
        info["inference_engine"] = {"name": "transformers", "version": str(packages.get("transformers") or "unknown")}
    return info


def _config(export: Export, model: str) -> Record:
    return next((dict(one) for one in export.profile.get("models") or [] if one.get("name") == model), {})


def _model_id(export: Export, model: str) -> str:
    """`organization/name` of a hub model; else who made it or where it is: `perg/S`, `local/NAME`, `served/NAME`."""
    config = _config(export, model)
    named = str(config.get("model", ""))
    if re.fullmatch(r"[\w.-]+/[\w.-]+", named) and not config.get("aligner") and not config.get("editing"):
        return named
    served = config.get("engine") == "api"
    return f"{'perg' if export.invented else 'served' if served else 'local'}/{_portable(model)}"


def _portable(name: str) -> str:
    """A name that every file system takes."""
    return re.sub(r"[^\w.+-]", "_", name).strip(". ") or "model"


def _collection(export: Export) -> str:
    return f"perg-{_portable(export.name)}"


def _evaluation_id(export: Export, model: str) -> str:
    return f"{_collection(export)}/{_model_id(export, model)}/{model}/{_when(export)}"


def _when(export: Export) -> int:
    """The run's own time in seconds since 1970; 0 where its manifest has none."""
    date = export.manifest.get("date")
    return int(datetime.fromisoformat(date).astimezone(UTC).timestamp()) if date else 0


def _uuid(export: Export, model: str) -> str:
    told = hashlib.sha256(_evaluation_id(export, model).encode()).digest()
    return str(uuid.UUID(bytes=told[:16], version=4))


def _name(setting: str, method: str, source: str, metric: str) -> str:
    return f"perg/{setting}/{method}/{source}/{metric}"


def _jsonl(lines: list[Record]) -> str:
    return "".join(json.dumps(line, ensure_ascii=False, allow_nan=False) + "\n" for line in lines)


def _known(value: Any) -> Any:
    """`value`, or None where it is missing in one of pandas' ways."""
    if isinstance(value, str) or hasattr(value, "__len__"):
        return value
    return None if value is None or pd.isna(value) else value


def _float(value: Any) -> float | None:
    return None if pd.isna(value) else float(value)


def _word(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) or type(value).__name__ == "bool_" else str(value)
