# SPDX-License-Identifier: Apache-2.0
"""The connection pool, transactions, and the schema's migrations."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from operator import attrgetter
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import UUID

import asyncpg
import msgspec

from ran_datajobs.errors import StoreUnavailable, UsageError
from ran_datajobs.store.queries import migrations, named_queries

if TYPE_CHECKING:
    from typing import TypeAlias

    from asyncpg.pool import PoolConnectionProxy

    Connection: TypeAlias = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    Connection = asyncpg.Connection  # importable at runtime; its type parameters are for the type checker

_SQL = named_queries("database")

Answer = TypeVar("Answer")
_Row = TypeVar("_Row")

_SESSION_NAME = "ran-datajobs "
_API = _SESSION_NAME + "api"
_DEADLOCK_TRIES = 4
_MIGRATION_TRIES = 20
_MIGRATION_PAUSE = 0.5
MIGRATION_WITHIN: Final = 3600.0
"""Timeout of a migration in seconds."""

_RETIRED_TABLES_UNTIL = 2
_WORKER_TABLE_UNTIL = 8

OLD_WORKERS_LEAVE_WITHIN: Final = 30.0
"""Timeout in seconds of a migration that waits for workers of the older schema to end."""

IDLE_IN_TRANSACTION: Final = 5.0
"""Timeout in seconds of a transaction that is idle; the database then ends it and releases its locks."""

_SESSION: Final = {
    "timezone": "UTC",
    "idle_in_transaction_session_timeout": f"{IDLE_IN_TRANSACTION * 1000:.0f}",
    "tcp_keepalives_idle": "5",
    "tcp_keepalives_interval": "2",
    "tcp_keepalives_count": "3",
    "tcp_user_timeout": "10000",
}
"""Settings of every session: a frozen or disconnected client cannot hold row locks for long.

They are sent as SET statements: a pooler rejects them as startup parameters."""

_WORKER_SESSION: Final = _SESSION | {"plan_cache_mode": "force_generic_plan"}
"""The same for workers. Their statements take arrays of ids, for which PostgreSQL estimates a generic plan as
more expensive: it would plan them anew at each call, which takes longer than to execute them."""

_SHARING_ROUNDS = 5
CONNECT_WITHIN: Final = 15.0
"""Timeout in seconds of a connect, and of the first statements of its session."""

STATEMENT_WITHIN: Final = 60.0
"""Timeout of a statement in seconds."""

POOL_WITHIN: Final = 10.0
"""Timeout in seconds of the wait for a free connection of the pool."""

READY_WITHIN: Final = 5.0
"""Timeout of the readiness query in seconds."""

_SESSIONS_NEEDED = (
    "DATAJOBS_DATABASE_URL leads to a connection pooler that gives each transaction another session, and "
    "notices, settings of a session and advisory locks need one that stays: choose session pooling "
    "(PgBouncer: pool_mode=session), or the address of PostgreSQL itself"
)

_UNAVAILABLE_ERRORS = (
    OSError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # the session was cut between two calls
    asyncpg.PostgresConnectionError,
    asyncpg.CannotConnectNowError,
    asyncpg.AdminShutdownError,
    asyncpg.IdleInTransactionSessionTimeoutError,
    asyncpg.CrashShutdownError,
    asyncpg.TooManyConnectionsError,
    asyncpg.DiskFullError,
    asyncpg.ReadOnlySQLTransactionError,
)


def _session(name: str) -> str:
    of_kind = _SESSION if name == _API else _WORKER_SESSION
    settings = {"application_name": name} | of_kind
    return "".join(f"set {setting} = '{value}';" for setting, value in settings.items())


@contextlib.contextmanager
def store_errors() -> Iterator[None]:
    """Turn the driver's connection errors into :class:`StoreUnavailable`."""
    try:
        yield
    except _UNAVAILABLE_ERRORS as error:
        raise StoreUnavailable(f"the database does not answer: {error or type(error).__name__}") from error


