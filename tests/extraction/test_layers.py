"""The layers of the extractor one after the other: who is asked what, what rows say of it, what failures become."""

import json
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from toy_tables import RELEVANT, toy, value

from perg_utils.core.errors import DataError, PergError
from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT, Profile, ProfileError
from perg_utils.core.schema import LETTERS, ROW_ID, TABLES, Status, conform
from perg_utils.core.workspace import Workspace
from perg_utils.engines.base import EngineError
from perg_utils.engines.journal import Journal
from perg_utils.extraction.answers import extract, extract_answer, read_all
from perg_utils.extraction.layers import by_layer, check_extractor, local_adapter, open_layers
from perg_utils.extraction.reading import Reading
from perg_utils.extraction.rules.decision import CONCLUDED_RIGHT, STATED_RIGHT
from perg_utils.published.checks.gold import load_gold, released, with_responses
from perg_utils.scoring.rates import metrics
from perg_utils.scoring.scores import score

GOODS = ["iron", "salt", "wool", "amber"]
SILENT = "It depends on whom you ask."
SEVERAL = "Either A or B could be right."
SAMPLE = Path(__file__).parents[3] / "shared" / "real" / "published_sample"


class Fake:
    """A layer that knows what to say of some responses, and remembers what it was asked."""

    def __init__(self, layer, known, otherwise=None):
        self.name, self.known, self.asked = layer, known, []
        self.otherwise = otherwise or Reading(None, "unsure", Status.UNPARSABLE, confidence=0.4, layer=layer)

    def read(self, cases):
        assert all(type(case) is tuple and len(case) == 2 for case in cases), "response and options, nothing else"
        self.asked.append([response for response, _ in cases])
        return [self.known.get(response, self.otherwise) for response, _ in cases]


def scored(letter, confidence=0.93):
    return Reading(letter, "scored", Status.OK, confidence=confidence, layer="finetuned")


def replied(letter):
    return Reading(letter, "replied", Status.OK, layer="llm")


def table(*responses, status=()):
    rows = pd.DataFrame({"response": responses, "status": [*status, *["ok"] * (len(responses) - len(status))]})
    rows = rows.assign(example_id="TQA-1", preference_id=None, model=[f"m{i}" for i in range(len(rows))])
    return rows.assign(method="no_preference", setting="none")


EXAMPLES = pd.DataFrame({"example_id": ["TQA-1"], "options": [GOODS]})


def test_each_layer_is_asked_what_those_before_it_leave_open_and_the_table_says_who_decided():
    tuned = Fake("finetuned", {SILENT: scored("C")})
    llm = Fake("llm", {SEVERAL: replied("A")})
    responses = table("The answer is B.", SILENT, SEVERAL, "Hm.", None, status=["ok"] * 4 + ["api_error"])
    found = extract(responses, EXAMPLES, [tuned, llm])
    assert tuned.asked == [[SILENT, SEVERAL, "Hm."]] and llm.asked == [[SEVERAL, "Hm."]]
    assert list(found) == list(TABLES["answers"])
    shown = found[["answer", "how", "status", "layer", "evidence"]].astype(object).where(found.notna(), None)
    assert shown.to_numpy().tolist() == [
        ["B", "answer_statement", "ok", "rules", "B."],
        ["C", "scored", "ok", "finetuned", None],
        ["A", "replied", "ok", "llm", None],
        [None, "no_option", "unparsable", None, None],
        [None, "no_response", "api_error", None, None],
    ]
    assert found["confidence"].fillna(-1).tolist() == [STATED_RIGHT, 0.93, -1, -1, -1]


