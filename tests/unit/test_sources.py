# SPDX-License-Identifier: Apache-2.0
"""Every source file says under which licence it is, and no file became too long to read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_FOLDERS = ("src", "tests", "bench", "deploy", "docs", "examples", ".ci")
_NO_COMMENTS = {".json", ".png", ".svg", ".typed", ".lock", ".pyc", ".pem"}
_MOST_LINES = 600


def _sources() -> Iterator[Path]:
    yield from (_ROOT / name for name in ("Makefile", "pyproject.toml"))
    for folder in _FOLDERS:
        for file in sorted((_ROOT / folder).rglob("*")):
            if file.is_file() and file.suffix not in _NO_COMMENTS and "__pycache__" not in file.parts:
                yield file


@pytest.mark.parametrize("file", [pytest.param(f, id=str(f.relative_to(_ROOT))) for f in _sources()])
def test_a_source_file_names_its_licence(file: Path) -> None:
    """The SPDX line stands at the top, behind a shebang or an XML declaration at most."""
    assert "SPDX-License-Identifier: Apache-2.0" in "".join(file.read_text().splitlines(keepends=True)[:3])


def test_no_module_is_longer_than_can_be_read() -> None:
    """Over 600 lines two things live together."""
    long = {
        str(file.relative_to(_ROOT)): lines
        for file in _sources()
        if file.suffix == ".py" and (lines := len(file.read_text().splitlines())) > _MOST_LINES
    }
    assert long == {}
