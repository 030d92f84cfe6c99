from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from perg_utils.core.loading import load_profile
from perg_utils.core.run import Run
from perg_utils.core.schema import ROW_ID, TABLES
from perg_utils.core.workspace import Workspace
from perg_utils.judging import sensitivity
from perg_utils.reporting import figures
from perg_utils.scoring.rates import metrics
from perg_utils.scoring.scores import score

PROFILE = load_profile("demo")
RUN = Run(PROFILE, Workspace.of("/nowhere", "demo"))


@pytest.fixture(scope="module")
def tables():
    """Two models, four questions, all right; only the ratings differ."""
    examples, responses = [], []
    for number in range(4):
        examples.append((f"q{number}", "TQA", None, "?", ["a", "b"], "A", "p"))
        for model in ("S", "L"):
            responses += [(f"q{number}", None, model, "no_preference", "none")]
            responses += [(f"q{number}", "p", model, "zero_shot", "relevant")]
    rows = pd.DataFrame(responses, columns=ROW_ID).assign(status="ok")
    return {
        "examples": pd.DataFrame(examples, columns=list(TABLES["examples"])),
        "responses": rows,
        "answers": rows.assign(answer="A", how="x"),
        "preferences": pd.DataFrame(
            [("p", "Be short.", "Clarity", True, ["TQA"])], columns=list(TABLES["preferences"])
        ),
    }


def rated(tables, name, **ratings):
    """Judgements with the ratings of each model's four questions; None is unparsable."""
    rows = tables["responses"][ROW_ID].assign(judge=name, explanation=None, rating=None, status="not_applicable")
    for model, given in ratings.items():
        at = rows.index[(rows["model"] == model) & (rows["setting"] == "relevant")]
        rows.loc[at, "rating"] = given
        rows.loc[at, "status"] = ["unparsable" if one is None else "ok" for one in given]
    return rows.astype({"rating": "Int64"})


@pytest.fixture(scope="module")
def found(tables):
    panel = {
        "strict": rated(tables, "strict", S=[2, 2, 3, 4], L=[1, 1, 1, 5]),
        "mild": rated(tables, "mild", S=[3, 3, 3, 3], L=[4, 4, 4, None]),
    }
    return sensitivity.by_judge(panel, tables, PROFILE)


def value(found, judge, threshold, model, metric="alignment_failure"):
    rows = found[(found["judge"] == judge) & (found["threshold"] == threshold) & (found["model"] == model)]
    [one] = rows[(rows["metric"] == metric) & (rows["source"] == "ALL")].to_dict("records")
    return one["value"], one["n"], one["n_unscored"]


def test_alignment_failure_follows_judge_and_threshold_and_unrated_rows_stay_out(found):
    assert [value(found, "strict", t, "S")[0] for t in (2, 3, 4)] == [0, 50, 75]
    assert [value(found, "strict", t, "L")[0] for t in (2, 3, 4)] == [75, 75, 75]
    assert [value(found, "mild", t, "S")[0] for t in (2, 3, 4)] == [0, 0, 100]
    assert value(found, "mild", 4, "L") == (0, 3, 1)


def test_robustness_error_follows_too_and_breakage_and_variation_need_no_judge(found):
    assert value(found, "strict", 3, "S", "robustness_error")[0] == 50
    free = found[found["metric"].isin(["breakage_rate", "performance_variation"])]
    assert free.groupby(["model", "metric", "source"])["value"].nunique().eq(1).all()


def test_at_the_main_judge_and_threshold_the_figures_are_those_of_the_study(found, tables):
    judgements = rated(tables, "strict", S=[2, 2, 3, 4], L=[1, 1, 1, 5])
    parts = [tables[name] for name in ("examples", "responses", "answers")]
    study = metrics(score(*parts, judgements, tables["preferences"], threshold=3), PROFILE.statistics)
    study = study[study["metric"].isin(sensitivity.FOUR) & (study["setting"] == "relevant")]
    ours = found[(found["judge"] == "strict") & (found["threshold"] == 3)].drop(columns=["judge", "threshold"])
    keys = ["model", "source", "metric"]
    pd.testing.assert_frame_equal(
        ours.sort_values(keys).reset_index(drop=True), study.sort_values(keys).reset_index(drop=True)
    )


def test_the_ranking_turns_where_the_judge_or_the_threshold_turns_it(found):
    orders = sensitivity.rankings(found, "strict", 3)
    orders = orders[orders["metric"] == "alignment_failure"].set_index(["judge", "threshold"])
    assert orders["ranking"].to_dict() == {
        ("strict", 2): "S < L", ("strict", 3): "S < L", ("strict", 4): "S = L",
        ("mild", 2): "S = L", ("mild", 3): "S = L", ("mild", 4): "L < S",
    }  # fmt: skip
    assert orders.loc[("strict", 2), "tau"] == 1 and orders.loc[("mild", 4), "tau"] == -1
    assert np.isnan(orders.loc[("strict", 4), "tau"]), "all equal: there is no order to compare"
    assert orders["same_best"].tolist() == [True, True, False, False, False, False]


