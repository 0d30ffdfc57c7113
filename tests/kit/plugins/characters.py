# SPDX-License-Identifier: Apache-2.0
"""DMI plugins of every kind of behaviour, and the network between a worker and them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from random import Random
from typing import Final, TypeVar
from uuid import UUID

import msgspec
from msgspec.structs import replace

from ran_datajobs.model import Operation, OperationState, Response, Status
from ran_datajobs.plugins.port import (
    CancelAnswer,
    CancelTaken,
    CreateAnswer,
    CreateCall,
    Created,
    Entry,
    JobAddress,
    Lost,
    NoOutcomes,
    OnTopic,
    OutcomeUnknown,
    PluginProfile,
    Polled,
    Refused,
    Responses,
    ResultAnswer,
    Retryable,
    StatusAnswer,
    UnrecognisedResult,
)

T = TypeVar("T")

PATIENCE: Final = 4.0
"""Seconds that a worker waits for an answer."""

LATEST: Final = 7.0
"""Maximum seconds until a create arrives, answered or not: shorter than a quarantine."""

TOPIC: Final = "ncmp-async-m2m"
_OPERATIONS: Final = msgspec.json.Decoder(list[Operation])


@dataclass(frozen=True)
class Character:
    """Behaviour of a plugin; shares are of 1. ``takes``: maximum seconds that it executes a job.

    ``dead``: interval in which no call reaches it. ``flaps``: seconds of each phase of an intermittent
    plugin.
    """

    name: str
    idempotent: bool = False
    slow: float = 0.05
    takes: float = 2.0
    dead: tuple[float, float] = (0.0, 0.0)
    flaps: float = 0.0
    unheard: float = 0.0  # an answer that is lost
    refuses: float = 0.0  # creates
    forgets: float = 0.0  # jobs that it has lost
    lies: float = 0.0  # statuses and results that are false, or of an unknown form
    cancels: bool = True
    bulk: bool = False  # it is registered with bulkCancel

    def reachable(self, now: float) -> bool:
        """Whether a call arrives."""
        if self.dead[0] <= now < self.dead[1]:
            return False
        return not (self.flaps and int(now / self.flaps) % 2)


def characters(rng: Random) -> list[Character]:
    """A population of three, each with a random combination of behaviours."""
    found = []
    for name in ("P0", "P1", "P2"):
        begins = rng.uniform(0.0, 60.0)
        kinds: dict[str, dict[str, object]] = {
            "good": {},
            "slow": {"slow": 3.0, "takes": 10.0},
            "very slow": {"takes": 40.0},
            "dead": {"dead": (begins, begins + rng.uniform(3.0, 60.0))},
            "flapping": {"flaps": rng.uniform(0.5, 6.0)},
            "unheard": {"unheard": 0.3},
            "refusing": {"refuses": 0.4},
            "forgetting": {"forgets": 0.1},
            "lying": {"lies": 0.3},
        }
        chosen: dict[str, object] = {}
        for kind in rng.sample(sorted(kinds), rng.choice([1, 1, 2, 3])):
            chosen |= kinds[kind]
        chosen["idempotent"] = rng.random() < 0.4
        chosen["bulk"] = rng.random() < 0.4
        chosen["cancels"] = rng.random() < 0.7
        found.append(Character(name, **chosen))  # type: ignore[arg-type]
    return found


@dataclass(eq=False)
class Executed:
    """A sub-job that a plugin has accepted. ``until``: when its execution ends. ``over``: it was stopped
    before."""

    call: CreateCall
    job_id: str
    operations: list[Operation]
    begun: float
    until: float
    sub_job_id: UUID
    over: bool = False
    reported: Status | None = None
    cancelled: bool = False
    messages: int = 0  # of a read, once it has published

    def running(self, now: float) -> bool:
        """Whether it is being executed."""
        return not self.over and now < self.until


@dataclass(eq=False)
class Plugin:
    """One plugin: its state, and what it has executed."""

    url: str
    character: Character
    rng: Random
    clock: Callable[[], float]
    publish: Callable[[Executed], None]
    speaks: str = "seed"
    record: list[Executed] = field(default_factory=list)
    jobs: dict[str, Executed] = field(default_factory=dict)
    overlaps: list[tuple[str, str]] = field(default_factory=list)
    refused: set[str] = field(default_factory=set)
    cancelled_jobs: set[str] = field(default_factory=set)
    calm: bool = False
    """From now on it answers well."""

    def happens(self, share: float) -> bool:
        """Whether an event of this probability occurs now."""
        return not self.calm and self.rng.random() < share

    def reachable(self) -> bool:
        """Whether a call arrives now."""
        return self.calm or self.character.reachable(self.clock())

    def create(self, call: CreateCall) -> CreateAnswer:
        """A create arrives."""
        known = next((each for each in self.jobs.values() if each.call.sub_job_id == call.sub_job_id), None)
        known = known or next((e for e in self.record if e.call.sub_job_id == call.sub_job_id), None)
        if self.character.idempotent and known is not None:
            return Created(known.job_id)
        if call.sub_job_id in self.refused or (known is None and self.happens(self.character.refuses)):
            self.refused.add(call.sub_job_id)
            return Refused("not here")
        now = self.clock()
        executed = Executed(
            call,
            f"{call.sub_job_id}/{len(self.record)}/{len(self.jobs)}",
            _OPERATIONS.decode(call.operations),
            now,
            now + self.rng.uniform(0.05, self.character.takes),
            UUID(call.sub_job_id),
        )
        if call.job_id in self.cancelled_jobs:
            executed.over = executed.cancelled = True
            self.jobs[executed.job_id] = executed
            return Created(executed.job_id)
        if not call.is_read:
            self.overlaps += [
                (call.sub_job_id, each.call.sub_job_id)
                for each in self.record
                if each.running(now) and not each.call.is_read
                if each.call.data_producer_id == call.data_producer_id
                if each.call.sub_job_id != call.sub_job_id
            ]
        self.record.append(executed)
        self.jobs[executed.job_id] = executed
        return Created(executed.job_id)

    def _known(self, address: JobAddress) -> Executed | None:
        job = self.jobs.get(address.data_producer_job_id)
        if job is not None and self.happens(self.character.forgets):
            job.over = True
            del self.jobs[job.job_id]
            return None
        return job

    def status(self, address: JobAddress) -> StatusAnswer:
        """A poll arrives."""
        job = self._known(address)
        if job is None:
            return Lost("404")
        if job.reported is not None and self.happens(self.character.lies):
            return Polled(Status.RUNNING)
        if job.reported is None:
            if self.happens(self.character.lies / 10):
                job.over, job.reported = True, self.rng.choice([Status.FAILED, Status.CANCELLED])
            elif job.running(self.clock()):
                return Polled(Status.RUNNING)
            else:
                job.reported = Status.CANCELLED if job.cancelled else Status.FINISHED
        return Polled(job.reported)

    def result(self, address: JobAddress) -> ResultAnswer:
        """A fetch arrives."""
        job = self._known(address)
        if job is None:
            return Lost("404")
        if job.call.is_read and self.rng.random() < 0.6:
            self.publish(job)
            return OnTopic(TOPIC)
        if self.happens(self.character.lies):
            return self.rng.choice(
                [
                    UnrecognisedResult(b'{"result": "as it came"}'),
                    NoOutcomes(),
                    Responses(()),
                ]
            )
        if job.cancelled:
            return Responses(())
        return Responses(
            tuple(Entry(each.operation_id, response(each.operation_id)) for each in job.operations)
        )

    def cancel(self, address: JobAddress) -> CancelAnswer:
        """A DELETE arrives."""
        job = self._known(address)
        if job is None or not self.character.cancels:
            return Refused("405")
        _stop(job, self.clock())
        return CancelTaken()

    def cancel_job(self, job_id: str) -> CancelAnswer:
        """A DELETE of a whole job arrives: nothing more of it is started."""
        if not self.character.cancels:
            return Refused("405")
        self.cancelled_jobs.add(job_id)
        for job in self.jobs.values():
            if job.call.job_id == job_id:
                _stop(job, self.clock())
        return CancelTaken()


def _stop(job: Executed, now: float) -> None:
    if job.running(now):
        job.over = job.cancelled = True


def response(operation_id: str | int) -> Response:
    """A successful outcome."""
    return Response(operation_id, 0, "applied", state=OperationState.SUCCEEDED)


class Client:
    """The network from one worker to a plugin: slow, lossy, and at times unavailable. ``gate`` returns while
    the worker runs. It is not awaited between the decision to send a create and its departure, which is
    reported to ``sends``. ``misled`` is called for a call about a sub-job in a dialect that the plugin does
    not speak."""

    def __init__(
        self,
        plugin: Plugin,
        profile: PluginProfile,
        gate: Callable[[], Awaitable[None]],
        sends: Callable[[UUID], None],
        open_calls: set[object],
        misled: Callable[[], None],
    ) -> None:
        self._plugin = plugin
        self._dialect = profile.spoken_dialect
        self._misled = misled
        self._sends = sends
        self._gate = gate
        self._open = open_calls

    async def create(self, call: CreateCall) -> CreateAnswer:
        plugin = self._plugin
        self._sends(UUID(call.sub_job_id))
        if not plugin.reachable():
            await self._wait(0.01)
            return Retryable("connection refused")
        if self._dialect != plugin.speaks:  # a 404: the create is sent once more, in the other dialect
            await self._wait(plugin.rng.uniform(0.0, PATIENCE if plugin.happens(0.5) else 0.1))
            if not call.may_be_sent():
                return Retryable("not sent in another form", answered=True)
            self._sends(UUID(call.sub_job_id))
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[CreateAnswer] = loop.create_future()
        travels = min(LATEST, plugin.rng.uniform(0.0, plugin.character.slow) * (0.1 if plugin.calm else 1))
        if plugin.happens(0.02):
            travels = plugin.rng.uniform(0.0, LATEST)

        def arrive() -> None:
            reported = plugin.create(call)
            if isinstance(reported, Created):
                reported = replace(reported, dialect=plugin.speaks)
            if not answer.done() and not plugin.happens(plugin.character.unheard):
                answer.set_result(reported)

        loop.call_later(travels, arrive)  # whether or not the worker still exists
        return await self._answered(answer, OutcomeUnknown("no answer in time"))

    async def status(self, address: JobAddress) -> StatusAnswer:
        return await self._ask_about_one(lambda: self._plugin.status(address))

    async def result(self, address: JobAddress) -> ResultAnswer:
        return await self._ask_about_one(lambda: self._plugin.result(address))

    async def cancel(self, address: JobAddress) -> CancelAnswer:
        return await self._ask_about_one(lambda: self._plugin.cancel(address))

    async def cancel_job(self, job_id: str, *, is_read: bool) -> CancelAnswer:
        if self._dialect != self._plugin.speaks:
            return await self._ask(lambda: Refused("404"))
        return await self._ask(lambda: self._plugin.cancel_job(job_id))

    async def _ask_about_one(self, arrives: Callable[[], T]) -> T | Retryable:
        if self._dialect != self._plugin.speaks:
            self._misled()
        return await self._ask(arrives)

    async def _ask(self, arrives: Callable[[], T]) -> T | Retryable:
        plugin = self._plugin
        if not plugin.reachable():
            await self._wait(PATIENCE if plugin.happens(0.5) else 0.01)
            return Retryable("connection refused")
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T | Retryable] = loop.create_future()

        def arrive() -> None:
            reported = arrives()
            if not answer.done() and not plugin.happens(plugin.character.unheard):
                answer.set_result(reported)

        loop.call_later(plugin.rng.uniform(0.0, plugin.character.slow), arrive)
        return await self._answered(answer, Retryable("no answer in time"))

    async def _answered(self, answer: asyncio.Future[T], otherwise: T) -> T:
        self._open.add(answer)
        try:
            async with asyncio.timeout(PATIENCE):
                reported = await answer
        except TimeoutError:
            reported = otherwise
        finally:
            self._open.discard(answer)
        await self._gate()
        return reported

    async def _wait(self, seconds: float) -> None:
        await asyncio.sleep(seconds)
        await self._gate()
