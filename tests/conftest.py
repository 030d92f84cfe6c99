"""The order of the files: those that take longest come first, so that two processes end at about the same time."""

from pathlib import Path

import pytest

#: Longest first; all others follow in the order in which they were found.
LONG = (
    "run/test_end_to_end.py",
    "published/test_published_run.py",
    "reporting/test_null_studies.py",
    "run/test_unanswered.py",
    "reporting/test_figures.py",
    "run/test_shards.py",
    "published/test_audit.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sort by file; the tests of a file stay as they are."""
    home = Path(__file__).parent
    places = {home / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))
