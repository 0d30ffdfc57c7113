# SPDX-License-Identifier: Apache-2.0
"""The tables of the twin with what every part of it uses: the clock, leases, and admission."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable
from uuid import UUID, uuid5

from ran_datajobs.config import Settings
from ran_datajobs.model import JobType, Stage
from ran_datajobs.store.dispatch import LeasedJob
from ran_datajobs.store.sub_jobs import LEASE_SECONDS, LeasedSubJob
from tests.simulation.rows import CancelRow, JobRow, LaneRow, PartRow, PluginRow, SubJobRow

SMALL_BODY = 8192
"""Maximum bytes for which a claim returns the operations of sub-jobs that end unsent."""

_TICK = 1e-6


class Tables:
    """The rows. ``listeners``: a pair of callbacks for each worker, one for each kind of notification."""

    def __init__(self, clock: Callable[[], float], settings: Settings) -> None:
        self._clock = clock
        self._settings = settings
        self._ticks = 0
        self.plugins: dict[int, PluginRow] = {}
        self.lanes: dict[int, LaneRow] = {}
        self.jobs: dict[UUID, JobRow] = {}
        self.cancels: dict[tuple[UUID, int], CancelRow] = {}
        self.sub_jobs: dict[UUID, SubJobRow] = {}
        self.parts: dict[UUID, dict[tuple[str, int], PartRow]] = {}
        self.listeners: list[tuple[Callable[[str], None], Callable[[UUID], None]]] = []

    def due(self, kind: str) -> None:
        """Notify every worker that something of this kind became due."""
        for due, _ in tuple(self.listeners):
            due(kind)

    def changed(self, sub_job_id: UUID) -> None:
        """Notify every worker that another process changed a leased sub-job."""
        for _, changed in tuple(self.listeners):
            changed(sub_job_id)

    def now(self) -> float:
        """The clock. Each reading is a microsecond later than the one before."""
        self._ticks += 1
        return self._clock() + self._ticks * _TICK

    def admit(self, lanes: Collection[int]) -> list[UUID]:
        """Admit waiting sub-jobs of these lanes into their free slots."""
        chosen: list[SubJobRow] = []
        now = self.now()
        for lane_id in sorted(lanes):
            here = self._of_lane(lane_id)
            lane = self.lanes[lane_id]
            waiting = [
                r for r in here if r.stage is Stage.WAITING and not r.blocked and not r.cancel_requested
            ]
            writes = [row for row in waiting if row.type is JobType.WRITE]
            if writes and not any(row.type is JobType.WRITE and row.active for row in here):
                chosen.append(
                    min(
                        writes,
                        key=lambda r: (
                            r.attempts == 0,
                            -self._priority(r, now),
                            lane.served.get(r.client, -math.inf),
                            r.job_seq,
                        ),
                    )
                )
            slots = self.plugins[lane.plugin_id].read_slots or self._settings.read_slots
            free = slots - sum(row.type is JobType.READ and row.active for row in here)
            chosen += self._reads_in_turn(waiting, lane, now)[: max(0, free)]
        for row in chosen:
            row.stage, row.due_at = Stage.ADMITTED, self.now()
            self.lanes[row.lane_id].served[row.client] = self.now()
        return [row.sub_job_id for row in chosen]

    def _reads_in_turn(self, waiting: Iterable[SubJobRow], lane: LaneRow, now: float) -> list[SubJobRow]:
        turns: dict[tuple[str, float], int] = {}
        keyed = []
        for row in sorted((r for r in waiting if r.type is JobType.READ), key=lambda r: r.job_seq):
            priority = self._priority(row, now)
            nth = turns[row.client, priority] = turns.get((row.client, priority), 0) + 1
            served = lane.served.get(row.client, -math.inf)
            keyed.append(((row.attempts == 0, -priority, nth, served, row.job_seq), row))
        return [row for _, row in sorted(keyed, key=lambda each: each[0])]

    def _priority(self, row: SubJobRow, now: float) -> float:
        return min(9, row.priority + math.floor((now - row.created_at) / self._settings.priority_aging))

    # --- leases ---------------------------------------------------------------------------------------

    def _lease(self, row: SubJobRow, token: UUID, worker_id: UUID) -> LeasedSubJob:
        was, starts = row.stage, row.stage is Stage.ADMITTED and not row.cancel_requested
        row.lease = token if was is Stage.ADMITTED else token_of_others(token)
        row.leased_by, row.leased_until, row.attention = worker_id, self.now() + LEASE_SECONDS, False
        repeatable = row.type is JobType.READ or self.plugins[row.plugin_id].idempotent
        if starts or (was is Stage.STARTING and repeatable):
            row.attempts += 1
        if starts:
            row.stage = Stage.STARTING
            row.started_at = self.now() if row.started_at is None else row.started_at
        return self._leased(row, token)

    def _leased(self, row: SubJobRow, token: UUID) -> LeasedSubJob:
        now, job = self.now(), self.jobs[row.job_id]
        lane, plugin = self.lanes[row.lane_id], self.plugins[row.plugin_id]

        small = row.stage in (Stage.WAITING, Stage.ADMITTED) and row.body_bytes <= SMALL_BODY

        def since(at: float | None) -> float | None:
            return None if at is None else now - at

        return LeasedSubJob(
            sub_job_id=row.sub_job_id,
            job_id=row.job_id,
            lane_id=row.lane_id,
            lease=_known(row.lease),
            type=row.type,
            stage=row.stage,
            was=Stage.ADMITTED if row.lease == token else row.stage,
            next_call=row.next_call,
            operations=row.operations,
            data_producer_job_id=row.data_producer_job_id,
            cancel_requested=row.cancel_requested,
            attempts=row.attempts,
            polls=row.polls,
            result_topic=row.result_topic,
            result_total=row.result_total,
            reported_status=row.reported_status,
            failing_for=since(row.failing_since),
            no_objects_for=since(row.objects_since),
            running_for=since(row.started_at),
            idle_for=since(row.last_message_at),
            ended_for=since(row.ended_at),
            quarantined_for=None if row.quarantined_until is None else row.quarantined_until - now,
            body_bytes=row.body_bytes,
            body=row.body if row.stage is Stage.STARTING or small else None,
            job_status=job.status,
            job_cancel_requested=job.cancel_requested,
            accept_type="application/vnd.3gpp.object-tree-hierarchical+json",
            content_type="application/3gpp-json-patch+json",
            activation_mode="BEST_EFFORT",
            destination=None,
            results_bucket=job.bucket,
            data_producer_id=lane.data_producer_id,
            plugin_id=plugin.plugin_id,
            url=plugin.url,
            dialect=row.dialect,
            plugin_dialect=plugin.dialect,
            found_dialect=plugin.found_dialect,
            idempotent=plugin.idempotent,
            give_up=plugin.give_up,
            sub_job_timeout=plugin.sub_job_timeout,
        )

    def _leased_job(self, job: JobRow) -> LeasedJob:
        return LeasedJob(
            job.job_id,
            _known(job.lease),
            job.planned,
            job.step_failures,
            job.bucket,
            None if job.planned else job.body,
            job.type,
            cancel_requested=job.cancel_requested,
        )

    def _end_lease(self, row: SubJobRow, due_at: float | None) -> None:
        row.lease, row.leased_by, row.attention, row.due_at = None, None, False, due_at

    def _end_step(self, job: JobRow, due_at: float | None) -> None:
        job.lease, job.leased_by, job.due_at = None, None, due_at

    # --- related rows --------------------------------------------------------------------------------

    def _of_job(self, job_id: UUID) -> list[SubJobRow]:
        return [row for row in self.sub_jobs.values() if row.job_id == job_id]

    def _of_lane(self, lane_id: int) -> list[SubJobRow]:
        return [row for row in self.sub_jobs.values() if row.lane_id == lane_id]


def token_of_others(token: UUID) -> UUID:
    return uuid5(token, "not ADMITTED")


def _known(lease: UUID | None) -> UUID:
    assert lease is not None
    return lease
