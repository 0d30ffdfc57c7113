# SPDX-License-Identifier: Apache-2.0
"""Admission into a lane, and the claims of a worker, on a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from uuid import UUID, uuid4

import asyncpg
import pytest

from ran_datajobs.config import Settings
from ran_datajobs.errors import Fenced
from ran_datajobs.model import JobType, Stage, Status
from ran_datajobs.results.outcomes import unpack
from ran_datajobs.store import sub_jobs
from ran_datajobs.store.database import Connection, Database
from ran_datajobs.store.sub_jobs import Ended, Leased, PluginRoom, QuarantineOver, Room
from tests.kit.worker_parts import (
    OPERATIONS,
    PLENTY,
    Parts,
    PlannedJob,
    add_plugin,
    all_settled,
    by_hand,
    claim,
    dispatch_store,
    log_lines,
    planned_job,
    rows,
    sub_job_row,
    until,
    void_leases,
    worker_parts,
)

pytestmark = pytest.mark.damages_rows  # the tests write rows by hand, and their jobs end without results

MUCH = 1 << 30


@pytest.fixture
def parts(database: Database, tmp_path: Path) -> Parts:
    """A worker that is not running."""
    return worker_parts(database, tmp_path)


async def leased(database: Database, job: PlannedJob) -> Leased:
    """The only sub-job of the job, leased by hand whatever its stage."""
    token = uuid4()
    async with database.connection() as connection:
        await connection.execute(
            "update sub_job set lease = $2, leased_until = now() + interval '10 s',"
            " started_at = coalesce(started_at, now()) where sub_job_id = $1",
            job.sub_job_id,
            token,
        )
    return Leased(job.sub_job_id, job.job_id, job.lane_ids[0], token)


async def end(parts: Parts, job: PlannedJob, quarantine: float = 0.0) -> None:
    """Settle the only sub-job of the job."""
    of = await leased(parts.database, job)
    await parts.write(Ended(of, Status.FAILED, unknown=1, quarantine=quarantine))


async def waiting(
    connection: Connection, client: str = "client", priority: int = 4, kind: JobType = JobType.WRITE
) -> PlannedJob:
    """A job whose only sub-job is WAITING in the lane."""
    return await planned_job(connection, client=client, priority=priority, kind=kind, admitted=False)


async def active(database: Database) -> set[UUID]:
    """The sub-jobs that are admitted."""
    query = "select sub_job_id from sub_job where stage not in ('WAITING', 'SETTLED')"
    return {row["sub_job_id"] for row in await rows(database, query)}


async def order_of(parts: Parts, first: PlannedJob, others: Sequence[PlannedJob]) -> list[int]:
    """End the active write, then each one that follows. Returns the indexes of ``others`` in order of
    admission."""
    ids = [job.sub_job_id for job in others]
    found, running = list[int](), first
    while len(found) < len(others):
        await end(parts, running)
        (now,) = await active(parts.database)
        found.append(ids.index(now))
        running = others[found[-1]]
    return found


# --- the order of admission ----------------------------------------------------------------------------


async def test_writes_of_a_lane_start_by_trial_then_priority_then_submission(
    database: Database, parts: Parts
) -> None:
    """A sub-job that was tried before is admitted first, whatever its priority. The others are admitted by
    priority, and those of equal priority by time of submission."""
    async with database.transaction() as connection:
        first = await planned_job(connection)
        others = [await waiting(connection, priority=priority) for priority in (4, 9, 4, 6, 1)]
        await connection.execute(
            "update sub_job set attempts = 1 where sub_job_id = $1", others[4].sub_job_id
        )
        # The trigger that checks the order of admission in tests ignores earlier attempts.
        await connection.execute("drop trigger if exists refuse_write_turn on sub_job")
    assert await order_of(parts, first, others) == [4, 1, 3, 0, 2]


async def test_waiting_raises_the_priority_up_to_nine(database: Database, parts: Parts) -> None:
    """The priority rises by one for each ten minutes here. A sub-job that has waited for hours has the
    highest priority, and is admitted first because it was submitted first."""
    async with database.transaction() as connection:
        first = await planned_job(connection)
        others = [await waiting(connection, priority=priority) for priority in (1, 3, 9, 6)]
        for job, minutes in zip(others, (500, 25, 0, 0), strict=True):
            await connection.execute(
                "update sub_job set created_at = now() - make_interval(mins => $2) where sub_job_id = $1",
                job.sub_job_id,
                minutes,
            )
    assert await order_of(parts, first, others) == [0, 2, 3, 1]


async def test_clients_take_turns_in_a_lane(database: Database, parts: Parts) -> None:
    """One client has many jobs in the lane, and other clients submit later: each client is served equally
    often."""
    async with database.transaction() as connection:
        first = await planned_job(connection, client="a")
        others = [await waiting(connection, client=client) for client in "aaabbc"]
    assert [("aaabbc")[n] for n in await order_of(parts, first, others)] == ["b", "c", "a", "b", "a", "a"]


async def test_a_more_urgent_job_does_not_wait_for_its_client_s_turn(
    database: Database, parts: Parts
) -> None:
    """The round-robin between clients applies to jobs of one priority."""
    async with database.transaction() as connection:
        first = await planned_job(connection, client="a")
        others = [
            await waiting(connection, client="b"),
            await waiting(connection, client="a", priority=5),
        ]
    assert await order_of(parts, first, others) == [1, 0]


async def test_reads_fill_the_slots_beside_the_one_write(database: Database) -> None:
    """A lane admits as many reads as the plugin registered, or else as many as the setting allows, and one
    write. When a read ends, the next one is admitted."""
    async with database.transaction() as connection:
        plugin_id = await add_plugin(connection)
        write = await planned_job(connection)
        await waiting(connection)
        reads = [await waiting(connection, kind=JobType.READ) for _ in range(5)]
        await sub_jobs.lock_lanes(connection, write.lane_ids)
        first = await sub_jobs.admit(connection, write.lane_ids, Settings(read_slots=2))
        assert set(first) == {job.sub_job_id for job in reads[:2]}
        assert await sub_jobs.admit(connection, write.lane_ids, Settings(read_slots=2)) == []
        await connection.execute("update dmi_plugin set read_slots = 3 where plugin_id = $1", plugin_id)
        (third,) = await sub_jobs.admit(connection, write.lane_ids, Settings(read_slots=2))
        assert third == reads[2].sub_job_id
        await connection.execute(
            "update sub_job set stage = 'SETTLED' where sub_job_id = $1", reads[0].sub_job_id
        )
        (fourth,) = await sub_jobs.admit(connection, write.lane_ids, Settings(read_slots=2))
        assert fourth == reads[3].sub_job_id


async def test_read_slots_are_shared_by_clients_in_turn(database: Database) -> None:
    """Three sub-jobs of one client wait before one of another client: with two slots, each client gets
    one."""
    async with database.transaction() as connection:
        reads = [await waiting(connection, client=client, kind=JobType.READ) for client in "aaab"]
        lanes = reads[0].lane_ids
        await sub_jobs.lock_lanes(connection, lanes)
        admitted = await sub_jobs.admit(connection, lanes, Settings(read_slots=2))
    assert set(admitted) == {reads[0].sub_job_id, reads[3].sub_job_id}


async def test_what_is_cancelled_or_waits_for_another_job_is_not_admitted(
    database: Database,
) -> None:
    """Blocked and cancelled sub-jobs are not admitted; the one behind them is."""
    async with database.transaction() as connection:
        cancelled, blocked, well = [await waiting(connection) for _ in range(3)]
        await connection.execute(
            "update sub_job set cancel_requested = true where sub_job_id = $1", cancelled.sub_job_id
        )
        await connection.execute(
            "update sub_job set blocked = true where sub_job_id = $1", blocked.sub_job_id
        )
        await sub_jobs.lock_lanes(connection, well.lane_ids)
        (admitted,) = await sub_jobs.admit(connection, well.lane_ids, Settings())
    assert admitted == well.sub_job_id


async def test_quarantine_keeps_writes_back_and_its_end_admits_the_next(
    database: Database, parts: Parts
) -> None:
    """A write that may still be executed keeps its slot until its quarantine ends. Reads continue."""
    async with database.transaction() as connection:
        first, second = await planned_job(connection), await waiting(connection)
        read = await waiting(connection, kind=JobType.READ)
        await connection.execute(
            "update sub_job set stage = 'STARTING' where sub_job_id = $1", first.sub_job_id
        )
    await end(parts, first, quarantine=300.0)
    assert await active(database) == {first.sub_job_id, read.sub_job_id}
    await parts.write(QuarantineOver(await leased(database, first)))
    assert await active(database) == {second.sub_job_id, read.sub_job_id}


# --- one write per lane --------------------------------------------------------------------------------


async def test_a_second_active_write_is_an_error_of_the_database(database: Database) -> None:
    """The index refuses it whichever statement writes it, and whatever the stage of the first one."""
    async with database.transaction() as connection:
        first, second = await planned_job(connection), await waiting(connection)
    for stage in ("ADMITTED", "STARTING", "TRACKING", "COLLECTING", "QUARANTINED"):
        await by_hand(
            database,
            "update sub_job set stage = $2::sub_job_stage where sub_job_id = $1",
            first.sub_job_id,
            stage,
        )
        with pytest.raises(asyncpg.UniqueViolationError) as error:
            await by_hand(
                database, "update sub_job set stage = 'ADMITTED' where sub_job_id = $1", second.sub_job_id
            )
        assert error.value.constraint_name == sub_jobs.ONE_WRITE_PER_LANE


async def test_a_lane_in_which_admission_is_refused_stops_no_other_lane(
    database: Database, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A faulty statement admits too much: the database refuses this in the one lane that already has a write.
    That lane is logged and left unchanged. The settlements of the batch are kept, and its other lanes admit
    their next write."""
    async with database.transaction() as connection:
        ended = {name: await planned_job(connection, name) for name in ("broken", "well")}
        later = {name: await planned_job(connection, name, admitted=False) for name in ended}
        extra = await planned_job(connection, "broken", admitted=False)
        await connection.execute(
            """create function make_it_a_write() returns trigger language plpgsql as $$
               begin
                   update sub_job set type = 'WRITE' where lane_id = new.lane_id and stage = 'TRACKING';
                   return null;
               end $$;
               create trigger make_it_a_write after update of stage on sub_job for each row
                   when (old.stage = 'WAITING' and new.stage = 'ADMITTED')
                   execute function make_it_a_write()"""
        )
    # A second active write, made by hand: the index does not see it until the trigger makes it a write.
    await by_hand(
        database,
        "update sub_job set type = 'READ', stage = 'TRACKING', due_at = now() where sub_job_id = $1",
        extra.sub_job_id,
    )
    settlements = [Ended(await leased(database, job), Status.FAILED, failed=1) for job in ended.values()]
    with log_lines() as lines:
        await asyncio.gather(*map(parts.write, settlements))
    refused = [line for line in lines() if line["event"] == "lane.admission_refused"]
    assert [line["lane_id"] for line in refused] == ended["broken"].lane_ids
    assert "one_write_per_lane" in refused[0]["cause"]
    stages = {
        name: ((await sub_job_row(database, ended[name].sub_job_id))["stage"],
               (await sub_job_row(database, later[name].sub_job_id))["stage"])
        for name in ended
    }  # fmt: skip
    assert stages == {"broken": ("SETTLED", "WAITING"), "well": ("SETTLED", "ADMITTED")}
    counted = await rows(
        database, "select failed, sub_jobs_open from data_job where job_id = any($1)",
        [job.job_id for job in ended.values()],
    )  # fmt: skip
    assert counted == [{"failed": 1, "sub_jobs_open": 0}] * 2


