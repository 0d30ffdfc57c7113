# SPDX-License-Identifier: Apache-2.0
"""Health of DMI plugins: ``dmi_plugin.healthy``, ``healthy_since``, ``health_cause``.

``healthy`` is true, false, or null if it is unknown. The effective trust level of a CM handle ``h`` is the
worse of its own and of the health of its plugins::

    case when h.trust_level = 'NONE' or array[h.plugin_id, h.read_plugin_id, h.write_plugin_id]
              && array(select plugin_id from dmi_plugin where not healthy) then 'NONE' else 'COMPLETE' end
"""

from __future__ import annotations

from msgspec import Struct

from ran_datajobs.store.database import Connection, Database, read
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("health")


class DuePlugin(Struct, frozen=True):
    """A plugin whose health is to be asked for. ``in_use``: it has CM handles."""

    plugin_id: int
    url: str
    in_use: bool


async def claim(database: Database, interval: float, limit: int) -> list[DuePlugin]:
    """Up to ``limit`` plugins that are due; no worker gets them again within ``interval`` seconds."""
    return read(DuePlugin, await database.fetch(_SQL["claim"], interval, limit))


async def record(
    connection: Connection, plugin_id: int, healthy: bool | None, cause: str | None
) -> bool | None:
    """Write the health of a plugin, and why it is down. Returns its health before."""
    before: bool | None = await connection.fetchval(_SQL["record"], plugin_id, healthy, cause)
    return before
