# SPDX-License-Identifier: Apache-2.0
"""Dispatch, the pure half: pauses, one outcome per operation, and group commit."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from uuid import uuid4

import msgspec
import pytest
import structlog
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from ran_datajobs.dispatch.backoff import (
    FIRST_POLL,
    LONGEST_POLL,
    poll_delay,
    retry_delay,
    unresolved_write_poll_delay,
    until_next_call,
)
from ran_datajobs.dispatch.news import DispatchNews
from ran_datajobs.dispatch.transitions import TransitionWriter
from ran_datajobs.model import Op, Operation, OperationState, Reason, Response, Status
from ran_datajobs.plugins.port import Entry, NoOutcomes
from ran_datajobs.results import outcomes
from ran_datajobs.runtime import Runtime
from ran_datajobs.store.dispatch import Transition
from ran_datajobs.store.results import Arrived
from ran_datajobs.store.sub_jobs import CancelSent, Leased, QuarantineOver


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_polls_start_at_200_ms_and_wait_30_s_at_most(polls: int, jitter: float) -> None:
    """Polling intervals stay within 0.2 s … 30 s, whatever the count."""
    delay = poll_delay(polls, jitter)
    assert FIRST_POLL <= delay <= LONGEST_POLL
    assert poll_delay(polls + 1, jitter) >= delay


@given(st.integers(0, 200), st.floats(0, 1e6))
def test_polls_and_repeats_are_spread(times: int, ended_for: float) -> None:
    """Two callers that wait for the same reason wait differently, by a fifth at least, so that they do not
    synchronise."""
    for earliest, latest in (
        (poll_delay(times, 0.0), poll_delay(times, 0.99)),
        (retry_delay(times, 0.0), retry_delay(times, 0.99)),
        (unresolved_write_poll_delay(ended_for, 0.99), unresolved_write_poll_delay(ended_for, 0.0)),
    ):
        assert latest > 1.2 * earliest


@given(st.floats(0, 1e9), st.floats(0, 1, exclude_max=True), st.floats(0, 1e9) | st.none())
def test_a_call_that_fails_is_repeated_after_growing_pauses(
    failing_for: float, jitter: float, asked: float | None
) -> None:
    """The pause is half to three quarters of the duration of the failure, between 0.25 and 15 s. A peer's
    Retry-After lengthens it, up to a minute."""
    own = until_next_call(failing_for, jitter)
    assert 0.25 <= own <= 15.0
    assert min(15.0, failing_for / 2) <= own <= max(0.375, 0.75 * failing_for)
    assert until_next_call(failing_for, jitter, asked) == max(own, min(asked or 0.0, 60.0))


def test_a_plugin_that_stays_away_is_called_a_bounded_number_of_times() -> None:
    """In the two minutes of the time budget the call is made about twenty times, and not hundreds."""
    for jitter in (0.0, 0.5, 0.99):
        failing_for, calls = 0.0, 0
        while failing_for < 120.0:
            failing_for += until_next_call(failing_for, jitter)
            calls += 1
        assert 10 <= calls <= 25


operations = st.lists(
    st.builds(
        Operation,
        st.sampled_from([op for op in Op if op is not Op.READ]),
        st.just("/A=1"),
        st.integers(0, 30) | st.text(min_size=1, max_size=3),
    ),
    min_size=1,
    unique_by=lambda o: o.id_text,
)


def entries_of(listed: list[Response]) -> list[Entry]:
    return [Entry(response.operation_id, response) for response in listed]


@given(operations, st.data())
def test_every_operation_gets_exactly_one_outcome_in_order(
    asked: list[Operation], data: st.DataObject
) -> None:
    """Whatever subset, order and unknown ids a plugin lists, each operation has one response, in order."""
    listed = data.draw(
        st.lists(
            st.builds(
                Response,
                st.sampled_from([o.operation_id for o in asked]) | st.just("stranger-id"),
                st.sampled_from([0, 1, 99, 100, 108]),
                st.just("words"),
            )
        )
    )
    reported = data.draw(st.sampled_from([s for s in Status if s.terminal]))
    outcome = outcomes.from_responses(asked, entries_of(listed), reported, is_read=False)
    assert [r.operation_id for r in outcome.responses] == [o.operation_id for o in asked]
    assert outcome.counts.total == len(asked)
    named = {str(r.operation_id) for r in listed}
    silent = sum(o.id_text not in named for o in asked)
    assert (outcome.counts.not_started if reported is Status.CANCELLED else outcome.counts.unknown) == silent


def test_every_response_of_a_read_is_kept_and_the_worst_counts() -> None:
    """A plugin may spread the result of one operation over several responses: all are kept, and one failure
    among them fails the operation. Of two responses for a write the worse counts."""
    asked = [Operation(Op.READ, "/A=1", 1), Operation(Op.READ, "/A=2", 2), Operation(Op.READ, "/A=3", 3)]
    listed = [
        Response("2", 0, "second, one"),
        Response(1, 0, "first, one"),
        Response(1, 0, "first, two"),
        Response("1", 108, "first, three"),
        Response(2, 0, "second, two"),
        Response(9, 0, "nobody asked"),
    ]
    read = outcomes.from_responses(asked, entries_of(listed), Status.FINISHED, is_read=True)
    assert [(r.operation_id, r.status_message) for r in read.responses[:5]] == [
        (1, "first, one"),
        (1, "first, two"),
        (1, "first, three"),
        (2, "second, one"),
        (2, "second, two"),
    ]
    assert [r.operation_id for r in read.responses[5:]] == [3]
    assert (read.counts.total, read.counts.succeeded, read.counts.failed, read.counts.unknown) == (3, 1, 2, 0)
    assert read.status is Status.PARTIALLY_FAILED
    written = outcomes.from_responses(asked, entries_of(listed), Status.FINISHED, is_read=False)
    assert [r.status_message for r in written.responses[:2]] == ["first, three", "second, one"]


def test_outcomes_win_over_the_status() -> None:
    """If a plugin reports finished and lists a failure, the sub-job failed in part."""
    asked = [Operation(Op.ADD, "/A=1", 1), Operation(Op.ADD, "/A=2", "2")]
    listed = [Response("1", 0, "ok"), Response(2, 108, "no")]
    outcome = outcomes.from_responses(asked, entries_of(listed), Status.FINISHED, is_read=False)
    assert outcome.status is Status.PARTIALLY_FAILED
    assert [r.reason for r in outcome.responses] == ["", "STATUS_108"]


@pytest.mark.parametrize(
    ("reported", "state", "status"),
    [
        (Status.FINISHED, OperationState.SUCCEEDED, Status.FINISHED),
        (Status.FAILED, OperationState.FAILED, Status.FAILED),
        (Status.PARTIALLY_FAILED, OperationState.UNKNOWN, Status.FAILED),
        (Status.CANCELLED, OperationState.NOT_STARTED, Status.CANCELLED),
    ],
)
def test_a_result_of_no_known_shape_is_counted_by_its_status(
    reported: Status, state: OperationState, status: Status
) -> None:
    """FINISHED counts all as succeeded, FAILED all as failed, anything else all as unknown."""
    outcome = outcomes.of_result([Operation(Op.ADD, "/A=1", 1)], NoOutcomes(), reported, is_read=False)
    assert [r.state for r in outcome.responses] == [state]
    assert outcome.status is status


def test_a_read_with_missing_messages_has_failed_as_a_whole() -> None:
    """The result is kept, but incomplete: every operation counts as failed."""
    asked = [Operation(Op.READ, "/A=1", 1), Operation(Op.READ, "/A=2", 2)]
    all_in, torn_apart = Arrived(2, 2, 1, total=2), Arrived(1, 1, 0, total=2)
    first, second = (outcomes.pack_outcomes([Response(number, 0, "")]) for number in (1, 2))
    whole = outcomes.from_messages(asked, replace(all_in, outcomes=[first, second]))
    torn = outcomes.from_messages(asked, replace(torn_apart, outcomes=[first]))
    silent = outcomes.from_messages(asked, replace(all_in, outcomes=[first]))
    assert (whole.status, whole.responses) == (Status.FINISHED, ())
    assert torn.status is Status.FAILED
    assert {r.reason for r in torn.responses} == {Reason.RESULT_INCOMPLETE}
    assert silent.status is Status.PARTIALLY_FAILED
    assert [r.operation_id for r in silent.responses] == [2]


def test_stored_operations_come_back_without_their_values() -> None:
    """The stored array is sent to the plugin. Ids keep their JSON type."""
    array = msgspec.json.encode(
        [
            {
                "op": "add",
                "path": "/A=1",
                "operationId": 7,
                "value": {"id": "1"},
                "privateProperties": {"k": "v"},
            }
        ]
    )
    assert outcomes.unpack(zstandard.compress(array)) == array
    assert outcomes.operations_of(array) == [Operation(Op.ADD, "/A=1", 7)]


class Batches:
    """A store that keeps the batches of transitions, and answers when it may."""

    def __init__(self) -> None:
        self.batches: list[list[Transition]] = []
        self.gate = asyncio.Event()
        self.fails = False

    async def write(self, transitions: Sequence[Transition]) -> list[bool | None]:
        self.batches.append(list(transitions))
        await self.gate.wait()
        if self.fails:
            raise OSError("unavailable")
        return [isinstance(each, QuarantineOver) for each in transitions]

    def writer(self) -> TransitionWriter:
        """A writer to this store."""
        runtime = Runtime(Random(1))
        return TransitionWriter(self, runtime, DispatchNews(structlog.get_logger()), lambda *_: None)  # type: ignore[arg-type]


def leased() -> Leased:
    """A leased sub-job."""
    return Leased(uuid4(), uuid4(), 1, uuid4())


async def test_transitions_gather_while_one_batch_is_under_way() -> None:
    """A single transition is written alone. Those that arrive meanwhile are written together, except for a
    second one of a sub-job. Each gets its own answer."""
    store, twice = Batches(), leased()
    write = store.writer()
    lone, over, sent, again = (
        CancelSent(leased()), QuarantineOver(leased()), CancelSent(twice), QuarantineOver(twice),
    )  # fmt: skip
    first = asyncio.create_task(write(lone))
    while not store.batches:
        await asyncio.sleep(0)
    rest = [asyncio.create_task(write(each)) for each in (over, sent, again)]
    await asyncio.sleep(0)
    store.gate.set()
    assert await asyncio.gather(first, *rest) == [False, True, False, True]
    assert store.batches == [[lone], [over, sent], [again]]


async def test_an_error_is_every_callers_error_and_the_next_batch_works() -> None:
    """A batch that fails fails all its callers. The writer continues."""
    store = Batches()
    store.fails = True
    store.gate.set()
    write = store.writer()
    both = (write(CancelSent(leased())), write(CancelSent(leased())))
    results = await asyncio.gather(*both, return_exceptions=True)
    assert [type(r) for r in results] == [OSError, OSError]
    store.fails = False
    assert await write(QuarantineOver(leased()))
