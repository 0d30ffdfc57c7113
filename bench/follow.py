# SPDX-License-Identifier: Apache-2.0
"""Following the inventory of an NCMP, for which another instance of this service stands: a first comparison,
one that finds no difference, and look-ups of handles that events name; the memory of the follower."""

from __future__ import annotations

import contextlib
import resource
import time
from collections.abc import AsyncIterator, Awaitable
from typing import Final

from bench.machine import Machine, running_machine
from bench.registration import BATCH, HANDLES, PLUGIN, created
from ran_datajobs.config import Settings
from ran_datajobs.inventory.follow import Change, Followed
from ran_datajobs.inventory.follower import Events, Follower
from ran_datajobs.inventory.ncmp import Ncmp, bounds
from ran_datajobs.messaging.postgres import PostgresBus
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.plugins.credentials import Credentials
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.telemetry import Digest, Metrics, configure, logger

_NAMED: Final = 1000
_MIB: Final = 1024


async def _measured(name: str, machine: Machine, step: Awaitable[None], handles: int) -> None:
    used, own, began = machine.processor_seconds(), time.process_time(), time.perf_counter()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await step
    seconds, own = time.perf_counter() - began, time.process_time() - own
    used = own + machine.processor_seconds() - used
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // _MIB
    print(
        f"  {name}: {seconds:.2f} s, processor time {used / handles * 1e6:.0f} us a handle "
        f"({own / handles * 1e6:.0f} of them the follower's), peak memory +{grown} MiB",
        flush=True,
    )


@contextlib.asynccontextmanager
async def _follower(ncmp: Machine, machine: Machine) -> AsyncIterator[tuple[Follower, Connection]]:
    """A follower that writes into the database of ``machine``, and its session."""
    database = await Database.open(machine.database_url())
    followed = Followed(ncmp.root, {PLUGIN: PLUGIN})
    log = logger()
    try:
        async with PeerHttp(bounds(5.0)) as http, database.session() as connection:
            client = Ncmp(http, Credentials(None), followed)
            bus, settings = PostgresBus(database), Settings()
            yield Follower(database, bus, client, settings, log, Digest(log), Metrics()), connection
    finally:
        await database.close()


async def run(handles: str = str(HANDLES)) -> None:
    """Print the figures of an inventory of this many handles."""
    count = int(handles)
    configure(level="warning", form="console")
    print(f"Following: {count:,} handles")
    async with running_machine() as ncmp, running_machine() as machine:
        for first in range(0, count, BATCH):
            numbers = range(first, min(first + BATCH, count))
            await ncmp.register({"dmiPlugin": PLUGIN, **created(numbers)})
        async with _follower(ncmp, machine) as (follower, connection):
            events = Events()
            for name in ("first comparison", "without a difference"):
                await _measured(name, machine, follower.compare(connection, events), count)
            update = [{"cmHandle": f"ch-{n}", "moduleSetTag": "other"} for n in range(_NAMED)]
            await ncmp.register({"updatedCmHandles": update})
            names = [each["cmHandle"] for each in update]
            events.handles = {name: Change(name, deleted=False, may_move=False) for name in names}
            name = f"{_NAMED:,} handles that events name"
            await _measured(name, machine, follower.look_up(connection, events), _NAMED)
