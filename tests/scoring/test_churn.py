"""Churn: breakage beside what breaks from one preference to another, by hand and on the genuine sample."""

import time
import warnings
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from perg_utils.core.errors import DataError
from perg_utils.core.profile import StatisticsConfig
from perg_utils.core.workspace import Workspace
from perg_utils.published.importing import import_published
from perg_utils.scoring.churn import COLUMNS, QUANTITIES, churn

SAMPLE = Path(__file__).parents[3] / "shared" / "real" / "published_sample"

# Four questions under three preferences: 1 right, 0 wrong, "-" not scored; `*` marks the sampled preference.
#        source, right without, answers with a, b and c
TOY = {
    "q1": ("TQA", 1, "1 1 0*"),
    "q2": ("TQA", 1, "0* 0 1"),
    "q3": ("TQA", 0, "1* 0 0"),
    "q4": ("TQA", 1, "1 1* 1"),
}


def table(questions: dict[str, tuple[str, int | None, str]], preferences: str = "abc", **arm: str) -> pd.DataFrame:
    """Scores of one arm; a dot stands for a preference that the question was not asked with."""
    rows = [
        {"example_id": question, "source": source, "preference_id": preference, "correct_without": without}
        | {"correct_with": None if cell[0] == "-" else cell[0] == "1", "sampled": cell.endswith("*")}
        for question, (source, without, cells) in questions.items()
        for preference, cell in zip(preferences, cells.split(), strict=True)
        if cell != "."
    ]
    typed = {"correct_without": "boolean", "correct_with": "boolean", "sampled": "boolean"}
    arm = {"model": "S", "method": "zero_shot", "setting": "relevant"} | arm
    return pd.DataFrame(rows).astype(typed).assign(**arm)


def line(scores: pd.DataFrame, source: str = "ALL") -> pd.Series:
    (found,) = (row for _, row in churn(scores).iterrows() if row["source"] == source)
    return found


def test_the_toy_table_gives_what_is_worked_out_by_hand():
    found = line(table(TOY), "TQA")
    # Q* is q1, q2, q4: a breaks q2, b breaks q2, c breaks q1.
    assert found["breakage"] == pytest.approx(100 / 3)
    # Right with a: q1, q3, q4, of which q3 is wrong without; with b: q1, q4; with c: q2, q4.
    assert found["reverse_breakage"] == pytest.approx(100 * (1 / 3 + 0 + 0) / 3)
    # a>b 1 of 3 (q3), a>c 2 of 3 (q1, q3), b>a 0 of 2, b>c 1 of 2 (q1), c>a 1 of 2 (q2), c>b 1 of 2 (q2).
    between = 100 * (1 / 3 + 2 / 3 + 0 + 1 / 2 + 1 / 2 + 1 / 2) / 6
    assert found["preference_to_preference"] == pytest.approx(between)
    assert found["excess"] == pytest.approx(100 / 3 - between)
    # q3 is mended once (with a), three answers break; right without 3 of 4, with a 3, with b 2, with c 2.
    assert found["fixed_per_broken"] == pytest.approx(1 / 3)
    assert found["net"] == pytest.approx(100 * (7 / 12 - 3 / 4))
    # Of Q* only q2 is right under fewer than half; two of the three breaks are its.
    assert found["unstable_share_of_questions"] == pytest.approx(100 / 3)
    assert found["unstable_share_of_breaks"] == pytest.approx(200 / 3)
    # Sampled: q1 and q2 of Q* break, q3 is mended, q4 stays right.
    assert found["sampled_breakage"] == pytest.approx(200 / 3)
    assert found["sampled_fixed_per_broken"] == pytest.approx(1 / 2)
    assert found["sampled_net"] == pytest.approx(-25)
    assert found["sampled_unstable_share_of_breaks"] == pytest.approx(50)
    assert (found["preferences"], found["n"], found["n_unscored"]) == (3, 4, 0)


