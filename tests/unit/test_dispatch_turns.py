# SPDX-License-Identifier: Apache-2.0
"""Who gets a place, who has the turn in a line, and how lanes are divided into tasks."""

from __future__ import annotations

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.dispatch.flight import Flights
from ran_datajobs.dispatch.lines import Lines
from ran_datajobs.dispatch.places import Places
from ran_datajobs.dispatch.tasks import LANES_PER_TASK, LaneTask, TaskKind, lane_tasks

PLUGIN = "http://p"


async def settled() -> None:
    """Let everything that can go on go on."""
    for _ in range(20):
        await asyncio.sleep(0)


async def test_one_plugin_gets_half_of_the_places_and_the_next_one_finds_some() -> None:
    """However many lanes of one plugin wait, another plugin's lanes get places at once, up to as many as are
    left free; a place that is given back goes to whoever waits."""
    places = Places(100)
    greedy = [asyncio.create_task(places.take(1)) for _ in range(1000)]
    await settled()
    assert places.taken(1) == 50
    others = [asyncio.create_task(places.take(2)) for _ in range(1000)]
    await settled()
    assert (places.taken(1), places.taken(2)) == (50, 25)
    assert sum(task.done() for task in others) == 25
    for _ in range(50):
        places.give_back(1)
    await settled()
    assert places.taken(1) + places.taken(2) < 100
    assert places.taken(1) > 0
    assert sum(task.done() for task in greedy) == 50 + places.taken(1)
    for task in (*greedy, *others):
        task.cancel()
    await asyncio.gather(*greedy, *others, return_exceptions=True)


async def test_whoever_stops_waiting_for_a_place_takes_none() -> None:
    """Cancelled before or just after its turn came, a waiter leaves nothing behind: all places come back."""
    places = Places(4)
    await places.take(1)
    await places.take(1)
    waiting = [asyncio.create_task(places.take(1)) for _ in range(5)]
    await settled()
    waiting[0].cancel()
    places.give_back(1)  # goes to the second one, which is cancelled before it notices
    waiting[1].cancel()
    await asyncio.gather(*waiting[:2], return_exceptions=True)
    await settled()
    assert [task.done() for task in waiting] == [True, True, True, False, False]
    for _ in range(4):
        places.give_back(1)
        await settled()
    assert all(task.done() for task in waiting)
    assert places.taken(1) == 0
    async with places.one(7):
        assert places.taken(7) == 1
    assert places.taken(7) == 0


async def test_the_lowest_number_has_the_next_turn_in_its_line() -> None:
    """One of a name goes at a time; of those that wait the one with the lowest number is next, and other
    names do not wait for it. A line that is empty leaves nothing behind."""
    lines, turns = Lines(), []
    go = asyncio.Event()

    async def wait(name: str, number: int) -> None:
        async with lines.turn(name, number):
            turns.append((name, number))
            await go.wait()

    tasks = [asyncio.create_task(wait("a", number)) for number in (5, 9, 3, 7, 1)]
    tasks.append(asyncio.create_task(wait("b", 100)))
    await settled()
    assert turns == [("a", 5), ("b", 100)]
    assert (lines.length("a"), lines.length("b"), lines.length("c")) == (5, 1, 0)
    tasks[2].cancel()
    go.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert [number for name, number in turns if name == "a"] == [5, 1, 7, 9]
    assert (lines.length("a"), lines.length("b")) == (0, 0)


@given(
    st.dictionaries(st.integers(1, 500), st.integers(1, 3), max_size=400),
    st.data(),
)
def test_every_lane_is_in_exactly_one_task_of_its_plugin(
    plugins: dict[int, int], data: st.DataObject
) -> None:
    """Lanes are divided into tasks of one plugin and one delay each, none too long; what is written into a
    task is read out of it again. A lane that is gone is left out."""
    delays = data.draw(st.dictionaries(st.integers(1, 500), st.sampled_from((0.0, 1.5)), max_size=400))
    tasks = lane_tasks(plugins, delays)
    seen = {}
    for task in tasks:
        assert task.kind is TaskKind.LANE
        named = LaneTask.of(task.subject)
        assert 0 < len(named.lane_ids) <= LANES_PER_TASK
        assert list(named.lane_ids) == sorted(set(named.lane_ids))
        for lane_id in named.lane_ids:
            assert lane_id not in seen
            seen[lane_id] = (named.plugin_id, task.delay)
    assert seen == {i: (plugins[i], delay) for i, delay in delays.items() if i in plugins}


def test_a_few_lanes_are_tasks_of_their_own_and_many_share_some() -> None:
    """So that several workers find something, and a task for each of thousands of lanes is not needed."""
    assert len(lane_tasks(dict.fromkeys(range(3), 1), dict.fromkeys(range(3), 0.0))) == 3
    assert len(lane_tasks(dict.fromkeys(range(10_000), 1), dict.fromkeys(range(10_000), 0.0))) == 200


def test_a_task_of_an_older_version_names_a_lane_alone() -> None:
    """A task that was in the queue when the service was brought up to date is understood."""
    assert LaneTask.of("17") == LaneTask(0, (17,))


async def test_while_creates_wait_other_calls_have_fewer_places() -> None:
    """With more creates wanted than may be marked, two other calls are let through at a time, and all that
    may be once the creates are through; nothing is starved for good."""
    flights = Flights(asyncio.Event(), creates_per_plugin=4, calls_per_plugin=8)
    go, creating = asyncio.Event(), 0

    async def create() -> None:
        nonlocal creating
        async with flights.create(PLUGIN, 1) as cleared:
            assert cleared
            creating += 1
            await go.wait()

    creates = [asyncio.create_task(create()) for _ in range(10)]
    await settled()
    assert creating == 4
    calls = flights._calls(PLUGIN)
    answered = asyncio.Event()

    async def call() -> None:
        async with calls.take():
            await answered.wait()

    tasks = [asyncio.create_task(call()) for _ in range(20)]
    await settled()
    assert calls.out == 2
    go.set()
    await asyncio.gather(*creates)
    await settled()
    assert calls.out == 8
    answered.set()
    async with asyncio.timeout(10):
        await asyncio.gather(*tasks)
    assert calls.out == 0


@pytest.mark.parametrize("broken", ["", ":", "1:", "1:2,x"])
def test_a_task_that_names_no_lane_is_an_error(broken: str) -> None:
    """Nothing is taken for a lane that is none."""
    with pytest.raises(ValueError, match="invalid literal"):
        LaneTask.of(broken)
