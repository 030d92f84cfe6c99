"""The response browser: its data hold every row once, and the page shows, filters, searches and opens them."""

import base64
import gzip
import hashlib
import json
import re
import shutil
import time
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from threading import Thread

import numpy as np
import pandas as pd
import pytest
import synthetic

from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT
from perg_utils.core.run import Run
from perg_utils.core.schema import ROW_ID, Status, conform
from perg_utils.core.workspace import Workspace
from perg_utils.reporting import browser, figures
from perg_utils.reporting import page as report
from perg_utils.scoring.rates import metrics
from perg_utils.scoring.scores import score

HOSTILE = '</script><script>window.hacked = 1</script><img src="x" onerror="window.hacked = 1"> & <b>bold</b>'
NAMES = ("examples", "preferences", "responses", "answers", "judgements", "scores")


def enriched(models=2, n=60):
    """A made-up run in which texts differ, some are hostile, some missing, and some answers have stages."""
    run = synthetic.tables(models, n)
    responses = run["responses"]
    named = responses["example_id"] + " " + responses["method"] + " " + responses["setting"]
    responses["response"] = (responses["response"] + f" says {HOSTILE} " + named).where(responses["response"].notna())
    plain = "draft of " + responses["example_id"]
    responses["stages"] = [
        [draft, text] if method == "self_critic" and isinstance(text, str) else []
        for draft, text, method in zip(plain, responses["response"], responses["method"], strict=True)
    ]
    responses["shown_preferences"] = [[p] if isinstance(p, str) else [] for p in responses["preference_id"]]
    run["judgements"]["explanation"] = f"because {HOSTILE}"
    run["examples"].loc[0, "question"] = f"Why {HOSTILE}?"
    run["scores"] = score(**run)
    return run


def plain(column):
    """Its values as a list, None for whatever null."""
    return column.astype(object).where(column.notna(), None).tolist()


def opened(pieces):
    """(index, columns, pieces of texts) as the page reads them."""
    raw = {piece.name: gzip.decompress(base64.b64decode(piece.payload)) for piece in pieces}
    index, block, at, columns = json.loads(raw["index"]), raw["columns"], 0, {}
    for name, width in index["columns"].items():
        columns[name] = np.frombuffer(block, f"<u{width}", index["rows"], at)
        at += width * index["rows"]
    assert at == len(block)
    return index, columns, [json.loads(text) for name, text in sorted(raw.items()) if name.isdecimal()]


def listed(pieces):
    """The rows of the browser as a table, with their texts."""
    index, columns, texts = opened(pieces)
    word = {n: [index["words"][n][code] for code in columns[n]] for n in columns if n in index["words"]}
    ids = [index["examples"]["example_id"][code - 1] for code in columns["example"]]
    shown = [None, *index["preferences"]["preference_id"]]
    rows = [(piece, row) for piece in texts for row in piece["rows"]]
    return pd.DataFrame(
        {
            **word,
            "example_id": ids,
            "preference_id": [shown[code] for code in columns["preference"]],
            "response": [piece["texts"][row[0]] if row[0] >= 0 else None for piece, row in rows],
            "explanation": [piece["texts"][row[1]] if row[1] >= 0 else None for piece, row in rows],
            "shown": [[index["preferences"]["preference_id"][p] for p in piece["sets"][row[2]]] for piece, row in rows],
            "stages": [[piece["texts"][code] for code in row[3:] if code >= 0] for piece, row in rows],
            "outcome": [
                {name for i, name in enumerate(browser.OUTCOMES) if int(bits) >> i & 1} for bits in columns["outcome"]
            ],
            "base": columns["base"].astype(int) - 1,
        }
    )


