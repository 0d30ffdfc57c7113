# SPDX-License-Identifier: Apache-2.0
"""Child processes, the owner of a data dir, and ports."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import signal
import socket
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import structlog

from ran_datajobs import telemetry
from ran_datajobs.errors import UsageError
from ran_datajobs.local.supervisor import OWNER_FILE, Program, claim_port, lock_data_dir, supervise


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    """Log lines of this process. Logging is restored afterwards."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    stream = io.StringIO()
    telemetry.configure(level="info", form="json", stream=stream)
    yield stream
    structlog.reset_defaults()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.mark.usefixtures("lines")
async def test_a_program_that_was_used_wrongly_is_not_started_again(tmp_path: Path) -> None:
    """Exit status 2 ends the group, since a restart cannot succeed."""
    program = Program("wrong", ("no-such-command",), dict(os.environ), tmp_path / "lines")
    async with asyncio.timeout(30):
        with pytest.raises(UsageError, match="the wrong process"):
            await supervise(program, telemetry.logger(), grace=1)
    assert "no-such-command" in (tmp_path / "lines").read_text()


async def test_a_program_that_ends_is_started_again(tmp_path: Path, lines: io.StringIO) -> None:
    """Whatever the reason: it is restarted until it is stopped."""
    program = Program("short", ("--version",), dict(os.environ), tmp_path / "lines")
    keeping = asyncio.create_task(supervise(program, telemetry.logger(), grace=1))
    async with asyncio.timeout(60):
        while lines.getvalue().count('"process.started"') < 2:
            await asyncio.sleep(0.02)
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping
    assert '"process.restarted"' in lines.getvalue()


async def test_a_program_that_cannot_be_started_for_a_while_is_tried_again(
    tmp_path: Path, lines: io.StringIO
) -> None:
    """The machine may be short of memory or of files at that moment; here the log file of the process cannot
    be opened."""
    output = tmp_path / "folder" / "lines"
    output.parent.mkdir()
    program = Program("short", ("--version",), dict(os.environ), output)
    keeping = asyncio.create_task(supervise(program, telemetry.logger(), grace=1))
    async with asyncio.timeout(60):
        while not lines.getvalue().count('"process.started"'):
            await asyncio.sleep(0.02)
        output.parent.rename(tmp_path / "elsewhere")
        while '"process.not_started"' not in lines.getvalue():
            await asyncio.sleep(0.02)
        output.parent.mkdir()
        so_far = lines.getvalue().count('"process.started"')
        while lines.getvalue().count('"process.started"') <= so_far:
            await asyncio.sleep(0.02)
    keeping.cancel()
    with pytest.raises(asyncio.CancelledError):
        await keeping


@pytest.mark.usefixtures("lines")
async def test_a_program_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    """SIGTERM first; a process that still runs after the grace period is killed."""
    deaf = Path(tmp_path, "ran_datajobs")
    deaf.mkdir()
    (deaf / "__init__.py").touch()
    (deaf / "__main__.py").write_text(
        "import pathlib, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        f"pathlib.Path({str(tmp_path / 'ready')!r}).touch()\n"
        "time.sleep(600)\n"
    )
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    others = set(psutil.Process().children())
    keeping = asyncio.create_task(supervise(Program("deaf", (), environment), telemetry.logger(), grace=0.1))
    async with asyncio.timeout(30):
        while not (tmp_path / "ready").exists():
            await asyncio.sleep(0.02)
        [child] = set(psutil.Process().children()) - others
        keeping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await keeping
    assert not child.is_running()


def test_a_data_dir_has_one_owner_that_is_named(tmp_path: Path) -> None:
    """The second process gets the first one's id. When the first one ends, another one may start."""
    program = f"""
        import pathlib, sys
        from ran_datajobs.local.supervisor import lock_data_dir

        with lock_data_dir(pathlib.Path({str(tmp_path)!r})):
            print("locked", flush=True)
            sys.stdin.read()
    """
    command = [sys.executable, "-c", textwrap.dedent(program)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as first:
        assert first.stdout is not None
        assert first.stdout.readline() == "locked\n"
        with pytest.raises(UsageError, match=f"belongs to process {first.pid} "), lock_data_dir(tmp_path):
            pass
        first.send_signal(signal.SIGKILL)
    with lock_data_dir(tmp_path):
        pass
    assert (tmp_path / OWNER_FILE).read_bytes() == b""


async def test_a_port_in_use_is_refused_with_one_that_is_free() -> None:
    """The suggested port is free."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UsageError, match=r"in use: try --port \d+") as refused:
            await claim_port("127.0.0.1", port)
        suggested = int(str(refused.value).rpartition(" ")[2])
        assert suggested != port
        assert await claim_port("127.0.0.1", suggested) == suggested


async def test_port_0_takes_any_free_one() -> None:
    """The returned port can be bound."""
    port = await claim_port("127.0.0.1", 0)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", port))


async def test_an_address_of_another_machine_is_refused() -> None:
    """Only own addresses can be bound (192.0.2.0/24 belongs to no host, RFC 5737)."""
    with pytest.raises(UsageError, match=r"cannot listen on 192\.0\.2\.1"):
        await claim_port("192.0.2.1", 8080)
