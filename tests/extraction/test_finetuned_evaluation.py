"""How well the fine-tuned layer reads, counted by hand on ten responses, and its figure."""

import math

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from tiny_bases import GOODS

from perg_utils.core.run import open_run
from perg_utils.extraction.finetuned import training
from perg_utils.extraction.finetuned.corpus import Corpus, Sample
from perg_utils.extraction.finetuned.evaluation import by_kind, check, confusion, in_words, reliability, with_the_rules
from perg_utils.extraction.finetuned.scoring import Scorer
from perg_utils.extraction.finetuned.training import fit_temperature, score_samples
from perg_utils.reporting import figures


def check_loss(config, folder, options, seed):
    scores, wanted = score_samples(Scorer(config, folder), Corpus(options, seed + 1).take("check", training.CHECKED))
    return float(torch.nn.functional.cross_entropy(scores / fit_temperature(scores, wanted), wanted))


def table(*responses):
    rows = pd.DataFrame({"response": responses, "status": ["ok" if r is not None else "empty" for r in responses]})
    rows["example_id"] = "TQA-1"
    return rows.assign(
        preference_id="SECRET-P1", model="SECRET-MODEL", method="zero_shot", setting="relevant", prompt="SECRET-PROMPT"
    )


class Reads:
    """A layer with known choices."""

    def __init__(self, said):
        self.said = said

    def choices(self, cases):
        return [self.said[response] for response, _ in cases]


#: response, kind, label, read as, confidence; the rules read the first two.
READ = [
    ("The answer is B.", "letter", "B", "B", 0.97),
    ("The answer is A.", "letter", "A", "C", 0.95),
    ("It is warm there.", "text", "D", "D", 0.92),
    ("So it goes.", "text", "A", "A", 0.55),
    ("Who can say?", "text", "C", "Z", 0.99),
    ("It is bread.", "none is right", "X", "B", 0.91),
    ("It is cheese.", "none is right", "X", "X", 0.90),
    ("Ask another.", "refusal", "Y", "X", 0.40),
    ("Perhaps.", "undecided", "Z", "Z", 0.99),
    ("Long.", "undecided", "Z", None, 0.0),
]


@pytest.fixture
def checked():
    samples = [Sample(response, tuple(GOODS), label, kind) for response, kind, label, _, _ in READ]
    return check(Reads({row[0]: (row[3], row[4]) for row in READ}), samples, 0.9)


def test_a_sample_is_read_rightly_surely_and_beside_the_rules(checked):
    assert checked["sure"].tolist() == [True, True, True, False, False, True, True, False, False, False]
    assert checked["right"].tolist() == [True, False, True, True, False, False, True, False, True, False]
    assert checked["rules"].fillna("-").tolist() == ["B", "A", *"--------"]
    assert checked["rules_right"].tolist() == [True, True, False, False, False, *[True] * 5]


def test_what_is_too_long_is_never_said_however_little_sureness_is_asked():
    out = check(Reads({"Long.": (None, 0.0)}), [Sample("Long.", tuple(GOODS), "A", "text")], 0.0)
    assert not out["sure"].any() and confusion(out).loc["an option", "unsure"] == 1


def test_shares_by_kind_are_those_counted_by_hand(checked):
    found = by_kind(checked).set_index("kind")
    assert found.index.tolist() == ["letter", "text", "none is right", "refusal", "undecided", "all"], "in their order"
    plain = found[["n", "right", "speaks", "right_where_sure", "rules_speak"]]
    third = 100 / 3
    expected = {
        "letter": (2, 50, 100, 50, 100),
        "text": (3, 2 * third, third, 100, 0),
        "none is right": (2, 50, 100, 50, 0),
        "refusal": (1, 0, 0, math.nan, 0),
        "undecided": (2, 50, 0, math.nan, 0),
        "all": (10, 50, 50, 60, 20),
    }
    for kind, row in expected.items():
        assert tuple(plain.loc[kind]) == pytest.approx(row, nan_ok=True), kind
    # Exact intervals: one of one is at least 0.025; of two, one right: roots of the binomial tails.
    assert tuple(found.loc["text", ["low", "high"]]) == pytest.approx((2.5, 100))
    low = 100 * (1 - math.sqrt(0.975))
    assert tuple(found.loc["letter", ["low", "high"]]) == pytest.approx((low, 100 - low), abs=1e-6)
    assert found.loc[["refusal", "undecided"], ["low", "high"]].isna().all(axis=None)


