# SPDX-License-Identifier: Apache-2.0
"""A small network behind a ProvMnS server, and an element adapter for it."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from ran_datajobs.dmi.provmns.element import ProvMnsElement, ProvMnsServer
from ran_datajobs.dmi.provmns.names import Aliases
from ran_datajobs.model import ErrorDetail, Operation
from ran_datajobs.nrm.tree import Tree

from .provmns_twin import ROOT, ProvMnsTwin

ELEMENTS = ("SubNetwork=X/ManagedElement=1", "SubNetwork=X/MeContext=2/ManagedElement=2")


def network() -> Tree:
    """Two elements with two functions each, below one subnetwork."""
    tree = Tree([("SubNetwork=X", {"userLabel": "x"}), ("SubNetwork=X/MeContext=2", {})])
    for element in ELEMENTS:
        tree.put(element, {"userLabel": "label", "list": [1, 2]})
        for number in (1, 2):
            tree.put(f"{element}/GNBDUFunction={number}", {"gNBId": number, "nested": {"a": 1}})
    return tree


objects = st.sampled_from(
    [
        "SubNetwork=X",
        "SubNetwork=Y",
        *ELEMENTS,
        *(f"{element}/GNBDUFunction={number}" for element in ELEMENTS for number in (1, 2, 3)),
        f"{ELEMENTS[0]}/GNBDUFunction=3/NRCellDU=1",
    ]
)


def element_over(twin: ProvMnsTwin, aliases: Aliases | None = None, **server: Any) -> ProvMnsElement:
    return ProvMnsElement(ProvMnsServer(ROOT, **server), twin, aliases)


async def read(
    element: ProvMnsElement, operation: Operation
) -> tuple[list[dict[str, Any]], tuple[ErrorDetail, ...]]:
    """Return the objects of a read: all of them, or those before its errors."""
    found: list[dict[str, Any]] = []
    last = False
    async for chunk in element.read(operation):
        assert not last, "nothing comes after the last chunk"
        if chunk.errors:
            return found, chunk.errors
        found += chunk.objects
        last = chunk.last
    assert last
    return found, ()
