# SPDX-License-Identifier: Apache-2.0
"""Write ONAP's load job and its inventory.

    python examples/load_jobs.py --operations 100000 --handles 50000 --producers 200 --dir /tmp/load

The load test of ONAP's data jobs consists of one ``add`` of a child and one ``merge`` into a grandchild for
each of some random CM handles. The objects belong to no 3GPP class: elements that check the class model
refuse them. The same arguments write the same bytes.
"""

from __future__ import annotations

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

VALUE = {"attr1": "x" * 20, "attr2": 42}


def alternate_id(handle: int) -> str:
    """FDN of a CM handle."""
    return f"/SubNetwork=Europe/SubNetwork=Load/ManagedElement=load-{handle:06d}"


def registration(handles: int, producers: int, dmi: str) -> dict[str, Any]:
    """The body of ``POST /ncmpInventory/v1/ch``; the handles are distributed over the producers in turn."""
    return {
        "dmiPlugin": dmi,
        "createdCmHandles": [
            {
                "cmHandle": f"load-{handle:06d}",
                "alternateId": alternate_id(handle),
                "dataProducerIdentifier": f"load-producer-{handle % producers + 1}",
                "moduleSetTag": "load",
            }
            for handle in range(handles)
        ],
    }


def operations(count: int, handles: int, seed: int) -> Iterator[dict[str, Any]]:
    """``count`` operations: an ``add`` and a ``merge`` in turn, each for a random handle."""
    rng = random.Random(seed)
    for number in range(count):
        if number % 2 == 0:
            element = alternate_id(rng.randrange(handles))
            child, op = "SomeChild=child-1", "add"
            value: dict[str, Any] = {"id": "child-1", "attributes": VALUE}
        else:
            child, op, value = "SomeChild=child-2/SomeGrandChild=grand-child-1", "merge", VALUE
        yield {"op": op, "path": f"{element}/{child}", "operationId": str(number + 1), "value": value}


def job(count: int, handles: int, seed: int) -> dict[str, Any]:
    """The body of ``POST /ranoam/cm/v1/dataJob``."""
    return {
        "dataAcceptType": "application/vnd.3gpp.object-tree-hierarchical+json",
        "dataContentType": "application/3gpp-json-patch+json",
        "name": f"load-{count}",
        "data": list(operations(count, handles, seed)),
    }


def main() -> None:
    """Read the command line and write ``load-job-N.json`` and ``load-inventory.json``."""
    parser = argparse.ArgumentParser(description="Write ONAP's load job and its inventory.")
    parser.add_argument("--operations", type=int, default=100_000, help="operations of the job")
    parser.add_argument("--handles", type=int, default=50_000, help="CM handles of the inventory")
    parser.add_argument("--producers", type=int, default=1, help="number of data producers")
    parser.add_argument("--dmi", default="http://127.0.0.1:8081", help="address of the DMI plugin")
    parser.add_argument("--seed", type=int, default=1, help="seed of the random handles")
    parser.add_argument("--dir", type=Path, default=Path(), help="folder to write to")
    given = parser.parse_args()
    given.dir.mkdir(parents=True, exist_ok=True)
    for name, document in (
        (f"load-job-{given.operations}.json", job(given.operations, given.handles, given.seed)),
        ("load-inventory.json", registration(given.handles, given.producers, given.dmi)),
    ):
        (given.dir / name).write_text(json.dumps(document, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