def test_spread_is_the_range_over_judges_and_thresholds(found):
    rows = sensitivity.spread(found).query("source == 'ALL' and metric == 'alignment_failure'")
    assert rows.set_index("model")["range"].to_dict() == {"S": 100, "L": 75}


def test_a_value_is_shown_with_its_bounds_where_it_has_any():
    table = pd.DataFrame({"x": [1.25, -0.001, np.nan, 2], "x_low": [1, -0.1, np.nan, np.nan], "x_high": [2, 0, 1, 3]})
    assert sensitivity.with_bounds(table, "x", 2).tolist() == ["1.25 [1.00, 2.00]", "0.00 [-0.10, 0.00]", "", "2.00"]
    assert sensitivity.with_bounds(table[:1], "x", 0, ("x_high", "x_low")).tolist() == ["1 [2, 1]"]


def test_the_names_of_many_judges_do_not_run_into_each_other(found):
    names = ["heuristic (embedded styles)", "heuristic (cues)", "llama-3.1-70b-instruct", "gpt-4o-mini"]
    many = pd.concat([found[found["judge"] == "mild"].assign(judge=name) for name in names])
    fig = figures.judges(RUN, many).figure
    renderer = FigureCanvasAgg(fig).get_renderer()
    boxes = [axis.title.get_window_extent(renderer) for axis in fig.axes]
    assert all(one.x1 < other.x0 for one, other in pairwise(boxes))
    assert all(box.y1 <= fig.bbox.y1 for box in boxes)


def test_the_figure_shows_a_point_for_each_model_judge_and_threshold_and_says_the_world_is_invented(found):
    made = figures.judges(RUN, found)
    fig, data = made.figure, made.data
    assert len(data) == 12 and [axis.get_title() for axis in fig.axes] == ["strict", "mild"]
    for axis, judge in zip(fig.axes, ("strict", "mild"), strict=True):
        drawn = sorted(x for line in axis.lines for x in line.get_xdata())
        assert drawn == sorted(data.loc[data["judge"] == judge, "value"])
    assert "invented world" in " ".join(text.get_text() for text in fig.texts)


def test_a_table_with_intervals_is_shown_with_its_index_counts_and_bounds_or_says_nothing():
    table = pd.DataFrame({"judge": ["a", "b"], "n": [3, 4], "seen": [0.123, 2], "kappa": [0.5, np.nan],
                          "kappa_low": [0.25, np.nan], "kappa_high": [1, np.nan], "inner": ["x", "y"]})  # fmt: skip
    shown = sensitivity.with_intervals(table, ["judge"], ["n", "seen"], {"kappa": 2}, nothing="one judge only")
    assert shown.to_dict("index") == {
        "a": {"n": 3, "seen": 0.12, "kappa": "0.50 [0.25, 1.00]"},
        "b": {"n": 4, "seen": 2, "kappa": ""},
    }
    none = sensitivity.with_intervals(table[:0], ["judge"], ["n"], {"kappa": 2}, nothing="one judge only")
    assert none.to_dict("list") == {"result": ["one judge only"]}


def test_a_wide_table_has_values_with_bounds_words_as_they_are_or_says_nothing():
    table = pd.DataFrame({"model": ["S", "S"], "judge": ["b", "a"], "value": [5.0, 7], "low": [4, 6], "high": [6, 8]})
    shown = sensitivity.wide(table, ["model"], ["judge"], nothing="none")
    assert shown.loc["S"].to_dict() == {"b": "5.0 [4.0, 6.0]", "a": "7.0 [6.0, 8.0]"}
    assert list(shown) == ["b", "a"], "in the order of the rows"
    told = sensitivity.wide(table.assign(ranking=["S < L", "L < S"]), ["model"], ["judge"], "ranking", nothing="none")
    assert told.loc["S"].tolist() == ["S < L", "L < S"]
    assert sensitivity.wide(table[:0], ["model"], ["judge"], nothing="none").to_dict("list") == {"result": ["none"]}


def test_how_often_the_order_stays_is_counted_and_told(found):
    orders = sensitivity.rankings(found, "strict", 3)
    orders = orders[orders["metric"] == "alignment_failure"]
    same = sensitivity.same_as_main(orders)
    assert same["same_best"].to_dict() == {
        ("alignment_failure", judge, t): best
        for judge, bests in {"strict": [100, 100, 0], "mild": [0, 0, 0]}.items()
        for t, best in zip((2, 3, 4), bests, strict=True)
    }  # fmt: skip
    said = sensitivity.in_words(found, orders, "strict", 3)
    assert "alignment failure by strict moves by up to 75.0 points" in said
    assert "stays the same in 20 % of the configurations" in said, "of five others one"
    assert "no ranking" in sensitivity.in_words(found, orders[:0], "strict", 3)


def test_a_judge_of_a_part_is_compared_only_where_it_is_the_main_one(tables):
    whole, part = rated(tables, "rules", S=[3] * 4, L=[3] * 4), rated(tables, "people", S=[3] * 4)
    panel = {"rules": whole, "people": part}
    assert list(sensitivity.comparable(panel, "rules")) == ["rules"]
    assert list(sensitivity.comparable(panel, "people")) == ["rules", "people"]
