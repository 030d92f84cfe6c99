"""The run configuration: one YAML file a profile, validated before anything is computed.

Left out: reading the file and applying the overrides (`loading`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Literal, get_args
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, PositiveInt, field_validator, model_validator

from perg_utils.core.errors import PergError
from perg_utils.core.schema import Category, Method, Setting, Source

ROOT = Path(__file__).resolve().parents[2]


class ProfileError(PergError):
    """The profile cannot be used; the message names the key, the value and the cure."""


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class DataConfig(_Strict):
    """Which questions. `hub` needs a network once; `local` reads files in the hub's schema below `path`.

    `published` takes questions and responses from the paper's release instead of asking models.
    """

    origin: Literal["embedded", "hub", "local", "published"]
    path: Path | None = None
    sources: list[Source] = [Source.TQA, Source.CQA, Source.MMLU]
    limit: dict[Source, PositiveInt] | PositiveInt | None = Field(
        None, description="questions per source, sampled with the seed"
    )
    allow_incomplete: bool = Field(False, description="accept fewer questions than the paper's 5,170 / 817 / 1,221")
    preferences: Literal["sampled", "full"] = "sampled"

    @model_validator(mode="after")
    def _local_has_path(self) -> DataConfig:
        if self.origin == "local" and self.path is None:
            raise ValueError("data.path must name the folder of Parquet files when data.origin is 'local'")
        return self


class DecodingConfig(_Strict):
    """One decoding for all arms (paper, appendix): greedy, with a longer limit where a reply is JSON or thinks."""

    temperature: float = Field(0.0, ge=0, le=2)
    seed: int = 42
    max_new_tokens: int = Field(500, ge=1)
    max_new_tokens_second_stage: int = Field(1024, ge=1)
    max_new_tokens_thinking: int = Field(1024, ge=1)
    max_new_tokens_by_method: dict[Method, PositiveInt] = Field(
        {}, description="limits of single methods, in place of the three"
    )


class EditingConfig(_Strict):
    """How Pref-Aligner's second stage is asked, where it differs from the prompt set; null leaves the set's way."""

    keep_letter: bool | None = Field(None, description="order the editor to keep the letter, whatever it would choose")
    show_options: bool | None = Field(None, description="show the editor the question and its options")
    response_first: bool | None = Field(None, description="the response before the editor's note, not behind it")
    form: Literal["json", "labelled"] | None = Field(None, description="labelled: plain text with two labels")
    draft: Literal["right", "wrong"] | None = Field(
        None, description="a sentence that names the right or a wrong option is edited, not the model's own answer"
    )


class ReplicaConfig(_Strict):
    """A model's replicas on a cluster (`--cluster`): what one takes and starts, and how many there may be."""

    server: Literal["auto", "none", "vllm", "transformers"] = Field(
        "auto", description="what a replica starts and asks; none: the weights in its own process; auto: vllm on GPUs"
    )
    command: list[str] | None = Field(None, description="words that start the server in place of e.g. `vllm serve`")
    flags: list[str] = Field([], description="more words for the server; part of the key of replies")
    batch_invariant: bool = Field(True, description="VLLM_BATCH_INVARIANT: replies do not depend on what runs together")
    gpus: int = Field(0, ge=0, description="GPUs of a replica: tensor parallelism for vllm")
    cpus: float | None = Field(None, gt=0, description="cores of a replica; null: 1, and 0.1 for an API")
    most: PositiveInt | None = Field(
        None, description="replicas at most; null: 1 for an API, else as many as the nodes that are there have room for"
    )
    unit: PositiveInt | None = Field(
        None, description="requests of a unit at most; null: 1,000 for servers, 128 in the replica's own process"
    )
    startup: float = Field(1800.0, gt=0, description="seconds within which a replica must be ready, or find room")
    patience: float = Field(600.0, gt=0, description="seconds without any progress after which a replica is replaced")


#: The size in a model's name: `8B`, `0.5b`, `135M`, `8x7B`.
_SIZE = re.compile(r"(?<![A-Za-z0-9.])(?:(\d+)x)?(\d+(?:\.\d+)?)([BM])(?![A-Za-z0-9])", re.IGNORECASE)


def place(name: str, root: Path = ROOT) -> Path | None:
    """Return the folder or GGUF file that `name` means, below `root` or here; None if there is none."""
    paths = (root / name, Path(name).expanduser())
    return next((p for p in paths if p.is_dir() or (p.suffix == ".gguf" and p.is_file())), None)


