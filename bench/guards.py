# SPDX-License-Identifier: Apache-2.0
"""What guards and before-images cost at the reference plugin: writes through both element adapters, with and
without them.

One process is plugin and simulated network; with ProvMnS they communicate over HTTP on the loopback
interface. Processor time of the process, the best of some runs; the variants take turns.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import msgspec
from msgspec import UNSET, Raw

from ran_datajobs.dmi.element import Element
from ran_datajobs.dmi.outcomes import encode_members
from ran_datajobs.dmi.provmns.element import ProvMnsElement, ProvMnsServer
from ran_datajobs.dmi.simulated import simulated_elements
from ran_datajobs.http.server import serving
from ran_datajobs.model import ActivationMode, ObjectState, Op, Operation, OperationState
from ran_datajobs.plugins.client import PeerHttp
from ran_datajobs.simulator import layout
from ran_datajobs.simulator.network import Network
from ran_datajobs.simulator.server import provmns_app
from ran_datajobs.simulator.wire import PROVMNS

SITES, SEED = layout.BLOCK, 1
CELLS = tuple(
    f"/{layout.element_key(site)}/GNBDUFunction=1/NRCellDU={cell}"
    for site in range(1, SITES + 1)
    for cell in (1, 2, 3)
)
BATCHES = 30
RUNS = 3
PRODUCER = layout.data_producer_of(1)
VARIANTS = {
    "as they are": (False, False),
    "with a guard": (True, False),
    "with before-images": (False, True),
    "with both": (True, True),
}


async def run() -> None:
    """Print the figures."""
    network = Network(SITES, SEED)
    elements = simulated_elements(network, network.model, network.actions, network.data_producers())
    print(f"Writes of one attribute of {len(CELLS)} cells: operations/s of processor time")
    await _measured("elements in the plugin's process", elements[PRODUCER])
    async with serving(provmns_app(network), "127.0.0.1", 0) as address, PeerHttp() as http:
        server = ProvMnsServer(f"{address}/{PRODUCER}{PROVMNS}")
        await _measured("ProvMnS over HTTP", ProvMnsElement(server, http))


async def _measured(where: str, element: Element) -> None:
    best = dict.fromkeys(VARIANTS, 0.0)
    for _ in range(RUNS):
        for name, (guarded, images) in VARIANTS.items():
            best[name] = max(best[name], await _rate(element, guarded, images))
    usual = best["as they are"]
    for name, rate in best.items():
        print(f"  {where}, {name}: {rate:,.0f} ({usual / rate:.2f} times the processor time)")


async def _rate(element: Element, guarded: bool, images: bool) -> float:
    spent = 0.0
    await element.write(_operations(0, guarded=False), ActivationMode.BEST_EFFORT)
    for number in range(1, BATCHES + 1):
        operations = _operations(number, guarded=guarded)
        started = time.process_time()
        outcomes = await element.write(operations, ActivationMode.BEST_EFFORT, images=images)
        encode_members(operations, outcomes)
        spent += time.process_time() - started
        if any(each.state is not OperationState.SUCCEEDED for each in outcomes):
            raise SystemExit("not everything was applied")
    return len(CELLS) * BATCHES / spent


def _operations(number: int, *, guarded: bool) -> Sequence[Operation]:
    """A write of the label of each cell; a guard expects that of the batch before."""
    expect = ObjectState({"userLabel": f"label {number - 1}"}) if guarded else UNSET
    label = Raw(msgspec.json.encode(f"label {number}"))
    return [
        Operation(Op.ADD, f"{cell}#/attributes/userLabel", place, label, expect=expect)
        for place, cell in enumerate(CELLS)
    ]
