"""One arm of the release (a model, a method, a setting) as rows of the standard tables.

Responses of several files of the arm are joined row by row; the first file that has a row gives it. The answers without
preference become rows of setting none: the method's own, and for zero_shot also the model's no_preference ones.

Left out: which files belong to the arm, and in which order they come (`release`).
"""

from __future__ import annotations

import pandas as pd

from perg_utils.core.profile import PAPER_JUDGE
from perg_utils.core.schema import RELEVANT_SHOWN, ROW_ID, TABLES, Arm, Method, Setting, Status, conform
from perg_utils.published.assignment import SOURCE_AT, assigned, position_id, preference_id
from perg_utils.published.files import PublishedFile
from perg_utils.published.layouts import FLAGS
from perg_utils.published.responses import FileResponses
from perg_utils.scoring.scores import assemble, cause

_WITHOUT = {"correct": "correct_without", "delivered": "delivered_without", "status": "status_without"}


class ReleasedArm:
    """Collects the responses of an arm's files.

    `baselines` holds the answers without preference of the arms before, by model and method, and gets this arm's;
    `categories` those of the preferences, by id.
    """

    def __init__(
        self,
        arm: Arm,
        baselines: dict[tuple[str, Method], pd.DataFrame],
        categories: dict[str, str],
        threshold: int,
    ) -> None:
        self.model, self.method, self.setting = arm.model, Method(arm.method), Setting(arm.setting)
        self.threshold = threshold
        self._baselines, self._categories = baselines, categories
        self._shown: list[pd.DataFrame] = []
        self._own: list[pd.DataFrame] = []
        self._again: list[pd.DataFrame] = []
        self._seen: set[tuple[int, str | None]] = set()
        before = baselines.get((self.model, self.method))
        self._seen_own = set() if before is None else set(before["position"])

    def add(self, file: PublishedFile, found: FileResponses) -> int:
        """Take what is new of a file's responses; return how many responses with preference that is."""
        keys = list(zip(found.shown["position"].tolist(), found.shown["preference_id"].tolist(), strict=True))
        known = pd.Series([key in self._seen for key in keys], index=found.shown.index, dtype=bool)
        new = found.shown[~known].assign(file=file.path, rated=found.rated)
        self._seen.update(keys)
        self._shown.append(new)
        self._again.append(_compact(found.shown[known], file, "with"))
        if found.own is not None:
            own = found.own[found.own["status"] != Status.EMPTY]
            fresh = own[~own["position"].isin(self._seen_own)].assign(file=file.path)
            here = {position for part in self._own for position in part["position"].tolist()}
            self._again.append(_compact(own[own["position"].isin(here)].assign(preference_id=None), file, "without"))
            self._seen_own.update(fresh["position"])
            self._own.append(fresh)
        return len(new)

    def tables(self) -> dict[str, pd.DataFrame]:
        """Return the arm's rows of responses, answers, judgements, scores and origins; nothing when it has none."""
        if not self._shown:
            return {}
        own = self._without()
        shown = pd.concat(self._shown, ignore_index=True)
        shown = self._identified(shown.assign(setting=str(self.setting), method=str(self.method)))
        shown = self._paired(shown)
        rows = [shown]
        if len(own):
            rows.append(own.assign(method=str(self.method)))
            if self.method is Method.ZERO_SHOT:
                rows.append(own.assign(method=str(Method.NO_PREFERENCE)))
        every = pd.concat([self._identified(frame) for frame in rows], ignore_index=True)
        every = every.reindex(columns=list(dict.fromkeys([*every.columns, *_COLUMNS])))
        return {
            "responses": self._responses(every),
            "answers": conform("answers", every[list(TABLES["answers"])]),
            "judgements": self._judgements(shown),
            "scores": self._scores(every),
            "origins": _origins(every),
            "twins": self._twins(shown, own),
        }

    def _twins(self, shown: pd.DataFrame, own: pd.DataFrame) -> pd.DataFrame:
        """The rows that another file of the arm has too, with another order of options, letter or response."""
        again = pd.concat(self._again, ignore_index=True)
        used = [_compact(shown, None, "with")]
        if len(own):
            used.append(_compact(own, None, "without"))
        keys = ["side", "position", "number"]
        out = again.merge(pd.concat(used), on=keys, suffixes=("", "_used"), validate="m:1")
        out = out[(out[_TOLD] != out[[f"{name}_used" for name in _TOLD]].to_numpy()).any(axis=1)]
        out = self._identified(out.assign(method=str(self.method), setting=str(self.setting)))
        return out.assign(preference_id=out["number"].mask(out["number"] == ""))[TWINS]

    def _without(self) -> pd.DataFrame:
        if not self._own:
            return pd.DataFrame()
        own = pd.concat(self._own, ignore_index=True).assign(preference_id=None, setting=str(Setting.NONE))
        before = self._baselines.get((self.model, self.method))
        self._baselines[self.model, self.method] = pd.concat(
            [frame for frame in (before, own[["position", *_WITHOUT]]) if frame is not None], ignore_index=True
        )
        return own

    def _identified(self, frame: pd.DataFrame) -> pd.DataFrame:
        return frame.assign(example_id=[position_id(p) for p in frame["position"].tolist()], model=self.model)

    def _paired(self, shown: pd.DataFrame) -> pd.DataFrame:
        """Fill in the zero_shot answer without preference where the row's own file has none."""
        shown = shown.reindex(
            columns=list(dict.fromkeys([*shown.columns, *_WITHOUT.values(), "raw_without", "text_without"]))
        )
        lacking = shown["status_without"].isna() | (shown["status_without"] == Status.EMPTY)
        base = self._baselines.get((self.model, Method.ZERO_SHOT))
        if base is not None and lacking.any():
            found = (
                base.set_index("position").rename(columns=_WITHOUT).reindex(shown["position"]).set_index(shown.index)
            )
            for name in _WITHOUT.values():
                shown[name] = shown[name].astype(object).where(~lacking, found[name].astype(object))
        return shown

    def _responses(self, rows: pd.DataFrame) -> pd.DataFrame:
        shown = [
            [] if setting == Setting.NONE or not isinstance(preference, str) else [preference]
            for setting, preference in zip(rows["setting"].tolist(), rows["preference_id"].tolist(), strict=True)
        ]
        stages = [[text] if text else [] for text in rows["stage"].mask(rows["setting"] == Setting.NONE, "").tolist()]
        empty = rows["status"] == Status.EMPTY
        keys = [f"{file}#{row}" for file, row in zip(rows["file"].tolist(), rows["row"].tolist(), strict=True)]
        out = rows[ROW_ID].assign(
            shown_preferences=pd.Series(shown, index=rows.index, dtype=object),
            response=rows["response"].mask(empty),
            stages=pd.Series(stages, index=rows.index, dtype=object),
            status=empty.map({True: str(Status.EMPTY), False: str(Status.OK)}),
            finish_reason=None,
            prompt_tokens=None,
            completion_tokens=None,
            seconds=float("nan"),
            key=keys,
            fallback=None,
        )
        return conform("responses", out)

    def _judgements(self, shown: pd.DataFrame) -> pd.DataFrame:
        rated = shown[shown["rated"]]
        rating = _ratings(rated)
        status = rating.notna().map({True: str(Status.OK), False: str(Status.UNPARSABLE)})
        if self.setting not in RELEVANT_SHOWN:
            rating, status = rating.mask(rating.notna()), status.map(lambda _: str(Status.NOT_APPLICABLE))
        text = rated["explanation"] if "explanation" in rated else pd.Series(index=rated.index, dtype=object)
        text = text.mask(text == "")
        out = rated[ROW_ID].assign(judge=PAPER_JUDGE, rating=rating, explanation=text, status=status)
        return conform("judgements", out)

    def _scores(self, rows: pd.DataFrame) -> pd.DataFrame:
        ok, empty = str(Status.OK), str(Status.EMPTY)
        positions = rows["position"].tolist()
        # A response is there or not; what its letter was read from does not matter here.
        exists = {name: rows[name].fillna(empty) != empty for name in ("status", "status_without")}
        judged = rows["rated"].fillna(False).astype(bool).map({True: str(Status.UNPARSABLE), False: empty})
        known = rows.assign(
            source=[SOURCE_AT[position] for position in positions],
            category=rows["preference_id"].map(self._categories).astype(object),
            sampled_id=[preference_id(SOURCE_AT[position], assigned(position)) for position in positions],
            why=exists["status"].map({True: ok, False: empty}),
            why_without=exists["status_without"].map({True: ok, False: empty}),
            rating=_ratings(rows),
            judged=judged,
            silent=False,
            cause=cause(rows, rows["layer"].notna()),
            fallback=None,
            truncated=None,
        )
        return assemble(known, self.threshold)