@pytest.mark.parametrize(
    ("response", "how", "status", "layer"),
    [
        ("I cannot answer this.", "refusal", "refused", "rules"),
        ("None of the options is correct.", "none_of_the_options", "unparsable", "rules"),
        ("F", "letter_beyond_options", "unparsable", "rules"),
        ('{"answer": "F"}', "json:letter_beyond_options", "unparsable", "rules"),
    ],
)
def test_a_response_that_the_rules_read_as_naming_no_option_is_not_asked_about_again(response, how, status, layer):
    later = Fake("llm", {}, replied("A"))
    found = extract_answer(response, GOODS, [later])
    assert (found.letter, found.how, found.status, found.layer) == (None, how, status, layer)
    assert later.asked == []


@pytest.mark.parametrize("response", [SILENT, SEVERAL, '{"answer": "it depends"}'])
def test_where_no_layer_decides_the_rules_reason_stands_and_no_layer_is_named(response):
    alone = extract_answer(response, GOODS)
    found = extract_answer(response, GOODS, [Fake("finetuned", {}), Fake("llm", {})])
    assert found == alone
    assert (found.letter, found.status, found.layer, found.confidence) == (None, "unparsable", None, None)


def test_a_layer_that_says_that_no_option_is_named_has_decided():
    none = Reading(None, "none_of_the_options", Status.UNPARSABLE, layer="finetuned", confidence=0.95)
    refusal = Reading(None, "refusal", Status.REFUSED, layer="finetuned", confidence=0.99)
    last = Fake("llm", {}, replied("A"))
    found = extract(table(SILENT, SEVERAL), EXAMPLES, [Fake("finetuned", {SILENT: none, SEVERAL: refusal}), last])
    assert found["layer"].tolist() == ["finetuned", "finetuned"] and found["answer"].isna().all()
    assert found["status"].tolist() == ["unparsable", "refused"] and not last.asked
    assert found["confidence"].tolist() == [0.95, 0.99]


def test_equal_responses_to_equal_options_are_read_once_and_other_options_make_another_case():
    layer = Fake("finetuned", {}, scored("B"))
    found = read_all([(SILENT, GOODS), (SILENT, list(GOODS)), (SILENT, GOODS[:2]), ("B", GOODS)], [layer])
    assert layer.asked == [[SILENT, SILENT]], "two cases: with four options and with two"
    assert [one.layer for one in found] == ["finetuned"] * 3 + ["rules"]


def test_no_layer_is_called_for_nothing():
    layer = Fake("finetuned", {})
    extract(table("B", "The answer is A."), EXAMPLES, [layer])
    assert layer.asked == []


@given(
    st.one_of(st.none(), st.text(max_size=3), st.sampled_from(LETTERS), st.integers(), st.just(float("nan"))),
    st.integers(2, 30),
    st.sampled_from(list(Status)),
    st.sampled_from(["scored", "letter_beyond_options", "none_of_the_options", "json:none_of_the_options"]),
    st.sampled_from([SILENT, "F", "Option Z, no, Y.", "B or C"]),
)
def test_no_layer_returns_a_letter_beyond_the_options(letter, count, status, how, response):
    options = [f"thing number {i}" for i in range(count)]
    layer = Fake("finetuned", {}, Reading(letter, how, status, layer="finetuned"))
    found = extract_answer(response, options, [layer])
    assert found.letter is None or (found.letter in list(LETTERS[:count]) and found.status == Status.OK)
    if found.letter is None:
        assert found.status != Status.OK
    frame = extract(table(response), EXAMPLES.assign(options=[options]), [layer])
    assert frame["answer"].fillna("-").iloc[0] == (found.letter or "-")


def test_a_letter_beyond_the_options_leaves_the_case_to_the_next_layer():
    wild, last = Fake("finetuned", {}, scored("F")), Fake("llm", {}, replied("D"))
    found = extract_answer(SILENT, GOODS, [wild, last])
    assert (found.letter, found.layer) == ("D", "llm") and last.asked == [[SILENT]]


def test_a_layer_that_loses_count_is_an_error_and_not_a_shift_of_rows():
    class Short(Fake):
        def read(self, cases):
            return super().read(cases)[1:]

    with pytest.raises(ValueError, match="shorter"):
        extract(table(SILENT, SEVERAL), EXAMPLES, [Short("llm", {})])