_UNUSABLE = (
    asyncpg.InvalidAuthorizationSpecificationError,  # wrong user or password
    asyncpg.InvalidCatalogNameError,  # no such database
    asyncpg.InsufficientPrivilegeError,
    asyncpg.exceptions.ClientConfigurationError,  # not an address of a database
)


@contextlib.contextmanager
def _address_errors() -> Iterator[None]:
    """Turn errors of a wrong address into :class:`UsageError`, whose text does not contain the address."""
    try:
        yield
    except _UNUSABLE as error:
        raise UsageError(f"DATAJOBS_DATABASE_URL cannot be used: {error}") from error
    except PermissionError as error:
        if error.filename is None:  # raised by the network, not for a file
            raise
        raise UsageError(f"DATAJOBS_DATABASE_URL cannot be used: {error}") from error


def columns(rows: Collection[object], *names: str) -> list[list[Any]]:
    """The values of each of these (dotted) attributes of ``rows``, as array parameters of a statement."""
    return [list(map(attrgetter(name), rows)) for name in names]


def read(kind: type[_Row], rows: Collection[asyncpg.Record]) -> list[_Row]:
    """``rows`` as structs; the columns have the names of the fields, and other columns are left out."""
    return [msgspec.convert(dict(row.items()), kind) for row in rows]


def read_one(kind: type[_Row], row: asyncpg.Record | None) -> _Row | None:
    """``row`` as a struct; ``None`` if there is none."""
    return None if row is None else msgspec.convert(dict(row.items()), kind)


def _to_json(value: object) -> str:
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


async def check_sessions(url: str) -> None:
    """Raise UsageError when ``url`` leads to a pooler that shares sessions among its clients.

    Raises StoreUnavailable when the database is unavailable, UsageError when the address is wrong.
    """
    with store_errors(), _address_errors():
        async with asyncio.timeout(CONNECT_WITHIN), _connected(url) as one, _connected(url) as other:
            try:
                shared = await _share_sessions(one, other)
            except asyncpg.PostgresConnectionError as error:
                if "statement pooling" not in str(error):
                    raise
                shared = True
    if shared:
        raise UsageError(_SESSIONS_NEEDED)


@contextlib.asynccontextmanager
async def _connected(url: str) -> AsyncIterator[asyncpg.Connection[asyncpg.Record]]:
    connection = await asyncpg.connect(url, timeout=CONNECT_WITHIN)
    try:
        yield connection
    finally:
        connection.terminate()


async def _share_sessions(
    one: asyncpg.Connection[asyncpg.Record], other: asyncpg.Connection[asyncpg.Record]
) -> bool:
    """True when one client's mark is lost, or visible to the other client.

    The other client's open transaction keeps its session, so that the first client cannot get the same
    session again by chance. The statements have no parameters: prepared ones fail at some poolers.
    """
    for _ in range(_SHARING_ROUNDS):
        mark = secrets.token_hex(8)
        await one.execute(f"set ran_datajobs.mark = '{mark}'")
        await other.execute("begin")
        if await _has(other, mark) or not await _has(one, mark):
            return True
        await other.execute("rollback")
    return False


async def _has(connection: asyncpg.Connection[asyncpg.Record], mark: str) -> bool:
    found = f"select 1 where current_setting('ran_datajobs.mark', true) = '{mark}'"
    return await connection.execute(found) == "SELECT 1"


@contextlib.asynccontextmanager
async def transaction_of(connection: Connection, *, idle: float | None = None) -> AsyncIterator[None]:
    """A transaction of this session, as :meth:`Database.transaction`: a session that has ended, and with it
    its advisory locks, writes nothing."""
    async with connection.transaction():
        if idle is not None:
            await connection.execute(_SQL["wait_for_client"], f"{idle * 1000:.0f}")
        yield


