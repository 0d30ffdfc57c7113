# SPDX-License-Identifier: Apache-2.0
"""The body of a submit: accepted forms, refused forms, and the pointers of the faults."""

from __future__ import annotations

import json
import uuid
from typing import Any

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ran_datajobs.errors import InvalidRequest, TooManyOperations, UnsupportedRequest
from ran_datajobs.model import ActivationMode, JobType, Op, Scope, ScopeType
from ran_datajobs.nrm import fdn
from ran_datajobs.planning.request import check_request
from ran_datajobs.plugins.wire import SeedOperation
from tests.unit.planning_parts import ReadRequest, read_request

CELL = "/SubNetwork=SN1/ManagedElement=ME1/NRCellDU=1"
ADD = {"op": "add", "path": CELL, "value": {"id": "1", "attributes": {"nRPCI": 7}}}
READ = {"op": "read", "path": CELL}

SEED_READ = b"""
{"dataaccepttype": "application/vnd.3gpp.object-tree-hierarchical+json",
 "datacontenttype": "application/3gpp-json-patch+json",
 "data": [
  {"op": "read", "operationId": 1, "path": "SubNetwork=Europe/SubNetwork=Ireland/MeContext=NR03gNodeBRadio00003/ManagedElement=NR03gNodeBRadio00003/GNBCUCPFunction=2",
   "attributes": "userLabel", "scope": {"scopeType": "BASE_ONLY"}},
  {"op": "read", "operationId": 2, "path": "SubNetwork=Europe/SubNetwork=Ireland/MeContext=NR01gNodeBRadio00001/ManagedElement=NR01gNodeBRadio00001/GNBDUFunction=1",
   "filter": "NRCellDU/attributes/administrativeState==LOCKED"},
  {"op": "read", "operationId": 3, "path": "SubNetwork=Europe/SubNetwork=Ireland/MeContext=NR03gNodeBRadio00003/ManagedElement=NR03gNodeBRadio00003/GNBCUCPFunction=1",
   "attributes ": "cellId"}]}
"""  # noqa: E501 - as the DCM Study prints it


def body(*operations: Any, **envelope: Any) -> bytes:
    return json.dumps({**envelope, "data": list(operations)}).encode()


def read(*operations: Any, **envelope: Any) -> ReadRequest:
    return read_request(body(*operations, **envelope))


def refused(text: bytes) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refusal:
        read_request(text)
    return refusal.value


def pointers(text: bytes) -> list[str]:
    return [pointer for pointer, _ in refused(text).problems]


def test_the_published_read_example_is_accepted_as_printed() -> None:
    """Lower-case envelope keys, a string of attributes, and a key with a blank at its end are all read."""
    request = read_request(SEED_READ)
    assert request.type is JobType.READ
    assert [operation.operation_id for operation in request.operations] == [1, 2, 3]
    assert [operation.attributes for operation in request.operations][::2] == [("userLabel",), ("cellId",)]
    assert request.operations[0].scope == Scope(ScopeType.BASE_ONLY)
    assert request.operations[1].filter == "NRCellDU/attributes/administrativeState==LOCKED"


def test_what_is_left_out_has_its_default() -> None:
    """An envelope of data alone is a hierarchical, best-effort write of priority 4 that waits for no job."""
    request = read(ADD)
    assert request.type is JobType.WRITE
    assert request.accept_type == "application/vnd.3gpp.object-tree-hierarchical+json"
    assert request.content_type == "application/3gpp-json-patch+json"
    assert request.activation_mode is ActivationMode.BEST_EFFORT
    assert (request.name, request.priority, request.after_jobs) == (None, 4, ())


@pytest.mark.parametrize("change", [str.lower, str.upper, str.title])
def test_envelope_keys_match_without_regard_to_case(change: Any) -> None:
    """The sources differ in the case of the envelope's keys: every case is read."""
    job = str(uuid.uuid4())
    given = {
        "dataAcceptType": "application/vnd.3gpp.object-tree-flat+json",
        "dataContentType": "application/vnd.3gpp.json-patch+json",
        "name": "night shift",
        "activationMode": "STOP_ON_ERROR",
        "priority": 9,
        "after": [job, job],
        "data": [ADD],
    }
    request = read_request(json.dumps({change(key): value for key, value in given.items()}).encode())
    assert request.accept_type == given["dataAcceptType"]
    assert request.content_type == given["dataContentType"]
    assert request.activation_mode is ActivationMode.STOP_ON_ERROR
    assert (request.name, request.priority, request.after_jobs) == ("night shift", 9, (uuid.UUID(job),))


