# SPDX-License-Identifier: Apache-2.0
"""The limits of one worker: how much it claims, the share of each plugin, and the release of slots."""

from __future__ import annotations

import asyncio
from collections import Counter
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.dispatch.attempt import Attempt
from ran_datajobs.dispatch.limits import (
    CALLS_BESIDE_CREATES,
    CREATES_PER_PLUGIN,
    DELETES_PER_PLUGIN,
    FINISHES,
    LARGE_PLANS,
    SMALL_PLANS,
    UNSENT_BESIDE_DELETES,
    DispatchLimits,
    Slots,
    job_room,
)
from ran_datajobs.model import JobType, NextCall
from ran_datajobs.store.dispatch import LARGE, JobRoom, LeasedJob
from ran_datajobs.store.sub_jobs import LeasedSubJob, PluginRoom

MUCH = 1 << 40


async def settled() -> None:
    """Let every task that can run continue."""
    for _ in range(20):
        await asyncio.sleep(0)


def of(limits: DispatchLimits, plugin_id: int) -> PluginRoom:
    """The room of a plugin now."""
    room = limits.room()
    return room.plugins.get(plugin_id, room.other)


def leased(plugin_id: int, next_call: NextCall = NextCall.OTHER, size: int = 0) -> Attempt:
    """A leased sub-job, of which only its next call and the size of its operations matter here."""
    known = {"plugin_id": plugin_id, "next_call": next_call, "body_bytes": size}
    return Attempt(LeasedSubJob(**(dict.fromkeys(LeasedSubJob.__struct_fields__) | known)), 0.0)  # type: ignore[arg-type]


def add(
    limits: DispatchLimits, plugin_id: int, next_call: NextCall = NextCall.OTHER, size: int = 0
) -> Attempt:
    """Count a sub-job that is leased now."""
    attempt = leased(plugin_id, next_call, size)
    limits.add(attempt)
    return attempt


def fill(
    limits: DispatchLimits, plugin_id: int, next_call: NextCall = NextCall.OTHER, size: int = 0
) -> list[Attempt]:
    """Claim one row at a time for a plugin until there is no room."""
    attempts = []
    creates = next_call is NextCall.CREATE
    while (of(limits, plugin_id).creates if creates else of(limits, plugin_id).calls) > 0:
        attempts.append(add(limits, plugin_id, next_call, size))
    return attempts


# --- rows ------------------------------------------------------------------------------------------


def test_one_plugin_gets_half_of_the_rows_and_the_next_one_finds_some() -> None:
    """However many sub-jobs of one plugin are due, it gets as many rows as it leaves free. Another plugin
    then gets as many as are left. Rows that are given back become room for both."""
    limits = DispatchLimits(rows=100)
    first = fill(limits, 1)
    assert len(first) == pytest.approx(50, abs=1)
    second = len(fill(limits, 2))
    assert second == pytest.approx(25, abs=1)
    for each in first[:40]:
        limits.remove(each)
    assert of(limits, 1).calls > 0
    assert of(limits, 2).calls > 0
    assert len(fill(limits, 2)) + second == pytest.approx(45, abs=2)


