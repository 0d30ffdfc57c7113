# SPDX-License-Identifier: Apache-2.0
"""The DELETE of a whole job at one plugin that supports it: a row that is due and leased like a sub-job."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final
from uuid import UUID

from msgspec import Struct

from ran_datajobs.store import planning, sub_jobs
from ran_datajobs.store.database import Connection
from ran_datajobs.store.queries import named_queries
from ran_datajobs.store.sub_jobs import LEASE_SECONDS

_SQL = named_queries("cancels")

AT_ONCE: Final = 64
"""Maximum number of rows that one claim leases."""


class LeasedCancel(Struct, frozen=True):
    """A cancelled job whose DELETE is to be sent to a plugin. Durations are seconds by the database's clock;
    ``give_up`` is ``None`` if the plugin registered none."""

    job_id: UUID
    lease: UUID
    plugin_id: int
    url: str
    dialect: str
    give_up: float | None
    is_read: bool
    failing_for: float


async def claim(connection: Connection, token: UUID, worker_id: UUID) -> list[LeasedCancel]:
    """Lease the due rows under ``token``, at most :data:`AT_ONCE`."""
    rows = await connection.fetch(_SQL["claim_bulk_cancels"], token, worker_id, LEASE_SECONDS, AT_ONCE)
    return [LeasedCancel(**dict(row.items())) for row in rows]


async def renew(connection: Connection, leased: Sequence[LeasedCancel]) -> None:
    """Renew the leases. Rows that another transaction has locked are skipped."""
    await connection.execute(
        _SQL["renew_bulk_cancels"],
        [each.job_id for each in leased],
        [each.plugin_id for each in leased],
        [each.lease for each in leased],
        LEASE_SECONDS,
    )


async def postpone(connection: Connection, leased: LeasedCancel, delay: float, *, failed: bool) -> None:
    """End the lease; it is due again after ``delay`` seconds. ``failed``: the plugin gave no answer."""
    await connection.execute(
        _SQL["postpone_bulk_cancel"], leased.job_id, leased.plugin_id, leased.lease, delay, failed
    )


async def end(connection: Connection, leased: LeasedCancel, *, refused: bool) -> None:
    """Record the plugin's answer. Changes nothing when the row no longer has this lease.

    ``refused``: the open sub-jobs of the job at this plugin become due for a DELETE each. Otherwise they
    become due for a poll: the plugin ends them.
    """
    await planning.lock_job(connection, leased.job_id)  # a create's answer is recorded before this or after
    if not await connection.fetchval(
        _SQL["end_bulk_cancel"], leased.job_id, leased.plugin_id, leased.lease, refused
    ):
        return
    if refused:
        await sub_jobs.cancel_at(connection, leased.job_id, leased.plugin_id)
    else:
        await sub_jobs.poll_job_now(connection, leased.job_id, leased.plugin_id)