@pytest.mark.parametrize(
    "keys", [("data", "data"), ("data", "DATA"), ("name", "Name"), ("priority", "priority")]
)
def test_an_envelope_key_that_stands_twice_is_refused(keys: tuple[str, str]) -> None:
    """The same key twice, in any case, is a fault of that key."""
    values = {"data": json.dumps([ADD]), "name": '"a"', "priority": "4"}
    members = ['"data": ' + values["data"]] if keys[0] != "data" else []
    members += [f'"{key}": {values[key.lower()]}' for key in keys]
    assert pointers(("{" + ", ".join(members) + "}").encode()) == [f"#/{keys[0]}"]


@pytest.mark.parametrize(
    ("envelope", "pointer"),
    [
        ({"dataAcceptType": "application/json"}, "#/dataAcceptType"),
        ({"dataContentType": 7}, "#/dataContentType"),
        ({"activationMode": "MAYBE"}, "#/activationMode"),
        ({"activationMode": ["ATOMIC"]}, "#/activationMode"),
        ({"name": 7}, "#/name"),
        ({"name": "x" * 257}, "#/name"),
        ({"name": "a\nb"}, "#/name"),
        ({"priority": 10}, "#/priority"),
        ({"priority": -1}, "#/priority"),
        ({"priority": True}, "#/priority"),
        ({"priority": 4.0}, "#/priority"),
        ({"after": "job"}, "#/after"),
        ({"after": {}}, "#/after"),
        ({"after": [str(uuid.uuid4()), "job"]}, "#/after/1"),
        ({"after": [7]}, "#/after/0"),
    ],
)
def test_a_wrong_envelope_field_is_named(envelope: dict[str, Any], pointer: str) -> None:
    """Each field has its rule, and the pointer of the fault if the rule is broken."""
    assert pointers(body(ADD, **envelope)) == [pointer]


def test_unknown_keys_and_nulls_change_nothing() -> None:
    """Unknown keys anywhere, and null for omitted ones."""
    operation = {**ADD, "x": 1, "operationId": None, "scope": None}
    request = read(operation, extra=[1], name=None, priority=None, after=None, activationMode=None)
    expected = read(ADD)
    assert request.operations[0].path == expected.operations[0].path
    assert msgspec.json.encode(request.operations) == msgspec.json.encode(expected.operations)


def test_the_atomic_mode_is_impossible() -> None:
    """ATOMIC is known and not supported. A fault elsewhere is reported first."""
    with pytest.raises(UnsupportedRequest, match="BEST_EFFORT"):
        read(ADD, activationMode="ATOMIC")
    assert pointers(body({**ADD, "op": "move"}, activationMode="ATOMIC")) == ["#/data/0/op"]


@pytest.mark.parametrize(
    "operation",
    [
        ADD,
        {"op": "add", "path": CELL, "value": {"nRPCI": 7}},
        {"op": "add", "path": f"{CELL}#/attributes/pLMNInfoList/-", "value": {"mcc": "262"}},
        {"op": "add", "path": f"{CELL}#/attributes/userLabel", "value": None},
        {"op": "replace", "path": f"{CELL}#/attributes/nRPCI", "value": 7},
        {"op": "replace", "path": f"{CELL}#nRPCI", "value": None},
        {"op": "merge", "path": CELL, "value": {"nRPCI": 7}},
        {"op": "merge", "path": f"{CELL}#/attributes", "value": {}},
        {"op": "merge", "path": f"{CELL}/#attributes", "value": {}},
        {"op": "remove", "path": CELL},
        {"op": "remove", "path": CELL, "value": None},
        {"op": "remove", "path": CELL, "value": {}},
        {"op": "remove", "path": f"{CELL}/#/attributes/userLabel"},
        {"op": "action", "path": f"{CELL}#Restart", "value": {"input": {"cold": True}}},
        {"op": "action", "path": f"{CELL}/#Restart", "value": {"input": None}},
        {"op": "test", "path": f"{CELL}#/attributes/nRPCI", "value": 7},
        READ,
        {**READ, "attributes": ["a", "b"], "fields": ["/attributes/plmnId/mcc"]},
        {
            **READ,
            "attributes": "a, b",
            "filter": ["NRCellDU/attributes/x == 1", "NRCellDU/attributes/y == 2"],
        },
        {**READ, "attributes": []},
        {**READ, "scope": {"scopeType": "BASE_NTH_LEVEL", "scopeLevel": 2}},
        {**READ, "scope": {"scopeType": "BASE_SUBTREE"}},
        {**READ, "scope": {"scopeType": "BASE_ALL", "scopeLevel": 1}},
        {**READ, "path": "DC=example.org,SubNetwork=SN1"},
    ],
)
def test_well_formed_operations_are_accepted(operation: dict[str, Any]) -> None:
    """Every form of every operation of the contract is read, with its path as it was written."""
    (read_one,) = read(operation).operations
    assert (read_one.op, read_one.path) == (Op(operation["op"]), operation["path"])


