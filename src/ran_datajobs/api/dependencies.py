# SPDX-License-Identifier: Apache-2.0
"""Dependencies of the northbound API, supplied by the composition root."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeAlias

from litestar import Request
from litestar.di import NamedDependency
from litestar.params import SkipValidation
from msgspec import Struct

from ran_datajobs.api.cacheable import CacheableBody
from ran_datajobs.api.destination import DestinationRules
from ran_datajobs.api.page_files import static_files
from ran_datajobs.api.request_body import BodyReceiver, Limits
from ran_datajobs.api.tokens import Client, TokenTable
from ran_datajobs.checkpoints import CheckpointHook, no_checkpoints
from ran_datajobs.inventory.index import OwnerIndex
from ran_datajobs.inventory.registry import Registry
from ran_datajobs.messaging.bus import Bus
from ran_datajobs.messaging.postgres import PostgresBus
from ran_datajobs.results.addresses import Addresses
from ran_datajobs.results.delivery import JobEventWriter
from ran_datajobs.results.job_view import JobView
from ran_datajobs.results.objects import ObjectStore
from ran_datajobs.results.waits import Patience
from ran_datajobs.store.database import Database
from ran_datajobs.store.job_notifications import JobChanges
from ran_datajobs.telemetry import Logger, Metrics


class ApiDependencies(Struct, frozen=True):
    """Components and settings of the API. The API neither opens nor closes them.

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
    api_root: str
    results_bucket: str
    version: str
    finished_spelling: str = "FINSHED"
    patience: Patience = Patience()
    allowed_hosts: tuple[str, ...] = ()
    limits: Limits = Limits()
    onap_status: bool = False
    destination_rules: DestinationRules = DestinationRules()
    disk: Path | None = None
    static: Path | None = None
    reached: CheckpointHook = no_checkpoints


class ApiState(Struct, frozen=True):
    """The dependencies and the API's own state. ``planning``: the lock that serialises dry runs."""

    parts: ApiDependencies
    addresses: Addresses
    view: JobView
    bodies: BodyReceiver
    changes: JobChanges
    static: Mapping[str, CacheableBody]
    announcer: JobEventWriter
    planning: asyncio.Lock

    @classmethod
    def of(cls, parts: ApiDependencies) -> ApiState:
        """The state of an API with the dependencies ``parts``."""
        addresses = Addresses(parts.api_root.rstrip("/"))
        view = JobView(addresses, parts.finished_spelling, parts.patience)
        return cls(
            parts=parts,
            addresses=addresses,
            view=view,
            bodies=BodyReceiver(parts.limits, parts.metrics.body_bytes_in_flight),
            changes=JobChanges(parts.database),
            static=static_files(parts.static),
            announcer=JobEventWriter(view),
            planning=asyncio.Lock(),
        )


AnyRequest: TypeAlias = Request[Any, Any, Any]

Api: TypeAlias = SkipValidation[NamedDependency[ApiState]]
"""A route's parameter ``api``."""

Caller: TypeAlias = SkipValidation[NamedDependency[Client]]
"""A route's parameter ``caller``: the client that the guard authorised."""
