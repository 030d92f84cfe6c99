"""Figures: drawn for 1 to 14 models, with nothing cut off or overlapping, byte for byte the same again."""

from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
import pytest
import synthetic
import yaml
from matplotlib import figure as mpl
from matplotlib import rc_context
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex

from perg_utils.core.profile import ROOT, Profile
from perg_utils.core.run import Run
from perg_utils.core.schema import ALL_MODELS, ALL_SOURCES, TABLES, Method, Source, conform
from perg_utils.published.checks.gold import NOTES
from perg_utils.published.checks.reproduction import reproduce
from perg_utils.published.printed import PRINTED, printed_metrics
from perg_utils.reporting import figures
from perg_utils.reporting import tables as printed_tables
from perg_utils.reporting.figures import Figure, drawing, violins
from perg_utils.reporting.figures.captions import CAPTIONS
from perg_utils.scoring import changes
from perg_utils.scoring.churn import churn
from perg_utils.scoring.rates import followed_model, metrics
from perg_utils.scoring.scores import score

SIZES = [1, 4, 14]

#: Figures that have notebooks of their own, where a profile has what they show.
ELSEWHERE = {"extractor", "extraction", "difficulty", "judges", "practice"}
#: Figures of studies, with the folder of figures/studies that holds one and what else their functions take.
STUDIES = {
    "contrasts": ("stages", {}),
    **{f"stages_{setting}": ("stages", {"setting": setting}) for setting in ("relevant", "mixed", "irrelevant")},
    "blame": ("stages", {}),
    "frontier": ("cost", {}),
    "acceptability": ("cost", {}),
    "odds": ("delivery", {}),
    "delivery_cells": ("delivery", {}),
    "cures": ("delivery_real", {}),
    "distance": ("distance", {}),
    "judge_auc": ("distance", {}),
    "free_form": ("free_form", {}),
    **{
        f"tuning_{measure}": ("tuning", {"measure": measure})
        for measure in ("robust_accuracy", "accuracy", "placebo_breakage", "followed")
    },
}
#: Of one machine's seconds: never committed.
NOT_KEPT = {"latency"}
EVERY_RUN = [name for name in CAPTIONS if name not in {*ELSEWHERE, *STUDIES, *NOT_KEPT, "reproduction"}]
#: Figures that show the judge's ratings.
JUDGED = {"scatter", "settings", "methods", "aligner", "robust_accuracy", "method_differences"}
#: What the paper's printed figures allow.
PRINTED_FIGURES = ["pipeline", "scatter", "variation", "settings", "methods", "aligner", "one_model"]
NO_SCORES = conform("scores", pd.DataFrame(columns=list(TABLES["scores"])))


@cache
def tables(models: int) -> tuple[pd.DataFrame, pd.DataFrame, Profile]:
    """Metrics, scores (zero_shot also with every other preference of the source) and profile of a made-up run."""
    sampled = score(**synthetic.tables(models, 120))
    rng = np.random.default_rng(1)
    zero_shot = sampled[(sampled["method"] == "zero_shot") & (sampled["setting"] == "relevant")]
    others = [sampled]
    for source, rows in zero_shot.groupby("source"):
        for preference in synthetic.bank_of(source):
            other = rows[rows["preference_id"] != preference].assign(preference_id=preference, sampled=False)
            others.append(other.assign(correct_with=other["correct_with"] ^ (rng.random(len(other)) < 0.1)))
    return metrics(sampled), conform("scores", pd.concat(others)), profile(models)


def of(metrics_: pd.DataFrame, scores: pd.DataFrame = NO_SCORES, run: Profile | None = None) -> Run:
    return synthetic.opened(run or profile(4), metrics=metrics_, scores=scores)


def drawn(*made_of: Any) -> dict[str, Figure]:
    """The figures of a run that it has rows for."""
    return {name: one for name, one in figures.all(of(*made_of)).items() if not one.absent}


def drawing_of(made: Figure) -> tuple[mpl.Figure, pd.DataFrame]:
    assert made.figure is not None, made.absent
    return made.figure, made.data


def pairs(*made_of: Any) -> list[tuple[str, tuple[mpl.Figure, pd.DataFrame]]]:
    return [(name, (one.figure, one.data)) for name, one in drawn(*made_of).items()]


