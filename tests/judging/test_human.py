import re

import pandas as pd
import pytest
from test_annotation import fill, given, small_run

from perg_utils.core.errors import DataError
from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ProfileError
from perg_utils.core.schema import ROW_ID
from perg_utils.judging import annotation, sensitivity
from perg_utils.judging.human import COLUMNS, RatingsError, read_ratings
from perg_utils.judging.panel import counts, judge_panel, read_panel, side_by_side
from perg_utils.judging.rating import check_judges, judge
from perg_utils.judging.rubric import Case
from perg_utils.reporting.limits import caveats
from perg_utils.run import pipeline
from perg_utils.scoring.rates import metrics
from perg_utils.scoring.scores import score

NAMES = ("responses", "examples", "preferences")


@pytest.fixture
def rated(tmp_path):
    """A run of 24 responses, a sheet of 12 of them, and the ratings of two people who agree on all but one item."""
    profile, workspace = small_run(tmp_path / "run")
    folder = tmp_path / "sheet"
    annotation.sample(profile, workspace, folder, 12)
    odd = pd.read_csv(folder / "key.csv")["item"][0]
    ann = fill(folder, "ann", given)
    bob = fill(folder, "bob", lambda row: 2 if row.item == odd else given(row))
    annotation.merge(profile, workspace, folder, [ann, bob])
    return workspace, folder / "ratings.csv"


def profile_by(path, *more):
    return load_profile("demo", ["judge.kind=people", f"judge.ratings={path}", *more])


def tables(workspace):
    return [workspace.read(name) for name in NAMES]


def test_people_are_a_main_judge_and_what_nobody_rated_is_unscored_and_never_not_followed(rated, capsys):
    workspace, path = rated
    profile = profile_by(path)
    found = judge(profile, *tables(workspace))
    assert set(found["judge"]) == {"people"}
    assert found["status"].value_counts().to_dict() == {"not_applicable": 24, "unrated": 12, "ok": 12}
    open_ones = found[found["status"] == "unrated"]
    assert open_ones["rating"].isna().all() and set(open_ones["explanation"]) == {"nobody has rated this response"}
    assert (
        "people: 12 of 24 responses rated, 1 of them differently by different raters; 0 more" in capsys.readouterr().out
    )
    responses, examples, bank = tables(workspace)
    answers = responses[ROW_ID].assign(answer="GOLDEN", how="x", status="ok")
    scores = score(examples, responses, answers, found, bank, threshold=3)
    failed = metrics(scores).query("metric == 'alignment_failure' and setting == 'relevant' and source == 'ALL'")
    low = int((found["rating"] < 3).sum())
    assert failed["n"].sum() == 12 and failed["n_unscored"].sum() == 12
    assert (failed["n"] * failed["value"]).sum() == pytest.approx(100 * low) and low > 0
    assert any(
        "one judge, people: people, who rated part of the responses" in said for said in caveats(failed, profile)
    )


def test_people_are_a_judge_of_a_panel_beside_rules_and_never_compared_with_themselves(rated, tmp_path):
    workspace, path = rated
    profile = load_profile("demo", [f"judges=[{{kind: people, ratings: '{path}'}}, {{kind: cues}}]"])
    judge_panel(profile, workspace)
    panel = read_panel(profile, workspace)
    assert list(panel) == ["heuristic (embedded styles)", "people", "heuristic (cues)"]
    assert counts(panel).loc["people", "unrated"] == 12
    sheets = [path.parent / f"{name}.csv" for name in ("ann", "bob")]
    _, found = annotation.merge(profile, workspace, path.parent, sheets)
    assert set(found["other"]) == {"person bob", "heuristic (embedded styles)", "heuristic (cues)"}
    _, found = annotation.merge(profile_by(path), workspace, path.parent, sheets)
    assert "people" not in set(found["other"])


