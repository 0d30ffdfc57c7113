# SPDX-License-Identifier: Apache-2.0
"""A process that locks a job's row as the API does, and then stops itself (SIGSTOP): ``URL JOB_ID``."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from uuid import UUID

from ran_datajobs.store import jobs
from ran_datajobs.store.database import Database


async def _hold(url: str, job_id: UUID) -> None:
    database = await Database.open(url)
    async with database.transaction() as connection:
        assert await jobs.lock(connection, job_id, None) is not None
        os.kill(os.getpid(), signal.SIGSTOP)


if __name__ == "__main__":
    asyncio.run(_hold(sys.argv[1], UUID(sys.argv[2])))
