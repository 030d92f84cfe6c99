"""How right extractors are on labelled responses: by hand on toy tables, and the rules on genuine ones."""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT
from perg_utils.core.run import Run
from perg_utils.core.schema import LETTERS, Status
from perg_utils.core.workspace import Workspace
from perg_utils.extraction.answers import extract_answer
from perg_utils.extraction.reading import Reading
from perg_utils.extraction.rules.decision import CONCLUDED_RIGHT, STATED_RIGHT
from perg_utils.published.checks import accuracy, weighting
from perg_utils.published.checks.accuracy import by_difficulty, estimates, is_right
from perg_utils.published.checks.gold import at_hand, load_gold, released, with_responses
from perg_utils.reporting import figures

REAL = Path(__file__).parents[3] / "shared/real"
SAMPLE, LABELLED = REAL / "published_sample", REAL / "human_labelled"


def gold_rows(truth, letters, strata=None, weights=None):
    n = len(truth)
    return pd.DataFrame({"truth": truth, "rules": letters, "note": ["-"] * n, "stratum": strata or ["agree"] * n,
                         "weight": weights or [1.0] * n})  # fmt: skip


def test_an_extractor_is_right_with_the_true_letter_or_rightly_without_one():
    rows = gold_rows(["A", "B", None, None, "C"], ["A", "C", None, "A", None])
    assert is_right(rows, "rules").tolist() == [True, False, True, False, False]
    table = by_difficulty(rows, ["rules"])
    assert table["n"].tolist() == [5, 5]
    assert table["rules"].tolist() == pytest.approx([40, 40])
    assert table["rules_low"].iloc[0] == pytest.approx(5.27, abs=0.01)  # Clopper-Pearson for 2 of 5


def test_estimates_weight_each_row_by_the_responses_it_stands_for():
    rows = gold_rows(["A", "B", None, "C"], ["A", "C", "A", None], ["x", "x", "y", "y"], [6.0, 2.0, 1.0, 1.0])
    found = estimates(rows, ["rules"]).set_index("share")["percent"]
    assert found["precision"] == pytest.approx(100 * 6 / 9)
    assert found["coverage"] == pytest.approx(100 * 8 / 9)
    assert found["found"] == pytest.approx(100 * 6 / 9)
    assert found["right"] == pytest.approx(60)


def studies(wrong, heavy, count=150, seed=3):
    """Labelled rows of simulated studies, and the precision in truth: strata and weights are those of the labels.

    In the heavy stratum (`heavy` rows) the rules nearly always speak, and a share `wrong` of their letters is wrong.
    """
    gold = load_gold()
    agree = gold[gold["stratum"] == "agree"]
    if heavy < len(agree):
        fewer = agree.head(heavy).assign(weight=agree["weight"].sum() / heavy)
        gold = pd.concat([fewer, gold.drop(agree.index)], ignore_index=True)
    speak = {"agree": 0.998, "differ": 0.74, "neither": 0.02, "only_rules": 0.69, "rules_silent": 0.08}
    right = {"agree": 1 - wrong, "differ": 0.65, "neither": 0.5, "only_rules": 0.69, "rules_silent": 0.91}
    spoken = gold.groupby("stratum")["weight"].sum() * pd.Series(speak)
    truth = 100 * (spoken * pd.Series(right)).sum() / spoken.sum()
    random = np.random.default_rng(seed)
    for _ in range(count):
        rules = np.where(random.random(len(gold)) < gold["stratum"].map(right), "A", "B").astype(object)
        rules[random.random(len(gold)) >= gold["stratum"].map(speak)] = None
        yield gold.assign(truth="A", rules=rules), truth


@pytest.mark.parametrize(("wrong", "heavy"), [(0.002, 79), (0.0065, 79), (0.001, 512), (0.02, 512)])
def test_intervals_hold_the_truth_where_errors_of_the_heavy_stratum_are_rare(wrong, heavy, monkeypatch):
    monkeypatch.setattr(weighting, "DRAWS", 1000)
    held = []
    for rows, truth in studies(wrong, heavy):
        found = estimates(rows, ["rules"]).set_index("share").loc["precision"]
        held.append(found["low"] <= truth <= found["high"])
    assert np.mean(held) >= 0.95