@pytest.mark.parametrize("size", [500, 10**6])
def test_every_row_is_there_once_with_its_own_texts_letters_and_ratings(size):
    run = enriched()
    shuffled = {
        name: frame if name in {"examples", "preferences", "scores"} else frame.sample(frac=1, random_state=1)
        for name, frame in run.items()
    }
    rows = listed(list(browser.parts(shuffled, size=size))).fillna({"preference_id": ""})
    want = run["responses"].fillna({"preference_id": ""})
    both = want.merge(rows, on=ROW_ID, suffixes=("", "_listed"), validate="1:1")
    assert len(both) == len(rows) == len(want)
    for name in ("response", "status", "finish_reason"):
        assert plain(both[name]) == plain(both[f"{name}_listed"])
    assert both["stages"].tolist() == both["stages_listed"].tolist()
    assert both["shown_preferences"].tolist() == both["shown"].tolist()
    for table, name in (("answers", "answer"), ("judgements", "rating")):
        own = want[ROW_ID].merge(run[table].fillna({"preference_id": ""}), on=ROW_ID, validate="1:1")[name]
        assert plain(own) == plain(both[name])


def test_no_question_is_in_two_pieces_and_no_text_twice_in_one():
    index, columns, texts = opened(list(browser.parts(enriched(), size=2000)))
    assert len(texts) > 5 and index["first"][0] == 0
    edges = [*index["first"], index["rows"]]
    owners = [set(columns["example"][a:b]) for a, b in pairwise(edges)]
    assert sum(map(len, owners)) == len(set().union(*owners))
    assert [b - a for a, b in pairwise(edges)] == [len(piece["rows"]) for piece in texts]
    for piece in texts:
        assert len(set(piece["texts"])) == len(piece["texts"])


@pytest.mark.parametrize(("baseline", "same"), [("no_preference", ["example_id", "model"]), ("own", None)])
def test_a_row_stands_beside_its_baseline(baseline, same):
    run = enriched()
    if baseline == "own":
        own = run["responses"][run["responses"]["method"] == "no_preference"].assign(method="zero_shot")
        run["responses"] = pd.concat([run["responses"], own], ignore_index=True)
    rows = listed(list(browser.parts(run, baseline)))
    shown = rows[rows["setting"] != "none"]
    if baseline == "own":
        assert (shown.loc[shown["method"] != "zero_shot", "base"] == -1).all()
        shown, same = shown[shown["method"] == "zero_shot"], ["example_id", "model", "method"]
    base = rows.iloc[shown["base"]]
    assert (shown["base"] >= 0).all() and (base["setting"] == "none").all()
    assert base[same].to_numpy().tolist() == shown[same].to_numpy().tolist()
    assert (rows.loc[rows["setting"] == "none", "base"] == -1).all()


def test_outcomes_are_those_of_the_scores():
    run = {name: frame.head(0) for name, frame in enriched().items()}
    bools = ["correct_without", "correct_with", "followed", "robust", "delivered_without", "delivered_with"]
    cases = [
        ("relevant", True, False, True, False, True, True, "ok", {"broke"}),
        ("relevant", False, True, False, False, True, True, "ok", {"fixed", "not followed"}),
        ("relevant", True, True, True, True, True, True, "ok", {"stayed right", "robust"}),
        ("relevant", True, True, None, None, True, True, "empty", {"stayed right", "not scored"}),
        ("irrelevant", True, False, None, False, True, False, "ok", {"broke", "names no option"}),
        ("none", True, None, None, None, True, None, "ok", {"right"}),
        ("none", False, None, None, None, False, None, "ok", {"wrong", "names no option"}),
        ("relevant", None, False, True, None, None, True, "api_error", {"not scored"}),
    ]
    ids = pd.DataFrame([(f"x-{i}", None, "S", "zero_shot", case[0]) for i, case in enumerate(cases)], columns=ROW_ID)
    empty = dict.fromkeys(["finish_reason", "key"], "") | dict.fromkeys(["prompt_tokens", "completion_tokens"], 0)
    run["responses"] = conform(
        "responses",
        ids.assign(
            shown_preferences=[[]] * 8, stages=[[]] * 8, response="", status="ok", seconds=0.0, fallback=False, **empty
        ),
    )
    values = pd.DataFrame([case[1:7] for case in cases], columns=bools)
    run["scores"] = conform(
        "scores",
        pd.concat([ids, values], axis=1).assign(
            source="TQA",
            category=None,
            sampled=True,
            status=[case[7] for case in cases],
            **dict.fromkeys(["cause", "fallback", "truncated"]),
        ),
    )
    question = {"source": "TQA", "subject": "", "question": "", "gold": "A", "preference_id": None}
    run["examples"] = conform("examples", ids[["example_id"]].assign(options=[["a"]] * 8, **question))
    rows = listed(list(browser.parts(run))).set_index("example_id")
    for i, case in enumerate(cases):
        assert rows.loc[f"x-{i}", "outcome"] == case[8], case


