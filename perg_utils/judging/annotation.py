"""Human raters: a blind, balanced sheet of responses to rate, and what comes back from it.

`sample` writes `sheet.csv`, `sheet.html` (the same as one page that needs no network: keys 1 to 5, saved to a file) and
`key.csv`. The sheet says nothing of model, method, setting, right answer or any judge's rating; the key, which the
raters must not see, says which item is which response, with a hash of what the sheet shows of it. `merge` reads sheets
back, checks every line and gives the raters' agreement with each other and with the run's judges; its `ratings.csv` is
what a judge of the kind `people` rates by (`human`).

Left out: a server, accounts, and any identity of a rater but the name of the sheet's file.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from perg_utils.core.errors import PergError
from perg_utils.core.profile import Profile
from perg_utils.core.schema import LETTERS, RELEVANT_SHOWN, ROW_ID, Status
from perg_utils.core.sheets import inert, inside_page, read_lines
from perg_utils.core.workspace import Workspace, digest, write_text
from perg_utils.judging import agreement
from perg_utils.judging.panel import read_panel
from perg_utils.judging.rating import cases

TEMPLATE = Path(__file__).with_name("annotation.html")
#: What a rater sees of an item, and fills in.
SHOWN = ["item", "question", "options", "preference", "response_without", "response_with"]
FILLED = ["rating", "note"]
_SKIP = {"", "-", "?"}


class AnnotationError(PergError):
    """A sheet cannot be made or read; the message names the file and the lines."""


def sample(profile: Profile, workspace: Workspace, folder: Path, n: int = 100, seed: int | None = None) -> list[Path]:
    """Write a sheet of up to `n` responses into `folder` and return its files: sheet.csv, sheet.html, key.csv.

    Balanced: strata of category and the main judge's rating are drawn from in turn, sources within them too, each
    question at most once as long as there are others. The same seed gives the same sheet. A folder that has a key
    already is left alone: ratings may rest on it.
    """
    if (folder / "key.csv").exists():
        raise AnnotationError(f"{folder} holds a sheet already (key.csv); choose another folder")
    responses, examples, bank = (workspace.read(name) for name in ("responses", "examples", "preferences"))
    rows = _strata(responses, examples, bank, workspace.read("judgements"))
    seed = profile.seed if seed is None else seed
    chosen = _balanced(rows, n, seed)
    if not len(chosen):
        raise AnnotationError("no response to a relevant preference in this run; nothing to rate")
    chosen = chosen.sample(frac=1, random_state=seed)  # the order must not tell the stratum
    shown, to_rate = [], cases(profile, responses, list(chosen.index), examples, bank)
    for item, case in zip(chosen["item"], to_rate, strict=True):
        options = "\n".join(f"{letter}. {text}" for letter, text in zip(LETTERS, case.options, strict=False))
        shown.append([item, case.question, options, case.preference, case.response_without, case.response_with])
    sheet = pd.DataFrame(shown, columns=SHOWN)
    key = chosen.assign(pair=[case.pair() for case in to_rate])
    key = key[["item", *ROW_ID, "category", "source", "stratum", "stands_for", "pair"]].sort_values("item")
    name = digest(seed, sorted(chosen["item"]))
    page = (
        TEMPLATE.read_text(encoding="utf-8")
        .replace("SHEET_NAME", name)
        .replace("SHEET_DATA", inside_page(sheet.to_dict("records")))
    )
    shown_inert = sheet.map(inert).assign(rating="", note="")
    return [
        write_text(folder / "sheet.csv", shown_inert.to_csv(index=False)),
        write_text(folder / "sheet.html", page),
        write_text(folder / "key.csv", key.to_csv(index=False)),
    ]


def _strata(
    responses: pd.DataFrame, examples: pd.DataFrame, bank: pd.DataFrame, judgements: pd.DataFrame
) -> pd.DataFrame:
    """Rateable responses at their positions, with category, source, stratum, its size and an opaque item name."""
    rows = responses[ROW_ID].assign(position=range(len(responses)))
    keep = responses["setting"].isin(RELEVANT_SHOWN) & (responses["status"] == Status.OK)
    rows = rows[keep.to_numpy()].merge(bank[["preference_id", "category"]], on="preference_id", validate="m:1")
    rows = rows.merge(examples[["example_id", "source"]], on="example_id", validate="m:1")
    rows = rows.merge(judgements[[*ROW_ID, "rating"]], on=ROW_ID, how="left", validate="1:1")
    rating = rows["rating"].astype("string").fillna("unrated")
    rows["stratum"] = rows["category"].fillna("none") + ", " + rating
    rows["stands_for"] = rows.groupby("stratum")["stratum"].transform("size")
    rows["item"] = [digest(*row)[:8] for row in rows[ROW_ID].itertuples(index=False)]
    return rows.set_index("position")


def _balanced(rows: pd.DataFrame, n: int, seed: int) -> pd.DataFrame:
    """Rows drawn from the strata in turn; a fresh question first, and of these the source drawn least so far."""
    mixed = rows.sample(frac=1, random_state=seed)
    waiting: dict[str, list[tuple[int, str, str]]] = {}
    for row in mixed.reset_index().to_dict("records"):
        waiting.setdefault(row["stratum"], []).append((row["position"], row["example_id"], row["source"]))
    questions: Counter[str] = Counter()
    sources: Counter[tuple[str, str]] = Counter()
    drawn: list[int] = []
    while any(waiting.values()) and len(drawn) < n:
        for stratum in sorted(name for name, left in waiting.items() if left)[: n - len(drawn)]:
            costs = [(questions[question], sources[stratum, source]) for _, question, source in waiting[stratum]]
            position, question, source = waiting[stratum].pop(costs.index(min(costs)))
            questions[question] += 1
            sources[stratum, source] += 1
            drawn.append(position)
    return mixed.loc[drawn]


def read_sheet(path: Path, items: set[str]) -> pd.DataFrame:
    """Return the ratings of one filled sheet: item, rating (1 to 5, or null where none was given), note.

    Commas, semicolons and tabs are understood. Raises `AnnotationError` with every bad line: an item that is not of
    this sheet, one given twice, a rating that is no whole number from 1 to 5.
    """
    found = read_lines(path, AnnotationError)
    if not found or not {"item", "rating"} <= set(found[0]):
        raise AnnotationError(
            f"{path}: no lines, or no columns 'item' and 'rating', but {list(found[0]) if found else []}"
        )
    bad, out, seen = [], [], set()
    for number, line in enumerate(found, 1):
        item, given = (line["item"] or "").strip(), (line["rating"] or "").strip()
        rating = re.fullmatch(r"([1-5])(?:[.,]0+)?", given)
        if item not in items:
            bad.append(f"entry {number}: item {item!r} is not of this sheet")
        elif item in seen:
            bad.append(f"entry {number}: item {item!r} is there twice")
        elif rating is None and given not in _SKIP:
            bad.append(f"entry {number}: rating {given!r} is no whole number from 1 to 5 (empty: not rated)")
        seen.add(item)
        out.append((item, int(rating[1]) if rating else None, (line.get("note") or "").strip()))
    if bad:
        raise AnnotationError(f"{path}: {len(bad)} entries cannot be used:\n" + "\n".join(bad[:20]))
    return pd.DataFrame(out, columns=["item", "rating", "note"]).astype({"rating": "Int64"})


def merge(
    profile: Profile, workspace: Workspace, folder: Path, sheets: Sequence[Path]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return (the raters' ratings, agreement) of filled sheets and write them to `ratings.csv` and `agreement.csv`.

    Ratings have the columns of the table `judgements`, `item`, `pair` (hash of what was shown) and `changed` (whether
    the run has other texts there by now); the judge is `person <file name>`. Agreement is that of `agreement.pairs`,
    for every two raters and for every rater with every judge of the run, by category and source; changed responses
    count between raters only. It holds for the sheet, in which rare ratings are frequent on purpose, not for the whole
    run.
    """
    try:
        key = pd.read_csv(folder / "key.csv", dtype=str)
    except FileNotFoundError as error:
        raise AnnotationError(f"{folder} has no key.csv; give the folder that `annotate sample` made") from error
    if "pair" not in key:
        raise AnnotationError(f"{folder}/key.csv has no column 'pair'; make a new sheet with `annotate sample`")
    key["changed"] = _changed(profile, workspace, key)
    names = [f"person {path.stem}" for path in sheets]
    if not sheets or len(set(names)) < len(names):
        raise AnnotationError(f"give one sheet or more, each with a file name of its own; got {list(map(str, sheets))}")
    filled = [read_sheet(path, set(key["item"])).assign(judge=name) for name, path in zip(names, sheets, strict=True)]
    rated = pd.concat(filled).merge(key, on="item", validate="m:1")
    rated["status"] = rated["rating"].notna().map({True: str(Status.OK), False: str(Status.UNRATED)})
    rated = rated.rename(columns={"note": "explanation"})
    judged = _judged(profile, workspace).merge(key.loc[~key["changed"], ROW_ID], on=ROW_ID, validate="m:1")
    columns = [*ROW_ID, "judge", "rating", "status"]
    ratings = agreement.wide(pd.concat([rated[columns], judged[columns]], ignore_index=True))
    ratings = ratings.merge(key[[*ROW_ID, "category", "source"]], on=ROW_ID, validate="1:1")
    judges = [name for name in ratings.columns if name in {*names, *judged["judge"]}]
    how = {"threshold": profile.judge.threshold, "config": profile.statistics, "seed": profile.seed}
    found = agreement.pairs(ratings, judges, by=["category", "source"], **how)  # type: ignore[arg-type]
    found = found[found["judge"].isin(names)].reset_index(drop=True)
    write_text(folder / "ratings.csv", rated[[*columns, "explanation", "item", "pair"]].to_csv(index=False))
    write_text(folder / "agreement.csv", found.to_csv(index=False))
    return rated, found


