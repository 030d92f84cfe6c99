"""Faults of joining files: letters under another order of options, and rows of another question with the same text.

Responses are compared by checksum, letters by the option that they mean in their file's own order.

Left out: faults that a file has by itself (`faults`).
"""

from __future__ import annotations

from collections import defaultdict

import numpy as np
import pandas as pd

from perg_utils.core.schema import ARM_ID, Method, Setting
from perg_utils.published.checks.counted import CountedRows, Fault, canonical, flag, joined

#: What the import says of a row whose position another row of the file has.
REPEATED = "another row of the file has the position"

#: Share of the telling letters that must be the zero_shot arm's before a configuration is taken to borrow them.
BORROWED = 0.95


def option_orders(found: CountedRows) -> list[Fault]:
    """Letters given under one order of the options and counted under another.

    One response with one letter stands in two files that list the options in different orders: in at least one of them
    the letter means an option that the model did not choose. The order under which more of these letters are right is
    taken for the true one: under a foreign order they are right by chance only.
    """
    rows, gold = found.rows, found.rows["gold"]
    note = "the order under which more of these letters are right is taken for the true one"
    out = []
    for side, column in (("without", "without"), ("with", "with_")):
        own = _borrowed(found) if side == "without" else rows[["order", "letter", "text"]]
        pool = own.assign(key=_keys(rows, side), unit=_units(rows) + "|used", gold=gold)
        twins = found.twins[found.twins["side"] == side]
        again = twins[["order", "letter", "text"]].assign(
            key=_keys(twins, side), unit=_units(twins) + "|again", gold=twins["gold"]
        )
        true = _true_options(pd.concat([pool, again], ignore_index=True)).iloc[: len(pool)].set_axis(rows.index)
        mine = canonical(own["order"], own["letter"])
        wrong = (true.notna() & (true != mine)).to_numpy()
        right = (true == gold).astype(float)
        out.append(Fault("option_orders", f"answer {side} preference", wrong, {column: right}, note))
    return out


def repeated_texts(found: CountedRows) -> list[Fault]:
    """Rows that a join on the question's text multiplied or gave another row's values."""
    rows = found.rows
    multiplied = rows["reason"].str.startswith(REPEATED).to_numpy(dtype=bool)
    dropped = {"counted": pd.Series(False, index=rows.index)}
    out = [Fault("repeated_texts", "rows multiplied", multiplied, dropped, "the row is in the file more than once")]
    same = found.examples.groupby("question")["example_id"].agg(list)
    others = {e: [o for o in group if o != e] for group in same[same.map(len) > 1] for e in group}
    for side, column in (("without", "without"), ("with", "with_")):
        taken, right = _taken(found, others, side)
        instead = {column: right}
        if side == "with":  # what was rated is the other row's response
            instead["followed"] = pd.Series(np.nan, index=rows.index)
        note = "the response is that of another question with the same text, as another file shows"
        out.append(Fault("repeated_texts", f"another row's answer {side} preference", taken, instead, note))
    return out


def _keys(rows: pd.DataFrame, side: str) -> pd.Series:
    """What identifies a response: without preference a model's at a question, with it the row's."""
    names = ["model", "example_id"] if side == "without" else [*ARM_ID, "example_id", "preference_id"]
    return joined(rows, names)


def _units(rows: pd.DataFrame) -> pd.Series:
    return joined(rows, ARM_ID) + "|" + rows["example_id"].astype("str").str[:3]


def _true_options(pool: pd.DataFrame) -> pd.Series:
    """The option truly meant, for rows whose letter means different options in different files; else None."""
    option = canonical(pool["order"], pool["letter"])
    used = option.notna() & pool["text"].notna() & (pool["text"] != 0)
    response = pool["key"] + "|" + pool["text"].astype(str) + "|" + pool["letter"].astype(str)
    own = pd.DataFrame({"response": response, "option": option, "unit": pool["unit"]})[used]
    own["right"] = (option == pool["gold"])[used].astype(float)
    own = own[own.groupby("response")["option"].transform("nunique") > 1]
    if own.empty:
        return pd.Series(None, index=pool.index, dtype=object)
    own["trust"] = own.groupby("unit")["right"].transform("mean")
    first = own.sort_values("trust", ascending=False, kind="stable").groupby("response")["option"].first()
    return response.where(used).map(first).astype(object)


