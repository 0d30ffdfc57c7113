# SPDX-License-Identifier: Apache-2.0
"""Searches, lists and look-ups of CM handles. Removed handles are never found."""

from __future__ import annotations

import asyncio
import contextlib
import enum
import re
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from typing import Final
from uuid import UUID

from msgspec import Struct

from ran_datajobs.errors import StoreUnavailable
from ran_datajobs.model import JobType, Status
from ran_datajobs.store.database import POOL_WITHIN, Connection, Database, read, read_one
from ran_datajobs.store.queries import named_queries

_SQL: Final = named_queries("inventory_searches")
_FRAGMENTS: Final = ("conditions", "leaves", "state", "trust_level")


def _whole(name: str) -> str:
    """A query with its fragments, which may have fragments themselves."""
    query = _SQL[name]
    for fragment in _FRAGMENTS:
        query = query.replace(f":{fragment}", _SQL[fragment])
    return query


_SEARCH: Final = _whole("search")
_LIST: Final = _whole("list_handles")

SEARCHES: Final = 4
"""Maximum number of searches of a process at a time; others wait."""

READER_WITHIN: Final = 20.0
"""Timeout in seconds of a search whose reader takes nothing: the database ends its transaction."""

_FIRST_ROWS: Final = 200
_MAX_ROWS: Final = 10_000
_BATCH_BYTES: Final = 1 << 20

_LIKE_SPECIAL: Final = re.compile(r"([\\%_])")


class Shows(enum.StrEnum):
    """What the items of a search are: JSON texts of ONAP's shapes."""

    ID = "ID"  # the id
    ALTERNATE_ID = "ALTERNATE_ID"  # the alternate id; handles without one are left out
    DETAILS = "DETAILS"
    LIGHTWEIGHT = "LIGHTWEIGHT"  # without public properties and state
    PROPERTIES = "PROPERTIES"
    STATE = "STATE"
    MODULES = "MODULES"  # the list of those that are known


class Search(Struct, frozen=True):
    """What handles must have. ``None`` and an empty set or mapping restrict nothing.

    One of the values of ``ids``, ``alternate_keys`` (normal forms), ``module_set_tags``,
    ``data_producer_ids`` and ``trust_levels``; all values of the others. ``id_parts`` and
    ``alternate_id_parts`` are substrings. ``plugins``: addresses in normal form of plugins of the handle.
    """

    ids: frozenset[str] | None = None
    alternate_keys: frozenset[str] | None = None
    module_set_tags: frozenset[str] | None = None
    data_producer_ids: frozenset[str] | None = None
    trust_levels: frozenset[str] | None = None
    id_parts: frozenset[str] = frozenset()
    alternate_id_parts: frozenset[str] = frozenset()
    public_names: frozenset[str] = frozenset()
    public_properties: Mapping[str, str] = {}
    private_properties: Mapping[str, str] = {}
    plugins: frozenset[str] = frozenset()
    modules: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        """Without the values: private properties are secrets."""
        return f"Search({', '.join(name for name in self.__struct_fields__ if getattr(self, name))})"


def _parameters(wanted: Search) -> list[object]:
    """The parameters of the conditions, in their order."""
    any_of = (
        wanted.ids,
        wanted.alternate_keys,
        wanted.module_set_tags,
        wanted.data_producer_ids,
        wanted.trust_levels,
    )
    return [
        *(None if values is None else list(values) for values in any_of),
        *(list(map(containing, parts)) or None for parts in (wanted.id_parts, wanted.alternate_id_parts)),
        list(wanted.public_names) or None,
        wanted.public_properties or None,
        wanted.private_properties or None,
        list(wanted.plugins) or None,
        list(wanted.modules) or None,
    ]


def containing(part: str) -> str:
    """The pattern of texts that contain ``part``."""
    return "%" + _LIKE_SPECIAL.sub(r"\\\1", part) + "%"


