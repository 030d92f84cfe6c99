"""Several runs on one page: sorted by robust accuracy, ranked with what is shown, self-contained, usable."""

import html
import re
from dataclasses import replace

import pandas as pd
import pytest
import synthetic

from perg_utils.core.errors import DataError
from perg_utils.core.results import Results, open_results
from perg_utils.reporting import compare
from perg_utils.scoring.rates import metrics
from perg_utils.scoring.scores import score

HOSTILE = '<img src="x" onerror="window.hacked = 1">'


def made(name, models=2, n=60, seed=0, world="invented"):
    scores = score(**synthetic.tables(models, n, seed))
    manifest = {"profile": {"name": name, "world": world, "data": {"n": n}, "seed": seed, "judge": {"kind": "cues"}}}
    return Results(name, name, "run", metrics(scores), scores, manifest)


@pytest.fixture(scope="module")
def found():
    other = made("second", 1, 45, 3, "real")
    return [made(HOSTILE), replace(other, scores=None), open_results("data/paper_metrics.csv")]


@pytest.fixture(scope="module")
def page(found, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "compare.html"
    assert compare.write(found, path) == [path, path.with_suffix(".csv")]
    return path


def test_arms_are_sorted_by_robust_accuracy_with_both_intervals_and_those_without_come_last(found):
    table = compare.ranking(found)
    for _, part in table.groupby("setting", sort=False):
        ranked = part[part["rank"].notna()]
        assert ranked["value"].is_monotonic_decreasing and ranked["rank"].is_monotonic_increasing
        assert (ranked["rank_low"] <= ranked["rank"]).all() and (ranked["rank"] <= ranked["rank_high"]).all()
        assert part["rank"].isna().tolist() == sorted(part["rank"].isna())
    relevant = table[(table["setting"] == "relevant") & table["rank"].notna()]
    assert relevant[["low", "high", "like_low", "like_high"]].notna().all(axis=None)
    assert (relevant["like_low"] <= relevant["low"]).all() and (relevant["like_high"] >= relevant["high"]).all()
    assert set(table.loc[table["rank"].isna(), "run"]) == {"paper, as printed"}
    own = {(one.name, *arm): value for one in found for arm, value in robust(one)}
    shown = table[table["value"].notna()]
    assert own == dict(
        zip(
            shown[["run", "model", "method", "setting"]].itertuples(index=False, name=None), shown["value"], strict=True
        )
    )


def robust(one):
    rows = one.metrics[(one.metrics["metric"] == "robust_accuracy") & (one.metrics["source"] == "ALL")]
    return [
        ((r["model"], r["method"], r["setting"]), r["value"]) for r in rows.dropna(subset="value").to_dict("records")
    ]


def test_what_these_runs_cannot_be_compared_in_is_said(found):
    said = " ".join(compare.caveats(found, compare.ranking(found)))
    assert "did not all ask the same questions" in said and "say nothing about real models" in said
    assert "Single answers are not at hand for second" in said and "not ranked: paper, as printed." in said
    alone = [found[0]]
    assert "did not all ask" not in " ".join(compare.caveats(alone, compare.ranking(alone)))


def test_the_page_holds_everything_and_fetches_nothing(page):
    text = page.read_text(encoding="utf-8")
    assert "default-src 'none'" in html.unescape(text) and not re.search(r"""(src|href)\s*=\s*["']?https?:""", text)
    assert HOSTILE not in text and "&lt;img" in text
    ranks = pd.read_csv(page.with_suffix(".csv"))
    assert {"run", "model", "method", "setting", "value", "rank", "rank_low", "rank_high"} <= set(ranks)


def test_nothing_to_compare_is_told(tmp_path):
    empty = made("one")
    with pytest.raises(DataError, match="nothing to compare"):
        compare.write([replace(empty, metrics=empty.metrics.head(0))], tmp_path / "page.html")


@pytest.mark.parametrize("width", [390, 1500])
def test_in_a_browser_settings_are_chosen_runs_left_out_and_columns_sorted(chromium, page, width):
    context = chromium.new_context(viewport={"width": width, "height": 900}, offline=True)
    opened, asked, complaints = context.new_page(), [], []
    opened.on("request", lambda request: asked.append(request.url))
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(page.as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth <= innerWidth")
    visible = "[...document.querySelectorAll('[data-setting]')].filter(b => !b.hidden).map(b => b.dataset.setting)"
    assert opened.evaluate(visible) == ["relevant"]
    rows = "[...document.querySelectorAll('#ranks-relevant table.ranks:not(.others) tbody tr:not([hidden])')]"
    before = opened.evaluate(f"{rows}.map(r => parseFloat(r.cells[7].dataset.sort))")
    assert before == sorted(before, reverse=True) and len(before) == 15
    opened.click("#ranks-relevant table.ranks:not(.others) th:nth-child(8) button")
    assert opened.evaluate(f"{rows}.map(r => parseFloat(r.cells[7].dataset.sort))") == sorted(before)
    opened.click("#ranks-relevant table.ranks:not(.others) th:nth-child(8) button")
    assert opened.evaluate(f"{rows}.map(r => parseFloat(r.cells[7].dataset.sort))") == before
    # Each drawn interval holds its dot, and lies inside the picture.
    drawn = (
        "[...document.querySelectorAll('#ranks svg circle')].map(c => [+c.getAttribute('cx'), "
        "...[...c.parentNode.querySelectorAll('line:not(.grid)')]"
        ".map(l => [+l.getAttribute('x1'), +l.getAttribute('x2')])])"
    )
    for dot, *lines in opened.evaluate(drawn):
        assert lines and all(0 <= low <= dot <= high <= 220 for low, high in lines)
    opened.uncheck("input[value=second]")
    assert opened.evaluate(f"new Set({rows}.map(r => r.dataset.run)).size") == 1
    opened.select_option("#choose-setting", "mixed")
    assert opened.evaluate(visible) == ["mixed"]
    opened.select_option("#choose-metric", "breakage_rate")
    assert opened.is_visible("#matrix-breakage_rate") and not opened.is_visible("#matrix-robust_accuracy")
    assert complaints == [] and asked == [page.as_uri()] and opened.evaluate("window.hacked") is None
    context.close()


def test_without_its_script_every_table_stands_open(chromium, page):
    context = chromium.new_context(java_script_enabled=False)
    opened = context.new_page()
    opened.goto(page.as_uri())
    assert opened.is_visible("#ranks-relevant") and opened.is_visible("#ranks-mixed")
    context.close()
