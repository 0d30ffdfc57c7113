# SPDX-License-Identifier: Apache-2.0
"""The parameters of a request by their names on the wire: which are missing, and that each stands once."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from litestar import Request
from litestar.exceptions import ValidationException
from litestar.params import QueryParameter
from litestar.typing import FieldDefinition


def wire_name(request: Request[Any, Any, Any], name: str) -> str:
    """The name under which the caller knows the parameter ``name`` of the route's function."""
    field = request.route_handler.parsed_fn_signature.parameters.get(name)
    return name if field is None else _wire_name(name, field)


def missing(request: Request[Any, Any, Any]) -> list[str]:
    """The query parameters that the route needs and the request lacks."""
    return [
        name
        for name, field in _query_parameters(request)
        if field.is_required and name not in request.query_params
    ]


def check_each_once(request: Request[Any, Any, Any]) -> None:
    """Raise ValidationException for a query parameter of the route that stands twice: nobody can tell
    which one was meant."""
    if "&" not in request.url.query:
        return
    twice = [
        {"key": name, "message": "stands twice"}
        for name, _ in _query_parameters(request)
        if len(request.query_params.getall(name, [])) > 1
    ]
    if twice:
        raise ValidationException(extra=twice)


def _query_parameters(request: Request[Any, Any, Any]) -> Iterator[tuple[str, FieldDefinition]]:
    for name, field in request.route_handler.parsed_fn_signature.parameters.items():
        if isinstance(field.kwarg_definition, QueryParameter):
            yield _wire_name(name, field), field


def _wire_name(name: str, field: FieldDefinition) -> str:
    return getattr(field.kwarg_definition, "name", None) or name
