# SPDX-License-Identifier: Apache-2.0
"""The guard of every route: it authorises the caller by its role and checks ``Accept``.

It runs before any body is read. A caller without the role ``admin`` sees only its own jobs: queries filter by
``Client.sees``, and a job of another client is a 404, like a job that does not exist.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from litestar.connection import ASGIConnection, Request
from litestar.exceptions import HTTPException, NotAuthorizedException, PermissionDeniedException
from litestar.handlers import BaseRouteHandler
from litestar.types import Guard
from msgspec.structs import replace

from ran_datajobs.api.tokens import LOCAL, Client, Role, client_of
from ran_datajobs.http.json_body import got

READERS: Final = frozenset({Role.READ, Role.SUBMIT, Role.ADMIN})
SUBMITTERS: Final = frozenset({Role.SUBMIT, Role.ADMIN})
PLUGINS: Final = frozenset({Role.PLUGIN, Role.ADMIN})
ADMINS: Final = frozenset({Role.ADMIN})

PUBLIC: Final[frozenset[Role]] = frozenset()
"""The roles of a route that needs no token. Its answers contain nothing about any job."""

ROLES: Final = "roles"
"""Set in the ``opt`` of every route: the roles that may call it. A route without it answers nobody."""

_WEIGHT: Final = re.compile(r"\d+(\.\d*)?|\.\d+", re.ASCII)


def guard_by(tokens: Path | None, *, keep_header: bool = False) -> Guard:
    """The guard of every route. Without a tokens file every caller is :data:`LOCAL`.

    ``keep_header``: the caller has the ``Authorization`` header of its request."""

    def check(connection: ASGIConnection[Any, Any, Any, Any], handler: BaseRouteHandler) -> None:
        if connection.scope.get("method") == "OPTIONS":
            return
        roles: frozenset[Role] = handler.opt[ROLES]
        if roles:
            client = _authorised(connection, roles, tokens)
            if keep_header:
                client = replace(client, authorization=connection.headers.get("authorization"))
            connection.scope["user"] = client
        accept = connection.headers.get("accept", "*/*")
        produces = handler.opt.get("produces", ("application/json",))
        if choose(accept, produces) is None:
            detail = f"Accept must take {' or '.join(produces)}; it is {got(accept)}"
            raise HTTPException(detail, status_code=406)

    return check


def caller_of(request: Request[Client, Any, Any]) -> Client:
    """The caller that the guard authorised."""
    return request.user


def _authorised(
    connection: ASGIConnection[Any, Any, Any, Any], roles: frozenset[Role], tokens: Path | None
) -> Client:
    client: Client | None = LOCAL
    if tokens is not None:
        scheme, _, token = connection.headers.get("authorization", "").partition(" ")
        client = client_of(tokens, token.strip()) if scheme.lower() == "bearer" else None
    if client is None:
        raise NotAuthorizedException(
            "this needs a valid token: Authorization: Bearer TOKEN (datajobs token add makes one)",
            headers={"WWW-Authenticate": 'Bearer realm="ran-datajobs"'},
        )
    if client.role not in roles:
        wanted = " or ".join(sorted(roles))
        raise PermissionDeniedException(f"the role {client.role} may not do this: it takes {wanted}")
    return client


def choose(accept: str, offered: tuple[str, ...]) -> str | None:
    """The first of ``offered`` with the highest weight in an ``Accept`` header; ``None`` if it accepts none.

    RFC 9110 §12.5.1; parameters other than ``q`` are ignored.
    """
    weights: dict[str, float] = {}
    for part in filter(str.strip, accept.split(",")):
        name, *parameters = (piece.strip().lower() for piece in part.split(";"))
        given = dict(parameter.replace(" ", "").split("=", 1) for parameter in parameters if "=" in parameter)
        weight = given.get("q", "1")
        weights.setdefault(name, float(weight) if _WEIGHT.fullmatch(weight) else 0.0)
    if not weights:
        return offered[0]

    def weight_of(media_type: str) -> float:
        """The weight of the most specific range that covers ``media_type``."""
        ranges = (media_type, media_type.partition("/")[0] + "/*", "*/*")
        return next((weights[each] for each in ranges if each in weights), 0.0)

    best = max(offered, key=weight_of)
    return best if weight_of(best) > 0 else None
