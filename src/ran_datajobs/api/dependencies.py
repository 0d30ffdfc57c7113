# SPDX-License-Identifier: Apache-2.0
"""Dependencies of the northbound API, supplied by the composition root."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias, TypeVar

from litestar import Request
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from ran_datajobs.api.destination import DestinationRules
from ran_datajobs.api.request_body import BodyReceiver, Limits
from ran_datajobs.api.tokens import Client, TokenTable
from ran_datajobs.checkpoints import CheckpointHook, no_checkpoints
from ran_datajobs.inventory.index import OwnerIndex
from ran_datajobs.inventory.registry import Registry
from ran_datajobs.messaging.bus import Bus
from ran_datajobs.messaging.postgres import PostgresBus
from ran_datajobs.results.job_view import JobView
from ran_datajobs.results.objects import ObjectStore
from ran_datajobs.store.database import Database
from ran_datajobs.store.job_notifications import JobChanges
from ran_datajobs.telemetry import Logger, Metrics


@dataclass(kw_only=True)
class ApiDependencies:
    """Components and settings of the API, which neither opens nor closes them, and its own state.

    ``tokens``: with ``None`` every caller is the local administrator. ``embedded_bus``: the bus, if it is the
    embedded one, for the two topic routes. ``stopping`` is set before the server stops: event streams end
    and ``/readyz`` returns 503. ``disk``: a path on the disk whose free space is checked before a job is
    accepted. ``static``: the folder of the page.
    """

    database: Database
    owners: OwnerIndex
    registry: Registry
    objects: ObjectStore
    bus: Bus
    embedded_bus: PostgresBus | None
    tokens: TokenTable | None
    metrics: Metrics
    log: Logger
    stopping: asyncio.Event
    view: JobView
    results_bucket: str
    version: str
    allowed_hosts: tuple[str, ...] = ()
    limits: Limits = field(default_factory=Limits)
    onap_status: bool = False
    destination_rules: DestinationRules = field(default_factory=DestinationRules)
    disk: Path | None = None
    static: Path | None = None
    reached: CheckpointHook = no_checkpoints
    bodies: BodyReceiver = field(init=False)
    changes: JobChanges = field(init=False)

    def __post_init__(self) -> None:
        """Create the state."""
        self.bodies = BodyReceiver(self.limits, self.metrics.body_bytes_in_flight)
        self.changes = JobChanges(self.database)


_Item = TypeVar("_Item")
AnyRequest: TypeAlias = Request[Any, Any, Any]

Api: TypeAlias = SkipValidation[NamedDependency[ApiDependencies]]
"""A route's parameter ``api``."""

Caller: TypeAlias = SkipValidation[NamedDependency[Client]]
"""A route's parameter ``caller``: the client that the guard authorised."""


async def begun(items: AsyncIterator[_Item]) -> AsyncIterator[_Item]:
    """``items``, of which the first is awaited now: an error before it is still answered with its status."""
    first = await anext(items)

    async def all_items() -> AsyncIterator[_Item]:
        yield first
        async for item in items:
            yield item

    return all_items()
