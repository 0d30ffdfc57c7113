# SPDX-License-Identifier: Apache-2.0
"""Values of the metrics of the database, declared in :data:`~ran_datajobs.telemetry.STORE_METRICS`."""

from __future__ import annotations

from collections.abc import Mapping

from ran_datajobs.model import LaneState, Status
from ran_datajobs.store.database import Connection
from ran_datajobs.store.outbox import SHARDS
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("figures")


async def figures(connection: Connection) -> dict[str, Mapping[str, float]]:
    """The values by name of the metric and by label. Ages are in seconds, 0 when nothing waits."""
    jobs = {status.value: 0.0 for status in Status if not status.terminal}
    jobs |= {row["label"]: row["value"] for row in await connection.fetch(_SQL["open_jobs"])}
    lanes = dict(await connection.fetchrow(_SQL["lanes"]) or {})
    plugins = dict(await connection.fetchrow(_SQL["plugins"]) or {})
    due = dict(await connection.fetchrow(_SQL["due_since"]) or {})
    undelivered = dict(await connection.fetchrow(_SQL["undelivered_since"], SHARDS) or {})
    return {
        "datajobs_jobs": jobs,
        "datajobs_lanes": {state.value: lanes[state.value.lower()] for state in LaneState},
        "datajobs_plugins": {health.upper(): count for health, count in plugins.items()},
        "datajobs_queue_age_seconds": {kind: value or 0.0 for kind, value in due.items()},
        "datajobs_delivery_lag_seconds": {to: value or 0.0 for to, value in undelivered.items()},
    }
