"""The audit: faults planted in a made-up sound release, each alone and all together, and what the sound one says."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from released import MIXED, NO_FILES, RELEVANT, TWICE, concluded, first, put_all, questions, reorder, repeating, sound

from perg_utils.core.loading import load_profile
from perg_utils.core.run import Run
from perg_utils.core.workspace import Workspace
from perg_utils.published.checks import audit, counted
from perg_utils.published.importing import import_nothing, import_published
from perg_utils.reporting import tables
from perg_utils.reporting.tables.forms import as_html, latex, markdown
from perg_utils.scoring import rates as metrics

BASE = first("MMLU")
SAMPLE = Path(__file__).parents[3] / "shared" / "real" / "published_sample"
FIGURES = {"BR": "breakage_rate", "AF": "alignment_failure", "RE": "robustness_error", "PV": "performance_variation"}
#: Rows in which faults are planted: no two touch the same ones.
BEYOND, BEYOND_WITHOUT = range(BASE + 200, BASE + 230), range(BASE + 240, BASE + 250)
UNRATED, EMPTY, ERROR = range(900, 940), range(1000, 1020), range(1020, 1030)
LEFT_OUT, IN_NONE = range(1300, 1350), range(1400, 1460)
FLIPPED = range(BASE + 300, BASE + 305)


@pytest.fixture(scope="module")
def data():
    return repeating(questions())


def turn_without(files):
    """TruthfulQA's options stand otherwise in mixed, and the letters without preference are carried over."""
    rows = files[f"{MIXED}_eval"]
    tqa = range(817)
    orders = reorder(rows, tqa, ["pref_answer"])
    files[MIXED].loc[tqa, ["options", "gold_option"]] = rows.loc[tqa, ["options", "gold_option"]]
    files[MIXED].loc[tqa, "pref_ans"] = rows.loc[tqa, "pref_answer"]
    concluded(rows)
    return sum(
        order["ABCD".index(rows.at[i, "nopref_answer"])] != rows.at[i, "nopref_answer"] for i, order in orders.items()
    )


def turn_with(files):
    """CommonsenseQA's options stand otherwise in the scored mixed file than in the run it was made from."""
    rows = files[f"{MIXED}_eval"]
    some = range(817, 880)
    orders = reorder(rows, some, ["nopref_answer"])
    concluded(rows)
    return sum(
        order["ABCD".index(rows.at[i, "pref_answer"])] != rows.at[i, "pref_answer"] for i, order in orders.items()
    )


def take_first_text(files):
    """Answers without preference are looked up by the question's text: the first row's for all."""
    rows = files[f"{MIXED}_eval"]
    taken = 0
    for first_row, *others in TWICE.values():
        for other in others:
            for name in ("nopref_res", "nopref_answer"):
                rows.loc[BASE + other, name] = rows.loc[BASE + first_row, name]
            taken += 1
    concluded(rows)
    return taken


def multiply(files):
    """The answers without and with preference are joined on the question's text: every pair of rows with one text."""
    rows = files[f"{MIXED}_eval"]
    without = ["nopref_res", "nopref_answer"]
    joined = rows.drop(columns=without).merge(rows[["question", *without]], on="question", how="left")
    files[f"{MIXED}_eval"] = concluded(joined)
    return len(joined) - len(rows)


def drop_texts(files):
    """Rows with a text that was there before are dropped."""
    before = len(files[MIXED])
    for name in (MIXED, f"{MIXED}_eval"):
        files[name] = files[name][~files[name]["question"].duplicated()]
    return before - len(files[MIXED])


def write_beyond(files):
    rows = files[f"{RELEVANT}_eval"]
    rows.loc[list(BEYOND), "pref_answer"] = "T"
    concluded(rows)
    return len(BEYOND)


def write_beyond_without(files):
    rows = files[f"{RELEVANT}_eval"]
    rows.loc[list(BEYOND_WITHOUT), "nopref_answer"] = "E"
    concluded(rows)
    return len(BEYOND_WITHOUT)


def leave_out(files):
    files[f"{RELEVANT}_eval"] = files[f"{RELEVANT}_eval"].drop(index=list(LEFT_OUT))
    return len(LEFT_OUT)


def leave_out_of_all(files):
    for name in (MIXED, f"{MIXED}_eval"):
        files[name] = files[name].drop(index=[i for i in IN_NONE if i in files[name].index])
    return len(IN_NONE)


def lose_ratings(files):
    rows = files[f"{RELEVANT}_eval"]
    rows.loc[list(UNRATED), "pref_eval_rating"] = np.nan
    concluded(rows)
    return len(UNRATED)


