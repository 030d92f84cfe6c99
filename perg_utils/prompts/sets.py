"""Prompt sets: every text that a model is sent, as editable templates in `data/prompts/`, with their hashes.

A set holds the templates of all methods (paper, section on methods and appendix), the judge's rubric, the layouts of
options and preferences, the worked examples, the form in which second stages reply, and what the control settings say
(other wordings of the question, neutral sentences, facts about a user, a belief); `data/prompts/standard.yaml`
documents the keys. A variable that a template may not use is found when the set is loaded, before any request.
The wording is this project's own, not the paper's.
"""

from __future__ import annotations

import re
from functools import lru_cache
from pathlib import Path
from typing import Any

import yaml
from jinja2 import StrictUndefined, Template, TemplateError, meta
from jinja2.sandbox import ImmutableSandboxedEnvironment
from pydantic import ValidationError

from perg_utils.core.errors import PergError
from perg_utils.core.profile import ROOT, EditingConfig
from perg_utils.core.schema import LETTERS, Method, Source
from perg_utils.core.workspace import digest
from perg_utils.engines.base import Messages
from perg_utils.prompts.contents import Editing, SetFile, WorkedExample
from perg_utils.prompts.second_stage import quoted, read_json, read_labelled, without_echo

FOLDER = ROOT / "data" / "prompts"
JUDGE = "judge"
_METHODS = frozenset(map(str, Method))
#: What a model is asked that proposes preferences. A set may do without it.
PROPOSE = "propose"
#: What the extractor's last layer is asked. A set may do without it.
EXTRACT = "extract"
#: How a question is asked without its options. A set may do without it.
FREE_FORM = "free_form"
#: Variants of the rubric that a set may have, for probing a judge: other words, and the two responses in other order.
JUDGE_VARIANTS = ("judge_paraphrased", "judge_swapped")
#: Another rubric that a set may have: four questions by yes or no.
BY_QUESTIONS = "judge_questions"
#: Variables that hold what a model wrote. Templates put them between <<< and >>>.
_WRITTEN = ("response", "other")
_PLAIN = {"question", "options", "task", "ask"}
_ASKED = _PLAIN | {"preferences", "count", "memory", "aside"}
_SECOND = _ASKED | {"response", "reply", "editing"}
_RATED = {"question", "options", "preferences", "count", "response", "other"}
#: The variables each template may use; those of the methods may use the set's `parts` too.
VARIABLES: dict[str, set[str]] = {
    Method.NO_PREFERENCE: _PLAIN,
    Method.ZERO_SHOT: _ASKED,
    Method.COT: _ASKED,
    Method.FEW_SHOT: _ASKED | {"examples"},
    Method.SELF_CRITIC: _SECOND,
    Method.PREF_ALIGNER: _SECOND,
    **dict.fromkeys((JUDGE, *JUDGE_VARIANTS, BY_QUESTIONS), _RATED),
    # Who reads a response knows neither the question nor the preference.
    EXTRACT: {"response", "options"},
    PROPOSE: {"question", "options"},
    FREE_FORM: {"question", "preferences", "count", "aside", "again"},
}


class PromptError(PergError):
    """The prompt set cannot be used; the message names the set, the key and the cure."""


