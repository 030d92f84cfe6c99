import json
import re
import shutil

import pandas as pd
import pytest

from perg_utils.__main__ import main
from perg_utils.core.loading import load_profile
from perg_utils.core.schema import ROW_ID, TABLES
from perg_utils.core.workspace import Workspace
from perg_utils.judging import annotation
from perg_utils.judging.annotation import AnnotationError, read_sheet
from perg_utils.judging.panel import judge_panel
from perg_utils.judging.rating import judge

HOSTILE = '=HYPERLINK("x") </script><script>alert(1)</script><!-- \u2028'
STYLES = {"Clarity": "In short, salt (B).", "Creative": "Imagine salt, bright like a lamp (B)."}


def small_run(folder, questions=12):
    """A run of two models, two categories, rare failures to follow, and a hostile response."""
    rows, examples = [], []
    for number in range(questions):
        category = ["Clarity", "Creative"][number % 2]
        name, source = f"q{number}", ["TQA", "CQA", "MMLU"][number % 3]
        examples.append((name, source, None, f"Question {number}?", ["iron", "salt"], "GOLDEN", f"{category}-1"))
        for model in ("secret-S", "secret-L"):
            rows.append((name, None, model, "no_preference", "none", "The answer is salt (B)."))
            text = STYLES[category] if number > 3 or model == "secret-L" else f"{HOSTILE} {number}"
            rows.append((name, f"{category}-1", model, "zero_shot", "relevant", text))
    responses = pd.DataFrame(rows, columns=[*ROW_ID, "response"]).assign(status="ok")
    for column in TABLES["responses"]:
        if column not in responses:
            lists = column in {"shown_preferences", "stages"}
            responses[column] = [[] for _ in rows] if lists else None
    bank = [(f"{c}-1", f"Wish for {c}.", c, True, ["TQA"]) for c in STYLES]
    profile, workspace = load_profile("demo"), Workspace.of(folder, "demo")
    tables = {
        "responses": responses,
        "examples": pd.DataFrame(examples, columns=list(TABLES["examples"])),
        "preferences": pd.DataFrame(bank, columns=list(TABLES["preferences"])),
    }
    for name, table in tables.items():
        workspace.write(name, table)
    workspace.write("judgements", judge(profile, *tables.values()))
    judge_panel(profile, workspace)
    return profile, workspace


@pytest.fixture
def run(tmp_path):
    return small_run(tmp_path / "run")


def test_the_sheet_is_blind_and_the_key_knows_every_item(run, tmp_path):
    csv_file, page, key_file = annotation.sample(*run, tmp_path / "sheet", 10)
    sheet, key = pd.read_csv(csv_file), pd.read_csv(key_file)
    assert list(sheet) == [*annotation.SHOWN, *annotation.FILLED] and len(sheet) == 10
    assert set(sheet["item"]) == set(key["item"]) and sheet["rating"].isna().all()
    for text in (csv_file.read_text(), page.read_text()):
        for secret in ("secret-", "zero_shot", 'relevant"', "heuristic", "GOLDEN", "q0", "Clarity-1"):
            assert secret not in text
    assert key["item"].is_monotonic_increasing and sheet["item"].tolist() != key["item"].tolist()


def test_the_sheet_is_balanced_over_categories_and_ratings_and_repeats_no_question_needlessly(run, tmp_path):
    key = pd.read_csv(annotation.sample(*run, tmp_path / "sheet", 12)[2])
    # Of 24 responses 2 of each category are rated low (strata of 2), the others high (strata of 10).
    assert key["stratum"].value_counts().to_dict() == {
        "Clarity, 1": 2, "Clarity, 5": 4, "Creative, 1": 2, "Creative, 5": 4,
    }  # fmt: skip
    assert dict(zip(key["stratum"], key["stands_for"], strict=True))["Creative, 5"] == 10
    assert key["example_id"].nunique() == 12


def test_the_same_seed_draws_the_same_sheet_and_a_sheet_is_never_replaced(run, tmp_path):
    first = annotation.sample(*run, tmp_path / "a", 8)
    second = annotation.sample(*run, tmp_path / "b", 8)
    other = annotation.sample(*run, tmp_path / "c", 8, seed=7)
    assert [p.read_bytes() for p in first] == [p.read_bytes() for p in second]
    assert first[2].read_bytes() != other[2].read_bytes()
    with pytest.raises(AnnotationError, match="holds a sheet already"):
        annotation.sample(*run, tmp_path / "a", 8)


def test_hostile_responses_neither_leave_the_pages_data_nor_become_formulas(run, tmp_path):
    csv_file, page, _ = annotation.sample(*run, tmp_path / "sheet", 24)
    text = page.read_text()
    assert text.count("</script>") == 2 and "alert(1)</" not in text and "\u2028" not in text
    items = json.loads(re.search(r'type="application/json">(.*?)</script>', text, re.S)[1])
    assert any(item["response_with"].startswith(HOSTILE) for item in items), "the page shows what was written"
    cells = pd.read_csv(csv_file)["response_with"]
    assert cells.str.startswith("'=").any() and not cells.str.startswith("=").any()
    assert "default-src 'none'" in text and not re.search(r"(?:src|href)=[\"']?http", text)


def fill(folder, name, rating, form="{item},{rating},\n", head="item,rating,note\n"):
    key = pd.read_csv(folder / "key.csv")
    path = folder / f"{name}.csv"
    path.write_text(head + "".join(form.format(item=r.item, rating=rating(r)) for r in key.itertuples()))
    return path


