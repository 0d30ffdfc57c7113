# SPDX-License-Identifier: Apache-2.0
"""Routes of what clients cache and revalidate by entity tag (RFC 9110 §13.1.2): the page with the files that
it loads, and the list that explains the reasons of failed operations."""

from __future__ import annotations

import hashlib
from functools import cache
from pathlib import Path
from typing import Final

import msgspec
from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from ran_datajobs.api import paths
from ran_datajobs.api.dependencies import AnyRequest, Api
from ran_datajobs.api.problems import ANY_PARAMETERS, documented, success
from ran_datajobs.api.schemas import ReasonList
from ran_datajobs.http.json_body import shortened
from ran_datajobs.reasons import REASONS

_ANY: Final = {"produces": ("*/*",), ANY_PARAMETERS: True}
_REASONS: Final = msgspec.json.encode(ReasonList(list(REASONS)))

# The response adds the charset of text types.
_TYPES: Final = {
    ".html": "text/html",
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
}


@get(paths.PAGE, include_in_schema=False, opt=_ANY)
async def get_page(request: AnyRequest, api: Api) -> Response[bytes]:
    """The page itself."""
    return _file(request, api.static, "index.html")


@get(paths.PAGE_FILE, include_in_schema=False, opt=_ANY)
async def get_page_file(file: FromPath[str], request: AnyRequest, api: Api) -> Response[bytes]:
    """One of the files that the page loads."""
    return _file(request, api.static, file)


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


def _file(request: AnyRequest, folder: Path | None, name: str) -> Response[bytes]:
    body = _files(folder).get(name) if folder else None
    if body is None:
        raise NotFoundException(
            f"there is nothing at {shortened(request.scope['path'])}: the page is at {paths.PAGE}"
        )
    return _unless_cached(request, body, _TYPES.get(Path(name).suffix, "application/octet-stream"))


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
