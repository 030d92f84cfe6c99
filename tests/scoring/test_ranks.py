"""Ranks: a range says who is shown to be ahead, and holds the truth as often as it promises."""

import numpy as np
import pandas as pd
import pytest

from perg_utils.scoring.ranks import Contender, ranks


def outcomes(events, preferences=4):
    names = [f"p{i % preferences}" for i in range(len(events))]
    index = pd.Index([f"q{i}" for i in range(len(events))], name="example_id")
    return pd.DataFrame({"preference_id": names, "event": np.asarray(events, dtype=float)}, index=index)


def asked(events, questions="same"):
    return Contender(100 * float(np.mean(events)), len(events), questions, outcomes(events))


def test_contenders_that_nothing_tells_apart_may_have_every_rank():
    found = ranks([Contender(50.0, 40), Contender(52.5, 40), Contender(47.5, 40)])
    assert found["rank"].tolist() == [2, 1, 3]
    assert found["low"].tolist() == [1, 1, 1] and found["high"].tolist() == [3, 3, 3]


def test_equal_values_share_the_better_rank():
    assert ranks([Contender(50.0, 40), Contender(50.0, 40), Contender(10.0, 40)])["rank"].tolist() == [1, 1, 3]


def test_the_same_questions_show_what_counts_alone_do_not():
    # 60 against 51 of 100, and every one of the 9 questions on which they differ speaks for the first: p = 0.0039.
    first, second = [1] * 60 + [0] * 40, [1] * 51 + [0] * 49
    paired = ranks([asked(first), asked(second)])
    assert paired["low"].tolist() == [1, 2] and paired["high"].tolist() == [1, 2]
    apart = ranks([asked(first, "these"), asked(second, "those")])  # Fisher's p is 0.25
    assert apart["low"].tolist() == [1, 1] and apart["high"].tolist() == [2, 2]
    assert ranks([Contender(60.0, 100, "same"), Contender(51.0, 100, "same")])["high"].tolist() == [2, 2]


def test_ranges_for_preferences_like_these_are_never_narrower_and_missing_without_answers():
    rng = np.random.default_rng(1)
    found = ranks([asked(rng.random(200) < p, str(i)) for i, p in enumerate((0.9, 0.6, 0.55, 0.1))])
    assert (found["like_low"] <= found["low"]).all() and (found["like_high"] >= found["high"]).all()
    assert found["like_high"].iloc[0] < 4  # shown to be ahead of the last in that sense, too
    assert ranks([Contender(90.0, 200), Contender(10.0, 200)])["like_low"].isna().all()


def test_one_preference_decides_a_rank_for_these_and_not_for_others_like_it():
    # The second arm fails with one of four preferences, always: these show it, four preferences do not.
    events = np.array([i % 4 != 0 for i in range(200)], dtype=float)
    found = ranks([asked(np.ones(200)), asked(events)])
    assert found["high"].tolist() == [1, 2] and found["low"].tolist() == [1, 2]
    assert found["like_high"].tolist() == [2, 2] and found["like_low"].tolist() == [1, 1]


@pytest.mark.parametrize("truth", [(0.5, 0.5, 0.5), (0.7, 0.5, 0.3)])
def test_all_ranges_together_hold_the_true_ranks(truth):
    rng, held, wide = np.random.default_rng(7), 0, 0
    best = [1 + sum(other > own for other in truth) for own in truth]
    worst = [len(truth) - sum(other < own for other in truth) for own in truth]
    for _ in range(150):
        found = ranks([Contender(100 * rng.binomial(120, p) / 120, 120) for p in truth])
        # An arm as good as others has all their ranks: the range must hold each of them.
        held += bool((found["low"] <= best).all() and (found["high"] >= worst).all())
        wide += int((found["high"] - found["low"]).sum())
    assert held >= 0.95 * 150
    if truth[0] > truth[-1]:
        assert wide < 150 * 2  # and they say something
