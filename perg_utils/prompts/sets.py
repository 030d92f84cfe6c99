"""Prompt sets: every text that a model is sent, as editable templates in `data/prompts/`, with their hashes.

A set holds the templates of all methods (paper, section on methods and appendix), the judge's rubric, the layouts of
options and preferences, the worked examples, and the form in which second stages reply; `data/prompts/standard.yaml`
documents the keys. A variable that a template may not use is found when the set is loaded, before any request.
The wording is this project's own, not the paper's.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal

import yaml
from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from perg_utils.core.errors import PergError
from perg_utils.core.profile import ROOT
from perg_utils.core.schema import LETTERS, Method, Source
from perg_utils.core.workspace import digest
from perg_utils.engines.base import Messages
from perg_utils.prompts.second_stage import read_json, read_labelled

FOLDER = ROOT / "data" / "prompts"
JUDGE = "judge"
#: What the extractor's last layer is asked. A set may do without it.
EXTRACT = "extract"
#: Variants of the rubric that a set may have, for probing a judge: other words, and the two responses in other order.
JUDGE_VARIANTS = ("judge_paraphrased", "judge_swapped")
#: Variables that hold what a model wrote. Templates put them between <<< and >>>.
_WRITTEN = ("response", "response_without", "response_with")
_ASKED = {"question", "options", "preferences", "count"}
_SECOND = _ASKED | {"response", "reply"}
#: The variables each template may use.
VARIABLES: dict[str, set[str]] = {
    Method.NO_PREFERENCE: {"question", "options"},
    Method.ZERO_SHOT: _ASKED,
    Method.COT: _ASKED,
    Method.FEW_SHOT: _ASKED | {"examples"},
    Method.SELF_CRITIC: _SECOND,
    Method.PREF_ALIGNER: _SECOND,
    **dict.fromkeys((JUDGE, *JUDGE_VARIANTS), _ASKED | {"response_without", "response_with"}),
    # Who reads a response knows neither the question nor the preference.
    EXTRACT: {"response", "options"},
}


class PromptError(PergError):
    """The prompt set cannot be used; the message names the set, the key and the cure."""


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


class ReplyForm(_Strict):
    """How a second stage replies: the names of the response and of the note beside it."""

    form: Literal["json", "labelled"]
    response: str = Field(min_length=1)
    note: str | None = None


class WorkedExample(_Strict):
    """One worked example of few-shot prompting."""

    question: str
    options: list[str] = Field(min_length=2, max_length=len(LETTERS))
    preference: str
    response: str


class _SetFile(_Strict):
    placebo: str = Field(min_length=1)
    layout: Layout
    templates: dict[str, Turns]
    reply: dict[Literal["self_critic", "pref_aligner"], ReplyForm]
    examples: dict[Source, list[WorkedExample]]


class PromptSet:
    """A loaded prompt set. `messages` renders a request, `parse_second_stage` reads a second stage's reply."""

    def __init__(self, name: str, content: _SetFile) -> None:
        self.name = name
        self.placebo = content.placebo.strip()
        self._content = content
        # The same options and preferences are rendered for every method and setting.
        self._options = lru_cache(maxsize=16384)(self._lay_out_options)
        self._preferences = lru_cache(maxsize=16384)(self._lay_out_preferences)
        self._layout = {key: _compile(text) for key, text in content.layout.model_dump().items()}
        self._turns = {key: (_compile(turns.system), _compile(turns.user)) for key, turns in content.templates.items()}
        self._examples = {source: [self._laid_out(e) for e in rows] for source, rows in content.examples.items()}

    @property
    def hashes(self) -> dict[str, str]:
        """The hash of every template, layout, reply form and example list, e.g. `{"zero_shot": "5f0c..."}`."""
        content = self._content.model_dump(mode="json")
        parts = {f"examples.{k}": v for k, v in content["examples"].items()}
        parts |= {f"reply.{k}": v for k, v in content["reply"].items()}
        parts |= {f"layout.{k}": v for k, v in content["layout"].items()}
        return {key: digest(value) for key, value in (content["templates"] | parts | {"placebo": self.placebo}).items()}

    def messages(self, template: str, **variables: Any) -> Messages:
        """Return the chat of `template`, e.g. `(("system", "..."), ("user", "..."))`.

        `options` and `preferences` are given as lists of texts and laid out here. few_shot takes the set's worked
        examples of `source`, or other `examples`. Responses are fenced:
        none can close the marks around it. Raises `PromptError` when a variable that is used is missing.
        """
        if "options" in variables:
            variables["options"] = self._options(tuple(variables["options"]))
        if "preferences" in variables:
            variables["count"] = len(variables["preferences"])
            variables["preferences"] = self._preferences(tuple(variables["preferences"]))
        if template == Method.FEW_SHOT:
            own: list[WorkedExample] | None = variables.get("examples")
            source = Source(variables["source"])
            variables["examples"] = self._examples[source] if own is None else [self._laid_out(e) for e in own]
        variables |= {name: _fenced(variables[name]) for name in _WRITTEN if name in variables}
        if template in self._content.reply:
            variables["reply"] = self._content.reply[template]
        if template not in self._turns:
            raise PromptError(f"prompt set '{self.name}' has no template '{template}'; it has {', '.join(self._turns)}")
        try:
            system, user = (turn.render(variables).strip() for turn in self._turns[template])
        except TemplateError as error:
            raise PromptError(f"prompt set '{self.name}', template '{template}': {error}") from error
        return (("system", system), ("user", user)) if system else (("user", user),)

    def parse_second_stage(self, method: Method, text: str) -> str | None:
        """Return the response in a second stage's reply, or None when it cannot be read without guessing."""
        form = self._content.reply[method]  # type: ignore[index]
        return read_json(text, form.response) if form.form == "json" else read_labelled(text, form.response, form.note)

    def second_stage(self, method: Method, note: str, response: str) -> str:
        """Return the reply that `parse_second_stage` reads `response` from; the inverse of it, for training."""
        form = self._content.reply[method]  # type: ignore[index]
        if form.form == "json":
            return json.dumps({form.note or "note": note, form.response: response}, ensure_ascii=False)
        return f"{form.response} {response}" if form.note is None else f"{form.note} {note} {form.response} {response}"

    def _lay_out_options(self, options: tuple[str, ...]) -> str:
        return _render(self._layout["options"], options=list(zip(LETTERS, options, strict=False)))

    def _lay_out_preferences(self, preferences: tuple[str, ...]) -> str:
        return _render(self._layout["preferences"], preferences=list(preferences)) if preferences else ""

    def _laid_out(self, example: WorkedExample) -> dict[str, str]:
        return {
            "question": example.question,
            "options": self._options(tuple(example.options)),
            "preferences": self._preferences((example.preference,)),
            "response": example.response,
        }


