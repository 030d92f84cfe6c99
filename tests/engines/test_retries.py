from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perg_utils.engines.api.endpoints import BREAK_AFTER, WINDOW, Endpoint
from perg_utils.engines.api.retries import LONGEST_WAIT, Patience, backoff, retry_after


@pytest.mark.parametrize(("attempt", "low", "high"), [(1, 0.375, 0.5), (2, 0.75, 1), (3, 1.5, 2), (9, 22.5, 30)])
def test_waits_double_up_to_a_limit_and_are_spread(attempt, low, high):
    waits = [backoff(attempt) for _ in range(200)]
    assert low <= min(waits) < max(waits) <= high
    assert max(waits) - min(waits) > 0.5 * (high - low)


@given(st.integers(1, 40), st.floats(0, 3600))
def test_a_server_is_never_asked_before_it_wants_to_be(attempt, wish):
    assert wish <= backoff(attempt, wish) <= 1.25 * max(wish, LONGEST_WAIT)


def test_retry_after_is_read_in_all_its_forms():
    soon = format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)
    past = format_datetime(datetime.now(UTC) - timedelta(seconds=30), usegmt=True)
    assert retry_after({"Retry-After": "2.5"}) == 2.5
    assert retry_after({"retry-after-ms": "1500", "Retry-After": "2"}) == 1.5
    assert retry_after({"Retry-After": soon}) == pytest.approx(30, abs=2)
    assert retry_after({"Retry-After": past}) == 0
    assert retry_after({"Retry-After": "soon"}) is None and retry_after({}) is None


def test_patience_follows_what_replies_take_and_doubles_with_each_timeout():
    patience = Patience(300, enough=20)
    for _ in range(19):
        patience.saw(0.3)
    assert patience.limit() == 300, "too few to know"
    patience.saw(0.3)
    assert patience.limit() == 5
    assert [patience.limit(n) for n in (1, 2, 10)] == [10, 20, 300]
    for _ in range(1000):
        patience.saw(12)
    assert patience.limit() == 60, "five times what 99 of 100 take"


def test_the_limit_of_a_server_shrinks_under_many_refusals_and_grows_back():
    server, now = Endpoint("http://x/v1", 64), 100.0
    for number in range(10 * WINDOW):
        now += 0.02
        server.limited(now, 1.0) if number % 20 == 0 else server.answered(now)
    assert server.limit == 64, "one in twenty is no reason"
    for number in range(10 * WINDOW):
        now += 0.02
        server.limited(now, 1.0) if number % 2 else server.answered(now)
    assert server.limit < 8
    for _ in range(100 * WINDOW):
        now += 0.02
        server.answered(now)
    assert server.limit == 64


def test_a_server_that_fails_on_and_on_is_only_probed_until_it_answers():
    server, now = Endpoint("http://x/v1", 64), 100.0
    assert server.room(now) == 1
    for _ in range(BREAK_AFTER):
        server.failed(now)
    assert server.room(now) == 0 and server.failing_since == now
    now += 0.6
    assert server.room(now) == 1
    server.in_flight = 1
    assert server.room(now) == 0, "one at a time"
    server.failed(now)
    server.in_flight = 0
    assert server.room(now + 0.6) == 0, "longer after each"
    server.answered(now + 2)
    assert server.room(now + 2) == 1 and server.failing_since is None
