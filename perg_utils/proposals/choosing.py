"""People choose among candidate preferences: a sheet, what comes back from it, and the bank of what was chosen.

`write` makes `candidates.csv` (all of them, and which stands for which), `sheet.csv` and `sheet.html` (the same as one
page that needs no network). On the sheet people judge the paper's three criteria (section 3.1), name a category and
choose. `merge` reads sheets back, checks every line, says how far people agree, and writes `bank.csv`, which a profile
names as `preferences:`. Nothing is chosen without people.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from perg_utils.core.errors import PergError
from perg_utils.core.schema import Category, Source, Status
from perg_utils.core.sheets import inert, inside_page, read_lines
from perg_utils.core.workspace import digest, write_text
from perg_utils.dataset.preferences import load_bank

TEMPLATE = Path(__file__).with_name("choosing.html")
FILES = ("candidates.csv", "sheet.csv", "sheet.html")
#: What people say of a candidate by yes or no: the protocol's criteria, and whether it shall be in the bank.
CRITERIA = ("many_domains", "no_constraint", "can_hurt")
ASKED = (*CRITERIA, "choose")
FILLED = (*ASKED, "category", "note")
_YES, _NO, _OPEN = {"yes", "y", "1", "true"}, {"no", "n", "0", "false"}, {"", "-", "?"}


class ChoosingError(PergError):
    """A sheet cannot be made or read; the message names the file and the lines."""


def write(candidates: pd.DataFrame, stands_for: Sequence[int], questions: pd.DataFrame, folder: Path) -> list[Path]:
    """Write the candidates and a sheet of those that stand for themselves into `folder`; return the three files.

    `candidates` are rows of `asking.propose` with status ok, `stands_for` is `similar.first_of_kind` of them. The sheet
    shows each with the question that it was proposed for, its near-duplicates and their sources. A sheet that is there
    is left alone if it would become another: people may be filling it in.
    """
    if len(candidates) != len(stands_for) or (candidates["status"] != Status.OK).any():
        raise ValueError("give the readable candidates, and for each of them the row that stands for it")
    names = candidates["candidate"].tolist()
    table = candidates.assign(stands_for=[names[row] for row in stands_for])
    asked = {row["example_id"]: row["question"] for row in questions.to_dict("records")}
    rows = []
    for name, group in table.groupby("stands_for", sort=False):
        first = group[group["candidate"] == name].iloc[0]
        others = group.loc[group["candidate"] != name, "preference"]
        rows.append(
            {
                "item": name,
                "preference": first["preference"],
                "question": asked[first["example_id"]],
                "alike": "\n".join(dict.fromkeys(others[others != first["preference"]])),
                "times": len(group),
                "sources": " ".join(source for source in Source if source in set(group["source"])),
            }
        )
    if not rows:
        raise ChoosingError("no candidate could be read: there is nothing to choose from")
    sheet = pd.DataFrame(rows)
    text = sheet.map(inert).assign(**dict.fromkeys(FILLED, "")).to_csv(index=False)
    paths = [folder / name for name in FILES]
    if paths[1].is_file() and paths[1].read_text(encoding="utf-8") != text:
        raise ChoosingError(f"{paths[1]} is there and is another sheet, or filled in; move it away to make a new one")
    page = (
        TEMPLATE.read_text(encoding="utf-8")
        .replace("SHEET_NAME", digest(text))
        .replace("SHEET_DATA", inside_page(rows))
    )
    contents = (table.to_csv(index=False), text, page.replace("CATEGORIES", json.dumps([*map(str, Category)])))
    return [write_text(path, content) for path, content in zip(paths, contents, strict=True)]


def read_sheet(path: Path, items: set[str]) -> pd.DataFrame:
    """Return one filled sheet: item, a column of True, False or null for each of `ASKED`, category, note.

    Commas, semicolons and tabs are understood. Raises `ChoosingError` with every bad line: an item that is not of this
    sheet or there twice, a word that is neither yes nor no, an unknown category, or a chosen candidate without one.
    """
    found = read_lines(path, ChoosingError)
    if not found or not {"item", *ASKED, "category"} <= set(found[0]):
        raise ChoosingError(f"{path}: no lines, or not the columns item, {', '.join((*ASKED, 'category'))}")
    categories = {category.casefold(): str(category) for category in Category}
    bad, out, seen = [], [], set()
    for number, line in enumerate(found, 1):
        item = (line["item"] or "").strip()
        said = {name: (line[name] or "").strip().casefold() for name in (*ASKED, "category")}
        if item not in items:
            bad.append(f"entry {number}: item {item!r} is not of this sheet")
        elif item in seen:
            bad.append(f"entry {number}: item {item!r} is there twice")
        for name in ASKED:
            if said[name] not in _YES | _NO | _OPEN:
                bad.append(f"entry {number}: {name} is {said[name]!r}, neither yes nor no (empty: not judged)")
        if said["category"] not in {*categories, ""}:
            bad.append(f"entry {number}: category {said['category']!r} is none of {', '.join(Category)}")
        elif said["choose"] in _YES and not said["category"]:
            bad.append(f"entry {number}: item {item!r} is chosen without a category")
        seen.add(item)
        answers = {name: None if said[name] in _OPEN else said[name] in _YES for name in ASKED}
        note = (line.get("note") or "").strip()
        out.append({"item": item, **answers, "category": categories.get(said["category"]), "note": note})
    if bad:
        raise ChoosingError(f"{path}: {len(bad)} entries cannot be used:\n" + "\n".join(bad[:20]))
    return pd.DataFrame(out).astype(dict.fromkeys(ASKED, "boolean"))


def merge(folder: Path, sheets: Sequence[Path]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (bank, agreement) of filled sheets and write them to `bank.csv` and `agreement.csv` in `folder`.

    A candidate is in the bank if more than half of the people who judged `choose` chose it; its category is the one
    that most of these named (a tie: the first by the paper's order), its sources all those for which it or a
    near-duplicate was proposed. The bank's irrelevant preferences are those of the shipped one. Agreement has a row
    for each of `ASKED` and for `category`: n (candidates that at least two people judged), agree (share of pairs of
    people who say the same, in percent) and alpha (Krippendorff's, nominal; NaN where all say the same).
    """
    try:
        table = pd.read_csv(folder / FILES[0], dtype=str)
    except (OSError, ValueError) as error:
        raise ChoosingError(f"{folder} has no {FILES[0]} that can be read; 00_generate_preferences makes it") from error
    names = [path.stem for path in sheets]
    if not sheets or len(set(names)) < len(names):
        raise ChoosingError(f"give one sheet or more, each with a file name of its own; got {list(map(str, sheets))}")
    filled = [
        read_sheet(path, set(table["stands_for"])).assign(person=name) for name, path in zip(names, sheets, strict=True)
    ]
    judged = pd.concat(filled, ignore_index=True)
    bank = _bank(table, judged)
    found = pd.DataFrame([_agreement(judged, name) for name in (*ASKED, "category")])
    write_text(folder / "bank.csv", bank.to_csv(index=False))
    write_text(folder / "agreement.csv", found.to_csv(index=False))
    return bank, found


