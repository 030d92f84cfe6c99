"""Tables: what they hold, what is bold, and that every form is well made."""

import re
import shutil
import subprocess
from functools import cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import synthetic
import yaml

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import Profile
from perg_utils.core.run import Run
from perg_utils.core.schema import TABLES, conform
from perg_utils.published.printed import printed_metrics
from perg_utils.reporting import tables as room
from perg_utils.reporting.tables.forms import ROWS_A_PAGE, Table, Tables, as_html, latex, markdown, save
from perg_utils.scoring.rates import followed_model, metrics
from perg_utils.scoring.scores import score

#: What a run of three models with all methods and settings gives, in the order of the report.
REPORTED = [
    *("robust_accuracy", "method_comparisons", "main", "accuracy", "net_change", "floors", "dose_response", "settings"),
    "one_model",
    *("setting_comparisons", "methods", "pref_aligner", "categories", "delivery", "extraction", "judging"),
    *("relevant_cot", "relevant_few_shot", "relevant_self_critic", "relevant_pref_aligner"),
    *("mixed_zero_shot", "mixed_pref_aligner", "irrelevant_zero_shot", "irrelevant_pref_aligner"),
]


NONE = {name: conform(name, pd.DataFrame(columns=list(TABLES[name]))) for name in TABLES}


@cache
def run(models: int) -> dict[str, pd.DataFrame]:
    return synthetic.tables(models, 120)


@cache
def made(models: int) -> tuple[pd.DataFrame, pd.DataFrame, Profile]:
    scores = score(**run(models))
    return metrics(scores), scores, Profile.model_validate(yaml.safe_load(synthetic.profile_text(models)))


@cache
def every(models: int) -> list[Table]:
    return all_tables(*made(models), run(models)["answers"], run(models)["judgements"])


@cache
def redrawn() -> dict[str, Table]:
    """All tables of the paper's printed figures: every other table of the run is empty."""
    return {one.name: one for one in all_tables(printed_metrics(), NONE["scores"], load_profile("published"))}


def of(
    table: pd.DataFrame, scores: pd.DataFrame = NONE["scores"], profile: Profile | None = None, *more: pd.DataFrame
) -> Run:
    """A run of these tables, `more` being answers and judgements; what is not given is empty."""
    rest = dict(zip(("answers", "judgements"), more, strict=False))
    return synthetic.opened(profile or made(1)[2], **{**NONE, "scores": scores, "metrics": table, **rest})


def all_tables(*made_of: Any) -> list[Table]:
    return [one for one in room.all(of(*made_of)).values() if not one.absent]


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
    tables = {t.name: t for t in every(models)}
    assert list(tables) == (REPORTED if models > 1 else REPORTED[:16])
    assert len(tables["main"].cells) == models
    assert len(tables["net_change"].cells) == len(tables["delivery"].cells) == 10 * models
    assert len(tables["methods"].cells) == 5 * models
    assert len(tables["categories"].cells) == 4 * models
    for table in tables.values():
        assert not table.cells.isna().any().any() and table.best.shape == table.cells.shape


def test_the_lowest_value_is_bold_ties_as_printed_included():
    table = room.main(of(tiny(a=10.04, b=10.0, c=12.0)))
    assert table.best["ALL", "BR"].tolist() == [True, True, False]
    assert "| **10.0** |" in markdown(table) and "| 12.0 |" in markdown(table)


def test_a_value_alone_is_not_bold():
    assert not room.main(of(tiny(a=10.0))).best.any(axis=None)


def test_the_highest_accuracy_is_bold():
    table = room.accuracy(of(*made(3)))
    column = ("accuracy without", "ALL")
    shown = table.cells[column].str.split().str[0].astype(float)
    assert table.best[column].tolist() == (shown == shown.max()).tolist()


def test_the_best_method_is_found_within_each_model():
    table = room.methods(of(*made(3)))
    shown = table.cells["", "BR"].str.split().str[0].astype(float)
    lowest = shown.groupby(table.cells["", "model"]).transform("min")
    assert table.best["", "BR"].tolist() == (shown == lowest).tolist()


