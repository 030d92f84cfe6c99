import json

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from judged import STANDARD, STYLED, Scripted, case

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import StatisticsConfig
from perg_utils.core.schema import Category, Status
from perg_utils.engines.base import Decoding, Reply
from perg_utils.engines.journal import Journal
from perg_utils.judging import probes
from perg_utils.judging.human import HumanJudge
from perg_utils.judging.judges import HeuristicJudge, LLMJudge
from perg_utils.judging.rubric import Rating
from perg_utils.prompts.sets import load_prompts

FAST = StatisticsConfig(resamples=200)


def test_the_length_probe_finds_a_judge_that_likes_length_and_clears_one_that_does_not():
    class ByLength:
        name = "long is good"

        def rate(self, cases):
            return [Rating(2 if len(c.response_with) < 100 else 4, None) for c in cases]

    cases = [case(c, "Short.") for c in (Category.CREATIVE, Category.CLARITY) for _ in range(10)]
    biased = probes.length_probe(ByLength(), cases).set_index("group")
    assert biased["change"].tolist() == [2, 2] and biased["up"].tolist() == [100, 100]
    assert biased.loc["other categories", "up_low"] == pytest.approx(69.15, abs=0.01)
    fair = probes.length_probe(HeuristicJudge(), [case(c, STYLED[c]) for c in Category]).set_index("group")
    assert fair.loc["other categories", "change"] == 0 and fair.loc["Clarity", "change"] == -2


def test_the_rubric_probes_find_a_judge_that_favours_a_position(tmp_path):
    class LastIsBest(Scripted):
        def generate(self, requests):
            for index, request in enumerate(requests):
                text = request.messages[-1][1]
                yield index, Reply(json.dumps({"rating": 5 if text.index("RATED") > text.index("PLAIN") else 2}))

    cases = [case(Category.CREATIVE, f"RATED {i}", "PLAIN") for i in range(8)]
    with Journal(tmp_path / "j.sqlite") as journal:
        rater = LLMJudge("J", LastIsBest(), journal, load_prompts("standard"), Decoding(50))
        found = probes.rubric_probes(rater, cases).set_index("probe")
    assert found["change"].to_dict() == {"paraphrased": 0, "swapped": -3}
    assert found.loc["swapped", "down"] == 100 and found.loc["paraphrased", "down"] == 0
    assert probes.rubric_probes(HeuristicJudge(), cases).empty


def test_a_rubric_is_probed_with_the_other_rubrics_that_its_prompt_set_has(tmp_path):
    with Journal(tmp_path / "j.sqlite") as journal:
        lean = LLMJudge("J", Scripted(), journal, load_prompts("embedded"), Decoding(50))
        assert probes.rubric_probes(lean, [case(Category.CLARITY, "x")]).empty, "a set may leave the variants out"
        swapped = LLMJudge("J", Scripted(), journal, STANDARD, Decoding(50), rubric="judge_swapped")
        assert probes.rubric_probes(swapped, [case(Category.CLARITY, "x")])["probe"].tolist() == ["paraphrased"]


def test_what_cannot_be_probed_is_said_with_the_reason():
    demo = probes.coverage(load_profile("demo")).set_index("bias")
    assert demo.loc["length", "judges"] == "heuristic (embedded styles), heuristic (cues)"
    assert demo.drop("length")["judges"].eq("none").all() and demo.drop("length")["why_not"].str.len().gt(20).all()
    model = "model: {name: J, model: data/embedded/models/S}"
    full = probes.coverage(load_profile("demo", [f"judges=[{{kind: llm, prompts: standard, {model}}}]"]))
    assert full.set_index("bias")["judges"].drop("length").eq("J").all() and full["why_not"].eq("").all()
    lean = probes.coverage(load_profile("demo", [f"judges=[{{kind: llm, {model}}}]"])).set_index("bias")
    assert lean.loc["paraphrased rubric", "why_not"] == "the prompt set has no such rubric"


def ratings_of(*values):
    return [Rating(value, None) for value in values]


def test_where_no_rating_changes_or_all_do_the_intervals_have_the_width_computed_by_hand():
    found = probes.compare(ratings_of(*[3] * 98), ratings_of(*[3] * 98))
    # 98 zeros, half a 2, half a -2 and a 0: a sum of 4 or more comes in 5.9 % of the draws, of 6 or more in 0.9 %.
    assert [found[f"change{end}"] for end in ("", "_low", "_high")] == pytest.approx([0, -0.04, 0.04])
    # None of 98: at most 1 - 0.025 ** (1 / 98).
    assert [found[f"up{end}"] for end in ("", "_low", "_high")] == pytest.approx([0, 0, 3.694], abs=1e-3)
    found = probes.compare(ratings_of(*[2] * 98), ratings_of(*[4] * 98))
    assert [found[f"up{end}"] for end in ("", "_low", "_high")] == pytest.approx([100, 96.306, 100], abs=1e-3)
    assert [found[f"down{end}"] for end in ("", "_low", "_high")] == pytest.approx([0, 0, 3.694], abs=1e-3)
    assert found["change_low"] < found["change"] == 2 < found["change_high"]
    top = probes.compare(ratings_of(*[5] * 98), ratings_of(*[5] * 98))
    assert top["change_low"] < 0 == top["change_high"], "no rating can rise above 5"


