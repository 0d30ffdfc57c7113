# SPDX-License-Identifier: Apache-2.0
"""The reference DMI plugin under SIGKILL: no operation is executed twice, none is lost."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest
from msgspec import UNSET, Raw, UnsetType

from ran_datajobs.messaging.bus import Message
from ran_datajobs.model import OperationState, Status
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.plugins.dialects import plugins_over
from ran_datajobs.plugins.port import PluginProfile, Responses
from tests.kit.plugin_parts import DEADLINE, address_of, call_for, reads, until_terminal, writes

from .plugin_process import FilePublisher

BATCH = 20


@contextlib.asynccontextmanager
async def process(folder: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    """The plugin in a separate process, listening; a process still alive at the end of the block gets
    SIGTERM."""
    started = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "tests.contract.plugin_process",
        str(folder),
        str(port),
        str(BATCH),
        stdout=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert started.stdout is not None
    try:
        line = await asyncio.wait_for(started.stdout.readline(), DEADLINE)
        assert line.startswith(b"http://"), "the plugin did not come up"
        yield started
    finally:
        if started.returncode is None:
            started.send_signal(signal.SIGTERM)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(started.wait(), DEADLINE)
        if started.returncode is None:
            started.kill()
            await started.wait()


def executed(folder: Path) -> list[int]:
    path = folder / "executed.log"
    return [int(line) for line in path.read_text().split()] if path.exists() else []


async def killed_when(started: asyncio.subprocess.Process, condition: object) -> None:
    """Send SIGKILL as soon as ``condition`` holds."""
    assert callable(condition)
    async with asyncio.timeout(DEADLINE):
        while not condition():
            await asyncio.sleep(0)
    started.kill()
    await started.wait()


async def test_writes_are_executed_at_most_once_across_kills(tmp_path: Path, free_port: int) -> None:
    """A plugin that is killed repeatedly during its writes repeats none. At most one batch per kill is
    UNKNOWN; every other operation was executed exactly once, in order, over all its jobs, and has its
    before-image."""
    url = f"http://127.0.0.1:{free_port}"
    calls = [call_for("seed", writes(150, first=1_000 * number), before_images=True) for number in range(4)]
    kills = (1, 160, 390)
    async with PeerHttp() as http:
        plugin = plugins_over(http)(PluginProfile(1, url, "seed"))
        async with process(tmp_path, free_port) as started:
            addresses = [address_of(call, await plugin.create(call)) for call in calls]
            await killed_when(started, lambda: len(executed(tmp_path)) >= kills[0])
        for count in kills[1:]:
            async with process(tmp_path, free_port) as started:
                await killed_when(started, lambda limit=count: len(executed(tmp_path)) >= limit)
        async with process(tmp_path, free_port) as started:
            for call, address in zip(calls, addresses, strict=True):
                assert address_of(call, await plugin.create(call)) == address, "the key is still known"
                assert (await until_terminal(plugin, address))[-1] in {
                    Status.FINISHED,
                    Status.PARTIALLY_FAILED,
                }
            states: dict[int, OperationState] = {}
            images: dict[int, Raw | UnsetType] = {}
            for call, address in zip(calls, addresses, strict=True):
                result = await plugin.result(address)
                assert isinstance(result, Responses)
                assert len(result.responses) == 150, call
                states |= {int(one.operation_id): OperationState(one.state) for one in result.responses}
                images |= {int(one.operation_id): one.before for one in result.responses}
    done = executed(tmp_path)
    assert max(Counter(done).values()) == 1, "an operation was executed twice"
    assert done == sorted(done), "the order was lost"
    succeeded = {number for number, state in states.items() if state is OperationState.SUCCEEDED}
    unknown = {number for number, state in states.items() if state is OperationState.UNKNOWN}
    assert succeeded | unknown == set(states), "nothing may have failed or be left out"
    assert succeeded <= set(done) <= succeeded | unknown
    assert 0 < len(unknown) <= BATCH * len(kills)
    known = {number for number, image in images.items() if image is not UNSET}
    assert known == succeeded
    assert all(f"before {number}".encode() in bytes(images[number]) for number in known)  # type: ignore[arg-type]


async def test_a_torn_line_is_a_message_that_was_not_published(tmp_path: Path) -> None:
    """The next process removes a line that a killed process left incomplete; complete lines stay as they
    are."""
    path = tmp_path / "published.log"
    message = Message("key", {"ce_sequence": "0"}, b"{}")
    await FilePublisher(path).publish("topic", [message, message])
    whole = path.read_bytes()
    assert whole.count(b"\n") == 2
    for torn in (b'{"topic":"to', whole.splitlines()[0], b""):
        path.write_bytes(whole + torn)
        FilePublisher(path)
        assert path.read_bytes() == whole
    path.write_bytes(b'{"topic')
    await FilePublisher(path).publish("topic", [message])
    assert path.read_bytes() == whole.splitlines(keepends=True)[0]


@pytest.mark.nightly
async def test_a_read_comes_whole_across_kills(tmp_path: Path, free_port: int) -> None:
    """A plugin that is killed while it reads and publishes still publishes the whole read. A message
    published again is identical."""
    url = f"http://127.0.0.1:{free_port}"
    call = call_for("seed", reads("Large", "Small", "Large2"))
    published = tmp_path / "published.log"

    def lines() -> list[dict[str, object]]:
        if not published.exists():
            return []
        return [msgspec.json.decode(line) for line in published.read_bytes().split(b"\n")[:-1]]

    async with PeerHttp() as http:
        plugin = plugins_over(http)(PluginProfile(1, url, "seed"))
        async with process(tmp_path, free_port) as started:
            address = address_of(call, await plugin.create(call))
            started.kill()
            await started.wait()
        for _ in range(2):
            seen = len(lines())
            async with process(tmp_path, free_port) as started:
                await killed_when(started, lambda before=seen: len(lines()) > before)
        async with process(tmp_path, free_port):
            assert (await until_terminal(plugin, address))[-1] is Status.FINISHED
    by_sequence: dict[str, set[bytes]] = {}
    for line in lines():
        headers = line["headers"]
        assert isinstance(headers, dict)
        by_sequence.setdefault(headers["ce_sequence"], set()).add(
            msgspec.json.encode([headers["ce_id"], headers["ce_total"], line["value"]])
        )
    [total] = {line["headers"]["ce_total"] for line in lines()}  # type: ignore[index]
    assert sorted(by_sequence, key=int) == [str(number) for number in range(int(total))]
    assert {len(same) for same in by_sequence.values()} == {1}
