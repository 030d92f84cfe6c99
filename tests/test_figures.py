"""Figures: drawn for 1 to 14 models, with nothing cut off or overlapping, byte for byte the same again."""

from functools import cache
from itertools import pairwise

import pandas as pd
import pytest
import synthetic
from matplotlib import rc_context
from matplotlib.figure import Figure

from perg_utils import drawing, figures
from perg_utils.metrics import by_category, metrics, score

SIZES = [1, 4, 14]

#: `practice` needs the training record of the embedded models; notebook 12 draws it.
EVERY_RUN = [name for name in figures.CAPTIONS if name != "practice"]


@cache
def tables(models: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    scores = score(**synthetic.tables(models, 120))
    return metrics(scores), by_category(scores)


def texts(fig: Figure) -> dict[str, object]:
    """Where each visible text lies, in pixels, by its words."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.text import Text

    with rc_context(drawing.STYLE):
        FigureCanvasAgg(fig).draw()
        axes = [axis for one in fig.axes for axis in (one.xaxis, one.yaxis) if one.name != "polar"]
        ends = [(tick, *sorted(axis.get_view_interval())) for axis in axes for tick in axis.get_major_ticks()]
        # Ticks beyond the ends of an axis exist but are not drawn.
        beyond = {tick.label1 for tick, low, high in ends if not low <= tick.get_loc() <= high}
        found = [t for t in fig.findobj(Text) if t.get_text().strip() and t.get_visible() and t not in beyond]
        return {f"{t.get_text()} #{i}": Text.get_window_extent(t) for i, t in enumerate(found)}


#: Figures that show the judge's ratings.
JUDGED = {"scatter", "settings", "methods", "aligner"}


@pytest.mark.parametrize("models", SIZES)
def test_no_text_is_cut_off_at_the_sides_or_lies_on_another(models):
    drawn = figures.all_figures(*tables(models), invented=True, judge="a judge of a long name (embedded styles)")
    for name, (fig, _) in drawn.items():
        boxes = texts(fig)
        width, height = fig.bbox.width, fig.bbox.height
        for words, box in boxes.items():
            assert min(box.x0, box.y0) >= -1 and box.x1 <= width + 1 and box.y1 <= height + 1, (name, words)
        labels = list(boxes.items())
        for i, (words, box) in enumerate(labels):
            for others, other in labels[i + 1 :]:
                dx = min(box.x1, other.x1) - max(box.x0, other.x0)
                dy = min(box.y1, other.y1) - max(box.y0, other.y0)
                # A font's line box is taller than its letters: touching boxes are not touching letters.
                assert dx <= 2 or dy <= 0.35 * min(box.height, other.height), (name, words, others)


@pytest.mark.parametrize("models", SIZES)
def test_every_figure_fits_a_column_and_carries_the_data_it_was_drawn_from(models):
    drawn = figures.all_figures(*tables(models))
    assert list(drawn) == EVERY_RUN
    for name, (fig, data) in drawn.items():
        assert fig.get_figwidth() == drawing.WIDTH
        assert {"model", "value", "low", "high", "n", "n_unscored"} <= set(data), name
        assert data["model"].nunique() == models


def test_the_scatter_draws_each_model_at_its_values_and_says_its_robustness_error():
    fig, data = figures.scatter(tables(4)[0])
    value = data.set_index(["model", "metric"])["value"]
    marks = {tuple(line.get_xydata()[0]) for line in fig.axes[0].lines if len(line.get_xydata()) == 1}
    for model in data["model"].unique():
        assert (value[model, "alignment_failure"], value[model, "breakage_rate"]) in marks
    labels = {t.get_text() for t in fig.axes[0].texts}
    assert labels == {f"{m}: RE {value[m, 'robustness_error']:.1f}" for m in data["model"].unique()}


def test_points_in_one_place_keep_their_labels_apart():
    same = tables(14)[0].copy()
    same["value"], same["low"], same["high"] = 10.0, 5.0, 15.0
    fig, _ = figures.scatter(same)
    boxes = sorted((b for w, b in texts(fig).items() if ": RE" in w), key=lambda b: b.y0)
    assert len(boxes) == 14
    assert all(below.y1 <= above.y0 + 3 for below, above in pairwise(boxes))


def test_bars_are_as_long_as_their_values_and_have_the_models_colour():
    from matplotlib.colors import to_hex

    metrics_ = tables(4)[0]
    fig, data = figures.setting_bars(metrics_)
    looks = drawing.looks(list(metrics_["model"]))
    for axes, metric in zip(fig.axes, drawing.METRIC_NAMES, strict=True):
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
    _, alone = figures.aligner_improvement(both)
    _, data = figures.aligner_improvement(both, {"S+L": "S"})
    assert "S+L" not in set(alone["model"])
    before = data[data["shown"] == "zero_shot"].set_index(["model", "metric"])["value"]
    assert before["S+L"].equals(before["S"])


def test_the_invented_world_is_named_in_the_figure_and_a_real_one_is_not():
    for invented in (True, False):
        for name, (fig, _) in figures.all_figures(*tables(1), invented=invented).items():
            assert any(t.get_text() == "invented world" for t in fig.texts) == invented, name


def test_figures_of_alignment_or_robustness_name_the_judge_and_no_others_do():
    for name, (fig, data) in figures.all_figures(*tables(1), invented=True, judge="rules").items():
        said = "invented world · judge: rules" if name in JUDGED else "invented world"
        assert said in [t.get_text() for t in fig.texts], name
        rated = "metric" in data and data["metric"].isin(["alignment_failure", "robustness_error"]).any()
        assert rated == (name in JUDGED)
    real, _ = figures.scatter(tables(1)[0], judge="rules")
    assert [t.get_text() for t in real.texts] == ["judge: rules"]


def test_what_a_run_does_not_hold_is_not_drawn():
    metrics_, categories = tables(1)
    drawn = figures.all_figures(metrics_[metrics_["setting"].isin(["none", "irrelevant"])], categories.iloc[:0])
    assert list(drawn) == ["settings"]


def test_values_that_could_not_be_measured_are_left_out_of_the_drawing():
    gone = tables(4)[0].copy()
    gone.loc[gone["model"] == "M", ["value", "low", "high"]] = float("nan")
    for fig, _ in figures.all_figures(gone, tables(4)[1]).values():
        assert texts(fig)


def test_rendering_again_gives_the_same_bytes(tmp_path):
    for folder in ("a", "b"):
        for name, (fig, data) in figures.all_figures(*tables(4), invented=True).items():
            figures.save(fig, data, tmp_path / folder, name)
    files = sorted(p.name for p in (tmp_path / "a").iterdir())
    assert len(files) == 3 * len(EVERY_RUN)
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes(), name
    assert b"CreationDate" not in (tmp_path / "a" / "scatter.pdf").read_bytes()
