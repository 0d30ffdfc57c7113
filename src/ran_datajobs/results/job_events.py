# SPDX-License-Identifier: Apache-2.0
"""Writes the bus messages about a job in the transaction that changes the job."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from uuid import UUID

import msgspec

from ran_datajobs.results import delivery
from ran_datajobs.results.job_view import JobView
from ran_datajobs.store import jobs, outbox
from ran_datajobs.store.database import Connection


class JobEventWriter:
    """Writes outbox rows for status changes and for results. The commit notifies the publishers."""

    def __init__(self, view: JobView) -> None:
        self._view = view

    async def jobs_changed(self, connection: Connection, job_ids: Sequence[UUID]) -> None:
        """Queue a status event for each of these jobs, with the status that it has now."""
        messages = []
        for job_id in sorted(job_ids):
            row = await jobs.find(connection, job_id, None)
            if row is not None:
                (answer,) = await self._view.jobs(connection, [row], row.client)
                body = msgspec.json.encode(answer)
                messages.append(
                    delivery.status_message(job_id, row.destination, row.version, body, datetime.now(UTC))
                )
        if messages:
            await outbox.add(connection, messages)

    async def sub_jobs_settled(
        self, connection: Connection, job_ids: Sequence[UUID], sub_jobs: Sequence[UUID]
    ) -> None:
        """Queue the results of settled sub-jobs for their destinations."""
        await delivery.send_sub_jobs(connection, job_ids, sub_jobs, datetime.now(UTC))

    async def job_ended(self, connection: Connection, job_id: UUID) -> None:
        """Queue the end marker of the delivery, after all earlier parts, and the event of the terminal
        status."""
        await delivery.finish_delivery(connection, job_id, datetime.now(UTC))
        await self.jobs_changed(connection, [job_id])