def test_the_confusion_counts_each_response_once_where_it_belongs(checked):
    table = confusion(checked)
    assert table.to_numpy().tolist() == [
        [2, 1, 0, 0, 1, 1],  # an option: right, wrong, none is right, refusal, undecided, unsure
        [0, 1, 1, 0, 0, 0],
        [0, 0, 0, 0, 0, 1],
        [0, 0, 0, 0, 1, 1],
    ]
    assert table.columns[1] == "a wrong option" and table.index.tolist()[0] == "an option"


def test_reliability_sets_confidence_against_truth_in_equal_parts():
    frame = pd.DataFrame({"confidence": [0.0, 0.09, 0.55, 0.95, 1.0], "right": [False, True, False, True, True]})
    found = reliability(frame)
    assert found.index.tolist() == [0, 5, 9] and found["n"].tolist() == [2, 1, 2]
    assert found["confidence"].tolist() == pytest.approx([0.045, 0.55, 0.975])
    assert found["right"].tolist() == [0.5, 0.0, 1.0]
    assert reliability(frame, bins=1)["right"].tolist() == [0.6]


def test_rules_and_layer_in_turn_are_counted_by_hand(checked):
    found = with_the_rules(checked)
    assert found.loc["rules"].tolist() == pytest.approx([40, 100, 40, 5])
    assert found.loc["fine-tuned"].tolist() == pytest.approx([60, 200 / 3, 40, 5])
    assert found.loc["rules, then fine-tuned"].tolist() == pytest.approx([60, 100, 60, 5]), "the rules come first"
    silent = with_the_rules(checked.assign(rules=pd.Series([None] * len(checked), dtype=object), sure=False))
    assert silent["right"].isna().all() and (silent[["speaks", "found"]] == 0).all(axis=None)


def test_the_sentence_of_the_test_holds_its_counts(checked):
    said = in_words(checked)
    assert "speaks on 50.0 % and is right in 60.0 % [14.7, 94.7] of these; 2 of 10 got the letter" in said
    assert "Of the 8 that the rules leave open it speaks on 37.5 %, right in 66.7 %" in said
    assert "the rules find 40.0 %, rules and layer together 60.0 %, with 100.0 % of their letters right" in said


def curve():
    return pd.DataFrame({"samples": [64, 128], "loss": [2.0, 1.0], "check_loss": [2.1, 1.4]})


@pytest.mark.parametrize("said", ["some", "none", "all"])
def test_the_figure_shows_dots_only_where_the_layer_speaks(checked, said, tmp_path):
    if said == "none":
        checked["sure"] = False
    kinds = by_kind(checked)
    if said == "all":
        kinds = kinds[kinds["speaks"] > 0].reset_index(drop=True)
    fig = figures.extractor(open_run("demo" if said == "some" else "paper_small"), curve(), kinds, best=128).figure
    fig.savefig(tmp_path / "figure.png")
    axis = fig.axes[1]
    assert [text.get_text() for text in axis.get_yticklabels()] == kinds["kind"].tolist()
    assert [bar.get_width() for bar in axis.patches] == pytest.approx(kinds["speaks"].tolist())
    dots = axis.containers[1].lines[0]
    spoken = kinds.index[kinds["speaks"] > 0]
    assert dots.get_ydata() == pytest.approx(np.array(spoken))
    assert dots.get_xdata() == pytest.approx(kinds["right_where_sure"].dropna().to_numpy())
    assert any("nvented world" in text.get_text() for text in fig.texts) == (said == "some")
    assert [line.get_xdata()[0] for line in fig.axes[0].lines] == [0.064, 0.064, 0.128]
    plt.close(fig)
