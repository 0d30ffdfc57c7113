# SPDX-License-Identifier: Apache-2.0
"""An error answer as it goes over the wire, of the service and of the reference plugin (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

from litestar import Response
from msgspec import UNSET, Struct, UnsetType

PROBLEM_JSON: Final = "application/problem+json"
MAX_LISTED: Final = 100
"""So many errors of one body are listed; ``errorCount`` tells how many there are."""

RETRY_AFTER: Final = 5
"""Seconds, in every answer that says that the same call can work later."""


class ProblemError(Struct, frozen=True):
    """One fault of a body: where (JSON pointer after ``#``, or a parameter's name) and what."""

    pointer: str
    detail: str


class Problem(Struct, frozen=True, rename="camel", kw_only=True):
    """An error answer. ``errors`` and ``error_count`` are there when a body has faults."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str
    errors: tuple[ProblemError, ...] | UnsetType = UNSET
    error_count: int | UnsetType = UNSET


def respond(
    path: str,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: tuple[ProblemError, ...] = (),
    count: int = 0,
) -> Response[Problem]:
    """A problem as an answer to a request for ``path``."""
    problem = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=quote(path, safe="/:@!$&'()*+,;=", errors="replace"),
        errors=errors[:MAX_LISTED] or UNSET,
        error_count=max(count, len(errors)) or UNSET,
    )
    return Response(problem, status_code=status, headers=dict(headers or {}), media_type=PROBLEM_JSON)


def errors_of(problems: tuple[tuple[str, str], ...]) -> tuple[ProblemError, ...]:
    """(JSON pointer, detail) pairs as they are listed."""
    return tuple(ProblemError(pointer, detail) for pointer, detail in problems)
