"""The public names of `perg_utils`: each is there, says what it is, and its example does what it says."""

import doctest
import inspect
import subprocess
import sys

import pandas as pd
import pytest
from toy_tables import RELEVANT, toy

import perg_utils as perg
from perg_utils.core.errors import DataError
from perg_utils.core.profile import ROOT

CALLED = [name for name in perg.__all__ if not inspect.ismodule(getattr(perg, name))]


@pytest.mark.parametrize("name", CALLED)
def test_a_public_name_has_an_example_that_does_what_it_says(name):
    value = getattr(perg, name)
    module = sys.modules[value.__module__]
    tests = doctest.DocTestFinder().find(value, name, module=module, globs={**vars(module), "pd": pd})
    examples = sum(len(test.examples) for test in tests)
    runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
    for test in tests:
        runner.run(test)
    assert examples > 0, f"perg.{name} has no example"
    assert runner.summarize(verbose=False).failed == 0


def test_an_unknown_name_is_told_with_the_known_ones():
    with pytest.raises(AttributeError, match=r"no attribute 'scroe'; public are: .*score"):
        perg.scroe  # noqa: B018 - asking is the test
    assert set(perg.__all__) <= set(dir(perg))


def test_importing_the_package_imports_none_of_its_rooms():
    said = "import sys, perg_utils; print([m for m in sys.modules if m.startswith(('perg_utils.', 'pandas', 'torch'))])"
    done = subprocess.run([sys.executable, "-c", said], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_scores_metrics_and_comparisons_need_nothing_but_the_tables():
    tables = toy(RELEVANT | {("cot", "relevant"): ("AAAAAAAAAA", "5" * 10)})
    scores = perg.score(**tables)
    assert perg.score(
        *(tables[name] for name in ("examples", "responses", "answers", "judgements", "preferences"))
    ).equals(scores)
    (br,) = perg.metrics(scores).query("method == 'cot' and source == 'ALL' and metric == 'breakage_rate'")["value"]
    assert br == 0
    pair = (("S", "zero_shot", "relevant"), ("S", "cot", "relevant"))
    (row,) = perg.compare(scores, [pair]).to_dict("records")
    # Rated in both and right without preference: q0, q1, q3, q4, q5, q6; zero_shot fails four of them.
    assert (row["metric"], row["n"], row["worse"], row["better"]) == ("robustness_error", 6, 0, 4)
    unrated = scores.assign(followed=pd.NA, robust=pd.NA)
    assert perg.compare(unrated, [pair])["metric"].tolist() == ["breakage_rate"]


def test_a_comparison_with_what_was_not_run_names_what_was():
    scores = perg.score(**toy(RELEVANT))
    with pytest.raises(DataError, match="no row of S zeroshot relevant; there are: S zero_shot relevant"):
        perg.compare(scores, [(("S", "zeroshot", "relevant"), ("S", "zero_shot", "relevant"))])
    with pytest.raises(DataError, match="'accuracy_with' has no paired comparison; these have: breakage_rate"):
        perg.compare(scores, [(("S", "zero_shot", "relevant"),) * 2], metric="accuracy_with")