@pytest.mark.parametrize("poison", ["by the server", "by the driver"])
async def test_a_transition_that_the_database_refuses_stops_no_other_one(
    database: Database, parts: Parts, poison: str
) -> None:
    """One write of a batch fails permanently: it is logged and its caller is stopped. The others are
    written."""
    async with database.transaction() as connection:
        made = [await planned_job(connection, name) for name in ("a", "b", "c")]
    settlements = [Ended(await leased(database, job), Status.FAILED, failed=1) for job in made]
    error = "\0" if poison == "by the server" else "\ud800"
    settlements[1] = Ended(settlements[1].leased, Status.FAILED, failed=1, error=error)
    with log_lines() as lines:
        ends = await asyncio.gather(*map(parts.write, settlements), return_exceptions=True)
    assert [type(each) for each in ends] == [bool, Fenced, bool]
    refused = [line["sub_job_id"] for line in lines() if line["event"] == "sub_job.transition_refused"]
    assert refused == [str(made[1].sub_job_id)]
    stages = [(await sub_job_row(database, job.sub_job_id))["stage"] for job in made]
    assert stages == ["SETTLED", "ADMITTED", "SETTLED"]


# --- claims of a worker --------------------------------------------------------------------------------


def room(rows: int = 1000, size: int = MUCH, other: PluginRoom | None = None, **of: PluginRoom) -> Room:
    """Room for a claim. ``p1=…``: room of the plugin with that id."""
    return Room(
        rows, size, other or PluginRoom(1000, 1000, MUCH), {int(k[1:]): each for k, each in of.items()}
    )


