# SPDX-License-Identifier: Apache-2.0
"""The metrics that are read from the database, and the metrics of workers on a separate port."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import aiohttp
import pytest

from ran_datajobs import config
from ran_datajobs.api.router import build_metrics
from ran_datajobs.api.tokens import Role, add
from ran_datajobs.http.server import serving
from ran_datajobs.messaging.events import time_header
from ran_datajobs.store import outbox
from ran_datajobs.store.database import Database
from ran_datajobs.store.figures import figures
from ran_datajobs.telemetry import logger
from tests.kit.worker_parts import by_hand, claim, planned_job, void_leases

NOTHING = {
    "datajobs_jobs": {"NOT_STARTED": 0.0, "RUNNING": 0.0, "CANCELLING": 0.0},
    "datajobs_lanes": {"FREE": 0.0, "OCCUPIED": 0.0, "QUARANTINED": 0.0},
    "datajobs_plugins": {"UP": 0.0, "DOWN": 0.0, "UNKNOWN": 0.0},
    "datajobs_queue_age_seconds": {"job": 0.0, "sub_job": 0.0},
    "datajobs_delivery_lag_seconds": {"topic": 0.0, "bucket": 0.0},
}
HOUR = 3600.0


async def metric_values(database: Database, metric: str) -> dict[str, float]:
    """The values of one metric now."""
    async with database.connection() as connection:
        return dict((await figures(connection))[metric])


async def test_an_empty_service_has_figures_that_are_0(database: Database) -> None:
    """Every label is exported from the start, so that an alert always has its series."""
    async with database.connection() as connection:
        assert await figures(connection) == NOTHING


@pytest.mark.damages_rows
async def test_lanes_and_jobs_are_counted_by_their_state(database: Database) -> None:
    """A write that is admitted occupies its lane, one in quarantine closes it, any other lane is free."""
    async with database.transaction() as connection:
        await planned_job(connection, "a", "b", "c")
        await planned_job(connection, "d", admitted=False)
    await by_hand(
        database,
        "update sub_job set stage = 'QUARANTINED' where lane_id = (select lane_id from lane"
        " where data_producer_id = 'a')",
    )
    assert await metric_values(database, "datajobs_lanes") == {
        "FREE": 1.0,
        "OCCUPIED": 2.0,
        "QUARANTINED": 1.0,
    }
    assert (await metric_values(database, "datajobs_jobs"))["NOT_STARTED"] == 2.0


async def test_the_age_of_the_queue_is_that_of_its_oldest_due_row(database: Database) -> None:
    """Sub-jobs and steps of jobs are measured separately. A leased row does not wait, unless its lease is
    void."""
    async with database.transaction() as connection:
        job = await planned_job(connection, "a", "b")
    for sub_job_id, hours in zip(job.sub_job_ids, (1, 2), strict=True):
        await by_hand(
            database,
            "update sub_job set due_at = now() - make_interval(hours => $2) where sub_job_id = $1",
            sub_job_id, hours,
        )  # fmt: skip
    age = await metric_values(database, "datajobs_queue_age_seconds")
    assert 2 * HOUR <= age["sub_job"] < 3 * HOUR
    assert age["job"] == 0.0
    assert len(await claim(database)) == 2
    assert (await metric_values(database, "datajobs_queue_age_seconds"))["sub_job"] == 0.0
    await void_leases(database)
    assert 1.0 <= (await metric_values(database, "datajobs_queue_age_seconds"))["sub_job"] < HOUR
    await by_hand(database, "update data_job set due_at = now() - interval '3 hours'")
    assert 3 * HOUR <= (await metric_values(database, "datajobs_queue_age_seconds"))["job"] < 4 * HOUR


async def test_a_delivery_lags_since_its_oldest_message_was_made(database: Database) -> None:
    """Topics and buckets are measured separately. A message that was parked and rejoined its shard counts
    from the first failure."""
    job_id, now = uuid4(), datetime.now(UTC)
    async with database.transaction() as connection:
        for topic, hours in (("t", 5), ("t", 1), ("s3:b", 2)):
            at = time_header(now - timedelta(hours=hours))
            await outbox.add(connection, [outbox.Outgoing(job_id, topic, headers=at, value=b"{}")])
    lag = await metric_values(database, "datajobs_delivery_lag_seconds")
    assert 5 * HOUR <= lag["topic"] < 6 * HOUR
    assert 2 * HOUR <= lag["bucket"] < 3 * HOUR
    async with database.transaction() as connection:
        job = await planned_job(connection)
        await connection.execute(
            "insert into delivery_failure"
            " (job_id, topic, shard, first_failed_at, retry_at, parked, last_error)"
            " values ($1, 't', 0, now() - interval '7 hours', now(), true, 'unavailable')",
            job.job_id,
        )
    assert 7 * HOUR <= (await metric_values(database, "datajobs_delivery_lag_seconds"))["topic"] < 8 * HOUR


async def test_the_port_of_the_workers_has_the_rules_of_the_api(tmp_path: Path, free_port: int) -> None:
    """The metrics are shown to a token of a role that reads, under a known host name. No other path is
    served."""
    figures_of_processes, tokens = tmp_path / "metrics", tmp_path / "tokens.json"
    figures_of_processes.mkdir()
    reader = add(tokens, "prometheus", Role.READ, None)
    plugin = add(tokens, "plugin", Role.PLUGIN, "http://127.0.0.1:1")
    settings = config.load({"DATAJOBS_TOKENS_FILE": str(tokens), "DATAJOBS_DATA_DIR": str(tmp_path)})
    app = build_metrics(settings, figures_of_processes, logger())
    async with serving(app, "127.0.0.1", free_port) as address, aiohttp.ClientSession() as session:

        async def status(path: str, token: str = "", host: str = "127.0.0.1") -> int:
            headers = {"Host": host} | ({"Authorization": f"Bearer {token}"} if token else {})
            async with session.get(address + path, headers=headers) as answer:
                if answer.status == 200:
                    assert answer.content_type == "text/plain"
                return answer.status

        assert await status("/metrics", reader) == 200
        assert await status("/metrics") == 401
        assert await status("/metrics", plugin) == 403
        assert await status("/metrics", reader, "somewhere.example") == 400
        assert await status("/ranoam/cm/v1/dataJob", reader) == 404
