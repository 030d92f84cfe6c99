"""Results without texts: nothing of a question, an option, a response or an explanation may be in what is kept."""

import json

import nbformat
import pandas as pd
import pytest

from perg_utils.__main__ import main
from perg_utils.core.errors import DataError
from perg_utils.core.loading import load_profile
from perg_utils.core.schema import TABLES, conform
from perg_utils.core.workspace import Workspace
from perg_utils.engines.base import Decoding, Reply, Request
from perg_utils.engines.journal import Journal
from perg_utils.run.textless import LEFT_OUT, Fingerprint, write

QUESTION = "Which of the seven harbours of the northern coast freezes over in winter?"
OPTIONS = ["the old harbour by the great lighthouse", "none of them"]
RESPONSE = "It is B, since warm water from the south reaches all of them."
WHY = "The answer gives its reason in one short clause only."
SECRETS = [QUESTION, OPTIONS[0], RESPONSE, WHY]


def rows(table, **values):
    blank = {
        name: [] if name in {"options", "stages", "shown_preferences", "sources"} else None for name in TABLES[table]
    }
    return conform(table, pd.DataFrame([blank | values]))


@pytest.fixture
def run(tmp_path):
    profile, workspace = load_profile("demo", ["judges=[]"]), Workspace.of(tmp_path / "run", "demo")
    one = {"example_id": "q1", "preference_id": "clarity-1", "model": "S", "method": "zero_shot", "setting": "relevant"}
    tables = {
        "examples": rows("examples", example_id="q1", source="TQA", question=QUESTION, options=OPTIONS, gold="B"),
        "responses": rows("responses", **one, response=RESPONSE, stages=[RESPONSE], status="ok", key="k", seconds=2.0),
        "answers": rows("answers", **one, answer="B", evidence=RESPONSE, status="ok"),
        "judgements": rows("judgements", **one, judge="J", rating=4, explanation=WHY, status="ok"),
        "scores": rows("scores", **one, source="TQA", correct_with=True, status="ok"),
        "metrics": rows("metrics", model="S", metric="breakage_rate", value=1.5),
    }
    for name, table in tables.items():
        workspace.write(name, table)
    workspace.write("nulls", rows("nulls", **one, kind="plain", judge="J", explanation=WHY), "J")
    pages = workspace.figures
    (pages / "tables").mkdir(parents=True)
    (pages / "bars.csv").write_text("model,value\nS,1.5\n")
    (pages / "bars.png").write_bytes(b"png")
    (pages / "tables" / "told.csv").write_text(f'text\n"{RESPONSE}"\n')
    (pages / "report.html").write_text(QUESTION)
    display = nbformat.v4.new_output("execute_result", data={"text/html": f"<td>{QUESTION.replace(' ', ' <b>')}</td>"})
    shown = nbformat.v4.new_output("stream", name="stdout", text="breakage: 1.5 %")
    cells = [nbformat.v4.new_code_cell("1", outputs=[shown, display])]
    (pages / "notebooks").mkdir()
    nbformat.write(nbformat.v4.new_notebook(cells=cells), pages / "notebooks" / "06_score_metrics.ipynb")
    (workspace.run / "manifest.json").write_text(json.dumps({"models": {"S": {"model": "/home/me/models/s.gguf"}}}))

    class Engine:
        identity = {"kind": "scripted", "model": "/home/me/models/s.gguf"}  # noqa: RUF012

        def generate(self, requests):
            yield 0, Reply(RESPONSE, prompt_tokens=30, completion_tokens=14, seconds=1800.0, finish_reason="stop")

    with Journal(workspace.journal) as journal:
        journal.ask(Engine(), [Request((("user", QUESTION),), Decoding(20))])
    return profile, workspace


def test_what_is_kept_holds_no_text_and_every_score(run, tmp_path):
    kept = tmp_path / "kept"
    left_out = write(*run, kept)
    assert left_out == ["tables/told.csv", "notebooks/06_score_metrics.ipynb: 1 outputs"]
    for path in kept.rglob("*.*"):
        content = path.read_bytes() if path.suffix == ".png" else path.read_text(errors="replace").encode()
        if path.suffix == ".parquet":
            content = pd.read_parquet(path).to_csv().encode()
        assert not any(secret.encode() in content for secret in SECRETS), path
    assert (kept / "bars.csv").is_file() and (kept / "bars.png").is_file() and not (kept / "report.html").exists()
    [output, gone] = nbformat.read(kept / "notebooks" / "06_score_metrics.ipynb", 4).cells[0].outputs
    assert output.text == "breakage: 1.5 %" and gone.text == LEFT_OUT
    for table, column, value in (
        ("answers", "answer", "B"),
        ("judgements", "rating", 4),
        ("scores", "correct_with", True),
    ):
        assert pd.read_parquet(kept / "rows" / f"{table}.parquet")[column].tolist() == [value]
    manifest = json.loads((kept / "manifest.json").read_text())
    assert manifest["models"]["S"]["model"] == "s.gguf" and manifest["processor"]["cores"] > 0
    [spent] = manifest["spent"].values()
    assert (spent["replies"], spent["prompt_tokens"], spent["reply_tokens"], spent["hours"]) == (1, 30, 14, 0.5)


def test_results_replace_results_and_nothing_else(run, tmp_path):
    kept = tmp_path / "kept"
    write(*run, kept)
    (kept / "old.png").write_bytes(b"old")
    write(*run, kept)
    assert not (kept / "old.png").exists()
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    with pytest.raises(DataError, match="holds other things"):
        write(*run, precious)
    assert (precious / "thesis.txt").is_file()


def test_the_command_needs_a_whole_run(tmp_path, capsys):
    assert main(["results", str(tmp_path / "kept"), "--out", str(tmp_path)]) == 2
    assert "run the earlier steps" in capsys.readouterr().err


def test_a_text_is_known_by_six_words_in_a_row_also_inside_html_and_not_by_this_projects_own():
    wish = "I like answers that are short and to"
    told = Fingerprint([QUESTION, f"{wish} the point."], [wish])
    assert told.gives_away(f"<p>{QUESTION.replace('northern', '<b>northern</b>')}</p>")
    assert told.gives_away(json.dumps(f"x\n{QUESTION.upper()}"))
    assert not told.gives_away("Which of the seven harbours")
    assert not Fingerprint(["7, 1, 12"]).gives_away("| 7.1 | 12 |")
    assert Fingerprint(["the blue whale"]).gives_away("it was the blue whale, and") and not told.gives_away(
        "the blue whale"
    )
    assert not told.gives_away(wish)