async def test_a_claim_takes_what_is_due_in_the_order_in_which_it_became_due(
    database: Database,
) -> None:
    """Sub-jobs are claimed oldest first, creates and other steps together. Those that are due later, or
    leased, are not claimed."""
    async with database.transaction() as connection:
        job = await planned_job(connection, *"abcdef")
    for position, (ago, stage) in enumerate(
        [(1, "ADMITTED"), (5, "TRACKING"), (3, "ADMITTED"), (4, "COLLECTING"), (-60, "TRACKING")]
    ):
        await by_hand(
            database,
            "update sub_job set stage = $2::sub_job_stage, due_at = now() - make_interval(secs => $3)"
            " where position = $1",
            position,
            stage,
            ago,
        )
    by_age = [job.sub_job_ids[n] for n in (1, 3, 2, 0, 5)]
    claimed = [each for _ in by_age for each in await claim(database, room(rows=1))]
    assert [each.sub_job_id for each in claimed] == by_age
    assert [(each.was, each.stage) for each in claimed[:3]] == [
        (Stage.TRACKING, Stage.TRACKING),
        (Stage.COLLECTING, Stage.COLLECTING),
        (Stage.ADMITTED, Stage.STARTING),
    ]
    assert await claim(database) == []


async def test_a_claim_keeps_to_the_room_of_each_plugin(database: Database) -> None:
    """Creates and other steps have separate limits. A plugin without room does not reduce the room of
    others."""
    async with database.transaction() as connection:
        full, free = [await add_plugin(connection, url) for url in ("http://full", "http://free")]
        for plugin_id in (full, free):
            await planned_job(connection, *"abcdef", plugin_id=plugin_id)
    await by_hand(database, "update sub_job set stage = 'TRACKING' where position >= 3")
    of_full = PluginRoom(1, 2, MUCH)
    claimed = await claim(database, Room(1000, MUCH, PluginRoom(2, 3, MUCH), {full: of_full}))
    found = {
        (plugin, stage): sum(each.plugin_id == plugin and each.stage is stage for each in claimed)
        for plugin in (full, free)
        for stage in (Stage.STARTING, Stage.TRACKING)
    }
    assert found == {
        (full, Stage.STARTING): 1,
        (full, Stage.TRACKING): 2,
        (free, Stage.STARTING): 2,
        (free, Stage.TRACKING): 3,
    }
    nothing = PluginRoom(0, 0, 0)
    assert await claim(database, Room(1000, MUCH, nothing, {})) == []
    assert await claim(database, Room(0, MUCH, PluginRoom(9, 9, MUCH), {})) == []


