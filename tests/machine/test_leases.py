# SPDX-License-Identifier: Apache-2.0
"""Expired leases and lost claim answers: a create that may have been sent is not repeated."""

from __future__ import annotations

import pytest

from ran_datajobs.checkpoints import Checkpoint
from ran_datajobs.model import JobType
from ran_datajobs.store.sub_jobs import LEASE_SECONDS
from tests.kit.plugins.stepped import How
from tests.machine.process import Loss, Process
from tests.machine.service import STEP, Service, Virtual


def of_sub_job(virtual: Virtual, service: Service, *columns: str) -> dict[str, object]:
    """Return columns of the only sub-job."""
    (row,) = virtual.run(service.rows(f"select {', '.join(columns)} from sub_job"))
    return row


def claim_of_sub_jobs_is_lost(service: Service) -> None:
    """Lose the answer to the second worker's next claim of sub-jobs, but not that of jobs."""
    service.processes[1].losses = [(Loss.AFTER_COMMIT, 1)]


def plan_and_start(virtual: Virtual, process: Process) -> None:
    """Let the process plan the only job, and then start its sub-job."""
    virtual.run(process.claim())
    virtual.run(process.claim())


@pytest.mark.parametrize(("lane", "creates"), [("N0", 1), ("I0", 2)])
def test_an_unknown_create_stays_unknown_when_its_next_claim_is_lost(
    virtual: Virtual, lane: str, creates: int
) -> None:
    """A worker dies during a create. The answer to the next claim is lost, and the worker finds the leased
    row by its token: it repeats the create only at the idempotent plugin."""
    service = virtual.service()
    first, second = service.processes
    virtual.run(service.submit(JobType.WRITE, [lane], "a", 4, []))
    plan_and_start(virtual, first)
    virtual.run(first.crash())
    virtual.run(service.pass_time(LEASE_SECONDS + 1))
    claim_of_sub_jobs_is_lost(service)
    virtual.run(second.claim())
    assert second.losses == []
    virtual.run(second.claim())
    virtual.run(second.claim())
    assert len(service.calls) == creates - 1
    assert virtual.run(service.broken_rules()) == []
    virtual.run(service.let_go())
    assert virtual.run(service.broken_rules()) == []
    assert of_sub_job(virtual, service, "unknown > 0 as unknown") == {"unknown": creates == 1}


def test_a_create_that_was_never_sent_is_sent_when_its_claim_is_lost(virtual: Virtual) -> None:
    """The answer to the claim of a new sub-job is lost. The worker finds the leased row by its token and
    sends the create once, even to a plugin that is not idempotent, since it was never sent."""
    service = virtual.service()
    first, second = service.processes
    virtual.run(service.submit(JobType.WRITE, ["N0"], "a", 4, []))
    virtual.run(service.submit(JobType.WRITE, ["N0"], "a", 4, []))
    virtual.run(first.claim())
    virtual.run(first.claim())
    (create,) = service.calls
    virtual.run(service.answer(create, How.WELL))
    virtual.run(first.stop())
    service.processes[0] = service.new_process()
    virtual.run(second.claim())
    while service.calls:
        virtual.run(service.answer(service.calls[0], How.WELL))
    claim_of_sub_jobs_is_lost(service)
    virtual.run(second.claim())
    assert (second.losses, service.calls) == ([], [])
    virtual.run(second.claim())
    virtual.run(second.claim())
    (create,) = service.calls
    assert create.kind == "create"
    virtual.run(service.let_go())
    assert virtual.run(service.broken_rules()) == []
    rows = virtual.run(service.rows("select distinct status::text as status from data_job"))
    assert rows == [{"status": "FINISHED"}]


def test_a_create_that_its_worker_did_not_send_in_time_is_sent_later(virtual: Virtual) -> None:
    """The only worker is frozen before a create until its lease has expired. It does not send the create,
    records it as unsent, and sends it under a new lease."""
    service = virtual.service()
    worker = service.processes[0]
    virtual.run(service.submit(JobType.WRITE, ["N0"], "a", 4, []))
    worker.stands_still_at = Checkpoint.START_MARKED
    plan_and_start(virtual, worker)
    assert worker.frozen
    virtual.run(service.pass_time(LEASE_SECONDS + 1))
    worker.goes_on.set()
    virtual.run(service.pass_time(0))
    assert service.calls == []
    assert of_sub_job(virtual, service, "stage::text", "lease") == {"stage": "ADMITTED", "lease": None}
    virtual.run(service.let_go())
    assert virtual.run(service.broken_rules()) == []
    assert of_sub_job(virtual, service, "status::text", "attempts") == {"status": "FINISHED", "attempts": 2}


def test_every_create_that_is_sent_counts_as_an_attempt(virtual: Virtual) -> None:
    """A create without an answer is repeated at an idempotent plugin and counts as two attempts."""
    service = virtual.service()
    worker = service.processes[0]
    virtual.run(service.submit(JobType.WRITE, ["I0"], "a", 4, []))
    plan_and_start(virtual, worker)
    (create,) = service.calls
    virtual.run(service.answer(create, How.UNHEARD))
    virtual.run(service.pass_time(STEP))
    virtual.run(worker.claim())
    (create,) = service.calls
    assert create.kind == "create"
    virtual.run(service.answer(create, How.WELL))
    assert of_sub_job(virtual, service, "stage::text", "attempts") == {"stage": "TRACKING", "attempts": 2}
    virtual.run(service.let_go())
    assert virtual.run(service.broken_rules()) == []
