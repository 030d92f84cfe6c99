"""What the YAML file of a prompt set holds: its keys and their form. How a set is loaded and rendered is in `sets`."""

from __future__ import annotations

import json
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from perg_utils.core.profile import EditingConfig
from perg_utils.core.schema import LETTERS, Source


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Turns(_Strict):
    """System and user text of one request, as templates."""

    system: str
    user: str = Field(min_length=1)


class Layout(_Strict):
    """How lettered options and preferences are written."""

    options: str
    preferences: str


class Wording(_Strict):
    """One wording of the plain question: the question with its options, and what is asked for."""

    task: str = Field(min_length=1)
    ask: str


class Editing(_Strict):
    """What the template `pref_aligner` is written for; a profile's `editing` changes it for a model."""

    keep_letter: bool
    show_options: bool
    draft: Literal["right", "wrong"] | None = None


class ReplyForm(_Strict):
    """How a second stage replies: the names of the response and of the note beside it, and which comes first."""

    form: Literal["json", "labelled"]
    response: str = Field(min_length=1)
    note: str | None = None
    response_first: bool = False

    def shape(self, note: str, response: str) -> str:
        """Return the two as a reply in this form, e.g. `{"thoughts": "none", "response": "B."}`."""
        both = [] if self.note is None else [(self.note, note)]
        both.insert(0 if self.response_first else len(both), (self.response, response))
        if self.form == "json":
            return json.dumps(dict(both), ensure_ascii=False)
        return " ".join(f"{label} {said}" for label, said in both)

    def asked(self, note: str, response: str) -> str:
        """Return what asks for a reply in this form, e.g. `one JSON object and nothing else. Its key ...`.

        It shows nothing that could be sent back as a reply: small models copy an example of a form word by word.
        """
        both = [] if self.note is None else [(self.note, note)]
        both.insert(0 if self.response_first else len(both), (self.response, response))
        if self.form == "json":
            keys = ", and its key ".join(f'"{key}" is {what}' for key, what in both)
            return f"one JSON object and nothing else. Its key {keys}."
        parts = ", then ".join(f'"{label}" and behind it {what}' for label, what in both)
        return f"nothing but this: {parts}."

    def changed(self, editing: EditingConfig) -> ReplyForm:
        """Return the form with another order, or as labelled text with labels made of the JSON keys."""
        update: dict[str, Any] = {}
        if editing.response_first is not None:
            update["response_first"] = editing.response_first
        if editing.form == "labelled" and self.form == "json":
            labels = {name: key.capitalize() + ":" for name in ("response", "note") if (key := getattr(self, name))}
            update |= {"form": "labelled", **labels}
        return self.model_copy(update=update)


class WorkedExample(_Strict):
    """One worked example of few-shot prompting."""

    question: str
    options: list[str] = Field(min_length=2, max_length=len(LETTERS))
    preference: str
    response: str


class SetFile(_Strict):
    """A whole file; `data/prompts/standard.yaml` documents its keys."""

    placebo: list[str] = Field(min_length=8)
    facts: list[str] = Field(min_length=12)
    belief: str = Field(min_length=1)
    draft: str = Field(min_length=1)
    layout: Layout
    wordings: list[Wording] = Field(min_length=4)
    parts: dict[str, str] = {}
    editing: Editing
    studies: dict[str, str] = {}
    templates: dict[str, Turns]
    reply: dict[Literal["self_critic", "pref_aligner"], ReplyForm]
    examples: dict[Source, list[WorkedExample]]
