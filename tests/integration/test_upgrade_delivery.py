# SPDX-License-Identifier: Apache-2.0
"""Schema 8: results kept for unavailable buckets are delivered by copies, and the migration waits for its
workers."""

from __future__ import annotations

import hashlib
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from ran_datajobs.errors import UsageError
from ran_datajobs.messaging.postgres import PostgresBus
from ran_datajobs.results import delivery
from ran_datajobs.results.objects import ObjectStore, manifest_key, open_folder
from ran_datajobs.store import database as store
from ran_datajobs.store.database import Database
from tests.integration.delivery_service import BUCKET, Service
from tests.integration.test_upgrade import load_older

pytestmark = pytest.mark.without_schema

NAMED = "rapp-bucket"
JOB = """
    insert into data_job (job_id, client, type, destination, destination_kind, results_bucket, accept_type,
                          content_type, activation_mode, priority, operations, succeeded, status, ended_at,
                          planned, sub_jobs_open)
    values ($1, 'rapp', 'WRITE', $2, 'BUCKET', $3, '', '', 'BEST_EFFORT', 4, 2, $4, $5,
            case when $6 = 0 then now() end, true, $6::integer)"""
SUB_JOB = """
    insert into sub_job (sub_job_id, job_id, position, lane_id, plugin_id, type, job_seq, client, priority,
                         stage, status, operations, succeeded, attempts, ended_at)
    select $1, j.job_id, 0, l.lane_id, l.plugin_id, 'WRITE', j.seq, 'rapp', 4, 'SETTLED', 'FINISHED', 1, 1,
           1, now()
    from data_job j, lane l where j.job_id = $2 limit 1"""
PART = """
    insert into result_part (job_id, sub_job, sequence, key, bytes, sha256, operations, failed)
    values ($1, $2, $3, $4, $5, $6, 1, 0)"""
MARK = """
    insert into outbox (shard, position, job_id, topic, key, headers, bucket, delivery, ends_delivery)
    values ($1, $2, $3, 's3:' || $4::text, '', '{}', $4, 1, true)"""


async def old_job(
    connection: asyncpg.Connection[asyncpg.Record], objects: ObjectStore, *, ended: bool
) -> tuple[UUID, list[str]]:
    """A job whose first object is in its destination, written before that became unavailable, and whose
    second one is in the service's own bucket. Returns its keys."""
    job_id, sub_job = uuid4(), uuid4()
    await connection.execute(
        JOB, job_id, NAMED, BUCKET, 2, "FINISHED" if ended else "RUNNING", 0 if ended else 1
    )
    await connection.execute(SUB_JOB, sub_job, job_id)
    keys = []
    for sequence, bucket in enumerate((NAMED, BUCKET)):
        key, body = f"{job_id}/{sub_job}/{sequence}.json", b'{"responses":[]}'
        await objects.put(bucket, key, body)
        digest = hashlib.sha256(body).hexdigest()
        await connection.execute(PART, job_id, str(sub_job), sequence, key, len(body), digest)
        keys.append(key)
    if ended:
        await objects.put(BUCKET, manifest_key(str(job_id)), b"{}")
        position = await connection.fetchval(
            "update outbox_shard set head = head + 1 where shard = $1 returning head - 1", job_id.int % 8
        )
        await connection.execute(MARK, job_id.int % 8, position, job_id, NAMED)
        await connection.execute(
            "insert into delivery_trouble (job_id, topic, shard, retry_at, parked, cause)"
            " values ($1, 's3:' || $2::text, $3, now(), true, 'unavailable')",
            job_id,
            NAMED,
            job_id.int % 8,
        )
    return job_id, keys


@pytest.mark.damages_rows
async def test_jobs_whose_bucket_was_away_are_delivered(database_url: str, tmp_path: Path) -> None:
    """One job had ended, and one was open and ends now: its bucket and the service's own bucket have all
    objects."""
    await load_older(database_url, 8)
    objects = open_folder(tmp_path)
    connection = await asyncpg.connect(database_url)
    ended, ended_keys = await old_job(connection, objects, ended=True)
    opened, open_keys = await old_job(connection, objects, ended=False)
    await connection.close()
    database = await Database.open(database_url, size=4)
    await database.migrate()
    service = Service(database, objects, PostgresBus(database))
    assert await service.detail(ended) == "unavailable"
    await objects.put(BUCKET, manifest_key(str(opened)), b"{}")
    publisher = service.publisher()
    while await service.publish_shard(8, publisher) is not None:
        pass
    assert await service.state(ended) == "DELIVERED"
    async with database.transaction() as connection:
        await delivery.finish_delivery(connection, opened)
    while await service.copy(NAMED, publisher) is not None:
        pass
    assert await service.state(opened) == "DELIVERED"
    for job_id, keys in ((ended, ended_keys), (opened, open_keys)):
        for key in (*keys, manifest_key(str(job_id))):
            assert await objects.get(NAMED, key) == await objects.get(BUCKET, key)
            assert await objects.get(NAMED, key) is not None
    await database.close()


async def test_a_living_worker_of_schema_8_is_waited_for(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its sessions identify it: it is named, and nothing is changed. Without it the migration continues."""
    monkeypatch.setattr(store, "OLD_WORKERS_LEAVE_WITHIN", 0.2)
    await load_older(database_url, 8)
    database = await Database.open(database_url, size=2)
    worker_id = uuid4()
    session = await asyncpg.connect(
        database_url, server_settings={"application_name": f"ran-datajobs {worker_id}"}
    )
    await session.execute("select 1")
    reported: list[str] = []
    with pytest.raises(UsageError, match=str(worker_id)):
        await database.migrate(reported.append)
    assert len(reported) == 1
    assert await session.fetchval("select max(number) from schema_version") == 8
    await session.close()
    await database.migrate()
    await database.close()
