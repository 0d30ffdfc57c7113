# SPDX-License-Identifier: Apache-2.0
"""The in-memory twin and PostgreSQL are equivalent: the same calls give the same answers and the same
rows."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from uuid import UUID, uuid5

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from ran_datajobs.errors import Fenced
from ran_datajobs.model import JobType, OperationCounts, Stage, Status
from ran_datajobs.results.outcomes import verdict
from ran_datajobs.store.dispatch import (
    CancelSent,
    DispatchStore,
    Ended,
    JobRoom,
    LeasedJob,
    PlannedJob,
    QuarantineOver,
    Started,
    Transition,
)
from ran_datajobs.store.sub_jobs import (
    LEASE_SECONDS,
    Collecting,
    Leased,
    LeasedCancel,
    LeasedSubJob,
    PluginRoom,
    Postponement,
    Room,
)
from tests.machine.service import Virtual
from tests.simulation.subjects import (
    NAMES,
    InMemory,
    InPostgres,
    Subject,
    new_job,
    part,
    sub_jobs_of,
)

LANES = [(plugin, producer) for plugin in (1, 2) for producer in ("a", "b")]
PLENTY = Room(100, 1 << 20, PluginRoom(100, 100, 1 << 20), {})
STEPS = JobRoom(10, 10, 10)
TOPIC = "ncmp-async-m2m"


class Driver:
    """Applies actions to one store, and keeps the leases. Numbers select from the available rows."""

    def __init__(self, subject: Subject) -> None:
        self.subject = subject
        self.tokens = 0
        self.jobs: list[UUID] = []
        self.leased: list[LeasedSubJob] = []
        self.steps: list[LeasedJob] = []
        self.cancels: list[LeasedCancel] = []

    def token(self) -> UUID:
        self.tokens += 1
        return uuid5(NAMES, f"token {self.tokens}")

    def submit(self, kind: JobType, client: str, priority: int, after: int) -> object:
        named = [self.jobs[after % len(self.jobs)]] if self.jobs and after >= 0 else []
        new = new_job(len(self.jobs), kind, client, priority, named)
        self.subject.submit(new)
        self.jobs.append(new.job_id)
        return None

    def claim_jobs(self, worker: int, small: int) -> object:
        store = self.subject.store(worker)
        found = self.subject.run(store.claim_jobs(JobRoom(small, 1, 2), self.token()))
        self.steps += sorted(found, key=lambda each: each.job_id)
        return [_shown_step(each) for each in found]

    def take_step(self, worker: int, which: int, lanes: Sequence[int], fails: bool) -> object:
        if not self.steps:
            return None
        job = self.steps.pop(which % len(self.steps))
        store = self.subject.store(worker)
        try:
            if fails:
                return self.subject.run(store.step_failed(job, 1.5, "no objects"))
            if job.planned:
                return self.finish(store, job)
            new = sub_jobs_of([LANES[each] for each in dict.fromkeys(lanes)])
            plan = PlannedJob(new, 4 - len(new), 0, False, [])
            return self.subject.run(store.record_plan(job, plan))
        except Fenced:
            return "fenced"

    def finish(self, store: DispatchStore, job: LeasedJob) -> object:
        facts = self.subject.run(store.finish_facts(job.job_id))
        assert facts is not None
        row, parts = facts
        cancelled = row.cancelled_sub_jobs > 0
        status = verdict(row.counts, cancelled=cancelled)
        self.subject.run(store.finish(job, status, None, row.counts))
        return [row.status, row.counts, parts, row.split_reads, cancelled]

    def claim(self, worker: int, rows: int, creates: int, void: bool) -> object:
        store, room = self.subject.store(worker), PluginRoom(creates, 100, 1 << 20)
        token = self.token()
        found = self.subject.run(store.claim_sub_jobs(Room(rows, 1 << 20, room, {}), token, void=void))
        self.leased += sorted(found, key=lambda each: each.sub_job_id)
        return [_shown(each) for each in found]

    def lose_claim(self, worker: int) -> object:
        store, token = self.subject.store(worker), self.token()
        self.subject.run(store.claim_sub_jobs(PLENTY, token, void=True))
        found, steps = self.subject.run(store.leased_under(token))
        self.leased += sorted(found, key=lambda each: each.sub_job_id)
        return sorted(map(_shown, found), key=str), steps

    def write(self, worker: int, writes: Sequence[tuple[int, str, float]]) -> object:
        transitions: dict[UUID, Transition] = {}
        for which, what, delay in writes:
            if self.leased:
                of = self.leased[which % len(self.leased)]
                transitions.setdefault(of.sub_job_id, _transition(of, what, delay))
        if not transitions:
            return None
        return self.subject.run(self.subject.store(worker).write(list(transitions.values())))

    def renew(self, worker: int, first: int) -> object:
        store = self.subject.store(worker)
        leases = {each.sub_job_id: each.lease for each in self.leased[first:]}
        kept = self.subject.run(store.renew(leases, {each.job_id: each.lease for each in self.steps}))
        return sorted(kept)

    def give_back(self, worker: int, some: int) -> object:
        given, self.leased = self.leased[:some], self.leased[some:]
        back = {each.sub_job_id: each.lease for each in given}
        store = self.subject.store(worker)
        return self.subject.run(store.give_back(back, [each for each in back if each.int % 2], {}, []))

    def wait_for_objects(self, worker: int, which: int) -> object:
        if not self.leased:
            return None
        store, of = self.subject.store(worker), self.leased[which % len(self.leased)]
        return self.subject.run(store.wait_for_objects(_name(of), "the bucket is full"))

    def cancel(self, which: int) -> object:
        if self.jobs:
            self.subject.cancel(self.jobs[which % len(self.jobs)])
        return None

    def claim_cancels(self, worker: int) -> object:
        found = self.subject.run(self.subject.store(worker).claim_cancels(self.token()))
        self.cancels += sorted(found, key=lambda each: (each.job_id, each.plugin_id))
        return [(each.job_id, each.plugin_id, each.is_read, round(each.failing_for, 2)) for each in found]

    def answer_cancel(self, worker: int, which: int, how: str) -> object:
        if not self.cancels:
            return None
        store, of = self.subject.store(worker), self.cancels[which % len(self.cancels)]
        self.subject.run(store.renew_cancels([of]))
        if how == "none":
            return self.subject.run(store.postpone_cancel(of, 2.0, failed=True))
        return self.subject.run(store.end_cancel(of, refused=how == "refused"))

    def push(self, which: int) -> object:
        if not self.leased:
            return None
        of = self.leased[which % len(self.leased)]
        return self.subject.push(of.sub_job_id, _producer_job(of))

    def arrive(self, which: int, number: int, total: int) -> object:
        reads = [each for each in self.leased if each.type is JobType.READ]
        if not reads:
            return None
        of = reads[which % len(reads)]
        self.subject.arrive(of.job_id, of.sub_job_id, number, total or None)
        store = self.subject.store(0)
        arrived = self.subject.run(store.arrived(of.sub_job_id, of.job_id, total or None))
        return replace(arrived, outcomes=[]), len(arrived.outcomes)

    def ask(self) -> object:
        store = self.subject.store(0)
        return [
            [
                self.subject.run(store.is_leased(_name(each))),
                self.subject.run(store.body_of(each.sub_job_id)),
                self.subject.run(store.with_attention([each.sub_job_id])),
            ]
            for each in self.leased[-3:]
        ] + [self.subject.run(store.job_is_leased(each)) for each in self.steps]

    def move(self, seconds: float) -> object:
        self.subject.move(seconds)
        return None


def _name(of: LeasedSubJob) -> Leased:
    return Leased(of.sub_job_id, of.job_id, of.lane_id, of.lease)


def _producer_job(of: LeasedSubJob) -> str:
    return f"job-{str(of.sub_job_id)[:8]}"


def _transition(of: LeasedSubJob, what: str, delay: float) -> Transition:
    leased = _name(of)
    match what:
        case "started":
            return Started(leased, _producer_job(of), ("onap", None)[of.sub_job_id.int % 2])
        case "cancel recorded":
            return CancelSent(leased)
        case "postponed":
            return Postponement(leased, delay, polls=2)
        case "failing":
            return Postponement(leased, delay, polls=1, error="no answer")
        case "unsent":
            return Postponement(leased, delay, error="refused", unsent=True)
        case "reported":
            return Postponement(leased, delay, error="no result", reported_status=Status.FINISHED)
        case "collecting":
            return Collecting(leased, TOPIC, Status.FINISHED, delay)
        case "quarantine over":
            return QuarantineOver(leased)
        case "unknown" if of.stage is not Stage.ADMITTED:  # an unsent sub-job has a known outcome
            return Ended(leased, Status.FAILED, unknown=1, error="lost", quarantine=3.0)
        case "cancelled":
            return Ended(leased, Status.CANCELLED, not_started=1)
        case "ended" if of.data_producer_job_id is None:
            return Ended(leased, Status.FAILED, failed=1, error="refused")
        case _:
            return Ended(leased, Status.FINISHED, succeeded=1, parts=(part(of.job_id, of.sub_job_id, 0),))


def _shown(of: LeasedSubJob) -> list[object]:
    """The answer of a claim, without ids that differ and with rounded durations."""
    return [
        round(value, 2) if isinstance(value, float) else value
        for name, value in ((name, getattr(of, name)) for name in of.__struct_fields__)
        if name not in ("dialect", "accept_type", "content_type", "plugin_id", "lane_id")
    ]


def _shown_step(of: LeasedJob) -> object:
    return of


NUMBER = st.integers(0, 30)
WORKER = st.integers(0, 1)
KINDS = [
    "started", "started", "postponed", "failing", "unsent", "reported", "collecting", "cancel recorded",
    "ended", "ended", "unknown", "cancelled", "quarantine over",
]  # fmt: skip
ALL_OR_NONE = st.sampled_from([100, 100, 100, 0])  # the order among rows that are due at once is not promised
LANE_NUMBERS = st.lists(st.integers(0, 3), max_size=4)
FAILS = st.sampled_from([False] * 5 + [True])
WRITES = st.lists(st.tuples(NUMBER, st.sampled_from(KINDS), st.sampled_from([0.0, 1.25, 6.0])), max_size=4)
CALLS: dict[str, tuple[st.SearchStrategy[Any], ...]] = {
    "submit": (
        st.sampled_from(JobType),
        st.sampled_from("xy"),
        st.sampled_from([1, 4, 9]),
        st.integers(-6, 3),
    ),
    "claim_jobs": (WORKER, st.integers(0, 3)),
    "take_step": (WORKER, NUMBER, LANE_NUMBERS, FAILS),
    "claim": (WORKER, ALL_OR_NONE, ALL_OR_NONE, st.booleans()),
    "lose_claim": (WORKER,),
    "write": (WORKER, WRITES),
    "renew": (WORKER, st.integers(0, 4)),
    "give_back": (WORKER, st.integers(0, 3)),
    "wait_for_objects": (WORKER, NUMBER),
    "cancel": (NUMBER,),
    "claim_cancels": (WORKER,),
    "answer_cancel": (WORKER, NUMBER, st.sampled_from(["taken", "refused", "none"])),
    "push": (NUMBER,),
    "arrive": (NUMBER, st.integers(0, 3), st.integers(0, 3)),
    "ask": (),
    "move": (st.sampled_from([0.5, 2.0, 11.0]),),
}
ACTIONS = st.one_of(*(st.tuples(st.just(name), *arguments) for name, arguments in CALLS.items()))
START = [
    ("submit", JobType.WRITE, "x", 4, -1),
    ("submit", JobType.READ, "y", 4, -1),
    ("claim_jobs", 0, 3),
    ("take_step", 0, 0, [0, 1, 2], False),
    ("take_step", 0, 0, [0, 2, 3], False),
]
"""Actions that give most of the following ones an effect."""


@pytest.mark.timeout(900)  # durations that make a difference below the resolution of a second
@given(actions=st.lists(ACTIONS, max_size=40))
@settings(
    max_examples=int(os.environ.get("HYPOTHESIS_EXAMPLES", "20")),
    suppress_health_check=list(HealthCheck),
)
def test_the_same_calls_give_the_same_answers_and_rows(
    virtual: Virtual, actions: list[tuple[Any, ...]]
) -> None:
    """Claims, transitions, plans, ends, expired leases, cancels, pushes and messages, in any order."""
    one, other = Driver(InMemory()), Driver(InPostgres(virtual))
    for name, *arguments in [*START, *actions]:
        answered = getattr(one, name)(*arguments)
        expected = getattr(other, name)(*arguments)
        assert _sorted(answered) == _sorted(expected), (name, arguments)
        assert _differences(one.subject.rows(), other.subject.rows()) == {}, (name, arguments)


def _sorted(answer: object) -> object:
    """The order of a claim is not promised."""
    return sorted(answer, key=str) if isinstance(answer, list) else answer


def _differences(one: list[dict[str, Any]], other: list[dict[str, Any]]) -> dict[str, object]:
    """The differences between rows, by id and column."""
    found, expected = _by_id(one), _by_id(other)
    return {
        f"{key} {name}": (found[key][name], row[name])
        for key, row in expected.items()
        for name in row
        if found[key][name] != row[name]
    }


def _by_id(rows: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {f"{row.get('sub_job_id') or row['job_id']} {row.get('plugin_id', '')}": row for row in rows}


# --- one by one ------------------------------------------------------------------------------------------


@pytest.fixture(params=["in memory", "in PostgreSQL"])
def subject(request: pytest.FixtureRequest) -> Subject:
    """Each of the two stores, empty."""
    if request.param == "in memory":
        return InMemory()
    return InPostgres(request.getfixturevalue("virtual"))


def planned(
    subject: Subject,
    lanes: Sequence[tuple[int, str]],
    kind: JobType = JobType.WRITE,
    *,
    number: int = 0,
    client: str = "x",
    after: Sequence[UUID] = (),
) -> UUID:
    """A job that is planned. None of its sub-jobs is leased."""
    new = new_job(number, kind, client, 4, after)
    subject.submit(new)
    store = subject.store(0)
    (step,) = subject.run(store.claim_jobs(STEPS, uuid5(NAMES, f"plan {number}")))
    plan = PlannedJob(sub_jobs_of(lanes), 4 - len(lanes), 0, False, [])
    subject.run(store.record_plan(step, plan))
    return new.job_id


def claimed(subject: Subject, name: str, worker: int = 0) -> list[LeasedSubJob]:
    return subject.run(subject.store(worker).claim_sub_jobs(PLENTY, uuid5(NAMES, name), void=True))


def stages(subject: Subject) -> list[str]:
    return [row["stage"] for row in subject.rows() if "stage" in row]


def ended(subject: Subject, of: LeasedSubJob) -> None:
    """Its plugin accepts it, and it succeeds."""
    end = Ended(_name(of), Status.FINISHED, succeeded=1)
    for transition in (Started(_name(of), _producer_job(of)), end):
        assert subject.run(subject.store(0).write([transition])) == [False]


def test_a_lane_has_one_write_at_a_time_and_goes_on_when_it_ends(subject: Subject) -> None:
    """The second write waits, and is admitted in the transaction that ends the first."""
    planned(subject, [(1, "a")])
    planned(subject, [(1, "a")], number=1)
    assert stages(subject) == ["ADMITTED", "WAITING"]
    (first,) = claimed(subject, "one")
    assert claimed(subject, "two") == []
    ended(subject, first)
    assert stages(subject) == ["SETTLED", "ADMITTED"]


def test_a_write_in_quarantine_keeps_its_lane(subject: Subject) -> None:
    """Until its quarantine ends. Then the next write starts."""
    planned(subject, [(2, "a")])
    planned(subject, [(2, "a")], number=1)
    (first,) = claimed(subject, "one")
    unknown = Ended(_name(first), Status.FAILED, unknown=1, quarantine=3.0)
    subject.run(subject.store(0).write([unknown]))
    assert stages(subject) == ["QUARANTINED", "WAITING"]
    assert claimed(subject, "two") == []
    subject.move(3.01)
    (held,) = claimed(subject, "three")
    assert (held.stage, held.sub_job_id) == (Stage.QUARANTINED, first.sub_job_id)
    subject.run(subject.store(0).write([QuarantineOver(_name(held))]))
    assert stages(subject) == ["SETTLED", "ADMITTED"]


def test_who_lost_its_lease_changes_nothing(subject: Subject) -> None:
    """After another worker has claimed the row every write of the first one is refused."""
    planned(subject, [(1, "a")])
    (old,) = claimed(subject, "one")
    subject.move(LEASE_SECONDS + 0.1)
    (new,) = claimed(subject, "two", worker=1)
    assert (new.stage, new.was) == (Stage.STARTING, Stage.STARTING)
    before = subject.rows()
    for what in KINDS:
        assert subject.run(subject.store(0).write([_transition(old, what, 1.0)])) == [None]
    subject.run(subject.store(0).give_back({old.sub_job_id: old.lease}, [old.sub_job_id], {}, []))
    assert subject.run(subject.store(0).renew({old.sub_job_id: old.lease}, {})) == set()
    assert subject.rows() == before


def test_a_renewed_lease_is_not_claimed(subject: Subject) -> None:
    """For ten seconds after each renewal."""
    planned(subject, [(1, "a")])
    (held,) = claimed(subject, "one")
    for _ in range(3):
        subject.move(LEASE_SECONDS - 0.5)
        assert subject.run(subject.store(0).renew({held.sub_job_id: held.lease}, {})) == {held.sub_job_id}
        assert claimed(subject, "two", worker=1) == []


def test_what_a_lost_claim_leased_is_found_by_its_token(subject: Subject) -> None:
    """A new create is unsent, one that may have been sent is marked as such."""
    planned(subject, [(2, "a")])
    token = uuid5(NAMES, "lost")
    claimed(subject, "lost")
    ((found,), _) = subject.run(subject.store(0).leased_under(token))
    assert (found.stage, found.was) == (Stage.STARTING, Stage.ADMITTED)
    subject.move(LEASE_SECONDS + 0.1)
    claimed(subject, "lost again")
    ((found,), _) = subject.run(subject.store(0).leased_under(uuid5(NAMES, "lost again")))
    assert (found.stage, found.was) == (Stage.STARTING, Stage.STARTING)


@pytest.mark.parametrize("sent", [False, True])
def test_a_stop_gives_back_what_it_knows_and_what_it_never_heard_of(subject: Subject, sent: bool) -> None:
    """A row of a lost claim that the worker has started is not given back as unsent."""
    planned(subject, [(2, "a")])
    (held,) = claimed(subject, "lost")
    known = {held.sub_job_id: held.lease} if sent else {}
    subject.run(subject.store(0).give_back(known, [], {}, [uuid5(NAMES, "lost")]))
    assert stages(subject) == ["STARTING" if sent else "ADMITTED"]
    (again,) = claimed(subject, "next")
    assert again.was is (Stage.STARTING if sent else Stage.ADMITTED)


def test_a_job_that_ends_frees_those_that_waited_for_it(subject: Subject) -> None:
    """Their sub-jobs are admitted in the same transaction."""
    first = planned(subject, [(1, "a")])
    planned(subject, [(1, "b")], number=1, after=[first])
    assert stages(subject) == ["ADMITTED", "WAITING"]
    (held,) = claimed(subject, "one")
    ended(subject, held)
    (step,) = subject.run(subject.store(0).claim_jobs(STEPS, uuid5(NAMES, "finish")))
    counts = OperationCounts(4, 1, 0, 3, 0, 0, 0)
    subject.run(subject.store(0).finish(step, Status.PARTIALLY_FAILED, "three unmatched", counts))
    assert stages(subject) == ["SETTLED", "ADMITTED"]


def test_a_read_is_due_when_its_last_message_is_in(subject: Subject) -> None:
    """However often each of them arrives."""
    job_id = planned(subject, [(1, "a")], JobType.READ)
    (held,) = claimed(subject, "one")
    store = subject.store(0)
    subject.run(store.write([Started(_name(held), "job-1")]))
    subject.run(store.write([Collecting(_name(held), TOPIC, Status.FINISHED, 30.0)]))
    for number in (0, 0, 1):
        assert claimed(subject, f"before {number}") == []
        subject.arrive(job_id, held.sub_job_id, number, 2)
    (due,) = claimed(subject, "all in")
    assert due.result_total == 2
