# SPDX-License-Identifier: Apache-2.0
"""Explains in words what jobs and sub-jobs wait for. Every wait has a code; every fact comes from the rows.

A sub-job waits for the first of these that applies: its objects; the jobs that its job names in ``after``; a
slot in its lane; its plugin; the limits of the workers. An open job waits for what its first open sub-job
waits for, but only while none of its sub-jobs makes progress. An ended job waits for its delivery.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Final
from uuid import UUID

from msgspec import UNSET, Struct, UnsetType

from ran_datajobs.config import Settings
from ran_datajobs.model import DeliveryState, JobType, Stage, WaitCode
from ran_datajobs.store import waits
from ran_datajobs.store.database import Connection
from ran_datajobs.store.jobs import JobRow
from ran_datajobs.store.sub_jobs import BODY_BYTES, CREATES_PER_PLUGIN
from ran_datajobs.store.waits import AfterFacts, CreateFacts, DeliveryFacts, SubJobFacts

REFUSED_DELIVERY: Final = 30.0
"""Timeout in seconds of a delivery that a retry cannot cure."""

_NAMED: Final = 3
"""Maximum number of jobs that one text names."""


class WaitingFor(Struct, frozen=True, omit_defaults=True):
    """What a job or sub-job waits for, why, since when, and until when at the latest where that is known
    (RFC 3339, UTC)."""

    code: WaitCode
    detail: str
    since: datetime
    until: datetime | UnsetType = UNSET


async def of_jobs(
    connection: Connection, rows: Collection[JobRow], sees: str | None, settings: Settings
) -> dict[UUID, WaitingFor]:
    """What each of these jobs waits for, without jobs that wait for nothing. Texts name only jobs of the
    client ``sees``; ``None``: of any client."""
    found: dict[UUID, WaitingFor] = {}
    ended = [r.job_id for r in rows if r.status.terminal and r.delivery_state is DeliveryState.PENDING]
    if ended:
        for each in await waits.deliveries(
            connection, ended, settings.delivery_retry_timeout, REFUSED_DELIVERY
        ):
            found[each.job_id] = _of_delivery(each)
    unfinished = [r for r in rows if not r.status.terminal]
    for row in unfinished:
        if row.objects_cause is not None and row.objects_since is not None:
            found[row.job_id] = WaitingFor(WaitCode.OBJECTS, row.objects_cause, row.objects_since)
    unplanned = [r.job_id for r in unfinished if r.blocked and not r.planned and r.cancelled_at is None]
    if unplanned:
        for job_id, after in (await waits.after_jobs(connection, unplanned, sees)).items():
            if job_id not in found and (wait := _of_after(after)):
                found[job_id] = wait
    busy = [r.job_id for r in unfinished if r.sub_jobs_open and r.job_id not in found]
    standing = await waits.standing_jobs(connection, busy) if busy else {}
    of_first = await of_sub_jobs(connection, standing.values(), sees, settings)
    return found | {job_id: of_first[first] for job_id, first in standing.items() if first in of_first}


async def of_sub_jobs(
    connection: Connection, sub_job_ids: Collection[UUID], sees: str | None, settings: Settings
) -> dict[UUID, WaitingFor]:
    """What each of these sub-jobs waits for, without sub-jobs that wait for nothing."""
    if not sub_job_ids:
        return {}
    facts = await waits.sub_jobs(
        connection, sub_job_ids, sees, settings.dmi_retry_timeout, settings.sub_job_timeout
    )
    waiting = {each.job_id for each in facts if each.stage is Stage.WAITING}
    after = await waits.after_jobs(connection, waiting, sees) if waiting else {}
    unclaimed = {each.plugin_id for each in facts if each.unclaimed}
    creates = await waits.creates(connection, unclaimed) if unclaimed else {}
    found = {
        each.sub_job_id: _of(each, after.get(each.job_id), creates.get(each.plugin_id)) for each in facts
    }
    return {sub_job_id: wait for sub_job_id, wait in found.items() if wait is not None}


def _of(facts: SubJobFacts, after: AfterFacts | None, creates: CreateFacts | None) -> WaitingFor | None:
    if facts.objects_cause is not None and facts.objects_since is not None:
        return WaitingFor(WaitCode.OBJECTS, facts.objects_cause, facts.objects_since)
    if facts.blocked:
        return None if after is None else _of_after(after)
    if facts.holder is not None:
        return _of_lane(facts, after)
    if facts.failing_since is not None:
        return _of_plugin(facts, facts.failing_since)
    if facts.plugin_down_since is not None:
        detail = f"DMI plugin {facts.url} is down ({facts.health_cause}); it is called nevertheless"
        return WaitingFor(WaitCode.PLUGIN_UNAVAILABLE, detail, facts.plugin_down_since)
    if facts.unclaimed and facts.due_at is not None and creates is not None:
        return _of_limit(facts, facts.due_at, creates)
    return None


def _of_after(after: AfterFacts) -> WaitingFor | None:
    if not after.visible and not after.hidden:
        return None
    return WaitingFor(WaitCode.AFTER, f"the end of {_jobs(after.visible, after.hidden)}", after.created_at)


def _jobs(named: Sequence[UUID], hidden: int) -> str:
    more = max(0, len(named) - _NAMED) + hidden
    words = [f"job {each}" for each in named[:_NAMED]]
    if more:
        jobs = _plural("job", more)
        words.append(f"{more} more {jobs}" if words else f"{more} {jobs} of other clients")
    return " and ".join(filter(None, (", ".join(words[:-1]), words[-1])))


def _plural(noun: str, count: int) -> str:
    return noun if count == 1 else noun + "s"


def _of_lane(facts: SubJobFacts, after: AfterFacts | None) -> WaitingFor:
    """Wait for a slot in the lane, since it was planned or since the last job in ``after`` ended."""
    since = max(filter(None, (facts.created_at, after.ended_at if after else None)))
    lane = f"data producer {facts.data_producer_id!r} of DMI plugin {facts.url}"
    holder = f"sub-job {facts.holder} of job {facts.holder_job}" if facts.holder_visible else ""
    if facts.holder_stage is Stage.QUARANTINED:
        what = holder or "a write of another client"
        detail = f"{lane} may still execute {what}, whose outcome is unknown: it starts no other write before"
        since = max(filter(None, (since, facts.holder_ended_at)))
        return WaitingFor(WaitCode.QUARANTINE, detail, since, facts.quarantined_until or UNSET)
    if facts.type is JobType.WRITE:
        detail = f"{lane} executes one write at a time, at present {holder or 'one of another client'}"
    else:
        reads = _plural("read", facts.holders or 1)
        what = f"; one of them is {holder}" if holder else ""
        detail = f"{lane} executes {facts.holders} {reads} at present, as many as its read slots{what}"
    return WaitingFor(WaitCode.LANE_BUSY, detail, since)


def _of_plugin(facts: SubJobFacts, since: datetime) -> WaitingFor:
    cause = f"DMI plugin {facts.url}: {facts.last_error or 'a call of it failed'}"
    if facts.circuit_until is not None:
        detail = f"{cause}; times out at {facts.gives_up_at:%Y-%m-%dT%H:%M:%SZ}"
        return WaitingFor(WaitCode.CIRCUIT_OPEN, detail, since, facts.circuit_until)
    return WaitingFor(WaitCode.PLUGIN_UNAVAILABLE, cause, since, facts.gives_up_at)


def _of_limit(facts: SubJobFacts, since: datetime, creates: CreateFacts) -> WaitingFor | None:
    """Wait for the limits of a worker on the creates of one plugin; ``None`` while they are not reached."""
    if creates.creates >= CREATES_PER_PLUGIN:
        under_way = f"{creates.creates} creates"
    elif creates.bytes >= BODY_BYTES // 2:
        under_way = f"creates with {creates.bytes} bytes of operations"
    else:
        return None
    return WaitingFor(
        WaitCode.LIMIT,
        f"{under_way} are under way at DMI plugin {facts.url}, as many as one worker process sends; more"
        " processes (DATAJOBS_WORKERS) send more",
        since,
    )


def _of_delivery(delivery: DeliveryFacts) -> WaitingFor:
    bucket = delivery.topic.removeprefix("s3:")
    if bucket == delivery.topic:
        code, what = WaitCode.BUS, f"delivery of the results to topic {delivery.topic}"
    else:
        code, what = WaitCode.OBJECTS, f"copies of the results to bucket {bucket}"
    return WaitingFor(code, f"{what}: {delivery.cause}", delivery.since, delivery.until)