class PromptSet:
    """A loaded prompt set. `messages` renders a request, `parse_second_stage` reads a second stage's reply."""

    def __init__(self, name: str, content: SetFile) -> None:
        self.name = name
        #: Neutral sentences, facts about a user; how many wordings of the plain question there are.
        self.placebo, self.facts, self.wordings = content.placebo, content.facts, len(content.wordings)
        self._content = content
        # The same options and preferences are rendered for every method and setting.
        self._options = lru_cache(maxsize=16384)(self._lay_out_options)
        self._pieces = lru_cache(maxsize=65536)(self._render_pieces)
        self._preferences = lru_cache(maxsize=16384)(self._lay_out_preferences)
        self._layout = {key: _compile(text) for key, text in content.layout.model_dump().items()}
        self._belief, self._draft = _compile(content.belief), _compile(content.draft)
        #: Whether Pref-Aligner edits a given draft, and which.
        self.given_draft = content.editing.draft
        self._wordings = [(_compile(wording.task), _compile(wording.ask)) for wording in content.wordings]
        self._parts = {key: _compile(text) for key, text in content.parts.items()}
        self._turns = {key: (_compile(turns.system), _compile(turns.user)) for key, turns in content.templates.items()}
        self._said = {
            method: quoted(content.templates[method].user) | {form.response, form.note or ""}
            for method, form in content.reply.items()
            if method in content.templates
        }
        self._examples = {source: [self._laid_out(e) for e in rows] for source, rows in content.examples.items()}

    @property
    def hashes(self) -> dict[str, str]:
        """The hash of every template, layout, part, reply form and list of texts, e.g. `{"zero_shot": "5f0c..."}`."""
        content = self._content.model_dump(mode="json")
        # A switch that a set leaves open is no part of its texts.
        content["editing"] = {key: value for key, value in content["editing"].items() if value is not None}
        found = dict(content["templates"]) | {
            key: content[key] for key in ("placebo", "facts", "belief", "draft", "editing")
        }
        for name in ("examples", "reply", "layout", "parts", "studies"):
            found |= {f"{name}.{key}": value for key, value in content[name].items()}
        found |= {f"wordings.{number}": value for number, value in enumerate(content["wordings"])}
        return {key: digest(value) for key, value in found.items()}

    def edited(self, editing: EditingConfig | None) -> PromptSet:
        """Return the set with another way of editing in Pref-Aligner; itself where `editing` is None."""
        if editing is None:
            return self
        switches = {k: v for k in Editing.model_fields if (v := getattr(editing, k)) is not None}
        reply = self._content.reply | {"pref_aligner": self._content.reply["pref_aligner"].changed(editing)}
        content = self._content.model_copy(
            update={"editing": self._content.editing.model_copy(update=switches), "reply": reply}
        )
        return PromptSet(self.name, content)

    def belief(self, letter: str, text: str) -> str:
        """Return the sentence by which a user states an option as their belief."""
        return _render(self._belief, letter=letter, text=text)

    def draft(self, letter: str, text: str) -> str:
        """Return the sentence that stands for a plain answer with this option, where a draft is given."""
        return _render(self._draft, letter=letter, text=text)

    def added(self, name: str) -> str:
        """Return what a study adds behind a prompt, by its name. Raises `PromptError` where it is missing."""
        if name not in self._content.studies:
            known = ", ".join(self._content.studies) or "none"
            raise PromptError(f"prompt set '{self.name}' has no studies.{name}, which this study adds; it has {known}")
        return self._content.studies[name]

    def messages(self, template: str, **variables: Any) -> Messages:
        """Return the chat of `template`, e.g. `(("system", "..."), ("user", "..."))`.

        `options`, `preferences`, `memory` (facts about the user, a preference among them) and `aside` (sentences
        without a label) are given as lists of texts and laid out here; `wording` is the number of the plain question's
        wording. few_shot takes the set's worked examples of `source`, or other `examples`. Responses are fenced: none
        can close the marks around it. Raises `PromptError` when a variable that is used is missing.
        """
        if "options" in variables:
            variables["options"] = self._options(tuple(variables["options"]))
        if "preferences" in variables:
            variables["count"] = len(variables["preferences"])
            variables["preferences"] = self._preferences(tuple(variables["preferences"]))
        if template == Method.NO_PREFERENCE:
            variables |= {"preferences": "", "count": 0}
        variables["memory"] = self._preferences(tuple(variables.get("memory", ())))
        variables["aside"] = " ".join(variables.get("aside", ()))
        if template == Method.FEW_SHOT:
            own: list[WorkedExample] | None = variables.get("examples")
            source = Source(variables["source"])
            variables["examples"] = self._examples[source] if own is None else [self._laid_out(e) for e in own]
        variables |= {name: _fenced(variables[name]) for name in _WRITTEN if name in variables}
        if template in self._content.reply:
            variables["reply"], variables["editing"] = self._content.reply[template], self._content.editing
        if template not in self._turns:
            raise PromptError(f"prompt set '{self.name}' has no template '{template}'; it has {', '.join(self._turns)}")
        try:
            if template in _METHODS:
                known = tuple((key, variables[key]) for key in sorted(_ASKED) if key in variables)
                variables |= self._pieces(variables.get("wording", 0), known)
            system, user = (turn.render(variables).strip() for turn in self._turns[template])
        except TemplateError as error:
            raise PromptError(f"prompt set '{self.name}', template '{template}': {error}") from error
        return (("system", system), ("user", user)) if system else (("user", user),)

    def parse_second_stage(self, method: Method, text: str) -> str | None:
        """Return the response in a second stage's reply, or None when it cannot be read without guessing.

        What the template itself says between quotes, and the names of the form, are no response.
        """
        form = self._content.reply[method]  # type: ignore[index]
        if form.form == "json":
            found = read_json(text, form.response)
        else:
            found = read_labelled(text, form.response, form.note, response_first=form.response_first)
        return None if found is None else without_echo(found, self._said[method])  # type: ignore[index]

    def schema(self, method: Method) -> dict[str, Any] | None:
        """Return the JSON schema of a second stage's reply, its keys in their order; None where it is no JSON."""
        form = self._content.reply.get(method)  # type: ignore[call-overload]
        if form is None or form.form != "json":
            return None
        keys = [key for key in (form.note, form.response) if key]
        keys = keys[::-1] if form.response_first else keys
        return {
            "type": "object",
            "properties": {key: {"type": "string"} for key in keys},
            "required": keys,
            "additionalProperties": False,
        }

    def second_stage(self, method: Method, note: str, response: str) -> str:
        """Return the reply that `parse_second_stage` reads `response` from; the inverse of it, for training."""
        return self._content.reply[method].shape(note, response)  # type: ignore[index]

    def _render_pieces(self, wording: int, known: tuple[tuple[str, Any], ...]) -> dict[str, str]:
        """The plain question in one of its wordings, and the set's parts, as variables of a template."""
        variables = dict(known)
        task, ask = self._wordings[wording]
        pieces = {"task": _render(task, **variables), "ask": _render(ask, **variables)}
        return pieces | {name: _render(part, **variables, **pieces) for name, part in self._parts.items()}

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
    path, raw = _read(name_or_path)
    try:
        content = SetFile.model_validate(raw)
    except ValidationError as error:
        lines = [f"- {'.'.join(map(str, p['loc'])) or 'file'}: {p['msg']}" for p in error.errors()]
        raise PromptError(f"prompt set {path} cannot be used:\n" + "\n".join(lines)) from error
    _check(path, content)
    return PromptSet(path.stem, content)


