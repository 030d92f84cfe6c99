import pytest
import yaml

from perg_utils.core.loading import PROFILES, load_profile, profile_path
from perg_utils.core.profile import ProfileError
from perg_utils.core.schema import Method, Setting, Source

ALL_PROFILES = sorted(path.stem for path in PROFILES.glob("*.yaml"))
FIVE = [Method.ZERO_SHOT, Method.COT, Method.FEW_SHOT, Method.SELF_CRITIC, Method.PREF_ALIGNER]


@pytest.mark.parametrize("name", ALL_PROFILES)
def test_every_profile_of_the_repository_is_valid_and_named_like_its_file(name):
    assert load_profile(name).name == name


def test_the_promised_profiles_are_there():
    assert {"demo", "laptop", "laptop_study", "paper_small", "paper", "published"} <= set(ALL_PROFILES)


def test_a_judge_may_be_a_model_of_the_profile_by_its_name_and_follows_what_is_set_for_it():
    ours = ["models.0.model=some/file.gguf", "data.origin=local", "data.path=somewhere"]
    profile = load_profile("laptop", ours)
    assert profile.judge.model == profile.models[0] and profile.judge.model.model == "some/file.gguf"
    assert profile.judge.label == profile.models[0].name
    with pytest.raises(ProfileError, match="'Qwen9' is none of the models"):
        load_profile("laptop", ["judge.model=Qwen9"])
    panel = "judges=[{kind: llm, name: again, model: Qwen2.5-1.5B, rubric: judge_paraphrased}]"
    assert load_profile("laptop", [panel]).judges[0].model == load_profile("laptop").models[0]
    edited = load_profile("laptop", ["models.0.methods=[zero_shot]"])
    assert edited.judge.model.methods is None, "what it answers with is not what it judges with"


def test_the_published_profile_runs_no_model():
    assert load_profile("published", ["published_dir=somewhere"]).models == []
    with pytest.raises(ProfileError, match="the release has the responses; got \\['A'\\]"):
        load_profile("published", ["models=[{name: A, model: a/b}]"])


def test_the_demo_runs_three_models_all_methods_and_settings_and_an_aligner_pair():
    demo = load_profile("demo")
    assert demo.world == "invented"
    assert [model.name for model in demo.models] == ["S", "M", "L", "S+L"]
    assert demo.methods_for(demo.model("M"), Setting.RELEVANT) == FIVE
    assert set(demo.grid) == set(Setting) - {Setting.NONE}
    for setting in set(demo.grid) - {Setting.RELEVANT}:
        assert Method.ZERO_SHOT in demo.methods_for(demo.model("S"), setting)
        assert demo.methods_for(demo.model("S+L"), setting) in ([], [Method.PREF_ALIGNER])
    assert demo.model("S+L").aligner == "L"
    assert len(demo.data.sources) * demo.data.limit >= 300


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.limt=5", r"data\.limt: unknown key \(did you mean 'limit'\?\); allowed here: allow_incomplete, limit"),
        ("judg.kind=llm", r"judg: unknown key \(did you mean 'judge'\?\)"),
        ("models.1.batchsize=8", r"models\.1\.batchsize: unknown key \(did you mean 'batch_size'\?\)"),
        ("judge.model.nme=x", r"judge\.model\.nme: unknown key"),
        ("decoding.top_p=1", r"decoding\.top_p: unknown key; allowed here: max_new_tokens"),
        ("data.limit=many", r"data\.limit.*valid integer.*got 'many'"),
        ("data.origin=cloud", r"data\.origin: Input should be 'embedded', 'hub', 'local' or 'published'; got 'cloud'"),
        ("data.sources=[TQA, ARC]", r"data\.sources\.1: Input should be 'TQA', 'CQA' or 'MMLU'; got 'ARC'"),
        ("data.origin=local", r"data\.path must name the folder"),
        ("judge.threshold=9", r"judge\.threshold: .*less than or equal to 5; got 9"),
        ("judge.kind=llm", r"judge\.model is needed for kind 'llm'"),
        ("grid.relevent=[cot]", r"grid\.relevent.*'none', 'relevant', 'mixed'.*got 'relevent'"),
        ("grid.none=[cot]", r"grid: 'none' is always run"),
        ("grid.mixed=[no_preference]", r"grid\.mixed: 'no_preference' is the baseline"),
        ("grid.mixed=[zeroshot]", r"grid\.mixed\.0: Input should be 'no_preference', 'zero_shot'.*got 'zeroshot'"),
        ("models.3.aligner=XL", r"models\.S\+L\.aligner: 'XL' is no model here; allowed: \['S', 'M', 'L', 'S\+L'\]"),
        ("models.1.name=S", r"models: names must differ"),
        ("models=[]", r"models: name at least one"),
        ("published_dir=there", r"published_dir is read only where data\.origin is 'published'"),
        ("data.origin=published", r"data\.origin 'published' and judge\.kind 'published' go together"),
        ("name=007", r"name: Input should be a valid string; got 7"),
        ("name=../up", r"name: String should match pattern"),
    ],
)
def test_a_bad_key_or_value_names_the_key_the_value_and_what_is_allowed(override, expected):
    with pytest.raises(ProfileError, match=expected):
        load_profile("demo", [override])


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("data.limit", r"KEY=VALUE.*got 'data\.limit'"),
        ("=5", r"KEY=VALUE.*got '=5'"),
        ("seed.deep=1", r"'seed' is a plain value"),
        ("models.9.name=x", r"'9' must be a position from 0 to 3"),
        ("models.first.name=x", r"'first' must be a position from 0 to 3"),
        ("models.4=x", r"'4' must be a position from 0 to 3"),
        ("title=[", r"not valid YAML"),
    ],
)
def test_an_override_that_cannot_be_placed_says_why(override, expected):
    with pytest.raises(ProfileError, match=expected):
        load_profile("demo", [override])


