# SPDX-License-Identifier: Apache-2.0
"""Maps each exception to an error answer, and refuses query parameters that a route does not have.

An error answer is a problem (RFC 9457); below the paths of ONAP CPS-NCMP it is NCMP's own error body, unless
the client accepts ``application/problem+json`` by name; of ProvMnS it has the members of TS 28.623 as well.

Names of query parameters are case-insensitive. Unknown ones are refused because otherwise a misspelt
``dryRun`` would submit a job, and a misspelt filter would list everything.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping, Set
from http import HTTPStatus
from typing import Any, Final
from urllib.parse import unquote_plus

from litestar import Response
from litestar.exceptions import ClientException, HTTPException, ValidationException
from litestar.params import QueryParameter
from litestar.typing import FieldDefinition

from ran_datajobs import errors
from ran_datajobs.api import paths, provmns_problems
from ran_datajobs.api.dependencies import AnyRequest
from ran_datajobs.errors import InvalidRequest, UnsupportedRequest
from ran_datajobs.http.json_body import choices_of, in_words, shortened
from ran_datajobs.http.problem import MAX_LISTED, PROBLEM_JSON, NcmpError, respond
from ran_datajobs.planning.keys import NOT_OFFERED, not_offered
from ran_datajobs.telemetry import Logger

_MISSING: Final = re.compile(r"Missing required query parameter '(\w+)'")

_SPRING_NAMES: Final = {413: "PAYLOAD_TOO_LARGE"}
"""Names of statuses that Python names differently than NCMP's framework."""

OFFERED_ONE_DAY: Final = "offered_one_day"
"""Set in the ``opt`` of the route that refuses the parameters in :data:`NOT_OFFERED` as not offered yet."""


class Conflict(ClientException):
    """The state of the resource does not allow the call."""

    status_code = HTTPStatus.CONFLICT


class NcmpRefusal(HTTPException):
    """A refusal of a call of ONAP CPS-NCMP, with NCMP's own ``message``."""

    def __init__(self, status: int, message: str, details: str) -> None:
        super().__init__(details, status_code=status)
        self.message = message


def error_answer(
    request: AnyRequest,
    status: int,
    detail: str,
    headers: Mapping[str, str] | None = None,
    faults: tuple[tuple[str, str], ...] = (),
    count: int = 0,
    message: str = "",
) -> Response[Any]:
    """The error answer to ``request``, in the form of its path. ``faults``: (JSON pointer, detail) pairs.

    ``message``: NCMP's, by default the name of the status.
    """
    path = request.scope["path"]
    root = path[1:].partition("/")[0]
    if root in paths.PROVMNS_ROOTS:
        return provmns_problems.refusal(path, request.scope["method"], status, detail, headers, faults, count)
    problem = respond(path, status, detail, headers, faults, count)
    if root not in paths.NCMP_ROOTS or PROBLEM_JSON in request.headers.get("accept", ""):
        return problem
    listed = [f"{pointer}: {fault}" for pointer, fault in faults[:MAX_LISTED]]
    if not (listed and detail.startswith(listed[0])):  # else it repeats the first
        listed.insert(0, detail)
    body = NcmpError(
        f"{status} {_SPRING_NAMES.get(status) or HTTPStatus(status).name}",
        message or HTTPStatus(status).phrase,
        "; ".join(listed),
    )
    return Response(body, status_code=status, headers=problem.headers, media_type="application/json")


def problem_answers(
    log: Logger,
) -> Callable[[AnyRequest, Exception], Response[Any]]:
    """The handler of all exceptions. An unexpected one is logged and becomes a 500 without details."""

    def answer_problem(request: AnyRequest, error: Exception) -> Response[Any]:
        path, count = request.scope["path"], 0
        faults: tuple[tuple[str, str], ...] = ()
        detail = error.detail if isinstance(error, HTTPException) else str(error)
        match error:
            case errors.TooManyOperations():
                status = 413
            case InvalidRequest() | UnsupportedRequest():
                status = 400 if isinstance(error, InvalidRequest) else 422
                faults, count = error.problems, error.count
            case errors.Unavailable():
                status = 503
            case ValidationException():
                status, faults = 400, _parameter_faults(error, request)
                detail = ": ".join(faults[0]) if faults else "a parameter cannot be read"
            case HTTPException(status_code=status) if status < 500 or status == 503:
                pass
            case _:
                method = request.scope["method"]
                log.error("request.failed", method=method, path=path, cause=repr(error), exc_info=error)
                status, detail = 500, "an unexpected error: it is in the service's log"
        headers = error.headers if isinstance(error, HTTPException) else None
        message = error.message if isinstance(error, NcmpRefusal) else ""
        return error_answer(request, status, detail, headers, faults, count, message)

    return answer_problem


