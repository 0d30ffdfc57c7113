# SPDX-License-Identifier: Apache-2.0
"""Maps each exception to an error answer: a problem (RFC 9457)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any

from litestar import Request, Response
from litestar.exceptions import HTTPException, ValidationException
from litestar.openapi.datastructures import ResponseSpec
from msgspec import Struct

from ran_datajobs.api import parameters
from ran_datajobs.errors import (
    BusUnavailable,
    DataJobsError,
    InvalidFdn,
    InvalidFilter,
    InvalidRequest,
    StorageUnavailable,
    StoreUnavailable,
    TooManyOperations,
    UnsupportedRequest,
)
from ran_datajobs.http.json_body import in_words
from ran_datajobs.http.problem import PROBLEM_JSON, RETRY_AFTER, Problem, ProblemError, errors_of, respond
from ran_datajobs.telemetry import Event, Logger


class _Answer(Struct, frozen=True):
    status: int
    detail: str
    headers: Mapping[str, str] = {}
    errors: tuple[ProblemError, ...] = ()
    count: int = 0


def documented(*statuses: int) -> dict[int, ResponseSpec]:
    """The problems that a route can answer with, for the OpenAPI document."""
    return {
        status: ResponseSpec(
            data_container=Problem,
            media_type=PROBLEM_JSON,
            description=HTTPStatus(status).phrase,
            generate_examples=False,
        )
        for status in sorted(statuses)
    }


def problem_answers(log: Logger) -> Callable[[Request[Any, Any, Any], Exception], Response[Problem]]:
    """The handler of all exceptions. An unexpected one is logged and becomes a 500 without details."""

    def answer_problem(request: Request[Any, Any, Any], error: Exception) -> Response[Problem]:
        path = request.scope["path"]
        answer = _answer_to(error, request)
        if answer is None:
            method = request.scope["method"]
            log.error(Event.REQUEST_FAILED, method=method, path=path, cause=repr(error), exc_info=error)
            answer = _Answer(500, "an unexpected error: it is in the service's log")
        return respond(path, answer.status, answer.detail, answer.headers, answer.errors, answer.count)

    return answer_problem


def _answer_to(error: Exception, request: Request[Any, Any, Any]) -> _Answer | None:
    match error:
        case TooManyOperations():
            return _Answer(413, error.detail)
        case InvalidRequest():
            return _Answer(400, error.detail, errors=errors_of(error.problems), count=error.count)
        case InvalidFdn() | InvalidFilter():
            return _Answer(400, str(error))
        case UnsupportedRequest():
            return _Answer(422, str(error), errors=errors_of(error.problems), count=error.count)
        case StoreUnavailable() | StorageUnavailable() | BusUnavailable():
            return _Answer(503, str(error), {"Retry-After": str(RETRY_AFTER)})
        case DataJobsError():
            return None
        case ValidationException():
            faults = _parameter_errors(error, request)
            first = f"{faults[0].pointer}: {faults[0].detail}" if faults else "a parameter cannot be read"
            return _Answer(400, first, errors=faults)
        case HTTPException() if error.status_code < 500 or error.status_code == 503:
            status = error.status_code
            return _Answer(status, error.detail or HTTPStatus(status).phrase, error.headers or {})
        case _:
            return None


def _parameter_errors(
    error: ValidationException, request: Request[Any, Any, Any]
) -> tuple[ProblemError, ...]:
    """The router names a parameter as the function does, and a missing parameter only in its message."""
    extras = [extra for extra in error.extra or () if isinstance(extra, dict)]
    if not extras:
        return tuple(ProblemError(name, "is missing") for name in parameters.missing(request))
    return tuple(_parameter_error(extra, request) for extra in extras)


def _parameter_error(extra: dict[str, Any], request: Request[Any, Any, Any]) -> ProblemError:
    name, words = parameters.wire_name(request, str(extra.get("key", ""))), str(extra.get("message", ""))
    if words.startswith(("Expected ", "Invalid ")):  # a message of the decoder
        given = request.query_params.get(name) or request.path_params.get(name)
        words = in_words(words, given if isinstance(given, str) else None)
    return ProblemError(name, words)
