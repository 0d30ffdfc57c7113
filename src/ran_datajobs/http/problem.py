# SPDX-License-Identifier: Apache-2.0
"""Error answers of the service and of the reference plugin (RFC 9457)."""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from itertools import starmap
from typing import Final
from urllib.parse import quote

from litestar import Response
from msgspec import UNSET, Struct, UnsetType

PROBLEM_JSON: Final = "application/problem+json"
MAX_LISTED: Final = 100
"""Maximum number of errors of one body that are listed; ``errorCount`` counts all."""

RETRY_AFTER: Final = 5
"""Value in seconds of ``Retry-After``, in every answer to a call that can succeed later."""

_RETRY_HELPS: Final = frozenset({HTTPStatus.TOO_MANY_REQUESTS, HTTPStatus.SERVICE_UNAVAILABLE})


class ProblemError(Struct, frozen=True):
    """One fault of a request: where (JSON pointer after ``#``, or a parameter's name) and what it is."""

    pointer: str
    detail: str


class Problem(Struct, frozen=True, rename="camel", kw_only=True):
    """An error answer. ``errors`` and ``error_count`` are present if the request has faults."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str
    instance: str
    errors: tuple[ProblemError, ...] | UnsetType = UNSET
    error_count: int | UnsetType = UNSET


class NcmpError(Struct, frozen=True):
    """An error answer of ONAP CPS-NCMP (``ErrorMessage`` of its OpenAPI); ``status`` like
    ``"404 NOT_FOUND"``."""

    status: str
    message: str
    details: str


def respond(
    path: str,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    faults: tuple[tuple[str, str], ...] = (),
    count: int = 0,
) -> Response[Problem]:
    """The problem that answers a request for ``path``. ``faults``: (JSON pointer, detail) pairs.

    An answer to a call that can succeed later has ``Retry-After``.
    """
    problem = Problem(
        title=HTTPStatus(status).phrase,
        status=status,
        detail=detail,
        instance=quote(path, safe="/:@!$&'()*+,;=", errors="replace"),
        errors=tuple(starmap(ProblemError, faults[:MAX_LISTED])) or UNSET,
        error_count=max(count, len(faults)) or UNSET,
    )
    later = {"Retry-After": str(RETRY_AFTER)} if status in _RETRY_HELPS else {}
    return Response(problem, status_code=status, headers=later | dict(headers or {}), media_type=PROBLEM_JSON)
