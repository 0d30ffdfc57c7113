# SPDX-License-Identifier: Apache-2.0
"""Bodies that a client may cache and revalidates by their entity tag (RFC 9110 §13.1.2)."""

from __future__ import annotations

import hashlib
from typing import Any

from litestar import Request, Response
from msgspec import Struct


class CacheableBody(Struct, frozen=True):
    """A body as it is sent."""

    body: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, body: bytes, media_type: str) -> CacheableBody:
        """``body`` with the tag that follows from its bytes."""
        return cls(body, media_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def unless_cached(request: Request[Any, Any, Any], cacheable: CacheableBody) -> Response[bytes]:
    """The body; a 304 without it where ``If-None-Match`` says that the client has it."""
    headers = {"ETag": cacheable.etag, "Cache-Control": "no-cache"}
    if cacheable.etag in request.headers.get("if-none-match", ""):
        return Response(b"", status_code=304, headers=headers, media_type=cacheable.media_type)
    return Response(cacheable.body, headers=headers, media_type=cacheable.media_type)