def test_equal_tables_give_equal_bytes_and_no_responses_give_nothing(tmp_path):
    once, twice = (list(browser.parts(enriched())) for _ in range(2))
    assert once == twice
    none = {name: frame.head(0) for name, frame in enriched().items()}
    assert browser.save(browser.parts(none), tmp_path / "r") == ({}, []) and not (tmp_path / "r").exists()


def test_large_runs_lie_beside_the_page_and_files_of_earlier_runs_go(tmp_path):
    pieces, folder = list(browser.parts(enriched(), size=2000)), tmp_path / "responses"
    stamps, kept = browser.save(pieces, folder, inline=1000)
    assert kept == [] and {path.stem for path in folder.iterdir()} == set(stamps) == {p.name for p in pieces}
    (folder / "9999.js").write_text("of an earlier run")
    browser.save(pieces[:5], folder, inline=1000)
    assert {path.stem for path in folder.iterdir()} == {p.name for p in pieces[:5]}
    assert browser.save(pieces, folder) == (stamps, pieces) and not folder.exists()


def test_vendored_files_are_those_of_the_package():
    vendor = ROOT / "perg_utils" / "reporting" / "vendor"
    listed = re.findall(r"^\| (\S+) \|.*\| ([0-9a-f]{64}) \|$", (vendor / "README.md").read_text(), flags=re.MULTILINE)
    assert {name for name, _ in listed} == {path.name for path in (vendor / "slickgrid").iterdir()}
    for name, digest in listed:
        assert hashlib.sha256((vendor / "slickgrid" / name).read_bytes()).hexdigest() == digest


# The page, in a real browser.


@pytest.fixture(scope="module", params=["in the page", "beside it"])
def written(request, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    run = enriched()
    profile = load_profile(synthetic.write(folder, 2, 12))
    workspace = Workspace.of(folder, profile.name)
    for name in NAMES:
        workspace.write(name, run[name])
    workspace.write("metrics", metrics(run["scores"]))
    figures.accuracy(Run(profile, workspace)).save()
    with pytest.MonkeyPatch.context() as patch:
        if request.param == "beside it":
            patch.setattr(browser, "parts", partial(browser.parts, size=3000))
            patch.setattr(browser, "save", partial(browser.save, inline=0))
        page = report.write(workspace, profile, MANIFEST)
    assert (workspace.figures / "responses").is_dir() == (request.param == "beside it")
    return page, run


MANIFEST = {
    **{"date": "", "commit": "", "python": "", "system": "", "packages": {}, "seeds": {}, "models": {}},
    **{"prompts": {"set": "embedded", "hashes": {}}, "profile": {"name": "synthetic"}},
}


class Opened:
    """A page opened from disk without a network, and all it asked for and complained of."""

    def __init__(self, chromium, path, width=1280, scheme="light", offline=True):
        context = chromium.new_context(
            viewport={"width": width, "height": 844}, color_scheme=scheme, offline=offline, reduced_motion="reduce"
        )
        self.page, self.requests, self.complaints = context.new_page(), [], []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.complaints.append(message.text))
        self.page.on("pageerror", lambda error: self.complaints.append(str(error)))
        self.page.goto(path.as_uri())
        self.page.wait_for_selector("#browser[data-ready=yes]")

    def count(self):
        return int(self.page.inner_text("#shown").split()[0].replace(",", ""))

    def quiet(self, path):
        assert self.complaints == []
        assert all(url.startswith(path.parent.as_uri()) for url in self.requests)
        assert self.page.evaluate("window.hacked") is None
        self.page.context.close()


