"""The study as a task of Inspect: `inspect eval perg_utils/perg --model openai/gpt-4o-mini -T limit=50`.

One sample is one question with its assigned preference. The solver asks it twice, plain and in the chosen setting and
method, with our prompts (`inspect_asking`); the scorer reads both letters with our extractor, rates with a judge, and
calls the study's own scoring, so that a sample's values are those of a run's table 'scores'. What could not be asked,
read or rated is NaN, which Inspect leaves out of its means: never wrong, never "not followed".

All that `import-inspect` needs is in the log (`inspect_log`): each sample's metadata holds the question, the
preference, both responses, letters and evidence; the task's the profile, the preference bank and the prompts' hashes.

Left out: intervals, tests, nulls of the judge, robust accuracy with unrated rows (`scoring.rates`): Inspect shows plain
means. The extractor's last layer, a model that is asked, is left to step 04 after the import.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import pandas as pd
from inspect_ai import Task, task
from inspect_ai.dataset import MemoryDataset, Sample
from inspect_ai.model import get_model
from inspect_ai.scorer import Score, Scorer, Target, mean, scorer, stderr
from inspect_ai.solver import Generate, Solver, TaskState, solver

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import JudgeConfig, ModelConfig, Profile, ProfileError
from perg_utils.core.schema import Method, Metric, Setting, Status, conform
from perg_utils.core.workspace import Workspace
from perg_utils.dataset import preferences, questions
from perg_utils.ecosystem.inspect_asking import Asked, ask, turns
from perg_utils.engines.base import Decoding, Request
from perg_utils.extraction.answers import extract
from perg_utils.extraction.finetuned.layer import FineTunedLayer
from perg_utils.extraction.layers import adapter_folder
from perg_utils.extraction.reading import Layer
from perg_utils.inference import run as inference
from perg_utils.inference.methods import Task as Question
from perg_utils.inference.requests import Material, Row, rows
from perg_utils.judging.judges import rating_of
from perg_utils.judging.rating import cases, judge
from perg_utils.prompts.sets import JUDGE, PromptSet, load_prompts
from perg_utils.scoring.scores import score as score_tables

DEFAULT = Path(__file__).with_name("inspect.yaml")
#: Judges that are rules; any other name is a model of Inspect.
RULES = ("cues", "heuristic")
#: What a sample is scored by, 0 or 1, and the metric that its mean is; NaN where it does not apply or is not known.
VALUES = (
    Metric.ROBUST_ACCURACY,
    Metric.BREAKAGE_RATE,
    Metric.ALIGNMENT_FAILURE,
    Metric.ROBUSTNESS_ERROR,
    Metric.ACCURACY_WITHOUT,
    Metric.ACCURACY_WITH,
)
#: The two rows of a sample: the plain response and the one that is compared with it.
WITHOUT, WITH = "without", "with"


@task
def perg(
    *,
    setting: str = "relevant",
    method: str = "zero_shot",
    sources: str | list[str] | None = None,
    limit: int | None = None,
    judge: str = "cues",
    prompts: str | None = None,
    profile: str = str(DEFAULT),
) -> Task:
    """Ask each question plainly and in one setting by one method; is the answer still right, and as wished?

    `setting` and `method` are names of docs/protocol.md, e.g. `mixed` and `pref_aligner`; `sources` some of TQA, CQA,
    MMLU; `limit` questions of each source, drawn with the profile's seed; `judge` is `cues`, `heuristic` (the embedded
    styles only) or a model of Inspect, e.g. `openai/gpt-4o-mini`, asked with the prompt set's rubric; `prompts` and
    `profile` are names or YAML files. What is None is the profile's. Another model as editor in Pref-Aligner:
    `--model-role aligner=NAME`. Raises `PergError` for what cannot be used, with the cure.
    """
    named = sources if sources is None or isinstance(sources, str) else ",".join(sources)
    asked = {
        "setting": setting,
        "method": method,
        "sources": named,
        "limit": limit,
        "judge": judge,
        "prompts": prompts,
        "profile": profile,
    }
    chosen, material = _opened(**asked)
    return Task(
        dataset=MemoryDataset(samples(chosen, material), name="perg"),
        solver=ask_twice(asked),
        scorer=right_and_as_wished(asked),
        # A sample that could not be asked is unscored; the others go on.
        fail_on_error=False,
        metadata={
            "profile": chosen.model_dump(mode="json"),
            "judge": judge,
            "preferences": [_plain(row) for row in material.bank.to_dict("records")],
            "prompt_hashes": material.prompts.hashes,
        },
    )


def study(
    *,
    setting: str,
    method: str,
    sources: str | None,
    limit: int | None,
    judge: str,
    prompts: str | None,
    profile: str,
) -> Profile:
    """Return the profile of a task: the one named, with one setting, one method and a judge that is rules.

    Where a model judges, the profile has it as `judge` of kind `llm`. Raises `ProfileError` for bad values.
    """
    asked = {"setting": (setting, Setting, Setting.NONE), "method": (method, Method, Method.NO_PREFERENCE)}
    for name, (value, kind, plain) in asked.items():
        allowed = [str(one) for one in kind if one is not plain]
        if value not in allowed:
            raise ProfileError(f"{name}: '{value}' is none of {', '.join(allowed)}; the plain answer is always asked")
    overrides = [f"grid={{{setting}: [{method}]}}", "judges=[]"]
    overrides += [] if sources is None else [f"data.sources=[{sources}]"]
    overrides += [] if limit is None else [f"data.limit={limit}"]
    overrides += [] if prompts is None else [f"prompts={prompts}"]
    if judge in RULES:
        overrides.append(f"judge={{kind: {judge}}}")
    elif "/" in judge:
        name = model_label(judge)
        model = f"{{name: {name}, engine: api, model: '{server_name(judge)}'}}"
        overrides.append(f"judge={{kind: llm, model: {model}}}")
    else:
        raise ProfileError(f"judge: '{judge}' is neither {', '.join(RULES)} nor a model of Inspect (provider/model)")
    found = load_profile(profile, overrides)
    if found.data.origin == "published" or found.data.preferences == "full" or found.baseline != "no_preference":
        raise ProfileError(
            f"profile '{found.name}': a task asks models (data.origin), one preference a question (data.preferences: "
            "sampled), against the plain answer (baseline: no_preference)"
        )
    return found


def server_name(model: str) -> str:
    """Return the name that a server knows, e.g. `gpt-4o` of `openai/gpt-4o`, `a/b` of `openai-api/local/a/b`."""
    provider, _, rest = model.partition("/")
    return rest.partition("/")[2] if provider == "openai-api" else rest


def model_label(model: str) -> str:
    """Return what tables call one of Inspect's models: the last part of its name, e.g. `gpt-4o`."""
    return model.rstrip("/").rpartition("/")[2].replace(":", "-").replace("@", "-")


