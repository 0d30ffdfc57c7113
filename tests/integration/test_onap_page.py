# SPDX-License-Identifier: Apache-2.0
"""The endpoints in docs/onap.md are those of the service, and what the page calls missing is missing."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Final

import pytest
from litestar.routes import HTTPRoute

from ran_datajobs.api import paths
from ran_datajobs.api.router import build
from tests.kit.api_service import Api, changes_nothing

PAGE: Final = Path(__file__).parents[2] / "docs/onap.md"
HEAD: Final = "| NCMP | ran-datajobs | difference |"
SAME: Final = "the same"
MISSING: Final = "–"

_CALL: Final = re.compile(r"`(GET|POST|PUT|PATCH|DELETE) (/[^`?]*)`")
_PARAMETER: Final = re.compile(r"\{[^}]*\}")

Call = tuple[str, str]

UNLISTED: Final = {paths.HEALTHZ, paths.READYZ, paths.METRICS, paths.SCHEMA, paths.PAGE}
"""Routes for operators and for the page, which are no part of a data job or of the inventory."""


def rows() -> list[tuple[list[Call], str]]:
    """NCMP's calls and the cell of this service, of every row of the tables of endpoints."""
    found = []
    tables = PAGE.read_text(encoding="utf-8").split(f"\n{HEAD}\n")[1:]
    assert len(tables) == 3
    for table in tables:
        for line in table.partition("\n\n")[0].splitlines()[1:]:
            ncmp, ours, _ = (cell.strip() for cell in line.strip("|").split("|"))
            found.append((calls_in(ncmp), ours))
    return found


def calls_in(cell: str) -> list[Call]:
    """The calls that a cell names; the names of path parameters do not count."""
    return [(method, plain(path)) for method, path in _CALL.findall(cell)]


def plain(path: str) -> str:
    """A path without the names of its parameters."""
    return _PARAMETER.sub("{}", path)


def documented() -> set[Call]:
    """The calls that the page says this service has."""
    return {call for ncmp, ours in rows() for call in (ncmp if ours == SAME else calls_in(ours))}


def missing() -> list[Call]:
    """The calls of NCMP that the page says this service does not have."""
    return [call for ncmp, ours in rows() for call in ncmp if ours == MISSING]


@changes_nothing
async def test_the_page_has_the_endpoints_of_the_service(unchanged: Api) -> None:
    """Every route of a data job and of the inventory is in a table, and every call there is a route."""
    settings = unchanged.parts.settings.with_changes(onap_test_api=True)
    routes = {
        (method, plain(route.path_format))
        for route in build(dataclasses.replace(unchanged.parts, settings=settings)).routes
        if isinstance(route, HTTPRoute)
        for method in route.route_handler_map
        if method != "OPTIONS"
    }
    others = {call for call in routes if call[1].startswith(paths.SCHEMA) or call[1] in UNLISTED}
    others.add(("GET", plain(paths.PAGE_FILE)))
    assert documented() == routes - others


@pytest.mark.parametrize("call", missing(), ids="".join)
@changes_nothing
async def test_what_the_page_calls_missing_is_missing(unchanged: Api, call: Call) -> None:
    """A request for it is answered with 404, or with 405 where the path has another call."""
    method, path = call
    answer = await unchanged.call(method, path.replace("{}", "x"), json={})
    assert answer.status in {404, 405}, answer.body


def test_no_call_is_both() -> None:
    """A call of NCMP is in one row, and is offered under its own path or not at all."""
    named = [call for ncmp, _ in rows() for call in ncmp]
    assert len(named) == len(set(named))
    assert documented().isdisjoint(missing())
