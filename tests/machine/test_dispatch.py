# SPDX-License-Identifier: Apache-2.0
"""Dispatch under actions of clients and plugins, time and failures, drawn by hypothesis.

Real workers run on a real PostgreSQL, one step at a time. After each step the rules of ``tests/invariants``
hold. At the end all failures stop, and every job ends with one outcome for each operation. The environment
variable ``HYPOTHESIS_EXAMPLES`` sets the number of examples.
"""

from __future__ import annotations

import asyncio
import enum
import os
import sys
from typing import Final

import pytest
from hypothesis import HealthCheck, event, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from ran_datajobs.checkpoints import Checkpoint
from ran_datajobs.model import JobType
from ran_datajobs.store.sub_jobs import LEASE_SECONDS
from tests.kit.plugins.stepped import Call, How, Plugin
from tests.machine.process import Loss, Process
from tests.machine.service import LANES, NOBODY, STEP, Virtual

EXAMPLES: Final = int(os.environ.get("HYPOTHESIS_EXAMPLES", "20"))
STEPS: Final = 40
MOST_JOBS: Final = 6

which = st.integers(0, 1)
pick = st.integers(0, 15)
hows = st.lists(st.sampled_from(How), max_size=3)
lost = st.none() | st.tuples(st.sampled_from((Loss.AFTER_COMMIT, Loss.BEFORE_COMMIT)), st.integers(0, 2))
places = st.sampled_from(
    (
        None,
        Checkpoint.START_MARKED,
        Checkpoint.PLAN_SPLIT,
        Checkpoint.START_SENT,
        Checkpoint.START_RECORDED,
        Checkpoint.COLLECT_WRITTEN,
        Checkpoint.FINISH_COUNTED,
        Checkpoint.FINISH_WRITTEN,
        Checkpoint.CANCEL_SENT,
    )
)


class Fault(enum.StrEnum):
    """Failure of a worker."""

    CRASH = "crash"  # it is killed and replaced
    STOP = "stop"  # it is stopped in order and replaced
    FREEZE = "freeze"  # it is frozen and does not renew its leases
    CUT_OFF = "cut off"  # it reaches the plugins, but not the database
    OBJECTS_UNAVAILABLE = "objects unavailable"  # the object store is unavailable