@pytest.mark.parametrize("shift", [3, 1, -1])
def test_the_interval_of_a_rare_change_holds_the_truth_where_a_plain_bootstrap_does_not(shift):
    rng, held, plain = np.random.default_rng(5), 0, 0
    for _ in range(200):
        change = np.where(rng.random(40) < 0.02, shift, 0)
        low, high = probes.mean_interval(change, (-1, 3), FAST)
        held += low <= 0.02 * shift <= high
        drawn = change[rng.integers(0, 40, (200, 40))].mean(1)
        plain += np.quantile(drawn, 0.025) <= 0.02 * shift <= np.quantile(drawn, 0.975)
    assert held >= 186 and plain < 140


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 5)), min_size=1, max_size=30))
def test_bounds_hold_the_value_and_have_a_width_and_shares_stay_shares(pairs):
    before, after = zip(*pairs, strict=True)
    found = probes.compare(ratings_of(*before), ratings_of(*after), config=FAST)
    assert found["change_low"] <= found["change"] + 1e-9 and found["change"] <= found["change_high"] + 1e-9
    assert found["change_low"] < found["change_high"]
    assert found["change_low"] >= -4 and found["change_high"] <= 4
    for name in ("up", "down"):
        assert 0 <= found[f"{name}_low"] <= found[name] <= found[f"{name}_high"] <= 100


def test_people_are_not_probed_as_they_cannot_be_asked_again(tmp_path):
    assert probes.length_probe(HumanJudge("people", tmp_path / "absent.csv"), [case(Category.CLARITY, "x")]).empty


def test_unrated_cases_are_counted_and_left_out_of_a_probe():
    before = [Rating(3, None), Rating(None, None, Status.UNPARSABLE), Rating(2, None)]
    after = [Rating(5, None), Rating(5, None), Rating(None, None, Status.UNPARSABLE)]
    found = probes.compare(before, after)
    assert (found["n"], found["n_unscored"], found["change"], found["mean"]) == (1, 2, 2, 3)
    assert probes.compare([], [])["n"] == 0


def test_self_preference_is_a_judges_lead_on_its_own_model_over_that_on_the_others():
    rows = [(f"q{i}", model, rating, 3.0) for i in range(20) for model, rating in (("S", 3.5), ("L", 5.0))]
    ratings = pd.DataFrame(rows, columns=["example_id", "model", "J", "K"])
    [found] = probes.self_preference(ratings, ["J", "K"], {"J": ["L"]}).to_dict("records")
    assert (found["own_lead"], found["other_lead"], found["change"]) == (2, 0.5, 1.5)
    # Of 22 values, 20 and the added mean are 1.5; on 2.5 % of the draws or more the half at 8 comes twice, the half at
    # -8 not at all (1.5 + 2 * 6.5 / 22), and the other way round (1.5 - 2 * 9.5 / 22); thrice comes more rarely.
    assert (found["change_low"], found["change_high"]) == pytest.approx((1.5 - 19 / 22, 1.5 + 13 / 22))
    assert probes.self_preference(ratings, ["J"], {"J": ["L"]}).empty, "alone, nobody to compare with"
    profile = load_profile(
        "demo", ["judges=[{kind: llm, model: {name: J, model: data/embedded/models/S}}]", "prompts=standard"]
    )
    assert probes.own_models(profile) == {"J": ["S", "S+L"]}


def test_a_probes_sample_is_balanced_over_categories_and_holds_rateable_rows_only(tables):
    responses, _, preferences = tables
    many = pd.concat([responses.assign(example_id=f"q{number}") for number in range(5)], ignore_index=True)
    more = preferences.assign(preference_id="other", category="Creative")
    some = many.index[:12]
    many.loc[some, "preference_id"] = many.loc[some, "preference_id"].replace("clarity-1", "other")
    chosen = probes.sample(many, pd.concat([preferences, more]), 4)
    assert many.loc[chosen, "preference_id"].value_counts().to_dict() == {"clarity-1": 2, "other": 2}
    assert set(many.loc[chosen, "setting"]) <= {"relevant", "mixed"} and set(many.loc[chosen, "status"]) == {"ok"}
    assert many.loc[chosen, "example_id"].is_unique, "two responses to one question are no two observations"
    assert len(probes.sample(many, pd.concat([preferences, more]), 100)) == 5
