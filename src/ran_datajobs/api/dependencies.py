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

from ran_datajobs.api.request_body import BodyReceiver
from ran_datajobs.api.tokens import Client
from ran_datajobs.config import Settings
from ran_datajobs.inventory.index import OwnerIndex
from ran_datajobs.inventory.module_reader import ModuleReader
from ran_datajobs.messaging.bus import Bus
from ran_datajobs.messaging.postgres import PostgresBus
from ran_datajobs.planning.model_validation import ModelSource
from ran_datajobs.plugins.policy import PolicyExecutor
from ran_datajobs.results.job_view import JobView
from ran_datajobs.results.objects import ObjectStore
from ran_datajobs.store.database import Database
from ran_datajobs.store.jobs import JobRow
from ran_datajobs.store.listen import JobChanges
from ran_datajobs.store.searches import HandleSearches
from ran_datajobs.telemetry import Logger, Metrics


@dataclass(kw_only=True)
class ApiDependencies:
    """Components and settings of the API, which neither opens nor closes them, and its own state.

    ``stopping`` is set before the server stops: event streams end and ``/readyz`` returns 503. ``static``:
    the folder of the page. ``event_keep_alive``: seconds without an event after which a stream sends a
    comment, so that no proxy closes the connection. ``embedded_bus``: the bus, if it is the embedded one, for
    the two topic routes. ``policy``: the policy executor that is asked for writes, if there is one.
    ``models``: those by which jobs are validated.
    """

    settings: Settings
    database: Database
    owners: OwnerIndex
    objects: ObjectStore
    bus: Bus
    metrics: Metrics
    log: Logger
    stopping: asyncio.Event
    view: JobView
    static: Path | None = None
    body_pause: float = 30.0
    max_event_streams: int = 1000
    event_keep_alive: float = 15.0
    policy: PolicyExecutor | None = None
    models: ModelSource = field(default_factory=ModelSource)
    embedded_bus: PostgresBus | None = field(init=False)
    bodies: BodyReceiver = field(init=False)
    changes: JobChanges = field(init=False)
    searches: HandleSearches = field(init=False)
    module_reader: ModuleReader = field(init=False)

    def __post_init__(self) -> None:
        """Create the state."""
        self.embedded_bus = self.bus if isinstance(self.bus, PostgresBus) else None
        self.bodies = BodyReceiver(self.settings, self.body_pause, self.metrics.body_bytes_in_flight)
        self.changes = JobChanges(self.database)
        self.searches = HandleSearches(self.database)
        self.module_reader = ModuleReader()


_Item = TypeVar("_Item")
AnyRequest: TypeAlias = Request[Any, Any, Any]

Api: TypeAlias = SkipValidation[NamedDependency[ApiDependencies]]
"""A route's parameter ``api``."""

Caller: TypeAlias = SkipValidation[NamedDependency[Client]]
"""A route's parameter ``caller``: the client that the guard authorised."""

Job: TypeAlias = SkipValidation[NamedDependency[JobRow]]
"""A route's parameter ``job``: the job of its path, which the caller may see."""


async def begun(items: AsyncIterator[_Item]) -> AsyncIterator[_Item]:
    """``items``, of which the first is awaited now: an error before it is still answered with its status."""
    first = await anext(items)

    async def all_items() -> AsyncIterator[_Item]:
        yield first
        async for item in items:
            yield item

    return all_items()
