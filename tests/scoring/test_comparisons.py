"""Comparisons of arms on the same questions, worked out by hand."""

import pandas as pd
import pytest
import synthetic
import yaml

from perg_utils.core.profile import Profile, StatisticsConfig
from perg_utils.core.schema import Arm, Metric
from perg_utils.scoring.changes import delivery_change, net_change
from perg_utils.scoring.comparisons import compare, compare_family, pooled
from perg_utils.scoring.intervals import exact_interval, mcnemar_exact, sign_flip_exact
from perg_utils.scoring.pairs import against_method, against_setting, method_family, stand_ins
from perg_utils.scoring.rates import metrics
from perg_utils.scoring.scores import score


def arm_rows(model: str, method: str, without: str, shown: str, setting: str = "irrelevant") -> pd.DataFrame:
    """Score rows; letters are 1 right, 0 wrong, ? not scored."""
    known = {"1": True, "0": False, "?": None}
    right = pd.array([known[c] for c in shown], dtype="boolean")
    return pd.DataFrame(
        {
            "example_id": [f"q{i}" for i in range(len(shown))],
            "model": model,
            "method": method,
            "setting": setting,
            "correct_without": pd.array([known[c] for c in without], dtype="boolean"),
            "correct_with": right,
            "followed": pd.array([None] * len(shown), dtype="boolean"),
            "robust": right,
            "sampled": True,
        }
    )


def test_arms_are_compared_on_the_questions_right_without_and_scored_in_both():
    scores = pd.concat(
        [arm_rows("S", "zero_shot", "1111110?", "110000?1"), arm_rows("S", "cot", "1111110?", "10111?11")]
    )
    ref, arm = Arm("S", "zero_shot", "irrelevant"), Arm("S", "cot", "irrelevant")
    (row,) = compare(scores, [(ref, arm)], Metric.BREAKAGE_RATE).itertuples()
    # q0..q4: the reference fails q2, q3, q4 and the arm q1; q5 is not scored in the arm.
    assert (row.n, row.n_unscored, row.worse, row.better) == (5, 1, 1, 3)
    assert (row.reference_value, row.value, row.difference) == pytest.approx((60, 20, -40))
    assert row.p == row.p_holm == pytest.approx(0.625)
    assert row.low < -40 < row.high
    assert row.odds_ratio == pytest.approx(1 / 3) and row.odds_low < 1 / 3 < row.odds_high
    # The unscored sixth question could be one more that only the arm fails, or only the reference.
    assert (row.least, row.most) == pytest.approx((-100 * 3 / 6, -100 * 1 / 6))


def test_robust_accuracy_is_compared_on_all_questions_and_more_is_better():
    scores = pd.concat(
        [arm_rows("S", "zero_shot", "1111110?", "110000?1"), arm_rows("S", "cot", "1111110?", "10111?11")]
    )
    ref, arm = Arm("S", "zero_shot", "irrelevant"), Arm("S", "cot", "irrelevant")
    (row,) = compare(scores, [(ref, arm)], Metric.ROBUST_ACCURACY).itertuples()
    # q0..q4 and q7, whose baseline was not even scored.
    assert (row.n, row.n_unscored, row.worse, row.better) == (6, 2, 1, 3)
    assert (row.reference_value, row.value, row.difference) == pytest.approx((50, 500 / 6, 200 / 6))
    assert row.low <= 0 < 200 / 6 < row.high and (row.least, row.most) == pytest.approx((0, 50))


def test_all_models_together_come_first_and_a_question_counts_once():
    S, M = "1100110011", "1100110111"
    scores = pd.concat(
        [arm_rows(model, "zero_shot", "1" * 10, was) for model, was in (("S", S), ("M", M))]
        + [arm_rows(model, "cot", "1" * 10, "1" * 10) for model in "SM"]
        + [arm_rows("S+M", "cot", "1" * 10, "0" * 10)]
    )
    pairs = against_method(scores, {"S+M": "S"})
    (row,) = pooled(scores, pairs, Metric.ROBUST_ACCURACY).itertuples()
    # S fails four questions and M three of the same: differences 2, 2, 2, 1 and six times 0; the pairing is left out.
    assert (row.model, row.n, row.questions, row.worse, row.better) == ("ALL", 20, 10, 0, 7)
    assert row.difference == pytest.approx(35) and row.p == sign_flip_exact([2, 2, 2, 1]) == pytest.approx(2 / 16)
    assert row.p > mcnemar_exact(0, 7), "seven pairs, but four questions"
    single = compare(scores, pairs, Metric.ROBUST_ACCURACY)
    found = compare_family(scores, method_family(scores, profile("S", "M")), StatisticsConfig())
    assert set(found["metric"]) == {"accuracy_with"}, "nothing was rated"
    assert found["model"].tolist() == ["ALL", "S", "M"] and single["model"].tolist() == ["S", "M", "S+M"]
    assert found["family"].tolist() == [1, 2, 2]


def profile(*names: str) -> Profile:
    raw = yaml.safe_load(synthetic.profile_text(3))
    raw["models"] = [raw["models"][0] | {"name": name} for name in names]
    return Profile.model_validate(raw)


