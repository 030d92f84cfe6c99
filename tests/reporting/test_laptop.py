"""The committed results on real questions: their numbers follow from their rows, and they tell how they were made."""

import json
import re

import pandas as pd
import pytest

import perg_utils as perg
from perg_utils.core.profile import ROOT
from perg_utils.core.schema import TABLES, conform

STUDIES = sorted(path.parent for path in (ROOT / "figures/laptop").glob("*/manifest.json"))


def rows(folder, table):
    """A table of the study, its texts empty."""
    found = pd.read_parquet(folder / "rows" / f"{table}.parquet")
    lists = {"options", "stages", "shown_preferences"}
    blank = {name: [[]] * len(found) if name in lists else None for name in TABLES[table] if name not in found}
    return conform(table, found.assign(**blank))


@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_the_committed_numbers_follow_from_the_committed_rows(folder):
    keys, numbers = ["model", "method", "setting", "source", "metric"], ["value", "low", "high", "n", "n_unscored"]
    again = perg.metrics(rows(folder, "scores")).set_index(keys)[numbers].sort_index()
    kept = rows(folder, "metrics").set_index(keys)[numbers].sort_index()
    pd.testing.assert_frame_equal(again, kept, check_exact=False, atol=1e-6)
    printed = pd.read_csv(folder / "tables" / "dose_response.csv").set_index(keys)["value"]
    assert (printed - kept["value"].reindex(printed.index)).abs().max() < 1e-6 and len(printed) > 10


@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_the_manifest_tells_models_seeds_tokens_hours_and_processor(folder):
    told = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    for model in told["models"].values():
        assert all(re.fullmatch(r"[0-9a-f]{64}", digest) for digest in model["files"].values()) and model["files"]
    assert (
        told["seeds"] == {"study": 42, "decoding": 42} and told["processor"]["name"] and told["processor"]["features"]
    )
    assert all(spent["reply_tokens"] > 10_000 and spent["hours"] > 0.1 for spent in told["spent"].values())
    assert not re.search(r"/(?:work|home|tmp|root)/", json.dumps(told))


@pytest.mark.parametrize("folder", STUDIES, ids=lambda path: path.name)
def test_no_text_is_kept(folder):
    for path in (folder / "rows").glob("*.parquet"):
        assert not {"question", "options", "gold", "response", "stages", "evidence", "explanation"} & set(
            pd.read_parquet(path)
        )
    assert not list(folder.glob("*.html"))


def test_there_are_studies_to_test():
    assert STUDIES
