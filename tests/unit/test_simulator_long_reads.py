# SPDX-License-Identifier: Apache-2.0
"""A read of many objects does not delay other requests, whatever it selects."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Iterable

import aiohttp
import pytest

from ran_datajobs.http.server import serving
from ran_datajobs.simulator import layout, wire
from ran_datajobs.simulator.cooperative import LOOKED_AT
from ran_datajobs.simulator.network import Network
from ran_datajobs.simulator.server import provmns_app

SITES = 100


class WatchedNetwork(Network):
    """Counts the objects that are read, and the maximum between two iterations of the event loop."""

    looked_at = 0
    most_at_once = 0
    _at_once = 0

    def children(self, key: str) -> Iterable[str]:
        """Called once for every object of the walk."""
        self.looked_at += 1
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        return super().children(key)

    async def watch(self) -> None:
        """Begin a new count at each iteration of the event loop."""
        while True:
            self._at_once = 0
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("filter=NRCellDU/attributes/nRPCI%3E2000", 204),
        ("filter=Nothing/attributes/nRPCI%3E2000", 204),
        ("filter=NRCellDU/attributes/cellLocalId%3D%3D1&attributes=nRPCI", 200),
        ("attributes=nothing", 404),
        ("attributes=userLabel", 200),
        ("attributes=", 200),
    ],
)
@pytest.mark.parametrize("kind", [wire.FLAT, wire.HIERARCHICAL])
@pytest.mark.parametrize("root", ["", f"/{layout.data_producer_of(1)}"])
async def test_the_loop_goes_round_while_objects_are_looked_at(
    query: str, status: int, kind: str, root: str
) -> None:
    """At most LOOKED_AT objects at once, also if none of thousands is selected."""
    network = WatchedNetwork(SITES)
    async with serving(provmns_app(network), "127.0.0.1", 0) as address, aiohttp.ClientSession() as session:
        watching = asyncio.create_task(network.watch())
        place = f"{address}{root}{wire.PROVMNS}/{layout.COUNTRY}?scopeType=BASE_ALL&{query}"
        async with session.get(place, headers={"Accept": kind}) as answer:
            assert answer.status == status
            await answer.read()
        watching.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watching
    sites = layout.BLOCK if root else SITES
    assert network.looked_at > 30 * sites
    assert network.most_at_once <= LOOKED_AT + 1
