# SPDX-License-Identifier: Apache-2.0
"""Names of query parameters: case-insensitive, and refused if the route does not have them.

Otherwise a misspelt ``dryRun`` would submit a job, and a misspelt filter would list everything.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any, Final, get_args, get_origin
from urllib.parse import unquote_plus

from litestar import Request
from litestar.params import QueryParameter
from litestar.typing import FieldDefinition

from ran_datajobs.errors import InvalidRequest, UnsupportedRequest
from ran_datajobs.http.json_body import shortened
from ran_datajobs.planning.keys import NOT_OFFERED, not_offered

ANY: Final = "any_parameters"
"""Set in the ``opt`` of a route that reads no parameters and accepts any: the page, to whose address browsers
and links add some."""

OFFERED_ONE_DAY: Final = "offered_one_day"
"""Set in the ``opt`` of the route that refuses the parameters in :data:`NOT_OFFERED` as not offered yet."""


def wire_name(request: Request[Any, Any, Any], name: str) -> str:
    """The name in the request of the parameter ``name`` of the route's function."""
    field = request.route_handler.parsed_fn_signature.parameters.get(name)
    return name if field is None else _wire_name(name, field)


def missing(request: Request[Any, Any, Any]) -> list[str]:
    """The required query parameters that the request lacks."""
    return [
        name
        for name, field in _query_parameters(request)
        if field.is_required and name not in request.query_params
    ]


def check_names(request: Request[Any, Any, Any]) -> None:
    """Check the names in the query and rewrite them in the route's spelling, before parameters are read.

    Raises what :func:`as_known` raises.
    """
    query: bytes = request.scope["query_string"]
    opt = request.route_handler.opt
    if query and not opt.get(ANY) and request.method != "OPTIONS":
        fields = dict(_query_parameters(request))
        one_day = NOT_OFFERED if opt.get(OFFERED_ONE_DAY) else {}
        lists = {name for name, field in fields.items() if _is_list(field)}
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
    pieces: dict[str, bytes] = {}
    for piece in filter(None, query.split(b"&")):
        spelt, equals, value = piece.partition(b"=")
        given = unquote_plus(spelt.decode("latin-1"))
        name = given.lower()
        if name in pieces and known[name] in lists:
            pieces[name] += b"&" + known[name].encode() + equals + value
        elif name in pieces:
            faults.append((known[name], "stands twice: give it once"))
        elif name in known:
            pieces[name] = known[name].encode() + equals + value
        elif name in one_day:
            detail = not_offered(name)
            raise UnsupportedRequest(detail, ((one_day[name], detail),))
        else:
            faults.append((shortened(given), f"is not a parameter of this call: {_suggestion(name, known)}"))
    if faults:
        raise InvalidRequest(": ".join(faults[0]), tuple(faults))
    return b"&".join(pieces.values())


def _suggestion(name: str, known: Mapping[str, str]) -> str:
    near = difflib.get_close_matches(name, known, n=1)
    if near:
        return f"did you mean {known[near[0]]}?"
    return f"it has {', '.join(sorted(known.values()))}" if known else "it has none"


def _query_parameters(request: Request[Any, Any, Any]) -> Iterator[tuple[str, FieldDefinition]]:
    for name, field in request.route_handler.parsed_fn_signature.parameters.items():
        if isinstance(field.kwarg_definition, QueryParameter):
            yield _wire_name(name, field), field


def _is_list(field: FieldDefinition) -> bool:
    return any(get_origin(each) is list for each in (field.annotation, *get_args(field.annotation)))


def _wire_name(name: str, field: FieldDefinition) -> str:
    return getattr(field.kwarg_definition, "name", None) or name
