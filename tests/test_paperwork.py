"""Checklists and the data statement: every item is answered, every link and command of an answer is real."""

import re
import shlex

import pytest

from perg_utils.__main__ import parser
from perg_utils.core.loading import load_profile
from perg_utils.core.profile import ROOT

PAGES = {name: (ROOT / name).read_text(encoding="utf-8") for name in ("CHECKLIST.md", "DATA.md")}


def rows(text):
    """The rows of all tables, without their heads."""
    found = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    return [row for row in found if row[-1] not in {"answer", "by whom", "here"} and not set(row[0]) <= set("-|: ")]


@pytest.mark.parametrize("page", PAGES)
def test_every_link_leads_somewhere(page):
    targets = re.findall(r"\]\(([^)\s]+)\)", PAGES[page])
    assert targets and [target for target in targets if not (ROOT / target.partition("#")[0]).exists()] == []


def test_every_item_has_a_link_a_command_or_says_why_not():
    answers = rows(PAGES["CHECKLIST.md"])
    assert len(answers) == 18 + 16 + 5 + 6 + 5
    for item, answer in answers:
        assert re.search(r"\]\(|`|^No, because ", answer), item


def test_the_commands_are_real():
    told = [text for text in re.findall(r"`([^`]+)`", PAGES["CHECKLIST.md"]) if "/" in text.split()[0]]
    for text in told:
        head, *rest = shlex.split(text)
        if head == "./run_all.sh":
            load_profile(parser().parse_args(["run", *rest]).profile)
        elif head == ".venv/bin/python":
            parser().parse_args(rest[2:])
        else:
            assert all((ROOT / word).exists() for word in (head, *rest))
    assert len(told) > 8
