import in_process
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ModelConfig
from perg_utils.core.run import open_run
from perg_utils.dataset.preferences import load_bank
from perg_utils.run import pipeline
from perg_utils.scoring.intervals import mcnemar_exact
from perg_utils.studies import cost, gate, seconds
from perg_utils.studies.contrasts import Paired, of_sums

CONFIG = load_profile("study_cost").statistics


def stream(**options: tuple[list[int], float]) -> pd.DataFrame:
    """`cost.per_question` of one model: for each option how often robust (0 to 2) in each question, and its cost."""
    columns = pd.MultiIndex.from_tuples([("S", name) for name in options], names=["model", "option"])
    robust = pd.DataFrame(np.array([one for one, _ in options.values()]).T, columns=columns)
    dear = pd.DataFrame(np.array([[c] * len(one) for one, c in options.values()]).T, columns=columns)
    return pd.concat({"robust": robust, "cost": dear}, axis=1)


def test_a_robust_answer_more_costs_the_extra_cost_over_the_gain():
    questions = stream(zero_shot=([0] * 60 + [2] * 40, 1.0), pref_aligner=([2] * 90 + [0] * 10, 3.0))
    pairs = [(("S", "zero_shot"), ("S", "pref_aligner"))]
    [row] = cost.worth(questions, pairs, CONFIG, 1).to_dict("records")
    assert row["gain"] == pytest.approx(50) and row["extra"] == pytest.approx(200)
    assert row["value"] == pytest.approx(4) and row["low"] < 4 < row["high"]
    assert row["verdict"] == "worth it above this price"


@pytest.mark.parametrize(
    "robust, dear, verdict",
    [
        ([0, 2] * 50, 3.0, "gain unclear"),
        ([2] * 100, 0.5, "better and cheaper"),
        ([0] * 100, 3.0, "worse and dearer"),
        ([0] * 100, 0.5, "cheaper, and worth it below this price"),
    ],
)
def test_where_the_gain_crosses_zero_or_nothing_is_to_weigh_there_is_no_price(robust, dear, verdict):
    questions = stream(zero_shot=([2, 0] * 50, 1.0), pref_aligner=(robust, dear))
    [row] = cost.worth(questions, [(("S", "zero_shot"), ("S", "pref_aligner"))], CONFIG, 1).to_dict("records")
    assert row["verdict"] == verdict
    assert pd.isna(row["value"]) == (verdict != "cheaper, and worth it below this price")


def test_the_best_option_changes_at_the_price_of_a_robust_answer():
    questions = stream(zero_shot=([0] * 60 + [2] * 40, 1.0), pref_aligner=([2] * 90 + [0] * 10, 3.0))
    found = cost.acceptability(questions, [1.0, 4.0, 20.0], CONFIG, 1).set_index(["price", "option"])["value"]
    assert found[1.0, "zero_shot"] == 100 and found[20.0, "pref_aligner"] == 100 and 20 < found[4.0, "zero_shot"] < 80


def test_the_front_holds_what_no_other_option_beats():
    questions = stream(a=([0, 1, 2], 1.0), b=([2, 2, 2], 2.0), c=([1, 1, 2], 3.0), d=([2, 2, 2], 4.0))
    front = cost.frontier(questions, CONFIG, 1)
    assert front.loc[front["front"], "option"].tolist() == ["a", "b"]


def test_only_questions_scored_in_every_option_and_both_settings_count():
    rows = [
        {"model": "S", "option": option, "example_id": q, "setting": setting, "robust": True, "cost": 4.0}
        for option in ("zero_shot", "vote")
        for q in ("q1", "q2")
        for setting in ("relevant", "irrelevant")
    ]
    rows[0]["robust"] = None
    found = cost.per_question(pd.DataFrame(rows))
    assert found.index.tolist() == ["q2"] and found["robust"].iloc[0].tolist() == [2, 2]
    assert found["cost"].iloc[0].tolist() == [4.0, 4.0], "the mean of both settings"


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), min_size=2, max_size=40))
def test_a_contrast_of_questions_asked_once_is_mcnemars(pairs):
    sums = pd.DataFrame(pairs, columns=["a", "b"])
    found = of_sums([Paired("?", "S", "a", "b", sums["a"], sums["b"])], CONFIG).iloc[0]
    lost, won = ((sums["a"] > sums["b"]).sum(), (sums["a"] < sums["b"]).sum())
    assert found["p"] == pytest.approx(float(mcnemar_exact(lost, won)))
    assert found["difference"] == pytest.approx(100 * (won - lost) / len(sums))
    assert found["low"] <= found["difference"] <= found["high"]
    assert found["joint_low"] <= found["low"] and found["high"] <= found["joint_high"]


