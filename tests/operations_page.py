# SPDX-License-Identifier: Apache-2.0
"""The tables of the page for operators."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

PAGE: Final = Path(__file__).parents[1] / "docs/operations.md"


def rows(heading: str) -> list[list[str]]:
    """The rows of a table of the page, cell by cell. ``\\|`` is a character of a cell."""
    _, _, below = PAGE.read_text(encoding="utf-8").partition(f"\n{heading}\n")
    assert below, f"the page has no table {heading}"
    lines = below.partition("\n\n")[0].splitlines()[1:]
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def words(cell: str) -> list[str]:
    """The words in code spelling."""
    return re.findall("`([^`]+)`", cell)


FIELDS: Final = {
    words(event)[0]: frozenset(words(fields)) for event, _, fields in rows("| event | means | fields |")
}
"""The names of the fields of each event."""
