# SPDX-License-Identifier: Apache-2.0
"""Error answers of the plugin (RFC 9457, ``application/problem+json``)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException

from ran_datajobs.errors import InvalidRequest, StoreUnavailable
from ran_datajobs.http.problem import Problem, respond
from ran_datajobs.telemetry import Logger


def problem(
    request: Request[Any, Any, Any],
    status: int,
    detail: str,
    faults: tuple[tuple[str, str], ...] = (),
    count: int = 0,
    headers: Mapping[str, str] | None = None,
) -> Response[Problem]:
    """An error answer to ``request``."""
    return respond(request.scope["path"], status, detail, headers, faults, count)


def answer_problems(log: Logger) -> Callable[[Request[Any, Any, Any], Exception], Response[Problem]]:
    """Return the exception handler. It logs an unexpected exception and answers without its details."""

    def answer(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
        known = _known(request, error)
        if known is not None:
            return known
        method, path = request.method, request.scope["path"]
        log.error("request.failed", method=method, path=path, cause=repr(error), exc_info=error)
        return problem(request, 500, "an unexpected error: it is in the plugin's log")

    return answer


def _known(request: Request[Any, Any, Any], error: Exception) -> Response[Problem] | None:
    match error:
        case InvalidRequest():
            return problem(request, 400, error.detail, error.problems, error.count)
        case StoreUnavailable():
            return problem(request, 503, str(error))
        case HTTPException() if error.status_code < 500:
            detail = error.detail or HTTPStatus(error.status_code).phrase
            return problem(request, error.status_code, detail, headers=error.headers)
        case _:
            return None
