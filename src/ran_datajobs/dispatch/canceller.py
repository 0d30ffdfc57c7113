# SPDX-License-Identifier: Apache-2.0
"""Bulk cancel: one DELETE for a whole job to each plugin that offers it, for the due rows of ``bulk_cancel``.

If a plugin refuses the call, or does not answer within its retry timeout, each sub-job is cancelled by a
DELETE of its own instead. Source: the southbound contract (``bulkCancel``).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import assert_never

from ran_datajobs.checkpoints import Checkpoint, CheckpointHook, no_checkpoints
from ran_datajobs.dispatch.attempt import DispatchTimes
from ran_datajobs.dispatch.backoff import until_next_call
from ran_datajobs.dispatch.limits import DispatchLimits
from ran_datajobs.errors import DataJobsError
from ran_datajobs.plugins.circuit_breaker import CircuitBreakers
from ran_datajobs.plugins.port import CancelTaken, CannotCancel, NoAnswer, PluginProfile
from ran_datajobs.runtime import Runtime
from ran_datajobs.store.cancels import LeasedCancel
from ran_datajobs.store.dispatch import DispatchStore
from ran_datajobs.store.sub_jobs import CANCEL, SUB_JOB
from ran_datajobs.telemetry import Event, Logger


class Canceller:
    """Works on leased rows of ``bulk_cancel``. Each worker has one, and its loop calls it."""

    def __init__(
        self,
        store: DispatchStore,
        circuits: CircuitBreakers,
        limits: DispatchLimits,
        times: DispatchTimes,
        log: Logger,
        runtime: Runtime,
        reached: CheckpointHook = no_checkpoints,
    ) -> None:
        self.due: Callable[[str, float], None] = lambda _kind, _delay: None
        """Called with the kind of row that is due, and in how many seconds."""
        self._store = store
        self._circuits = circuits
        self._limits = limits
        self._times = times
        self._log = log
        self._runtime = runtime
        self._reached = reached
        self._leased: dict[asyncio.Task[None], LeasedCancel] = {}

    async def claim(self) -> None:
        """Lease due rows and start their calls. Rows leased by a claim whose answer was lost are claimed
        again when their leases are void."""
        for each in await self._store.claim_cancels(self._runtime.new_id()):
            task = asyncio.create_task(self._cancel(each))
            self._leased[task] = each
            task.add_done_callback(lambda done: self._leased.pop(done, None))

    async def renew(self) -> None:
        """Renew the leases of the rows in progress."""
        if leased := list(self._leased.values()):
            await self._store.renew_cancels(leased)

    async def stop(self) -> None:
        """Stop the calls and make their rows due at once, for another worker or the next start."""
        leased = dict(self._leased)
        for task in leased:
            task.cancel()
        await asyncio.gather(*leased, return_exceptions=True)
        for each in leased.values():
            await self._store.postpone_cancel(each, 0.0, failed=False)

    async def _cancel(self, leased: LeasedCancel) -> None:
        """Call the plugin and record its answer. A failure is logged; a later claim repeats the call."""
        try:
            await self._call(leased)
        except Exception as error:
            expected = isinstance(error, DataJobsError) and error.retry_helps
            self._log.warning(
                Event.TASK_FAILED,
                kind=CANCEL,
                subject=str(leased.job_id),
                cause=str(error),
                exc_info=not expected,
            )

    async def _call(self, leased: LeasedCancel) -> None:
        give_up = self._times.give_up if leased.give_up is None else leased.give_up
        plugin = self._circuits.with_circuit_breaker(
            PluginProfile(leased.plugin_id, leased.url, leased.dialect)
        )
        async with self._limits.delete(leased.plugin_id):
            answer = await plugin.cancel_job(str(leased.job_id), is_read=leased.is_read)
        await self._reached(Checkpoint.BULK_CANCEL_SENT)
        match answer:
            case CancelTaken():
                await self._record(self._store.end_cancel(leased, refused=False), SUB_JOB, 0.0)
            case NoAnswer(retry_after=asked) if leased.failing_for < give_up:
                delay = until_next_call(leased.failing_for, self._runtime.random(), asked)
                await self._record(self._store.postpone_cancel(leased, delay, failed=True), CANCEL, delay)
            case CannotCancel(cause=cause) | NoAnswer(cause=cause):
                self._log.warning(
                    Event.BULK_CANCEL_REFUSED, job_id=str(leased.job_id), plugin=leased.url, cause=cause
                )
                await self._record(self._store.end_cancel(leased, refused=True), SUB_JOB, 0.0)
            case _:
                assert_never(answer)

    async def _record(self, write: Awaitable[None], kind: str, delay: float) -> None:
        await write
        self.due(kind, delay)
