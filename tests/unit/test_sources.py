# SPDX-License-Identifier: Apache-2.0
"""Every source file has a licence header, and no file is too long to read."""

from __future__ import annotations

import re
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
    """The SPDX line is at the top, after a shebang or an XML declaration at most."""
    assert "SPDX-License-Identifier: Apache-2.0" in "".join(file.read_text().splitlines(keepends=True)[:3])


def test_no_module_is_longer_than_can_be_read() -> None:
    """A file of over 600 lines should be split."""
    long = {
        str(file.relative_to(_ROOT)): lines
        for file in _sources()
        if file.suffix == ".py" and (lines := len(file.read_text().splitlines())) > _MOST_LINES
    }
    assert long == {}


@pytest.mark.parametrize("file", sorted((_ROOT / "src").rglob("sql/*.sql")), ids=lambda file: file.stem)
def test_the_names_of_queries_are_unique(file: Path) -> None:
    """A second query of the same name would replace the first."""
    names = re.findall(r"^-- name: (\w+)$", file.read_text(), re.MULTILINE)
    assert len(names) == len(set(names)) > 0


def test_queries_have_short_lines() -> None:
    """At most 130 characters."""
    files = sorted((_ROOT / "src").rglob("sql/*.sql"))
    assert files
    assert not [line for file in files for line in file.read_text().splitlines() if len(line) > 130]


_RETIRED_WORDS = (
    "visit", "poke", "poked", "hurry", "shelter", "sheltered", "bringing home", "place in line", "otherside",
    "told", "in trouble", "whoever", "somebody",
)  # fmt: skip
"""Words that are not in use in the field."""

_RETIRED_NAMES = (
    "WrongUse", "Impossible", "NorthboundParts", "HeldLane", "LaneTurns", "Flights", "PatientDriver",
    "ran_datajobs.northbound", "ran_datajobs.southbound", "ran_datajobs.plan", "ran_datajobs.job",
)  # fmt: skip


@pytest.mark.parametrize(
    ("retired", "flags"), [(_RETIRED_WORDS, re.IGNORECASE), (_RETIRED_NAMES, 0)], ids=["words", "names"]
)
def test_what_was_retired_does_not_come_back(retired: tuple[str, ...], flags: int) -> None:
    """Decision records, migrations and kept databases have the words of their time."""
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, retired))})\b", flags)
    found = {
        f"{file.relative_to(_ROOT)}: {word}"
        for file in _sources()
        if not {"decisions", "migrations", "data"} & {*file.parts} and file != Path(__file__)
        for word in pattern.findall(file.read_text(encoding="utf-8"))
    }
    assert not found


def test_the_glossary_is_short_and_each_term_stands_once() -> None:
    """At most 40 terms, in alphabetical order."""
    rows = (_ROOT / "docs/glossary.md").read_text(encoding="utf-8").splitlines()
    terms = [row.split("|")[1].strip() for row in rows if row.startswith("| ") and "---" not in row][1:]
    assert len(terms) <= 40
    assert terms == sorted(set(terms), key=str.lower)
