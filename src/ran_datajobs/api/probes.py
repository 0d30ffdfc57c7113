# SPDX-License-Identifier: Apache-2.0
"""Routes of the liveness and readiness probes and of the metrics."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Final

from litestar import Response, get
from litestar.exceptions import ServiceUnavailableException
from prometheus_client import CONTENT_TYPE_LATEST

from ran_datajobs.api import paths
from ran_datajobs.api.dependencies import Api
from ran_datajobs.api.problems import documented, success
from ran_datajobs.api.schemas import Alive
from ran_datajobs.errors import StoreUnavailable
from ran_datajobs.store.figures import figures

PATIENCE: Final = 5.0
TEXT: Final = {"produces": ("text/plain", "application/openmetrics-text")}
EXPOSITION: Final = CONTENT_TYPE_LATEST.removesuffix("; charset=utf-8")
"""The media type of the Prometheus text format; the response adds the charset."""


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
            await asyncio.gather(api.database.ready(), api.bus.ready(), api.objects.ready(api.results_bucket))
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
