# SPDX-License-Identifier: Apache-2.0
"""Every call to a peer has a time budget, and the page of budgets agrees with the code."""

from __future__ import annotations

import ast
import dataclasses
import importlib
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

import ran_datajobs
from ran_datajobs import config

SOURCES: Final = Path(ran_datajobs.__file__).parent
PAGE: Final = Path(__file__).parents[2] / "docs/budgets.md"
HEAD: Final = "| call | seconds | setting or constant | afterwards | reported in |"

CLIENTS: Final = {
    ("asyncpg", "connect"),
    ("asyncpg", "create_pool"),
    ("client", "HTTPConnection"),
    ("client", "HTTPSConnection"),
    ("request", "urlopen"),
    ("socket", "create_connection"),
    ("_session", "request"),
}
"""Calls that open a client or send a request, as (text before the dot, name): each names its timeout."""

SETTINGS: Final = {each.variable: each.default for each in config.declarations()}


def rows() -> list[list[str]]:
    """The cells of every row of the page."""
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    cells = [line.strip("|").split("|") for line in lines if line.startswith("| ") and line != HEAD]
    return [[cell.strip() for cell in row] for row in cells]


def value_of(name: str) -> Any:
    """The default of a setting, or the value of a dotted name of the code; for a field, its default."""
    if name in SETTINGS:
        return SETTINGS[name]
    path, _, last = name.rpartition(".")
    try:
        return getattr(importlib.import_module(path), last)
    except ModuleNotFoundError:
        module, _, struct = path.rpartition(".")
        kind = getattr(importlib.import_module(module), struct)
        is_dataclass = dataclasses.is_dataclass(kind)
        fields: Any = dataclasses.fields(kind) if is_dataclass else msgspec.structs.fields(kind)
        (default,) = [field.default for field in fields if field.name == last]
        return default


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[2].strip("`"))
def test_a_budget_on_the_page_is_that_of_the_code(row: list[str]) -> None:
    """The seconds are the default of the setting, or the constant, that the row names. The row says what
    happens on a timeout, and where it is reported."""
    assert len(row) == 5
    assert float(row[1]) == value_of(row[2].strip("`"))
    assert all(row)


def test_every_duration_among_the_settings_that_ends_a_call_is_on_the_page() -> None:
    """All settings in seconds except three, which bound no call."""
    others = {"DATAJOBS_DMI_HEALTH_INTERVAL", "DATAJOBS_PRIORITY_AGING", "DATAJOBS_RETENTION"}
    listed = {row[2].strip("`") for row in rows()}
    durations = {each.variable for each in config.declarations() if each.kind.name == "seconds"}
    assert durations - listed == others


def test_no_client_is_opened_without_a_time() -> None:
    """Wherever the code opens one, it names a timeout in the same call."""
    found = 0
    for file in sorted(SOURCES.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
                continue
            before = node.func.value
            owner = before.attr if isinstance(before, ast.Attribute) else getattr(before, "id", "")
            if (owner, node.func.attr) in CLIENTS:
                found += 1
                names = {keyword.arg for keyword in node.keywords}
                assert "timeout" in names, f"{file.name}:{node.lineno} opens a client without a time"
    assert found >= 6