def test_csv_holds_the_raw_numbers(tmp_path):
    table = room.main(of(*made(3)))
    paths = save(table, tmp_path)
    assert [p.suffix for p in paths] == [".csv", ".md", ".tex"]
    back = pd.read_csv(paths[0])
    raw = made(3)[0].query("method == 'zero_shot' and setting == 'relevant'")
    raw = raw[raw["metric"].isin(back["metric"])]
    assert back["value"].tolist() == pytest.approx(raw["value"].tolist())
    assert {"low", "high", "n", "n_unscored"} <= set(back)


def test_latex_is_balanced_escaped_and_as_wide_as_it_says():
    for table in every(3):
        text = latex(table)
        assert text.count("{") == text.count("}") and text.count(r"\begin{") == text.count(r"\end{")
        assert not re.search(r"(?<!\\)[_%#]", text.replace("{!}{%", "!{"))
        columns = len(re.search(r"\\begin\{tabular\}\{([lr]+)\}", text)[1])
        body = text.split(r"\midrule")[1].split(r"\bottomrule")[0].strip().splitlines()
        assert {line.count(" & ") + 1 for line in body} == {columns} == {table.cells.shape[1]}


@pytest.mark.parametrize("models", [3, 14])
def test_a_long_table_is_continued_without_losing_a_row_and_parts_end_with_a_model(models):
    for table in every(models):
        text = latex(table)
        parts = [part.split(r"\bottomrule")[0].strip().splitlines() for part in text.split(r"\midrule")[1:]]
        assert sum(map(len, parts)) == len(table.cells) and max(map(len, parts)) <= ROWS_A_PAGE
        assert len(parts) <= -(-len(table.cells) // ROWS_A_PAGE) + 1
        assert text.count(r"\label{") == 1 and text.count(r"\addtocounter{table}{-1}") == len(parts) - 1
        if table.name == "methods":
            first = [[line.split(" & ")[0] for line in part] for part in parts]
            assert all(set(a).isdisjoint(b) for a, b in pairwise(first))


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
@pytest.mark.parametrize("tables", ["of 14 models", "redrawn"])
def test_latex_compiles_in_an_ordinary_article_and_nothing_sticks_out(tables, tmp_path):
    body = "\n\\clearpage\n".join(latex(t) for t in (every(14) if tables == "of 14 models" else redrawn().values()))
    head = "\\documentclass{article}\n\\usepackage{booktabs,graphicx}\n\\begin{document}\n"
    (tmp_path / "all.tex").write_text(head + body + "\n\\end{document}\n", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout.decode(errors="replace")[-2000:]
    log = (tmp_path / "all.log").read_text(encoding="utf-8", errors="replace")
    assert all(float(points) < 20 for points in re.findall(r"Overfull .box \(([\d.]+)pt", log))
    assert "too large" not in log and "Missing character" not in log


def test_latex_groups_span_their_columns():
    text = latex(room.main(of(*made(3))))
    assert text.count(r"\multicolumn{4}{c}") == 4 and r"\cmidrule(lr){2-5}" in text


def test_latex_has_rules_between_groups_and_labels_bold_values_and_small_intervals():
    table = room.main(of(tiny(a=10.0, b=12.0)))
    assert latex(table).split("{!}{%\n")[1].splitlines() == [
        r"\begin{tabular}{lr}",
        r"\toprule",
        r" & ALL \\",
        r"\cmidrule(lr){2-2}",
        r"model & BR \\",
        r"\midrule",
        r"a & \textbf{10.0} \\",
        r"b & 12.0 \\",
        r"\bottomrule",
        r"\end{tabular}}",
        r"\end{table}",
    ]
    assert r"& 10.0 {\scriptsize [9.0, 11.0]} \\" in latex(room.methods(of(tiny(a=10.0, b=12.0))))


def test_names_that_mean_something_to_markup_are_escaped():
    table = room.main(of(tiny(**{"a|b<c>_%": 1.0, "d": 2.0})))
    assert r"a\|b<c>" in markdown(table)
    assert "a|b&lt;c&gt;" in as_html(table)
    assert r"a\textbar{}b\textless{}c\textgreater{}\_\%" in latex(table)


def test_captions_say_that_the_world_is_invented_and_n():
    for table in every(3):
        assert "Invented world" in table.caption and re.search(r"\bn\b|counts", table.caption)
    real = made(3)[2].model_copy(update={"world": "real"})
    assert "nvented" not in room.main(of(*made(3)[:2], real)).caption


def test_more_than_one_percent_of_unscored_rows_is_said_on_every_table():
    few, many = tiny(a=1.0, b=2.0), tiny(a=1.0, b=2.0)
    few["n_unscored"], many["n_unscored"] = [0, 1], [0, 2]
    assert "WARNING" not in room.notes(of(few))
    assert "WARNING: up to 2.0 %" in room.notes(of(many)) and "(b, zero_shot, relevant" in room.notes(of(many))
    assert "WARNING" in room.main(of(many)).caption


def test_captions_name_the_judge_where_alignment_or_robustness_is_shown_and_nowhere_else():
    raw = yaml.safe_load(synthetic.profile_text(3))
    raw["judge"] = {"kind": "llm", "model": {"name": "J-9", "engine": "api", "model": "j"}}
    table, scores, rules = made(3)
    for profile, judge in ((rules, "heuristic (embedded styles)"), (Profile.model_validate(raw), "J-9")):
        for one in all_tables(table, scores, profile, run(3)["answers"], run(3)["judgements"]):
            judged = one.name not in {
                *("accuracy", "net_change", "dose_response", "setting_comparisons"),
                *("categories", "delivery", "extraction"),
            }
            assert (f"Judge: {judge}." in one.caption) == judged, one.name
            assert ("Judge" in one.caption) == judged, one.name


def delivered(without: list[bool | None], with_: list[bool | None]) -> pd.DataFrame:
    """Scores of zero-shot, relevant, one question a value, and the baseline row that belongs to each."""
    arm = {"model": "S", "method": "zero_shot", "setting": "relevant", "sampled": True}
    rows = pd.DataFrame({"delivered_without": without, "delivered_with": with_}, dtype="boolean").assign(**arm)
    base = rows.assign(method="no_preference", setting="none", delivered_with=pd.NA)
    both = pd.concat([base, rows], ignore_index=True).assign(source="TQA", status="ok")
    return both.assign(**dict.fromkeys(TABLES["scores"].keys() - set(both), None))


def delivery(scores: pd.DataFrame):
    rows = [("no_preference", "none"), ("zero_shot", "relevant")]
    table = pd.concat(tiny(S=1.0).assign(method=m, setting=s, metric="delivery_failure") for m, s in rows)
    return room.delivery(of(table, scores))


def test_churn_has_a_row_a_source_where_questions_have_several_preferences_and_is_absent_elsewhere(tmp_path):
    metrics_, scores, profile = made(1)
    zero_shot = scores[(scores["method"] == "zero_shot") & (scores["setting"] == "relevant")]
    wrong = zero_shot.assign(preference_id="another", sampled=False, correct_with=False)
    both = pd.concat([zero_shot.assign(preference_id="one"), wrong])
    table = room.all(of(metrics_, conform("scores", both), profile))["churn"]
    cells = table.cells.droplevel(0, axis=1)
    assert cells[["method", "source"]].to_numpy().tolist() == [["zero_shot", s] for s in ("TQA", "CQA", "MMLU", "ALL")]
    # With the other of two preferences every right answer breaks.
    assert (table.data["breakage"] > 50).all() and "bootstrap" in table.caption.lower()
    assert re.fullmatch(r"\d+\.\d \[\d+\.\d, \d+\.\d\]", cells["breakage"].iloc[0])
    assert [path.name for path in table.save(tmp_path)] == ["churn.csv", "churn.md", "churn.tex"]
    assert {"sampled_net", "excess_low", "n_unscored"} <= set(pd.read_csv(tmp_path / "churn.csv"))
    assert latex(table).count("{") == latex(table).count("}")
    assert room.churn(of(metrics_, scores, profile)).absent.startswith("Not in this run")


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
    assert "pref_aligner" not in names and "dose_response" not in names and "main" in names
    # A run with other methods, of which none is Pref-Aligner.
    without = scores[scores["method"] != "pref_aligner"]
    names = {t.name for t in all_tables(metrics(without), without, profile)}
    assert "pref_aligner" not in names and "method_comparisons" in names
    assert not all_tables(metrics(scores.iloc[:0]), scores.iloc[:0], profile, run(3)["answers"].iloc[:0])


def test_saving_twice_writes_the_same_bytes(tmp_path):
    first, second = (
        [p.read_bytes() for t in all_tables(*made(3)) for p in save(t, tmp_path / name)] for name in ("a", "b")
    )
    assert first == second and Path(tmp_path / "a" / "main.tex").is_file()


def test_each_configuration_has_a_table_like_the_main_one_if_two_models_ran_it():
    table = made(3)[0]
    only_s = table[(table["model"] == "S") | ~table["method"].isin(["cot"])]
    names = [t.name for t in room.by_source(of(only_s))]
    assert names == [name for name in REPORTED[16:] if name != "relevant_cot"]
    (mixed,) = [t for t in room.by_source(of(table)) if t.name == "mixed_zero_shot"]
    assert mixed.cells.columns.tolist()[1:5] == [("TQA", "BR"), ("TQA", "AF"), ("TQA", "RE"), ("TQA", "PV")]
    expected = table.query("method == 'zero_shot' and setting == 'mixed' and source == 'CQA' and model == 'M'")
    (expected,) = expected[expected["metric"] == "robustness_error"].to_dict("records")
    # Some rows lack a response or a rating: what they could make of the value stands behind it.
    shown = f"{expected['value']:.1f} ({expected['least']:.1f} to {expected['most']:.1f})"
    assert mixed.cells.set_index(("", "model")).loc["M", ("CQA", "RE")] == shown
    assert expected["least"] < expected["value"] < expected["most"] and "round brackets" in mixed.caption


def test_the_net_table_shows_what_broke_beside_what_was_mended():
    table, scores, profile = made(3)
    found = room.net_change(of(table, scores, profile))
    cells, raw = found.cells[""].iloc[0], found.data.iloc[0]
    own = scores.query("model == 'S' and method == 'zero_shot' and setting == 'relevant'")
    own = own[["correct_without", "correct_with"]].dropna().astype(bool)
    right = own["correct_without"]
    broke, fixed = (right & ~own["correct_with"]).sum(), (~right & own["correct_with"]).sum()
    assert cells["broke"] == f"{broke} of {right.sum()} ({100 * broke / right.sum():.1f} %)"
    assert cells["fixed"] == f"{fixed} of {(~right).sum()} ({100 * fixed / (~right).sum():.1f} %)"
    assert raw["net"] == pytest.approx(100 * (own["correct_with"].mean() - right.mean()))
    breakage = table.query("metric == 'breakage_rate' and source == 'ALL'").set_index(["model", "method", "setting"])
    again = found.data.set_index(["model", "method", "setting"])
    assert again["breakage"].to_dict() == pytest.approx(breakage.loc[again.index, "value"].to_dict())


def test_settings_are_compared_with_the_relevant_one_on_the_same_questions():
    table = {t.name: t for t in every(3)}["setting_comparisons"]
    assert set(table.data["reference_setting"]) == {"relevant"} and set(table.data["setting"]) == {
        "mixed",
        "irrelevant",
    }
    assert {"odds_ratio", "odds_low", "odds_high", "p", "p_holm", "low", "high", "n", "n_unscored"} <= set(table.data)
    assert table.cells.columns.get_level_values(1).tolist()[3:] == [
        *(
            "relevant",
            "this setting",
            "difference",
            "jointly",
            "preferences like these",
            "p",
            "p Holm",
            "detectable",
            "within ±3",
            "n",
        )
    ]
    # All models together stand first; each kind of row has its own family.
    pooled = table.data["model"] == "ALL"
    assert pooled.tolist() == sorted(pooled, reverse=True) and pooled.sum() >= 2
    assert table.cells["", "model"].eq("all models").tolist() == pooled.tolist()
    for rows in (table.data[pooled], table.data[~pooled]):
        assert set(rows["family"]) == {len(rows)}


def test_one_model_is_the_papers_if_it_is_there_else_the_one_with_most_runs():
    table, _, _ = made(3)
    fewer = table[(table["model"] == "M") | (table["method"] != "pref_aligner")]
    assert followed_model(fewer) == "M" and followed_model(table[table["setting"] == "relevant"]) is None
    assert followed_model(fewer.assign(model=fewer["model"].replace("L", "Llama3-70B"))) == "Llama3-70B"


def test_the_extraction_summary_counts_every_answer_once():
    found = {t.name: t for t in every(3)}["extraction"]
    answers = run(3)["answers"]
    assert found.data["rows"].sum() == len(answers) == found.cells["", "n"].sum()
    shown = found.cells[""]
    assert (shown[["rule", "names no option", "refused", "silent", "missing"]].sum(axis=1) == shown["n"]).all()
    assert shown["names no option"].sum() == (answers["status"] == "unparsable").sum() > 0
    assert shown["missing"].sum() == (answers["status"] == "api_error").sum() > 0


def test_rules_beyond_the_most_used_are_summed_up_and_listed_in_the_csv():
    answers = run(1)["answers"]
    ways = [f"way_{i % 7}" for i in range(len(answers))]
    found = all_tables(*made(1), answers.assign(how=ways))
    (table,) = [t for t in found if t.name == "extraction"]
    shown = table.cells[""]
    assert len([c for c in shown if c.startswith("way_")]) == 5 and "other rules" in shown
    assert shown.drop(columns=["model", "method", "setting", "n"]).sum(axis=1).tolist() == shown["n"].tolist()
    assert set(table.data["how"]) == {f"way_{i}" for i in range(7)}


def test_the_judging_summary_holds_the_ratings_and_what_is_missing():
    found = {t.name: t for t in every(3)}["judging"]
    judgements = run(3)["judgements"]
    rated = judgements[judgements["status"] != "not_applicable"]
    shown = found.cells[""]
    assert shown["n"].sum() == len(rated) and shown["missing"].sum() == rated["rating"].isna().sum() > 0
    assert shown["2"].sum() == (rated["rating"] == 2).sum() and shown["5"].sum() == 0
    assert set(shown["judge"]) == {"made-up judge"} and "3 or more" in found.caption
    first = shown.iloc[0]
    assert first["followed"] == f"{100 * first['4'] / (first['n'] - first['missing']):.1f} %"


def test_redrawn_tables_hold_the_printed_figures_and_claim_no_interval_and_no_n():
    tables = redrawn()
    assert list(tables) == [
        *("main", "settings", "one_model", "methods", "pref_aligner"),
        *REPORTED[16:],
    ]
    for table in tables.values():
        assert "Redrawn from the paper's published figures; no intervals, no counts." in table.caption
        assert "n =" not in table.caption and "nterval" not in table.caption.replace("no intervals", "")
        assert "[" not in table.cells.to_string() and "nan" not in table.cells.to_string().lower()


def test_every_printed_figure_stands_in_a_redrawn_table():
    shown = pd.concat([t.data for t in redrawn().values() if t.name == "main" or t.name in REPORTED[16:]])
    keys = ["model", "method", "setting", "source", "metric"]
    printed = printed_metrics().dropna(subset="value").set_index(keys)["value"]
    again = shown.dropna(subset="value").set_index(keys)["value"]
    assert again.index.is_unique and again.sort_index().to_dict() == printed.sort_index().to_dict()
    assert len(printed) > 800


def test_the_redrawn_aligner_and_model_tables_are_the_papers():
    pairs = redrawn()["pref_aligner"].data.query("setting == 'relevant'").set_index("model")
    for model, before, after in (
        *(("Llama3-8B", 20.9, 18.1), ("Llama3-70B", 9.0, 6.5)),
        *(("Mixtral-8x7B", 26.1, 18.9), ("Gemma-2-9B", 12.6, 6.8)),
    ):
        assert (pairs.loc[model, "zero_shot"], pairs.loc[model, "pref_aligner"]) == (before, after)
    one = redrawn()["one_model"]
    assert one.title == "Llama3-70B by setting"
    rows = one.cells[""].query("metric == 'BR'").set_index("method")[["relevant", "mixed", "irrelevant"]]
    assert rows.loc["zero_shot"].tolist() == ["5.6", "6.9", "5.5"]
    assert rows.loc["pref_aligner"].tolist() == ["1.1", "1.2", "1.2"]


def test_models_stand_in_the_order_of_the_metrics_in_every_table():
    table, scores, profile = made(3)
    turned = pd.concat([table[table["model"] == m] for m in ("L", "S", "M")])
    for one in all_tables(turned, scores, profile, run(3)["answers"], run(3)["judgements"]):
        if "model" in one.cells[""]:
            models = one.cells["", "model"].drop_duplicates().tolist()
            assert [m for m in models if m != "all models"] == ["L", "S", "M"], one.name


def test_several_tables_show_themselves_and_are_written_like_one(tmp_path):
    two = [one for one in every(2) if one.name in ("main", "accuracy")]
    several = Tables(two)
    assert len(repr(several)) < 200
    assert several._repr_html_().count("<table>") == 2
    assert several.to_latex().count(r"\begin{table}") == several.to_markdown().count("| --- |") == 2
    assert len(several.save(tmp_path)) == 6


def test_fallbacks_and_truncations_are_counted_beside_the_methods_and_the_rates_as_if_they_had_failed():
    cells = {t.name: t for t in every(3)}["methods"].cells[""].set_index(["model", "method"])
    scores = made(3)[1]
    own = scores.query("model == 'S' and method == 'pref_aligner' and setting == 'relevant'")
    fell = int(own["fallback"].sum())
    assert fell > 0 and cells.loc[("S", "pref_aligner"), "fallbacks"] == fell
    assert cells.loc[("S", "zero_shot"), "fallbacks"] == 0
    known = own[own["correct_without"].fillna(False) & own["correct_with"].notna()]
    broke = (~known["correct_with"].astype(bool) | known["fallback"].astype(bool)).mean()
    assert cells.loc[("S", "pref_aligner"), "BR, fallbacks failed"] == f"{100 * broke:.1f}"


def test_no_value_of_few_questions_is_called_the_best():
    few = tiny(a=1.0, b=2.0, c=3.0).assign(n=[16, 100, 100])
    assert room.main(of(few)).best["ALL", "BR"].tolist() == [False, True, False]


def test_breakage_that_is_not_all_by_a_wrong_option_says_what_else_it_is():
    table = tiny(a=18.2)
    parts = {"broke_wrong_option": 16.1, "broke_named_none": 1.5, "broke_unread": 0.6}
    more = pd.concat([table, *(table.assign(metric=name, value=v) for name, v in parts.items())])
    shown = room.main(of(more))
    assert shown.cells["ALL", "BR"].tolist() == ["18.2 = 16.1 + 1.5 + 0.6"] and "could not be read" in shown.caption
    alone = more.assign(value=more["value"].mask(more["metric"].isin(["broke_named_none", "broke_unread"]), 0.0))
    assert room.main(of(alone)).cells["ALL", "BR"].tolist() == ["18.2"]


def test_of_robust_accuracy_the_highest_is_the_best_also_beside_metrics_of_which_the_lowest_is():
    table, scores, profile = made(3)
    found = {t.name: t for t in all_tables(table, scores, profile)}
    for name, column in (("methods", ("", "RA")), ("robust_accuracy", ("", "relevant"))):
        one = found[name]
        own = one.data[one.data["metric"] == "robust_accuracy"].query("setting == 'relevant' and model == 'S'")
        best = own.loc[own["value"].idxmax(), "method"]
        rows = (one.cells["", "model"] == "S") & one.best[column]
        assert one.cells.loc[rows, ("", "method")].tolist() == [best], name
    assert "{" in found["robust_accuracy"].cells["", "relevant"].iloc[0], "the interval for preferences like these"