class ModelConfig(_Strict):
    """One model: weights run in process (`transformers`) or any OpenAI-compatible server (`api`)."""

    name: str = Field(min_length=1, pattern=r"^[A-Za-z0-9][\w.+-]*$")
    engine: Literal["transformers", "api"] = "transformers"
    model: str = Field(description="hub id, local folder, GGUF file, or the server's model name")
    gguf_file: str | None = Field(None, description="the file of a hub id or folder that holds GGUF files")
    revision: str | None = None
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        "auto", description="auto: the checkpoint's on a GPU; on a CPU float32, or bfloat16 where that is fast"
    )
    quantization: Literal["nf4"] | None = None
    adapter: str | None = Field(None, description="a LoRA adapter on the weights, a folder or hub id; null: none")
    device_map: str | None = None
    batch_size: PositiveInt | None = Field(None, description="prompts at once; null: as many as fit into memory")
    batching: Literal["auto", "static", "continuous"] = Field(
        "auto", description="continuous: the library's running batch; auto: our own on a CPU, that on a GPU if as good"
    )
    base_url: str | list[str] | None = Field(None, description="a server, or several that serve the same model")
    api_key_env: str = "OPENAI_API_KEY"
    concurrency: int = Field(16, ge=1, description="requests in flight at each server, at most")
    timeout: float = Field(300.0, gt=0, description="seconds that one reply may take")
    batch: bool = Field(False, description="ask through OpenAI's Batch API: half the price, within a day")
    max_cost_usd: float | None = Field(
        None, gt=0, description="stop before this model has cost more in this run, in all its roles together"
    )
    structured: bool | None = Field(
        None, description="hold second stages to a JSON schema; null: if the server takes one, tried with one request"
    )
    extra_body: dict[str, Any] = {}
    thinking: bool | None = Field(None, description="set the chat template's thinking switch; null leaves it alone")
    aligner: str | None = Field(None, description="name of the model that edits in Pref-Aligner; null: this one")
    editing: EditingConfig | None = Field(None, description="how Pref-Aligner edits; null: as the prompt set says")
    methods: list[Method] | None = Field(None, description="only these methods for this model; null: all of the grid")
    settings: list[Setting] | None = Field(None, description="only these settings for this model; null: all")
    replica: ReplicaConfig = Field(ReplicaConfig(), description="how it runs on a cluster; elsewhere it says nothing")

    def place(self, root: Path = ROOT) -> Path | None:
        """Return the folder or GGUF file that `model` names, below `root` or here; None if there is none."""
        return place(self.model, root)

    @property
    def is_gguf(self) -> bool:
        """Whether the weights are a GGUF file."""
        return self.gguf_file is not None or self.model.endswith(".gguf")

    def billions(self) -> float | None:
        """Return billions of parameters as the model's name has them, e.g. 8.0 for `Llama-3.1-8B`, 56.0 for `8x7B`."""
        found = _SIZE.search(self.model)
        if found is None:
            return None
        experts, size, unit = found.groups()
        return int(experts or 1) * float(size) / (1 if unit.upper() == "B" else 1000)

    @field_validator("base_url")
    @classmethod
    def _no_secret_in_url(cls, value: str | list[str] | None) -> str | list[str] | None:
        # The profile is written into manifests and reports.
        for url in [value] if isinstance(value, str) else value or []:
            parts = urlsplit(url)
            if parts.scheme not in {"http", "https"} or not parts.hostname:
                raise ValueError("a base_url looks like https://host/v1")
            if parts.username or parts.password or parts.query:
                raise ValueError("no user, password or query in a base_url; a key belongs in .env")
        return value

    @model_validator(mode="after")
    def _adapter_on_own_weights(self) -> ModelConfig:
        served = self.replica.server in ("vllm", "transformers")
        if self.adapter is not None and (self.engine == "api" or self.quantization is not None or served):
            raise ValueError("adapter goes onto weights that are run in process, and not quantized ones")
        return self

    @model_validator(mode="after")
    def _batch_invariance_needs_a_gpu(self) -> ModelConfig:
        # vLLM's build for processors takes the setting, and ends at the first request.
        if self.replica.server == "vllm" and not self.replica.gpus and self.replica.batch_invariant:
            raise ValueError("replica: vllm without GPUs needs batch_invariant: false")
        return self

    @model_validator(mode="after")
    def _one_server_for_batches(self) -> ModelConfig:
        if self.base_url == [] or (self.batch and isinstance(self.base_url, list) and len(self.base_url) > 1):
            raise ValueError("base_url must name a server, and only one with batch: true")
        return self


