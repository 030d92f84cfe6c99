"""The vocabulary of the study: names and their order, labels of metrics, and the eight tables as Arrow schemas.

Every other room speaks in these names. Rows are identified by `ROW_ID` from `responses` on; nothing is
joined on text or on row order (paper, section 3, and `LOG.md` on what went wrong in the original joins).
"""

from __future__ import annotations

import string
from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import NamedTuple

import pandas as pd
import pyarrow as pa

from perg_utils.core.errors import DataError


class Source(StrEnum):
    """Where a question comes from, in the order of the released dataset."""

    TQA = "TQA"
    CQA = "CQA"
    MMLU = "MMLU"


class Category(StrEnum):
    """The five categories of relevant preferences (paper, table 1)."""

    CLARITY = "Clarity"
    CONTEXT = "Context"
    THINKING = "Thinking"
    EXAMPLES = "Examples"
    CREATIVE = "Creative"


class Setting(StrEnum):
    """What the model is shown beside the question: preferences as in the paper, or what they are read against."""

    NONE = "none"
    RELEVANT = "relevant"
    MIXED = "mixed"
    IRRELEVANT = "irrelevant"
    MEMORY = "memory"  # the relevant preference among facts about the user
    REPEAT = "repeat"  # the very same prompt again
    PARAPHRASE = "paraphrase"  # the plain question in other words
    SHUFFLED = "shuffled"  # the options in another order
    PLACEBO = "placebo"  # a neutral sentence, without a preference's label
    PLACEBO_LABELLED = "placebo_labelled"  # the same sentence, labelled as a preference
    PLACEBO_LONG = "placebo_long"  # six neutral sentences, as long as the mixed preferences
    MISLEADING = "misleading"  # a wrong option, stated as the user's belief


class Method(StrEnum):
    """How the model is asked."""

    NO_PREFERENCE = "no_preference"
    ZERO_SHOT = "zero_shot"
    COT = "cot"
    FEW_SHOT = "few_shot"
    SELF_CRITIC = "self_critic"
    PREF_ALIGNER = "pref_aligner"


class Status(StrEnum):
    """What became of a row. Only `OK` rows carry a value; the others say why there is none."""

    OK = "ok"
    SILENT = "silent"  # the model's own silence: it wrote nothing, or its thinking filled the limit; a wrong answer
    EMPTY = "empty"  # the server sent a reply without content, which may be a hiccup
    REJECTED = "rejected"  # the provider refused the request for good (content filter, context too long)
    API_ERROR = "api_error"  # no reply could be had
    UNPARSABLE = "unparsable"  # a reply that cannot be read: names no option, or no rating
    REFUSED = "refused"  # the model declined to choose
    UNRATED = "unrated"  # people judge, and nobody has rated this response as it is now
    NOT_APPLICABLE = "not_applicable"  # nothing to rate: no relevant preference was shown


#: Statuses of a row to which no reply came: there is nothing to read, and it is left out of the metrics.
MISSING = (Status.API_ERROR, Status.EMPTY, Status.REJECTED)


class Cause(StrEnum):
    """Why an answer that is there is not right."""

    WRONG_OPTION = "wrong_option"
    NAMED_NONE = "named_none"  # it was read, and names no option: declined, none of them, or silent
    UNREAD = "unread"  # no layer of the extractor could tell


class Null(StrEnum):
    """Which response is rated by a preference: the one written for it, or one that was not (a null)."""

    MATCHED = "matched"
    PLAIN = "plain"  # the response without any preference
    MISMATCHED = "mismatched"  # the response to another preference, of another category


class Metric(StrEnum):
    """What is measured, all in percent: the primary outcome, the paper's four metrics, and what stands beside them."""

    ROBUST_ACCURACY = "robust_accuracy"
    BREAKAGE_RATE = "breakage_rate"
    ALIGNMENT_FAILURE = "alignment_failure"
    ROBUSTNESS_ERROR = "robustness_error"
    PERFORMANCE_VARIATION = "performance_variation"
    DELIVERY_FAILURE = "delivery_failure"
    ACCURACY_WITHOUT = "accuracy_without"
    ACCURACY_WITH = "accuracy_with"
    BROKE_WRONG_OPTION = "broke_wrong_option"
    BROKE_NAMED_NONE = "broke_named_none"
    BROKE_UNREAD = "broke_unread"

    @property
    def higher_is_better(self) -> bool:
        """Whether the metric counts what went well (robust accuracy, accuracy) and not what failed."""
        return self in (Metric.ROBUST_ACCURACY, Metric.ACCURACY_WITHOUT, Metric.ACCURACY_WITH)

    @property
    def label(self) -> str:
        """What tables and figures call the metric in words, e.g. `Breakage`."""
        return _LABELS[self][0]

    @property
    def short(self) -> str:
        """Its abbreviation, e.g. `BR`, or a few words where the paper has none."""
        return _LABELS[self][1]

    @property
    def heading(self) -> str:
        """Both, e.g. `Breakage (BR)`."""
        return f"{self.label} ({self.short})"


