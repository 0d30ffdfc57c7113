# SPDX-License-Identifier: Apache-2.0
"""The fast paths of checking and planning many operations give the same results as the exact ones."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.errors import InvalidRequest, TooManyOperations, UnsupportedRequest
from ran_datajobs.inventory.owners import Owner, Owners
from ran_datajobs.model import Reason
from ran_datajobs.nrm import fdn
from ran_datajobs.planning.envelope import Envelope
from ran_datajobs.planning.fast_path import PIECE, all_usual, in_pieces
from ran_datajobs.planning.request import check_request
from ran_datajobs.planning.split import owners_of, split
from ran_datajobs.planning.validation import validate_operation
from ran_datajobs.plugins.port import PluginProfile
from ran_datajobs.plugins.wire import SeedOperation
from ran_datajobs.results.outcomes import unpack
from tests.unit.planning_parts import ReadRequest, read_request

SEED = PluginProfile(1, "http://127.0.0.1:9001", "seed", stop_on_error=True)
ONAP = PluginProfile(2, "http://127.0.0.1:9002", "onap")

FDNS = st.sampled_from(
    [
        "/A=1",
        "A=1/B=2",
        "/A=1/B=2/C=3",
        "A=1,B=2",
        "/A=%31/B=2",
        "/A=1/B=b c",
        "/A=1/B=ü",
        "/A",
        "/A=1//B=2",
        "",
    ]
)
FRAGMENTS = st.sampled_from(
    [
        "",
        "",
        "#/attributes",
        "#/attributes/x",
        "/#/attributes/x/1/-",
        "#x",
        "#Go",
        "#/attributes/~2",
        "#",
        "#\n",
    ]
)
VALUES = st.sampled_from([b"{}", b'{"id":"1"}', b"7", b"null", b"[" * 201 + b"]" * 201, b'{"input":{}}'])
OPS = st.sampled_from(["add", "merge", "replace", "remove", "action", "test", "read"])


OFTEN_DOUBLED = [
    b'"op":"add"',
    b'"\\u006fp": "remove"',
    b'"value":null',
    b'"scope": {"scopeType":"BASE_ALL","scopeLevel":1,"scopeType":"BASE_ONLY"}',
    b'"attributes":null',
    b'"dataNodeSelector":"//A"',
    b'"x":{"op":1,"op":2}',
]
BESIDE = [
    b'"x":1',
    b'"scope":{}',
    b'"moduleSetTag":"t"',
    b'"filter":"A/attributes/x==1"',
    b'"fields":null',
    b'"expect":{"absent":true}',
    b'"expect":null',
    b'"dataNodeSelector":null',
    b'"dataNodeSelector":"/A[id=\\"1\\"]/B OR //C"',
    b'"dataNodeSelector":"//A[1]"',
]


@st.composite
def lines(draw: st.DrawFn) -> bytes:
    """One operation's JSON, mostly almost valid."""
    fields = [b'"op":%b' % json.dumps(draw(OPS)).encode()]
    if draw(st.integers(0, 7)):
        fields.append(b'"path":%b' % json.dumps(draw(FDNS) + draw(FRAGMENTS)).encode())
    if draw(st.booleans()):
        fields.append(b'"value":%b' % draw(VALUES))
    if draw(st.booleans()):
        operation_id = draw(st.integers(0, 3) | st.sampled_from(["a", "b", "", "\t", "é", "0"]))
        fields.append(b'"operationId":%b' % json.dumps(operation_id).encode())
    fields += draw(st.lists(st.sampled_from(BESIDE), max_size=1))
    if draw(st.integers(0, 4)) == 0:
        place = draw(st.integers(0, len(fields)))
        fields.insert(place, draw(st.sampled_from([*fields, *OFTEN_DOUBLED])))
    return b"{%b}" % draw(st.sampled_from([b",", b", ", b" ,\n"])).join(fields)


ENVELOPES = st.sampled_from(
    [
        (b'{"data":[', b"]}"),
        (b' { "priority" : 3 , "name":"n", "data" :\n[', b'] , "x":null}\n'),
        (b'{"activationMode":"STOP_ON_ERROR","data":[', b"]}"),
        (b'{"activationMode":"ATOMIC","data":[', b"]}"),
        (b'{"notBefore":"x","data":[', b'],"foo":1,"Date":null}'),
        (b'{"prioritty":3,"data":[', b"]}"),
        (b'{"foo":1,"data":[', b'],"FOO":1}'),
        (b'{"undoable":1,"data":[', b"]}"),
        (b'{"priority":3,"Priority":4,"data":[', b"]}"),
        (b'{"data":[', b'],"data":7}'),
        (b'{"data":[', b'],"after":[]}'),
        (b'{"data":[', b'],"name":"a]"}'),
        (b'{"data":{"data":[', b"]}}"),
        (b'{"priority":01,"data":[', b"]}"),
        (b'{"data":[', b"]"),
        (b'{"data":[', b",]}"),
        (b'{"name":"\xff","data":[', b"]}"),
    ]
)
BODIES = st.builds(
    lambda ends, operations: ends[0] + b",".join(operations) + ends[1],
    ENVELOPES,
    st.lists(lines(), max_size=6),
)


