# SPDX-License-Identifier: Apache-2.0
"""The YANG modules of CM handles, in two tables.

``module_set`` has each set of modules once: ``names``, sorted, and ``modules``
(``[{"moduleName", "revision"}]``). ``cm_handle_modules`` has a row for each module set tag of a plugin, and
one for each handle without a tag; ``module_set_id`` is null while its modules are not known. The handles
``h`` that have all of the modules ``$1``::

    select h.cm_handle
    from cm_handle h
    join cm_handle_modules m on m.plugin_id = h.plugin_id and m.module_set_tag = h.module_set_tag
         and m.cm_handle = case when h.module_set_tag = '' then h.cm_handle else '' end
    join module_set s using (module_set_id)
    where not h.removed and s.names @> $1::text[]

``dmi_plugin.modules_due_at`` is the time at which a plugin is asked: the worker that asks it has moved it to
the end of its claim.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

import asyncpg
import msgspec
from msgspec import Struct

from ran_datajobs.store.database import Connection, Database, columns, read
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("modules")

MOST_SETS: Final = 1000
"""Maximum number of different sets of modules that the handles of one plugin have."""


class Module(Struct, frozen=True, rename="camel", order=True):
    """A YANG module."""

    module_name: str
    revision: str = ""


class DuePlugin(Struct, frozen=True):
    """A plugin whose handles' modules are to be asked for. ``url``: of the plugin that is asked."""

    plugin_id: int
    url: str


class Question(Struct, frozen=True):
    """The modules of a module set tag, or of one ``cm_handle`` without a tag. ``asked``: the handle to ask
    about; ``None`` if there is none any more. ``properties``: its private properties."""

    module_set_tag: str
    cm_handle: str
    asked: str | None
    properties: dict[str, str] | None

    def __repr__(self) -> str:
        """Without the properties: they are secrets."""
        return f"Question({self.module_set_tag!r}, {self.asked!r})"


async def note_handles(database: Database) -> None:
    """Note what is to be asked for since handles were registered or changed; one worker does it at a time."""
    if not await database.fetch(_SQL["newest"]):
        return
    async with database.transaction() as connection:
        noted = await connection.fetchval(_SQL["lock_position"])
        newest = await connection.fetchrow(_SQL["newest"])
        if noted is not None and newest is not None:
            await connection.execute(_SQL["note_handles"], noted, newest["newest"])


async def forget(database: Database) -> None:
    """Remove modules that no handle has any more."""
    with contextlib.suppress(asyncpg.ForeignKeyViolationError):  # a set that is recorded again meanwhile
        async with database.transaction() as connection:
            if await connection.fetchval(_SQL["lock_position"]) is not None:
                await connection.execute(_SQL["forget"])
                await connection.execute(_SQL["forget_sets"])


async def claim(database: Database, seconds: float, limit: int) -> list[DuePlugin]:
    """Up to ``limit`` plugins that are due; no worker gets them again within ``seconds``."""
    return read(DuePlugin, await database.fetch(_SQL["claim"], seconds, limit))


async def keep_claim(database: Database, plugin_id: int, seconds: float) -> None:
    """The caller asks a plugin for ``seconds`` more."""
    await database.fetch(_SQL["keep_claim"], plugin_id, seconds)


async def pending(database: Database, plugin_id: int, limit: int) -> list[Question]:
    """Up to ``limit`` of what a plugin is to be asked for; what has failed comes last."""
    return read(Question, await database.fetch(_SQL["pending"], plugin_id, limit))


async def answered(
    connection: Connection, plugin_id: int, questions: Sequence[Question], modules: Iterable[Module]
) -> bool:
    """Record the modules that are the answer to each of these questions. False, and they stay unknown, if the
    plugin has :data:`MOST_SETS` other sets."""
    listed = sorted(modules)
    encoded = msgspec.json.encode(listed)
    digest = hashlib.sha256(encoded).digest()
    module_set_id: int | None = None
    if await connection.fetchval(_SQL["may_be_stored"], plugin_id, digest, MOST_SETS):
        names = sorted({each.module_name for each in listed})
        module_set_id = await connection.fetchval(_SQL["save_set"], digest, names, encoded.decode())
    rows = columns(questions, "module_set_tag", "cm_handle")
    await connection.execute(_SQL["answered"], plugin_id, *rows, module_set_id)
    return module_set_id is not None


async def failed(connection: Connection, plugin_id: int, question: Question) -> int:
    """Record that a call failed. Returns how many have for this question."""
    row = plugin_id, question.module_set_tag, question.cm_handle, question.asked
    return await connection.fetchval(_SQL["failed"], *row) or 0


async def not_offered(database: Database, plugin_id: int) -> None:
    """The plugin does not have the call: nothing of what is noted is asked for. Handles that are registered
    or changed later are noted again."""
    await database.fetch(_SQL["not_offered"], plugin_id)


async def release(connection: Connection, plugin_id: int, delay: float) -> None:
    """End a claim. The plugin is due again after ``delay`` seconds if something is left to ask for."""
    await connection.execute(_SQL["lock_plugin"], plugin_id)  # what is noted before or meanwhile is seen
    await connection.execute(_SQL["release"], plugin_id, delay)