def test_the_words_that_a_letter_rests_on_stand_in_the_table():
    found = extract(table("  Thinking of it, the answer is (C) wool. ", "D", '{"answer": "the answer is A"}'), EXAMPLES)
    assert found["answer"].tolist() == ["C", "D", "A"]
    assert "C" in found["evidence"][0] and found["evidence"].isna().tolist() == [False, True, True]
    assert found["evidence"][0] in "Thinking of it, the answer is (C) wool."


FAILURES = [Status.API_ERROR, Status.REJECTED, Status.EMPTY]


@pytest.mark.parametrize("status", FAILURES)
def test_a_reading_that_could_not_be_had_keeps_its_status(status):
    failing = Fake("llm", {}, Reading(None, "no_reply", status, layer="llm"))
    [row] = extract(table(SILENT), EXAMPLES, [failing]).to_dict("records")
    assert (row["status"], row["how"]) == (status, "no_reply")
    assert pd.isna(row["answer"]) and pd.isna(row["layer"])


@pytest.mark.parametrize("status", FAILURES)
@pytest.mark.parametrize("where", ["with", "without"])
def test_a_failed_reading_is_left_out_of_the_metrics_and_counted_and_is_never_a_wrong_answer(status, where):
    tables = toy(RELEVANT)
    before = metrics(score(**tables))
    arm = "zero_shot" if where == "with" else "no_preference"
    answers = tables["answers"]
    chosen = (answers["method"] == arm) & (answers["example_id"] == "q0")
    assert answers.loc[chosen, "status"].tolist() == ["ok"], "a question right without preference"
    answers.loc[chosen, ["answer", "status", "how", "layer"]] = [None, str(status), "no_reply", None]
    scores = score(**tables)
    after = metrics(scores)
    row = scores[(scores["method"] == "zero_shot") & (scores["example_id"] == "q0")].iloc[0]
    assert pd.isna(row[f"correct_{where}"]) and pd.isna(row[f"delivered_{where}"]) and row["status"] == status
    assert pd.isna(row["robust"]) if where == "with" else True
    for metric in ("breakage_rate", "robustness_error"):
        (_, n, unscored), (_, n_after, unscored_after) = value(before, metric), value(after, metric)
        assert (n_after, unscored_after) == (n - 1, unscored + 1)
    failed = "accuracy_with" if where == "with" else "accuracy_without"
    (_, n, unscored), (_, n_after, unscored_after) = value(before, failed), value(after, failed)
    assert (n_after, unscored_after) == (n - 1, unscored + 1)


def test_what_each_layer_was_asked_and_decided_is_counted():
    tuned = Fake("finetuned", {SILENT: scored("C")})
    llm = Fake("llm", {SEVERAL: replied("A"), "Hm.": Reading(None, "no_reply", Status.API_ERROR, layer="llm")})
    llm.cost = 0.25
    responses = table(
        "B", "I cannot answer this.", SILENT, SILENT, SEVERAL, "Hm.", "Well.", None, status=["ok"] * 7 + ["empty"]
    )
    found = by_layer(extract(responses, EXAMPLES, [tuned, llm]), [tuned, llm])
    assert found.drop(columns="usd").to_dict("index") == {
        "rules": {"asked": 7, "letters": 1, "none": 1, "left": 5, "failed": 0},
        "finetuned": {"asked": 5, "letters": 2, "none": 0, "left": 3, "failed": 0},
        "llm": {"asked": 3, "letters": 1, "none": 0, "left": 2, "failed": 1},
    }
    assert found["usd"].fillna(-1).tolist() == [-1, -1, 0.25]
    assert by_layer(extract(responses, EXAMPLES), []).index.tolist() == ["rules"]


BASED = "extractor.base={name: x, model: data/embedded/models/S}"


