import in_process
import numpy as np
import pandas as pd
import pytest
import yaml
from parrot import Says

from perg_utils.core.errors import DataError
from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ModelConfig
from perg_utils.core.run import open_run
from perg_utils.core.schema import Category, Setting
from perg_utils.dataset.preferences import load_bank
from perg_utils.engines.base import EngineError
from perg_utils.prompts.sets import PromptError, load_prompts
from perg_utils.run import pipeline
from perg_utils.studies import arms, delivery, letters, named_none
from perg_utils.studies.letters import likelihoods

CONFIG = load_profile("study_delivery").statistics


def test_a_reply_in_json_is_a_letter_and_an_answer_or_nothing():
    assert delivery.unpack('{"letter": "(B).", "answer": "Iron."}') == ("B", "Iron.")
    assert delivery.unpack('So: {"letter": "both", "answer": "Iron or salt."}') == (None, "Iron or salt.")
    for text in ('{"letter": "B"}', "B, iron", '{"letter": "B", "answer": ', '["B"]', '{"answer": 3}'):
        assert delivery.unpack(text) == (None, None), text


def test_preferences_of_a_kind_are_drawn_from_the_questions_source():
    bank = load_bank()
    examples = pd.DataFrame({"example_id": [f"q{i}" for i in range(40)], "source": ["TQA", "MMLU"] * 20})
    categories = dict(zip(bank["preference_id"], bank["category"], strict=True))
    sources = dict(zip(bank["preference_id"], bank["sources"], strict=True))
    for kind in (delivery.ROOM, delivery.CONFLICT):
        found = delivery.assigned(examples, bank, kind, 42)
        assert found == delivery.assigned(examples, bank, kind, 42) and len(set(found.values())) > 2
        for example, preference in found.items():
            assert categories[preference] in kind
            assert dict(zip(examples["example_id"], examples["source"], strict=True))[example] in sources[preference]
    assert not set(delivery.ROOM) & set(delivery.CONFLICT) and set(delivery.ROOM) <= set(Category)


def experiment(named: dict[tuple[str, str], list[bool]]) -> pd.DataFrame:
    """The experiment's answers of one model: by preference and place, whether each question names an option."""
    rows = [
        {"model": "S", "example_id": f"q{i}", "preference": preference, "place": place, "named": one, "right": one}
        for (preference, place), some in named.items()
        for i, one in enumerate(some)
    ]
    return pd.DataFrame(rows).astype({"named": "boolean"})


def test_the_experiment_finds_what_was_put_into_it():
    always, never = [True] * 20, [False] * 20
    cells = {(kind, place): always for kind in delivery.PREFERENCES for place in delivery.PLACES}
    found = delivery.factorial(experiment(cells | {("conflict", "last"): never}), CONFIG).set_index("question")
    assert found["difference"].to_dict() == {
        "a preference shown": -25,
        "a style in conflict": -50,
        "the letter asked for first": pytest.approx(100 / 3),
        "first, where in conflict": 100,
    }
    assert (found["p_holm"] < 0.001).all() and found["family"].eq(4).all()
    same = delivery.factorial(experiment(cells), CONFIG)
    assert (same["difference"] == 0).all() and (same["p"] == 1).all()
    rates = delivery.rates(experiment(cells | {("conflict", "last"): never}))
    assert rates.set_index(["preference", "letter"])["value"]["conflict", "last"] == 100


def test_a_question_without_a_reply_in_one_cell_is_left_out_of_the_contrasts():
    cells = {(kind, place): [True, False] for kind in delivery.PREFERENCES for place in delivery.PLACES}
    table = experiment(cells)
    table.loc[0, "named"] = pd.NA
    assert delivery.factorial(table, CONFIG)["n"].tolist() == [1, 1, 1, 1]


def outcomes(cure: str, named: list, followed: list, tokens: int) -> pd.DataFrame:
    frame = pd.DataFrame({"model": "S", "cure": cure, "example_id": [f"q{i}" for i in range(len(named))]})
    frame["named"], frame["followed"] = pd.array(named, dtype="boolean"), pd.array(followed, dtype="boolean")
    frame["right"] = frame["named"]
    return frame.assign(robust=frame["named"] & frame["followed"], read=tokens, written=0)


def test_recovery_looks_at_the_lost_ones_and_its_cost_at_all():
    base = outcomes("zero_shot", [False] * 10 + [True] * 10, [True] * 20, 100)
    half = outcomes("reminder", [True] * 5 + [False] * 5 + [True] * 10, [False] * 10 + [True] * 10, 150)
    [row] = delivery.recovery(pd.concat([base, half]), CONFIG).to_dict("records")
    assert row["value"] == 50 and row["n"] == 10 and row["none"] == 25 and row["tokens"] == 1.5
    assert row["followed"] == -50 and not row["not_worse"]
    found = delivery.contrasts(pd.concat([base, half]), load_profile("study_delivery"))
    assert found["difference"].tolist() == [0.0] and found["n"].tolist() == [20]


