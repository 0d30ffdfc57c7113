# SPDX-License-Identifier: Apache-2.0
"""Response bodies that clients cache and revalidate by entity tag (RFC 9110 §13.1.2)."""

from __future__ import annotations

import hashlib
from typing import Any

from litestar import Request, Response
from msgspec import Struct


class CacheableBody(Struct, frozen=True):
    """A response body with its media type and entity tag."""

    body: bytes
    media_type: str
    etag: str

    @classmethod
    def of(cls, body: bytes, media_type: str) -> CacheableBody:
        """``body`` with an entity tag derived from its bytes."""
        return cls(body, media_type, f'"{hashlib.sha256(body).hexdigest()[:32]}"')


def unless_cached(request: Request[Any, Any, Any], cacheable: CacheableBody) -> Response[bytes]:
    """Answer with the body, or with a 304 if ``If-None-Match`` contains its entity tag."""
    headers = {"ETag": cacheable.etag, "Cache-Control": "no-cache"}
    if cacheable.etag in request.headers.get("if-none-match", ""):
        return Response(b"", status_code=304, headers=headers, media_type=cacheable.media_type)
    return Response(cacheable.body, headers=headers, media_type=cacheable.media_type)