def _changed(profile: Profile, workspace: Workspace, key: pd.DataFrame) -> list[bool]:
    """For each item of the key, whether this run has other texts for it than the sheet showed."""
    responses, examples, bank = (workspace.read(name) for name in ("responses", "examples", "preferences"))
    rows = responses[ROW_ID].assign(position=range(len(responses))).merge(key[ROW_ID], on=ROW_ID, validate="1:1")
    if rows.empty:
        raise AnnotationError("none of the key's responses is in this run: is it another profile's, or another --out?")
    now = {case.row: case.pair() for case in cases(profile, responses, rows["position"].tolist(), examples, bank)}
    rows_of_key = key[ROW_ID].itertuples(index=False, name=None)
    return [now.get(row) != pair for row, pair in zip(rows_of_key, key["pair"], strict=True)]


def _judged(profile: Profile, workspace: Workspace) -> pd.DataFrame:
    """The ratings of all judges but human ones, which would be compared with themselves."""
    others = profile.model_copy(update={"judges": [one for one in profile.judges if one.kind != "people"]})
    tables = pd.concat(read_panel(others, workspace).values(), ignore_index=True)
    return tables[tables["judge"] != profile.judge.label] if profile.judge.kind == "people" else tables


def describe(raters: pd.DataFrame, found: pd.DataFrame) -> str:
    """Return the outcome as text: how many rated what, and the agreement of each pair over all rows."""
    lines = []
    for name, own in raters.groupby("judge", sort=False):
        rated = own["rating"].dropna()
        lines.append(f"{name}: {len(rated)} of {len(own)} items rated, mean {rated.mean():.2f}")
    if changed := raters.drop_duplicates("item")["changed"].sum():
        lines.append(f"{changed} responses have changed since the sheet was made; no judge is compared on them")
    for row in found[found["by"] == "all"].to_dict("records"):
        bounds = f"({row['kappa_low']:.2f} to {row['kappa_high']:.2f})"
        lines.append(
            f"{row['judge']} and {row['other']}: n {row['n']}, kappa {row['kappa']:.2f} {bounds}, "
            f"alpha {row['alpha_ordinal']:.2f}, the same verdict on {row['followed']:.1f} %"
        )
    return "\n".join(lines)