class Machine(RuleBasedStateMachine):
    """The rules. ``pick`` selects one of the jobs or calls that exist at that moment."""

    def __init__(self, virtual: Virtual) -> None:
        super().__init__()
        self.run = virtual.run
        self.service = virtual.service()

    # --- clients -----------------------------------------------------------------------------------

    @initialize(lane=st.sampled_from(("N0", "I0")), answered=st.integers(0, 3))
    def writes_in_a_lane(self, lane: str, answered: int) -> None:
        """Submit three writes of two clients and answer ``answered`` calls of the first one. After three it
        has ended, and the next one is due."""
        for client in "aab":
            self.run(self.service.submit(JobType.WRITE, [lane], client, 4, []))
        for _ in range(answered):
            self.work(0, None, [How.WELL])
            self.run(self.service.pass_time(0.5))

    @precondition(lambda self: len(self.service.submitted) < MOST_JOBS)
    @rule(
        kind=st.sampled_from((JobType.WRITE, JobType.WRITE, JobType.READ)),
        lanes=st.lists(st.sampled_from(("N0", "I0", *LANES, NOBODY)), min_size=1, max_size=3, unique=True),
        client=st.sampled_from("ab"),
        priority=st.sampled_from((4, 3, 9)),
        after=st.lists(pick, max_size=1),
    )
    def submit(self, kind: JobType, lanes: list[str], client: str, priority: int, after: list[int]) -> None:
        """A client submits a job."""
        known = self.service.submitted
        self.run(
            self.service.submit(kind, lanes, client, priority, [known[each % len(known)] for each in after])
        )

    @rule(pick=pick)
    def cancel(self, pick: int) -> None:
        """A client cancels a job."""
        job_id = self.service.submitted[pick % len(self.service.submitted)]
        note(f"cancel {job_id}: {self.run(self.service.cancel(job_id))}")

    # --- workers -----------------------------------------------------------------------------------

    @rule(which=which, lost=lost, hows=hows)
    def work(self, which: int, lost: tuple[Loss, int] | None, hows: list[How]) -> None:
        """A worker claims due plans, finishes and sub-jobs. Then some calls are answered. ``lost``: where one
        of its sessions is lost, and the number of sessions before it."""
        process = self.process(which)
        if lost is not None:
            process.losses = [lost]
        if not process.frozen:
            self.run(process.claim())
        for how in hows:
            if self.service.calls:
                self.answer(-1, how)

    @rule(seconds=st.sampled_from((1.0, STEP, LEASE_SECONDS + 1)), which=which, lost=lost, hows=hows)
    def work_later(self, seconds: float, which: int, lost: tuple[Loss, int] | None, hows: list[How]) -> None:
        """Run both workers after ``seconds``, in which retries become due or leases expire."""
        self.pass_time(seconds)
        self.work(which, lost, hows)
        self.work(1 - which, None, hows)

    @rule(which=which, behind=st.sampled_from((1, 1, 0, 2)), hows=hows)
    def lose_a_claim(self, which: int, behind: int, hows: list[How]) -> None:
        """A worker claims rows with expired leases, gets no answer, and finds the rows that it had leased."""
        self.pass_time(LEASE_SECONDS + 1)
        self.work(which, (Loss.AFTER_COMMIT, behind), [])
        self.work(which, None, [])
        self.work(which, None, hows)

    @precondition(lambda self: self.is_well())
    @rule(which=which, fault=st.sampled_from(Fault), arrived=st.booleans(), at=places, hows=hows)
    def fail(self, which: int, fault: Fault, arrived: bool, at: Checkpoint | None, hows: list[How]) -> None:
        """A working worker fails. ``arrived``: whether its creates in flight arrive when it ends; ``at``: the
        checkpoint at which it is frozen first."""
        event(fault)
        process = self.process(which)
        if fault in (Fault.FREEZE, Fault.CRASH):
            process.stands_still_at = at
        self.work(which, None, hows)
        process.executes_at_the_end = arrived
        match fault:
            case Fault.CRASH:
                self.run(process.crash())
                self.service.processes[which] = self.service.new_process()
            case Fault.STOP if not process.frozen:
                self.run(process.stop())
                self.service.processes[which] = self.service.new_process()
            case Fault.FREEZE if at is None:
                process.goes_on.clear()
            case Fault.CUT_OFF:
                process.cut_off = True
            case Fault.OBJECTS_UNAVAILABLE:
                self.service.objects_away = True

    @precondition(lambda self: not self.is_well())
    @rule(which=which)
    def recover(self, which: int) -> None:
        """A worker resumes and reaches all peers. It does not change rows whose leases it has lost."""
        process = self.process(which)
        process.cut_off = self.service.objects_away = False
        process.stands_still_at = None
        lost = self.run(self.service.lost(process))
        process.goes_on.set()
        self.run(asyncio.sleep(0))
        assert self.run(self.service.as_they_are(lost)) == lost

    @precondition(lambda self: self.is_well())
    @rule(which=which, cut_off=st.booleans(), lost=lost, hows=hows, late=st.sampled_from(How))
    def overtake(
        self, which: int, cut_off: bool, lost: tuple[Loss, int] | None, hows: list[How], late: How
    ) -> None:
        """A worker is frozen or cut off during its work; the other one takes the work over. Then the calls of
        the first one are answered, and it resumes."""
        event("overtaken")
        process = self.process(which)
        self.work(which, None, hows)
        process.cut_off = cut_off
        if not cut_off:
            process.goes_on.clear()
        self.pass_time(LEASE_SECONDS + 1)
        self.work(1 - which, lost, [])
        for call in self.calls():
            if call.process is process and call in self.service.calls:
                self.end(call, late)
        self.recover(which)

    # --- plugins and time ----------------------------------------------------------------------------

    @precondition(lambda self: self.service.calls)
    @rule(pick=pick, how=st.sampled_from(How))
    def answer(self, pick: int, how: How) -> None:
        """Answer one call."""
        calls = self.calls()
        self.end(calls[pick % len(calls)], how)

    def end(self, call: Call, how: How) -> None:
        """Deliver a call and answer it. The answer does not change rows whose leases the worker has lost."""
        note(f"{call.kind} at {call.plugin.url}: {how}")
        event(f"{call.kind}: {how}")
        lost = self.run(self.service.lost(call.process))
        self.run(self.service.answer(call, how))
        assert self.run(self.service.as_they_are(lost)) == lost

    @precondition(lambda self: self.service.calls)
    @rule(how=st.sampled_from((How.WELL, How.RUNNING)))
    def answer_all(self, how: How) -> None:
        """Deliver and answer every pending call."""
        for call in self.calls():
            if call in self.service.calls:
                self.end(call, how)

    @precondition(lambda self: self.at_plugins())
    @rule(pick=pick, how_many=st.integers(0, 2))
    def tell(self, pick: int, how_many: int) -> None:
        """A plugin pushes a status change and publishes ``how_many`` messages of a read."""
        at_plugins = self.at_plugins()
        plugin, job_id = at_plugins[pick % len(at_plugins)]
        self.run(self.service.push(plugin, job_id))
        if plugin.jobs[job_id].executed.is_read:
            for _ in range(how_many):
                self.run(self.service.publish(plugin, job_id))

    @rule(seconds=st.sampled_from((1.0, STEP, 16.0)))
    def pass_time(self, seconds: float) -> None:
        """Advance the clock."""
        self.run(self.service.pass_time(seconds))

    # --- invariants ----------------------------------------------------------------------------------

    @invariant()
    def no_rule_is_broken(self) -> None:
        """The rules of ``tests/invariants`` hold, also at the plugins."""
        assert self.run(self.service.broken_rules()) == []

    def teardown(self) -> None:
        """Unless the example failed, stop all failures: every job ends, with one outcome per operation."""
        if sys.exc_info()[0] is not None:
            return
        self.run(self.service.let_go())
        self.no_rule_is_broken()
        assert self.run(self.service.missing_ends()) == []
        for process in self.service.processes:
            assert process.limits.room() == self.service.new_process().limits.room()

    # --- queries -------------------------------------------------------------------------------------

    def process(self, which: int) -> Process:
        """Return one of the two worker processes."""
        return self.service.processes[which]

    def is_well(self) -> bool:
        """Return whether both worker processes run and reach all peers."""
        return not self.service.objects_away and not any(
            process.frozen or process.cut_off for process in self.service.processes
        )

    def at_plugins(self) -> list[tuple[Plugin, str]]:
        """Return the jobs of the plugins in an order that does not depend on the order of their creates."""
        return [
            (plugin, job_id) for plugin in self.service.plugins.values() for job_id in sorted(plugin.jobs)
        ]

    def calls(self) -> list[Call]:
        """Return the pending calls in an order that does not depend on the order of their start."""
        return sorted(
            self.service.calls,
            key=lambda call: (call.kind, self.service.processes.index(call.process), call.subject),
        )


@pytest.mark.timeout(3600)
def test_dispatch_keeps_its_rules_whatever_happens(virtual: Virtual) -> None:
    """Jobs, plans, claims, answers, crashes, freezes, lost sessions, cancels, timeouts, quarantines, pushes
    and messages in any order: at most one write is active at a producer, none starts in quarantine, none is
    executed twice, writes start in order, and each operation has one outcome."""
    run_state_machine_as_test(
        lambda: Machine(virtual),
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            print_blob=True,
        ),
    )