def _bank(table: pd.DataFrame, judged: pd.DataFrame) -> pd.DataFrame:
    rows, count = [], Counter[str]()
    for name, group in table.groupby("stands_for", sort=False):
        own = judged[(judged["item"] == name) & judged["choose"].notna()]
        chose = own[own["choose"].astype(bool)]
        if 2 * len(chose) <= len(own):
            continue
        named = Counter(chose["category"])
        category = max(Category, key=lambda one: named[one])
        count[category] += 1
        sources = " ".join(source for source in Source if source in set(group["source"]))
        text = group.loc[group["candidate"] == name, "preference"].iloc[0]
        rows.append([f"{category.casefold()}-{count[category]}", text, str(category), "true", sources])
    if not rows:
        raise ChoosingError("no candidate was chosen by more than half of those who judged it: there is no bank")
    shipped = load_bank()
    shipped = shipped[~shipped["relevant"].astype(bool)]
    rows += [[row.preference_id, row.text, "", "false", ""] for row in shipped.itertuples()]
    return pd.DataFrame(rows, columns=["preference_id", "text", "category", "relevant", "sources"])


def _agreement(judged: pd.DataFrame, name: str) -> dict[str, object]:
    """n, agree and alpha of one column: of m judgements of a candidate each pair counts 1 / (m - 1)."""
    said = judged[judged[name].notna()]
    counts = pd.crosstab(said["item"], said[name].astype(str)).to_numpy(float)
    counts = counts[counts.sum(1) > 1]
    if not len(counts):
        return {"what": name, "n": 0, "agree": np.nan, "alpha": np.nan}
    given, totals = counts.sum(1), counts.sum(0)
    same = float(((counts * (counts - 1)).sum(1) / (given - 1)).sum())
    n = float(totals.sum())
    by_chance = float((totals * (totals - 1)).sum()) / (n - 1)
    alpha = np.nan if by_chance == n else (same - by_chance) / (n - by_chance)
    return {"what": name, "n": len(counts), "agree": 100 * same / n, "alpha": alpha}


def describe(bank: pd.DataFrame, found: pd.DataFrame, sheets: Sequence[Path]) -> str:
    """Return the outcome as text: how many were chosen, of which kind, how far people agree, and what is lacking."""
    chosen = bank[bank["relevant"] == "true"]
    kinds = ", ".join(f"{count} {name}" for name, count in chosen["category"].value_counts().items())
    lines = [f"{len(sheets)} sheets: {len(chosen)} preferences chosen ({kinds})"]
    for row in found.to_dict("records"):
        if row["n"]:
            lines.append(
                f"{row['what']}: of pairs of people {row['agree']:.0f} % say the same, alpha {row['alpha']:.2f} "
                f"({row['n']} candidates)"
            )
        else:
            lines.append(f"{row['what']}: no candidate was judged by two people")
    served = {source for sources in chosen["sources"] for source in sources.split()}
    lacking = [source for source in Source if source not in served]
    if lacking:
        lines.append(f"no preference is for {', '.join(lacking)}: a profile with this bank must leave them out")
    return "\n".join(lines)
