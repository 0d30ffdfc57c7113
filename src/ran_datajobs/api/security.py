# SPDX-License-Identifier: Apache-2.0
"""Middleware in front of the router: checks the Host of each request and the origin of each write, adds
security headers to each answer and counts it in the metrics.

Host: a page on the internet cannot reach a loopback service under a name of its own (DNS rebinding).
Origin: a page of another site cannot write through a browser (CSRF); other clients send neither header.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from litestar import Request
from litestar.datastructures import MutableScopeHeaders
from litestar.enums import ScopeType

from ran_datajobs.api import paths
from ran_datajobs.api.auth import allowed
from ran_datajobs.http.problem import respond
from ran_datajobs.telemetry import Metrics

if TYPE_CHECKING:
    from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "[::1]"})
_SKIPS_HOST: Final = frozenset({paths.HEALTHZ, paths.READYZ})
_READS: Final = frozenset({"GET", "HEAD", "OPTIONS"})
_METHODS: Final = _READS | {"POST", "PUT", "PATCH", "DELETE"}
_SAME_SITE: Final = frozenset({"same-origin", "none"})

SECURITY_HEADERS: Final = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
}


def known_hosts(api_root: str, allowed: Iterable[str]) -> frozenset[str]:
    """Lower-case host names, without port, under which the service may be called."""
    names = {*_LOOPBACK, host_name(urlsplit(api_root).netloc), *(host_name(name) for name in allowed)}
    return frozenset(names - {""})


def host_name(authority: str) -> str:
    """The host of ``host[:port]``, lower case, an IPv6 address in brackets; "" if it is invalid."""
    text = authority.strip().lower()
    if text.startswith("["):
        address, bracket, port = text.partition("]")
        return address + "]" if bracket and (not port or _is_port(port)) else ""
    name, colon, port = text.partition(":")
    if colon and not _is_port(colon + port):
        return ""
    return name.removesuffix(".")


def _is_port(text: str) -> bool:
    return text.startswith(":") and text[1:].isascii() and text[1:].isdigit()


class SecurityMiddleware:
    """ASGI application in front of the router."""

    def __init__(self, app: ASGIApp, *, hosts: frozenset[str], api_root: str, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._hosts = hosts
        self._origin = _origin(api_root)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a refused request with 400 or 403, and pass any other to the application."""
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return

        begun = time.monotonic()

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._measure(scope, message["status"], time.monotonic() - begun)
                headers = MutableScopeHeaders.from_message(message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                headers.setdefault("Cache-Control", "no-store")
                if "Allow" in headers:
                    headers["Allow"] = allowed(headers["Allow"], scope.get("path_template"))
            await send(message)

        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        refusal = self._refusal(scope["method"], scope["path"], host, headers)
        if refusal is None:
            await self._app(scope, receive, send_safely)
            return
        request: Request[Any, Any, Any] = Request(scope, receive, send_safely)
        response = respond(scope["path"], *refusal)
        await response.to_asgi_response(app=None, request=request)(scope, receive, send_safely)

    def _measure(self, scope: HTTPScope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        route = str(scope.get("path_template") or "none")
        self._metrics.requests.labels(method=method, route=route, status=status).inc()
        self._metrics.request_seconds.labels(route=route).observe(seconds)

    def _refusal(
        self, method: str, path: str, host: str, headers: dict[bytes, str]
    ) -> tuple[int, str] | None:
        if path not in _SKIPS_HOST and host_name(host) not in self._hosts:
            return 400, "this Host is not known here: DATAJOBS_ALLOWED_HOSTS names the ones that are"
        if method in _READS:
            return None
        origin = headers.get(b"origin")
        if origin is not None and _origin(origin) not in (self._origin, *self._local_origins(host)):
            return 403, "a page of another origin may not write here"
        site = headers.get(b"sec-fetch-site")
        if site is not None and site not in _SAME_SITE:
            return 403, "a page of another site may not write here"
        return None

    def _local_origins(self, host: str) -> tuple[str, ...]:
        """The origins of pages that this service serves under ``host``, which must have been checked."""
        return (f"http://{host.strip().lower()}", f"https://{host.strip().lower()}")


def _origin(address: str) -> str:
    """Scheme and authority of ``address``; "" if it is not an address."""
    try:
        parts = urlsplit(address)
    except ValueError:
        return ""
    return f"{parts.scheme}://{parts.netloc}".lower()
