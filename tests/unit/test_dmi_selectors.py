# SPDX-License-Identifier: Apache-2.0
"""Data node selectors at the reference plugin: what a create may have, and which servers get them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest

from ran_datajobs.dmi.bodies import onap_job, seed_job
from ran_datajobs.dmi.provmns.servers import ProvMnsElements, read_servers
from ran_datajobs.errors import InvalidRequest
from ran_datajobs.model import Op, Operation
from ran_datajobs.plugins.client import Answered, Exchange
from ran_datajobs.plugins.wire import JSON_PATCH_3GPP, TREE_FLAT, Dialect

CELL = '/SubNetwork[id="X"]/ManagedElement[id="1"]//NRCellDU'


def created(dialect: Dialect, **operation: Any) -> list[Operation]:
    """The operations of a job that a create with one read starts."""
    line = {"op": "read", "operationId": "r", **operation}
    body: dict[str, Any] = {
        "dataAcceptType": TREE_FLAT,
        "dataContentType": JSON_PATCH_3GPP,
        "dataProducerId": "p",
        "data": [line],
    }
    if dialect is Dialect.SEED:
        new = seed_job("j", "topic", "", json.dumps(body | {"requestId": "j"}).encode(), 9)
    else:
        new = onap_job(line["op"] == "read", "topic", "", json.dumps(body | {"dataJobId": "j"}).encode(), 9)
    return msgspec.json.decode(new.operations, type=list[Operation])


@pytest.mark.parametrize("dialect", Dialect)
@pytest.mark.parametrize("path", ["/", "/SubNetwork=X", "/SubNetwork=X/ManagedElement=1"])
def test_a_read_by_selector_is_taken_with_a_path_at_or_above_it(dialect: Dialect, path: str) -> None:
    """In both dialects."""
    assert created(dialect, path=path, dataNodeSelector=CELL) == [
        Operation(Op.READ, path, "r", data_node_selector=CELL)
    ]


@pytest.mark.parametrize(
    ("operation", "problem"),
    [
        (
            {"path": "/", "dataNodeSelector": "//A["},
            ("#/data/0/dataNodeSelector", "//A <-- here --> ["),
        ),
        (
            {"path": "/SubNetwork=X/ManagedElement=2", "dataNodeSelector": CELL},
            ("#/data/0/path", "must be /SubNetwork=X/ManagedElement=1 or an object above it"),
        ),
        (
            {"path": "/SubNetwork=X/ManagedElement=1/A=1", "dataNodeSelector": CELL},
            ("#/data/0/path", "must be /SubNetwork=X/ManagedElement=1 or an object above it"),
        ),
        ({"path": "X", "dataNodeSelector": CELL}, ("#/data/0/path", "has no '='")),
        (
            {"op": "remove", "path": "/SubNetwork=X", "dataNodeSelector": CELL},
            ("#/data/0/dataNodeSelector", "does not belong to 'remove'"),
        ),
    ],
)
def test_a_create_that_cannot_be_read_is_refused(operation: dict[str, Any], problem: tuple[str, str]) -> None:
    """With the pointer of the member that is wrong."""
    for dialect in Dialect:
        with pytest.raises(InvalidRequest) as refusal:
            created(dialect, **operation)
        ((pointer, detail),) = refusal.value.problems
        assert (pointer, problem[1] in detail) == (problem[0], True), detail


class Recorder:
    """Selects nothing, and records what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def exchange(self, method: str, url: str, **_: Any) -> Exchange:
        self.asked.append(url)
        return Answered(204, b"")


async def test_the_file_of_servers_says_which_know_selectors(tmp_path: Path) -> None:
    """Those get the selector itself, the others a scope, which is the default."""
    file = tmp_path / "servers.json"
    file.write_text('{"a": {"address": "http://a", "selectors": true}, "b": {"address": "http://b"}}')
    http = Recorder()
    elements = ProvMnsElements(read_servers(file), http)
    for producer in ("a", "b"):
        element = elements.element_of(producer)
        assert element is not None
        (chunk,) = [
            chunk async for chunk in element.read(Operation(Op.READ, "/", 1, data_node_selector="//A"))
        ]
        assert (chunk.objects, chunk.errors) == ((), ())
    assert http.asked == ["http://a?dataNodeSelector=%2F%2FA", "http://b?scopeType=BASE_ALL"]
