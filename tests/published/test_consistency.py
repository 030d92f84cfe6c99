"""What the printed figures say among themselves, by simulation and by hand."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from perg_utils.published.checks import consistency


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 400), st.integers(0, 100), st.integers(0, 100)), min_size=3, max_size=3))
def test_pooled_figures_always_have_the_true_shares_among_the_possible_ones(counts):
    rows, right = [], [n for n, _, _ in counts]
    events = [(n * b // 100, n * a // 100) for n, b, a in counts]
    for metric, part in (("breakage_rate", 0), ("alignment_failure", 1)):
        values = [100 * e[part] / n for e, n in zip(events, right, strict=True)]
        values.append(100 * sum(e[part] for e in events) / sum(right))
        rows += [(s, metric, round(v, 1)) for s, v in zip(["TQA", "CQA", "MMLU", "ALL"], values, strict=True)]
    frame = pd.DataFrame(rows, columns=["source", "metric", "value"]).assign(
        setting="relevant", method="cot", model="M"
    )
    extra = frame[frame["metric"] == "breakage_rate"].assign(metric="robustness_error")
    shares = consistency.implied_shares(pd.concat([frame, extra])).iloc[0]
    assert shares["possible"]
    for source, n in zip(["TQA", "CQA", "MMLU"], right, strict=True):
        assert shares[f"low_{source}"] - 1e-6 <= n / sum(right) <= shares[f"high_{source}"] + 1e-6


@given(st.integers(1, 500), st.integers(1, 500), st.data())
def test_the_implied_rise_is_the_ratio_of_right_answers(without, with_, data):
    both = data.draw(st.integers(max(1, 0), min(without, with_)))
    br, pv = 100 * (1 - both / without), 100 * (1 - both / (without + with_ - both))
    rows = [
        {"metric": m, "value": v, "model": "M", "setting": "relevant", "method": "cot", "source": "TQA"}
        for m, v in (("breakage_rate", br), ("performance_variation", pv))
    ]
    rise = consistency.implied_rise(pd.DataFrame(rows)).iloc[0]
    assert rise["low"] <= with_ / without + 1e-9 and with_ / without <= rise["high"] + 1e-9


def test_the_prediction_for_two_option_orders_agrees_with_a_simulation():
    random = np.random.default_rng(1)
    counts = {2: 10, 4: 60, 7: 30}
    k = np.repeat(list(counts), list(counts.values()))
    trials = 2000
    right = random.random((trials, len(k))) < 0.7  # with preference, letters under the file's own order
    # Without preference: the same skill, then the letter is read under another random order of the k options.
    lucky = random.integers(0, k, (trials, len(k))) == 0
    variation = 100 * (1 - (right & lucky).sum() / (right | lucky).sum())
    assert consistency.predicted_variation(0.7, counts) == pytest.approx(variation, abs=0.3)
    assert consistency.predicted_variation(0.65, {4: 1}) == pytest.approx(100 * (1 - 0.1625 / 0.7375))


def test_the_printed_figures_hold_together_but_for_the_baselines_of_some_truthfulqa_cells():
    checks = consistency.inner_checks().set_index("check")
    bad = checks[checks["violated"] > 0]
    assert len(checks) == 10 and len(bad) == 3
    rise = consistency.implied_rise()
    surely = rise[rise["unbelievable"]].reset_index()
    tqa = surely[(surely["source"] == "TQA") & (surely["method"] != "cot")]
    prediction = consistency.option_order_prediction()
    keys = ["setting", "method", "model"]
    # Two ways to the same eleven configurations: accuracy that more than doubles, and the predicted PV.
    assert set(map(tuple, tqa[keys].to_numpy())) == set(map(tuple, prediction.loc[prediction["fits"], keys].to_numpy()))
    assert len(tqa) == 11 and prediction.loc[prediction["fits"], "variation"].between(73, 82).all()
    assert (prediction.loc[~prediction["fits"], "variation"] < 70).all()
    assert surely.loc[surely["method"] == "cot", "model"].unique().tolist() == ["Janus-7B"]


def test_all_is_pooled_and_no_mean_of_the_sources():
    made = consistency.how_all_is_made().set_index("reading")
    assert made["fits"].iloc[-1] == made["of"].iloc[-1] == 59
    assert (made["fits"].iloc[:2] < 0.3 * made["of"].iloc[:2]).all()


def test_a_printed_figure_that_cannot_be_is_told():
    paper = pd.read_csv(Path(__file__).parents[2] / "data" / "paper_metrics.csv").rename(columns={"percent": "value"})
    at = (paper["model"] == "GPT-4o-mini") & (paper["source"] == "CQA") & (paper["metric"] == "robustness_error")
    checks = consistency.inner_checks(paper.assign(value=paper["value"].mask(at, 3.0))).set_index("check")
    assert "GPT-4o-mini" in checks.loc["RE is at least the larger of BR and AF", "cells"]
    checks = consistency.inner_checks(paper.assign(value=paper["value"].mask(at, 30.0))).set_index("check")
    assert "GPT-4o-mini" in checks.loc["RE is at most BR + AF", "cells"]


def test_two_models_print_pref_aligners_letters_twice():
    found = consistency.identical_rows()
    twins = found[found["identical"]]
    assert twins[["model", "setting", "twin"]].to_numpy().tolist() == [
        ["Gemma-2-9B", "relevant", "mixed, pref_aligner, Gemma-2-9B"],
        ["Qwen3-8B", "relevant", "mixed, pref_aligner, Qwen3-8B"],
    ]
    assert (twins["rated_same"] < twins["rated"]).all(), "the ratings are not all the same"
    percent, most = consistency.coincidence()
    assert percent == pytest.approx(32.2, abs=0.1) and most == 5, "other rows of one model come near, but not that near"
    checks = consistency.inner_checks().set_index("check")["cells"]
    told = checks["no two configurations print the same BR and PV in every source"]
    assert told == "relevant pref_aligner Gemma-2-9B; relevant pref_aligner Qwen3-8B"


def test_a_planted_pair_is_found_and_one_of_seven_cells_is_not_called_identical():
    def row(setting, method, breakage):
        cells = zip(["TQA", "CQA", "MMLU", "ALL"], breakage, strict=True)
        key = {"setting": setting, "method": method, "model": "M"}
        return [
            key | {"source": source, "metric": metric, "value": value + (metric == "performance_variation")}
            for source, value in cells
            for metric in ("breakage_rate", "performance_variation")
        ]

    paper = pd.DataFrame(
        row("relevant", "cot", [1.0, 2.0, 3.0, 2.5])
        + row("mixed", "cot", [1.0, 2.0, 3.0, 2.5])
        + row("irrelevant", "cot", [1.0, 2.0, 3.0, 2.6])
        + row("relevant", "zero_shot", [5.0, 6.0, 7.0, 6.5])
    )
    paper.loc[
        paper.eval("setting == 'irrelevant' and source == 'ALL' and metric == 'performance_variation'"), "value"
    ] = 3.5
    found = consistency.identical_rows(paper)
    assert found[["setting", "twin", "same", "identical"]].to_numpy().tolist() == [
        ["relevant", "mixed, cot, M", 8, True],
        ["relevant", "irrelevant, cot, M", 7, False],
        ["mixed", "irrelevant, cot, M", 7, False],
    ]
