import pandas as pd
import pytest
from judged import PANEL, Scripted

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT, ProfileError
from perg_utils.core.schema import ROW_ID
from perg_utils.engines.journal import Journal
from perg_utils.judging.panel import judge_panel, panel_parts, read_panel, side_by_side


def test_a_panel_rates_the_same_rows_and_each_judge_has_its_own_replies_and_rows(run, monkeypatch):
    engine = Scripted()
    monkeypatch.setattr("perg_utils.engines.open.open_engine", lambda model: engine)
    profile = load_profile("demo", PANEL)
    with Journal(run.journal) as journal:
        judge_panel(profile, run, journal)
        judge_panel(profile, run, journal)
    assert len(engine.sent) == 6, "two responses and a plain one, two rubrics, and nothing twice"
    found = read_panel(profile, run)
    assert list(found) == ["heuristic (embedded styles)", "heuristic (cues)", "J", "J-swapped"]
    assert {name: set(table["judge"]) for name, table in found.items()} == {name: {name} for name in found}
    for table in found.values():
        pd.testing.assert_frame_equal(table[ROW_ID], run.read("judgements")[ROW_ID])
    side = side_by_side(found, run.read("examples"), run.read("preferences"))
    assert side[list(found)].to_numpy().tolist() == [[1, 5, 4, 4], [5, 5, 4, 4]]
    assert set(side["category"]) == {"Clarity"} and set(side["source"]) == {"TQA"}


def test_the_metrics_never_meet_the_panels_rows_and_a_judge_who_left_leaves_no_part(run, monkeypatch):
    monkeypatch.setattr("perg_utils.engines.open.open_engine", lambda model: Scripted())
    with Journal(run.journal) as journal:
        judge_panel(load_profile("demo", PANEL), run, journal)
        assert set(run.read("judgements")["judge"]) == {"heuristic (embedded styles)"}
        assert panel_parts(run) == ["J", "J-swapped", "heuristic-cues"]
        judge_panel(load_profile("demo"), run, journal)
    assert panel_parts(run) == ["heuristic-cues"]


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("judges=[{kind: heuristic}]", "names must differ"),
        ("judges=[{kind: cues, threshold: 4}]", "no threshold but the main judge's"),
        ("judges=[{kind: published}]", "no kind 'published'"),
        ("judges=[{kind: cues, rubrik: x}]", "did you mean 'rubric'"),
    ],
)
def test_a_panel_that_makes_no_sense_is_refused(override, said):
    with pytest.raises(ProfileError, match=said):
        load_profile("demo", [override])


@pytest.mark.parametrize(
    ("changed", "asked"), [("judge_paraphrased", "J-other"), ("judge", "J"), ("judge_swapped", None)]
)
def test_a_rubric_in_other_words_asks_its_own_judge_anew_and_no_other(run, monkeypatch, serve, changed, asked):
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    server, prompts = serve("takes"), run.run / "own.yaml"
    prompts.parent.mkdir(exist_ok=True)
    original = (ROOT / "data" / "prompts" / "standard.yaml").read_text(encoding="utf-8")
    prompts.write_text(original, encoding="utf-8")
    model = f"{{name: J, engine: api, model: m, base_url: '{server.url}'}}"
    other = f"{{kind: llm, name: J-other, rubric: judge_paraphrased, model: {model}}}"
    profile = load_profile("demo", [f"prompts={prompts}", f"judges=[{{kind: llm, model: {model}}}, {other}]"])
    with Journal(run.journal) as journal:
        judge_panel(profile, run, journal)
        before = len(server.bodies)
        head, found, tail = original.partition(f"\n  {changed}:\n")
        assert found, "the template is not where it was"
        prompts.write_text(head + found + tail.replace("Question: {{", "The question: {{", 1), encoding="utf-8")
        judge_panel(profile, run, journal)
    anew = [body["messages"] for body in server.bodies[before:]]
    assert before == 6 and len(anew) == (0 if asked is None else 3)
    assert all("The question:" in messages[-1]["content"] for messages in anew)
    if asked is not None:
        opening = {"J": "You rate how well", "J-other": "Your task is to grade"}[asked]
        assert all(messages[0]["content"].startswith(opening) for messages in anew)
