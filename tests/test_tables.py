"""Tables: what they hold, what is bold, and that every form is well made."""

import re
from functools import cache
from pathlib import Path

import pandas as pd
import pytest
import synthetic
import yaml

from perg_utils.metrics import metrics, score
from perg_utils.profile import Profile
from perg_utils.table_forms import as_html, latex, markdown, save
from perg_utils.tables import accuracy_table, all_tables, delivery_table, main_table, method_table, notes


@cache
def made(models: int) -> tuple[pd.DataFrame, pd.DataFrame, Profile]:
    scores = score(**synthetic.tables(models, 120))
    return metrics(scores), scores, Profile.model_validate(yaml.safe_load(synthetic.profile_text(models)))


def tiny(**values: float) -> pd.DataFrame:
    """A `metrics` table of zero-shot breakage in the relevant setting, one model a value."""
    rows = [
        {"model": m, "method": "zero_shot", "setting": "relevant", "source": "ALL", "metric": "breakage_rate"}
        | {"value": v, "low": v - 1, "high": v + 1, "n": 100, "n_unscored": 0}
        for m, v in values.items()
    ]
    return pd.DataFrame(rows)


@pytest.mark.parametrize("models", [1, 3, 14])
def test_every_table_has_a_row_for_every_model_and_only_scored_numbers(models):
    tables = {t.name: t for t in all_tables(*made(models))}
    assert len(tables) == 9
    assert len(tables["main"].cells) == models
    assert len(tables["methods"].cells) == 5 * models
    assert len(tables["categories"].cells) == 4 * models
    for table in tables.values():
        assert not table.cells.isna().any().any() and table.best.shape == table.cells.shape


def test_the_lowest_value_is_bold_ties_as_printed_included():
    table = main_table(tiny(a=10.04, b=10.0, c=12.0), made(1)[2])
    assert table.best["ALL", "BR"].tolist() == [True, True, False]
    assert "| **10.0** |" in markdown(table) and "| 12.0 |" in markdown(table)


def test_a_value_alone_is_not_bold():
    assert not main_table(tiny(a=10.0), made(1)[2]).best.any(axis=None)


def test_the_highest_accuracy_is_bold():
    table = accuracy_table(*made(3)[::2])
    column = ("accuracy without", "ALL")
    shown = table.cells[column].str.split().str[0].astype(float)
    assert table.best[column].tolist() == (shown == shown.max()).tolist()


def test_the_best_method_is_found_within_each_model():
    table = method_table(*made(3)[::2])
    shown = table.cells["", "BR"].str.split().str[0].astype(float)
    lowest = shown.groupby(table.cells["", "model"]).transform("min")
    assert table.best["", "BR"].tolist() == (shown == lowest).tolist()


def test_csv_holds_the_raw_numbers(tmp_path):
    table = main_table(*made(3)[::2])
    paths = save(table, tmp_path)
    assert [p.suffix for p in paths] == [".csv", ".md", ".tex"]
    back = pd.read_csv(paths[0])
    raw = made(3)[0].query("method == 'zero_shot' and setting == 'relevant'")
    raw = raw[raw["metric"].isin(back["metric"])]
    assert back["value"].tolist() == pytest.approx(raw["value"].tolist())
    assert {"low", "high", "n", "n_unscored"} <= set(back)


def test_latex_is_balanced_escaped_and_as_wide_as_it_says():
    for table in all_tables(*made(3)):
        text = latex(table)
        assert text.count("{") == text.count("}") and text.count(r"\begin{") == text.count(r"\end{") == 2
        assert not re.search(r"(?<!\\)[_%#]", text.replace("{!}{%", "{!}{"))
        columns = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)[1])
        body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
        assert {line.count(" & ") + 1 for line in body} == {columns} == {table.cells.shape[1]}


def test_latex_groups_span_their_columns():
    text = latex(main_table(*made(3)[::2]))
    assert text.count(r"\multicolumn{4}{c}") == 4 and r"\cmidrule(lr){2-5}" in text


def test_names_that_mean_something_to_markup_are_escaped():
    table = main_table(tiny(**{"a|b<c>_%": 1.0, "d": 2.0}), made(1)[2])
    assert r"a\|b<c>" in markdown(table)
    assert "a|b&lt;c&gt;" in as_html(table)
    assert r"a|b\textless{}c\textgreater{}\_\%" in latex(table)


def test_captions_say_that_the_world_is_invented_and_n():
    for table in all_tables(*made(3)):
        assert "Invented world" in table.caption and "n" in table.caption
    real = made(3)[2].model_copy(update={"world": "real"})
    assert "nvented" not in main_table(made(3)[0], real).caption


def test_more_than_one_percent_of_unscored_rows_is_said_on_every_table():
    profile = made(1)[2]
    few, many = tiny(a=1.0, b=2.0), tiny(a=1.0, b=2.0)
    few["n_unscored"], many["n_unscored"] = [0, 1], [0, 2]
    assert "WARNING" not in notes(few, profile)
    assert "WARNING: up to 2.0 %" in notes(many, profile) and "(b, zero_shot, relevant" in notes(many, profile)
    assert "WARNING" in main_table(many, profile).caption