def test_judges_who_rated_a_part_are_known_and_compared_on_the_rows_that_all_rated(rated):
    workspace, path = rated
    profile = load_profile("demo", [f"judges=[{{kind: people, ratings: '{path}'}}]"])
    panel = judge_panel(profile, workspace)
    assert sensitivity.partial(panel) == ["people"]
    ratings = side_by_side(panel, workspace.read("examples"), workspace.read("preferences"))
    found = sensitivity.on_shared(ratings, list(panel), 3).set_index(["model", "judge"])
    assert found.loc["all", "n"].tolist() == [12, 12]
    # The sheet holds 4 responses rated 1 by the rules; one person of two gave 2 to one more item.
    odd = pd.read_csv(path.parent / "key.csv")["stratum"][0].endswith("5")
    assert found.loc[("all", "heuristic (embedded styles)"), "value"] == pytest.approx(100 * 4 / 12)
    assert found.loc[("all", "people"), "value"] == pytest.approx(100 * (4 + odd) / 12)
    line = found.loc[("all", "heuristic (embedded styles)")]
    assert (line["low"], line["high"]) == pytest.approx((9.92, 65.11), abs=0.01)
    assert found["n"].groupby("judge").sum().tolist() == [24, 24], "the models' rows add up to all"


def line(row, who, rating, pair="p", note=""):
    return dict(zip(ROW_ID, row, strict=True)) | {"judge": who, "rating": rating, "pair": pair, "explanation": note}


ROW = ("q1", "clarity-1", "S", "zero_shot", "relevant")


@pytest.mark.parametrize(
    ("ratings", "settled"),
    [((4,), 4), ((1, 5), 1), ((2, 3), 2), ((2, 3, 5), 3), ((5, 1, 5), 5), ((2, 4, 3, 5), 3), ((3, 3, 1, 1), 1)],
)
def test_several_people_are_settled_by_the_lower_median(tmp_path, ratings, settled):
    from perg_utils.judging.human import HumanJudge

    case = Case("?", ("a", "b"), "wish", None, "plain", "styled", ROW)
    lines = [line(ROW, f"person {n}", rating, case.pair()) for n, rating in enumerate(ratings)]
    lines[0]["explanation"] = "a note"
    pd.DataFrame(lines).to_csv(tmp_path / "r.csv", index=False)
    [found] = HumanJudge("people", tmp_path / "r.csv").rate([case])
    assert found.rating == settled and f"person 0 {ratings[0]} (a note)" in found.explanation


@pytest.mark.parametrize("column", ["response", "question", "text", "plain"])
def test_a_rating_holds_for_what_was_shown_and_a_change_of_any_of_it_is_counted_and_unrated(rated, capsys, column):
    workspace, path = rated
    responses, examples, bank = tables(workspace)
    chosen = pd.read_csv(path)
    row = tuple(chosen.loc[0, ROW_ID])
    if column == "response":
        at = (responses[ROW_ID].apply(tuple, axis=1)) == row
        responses.loc[at, "response"] = "Another response."
    elif column == "plain":
        at = (responses["example_id"] == row[0]) & (responses["model"] == row[2]) & (responses["setting"] == "none")
        responses.loc[at, "response"] = "Another plain response."
    elif column == "question":
        examples.loc[examples["example_id"] == row[0], "question"] = "Another question?"
    else:
        bank.loc[bank["preference_id"] == row[1], "text"] = "Another wish."
    found = judge(profile_by(path), responses, examples, bank)
    at = found[found[ROW_ID].apply(tuple, axis=1) == row].iloc[0]
    assert (at["status"], pd.isna(at["rating"])) == ("unrated", True)
    assert at["explanation"].startswith("rated by 2, but what was shown")
    changed = 6 if column == "text" else 1  # half of the sheet is rated under the same preference
    assert f"{changed} more have changed since they were rated" in capsys.readouterr().out
    assert (found["status"] == "ok").sum() == 12 - changed


def test_a_rated_response_that_is_lost_is_counted_as_changed_and_keeps_the_reason_of_its_loss(rated, capsys):
    workspace, path = rated
    responses, examples, bank = tables(workspace)
    row = tuple(pd.read_csv(path).loc[0, ROW_ID])
    responses.loc[responses[ROW_ID].apply(tuple, axis=1) == row, ["response", "status"]] = [None, "api_error"]
    found = judge(profile_by(path), responses, examples, bank)
    assert (found["status"] == "api_error").sum() == 1 and (found["status"] == "ok").sum() == 11
    assert "1 more have changed since" in capsys.readouterr().out