HEAD = (*Envelope.__struct_fields__, "type", "count", "ignored")
lines_decoder = msgspec.json.Decoder(list[SeedOperation])


def outcome(check: Any, body: bytes, **settings: Any) -> object:
    """The result of a check: the head of the request, or all its faults."""
    try:
        head = check(body, **settings)
    except TooManyOperations as error:
        return type(error), str(error)
    except (InvalidRequest, UnsupportedRequest) as error:
        return type(error), str(error), error.problems, error.count
    return tuple(getattr(head, field) for field in HEAD)


def exact(body: bytes) -> bytes:
    """The same request in a form that is read by the exact path."""
    return body.replace(b'"data"', b'"dATA"', 1)


def with_care(body: bytes, **settings: Any) -> ReadRequest:
    """The same request read by the exact path."""
    return read_request(exact(body), **settings)


@given(BODIES)
def test_the_quick_check_says_what_the_exact_one_says(body: bytes) -> None:
    """Valid requests have one head; invalid ones the same problems at the same positions."""
    if body.count(b'"data"') == 1:
        quick, exact = outcome(check_request, body), outcome(with_care, body)
        assert quick == exact or b'"priority":01' in body  # the JSON error names another byte
        assert outcome(read_request, body) == quick


@given(BODIES)
def test_a_key_that_stands_twice_in_an_operation_is_told(body: bytes) -> None:
    """Exactly the operations that have a key twice, or one within their scope, are blamed for it."""
    try:
        data = dict(json.loads(body, object_pairs_hook=Pairs))["data"]
    except (ValueError, UnicodeDecodeError):
        return
    if not isinstance(data, list) or isinstance(data, Pairs):
        return
    doubled = {f"#/data/{n}{place}" for n, operation in enumerate(data) for place in doubles_of(operation)}
    for check in (check_request, read_request, with_care):
        try:
            check(body)
        except InvalidRequest as error:
            assert doubled == {
                where
                for where, what in error.problems
                if what.startswith("occurs twice") and "/data/" in where
            }
        except UnsupportedRequest:
            assert not doubled
        else:
            assert not doubled


class Pairs(list[tuple[str, Any]]):
    """The members of a JSON object."""


def doubles_of(operation: Pairs) -> set[str]:
    """Pointers of the keys that occur twice below the operation. Of two scopes the last one is checked."""
    keys = [key for key, _ in operation]
    found = {f"/{key}" for key in keys if keys.count(key) > 1}
    for within in [value for key, value in operation if key == "scope"][-1:]:
        names = [name for name, _ in within]
        found |= {f"/scope/{name}" for name in names if names.count(name) > 1}
    return found


@pytest.mark.parametrize("key", ["op", "path", "operationId", "value"])
@pytest.mark.parametrize("separators", [(",", ":"), (", ", ": "), (" , ", " : ")])
def test_one_doubled_key_among_many_good_operations_is_told(key: str, separators: tuple[str, str]) -> None:
    """However the body is written: compact, as Python writes it, or with blanks everywhere."""
    good = {"op": "add", "path": "/A=1", "value": {"op": "x", "y": "\\"}}
    comma, colon = separators
    texts = [json.dumps(good | {"operationId": n}, separators=separators) for n in range(3000)]
    assert check_request(f'{{"data":[{comma.join(texts)}]}}'.encode()).count == 3000
    again = f"{json.dumps(key)}{colon}{json.dumps(good.get(key, 9))}{comma}"
    texts[1776] = "{" + again + texts[1776][1:]
    with pytest.raises(InvalidRequest) as refused:
        check_request(f'{{"data":[{comma.join(texts)}]}}'.encode())
    assert [where for where, _ in refused.value.problems] == [f"#/data/1776/{key}"]


def test_a_body_with_nulls_and_escapes_has_no_key_twice() -> None:
    """A text longer than necessary is no fault."""
    line = b'{"op":"add","path":"\\/A=\\u0031","attributes":null,"scope":null,"value":{"x":"\\u00fc"}}'
    assert check_request(b'{"data":[%b]}' % b",".join([line] * 3000)).count == 3000