@pytest.mark.parametrize(
    ("operation", "field"),
    [
        ({"path": CELL, "value": {}}, "/op"),
        ({"op": None, "path": CELL}, "/op"),
        ({"op": "copy", "path": CELL}, "/op"),
        ({"op": "Add", "path": CELL, "value": {}}, "/op"),
        ({"op": "add", "value": {}}, "/path"),
        ({"op": "add", "path": 7, "value": {}}, "/path"),
        ({"op": "add", "path": "/NRCellDU", "value": {}}, "/path"),
        ({"op": "add", "path": "", "value": {}}, "/path"),
        ({"op": "add", "path": f"{CELL}#/attributes/x\n", "value": 1}, "/path"),
        ({"op": "add", "path": CELL}, "/value"),
        ({"op": "add", "path": CELL, "value": None}, "/value"),
        ({"op": "add", "path": CELL, "value": [1]}, "/value"),
        ({"op": "add", "path": f"{CELL}#/attributes", "value": {}}, "/path"),
        ({"op": "replace", "path": CELL, "value": {}}, "/path"),
        ({"op": "replace", "path": f"{CELL}#/attributes", "value": {}}, "/path"),
        ({"op": "replace", "path": f"{CELL}#/id", "value": "2"}, "/path"),
        ({"op": "replace", "path": f"{CELL}#/attributes/x"}, "/value"),
        ({"op": "merge", "path": CELL}, "/value"),
        ({"op": "merge", "path": CELL, "value": 7}, "/value"),
        ({"op": "merge", "path": f"{CELL}#/attributes/x", "value": {}}, "/path"),
        ({"op": "remove", "path": f"{CELL}#/attributes"}, "/path"),
        ({"op": "action", "path": CELL, "value": {"input": {}}}, "/path"),
        ({"op": "action", "path": f"{CELL}#/attributes/x", "value": {"input": {}}}, "/path"),
        ({"op": "action", "path": f"{CELL}#Restart", "value": {}}, "/value"),
        ({"op": "action", "path": f"{CELL}#Restart"}, "/value"),
        ({"op": "test", "path": CELL, "value": 7}, "/path"),
        ({"op": "test", "path": f"{CELL}#/attributes/x"}, "/value"),
        ({**ADD, "operationId": True}, "/operationId"),
        ({**ADD, "operationId": 1.5}, "/operationId"),
        ({**ADD, "operationId": ""}, "/operationId"),
        ({**ADD, "operationId": "a\n"}, "/operationId"),
        ({**ADD, "operationId": "x" * 1025}, "/operationId"),
        ({**ADD, "operationId": 2**64}, "/operationId"),
        ({**READ, "path": f"{CELL}#/attributes/x"}, "/path"),
        ({**READ, "value": 7}, "/value"),
        ({**READ, "attributes": [7]}, "/attributes"),
        ({**READ, "attributes": ["a", ""]}, "/attributes"),
        ({**READ, "fields": {"a": 1}}, "/fields"),
        ({**READ, "fields": ["/attributes/~2"]}, "/fields"),
        ({**READ, "filter": "NRCellDU"}, "/filter"),
        ({**READ, "filter": ["NRCellDU/attributes/x == 1", "&&"]}, "/filter/1"),
        ({**READ, "filter": ["NRCellDU/attributes/x == 1", "GNBDUFunction/attributes/y == 2"]}, "/filter"),
        ({**READ, "filter": 7}, "/filter"),
        ({**READ, "scope": "BASE_ALL"}, "/scope"),
        ({**READ, "scope": {"scopeType": "EVERYTHING"}}, "/scope"),
        ({**READ, "scope": {"scopeType": "BASE_NTH_LEVEL"}}, "/scope/scopeLevel"),
        ({**READ, "scope": {"scopeType": "BASE_SUBTREE", "scopeLevel": -1}}, "/scope/scopeLevel"),
        ({**READ, "scope": {"scopeType": "BASE_SUBTREE", "scopeLevel": "1"}}, "/scope"),
        (7, ""),
        (None, ""),
        ([], ""),
    ],
)
def test_a_malformed_operation_is_refused_at_its_field(operation: Any, field: str) -> None:
    """Each rule of the operations refuses the request with the pointer of the field to blame."""
    good = READ if isinstance(operation, dict) and operation.get("op") == "read" else ADD
    assert pointers(body({**good, "operationId": "good"}, operation)) == [f"#/data/1{field}"]