_LABELS = {
    Metric.ROBUST_ACCURACY: ("Robust accuracy", "RA"),
    Metric.BREAKAGE_RATE: ("Breakage", "BR"),
    Metric.ALIGNMENT_FAILURE: ("Alignment failure", "AF"),
    Metric.ROBUSTNESS_ERROR: ("Robustness error", "RE"),
    Metric.PERFORMANCE_VARIATION: ("Performance variation", "PV"),
    Metric.DELIVERY_FAILURE: ("Delivery failure", "delivery failure"),
    Metric.ACCURACY_WITHOUT: ("Accuracy without preference", "accuracy without"),
    Metric.ACCURACY_WITH: ("Accuracy with preference", "accuracy with"),
    Metric.BROKE_WRONG_OPTION: ("Broke: wrong option", "BR wrong option"),
    Metric.BROKE_NAMED_NONE: ("Broke: named none", "BR named none"),
    Metric.BROKE_UNREAD: ("Broke: could not be read", "BR unread"),
}
#: The parts of breakage by what went wrong; they add up to it.
BROKE_BY: dict[Cause, Metric] = {
    Cause.WRONG_OPTION: Metric.BROKE_WRONG_OPTION,
    Cause.NAMED_NONE: Metric.BROKE_NAMED_NONE,
    Cause.UNREAD: Metric.BROKE_UNREAD,
}
#: The four metrics of the paper (section 3.3), in its order.
PAPER_METRICS = (
    Metric.BREAKAGE_RATE,
    Metric.ALIGNMENT_FAILURE,
    Metric.ROBUSTNESS_ERROR,
    Metric.PERFORMANCE_VARIATION,
)

#: Metrics that rest on the judge's ratings.
JUDGED_METRICS = (Metric.ROBUST_ACCURACY, Metric.ALIGNMENT_FAILURE, Metric.ROBUSTNESS_ERROR)
#: The paper's settings; the others are what these are read against.
PAPER_SETTINGS = (Setting.RELEVANT, Setting.MIXED, Setting.IRRELEVANT)
#: Settings in which no preference is shown: what breaks in them is no preference's doing.
CONTROLS = tuple(s for s in Setting if s not in (Setting.NONE, Setting.MEMORY, *PAPER_SETTINGS))
#: Settings in which a relevant preference is shown, so that alignment can be rated.
RELEVANT_SHOWN = (Setting.RELEVANT, Setting.MIXED, Setting.MEMORY)


#: A row from `responses` on. `preference_id` is null where no relevant preference was shown.
class Arm(NamedTuple):
    """One configuration of the study: who answered, how it was asked, and which preferences it was shown."""

    model: str
    method: str
    setting: str


#: The columns that tell arms apart.
ARM_ID = list(Arm._fields)
#: The columns that identify a row of responses, answers, judgements and scores.
ROW_ID = ["example_id", "preference_id", *ARM_ID]
LETTERS = string.ascii_uppercase
ALL_SOURCES = "ALL"
#: Stands for the model of an arm where all models are pooled.
ALL_MODELS = "ALL"
#: The order in which every table and figure lists the values of a column.
ORDER: dict[str, list[str]] = {
    "source": [*map(str, Source), ALL_SOURCES],
    "setting": [*map(str, Setting)],
    "method": [*map(str, Method)],
    "metric": [*map(str, Metric)],
}

_TEXT, _TEXTS, _YES_NO = pa.string(), pa.list_(pa.string()), pa.bool_()
_ROW = dict.fromkeys(ROW_ID, _TEXT)

#: Columns of the tables that hold texts of questions, options, responses and judges, and the key of what was sent.
TEXT_COLUMNS = frozenset({"question", "options", "gold", "response", "stages", "evidence", "explanation", "key"})

