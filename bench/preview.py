# SPDX-License-Identifier: Apache-2.0
"""A preview of 100,000 operations: processor time and memory of its plan and of its finish step, in one
process, without the database, the object store and the plugins."""

from __future__ import annotations

import gc
import tempfile
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import msgspec
import psutil
from msgspec import Raw

from ran_datajobs.dispatch.previews import Outcomes
from ran_datajobs.inventory.owners import Owner, Owners
from ran_datajobs.model import OperationState, Response
from ran_datajobs.nrm.effects import Copies, Effects
from ran_datajobs.nrm.model import load
from ran_datajobs.nrm.names import distinguished_name
from ran_datajobs.nrm.reach import Survey
from ran_datajobs.planning.previews import objects_to_read, split_preview
from ran_datajobs.planning.split import Plan, split
from ran_datajobs.plugins.port import PluginProfile
from ran_datajobs.results.read_objects import ReadObjects, ValuesOnDisk
from ran_datajobs.results.responses import documents
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.network import Network

OPERATIONS: Final = 100_000
CASES: Final = {"100,000 objects": 33_334, "3,000 objects": 1_000}
"""Number of sites, of three cells each, by what is measured."""

_PRODUCERS: Final = 200


def _request(sites: int) -> bytes:
    lines = [
        {
            "op": "replace",
            "path": f"/{_cell(n, sites)}#/attributes/{('nRPCI', 'userLabel')[n // 3 % 2]}",
            "operationId": str(n),
            "value": n % 1008 if n // 3 % 2 == 0 else f"cell {n}",
        }
        for n in range(OPERATIONS)
    ]
    return msgspec.json.encode({"data": lines})


def _cell(n: int, sites: int) -> str:
    return f"{layout.element_key(n // 3 % sites + 1)}/GNBDUFunction=1/NRCellDU={n % 3 + 1}"


def _owners(sites: int) -> Owners:
    plugin = PluginProfile(1, "http://plugin", selectors=True)
    return Owners(
        Owner(f"ch-{n}", layout.element_key(n), plugin, plugin, f"EMS-{n % _PRODUCERS}", "", b"{}")
        for n in range(1, sites + 1)
    )


def _results(objects: Iterable[str], network: Network) -> list[bytes]:
    """The result objects of the reads."""
    responses = (
        Response(str(number), 0, "", result=Raw(_found(key, network)), state=OperationState.SUCCEEDED)
        for number, key in enumerate(objects)
    )
    return [document.body for document in documents(responses)]


def _found(key: str, network: Network) -> bytes:
    found: dict[str, Any] = {"objectInstance": distinguished_name(key), "attributes": network.attributes(key)}
    return msgspec.json.encode([found])


class _Memory:
    """The most memory (RSS) of the process during the block, beyond that at its start, in MiB."""

    def __enter__(self) -> _Memory:
        gc.collect()
        self.added, self._start = 0.0, self._now()
        self._over = threading.Event()
        self._sampler = threading.Thread(target=self._sample)
        self._sampler.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._sampler.join()

    def _sample(self) -> None:
        while not self._over.wait(0.02):
            self.added = max(self.added, self._now() - self._start)

    def _now(self) -> float:
        return float(psutil.Process().memory_info().rss) / 1024 / 1024


async def run() -> None:
    """Print the figures. The memory is what the process had at most beyond what it had before the step."""
    model = load()
    for name, sites in CASES.items():
        body, owners, network = _request(sites), _owners(sites), Network(sites)
        begun = time.process_time()
        plan = split_preview(body, Plan([], [], {}), owners, model)
        planned = time.process_time() - begun
        begun = time.process_time()
        split(body, owners)
        as_write = time.process_time() - begun
        objects = objects_to_read(body, (), model)
        results = _results(objects, network)
        size = sum(map(len, results)) / 1024 / 1024
        begun = time.process_time()
        with (
            _Memory() as memory,
            tempfile.TemporaryDirectory() as folder,
            ValuesOnDisk(Path(folder)) as values,
        ):
            copies, survey = Copies(values), Survey()
            reads = ReadObjects(list(objects.items()), copies)
            for result in results:
                reads.take(result)
            reads.close(lambda _: True)
            read = time.process_time() - begun
            outcomes = Outcomes(body, {}, owners, Effects(copies, model), survey, OPERATIONS)
            written = sum(len(document.body) for document in documents(outcomes)) / 1024 / 1024
        finished = time.process_time() - begun
        assert survey.counts.change + survey.counts.no_change == OPERATIONS, survey.counts
        print(
            f"{OPERATIONS:,} operations on {name}, {len(plan.sub_jobs)} sub-jobs, read {size:.0f} MiB, "
            f"written {written:.0f} MiB: plan {planned:.2f} s (and as a write {as_write:.2f} s), "
            f"finish {finished:.2f} s, of which {read:.2f} s take over what was read; "
            f"memory of the finish +{memory.added:.0f} MiB",
            flush=True,
        )