def test_a_key_is_trimmed_but_never_taken_twice() -> None:
    """Blanks around a key are dropped. A key that then occurs twice is a fault."""
    trimmed = {" op": "add", "path ": CELL, "value": {"id": "1"}}
    assert read(trimmed).operations[0].path == CELL
    assert pointers(body({**trimmed, "op": "remove"})) == ["#/data/0/op"]


@pytest.mark.parametrize(
    "value", [b"1.0", b"1e2", b'{"b": 1,  "a":[ 2 ]}', b'"\\u00e9"', b"9007199254740993"]
)
def test_values_keep_their_tokens(value: bytes) -> None:
    """A value's JSON text is kept: number formats, order, blanks and escapes."""
    text = b'{"data": [{"op": "replace", "path": "%s#/attributes/x", "value": %s}]}' % (CELL.encode(), value)
    (operation,) = read_request(text).operations
    assert isinstance(operation.value, msgspec.Raw)
    assert bytes(operation.value) == value


@pytest.mark.parametrize("value", [b"{}", b"null", b'"x"', b"[" * 250 + b"]" * 250])
def test_the_value_of_a_remove_is_ignored(value: bytes) -> None:
    """It is accepted, whatever it is, and ignored: RFC 6902 §4 lets a reader ignore it."""
    text = b'{"data": [{"op": "remove", "path": "%s", "value": %s}]}' % (CELL.encode(), value)
    request = read_request(text)
    assert request.operations == [SeedOperation(Op.REMOVE, CELL, "0")]
    assert (request.ignored, check_request(text).ignored) == (None, None)


@pytest.mark.parametrize("fragment", ["#/attributes", "/#/attributes", "#attributes"])
def test_a_replace_of_all_attributes_names_merge(fragment: str) -> None:
    """TS 32.158 has it for one attribute. The refusal names the operation that changes several at once."""
    refusal = refused(body({"op": "replace", "path": CELL + fragment, "value": {"nRPCI": 7}}))
    assert refusal.problems[0][0] == "#/data/0/path"
    assert "merge" in refusal.detail


LONE_SURROGATES = {
    b'{"data": [{"op": "remove", "path": "/A=\\ud800"}]}': "#/data/0/path",
    b'{"data": [{"op": "remove", "path": "/A=1"}, {"op": "merge", "path": "/A=1", '
    b'"value": {"a": ["\\ud83d\\ude00", {"b/c": "\\\\ud800 \\uDFFF"}]}}]}': "#/data/1/value/a/1/b~1c",
    b'{"data": [{"op": "merge", "path": "/A=1", "value": {"x": {"\\ud800\\u0041": 1}}}]}': "#/data/0/value/x",
    b'{"data": [{"op": "remove", "path": "/A=1", "note": "\\udc00"}]}': "#/data/0/note",
    b'{"name": "\\ud800", "data": [{"op": "remove", "path": "/A=1"}]}': "#/name",
    b'{"\\ud800": 1, "data": [{"op": "remove", "path": "/A=1"}]}': "#",
    b'{"data": [{"op": "remove", "path": "/A=1"}], "x": [1, "\\ud800"]}': "#/x/1",
    b'"\\ud800"': "#",
    b'{"data": ' + b"[" * 300 + b'"\\ud800"' + b"]" * 300 + b"}": "#/data" + "/0" * 15,
}


