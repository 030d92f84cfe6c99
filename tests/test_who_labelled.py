"""The labels of genuine responses are a language model's: no page, notebook or docstring says that people gave them.

People's labels are only those of the MCQ-robustness data, which no page tells of; judges may be people, and rate.
"""

import ast
import json
import re

import pytest

from perg_utils.core.profile import ROOT

GIVEN = r"(?:read|labell?ed|labels?|annotated)"
PEOPLE = r"(?:us|people|persons?|humans?|hand|readers|annotators|authors)"
SAYS_PEOPLE = [
    re.compile(rf"\b{GIVEN}\b(?: \S+){{0,4}}? by (?:\w+ )?{PEOPLE}\b", re.IGNORECASE),
    re.compile(rf"\b(?:people|persons|humans|readers|annotators)(?: \w+)? {GIVEN}\b", re.IGNORECASE),
    re.compile(rf"\bwe(?: \w+)? {GIVEN}\b[^.]{{0,40}}\b(?:labels?|responses?)\b", re.IGNORECASE),
    re.compile(r"\b(?:our|people's|human|hand)[ -]label", re.IGNORECASE),
]
DENIES = re.compile(r"\bnot(?: \w+)? by people\b|\bnot people's\b", re.IGNORECASE)
#: Where it is told how right letters are, and so whose the labels are.
TELLS = ["docs/protocol.md", "data/README.md", "notebooks/10_check_extraction.ipynb",
         "perg_utils/published/checks/gold.py"]  # fmt: skip


def claims(text):
    """What a text says of people who read or labelled, with line ends as spaces."""
    flat = DENIES.sub("", " ".join(text.replace("*", "").split()))
    return [found[0] for pattern in SAYS_PEOPLE for found in pattern.finditer(flat)]


def prose(path):
    """The texts of a file: of a notebook its cells, of a module its docstrings and comments, else everything."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".ipynb":
        return ["".join(cell["source"]) for cell in json.loads(text)["cells"]]
    if path.suffix == ".py":
        nodes = [node for node in ast.walk(ast.parse(text)) if hasattr(node, "body") and isinstance(node.body, list)]
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        told = [ast.get_docstring(node) or "" for node in nodes if isinstance(node, kinds)]
        return [*told, "\n".join(re.findall(r"#:? (.*)", text))]
    return [text]


def pages():
    for pattern in ("README.md", "docs/*.md", "data/*.md", "notebooks/*.ipynb", "perg_utils/**/*.py"):
        yield from sorted(ROOT.glob(pattern))


@pytest.mark.parametrize(
    "old",
    ["342 genuine responses that were read by people", "by labels of 342 responses, read by us",
     "which genuine responses people read", "responses labelled by hand", "We read and labelled 342 responses",
     "Two readers labelled\nthem apart from each other", "rows to be read by people, in random order",
     "agreement with human labels", "labels were given by two people"],
)  # fmt: skip
def test_what_was_once_said_of_the_labels_is_found(old):
    assert claims(old)


@pytest.mark.parametrize(
    "fine",
    ["labels a language model gave; no person has checked them", "labelled by a language model, not by people",
     "the ratings of people", "People have rated here", "a model reads what people believe"],
)  # fmt: skip
def test_what_is_true_of_them_may_be_said(fine):
    assert not claims(fine)


@pytest.mark.parametrize("path", list(pages()), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_page_says_that_people_labelled(path):
    assert [found for text in prose(path) for found in claims(text)] == []


@pytest.mark.parametrize("name", TELLS)
def test_where_the_labels_are_told_of_it_says_whose_they_are(name):
    told = " ".join("\n".join(prose(ROOT / name)).lower().replace("*", "").split())
    assert "language model" in told and "two passes" in told
    assert "no person has checked" in told
    assert re.search(r"model that (also )?wrote the (extractor's )?rules", told)