async def test_a_claim_keeps_to_the_bytes_of_operations(database: Database) -> None:
    """Creates are claimed while their operations fit. Other steps hold no operations, and are claimed in
    addition. A sub-job that is larger than the total room is claimed alone."""
    large = b'[{"op":"merge","path":"/A=1","operationId":1,"value":"%b"}]' % (b"x" * 1000)
    async with database.transaction() as connection:
        plugin_id = await add_plugin(connection)
        await planned_job(connection, *"abcdef", operations=large)
    await by_hand(database, "update sub_job set stage = 'TRACKING' where position = 5")
    size = (await rows(database, "select min(body_bytes) as size from sub_job"))[0]["size"]
    assert size > 1000
    in_all = await claim(database, room(size=2 * size))
    assert sorted(each.stage for each in in_all) == [Stage.STARTING] * 2 + [Stage.TRACKING]
    assert all(each.body_bytes == size for each in in_all if each.stage is Stage.STARTING)
    of_plugin = await claim(
        database, Room(1000, MUCH, PluginRoom(9, 9, MUCH), {plugin_id: PluginRoom(9, 9, 1)})
    )
    assert len(of_plugin) == 1
    assert await claim(database, room(size=0)) == []
    assert len(await claim(database)) == 2


async def test_void_leases_are_claimed_and_valid_ones_are_not(database: Database) -> None:
    """A row whose lease is void is claimed before the due rows, with a new token."""
    async with database.transaction() as connection:
        job = await planned_job(connection, "a", "b")
    first = await claim(database)
    assert {each.sub_job_id for each in first} == set(job.sub_job_ids)
    leases = {each.sub_job_id: each.lease for each in first}
    assert await dispatch_store(database).renew(leases, {}) == set(job.sub_job_ids)
    assert await claim(database) == []
    await void_leases(database)
    async with database.transaction() as connection:
        due = await planned_job(connection, "c")
    (over,) = await claim(database, room(rows=1))
    (next_over,) = await claim(database, room(rows=1))
    assert {over.sub_job_id, next_over.sub_job_id} == set(job.sub_job_ids)
    assert not {over.lease, next_over.lease} & {each.lease for each in first}
    assert [each.sub_job_id for each in await claim(database)] == [due.sub_job_id]


