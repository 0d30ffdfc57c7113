# SPDX-License-Identifier: Apache-2.0
"""Trigger that records every status transition in the store, for comparison with the allowed transitions."""

from __future__ import annotations

from ran_datajobs.model import ALLOWED, Status
from ran_datajobs.store.database import Database

_RECORD = """
create table arrow (kind text, id uuid, was text, became text, at bigint generated always as identity);
create function record_arrow() returns trigger language plpgsql as $$
begin
    insert into arrow (kind, id, was, became)
    values (tg_table_name, coalesce(to_jsonb(new)->>'sub_job_id', to_jsonb(new)->>'job_id')::uuid,
            old.status, new.status);
    return null;
end
$$;
create trigger record_job_arrow after update of status on data_job
    for each row when (old.status <> new.status) execute function record_arrow();
create trigger record_sub_job_arrow after update of status on sub_job
    for each row when (old.status <> new.status) execute function record_arrow();
"""


async def record_arrows(database: Database) -> None:
    """Record every change of a job's or a sub-job's status from this call on."""
    async with database.transaction() as connection:
        await connection.execute(_RECORD)


async def arrows(database: Database, kind: str, id_: str) -> list[tuple[Status, Status]]:
    """Recorded transitions of one job (``data_job``) or sub-job (``sub_job``), in order."""
    async with database.connection() as connection:
        rows = await connection.fetch(
            "select was, became from arrow where kind = $1 and id = $2 order by at", kind, id_
        )
    return [(Status(row["was"]), Status(row["became"])) for row in rows]


async def forbidden_arrows(database: Database) -> list[tuple[str, Status, Status]]:
    """Recorded transitions that are not allowed. Fails if nothing was recorded."""
    async with database.connection() as connection:
        rows = await connection.fetch("select distinct kind, was, became from arrow")
    assert rows, "nothing was recorded"
    taken = [(row["kind"], Status(row["was"]), Status(row["became"])) for row in rows]
    return [arrow for arrow in taken if arrow[2] not in ALLOWED[arrow[1]]]