def given(row):
    return int(row.stratum[-1])


def test_merge_reports_agreement_of_people_with_each_other_and_with_each_judge(run, tmp_path):
    folder = tmp_path / "sheet"
    annotation.sample(*run, folder, 12)
    same = fill(folder, "ann", given)
    turned = fill(folder, "bob", lambda row: 6 - given(row))
    people, found = annotation.merge(*run, folder, [same, turned])
    at = found[found["by"] == "all"].set_index(["judge", "other"])
    assert at.loc[("person ann", "heuristic (embedded styles)"), "kappa"] == pytest.approx(1)
    # Ratings 1 (4 times) and 5 (8 times) against the opposite: by chance 16 * (4 * 4 + 8 * 8) / 12, seen 16 * 12.
    assert at.loc[("person ann", "person bob"), "kappa"] == pytest.approx(1 - 12 / (80 / 12))
    assert at.loc[("person ann", "person bob"), "followed"] == 0
    assert set(at.index.get_level_values("other")) == {"person bob", "heuristic (embedded styles)", "heuristic (cues)"}
    assert (at["n"] == 12).all() and len(people) == 24
    assert len(pd.read_csv(folder / "ratings.csv")) == 24 and len(pd.read_csv(folder / "agreement.csv")) == len(found)
    assert "person ann: 12 of 12 items rated" in annotation.describe(people, found)


def test_items_that_a_person_left_out_are_not_rated_low(run, tmp_path):
    folder = tmp_path / "sheet"
    annotation.sample(*run, folder, 12)
    part = fill(folder, "ann", lambda row: given(row) if row.stratum.startswith("Creative") else "")
    people, found = annotation.merge(*run, folder, [part])
    assert people["rating"].notna().sum() == 6
    assert found.loc[found["by"] == "all", "n"].tolist() == [6, 6]


def test_a_sheet_as_spreadsheets_save_it_is_read(tmp_path):
    path = tmp_path / "x.csv"
    lines = ['\ufeff"item";"note";"rating"', '"a";"two\nlines; ""so""";"4"', '"b";"";"5,0"', '"c";"";""', ""]
    path.write_bytes("\r\n".join(lines).encode())
    found = read_sheet(path, {"a", "b", "c"})
    assert found["rating"].fillna(0).tolist() == [4, 5, 0] and found["note"][0] == 'two\nlines; "so"'


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ("a,6", "entry 1: rating '6'"),
        ("a,3.5", "rating '3.5'"),
        ("a,four", "rating 'four'"),
        ("z,3", "item 'z' is not of this sheet"),
        ("a,3\na,3", "entry 2: item 'a' is there twice"),
        ("", "no lines"),
    ],
)
def test_what_cannot_be_used_is_named_and_nothing_is_guessed(tmp_path, lines, said):
    path = tmp_path / "x.csv"
    path.write_text(f"item,rating\n{lines}")
    with pytest.raises(AnnotationError, match=re.escape(said)):
        read_sheet(path, {"a"})


def test_a_file_that_is_no_sheet_is_an_error(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("name,stars\na,3\n")
    with pytest.raises(AnnotationError, match="no columns 'item' and 'rating'"):
        read_sheet(path, {"a"})
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_sheet(tmp_path / "absent.csv", {"a"})


def test_the_command_line_samples_and_merges(run, tmp_path, capsys):
    folder = tmp_path / "sheet"
    options = ["--out", str(tmp_path / "run")]
    assert main(["annotate", "sample", str(folder), "--rows", "8", *options]) == 0
    assert "keep the key" in capsys.readouterr().out
    sheet = fill(folder, "ann", given)
    assert main(["annotate", "merge", str(folder), str(sheet), *options]) == 0
    said = capsys.readouterr().out
    assert "kappa 1.00" in said and f"{{kind: people, ratings: {folder.resolve() / 'ratings.csv'}}}" in said
    assert main(["annotate", "merge", str(folder), *options]) == 2
    assert "give one sheet or more" in capsys.readouterr().err


def chromium(playwright):
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium")
    return playwright.chromium.launch(executable_path=found, args=["--no-sandbox", "--disable-gpu"])


def test_the_page_rates_by_keyboard_and_saves_a_file_that_merge_reads(run, tmp_path):
    api = pytest.importorskip("playwright.sync_api")
    folder = tmp_path / "sheet"
    annotation.sample(*run, folder, 6)
    with api.sync_playwright() as playwright:
        browser = chromium(playwright)
        try:
            page = browser.new_page(accept_downloads=True)
            faults = []
            page.on("pageerror", lambda error: faults.append(str(error)))
            page.goto((folder / "sheet.html").as_uri())
            for key in ("5", "4", "3", "2", "1", "ArrowLeft", "0", "u"):
                page.keyboard.press(key)
            assert page.inner_text("#where") == "6 of 6; 4 rated"
            page.keyboard.press("n")
            page.keyboard.type('5, he said "no"')
            page.keyboard.press("Escape")
            page.fill("#who", "ann")
            with page.expect_download() as download:
                page.click("#save")
            download.value.save_as(folder / download.value.suggested_filename)
        finally:
            browser.close()
    assert faults == []
    key = set(pd.read_csv(folder / "key.csv")["item"])
    found = read_sheet(folder / "ratings-ann.csv", key)
    assert found["rating"].fillna(0).tolist() == [5, 4, 3, 2, 0, 0] and found["note"].iloc[-1] == '5, he said "no"'
    assert found["item"].tolist() == pd.read_csv(folder / "sheet.csv")["item"].tolist()