#: What judges are called that are no model of the profile. The paper's ratings are gpt-4o-mini's.
RULES = {
    "heuristic": "heuristic (embedded styles)",
    "cues": "heuristic (cues)",
    "people": "people",
    "published": "gpt-4o-mini",
}
#: Whose ratings the paper's released files hold.
PAPER_JUDGE = RULES["published"]


class JudgeConfig(_Strict):
    """Who rates whether a preference was followed.

    `heuristic`: rules for the embedded styles; `cues`: rules for cues of ordinary English; `people`: the ratings in a
    file of `annotate merge`; `published`: those in the paper's released files; `llm`: a model with the rubric of a
    prompt set.
    """

    kind: Literal["heuristic", "cues", "llm", "people", "published"]
    name: str | None = Field(None, pattern=r"^[A-Za-z0-9][\w.+-]*$", description="null: the model's, or the rules'")
    model: ModelConfig | None = None
    prompts: str | None = Field(None, description="the prompt set whose rubric is used; null: the profile's")
    rubric: Literal["judge", "judge_paraphrased", "judge_swapped", "judge_questions"] = Field(
        "judge", description="the rubric's template in the prompt set"
    )
    structured: bool | None = Field(
        None, description="ask the server for JSON by a schema; null: if it takes one, tried with one request"
    )
    ratings: Path | None = Field(
        None, description="people: the ratings.csv of `annotate merge`, relative to the repository"
    )
    threshold: int = Field(3, ge=2, le=5, description="followed = rating >= threshold")

    @property
    def label(self) -> str:
        """The judge's name beside its ratings, e.g. `heuristic (embedded styles)`, or that of its model."""
        return self.name or (RULES[self.kind] if self.model is None else self.model.name)

    @model_validator(mode="after")
    def _llm_has_model(self) -> JudgeConfig:
        if (self.kind == "llm") != (self.model is not None):
            raise ValueError("judge.model is needed for kind 'llm', and for no other kind")
        if (self.kind == "people") != (self.ratings is not None):
            raise ValueError(
                "judge.ratings, the file of `annotate merge`, is needed for kind 'people', and for no other"
            )
        return self


class LoraTraining(_Strict):
    """How long and how fast the adapter is trained; the defaults are for a base of some billion parameters."""

    samples: int = Field(8000, ge=1, description="made-up responses, at most; training stops when it no longer helps")
    batch_size: int = Field(16, ge=1)
    rank: int = Field(16, ge=1)
    characters: bool = Field(False, description="also train the embeddings of one-character tokens; for small bases")
    leave: list[str] = Field(
        [], description="kinds of data/extraction_templates.yaml that this base shall leave undecided"
    )
    learning_rate: float = Field(2e-4, gt=0)
    patience: int = Field(6, ge=1, description="checks without gain after which training stops, of 20 in all")


class ExtractorConfig(_Strict):
    """Who reads which option a response names: rules, then (`base`) a fine-tuned model, then (`llm`) another model.

    Each is asked only what those before it leave undecided. Null layers are left out: the default is rules alone.
    """

    base: ModelConfig | None = Field(None, description="the base model of the fine-tuned layer, run in process")
    adapter: str | None = Field(
        None, description="its LoRA adapter, a folder or hub id; null: 02_train_extractor trains one"
    )
    template: str = Field(
        "{response}\nOptions:{options}\nAnswer:", description="how response and options are put to the base model"
    )
    option: str = Field("\n{letter}. {text}", description="how each of the options is written")
    training: LoraTraining = LoraTraining()
    min_confidence: float = Field(0.9, ge=0, le=1, description="below it the fine-tuned layer decides nothing")
    llm: ModelConfig | None = Field(None, description="asked last, one short request a response")

    def models(self) -> list[ModelConfig]:
        """Return the models of the layers that are there, the base model first."""
        return [model for model in (self.base, self.llm) if model is not None]

    @model_validator(mode="after")
    def _consistent(self) -> ExtractorConfig:
        if self.base is not None and self.base.engine != "transformers":
            raise ValueError(f"extractor.base is run in process: engine 'transformers', not '{self.base.engine}'")
        if self.adapter is not None and self.base is None:
            raise ValueError("extractor.adapter needs extractor.base, the model that it was trained on")
        try:
            template = [self.template.format(response=r, options=o) for r, o in (("", ""), ("?", ""), ("", "?"))]
            option = [self.option.format(letter=x, text=t) for x, t in (("", ""), ("?", ""), ("", "?"))]
        except (LookupError, ValueError, AttributeError) as error:
            raise ValueError(
                "extractor.template may hold {response} and {options}, extractor.option {letter} and {text}, and no "
                f"other braces ({error!r})"
            ) from error
        if any(len(one) != len(form[0]) + 1 for form in (template, option) for one in form[1:]):
            raise ValueError(
                "extractor.template must hold {response} and {options}, extractor.option {letter} and {text}, each once"
            )
        if self.base is not None and self.base.quantization is not None and self.adapter is None:
            raise ValueError("extractor.base: an adapter is not trained on quantized weights; drop quantization")
        return self