def test_filters_and_search_leave_the_rows_that_the_tables_have(chromium, written):
    path, run = written
    own, scores = Opened(chromium, path), run["scores"]
    page = own.page
    assert own.count() == len(scores)
    broke = (scores["correct_without"] & ~scores["correct_with"]).fillna(False)
    page.select_option("#filter-outcome", label="broke: right without, wrong with")
    assert own.count() == broke.sum() > 0
    page.select_option("#filter-model", label="M")
    page.select_option("#filter-method", label="zero_shot")
    page.select_option("#filter-setting", label="relevant")
    chosen = broke & (scores["model"] == "M") & (scores["method"] == "zero_shot") & (scores["setting"] == "relevant")
    assert own.count() == chosen.sum() > 0
    page.click("button[type=reset]")
    page.wait_for_timeout(50)
    page.select_option("#filter-category", label="Clarity")
    page.select_option("#filter-source", label="TQA")
    assert own.count() == ((scores["category"] == "Clarity") & (scores["source"] == "TQA")).sum() > 0
    for name, wanted in {
        "not followed": scores["followed"].eq(False).fillna(False),
        "not scored": scores["status"] != Status.OK,
    }.items():
        page.click("button[type=reset]")
        page.wait_for_timeout(50)
        page.select_option("#filter-outcome", value=str(1 << list(browser.OUTCOMES).index(name)))
        assert own.count() == wanted.sum() > 0
    page.click("button[type=reset]")
    page.fill("#search", "THING 7?")
    page.press("#search", "Enter")
    assert own.count() == (scores["example_id"] == run["examples"]["example_id"][7]).sum() > 0
    page.fill("#search", "(cot  relevant")  # signs are meant as they stand
    page.press("#search", "Enter")
    assert own.count() == 0 and page.is_visible("#empty")
    page.fill("#search", "00007 cot  RELEVANT")
    page.check("#search-responses")
    page.wait_for_selector("#empty", state="hidden")
    texts = run["responses"]["response"].fillna("")
    assert own.count() == texts.str.contains("00007 cot relevant", regex=False).sum() > 0
    own.quiet(path)


def test_a_row_opens_by_keyboard_shows_both_responses_as_text_and_closes(chromium, written):
    path, run = written
    own = Opened(chromium, path)
    page = own.page
    page.select_option("#filter-method", label="self_critic")
    page.focus("button[type=reset]")
    page.keyboard.press("Tab")  # from the last control into the list
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.wait_for_selector("#row[open] .arms section:nth-child(2)")
    scores = run["scores"].merge(run["responses"][[*ROW_ID, "response", "stages"]], on=ROW_ID)
    example = run["examples"]["example_id"][0]
    row = scores[
        (scores["method"] == "self_critic") & (scores["example_id"] == example) & (scores["model"] == "M")
    ].iloc[0]
    shown, texts = page.inner_text("#row-body"), page.locator("#row-body .text").all_inner_texts()
    assert page.inner_text("#row-place").startswith("2 of ")
    assert HOSTILE in page.inner_text(".question") and f"because {HOSTILE}" in shown
    assert texts[1] == row["response"] and f"{example} no_preference none" in texts[0]
    assert [text.split(" ", 1)[1] for text in texts[2:]] == row["stages"]
    preference = run["preferences"].set_index("preference_id").loc[row["preference_id"], "text"]
    assert preference in shown and page.locator(".tag.gold").count() == 1
    assert page.locator("#row-body img, #row-body script, #row-body b:has-text('bold')").count() == 0
    page.keyboard.press("ArrowRight")
    page.wait_for_selector("#row-place:text('3 of ')")
    page.keyboard.press("Escape")
    page.wait_for_selector("#row", state="hidden")
    page.keyboard.press("ArrowDown")  # the list has the keyboard again, where it was left
    page.keyboard.press("Enter")
    page.wait_for_selector("#row-place:text('4 of ')")
    page.click("#row-close")
    page.keyboard.press("Tab")  # and lets it go: one stop, whatever the number of cells
    assert page.evaluate("document.getElementById('grid').contains(document.activeElement)") is False
    own.quiet(path)


