# SPDX-License-Identifier: Apache-2.0
"""Routes about the service itself: the page with the files that it loads, the list that explains the reasons
of failed operations, the probes, and the metrics.

Clients cache the first two and revalidate them by entity tag (RFC 9110 §13.1.2).
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import mimetypes
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

import msgspec
from litestar import Response, get
from litestar.exceptions import NotFoundException, ServiceUnavailableException
from litestar.params import FromPath
from prometheus_client import CONTENT_TYPE_LATEST

from ran_datajobs.api import paths
from ran_datajobs.api.dependencies import AnyRequest, Api
from ran_datajobs.api.openapi import documented, success
from ran_datajobs.api.schemas import Alive, ReasonList
from ran_datajobs.errors import StoreUnavailable
from ran_datajobs.http.json_body import shortened
from ran_datajobs.reasons import REASONS
from ran_datajobs.store.figures import figures

PATIENCE: Final = 5.0
"""Timeout in seconds of the checks of ``/readyz``."""

TEXT: Final = {"produces": ("text/plain", "application/openmetrics-text")}
EXPOSITION: Final = CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8")
"""The media type of the Prometheus text format; the response adds the charset."""

_REASONS: Final = msgspec.json.encode(ReasonList(list(REASONS)))

_TYPES: Final = mimetypes.MimeTypes(filenames=())
_TYPES.add_type("text/javascript", ".js")


@get([paths.PAGE, paths.PAGE_FILE], include_in_schema=False, opt={"produces": ("*/*",)})
async def get_page(request: AnyRequest, api: Api, file: FromPath[str] = "index.html") -> Response[bytes]:
    """The page itself, or one of the files that it loads."""
    body = _files(api.static).get(file) if api.static else None
    if body is None:
        raise NotFoundException(
            f"there is nothing at {shortened(request.scope['path'])}: the page is at {paths.PAGE}"
        )
    return _unless_cached(request, body, _TYPES.guess_type(file)[0] or "application/octet-stream")


@get(
    paths.REASONS,
    responses=documented(401, 403, 406, common=())
    | {
        200: success(ReasonList, "In a fixed order."),
        304: success(None, "The client has the list already (`If-None-Match`)."),
    },
)
async def list_reasons(request: AnyRequest) -> Response[bytes]:
    """Every reason of a failed operation: its title, what happened, and what to do next.

    A reason is explained by the item that has it, otherwise by the first item whose `pattern` is found in it.
    """
    return _unless_cached(request, _REASONS, "application/json")


@get(paths.HEALTHZ, responses=documented(400, 406, common=()))
async def healthz() -> Alive:
    """The process is alive."""
    return Alive()


@get(paths.READYZ, responses=documented(400, 406, 503, common=()))
async def readyz(api: Api) -> Alive:
    """Store, bus and objects can be reached, and the service is not about to stop."""
    if api.stopping.is_set():
        raise ServiceUnavailableException("the service is stopping")
    try:
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(
                api.database.ready(), api.bus.ready(), api.objects.ready(api.settings.results_bucket)
            )
    except TimeoutError:
        cause = f"store, bus or objects did not answer within {PATIENCE:.0f} s"
        raise ServiceUnavailableException(cause) from None
    return Alive()


@get(
    paths.METRICS,
    media_type="text/plain",
    opt=TEXT,
    responses=documented(400, 401, 403, 406, common=()) | {200: success(str, "Prometheus.", "text/plain")},
)
async def metrics(api: Api) -> Response[bytes]:
    """All metrics in the Prometheus text format: those of the processes of this service, and those of the
    database, which are omitted while it is unavailable."""
    of_store: dict[str, Mapping[str, float]] = {}
    with contextlib.suppress(StoreUnavailable, TimeoutError):
        async with asyncio.timeout(PATIENCE), api.database.connection() as connection:
            of_store = await figures(connection)
    return Response(api.metrics.exposition(of_store), media_type=EXPOSITION)


@cache
def _files(folder: Path) -> dict[str, bytes]:
    """The files of ``folder``, read once: names in requests are never used as paths of files."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def _unless_cached(request: AnyRequest, body: bytes, media_type: str) -> Response[bytes]:
    """Answer with ``body``, or with a 304 if ``If-None-Match`` contains its entity tag."""
    headers = {"ETag": f'"{hashlib.sha256(body).hexdigest()[:32]}"', "Cache-Control": "no-cache"}
    known = request.headers.get("if-none-match", "")
    if known.strip() == "*" or headers["ETag"] in known:
        return Response(b"", status_code=304, headers=headers, media_type=media_type)
    return Response(body, headers=headers, media_type=media_type)