def fail(files):
    rows = files[f"{RELEVANT}_eval"]
    rows.loc[list(EMPTY), ["pref_res", "pref_answer"]] = ["", "-1"]
    rows.loc[list(ERROR), ["pref_res", "pref_answer"]] = ["Error code: 429 - rate limit reached", "-1"]
    rows.loc[[*EMPTY, *ERROR], "pref_eval_rating"] = np.nan
    concluded(rows)
    return len(EMPTY) + len(ERROR)


def flip(files):
    rows = files[f"{RELEVANT}_eval"]
    rows.loc[list(FLIPPED), "pref_correct"] = ~rows.loc[list(FLIPPED), "pref_correct"]
    return len(FLIPPED)


#: What is planted: (finding, what) -> function, the setting touched, the source, and rows that cannot be mended.
PLANTS = {
    ("option_orders", "answer without preference"): (turn_without, "mixed", "TQA", ()),
    ("option_orders", "answer with preference"): (turn_with, "mixed", "CQA", ()),
    ("repeated_texts", "another row's answer without preference"): (take_first_text, "mixed", "MMLU", ()),
    ("beyond_options", "answer with preference"): (write_beyond, "relevant", "MMLU", ()),
    ("beyond_options", "answer without preference"): (write_beyond_without, "relevant", "MMLU", ()),
    ("missing_rows", "rows left out of the scored file"): (leave_out, "relevant", "CQA", ()),
    ("absent_ratings", "rating counted as not followed"): (lose_ratings, "relevant", "CQA", UNRATED),
    ("failed_replies", "answer with preference"): (fail, "relevant", "CQA", [*EMPTY, *ERROR]),
    ("contradicting_flags", "pref_correct"): (flip, "relevant", "MMLU", ()),
}


def audited(files, folder):
    put_all(folder / "release", files)
    workspace = Workspace(folder / "run", folder / "figures")
    import_published(folder / "release", workspace, manifest=NO_FILES)
    return audit.audit(workspace), workspace


def truth(rows, source="ALL", unrated=(), failed=()):
    """The four metrics of a sound scored file, straight from its letters and ratings."""
    places = {"ALL": range(7208), "TQA": range(817), "CQA": range(817, BASE), "MMLU": range(BASE, 7208)}[source]
    own = rows.loc[[i for i in places if i not in set(failed)]]
    right, kept = own[own["nopref_answer"] == own["gold_option"]], own["pref_answer"] == own["gold_option"]
    rated = right.loc[[i for i in right.index if i not in set(unrated)]]
    followed = rated["pref_eval_rating"] >= 3
    before = own["nopref_answer"] == own["gold_option"]
    return {
        "BR": 100 * (1 - kept[right.index].mean()),
        "AF": 100 * (1 - followed.mean()),
        # Right answers without a rating are taken to follow as often as those with one.
        "RE": 100 * (1 - kept[right.index].mean() * followed[kept[rated.index]].mean()),
        "PV": 100 * (1 - (before & kept).sum() / (before | kept).sum()),
    }


def figures(findings, planted, setting, source, column):
    finding, what = planted
    own = findings[
        (findings["finding"] == finding)
        & (findings["what"] == what)
        & (findings["setting"] == setting)
        & (findings["source"] == source)
    ]
    values = own.set_index("metric")[column]
    return {short: values[name] for short, name in FIGURES.items() if name in values}


def test_a_sound_release_has_no_finding(data, tmp_path):
    findings, workspace = audited(sound(data), tmp_path)
    assert findings.empty and list(findings.columns) == audit.COLUMNS
    filed = counted.rates(counted.counted_rows(workspace).rows)
    ours = metrics.metrics(workspace.read("scores"))
    both = filed.merge(ours, on=["model", "method", "setting", "source", "metric"], validate="1:1")
    assert len(both) == len(filed) == 2 * 4 * 4
    np.testing.assert_allclose(both["value_x"], both["value_y"])
    np.testing.assert_array_equal(both["n_x"], both["n_y"])


def test_other_option_orders_with_letters_that_go_with_them_are_no_finding(data, tmp_path):
    files = sound(data)
    rows = files[f"{MIXED}_eval"]
    reorder(rows, range(817), ["pref_answer", "nopref_answer"])
    files[MIXED].loc[:816, ["options", "gold_option"]] = rows.loc[:816, ["options", "gold_option"]]
    files[MIXED].loc[:816, "pref_ans"] = rows.loc[:816, "pref_answer"]
    findings, _ = audited(files, tmp_path)
    assert findings.empty