def test_the_crossed_model_finds_the_length_that_was_put_into_it():
    rng = np.random.default_rng(1)
    n = 4000
    rows = pd.DataFrame({"example_id": rng.integers(0, 200, n).astype(str), "preference_id": rng.integers(0, 10, n)})
    rows["source"], rows["category"] = rng.choice(["TQA", "CQA"], n), rng.choice(["Clarity", "Creative"], n)
    rows["words"] = rng.integers(10, 400, n)
    at = -3 + 1.0 * (np.log2(rows["words"]) - np.log2(rows["words"]).mean()) + 1.5 * (rows["category"] == "Creative")
    at = at + 1.5 * (rows["preference_id"] == 3)
    rows["named_none"] = rng.random(n) < 1 / (1 + np.exp(-at))
    odds, spread, singly = named_none.crossed(rows.astype({"preference_id": str}))
    value = odds.set_index("term")["value"]
    assert 2.2 < value["length doubled"] < 3.4 and 3 < value["Creative against Clarity"] < 6.5
    assert 0.7 < value["CQA against TQA"] < 1.4 and spread["preferences"] < 1
    singly = singly.set_index("preference_id")
    assert singly["value"].idxmax() == "3" and singly.loc["3", "low"] > 1.5 and singly["n"].sum() == n
    assert (singly.drop("3")["low"] < 1.3).all(), "nobody else was put in"
    assert (odds["low"] < odds["value"]).all() and (odds["value"] < odds["high"]).all()


def test_likelihoods_are_those_of_one_at_a_time_are_kept_and_servers_have_none(tmp_path, monkeypatch):
    small = ModelConfig(name="S", model="data/embedded/models/S", dtype="float32")
    prompts = load_prompts("embedded")
    asked = []
    questions = (
        "What is the dish of Sutia?",
        "Where would you find a negip? Known: a fact.",
        "What is the dish of Bam?",
    )
    for question, n in zip(questions, (3, 2, 3), strict=True):
        chat = prompts.messages("no_preference", source="MMLU", question=question, options=("honey", "pie", "cheese"))
        asked.append((chat, "The answer is pie" + prompts.added("probe"), n))
    together = likelihoods(tmp_path / "journal.sqlite", small, asked)
    assert [len(row) for row in together] == [3, 2, 3] and all(sum(row) == pytest.approx(1) for row in together)
    for n, (one, row) in enumerate(zip(asked, together, strict=True)):
        assert likelihoods(tmp_path / f"{n}.sqlite", small, [one])[0] == pytest.approx(row, abs=1e-4)
    with pytest.raises(EngineError, match="server"):
        likelihoods(tmp_path / "journal.sqlite", ModelConfig(name="far", engine="api", model="m"), asked)
    monkeypatch.setattr(letters, "Checkpoint", None)  # no weights are needed for what the journal holds
    assert likelihoods(tmp_path / "journal.sqlite", small, asked) == together


def test_only_a_server_is_held_to_a_schema(monkeypatch, tmp_path):
    server = Says(lambda request: '{"letter": "A", "answer": "Iron."}')
    monkeypatch.setattr("perg_utils.studies.arms.open_engine", lambda model: server)
    run = open_run("study_delivery", (), tmp_path)
    chat = (("user", "What is it?"),)
    row = arms.Row("q1", None, Setting.NONE, [], None)
    for engine in ("{name: far, engine: api, model: m, structured: true}", "{name: S, model: data/embedded/models/S}"):
        model = ModelConfig.model_validate(yaml.safe_load(engine))
        [text] = arms.ask(run, model, "JSON", [(row, chat)], schema='{"type": "object"}')["response"]
        assert delivery.unpack(text) == ("A", "Iron.")
    assert [one.schema for one in server.asked] == ['{"type": "object"}', None]


def test_a_set_without_the_texts_of_studies_says_so():
    with pytest.raises(PromptError, match=r"no studies\.nothing"):
        load_prompts("standard").added("nothing")
    for name in ("standard", "embedded", "paper_like"):
        for added in ("letter_first", "letter_last", "reminder", "letter_then_style", "as_json", "follow_up", "probe"):
            assert load_prompts(name).added(added)


def test_the_study_runs_in_miniature(tmp_path):
    overrides = ("data.limit=2", "models=[{name: S, model: data/embedded/models/S, dtype: float32}]")
    with in_process.notebooks(kernels_for="study"):
        pipeline.run(pipeline.Command("study_delivery", out=tmp_path, overrides=overrides))
    run = open_run("study_delivery", overrides, tmp_path)
    assert {p.stem for p in run.workspace.figures.glob("*.png")} == {"delivery_cells", "contrasts"}, (
        "no letter was lost"
    )
    cured = delivery.cured(run, "S")
    assert set(cured["cure"]) == set(delivery.CURES) and len(cured) == 6 * len(delivery.CURES)
    plain = cured[cured["cure"] == "zero_shot"].set_index("example_id")
    scores = run.read("scores").query("method == 'zero_shot' and setting == 'relevant'").set_index("example_id")
    assert (plain["robust"] == scores["robust"].reindex(plain.index)).all(), "the study scores as the run does"
    behind = delivery.still_there(run, "S")
    assert len(behind) == 6 and behind["named"].all() and behind["letter"].isin(list("ABCDEFGH")).all()
    assert set(delivery.knowledge(behind)["what"]) == {"still right", "plain right", "same"}
    rows = named_none.released(run, "S")  # any run has the tables of a release
    assert len(rows) == 6 and not rows["named_none"].any() and (rows["words"] > 0).all()
    with pytest.raises(DataError, match="no released zero_shot response of X"):
        named_none.released(run, "X")