def _read(name_or_path: str | Path, above: tuple[Path, ...] = ()) -> tuple[Path, Any]:
    """A set's file and its content, with what it leaves out taken from the set that it extends."""
    path = Path(name_or_path)
    if path.suffix not in {".yaml", ".yml"}:
        path = FOLDER / f"{name_or_path}.yaml"
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in FOLDER.glob("*.yaml")))
        raise PromptError(f"no prompt set '{name_or_path}'; known: {known}, or a path to a .yaml file")
    if path in above:
        raise PromptError(f"prompt set {path} extends itself")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError as error:
        raise PromptError(f"prompt set {path} is not valid YAML: {error}") from error
    if not isinstance(raw, dict) or "extends" not in raw:
        return path, raw
    _, base = _read(str(raw.pop("extends")), (*above, path))
    both = {k: base[k] | v if isinstance(v, dict) and isinstance(base.get(k), dict) else v for k, v in raw.items()}
    return path, base | both


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


def _check(path: Path, content: SetFile) -> None:
    needed = [
        str(name) for name in VARIABLES if name not in (*JUDGE_VARIANTS, BY_QUESTIONS, EXTRACT, PROPOSE, FREE_FORM)
    ]
    lacking = [name for name in needed if name not in content.templates]
    unknown = [name for name in content.templates if name not in VARIABLES]
    if lacking or unknown:
        raise PromptError(
            f"prompt set {path}: templates missing {lacking}, unknown {unknown}; known: {', '.join(VARIABLES)}"
        )
    texts = {f"layout.{k}": (v, {k}) for k, v in content.layout.model_dump().items()}
    texts |= {name: (getattr(content, name), {"letter", "text"}) for name in ("belief", "draft")}
    texts |= {f"parts.{k}": (v, _ASKED) for k, v in content.parts.items()}
    for number, wording in enumerate(content.wordings):
        texts |= {f"wordings.{number}.{k}": (v, {"question", "options"}) for k, v in wording.model_dump().items()}
    for name, turns in content.templates.items():
        allowed = VARIABLES[name] | (set(content.parts) if name in _METHODS else set())
        texts |= {f"templates.{name}.{part}": (text, allowed) for part, text in turns.model_dump().items()}
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
