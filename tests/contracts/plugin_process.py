# SPDX-License-Identifier: Apache-2.0
"""The reference DMI plugin as a process of its own, to be killed:
``python -m tests.contracts.plugin_process FOLDER PORT BATCH``.

Its element and its publisher write to FOLDER what they did, on the disk before they return.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

import msgspec

from ran_datajobs.dmi.server import serve
from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.messaging.bus import Message
from ran_datajobs.telemetry import configure

from .plugin_parts import WatchedElement


class FilePublisher:
    """Appends each message as a line."""

    def __init__(self, path: Path) -> None:
        self._path = path

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        with self._path.open("ab") as file:
            for message in messages:
                line = {"topic": topic, "headers": message.headers, "value": message.value.decode()}
                file.write(msgspec.json.encode(line) + b"\n")
                file.flush()
                os.fsync(file.fileno())


async def main(folder: Path, port: int, batch: int) -> None:
    """Serve until SIGTERM."""
    configure(level="warning", form="json")
    element = WatchedElement(folder / "executed.log")
    settings = PluginSettings(folder / "dmi", batch=batch)
    serving = asyncio.current_task()
    assert serving is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, serving.cancel)
    with contextlib.suppress(asyncio.CancelledError):
        await serve(
            "127.0.0.1",
            port,
            settings,
            lambda _: element,
            FilePublisher(folder / "published.log"),
            ready=lambda address: print(address, flush=True),
        )


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])))