def test_overrides_are_read_as_yaml_and_the_last_one_wins():
    profile = load_profile(
        "demo", ["data.limit=5", "data.limit={TQA: 7}", 'title="007"', "models.0.batch_size=4", "data.sources=[CQA]"]
    )
    assert profile.data.limit == {Source.TQA: 7}
    assert profile.title == "007"
    assert profile.models[0].batch_size == 4
    assert profile.data.sources == [Source.CQA]


def test_an_override_may_hold_equal_signs():
    assert load_profile("demo", ["title=a=b"]).title == "a=b"


def test_all_mistakes_are_told_at_once():
    with pytest.raises(ProfileError) as caught:
        load_profile("demo", ["sed=1", "data.limit=x", "judge.threshold=0"])
    assert [key for key in ("sed:", "data.limit", "judge.threshold:") if key in str(caught.value)] == [
        "sed:",
        "data.limit",
        "judge.threshold:",
    ]


def test_an_unknown_profile_lists_the_known_ones_and_the_nearest():
    with pytest.raises(ProfileError, match=r"no profile 'dmo'; known: ablation, demo, .*paper.*Did you mean 'demo'\?"):
        load_profile("dmo")


def test_a_missing_profile_file_is_named(tmp_path):
    with pytest.raises(ProfileError, match=r"mine\.yaml' does not exist"):
        profile_path(tmp_path / "mine.yaml")


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"name: [", "not valid YAML"),
        (b"\xff\xfe\x00", "not valid YAML"),
        (b"- a\n- b\n", "must hold a mapping of settings, got list"),
        (b"", "must hold a mapping of settings, got NoneType"),
        (b"{}", r"models: Field required"),
    ],
)
def test_a_file_that_is_no_profile_is_refused_plainly(tmp_path, content, expected):
    path = tmp_path / "own.yaml"
    path.write_bytes(content)
    with pytest.raises(ProfileError, match=expected):
        load_profile(path)


def test_a_profile_of_ones_own_is_read_from_its_path(tmp_path):
    raw = yaml.safe_load((PROFILES / "demo.yaml").read_text()) | {"name": "mine"}
    path = tmp_path / "other-name.yml"
    path.write_text(yaml.safe_dump(raw))
    assert load_profile(path).name == "mine"


def test_an_unknown_model_is_named_with_the_known_ones():
    with pytest.raises(ProfileError, match=r"no model 'XL' in profile 'demo'; it has \['S', 'M', 'L', 'S\+L'\]"):
        load_profile("demo").model("XL")


def test_a_key_that_may_be_of_several_types_is_named_as_in_the_file():
    with pytest.raises(ProfileError) as told:
        load_profile("demo", ["data.limit=abc"])
    lines = str(told.value).splitlines()[1:]
    assert len(lines) == 2 and all(line.startswith("- data.limit: Input should be") for line in lines), lines