def test_limits_of_one_stratum_are_the_exact_ones_and_a_row_of_unequal_weights_counts_less():
    hit = np.array([True] * 78 + [False])
    one, even = pd.Series(["x"] * 79), np.ones(79)
    assert weighting.limits(one, even, hit, np.ones(79, bool)) == pytest.approx((93.15, 99.97), abs=0.1)
    assert weighting.limits(one, even, ~hit | hit, ~hit | hit) == pytest.approx((95.44, 100), abs=0.1)
    assert weighting.effective(np.array([3.0, 1.0])) == pytest.approx(16 / 10)
    assert weighting.effective(np.array([])) == 0
    uneven = np.array([5.0] * 10 + [1.0] * 69)
    assert weighting.limits(one, uneven, ~hit | hit, ~hit | hit)[0] < 94
    assert np.isnan(weighting.limits(one, even, hit, np.zeros(79, bool))).all()


def test_a_stratum_in_which_the_extractor_never_speaks_moves_the_precision_little_and_its_limits_a_little():
    rows = gold_rows(["A"] * 60, ["A"] * 30 + [None] * 30, ["x"] * 30 + ["y"] * 30, [10.0] * 60)
    found = estimates(rows, ["rules"]).set_index("share").loc["precision"]
    alone = estimates(rows.head(30), ["rules"]).set_index("share").loc["precision"]
    assert found["percent"] == alone["percent"] == 100
    assert found["high"] == 100 and alone["low"] - 7 < found["low"] < alone["low"]


needs_sample = pytest.mark.skipif(not SAMPLE.is_dir(), reason="no published sample here")


@pytest.fixture(scope="module")
def genuine():
    """The responses of the sample, and the labels with those they are of as the rules read them."""
    rows = released(SAMPLE)
    truth = with_responses(load_gold(), rows)
    found = [extract_answer(r, o) for r, o in zip(truth["response"], truth["options"], strict=True)]
    return rows, truth.assign(rules=[one.letter for one in found], confidence=[one.confidence for one in found])


@needs_sample
def test_the_rules_agree_with_the_original_extractor_on_genuine_responses(genuine):
    """Every 12th response; all of them gave 98.5 % agreement at 91.8 % coverage when this was written."""
    rows = genuine[0].iloc[::12]
    rows = rows[rows["original"].notna()]
    letters = pd.Series([extract_answer(r, o).letter for r, o in zip(rows["response"], rows["options"], strict=True)])
    spoken = letters.notna().to_numpy()
    assert len(rows) > 8000
    assert spoken.mean() >= 0.91
    assert (letters.to_numpy() == rows["original"].to_numpy())[spoken].mean() >= 0.98


@needs_sample
def test_the_rules_are_right_more_often_than_the_original_extractor_on_the_labels(genuine):
    found = estimates(genuine[1], ["original", "rules"]).set_index(["extractor", "share"])
    assert found.loc[("rules", "precision"), "percent"] >= 98
    assert found.loc[("rules", "precision"), "low"] >= 97
    assert found.loc[("rules", "precision"), "low"] > found.loc[("original", "precision"), "high"]
    assert found.loc[("rules", "right"), "low"] > found.loc[("original", "right"), "high"]


@needs_sample
def test_the_quoted_shares_of_the_labels_are_those_that_they_give(genuine):
    found = estimates(genuine[1], ["original", "rules"]).set_index(["share", "extractor"])
    told = (ROOT / "docs/protocol.md").read_text(encoding="utf-8")
    for share in accuracy.ESTIMATES:
        cells = [
            f"{one['percent']:.1f} [{one['low']:.1f}, {one['high']:.1f}]"
            for one in (found.loc[share, name] for name in ("original", "rules"))
        ]
        assert f"| {' | '.join(cells)} |" in told


def labelled_by_people():
    """Labelled responses: options, response, label."""
    for path in sorted(LABELLED.rglob("*.json")):
        for line in path.read_text(encoding="utf-8").splitlines():
            for shuffle in json.loads(line).values():
                if not isinstance(shuffle, dict) or not isinstance(shuffle.get("label"), str):
                    continue
                label, response = shuffle["label"].strip(), shuffle["response"]
                response = response.split("[/INST]", 1)[-1].split("\nmodel\n", 1)[-1]
                if label[:1] in LETTERS and label[1:2] in {"", "."}:
                    yield shuffle["references"], response, label[0]


@pytest.mark.skipif(not LABELLED.is_dir(), reason="no responses labelled by people here")
def test_the_rules_read_what_people_read_and_are_silent_on_refusals():
    spoken = right = named = 0
    for options, response, label in labelled_by_people():
        letter = extract_answer(response, options).letter
        if label not in LETTERS[: len(options)]:
            assert letter is None
            continue
        named += 1
        spoken += letter is not None
        right += letter == label
    assert named > 2000
    assert spoken / named >= 0.98
    assert right / spoken >= 0.997