@given(st.lists(st.integers(1, 5), max_size=300), st.integers(1, 64))
def test_no_claim_takes_more_than_there_is(plugins: list[int], rows: int) -> None:
    """Whatever plugins claim in whatever order: the total of rows is never exceeded, the last row never goes
    to a single plugin, and when all rows are given back all room is free again."""
    limits = DispatchLimits(rows=rows)
    taken: list[Attempt] = []
    for plugin_id in plugins:
        if limits.room().rows > 0 and of(limits, plugin_id).calls > 0:
            taken.append(add(limits, plugin_id))
        assert limits.room().rows == rows - len(taken)
        own = sum(each.sub_job.plugin_id == plugin_id for each in taken)
        assert own <= max(1, rows // 2 + 1)
    for each in taken:
        limits.remove(each)
    assert limits.room() == DispatchLimits(rows=rows).room()


def test_a_claim_takes_half_of_the_free_rows_for_a_new_plugin() -> None:
    """The dynamic threshold also limits the room of a plugin that has no rows yet."""
    limits = DispatchLimits(rows=100)
    assert limits.room().other.calls == 50
    fill(limits, 1)
    assert limits.room().other.calls == limits.room().rows // 2


# --- creates ------------------------------------------------------------------------------------------


def test_creates_of_a_plugin_are_bounded_and_their_answers_make_room() -> None:
    """No more creates are marked than may be sent. A response makes room for the next one while the row
    stays."""
    limits = DispatchLimits(rows=100, creates_per_plugin=4)
    creates = fill(limits, 1, NextCall.CREATE)
    assert len(creates) == 4
    assert of(limits, 1) == PluginRoom(0, CALLS_BESIDE_CREATES, of(limits, 1).size)
    assert of(limits, 2).creates == 4
    limits.answered(creates[0])
    assert of(limits, 1).creates == 1
    assert of(limits, 1).calls > CALLS_BESIDE_CREATES
    assert limits.room().rows == 96


def test_bytes_of_creates_are_bounded_in_all_and_by_plugin() -> None:
    """A plugin with large operations leaves half of the bytes to others. A response gives its bytes back."""
    limits = DispatchLimits(rows=100, body_bytes=1000)
    assert of(limits, 1).size == 500
    first = add(limits, 1, NextCall.CREATE, 400)
    assert (limits.room().size, of(limits, 1).size, of(limits, 2).size) == (600, 100, 500)
    second = add(limits, 1, NextCall.CREATE, 400)
    assert (limits.room().size, of(limits, 1).size, of(limits, 2).size) == (200, 0, 200)
    limits.answered(first)
    assert (limits.room().size, of(limits, 1).size, of(limits, 2).size) == (600, 100, 500)
    limits.remove(first)
    assert (limits.room().size, of(limits, 1).size) == (600, 100)
    limits.remove(second)
    assert (limits.room().size, of(limits, 1).size) == (1000, 500)


def test_a_step_that_is_no_create_holds_no_bytes_of_the_room() -> None:
    """Polls are claimed in addition to large creates."""
    limits = DispatchLimits(body_bytes=1000)
    add(limits, 1, size=1 << 30)
    assert limits.room().size == 1000


# --- notifications of room -------------------------------------------------------------------------


def test_room_that_is_made_is_told() -> None:
    """After a response to a create, and after a row is removed; not when room is taken."""
    limits, notified = DispatchLimits(), list[int]()
    limits.freed = lambda: notified.append(limits.room().rows)
    attempt = add(limits, 1, NextCall.CREATE, 10)
    assert notified == []
    limits.answered(attempt)
    limits.remove(attempt)
    assert notified == [limits.room().rows - 1, limits.room().rows]


def test_a_claim_may_leave_due_rows_only_if_a_limit_is_used_up() -> None:
    """Rows, creates and bytes each count, and room is there again once the attempts have ended."""
    assert not DispatchLimits().room().is_full
    for limits, size in (
        (DispatchLimits(rows=3), 1),
        (DispatchLimits(creates_per_plugin=2), 1),
        (DispatchLimits(body_bytes=100), 50),
    ):
        attempts = fill(limits, 1, NextCall.CREATE, size)
        assert limits.room().is_full
        for attempt in attempts:
            limits.remove(attempt)
        assert not limits.room().is_full


def test_steps_of_jobs_are_bounded_by_kind() -> None:
    """Plans of small requests, of large ones, and finish steps have separate room."""
    assert job_room([]) == JobRoom(SMALL_PLANS, LARGE_PLANS, FINISHES)
    leased = [
        LeasedJob(uuid4(), uuid4(), planned, 0, "results", body, JobType.WRITE)
        for planned, body in ((False, bytes(LARGE)), (True, None), (True, None), (False, b""))
    ]
    assert job_room(leased) == JobRoom(SMALL_PLANS - 1, LARGE_PLANS - 1, FINISHES - 2)


# --- calls ------------------------------------------------------------------------------------------


async def test_while_creates_wait_other_calls_have_fewer_places() -> None:
    """While the maximum of creates is marked, two other calls run at a time, and all that may run once a
    create has its response. No call starves."""
    limits = DispatchLimits(creates_per_plugin=4, calls_per_plugin=8)
    creates = fill(limits, 1, NextCall.CREATE)
    under_way, answered = 0, asyncio.Event()

    async def call() -> None:
        nonlocal under_way
        async with limits.call(1):
            under_way += 1
            await answered.wait()

    calls = [asyncio.create_task(call()) for _ in range(20)]
    await settled()
    assert under_way == CALLS_BESIDE_CREATES
    limits.answered(creates[0])
    await settled()
    assert under_way == 8
    answered.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*calls)
    assert under_way == 20


async def test_places_are_shared_by_the_plugins_that_want_them() -> None:
    """One plugin gets half of the slots, two get a third each, and a later one still finds some. A cancelled
    waiter takes none, and all others get a slot in the end."""
    limits, held, over = DispatchLimits(places=12), Counter[int](), asyncio.Event()

    async def call(plugin_id: int) -> None:
        async with limits.create(plugin_id, 1):
            held[plugin_id] += 1
            await over.wait()

    calls = [asyncio.create_task(call(1)) for _ in range(20)]
    await settled()
    assert held == {1: 6}
    calls += [asyncio.create_task(call(2)) for _ in range(20)]
    await settled()
    assert held == {1: 6, 2: 3}
    calls += [asyncio.create_task(call(3))]
    await settled()
    assert held == {1: 6, 2: 3, 3: 1}
    calls[19].cancel()
    calls[0].cancel()
    await settled()
    assert held == {1: 6, 2: 3, 3: 1}
    over.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*calls, return_exceptions=True)
    assert held == {1: 19, 2: 20, 3: 1}


