"""The report: one page that needs nothing beside itself, whose numbers are those of the tables."""

import base64
import hashlib
import html
import re
from html.parser import HTMLParser

import pandas as pd
import pytest
import synthetic

from perg_utils.core.errors import DataError
from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT, JudgeConfig, ModelConfig
from perg_utils.core.run import Run
from perg_utils.core.schema import TABLES, Method, conform
from perg_utils.core.workspace import Workspace
from perg_utils.dataset.invented_world import GROUP_SHARE
from perg_utils.published.printed import printed_metrics
from perg_utils.reporting import figures, tables
from perg_utils.reporting import page as report
from perg_utils.reporting.limits import RULES_ALONE
from perg_utils.reporting.sentences import NEEDS_FILES
from perg_utils.reporting.tables.forms import Table
from perg_utils.scoring.churn import churn
from perg_utils.scoring.intervals import exact_interval
from perg_utils.scoring.rates import metrics
from perg_utils.scoring.scores import score

MANIFEST = {
    "date": "2031-01-02T03:04:05+00:00",
    "commit": "abc123",
    "python": "3.11",
    "system": "made up",
    "packages": {"torch": "9.9", "openai": None},
    "seeds": {"study": 42},
    "prompts": {"set": "embedded", "hashes": {"zero_shot": "feedbeef"}},
    "models": {"S": {"model": "some/model", "revision": "r1", "files": {}}},
    "profile": {"name": "synthetic", "note": "</pre><script>alert(1)</script>"},
}


