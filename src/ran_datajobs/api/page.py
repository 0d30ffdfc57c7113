# SPDX-License-Identifier: Apache-2.0
"""Routes of the page and the files that it loads."""

from __future__ import annotations

from typing import Final

from litestar import Response, get
from litestar.exceptions import NotFoundException
from litestar.params import FromPath

from ran_datajobs.api import parameters, paths
from ran_datajobs.api.cacheable import CacheableBody, unless_cached
from ran_datajobs.api.dependencies import AnyRequest, Api
from ran_datajobs.http.json_body import shortened

_INDEX: Final = "index.html"
_ANY: Final = {"produces": ("*/*",), parameters.ANY: True}


@get(paths.PAGE, include_in_schema=False, opt=_ANY)
async def get_page(request: AnyRequest, api: Api) -> Response[bytes]:
    """The page itself."""
    return _answer(request, api.static.get(_INDEX))


@get(paths.PAGE_FILE, include_in_schema=False, opt=_ANY)
async def get_page_file(file: FromPath[str], request: AnyRequest, api: Api) -> Response[bytes]:
    """One of the files that the page loads."""
    return _answer(request, api.static.get(file))


def _answer(request: AnyRequest, file: CacheableBody | None) -> Response[bytes]:
    if file is None:
        raise NotFoundException(
            detail=f"there is nothing at {shortened(request.scope['path'])}: the page is at {paths.PAGE}"
        )
    return unless_cached(request, file)
