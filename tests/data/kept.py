# SPDX-License-Identifier: Apache-2.0
"""Loads the databases that services of older schemas have left (see :mod:`tests.data.keep`)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple

import aiohttp
import asyncpg

from ran_datajobs.plugins import wire
from tests.data.stages import PRODUCERS, NotingPlugin, TakenCreate
from tests.kit.plugins.scripted import ScriptedPlugin

DATA = Path(__file__).parent
KEPT = {int(path.stem.split("-")[1]): path for path in DATA.glob("schema-?.sql")}
"""Three jobs by schema: tracked, waiting, and not planned."""

STAGES = {int(path.stem.split("-")[1]): path for path in DATA.glob("schema-*-stages.sql")}
"""Jobs in every stage, by schema."""

_AS_IF_KEPT_NOW = """
do $$
declare
    passed constant interval := clock_timestamp() - (select at from kept_at);
    place record;
begin
    for place in
        select table_name, string_agg(format('%1$I = %1$I + $1', column_name), ', ') as moves
        from information_schema.columns
        where table_schema = 'public' and data_type = 'timestamp with time zone'
        group by table_name
    loop
        execute format('update %I set %s', place.table_name, place.moves) using passed;
    end loop;
end
$$;
"""


class Stages(NamedTuple):
    """The data kept in addition to a database with jobs in every stage."""

    objects: dict[str, bytes]
    taken: list[TakenCreate]

    def write_objects(self, data_dir: Path) -> None:
        """Put the result objects into the folder that a service with this data dir uses."""
        for name, content in self.objects.items():
            path = data_dir / "objects" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)


async def load_stages(database_url: str, schema: int) -> Stages:
    """Fill the database with the kept one of ``schema``, as if it had been kept at this moment."""
    connection = await asyncpg.connect(database_url)
    try:
        await connection.execute(STAGES[schema].read_text(encoding="utf-8"))
        await connection.execute("set search_path to public")
        await connection.execute(_AS_IF_KEPT_NOW)
        objects = await connection.fetch("select path, content from kept_object")
        taken = await connection.fetch("select plugin, key, path, body from kept_create order by place")
        await connection.execute("drop table kept_at, kept_object, kept_create")
    finally:
        await connection.close()
    return Stages({row["path"]: row["content"] for row in objects}, [TakenCreate(*row) for row in taken])


@asynccontextmanager
async def plugins_again(database_url: str, stages: Stages) -> AsyncIterator[Mapping[str, NotingPlugin]]:
    """The plugins at new addresses during the block: they have their earlier jobs, under their ids, and
    answer well from now on."""
    async with AsyncExitStack() as stack:
        plugins: dict[str, NotingPlugin] = {}
        addresses: dict[str, str] = {}
        for name in PRODUCERS:
            plugins[name] = NotingPlugin(name)
            addresses[name] = await stack.enter_async_context(plugins[name].serving())
        async with aiohttp.ClientSession() as session:
            for taken in stages.taken:
                url = addresses[taken.plugin] + taken.path
                headers = {wire.IDEMPOTENCY_KEY: taken.key, "Content-Type": wire.JSON}
                async with session.post(url, data=taken.body, headers=headers) as answer:
                    assert answer.status == 201, await answer.text()
        connection = await asyncpg.connect(database_url)
        try:
            for name, address in addresses.items():
                await connection.execute(
                    """update dmi_plugin set url = $2 where plugin_id in (
                           select plugin_id from lane where data_producer_id = any ($1::text[]))""",
                    list(PRODUCERS[name]),
                    address,
                )
        finally:
            await connection.close()
        yield plugins


def executed(plugins: Mapping[str, ScriptedPlugin]) -> Iterator[tuple[str, str]]:
    """(job id, operation id) of every execution by the plugins, repeated for each execution."""
    for plugin in plugins.values():
        for job in plugin.history:
            for operation in job.operations:
                yield job.request_id, operation.id_text