@pytest.mark.parametrize("text", LONE_SURROGATES)
def test_half_of_a_surrogate_pair_is_refused_where_it_stands(text: bytes) -> None:
    """JSON's grammar allows it, Unicode does not: the pointer leads to the text, or to the object of a
    name."""
    refusal = refused(text)
    assert refusal.problems == (
        (LONE_SURROGATES[text], "is not a Unicode text: it has half of a surrogate pair"),
    )
    with pytest.raises(InvalidRequest, match="not a Unicode text"):
        check_request(text)


def test_whole_surrogate_pairs_are_text() -> None:
    """So is a backslash before a text that looks like one."""
    text = b'{"data": [{"op": "merge", "path": "/A=1", "value": {"a": "\\ud83d\\ude00 \\\\ud800"}}]}'
    assert read_request(text).count == 1


def test_paths_keep_their_code_points_and_have_a_key() -> None:
    """The path is unchanged. Only the lookup uses its normal form."""
    path = "ManagedElement=M\\2C1, NRCellDU=1"
    request = read({"op": "remove", "path": path})
    assert request.operations == [SeedOperation(Op.REMOVE, path, "0")]
    assert fdn.key_of_path(request.operations[0].path) == "ManagedElement=M%2C1/NRCellDU=1"


def test_operation_ids_are_unique_as_strings() -> None:
    """An integer and a string of the same digits are one id. Without an id the position is used."""
    request = read(ADD, {**ADD, "operationId": 7}, {**ADD, "operationId": "x"})
    assert [operation.operation_id for operation in request.operations] == ["0", 7, "x"]
    assert pointers(body({**ADD, "operationId": 7}, {**ADD, "operationId": "7"})) == ["#/data/1/operationId"]
    assert pointers(body({**ADD, "operationId": "1"}, ADD)) == ["#/data/0/operationId"]
    assert pointers(body(ADD, {**ADD, "operationId": 0})) == ["#/data/1/operationId"]


def test_reads_and_writes_do_not_mix() -> None:
    """The first operation of the other kind is named."""
    assert pointers(body(ADD, ADD, READ, ADD)) == ["#/data/2/op"]
    assert pointers(body(READ, ADD)) == ["#/data/1/op"]


@pytest.mark.parametrize("text", [b'{"data": []}', b"{}", b'{"data": null}', b'{"data": {}}', b'{"data": 7}'])
def test_a_job_has_a_list_of_operations(text: bytes) -> None:
    """No list, or an empty one, is a fault of data."""
    assert pointers(text) == ["#/data"]


@pytest.mark.parametrize(
    "text", [b"", b"7", b"[]", b"null", b"{", b'{"data": [}', b'{"data": [7', b"\xff", b'{"name": "\xff"}']
)
def test_what_is_no_json_object_in_utf8_is_refused(text: bytes) -> None:
    """Anything but one JSON object in UTF-8 is refused as a whole."""
    assert refused(text).detail


def test_a_hundred_faults_are_listed_and_all_are_counted() -> None:
    """The response stays short, and its count is correct."""
    refusal = refused(body(*[{"op": "add", "path": "x", "value": {}}] * 250))
    assert len(refusal.problems) == 100
    assert refusal.count == 250
    assert refusal.problems[99][0] == "#/data/99/path"


@pytest.mark.parametrize(
    "element", ['{"op":"remove","path":"A=1"}', "{}", "0", '{"\\u006fp":"add","path":"A=1"}']
)
def test_too_many_operations_are_told_before_they_are_built(element: str) -> None:
    """More operations than allowed are refused as such, whatever they contain. The limit itself is
    accepted."""
    text = '{"data": [' + ",".join([element] * 101) + "]}"
    with pytest.raises(TooManyOperations, match="100"):
        read_request(text.encode(), max_operations=100)


def test_the_limit_itself_is_allowed() -> None:
    """Exactly as many operations as allowed make a job."""
    request = read_request(body(*[{"op": "remove", "path": CELL}] * 100), max_operations=100)
    assert len(request.operations) == 100


