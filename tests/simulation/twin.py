# SPDX-License-Identifier: Apache-2.0
"""The rows of dispatch in memory, and each of its transactions as one atomic call.

The in-memory twin of PostgreSQL behind :class:`~ran_datajobs.store.dispatch.DispatchStore`: the contract
tests compare the answers and rows of both. The changes by clients, plugins and the bus are here, too.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from uuid import UUID

from ran_datajobs.model import JobType, NextCall, Stage, Status
from ran_datajobs.store import jobs
from ran_datajobs.store.dispatch import (
    CANCELS_AT_ONCE,
    LARGE,
    CancelSent,
    Ended,
    JobRoom,
    LeasedJob,
    QuarantineOver,
    Started,
    Transition,
)
from ran_datajobs.store.results import Part
from ran_datajobs.store.sub_jobs import (
    CANCEL,
    FIRST_PROBE,
    JOB,
    LEASE_SECONDS,
    SUB_JOB,
    Collecting,
    Leased,
    LeasedCancel,
    LeasedSubJob,
    Postponement,
    Room,
)
from tests.simulation.rows import OPEN, CancelRow, JobRow, PartRow, PluginRow, SubJobRow
from tests.simulation.steps import Steps
from tests.simulation.tables import token_of_others


class Twin(Steps):
    """All operations on the rows."""

    # --- clients -------------------------------------------------------------------------------------

    def register(self, url: str, **settings: object) -> int:
        """Register a plugin. Returns its id."""
        plugin_id = len(self.plugins) + 1
        self.plugins[plugin_id] = PluginRow(plugin_id, url, **settings)  # type: ignore[arg-type]
        return plugin_id

    def submit(self, new: jobs.NewJob) -> None:
        """Accept a job."""
        now = self.now()
        self.jobs[new.job_id] = JobRow(
            new.job_id,
            len(self.jobs) + 1,
            new.client,
            new.type,
            new.priority,
            new.after_jobs,
            new.results_bucket,
            new.count,
            new.request,
            now,
            now,
            bool(new.after_jobs),
        )
        self.parts[new.job_id] = {}
        self.due(JOB)

    def cancel(self, job_id: UUID) -> bool:
        """Request the cancel of a job. False if it has ended, or a cancel was requested before."""
        job = self.jobs[job_id]
        if job.status not in OPEN or job.status is Status.CANCELLING:
            return False
        job.status, job.cancel_requested = Status.CANCELLING, True
        job.version += 1
        told_of_all = {
            row.plugin_id
            for row in self._of_job(job_id)
            if self.plugins[row.plugin_id].bulk_cancel
            if row.stage in (Stage.STARTING, Stage.TRACKING, Stage.COLLECTING)
        }
        for plugin_id in sorted(told_of_all):
            self.cancels[job_id, plugin_id] = CancelRow(job_id, plugin_id, self.now())
            self.due(CANCEL)
        self._cancel_rows(self._of_job(job_id), told_of_all)
        return True

    def _cancel_rows(self, rows: Iterable[SubJobRow], told_of_all: Collection[int]) -> None:
        for row in rows:
            if row.counted:
                continue
            alone = row.plugin_id not in told_of_all
            early = row.stage in (Stage.WAITING, Stage.ADMITTED, Stage.STARTING)
            row.cancel_requested = early or alone
            if row.lease is not None and (row.stage is Stage.STARTING or alone):
                row.attention = True
            if row.lease is None and (early or alone):
                row.due_at = self.now()
            if row.lease is not None and row.attention:
                self.changed(row.sub_job_id)
            if row.stage is Stage.TRACKING and alone:
                row.polls = 0
            if row.status in (Status.NOT_STARTED, Status.RUNNING):
                row.status = Status.CANCELLING
        self.due(SUB_JOB)

    # --- the DELETE of a whole job -------------------------------------------------------------------

    def claim_cancels(self, token: UUID, worker_id: UUID) -> list[LeasedCancel]:
        """See the port."""
        now = self.now()
        due = [
            row
            for row in self.cancels.values()
            if row.due_at is not None
            if (row.due_at <= now if row.lease is None else row.leased_until < now)
        ]
        found = []
        for row in sorted(due, key=lambda each: each.due_at or 0.0)[:CANCELS_AT_ONCE]:
            row.lease, row.leased_by, row.leased_until = token, worker_id, self.now() + LEASE_SECONDS
            plugin, since = self.plugins[row.plugin_id], row.failing_since
            accepted = [
                each.dialect
                for each in self._of_job(row.job_id)
                if each.plugin_id == row.plugin_id and each.data_producer_job_id is not None
            ]
            registered = plugin.found_dialect or "seed" if plugin.dialect == "auto" else plugin.dialect
            found.append(
                LeasedCancel(
                    job_id=row.job_id,
                    lease=token,
                    plugin_id=plugin.plugin_id,
                    url=plugin.url,
                    dialect=min(accepted, default=registered),
                    give_up=plugin.give_up,
                    is_read=self.jobs[row.job_id].type is JobType.READ,
                    failing_for=0.0 if since is None else self.now() - since,
                )
            )
        return found

    def renew_cancels(self, leased: Iterable[LeasedCancel]) -> None:
        """See the port."""
        for each in leased:
            row = self.cancels[each.job_id, each.plugin_id]
            if row.lease == each.lease:
                row.leased_until = self.now() + LEASE_SECONDS

    def postpone_cancel(self, leased: LeasedCancel, delay: float, *, failed: bool) -> None:
        """See the port."""
        row = self.cancels[leased.job_id, leased.plugin_id]
        if row.lease == leased.lease:
            row.due_at = self.now() + delay
            if failed and row.failing_since is None:
                row.failing_since = self.now()
            row.lease = row.leased_by = None

    def end_cancel(self, leased: LeasedCancel, *, refused: bool) -> None:
        """See the port."""
        row = self.cancels[leased.job_id, leased.plugin_id]
        if row.lease != leased.lease:
            return
        row.due_at, row.refused, row.lease, row.leased_by = None, refused, None, None
        there = [each for each in self._of_job(row.job_id) if each.plugin_id == row.plugin_id]
        if refused:
            self.jobs[row.job_id].version += 1
            self._cancel_rows(there, ())
            return
        for each in there:
            if each.stage is Stage.TRACKING and each.lease is None:
                each.due_at, each.polls = self.now(), 0
        self.due(SUB_JOB)

    # --- plugins and the bus -------------------------------------------------------------------------

    def push(self, sub_job_id: UUID, data_producer_job_id: str) -> bool:
        """A plugin pushes that a status has changed. False if the sub-job is not tracked."""
        row = self.sub_jobs[sub_job_id]
        if row.stage is not Stage.TRACKING or row.data_producer_job_id != data_producer_job_id:
            return False
        row.attention = row.lease is not None
        if row.lease is None:
            row.due_at = self.now()
        else:
            self.changed(sub_job_id)
        self.due(SUB_JOB)
        return True

    def arrive(self, sub_job_id: UUID, part: Part, outcomes: bytes, total: int | None) -> bool:
        """Keep a message of a read as ``part``. False if the read has ended, or was never sent. A repeated
        message changes no count."""
        row = self.sub_jobs[sub_job_id]
        if row.type is not JobType.READ or row.stage is Stage.SETTLED or not row.attempts:
            return False
        kept = self.parts[row.job_id]
        new = (part.sub_job, part.sequence) not in kept
        if new:
            kept[part.sub_job, part.sequence] = PartRow(part, outcomes)
        self.count_messages(sub_job_id, int(new), total)
        return True

    def count_messages(self, sub_job_id: UUID, messages: int, total: int | None) -> None:
        """Count new messages of a read. It is due at once when all have arrived."""
        row = self.sub_jobs[sub_job_id]
        known = [each for each in (total, row.result_total) if each is not None]
        row.result_total = max(known, default=None)
        row.messages += messages
        row.last_message_at, row.objects_cause, row.objects_since = self.now(), None, None
        whole = row.result_total is not None and row.messages >= row.result_total
        if row.lease is not None:
            row.attention = row.attention or whole
            if row.attention:
                self.changed(sub_job_id)
        else:
            if row.stage is Stage.COLLECTING and whole:
                row.due_at = self.now()
            if row.due_at is not None and row.due_at <= self.now():
                self.due(SUB_JOB)

    # --- the queue -----------------------------------------------------------------------------------

    def claim_sub_jobs(self, room: Room, token: UUID, worker_id: UUID, *, void: bool) -> list[LeasedSubJob]:
        """See the port."""
        now = self.now()
        expired = [
            row for row in self.sub_jobs.values() if void and row.lease is not None and row.leased_until < now
        ][: room.rows]
        cancelled: list[SubJobRow] = []
        unsent: list[SubJobRow] = []
        creates: list[tuple[SubJobRow, int]] = []
        calls: list[SubJobRow] = []
        for plugin_id in self.plugins:
            own = room.plugins.get(plugin_id, room.other)
            ready = sorted(
                (
                    row
                    for row in self.sub_jobs.values()
                    if row.plugin_id == plugin_id and row.lease is None
                    if row.due_at is not None and row.due_at <= now
                ),
                key=_turn,
            )
            by_call = {call: [row for row in ready if row.next_call is call] for call in NextCall}
            cancelled += by_call[NextCall.DELETE][: own.deletes]
            unsent += by_call[NextCall.END_UNSENT]
            creates += [(row, own.size) for row in by_call[NextCall.CREATE][: min(own.creates, room.rows)]]
            calls += by_call[NextCall.OTHER][: min(own.calls, room.rows)]
        picked = sorted([*_within(creates, room.size), *calls], key=_turn)[: room.rows - len(expired)]
        leased = [*expired, *cancelled, *unsent[: room.unsent], *picked]
        return [self._lease(row, token, worker_id) for row in leased]

    def claim_jobs(self, room: JobRoom, token: UUID, worker_id: UUID) -> list[LeasedJob]:
        """See the port."""
        now = self.now()
        in_line = sorted(
            (
                j
                for j in self.jobs.values()
                if not j.planned and not j.cancel_requested and j.step_failures < 3
            ),
            key=lambda job: job.seq,
        )
        heads: dict[tuple[str, int], JobRow] = {}
        for job in in_line:
            heads.setdefault((job.client, job.priority), job)
        ready = [
            job
            for job in self.jobs.values()
            if (job.lease is None and job.due_at is not None and job.due_at <= now)
            or (job.lease is not None and job.leased_until < now)
            if job.planned or job.cancel_requested or job.step_failures >= 3 or self._is_next(job, heads)
        ]
        free = {"small": room.small_plans, "large": room.large_plans, "finish": room.finishes}
        taken: list[LeasedJob] = []
        for job in sorted(ready, key=lambda job: (-job.priority, job.seq)):
            kind = "finish" if job.planned else "large" if len(job.body) >= LARGE else "small"
            if free[kind] > 0:
                free[kind] -= 1
                job.lease, job.leased_by = token, worker_id
                job.leased_until = self.now() + LEASE_SECONDS
                taken.append(self._leased_job(job))
        return taken

    def _is_next(self, job: JobRow, heads: Mapping[tuple[str, int], JobRow]) -> bool:
        """True for the first plan of a client, and for one of a higher priority than those before it."""
        return heads.get((job.client, job.priority)) is job and not any(
            other.client == job.client and other.priority > job.priority and other.seq < job.seq
            for other in heads.values()
        )

    def leased_under(self, token: UUID) -> tuple[list[LeasedSubJob], list[LeasedJob]]:
        """See the port."""
        tokens = (token, token_of_others(token))
        return (
            [self._leased(row, token) for row in self.sub_jobs.values() if row.lease in tokens],
            [self._leased_job(job) for job in self.jobs.values() if job.lease == token],
        )

    def renew(self, sub_jobs: Mapping[UUID, UUID], of_jobs: Mapping[UUID, UUID]) -> set[UUID]:
        """See the port."""
        kept: set[UUID] = set()
        for sub_job_id, lease in sub_jobs.items():
            row = self.sub_jobs[sub_job_id]
            if row.lease == lease:
                row.leased_until = self.now() + LEASE_SECONDS
                kept.add(sub_job_id)
        for job_id, lease in of_jobs.items():
            if self.jobs[job_id].lease == lease:
                self.jobs[job_id].leased_until = self.now() + LEASE_SECONDS
        return kept

    def give_back(
        self,
        sub_jobs: Mapping[UUID, UUID],
        unsent: Collection[UUID],
        of_jobs: Mapping[UUID, UUID],
        unanswered: Collection[UUID],
    ) -> None:
        """See the port."""
        leases, back, steps = dict(sub_jobs), set(unsent), dict(of_jobs)
        for token in unanswered:
            found, found_jobs = self.leased_under(token)
            for each in found:
                if sub_jobs.get(each.sub_job_id) == each.lease:
                    continue
                leases[each.sub_job_id] = each.lease
                if each.stage is Stage.STARTING and each.was is Stage.ADMITTED:
                    back.add(each.sub_job_id)
            steps |= {job.job_id: job.lease for job in found_jobs}
        for job_id, lease in steps.items():
            if self.jobs[job_id].lease == lease:
                self._end_step(self.jobs[job_id], self.now())
        for sub_job_id, lease in leases.items():
            row = self.sub_jobs[sub_job_id]
            if row.lease == lease:
                self._end_lease(row, self.now())
                if row.stage is Stage.STARTING and sub_job_id in back:
                    row.stage = Stage.ADMITTED
        self.due(SUB_JOB)
        self.due(JOB)

    def with_attention(self, sub_job_ids: Collection[UUID]) -> list[UUID]:
        """See the port."""
        return [each for each in sub_job_ids if self.sub_jobs[each].attention]

    # --- transitions ---------------------------------------------------------------------------------

    def write(self, transitions: Sequence[Transition]) -> list[bool | None]:
        """See the port. The kinds are written in the order of the statements."""
        done: dict[UUID, bool] = {}
        settled: list[Ended] = []
        for kind in (Started, CancelSent, Postponement, Collecting, Ended, QuarantineOver):
            for each in (t for t in transitions if isinstance(t, kind)):
                row = self.sub_jobs[each.leased.sub_job_id]
                if row.lease != each.leased.lease:
                    continue
                attention = self._written(row, each)
                if attention is None:
                    continue
                done[row.sub_job_id] = attention
                if isinstance(each, Ended):
                    settled.append(each)
        if self._count(settled):
            self.due(JOB)
        lanes = {t.leased.lane_id for t in transitions if isinstance(t, Ended | QuarantineOver)}
        if self.admit(lanes):
            self.due(SUB_JOB)
        return [done.get(each.leased.sub_job_id) for each in transitions]

    def _written(self, row: SubJobRow, each: Transition) -> bool | None:
        """Whether another process changed the row meanwhile. ``None`` if nothing was written."""
        match each:
            case Started(data_producer_job_id=producer_job, dialect=dialect):
                repeat = row.stage is Stage.TRACKING and row.data_producer_job_id == producer_job
                if row.stage is not Stage.STARTING and not repeat:
                    return None
                row.stage, row.data_producer_job_id = Stage.TRACKING, producer_job
                row.dialect = dialect or row.dialect
                row.polls, row.failing_since, row.last_error = 0, None, None
                if row.status is Status.NOT_STARTED:
                    row.status = Status.RUNNING
                call = self.cancels.get((row.job_id, row.plugin_id))
                if call is not None and not call.refused:
                    row.cancel_requested = False
                self.begun([row.job_id])
                return row.attention
            case CancelSent():
                row.cancel_requested, row.failing_since, row.last_error = False, None, None
                if row.status in (Status.NOT_STARTED, Status.RUNNING):
                    row.status = Status.CANCELLING
                return row.attention
            case Postponement():
                self._postpone(row, each)
                return False
            case Collecting():
                return self._collect(row, each)
            case Ended():
                if row.counted:
                    return None
                self._settle(row, each)
                self.record(row.job_id, each.parts)
                return False
            case QuarantineOver():
                if row.stage is not Stage.QUARANTINED:
                    return None
                row.stage = Stage.SETTLED
                self._end_lease(row, None)
                return False

    def _postpone(self, row: SubJobRow, each: Postponement) -> None:
        now = self.now()
        due_at = now if row.attention else now + each.delay
        if not row.attention:
            row.polls = each.polls
        if row.stage is not Stage.QUARANTINED:
            row.last_error = each.error or None
        if each.error == "":
            row.failing_since = None
        else:
            row.objects_cause = row.objects_since = None
            if (
                each.reported_status is not None and row.reported_status is None
            ) or row.failing_since is None:
                row.failing_since = now
        if each.unsent and row.stage is Stage.STARTING:
            row.stage = Stage.ADMITTED
        elif each.reported_status is not None and row.stage is Stage.TRACKING:
            row.stage = Stage.COLLECTING
        row.reported_status = row.reported_status if each.reported_status is None else each.reported_status
        self._end_lease(row, due_at)

    def _collect(self, row: SubJobRow, each: Collecting) -> bool | None:
        if row.stage not in (Stage.TRACKING, Stage.COLLECTING):
            return None
        now = self.now()
        if row.stage is Stage.TRACKING or row.last_message_at is None:
            row.last_message_at = now
        row.stage, row.result_topic, row.failing_since, row.last_error = (
            Stage.COLLECTING,
            each.topic,
            None,
            None,
        )
        row.reported_status = each.reported_status if row.reported_status is None else row.reported_status
        whole = row.result_total is not None and row.messages >= row.result_total
        self._end_lease(row, now if row.attention or whole else now + each.delay)
        return False

    def _settle(self, row: SubJobRow, end: Ended) -> None:
        now = self.now()
        due_at = None
        if end.quarantine > 0:
            row.stage, row.quarantined_until = Stage.QUARANTINED, now + end.quarantine
            known = row.data_producer_job_id is not None
            due_at = now + (min(end.quarantine, FIRST_PROBE) if known else end.quarantine)
        else:
            row.stage = Stage.SETTLED
        row.status, row.body, row.ended_at = end.status, None, now
        row.succeeded, row.failed, row.not_started, row.unknown = (
            end.succeeded,
            end.failed,
            end.not_started,
            end.unknown,
        )
        row.last_error, row.cancel_requested, row.failing_since = end.error or None, False, None
        row.objects_cause = row.objects_since = None
        self._end_lease(row, due_at)

    def _count(self, settled: Iterable[Ended]) -> list[UUID]:
        """Count the settled sub-jobs. Returns the jobs that have no open sub-job any more."""
        touched: dict[UUID, None] = {}
        for each in settled:
            job = self.jobs[each.leased.job_id]
            touched[job.job_id] = None
            if not job.split_reads:
                job.succeeded += each.succeeded
                job.failed += each.failed
                job.not_started += each.not_started
                job.unknown += each.unknown
            job.sub_jobs_open -= 1
            job.cancelled_sub_jobs += each.status is Status.CANCELLED
            if job.sub_jobs_open == 0:
                job.due_at = self.now()
        return [job_id for job_id in touched if self.jobs[job_id].sub_jobs_open == 0]

    def begun(self, job_ids: Iterable[UUID]) -> None:
        """See the port."""
        for job_id in job_ids:
            job = self.jobs[job_id]
            if job.status is Status.NOT_STARTED:
                job.status = Status.RUNNING
                job.started_at = self.now() if job.started_at is None else job.started_at

    def found_dialect(self, plugin_id: int, dialect: str) -> bool:
        """See the port."""
        plugin = self.plugins[plugin_id]
        if plugin.dialect != "auto" or plugin.found_dialect == dialect:
            return False
        plugin.found_dialect = dialect
        return True

    def wait_for_objects(self, leased: Leased, cause: str) -> None:
        """See the port."""
        row = self.sub_jobs[leased.sub_job_id]
        if not row.counted and row.lease == leased.lease and row.objects_cause != cause:
            row.objects_cause = cause
            row.objects_since = self.now() if row.objects_since is None else row.objects_since


def _turn(row: SubJobRow) -> tuple[float, UUID]:
    return row.due_at or 0.0, row.sub_job_id


def _within(creates: Sequence[tuple[SubJobRow, int]], size: int) -> list[SubJobRow]:
    """Those whose operations begin within the bytes of their plugin and of all."""
    before, of_plugin = 0, dict[int, int]()
    found: list[SubJobRow] = []
    for row, own in sorted(creates, key=lambda each: _turn(each[0])):
        if of_plugin.get(row.plugin_id, 0) < own and before < size:
            found.append(row)
        before += row.body_bytes
        of_plugin[row.plugin_id] = of_plugin.get(row.plugin_id, 0) + row.body_bytes
    return found
