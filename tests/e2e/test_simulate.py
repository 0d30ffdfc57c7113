# SPDX-License-Identifier: Apache-2.0
"""``datajobs simulate`` at its full size, as a separate process."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from ran_datajobs.simulator import layout, wire
from tests.kit.commands import started

SITES = 10_000
MAY_GROW = 150 * 1024
"""KiB, in addition to the base size of the process. All sites at once would take 600 MiB."""
PATIENCE = 120.0


def peak_kib(pid: int) -> int:
    """Peak memory of the process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1])


def fetched(url: str) -> Any:
    with urlopen(Request(url, headers={"Accept": wire.HIERARCHICAL}), timeout=PATIENCE) as answer:
        return json.load(answer)


def classes(document: Any) -> dict[str, int]:
    """Number of objects of each class with attributes in a hierarchical document."""
    found: dict[str, int] = {}
    for name, children in document.items():
        if name == "attributes" or not isinstance(children, list):
            continue
        for child in children:
            found[name] = found.get(name, 0) + ("attributes" in child)
            for below, count in classes(child).items():
                found[below] = found.get(below, 0) + count
    return found


@pytest.mark.nightly
def test_a_read_of_ten_thousand_sites_needs_little_memory(tmp_path: Path, free_port: int) -> None:
    """A scoped GET over a network of 10,000 sites is answered completely, while the server's memory stays
    that of a few sites."""
    address = f"http://127.0.0.1:{free_port}"
    arguments = ("simulate", "--port", str(free_port), "--sites", str(SITES))
    with started(*arguments, lines=tmp_path / "lines") as running:
        running.until_it_says(address)
        scoped = f"{wire.PROVMNS}/%s?scopeType=BASE_ALL&attributes=userLabel"
        fetched(address + scoped % layout.element_key(1))
        before = peak_kib(running.process.pid)
        whole = classes(fetched(address + scoped % layout.COUNTRY))
        grown = peak_kib(running.process.pid) - before
        assert running.end() == 0
    assert whole["ManagedElement"] == SITES
    assert whole["NRCellDU"] == len(layout.CELLS) * SITES
    assert grown < MAY_GROW