@given(st.lists(lines(), min_size=1, max_size=6))
def test_usual_lines_have_no_fault(texts: list[bytes]) -> None:
    """Every rule finds a valid operation that the fast path accepts valid as well."""
    try:
        read = lines_decoder.decode(b"[%b]" % b",".join(texts))
    except msgspec.ValidationError:
        return
    assert not (all_usual(read) and any(validate_operation(line) for line in read))


@pytest.mark.parametrize(
    "operation",
    [
        {"op": "add", "path": "/A=1/B=2", "value": {"id": "2"}},
        {"op": "merge", "path": "A=1/B=2#/attributes", "value": {}},
        {"op": "replace", "path": "/A=1#/attributes/x", "value": None},
        {"op": "test", "path": "/A=1/#/attributes/x/y", "value": 1},
        {"op": "remove", "path": "/A=1"},
        {"op": "remove", "path": "/A=1#/attributes/x"},
    ],
)
def test_the_usual_writes_are_usual(operation: dict[str, Any]) -> None:
    """The fast path accepts each kind of write of load jobs, also when kinds are mixed."""
    other = {"op": "add", "path": "/A=1", "value": {}}
    assert all_usual(lines_decoder.decode(msgspec.json.encode([operation, other, operation])))


def test_too_many_operations_are_refused_by_the_quick_check() -> None:
    """One more than the limit is refused as such. The limit itself is accepted."""
    body = b'{"data":[%b]}' % b",".join([b'{"op":"remove","path":"/A=1"}'] * 100)
    assert check_request(body, max_operations=100).count == 100
    with pytest.raises(TooManyOperations, match="99"):
        check_request(body, max_operations=99)


# --- in pieces ---------------------------------------------------------------------------------------

DECEIVING = '},{"op":"add","path":"/A=9","value":{}}'


@pytest.mark.parametrize("value", [DECEIVING, [{"op": 1}, {"path": 2}], {"x": [[{"a": {}}, {"op": {}}]]}])
def test_a_value_that_looks_like_operations_is_a_value(value: Any) -> None:
    """However a body is cut into pieces, no part of a value is taken for an operation."""
    large = [{"op": "replace", "path": f"/A={n}#/attributes/x", "value": [value] * 2000} for n in range(60)]
    body = msgspec.json.encode({"data": large})
    assert len(body) > 4 * PIECE
    assert check_request(body).count == 60
    assert [one.path for one in read_request(body).operations] == [one["path"] for one in large]


@pytest.mark.parametrize("first", ["op", "path"])
def test_pieces_are_all_operations_in_order(first: str) -> None:
    """The pieces of a large body joined are its operations, with which of these keys ever they begin."""
    keys = [*sorted(("op", "path"), key=lambda key: key != first), "value"]
    whole = ({"op": "add", "path": f"/A={n}", "value": {"x": "y" * 100}} for n in range(20_000))
    large = [{key: each[key] for key in keys} for each in whole]
    body = msgspec.json.encode({"name": "n", "data": large})
    cut = in_pieces(body)
    assert cut is not None
    pieces = [lines_decoder.decode(piece) for piece in cut[1]]
    assert len(pieces) > 3
    assert [line.path for piece in pieces for line in piece] == [one["path"] for one in large]