async def test_operations_in_memory_are_bounded_for_a_plugin_and_in_all() -> None:
    """One plugin holds at most half of the bytes. A larger body counts as half, so that it is alone at its
    plugin and runs concurrently with others. A body that does not fit waits, and gets its bytes in the
    end."""
    limits = DispatchLimits(body_bytes=1000)
    in_use: Counter[int] = Counter()
    go = asyncio.Event()

    async def hold(plugin_id: int, size: int) -> None:
        async with limits.operations(plugin_id, size):
            in_use[plugin_id] += size
            await go.wait()
            in_use[plugin_id] -= size

    tasks = [asyncio.create_task(hold(*each)) for each in ((1, 300), (1, 300), (2, 5000), (2, 1), (3, 300))]
    await settled()
    assert in_use == {1: 300, 2: 5000}
    go.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)
    assert in_use.total() == 0


async def test_a_full_house_of_creates_leaves_deletes_their_places() -> None:
    """All creates and calls of a plugin are active: a DELETE begins at once, and the room for further DELETEs
    shrinks by the leased cancels."""
    limits = DispatchLimits(places=4)
    for _ in range(CREATES_PER_PLUGIN):
        add(limits, 1, NextCall.CREATE)
    to_cancel = add(limits, 1, NextCall.DELETE)
    room = limits.room().plugins[1]
    assert (room.creates, room.deletes) == (0, DELETES_PER_PLUGIN - 1)
    async with asyncio.timeout(5), limits.create(1, 0), limits.create(1, 0), limits.delete(1):
        pass
    limits.answered(to_cancel)
    assert limits.room().plugins[1].deletes == DELETES_PER_PLUGIN


# --- slots ---------------------------------------------------------------------------------------------


async def test_who_has_a_place_and_who_waits_for_one_can_be_cancelled_together() -> None:
    """All of them end cancelled, whichever is woken first, and every slot is free afterwards."""
    slots = Slots(1, lambda _plugin, _free: 1)

    async def stay() -> None:
        async with slots.take(1):
            await asyncio.Event().wait()

    staying = [asyncio.create_task(stay()) for _ in range(3)]
    await asyncio.sleep(0)
    for task in staying:
        task.cancel()
    ends = await asyncio.gather(*staying, return_exceptions=True)

    assert [type(end) for end in ends] == [asyncio.CancelledError] * 3
    assert slots.free == 1
    async with slots.take(1):
        assert slots.free == 0


@pytest.mark.parametrize("plugins", [(1, 1, 1, 1), (1, 2, 3, 3)])
async def test_places_are_given_in_the_order_in_which_they_were_asked_for(plugins: tuple[int, ...]) -> None:
    """Small requests cannot overtake a large one forever, whether of its plugin or of another one. A waiter
    that is cancelled blocks no other."""
    slots = Slots(4, lambda _plugin, _free: 4)
    order: list[str] = []
    release = {name: asyncio.Event() for name in ("first", "large", "small", "last")}

    async def take(name: str, plugin_id: int, units: int) -> None:
        async with slots.take(plugin_id, units):
            order.append(name)
            await release[name].wait()

    wishes = zip(("first", "large", "small", "last"), plugins, (1, 4, 1, 3), strict=True)
    tasks = {name: asyncio.create_task(take(name, plugin, units)) for name, plugin, units in wishes}
    await settled()
    assert order == ["first"]
    tasks["large"].cancel()
    await settled()
    assert order == ["first", "small"]
    release["first"].set()
    await settled()
    assert order == ["first", "small", "last"]
    release["small"].set()
    release["last"].set()
    await asyncio.gather(*tasks.values(), return_exceptions=True)
    assert slots.free == 4


async def test_a_smaller_allowance_takes_nothing_away() -> None:
    """Slots that are taken stay taken. No more are granted until the number is below the new limit."""
    most = 3
    slots = Slots(1000, lambda _plugin, _free: most)
    async with slots.take(1), slots.take(1):
        most = 1
        waiting = asyncio.create_task(anext(slots.take(1).gen))  # type: ignore[attr-defined]
        await settled()
        assert not waiting.done()
        most = 3
        slots.admit()
        await settled()
        assert waiting.done()
    assert slots.free == 999


def test_what_runs_is_stopped_before_anything_else_of_its_plugin() -> None:
    """While more DELETEs are due than a claim may take, polls of that plugin and sub-jobs that end without a
    call have little room. Another plugin keeps all of its room. After the last DELETE the room is as
    before."""
    limits = DispatchLimits()
    for plugin_id in (1, 2):
        add(limits, plugin_id)
    free, other = limits.room(), of(limits, 2)
    limits.note(free, [leased(1, NextCall.DELETE)] * free.plugins[1].deletes)
    busy = limits.room()
    assert (busy.plugins[1].calls, busy.unsent) == (CALLS_BESIDE_CREATES, UNSENT_BESIDE_DELETES)
    assert busy.plugins[2] == other
    limits.note(busy, [leased(1, NextCall.DELETE)] * (busy.plugins[1].deletes - 1))
    assert limits.room() == free
