# SPDX-License-Identifier: Apache-2.0
"""The table of the roles that may call each route, and the guard that enforces it.

The guard runs before any body is read. A caller without the role ``admin`` sees only its own jobs: queries
filter by ``Client.sees``, and a job of another client is a 404, like a job that does not exist.
"""

from __future__ import annotations

from typing import Any, Final

from litestar import Litestar
from litestar.connection import ASGIConnection
from litestar.exceptions import HTTPException, NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.routes import HTTPRoute
from litestar.types import Guard

from ran_datajobs.api import paths
from ran_datajobs.api.tokens import LOCAL, Client, Role, TokenTable
from ran_datajobs.http.json_body import got

_READERS: Final = frozenset({Role.READ, Role.SUBMIT, Role.ADMIN})
_SUBMITTERS: Final = frozenset({Role.SUBMIT, Role.ADMIN})
_PLUGINS: Final = frozenset({Role.PLUGIN, Role.ADMIN})
_ADMINS: Final = frozenset({Role.ADMIN})

PUBLIC: Final[frozenset[Role]] = frozenset()
"""The roles of a route that needs no token. Its answers contain nothing about any job."""

_TABLE: Final = {
    ("POST", paths.JOBS): _SUBMITTERS,
    ("GET", paths.JOBS): _READERS,
    ("GET", paths.JOB): _READERS,
    ("GET", paths.SUB_JOBS): _READERS,
    ("GET", paths.FAILURES): _READERS,
    ("GET", paths.OUTCOMES): _READERS,
    ("GET", paths.REQUEST): _READERS,
    ("GET", paths.EVENTS): _READERS,
    ("GET", paths.REASONS): _READERS,
    ("POST", paths.CANCEL): _SUBMITTERS,
    ("POST", paths.RETRY): _SUBMITTERS,
    ("POST", paths.REDELIVER): _SUBMITTERS,
    ("GET", paths.BUCKET): _READERS,
    ("GET", paths.OBJECT): _READERS,
    ("GET", paths.TOPIC_MESSAGES): _READERS,
    ("POST", paths.TOPIC_MESSAGES): _PLUGINS,
    ("POST", paths.STATUS_PUSH): _PLUGINS,
    ("POST", paths.INVENTORY): _ADMINS,
    ("GET", paths.METRICS): _READERS,
    ("GET", paths.HEALTHZ): PUBLIC,
    ("GET", paths.READYZ): PUBLIC,
    ("GET", paths.SCHEMA): PUBLIC,
    ("GET", paths.SCHEMA_FILE): PUBLIC,
    ("GET", paths.SCHEMA_OTHER): PUBLIC,
    ("GET", paths.PAGE): PUBLIC,
    ("GET", paths.PAGE_FILE): PUBLIC,
}

ROUTES: Final = {(method, paths.template(path)): roles for (method, path), roles in _TABLE.items()}
"""Roles by (method, path). The application cannot be built while one of its routes is missing here."""


def allowed(method_names: str, path_template: str | None) -> str:
    """The value of an ``Allow`` header: ``method_names`` and the other methods of the path, sorted.

    The router's own answer to OPTIONS has only the methods that were registered first for a path.
    """
    known = {method for method, template in ROUTES if template == path_template}
    return ", ".join(sorted(known.union(method_names.split(", "))))


def uncovered(app: Litestar) -> list[tuple[str, str]]:
    """The routes of ``app`` that are missing in the table."""
    return sorted(
        (method, route.path_format)
        for route in app.routes
        if isinstance(route, HTTPRoute)
        for method in route.methods
        if method != "OPTIONS" and (method, route.path_format) not in ROUTES
    )


def guard_by(tokens: TokenTable | None) -> Guard:
    """The guard of every route. Without a token table every caller is :data:`LOCAL`."""

    def check(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        scope = connection.scope
        method = str(scope.get("method"))
        if method == "OPTIONS":
            return
        roles = ROUTES[method, scope["path_template"]]
        if roles:
            connection.scope["user"] = _authorised(connection, roles, tokens)
        _check_accept(connection, handler)

    return check


def caller_of(connection: ASGIConnection[Any, Any, Any, Any]) -> Client:
    """The caller that the guard authorised."""
    client: Client = connection.scope["user"]
    return client


def _authorised(
    connection: ASGIConnection[Any, Any, Any, Any], roles: frozenset[Role], tokens: TokenTable | None
) -> Client:
    if tokens is None:
        client: Client | None = LOCAL
    else:
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        client = tokens.client_of(token.strip()) if scheme.lower() == "bearer" else None
    if client is None:
        raise NotAuthorizedException(
            detail="this needs a valid token: Authorization: Bearer TOKEN (datajobs token add makes one)",
            headers={"WWW-Authenticate": 'Bearer realm="ran-datajobs"'},
        )
    if client.role not in roles:
        wanted = " or ".join(sorted(roles))
        raise PermissionDeniedException(detail=f"the role {client.role} may not do this: it takes {wanted}")
    return client


def _check_accept(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
    produces: tuple[str, ...] = handler.opt.get("produces", ("application/json",))
    if "accept" in connection.headers and choose(connection.headers["accept"], produces) is None:
        raise HTTPException(
            status_code=406,
            detail=f"Accept must take {' or '.join(produces)}; it is {got(connection.headers['accept'])}",
        )


def choose(accept: str, offered: tuple[str, ...]) -> str | None:
    """The first of ``offered`` with the highest weight in an ``Accept`` header; ``None`` if it accepts none.

    RFC 9110 §12.5.1; parameters other than ``q`` are ignored.
    """
    best: tuple[float, str] | None = None
    ranges = [_media_range(part) for part in accept.split(",") if part.strip()]
    if not ranges:
        return offered[0]
    for media_type in offered:
        weight = _weight(ranges, media_type)
        if weight > 0 and (best is None or weight > best[0]):
            best = (weight, media_type)
    return None if best is None else best[1]


def _media_range(text: str) -> tuple[str, float]:
    name, *parameters = (piece.strip().lower() for piece in text.split(";"))
    weight = 1.0
    for parameter in parameters:
        key, _, value = parameter.partition("=")
        if key.strip() == "q":
            try:
                weight = float(value)
            except ValueError:
                weight = 0.0
    return name, weight


def _weight(ranges: list[tuple[str, float]], media_type: str) -> float:
    """The weight of the most specific range that covers ``media_type``; 0 if none does."""
    for pattern in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        for name, weight in ranges:
            if name == pattern:
                return weight
    return 0.0
