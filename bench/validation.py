# SPDX-License-Identifier: Apache-2.0
"""Validation of jobs, inside one process: processor time of the plan with it and without it."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Iterator
from typing import Any, Final

import msgspec

from ran_datajobs.inventory.owners import Owner, Owners
from ran_datajobs.nrm.class_model import ClassModel
from ran_datajobs.nrm.model import load
from ran_datajobs.nrm.tree import Tree
from ran_datajobs.planning.model_validation import ModelsByTag
from ran_datajobs.planning.split import split
from ran_datajobs.plugins.port import PluginProfile
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.network import Network

OPERATIONS: Final = 100_000
SITES: Final = 500
RUNS: Final = 3


def _owners() -> Owners:
    plugin = PluginProfile(1, "http://127.0.0.1:9001")
    return Owners(
        Owner(f"ch-{n}", layout.element_key(n), plugin, plugin, f"producer-{n % 200}", "", b"{}")
        for n in range(1, SITES + 1)
    )


def _changes(rng: random.Random) -> Iterator[dict[str, Any]]:
    """Attributes of cells are replaced and merged."""
    for n in range(OPERATIONS):
        cell = f"/{layout.element_key(rng.randrange(SITES) + 1)}/GNBDUFunction=1/NRCellDU={n % 3 + 1}"
        if n % 2:
            yield {"op": "replace", "path": f"{cell}#/attributes/nRPCI", "value": n % 1008}
        else:
            yield {"op": "merge", "path": cell, "value": {"nRPCI": n % 1008, "nRTAC": n, "userLabel": f"{n}"}}


def _creations(_: random.Random) -> Iterator[dict[str, Any]]:
    """Whole cells with all their attributes are created, under new names."""
    model, tree = load().managed_class("NRCellDU"), Tree(Network(SITES).walk())
    assert model is not None
    for n in range(OPERATIONS):
        du = f"{layout.element_key(n % SITES + 1)}/GNBDUFunction=1"
        attributes = tree.attributes(f"{du}/NRCellDU=1") or {}
        writable = {name: each for name, each in attributes.items() if not model.attributes[name].read_only}
        yield {"op": "add", "path": f"/{du}/NRCellDU=new-{n}", "value": {"attributes": writable}}


async def run() -> None:
    """Print the figures: medians of the processor time, and the best run in brackets."""
    owners, models = _owners(), ModelsByTag(ClassModel(load()))
    print(f"Validation of {OPERATIONS:,} operations, processor time beside that of the plan without it")
    for name, lines in (("changes of attributes", _changes), ("creations of whole cells", _creations)):
        data = list(map(msgspec.json.encode, lines(random.Random(1))))
        bodies = {
            mode: b'{"validation":"%b","data":[%b]}' % (mode.encode(), b",".join(data))
            for mode in ("OFF", "STRICT")
        }
        took: dict[str, list[float]] = {mode: [] for mode in bodies}
        for _ in range(RUNS):
            for mode, body in bodies.items():
                started = time.process_time()
                plan = split(body, owners, models)
                took[mode].append(time.process_time() - started)
                if plan.refused or plan.warnings:
                    raise SystemExit(f"a finding in valid operations: {plan.refused[:1]} {plan.warnings}")
        added = [strict - off for strict, off in zip(took["STRICT"], took["OFF"], strict=True)]
        print(
            f"  {name}: {statistics.median(added):.2f} s ({min(added):.2f}), "
            f"the plan {statistics.median(took['OFF']):.2f} s"
        )