def test_merging_after_a_response_has_changed_compares_no_judge_on_it_and_says_so(rated):
    workspace, path = rated
    responses = workspace.read("responses")
    key = pd.read_csv(path.parent / "key.csv")
    row = tuple(key.loc[0, ROW_ID])
    responses.loc[responses[ROW_ID].apply(tuple, axis=1) == row, "response"] = "Another response."
    workspace.write("responses", responses)
    sheets = [path.parent / f"{name}.csv" for name in ("ann", "bob")]
    people, found = annotation.merge(load_profile("demo"), workspace, path.parent, sheets)
    by_pair = found[found["by"] == "all"].set_index(["judge", "other"])["n"]
    assert by_pair[("person ann", "person bob")] == 12
    assert by_pair.drop(("person ann", "person bob")).eq(11).all()
    assert "1 responses have changed since the sheet was made" in annotation.describe(people, found)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([line(ROW, "ann", "6")], "entry 1: rating '6' is no whole number from 1 to 5"),
        ([line(ROW, "ann", "0")], "rating '0'"),
        ([line(ROW, "ann", "3.5")], "rating '3.5'"),
        ([line(ROW, "ann", "3"), line(ROW, "ann", "4")], "entry 2: ann has rated this response already"),
        ([{name: "x" for name in COLUMNS if name != "pair"}], "has no columns ['pair']"),
    ],
)
def test_a_file_that_cannot_be_used_is_an_error_that_names_the_line(tmp_path, lines, said):
    pd.DataFrame(lines).to_csv(tmp_path / "r.csv", index=False)
    with pytest.raises(RatingsError, match=re.escape(said)):
        read_ratings(tmp_path / "r.csv")


def test_a_missing_or_broken_file_is_found_before_a_run_starts(tmp_path):
    with pytest.raises(RatingsError, match="no file of human ratings"):
        check_judges(profile_by(tmp_path / "absent.csv"))
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00rating")
    for name in ("empty", "bytes"):
        with pytest.raises(RatingsError, match="cannot be read"):
            check_judges(profile_by(tmp_path / f"{name}.csv"))


def test_a_rating_of_a_response_that_the_run_does_not_have_is_an_error(rated):
    workspace, path = rated
    ratings = pd.read_csv(path)
    ratings.loc[3, "example_id"] = "q99"
    ratings.to_csv(path, index=False)
    with pytest.raises(RatingsError, match="1 ratings are of responses that this run does not have") as error:
        judge(profile_by(path), *tables(workspace))
    assert "entry 4: q99" in str(error.value)


def test_items_that_were_left_open_are_no_ratings_and_an_empty_file_rates_nothing(rated):
    workspace, path = rated
    ratings = pd.read_csv(path, dtype=str).assign(rating="")
    ratings.to_csv(path, index=False)
    found = judge(profile_by(path), *tables(workspace))
    assert found["rating"].isna().all() and (found["status"] == "unrated").sum() == 24


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["judge.kind=people"], "judge.ratings"),
        (["judge.ratings=x.csv"], "for kind 'people'"),
        (["judges=[{kind: people, ratings: a.csv}, {kind: people, ratings: b.csv}]"], "names must differ"),
    ],
)
def test_a_profile_with_people_names_their_file_and_no_other_judge_does(overrides, said):
    with pytest.raises(ProfileError, match=re.escape(said)):
        load_profile("demo", overrides)


def test_a_new_rating_makes_the_judging_step_due_again_and_no_step_before_it(rated, tmp_path):
    workspace, path = rated
    profile = profile_by(path)
    from perg_utils.run.state import Fingerprints

    def prints():
        seen = Fingerprints(profile)
        return {step.id: seen.of(step) for step in pipeline.steps(profile, workspace)}

    before = prints()
    path.write_text(path.read_text() + "\n")
    after = prints()
    assert [name for name in before if before[name] != after[name]] == ["05_judge_alignment"]


def test_a_sheet_without_hashes_cannot_be_merged(rated):
    workspace, path = rated
    key = pd.read_csv(path.parent / "key.csv").drop(columns="pair")
    key.to_csv(path.parent / "key.csv", index=False)
    with pytest.raises(annotation.AnnotationError, match="no column 'pair'"):
        annotation.merge(load_profile("demo"), workspace, path.parent, [path.parent / "ann.csv"])


def test_responses_without_their_question_are_an_error_as_for_any_judge(rated):
    workspace, path = rated
    responses, examples, bank = tables(workspace)
    with pytest.raises(DataError, match="belongs to no example"):
        judge(profile_by(path), responses, examples.iloc[:0], bank)