@pytest.mark.parametrize("planted", PLANTS, ids="-".join)
def test_a_planted_fault_is_found_alone_with_its_rows_and_the_figure_put_right(data, tmp_path, planted):
    plant, setting, source, lost = PLANTS[planted]
    files = sound(data)
    clean = files[f"{RELEVANT if setting == 'relevant' else MIXED}_eval"].copy()
    count = plant(files)
    findings, _ = audited(files, tmp_path)
    assert set(zip(findings["finding"], findings["what"], findings["setting"], strict=True)) == {(*planted, setting)}
    assert set(findings["source"]) == {source, "ALL"} and set(findings["rows"]) == {count}
    of = {"TQA": 817, "CQA": 1221, "MMLU": 5170, "ALL": 7208}
    assert (findings["of"] == findings["source"].map(of)).all()
    failed = lost if planted[0] == "failed_replies" else ()
    unrated = lost
    if planted[0] == "missing_rows":  # the other file has the responses, nobody has the ratings
        unrated = LEFT_OUT
    if planted == ("repeated_texts", "another row's answer without preference"):
        assert count == 3
    for place in (source, "ALL"):
        want = truth(clean, place, unrated, failed)
        for column in ("corrected", "corrected_all"):
            got = figures(findings, planted, setting, place, column)
            assert set(got) == ({"AF", "RE"} if planted[0] == "absent_ratings" else set(FIGURES))
            for metric, value in got.items():
                assert value == pytest.approx(want[metric]), (place, column, metric)
    filed = truth_of_flags(files[f"{RELEVANT if setting == 'relevant' else MIXED}_eval"])
    assert figures(findings, planted, setting, "ALL", "as_filed") == pytest.approx(
        {k: v for k, v in filed.items() if k in figures(findings, planted, setting, "ALL", "as_filed")}
    )


def truth_of_flags(rows):
    """The metrics that the flags of a scored file give, as the release computes them."""
    right = rows[rows["nopref_correct"]]
    either = rows["nopref_correct"] | rows["pref_correct"]
    return {
        "BR": 100 * (1 - right["pref_correct"].mean()),
        "AF": 100 * (1 - right["followed_pref"].mean()),
        "RE": 100 * (1 - (right["pref_correct"] & right["followed_pref"]).mean()),
        "PV": 100 * (1 - (rows["nopref_correct"] & rows["pref_correct"]).sum() / either.sum()),
    }


def test_rows_multiplied_by_a_join_on_texts_are_found_and_taken_out(data, tmp_path):
    files = sound(data)
    clean = files[f"{MIXED}_eval"].copy()
    count = multiply(files)
    findings, _ = audited(files, tmp_path)
    assert count == 6 + 2  # nine pairs of three rows, four of two
    whole = findings[(findings["what"] == "rows multiplied") & (findings["source"] == "ALL")]
    assert set(whole["rows"]) == {count} and set(findings["finding"]) == {"repeated_texts"}
    filed = figures(findings, ("repeated_texts", "rows multiplied"), "mixed", "ALL", "as_filed")
    assert filed == pytest.approx(truth_of_flags(files[f"{MIXED}_eval"]))
    mended = figures(findings, ("repeated_texts", "rows multiplied"), "mixed", "ALL", "corrected_all")
    assert mended == pytest.approx(truth(clean))


def test_rows_dropped_for_their_text_are_told_from_rows_that_are_missing(data, tmp_path):
    files = sound(data)
    assert drop_texts(files) == 3
    findings, _ = audited(files, tmp_path / "dropped")
    assert set(findings["finding"]) == {"repeated_texts"} and set(findings["what"]) == {"rows dropped as duplicates"}
    assert set(findings["rows"]) == {3} and set(findings["source"]) == {"MMLU", "ALL"}
    assert findings["corrected"].isna().all()
    files = sound(data)
    count = leave_out_of_all(files)
    findings, _ = audited(files, tmp_path / "missing")
    assert set(findings["finding"]) == {"missing_rows"} and set(findings["what"]) == {"rows in no file"}
    assert set(findings["rows"]) == {count} and set(findings["source"]) == {"CQA", "ALL"}


def test_all_faults_together_are_each_found_and_all_put_right(data, tmp_path):
    files = sound(data)
    clean = {"relevant": files[f"{RELEVANT}_eval"].copy(), "mixed": files[f"{MIXED}_eval"].copy()}
    order = [*(plant for plant, *_ in PLANTS.values() if plant is not flip), leave_out_of_all, flip]
    counts = {plant: plant(files) for plant in order}
    findings, _ = audited(files, tmp_path)
    found = findings[findings["source"] == "ALL"].drop_duplicates(["finding", "what"])
    got = dict(zip(found[["finding", "what"]].itertuples(index=False, name=None), found["rows"], strict=True))
    want = {planted: counts[plant] for planted, (plant, *_) in PLANTS.items()}
    assert got == want | {("missing_rows", "rows in no file"): len(IN_NONE)}
    failed, unrated = [*EMPTY, *ERROR], [*UNRATED, *LEFT_OUT]
    for planted, (_, setting, _, _) in PLANTS.items():
        rows = clean[setting]
        right = truth(rows, unrated=unrated, failed=failed) if setting == "relevant" else truth(rows, failed=IN_NONE)
        got = figures(findings, planted, setting, "ALL", "corrected_all")
        assert got == pytest.approx({metric: right[metric] for metric in got}), planted


