# SPDX-License-Identifier: Apache-2.0
"""CM handles as CSV: one handle a line, the columns named in the first one.

Columns are the fields of a handle, the addresses of its plugins, and its properties as ``public.NAME`` and
``private.NAME``. An empty cell names nothing, ``~`` removes a property.
"""

from __future__ import annotations

import csv
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

import msgspec

from ran_datajobs.errors import UsageError
from ran_datajobs.inventory.registration import REMOVED

PLUGINS: Final = ("dmiPlugin", "dmiDatajobsReadPlugin", "dmiDatajobsWritePlugin")
FIELDS: Final = ("cmHandle", "alternateId", "dataProducerIdentifier", "moduleSetTag", "trustLevel")
PROPERTIES: Final = {"public": "publicCmHandleProperties", "private": "cmHandleProperties"}
"""Member of a handle for each prefix of a column: ``public.NAME``, ``private.NAME``."""

_COLUMNS: Final = (*FIELDS, *PLUGINS)
_MOST_COLUMNS: Final = 16_384
"""Maximum number of columns, which is also the most that spreadsheets open."""

_GUARDED: Final = re.compile(rf"'*(?:[=+\-@\t\r].*|{REMOVED}?)", re.DOTALL)
"""Values that get an apostrophe in front: beginnings of formulas, the empty text, and :data:`REMOVED`."""

Plugins = tuple[str, ...]
"""The addresses of :data:`PLUGINS`; empty where none is named."""


def cell(value: str | None) -> str:
    """A value as a cell that no spreadsheet evaluates as a formula; None is an empty cell.

    :func:`value_of` reads it back.
    """
    if value is None:
        return ""
    return "'" + value if _GUARDED.fullmatch(value) else value


def value_of(cell: str) -> str:
    """The value in a cell that is not empty."""
    return cell[1:] if cell.startswith("'") and _GUARDED.fullmatch(cell) else cell


class Row(msgspec.Struct, frozen=True):
    """A handle in the shape of a registration, its plugins, and the number of its line."""

    line: int
    plugins: Plugins
    handle: dict[str, Any]


def read_rows(name: str, lines: Iterator[str], plugin: str | None) -> Iterator[Row]:
    """Read the handles of a CSV. ``name`` is for messages, ``plugin`` the address where none is in the row.

    The separator is a comma, a semicolon or a tab. Raises UsageError with the line of the fault.
    """
    header = next(lines)
    separator = max(",;\t", key=header.count)
    columns = _columns(name, next(csv.reader([header], delimiter=separator)))
    reader = csv.reader(lines, delimiter=separator, strict=True)
    line = 2
    try:
        for cells in reader:
            if any(cells):
                yield _row(f"{name}:{line}", line, columns, cells, plugin)
            line = reader.line_num + 2
    except csv.Error as error:
        raise UsageError(f"{name}:{line}: {error}") from error


def column_of(steps: Sequence[str]) -> str:
    """The column that the steps of a JSON pointer into a handle name."""
    prefixes = {member: prefix for prefix, member in PROPERTIES.items()}
    return ".".join(prefixes.get(step, step) for step in steps)


def _columns(name: str, header: Sequence[str]) -> list[str]:
    columns = [column.strip() for column in header]
    for number, column in enumerate(columns):
        prefix, _, property_name = column.partition(".")
        if column not in _COLUMNS and not (prefix in PROPERTIES and property_name):
            near = get_close_matches(column.lower(), [each.lower() for each in _COLUMNS], 1)
            meant = next((each for each in _COLUMNS if [each.lower()] == near), None)
            known = f"the columns are {', '.join(_COLUMNS)}, public.NAME and private.NAME"
            hint = f"did you mean {meant}?" if meant else known
            raise UsageError(f"{name}:1: there is no column {column!r}: {hint}")
        if column in columns[:number]:
            raise UsageError(f"{name}:1: the column {column} occurs twice")
    if "cmHandle" not in columns:
        raise UsageError(f"{name}:1: the column cmHandle is missing")
    return columns


def _row(place: str, line: int, columns: Sequence[str], cells: Sequence[str], plugin: str | None) -> Row:
    if len(cells) != len(columns):
        raise UsageError(f"{place}: has {len(cells)} cells, and the first line has {len(columns)}")
    named = {column: text for column, text in zip(columns, cells, strict=True) if text.strip()}
    handle: dict[str, Any] = {field: value_of(named[field].strip()) for field in FIELDS if field in named}
    for column, text in named.items():
        prefix, _, property_name = column.partition(".")
        if property_name:
            value = None if text == REMOVED else value_of(text)
            handle.setdefault(PROPERTIES[prefix], {})[property_name] = value
    plugins = tuple(named.get(column, "").strip() for column in PLUGINS)
    if not any(plugins):
        if plugin is None:
            raise UsageError(f"{place}: dmiPlugin: which plugin? Fill the column, or give --plugin URL")
        plugins = (plugin, "", "")
    return Row(line, plugins, handle)


def write(handles: Iterable[tuple[Plugins, Mapping[str, Any]]]) -> None:
    """Write handles in the shape of a registration, with their plugins, as CSV to standard output.

    The columns depend on all handles, which wait in a temporary file.
    """
    names: dict[str, None] = {}
    with tempfile.TemporaryFile() as spool:
        for plugins, handle in handles:
            row: dict[str, str | None] = {field: handle.get(field) for field in FIELDS}
            row |= {column: plugin or None for column, plugin in zip(PLUGINS, plugins, strict=True)}
            for prefix, member in PROPERTIES.items():
                row |= {f"{prefix}.{name}": value for name, value in (handle.get(member) or {}).items()}
            names |= dict.fromkeys(row)
            if len(names) > _MOST_COLUMNS:
                raise UsageError(
                    f"a CSV has at most {_MOST_COLUMNS} columns, and the handles have more properties"
                )
            spool.write(msgspec.json.encode(row) + b"\n")
        columns = [*_COLUMNS, *sorted(names.keys() - set(_COLUMNS))]
        spool.seek(0)
        rows = csv.writer(sys.stdout)
        rows.writerow(columns)
        for line in spool:
            row = msgspec.json.decode(line)
            rows.writerow([cell(row.get(column)) for column in columns])