def test_all_pools_questions_however_many_preferences_a_source_has():
    # One more source, one question, two preferences: right with d, wrong with e.
    both = pd.concat([table(TOY), table({"q5": ("CQA", 1, "1 0*")}, "de")])
    found = line(both)
    assert found["breakage"] == pytest.approx(100 * (3 * 1 / 3 + 1 * 1 / 2) / 4)
    assert found["net"] == pytest.approx(100 * (4 * (7 / 12 - 3 / 4) + 1 * (1 / 2 - 1)) / 5)
    # A source weighs as many as are right with one of its preferences, on average: 7/3 of TQA, 1/2 of CQA.
    assert found["reverse_breakage"] == pytest.approx(100 * (7 / 3 * 1 / 9 + 0) / (7 / 3 + 1 / 2))
    # A preference breaks one of TQA and half of CQA on average, and mends a third.
    assert found["fixed_per_broken"] == pytest.approx((1 / 3) / (1 + 1 / 2))
    assert (found["preferences"], found["n"]) == (5, 5)
    pd.testing.assert_series_equal(line(both, "TQA"), line(table(TOY), "TQA"), check_names=False)


def test_questions_asked_with_one_preference_do_not_count_and_a_run_of_these_has_no_row():
    once = {"q8": ("TQA", 1, "0* . ."), "q9": ("MMLU", 1, ". 0* .")}
    pd.testing.assert_frame_equal(churn(table(TOY | once)), churn(table(TOY)))
    empty = churn(table(once))
    assert empty.empty and list(empty) == COLUMNS
    assert churn(table(TOY, setting="none")).empty


def test_rows_that_are_not_scored_are_left_out_and_counted():
    # With b unknown in q2: a breaks 1 of 3, b 0 of 2, c 1 of 3; q2 is right under one of two: no longer unstable.
    lost = TOY | {"q2": ("TQA", 1, "0* - 1"), "q6": ("TQA", None, "1 1* 1")}
    found = line(table(lost), "TQA")
    assert found["breakage"] == pytest.approx(100 * (1 / 3 + 0 + 1 / 3) / 3)
    assert found["unstable_share_of_breaks"] == 0
    # q6 has no baseline: all its three rows are left out.
    assert (found["n"], found["n_unscored"]) == (4, 4)


def test_what_has_no_denominator_is_nan_and_warns_of_nothing():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fine = line(table({"q1": ("TQA", 1, "1 1 1*"), "q2": ("TQA", 1, "1 1 1*")}))
        alone = line(table({"q1": ("TQA", 1, "0* -"), "q2": ("TQA", 1, "1* -")}, "ab"))
    assert fine["breakage"] == fine["breakage_high"] == fine["preference_to_preference"] == fine["net"] == 0
    assert fine[["fixed_per_broken", "fixed_per_broken_low", "unstable_share_of_breaks"]].isna().all()
    assert alone["breakage"] == 50 and np.isnan(alone["preference_to_preference"]) and np.isnan(alone["excess"])


def test_arms_stand_in_the_studys_order_and_every_quantity_lies_in_its_interval():
    arms = [{"method": "cot"}, {"setting": "mixed"}, {"model": "A"}, {}]
    found = churn(pd.concat([table(TOY, **arm) for arm in arms]))
    named = list(dict.fromkeys(found[["model", "method", "setting"]].itertuples(index=False, name=None)))
    assert named == [
        ("S", "zero_shot", "relevant"),
        ("S", "zero_shot", "mixed"),
        ("S", "cot", "relevant"),
        ("A", "zero_shot", "relevant"),
    ]
    for name in QUANTITIES:
        assert (found[f"{name}_low"] <= found[name]).all() and (found[name] <= found[f"{name}_high"]).all(), name


def made_up(questions: int, preferences: int, seed: int = 0) -> pd.DataFrame:
    """Questions of different difficulty, each answered anew without and with every preference; random sampled ones."""
    rng = np.random.default_rng(seed)
    easy = rng.beta(2, 1, questions)[:, None]
    right = rng.random((questions, preferences + 1)) < easy
    at, preference = np.divmod(np.arange(questions * preferences), preferences)
    return pd.DataFrame(
        {
            "example_id": [f"q{i}" for i in at],
            "preference_id": [f"p{p}" for p in preference],
            "source": "MMLU",
            "correct_without": right[at, -1],
            "correct_with": right[at, preference],
            "sampled": preference == rng.integers(preferences, size=questions)[at],
        }
    ).assign(model="S", method="zero_shot", setting="relevant")


