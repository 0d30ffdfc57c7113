# SPDX-License-Identifier: Apache-2.0
"""Which bucket has a job's results: its destination, or the service's own while that cannot be written."""

from __future__ import annotations

from uuid import UUID

from msgspec import Struct

from ran_datajobs.store.database import Connection
from ran_datajobs.store.queries import named_queries

_SQL = named_queries("buckets")


class Buckets(Struct, frozen=True):
    """``results``: where a job's objects are; ``destination``: the bucket that it named, if it named one."""

    results: str
    destination: str | None


async def of_job(connection: Connection, job_id: UUID) -> Buckets | None:
    """The buckets of a job; ``None`` when there is no such job."""
    row = await connection.fetchrow(_SQL["buckets_of_job"], job_id)
    return None if row is None else Buckets(row["results_bucket"], row["destination"])


async def shelter(connection: Connection, job_id: UUID, own_bucket: str) -> bool:
    """From now on the results of an open job go to the service's own bucket; False when they do already."""
    return await connection.fetchval(_SQL["shelter"], job_id, own_bucket) is not None


async def bring_home(connection: Connection, job_id: UUID) -> None:
    """The destination has all results of a job: that is where they are from now on."""
    await connection.execute(_SQL["bring_home"], job_id)


async def named_by(connection: Connection, client: str, limit: int) -> list[str]:
    """The buckets that jobs of ``client`` named as their destination, at most ``limit`` of them."""
    return [row["destination"] for row in await connection.fetch(_SQL["named_by"], client, limit)]
