# SPDX-License-Identifier: Apache-2.0
"""Write the example jobs for the simulated network and their expected outcomes.

    python examples/make_examples.py [--sites 200] [--seed 1] [--dir examples]

The same arguments write the same bytes. The expected outcomes are those of the element of the reference DMI
plugin, which executes the jobs on a network of the same sites and seed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path
from typing import Any

from ran_datajobs.dmi.conformance.expected_responses import expected_of_read, expected_of_write
from ran_datajobs.simulator.example_jobs import (
    HIERARCHICAL,
    PATCH,
    job_of,
    read_cells,
    read_selectors,
    retune_pci,
)
from ran_datajobs.simulator.network import Network

SEED_SITE = (
    "SubNetwork=Europe/SubNetwork=Ireland/MeContext=NR03gNodeBRadio00003/ManagedElement=NR03gNodeBRadio00003"
)


def seed_read() -> dict[str, Any]:
    """The read example of ONAP's data-job page, spelt as there."""
    first = (
        "SubNetwork=Europe/SubNetwork=Ireland/MeContext=NR01gNodeBRadio00001/"
        "ManagedElement=NR01gNodeBRadio00001/GNBDUFunction=1"
    )
    return {
        "dataaccepttype": HIERARCHICAL,
        "datacontenttype": PATCH,
        "data": [
            {
                "op": "read",
                "operationId": 1,
                "path": f"{SEED_SITE}/GNBCUCPFunction=2",
                "attributes": "userLabel",
                "scope": {"scopeType": "BASE_ONLY"},
            },
            {
                "op": "read",
                "operationId": 2,
                "path": first,
                "filter": "NRCellDU/attributes/administrativeState==LOCKED",
            },
            {
                "op": "read",
                "operationId": 3,
                "path": f"{SEED_SITE}/GNBCUCPFunction=1",
                "attributes ": "cellId",
            },
        ],
    }


def seed_write() -> dict[str, Any]:
    """The write operations of ONAP's data-job page: add, replace, action and remove."""
    frequencies = f"{SEED_SITE}/GNBCUCPFunction=2/EUtraNetwork=1"
    return {
        "dataAcceptType": HIERARCHICAL,
        "dataContentType": PATCH,
        "data": [
            {
                "op": "add",
                "operationId": 1,
                "path": f"{frequencies}/EUtranFrequency=12",
                "value": {"id": "12", "attributes": {"userLabel": "label12"}},
            },
            {
                "op": "add",
                "operationId": 2,
                "path": f"{frequencies}/EUtranFrequency=13",
                "value": {"id": "13", "attributes": {"userLabel": "label13"}},
            },
            {
                "op": "replace",
                "operationId": 3,
                "path": f"{frequencies}/EUtranFrequency=13#/attributes/userLabel",
                "value": "label14",
            },
            {"op": "action", "operationId": 4, "path": f"{SEED_SITE}#restart", "value": {"input": {}}},
            {"op": "remove", "operationId": 5, "path": f"{frequencies}/EUtranFrequency=13"},
        ],
    }


def write_examples(folder: Path, sites: int, seed: int) -> None:
    """Write all files into ``folder``."""
    network = Network(sites, seed)
    reads = job_of("read-cells", read_cells(network))
    by_selector = job_of("read-selectors", read_selectors(network))
    writes = job_of("retune-pci", retune_pci(network))
    documents: dict[str, dict[str, Any]] = {
        "read-cells.json": reads,
        "read-cells.expected.json": asyncio.run(expected_of_read(network, reads)),
        "read-selectors.json": by_selector,
        "read-selectors.expected.json": asyncio.run(expected_of_read(network, by_selector)),
        "retune-pci.json": writes,
        "retune-pci.expected.json": asyncio.run(expected_of_write(network, writes)),
        "seed-read.json": seed_read(),
        "seed-write.json": seed_write(),
    }
    for name, document in documents.items():
        (folder / name).write_text(_text(document))


def _text(document: dict[str, Any]) -> str:
    """JSON with one operation a line."""
    if "data" not in document:
        return json.dumps(document, indent=1) + "\n"
    head = {name: value for name, value in document.items() if name != "data"}
    lines = ",\n  ".join(map(json.dumps, document["data"]))
    return json.dumps(head, indent=1)[:-2] + f',\n "data": [\n  {lines}\n ]\n}}\n'


def main() -> None:
    """Read the command line and write."""
    parser = argparse.ArgumentParser(description="Write the example jobs and their expected outcomes.")
    parser.add_argument("--sites", type=int, default=200, help="sites of the simulated network")
    parser.add_argument("--seed", type=int, default=1, help="seed of the simulated network")
    parser.add_argument("--dir", type=Path, default=Path(__file__).parent, help="folder to write to")
    given = parser.parse_args()
    given.dir.mkdir(parents=True, exist_ok=True)
    write_examples(given.dir, given.sites, given.seed)


if __name__ == "__main__":
    main()
