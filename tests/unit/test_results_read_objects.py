# SPDX-License-Identifier: Apache-2.0
"""What the results of a preview's reads say about objects: found, absent, or not known."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw

from ran_datajobs.model import OperationState, Response
from ran_datajobs.nrm.effects import Copies, NotKnown
from ran_datajobs.results.read_objects import ReadObjects, ValuesOnDisk
from ran_datajobs.results.responses import documents

ELEMENT, CELL = "ME=1", "ME=1/Cell=1"


def flat(key: str, **attributes: Any) -> dict[str, Any]:
    """An object of a flat result."""
    return {"id": "1", "objectInstance": key.replace("/", ","), "attributes": attributes}


def response(number: int | str, result: Any = UNSET, reason: str = "", path: str = "") -> Response:
    """The response of a read; with a ``reason`` a failure."""
    return Response(
        number,
        108 if reason else 0,
        "the message",
        Raw(msgspec.json.encode({"op": "read", "path": path} if path else {})),
        UNSET if result is UNSET else Raw(msgspec.json.encode(result)),
        OperationState.FAILED if reason else OperationState.SUCCEEDED,
        reason,
    )


def copies_of(*responses: Response, reads: list[tuple[str, bool]] | None = None) -> Copies:
    """The copies after these responses. By default the element is read with its children, then the cell."""
    copies = Copies()
    collected = ReadObjects(reads or [(ELEMENT, True), (CELL, False)], copies)
    collected.take(None)
    collected.take(b"{spoilt")
    for document in documents(responses):
        collected.take(document.body)
    collected.close(lambda key: key.startswith("ME"))
    return copies


def state(copies: Copies, key: str) -> Any:
    """The attributes of an object, None if it is absent, or the reason why that is not known."""
    try:
        return copies.attributes(key)
    except NotKnown as error:
        return error.args[0].reason


@pytest.mark.parametrize(
    ("result", "expected"),
    [
        ([flat(CELL, a=1)], {"a": 1}),
        ({"id": "1", "attributes": {"a": 1}}, {"a": 1}),
        ([{"objectInstance": f"/{CELL}", "a": 1}], {"a": 1}),  # beside the identifiers
        ([], None),
        ({}, None),
        ([flat("ME=1/Cell=2", a=1)], None),  # an object that was not asked for
        (UNSET, "RESULT_UNREADABLE"),
        (None, "RESULT_UNREADABLE"),
        ("x", "RESULT_UNREADABLE"),
        ([1], "RESULT_UNREADABLE"),
        ([{"objectInstance": "=", "attributes": {}}], "RESULT_UNREADABLE"),
        ([{"objectInstance": CELL, "attributes": [1]}], "RESULT_UNREADABLE"),
    ],
)
def test_the_result_of_a_read(result: Any, expected: Any) -> None:
    """Both formats are read. An empty result says that the object does not exist; none says nothing."""
    assert state(copies_of(response("1", result)), CELL) == expected


def test_failed_and_missing_reads() -> None:
    """A failure with "not found" says that the object does not exist, every other one has its reason. A read
    without a response is incomplete, unless nobody could be asked: then the object is there. Responses with
    other ids, or for another path than the read with their id, do not count."""
    failed = copies_of(
        response(0, reason="DMI_UNREACHABLE"), response(1, reason="TARGET_DATA_NODE_NOT_FOUND"), response(7)
    )
    assert (state(failed, ELEMENT), state(failed, CELL)) == ("DMI_UNREACHABLE", None)
    assert state(copies_of(response("x"), response("-1")), CELL) == "RESULT_INCOMPLETE"
    assert state(copies_of(reads=[("SN=1", True)]), "SN=1") == {}
    other = copies_of(response(1, [flat(CELL)], path="/ME=2"), response(0, [], path=f"/{ELEMENT}"))
    assert (state(other, CELL), state(other, ELEMENT)) == ("RESULT_UNREADABLE", None)


def test_children_are_known_when_all_parts_of_a_read_have_succeeded() -> None:
    """A read of several data producers has several results; together they have all children. When one of them
    fails, what was found stays, and the children are not known."""
    parts = response(0, [flat(ELEMENT), flat(CELL)]), response(0, [flat("ME=1/Cell=2")])
    known = copies_of(*parts, response(1, [flat(CELL)]))
    assert list(known.children(ELEMENT)) == [CELL, "ME=1/Cell=2"]
    unknown = copies_of(*parts, response(0, reason="DMI_LOST_JOB"))
    assert state(unknown, ELEMENT) == {}
    with pytest.raises(NotKnown):
        unknown.children(ELEMENT)


def test_values_on_disk_are_as_those_in_memory(tmp_path: Path) -> None:
    """Each place gives the bytes that were stored, and no file is left."""
    with ValuesOnDisk(tmp_path) as values:
        stored = [b"{}", b"", b'{"a":1}' * 100_000, b"[1]"]
        places = [values.add(data) for data in stored]
        assert [values.at(place) for place in reversed(places)] == stored[::-1]
    assert list(tmp_path.iterdir()) == []
