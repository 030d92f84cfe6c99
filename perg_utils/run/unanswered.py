"""Rows without an answer: which they are, why, and what asks them again; every run ends with them.

`api_error` (no reply came) and `empty` (no content, asked several times) are asked again by the next run;
`rejected` (a content filter, or too long) only after they are dropped from the journal. All are left out of the metrics
and counted there. A model's own silence (`silent`: it wrote nothing, or its thinking filled the limit of new tokens) is
no failure of a server: it is scored, as a wrong answer, and notebook 03 counts it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import pandas as pd

from perg_utils.core.errors import DataError, PergError
from perg_utils.core.profile import Profile
from perg_utils.core.schema import MISSING, ROW_ID, Null, Status
from perg_utils.core.workspace import Workspace
from perg_utils.dataset.orders import options_shown
from perg_utils.engines.base import is_final
from perg_utils.engines.journal import Journal, in_lists
from perg_utils.extraction.llm import open_llm
from perg_utils.judging.panel import panel_parts

#: Those that the next run asks again.
_AGAIN = [status for status in MISSING if not is_final(status, None)]
_COLUMNS = ["asked", "status", "reason"]


class RowsUnanswered(PergError):
    """The run has come to its end, but rows are without an answer; the message says which, why, and the cure."""


def find(workspace: Workspace, models: Iterable[str], *, judge: bool, extractor: Profile | None = None) -> pd.DataFrame:
    """Return the rows without an answer: who was asked (model, judge, extractor), status, reason; one row each.

    `judge`: also look at the ratings; `extractor`: the profile whose extractor's readings to look at too. A response
    that is missing already is not counted again there.
    """
    found = [pd.DataFrame(columns=_COLUMNS)]
    try:
        responses = workspace.read("responses")
    except DataError:  # a first step only
        return found[0]
    lost = responses[responses["model"].isin(list(models)) & responses["status"].isin(MISSING)]
    with Journal(workspace.journal, read_only=True) as journal:
        reasons = lost["key"].map(_reasons(journal, lost["key"]))
    found.append(pd.DataFrame({"asked": lost["model"], "status": lost["status"], "reason": reasons}))
    if extractor is not None and workspace.table_path("answers").is_file():
        found.append(_unread(extractor, workspace, responses))
    if judge and workspace.table_path("judgements").is_file():
        answered = responses.loc[responses["status"] == Status.OK, ROW_ID]
        ratings = [workspace.read("judgements", part) for part in (None, *panel_parts(workspace))]
        rated = pd.concat(ratings, ignore_index=True).merge(answered, on=ROW_ID)
        found.append(_without_rating(rated, ""))
        if panel_parts(workspace, "nulls"):
            nulls = workspace.read("nulls")
            # A matched rating is one of the run's own and counted there.
            found.append(_without_rating(nulls[nulls["kind"] != Null.MATCHED], " (nulls)"))
    return pd.concat(found, ignore_index=True)


def _without_rating(rated: pd.DataFrame, what: str) -> pd.DataFrame:
    lost = rated[rated["status"].isin(MISSING)]
    asked = "judge " + lost["judge"] + what
    return pd.DataFrame({"asked": asked, "status": lost["status"], "reason": lost["explanation"]})


def to_be_asked(found: pd.DataFrame) -> bool:
    """Return whether the next run would ask any of these rows again."""
    return bool(found["status"].isin(_AGAIN).any())


def describe(found: pd.DataFrame, again: str, drop: str) -> str:
    """Return the counts with their most frequent reason, and the commands that ask again."""
    lines = [f"{len(found):,} rows have no answer; they are left out of the metrics and counted there:"]
    for (asked, status), rows in found.groupby(["asked", "status"], sort=False):
        reasons = rows["reason"].fillna("no content").map(_short).value_counts()
        more = f" and {len(reasons) - 1} other reasons" if len(reasons) > 1 else ""
        lines.append(f"- {asked}, {status}: {len(rows):,} ({reasons.index[0]}{more})")
    if to_be_asked(found):
        lines.append(f"to ask {' and '.join(s for s in _AGAIN if (found['status'] == s).any())} again: {again}")
    if (found["status"] == Status.REJECTED).any():
        lines.append(f"rejected rows are not asked again by themselves; to ask them all the same, first: {drop}")
    return "\n".join(lines)


def _unread(profile: Profile, workspace: Workspace, responses: pd.DataFrame) -> pd.DataFrame:
    """The responses that the extractor's language model could not be asked about."""
    answered = responses.loc[responses["status"] == Status.OK, [*ROW_ID, "response", "shown_preferences"]]
    answers = workspace.read("answers")
    lost = answers[answers["status"].isin(MISSING)].merge(answered, on=ROW_ID)
    with Journal(workspace.journal, read_only=True) as journal:
        layer = open_llm(profile, journal)
        if layer is None or lost.empty:
            return pd.DataFrame(columns=_COLUMNS)
        options = workspace.read("examples").set_index("example_id")["options"]
        shown = map(options_shown, lost["example_id"].map(options), lost["shown_preferences"])
        requests = layer.requests(list(zip(lost["response"], shown, strict=True)))
        keys = [request.key(layer.engine.identity) for request in requests]
        known = _reasons(journal, keys)
    reasons = [known.get(key) for key in keys]
    return pd.DataFrame({"asked": f"extractor {layer.model}", "status": lost["status"], "reason": reasons})


def _reasons(journal: Journal, keys: Iterable[str]) -> dict[str, str]:
    wanted = list(dict.fromkeys(keys))
    out: dict[str, str] = {}
    for some, marks in in_lists(wanted):
        out.update(journal.execute(f"SELECT key, error FROM replies WHERE key IN ({marks})", some))
    return out


def _short(reason: str) -> str:
    """A reason in one line of at most 160 characters, numbers of requests and the like taken out to be countable."""
    line = re.sub(r"\b(?:req|request)[-_ ]?(?:id)?[:= ]*[\w-]{12,}", "request ...", " ".join(reason.split()))
    return line if len(line) <= 160 else line[:157] + "..."
