# SPDX-License-Identifier: Apache-2.0
"""A service with handles of ONAP's load test, the reference plugin as their plugin, and a client of NCMP."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import NamedTuple

from ran_datajobs.dmi.settings import PluginSettings
from tests.kit.onap_client import OnapClient, load_test_handle, onap_client
from tests.kit.plugin_parts import WatchedElement, served_plugin
from tests.kit.whole_service import Service, whole_service


class Ncmp(NamedTuple):
    """A service, ONAP's client of it, and the address of its plugin."""

    service: Service
    client: OnapClient
    plugin: str


@contextlib.asynccontextmanager
async def served_ncmp(
    database_url: str, folder: Path, numbers: Iterable[int] = (), **registration: bool
) -> AsyncIterator[Ncmp]:
    """The service during the block, with ONAP's test interface. ``numbers``: of its handles;
    ``registration``: its other members."""
    async with (
        served_plugin(PluginSettings(folder / "dmi"), lambda _: WatchedElement()) as plugin,
        whole_service(database_url, folder / "service", onap_test_api="1") as service,
        onap_client(service.root) as client,
    ):
        if handles := list(map(load_test_handle, numbers)):
            await client.registered(plugin, handles, **registration)
        yield Ncmp(service, client, plugin)
