# SPDX-License-Identifier: Apache-2.0
"""Reads by data node selector: what a request may have, who gets a selector, the parts of an operation."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.errors import InvalidRequest, InvalidSelector
from ran_datajobs.inventory.owners import Owner, Owners
from ran_datajobs.model import JobType, Reason
from ran_datajobs.nrm.selectors import parse
from ran_datajobs.planning.request import check_request, read_accepted
from ran_datajobs.planning.selectors import Classified, Route, _route_of, check, classify, routes_of
from ran_datajobs.planning.split import Plan, split
from ran_datajobs.plugins.port import PluginProfile
from ran_datajobs.results.outcomes import unpack

ABLE = PluginProfile(1, "http://127.0.0.1:9001", "seed", selectors=True)
ONAP = PluginProfile(2, "http://127.0.0.1:9002", "onap", selectors=True)
UNABLE = PluginProfile(3, "http://127.0.0.1:9003", "seed")


def owner(
    key: str, plugin: PluginProfile = ABLE, producer: str = "p1", writes: PluginProfile = UNABLE
) -> Owner:
    return Owner(key.replace("/", "_"), key, plugin, writes, producer, "tag", b"{}")


def read(selector: Any, **more: Any) -> dict[str, Any]:
    return {"op": "read", "dataNodeSelector": selector, **more}


def request(*operations: dict[str, Any], **envelope: Any) -> bytes:
    return json.dumps({**envelope, "data": operations}).encode()


def plan(owners: Owners, *operations: dict[str, Any], **envelope: Any) -> Plan:
    body = request(*operations, **envelope)
    check_request(body)
    return split(body, owners)


def parts(found: Plan) -> dict[tuple[int, str], list[tuple[str, str]]]:
    """By plugin and data producer: the path and the selectors of each operation."""
    return {
        (each.plugin_id, each.data_producer_id): [
            (line["path"], line.get("dataNodeSelector", "")) for line in json.loads(unpack(each.body))
        ]
        for each in found.sub_jobs
    }


def refused(found: Plan) -> list[tuple[int, Reason, str]]:
    return [(each.position, each.reason, str(each.operation.data_node_selector)) for each in found.refused]


# --- requests ----------------------------------------------------------------------------------------


def problems(*operations: dict[str, Any]) -> list[tuple[str, str]]:
    with pytest.raises(InvalidRequest) as refusal:
        check_request(request(*operations))
    return list(refusal.value.problems)


def test_a_selector_stands_alone() -> None:
    """Each other member that selects is refused beside it, by name; one that is null is as if absent."""
    beside = {
        "path": "/A=1",
        "attributes": ["x"],
        "fields": ["/x"],
        "filter": "A/attributes/x==1",
        "scope": {"scopeType": "BASE_ALL"},
        "value": 1,
    }
    for name, value in beside.items():
        detail = "cannot stand beside a dataNodeSelector, which names objects and attributes itself"
        assert problems(read("//A", **{name: value})) == [(f"#/data/0/{name}", detail)]
    nulls = check_request(request(read("//A", **dict.fromkeys(beside))))
    assert (nulls.type, nulls.count, nulls.ignored) == (JobType.READ, 1, None)


def test_a_selector_in_a_write_is_refused() -> None:
    """It is not ignored like other keys of a read: a client that sends it means to select objects."""
    write = {"op": "merge", "path": "/A=1", "value": {}, "dataNodeSelector": "//A"}
    detail = "is for reads: a merge names its object with path"
    assert problems(write) == [("#/data/0/dataNodeSelector", detail)]
    assert check_request(request({**write, "dataNodeSelector": None})).type is JobType.WRITE


def test_a_selector_that_does_not_parse_refuses_the_request() -> None:
    """The pointer names the operation, and the text marks the place; also among many operations."""
    ((pointer, detail),) = problems(*(read("//A") for _ in range(50)), read("//A\n/B[id=1]"))
    assert pointer == "#/data/50/dataNodeSelector"
    assert detail.endswith("at position 6: /B <-- here --> [id=1]")
    assert problems(read(["//A"]))[0] == ("#/data/0/dataNodeSelector", "must be a string; it is a list")


def test_without_a_selector_a_path_is_needed() -> None:
    """Absent and null are missing, an empty text is no FDN."""
    assert problems({"op": "read"}) == [("#/data/0/path", "is missing")]
    assert problems({"op": "read", "path": None, "dataNodeSelector": None}) == [
        ("#/data/0/path", "is missing")
    ]
    assert problems({"op": "remove"}) == [("#/data/0/path", "is missing")]
    ((pointer, detail),) = problems({"op": "read", "path": ""})
    assert (pointer, detail) == ("#/data/0/path", "the FDN is empty: write /Class=value/Class=value")


def test_keys_that_occur_twice_are_refused_beside_a_selector() -> None:
    """As in every other operation."""
    body = b'{"data":[{"op":"read","dataNodeSelector":"//A","dataNodeSelector":"//B"}]}'
    with pytest.raises(InvalidRequest, match="#/data/0/dataNodeSelector: occurs twice"):
        check_request(body)


def test_unknown_keys_beside_a_selector_are_listed() -> None:
    """dataNodeSelector itself is known."""
    ignored = check_request(request(read("//A", note=1), read("//A", dataNodeSelectors="x"))).ignored
    assert ignored is not None
    assert [key.name for key in ignored.keys] == ["note", "dataNodeSelectors"]


@pytest.mark.parametrize("selector", ["//A", ["//A"], "[", None])
def test_a_request_of_an_older_version_is_executed_as_it_was_accepted(selector: Any) -> None:
    """When the key was unknown, it was ignored in reads and writes, whatever its value."""
    read_before = {"op": "read", "path": "/A=1", "attributes": "x", "dataNodeSelector": selector}
    write_before = {"op": "remove", "path": "/A=1", "dataNodeSelector": selector}
    for line in (read_before, write_before):
        ((operation,),) = [read_accepted(request(line))[1]]
        assert (operation.path, operation.data_node_selector) == ("/A=1", None)


def test_a_selector_reaches_the_plan_as_it_was_written() -> None:
    """With its lines and comments: they are dropped when it is sent."""
    text = '&& all\n//A OR /B[id="x"]'
    (operation,) = read_accepted(request(read(text)))[1]
    assert (operation.path, operation.data_node_selector, operation.operation_id) == ("", text, "0")


# --- routes ------------------------------------------------------------------------------------------

ME1, ME2 = '/ManagedElement[id="ME1"]', '/SubNetwork[id="SN1"]/ManagedElement[id="ME2"]'

ROUTES: dict[str, tuple[bool, tuple[str, str] | None, str]] = {
    # NCMP's own examples
    ME1: (False, None, "ManagedElement=ME1"),
    ME2: (False, None, "SubNetwork=SN1/ManagedElement=ME2"),
    '/MeContext[id="MC1"]': (False, None, "MeContext=MC1"),
    '//ManagedElement[contains(id, "Ireland")]': (True, None, ""),
    '/SubNetwork[id="SN1"]': (True, None, "SubNetwork=SN1"),
    '/SubNetwork[id="SN1"]/ManagedElement': (True, None, "SubNetwork=SN1"),
    '/SubNetwork[contains(id, "Ireland")]': (True, None, ""),
    '/SubNetwork[id="SN1"]/attributes': (True, None, "SubNetwork=SN1"),
    '/SubNetwork[id="SN1"]/attributes/vendorName': (True, None, "SubNetwork=SN1"),
    '/SubNetwork[id="SN1"]/*': (True, None, "SubNetwork=SN1"),
    "/SubNetwork/attribute": (True, None, ""),
    '/ManagedElement[contains(id, "Ireland")]': (False, ("ManagedElement", "Ireland"), ""),
    # further forms
    f"{ME2}/GNBDUFunction/NRCellDU": (False, None, "SubNetwork=SN1/ManagedElement=ME2"),
    f"{ME2}//NRCellDU": (True, None, "SubNetwork=SN1/ManagedElement=ME2"),
    f'{ME2}/X[id="1"]/attributes/y[2]': (False, None, "SubNetwork=SN1/ManagedElement=ME2/X=1"),
    '/*/ManagedElement[id="ME1"]': (False, None, ""),
    '/SubNetwork/MeContext[id="ME1"]': (False, None, ""),
    '/*[id="ME1"]': (True, None, ""),
    '/MeContext[id="M"]/ManagedElement[contains(id,"a")]': (False, ("ManagedElement", "a"), "MeContext=M"),
    '/MeContext[contains(id,"a")]/ManagedElement[contains(id,"b")]': (False, ("MeContext", "a"), ""),
    '/MyManagedElement[id="x"]': (True, None, "MyManagedElement=x"),
    '/A[id="/ManagedElement[id="]': (True, None, "A=%2FManagedElement[id="),
    '/A[id="a//b"]/ManagedElement[id="x"]': (False, None, "A=a%2F%2Fb/ManagedElement=x"),
    '/ManagedElement[id="Zü%1"]': (False, None, "ManagedElement=Zü%251"),
}


@pytest.mark.parametrize("text", ROUTES)
def test_a_selector_is_classified_as_by_ncmp(text: str) -> None:
    """A broadcast, the beginning of an id, or the leading FDN. Class names are compared whole, and strings
    are no steps, which is where NCMP differs."""
    is_broadcast, begins, base = ROUTES[text]
    assert routes_of(text) == (Route(text, base, is_broadcast, begins),)


CLASSES = st.sampled_from(
    ["ManagedElement", "MeContext", "A", "attributes", "id", "XManagedElement", "*", "."]
)
PREDICATES = st.sampled_from(
    ["", "", '[id="1"]', '[id="a.b-c"]', '[id="a?b"]', '[contains(id,"1")]', '[id=""]']
)


@given(st.lists(st.tuples(st.sampled_from(["/", "/", "/", "//"]), CLASSES, PREDICATES), max_size=4))
def test_the_fast_path_gives_the_same_routes(steps: list[tuple[str, str, str]]) -> None:
    """A text of the usual form is not parsed; its routes and faults are those of the parser."""
    text = "".join(map("".join, steps))
    try:
        expected = tuple(map(_route_of, parse(text)))
    except InvalidSelector:
        for read_text in (check, routes_of):
            with pytest.raises(InvalidSelector):
                read_text(text)
    else:
        assert routes_of(text) == expected
        check(text)


# --- plans -------------------------------------------------------------------------------------------

NETWORK = Owners(
    [
        owner("SubNetwork=SN1/ManagedElement=ME1", producer="p1"),
        owner("SubNetwork=SN1/ManagedElement=ME2", producer="p1"),
        owner("SubNetwork=SN1/MeContext=C1/ManagedElement=NE3", ONAP, "p1"),
        owner("SubNetwork=SN2/ManagedElement=ME4", producer="p2"),
        owner("SubNetwork=SN2/ManagedElement=ME4/DU=1", producer="p3"),
    ]
)


def test_the_owner_of_the_leading_steps_gets_a_selector() -> None:
    """By the longest alternate id. The path is the leading FDN."""
    sent = [
        '/SubNetwork[id="SN1"]/ManagedElement[id="ME2"]/DU/Cell/attributes/x',
        '/SubNetwork[id="SN2"]/ManagedElement[id="ME4"]/DU[id="1"]/Cell[id="7"]',
        '/SubNetwork[id="SN2"]/ManagedElement[id="ME4"]/DU',
    ]
    found = plan(NETWORK, *map(read, sent))
    assert parts(found) == {
        (1, "p1"): [("/SubNetwork=SN1/ManagedElement=ME2", sent[0])],
        (1, "p3"): [("/SubNetwork=SN2/ManagedElement=ME4/DU=1/Cell=7", sent[1])],
        (1, "p2"): [("/SubNetwork=SN2/ManagedElement=ME4", sent[2])],
    }
    assert (found.refused, found.parts_of) == ([], {})


def test_selectors_are_classified() -> None:
    """By plugin for reads and data producer, each once; the broadcasts and those of nobody apart."""
    every = '/SubNetwork[id="SN1"]/*'
    begins = '/ManagedElement[contains(id,"ME")]'
    nobody = '/SubNetwork[id="SN9"]/ManagedElement[id="ME9"]'
    assert classify("\n".join([nobody, ME2, "&& a comment", every, begins, ME2]), NETWORK) == Classified(
        [every],
        {
            ("http://127.0.0.1:9001", "p1"): [ME2, begins],
            ("http://127.0.0.1:9001", "p2"): [begins],
            ("http://127.0.0.1:9001", "p3"): [begins],
        },
        [nobody],
    )


def test_a_broadcast_goes_to_every_data_producer_once() -> None:
    """One part for each pair of plugin and data producer, however many handles it has; the path is the root,
    or the FDN with which the selector begins."""
    found = plan(NETWORK, read("//Cell", operationId="all"), read('/SubNetwork[id="SN1"]/*', operationId=7))
    lines = [("/", "//Cell"), ("/SubNetwork=SN1", '/SubNetwork[id="SN1"]/*')]
    assert parts(found) == dict.fromkeys([(1, "p1"), (2, "p1"), (1, "p2"), (1, "p3")], lines)
    assert found.parts_of == {"all": 4, "7": 4}


def test_contains_goes_to_the_handles_whose_id_begins_so() -> None:
    """An RDN of this class, anywhere in the alternate id; the beginning of its value, not another part."""
    found = plan(
        NETWORK,
        read('/ManagedElement[contains(id,"ME")]'),
        read('/SubNetwork[id="SN9"]/ManagedElement[contains(id,"ME1")]'),
        read('/MeContext[contains(id,"")]'),
        read('/ManagedElement[contains(id,"E")]'),
    )
    assert {lane: len(lines) for lane, lines in parts(found).items()} == {
        (1, "p1"): 2, (1, "p2"): 1, (1, "p3"): 1, (2, "p1"): 1,
    }  # fmt: skip
    assert refused(found) == [(3, Reason.UNMATCHED, '/ManagedElement[contains(id,"E")]')]
    assert found.refused[0].detail == "no CM handle has ManagedElement=E… in its alternate id"
    assert found.parts_of == {"0": 3}


def test_the_lines_of_a_text_are_parts_of_one_operation() -> None:
    """Each lane gets its lines, joined; their path is the FDN that they have in common."""
    text = "\n".join(
        [
            "&& three elements of two producers",
            '/SubNetwork[id="SN1"]/ManagedElement[id="ME1"]/DU',
            f'/SubNetwork[id="SN2"]/ManagedElement[id="ME4"] OR {ME2}',
            '/SubNetwork[id="SN1"]/ManagedElement[id="ME1"]/DU',
        ]
    )
    found = plan(NETWORK, read(text))
    assert parts(found) == {
        (1, "p1"): [
            (
                "/SubNetwork=SN1",
                f'/SubNetwork[id="SN1"]/ManagedElement[id="ME1"]/DU\n{ME2}',
            )
        ],
        (1, "p2"): [("/SubNetwork=SN2/ManagedElement=ME4", '/SubNetwork[id="SN2"]/ManagedElement[id="ME4"]')],
    }
    assert found.parts_of == {"0": 2}


def test_lines_that_nobody_owns_are_one_failed_part() -> None:
    """The other lines are sent. An operation of such lines alone is unmatched as a whole."""
    nobody = ['/SubNetwork[id="SN9"]/ManagedElement[id="ME9"]', '/SubNetwork/MeContext[id="C1"]']
    found = plan(NETWORK, read("\n".join([*nobody, "//Cell"])), read("\n".join(nobody)), read(nobody[1]))
    both = "\n".join(nobody)
    assert refused(found) == [
        (0, Reason.UNMATCHED, both), (1, Reason.UNMATCHED, both), (2, Reason.UNMATCHED, nobody[1]),
    ]  # fmt: skip
    details = [each.detail for each in found.refused]
    assert details[1] == "no CM handle owns SubNetwork=SN9/ManagedElement=ME9 (and 1 more selectors)"
    assert (
        details[2]
        == f'{nobody[1]} does not begin with /Class[id="x"]: "//" before its steps asks all producers'
    )
    assert (found.parts_of, found.unmatched) == ({"0": 5}, 2)


def test_a_plugin_without_selectors_gets_none() -> None:
    """One part that is refused for each such plugin, with its lines; the parts of other plugins are sent. The
    plugin for reads decides."""
    owners = Owners(
        [
            owner("ManagedElement=1", ABLE, "p1", writes=UNABLE),
            owner("ManagedElement=2", UNABLE, "p1", writes=ABLE),
            owner("ManagedElement=3", UNABLE, "p2", writes=ABLE),
        ]
    )
    text = '//A\n/ManagedElement[id="2"]\n/ManagedElement[id="1"]'
    found = plan(owners, read(text))
    assert parts(found) == {(1, "p1"): [("/", '//A\n/ManagedElement[id="1"]')]}
    assert refused(found) == [(0, Reason.MODE_NOT_SUPPORTED, '//A\n/ManagedElement[id="2"]')]
    assert (
        found.refused[0].detail
        == "the DMI plugin of CM handle ManagedElement=2 does not read by dataNodeSelector"
    )
    assert (found.parts_of, found.unmatched) == ({"0": 2}, 0)


def test_handles_without_a_producer_fail_their_part() -> None:
    """As with reads by path."""
    owners = Owners([owner("ManagedElement=1"), owner("ManagedElement=2", producer="")])
    found = plan(owners, read("//A"))
    assert refused(found) == [(0, Reason.NO_DATA_PRODUCER, "//A")]
    assert (list(parts(found)), found.parts_of) == ([(1, "p1")], {"0": 2})


def test_stop_on_error_holds_for_selectors_too() -> None:
    """A plugin without stopOnError gets none of them."""
    stops = PluginProfile(4, "http://127.0.0.1:9004", "seed", stop_on_error=True, selectors=True)
    owners = Owners([owner("ManagedElement=1", stops), owner("ManagedElement=2", ABLE, "p2")])
    found = plan(owners, read("//A"), activationMode="STOP_ON_ERROR")
    assert list(parts(found)) == [(4, "p1")]
    assert refused(found) == [(0, Reason.MODE_NOT_SUPPORTED, "//A")]


def test_without_handles_nothing_is_broadcast() -> None:
    """The operation is unmatched."""
    found = plan(Owners(), read("//A"))
    assert refused(found) == [(0, Reason.UNMATCHED, "//A")]
    assert found.refused[0].detail == "there is no CM handle"


def test_selectors_and_paths_stand_in_one_job() -> None:
    """In the order of the request, in both dialects."""
    mixed = [
        {"op": "read", "path": "/SubNetwork=SN1/MeContext=C1/ManagedElement=NE3", "operationId": 1},
        read('/MeContext[contains(id,"C1")]', operationId=2),
    ]
    (sub_job,) = plan(NETWORK, *mixed).sub_jobs
    assert json.loads(unpack(sub_job.body)) == [
        {
            "op": "read",
            "path": mixed[0]["path"],
            "operationId": "1",
            "moduleSetTag": "tag",
            "cmHandleProperties": {},
        },
        {
            "op": "read",
            "path": "/",
            "operationId": "2",
            "moduleSetTag": "tag",
            "dataNodeSelector": '/MeContext[contains(id,"C1")]',
            "cmHandleProperties": {},
        },
    ]


def test_the_order_of_the_handles_does_not_matter() -> None:
    """Every worker makes the same bytes of a plan."""
    turned = Owners(reversed(list(NETWORK)))
    operations = [read("//A"), read('/ManagedElement[contains(id,"M")]')]
    one, other = plan(NETWORK, *operations), plan(turned, *operations)
    assert [each.body for each in one.sub_jobs] == [each.body for each in other.sub_jobs]
