# SPDX-License-Identifier: Apache-2.0
"""Log events and metrics of dispatch, one method per event.

A dead plugin with thousands of sub-jobs causes the same event for each of them. Events that may be that
frequent go through a :class:`~ran_datajobs.telemetry.Digest`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from typing import Final

from ran_datajobs.model import OperationCounts, OperationState, Reason, Response, Status
from ran_datajobs.plugins.circuit_breaker import CircuitBreaker
from ran_datajobs.plugins.port import PluginProfile
from ran_datajobs.store.dispatch import LeasedJob
from ran_datajobs.store.sub_jobs import Ended, LeasedCancel, LeasedSubJob
from ran_datajobs.telemetry import Digest, Logger, Metrics

OF_PLUGIN: Final = "PLUGIN"
"""Label of all reasons that plugins define themselves: their number is unbounded."""


def reasons_of(responses: Iterable[Response]) -> Counter[str]:
    """Count the operations that did not succeed, by reason."""
    return Counter(_label(each.reason) for each in responses if each.state is not OperationState.SUCCEEDED)


def _label(reason: str) -> str:
    return reason if reason in Reason.__members__ else OF_PLUGIN


class DispatchNews:
    """Logs and counts events after they are durable."""

    def __init__(self, log: Logger, digest: Digest | None = None, metrics: Metrics | None = None) -> None:
        self.log = log
        self.digest = digest or Digest(log)
        self.metrics = metrics or Metrics()
        self._silent_since: dict[int, float] = {}
        self._shut_since: dict[int, float] = {}

    def planned(self, job: LeasedJob, sub_jobs: int, refused: Counter[str], seconds: float) -> None:
        """Report that a job was split; ``refused``: the number of operations in no sub-job, by reason."""
        self.metrics.plan_seconds.observe(seconds)
        not_started = refused[Reason.NOT_STARTED]
        for state, count in (
            (OperationState.FAILED, refused.total() - not_started),
            (OperationState.NOT_STARTED, not_started),
        ):
            if count:
                self.metrics.operations_ended.labels(state.value).inc(count)
        known = Reason.__members__
        self._count_reasons(
            (reason if reason in known else Reason.VALIDATION_FAILED, count)
            for reason, count in refused.items()
        )
        self.log.info(
            "job.planned",
            job_id=str(job.job_id),
            sub_jobs=sub_jobs,
            unmatched=refused[Reason.UNMATCHED],
            seconds=round(seconds, 3),
        )

    def ended(
        self, job: LeasedJob, status: Status, reason: str | None, counts: OperationCounts, seconds: float
    ) -> None:
        """Report that a job is terminal, ``seconds`` after it was accepted."""
        self.metrics.jobs_ended.labels(status.value).inc()
        self.log.info(
            "job.ended",
            job_id=str(job.job_id),
            status=status.value,
            reason=reason,
            seconds=round(seconds, 3),
            succeeded=counts.succeeded,
            failed=counts.failed,
            unmatched=counts.unmatched,
            not_started=counts.not_started,
            unknown=counts.unknown,
        )

    def sub_job_ended(self, sub_job: LeasedSubJob, reasons: Counter[str], settled: Ended) -> None:
        """Report that a sub-job is settled, and the quarantine of its lane, if any.

        ``reasons``: the reasons of the operations that did not succeed."""
        for state in OperationState:
            if count := getattr(settled, state.value.lower()):
                self.metrics.operations_ended.labels(state.value).inc(count)
        if failed := settled.failed + settled.not_started + settled.unknown:
            if without_reason := failed - reasons.total():  # a read whose messages carry states alone
                reasons[OF_PLUGIN] += max(0, without_reason)
            self._count_reasons(reasons.items())
            self.digest.warning(
                "operations.failed",
                {"job_id": str(sub_job.job_id)},
                sub_jobs=1,
                reasons=reasons,
                cause=settled.error,
            )
        if settled.quarantine:
            self.digest.warning(
                "lane.quarantined",
                {"plugin": sub_job.url},
                lanes=1,
                lane_id=str(sub_job.lane_id),
                seconds=settled.quarantine,
                cause=settled.error,
            )

    def lane_reopened(self, sub_job: LeasedSubJob) -> None:
        """Report that a quarantine has ended: the lane starts writes again."""
        self.digest.info("lane.reopened", {"plugin": sub_job.url}, lanes=1, lane_id=str(sub_job.lane_id))

    def dialect_found(self, sub_job: LeasedSubJob, dialect: str) -> None:
        """Report that the dialect of a plugin was found out."""
        self.log.info("plugin.dialect_found", plugin=sub_job.url, dialect=dialect)

    def bulk_cancel_refused(self, leased: LeasedCancel, cause: str) -> None:
        """Report that a plugin did not take the DELETE of a whole job."""
        self.log.warning("bulk_cancel.refused", job_id=str(leased.job_id), plugin=leased.url, cause=cause)

    def lease_lost(self, kind: str) -> None:
        """Report that another worker has claimed a row that this one worked on."""
        self.metrics.leases_lost.labels(kind).inc()
        self.digest.warning("worker.leases_lost", {"kind": kind}, leases=1)

    def circuit_changed(
        self, plugin: PluginProfile, before: CircuitBreaker, after: CircuitBreaker, now: float
    ) -> None:
        """Report what a call of ``plugin`` changed in its circuit; ``now`` in seconds on any clock."""
        if not before.silent and after.silent:
            self._silent_since[plugin.plugin_id] = now
            self.digest.warning("plugin.silent", {"plugin": plugin.url}, cause=after.cause)
        elif before.silent and not after.silent:
            since = self._silent_since.pop(plugin.plugin_id, now)
            self.digest.info("plugin.answers", {"plugin": plugin.url}, seconds=round(now - since, 3))
        if before.open_until is None and after.open_until is not None:
            self._shut_since[plugin.plugin_id] = now
            self.metrics.circuits_open.inc()
            self.digest.warning(
                "circuit.opened", {"plugin": plugin.url}, calls=after.silent, cause=after.cause
            )
        elif before.open_until is not None and after.open_until is None:
            since = self._shut_since.pop(plugin.plugin_id, now)
            self.metrics.circuits_open.dec()
            self.digest.info("circuit.closed", {"plugin": plugin.url}, seconds=round(now - since, 3))

    def _count_reasons(self, reasons: Iterable[tuple[str, int]]) -> None:
        for reason, count in reasons:
            self.metrics.operations_failed.labels(reason).inc(count)
