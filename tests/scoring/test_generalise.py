"""Intervals for preferences like these, against values worked out by hand and simulated studies."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import t

from perg_utils.scoring.coverage import preference_coverage
from perg_utils.scoring.generalise import difference_like_these, like_these
from perg_utils.scoring.intervals import exact_interval


def rows(shares, each=100, **more):
    """One arm in which preference i has shares[i] of `each` events."""
    events = [[1] * k + [0] * (each - k) for k in shares]
    named = np.repeat([f"p{i}" for i in range(len(shares))], each)
    return pd.DataFrame({"arm": "a", "preference_id": named, "event": np.concatenate(events)}).assign(**more)


def test_preferences_that_differ_make_the_interval_as_wide_as_there_are_few_of_them():
    low, high = like_these(rows([5, 10, 30, 15]), ["arm"]).iloc[0]
    # Off the mean 15: -10, -5, 15, 0 of 100; their squares 350 by 4 / 3 by 400^2; 3 degrees of freedom.
    variance = 350 * 4 / 3 / 400**2
    size = 0.15 * 0.85 / variance * (t.ppf(0.975, 399) / t.ppf(0.975, 3)) ** 2
    assert (low, high) == pytest.approx(tuple(float(x) for x in exact_interval(0.15 * size, size)))
    assert low < exact_interval(60, 400)[0] < exact_interval(60, 400)[1] < high


def test_preferences_that_are_alike_leave_the_exact_interval():
    low, high = like_these(rows([15] * 40), ["arm"]).iloc[0]
    assert (low, high) == pytest.approx(tuple(float(x) for x in exact_interval(600, 4000)))


def test_where_no_event_is_seen_few_preferences_still_say_little():
    size = 200 * (t.ppf(0.975, 199) / t.ppf(0.975, 4)) ** 2
    found = like_these(rows([0] * 5, each=40), ["arm"]).iloc[0].tolist()
    assert found == pytest.approx([0, float(exact_interval(0, size)[1])]) and found[1] > exact_interval(0, 200)[1]


def test_questions_that_stand_once_change_nothing_and_those_that_break_under_every_preference_do():
    once = rows([5, 10, 30, 15]).assign(question=range(400))
    pd.testing.assert_frame_equal(like_these(once, ["arm"], question="question"), like_these(once, ["arm"]))
    # The same 15 questions of 100 break under each of four preferences: what looks like 400 rows is 100.
    crossed = rows([15] * 4).assign(question=[*range(100)] * 4)
    low, high = like_these(crossed, ["arm"], question="question").iloc[0]
    alone = exact_interval(60, 400)
    assert low < alone[0] and high > alone[1]


def test_one_preference_says_nothing_of_others():
    assert like_these(rows([15]), ["arm"]).isna().all().all()
    assert np.isnan(difference_like_these(np.array([1, 0]), np.array(["p", "p"]))).all()


def test_groups_do_not_touch_each_other():
    both = pd.concat([rows([5, 10, 30, 15]), rows([50, 40], arm="b")])
    alone = [like_these(both[both["arm"] == arm], ["arm"]) for arm in "ab"]
    pd.testing.assert_frame_equal(like_these(both, ["arm"]), pd.concat(alone))


def test_the_interval_of_a_difference_uses_preferences_as_units():
    # Preference p gains on 10 of 50 questions, q on none.
    gains, named = np.array([-1] * 10 + [0] * 90), np.repeat(["p", "q"], 50)
    low, high = difference_like_these(gains, named)
    # Off the mean -0.1: sums of -5 and 5, 50 by 2 by 100^2; one degree of freedom.
    reach = t.ppf(0.975, 1) * np.sqrt(100 / 100**2)
    assert (low, high) == pytest.approx((-0.1 - reach, -0.1 + reach))
    none = difference_like_these(np.zeros(100), named)
    assert none[0] < 0 < none[1] and none[1] == pytest.approx(t.ppf(0.975, 1) / 100), "as if one question differed"


@pytest.mark.parametrize("crossed", [False, True])
def test_it_holds_the_rate_over_all_preferences_where_the_exact_one_does_not(crossed):
    studies = [(360, 23, 0.1, 0.02), (817, 14, 0.2, 0.044), (1500, 11, 0.17, 0.044), (1500, 11, 0.02, 0.005)]
    studies = studies[1:2] if crossed else studies
    found = preference_coverage(studies, np.random.default_rng(1), crossed=crossed, runs=200 if crossed else 500)
    error = 100 * 1.96 * np.sqrt(0.05 * 0.95 / 500) * (1.6 if crossed else 1)
    assert found["like_these"].min() >= 95 - error
    assert found.loc[found["between"] > 4, "exact"].max() < 90
    assert found["wider"].min() > 1


def test_differences_of_preferences_that_differ_are_covered():
    rng, held, naive = np.random.default_rng(2), [], []
    for _ in range(600):
        shift = rng.normal(0.03, 0.04, 14)
        named = rng.integers(0, 14, 800)
        lost = np.where(rng.random(800) < 0.06 + np.maximum(shift, 0)[named], 1, 0)
        lost = lost - (rng.random(800) < 0.06 + np.maximum(-shift, 0)[named])
        low, high = difference_like_these(lost, named)
        held.append(low <= 0.03 <= high)
        reach = 1.96 * lost.std() / np.sqrt(800)
        naive.append(abs(lost.mean() - 0.03) <= reach)
    assert 0.93 <= np.mean(held) <= 0.98 and np.mean(naive) < 0.9