def load_prompts(name_or_path: str | Path = "standard") -> PromptSet:
    """Return the prompt set of a name in `data/prompts/` or of a YAML file.

    Raises `PromptError` saying what is wrong and where.
    """
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = FOLDER / f"{name_or_path}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
        raise PromptError(f"no prompt set '{name_or_path}'; known: {known}, or a path to a .yaml file")
    try:
        content = _SetFile.model_validate(yaml.safe_load(path.read_text(encoding="utf-8")))
    except yaml.YAMLError as error:
        raise PromptError(f"prompt set {path} is not valid YAML: {error}") from error
    except ValidationError as error:
        lines = [f"- {'.'.join(map(str, p['loc'])) or 'file'}: {p['msg']}" for p in error.errors()]
        raise PromptError(f"prompt set {path} cannot be used:\n" + "\n".join(lines)) from error
    _check(path, content)
    return PromptSet(path.stem, content)


@lru_cache(maxsize=1)
def _environment() -> ImmutableSandboxedEnvironment:
    # Sandboxed, because prompt sets are passed around between people.
    return ImmutableSandboxedEnvironment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)


def _compile(text: str) -> Template:
    return _environment().from_string(text)


def _fenced(response: str) -> str:
    """A response that holds neither <<< nor >>>: three or more brackets in a row are spaced out."""
    return re.sub("<{3,}|>{3,}", lambda row: " ".join(row[0]), response)


def _render(template: Template, **variables: Any) -> str:
    return template.render(variables).strip()


def _check(path: Path, content: _SetFile) -> None:
    needed = [str(name) for name in VARIABLES if name not in (*JUDGE_VARIANTS, EXTRACT)]
    lacking = [name for name in needed if name not in content.templates]
    unknown = [name for name in content.templates if name not in VARIABLES]
    if lacking or unknown:
        raise PromptError(
            f"prompt set {path}: templates missing {lacking}, unknown {unknown}; known: {', '.join(VARIABLES)}"
        )
    texts = {f"layout.{k}": (v, {k}) for k, v in content.layout.model_dump().items()}
    for name, turns in content.templates.items():
        texts |= {f"templates.{name}.{part}": (text, VARIABLES[name]) for part, text in turns.model_dump().items()}
    for where, (text, allowed) in texts.items():
        try:
            used = meta.find_undeclared_variables(_environment().parse(text))
        except TemplateError as error:
            raise PromptError(f"prompt set {path}, {where}: {error}") from error
        if not used <= allowed:
            raise PromptError(
                f"prompt set {path}, {where}: unknown {sorted(used - allowed)}; allowed: {sorted(allowed)}"
            )
    for method in (Method.SELF_CRITIC, Method.PREF_ALIGNER):
        if method not in content.reply:
            raise PromptError(f"prompt set {path}: reply.{method} is missing")
    for source in Source:
        if not content.examples.get(source):
            raise PromptError(f"prompt set {path}: examples.{source} is missing; few_shot needs worked examples of it")