def test_captions_name_the_judge_where_alignment_or_robustness_is_shown_and_nowhere_else():
    raw = yaml.safe_load(synthetic.profile_text(3))
    raw["judge"] = {"kind": "llm", "model": {"name": "J-9", "engine": "api", "model": "j"}}
    table, scores, rules = made(3)
    for profile, judge in ((rules, "heuristic (embedded styles)"), (Profile.model_validate(raw), "J-9")):
        for one in all_tables(table, scores, profile):
            judged = one.name in {"main", "methods", "settings", "pref_aligner", "method_comparisons"}
            assert (f"Judge: {judge}." in one.caption) == judged, one.name
            assert ("Judge" in one.caption) == judged, one.name


def delivered(without: list[bool | None], with_: list[bool | None]) -> pd.DataFrame:
    """Scores of zero-shot, relevant, one question a value, and the baseline row that belongs to each."""
    arm = {"model": "S", "method": "zero_shot", "setting": "relevant", "sampled": True}
    rows = pd.DataFrame({"delivered_without": without, "delivered_with": with_}, dtype="boolean").assign(**arm)
    base = rows.assign(method="no_preference", setting="none", delivered_with=pd.NA)
    return pd.concat([base, rows], ignore_index=True)


def delivery(scores: pd.DataFrame):
    rows = [("no_preference", "none"), ("zero_shot", "relevant")]
    table = pd.concat(tiny(S=1.0).assign(method=m, setting=s, metric="delivery_failure") for m, s in rows)
    return delivery_table(table, scores, made(1)[2])


def test_delivery_failure_is_counted_in_both_arms_of_the_same_questions():
    # 100 questions: 6 fail in both arms, 2 only without, 7 only with preference; one more has no response with it.
    without = [False] * 8 + [True] * 92 + [False]
    with_ = [False] * 6 + [True] * 2 + [False] * 7 + [True] * 85 + [None]
    found = delivery(delivered(without, with_))
    (row,) = found.data.to_dict("records")
    assert [row[k] for k in ("failed_without", "failed_with", "worse", "better", "n", "n_unscored")] == [
        *(8, 13, 7, 2, 100, 1)
    ]
    assert (row["without"], row["with"], row["difference"]) == pytest.approx((8, 13, 5))
    assert row["low"] < 5 < row["high"] and row["relative_change"] == pytest.approx(62.5)
    shown = found.cells[""].iloc[0]
    assert (shown["without"], shown["with"], shown["relative change"]) == ("8 (8.0 %)", "13 (13.0 %)", "+62 %")
    assert shown["difference"].startswith("+5.0 [") and shown["n"] == 100


@pytest.mark.parametrize(("before", "shown"), [(0, "–"), (1, "–"), (4, "–"), (5, "+120 %")])
def test_no_relative_change_is_given_of_fewer_than_five(before, shown):
    found = delivery(delivered([False] * before + [True] * (360 - before), [False] * 11 + [True] * 349))
    assert found.cells["", "relative change"].tolist() == [shown]
    assert found.cells["", "with"].tolist() == ["11 (3.1 %)"]


def test_rows_of_preferences_that_were_not_sampled_are_no_delivery_failures_of_the_table():
    scores = delivered([True] * 4, [True, False, False, False])
    scores["sampled"] = [True] * 4 + [True, True, False, False]
    assert delivery(scores).data[["failed_with", "n"]].to_numpy().tolist() == [[1, 2]]


def test_a_model_whose_aligner_is_another_is_set_against_the_zero_shot_of_its_weights():
    scores = made(3)[1]
    raw = yaml.safe_load(synthetic.profile_text(3))
    raw["models"].append(raw["models"][0] | {"name": "S+L", "aligner": "L", "methods": ["pref_aligner"]})
    own = scores["model"].eq("S") & scores["method"].isin(["no_preference", "pref_aligner"])
    both = pd.concat([scores, scores[own].assign(model="S+L")])
    tables = {t.name: t for t in all_tables(metrics(both), both, Profile.model_validate(raw))}
    cells = tables["pref_aligner"].cells
    assert "S+L (against S)" in cells["", "model"].tolist()


def test_a_run_without_rows_for_a_table_leaves_it_out():
    _, scores, profile = made(3)
    only = scores[scores["method"].isin(["no_preference", "zero_shot"]) & (scores["setting"] != "placebo")]
    names = {t.name for t in all_tables(metrics(only), only, profile)}
    assert "pref_aligner" not in names and "placebo" not in names and "main" in names


def test_saving_twice_writes_the_same_bytes(tmp_path):
    first, second = (
        [p.read_bytes() for t in all_tables(*made(3)) for p in save(t, tmp_path / name)] for name in ("a", "b")
    )
    assert first == second and Path(tmp_path / "a" / "main.tex").is_file()
