"""What an analyst chooses to show: models, sources, a method, colours; and what is said of names that are wrong."""

from functools import cache

import pytest
import synthetic
import yaml
from matplotlib.colors import to_hex

from perg_utils.core.errors import PergError
from perg_utils.core.profile import Profile
from perg_utils.core.run import Run
from perg_utils.reporting import figures
from perg_utils.reporting.figures.drawing import looks
from perg_utils.reporting.figures.selection import Selection
from perg_utils.scoring.rates import metrics
from perg_utils.scoring.scores import score

MODELS = ["S", "M", "L"]


@cache
def run() -> Run:
    profile = Profile.model_validate(yaml.safe_load(synthetic.profile_text(3)))
    return synthetic.opened(profile, scores=score(**synthetic.tables(3, 120)))


def bars_of(made) -> list[str]:
    """The colours of a figure's bars, from the top down."""
    return [to_hex(patch.get_facecolor()) for patch in made.figure.axes[0].patches]


@pytest.mark.parametrize(
    ("draw", "options", "said"),
    [
        (figures.methods, {"models": ["XL"]}, "no model 'XL' to show; there are: S, M, L"),
        (figures.methods, {"sources": ["TQA", "XQA"]}, "no source 'XQA' to show; there are: TQA, CQA, MMLU"),
        (figures.methods, {"methods": ["zero-shot"]}, "no method 'zero-shot' to show; there are: zero_shot, cot"),
        (figures.methods, {"colours": {"XL": "red"}}, "no model 'XL' to show"),
        (figures.methods, {"colours": ["reddish"]}, "'reddish' is no colour; write e.g. '#882255'"),
        (figures.methods, {"colours": "#882255"}, "not the word '#882255'"),
        (figures.methods, {"models": "S"}, r"models are a list, e.g. \['S'\], not the word 'S'"),
        (figures.categories, {"source": "XQA"}, "no source 'XQA' to show"),
        (figures.judges, {"found": None, "method": "zeroshot"}, "no method 'zeroshot' to show"),
        *((draw, {"method": "zeroshot"}, "no method 'zeroshot' to show; there are: no_preference, zero_shot")
          for draw in (figures.scatter, figures.settings, figures.variation, figures.dose_response, figures.accuracy,
                       figures.net_change, figures.delivery)),
    ],
)  # fmt: skip
def test_a_wrong_name_is_an_error_that_lists_the_right_ones(draw, options, said):
    if draw is figures.judges:
        options = options | {"found": run().read("metrics").assign(judge="one", threshold=3)}
    with pytest.raises(PergError, match=said):
        draw(run(), **options)


def test_several_sources_are_pooled_into_the_metrics_of_their_questions_alone():
    pair = ["TQA", "MMLU"]
    made = figures.methods(run(), sources=pair)
    scores = run().read("scores")
    pooled = metrics(scores[scores["source"].isin(pair)], run().profile.statistics, MODELS).query("source == 'ALL'")
    keys = ["model", "method", "metric"]
    expected = pooled[pooled["setting"] == "relevant"].set_index(keys)["value"]
    assert made.data.set_index(keys)["value"].to_dict() == {
        key: value for key, value in expected.items() if key in set(made.data[keys].itertuples(index=False, name=None))
    }
    assert set(made.data["source"]) == {"ALL"}
    assert made.data["n"].lt(figures.methods(run()).data["n"]).all()
    assert any("only TQA, MMLU" in text.get_text() for text in made.figure.texts)


def test_all_sources_by_name_give_the_values_of_the_whole_run():
    named, whole = (figures.settings(run(), sources=s).data for s in (["MMLU", "CQA", "TQA"], None))
    assert named[["value", "low", "high", "n"]].equals(whole[["value", "low", "high", "n"]])


def test_one_source_alone_is_that_of_the_table_and_is_named():
    data = figures.settings(run(), sources=["CQA"]).data
    table = run().read("metrics").query("source == 'CQA' and method == 'zero_shot'")
    keys = ["model", "setting", "metric"]
    # Three metrics of three models where alignment is rated (two settings), two where it is not (two settings).
    assert set(data["source"]) == {"CQA"} and len(data) == 3 * (3 + 3 + 2)
    assert data.set_index(keys)["value"].to_dict().items() <= table.set_index(keys)["value"].to_dict().items()


def test_scores_are_chosen_like_metrics():
    data = figures.net_change(run(), models=["L", "M"], sources=["TQA"]).data
    scores = run().read("scores")
    own = scores[(scores["source"] == "TQA") & (scores["method"] == "zero_shot") & (scores["setting"] == "relevant")]
    both = own[own["correct_with"].notna() & own["correct_without"].notna()]
    assert data.set_index("model")["n"].to_dict() == both.groupby("model").size().loc[["M", "L"]].to_dict()


def test_a_model_keeps_its_colour_when_others_are_left_out():
    whole = looks(MODELS)
    assert Selection(run(), models=["L"]).looks == whole
    assert set(bars_of(figures.variation(run(), models=["L"]))) == {whole["L"][0].lower()}


def test_a_colour_by_name_changes_that_model_only():
    chosen = Selection(run(), colours={"M": "#882255"}).looks
    assert chosen == looks(MODELS) | {"M": ("#882255", looks(MODELS)["M"][1])}


def test_a_palette_is_used_in_the_order_of_the_models_and_again_from_its_start():
    made = figures.variation(run(), colours=["#112233", "teal"])
    assert bars_of(made) == ["#112233", to_hex("teal"), "#112233"]
    shapes = [mark for _, mark in Selection(run(), colours=["#112233", "teal"]).looks.values()]
    assert shapes == [mark for _, mark in looks(MODELS).values()]


def test_an_empty_palette_leaves_the_colours_as_they_are():
    assert Selection(run(), colours=[]).looks == looks(MODELS)
