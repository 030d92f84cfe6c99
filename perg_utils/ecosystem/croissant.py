"""Croissant 1.0 metadata (MLCommons): the committed data, and a run's tables, described for machines.

`data/croissant.json` describes the preference bank and the assignment: which relevant preference each of the 7,208
questions gets. A folder that `export --to hub` writes has its own. The JSON is written here, so that nothing more need
be installed; the tests validate it with `mlcroissant` and read records by it.

Left out: files of others (the release, the sources): they are described where they are published.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa

from perg_utils.core.profile import ROOT
from perg_utils.core.schema import TABLES, Source
from perg_utils.core.workspace import file_digest, write_text
from perg_utils.dataset.preferences import load_bank, relevant_ids
from perg_utils.dataset.questions import EXPECTED
from perg_utils.ecosystem.export import Export

DATA = ROOT / "data"
CITED = "Okite et al. (2025), Benchmarking and Improving LLM Robustness for Personalized Generation, arXiv:2509.19358"
SPDX = {"mit": "https://spdx.org/licenses/MIT.html"}
#: Of the committed bank and assignment; another bank is another version.
VERSION = "1.0.0"
_TYPES = {
    pa.string(): "sc:Text",
    pa.list_(pa.string()): "sc:Text",
    pa.bool_(): "sc:Boolean",
    pa.int64(): "sc:Integer",
    pa.float64(): "sc:Float",
}
#: As `mlcroissant` 1.1 writes it for format 1.0.
_CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    **{"cr": "http://mlcommons.org/croissant/", "rai": "http://mlcommons.org/croissant/RAI/"},
    **{"dct": "http://purl.org/dc/terms/", "sc": "https://schema.org/", "conformsTo": "dct:conformsTo"},
    **{
        name: f"cr:{name}"
        for name in (
            *("citeAs", "column", "equivalentProperty", "extract", "field", "fileProperty", "fileObject", "fileSet"),
            *("format", "includes", "isLiveDataset", "jsonPath", "key", "md5", "parentField", "path", "recordSet"),
            *("references", "regex", "repeated", "replace", "samplingRate", "separator", "source", "subField"),
            "transform",
        )
    },
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "examples": {"@id": "cr:examples", "@type": "@json"},
}


def assignment() -> pd.DataFrame:
    """Return which relevant preference each question gets: example_id, source, preference_id, 7,208 rows.

    It goes by a question's position in its whole source (`dataset.preferences.assign`), so no text is needed.
    """
    bank, rows = load_bank(), []
    for source, count in EXPECTED.items():
        ids = relevant_ids(bank, source)
        rows += [(f"{source}-{i:05d}", str(Source(source)), ids[i % len(ids)]) for i in range(count)]
    return pd.DataFrame(rows, columns=["example_id", "source", "preference_id"])


def write_committed(folder: Path = DATA) -> list[Path]:
    """Write `assignment.csv` and `croissant.json` into `folder`, which holds `preferences.csv`; return their paths."""
    table = write_text(folder / "assignment.csv", assignment().to_csv(index=False))
    described = json.dumps(of_data(folder), indent=1, ensure_ascii=False) + "\n"
    return [table, write_text(folder / "croissant.json", described)]


def of_data(folder: Path = DATA) -> dict[str, Any]:
    """Return the description of the preference bank and the assignment in `folder`."""
    files = [_file(folder / name, "text/csv", name) for name in ("preferences.csv", "assignment.csv")]
    bank = {
        "preference_id": "sc:Text",
        "text": "sc:Text",
        "category": "sc:Text",
        "relevant": "sc:Boolean",
        "sources": "sc:Text",
    }
    sets = [
        _set(
            "preferences", "preferences.csv", bank, "A preference: 23 relevant ones in five categories, 12 irrelevant."
        ),
        _set(
            "assignment",
            "assignment.csv",
            dict.fromkeys(["example_id", "source", "preference_id"], "sc:Text"),
            "A question, by its place in the public source, and the relevant preference it is asked with.",
        ),
    ]
    told = (
        "The preferences that PERG states beside multiple-choice questions, and which question gets which. The texts "
        "of the questions are not in it: they are those of TruthfulQA, CommonsenseQA and MMLU."
    )
    rai = {
        "rai:dataCollection": "The preferences were worded for this project, not by users; the assignment is a rule.",
        "rai:dataLimitations": "23 relevant preferences in English; what holds for them need not hold for others.",
        "rai:dataBiases": "One project's wording of style, length and explanation; an author's idea of users.",
        "rai:dataUseCases": "Evaluation: is an answer right and as wished? Not for training; not a sample of users.",
        "rai:personalSensitiveInformation": "None: no person stated a preference.",
        "rai:dataSocialImpact": "No person is described.",
    }
    return _dataset("perg_preferences", told, SPDX["mit"], "2026-11-27", VERSION, files=files, sets=sets) | rai


def of_run(export: Export, folder: Path, licence: str) -> dict[str, Any]:
    """Return the description of the tables that `export_hub` wrote below `folder`."""
    files, sets = [], []
    for name, table in export.tables.items():
        path = folder / "data" / f"{name}.parquet"
        files.append(_file(path, "application/x-parquet", f"data/{name}.parquet"))
        fields = {column: _TYPES[TABLES[name][column]] for column in map(str, table)}
        lists = {column for column in map(str, table) if TABLES[name][column] == pa.list_(pa.string())}
        sets.append(_set(name, f"data/{name}.parquet", fields, f"The table {name} of the run.", lists))
    told = f"{export.title}: a run of PERG. {export.said_of_texts}"
    date = str(export.manifest.get("date") or "1970-01-01")[:10]
    named = "perg_" + "".join(letter if letter.isalnum() else "_" for letter in export.name)
    # The format asks for three numbers.
    version = export.version if export.version != "unknown" else "0.0.0"
    return _dataset(named, told, SPDX.get(licence, licence), date, version, files=files, sets=sets)


def _dataset(
    name: str,
    told: str,
    licence: str,
    date: str,
    version: str,
    *,
    files: list[dict[str, Any]],
    sets: list[dict[str, Any]],
) -> dict[str, Any]:
    return {
        "@context": _CONTEXT,
        "@type": "sc:Dataset",
        "name": name,
        "description": told,
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        **{"citeAs": CITED, "datePublished": date, "license": licence},
        **{"url": "https://arxiv.org/abs/2509.19358", "version": version},
        **{"distribution": files, "recordSet": sets},
    }


def _file(path: Path, form: str, place: str) -> dict[str, Any]:
    return {
        "@type": "cr:FileObject",
        **{"@id": place, "name": place, "contentUrl": place, "encodingFormat": form, "sha256": file_digest(path)},
    }


def _set(name: str, file: str, fields: dict[str, str], told: str, lists: Iterable[str] = ()) -> dict[str, Any]:
    return {
        "@type": "cr:RecordSet",
        **{"@id": name, "name": name, "description": told},
        "field": [
            {
                "@type": "cr:Field",
                **{"@id": f"{name}/{column}", "name": column, "dataType": kind},
                **({"repeated": True} if column in lists else {}),
                "source": {"fileObject": {"@id": file}, "extract": {"column": column}},
            }
            for column, kind in fields.items()
        ],
    }
