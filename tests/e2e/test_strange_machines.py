# SPDX-License-Identifier: Apache-2.0
"""The first start on unusual machines: it works, or one line says what to change."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg
import pytest
from aiohttp import web

import ran_datajobs
from tests.kit.commands import datajobs, started
from tests.kit.plugins.scripted import ScriptedPlugin
from tests.peers.pgbouncer import pgbouncer
from tests.peers.s3 import S3Service
from tests.tiers import nightly


@pytest.fixture
def url(free_port: int) -> str:
    """Address of the service of a test."""
    return f"http://127.0.0.1:{free_port}"


def _a_job_ends(url: str) -> None:
    """A job whose operations have no owner is accepted, executed and reported to the end."""
    body = {"data": [{"op": "remove", "path": "/ManagedElement=nowhere", "operationId": "1"}]}
    done = datajobs("submit", "-", "--watch", "--server", url, stdin=json.dumps(body).encode())
    assert done.returncode == 1, done.stderr
    assert "UNMATCHED" in done.stdout + done.stderr or "unmatched" in done.stdout + done.stderr


# --- a pooler in front of the database ---------------------------------------------------------------


async def _session_names(url: str) -> set[str]:
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "select application_name from pg_stat_activity where datname = current_database()"
        )
    finally:
        await connection.close()
    return {row["application_name"] for row in rows}


@pytest.mark.nightly
async def test_a_pooler_that_keeps_sessions_is_a_database_like_any(
    tmp_path: Path, free_port: int, url: str, database_url: str
) -> None:
    """PgBouncer with session pooling: the service works, and its sessions have its name."""
    with pgbouncer(database_url, "session") as pooled:
        arguments = ("serve", "--port", str(free_port), "--data-dir", tmp_path / "data")
        with started(*arguments, lines=tmp_path / "lines", DATAJOBS_DATABASE_URL=pooled) as service:
            service.until_ready(url)
            _a_job_ends(url)
            names = await _session_names(database_url)
            assert "ran-datajobs api" in names
            assert any(re.fullmatch("ran-datajobs [0-9a-f-]{36}", name) for name in names)
            assert service.end() == 0
            assert "refused" not in service.text()


@pytest.mark.parametrize(
    ("mode", "size", "round_robin"),
    [
        ("transaction", 1, False),
        ("transaction", 20, False),
        ("transaction", 20, True),
        ("statement", 20, False),
    ],
)
async def test_a_pooler_that_shares_sessions_is_refused_in_one_line(
    tmp_path: Path, database_url: str, mode: str, size: int, round_robin: bool
) -> None:
    """Status 2, with the requirement and its reason, however many sessions the pool has and whichever is
    next."""
    with pgbouncer(database_url, mode, size=size, round_robin=round_robin) as pooled:
        waiting = [await asyncpg.connect(pooled) for _ in range(min(size, 3))]
        for client in waiting:
            await client.execute("select pg_sleep(0.1)")
        arguments = ("serve", "--port", "0", "--data-dir", tmp_path / "data")
        done = datajobs(*arguments, DATAJOBS_DATABASE_URL=pooled)
        for client in waiting:
            client.terminate()
    assert done.returncode == 2
    assert done.stderr.splitlines() == [done.stderr.strip()]
    for word in ("DATAJOBS_DATABASE_URL", "session pooling", "notices", "advisory locks"):
        assert word in done.stderr


# --- few descriptors ---------------------------------------------------------------------------------


class SlowPlugin(ScriptedPlugin):
    """Answers well, after a delay."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self._seconds = seconds

    async def _create(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(self._seconds)
        return await super()._create(request)

    async def _status(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(self._seconds)
        return await super()._status(request)

    async def _result(self, request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(self._seconds)
        return await super()._result(request)


async def slow_network(
    folder: Path, url: str, *, limit: int, plugins: int, producers: int, seconds: float
) -> str:
    """A service limited to ``limit`` descriptors executes one operation at each of the ``producers`` of slow
    plugins, and concurrently jobs at a quick plugin. Returns its output."""
    quick, slow = ScriptedPlugin(), [SlowPlugin(seconds) for _ in range(plugins)]
    arguments = ("serve", "--port", url.rpartition(":")[2], "--data-dir", folder / "data")
    async with contextlib.AsyncExitStack() as stack:
        of_plugin = [await stack.enter_async_context(each.serving()) for each in (quick, *slow)]
        service = stack.enter_context(
            started(*arguments, lines=folder / "lines", shell=f'ulimit -n {limit}; exec "$@"')
        )
        await asyncio.to_thread(service.until_ready, url)
        session = await stack.enter_async_context(aiohttp.ClientSession(url))
        for number, address in enumerate(of_plugin):
            names = ["quick"] if number == 0 else [f"{n}" for n in range(number, producers, plugins)]
            handles = [
                {
                    "cmHandle": name,
                    "alternateId": f"/ManagedElement={name}",
                    "dataProducerIdentifier": name,
                }
                for name in names
            ]
            await _post(session, "/ncmpInventory/v1/ch", {"dmiPlugin": address, "createdCmHandles": handles})
        large = await _submitted(session, [f"{n}" for n in range(1, producers)])
        while (job := await _job(session, large))["progressPercentage"] < 100:
            assert await _ended(session, await _submitted(session, ["quick"])) == 1
        assert job["operations"]["succeeded"] == producers - 1
        assert sum(len(each.history) for each in slow) == producers - 1
        assert await asyncio.to_thread(service.end) == 0
        return service.text()


async def _post(session: aiohttp.ClientSession, path: str, body: Any) -> Any:
    async with session.post(path, json=body) as answer:
        assert answer.status in (200, 202), await answer.text()
        return await answer.json()


async def _submitted(session: aiohttp.ClientSession, names: Sequence[str]) -> str:
    data = [{"op": "remove", "path": f"/ManagedElement={name}"} for name in names]
    job_id: str = (await _post(session, "/ranoam/cm/v1/dataJob", {"data": data}))["jobId"]
    return job_id


async def _job(session: aiohttp.ClientSession, job_id: str) -> Any:
    async with session.get(f"/ranoam/cm/v1/dataJob/{job_id}") as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def _ended(session: aiohttp.ClientSession, job_id: str) -> int:
    """Number of operations of a job that succeeded, once it has ended."""
    async with asyncio.timeout(60):
        while (job := await _job(session, job_id))["status"] in ("NOT_STARTED", "RUNNING"):
            await asyncio.sleep(0.05)
    assert job["status"] == "FINSHED", job
    succeeded: int = job["operations"]["succeeded"]
    return succeeded


@pytest.mark.nightly
async def test_more_calls_than_descriptors_are_made_in_turn(tmp_path: Path, url: str) -> None:
    """Slow plugins are called as far as descriptors allow. Every operation succeeds, sent once, and jobs at a
    quick plugin end meanwhile."""
    said = await slow_network(tmp_path, url, limit=256, plugins=8, producers=500, seconds=0.3)
    assert "Too many open files" not in said
    assert "panicked" not in said
    assert "process.ended" not in said


def test_too_few_descriptors_are_told_in_one_line(tmp_path: Path) -> None:
    """Status 2, the number of descriptors, and the number required."""
    arguments = ("serve", "--port", "0", "--data-dir", tmp_path / "data")
    done = datajobs(*arguments, shell='ulimit -n 200; exec "$@"')
    assert done.returncode == 2
    assert done.stderr == (
        "datajobs: only 200 files and sockets may be open at once (ulimit -n): "
        "at least 256 are needed, and some thousands are better\n"
    )


# --- closed standard streams -------------------------------------------------------------------------


@pytest.mark.parametrize("closed", [nightly("<&-"), nightly(">&-"), nightly("2>&-"), "<&- >&- 2>&-"])
def test_closed_streams_keep_nothing_from_serving(
    tmp_path: Path, free_port: int, url: str, closed: str
) -> None:
    """The service works, and none of its processes has a file or socket at the descriptor of a standard
    stream."""
    arguments = ("serve", "--port", str(free_port), "--data-dir", tmp_path / "data")
    with started(*arguments, lines=tmp_path / "lines", shell=f'exec "$@" {closed}') as service:
        service.until_ready(url)
        _a_job_ends(url)
        streams = {
            str(Path(f"/proc/{process.pid}/fd/{number}").readlink())
            for process in service.tree()
            for number in range(3)
        }
        assert streams <= {"/dev/null", f"{tmp_path}/lines", f"{tmp_path}/data/postgresql.log"}
        assert service.end() == 0


# --- files and users ---------------------------------------------------------------------------------

NOBODY = "--reuid=65534 --regid=65534 --clear-groups"
UNKNOWN = "--reuid=123456 --regid=0 --clear-groups"

only_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")


def run_as(ids: str) -> str:
    """A shell line that runs the command as another user. Skips the test if that user cannot read it."""
    modules = f"{sysconfig.get_path('purelib')}:{Path(ran_datajobs.__file__).parents[1]}"
    probe = "import os, sys, ran_datajobs.config; sys.exit(not os.access(sys.executable, os.X_OK))"
    for python in (sys.executable, f"/usr/bin/python{sys.version_info[0]}.{sys.version_info[1]}"):
        line = f"cd /; PYTHONPATH={modules} exec setpriv {ids} {python}"
        if (
            subprocess.run([*("bash", "-c", f'{line} "$@"', "bash"), "-c", probe], check=False).returncode
            == 0
        ):
            return f'shift; {line} "$@"'
    pytest.skip("Python, or this folder, is closed to other users")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user may write, and whose parents every user can enter."""
    folder = Path(tempfile.mkdtemp(prefix=f"ran-datajobs-tests-{os.getpid()}-"))
    folder.chmod(0o777)
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


@pytest.mark.nightly
def test_a_closing_umask_keeps_nothing_from_working(tmp_path: Path, free_port: int, url: str) -> None:
    """With umask 077, also as root, whose database runs as another user. The created files are closed to
    others."""
    data = tmp_path / "data"
    arguments = ("serve", "--port", str(free_port), "--data-dir", data)
    with started(*arguments, lines=tmp_path / "lines", shell='umask 077; exec "$@"') as service:
        service.until_ready(url)
        _a_job_ends(url)
        assert service.end() == 0
    assert {path.name for path in (data, *data.iterdir()) if path.stat().st_mode & 0o077} <= {"owner.json"}


@only_root
@pytest.mark.parametrize("mode", [nightly(0o555), nightly(0o000)], ids=["read-only", "closed"])
def test_a_home_that_cannot_be_written_needs_a_data_dir(
    tmp_path: Path, open_folder: Path, free_port: int, url: str, mode: int
) -> None:
    """Without --data-dir status 2 and one line that names it. With it the start succeeds."""
    home = open_folder / "home"
    home.mkdir()
    home.chmod(mode)
    shell = f"unset XDG_STATE_HOME; {run_as(NOBODY)}"
    done = datajobs("serve", "--port", "0", shell=shell, HOME=str(home))
    assert done.returncode == 2
    assert done.stderr == (
        f"datajobs: the data dir {home}/.local/state/ran-datajobs cannot be used: Permission denied; "
        "choose another with --data-dir\n"
    )
    arguments = ("serve", "--port", str(free_port), "--data-dir", open_folder / "data")
    with started(*arguments, lines=tmp_path / "lines", shell=shell, HOME=str(home)) as service:
        service.until_ready(url)
        _a_job_ends(url)
        assert service.end() == 0


@only_root
def test_a_home_in_which_a_database_may_have_keys_must_not_be_closed(
    open_folder: Path, database_url: str
) -> None:
    """Status 2 and the file that cannot be checked: an address without sslmode implies it."""
    home = open_folder / "home"
    home.mkdir(mode=0o700)
    done = datajobs(
        *("serve", "--port", "0", "--data-dir", open_folder / "data"),
        shell=run_as(NOBODY),
        HOME=str(home),
        DATAJOBS_DATABASE_URL=database_url.partition("?")[0],
    )
    assert done.returncode == 2
    assert done.stderr.splitlines() == [done.stderr.strip()]
    assert "DATAJOBS_DATABASE_URL cannot be used" in done.stderr


@only_root
def test_a_user_id_that_no_passwd_file_knows_is_told_what_helps(open_folder: Path) -> None:
    """Status 2 and one line: PostgreSQL needs a passwd entry, and another database does not."""
    shell = run_as(UNKNOWN)
    done = datajobs("serve", "--port", "0", "--data-dir", open_folder / "data", shell=shell, HOME="/")
    assert done.returncode == 2
    assert done.stderr == (
        "datajobs: the user id 123456 has no entry in /etc/passwd, and PostgreSQL creates no database "
        "without: add an entry, or set DATAJOBS_DATABASE_URL\n"
    )


@only_root
def test_a_user_without_home_and_passwd_entry_can_serve(
    tmp_path: Path, open_folder: Path, free_port: int, url: str, database_url: str
) -> None:
    """Without --data-dir one line asks for it. With it, and a database, the start succeeds."""
    shell = f"unset HOME XDG_STATE_HOME; {run_as(UNKNOWN)}"
    done = datajobs("serve", "--port", "0", shell=shell, DATAJOBS_DATABASE_URL=database_url)
    assert done.returncode == 2
    assert "no home directory" in done.stderr
    assert "--data-dir" in done.stderr
    arguments = ("serve", "--port", str(free_port), "--data-dir", open_folder / "data")
    with started(
        *arguments, lines=tmp_path / "lines", shell=shell, DATAJOBS_DATABASE_URL=database_url
    ) as service:
        service.until_ready(url)
        _a_job_ends(url)
        assert service.end() == 0


# --- variables of other programs ---------------------------------------------------------------------

NONSENSE = {
    **dict.fromkeys(
        (
            *("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE", "PGSSLMODE", "PGSSLNEGOTIATION"),
            *("PGOPTIONS", "PGDATA", "PGSERVICE", "PGSERVICEFILE", "PGPASSFILE", "PGTZ", "PGCLIENTENCODING"),
            *("PGTARGETSESSIONATTRS", "PGSSLROOTCERT", "PGSSLCERT", "PGSSLKEY", "PGAPPNAME", "TZ"),
            *("AWS_REGION", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"),
            *("AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3", "AWS_BUCKET", "AWS_CONFIG_FILE", "LITESTAR_DEBUG"),
        ),
        "no such thing",
    )
}
PROXIES = {
    name: "http://127.0.0.1:9"
    for word in ("http_proxy", "https_proxy", "all_proxy")
    for name in (word, word.upper())
}


@pytest.mark.nightly
def test_variables_of_other_programs_change_nothing(tmp_path: Path, free_port: int) -> None:
    """The demo, which uses every part, runs as planned in spite of invalid variables and unreachable
    proxies."""
    arguments = ("demo", "--once", "--sites", "2", "--port", str(free_port), "--data-dir", tmp_path / "data")
    done = datajobs(*arguments, **NONSENSE, **PROXIES)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.nightly
def test_an_s3_service_on_this_machine_is_asked_without_a_proxy(
    tmp_path: Path, free_port: int, url: str, s3_service: S3Service
) -> None:
    """Results are written to it and read from it."""
    keys = {
        "AWS_ACCESS_KEY_ID": s3_service.access_key_id,
        "AWS_SECRET_ACCESS_KEY": s3_service.secret_access_key,
    }
    arguments = ("serve", "--port", str(free_port), "--data-dir", tmp_path / "data")
    variables = PROXIES | keys | {"DATAJOBS_S3_ENDPOINT": s3_service.endpoint}
    with started(*arguments, lines=tmp_path / "lines", **variables) as service:
        service.until_ready(url)
        _a_job_ends(url)
        assert service.end() == 0
        assert "storage.unavailable" not in service.text()


# --- an ASCII terminal -------------------------------------------------------------------------------

ASCII = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.nightly
def test_names_in_every_alphabet_pass_an_ascii_terminal(tmp_path: Path, free_port: int, url: str) -> None:
    """Every command prints its output, including names that are not ASCII, and the database keeps them. If an
    output is ASCII only, JSON stays JSON."""
    data = tmp_path / "data"
    name = "Zürich–東京"
    body = {"name": name, "data": [{"op": "remove", "path": f"/ManagedElement={name}", "operationId": "é"}]}
    file = tmp_path / f"{name}.json"
    file.write_text(json.dumps(body))
    with started(
        "serve", "--port", str(free_port), "--data-dir", data, lines=tmp_path / "lines", **ASCII
    ) as service:
        service.until_ready(url)
        printed = datajobs("submit", file, "--server", url, "--output", "json", **ASCII)
        assert printed.returncode == 0, printed.stderr
        job_id = json.loads(printed.stdout)["jobId"]
        for command in (
            ("watch", job_id),
            ("status", job_id),
            ("list",),
            ("failures", job_id),
            ("submit", file, "--dry-run"),
            ("submit", file, "--watch"),
            ("submit", file, "--destination", f"kafka:{name}"),
            ("tail", name, "--no-follow"),
            ("inventory", "load", file),
            ("results", job_id),
            ("results", job_id, "--dir", tmp_path / name),
            ("config",),
        ):
            for form in ("table", "json"):
                done = datajobs(*command, DATAJOBS_SERVER=url, DATAJOBS_OUTPUT=form, **ASCII)
                assert "Traceback" not in done.stderr, done.stderr
                if command[0] in ("status", "list"):
                    assert name in done.stdout
                    assert done.returncode == 0
        printed = datajobs("status", job_id, "--server", url, "--output", "json", PYTHONIOENCODING="ascii")
        assert printed.stdout.isascii()
        assert json.loads(printed.stdout)["name"] == name
        for command in (("--help",), ("submit", "--help"), ("--version",)):
            assert datajobs(*command, **ASCII).returncode == 0
        assert service.end() == 0
