# SPDX-License-Identifier: Apache-2.0
"""What may be on its way to plugins at a time: whoever is cancelled leaves its place, and nothing else."""

from __future__ import annotations

import asyncio

from ran_datajobs.dispatch.flight import Allowance


async def test_who_has_a_place_and_who_waits_for_one_can_be_cancelled_together() -> None:
    """All of them end cancelled, whichever is woken first, and everything is free afterwards."""
    places = Allowance(1)

    async def stay() -> None:
        async with places.take():
            await asyncio.Event().wait()

    staying = [asyncio.create_task(stay()) for _ in range(3)]
    await asyncio.sleep(0)
    for task in staying:
        task.cancel()
    ends = await asyncio.gather(*staying, return_exceptions=True)

    assert [type(end) for end in ends] == [asyncio.CancelledError] * 3
    assert places.out == 0
    async with places.take():
        assert places.out == 1
