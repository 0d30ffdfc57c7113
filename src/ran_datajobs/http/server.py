# SPDX-License-Identifier: Apache-2.0
"""Serves an ASGI application with granian in the event loop of this process."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

from granian.constants import HTTPModes, Interfaces
from granian.http import HTTP1Settings
from granian.server.embed import Server

from ran_datajobs.errors import UsageError
from ran_datajobs.http.open_files import for_peers
from ran_datajobs.http.ports import check_bindable, free_port

_START_DEADLINE: Final = 15.0
_STOP_DEADLINE: Final = 3.0
_MAX_CLIENTS: Final = 1024
_FILES_PER_CLIENT: Final = 2
"""Files and sockets per client: its connection, and the object that is sent to it."""


@contextlib.asynccontextmanager
async def serving(
    app: Any, host: str, port: int, *, tls_cert: Path | None = None, tls_key: Path | None = None
) -> AsyncIterator[str]:
    """Serve ``app`` while the block runs; yields its address, for example ``http://127.0.0.1:8080``.

    Port 0 selects a free port. On exit, open connections have 3 s to end. Raises UsageError if the port is
    taken or the address is not one of this machine.
    """
    if port == 0:
        port = free_port(host)
    check_bindable(host, port)
    server = Server(
        app,
        address=host,
        port=port,
        interface=Interfaces.ASGI,
        http=HTTPModes.http1,
        websockets=False,
        backlog=1024,
        backpressure=min(_MAX_CLIENTS, max(1, for_peers() // _FILES_PER_CLIENT)),
        http1_settings=HTTP1Settings(header_read_timeout=30_000, keep_alive=True, max_buffer_size=1 << 20),
        log_enabled=False,
        ssl_cert=tls_cert,
        ssl_key=tls_key,
    )
    task = asyncio.create_task(server.serve())
    try:
        await _wait_until_accepting(host, port, task)
        scheme = "https" if tls_cert else "http"
        yield f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    finally:
        server.stop()  # type: ignore[no-untyped-call]  # granian annotates only its start
        with contextlib.suppress(TimeoutError, asyncio.CancelledError):
            await asyncio.wait_for(task, _STOP_DEADLINE)


async def _wait_until_accepting(host: str, port: int, task: asyncio.Task[None]) -> None:
    async with asyncio.timeout(_START_DEADLINE):
        while not task.done():
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection(host, port)
                writer.close()
                return
            await asyncio.sleep(0.01)
    task.result()
    raise UsageError(f"the server on {host}:{port} ended while it started")
