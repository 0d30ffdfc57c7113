# SPDX-License-Identifier: Apache-2.0
"""The worker on a real task queue: what is run again, and when."""

from __future__ import annotations

import asyncio
from uuid import uuid4

import pytest

from ran_datajobs import telemetry
from ran_datajobs.dispatch.backoff import until_repeat
from ran_datajobs.dispatch.tasks import Again, Done, Task, TaskKind, enqueue
from ran_datajobs.dispatch.worker import Handler, Worker
from ran_datajobs.store.database import Database

REPEATS, FAILURES = 12, 3


async def work_until(over: asyncio.Event, database: Database, handle: Handler) -> None:
    """Run a worker with this handler of plans until ``over`` is set, and stop it in order."""
    telemetry.configure(level="critical", form="json")
    stopping = asyncio.Event()
    worker = Worker(database, uuid4(), {TaskKind.PLAN: handle}, stopping, telemetry.logger())
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        group.create_task(worker.run())
        await over.wait()
        stopping.set()


async def test_a_task_that_fails_waits_by_its_failures_and_not_by_its_repeats(
    database: Database,
) -> None:
    """A task that was needed again and again fails three times: it waits as long as one that was never
    needed again does, a little longer each time; and it is done in the end."""
    calls, waits = 0, list[float]()
    over = asyncio.Event()

    async def handle(_subject: str, task_id: int) -> Done | Again:
        nonlocal calls
        calls += 1
        if calls <= REPEATS:
            return Again(0.0)
        if calls > REPEATS + 1:
            async with database.connection() as connection:
                waits.append(
                    await connection.fetchval(
                        "select extract(epoch from due - at)::float8 from waited order by n desc limit 1"
                    )
                )
        if calls <= REPEATS + FAILURES:
            raise RuntimeError("a fault")
        over.set()
        return Done()

    async with database.transaction() as connection:
        await connection.execute(
            """create table waited (n bigserial, due timestamptz, at timestamptz);
               create function note_wait() returns trigger language plpgsql as $$
               begin
                   insert into waited (due, at) values (new.execute_after, now());
                   return null;
               end $$;
               create trigger note_wait after update on pgqueuer for each row when (new.status = 'queued')
                   execute function note_wait()"""
        )
        await enqueue(connection, [Task(TaskKind.PLAN, "a job")])
    await work_until(over, database, handle)
    assert calls == REPEATS + FAILURES + 1
    expected = [until_repeat(failures, 0.5) for failures in range(FAILURES)]
    assert waits == pytest.approx(expected, abs=0.01)


async def test_a_cancelled_sign_of_life_costs_no_task(database: Database) -> None:
    """Somebody cancels two of the worker's own statements while it runs a task: that goes on to its end."""
    begun, ended = 0, asyncio.Event()

    async def handle(_subject: str, _task_id: int) -> Done | Again:
        nonlocal begun
        begun += 1
        async with database.connection() as connection:
            await connection.execute(
                """create sequence cancelled;
                   create function cancel_it() returns trigger language plpgsql as $$
                   begin
                       if nextval('cancelled') > 2 then
                           return new;
                       end if;
                       raise exception 'canceling statement due to user request' using errcode = '57014';
                   end $$;
                   create trigger cancel_it before update on worker for each row
                       execute function cancel_it()"""
            )
            while await connection.fetchval("select last_value from cancelled") < 3:
                await asyncio.sleep(0.05)
        ended.set()
        return Done()

    async with database.transaction() as connection:
        await enqueue(connection, [Task(TaskKind.PLAN, "a job")])
    await work_until(ended, database, handle)
    assert begun == 1