@cache
def made_once(models: int) -> dict[str, tuple[mpl.Figure, pd.DataFrame]]:
    """The figures of `tables`, drawn once for all tests that only look at them."""
    return dict(pairs(*tables(models)))


def profile(models: int, **changes: object) -> Profile:
    return Profile.model_validate(yaml.safe_load(synthetic.profile_text(models)) | changes)


@cache
def redrawn() -> tuple[pd.DataFrame, pd.DataFrame, Profile]:
    raw = {"name": "published", "title": "", "data": {"origin": "published"}, "judge": {"kind": "published"}}
    return printed_metrics(), NO_SCORES, Profile.model_validate(raw | {"models": [], "grid": {}})


def texts(fig: mpl.Figure) -> dict[str, object]:
    """Where each visible text lies, in pixels, by its words."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    with rc_context(drawing.STYLE):
        FigureCanvasAgg(fig).draw()
        axes = [axis for one in fig.axes for axis in (one.xaxis, one.yaxis) if (one.name, axis) != ("polar", one.xaxis)]
        ends = [(tick, *sorted(axis.get_view_interval())) for axis in axes for tick in axis.get_major_ticks()]
        # Ticks beyond the ends of an axis exist but are not drawn.
        beyond = {tick.label1 for tick, low, high in ends if not low <= tick.get_loc() <= high}
        found = [t for t in fig.findobj(Text) if t.get_text().strip() and t.get_visible() and t not in beyond]
        return {f"{t.get_text()} #{i}": Text.get_window_extent(t) for i, t in enumerate(found)}


def overlaps(fig: mpl.Figure) -> list[tuple[str, str]]:
    """Pairs of texts that lie on each other, and texts that leave the figure."""
    labels = list(texts(fig).items())
    width, height = fig.bbox.width, fig.bbox.height
    found = [
        (words, "the edge")
        for words, box in labels
        if min(box.x0, box.y0) < -1 or box.x1 > width + 1 or box.y1 > height + 1
    ]
    for i, (words, box) in enumerate(labels):
        for others, other in labels[i + 1 :]:
            dx = min(box.x1, other.x1) - max(box.x0, other.x0)
            dy = min(box.y1, other.y1) - max(box.y0, other.y0)
            # A font's line box is taller than its letters: touching boxes are not touching letters.
            if dx > 2 and dy > 0.35 * min(box.height, other.height):
                found.append((words, others))
    return found


@pytest.mark.parametrize("models", SIZES)
def test_no_text_is_cut_off_at_the_sides_or_lies_on_another(models):
    measured, scores, usual = tables(models)
    judge = usual.judge.model_copy(update={"name": "a judge of a long name (embedded styles)"})
    named = usual.model_copy(update={"judge": judge})
    for name, (fig, _) in pairs(measured, scores, named):
        assert overlaps(fig) == [], name


def test_no_text_is_cut_off_or_lies_on_another_in_figures_of_checks():
    run = of(tables(4)[0])
    held = {name: pd.read_csv(ROOT / f"figures/demo/{name}.csv") for name in ELSEWHERE - {"difficulty"}}
    curve = pd.DataFrame({"samples": [1800, 36000], "loss": [1.8, 0.1], "check_loss": [2.1, 0.8]})
    shares = pd.DataFrame({"difficulty": [*NOTES.values(), "all"], "n": 342})
    shares = shares.assign(**{f"{who}{end}": 50.0 for who in ("original", "rules") for end in ("", "_low", "_high")})
    cells = reproduce(printed_metrics()).assign(ours=lambda t: t["published"], verdict="exact")
    for made in (
        figures.extractor(run, curve, held["extractor"], 36000),
        figures.extraction(run, held["extraction"]),
        figures.difficulty(run, shares),
        figures.judges(run, held["judges"]),
        figures.practice(run, held["practice"]),
        figures.reproduction(run, cells),
    ):
        assert overlaps(drawing_of(made)[0]) == [], made.name


def test_judges_of_a_model_that_is_never_right_are_a_figure_that_says_so():
    nothing = pd.read_csv(ROOT / "figures/demo/judges.csv").assign(n=0)
    made = figures.judges(of(tables(4)[0]), nothing)
    assert made.absent.startswith("Not in this run") and "No question is right" in made.absent and made.save() == []


@pytest.mark.parametrize("name", STUDIES)
def test_no_text_is_cut_off_or_lies_on_another_in_figures_of_studies(name):
    folder, options = STUDIES[name]
    held = pd.read_csv(ROOT / f"figures/studies/{folder}/{name}.csv")
    if name == "judge_auc":
        held = held.rename(columns={"value": "auc", "low": "auc_low", "high": "auc_high", "n": "pairs"})
    draw = getattr(figures, name.partition("_")[0] if name.startswith(("stages_", "tuning_")) else name)
    made = draw(of(tables(4)[0]), held.drop(columns=["start"], errors="ignore"), **options)
    assert overlaps(drawing_of(made)[0]) == []


def test_no_text_is_cut_off_or_lies_on_another_in_figures_of_seconds_and_cures():
    run = of(tables(4)[0])
    times = pd.DataFrame({"model": ["S", "S"], "arm": ["zero_shot", "pref_aligner"], "reading": 0.1, "writing": 0.4})
    one = {"value": 50.0, "low": 30.0, "high": 70.0, "tokens": 1.1, "n": 20, "not_worse": True}
    cures = pd.DataFrame([{"model": m, "cure": c, **one} for m in ("S", "M") for c in ("reminder", "follow-up")])
    for made in (figures.latency(run, times.assign(value=0.5, low=0.4, high=0.6, n=6)), figures.cures(run, cures)):
        assert overlaps(drawing_of(made)[0]) == [], made.name


def test_no_text_is_cut_off_or_lies_on_another_in_figures_redrawn_from_print():
    for name, (fig, _) in pairs(*redrawn()):
        assert overlaps(fig) == [], name


@pytest.mark.parametrize("models", SIZES)
def test_every_figure_fits_a_column_and_carries_the_data_it_was_drawn_from(models):
    made = made_once(models)
    assert list(made) == EVERY_RUN
    for name, (fig, data) in made.items():
        assert fig.get_figwidth() == drawing.WIDTH
        assert fig.get_figheight() <= drawing.TALLEST
        if name != "pipeline":
            assert {"model", "low", "high", "n", "n_unscored"} <= set(data), name
            named = set(data["model"]) - {ALL_MODELS}
            assert len(named) == (1 if name == "one_model" else models)


def test_the_scatter_draws_each_model_at_its_values_and_says_its_robustness_error():
    fig, data = drawing_of(figures.scatter(of(tables(4)[0])))
    value = data.set_index(["model", "metric"])["value"]
    marks = {tuple(line.get_xydata()[0]) for line in fig.axes[0].lines if len(line.get_xydata()) == 1}
    for model in data["model"].unique():
        assert (value[model, "alignment_failure"], value[model, "breakage_rate"]) in marks
    labels = {t.get_text() for t in fig.axes[0].texts}
    assert labels == {f"{m}: RE {value[m, 'robustness_error']:.1f}" for m in data["model"].unique()}


def test_points_in_one_place_keep_their_labels_apart():
    same = tables(14)[0].copy()
    same["value"], same["low"], same["high"] = 10.0, 5.0, 15.0
    fig, _ = drawing_of(figures.scatter(of(same)))
    boxes = sorted((b for w, b in texts(fig).items() if ": RE" in w), key=lambda b: b.y0)
    assert len(boxes) == 14
    assert all(below.y1 <= above.y0 + 3 for below, above in pairwise(boxes))


def test_bars_are_as_long_as_their_values_and_have_the_models_colour():
    metrics_ = tables(4)[0]
    fig, data = drawing_of(figures.settings(of(metrics_)))
    looks = drawing.looks(list(metrics_["model"]))
    for axes, metric in zip(fig.axes, drawing.FAILURES, strict=True):
        own = data[data["metric"] == metric]
        assert [p.get_width() for p in axes.patches] == pytest.approx(own["value"].tolist())
        assert [to_hex(p.get_facecolor()).upper() for p in axes.patches] == [looks[m][0] for m in own["model"]]


def test_a_model_has_one_look_of_its_own_among_fourteen():
    looks = drawing.looks([f"m{i}" for i in range(14)])
    assert len({colour for colour, _ in looks.values()}) == len({marker for _, marker in looks.values()}) == 14


def test_a_model_without_zero_shot_borrows_that_of_its_weights():
    metrics_ = tables(4)[0]
    aligned = metrics_[(metrics_["model"] == "S") & metrics_["method"].isin(["no_preference", "pref_aligner"])]
    both = pd.concat([metrics_, aligned.assign(model="S+L")])
    alone = figures.aligner(of(both)).data
    raw = yaml.safe_load(synthetic.profile_text(4))
    raw["models"].append(raw["models"][0] | {"name": "S+L", "methods": ["pref_aligner"], "aligner": "L"})
    data = figures.aligner(of(both, run=Profile.model_validate(raw))).data
    assert "S+L" not in set(alone["model"])
    before = data[data["shown"] == "zero_shot"].set_index(["model", "metric"])["value"]
    assert before["S+L"].equals(before["S"])


def test_the_invented_world_is_named_in_the_figure_and_a_real_one_is_not():
    for world in ("invented", "real"):
        for name, (fig, _) in pairs(*tables(1)[:2], profile(1, world=world)):
            named = any(t.get_text().startswith("invented world") for t in fig.texts)
            assert named == (world == "invented" and name != "pipeline"), name


def test_figures_of_alignment_or_robustness_name_the_judge_and_no_others_do():
    for name, (fig, data) in made_once(1).items():
        judge = " · judge: heuristic (embedded styles)" if name in JUDGED else ""
        assert (f"invented world{judge}" in [t.get_text() for t in fig.texts]) == (name != "pipeline"), name
        rated = (
            "metric" in data and data["metric"].isin(["robust_accuracy", "alignment_failure", "robustness_error"]).any()
        )
        assert rated == (name in JUDGED)


def test_what_a_run_does_not_hold_is_not_drawn():
    metrics_, scores, run = tables(1)
    some = metrics_[metrics_["setting"].isin(["none", "irrelevant"])]
    assert list(drawn(some, scores.iloc[:0], run)) == ["pipeline", "settings"]
    sampled = drawn(metrics_, scores[scores["sampled"]], run)
    assert set(EVERY_RUN) - set(sampled) == {"churn", "preferences"}


def test_values_that_could_not_be_measured_are_left_out_of_the_drawing():
    gone = tables(4)[0].copy()
    gone.loc[gone["model"] == "M", ["value", "low", "high"]] = float("nan")
    unrated = gone["metric"].isin(["robust_accuracy", "alignment_failure", "robustness_error"])
    for metrics_ in (gone, gone.assign(value=gone["value"].mask(unrated))):
        made = dict(pairs(metrics_, *tables(4)[1:]))
        assert all(texts(fig) for fig, _ in made.values())
        assert "M" not in set(made["methods"][1]["model"])
    # No point without alignment; breakage needs no judge.
    assert "scatter" not in made
    assert len(made["methods"][0].axes) == 1


def test_figures_redrawn_from_print_show_no_interval_and_say_where_they_come_from():
    made = dict(pairs(*redrawn()))
    assert list(made) == PRINTED_FIGURES
    for name, (fig, _) in made.items():
        arms = [arm for axes in fig.axes for lines in axes.findobj(LineCollection) for arm in lines.get_segments()]
        assert not any(np.isfinite(arm).all() and len(arm) for arm in arms), name
        words = [t.get_text() for t in fig.texts]
        assert any(w.startswith("redrawn from the paper") for w in words) == (name != "pipeline"), name
        assert not any("interval" in w for w in words), name


def test_where_scores_are_known_intervals_are_drawn():
    for name, (fig, _) in made_once(4).items():
        arms = [arm for axes in fig.axes for lines in axes.findobj(LineCollection) for arm in lines.get_segments()]
        lines = {"aligner", "dose_response", "accuracy", "robust_accuracy", "method_differences"}
        shown = any(np.isfinite(arm).all() and len(arm) for arm in arms) or name in lines
        assert shown == (name != "pipeline"), name
    assert any("interval" in t.get_text() for t in figures.accuracy(of(tables(4)[0])).figure.texts)


def test_the_scatter_redrawn_is_the_papers():
    paper = pd.read_csv(PRINTED)
    chosen = (paper["method"] == "zero_shot") & (paper["setting"] == "relevant") & (paper["source"] == ALL_SOURCES)
    paper = paper[chosen].pivot(index="model", columns="metric", values="percent")
    fig, data = drawing_of(figures.scatter(of(*redrawn())))
    value = data.pivot(index="model", columns="metric", values="value")
    pd.testing.assert_frame_equal(value, paper[list(value)], check_names=False, check_index_type=False)
    marks = [tuple(line.get_xydata()[0]) for line in fig.axes[0].lines if line.get_marker() not in ("", "None")]
    assert sorted(marks) == sorted(zip(paper["alignment_failure"], paper["breakage_rate"], strict=True))
    assert {t.get_text() for t in fig.axes[0].texts} == {
        f"{m}: RE {v:.1f}" for m, v in paper["robustness_error"].items()
    }


def test_one_model_by_setting_is_the_papers_or_that_with_most_arms():
    data = figures.one_model(of(*redrawn())).data
    value = data.set_index(["method", "setting"])["value"]
    # As printed in the paper.
    assert value["zero_shot"].to_dict() == {"relevant": 5.6, "mixed": 6.9, "irrelevant": 5.5}
    assert value["pref_aligner"].to_dict() == {"relevant": 1.1, "mixed": 1.2, "irrelevant": 1.2}
    metrics_ = tables(4)[0]
    fewer = metrics_[~((metrics_["model"] == "S") & (metrics_["setting"] == "mixed"))]
    fig, data = drawing_of(figures.one_model(of(fewer)))
    assert set(data["model"]) == {"M"}
    assert fig.axes[0].get_title() == "M: breakage (BR)"
    assert figures.one_model(of(metrics_[metrics_["setting"].isin(["none", "relevant"])])).absent


def test_the_figure_and_the_table_of_one_model_follow_the_same_model():
    """A was run with both methods of the figure in two settings, B with three methods in three."""
    metrics_, _, run = tables(2)
    metrics_ = metrics_[metrics_["source"] == "ALL"].assign(model=metrics_["model"].map({"S": "A", "M": "B"}))
    own = metrics_[
        (metrics_["model"] == "A") & metrics_["setting"].isin(["relevant", "mixed"])
        | (metrics_["model"] == "B") & metrics_["setting"].isin(["relevant", "mixed", "irrelevant"])
    ]
    # No model of the made-up run has three methods in three settings: B's pref_aligner stands in for its cot.
    third = own[(own["model"] == "B") & (own["method"] == "pref_aligner")]
    own = own[own["method"].isin(["zero_shot", "pref_aligner"]) & ~own.index.isin(third.index)]
    own = pd.concat([own, third.assign(method="cot"), third.assign(method="few_shot")])
    both = of(own, run=run)
    shown, table = figures.one_model(both).data, printed_tables.one_model(both)
    assert set(shown["model"]) == {"B"} and set(shown["method"]) == {"zero_shot"}
    assert set(table.data["model"]) == {"B"} and table.data["method"].nunique() == 3
    assert followed_model(own) == "B" and followed_model(own[own["model"] == "A"]) == "A"


def test_what_breaks_and_what_is_fixed_add_up_to_the_net_change():
    metrics_, scores, run = tables(4)
    fig, data = drawing_of(figures.net_change(of(metrics_, scores, run)))
    assert (100 * (data["fixed"] - data["broke"]) / data["n"]).tolist() == pytest.approx(data["net"].tolist())
    for axes, column in zip(fig.axes, ("breakage", "fixed_rate", "net"), strict=True):
        drawn = [line.get_xdata()[0] for line in axes.lines if line.get_marker() not in ("", "None")]
        assert drawn == pytest.approx(data[column].tolist())
    breakage = metrics_[
        (metrics_["metric"] == "breakage_rate")
        & (metrics_["source"] == ALL_SOURCES)
        & (metrics_["method"] == "zero_shot")
        & (metrics_["setting"] == "relevant")
    ]
    assert data["breakage"].tolist() == pytest.approx(breakage["value"].tolist())


def test_delivery_failures_are_shown_as_counts_and_as_a_share_only_where_there_were_some_before():
    metrics_, scores, run = tables(4)
    both = scores["delivered_with"].notna() & scores["delivered_without"].notna()
    model_s = scores["sampled"] & (scores["model"] == "S") & (scores["method"] == "zero_shot") & both
    silent = scores.copy()
    silent.loc[model_s, ["delivered_without", "delivered_with"]] = True
    chosen = silent.index[model_s & (scores["setting"] == "relevant")]
    silent.loc[chosen[:8], "delivered_without"] = False
    silent.loc[chosen[4:16], "delivered_with"] = False
    fig, data = drawing_of(figures.delivery(of(metrics_, silent, run)))
    first = data.set_index("model").loc["S"]
    assert (first["failed_without"], first["failed_with"]) == (8, 12)
    assert first["difference"] == pytest.approx(100 * 4 / first["n"])
    words = [t.get_text() for t in fig.axes[0].texts]
    assert "8 → 12" in words and "+50 %" in words
    few = int((data["failed_without"] < changes.LEAST_FOR_RELATIVE).sum())
    assert words.count("–") == few > 0


def test_accuracy_by_preference_is_that_of_the_same_questions_with_each_of_them():
    rows = [
        # question, preference, sampled, right with, right without; the third was not asked with b
        ("q1", "a", True, True, True),
        ("q1", "b", False, False, True),
        ("q2", "a", False, True, False),
        ("q2", "b", True, True, False),
        ("q3", "a", True, False, True),
    ]
    named = pd.DataFrame(rows, columns=["example_id", "preference_id", "sampled", "correct_with", "correct_without"])
    rest = dict.fromkeys(["category", "followed", "robust", "delivered_without", "delivered_with"])
    rest |= dict.fromkeys(["cause", "fallback", "truncated"])
    arm = {"model": "m", "method": "zero_shot", "setting": "relevant", "source": "TQA", "status": "ok"}
    scores = conform("scores", named.assign(**rest, **arm))
    data = violins.by_preference(scores)
    value = {(r.shown, "" if pd.isna(r.preference_id) else r.preference_id): r.value for r in data.itertuples()}
    assert value == {
        ("single preference", "a"): 100.0,
        ("single preference", "b"): 50.0,
        ("sampled assignment", ""): 100.0,
        ("without preference", ""): 50.0,
    }
    assert set(data["n"]) == {2} and set(data["n_unscored"]) == {0}
    assert violins.by_preference(scores[scores["sampled"]]).empty


def test_the_violins_show_every_preference_the_sampled_ones_and_the_answer_without():
    metrics_, scores, run = tables(4)
    fig, data = drawing_of(figures.preferences(of(metrics_, scores, run)))
    counts = data.groupby(["source", "shown"]).size()
    for axes, source in zip(fig.axes, Source, strict=True):
        own = data[(data["source"] == source) & (data["model"] == "S")]
        single = own[own["shown"] == "single preference"]
        assert len(single) == len(synthetic.bank_of(source))
        assert axes.get_title() == source
        assert axes.lines[0].get_xdata().tolist() == pytest.approx(sorted(single["value"]))
        assert counts[source, "sampled assignment"] == counts[source, "without preference"] == 4
        without = own.loc[own["shown"] == "without preference", "value"].iloc[0]
        assert axes.lines[1].get_xdata().tolist() == pytest.approx([without] * 2)


def test_churn_is_drawn_at_its_values_by_source_for_few_models_and_over_all_sources_for_many():
    few = figures.churn(of(*tables(4)))
    measured = churn(tables(4)[1]).query("method == 'zero_shot'").set_index(["model", "source"])
    fig, data = drawing_of(few)
    for axes, names in zip(
        fig.axes,
        (
            ("breakage", "preference_to_preference", "reverse_breakage"),
            ("unstable_share_of_questions", "unstable_share_of_breaks"),
            ("net",),
        ),
        strict=True,
    ):
        points = [line.get_xdata()[0] for line in axes.lines if line.get_marker() not in ("", "None")]
        assert points == pytest.approx([value for name in names for value in measured[name]])
    rows = [t.get_text() for t in fig.axes[0].get_yticklabels()]
    assert rows == ["TQA", "CQA", "MMLU", "ALL"] * 4
    words = {t.get_text() for t in fig.axes[-1].texts}
    assert {f"{v:.2f}" for v in measured["fixed_per_broken"]} <= words
    assert len(data) == 4 * 4 * 7
    many, data = drawing_of(figures.churn(of(*tables(14))))
    assert len(many.axes[0].get_yticklabels()) == 14 and set(data["source"]) == {ALL_SOURCES}


def test_churn_of_one_source_is_not_told_twice_and_nothing_lies_on_another():
    chosen = figures.churn(of(*tables(4)), models=["S", "L"], sources=["TQA"])
    fig, data = drawing_of(chosen)
    assert set(data["source"]) == {"TQA"} and overlaps(fig) == []
    assert figures.churn(of(*tables(4)), method="cot").absent


def test_the_radar_shows_each_of_many_models_by_itself_and_few_together():
    for models, radars in ((1, 1), (4, 1), (14, 14)):
        metrics_, scores, run = tables(models)
        marks = drawing.looks(list(metrics_["model"]))
        fig, data = drawing_of(figures.categories(of(metrics_, scores, run), "TQA"))
        polar = [axes for axes in fig.axes if axes.name == "polar"]
        assert len(polar) == radars
        lines = [line for axes in polar for line in axes.lines]
        colours = [to_hex(line.get_color()).upper() for line in lines]
        assert colours == [colour for colour, _ in marks.values()]
        first = data[data["model"] == "S"].sort_values("category")["value"].tolist()
        assert lines[0].get_ydata().tolist() == pytest.approx([*first, first[0]])


def test_the_diagram_lists_what_it_draws_and_every_arrow_joins_two_boxes():
    fig, data = drawing_of(figures.pipeline(of(*tables(1))))
    boxes = set(data.loc[data["kind"] == "box", "name"])
    arrows = data[data["kind"] == "arrow"]
    assert set(arrows["source"]) | set(arrows["target"]) <= boxes
    assert boxes <= {t.get_text() for t in fig.axes[0].texts}
    assert len(fig.axes[0].patches) == len(boxes)


def test_rendering_again_gives_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        for one in drawn(*tables(4)).values():
            one.save(tmp_path / folder)
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert len(files) == 3 * len(EVERY_RUN)
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert b"CreationDate" not in (tmp_path / "a" / "scatter.pdf").read_bytes()


def test_robust_accuracy_is_drawn_with_both_intervals_beside_the_plain_accuracy():
    metrics_, scores, run = tables(3)
    fig, data = drawing_of(figures.robust_accuracy(of(metrics_, scores, run)))
    assert data["method"].tolist()[:6] == [str(method) for method in Method]
    own = scores.query("model == 'S' and method == 'cot' and setting == 'relevant' and sampled")
    shown = data.query("model == 'S' and method == 'cot'").iloc[0]
    right, rated = own["correct_with"].fillna(False).astype(bool), own["robust"].notna() & own["correct_with"]
    follows = own.loc[rated.fillna(False).astype(bool), "robust"].astype(bool).mean()
    assert shown["value"] == pytest.approx(100 * right.sum() / own["correct_with"].notna().sum() * follows)
    assert (data["wide_low"].fillna(0) <= data["low"]).all() and data["wide_low"].notna().sum() == 15
    lines = [line for line in fig.axes[0].lines if len(line.get_xdata()) == 2]
    assert len(lines) == 2 * len(data)


def test_differences_of_methods_are_those_of_the_table_all_models_first():
    metrics_, scores, run = tables(3)
    opened = of(metrics_, scores, run)
    fig, data = drawing_of(figures.method_differences(opened))
    table = printed_tables.method_comparisons(opened).data
    table = table[table["setting"] == "relevant"]
    assert data["value"].tolist() == table["difference"].tolist() and data["model"].iloc[0] == "ALL"
    assert data[["wide_low", "wide_high"]].to_numpy().tolist() == table[["joint_low", "joint_high"]].to_numpy().tolist()
    said = {text.get_text() for text in fig.axes[0].texts}
    assert {"all models", "S", "M", "L"} <= said and sum(text.startswith("p ") for text in said) > 0
