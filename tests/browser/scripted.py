# SPDX-License-Identifier: Apache-2.0
"""A scripted DMI plugin behind real HTTP, for tests that do not run in an event loop."""

from __future__ import annotations

import asyncio
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from tests.kit.plugins.scripted import Script, ScriptedPlugin

UNDER_WAY: Final = Script(statuses=("RUNNING",))
"""A data producer that runs until it gets another script or a cancel."""


@contextmanager
def scripted_plugin() -> Iterator[tuple[ScriptedPlugin, str]]:
    """The plugin and its address, during the block."""
    plugin = ScriptedPlugin()
    address: queue.Queue[str] = queue.Queue()
    loop = asyncio.new_event_loop()
    stop = asyncio.Event()

    async def serve() -> None:
        async with plugin.serving() as url:
            address.put(url)
            await stop.wait()

    thread = threading.Thread(target=loop.run_until_complete, args=(serve(),), daemon=True)
    thread.start()
    try:
        yield plugin, address.get(timeout=30)
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()
        loop.close()
