import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from perg_utils.__main__ import main
from perg_utils.core.loading import load_profile
from perg_utils.dataset.preferences import load_bank
from perg_utils.proposals import choosing
from perg_utils.proposals.choosing import ChoosingError

HOSTILE = '=HYPERLINK("x") </script><script>alert(1)</script><!-- \u2028'
TEXTS = ["I like brevity.", "I like it brief.", "I like examples.", HOSTILE]
ITEMS = ["001", "003", "004"]


@pytest.fixture
def folder(tmp_path):
    sources = ["TQA", "MMLU", "CQA", "TQA"]
    table = pd.DataFrame(
        {
            "candidate": ["001", "002", "003", "004"],
            "example_id": ["a", "b", "c", "d"],
            "source": sources,
            "subject": None,
            "preference": TEXTS,
            "why": "x",
            "status": "ok",
            "finish_reason": "stop",
        }
    )
    questions = pd.DataFrame({"example_id": ["a", "b", "c", "d"], "question": ["Qa?", "Qb?", "Qc?", "Qd?"]})
    choosing.write(table, [0, 0, 2, 3], questions, tmp_path / "sheet")
    return tmp_path / "sheet"


def sheet(folder, name, *lines):
    path = folder / f"{name}.csv"
    path.write_text("\n".join(["item,many_domains,no_constraint,can_hurt,choose,category,note", *lines]) + "\n")
    return path


def test_the_sheet_shows_each_kind_once_and_holds_nothing_that_acts(folder):
    table = pd.read_csv(folder / "sheet.csv", dtype=str)
    assert table["item"].tolist() == ITEMS
    assert table.iloc[0][["preference", "question", "alike", "times", "sources"]].tolist() == [
        "I like brevity.",
        "Qa?",
        "I like it brief.",
        "2",
        "TQA MMLU",
    ]
    assert table["preference"][2].startswith("'=") and table[list(choosing.FILLED)].isna().all().all()
    page = (folder / "sheet.html").read_text()
    inside = re.search(r'type="application/json">(.*)</script>\n<script>', page)[1]
    assert json.loads(inside)[2]["preference"] == HOSTILE and "<" not in inside and "\u2028" not in inside
    assert "SHEET_" not in page and '["Clarity", "Context", "Thinking", "Examples", "Creative"]' in page


def test_a_sheet_that_people_may_be_filling_in_is_not_written_over(folder):
    table = pd.read_csv(folder / "candidates.csv", dtype=str).drop(columns="stands_for")
    questions = pd.DataFrame({"example_id": list("abcd"), "question": ["Qa?", "Qb?", "Qc?", "Qd?"]})
    choosing.write(table, [0, 0, 2, 3], questions, folder)
    with pytest.raises(ChoosingError, match="move it away"):
        choosing.write(table, [0, 1, 2, 3], questions, folder)
    with pytest.raises(ChoosingError, match="nothing to choose"):
        choosing.write(table.head(0), [], questions, folder / "other")


def test_what_most_people_chose_becomes_a_bank_that_a_profile_can_name(folder, capsys):
    sheets = [
        sheet(folder, "anna", "001,yes,yes,yes,yes,Clarity,", "003,yes,yes,no,yes,examples,nice", "004,no,no,no,no,,"),
        sheet(folder, "ben", "001,Y,1,true,yes,Clarity,", "003,yes,no,no,no,,", "004,no,no,no,no,,"),
        sheet(folder, "cleo", "001,yes,yes,yes,yes,Context,", "003,yes,yes,yes,yes,Examples,", "004,,,,,,"),
    ]
    assert main(["preferences", "merge", str(folder), *map(str, sheets)]) == 0
    said = capsys.readouterr().out
    assert "3 sheets: 2 preferences chosen (1 Clarity, 1 Examples)" in said and "bank.csv" in said
    bank = load_bank(folder / "bank.csv")
    chosen = bank[bank["relevant"].astype(bool)]
    assert chosen["preference_id"].tolist() == ["clarity-1", "examples-1"]
    assert chosen["text"].tolist() == ["I like brevity.", "I like examples."]
    assert chosen["sources"].tolist() == [["TQA", "MMLU"], ["CQA"]]
    assert (~bank["relevant"].astype(bool)).sum() >= 5
    profile = load_profile("demo", [f"preferences={folder / 'bank.csv'}"])
    assert load_bank(profile.preferences).equals(bank)


def test_agreement_is_the_share_of_equal_pairs_and_krippendorffs_alpha(folder):
    sheets = [
        sheet(folder, "a", "001,yes,yes,yes,yes,Clarity,", "003,yes,,no,yes,Clarity,", "004,no,,no,no,,"),
        sheet(folder, "b", "001,yes,,yes,yes,Clarity,", "003,no,,yes,yes,Context,", "004,no,,no,no,,"),
    ]
    _, found = choosing.merge(folder, sheets)
    found = found.set_index("what")
    # many_domains: yes yes, yes no, no no: coincidences 2, 1, 1, 2 of 6; expected by chance to differ 3 * 3 * 2 / 5.
    assert found.loc["many_domains", "agree"] == pytest.approx(100 * 4 / 6)
    assert found.loc["many_domains", "alpha"] == pytest.approx(1 - 2 / (18 / 5))
    assert found.loc["can_hurt", ["n", "agree"]].tolist() == pytest.approx([3, 100 * 4 / 6])
    assert found.loc["no_constraint", "n"] == 0 and np.isnan(found.loc["no_constraint", "alpha"])
    assert found.loc["category", ["n", "agree"]].tolist() == [2, 50]


def test_every_bad_line_is_named(folder):
    path = sheet(
        folder,
        "bad",
        "009,yes,yes,yes,no,,",
        "001,perhaps,yes,yes,no,,",
        "001,yes,yes,yes,no,,",
        "003,yes,yes,yes,yes,,",
        "004,yes,yes,yes,yes,Humour,",
    )
    with pytest.raises(ChoosingError) as error:
        choosing.merge(folder, [path])
    for part in ("'009' is not of this sheet", "'perhaps'", "'001' is there twice", "without a category", "'humour'"):
        assert part in str(error.value)
    with pytest.raises(ChoosingError, match="not the columns"):
        (folder / "no.csv").write_text("a,b\n1,2\n")
        choosing.merge(folder, [folder / "no.csv"])
    with pytest.raises(ChoosingError, match="file name of its own"):
        choosing.merge(folder, [path, path])
    with pytest.raises(ChoosingError, match="00_generate_preferences makes it"):
        choosing.merge(folder / "elsewhere", [path])
    with pytest.raises(ChoosingError, match="more than half"):
        choosing.merge(folder, [sheet(folder, "none", "001,yes,yes,yes,no,,")])


def test_a_semicolon_sheet_as_spreadsheets_save_it_is_read(folder):
    path = Path(folder / "excel.csv")
    path.write_text(
        "\ufeffitem;many_domains;no_constraint;can_hurt;choose;category\n001;yes;;no;yes;Clarity\n", "utf-8"
    )
    [row] = choosing.read_sheet(path, set(ITEMS)).to_dict("records")
    assert row["many_domains"] is True and row["can_hurt"] is False and pd.isna(row["no_constraint"])