_COLUMNS = ["rating", "explanation", "rated", "raw_without", "text_without", *FLAGS, *_WITHOUT.values()]


def _ratings(rows: pd.DataFrame) -> pd.Series:
    """Ratings of 1 to 5, null where there is none; a file may print them as 4 or 4.0."""
    if "rating" not in rows:
        return pd.Series(pd.NA, index=rows.index, dtype="Int64")
    rating = pd.to_numeric(rows["rating"].astype(object), errors="coerce").astype("float64")
    return rating.where(rating.isin([1, 2, 3, 4, 5])).astype("Int64")


#: `text` is a checksum of the response, `text_without` of the one without preference in the same row of the file.
ORIGINS = [*ROW_ID, "file", "row", "order", "letter", "letter_without", "text", "text_without", "rating", *FLAGS]
TWINS = [*ROW_ID, "side", "file", "row", "order", "letter", "text"]
_TOLD = ["order", "letter", "text"]


def _origins(rows: pd.DataFrame) -> pd.DataFrame:
    """Where each row comes from, and what its file says of it (text as in the file)."""
    out = rows.rename(columns={"raw": "letter", "raw_without": "letter_without"})[ORIGINS]
    checksums = {"text": "int64", "text_without": "Int64"}
    return out.astype({name: checksums.get(str(name), "str") for name in out if name != "row"})


def _compact(rows: pd.DataFrame, file: PublishedFile | None, side: str) -> pd.DataFrame:
    """What tells two files' rows apart, without the responses.

    `side` is "with" or "without" preference; `number` is the preference's id, or "".
    """
    out = rows[["position", "row", "order", "raw", "text"]].rename(columns={"raw": "letter"})
    number = rows["preference_id"].astype(object)
    return out.assign(number=number.where(number.notna(), ""), side=side, file=None if file is None else file.path)