@pytest.fixture
def opened(monkeypatch):
    """What the fine-tuned layer was opened with."""
    calls = []

    def opening(config, adapter):
        calls.append((config.base.name, adapter))
        return Fake("finetuned", {})

    monkeypatch.setattr("perg_utils.extraction.layers.FineTunedLayer", opening)
    return calls


def layers(profile, folder):
    with Journal(folder / "j.sqlite") as journal:
        return [layer.name for layer in open_layers(profile, Workspace(folder, folder), journal)]


LLM = "extractor.llm={name: far, engine: api, model: gpt-4o-mini, base_url: 'http://127.0.0.1:9/v1'}"


def test_a_profile_opens_its_layers_in_order_and_asks_nothing(tmp_path, opened):
    assert layers(load_profile("demo", ["extractor={}"]), tmp_path) == []
    assert layers(load_profile("demo", ["extractor={}", LLM]), tmp_path) == ["llm"]
    assert layers(load_profile("demo", [LLM]), tmp_path) == ["finetuned", "llm"]
    assert layers(load_profile("demo", ["extractor.adapter=null"]), tmp_path) == ["finetuned"]
    folders = (ROOT / "data" / "embedded" / "extractor", tmp_path / "extractor")
    assert opened == [("extractor", folder) for folder in folders]


def test_an_adapter_of_ones_own_is_taken_from_its_folder_or_the_hub(tmp_path, opened, monkeypatch):
    own = load_profile("demo", [f"extractor.adapter={tmp_path}"])
    assert local_adapter(own.extractor) == tmp_path
    fetched = []
    monkeypatch.setattr("huggingface_hub.snapshot_download", lambda name, **_: fetched.append(name) or "/cache/x")
    layers(own, tmp_path)
    layers(load_profile("demo", ["extractor.adapter=somebody/adapter"]), tmp_path)
    assert [adapter for _, adapter in opened] == [tmp_path, Path("/cache/x")] and fetched == ["somebody/adapter"]

    def offline(name, **_):
        raise OSError("no network")

    monkeypatch.setattr("huggingface_hub.snapshot_download", offline)
    with pytest.raises(EngineError, match=r"'somebody/adapter' can neither be found nor fetched: no"):
        layers(load_profile("demo", ["extractor.adapter=somebody/adapter"]), tmp_path)


def test_an_adapters_folder_that_is_missing_or_the_runs_own_is_found_before_the_run(tmp_path):
    for name in ("./nowhere", "/no/such/folder", "just_a_name"):
        profile = load_profile("demo", [f"extractor.adapter={name}"])
        with pytest.raises(PergError, match=rf"no folder '{name}'.*leave it out to train one"):
            check_extractor(profile.extractor, profile, Workspace.of(tmp_path, "demo"))
    hub = load_profile("demo", ["extractor.adapter=somebody/adapter"])
    check_extractor(hub.extractor, hub, Workspace.of(tmp_path, "demo"))
    own = Workspace.of(tmp_path, "demo").extractor
    own.mkdir(parents=True)
    profile = load_profile("demo", [f"extractor.adapter={own}"])
    with pytest.raises(PergError, match=r"is this run's own folder .* copy it to another place"):
        check_extractor(profile.extractor, profile, Workspace.of(tmp_path, "demo"))
    check_extractor(profile.extractor, profile, Workspace.of(tmp_path / "other", "demo"))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("extractor.base={name: x, engine: api, model: m}", r"extractor\.base is run in process.*not 'api'"),
        ("extractor={adapter: a/b}", r"extractor\.adapter needs extractor\.base"),
        ("extractor.template='{response} only'", r"extractor\.template must hold \{response\} and \{options\}"),
        ("extractor.template='{response}{response}{options}'", r"each once"),
        ("extractor.template='{response} {options} {question}'", r"no other braces \(KeyError\('question'\)\)"),
        ("extractor.template='{response} {options} {'", r"no other braces"),
        ("extractor.template='{response.x} {options}'", r"no other braces"),
        ("extractor.template='{} {response} {options}'", r"no other braces"),
        ("extractor.min_confidence=1.2", r"extractor\.min_confidence: .*less than or equal to 1; got 1\.2"),
        ("extractor.lmm={}", r"extractor\.lmm: unknown key \(did you mean 'llm'\?\)"),
        ("extractor.base.modle=x", r"extractor\.base\.modle: unknown key \(did you mean 'model'\?\)"),
        ("extractor.llm={name: x, model: m, bse_url: y}", r"extractor\.llm\.bse_url: unknown key"),
    ],
)
def test_an_extractor_that_makes_no_sense_is_refused_with_the_cure(override, said):
    with pytest.raises(ProfileError, match=said):
        load_profile("demo", [override])