def test_the_gate_never_sees_the_preference_that_it_judges():
    bank = load_bank()
    judged = gate.relevant(bank, None)
    assert (judged["nearest"] != judged["preference_id"]).all()
    right = (judged["gate"] == judged["relevant"]).mean()
    assert right > max(bank["relevant"].mean(), 1 - bank["relevant"].mean()), "better than calling all the same"
    alone = pd.DataFrame({"preference_id": ["a", "b"], "text": ["be brief", "be brief"], "relevant": [True, False]})
    assert gate.relevant(alone, None)["gate"].tolist() == [False, True]


def test_a_vote_takes_the_first_reply_of_the_majority_and_a_letter_before_none():
    def chosen(*letters):
        return cost._majority(pd.DataFrame({"letter": list(letters)}))

    assert chosen("A", "B", "B") == 1 and chosen("A", "B", "C") == 0
    assert chosen(None, None, "C") == 2 and chosen(None, None, None) == 0


def test_parameters_are_counted_in_the_weights_or_read_from_the_name():
    small = cost.parameters(ModelConfig(name="S", model="data/embedded/models/S"))
    assert small is not None and 2e-4 < small < 3e-4
    assert cost.parameters(ModelConfig(name="x", model="Qwen/Qwen2.5-1.5B-Instruct")) == 1.5
    assert cost.parameters(ModelConfig(name="x", engine="api", model="gpt-4o-mini")) is None


def test_an_arm_takes_as_long_as_its_calls_together_and_one_without_all_of_them_is_left_out():
    rows = [
        ("plain", "q1", 1.0, 2.0),
        ("edit", "q1", 2.0, 3.0),
        ("zero_shot", "q1", 1.0, 3.0),
        ("plain", "q2", 9.0, 9.0),
    ]
    calls = pd.DataFrame(rows, columns=["stage", "example_id", "reading", "writing"]).assign(model="S", repeat=0)
    found = seconds.latencies(calls, CONFIG, 1).set_index("arm")
    assert (
        found["value"].to_dict() == {"zero_shot": 4.0, "pref_aligner": 8.0} and found.loc["pref_aligner", "times"] == 2
    )
    assert seconds.latencies(calls[calls["stage"] != "edit"], CONFIG, 1)["arm"].tolist() == ["zero_shot"]


def test_a_call_with_fewer_answers_counts_by_the_answer():
    rows = [("zero_shot", 4.0, 4), ("plain", 4.0, 4), ("edit", 6.0, 3)]  # one question has no edit
    calls = pd.DataFrame(rows, columns=["stage", "seconds", "n"]).assign(model="S", repeat=0)
    found = seconds.throughputs(calls).set_index("arm")
    assert found["n"].to_dict() == {"zero_shot": 4, "pref_aligner": 3}
    assert found.loc["pref_aligner", "times"] == pytest.approx(3)


def test_the_study_runs_in_miniature(tmp_path):
    overrides = ("data.limit=3", "models=[{name: S, model: data/embedded/models/S, dtype: float32}]")
    with in_process.notebooks(kernels_for="study"):
        pipeline.run(pipeline.Command("study_cost", out=tmp_path, overrides=overrides))
    run = open_run("study_cost", overrides, tmp_path)
    drawn = {path.stem for path in run.workspace.figures.glob("*.png")}
    assert drawn == {"frontier", "acceptability", "contrasts"}, "seconds of one machine are not kept"
    table = cost.options(run, "S")
    assert set(table["option"]) == {"zero_shot", "pref_aligner", "gated", "vote"} and len(table) == 4 * 2 * 9
    many = seconds.throughput(run, "S", questions=4, repeats=2)
    assert sorted(zip(many["stage"], many["n"], strict=True)) == sorted(
        2 * [("plain", 4), ("edit", 4), ("zero_shot", 4)]
    )
    assert (many["seconds"] > 0).all() and seconds.throughputs(many)["arm"].tolist() == ["zero_shot", "pref_aligner"]
    tokens = table.groupby("option")[["read", "written"]].sum()
    assert (tokens.loc["vote"] >= tokens.loc["zero_shot"]).all() and tokens.loc["vote", "read"] > 2.9 * tokens.loc[
        "zero_shot", "read"
    ]
    assert (tokens.loc["gated"] <= tokens.loc["pref_aligner"]).all()