TABLES: dict[str, dict[str, pa.DataType]] = {
    "examples": {
        "example_id": _TEXT,
        "source": _TEXT,
        "subject": _TEXT,
        "question": _TEXT,
        "options": _TEXTS,
        "gold": _TEXT,
        "preference_id": _TEXT,
    },
    "preferences": {
        "preference_id": _TEXT,
        "text": _TEXT,
        "category": _TEXT,
        "relevant": _YES_NO,
        "sources": _TEXTS,
    },
    "responses": {
        **_ROW,
        "shown_preferences": _TEXTS,
        "response": _TEXT,
        "stages": _TEXTS,
        "status": _TEXT,
        "finish_reason": _TEXT,
        "prompt_tokens": pa.int64(),
        "completion_tokens": pa.int64(),
        "seconds": pa.float64(),
        "key": _TEXT,
        "fallback": _YES_NO,
    },
    "answers": {
        **_ROW,
        "answer": _TEXT,
        "how": _TEXT,
        "status": _TEXT,
        "layer": _TEXT,  # which layer decided: rules, finetuned, llm, or the release's (original); null: none did
        "evidence": _TEXT,  # the words it rests on; null where the whole response, or a model, decided
        "confidence": pa.float64(),
    },
    "judgements": {**_ROW, "judge": _TEXT, "rating": pa.int64(), "explanation": _TEXT, "status": _TEXT},
    # What each judge says of responses that did not know the preference of the row, and of one that did (`Null`).
    "nulls": {**_ROW, "kind": _TEXT, "judge": _TEXT, "rating": pa.int64(), "explanation": _TEXT, "status": _TEXT},
    "scores": {
        **_ROW,
        "source": _TEXT,
        "category": _TEXT,
        "correct_without": _YES_NO,
        "correct_with": _YES_NO,
        "followed": _YES_NO,
        "robust": _YES_NO,
        "delivered_without": _YES_NO,
        "delivered_with": _YES_NO,
        "sampled": _YES_NO,
        "cause": _TEXT,  # a `Cause` where the row's own answer is there and not right
        "fallback": _YES_NO,  # its second stage could not be read, and the first one stands
        "truncated": _YES_NO,  # its last stage ended at the limit of new tokens
        "status": _TEXT,
    },
    "metrics": {
        "model": _TEXT,
        "method": _TEXT,
        "setting": _TEXT,
        "source": _TEXT,
        "metric": _TEXT,
        "value": pa.float64(),
        "low": pa.float64(),
        "high": pa.float64(),
        "like_low": pa.float64(),  # for preferences like these; low and high are for these
        "like_high": pa.float64(),
        "least": pa.float64(),  # the lowest and highest value that the unscored rows could make of it
        "most": pa.float64(),
        "n": pa.int64(),
        "n_unscored": pa.int64(),
    },
}

_PANDAS = {
    _TEXT: pd.StringDtype(na_value=float("nan")),
    _YES_NO: pd.BooleanDtype(),
    pa.int64(): pd.Int64Dtype(),
    pa.float64(): "float64",
}


def ordered(frame: pd.DataFrame, by: Sequence[str], models: Iterable[str] = ()) -> pd.DataFrame:
    """Return `frame` sorted by the columns `by` in the study's order, its index kept.

    What `ORDER` does not list keeps its order of appearance; of the models, those in `models` go first. Rows equal in
    `by` stay as they are.

    >>> ordered(pd.DataFrame({"model": ["b", "a", "b"], "setting": ["mixed", "none", "none"]}), ["model", "setting"])
      model setting
    2     b    none
    0     b   mixed
    1     a    none
    """
    known = ORDER | {"model": list(models)}
    ranks = {}
    for column in by:
        values = dict.fromkeys(map(str, [*known.get(column, ()), *frame[column].unique()]))
        ranks[column] = {value: rank for rank, value in enumerate(values)}
    return frame.sort_values(list(by), key=lambda c: c.astype(str).map(ranks[str(c.name)]), kind="stable")


def conform(table: str, frame: pd.DataFrame) -> pd.DataFrame:
    """Return `frame` with exactly the columns, order and types of `table`.

    Raises `DataError` naming the missing or unknown columns, or the column whose values do not fit.
    Lists stay Python lists; missing values are null in the typed columns.
    """
    columns = TABLES[table]
    missing = [name for name in columns if name not in frame]
    extra = [name for name in frame if name not in columns]
    if missing or extra:
        raise DataError(
            f"table '{table}': missing columns {missing}, unknown columns {extra}; expected {list(columns)}"
        )
    out = {}
    for name, kind in columns.items():
        if kind == _TEXTS:
            lists = [v if type(v) is list else list(v) for v in frame[name]]
            out[name] = pd.Series(lists, index=frame.index, dtype=object)
            continue
        try:
            out[name] = frame[name].astype(_PANDAS[kind])  # type: ignore[call-overload]
        except (TypeError, ValueError) as error:
            raise DataError(f"table '{table}', column '{name}': values do not fit {kind}: {error}") from error
    return pd.DataFrame(out, index=frame.index).reset_index(drop=True)


def require_columns(table: str, frame: pd.DataFrame, columns: Iterable[str]) -> None:
    """Raise `DataError` naming the columns of `table` that `frame` lacks."""
    missing = [name for name in columns if name not in frame]
    if missing:
        raise DataError(f"what was given as table '{table}' has no columns {missing}; it has {list(frame)}")


def arrow_schema(table: str) -> pa.Schema:
    """Return the Arrow schema of `table`, e.g. for writing Parquet."""
    return pa.schema(list(TABLES[table].items()))