def _borrowed(found: CountedRows) -> pd.DataFrame:
    """Order, letter and checksum of each row's answer without preference.

    A file may publish only whether that answer was right, or the letter beside an edited response. Such a letter is
    taken for the zero_shot one where the flags of the configuration follow from that under the file's order, or its
    letters are the same although the options stand otherwise.
    """
    rows = found.rows
    own = pd.DataFrame(
        {"order": rows["order"], "letter": rows["letter_without"].astype(object), "text": rows["text_without"]}
    ).astype({"text": float})
    plain = found.plain.drop_duplicates(["model", "example_id"]).set_index(["model", "example_id"])
    base = plain.reindex(pd.MultiIndex.from_frame(rows[["model", "example_id"]])).set_index(rows.index)
    here, there = canonical(rows["order"], base["letter"]), canonical(base["order"], base["letter"])
    published, lacking = flag(rows["nopref_correct"]), own["letter"].isna()
    telling = (here != there) & here.notna() & (own["text"] != base["text"]) & (~lacking | published.notna())
    same = (own["letter"] == base["letter"]).where(~lacking, (here == rows["gold"]).astype(float) == published)
    share = same.where(telling).astype(float).groupby(_units(rows)).transform("mean")
    takes = telling & same & (share >= BORROWED)
    own["letter"] = own["letter"].where(~takes, base["letter"])
    own["text"] = own["text"].where(~takes, base["text"].astype(float))
    return own


def _taken(found: CountedRows, others: dict[str, list[str]], side: str) -> tuple[np.ndarray, pd.Series]:
    """Rows with another question's response, and whether the response that a better file has there is right.

    A second file of the arm is better than the one used, and zero_shot relevant better than what borrows from it.
    """
    rows = found.rows
    letter, text = ("letter_without", "text_without") if side == "without" else ("letter", "text")
    borrowing = rows["setting"].ne(Setting.RELEVANT) | rows["method"].ne(Method.ZERO_SHOT)
    shares = _borrows(rows) if side == "without" else pd.Series(True, index=rows.index)
    doubtful = rows["example_id"].isin(list(others)) & rows[text].notna() & shares
    pool = pd.DataFrame(
        {
            "example_id": rows["example_id"],
            "scope": rows["model"] if side == "without" else joined(rows, ARM_ID),
            "text": rows[text],
            "right": (canonical(rows["order"], rows[letter]) == rows["gold"]).astype(float),
            "rank": np.where(borrowing & (side == "without"), 2, 1),
        }
    )
    own = found.twins[found.twins["side"] == side]
    again = pd.DataFrame(
        {
            "example_id": own["example_id"],
            "scope": own["model"] if side == "without" else joined(own, ARM_ID),
            "text": own["text"],
            "right": (canonical(own["order"], own["letter"]) == own["gold"]).astype(float),
            "rank": 0,
        }
    )
    known: dict[tuple[str, str], list[tuple[int, int, float]]] = defaultdict(list)
    both = pd.concat([pool[doubtful], again[again["example_id"].isin(list(others))]], ignore_index=True)
    columns = ["scope", "example_id", "rank", "text", "right"]
    for scope, example, rank, response, correct in zip(*(both[c].tolist() for c in columns), strict=True):
        known[scope, example].append((rank, int(response), correct))
    taken, right = np.zeros(len(rows), dtype=bool), rows["without" if side == "without" else "with_"].copy()
    mine = pool[doubtful]
    for index, scope, example, rank, response in zip(mine.index, *(mine[c].tolist() for c in columns[:4]), strict=True):
        better = [k for k in known[scope, example] if k[0] < rank]
        theirs = {k[1] for other in others[example] for k in known[scope, other]}
        if better and response in theirs and all(k[1] != response for k in better):
            taken[index] = True
            right[index] = min(better)[2]
    return taken, right


def _borrows(rows: pd.DataFrame) -> pd.Series:
    """Whether a configuration's responses without preference are mostly those of the model's zero_shot relevant arm."""
    base = (rows["method"] == Method.ZERO_SHOT) & (rows["setting"] == Setting.RELEVANT) & rows["example_id"].notna()
    known = rows[base].drop_duplicates(["model", "example_id"]).set_index(["model", "example_id"])["text_without"]
    theirs = known.reindex(pd.MultiIndex.from_frame(rows[["model", "example_id"]])).to_numpy(dtype=float, na_value=-1)
    same = pd.Series(rows["text_without"].to_numpy(dtype=float, na_value=-2) == theirs, index=rows.index)
    return (same.groupby(joined(rows, ARM_ID)).transform("mean") > 0.5) | base
