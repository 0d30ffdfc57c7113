# SPDX-License-Identifier: Apache-2.0
"""Jobs of the demo and their expected outcomes on its network."""

from __future__ import annotations

import asyncio
import json
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Final

import msgspec
from msgspec import Struct

import ran_datajobs
from ran_datajobs.config import Settings
from ran_datajobs.dmi.conformance.expected_responses import expected_of_write
from ran_datajobs.model import Status
from ran_datajobs.simulator.example_jobs import job_of, read_cells, retune_pci
from ran_datajobs.simulator.network import Network

_WRITE: Final = "retune-pci"
_READ: Final = "read-cells"


class Planned(Struct, frozen=True):
    """Expected outcome of a job on the network of the demo."""

    status: Status
    operations: dict[str, int]
    reasons: dict[str, int] = {}


class DemoJob(Struct, frozen=True):
    """A job of the demo: its displayed name, the request, and the expected outcome."""

    label: str
    body: bytes
    planned: Planned


def demo_jobs(sites: int, seed: int) -> tuple[DemoJob, DemoJob]:
    """The write job and the read job for a network; the published examples if it is the default network."""
    published = (sites, seed) == (Settings.sites, Settings.seed)
    jobs = (_published(_WRITE), _published(_READ)) if published else _made(Network(sites, seed))
    (write, after_write), (read, after_read) = jobs
    return (
        DemoJob(f"Write job {_WRITE}", write, after_write),
        DemoJob(f"Read job {_READ}", read, after_read),
    )


def examples() -> Traversable:
    """Folder of examples: in the package if it was installed, at the root of the repository in a checkout."""
    installed = resources.files(ran_datajobs) / "examples"
    if installed.is_dir():
        return installed
    return Path(ran_datajobs.__file__).resolve().parents[2] / "examples"


def _published(name: str) -> tuple[bytes, Planned]:
    expected = examples().joinpath(f"{name}.expected.json").read_bytes()
    return examples().joinpath(f"{name}.json").read_bytes(), msgspec.json.decode(expected, type=Planned)


def _made(network: Network) -> tuple[tuple[bytes, Planned], tuple[bytes, Planned]]:
    """The same two jobs, generated for another network. Every read of a simulated network succeeds."""
    write, read = job_of(_WRITE, retune_pci(network)), job_of(_READ, read_cells(network))
    count = len(read["data"])
    expected = asyncio.run(expected_of_write(network, write))
    expected["operations"] = {state: times for state, times in expected["operations"].items() if times}
    return (
        (json.dumps(write).encode(), msgspec.convert(expected, type=Planned)),
        (json.dumps(read).encode(), Planned(Status.FINISHED, {"total": count, "succeeded": count})),
    )
