# SPDX-License-Identifier: Apache-2.0
"""Before-images from the reference plugin over the service to the outcomes of a job."""

from __future__ import annotations

import csv
import io
from pathlib import Path

from ran_datajobs.api import paths
from ran_datajobs.dmi.settings import PluginSettings
from ran_datajobs.dmi.simulated import simulated_elements
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.network import Network
from tests.kit.plugin_parts import served_plugin
from tests.kit.whole_service import whole_service

ELEMENT = f"/{layout.element_key(1)}"
CELL = f"{ELEMENT}/GNBDUFunction=1/NRCellDU=1"


async def test_outcomes_tell_what_was_before(tmp_path: Path, database_url: str) -> None:
    """The plugin is asked for before-images if it is registered with beforeImages. They are in the result
    objects and in the outcomes, in all formats; a refused operation has none, and no private property is in
    any."""
    network = Network(1)
    before = dict(network.attributes(CELL[1:]) or {})
    elements = simulated_elements(network, network.model, network.actions, network.data_producers())
    operations = [
        {"op": "merge", "path": CELL, "value": {"nRPCI": 7, "userLabel": None}},
        {"op": "replace", "path": f"{CELL}#/attributes/nRPCI", "value": 5000},
    ]
    async with (
        served_plugin(PluginSettings(tmp_path / "dmi"), elements.get) as plugin,
        whole_service(database_url, tmp_path / "service") as service,
    ):
        await service.register(plugin, {ELEMENT: layout.data_producer_of(1)})
        without = await service.ended(await service.submit(operations))
        assert not any("before" in each for each in await service.responses(without))
        await service.register(plugin, {}, beforeImages=True, guards=True)
        job_id = await service.submit(operations)
        done, refused = await service.responses(await service.ended(job_id))
        address = paths.fill(paths.OUTCOMES, job_id=job_id)
        listed = await service.call("GET", address, expect=200)
        table = await service.bytes_of(service.root + address, accept="text/csv")
    assert before["nRPCI"] != 7
    assert done["before"] == {"attributes": {"nRPCI": 7, "userLabel": None}}
    assert (refused["state"], "before" in refused) == ("FAILED", False)
    assert [each.get("before") for each in listed["items"]] == [done["before"], None]
    rows = list(csv.DictReader(io.StringIO(table.decode(), newline="")))
    assert [row["before"] for row in rows] == ['{"attributes":{"nRPCI":7,"userLabel":null}}', ""]
