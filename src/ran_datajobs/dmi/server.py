# SPDX-License-Identifier: Apache-2.0
"""HTTP server of the reference DMI plugin."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ran_datajobs.config import check_home
from ran_datajobs.dmi.execution import Executor
from ran_datajobs.dmi.jobs import ElementOf, PluginJobs
from ran_datajobs.dmi.journal import Journal
from ran_datajobs.dmi.owners import Owners
from ran_datajobs.dmi.publisher import Publisher, StatusNews
from ran_datajobs.dmi.routes import plugin_app
from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.http.ports import check_bindable
from ran_datajobs.http.server import serving
from ran_datajobs.telemetry import Logger, logger

Ready = Callable[[str], None]
"""Called once with the base address of the plugin, when it accepts requests."""


async def serve(
    host: str,
    port: int,
    settings: PluginSettings,
    element_of: ElementOf,
    publisher: Publisher,
    *,
    news: StatusNews | None = None,
    owners: Owners | None = None,
    ready: Ready | None = None,
    log: Logger | None = None,
) -> None:
    """Run the plugin on ``host:port`` (0: a free port) until cancelled, then stop cleanly.

    Running batches may finish within ``PluginSettings.grace``; the journal keeps the rest. Raises UsageError
    when the port is in use or another plugin owns the data dir. Without ``owners``, ProvMnS is not served.
    """
    log = log or logger()
    if port:
        check_bindable(host, port)
    check_home(settings.data_dir)
    journal = Journal(settings.data_dir)
    executor = Executor(journal, publisher, settings, log)
    jobs = PluginJobs(journal, executor, element_of, settings, log, news)
    await jobs.open()
    try:
        async with serving(plugin_app(jobs, settings, log, owners), host, port) as address:
            if ready is not None:
                ready(address)
            await asyncio.get_running_loop().create_future()
    finally:
        await asyncio.shield(jobs.close())
