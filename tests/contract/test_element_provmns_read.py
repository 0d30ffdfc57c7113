# SPDX-License-Identifier: Apache-2.0
"""Reads of the ProvMnS element: the result matches the objects, whatever the server's format."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import UNSET

from ran_datajobs.dmi.provmns.element import ProvMnsElement, ProvMnsServer
from ran_datajobs.dmi.provmns.names import Aliases
from ran_datajobs.dmi.provmns.read import ScopeSpelling
from ran_datajobs.model import Op, Operation, Scope, ScopeType
from ran_datajobs.nrm.names import class_of
from ran_datajobs.nrm.select import selected, selection_of
from ran_datajobs.plugins.client import Answered, Broken, Exchange, NotSent
from tests.tiers import examples

from .provmns_network import ELEMENTS, element_over, network, objects, read
from .provmns_twin import ROOT, ProvMnsTwin, Shape

scopes = st.just(UNSET) | st.builds(Scope, st.sampled_from(ScopeType), st.integers(0, 3))
filters = st.just(UNSET) | st.sampled_from(
    [
        "GNBDUFunction/attributes/gNBId == 1",
        "ManagedElement/attributes/userLabel == label",
        "Nothing/attributes/x == 1",
    ]
)
names = st.just(UNSET) | st.lists(
    st.sampled_from(["userLabel", "gNBId", "nested", "absent"]), max_size=3
).map(tuple)
fields = st.just(UNSET) | st.just(("/attributes/nested/a",)) | st.just(("attributes/gNBId",))


@settings(max_examples=examples(300), deadline=None)
@given(
    objects.filter(lambda key: "=3" not in key and "=Y" not in key),
    scopes,
    filters,
    names,
    fields,
    st.sampled_from(Shape),
    st.booleans(),
    st.booleans(),
    st.sampled_from(ScopeSpelling),
    st.sampled_from([None, 150, 400]),
)
def test_reads_select_what_the_objects_themselves_would(
    base: str,
    scope: Any,
    wanted: Any,
    attributes: Any,
    pointers: Any,
    shape: Shape,
    beside: bool,
    sparse: bool,
    spelling: ScopeSpelling,
    most_bytes: int | None,
) -> None:
    """Scope, filter, attributes and fields give the same objects in the same order as a direct read, for any
    answer format and spelling, and also when a large answer is read in parts."""
    operation = Operation(
        Op.READ, "/" + base, 1, attributes=attributes, fields=pointers, filter=wanted, scope=scope
    )
    tree = network()
    expected = list(selected(tree, base, selection_of(operation, class_of(base))))
    twin = ProvMnsTwin(tree, shape=shape, beside=beside, sparse=sparse, most_bytes=most_bytes)
    found, errors = asyncio.run(read(element_over(twin, scope_spelling=spelling), operation))
    if errors:
        assert most_bytes is not None, errors
        assert errors[0].title == "The object is larger than an answer may be"
    else:
        assert found == expected


@pytest.mark.parametrize(
    ("mishaps", "pauses"),
    [
        ([Answered(503, b"", "", "1")] * 2, [1.0, 1.0]),
        ([Answered(429, b"")] * 4, [0.2, 0.4, 0.8, 1.6]),
        ([NotSent("connection refused")] * 4, [0.2, 0.4, 0.8, 1.6]),
        ([Broken("connection reset"), Answered(502, b"")], [0.2, 0.4]),
    ],
)
async def test_a_read_waits_for_a_server_that_is_away_or_busy(
    mishaps: list[Exchange], pauses: list[float]
) -> None:
    """Like a write, a read is retried with growing back-off and Retry-After, until its patience is used
    up."""
    paused: list[float] = []

    async def sleep(seconds: float) -> None:
        paused.append(seconds)

    twin = ProvMnsTwin(network())
    twin.read_mishaps.extend(mishaps)
    element = ProvMnsElement(ProvMnsServer(ROOT), twin, sleep=sleep)
    found, errors = await read(element, Operation(Op.READ, "/" + ELEMENTS[0], 1))
    assert (len(found), errors) == (1, ())
    assert paused == pauses
    assert len(twin.reads) == len(mishaps) + 1


@pytest.mark.parametrize(
    ("mishap", "patience", "requests"),
    [(NotSent("connection refused"), 0.0, 1), (Answered(500, b""), 20.0, 3), (Broken("reset"), 20.0, 3)],
)
async def test_a_read_that_cannot_be_answered_ends(mishap: Exchange, patience: float, requests: int) -> None:
    """A read fails when its patience is used up or after three broken answers. The error names the object."""

    async def sleep(_: float) -> None: ...

    twin = ProvMnsTwin(network())
    twin.read_mishaps.extend([mishap] * 10)
    element = ProvMnsElement(ProvMnsServer(ROOT, patience=patience), twin, sleep=sleep)
    found, [error] = await read(element, Operation(Op.READ, "/" + ELEMENTS[0], 1))
    assert found == []
    assert error.bad_data_node == "/" + ELEMENTS[0]
    assert len(twin.reads) == requests


@pytest.mark.parametrize(
    ("asked", "sent"),
    [
        ({"attributes": ("gNBId", "userLabel")}, "attributes=gnbId,userLabel"),
        ({"fields": ("/attributes/gNBId/0",)}, "attributes=gnbId"),
        ({"attributes": ()}, "attributes="),
        ({"attributes": ("userLabel",), "filter": "GNBDUFunction/attributes/gNBId == 1"},
         "attributes=gnbId,userLabel"),
        ({"attributes": (), "filter": "GNBDUFunction/attributes/gNBId == 1"}, "attributes=gnbId"),
        ({"filter": "GNBDUFunction/attributes/gNBId == 1"}, ""),
        ({"fields": ("/attributes",)}, ""),
        ({"fields": ("/id",)}, ""),
        ({"attributes": ("gNBId",), "scope": Scope(ScopeType.BASE_ALL)},
         "scopeType=BASE_ALL&attributes=gNBId,gnbId"),
    ],
)  # fmt: skip
async def test_the_server_is_asked_for_what_is_needed_alone(asked: dict[str, Any], sent: str) -> None:
    """Attributes are sent in the server's names, with those that the filter uses. Below the base they are
    sent in every spelling of a class."""
    aliases = Aliases({"GNBDUFunction": "GnbDuFunction"}, {"GNBDUFunction": {"gNBId": "gnbId"}})
    twin = ProvMnsTwin(network())
    path = "/SubNetwork=X/GNBDUFunction=1"
    await read(element_over(twin, aliases), Operation(Op.READ, path, 1, **asked))
    assert twin.reads[0].removeprefix(ROOT + "/SubNetwork=X/GnbDuFunction=1").removeprefix("?") == sent


async def test_a_read_of_nothing_is_told_from_a_read_of_no_object() -> None:
    """A 404 from a server can mean either; the element distinguishes them."""
    element = element_over(ProvMnsTwin(network()))
    there = Operation(Op.READ, "/" + ELEMENTS[0], 1, attributes=("absent",))
    assert await read(element, there) == ([], ())
    gone = Operation(Op.READ, "/SubNetwork=none", 1, attributes=("absent",))
    found, errors = await read(element, gone)
    assert found == []
    assert errors[0].reason == "TARGET_DATA_NODE_NOT_FOUND"


async def test_an_answer_that_cannot_be_read_fails_the_read() -> None:
    """An invalid answer is reported as an error of that read."""

    class Nonsense(ProvMnsTwin):
        def _get(self, path: str, query: str) -> Any:
            return Answered(200, msgspec.json.encode([{"objectInstance": 7}]))

    found, errors = await read(element_over(Nonsense(network())), Operation(Op.READ, "/SubNetwork=X", 1))
    assert found == []
    assert errors[0].title == "The element's answer cannot be read"
