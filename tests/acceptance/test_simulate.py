# SPDX-License-Identifier: Apache-2.0
"""``datajobs simulate``: the network as a process of its own."""

from __future__ import annotations

from pathlib import Path
from urllib.request import urlopen

import psutil

from ran_datajobs.simulator.wire import PROVMNS
from tests.acceptance.commands import started

SITES = 10_000
GIB = 1 << 30


def test_ten_thousand_sites_fit_in_two_gigabytes(tmp_path: Path, free_port: int) -> None:
    """Also while everything that there is is being read."""
    arguments = ("simulate", "--port", str(free_port), "--sites", str(SITES))
    with started(*arguments, lines=tmp_path / "lines") as network:
        network.until_it_says("service.started")
        url = f"http://127.0.0.1:{free_port}{PROVMNS}/SubNetwork=Europe?scopeType=BASE_ALL"
        process = psutil.Process(network.process.pid)
        elements, largest, rest = 0, 0, b""
        with urlopen(url, timeout=120) as answer:
            while piece := answer.read(1 << 20):
                text = rest + piece
                elements += text.count(b'"ManagedElement":[')
                rest = text[-len(b'"ManagedElement":') :]
                largest = max(largest, process.memory_info().rss)
        assert elements == SITES
        assert largest < 2 * GIB