class StatisticsConfig(_Strict):
    """Confidence of intervals, and what counts as no difference."""

    confidence: float = Field(0.95, gt=0.5, lt=1)
    margin: float = Field(
        3.0, gt=0, lt=100, description="points within which two arms count as equivalent; choose it before you look"
    )
    resamples: int = Field(2000, ge=100, description="of a bootstrap, where no exact form exists")


#: What has a notebook `study_<name>` of its own (docs/studies.md).
Study = Literal["stages", "cost", "delivery", "distance", "free_form", "tuning"]

#: What an adapter of the study of tuning is trained on (`studies.tuning.material`).
TuningArm = Literal["naive", "random", "curated", "curated_more", "distilled", "no_preference"]


class TuningConfig(_Strict):
    """The adapters that the study of robust tuning trains: one for each model, arm, size and seed."""

    arms: list[TuningArm] = list(get_args(TuningArm))
    sizes: list[PositiveInt] = Field([64, 256, 1024, 4096], description="training samples")
    seeds: int = Field(5, ge=2, description="adapters of each kind: other samples, order and start")
    candidates: PositiveInt = Field(8192, description="answers to preferences that each model writes, at most")
    left_out: Category = Field(Category.CREATIVE, description="category that no adapter is shown in training")
    shown: PositiveInt = Field(512, description="samples a training shows, at least; a larger size is shown once")
    rank: int = Field(8, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(2e-3, gt=0)


class CandidatesConfig(_Strict):
    """Candidate preferences that 00_generate_preferences asks for; people choose among them."""

    model: str | None = Field(None, description="which of `models` is asked; null: the first")
    embedder: str = Field("sentence-transformers/all-MiniLM-L6-v2", description="hub id or folder; finds duplicates")
    similarity: float = Field(0.8, gt=0, le=1, description="cosine from which two candidates say the same")
    others: list[Path] = Field([], description="CSV files of other candidates (column pref) to compare with")


class Profile(_Strict):
    """A whole study. `grid` says which methods run in which setting."""

    name: str = Field(pattern=r"^[A-Za-z0-9][\w.-]*$")
    title: str
    world: Literal["real", "invented"] = "real"
    seed: int = 42
    data: DataConfig
    prompts: str = Field("standard", description="a set in data/prompts/, or a path to a YAML file")
    preferences: Path = Field(
        Path("data/preferences.csv"), description="the preference bank, relative to the repository"
    )
    candidates: CandidatesConfig | None = Field(None, description="ask for candidate preferences; null: do not")
    decoding: DecodingConfig = DecodingConfig()
    grid: dict[Setting, list[Method]]
    baseline: Literal["no_preference", "own"] = "no_preference"
    models: list[ModelConfig]
    extractor: ExtractorConfig = ExtractorConfig()
    judge: JudgeConfig = Field(description="the main judge: the metrics rest on its ratings")
    judges: list[JudgeConfig] = Field([], description="further judges, read at the main threshold")
    statistics: StatisticsConfig = StatisticsConfig()
    study: Study | None = Field(None, description="a study of its own: its notebook in place of tables and report")
    tuning: TuningConfig | None = Field(None, description="the adapters of the study `tuning`")
    embedder: str | None = Field(
        None, description="sentence embedder of a study, a hub id or folder; null: it goes by words"
    )
    published_dir: Path | None = Field(
        None, description="folder of the paper's released files (a clone, or part of one); null: they are downloaded"
    )
    shard: str | None = Field(None, description="run only one n-th of the questions: i/n, see `shards`")

    @model_validator(mode="before")
    @classmethod
    def _judges_by_name(cls, values: Any) -> Any:
        """A judge's `model` may be the name of one of `models`."""
        if not isinstance(values, dict) or not isinstance(values.get("models"), list):
            return values
        named = {m["name"]: m for m in values["models"] if isinstance(m, dict) and isinstance(m.get("name"), str)}

        def filled(part: Any, key: str) -> Any:
            if not isinstance(part, dict) or not isinstance(part.get(key), str):
                return part
            if part[key] not in named:
                raise ValueError(f"judge: '{part[key]}' is none of the models {list(named)}")
            weights = {
                k: v for k, v in named[part[key]].items() if k not in {"aligner", "methods", "settings", "editing"}
            }
            return part | {key: weights}

        out = dict(values)
        if "judge" in out:
            out["judge"] = filled(out["judge"], "model")
        if isinstance(out.get("judges"), list):
            out["judges"] = [filled(part, "model") for part in out["judges"]]
        return out

    @field_validator("shard", mode="before")
    @classmethod
    def _check_shard(cls, value: Any) -> Any:
        number, _, of = str(value).partition("/")
        if value is not None and not (number.isdecimal() and of.isdecimal() and 1 <= int(number) <= int(of)):
            raise ValueError("a shard is i/n with i from 1 to n, e.g. 2/8")
        return value

    @model_validator(mode="after")
    def _consistent(self) -> Profile:
        names = [m.name for m in self.models]
        published = self.data.origin == "published"
        if published != (self.judge.kind == "published"):
            raise ValueError("data.origin 'published' and judge.kind 'published' go together")
        if published and names:
            raise ValueError(f"models: with data.origin 'published' the release has the responses; got {names}")
        if published and self.extractor.models():
            raise ValueError("extractor: with data.origin 'published' the letters are the release's; leave it out")
        if not published and not names:
            raise ValueError("models: name at least one")
        if self.published_dir is not None and not published:
            raise ValueError("published_dir is read only where data.origin is 'published'")
        if len(set(names)) < len(names):
            raise ValueError(f"models: names must differ, got {names}")
        for model in self.models:
            if model.aligner is not None and model.aligner not in names:
                raise ValueError(f"models.{model.name}.aligner: '{model.aligner}' is no model here; allowed: {names}")
        if self.candidates is not None and self.candidates.model not in [None, *names]:
            raise ValueError(f"candidates.model: '{self.candidates.model}' is no model here; allowed: {names}")
        if Setting.NONE in self.grid:
            others = ", ".join(setting for setting in Setting if setting is not Setting.NONE)
            raise ValueError(f"grid: 'none' is always run; list only {others}")
        for setting, methods in self.grid.items():
            if Method.NO_PREFERENCE in methods:
                raise ValueError(f"grid.{setting}: 'no_preference' is the baseline and always run; leave it out")
        return self

    @model_validator(mode="after")
    def _tuned(self) -> Profile:
        if (self.study == "tuning") != (self.tuning is not None):
            raise ValueError("tuning: needed for study 'tuning', and for nothing else")
        return self

    @model_validator(mode="after")
    def _panel(self) -> Profile:
        if self.data.origin == "published" and self.judges:
            raise ValueError("judges: the release has the ratings of one judge only; leave the panel out")
        read_at = {self.judge.threshold, JudgeConfig.model_fields["threshold"].default}
        if any(other.kind == "published" or other.threshold not in read_at for other in self.judges):
            raise ValueError("judges: no kind 'published', and no threshold but the main judge's: judge.threshold")
        labels = [judge.label for judge in self.all_judges()]
        if len(set(labels)) < len(labels):
            raise ValueError(f"judges: names must differ (give each a `name`), got {labels}")
        return self

    def methods_for(self, model: ModelConfig, setting: Setting) -> list[Method]:
        """Return the methods that `model` runs in `setting`, in the grid's order, e.g. `[Method.ZERO_SHOT]`."""
        allowed = model.methods
        if model.settings is not None and setting not in model.settings:
            return []
        return [m for m in self.grid.get(setting, []) if allowed is None or m in allowed]

    def all_judges(self) -> list[JudgeConfig]:
        """Return the main judge and then the further ones."""
        return [self.judge, *self.judges]

    def judge_models(self) -> list[ModelConfig]:
        """Return the models of all judges that are models, the main judge's first."""
        return [judge.model for judge in self.all_judges() if judge.model is not None]

    def all_models(self) -> list[ModelConfig]:
        """Return every model that a run may load or ask: those that answer, the judges' and the extractor's."""
        return [*self.models, *self.judge_models(), *self.extractor.models()]

    def model(self, name: str) -> ModelConfig:
        """Return the model called `name`; raises `ProfileError` naming the known ones."""
        for model in self.models:
            if model.name == name:
                return model
        raise ProfileError(f"no model '{name}' in profile '{self.name}'; it has {[m.name for m in self.models]}")