@pytest.mark.parametrize("depth", [201, 100_000])
def test_deep_nesting_is_an_error(depth: int) -> None:
    """A value nested too deeply is refused, on the fast path and on the exact one."""
    nested = "[" * depth + "]" * depth
    for key in ("op", " op"):
        text = f'{{"data": [{{"{key}": "replace", "path": "{CELL}#x", "value": {nested}}}]}}'
        assert "deep" in refused(text.encode()).detail
    assert "deep" in refused(f'{{"name": {"[" * 100_000}{"]" * 100_000}, "data": []}}'.encode()).detail


def test_brackets_in_strings_are_no_nesting() -> None:
    """Only real nesting counts."""
    value = {"text": "[" * 1000, "quoted": '\\"[' * 300, "list": [[1]] * 300}
    assert read({"op": "merge", "path": CELL, "value": value}).type is JobType.WRITE


def test_an_oversized_envelope_is_refused() -> None:
    """The members next to data have a size limit."""
    assert "beside its data" in refused(body(ADD, extra="x" * 2_000_000)).detail


def test_what_ncmp_takes() -> None:
    """Media types of any kind and operations with the same id are taken as they came; all else is checked as
    ever."""
    types = {"dataAcceptType": "application/json", "dataContentType": "any/thing"}
    text = body(*[ADD | {"operationId": given} for given in ("x", "x", 7, "7", None)], **types)
    request = read_request(text, as_ncmp=True)
    assert [each.operation_id for each in request.operations] == ["x", "x", 7, "7", "4"]
    assert (request.accept_type, request.content_type) == ("application/json", "any/thing")
    faults = refused(text).problems
    assert [pointer for pointer, _ in faults] == [
        "#/dataAcceptType", "#/dataContentType", "#/data/1/operationId", "#/data/3/operationId",
    ]  # fmt: skip
    for wrong, pointer in (
        (body(ADD | {"operationId": "x"}, ADD | {"operationId": ""}), "#/data/1/operationId"),
        (body(ADD, dataContentType="x" * 256), "#/dataContentType"),
        (body(ADD, dataAcceptType=7), "#/dataAcceptType"),
    ):
        with pytest.raises(InvalidRequest) as raised:
            check_request(wrong, as_ncmp=True)
        assert [each for each, _ in raised.value.problems] == [pointer]


def survives(text: bytes) -> None:
    try:
        request = read_request(text, max_operations=50)
    except (InvalidRequest, UnsupportedRequest) as error:
        assert str(error)
    else:
        assert request.count == len(request.operations) > 0


@given(st.binary(max_size=200))
@example(b'{"data":[{"op":"read","path":"A=1","operationId":' + b"9" * 5000 + b"}]}")
@example(b'{"priority":' + b"9" * 5000 + b',"data":[]}')
@example(b'{"data":"\\ud800"}')
def test_any_bytes_are_a_request_or_an_error(text: bytes) -> None:
    """Only the named errors are raised, whatever the body."""
    survives(text)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)
KEYS = st.sampled_from(
    ["op", "path", "operationId", "value", "attributes", "fields", "filter", "scope", "op ", "scopeType", "x"]
)
WORDS = st.sampled_from(
    [
        *Op,
        "copy",
        CELL,
        f"{CELL}#/attributes/x",
        f"{CELL}#Go",
        "A=1,B=2",
        "NRCellDU/attributes/x==1",
        "BASE_ALL",
    ]
)
LINES = st.dictionaries(KEYS, WORDS | JSON, max_size=8)
ENVELOPE = st.sampled_from(
    ["dataAcceptType", "dataContentType", "name", "activationMode", "priority", "after", "DATA"]
)


@given(st.dictionaries(ENVELOPE, JSON | WORDS, max_size=3), st.lists(LINES, max_size=4) | JSON)
def test_any_json_is_a_request_or_an_error(envelope: dict[str, Any], data: Any) -> None:
    """Only the named errors are raised for almost valid bodies."""
    survives(json.dumps({**envelope, "data": data}).encode())


@given(st.lists(st.sampled_from([ADD, {"op": "remove", "path": CELL}]), min_size=1, max_size=5))
def test_both_ways_of_reading_agree(operations: list[dict[str, Any]]) -> None:
    """The fast path and the exact path (which an unknown key forces) give the same operations."""
    fast = read(*operations)
    careful = read(*[{**operation, "unknown": 1} for operation in operations])
    assert msgspec.json.encode(fast.operations) == msgspec.json.encode(careful.operations)
