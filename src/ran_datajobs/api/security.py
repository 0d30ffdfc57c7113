# SPDX-License-Identifier: Apache-2.0
"""Middleware in front of the router: checks the Host of each request and the origin of each write, adds
security headers to each answer and counts it in the metrics.

Host: a page on the internet cannot reach a loopback service under a name of its own (DNS rebinding).
Origin: a page of another site cannot write through a browser (CSRF); other clients send neither header.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterable
from typing import Any, Final
from urllib.parse import urlsplit

from litestar import Request
from litestar.datastructures import Headers, MutableScopeHeaders
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Send

from ran_datajobs.api import paths
from ran_datajobs.api.problems import error_answer
from ran_datajobs.config import Settings
from ran_datajobs.telemetry import Metrics

_AUTHORITY: Final = re.compile(r"(\[[^\]]*\]|[^\[:]*?)\.?(?::[0-9]+)?")
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
    "Cache-Control": "no-store",
}


def known_hosts(api_root: str, allowed: Iterable[str]) -> frozenset[str]:
    """Lower-case host names, without port, under which the service may be called."""
    names = (urlsplit(api_root).netloc, *allowed)
    return _LOOPBACK | {host for name in names if (host := host_name(name))}


def host_name(authority: str) -> str:
    """The host of ``host[:port]``, lower case, an IPv6 address in brackets; "" if it is invalid."""
    found = _AUTHORITY.fullmatch(authority.strip().lower())
    return found[1] if found else ""


class SecurityMiddleware:
    """ASGI application in front of the router."""

    def __init__(self, app: ASGIApp, settings: Settings, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._hosts = known_hosts(settings.effective_api_root, settings.allowed_hosts)
        root = urlsplit(settings.effective_api_root)
        self._origin = f"{root.scheme}://{root.netloc}".lower()

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Answer a refused request with 400 or 403, and pass any other to the application."""
        begun = time.monotonic()

        async def send_safely(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._measure(scope, message["status"], time.monotonic() - begun)
                headers = MutableScopeHeaders.from_message(message)
                for name, value in SECURITY_HEADERS.items():
                    headers.setdefault(name, value)
                if "Allow" in headers:
                    headers["Allow"] = _allowed(scope, headers["Allow"])
            await send(message)

        app = self._app
        if refusal := self._refusal(scope, Headers.from_scope(scope)):
            request = Request[Any, Any, Any](scope, receive, send)
            app = error_answer(request, *refusal).to_asgi_response(None, request)
        await app(scope, receive, send_safely)

    def _measure(self, scope: HTTPScope, status: int, seconds: float) -> None:
        method = scope["method"] if scope["method"] in _METHODS else "OTHER"
        route = str(scope.get("path_template") or "none")
        self._metrics.requests.labels(method=method, route=route, status=status).inc()
        self._metrics.request_seconds.labels(route=route).observe(seconds)

    def _refusal(self, scope: HTTPScope, headers: Headers) -> tuple[int, str] | None:
        host = headers.get("host", "").strip().lower()
        if scope["path"] not in _SKIPS_HOST and host_name(host) not in self._hosts:
            return 400, "this Host is not known here: DATAJOBS_ALLOWED_HOSTS names the ones that are"
        if scope["method"] in _READS and not scope["path"].startswith(paths.PROVMNS_ROOT):
            return None  # a read of ProvMnS makes a job
        origin = headers.get("origin")
        if origin is not None and origin.lower() not in (self._origin, f"http://{host}", f"https://{host}"):
            return 403, "a page of another origin may not write here"
        if headers.get("sec-fetch-site", "none") not in _SAME_SITE:
            return 403, "a page of another site may not write here"
        return None


def _allowed(scope: HTTPScope, names: str) -> str:
    """The value of an ``Allow`` header: the methods ``names`` and the other methods of the path, sorted.

    The router's own answer to OPTIONS has only the methods that were registered first for a path.
    """
    template = scope.get("path_template")
    routes = (route for route in scope["litestar_app"].routes if route.path_format == template)
    return ", ".join(sorted({*names.split(", "), *(method for route in routes for method in route.methods)}))