def samples(profile: Profile, material: Material) -> list[Sample]:
    """Return one sample a question, in the study's order; its input is the method's first request as it is sent."""
    examples = material.examples.set_index("example_id").to_dict("index")
    known = material.bank.set_index("preference_id").to_dict("index")
    out = []
    for row in _rows(profile, material):
        example = examples[row.example_id]
        preference = known.get(row.preference_id, {})
        category = preference.get("category")
        out.append(
            Sample(
                id=row.example_id,
                input=turns(_first(material.prompts, row, next(iter(profile.grid.values()))[0])),
                target=example["gold"],
                choices=list(example["options"]),
                metadata={
                    "example": {"example_id": row.example_id} | _plain(example),
                    "preference_id": row.preference_id,
                    "preference": preference.get("text"),
                    "category": None if category is None or pd.isna(category) else category,
                    "setting": str(row.setting),
                    "method": str(next(iter(profile.grid.values()))[0]),
                    "shown_preferences": row.shown,
                },
            )
        )
    return out


@solver
def ask_twice(asked: dict[str, Any]) -> Solver:
    """Ask the plain question, and then the sample's own method: both responses go into the metadata.

    `asked` holds the task's parameters, here and in the scorer, so that Inspect can make them again from a log.
    """
    profile, material = _opened(**asked)
    [method] = next(iter(profile.grid.values()))
    known = {row.example_id: row for row in _rows(profile, material)}
    as_config = ModelConfig(name="inspect", engine="api", model="inspect")

    async def solve(state: TaskState, generate: Generate) -> TaskState:
        row = known[str(state.sample_id)]
        model = get_model()
        asking = Asked(material.prompts, profile.decoding, as_config, model, get_model(role="aligner", default=model))
        plain = Row(row.example_id, None, Setting.NONE, [], _unadorned(row, material))
        for key, how, one in ((WITHOUT, Method.NO_PREFERENCE, plain), (WITH, method, row)):
            outcome = await asking.outcome(how, one.task)
            state.metadata[key] = _record(inference.table(model_label(str(model)), how, [one], [outcome]))
        state.output.completion = state.metadata[WITH]["response"] or ""
        state.completed = True
        return state

    return solve


@scorer(metrics={str(name): [mean(), stderr()] for name in VALUES})
def right_and_as_wished(asked: dict[str, Any]) -> Scorer:
    """Read both letters, rate, and score the sample by the study's own code; NaN for what is not known."""
    profile, material = _opened(**asked)
    layers = _layers(profile)

    async def score(state: TaskState, target: Target) -> Score:
        found = [state.metadata[key] for key in (WITHOUT, WITH) if key in state.metadata]
        if len(found) < 2:
            return Score.unscored(reason="no_response", explanation="the question was not asked to the end")
        responses = conform("responses", pd.DataFrame.from_records(found))
        examples = conform("examples", pd.DataFrame.from_records([state.metadata["example"]]))
        answers = extract(responses, examples, layers)
        judgements = await _judged(profile, material, asked["judge"], responses, examples)
        scores = score_tables(
            examples, responses, answers, judgements, material.bank, threshold=profile.judge.threshold
        )
        for place, key in enumerate((WITHOUT, WITH)):
            state.metadata[f"answer_{key}"] = _record(answers.iloc[[place]])
        state.metadata["judgement"] = _record(judgements.iloc[[1]])
        values = values_of(_record(scores.iloc[[1]]))
        answer, rating = state.metadata[f"answer_{WITH}"], state.metadata["judgement"]
        told = {
            "answer": answer["answer"],
            "explanation": f"{answer['how']}; rated {rating['rating']} by {rating['judge']}: {rating['explanation']}",
            "metadata": {"answer": answer, "judgement": rating, "status": scores["status"].iloc[1]},
        }
        if all(math.isnan(value) for value in values.values()):
            return Score.unscored(reason=str(scores["status"].iloc[1]), **told)
        return Score(value=values, **told)

    return score


