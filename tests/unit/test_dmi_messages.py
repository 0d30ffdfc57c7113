# SPDX-License-Identifier: Apache-2.0
"""Splitting of reads into messages: complete documents within the limit that together contain everything
once."""

from __future__ import annotations

import itertools
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from ran_datajobs.dmi.messages import MessageCutter, flat, hierarchical, render_of
from ran_datajobs.dmi.records import AcceptedJob, JobState, cancelling, ended, running
from ran_datajobs.model import ALLOWED, ActivationMode, ErrorDetail, Op, Operation, Status
from ran_datajobs.nrm.resources import to_flat
from ran_datajobs.plugins.port import Responses
from ran_datajobs.plugins.responses import read_outcomes
from ran_datajobs.plugins.wire import TREE_FLAT, TREE_HIERARCHICAL
from tests.tiers import examples

LIMIT = 2_000
BASE = "/SubNetwork=X"
ERROR = ErrorDetail("DATA_NODE_TREE_ERROR", BASE, "TARGET_DATA_NODE_NOT_FOUND", "gone")


def an_object(number: int, size: int) -> dict[str, Any]:
    return {
        "id": str(number),
        "objectClass": "NRCellDU",
        "objectInstance": f"SubNetwork=X,ManagedElement={number % 3},NRCellDU={number}",
        "attributes": {"userLabel": "x" * size},
    }


reads = st.lists(st.tuples(st.lists(st.integers(0, 700), max_size=12), st.booleans()), min_size=1, max_size=6)


@settings(max_examples=examples(300))
@given(reads, st.booleans())
def test_messages_hold_every_object_once_within_the_limit(
    wanted: list[tuple[list[int], bool]], as_tree: bool
) -> None:
    """Every message is within the limit and a complete document. The objects of each read occur once, in
    order. Every read has a response, a failed one a failure."""
    cutter = MessageCutter(hierarchical if as_tree else flat, LIMIT)
    messages: list[bytes] = []
    for number, (sizes, fails) in enumerate(wanted):
        operation = Operation(Op.READ, BASE, number)
        cutter.objects(operation, [an_object(place, size) for place, size in enumerate(sizes)])
        cutter.end(operation, (ERROR,) if fails else ())
        messages += cutter.full()
    messages += cutter.rest()
    assert cutter.succeeded == sum(not fails for _, fails in wanted)
    found: dict[int, list[str]] = {}
    states: dict[int, set[str]] = {}
    for message in messages:
        assert len(message) <= LIMIT
        read = read_outcomes(message, is_read=True)
        assert isinstance(read, Responses)
        assert len(read.responses) == len(read.entries) > 0
        for response in read.responses:
            number = int(response.operation_id)
            states.setdefault(number, set()).add(str(response.state))
            if response.state == "SUCCEEDED":
                result = msgspec.json.decode(response.result)  # type: ignore[arg-type]
                objects = to_flat(result, BASE) if as_tree else result
                found.setdefault(number, []).extend(one["id"] for one in objects)
    assert sorted(states) == list(range(len(wanted)))
    for number, (sizes, fails) in enumerate(wanted):
        ids = [str(place) for place in range(len(sizes))]
        assert ("FAILED" in states[number]) is fails
        if not fails:
            got = found.get(number, [])
            assert (sorted(got, key=int) if as_tree else got) == ids


def test_the_type_that_was_asked_for_is_rendered() -> None:
    """Flat is an array; hierarchical is one document from the base of the read."""
    operation = Operation(Op.READ, BASE, 1)
    one = an_object(1, 1)
    assert render_of(TREE_FLAT)(operation, [one]) == [one]
    assert render_of(TREE_FLAT)(operation, []) == []
    assert render_of(TREE_HIERARCHICAL)(operation, [one]) == {
        "id": "X",
        "ManagedElement": [{"id": "1", "NRCellDU": [{"id": "1", "attributes": {"userLabel": "x"}}]}],
    }
    assert render_of(TREE_HIERARCHICAL)(operation, []) == {}


@given(st.integers(1, 9), st.data(), st.booleans(), st.booleans())
def test_a_verdict_is_reached_by_allowed_arrows(
    total: int, data: st.DataObject, started: bool, cancel: bool
) -> None:
    """All succeeded is FINISHED, even if a cancel was requested. A cancel that left some undone is CANCELLED.
    None succeeded is FAILED. Otherwise PARTIALLY_FAILED."""
    succeeded = data.draw(st.integers(0, total))
    left = data.draw(st.integers(0, total - succeeded))
    job = AcceptedJob("d", "r", "s", "p", "", "", ActivationMode.BEST_EFFORT, False, total, 0.0)
    state = JobState(job, succeeded=succeeded)
    seen = [state.status]
    for step in ([running] if started else []) + ([cancelling] if cancel else []):
        state = step(state)
        seen.append(state.status)
    before = state.status
    state = ended(state, left)
    if succeeded == total:
        assert state.status is Status.FINISHED
    elif cancel and left:
        assert state.status is Status.CANCELLED
    elif not succeeded:
        assert state.status is Status.FAILED
    else:
        assert state.status is Status.PARTIALLY_FAILED
    assert state.status in ALLOWED[before if before is not Status.NOT_STARTED else Status.RUNNING]
    for one, other in itertools.pairwise(seen):
        assert other in ALLOWED[one]