class Database:
    """A pool of connections to the store.

    ``jsonb`` columns are read and written as Python values; a ``str`` is written as JSON text.
    """

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], url: str, name: str, unchanged: set[int]) -> None:
        """``unchanged``: server PIDs of sessions that need no reset when they are released to the pool."""
        self.pool = pool
        self._url = url
        self._name = name
        self._unchanged = unchanged

    @classmethod
    async def open(cls, url: str, *, size: int = 8, worker_id: UUID | None = None) -> Database:
        """Connect. Raises StoreUnavailable when the database is unavailable, UsageError for a wrong ``url``.

        The sessions' application name contains ``worker_id``: see :meth:`end_sessions_of_silent_workers`.
        """
        name = _SESSION_NAME + str(worker_id) if worker_id else _API
        unchanged: set[int] = set()

        async def reset(connection: asyncpg.Connection[asyncpg.Record]) -> None:
            if connection.get_server_pid() in unchanged:
                unchanged.discard(connection.get_server_pid())
            else:
                await connection.reset()
                await connection.execute(_session(name))

        async def prepare(connection: asyncpg.Connection[asyncpg.Record]) -> None:
            await connection.execute(_session(name))
            for kind in ("json", "jsonb"):
                await connection.set_type_codec(
                    kind, encoder=_to_json, decoder=msgspec.json.decode, schema="pg_catalog"
                )

        with store_errors(), _address_errors():
            pool = await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=size,
                init=prepare,
                reset=reset,
                timeout=CONNECT_WITHIN,
                command_timeout=STATEMENT_WITHIN,
                server_settings={"application_name": name},
            )
        return cls(pool, url, name, unchanged)

    async def close(self) -> None:
        """Close every connection; running calls are cut off after 2 s."""
        try:
            async with asyncio.timeout(2):
                await self.pool.close()
        except TimeoutError:
            self.pool.terminate()

    @contextlib.asynccontextmanager
    async def session(self) -> AsyncIterator[Connection]:
        """One connection; the advisory locks of its session are released at the end."""
        with store_errors():
            async with self.pool.acquire(timeout=POOL_WITHIN) as connection:
                yield connection

    @contextlib.asynccontextmanager
    async def connection(self) -> AsyncIterator[Connection]:
        """One connection outside any transaction; the caller must not change session state."""
        async with self.session() as connection:
            yield connection
            self._unchanged.add(connection.get_server_pid())  # saves a round trip

    async def fetch(self, query: str, *args: object) -> list[asyncpg.Record]:
        """The rows of one statement outside any transaction."""
        async with self.connection() as connection:
            return await connection.fetch(query, *args)

    @contextlib.asynccontextmanager
    async def transaction(self, *, idle: float | None = None) -> AsyncIterator[Connection]:
        """One connection in one transaction: committed at the end, rolled back by an exception.

        The database ends it when it is idle between two statements for more than ``idle`` seconds (default:
        :data:`IDLE_IN_TRANSACTION`). A transaction that needs longer locks no row that others need.
        """
        async with self.connection() as connection, transaction_of(connection, idle=idle):
            yield connection

    async def run_transaction(self, write: Callable[[Connection], Awaitable[Answer]]) -> Answer:
        """Run ``write`` in a transaction; repeat it when PostgreSQL aborted it to resolve a deadlock."""
        for left in reversed(range(_DEADLOCK_TRIES)):
            try:
                async with self.transaction() as connection:
                    return await write(connection)
            except (asyncpg.DeadlockDetectedError, asyncpg.SerializationError) as error:
                if not left:
                    raise StoreUnavailable(f"the database could not resolve a deadlock: {error}") from error
        raise AssertionError("unreachable")

    async def listen_connection(self) -> asyncpg.Connection[asyncpg.Record]:
        """A dedicated connection for LISTEN; the caller closes it."""
        with store_errors():
            connection = await asyncpg.connect(
                self._url, timeout=CONNECT_WITHIN, server_settings={"application_name": self._name}
            )
            try:
                await connection.execute(_session(self._name), timeout=CONNECT_WITHIN)
            except BaseException:
                connection.terminate()
                raise
            return connection

    async def end_sessions_of_silent_workers(self) -> None:
        """Terminate the sessions of connected workers that have sent no statement for 12 s.

        A worker that is frozen or cut off would keep the advisory locks of its sessions, to publish a shard
        and to receive. It reconnects when it resumes.
        """
        await self.fetch(_SQL["end_sessions_of_silent_workers"], _SESSION_NAME)

    async def ready(self) -> None:
        """Return when the database answers; raise StoreUnavailable otherwise."""
        async with self.connection() as connection:
            await connection.fetchval(_SQL["ready"], timeout=READY_WITHIN)

    async def migrate(self, waits: Callable[[str], None] = lambda _cause: None) -> int | None:
        """Bring the schema up to date, one process at a time (advisory lock), in one transaction.

        Returns the number of the new schema; ``None`` when the schema was up to date.

        Other processes may work meanwhile: the migration waits briefly for a locked table and retries, so
        that no statement queues behind it for long. Workers of the older schema get 30 s to end. Raises
        UsageError when the database is newer than this code, when such workers remain, or when a migration
        finds work that only the older version can end; StoreUnavailable when tables stay locked. ``waits`` is
        called once, with a text that names these workers.
        """
        tries, reported, until = 0, False, asyncio.get_running_loop().time() + OLD_WORKERS_LEAVE_WITHIN
        while True:
            try:
                return await self._migrate()
            except (asyncpg.LockNotAvailableError, asyncpg.DeadlockDetectedError) as error:
                tries += 1
                if tries >= _MIGRATION_TRIES:
                    raise StoreUnavailable(f"the schema cannot be brought up to date: {error}") from error
            except asyncpg.RaiseError as error:
                raise UsageError(f"the schema cannot be brought up to date: {error}") from error
            except _OldWorkers as error:
                if asyncio.get_running_loop().time() >= until:
                    raise UsageError(f"{error}; stop them, then start again") from error
                if not reported:
                    waits(str(error))
                    reported = True
            await asyncio.sleep(_MIGRATION_PAUSE)

    async def _migrate(self) -> int | None:
        known = migrations()
        async with self.transaction(idle=MIGRATION_WITHIN) as connection:
            await connection.execute(_SQL["lock_migrations"])
            await connection.execute(_SQL["wait_for_locks_briefly"])
            await connection.execute(_SQL["create_schema_version"])
            current: int = await connection.fetchval(_SQL["schema_version"])
            if current > len(known):
                raise UsageError(
                    f"the database has schema {current}, this version knows only {len(known)}: "
                    "install the newer ran-datajobs, or use another database"
                )
            if current < _RETIRED_TABLES_UNTIL:
                await connection.execute(_SQL["create_retired_tables"])
            if 0 < current < len(known):
                await self._check_old_workers(connection, current)
            for number, name, text in known[current:]:
                await connection.execute(text, timeout=MIGRATION_WITHIN)
                await connection.execute(_SQL["record_migration"], number, name)
        return len(known) if current < len(known) else None

    async def _check_old_workers(self, connection: Connection, schema: int) -> None:
        """Raise while a worker of the older schema is alive: it would misread the migrated rows."""
        query = "workers_with_sessions"
        if schema < _WORKER_TABLE_UNTIL:
            await connection.execute(_SQL["lock_old_workers"])
            query = "old_workers"
        living = [
            f"{row['worker_id']} at {row['address'] or 'this machine'}"
            for row in await connection.fetch(_SQL[query], _SESSION_NAME)
        ]
        if living:
            raise _OldWorkers("workers of an older version still use this database: " + ", ".join(living))


class _OldWorkers(Exception):
    """Workers of an older schema are alive."""