async def test_two_workers_claim_at_the_same_time_and_neither_waits(database: Database) -> None:
    """While one worker's claim is not committed, another worker claims the remaining rows, and no row
    twice."""
    async with database.transaction() as connection:
        job = await planned_job(connection, *"abcd")
    async with database.transaction() as connection:
        first = await claim(connection, room(rows=2))
        async with asyncio.timeout(30):
            second = await claim(database, PLENTY)
        assert len(first) == len(second) == 2
        assert {each.sub_job_id for each in (*first, *second)} == set(job.sub_job_ids)
    await void_leases(database)
    async with database.transaction() as connection:
        over = await claim(connection, room(rows=3))
        async with asyncio.timeout(30):
            rest = await claim(database, PLENTY)
    assert (len(over), len(rest)) == (3, 1)
    assert {each.sub_job_id for each in (*over, *rest)} == set(job.sub_job_ids)


async def test_a_cancelled_sub_job_is_claimed_to_be_ended_and_not_started(database: Database) -> None:
    """Before its create, the sub-job stays in its stage and no attempt is counted. The claim returns its
    operations, since they are few."""
    async with database.transaction() as connection:
        first, second = await planned_job(connection), await waiting(connection)
        for job in (first, second):
            await sub_jobs.bump_jobs(connection, [job.job_id])
            await sub_jobs.cancel(connection, job.job_id)
    claimed = await claim(database)
    assert {
        (each.stage, each.cancel_requested, each.attempts, unpack(each.body or b"")) for each in claimed
    } == {
        (Stage.ADMITTED, True, 0, OPERATIONS),
        (Stage.WAITING, True, 0, OPERATIONS),
    }


