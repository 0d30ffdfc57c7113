# SPDX-License-Identifier: Apache-2.0
"""Route of ONAP's registration API: DMI plugins register their CM handles."""

from __future__ import annotations

from typing import Final

from litestar import Response, post
from litestar.openapi.datastructures import ResponseSpec

from ran_datajobs.api import paths
from ran_datajobs.api.dependencies import AnyRequest, Api
from ran_datajobs.api.openapi import RegistrationOperation
from ran_datajobs.api.problems import documented
from ran_datajobs.inventory.registration import RegistrationOutcome

_PARTIAL: Final = 207
_ONAP_PARTIAL: Final = 500


@post(
    paths.INVENTORY,
    status_code=200,
    responses=documented(400, 401, 403, 406, 408, 413, 415, 422, 429, 503)
    | {
        200: ResponseSpec(None, generate_examples=False, description="All were taken."),
        _PARTIAL: ResponseSpec(
            RegistrationOutcome, generate_examples=False, description="These were not taken, the others were."
        ),
    },
    operation_class=RegistrationOperation,
    tags=["inventory"],
)
async def register(request: AnyRequest, api: Api) -> Response[RegistrationOutcome] | Response[bytes]:
    """Register a DMI plugin and create, update and remove CM handles."""
    async with api.bodies.json(request) as body:
        outcome = await api.parts.registry.register(body)
    if outcome.complete:
        return Response(b"", status_code=200)
    return Response(outcome, status_code=_ONAP_PARTIAL if api.parts.onap_status else _PARTIAL)