class Page(HTMLParser):
    """What a page refers to and whether its tags are balanced."""

    VOID = frozenset({"meta", "img", "br", "link", "input", "hr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.links += [value for name, value in attrs if name in {"href", "src", "srcset", "action"}]
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    profile = load_profile(synthetic.write(folder, 3, 120))
    workspace = Workspace.of(folder, profile.name)
    scores = score(**{n: workspace.read(n) for n in ("examples", "responses", "answers", "judgements", "preferences")})
    workspace.write("scores", scores)
    workspace.write("metrics", metrics(scores))
    for one in figures.all(Run(profile, workspace)).values():
        one.save()
    return workspace, profile, report.write(workspace, profile, MANIFEST).read_text(encoding="utf-8")


def test_the_page_refers_to_nothing_outside_itself_and_its_anchors_exist(run):
    page = Page(run[2])
    assert page.open == []
    for link in page.links:
        assert link.startswith("data:image/png;base64,") or link.removeprefix("#") in page.ids
    assert len(set(page.ids)) == len(page.ids)
    style = run[2].split("<style>")[1].split("</style>")[0]
    assert "@import" not in style and "url(" not in style


def test_the_page_links_the_studies_where_it_lies_in_the_repository(run):
    assert "<code>docs/studies.md</code> of the repository" in run[2], "a page in another folder may be moved"
    assert report._link(report.STUDIES, ROOT / "figures/demo") == "../../docs/studies.md"
    committed = (ROOT / "figures/demo/report.html").read_text(encoding="utf-8")
    assert '<a href="../../docs/studies.md">' in committed and (ROOT / "figures/demo/../../docs/studies.md").is_file()


def test_the_page_runs_no_script_but_its_own(run):
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', run[2])
    scripts = re.findall(r"<script>(.*?)</script>", run[2], re.S)
    own = base64.b64encode(hashlib.sha256(scripts[0].encode()).digest()).decode()
    assert len(scripts) == 1 and policy is not None
    assert html.unescape(policy[1]).startswith(f"default-src 'none'; script-src 'sha256-{own}' 'self' file:;")
    assert "alert(1)" in run[2] and "<script>alert(1)" not in run[2]


def test_the_page_holds_every_figure_and_table(run):
    workspace, profile, page = run
    ids = set(Page(page).ids)
    drawn = {f"figure-{path.stem}" for path in workspace.figures.glob("*.png")}
    assert drawn <= ids and len(drawn) > 9
    made = [table for table in tables.all(Run(profile, workspace)).values() if not table.absent]
    assert {f"table-{table.name}" for table in made} <= ids and len(made) > 9


def test_a_small_run_is_one_file_and_the_same_run_the_same_page(run):
    workspace, profile, page = run
    assert not (workspace.figures / "responses").exists() and len(page) < 4_000_000
    assert report.write(workspace, profile, MANIFEST).read_text(encoding="utf-8") == page


def test_the_page_says_world_judge_and_provenance(run):
    for words in (
        "Invented world",
        "made-up judge",
        "2031-01-02",
        "abc123",
        "some/model @ r1",
        "feedbeef",
        "torch 9.9",
    ):
        assert words in run[2], words
    assert "prefers-color-scheme: dark" in run[2] and 'name="viewport"' in run[2]


def test_findings_carry_the_numbers_of_the_tables(run):
    workspace, profile, page = run
    table, scores = workspace.read("metrics"), workspace.read("scores")
    said = report.findings(table, scores, profile)
    broke = table.query(
        "method == 'zero_shot' and setting == 'relevant' and source == 'ALL' and metric == 'breakage_rate'"
    )
    worst = broke.loc[broke["value"].idxmax()]
    texts = {finding.kind: finding.text for finding in said}
    low, high = (100 * x for x in exact_interval(worst["value"] / 100 * worst["n"], worst["n"], 1 - 0.05 / 3))
    # The worst of three models is chosen among them, so its interval holds for all three together.
    shown = f"{worst['value']:.1f} % [{low:.1f}, {high:.1f}] ({worst['model']})"
    assert shown in texts["breakage_rate relevant"] and low < worst["low"] < worst["high"] < high
    assert all(text in html.unescape(page) for text in texts.values())


def test_a_finding_and_the_table_say_the_same_of_a_comparison(run):
    workspace, profile, _ = run
    said = {f.kind: f for f in report.findings(workspace.read("metrics"), workspace.read("scores"), profile)}
    rows = tables.method_comparisons(Run(profile, workspace)).data
    row = rows[(rows["model"] == "ALL") & (rows["method"] == "pref_aligner") & (rows["setting"] == "relevant")].iloc[0]
    shown = f"{row['difference']:+.1f} [{row['joint_low']:+.1f}, {row['joint_high']:+.1f}] points over all models"
    assert shown in said["aligner"].text
    assert f"corrected over {row['family']} comparisons" in said["aligner"].text
    claim = said["aligner"].claims[0]
    assert (claim.low, claim.high, claim.arm.model) == (row["joint_low"], row["joint_high"], "ALL")


def test_findings_say_nothing_of_settings_that_were_not_run(run):
    workspace, profile, _ = run
    scores = workspace.read("scores")
    only = scores[scores["method"].isin(["no_preference", "zero_shot"]) & scores["setting"].isin(["none", "relevant"])]
    text = " ".join(found.text for found in report.findings(metrics(only), only, profile))
    assert "breakage" in text
    for word in ("neutral", "mixed", "irrelevant", "Pref-Aligner"):
        assert word not in text


def test_counts_add_up_to_what_was_planted(run):
    workspace, _, _ = run
    responses, answers, scores = (workspace.read(n) for n in ("responses", "answers", "scores"))
    counts = report.counts(responses, scores)
    assert counts["responses"].sum() == len(responses)
    assert counts["missing"].sum() == (responses["status"] == "api_error").sum() > 0
    assert counts["name no option"].sum() == (answers["status"] == "unparsable").sum() > 0
    assert counts["fallbacks"].sum() == responses["fallback"].sum() > 0
    assert counts["unscored"].sum() == (scores["status"] != "ok").sum() > 0


def test_without_figures_the_report_says_which_step_makes_them(run, tmp_path):
    workspace, profile, _ = run
    with pytest.raises(DataError, match="08_render_figures"):
        report.write(Workspace(workspace.run, tmp_path), profile, MANIFEST)


def test_a_llm_judge_is_not_called_a_set_of_rules(run):
    workspace, profile, _ = run
    judge = JudgeConfig.model_validate({"kind": "llm", "model": {"name": "gpt", "engine": "api", "model": "g"}})
    said = report.caveats(workspace.read("metrics"), profile.model_copy(update={"judge": judge, "world": "real"}))
    assert "gpt: a language model" in said[0] and not any("invented" in s for s in said)


def test_what_training_taught_the_embedded_models_is_said_of_no_others(run):
    workspace, profile, page = run
    table = workspace.read("metrics")
    hub = profile.model_copy(update={"data": profile.data.model_copy(update={"origin": "hub"})})
    taught = [said for said in report.caveats(table, profile) if said not in report.caveats(table, hub)]
    assert len(taught) == 2 and all(said in page for said in taught)
    assert f"{100 * GROUP_SHARE:g} % of the facts" in taught[0] and "single training run" in taught[1]


def test_a_pairing_is_no_model_and_its_borrowed_answers_are_counted_once(run):
    workspace, profile, _ = run
    table, scores = workspace.read("metrics"), workspace.read("scores")
    rows = len(scores)
    assert f"put to 3 models: {rows:,} answers" in report.asked(table, scores, profile)[1]
    own = scores["model"].eq("S") & scores["method"].isin(["no_preference", "pref_aligner"])
    both = pd.concat([scores, scores[own].assign(model="S+L")])
    pairing = profile.models[0].model_copy(update={"name": "S+L", "aligner": "L", "methods": [Method.PREF_ALIGNER]})
    more = profile.model_copy(update={"models": [*profile.models, pairing]})
    aligned = int((own & scores["method"].eq("pref_aligner")).sum())
    said = report.asked(table, both, more)[1]
    assert "put to 3 models and 1 pairing of two of them (S+L: S answers, L aligns): " in said
    assert f": {rows + aligned:,} answers" in said and 0 < aligned < own.sum()
    assert f"put to 3 models: {rows:,} answers" in report.asked(table, scores, more)[1]  # the pairing was not run


@pytest.fixture
def printed(tmp_path):
    """A published profile without any released file: the printed figures and nothing else."""
    workspace, profile = Workspace.of(tmp_path, "published"), load_profile("published")
    for name in TABLES:
        empty = pd.DataFrame({column: [] for column in TABLES[name]})
        workspace.write(name, printed_metrics() if name == "metrics" else conform(name, empty))
    figures.scatter(Run(profile, workspace)).save()
    return workspace, profile


def test_without_released_files_the_page_says_what_is_missing_and_how_to_get_it(printed):
    workspace, profile = printed
    page = report.write(workspace, profile, MANIFEST).read_text(encoding="utf-8")
    assert NEEDS_FILES in page and "Redrawn from the paper" in page and "944 figures" in page
    assert {"reproduction", "audit", "responses"} <= set(Page(page).ids)
    assert "<script" not in page and "Loading" not in page and "intervals cover" not in page.lower()
    said = report.findings(workspace.read("metrics"), workspace.read("scores"), profile)
    assert len(said) > 4 and not any("[" in found.text or found.claims for found in said)
    assert not (workspace.figures / "responses").exists()


def test_redrawn_findings_are_the_printed_figures(printed):
    workspace, profile = printed
    found = report.findings(workspace.read("metrics"), workspace.read("scores"), profile)
    said = {one.kind: one.text for one in found}
    rows = printed_metrics().query("source == 'ALL' and setting == 'relevant'")
    broke = rows.query("method == 'zero_shot' and metric == 'breakage_rate'").sort_values("value")
    worst = broke.iloc[-1]
    assert f"to {worst['value']:.1f} % ({worst['model']}) turn wrong" in said["breakage_rate relevant"]
    error = rows.query("metric == 'robustness_error'").pivot(index="model", columns="method", values="value")
    change = (error["pref_aligner"] - error["zero_shot"]).dropna()
    assert f"{change.min():+.1f} ({change.idxmin()}) to {change.max():+.1f} ({change.idxmax()})" in said["aligner"]


def test_a_published_report_names_the_files_and_rows_that_could_not_be_read(printed):
    workspace, profile = printed
    files = pd.DataFrame(
        {
            "file": ["a.csv", "b<i>.csv", "c.csv"],
            "status": ["read", "altered", "missing"],
            "verified": [True, False, False],
            "problem": [None, "git blob id 1, the manifest has 2", None],
        }
    )
    files.to_csv(workspace.run / "files.csv", index=False)
    rows = pd.DataFrame({"file": ["a.csv"] * 2, "row": [7, 4], "reason": ["options are no list"] * 2})
    rows.to_csv(workspace.run / "unread.csv", index=False)
    page = report.write(workspace, profile, MANIFEST).read_text(encoding="utf-8")
    assert "b&lt;i&gt;.csv" in page and "git blob id 1, the manifest has 2" in page
    assert "options are no list" in page and page.count("c.csv") == 0
    assert "1 read, 1 of them verified against commit" in page and "1 altered, 1 missing" in page


def test_a_published_run_has_its_checks_before_the_figures(run, monkeypatch):
    workspace, _, _ = run
    cells = pd.DataFrame({("", "cell"): ["<b>18.2"], ("", "ours"): [18.18]})
    table = Table("verdicts", "Verdicts", "Each cell.", cells, cells, cells.map(lambda _: False))
    monkeypatch.setattr(tables, "reproduction", lambda run: [table])
    monkeypatch.setattr(tables, "audit", lambda run: [])
    page = report.write(workspace, load_profile("published"), MANIFEST).read_text(encoding="utf-8")
    ids = Page(page).ids
    assert ids.index("reproduction") < ids.index("table-verdicts") < ids.index("audit") < ids.index("figures")
    assert "&lt;b&gt;18.2" in page and "Nothing was found." in page
    assert "These are responses that the paper released: " in page and "whose ratings are those of the release" in page
    assert "embedded aligner" not in page


def test_a_study_of_real_models_read_by_rules_alone_says_so(run):
    workspace, profile, _ = run
    table = workspace.read("metrics")
    hub = profile.model_copy(update={"data": profile.data.model_copy(update={"origin": "hub"})})
    assert RULES_ALONE in report.caveats(table, hub) and RULES_ALONE not in report.caveats(table, profile)
    llm = ModelConfig.model_validate({"name": "reader", "engine": "api", "model": "g"})
    read = hub.model_copy(update={"extractor": hub.extractor.model_copy(update={"llm": llm})})
    assert RULES_ALONE not in report.caveats(table, read)


def test_where_questions_have_several_preferences_the_report_says_what_changing_one_breaks(run):
    workspace, profile, _ = run
    scores = workspace.read("scores")
    assert "churn" not in {found.kind for found in report.findings(workspace.read("metrics"), scores, profile)}
    own = scores[(scores["model"] == "S") & (scores["method"] == "zero_shot") & (scores["setting"] == "relevant")]
    # A second preference under which every answer is wrong: it breaks all that the first one leaves right.
    wrong = own.assign(preference_id="another", sampled=False, correct_with=own["correct_with"] & False)
    both = pd.concat([scores, wrong])
    (said,) = [one.text for one in report.findings(metrics(both), both, profile) if one.kind == "churn"]
    row = churn(pd.concat([own, wrong])).set_index("source").loc["TQA"]
    told = f"{row['preference_to_preference']:.1f} against {row['breakage']:.1f} % (TQA: adding one breaks"
    assert told in said and "(S, mean over" in said