def check_parameters(request: AnyRequest) -> None:
    """Check the names in the query and rewrite them in the route's spelling, before parameters are read.

    A route that is not in the OpenAPI document accepts any: it is the page, and browsers and links add some.
    Raises what :func:`as_known` raises.
    """
    query: bytes = request.scope["query_string"]
    if query and request.route_handler.resolve_include_in_schema():
        fields = _query_parameters(request)
        one_day = NOT_OFFERED if request.route_handler.opt.get(OFFERED_ONE_DAY) else {}
        # The type of a parameter that may be repeated is ``list[...] | None``.
        lists = {name for name, field in fields.items() if any(t.origin is list for t in field.inner_types)}
        request.scope["query_string"] = as_known(query, fields, one_day, lists)


def as_known(
    query: bytes, names: Iterable[str], one_day: Mapping[str, str], lists: Set[str] = frozenset()
) -> bytes:
    """The query with its names spelt as in ``names``; those in ``lists`` may be repeated.

    Raises InvalidRequest for an unknown name, with the most similar known one, and for a repeated name that
    is not in ``lists``, because its value is ambiguous. Raises UnsupportedRequest for a name in ``one_day``,
    whose keys are lower-case.
    """
    known = {name.lower(): name for name in names}
    faults: list[tuple[str, str]] = []
    seen: set[str] = set()
    pieces: list[bytes] = []
    for piece in filter(None, query.split(b"&")):
        spelt, equals, value = piece.partition(b"=")
        given = unquote_plus(spelt.decode("latin-1"))
        name = known.get(given.lower())
        if name is None and given.lower() in one_day:
            detail = not_offered(given.lower())
            raise UnsupportedRequest(detail, ((one_day[given.lower()], detail),))
        if name is None:
            faults.append((shortened(given), f"is not a parameter of this call: {_suggestion(given, known)}"))
        elif name in seen and name not in lists:
            faults.append((name, "stands twice: give it once"))
        else:
            seen.add(name)
            pieces.append(name.encode() + equals + value)
    if faults:
        raise InvalidRequest(": ".join(faults[0]), tuple(faults))
    return b"&".join(pieces)


def _suggestion(given: str, known: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(given.lower(), known, n=1)
    if near:
        return f"did you mean {known[near[0]]}?"
    return f"it has {', '.join(sorted(known.values()))}" if known else "it has none"


def _parameter_faults(error: ValidationException, request: AnyRequest) -> tuple[tuple[str, str], ...]:
    """The router names a parameter as the function does, and a missing parameter only in its message."""
    if missing := _MISSING.match(error.detail):
        return ((missing[1], "is missing"),)
    faults = []
    extras: Any = error.extra or ()
    for extra in extras:
        name, words = extra["key"], extra["message"]
        field = request.route_handler.parsed_fn_signature.parameters.get(name)
        name = name if field is None else _wire_name(name, field)
        if words.startswith(("Expected ", "Invalid ")):  # a message of the decoder
            given = request.query_params.get(name) or request.path_params.get(name)
            choices = () if field is None else choices_of(field.annotation)
            words = in_words(words, given if isinstance(given, str) else None, choices)
        faults.append((name, words))
    return tuple(faults)


def _query_parameters(request: AnyRequest) -> dict[str, FieldDefinition]:
    return {
        _wire_name(name, field): field
        for name, field in request.route_handler.parsed_fn_signature.parameters.items()
        if isinstance(field.kwarg_definition, QueryParameter)
    }


def _wire_name(name: str, field: FieldDefinition) -> str:
    """The name in the request of the parameter ``name`` of the route's function."""
    return getattr(field.kwarg_definition, "name", None) or name
