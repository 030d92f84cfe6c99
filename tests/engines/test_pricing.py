from typing import ClassVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from perg_utils.core.profile import ModelConfig
from perg_utils.core.schema import Status
from perg_utils.engines.api import pricing
from perg_utils.engines.api.pricing import Meter, cost_of, price_of
from perg_utils.engines.base import Decoding, EngineError, Reply, Request
from perg_utils.engines.journal import Journal


def config(model="gpt-4o-mini", **more):
    return ModelConfig(name="T", engine="api", model=model, **more)


def test_the_shipped_table_is_dated_and_sourced_and_read_by_the_undated_name_too():
    for row in pricing._table(pricing.PRICES).values():
        assert len(row["as_of"]) == 10 and row["source"]
    full, half = price_of(config("gpt-4o-mini-2024-07-18")), price_of(config(batch=True))
    assert (full.prompt, full.completion) == (0.15, 0.6)
    assert full.of(1_000_000, 1_000_000) == pytest.approx(0.75)
    assert half.of(1_000_000, 1_000_000) == pytest.approx(0.375)
    assert price_of(config("gpt-4o-mini-of-my-own")) is None
    assert price_of(ModelConfig(name="T", model="gpt-4o")) is None, "weights run here cost nothing"


def test_a_journal_is_costed_by_the_servers_name_of_a_model():
    cost = cost_of([config(), config("unknown"), ModelConfig(name="L", model="gpt-4o")])
    assert cost("gpt-4o-mini", 1_000_000, 1_000_000) == pytest.approx(0.75)
    assert cost("unknown", 1, 1) is None and cost("gpt-4o", 1, 1) is None
    assert cost_of([config("unknown")]) is None


@pytest.mark.parametrize("text", ["a,b\n1,2\n", "model,prompt_usd,completion_usd,batch_share,as_of,source\nm,x,1,,,\n"])
def test_a_table_that_cannot_be_read_is_an_error_that_names_it(tmp_path, monkeypatch, text):
    path = tmp_path / "prices.csv"
    path.write_text(text)
    monkeypatch.setattr(pricing, "PRICES", path)
    with pytest.raises(EngineError, match=r"prices\.csv"):
        price_of(config())


@given(st.lists(st.tuples(st.text(max_size=50), st.integers(1, 2000), st.floats(0, 1), st.booleans()), max_size=60))
def test_no_order_of_requests_and_replies_crosses_the_limit(steps):
    """Replies may be as long as allowed, prompts as many tokens as bytes; some replies come late, some not at all."""
    meter, truth, late = Meter(config(max_cost_usd=0.002)), 0.0, []
    for text, limit, share, at_once in steps:
        request = Request((("user", text),), Decoding(limit))
        bound = meter.bound(request)
        if meter.reserve(bound):
            tokens = (len(text.encode()), int(share * limit))
            truth += meter.price.of(*tokens)
            late.append((bound, Reply("x", prompt_tokens=tokens[0], completion_tokens=tokens[1])))
        assert truth <= 0.002
        if at_once:
            for pair in late:
                meter.settle(*pair)
            late.clear()
    for bound, _ in late:
        meter.settle(bound, None)
    assert truth <= meter.spent + 1e-12 and meter.spent <= 0.002 + 1e-12


def test_what_earlier_runs_have_cost_counts_towards_the_limit_but_not_as_spent_now(tmp_path):
    class Other:
        def __init__(self):
            self.identity = {"model": "gpt-4o-mini"}

        def generate(self, requests):
            yield 0, Reply("x", Status.OK, prompt_tokens=1_000_000, completion_tokens=1_000_000)

    request = Request((("user", "a"),), Decoding(1_000_000))
    with Journal(tmp_path / "j") as journal:
        journal.ask(Other(), [request])
        meter = Meter(config(max_cost_usd=1.3))
        assert meter.reserve(meter.bound(request))
        meter = Meter(config(max_cost_usd=1.3))
        meter.carry(journal)
    assert (meter.earlier, meter.spent) == (pytest.approx(0.75), 0)
    assert not meter.reserve(meter.bound(request))
    assert "has cost 0.7500 USD" in str(meter.exhausted(3)) and "3 requests are left" in str(meter.exhausted(3))


def test_what_a_run_has_spent_itself_counts_once_however_often_the_journal_is_read(tmp_path):
    reply = Reply("x", Status.OK, prompt_tokens=1_000_000, completion_tokens=1_000_000)
    meter = Meter(config(max_cost_usd=3))

    class Metered:
        identity: ClassVar = {"model": "gpt-4o-mini"}

        def generate(self, requests):
            for position, _ in enumerate(requests):
                meter.settle(0, reply)
                yield position, reply

    with Journal(tmp_path / "j") as journal:
        for text in "abc":  # as each method of a study does
            meter.carry(journal)
            journal.ask(Metered(), [Request((("user", text),), Decoding(10))])
        meter.carry(journal)
        assert (meter.earlier, meter.spent) == (pytest.approx(0), pytest.approx(2.25))
        again = Meter(config(max_cost_usd=3))
        again.carry(journal)
        assert (again.earlier, again.spent) == (pytest.approx(2.25), 0)


def test_the_note_is_short_and_without_dollars_where_there_is_no_price():
    known, unknown = Meter(config()), Meter(config("m"))
    assert str(known) == "", "nothing to say yet"
    for meter in (known, unknown):
        meter.settle(0, Reply("x", prompt_tokens=4_560_000, completion_tokens=12_340))
    assert str(known) == "4.6M+12.3k tokens, 0.69 USD"
    assert str(unknown) == "4.6M+12.3k tokens"
