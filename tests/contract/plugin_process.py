# SPDX-License-Identifier: Apache-2.0
"""The reference DMI plugin in a separate process, for tests that kill it: ``python -m
tests.contract.plugin_process FOLDER PORT BATCH``.

Its element and its publisher record their actions in FOLDER, synced to disk before they return.
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
from tests.kit.plugin_parts import WatchedElement


class FilePublisher:
    """Appends each message as a line. A message is published when its line is complete.

    A process that is killed during a write leaves a torn line. That message was never published or
    acknowledged, and the next process removes it before its first write.
    """

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
        written = path.read_bytes()
        os.ftruncate(self._file, written.rfind(b"\n") + 1)

    async def publish(self, topic: str, messages: Sequence[Message]) -> None:
        for message in messages:
            line = {"topic": topic, "headers": message.headers, "value": message.value.decode()}
            rest = memoryview(msgspec.json.encode(line) + b"\n")
            while rest:
                rest = rest[os.write(self._file, rest) :]
            os.fsync(self._file)


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