def test_the_list_sorts_by_its_columns(chromium, written):
    own = Opened(chromium, written[0])
    own.page.click(".slick-header-column[data-id=model]")
    own.page.click(".slick-header-column[data-id=model]")
    first = own.page.locator(".slick-row").first.locator(".slick-cell").nth(3)
    assert first.inner_text() == "M"  # last of S, M
    own.quiet(written[0])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_nothing_is_wider_than_the_screen(chromium, written, scheme):
    own = Opened(chromium, written[0], width=390, scheme=scheme)
    page = own.page
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".slick-row").nth(1).click()
    page.wait_for_selector("#row[open] .arms")
    assert page.evaluate("document.getElementById('row-body').scrollWidth") <= 390
    paper = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert paper == {"light": "rgb(255, 255, 255)", "dark": "rgb(22, 24, 26)"}[scheme]
    own.quiet(written[0])


def test_a_study_of_the_papers_size_opens_in_three_seconds_and_filters_in_a_fifth_of_one(chromium, tmp_path):
    run = synthetic.tables(1, 7208)
    noise = np.random.default_rng(0)  # texts that no packing makes small
    run["responses"]["response"] += [f" {noise.bytes(60).hex()}" for _ in range(len(run["responses"]))]
    run["scores"] = score(**run)
    profile = load_profile(synthetic.write(tmp_path, 1, 12))
    workspace = Workspace.of(tmp_path, profile.name)
    for name in NAMES:
        workspace.write(name, run[name])
    workspace.write("metrics", metrics(run["scores"]))
    figures.accuracy(Run(profile, workspace)).save()
    path = report.write(workspace, profile, MANIFEST)
    began = time.monotonic()
    own = Opened(chromium, path)
    assert time.monotonic() - began < 3
    assert own.count() == len(run["scores"]) > 72_080 and len(own.requests) == 3  # the page, index, columns: no text
    for name, value in (("outcome", "1"), ("method", "2"), ("setting", "2")):
        own.page.select_option(f"#filter-{name}", value)
        assert float(own.page.get_attribute("#browser", "data-milliseconds")) < 200
    own.page.locator(".slick-row").first.click()
    own.page.wait_for_selector("#row[open] .arms")
    assert 4 <= len(own.requests) <= 5  # and the texts of that question
    own.quiet(path)


def test_a_missing_or_foreign_file_is_named(chromium, written, tmp_path):
    path, _ = written
    if not (path.parent / "responses").is_dir():
        pytest.skip("all is in the page")
    copy = shutil.copytree(path.parent, tmp_path / "copy")
    last = sorted((copy / "responses").glob("0*.js"))[0]
    last.write_text(last.read_text().replace('"0000","', '"0000","other'))
    own = Opened(chromium, copy / "report.html")
    own.page.locator(".slick-row").first.click()
    own.page.wait_for_selector("#row-body .warn:text('of another run')")
    own.page.context.close()
    shutil.rmtree(copy / "responses")
    context = chromium.new_context(offline=True)
    page = context.new_page()
    page.goto((copy / "report.html").as_uri())
    page.wait_for_selector("#trouble:text('belongs beside this page')")
    context.close()


def test_the_policy_lets_no_request_reach_another_place(chromium, written):
    arrived = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self):
            arrived.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    Thread(target=server.serve_forever, daemon=True).start()
    place = f"http://127.0.0.1:{server.server_port}"
    try:
        own = Opened(chromium, written[0], offline=False)
        tried = own.page.evaluate(
            """async (place) => {
                for (const [tag, path] of [["img", "/image"], ["script", "/script"], ["iframe", "/frame"]])
                    document.body.append(Object.assign(document.createElement(tag), { src: place + path }));
                document.body.append(Object.assign(document.createElement("style"),
                    { textContent: `body { background: url(${place}/style) }` }));
                navigator.sendBeacon(place + "/beacon");
                return fetch(place + "/fetch").then(() => "sent", () => "stopped");
            }""",
            place,
        )
        own.page.wait_for_timeout(300)
        assert tried == "stopped" and arrived == []
        assert sum("Content Security Policy" in text for text in own.complaints) >= 5
        own.page.context.close()
        bare = chromium.new_context().new_page()  # the listener does hear what is let through
        bare.goto(f"{place}/heard")
        bare.context.close()
        assert "/heard" in arrived
    finally:
        server.shutdown()
        server.server_close()