class HandleSearches:
    """Searches of one process, of which a few run at a time: each holds a connection of the pool."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._slots = asyncio.Semaphore(SEARCHES)

    async def search(
        self, shows: Shows, wanted: Search, *, private: bool = False
    ) -> AsyncGenerator[list[bytes], None]:
        """The JSON text of each handle that has what is ``wanted``, in batches, in no order.

        ``private``: with the private properties, for DETAILS and LIGHTWEIGHT. All batches are of one moment:
        a cursor reads the rows as the batches are taken, about 1 MiB at a time. The last batch, which can be
        empty, is yielded without a connection. Raises StoreUnavailable, also while too many others run, and
        when a batch is not taken within READER_WITHIN.
        """
        async with self._slot(), self._database.transaction(idle=READER_WITHIN) as connection:
            await connection.execute(_SQL["plan_for_the_values"])
            rows = await connection.cursor(_SEARCH, shows.value, private, *_parameters(wanted))
            size = _FIRST_ROWS
            while len(batch := [row[0] for row in await rows.fetch(size)]) == size:
                yield batch
                size = max(1, min(_MAX_ROWS, size * _BATCH_BYTES // sum(map(len, batch))))
        yield batch

    @contextlib.asynccontextmanager
    async def _slot(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(POOL_WITHIN):
                await self._slots.acquire()
        except TimeoutError:
            raise StoreUnavailable(f"{SEARCHES} searches are running, the most: try again later") from None
        try:
            yield
        finally:
            self._slots.release()


async def one(database: Database, shows: Shows, wanted: Search, *, private: bool = False) -> bytes | None:
    """The JSON text of the handle that has what is ``wanted``, None if there is none. One may have it."""
    found = await database.fetch(_SEARCH, shows.value, private, *_parameters(wanted))
    return found[0][0] if found else None


async def owner_of(database: Database, keys: Sequence[str]) -> str | None:
    """The id of the handle whose normal form is the longest of ``keys``, an FDN and its ancestors."""
    found = await database.fetch(_SQL["owner_of"], keys)
    return found[0]["cm_handle"] if found else None


class CmHandleItem(Struct, frozen=True, rename="camel", omit_defaults=True):
    """A CM handle in a list: whose object it is, and the addresses of its DMI plugins.

    ``dmi_plugin``: the one for reads and writes, unless these have one of their own; empty if it has none.
    ``trust_level``: the effective level. ``private_properties``: ``None`` if they were not asked for.
    ``followed``: it is a handle of the NCMP that is followed.
    """

    cm_handle: str
    alternate_id: str | None
    data_producer_id: str
    module_set_tag: str
    dmi_plugin: str
    read_plugin: str
    write_plugin: str
    trust_level: str
    registered_trust_level: str
    public_properties: dict[str, str]
    private_properties: dict[str, str] | None = None
    followed: bool = False

    def __repr__(self) -> str:
        """Without the properties: the private ones are secrets."""
        return f"CmHandleItem({self.cm_handle!r})"


async def handles(
    connection: Connection,
    *,
    below: str | None,
    producer: str | None,
    plugin: str | None,
    tag: str | None,
    part: str | None,
    after: str | None,
    limit: int,
    private: bool = False,
    ids: Sequence[str] | None = None,
) -> list[CmHandleItem]:
    """Handles by id, behind the id ``after``. ``None`` restricts nothing.

    ``below``: the normal form of an FDN that the alternate id is or lies below. ``plugin``: its address, for
    reads or for writes; empty: only handles without one. ``part``: a substring of the alternate id or of the
    id. ``private``: with the private properties. ``ids``: only these.
    """
    pattern = None if part is None else containing(part)
    values = (below, producer, plugin, tag, pattern, after, limit, private, ids)
    async with connection.transaction(readonly=True):
        await connection.execute(_SQL["plan_for_the_values"])
        rows = await connection.fetch(_LIST, *values)
    return [CmHandleItem(**dict(row.items())) for row in rows]


class OwnerRow(Struct, frozen=True):
    """The owner of an object, and its plugins; without one the ids are None, the addresses empty."""

    cm_handle: str
    alternate_id: str
    data_producer_id: str
    read_plugin_id: int | None
    write_plugin_id: int | None
    read_plugin: str
    write_plugin: str


async def owner(connection: Connection, keys: Sequence[str]) -> OwnerRow | None:
    """The handle whose normal form is the longest of ``keys``, an FDN and its ancestors."""
    return read_one(OwnerRow, await connection.fetchrow(_SQL["owner"], keys))


class Neighbour(Struct, frozen=True):
    """A handle near an FDN."""

    cm_handle: str
    alternate_id: str
    alternate_key: str


async def neighbours(connection: Connection, key: str) -> list[Neighbour]:
    """At most three handles, one of which has the longest prefix in common with ``key``, which is none's."""
    return read(Neighbour, await connection.fetch(_SQL["neighbours"], key))


class OpenJob(Struct, frozen=True):
    """An open job."""

    job_id: UUID
    name: str | None
    type: JobType
    status: Status


async def open_jobs(
    connection: Connection, found: OwnerRow, client: str | None, limit: int
) -> tuple[list[OpenJob], int]:
    """The newest open jobs with an open sub-job for the data producer of a handle, and the number of all.

    ``client``: only its jobs; None: those of all clients.
    """
    plugins = (found.read_plugin_id, found.write_plugin_id)
    rows = await connection.fetch(_SQL["open_jobs_of_owner"], found.data_producer_id, *plugins, client, limit)
    return read(OpenJob, rows), rows[0]["open_jobs"] if rows else 0


class Child(Struct, frozen=True):
    """An RDN directly below an FDN. ``cm_handle``: the handle of this object, if it is one. ``handles``: the
    number of handles at this object and below it. ``next``: the key at which the search for the next RDN
    begins.
    """

    rdn: str
    cm_handle: str | None
    next: str
    handles: int


async def children(
    connection: Connection, key: str, first: str | None, limit: int
) -> tuple[list[Child], bool]:
    """The RDNs directly below the normal form ``key`` ("": the roots), from the key ``first`` on.

    The second value: whether there are more.
    """
    start, end = (f"{key}/", f"{key}0") if key else ("", None)
    found = read(Child, await connection.fetch(_SQL["children"], start, end, first or start, limit))
    return found[:limit], len(found) > limit