def test_letters_of_which_only_the_flag_is_published_are_found_by_the_flags(data, tmp_path):
    files = sound(data)
    count = turn_without(files)
    for name in ("nopref_res", "nopref_answer"):
        files[f"{MIXED}_eval"] = files[f"{MIXED}_eval"].drop(columns=name)
    findings, _ = audited(files, tmp_path)
    assert set(findings["finding"]) == {"option_orders"} and set(findings["rows"]) == {count}


def test_letters_carried_over_beside_edited_responses_are_found_by_the_letters(data, tmp_path):
    files = sound(data)
    count = turn_without(files)
    files[f"{MIXED}_eval"]["nopref_res"] += " (edited)"
    findings, _ = audited(files, tmp_path / "carried")
    assert set(findings["finding"]) == {"option_orders"} and set(findings["rows"]) == {count}
    # A baseline run of its own, under its own order, has the same letters by chance only.
    files = sound(data)
    rows = files[f"{MIXED}_eval"]
    reorder(rows, range(817), ["pref_answer", "nopref_answer"])
    files[MIXED].loc[:816, ["options", "gold_option"]] = rows.loc[:816, ["options", "gold_option"]]
    files[MIXED].loc[:816, "pref_ans"] = rows.loc[:816, "pref_answer"]
    rows["nopref_res"] += " (a run of its own)"
    assert audited(files, tmp_path / "own")[0].empty


def test_findings_are_told_by_kind_and_models_and_without_any_that_is_said():
    one = dict.fromkeys(audit.COLUMNS, 1.0) | {"finding": "missing_rows", "what": "absent", "source": "ALL"}
    one |= {"model": "M", "method": "cot", "setting": "relevant", "note": "no file has them"}
    found = pd.DataFrame([one, one | {"model": "L"}])
    assert audit.shown(found)["configuration"].tolist() == ["M, cot, relevant", "L, cot, relevant"]
    assert audit.notes(found) == "- **Missing rows**: no file has them."
    assert audit.in_words(found) == "Findings of the audit: Missing rows (2 models)."
    assert audit.shown(found[:0]).to_dict("list") == {"result": [audit.NONE_FOUND]}
    assert "nothing to audit" in audit.notes(found[:0]) and "nothing to audit" in audit.in_words(found[:0])


def test_without_released_files_there_is_nothing_to_audit(tmp_path):
    workspace = Workspace(tmp_path / "run", tmp_path / "figures")
    import_nothing(workspace)
    assert audit.audit(workspace).empty
    assert audit.audit(Workspace(tmp_path / "none", tmp_path / "figures")).empty
    assert tables.audit(Run(load_profile("published"), workspace))[0].absent


def test_the_tables_of_the_audit_hold_its_counts_in_every_form(data, tmp_path):
    files = sound(data)
    count = turn_without(files)
    findings, workspace = audited(files, tmp_path)
    findings.to_parquet(workspace.run / "audit.parquet")
    short, cells = tables.audit(Run(load_profile("published"), workspace))
    assert len(short.cells) == 1 and f"{count:,} of 7,208" in markdown(short)
    assert len(cells.cells) == 2
    for table in (short, cells):
        assert "option orders" in as_html(table) and r"\bottomrule" in latex(table)


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="no released sample here")
def test_the_sample_has_letters_beyond_the_options_and_missing_rows_only(tmp_path):
    workspace = Workspace(tmp_path, tmp_path / "figures")
    import_published(SAMPLE, workspace)
    findings = audit.audit(workspace)
    assert set(findings["finding"]) == {"beyond_options", "missing_rows"}
    missing = findings[(findings["finding"] == "missing_rows") & (findings["method"] == "zero_shot")]
    mixtral = missing[(missing["model"] == "Mixtral-8x7B") & (missing["source"] == "CQA")]
    assert set(mixtral["rows"]) == {123}
    cot = findings[(findings["method"] == "cot") & findings["what"].eq("answer with preference")]
    assert (cot.loc[cot["source"] == "TQA", "share"] > 20).all()
    assert cot["note"].str.contains("character").all()
