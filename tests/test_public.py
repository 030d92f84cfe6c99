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
    # Known in both are all but q2 (right, not rated) and q7 (no response); zero_shot fails q3, q4, q5, q6, q9.
    assert (row["metric"], row["n"], row["worse"], row["better"]) == ("robust_accuracy", 8, 0, 5)
    unrated = scores.assign(followed=pd.NA, robust=pd.NA)
    assert perg.compare(unrated, [pair])["metric"].tolist() == ["accuracy_with"]


def test_a_comparison_with_what_was_not_run_names_what_was():
    scores = perg.score(**toy(RELEVANT))
    with pytest.raises(DataError, match="no row of S zeroshot relevant; there are: S zero_shot relevant"):
        perg.compare(scores, [(("S", "zeroshot", "relevant"), ("S", "zero_shot", "relevant"))])
    same = [(("S", "zero_shot", "relevant"),) * 2]
    with pytest.raises(DataError, match="'delivery_failure' has no paired comparison; these have: robust_accuracy"):
        perg.compare(scores, same, metric="delivery_failure")
    assert perg.compare(scores, same, metric="accuracy_with")["difference"].tolist() == [0.0]