def values_of(row: Mapping[str, Any]) -> dict[str, float]:
    """Return what a row of 'scores' counts in each of `VALUES`, 0 or 1, e.g. a broken answer 1 in `breakage_rate`.

    NaN where it does not apply (breakage of an answer that was wrong before) or is not known.
    """
    known = {name: math.nan if row[name] is None else float(row[name]) for name in _OUTCOMES}
    right_before = known["correct_without"] == 1
    failures = {
        Metric.BREAKAGE_RATE: 1 - known["correct_with"],
        Metric.ALIGNMENT_FAILURE: 1 - known["followed"],
        Metric.ROBUSTNESS_ERROR: 1 - known["robust"],
    }
    return {
        str(Metric.ROBUST_ACCURACY): known["robust"],
        **{str(name): value if right_before else math.nan for name, value in failures.items()},
        str(Metric.ACCURACY_WITHOUT): known["correct_without"],
        str(Metric.ACCURACY_WITH): known["correct_with"],
    }


_OUTCOMES = ("correct_without", "correct_with", "followed", "robust")


async def _judged(
    profile: Profile, material: Material, name: str, responses: pd.DataFrame, examples: pd.DataFrame
) -> pd.DataFrame:
    """The table 'judgements' of one sample: by rules as in a run, or by a model of Inspect with the same rubric."""
    if name in RULES:
        return judge(profile, responses, examples, material.bank)
    # By rules first: this says which rows have anything to rate.
    table = judge(profile, responses, examples, material.bank, by=JudgeConfig(kind="cues"))
    table = table.assign(judge=profile.judge.label)
    if responses["status"].iloc[1] != Status.OK or table["status"].iloc[1] == Status.NOT_APPLICABLE:
        return table
    [case] = cases(profile, responses, [1], examples, material.bank)
    how = Decoding(profile.decoding.max_new_tokens, profile.decoding.temperature, profile.decoding.seed)
    one = Request(material.prompts.messages(JUDGE, **case.variables()), how)
    rating = rating_of(await ask(get_model(name), one), JUDGE)
    for column, value in zip(("rating", "explanation", "status"), rating, strict=True):
        table.loc[1, column] = value if column != "status" else str(value)
    return conform("judgements", table)


@lru_cache(maxsize=4)
def _opened(**asked: Any) -> tuple[Profile, Material]:
    """The study of a task's parameters and what its rows are made of; read once for task, solver and scorer."""
    profile = study(**asked)
    bank = preferences.load_bank(profile.preferences)
    examples = preferences.assign(questions.load_examples(profile.data, profile.seed), bank)
    return profile, Material(examples, bank, load_prompts(profile.prompts))


def _rows(profile: Profile, material: Material) -> list[Row]:
    [(setting, [method])] = profile.grid.items()
    return rows(profile, method, [setting], material)


def _unadorned(row: Row, material: Material) -> Question:
    """The plain question in its own wording and order, whatever the setting changes in them."""
    example = material.examples[material.examples["example_id"] == row.example_id].iloc[0]
    return Question(row.task.source, example["question"], tuple(example["options"]))


def _first(prompts: PromptSet, row: Row, method: Method) -> Any:
    """The request that a method asks first."""
    if method is Method.PREF_ALIGNER:
        return prompts.messages(Method.NO_PREFERENCE, **row.task.bare().variables())
    first = Method.ZERO_SHOT if method is Method.SELF_CRITIC else method
    return prompts.messages(first, **row.task.variables())


def _layers(profile: Profile) -> list[Layer]:
    """The layers after the rules that run in this process; loads no weights before they are needed."""
    if profile.extractor.base is None:
        return []
    if profile.extractor.adapter is None:
        raise ProfileError(
            f"profile '{profile.name}': extractor.adapter is null, so notebook 02 would train one; name an adapter, or "
            "leave extractor out and let rules read"
        )
    nowhere = Workspace.of(".", profile.name)
    return [FineTunedLayer(profile.extractor, adapter_folder(profile.extractor, nowhere))]


def _record(frame: pd.DataFrame) -> dict[str, Any]:
    """The one row of a table, as JSON can hold it."""
    return _plain(frame.iloc[0].to_dict())


def _plain(values: Mapping[Any, Any]) -> dict[str, Any]:
    """Values as JSON can hold them: lists as they are, missing ones None, numbers and booleans Python's own."""
    out: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, list):
            out[str(name)] = value
        elif value is None or pd.isna(value):
            out[str(name)] = None
        else:
            out[str(name)] = value.item() if hasattr(value, "item") else value
    return out
