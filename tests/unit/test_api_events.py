# SPDX-License-Identifier: Apache-2.0
"""The events of a job as a function of the changes."""

from __future__ import annotations

from datetime import UTC, datetime
from uuid import UUID, uuid4

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.api.jobs import encode
from ran_datajobs.config import Settings
from ran_datajobs.model import DeliveryState, JobType, Status
from ran_datajobs.results.job_view import JobView, SubJobAnswer
from ran_datajobs.store.jobs import JobRow, SubJobRow

VIEW = JobView(Settings(api_root="http://localhost"))
JOB_ID = uuid4()


def job(version: int, status: Status = Status.RUNNING) -> JobRow:
    """A job at ``version``."""
    return JobRow(
        job_id=JOB_ID,
        seq=1,
        client="local",
        type=JobType.WRITE,
        name=None,
        destination=None,
        destination_kind="BUCKET",
        results_bucket="datajobs-results",
        activation_mode="BEST_EFFORT",
        priority=4,
        retry_of=None,
        status=status,
        planned=True,
        operations=10,
        succeeded=0,
        failed=0,
        unmatched=0,
        not_started=0,
        unknown=0,
        reason=None,
        delivery_state=DeliveryState.PENDING,
        delivery_detail=None,
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        started_at=None,
        ended_at=None,
        version=version,
    )


def sub_job(version: int, position: int) -> tuple[int, SubJobAnswer]:
    """A sub-job that changed at ``version``."""
    row = SubJobRow(
        sub_job_id=UUID(int=position),
        position=position,
        url="http://localhost:1",
        data_producer_id=str(position),
        data_producer_job_id=None,
        status=Status.RUNNING,
        operations=1,
        succeeded=0,
        failed=0,
        not_started=0,
        unknown=0,
        attempts=1,
        last_error=None,
        version=version,
    )
    return version, VIEW.sub_job(row)


def events_of(pieces: list[bytes]) -> list[tuple[int, str, str]]:
    """(id, event, subject) of each piece."""
    found = []
    for piece in pieces:
        fields = dict(line.split(": ", 1) for line in piece.decode().strip().split("\n"))
        data = msgspec.json.decode(fields["data"])
        found.append((int(fields["id"]), fields["event"], data.get("dataProducerId", "")))
    return found


VERSIONS = st.lists(st.integers(2, 8), max_size=12).map(sorted)


@given(VERSIONS, st.integers(0, 13))
def test_a_client_that_resumes_after_any_event_misses_nothing(versions: list[int], cut: int) -> None:
    """Cut the stream after any event and resume with its id: every sub-job's change is sent."""
    changes = [sub_job(version, position) for position, version in enumerate(versions)]
    row = job(8)
    whole = events_of(encode(row, VIEW.job(row, {}), changes, None))
    seen = whole[:cut]
    last = seen[-1][0] if seen else 1
    rest = [change for change in changes if change[0] > last]
    resumed = events_of(encode(row, VIEW.job(row, {}), rest, None))
    wanted = {str(position) for position in range(len(versions))}
    assert {who for _, name, who in seen + resumed if name == "subjob"} == wanted
    assert resumed[-1][1] == "status"


@given(VERSIONS)
def test_ids_never_go_back_and_end_at_the_jobs_version(versions: list[int]) -> None:
    """Ids only grow, and the last event of a batch has the job's version."""
    changes = [sub_job(version, position) for position, version in enumerate(versions)]
    row = job(8)
    ids = [event_id for event_id, _, _ in events_of(encode(row, VIEW.job(row, {}), changes, None))]
    assert ids == sorted(ids)
    assert ids[-1] == 8


def test_what_was_told_is_not_told_again() -> None:
    """Without a change of status or counts, a new version makes no event of the job."""
    row = job(2)
    assert [name for _, name, _ in events_of(encode(row, VIEW.job(row, {}), [], None))] == [
        "progress",
        "status",
    ]
    later = job(3)
    assert encode(later, VIEW.job(later, {}), [], row) == []


def test_the_jobs_own_events_wait_for_all_its_sub_jobs() -> None:
    """A first batch of sub-jobs contains neither progress nor status, and no id that would skip the rest."""
    first = events_of(encode(job(5), None, [sub_job(5, 0), sub_job(5, 1)], None))
    assert first == [(4, "subjob", "0"), (4, "subjob", "1")]
