# SPDX-License-Identifier: Apache-2.0
"""Route of the list that explains the reasons of failed operations."""

from __future__ import annotations

from functools import cache

import msgspec
from litestar import Response, get
from litestar.openapi.datastructures import ResponseSpec

from ran_datajobs.api import paths
from ran_datajobs.api.cacheable import CacheableBody, unless_cached
from ran_datajobs.api.dependencies import AnyRequest
from ran_datajobs.api.problems import documented
from ran_datajobs.api.schemas import ReasonList
from ran_datajobs.reasons import REASONS


@get(
    paths.REASONS,
    responses=documented(401, 403, 406)
    | {
        200: ResponseSpec(ReasonList, generate_examples=False, description="In a fixed order."),
        304: ResponseSpec(None, description="The client has the list already (`If-None-Match`)."),
    },
    tags=["data jobs"],
)
async def list_reasons(request: AnyRequest) -> Response[bytes]:
    """Every reason of a failed operation: its title, what happened, and what to do next.

    A reason is explained by the item that has it, otherwise by the first item whose `pattern` is found in it.
    """
    return unless_cached(request, _list())


@cache
def _list() -> CacheableBody:
    return CacheableBody.of(msgspec.json.encode(ReasonList(list(REASONS))), "application/json")