def test_bounds_are_those_of_drawing_whole_questions_again_one_by_one():
    scores, rng = made_up(60, 3), np.random.default_rng(5)
    by_question = [own for _, own in scores.groupby("example_id")]
    drawn = []
    point = StatisticsConfig(resamples=100)
    for _ in range(300):
        again = [by_question[q].assign(example_id=f"d{i}") for i, q in enumerate(rng.integers(60, size=60))]
        drawn.append(churn(pd.concat(again), point).iloc[0][list(QUANTITIES)])
    slow = pd.DataFrame(drawn).astype(float).quantile([0.025, 0.975])
    fast = churn(scores).iloc[0]
    for name in QUANTITIES:
        width = slow[name].iloc[1] - slow[name].iloc[0]
        for bound, end in zip(slow[name], ("low", "high"), strict=True):
            assert fast[f"{name}_{end}"] == pytest.approx(bound, abs=0.2 * width), name


def test_mmlus_questions_with_eleven_preferences_take_less_than_five_seconds():
    scores = made_up(5170, 11)
    before = time.process_time()
    found = churn(scores).iloc[0]
    assert time.process_time() - before < 5
    # Answers without and with preference are drawn alike: adding one breaks what changing one does.
    assert found["excess_low"] < 0 < found["excess_high"] and found["n"] == 5170


def test_the_same_seed_gives_the_same_bounds_whatever_the_order_of_rows_and_another_others():
    scores = made_up(80, 3)
    pd.testing.assert_frame_equal(churn(scores), churn(scores.sample(frac=1, random_state=1)))
    assert churn(scores, seed=1)["breakage_low"].tolist() != churn(scores)["breakage_low"].tolist()


def test_a_table_without_a_column_is_named():
    with pytest.raises(DataError, match="preference_id"):
        churn(table(TOY).drop(columns="preference_id"))


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the sample of released files is not here")
def test_the_genuine_sample_gives_the_known_answers(tmp_path):
    workspace = Workspace.of(tmp_path, "published")
    import_published(SAMPLE, workspace)
    scores = workspace.read("scores")
    found = churn(scores)
    # Of all released arms in the sample one was asked with every preference.
    assert set(found[["model", "method", "setting"]].itertuples(index=False, name=None)) == {
        ("Mixtral-8x7B", "zero_shot", "relevant")
    }
    found = found.set_index("source")
    assert found[["preferences", "n"]].T.to_dict("list") == {
        "TQA": [14, 817],
        "CQA": [12, 1098],
        "MMLU": [11, 5170],
        "ALL": [37, 7085],
    }
    # breakage, preference to preference; sampled: fixed per broken, net
    known = {
        "MMLU": (17.4, 18.2, 0.71, -3.1),
        "CQA": (12.7, 12.6, 0.61, -3.6),
        "TQA": (19.8, 15.6, 0.33, -9.1),
    }
    columns = ["breakage", "preference_to_preference", "sampled_fixed_per_broken", "sampled_net"]
    for source, (*percents, fixed, net) in known.items():
        values = found.loc[source, columns].tolist()
        assert values[:2] == pytest.approx(percents, abs=0.05), source
        assert values[2] == pytest.approx(fixed, abs=0.005) and values[3] == pytest.approx(net, abs=0.05), source
    mmlu = found.loc["MMLU"]
    assert mmlu["unstable_share_of_questions"] == pytest.approx(13, abs=0.5)
    assert mmlu["sampled_unstable_share_of_breaks"] == pytest.approx(51, abs=0.5)
    # On MMLU changing a preference breaks no less than adding one; on TruthfulQA adding one breaks more.
    assert mmlu["excess_high"] < 0 < found.loc["TQA", "excess_low"]