def test_the_release_brings_its_own_letters():
    with pytest.raises(ProfileError, match=r"extractor: with data\.origin 'published' the letters are the release's"):
        load_profile("published", [BASED])


def test_rules_alone_are_the_default_and_the_shipped_profiles_say_what_they_add():
    assert load_profile("laptop").extractor.models() == []
    assert [m.name for m in load_profile("demo").extractor.models()] == ["extractor"]
    assert [m.name for m in load_profile("paper").extractor.models()] == ["extractor", "gpt-4o-mini"]
    assert [m.name for m in load_profile("paper_small").extractor.models()] == ["gpt-4o-mini"]


@pytest.mark.parametrize("name", ["demo", "paper", "paper_small", "laptop"])
def test_a_dumped_profile_with_an_extractor_reads_back(name):
    profile = load_profile(name)
    assert Profile.model_validate(json.loads(profile.model_dump_json())) == profile


def test_the_released_adapters_form_of_input_is_allowed():
    template = r"[INST] Classify the response.{response}\nReferences: \n{options}\nAnswer: [/INST]"
    config = load_profile("demo", [f'extractor.template="{template}"']).extractor
    assert config.template.format(response="r", options="o").endswith("r\nReferences: \no\nAnswer: [/INST]")


def test_answers_of_an_earlier_version_are_an_error_that_says_how_to_make_them_again(tmp_path):
    workspace = Workspace(tmp_path, tmp_path)
    path = workspace.write("answers", conform("answers", extract(table("B"), EXAMPLES)))
    pd.read_parquet(path).drop(columns=["layer", "evidence", "confidence"]).to_parquet(path)
    with pytest.raises(
        DataError, match=r"answers\.parquet is of another version .*'layer'.*run_all\.sh makes it again"
    ):
        workspace.read("answers")


def test_the_rows_of_a_run_keep_their_order_and_identity():
    responses = table("B", SILENT, "B")
    found = extract(responses, EXAMPLES, [Fake("llm", {}, replied("D"))])
    assert found[ROW_ID[:1] + ROW_ID[2:]].equals(conform("answers", found)[ROW_ID[:1] + ROW_ID[2:]])
    assert found["model"].tolist() == responses["model"].tolist() and found["answer"].tolist() == ["B", "D", "B"]


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no released files here")
def test_the_confidence_of_a_rule_is_its_share_of_right_letters_among_the_labelled_responses():
    truth = with_responses(load_gold(), released(SAMPLE))
    found = [extract_answer(r, o) for r, o in zip(truth["response"], truth["options"], strict=True)]
    truth["letter"], truth["confidence"] = [one.letter for one in found], [one.confidence for one in found]
    spoken = truth[truth["letter"].notna()].assign(right=lambda t: t["letter"] == t["truth"])
    shares = (spoken["weight"] * spoken["right"]).groupby(spoken["confidence"]).sum()
    shares = shares / spoken.groupby("confidence")["weight"].sum()
    assert shares.index.tolist() == [CONCLUDED_RIGHT, STATED_RIGHT]
    assert shares.loc[STATED_RIGHT] == pytest.approx(STATED_RIGHT, abs=0.0015)
    assert shares.loc[CONCLUDED_RIGHT] == pytest.approx(CONCLUDED_RIGHT, abs=0.01)