async def test_a_claim_leases_in_the_name_of_its_worker(database: Database) -> None:
    """The row of leased work names its worker."""
    async with database.transaction() as connection:
        job = await planned_job(connection)
    worker_id = uuid4()
    (claimed,) = await claim(database, worker_id=worker_id)
    row = await sub_job_row(database, job.sub_job_id)
    assert (row["leased_by"], row["lease"]) == (worker_id, claimed.lease)
    (seconds,) = await rows(
        database, "select extract(epoch from leased_until - started_at)::float8 as n from sub_job"
    )
    assert seconds["n"] == pytest.approx(sub_jobs.LEASE_SECONDS, abs=1)


async def test_two_transactions_that_make_room_in_a_lane_admit_one_write(
    database: Database, parts: Parts
) -> None:
    """A read is settled while another transaction ends the lane's write and admits the next one: the later
    transaction waits for the lane lock, sees the admission, and admits nothing more."""
    async with database.transaction() as connection:
        read = await planned_job(connection, kind=JobType.READ)
        first, second = await planned_job(connection), await waiting(connection)
    name = await leased(database, read)
    async with database.transaction() as connection:
        await sub_jobs.lock_lanes(connection, first.lane_ids)
        ending = asyncio.create_task(parts.write(Ended(name, Status.FAILED, failed=1)))

        async def waits() -> bool:
            return bool(await rows(database, "select 1 from pg_locks where not granted"))

        await until(waits)
        await connection.execute(
            "update sub_job set stage = 'SETTLED' where sub_job_id = $1", first.sub_job_id
        )
        (admitted,) = await sub_jobs.admit(connection, first.lane_ids, Settings())
        assert admitted == second.sub_job_id
    await ending
    assert await active(database) == {second.sub_job_id}


LANES = 300
READS_OF_A_LANE = 20
"""Maximum rows that admission may read for each lane. A comparison of every lane with every other reads
hundreds."""


async def test_admission_of_many_lanes_reads_rows_in_proportion(
    database: Database,
) -> None:
    """The statistics of the database date from a moment without waiting sub-jobs. Then a job is planned whose
    sub-jobs wait in hundreds of lanes. The rows that their admission reads grow with the number of lanes, not
    with its square."""
    producers = [f"ems-{n}" for n in range(LANES)]
    async with database.transaction() as connection:
        await planned_job(connection, *producers)
    await all_settled(database)
    async with database.transaction() as connection:
        await connection.execute("analyze sub_job")
    async with database.transaction() as connection:
        job = await planned_job(connection, *producers, admitted=False)
        await sub_jobs.lock_lanes(connection, job.lane_ids)
        before = await _rows_read(connection)
        admitted = await sub_jobs.admit(connection, job.lane_ids, Settings())
        read = await _rows_read(connection) - before
    assert sorted(admitted) == sorted(job.sub_job_ids)
    assert 0 < read <= READS_OF_A_LANE * LANES


async def _rows_read(connection: Connection) -> int:
    """Number of rows of sub-jobs that this transaction has read."""
    number: int = await connection.fetchval(
        "select seq_tup_read + idx_tup_fetch from pg_stat_xact_user_tables where relname = 'sub_job'"
    )
    return number
