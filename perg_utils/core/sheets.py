"""Sheets that people fill in: read back as spreadsheets save them, and written so that nothing in them acts."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from perg_utils.core.errors import PergError


def read_lines(path: Path, refuse: type[PergError]) -> list[dict[str, str]]:
    """Return the lines of a filled sheet by column, e.g. `[{"item": "1", "rating": "4"}]`; none of an empty one.

    Commas, semicolons and tabs are understood. Raises `refuse` for a file that is no UTF-8 text.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise refuse(f"{path} cannot be read as UTF-8 text: {error}") from error
    head = text.split("\n", 1)[0]
    return list(csv.DictReader(text.splitlines(keepends=True), delimiter=max(",;\t", key=head.count)))


def inert(value: Any) -> Any:
    """Return a text that no spreadsheet takes for a formula; anything else as it is."""
    return f"'{value}" if isinstance(value, str) and value.startswith(("=", "+", "-", "@", "\t", "\r")) else value


def inside_page(rows: Sequence[Any]) -> str:
    """Return rows as JSON that can stand inside a script element: nothing looks like its end, or like a comment."""
    return json.dumps(rows, ensure_ascii=False).replace("<", "\\u003c").replace("\u2028", "\\u2028")
