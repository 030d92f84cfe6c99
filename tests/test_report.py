"""The report: one page that needs nothing beside itself, whose numbers are those of the tables."""

from html.parser import HTMLParser

import pandas as pd
import pytest
import synthetic

from perg_utils import figures, report
from perg_utils.embedded.world import GROUP_SHARE
from perg_utils.errors import DataError
from perg_utils.metrics import by_category, metrics, score
from perg_utils.profile import JudgeConfig, load_profile
from perg_utils.schema import Method
from perg_utils.workspace import Workspace

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
    for name, (fig, data) in figures.all_figures(metrics(scores), by_category(scores)).items():
        figures.save(fig, data, workspace.figures, name)
    return workspace, profile, report.write(workspace, profile, MANIFEST).read_text(encoding="utf-8")


def test_the_page_refers_to_nothing_outside_itself_and_its_anchors_exist(run):
    page = Page(run[2])
    assert page.open == []
    for link in page.links:
        assert link.startswith("data:image/png;base64,") or link.removeprefix("#") in page.ids
    assert "script" not in page.tags and "@import" not in run[2] and "url(" not in run[2]


def test_the_page_holds_every_figure_and_table(run):
    ids = Page(run[2]).ids
    assert {f"figure-{name}" for name in figures.CAPTIONS if name != "practice"} <= set(ids)
    assert sum(i.startswith("table-") for i in ids) == 9


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
    assert f"{worst['value']:.1f} % [{worst['low']:.1f}, {worst['high']:.1f}] ({worst['model']})" in said[1]
    assert all(sentence in page for sentence in said if "<" not in sentence)


def test_findings_say_nothing_of_settings_that_were_not_run(run):
    workspace, profile, _ = run
    scores = workspace.read("scores")
    only = scores[scores["method"].isin(["no_preference", "zero_shot"]) & scores["setting"].isin(["none", "relevant"])]
    text = " ".join(report.findings(metrics(only), only, profile))
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
    _, profile, _ = run
    judge = JudgeConfig.model_validate({"kind": "llm", "model": {"name": "gpt", "engine": "api", "model": "g"}})
    said = report.caveats(profile.model_copy(update={"judge": judge, "world": "real"}))
    assert "gpt: a language model" in said[0] and not any("invented" in s for s in said)


def test_what_training_taught_the_embedded_models_is_said_of_no_others(run):
    _, profile, page = run
    hub = profile.model_copy(update={"data": profile.data.model_copy(update={"origin": "hub"})})
    taught = [said for said in report.caveats(profile) if said not in report.caveats(hub)]
    assert len(taught) == 2 and all(said in page for said in taught)
    assert f"{100 * GROUP_SHARE:g} % of the facts" in taught[0] and "single training run" in taught[1]


def test_a_pairing_is_no_model_and_its_borrowed_answers_are_counted_once(run):
    workspace, profile, _ = run
    scores = workspace.read("scores")
    rows = len(scores)
    assert f"put to 3 models: {rows:,} answers" in report.asked(profile, scores)[1]
    own = scores["model"].eq("S") & scores["method"].isin(["no_preference", "pref_aligner"])
    both = pd.concat([scores, scores[own].assign(model="S+L")])
    pairing = profile.models[0].model_copy(update={"name": "S+L", "aligner": "L", "methods": [Method.PREF_ALIGNER]})
    more = profile.model_copy(update={"models": [*profile.models, pairing]})
    aligned = int((own & scores["method"].eq("pref_aligner")).sum())
    said = report.asked(more, both)[1]
    assert "put to 3 models and 1 pairing of two of them (S+L: S answers, L aligns): " in said
    assert f": {rows + aligned:,} answers" in said and 0 < aligned < own.sum()
    assert f"put to 3 models: {rows:,} answers" in report.asked(more, scores)[1]  # the pairing was not run
