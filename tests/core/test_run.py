"""A run opened for reading: what goes wrong is said at once."""

import pandas as pd
import pytest
import synthetic
from toy_tables import RELEVANT, toy

import perg_utils as perg
from perg_utils.core.errors import DataError
from perg_utils.core.profile import ProfileError


def test_other_scores_are_not_taken_without_their_metrics():
    scores = perg.score(**synthetic.tables(1, 30))
    run = perg.open_run("demo")
    with pytest.raises(DataError, match=r"metrics=perg\.metrics"):
        run.with_tables(scores=scores)
    held = run.with_tables(scores=scores, metrics=perg.metrics(scores))
    assert held.read("metrics").equals(perg.metrics(scores))


def test_overrides_in_one_text_are_told_to_be_a_list():
    with pytest.raises(ProfileError, match=r"overrides are a list, e.g. \['data.limit=5'\]"):
        perg.open_run("demo", "data.limit=5")


def test_swapped_tables_are_named_with_the_columns_that_they_lack():
    tables = toy(RELEVANT)
    with pytest.raises(DataError, match=r"table 'responses' has no columns \['model', 'method', 'setting', 'status'\]"):
        perg.score(**tables | {"responses": tables["examples"]})
    with pytest.raises(DataError, match=r"table 'scores' has no columns \['source'"):
        perg.metrics(tables["answers"])


@pytest.mark.parametrize("response", [None, pd.NA, 3])
def test_a_response_that_is_no_text_is_a_type_error(response):
    with pytest.raises(TypeError, match="extract_answer takes a response as text"):
        perg.extract_answer(response, ["iron", "salt"])


def test_a_run_is_shown_in_one_line():
    assert repr(perg.open_run("demo")).startswith("<run of profile 'demo'") and len(repr(perg.open_run("demo"))) < 300


@pytest.mark.parametrize("ask", [perg.figures.scatter, perg.tables.main])
def test_what_is_no_run_is_refused_with_the_cure(ask):
    with pytest.raises(TypeError, match=rf"{ask.__name__}\(\) takes a run, e.g. perg.open_run\('demo'\); got 'demo'"):
        ask("demo")


def test_an_unknown_option_of_a_figure_is_told_with_those_that_it_takes():
    with pytest.raises(TypeError, match=r"scatter\(\): .*'color'; it takes run, "):
        perg.figures.scatter(perg.open_run("demo"), color="red")
