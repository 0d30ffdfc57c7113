# SPDX-License-Identifier: Apache-2.0
"""One run: clients, workers, plugins, a store and a bus, all of them unreliable, and the rules to be checked.

The seed determines the whole run. For :data:`CHAOS` seconds anything can fail. Afterwards nothing fails any
more, and everything has to end.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Sequence
from random import Random
from typing import Any, Final, cast
from uuid import UUID, uuid5

import msgspec
import zstandard

from ran_datajobs.config import Settings
from ran_datajobs.inventory.owners import Owner, Owners
from ran_datajobs.model import JobType
from ran_datajobs.nrm.fdn import key
from ran_datajobs.plugins.port import PluginProfile
from ran_datajobs.results.objects import part_key
from ran_datajobs.results.outcomes import pack_outcomes
from ran_datajobs.results.responses import documents
from ran_datajobs.store import jobs
from ran_datajobs.store.results import Part
from ran_datajobs.telemetry import Logger
from tests.kit.plugins.characters import Character, Executed, Plugin, characters, response
from tests.simulation.invariants import AT_THE_END, Rule, rules
from tests.simulation.loop import SimulationLoop, Stuck
from tests.simulation.rows import OPEN
from tests.simulation.twin import Twin
from tests.simulation.worker import Faults, SimulatedWorker, remember_task

ADMISSION_SETTINGS: Final = Settings(priority_aging=20.0, read_slots=2)
CHAOS: Final = 90.0
"""Seconds in which faults occur."""

PATIENCE: Final = 400.0
"""Seconds after that in which every job has to end."""

PRODUCERS: Final = 2
"""Data producers of each plugin."""

BUCKET: Final = "datajobs-results"
_NAMES: Final = UUID(int=4)


class Broken(AssertionError):
    """A rule does not hold."""


class World:
    """The run of a seed. :meth:`run` raises Broken at the first call after which a rule is violated."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self.loop = SimulationLoop()
        self.rng = Random(seed)
        self.twin = Twin(self.loop.time, ADMISSION_SETTINGS)
        self.log = cast("Logger", _LogLines(self))
        self.faults: list[str] = []
        self.broken: str | None = None
        self.stored: dict[str, bytes] = {}
        self.store_unavailable = self._intervals(2, 20.0)
        self.objects_unavailable = self._intervals(2, 30.0)
        self.trace = hashlib.sha256()
        self.calls = 0
        self.plugins: dict[str, Plugin] = {}
        self.index = _Index()
        for character in characters(self.rng):
            self._add_plugin(character)
        self.workers: list[SimulatedWorker] = []
        self.submitted: dict[UUID, list[str]] = {}
        self.rules: Sequence[Rule] = rules()
        self.read_slots = ADMISSION_SETTINGS.read_slots
        self._numbers = 0
        self.loop.born = remember_task

    def _intervals(self, most: int, longest: float) -> list[tuple[float, float]]:
        begins = [self.rng.uniform(0.0, CHAOS) for _ in range(self.rng.randint(0, most))]
        return [(start, min(CHAOS, start + self.rng.uniform(0.1, longest))) for start in begins]

    def _add_plugin(self, character: Character) -> None:
        url = f"http://{character.name}"
        dialect = Random(f"{self.seed} {url}").choice(["seed", "auto"])
        plugin_id = self.twin.register(
            url, dialect=dialect, idempotent=character.idempotent, bulk_cancel=character.bulk
        )
        rng = Random(self.seed * 1_000 + 500 + plugin_id)
        speaks = "seed" if dialect == "seed" or plugin_id % 2 else "onap"
        self.plugins[url] = Plugin(url, character, rng, self.loop.time, self._publish, speaks)
        profile = PluginProfile(plugin_id, url, dialect, idempotent=character.idempotent)
        self.index.owners = self.index.owners.changed(
            set(),
            [
                Owner(
                    f"{character.name}-{n}",
                    key(f"/SubNetwork={character.name}/ManagedElement={n}"),
                    profile,
                    profile,
                    f"ems-{n}",
                    "",
                    b"{}",
                )
                for n in range(PRODUCERS)
            ],
        )

    # --- the run -------------------------------------------------------------------------------------

    def run(self) -> str:
        """Run, and return the digest of all events. Raises Broken."""
        self.loop.set_exception_handler(self._take_exception)
        try:
            self.loop.run_until_complete(self._live())
        except Stuck as error:
            self._fail_on([str(error)])
        except RuntimeError:
            if self.broken is None:
                raise
        finally:
            self._close()
        if self.broken is not None:
            raise Broken(self.broken)
        return self.trace.hexdigest()

    def _take_exception(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self._fail_on([repr(context.get("exception") or context["message"])])

    async def _live(self) -> None:
        for _ in range(self.rng.choice([1, 2, 2, 3])):
            self._new_worker(Faults(Random(self.rng.random())))
        clients = [self.loop.create_task(self._client()) for _ in range(self.rng.randint(3, 8))]
        clients += [self.loop.create_task(work) for work in (self._pushes(), self._stops())]
        await asyncio.sleep(CHAOS)
        await asyncio.gather(*clients)
        self._calm()
        until = self.loop.time() + PATIENCE
        while self._is_open() and self.loop.time() < until:
            await asyncio.sleep(1.0)
            self.check("a second")
        await asyncio.sleep(2.0)
        self.check("the end")
        self._fail_on(
            [
                f"{each.__name__.rpartition('.')[2]}: {violation}"
                for each in AT_THE_END
                for violation in each.violations(self)
            ]
        )
        await self._stop()

    def _is_open(self) -> bool:
        return any(job.status in OPEN for job in self.twin.jobs.values()) or any(
            row.lease is not None or row.due_at is not None
            for row in (*self.twin.sub_jobs.values(), *self.twin.cancels.values())
        )

    def _calm(self) -> None:
        """From now on nothing fails. Frozen workers continue."""
        self.store_unavailable, self.objects_unavailable = [], []
        for plugin in self.plugins.values():
            plugin.calm = True
        for worker in self.workers:
            worker.faults = Faults.none()
            worker.frozen_until = 0.0
        if not self.workers:
            self._new_worker(Faults.none())

    async def _stop(self) -> None:
        """Every worker stops in order, and gives back its leases."""
        for worker in self.workers:
            worker.stopping.set()
        await asyncio.gather(*(worker.main for worker in self.workers), return_exceptions=True)
        self.check("the stop")
        left = [f"worker {w.number} left {len(w.tasks)} tasks" for w in self.workers if w.tasks]
        self._fail_on(left)

    def _close(self) -> None:
        tasks = asyncio.all_tasks(self.loop)
        for worker in self.workers:
            worker.dead = True
        for task in tasks:
            task.cancel()
        if tasks:
            self.loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        self.loop.close()

    # --- the rules -----------------------------------------------------------------------------------

    def check(self, after: str) -> None:
        """Check every rule. The run ends if one is violated. ``after``: the last call."""
        self.calls += 1
        found = [f"{rule.name}: {violation}" for rule in self.rules for violation in rule.violations(self)]
        self._fail_on([*found, *self.faults], after)

    def _fail_on(self, found: list[str], after: str = "") -> None:
        """Record the first fault, and stop the loop: a worker would only log an exception."""
        if found and self.broken is None:
            what = "\n".join(found[:10])
            self.broken = (
                f"seed {self.seed}, after {self.calls} calls ({after}), at {self.loop.time():.3f} s:\n"
                f"{what}\n"
                f"repeat it with: make simulate SEEDS=1 FIRST={self.seed}"
            )
            self.loop.stop()

    def note(self, worker: int, what: str) -> None:
        """Add an event to the digest."""
        self.trace.update(f"{self.loop.time():.6f} {worker} {what}\n".encode())

    # --- workers -------------------------------------------------------------------------------------

    def _new_worker(self, faults: Faults) -> None:
        self._numbers += 1
        worker = SimulatedWorker(self, self._numbers, faults)
        self.workers.append(worker)
        worker.start()

    def replace(self, gone: SimulatedWorker) -> None:
        """Another worker starts some time after one has ended."""
        self.workers.remove(gone)
        faults = Faults(Random(self.rng.random()))
        self.loop.call_later(self.rng.choice([0.1, 1.0, 15.0]), lambda: self._restart(faults))

    def _restart(self, faults: Faults) -> None:
        self._new_worker(faults if self.loop.time() < CHAOS else Faults.none())

    async def _stops(self) -> None:
        """At intervals a worker is stopped in order."""
        for _ in range(self.rng.choice([0, 0, 1, 2])):
            await asyncio.sleep(self.rng.uniform(1.0, CHAOS / 2))
            if self.workers:
                self.rng.choice(self.workers).leave()

    # --- clients and the bus -------------------------------------------------------------------------

    async def _client(self) -> None:
        """Submits a few jobs, and cancels some of them."""
        rng = Random(self.rng.random())
        client = rng.choice("ab")
        for _ in range(rng.randint(1, 3)):
            await asyncio.sleep(rng.uniform(0.0, CHAOS / 3))
            job_id = self._submit(rng, client)
            if rng.random() < 0.25:
                await asyncio.sleep(rng.choice([0.0, 0.01, 0.5, 5.0]))
                self.note(0, f"cancel {self.twin.cancel(job_id)}")
                self.check("a cancel")

    def _submit(self, rng: Random, client: str) -> UUID:
        kind = JobType.READ if rng.random() < 0.3 else JobType.WRITE
        elements = [f"{name[7:]}/{n}" for name in self.plugins for n in range(PRODUCERS)] + ["nobody/0"]
        lines = [
            _line(kind, element, n)
            for element in rng.sample(elements, rng.randint(1, 4))
            for n in range(rng.randint(1, 2))
        ]
        job_id = uuid5(_NAMES, str(len(self.submitted)))
        after = [rng.choice(list(self.submitted))] if self.submitted and rng.random() < 0.2 else []
        self.submitted[job_id] = [line["operationId"] for line in lines]
        self.note(0, f"submit {kind} {lines}")
        self.twin.submit(
            jobs.NewJob(
                job_id=job_id,
                client=client,
                type=kind,
                name=None,
                destination=None,
                destination_kind=jobs.BUCKET,
                results_bucket=BUCKET,
                accept_type="application/vnd.3gpp.object-tree-hierarchical+json",
                content_type="application/3gpp-json-patch+json",
                activation_mode="BEST_EFFORT",
                priority=rng.choice([1, 4, 4, 9]),
                after_jobs=tuple(after),
                retry_of=None,
                count=len(lines),
                request=zstandard.compress(msgspec.json.encode({"data": lines})),
            )
        )
        self.check("a submission")
        return job_id

    async def _pushes(self) -> None:
        """Plugins push at intervals that a status has changed."""
        while self.loop.time() < CHAOS:
            await asyncio.sleep(self.rng.uniform(0.5, 10.0))
            known = [each for plugin in self.plugins.values() for each in plugin.record]
            if known:
                some = self.rng.choice(known)
                self.twin.push(UUID(some.call.sub_job_id), some.job_id)
                self.check("a push")

    def _publish(self, executed: Executed) -> None:
        """The messages of a read arrive, some of them twice, some never while faults occur."""
        if not executed.messages:
            executed.messages = self.rng.randint(1, len(executed.operations))
        total = executed.messages
        for number in range(total):
            for _ in range(self.rng.choice([1, 1, 2])):
                if self.loop.time() >= CHAOS or self.rng.random() > 0.05:
                    self.loop.call_later(self.rng.uniform(0.0, 3.0), self._arrive, executed, number, total)

    def _arrive(self, executed: Executed, number: int, total: int) -> None:
        job_id, sub_job = UUID(executed.call.job_id), executed.call.sub_job_id
        responses = [response(o.operation_id) for o in executed.operations[number::total]]
        (document,) = documents(responses)
        name = part_key(str(job_id), sub_job, number)
        part = Part(
            sub_job,
            number,
            name,
            len(document.body),
            hashlib.sha256(document.body).hexdigest(),
            len(responses),
            0,
        )
        if self.twin.arrive(UUID(sub_job), part, pack_outcomes(responses), total):
            self.stored.setdefault(name, document.body)
        self.check("a message")


def _line(kind: JobType, element: str, n: int) -> dict[str, Any]:
    plugin, producer = element.split("/")
    line: dict[str, Any] = {
        "op": "merge",
        "path": f"/SubNetwork={plugin}/ManagedElement={producer}/Cell={n}",
        "operationId": f"{element}-{n}",
        "value": {"a": n},
    }
    if kind is JobType.READ:
        del line["value"]
        line["op"] = "read"
    return line


class _Index:
    """The owners, as a worker's index follows them."""

    def __init__(self) -> None:
        self.owners = Owners()

    async def catch_up(self) -> Owners:
        """They never change."""
        return self.owners


class _LogLines:
    """A traceback in the log of a worker, and an error of the store, is a fault."""

    def __init__(self, world: World) -> None:
        self._world = world

    def bind(self, **_fields: Any) -> _LogLines:
        return self

    def _take(self, event: str, **fields: Any) -> None:
        if fields.get("exc_info") or event.endswith(("transition_refused", "admission_refused")):
            self._world.faults.append(f"logged: {event} {fields}")

    debug = info = warning = error = _take


def simulate(seed: int) -> str:
    """The digest of the run of a seed. Raises Broken."""
    return World(seed).run()