@needs_sample
def test_the_confidence_of_a_rule_is_its_share_of_right_letters_among_the_labelled_responses(genuine):
    truth = genuine[1]
    spoken = truth[truth["rules"].notna()].assign(right=lambda t: t["rules"] == t["truth"])
    shares = (spoken["weight"] * spoken["right"]).groupby(spoken["confidence"]).sum()
    shares = shares / spoken.groupby("confidence")["weight"].sum()
    assert shares.index.tolist() == [CONCLUDED_RIGHT, STATED_RIGHT]
    assert shares.loc[STATED_RIGHT] == pytest.approx(STATED_RIGHT, abs=0.0015)
    assert shares.loc[CONCLUDED_RIGHT] == pytest.approx(CONCLUDED_RIGHT, abs=0.01)


def unlabelled():
    """Five responses of one model: the rules agree, differ, agree, are silent; one has no valid original letter."""
    rows = pd.DataFrame({"response": ["The answer is A.", "The answer is B.", "B", "Hm.", "C"], "row": range(5),
                         "original": ["A", "A", "B", "C", None], "question": [f"q{n}" for n in range(5)]})  # fmt: skip
    options = pd.Series([["iron", "salt", "wool"]] * 5)
    return rows.assign(model="M", method="cot", source="TQA", options=options, file="f", profile="1")


def test_agreement_with_the_original_extractor_is_counted_where_it_has_a_letter():
    rows = accuracy.read_by_rules(unlabelled())
    assert rows["rules"].fillna("-").tolist() == ["A", "B", "B", "-", "C"]
    assert accuracy.agreement(rows).loc[("M", "cot", "TQA")].tolist() == [75, pytest.approx(66.67), 4]
    found = accuracy.by_rule(rows)
    assert found["n"].tolist() == [2, 1] and found["agrees"].tolist() == [50, 100]
    assert accuracy.letters_that_differ(rows).to_dict() == {"original": {"A": 1, "B": 0}, "rules": {"A": 0, "B": 1}}


class Says:
    """A layer that reads A in everything."""

    name = "sayer"

    def read(self, cases):
        return [Reading("A", "said", Status.OK, layer=self.name) for _ in cases]


def test_labelled_responses_are_counted_and_told_in_words_without_a_text():
    rows = accuracy.read_by_rules(unlabelled())
    truth = rows.head(4).assign(truth=["A", "B", "B", None], label=["A", "B", "B", "Z"], stratum=list("xxyy"),
                                weight=[1.0, 2.0, 1.0, 4.0], label_a=list("ABBZ"), label_b=list("ABCZ"))  # fmt: skip
    assert accuracy.two_passes(truth).startswith("4 responses; the two passes agree on 75.0%, kappa 0.6")
    strata = accuracy.strata(truth)
    assert strata.loc["y"].tolist() == [2, 5, 1]
    read = accuracy.read_by_layers(truth, [Says()])
    assert read["layers"].tolist() == ["A", "B", "B", "A"]
    assert accuracy.decided(read)["responses"].to_dict() == {"rules": 3, "sayer": 1}
    said = accuracy.in_words(rows, read, accuracy.estimates(read, ["original", "rules"]))
    assert "speak on 75.0 %" in said and "agree on 66.7 %" in said
    assert "an extractor without error would agree on 50.0%" in said, "weights 1 and 1 of 1, 2 and 1"
    assert "original gives 25.0 % are right, of the rules' 100.0 %" in said
    tables = [accuracy.agreement(rows), accuracy.by_rule(rows), strata, accuracy.decided(read)]
    shown = "".join(table.to_string() for table in tables)
    assert not any(response in shown for response in ("answer is", "Hm."))


def test_without_released_files_every_table_says_so_in_words(tmp_path):
    rows = accuracy.read_by_rules(at_hand([tmp_path / "not-there"]))
    truth = accuracy.read_by_layers(with_responses(load_gold(), rows), [Says()])
    shares, difficulty = estimates(truth, ["rules"]), by_difficulty(truth, ["rules"])
    told = [accuracy.agreement(rows), accuracy.by_rule(rows), accuracy.letters_that_differ(rows),
            accuracy.strata(truth), accuracy.decided(truth), shares, difficulty]  # fmt: skip
    assert all(table.to_dict("list") == {"result": [accuracy.NOTHING]} for table in told)
    assert accuracy.two_passes(truth) == accuracy.NOTHING
    assert "nothing is said of genuine responses" in accuracy.in_words(rows, truth, shares)
    made = figures.difficulty(Run(load_profile("demo"), Workspace.of(tmp_path, "demo")), difficulty)
    assert made.absent == "Not in this run: Where each extractor fails."