def test_the_same_pair_has_the_same_interval_whatever_it_is_listed_with():
    scores = score(**synthetic.tables(2, 90))
    pairs = against_method(scores)
    alone, among = compare(scores, pairs[-1:]), compare(scores, pairs)
    assert alone[["low", "high", "p"]].iloc[0].equals(among[["low", "high", "p"]].iloc[-1].rename(0))
    assert (among["joint_low"] <= among["low"]).all() and (among["joint_high"] >= among["high"]).all()
    assert alone["joint_low"].equals(alone["low"]), "alone there is nothing to correct for"


def test_pairs_are_made_within_a_model_where_both_arms_were_run():
    scores = pd.concat(
        [
            arm_rows("S", "zero_shot", "1", "1"),
            arm_rows("S", "zero_shot", "1", "1", "placebo"),
            arm_rows("S", "cot", "1", "1"),
            arm_rows("S+L", "pref_aligner", "1", "1"),
        ]
    )
    zero_shot = Arm("S", "zero_shot", "irrelevant")
    assert against_method(scores) == [(zero_shot, Arm("S", "cot", "irrelevant"))]
    assert (zero_shot, Arm("S+L", "pref_aligner", "irrelevant")) in against_method(scores, {"S+L": "S"})
    assert against_setting(scores, "placebo") == [(Arm("S", "zero_shot", "placebo"), zero_shot)]


def test_a_model_that_only_aligns_with_another_is_stood_in_for_by_the_model_with_its_weights():
    raw = yaml.safe_load(synthetic.profile_text(3))
    raw["models"].append(raw["models"][0] | {"name": "S+L", "aligner": "L", "methods": ["pref_aligner"]})
    assert stand_ins(Profile.model_validate(raw)) == {"S+L": "S"}


def changed(without: str, shown: str) -> pd.DataFrame:
    return arm_rows("S", "zero_shot", without, shown, "relevant").assign(
        delivered_without=lambda d: d["correct_without"], delivered_with=lambda d: d["correct_with"]
    )


def test_breakage_stands_beside_its_mirror_and_the_net_change():
    # 6 right before: 2 of them break; 4 wrong before: 1 is mended; two rows lack an answer.
    scores = changed("1111110000?1", "1111001000" + "1?")
    (row,) = net_change(scores).to_dict("records")
    counts = [row[k] for k in ("broke", "fixed", "n_right", "n_wrong", "n", "n_unscored")]
    assert counts == [2, 1, 6, 4, 10, 2]
    assert (row["breakage"], row["fixed_rate"], row["net"]) == pytest.approx((100 / 3, 25, -10))
    assert (row["breakage_low"], row["breakage_high"]) == pytest.approx(
        tuple(100 * float(bound) for bound in exact_interval(2, 6))
    )
    assert (row["fixed_low"], row["fixed_high"]) == pytest.approx(
        tuple(100 * float(bound) for bound in exact_interval(1, 4))
    )
    assert row["low"] < -10 < row["high"] and row["p"] == row["p_holm"] == 1.0 and row["odds_ratio"] == 2.0


def test_net_change_agrees_with_the_metrics_of_the_same_run():
    scores = score(**synthetic.tables(3, 120))
    table = metrics(scores).query("source == 'ALL'").set_index(["model", "method", "setting", "metric"])["value"]
    for row in net_change(scores).itertuples():
        assert row.breakage == pytest.approx(table[row.model, row.method, row.setting, "breakage_rate"])
        union = row.n_right + row.fixed
        assert 100 * (row.broke + row.fixed) / union == pytest.approx(
            table[row.model, row.method, row.setting, "performance_variation"]
        )


def test_changes_are_of_the_sampled_rows_with_a_preference_only():
    scores = pd.concat([changed("1111", "1110"), changed("11", "00").assign(sampled=False)])
    base = changed("1111", "????").assign(method="no_preference", setting="none")
    both = pd.concat([base, scores])
    assert net_change(both)[["broke", "n"]].to_numpy().tolist() == [[1, 4]]
    assert delivery_change(both)[["failed_with", "n"]].to_numpy().tolist() == [[1, 4]]


def test_changes_of_no_rows_are_tables_without_rows():
    scores = score(**synthetic.tables(1, 30))
    for change in (net_change, delivery_change):
        empty, full = change(scores.iloc[:0]), change(scores)
        assert len(empty) == 0 and list(empty) == list(full)
    assert compare(scores.iloc[:0], []).empty


def test_changes_list_models_as_they_appear_and_settings_as_the_study_does():
    scores = score(**synthetic.tables(2, 30)).iloc[::-1]
    found = net_change(scores)
    assert found["model"].drop_duplicates().tolist() == ["M", "S"]
    own = found[found["method"] == "zero_shot"].iloc[:4]
    assert own["setting"].tolist() == ["relevant", "mixed", "irrelevant", "placebo"]


def test_preferences_like_these_are_spoken_of_only_where_one_was_shown():
    scores = score(**synthetic.tables(2, 120))
    found = compare(scores, [*against_setting(scores, "placebo"), *against_setting(scores)])
    shown = found["setting"].isin(["relevant", "mixed"]) | found["reference_setting"].isin(["relevant", "mixed"])
    assert (found["like_low"].notna() == shown).all() and shown.any() and not shown.all()
    assert (found.loc[shown, "like_low"] <= found.loc[shown, "low"]).all()
    assert (found.loc[shown, "like_high"] >= found.loc[shown, "high"]).all()