@pytest.mark.parametrize("producers", [1, 3])
def test_a_large_plan_is_compressed_in_several_frames(
    producers: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each body is one JSON array of all operations in order, and its size is the uncompressed one."""
    monkeypatch.setattr("ran_datajobs.planning.split._MAX_UNCOMPRESSED", PIECE)
    operations = [
        {"op": "add", "path": f"/A={n % producers}/B={n}", "operationId": n, "value": {"x": "y" * 200}}
        for n in range(5000)
    ]
    owners = Owners([owner(f"A={n}", producer=str(n)) for n in range(producers)])
    for sub_job in split(msgspec.json.encode({"data": operations}), owners).sub_jobs:
        body = unpack(sub_job.body)
        sent = [one["operationId"] for one in json.loads(body)]
        assert sent == list(range(int(sub_job.data_producer_id), 5000, producers))
        assert (sub_job.operations, sub_job.size) == (len(sent), len(body))


# --- owners and plans --------------------------------------------------------------------------------

KEYS = st.lists(st.sampled_from(["A=1", "A=10", "B=%2C", "C=x y", "D=ü"]), min_size=1, max_size=4).map(
    "/".join
)
PATHS = st.builds(
    lambda slash, key, fragment: slash + key + fragment,
    st.sampled_from(["", "/"]),
    KEYS | st.sampled_from(["A=1,A=1", "A=%31/A=1", "A=1/Q=?"]),
    st.sampled_from(["", "#/attributes/x", "/#/attributes/x,%?"]),
)


def owner(key: str, plugin: PluginProfile = SEED, producer: str = "p1", tag: str = "t") -> Owner:
    return Owner(key.replace("/", "_"), key, plugin, plugin, producer, tag, b'{"secret":1}')


OWNERS = st.lists(
    st.builds(
        owner,
        KEYS,
        st.sampled_from([SEED, ONAP]),
        st.sampled_from(["", "p1", "p2"]),
        st.sampled_from(["", "t"]),
    ),
    max_size=8,
    unique_by=lambda one: one.alternate_key,
).map(Owners)
PLAIN_PATHS = KEYS.filter(lambda key: key.isascii() and "%" not in key).map("/{}".format)


@given(OWNERS, st.lists(PATHS, min_size=1, max_size=9) | st.lists(PLAIN_PATHS, min_size=1, max_size=9))
def test_owners_told_together_are_those_told_one_by_one(owners: Owners, paths: list[str]) -> None:
    """The lookup of many paths finds the same owners as single lookups."""
    many = paths * 65
    assert owners_of(many, owners) == [owners.owner_of(fdn.key_of_path(path)) for path in many]


def test_owners_are_told_together_at_several_depths() -> None:
    """The deepest handle wins. Paths outside it belong to the one above it."""
    owners = Owners([owner("A=1"), owner("A=1/B=1"), owner("A=2/B=1/C=1")])
    paths = ["/A=1/B=1/C=1", "/A=1/B=2", "A=1", "/A=2/B=1", "/A=2/B=1/C=1/#/attributes/x", "/A=3"] * 20
    found = [one and one.alternate_key for one in owners_of(paths, owners)]
    assert found == ["A=1/B=1", "A=1", "A=1", None, "A=2/B=1/C=1", None] * 20


def test_the_depths_follow_the_inventory() -> None:
    """A handle at a depth that no other has is found in a changed copy."""
    before = Owners([owner("A=1")])
    assert before.depths == {1}
    owners = before.changed({"A=1"}, [owner("A=1/B=1")])
    assert (owners.depths, before.depths) == (frozenset({2}), frozenset({1}))


@given(OWNERS, BODIES)
def test_an_accepted_body_is_planned_as_its_request(owners: Owners, body: bytes) -> None:
    """Both ways of reading give the same plan, byte for byte."""
    try:
        check_request(body)
    except (InvalidRequest, UnsupportedRequest):
        return
    assert split(body, owners) == split(exact(body), owners)


@given(OWNERS, st.lists(PATHS, min_size=1, max_size=9))
def test_an_accepted_load_job_is_planned_as_its_request(owners: Owners, paths: list[str]) -> None:
    """The same for many plain writes with ids."""
    operations = [
        {"op": "remove" if n % 3 else "replace", "path": path, "operationId": n}
        | ({} if n % 3 else {"value": n})
        for n, path in enumerate(path.partition("#")[0] + "#/attributes/x" for path in paths * 70)
    ]
    body = msgspec.json.encode({"data": operations})
    assert split(body, owners) == split(exact(body), owners)


@pytest.mark.parametrize("plugin", [SEED, ONAP])
def test_what_a_client_says_about_a_handle_never_reaches_the_plugin(plugin: PluginProfile) -> None:
    """moduleSetTag and private properties come only from the inventory. null for no value is dropped."""
    body = (
        b'{"data":[{"op":"remove","path":"/A=1","operationId":"1","value":null,"moduleSetTag":"evil",'
        b'"privateProperties":{"evil":1},"cmHandleProperties":{"evil":1}},'
        b'{"op":"remove","path":"/A=1","operationId":"2","moduleSetTag":"evil","privateProperties":{"evil":1}}]}'
    )
    for text in (body, body.replace(b',"cmHandleProperties":{"evil":1}', b"")):
        (sub_job,) = split(text, Owners([owner("A=1", plugin, tag="")])).sub_jobs
        sent = unpack(sub_job.body)
        assert b"evil" not in sent
        assert b"value" not in sent
        assert sent.count(b'{"secret":1}') == 2


def test_a_refused_operation_bears_nothing_of_a_handle() -> None:
    """An operation without an owner is reported as it was requested."""
    body = b'{"data":[{"op":"remove","path":"/B=1","operationId":"1","value":null,"moduleSetTag":"evil"}]}'
    (refused,) = split(body, Owners()).refused
    assert refused == split(exact(body), Owners()).refused[0]
    assert (refused.reason, refused.operation.value) == (Reason.UNMATCHED, msgspec.UNSET)


def test_a_job_accepted_under_a_larger_limit_is_planned() -> None:
    """Planning has no limit of its own: a job that got its 202 gets a plan."""
    operation = b'{"op":"remove","path":"A=1","operationId":1}'
    body = b'{"data":[%b]}' % b",".join([operation] * 1_000_001)
    (sub_job,) = split(body, Owners([owner("A=1")])).sub_jobs
    assert sub_job.operations == 1_000_001
