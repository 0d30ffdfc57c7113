# SPDX-License-Identifier: Apache-2.0
"""Errors name the value, the requirement, and the position."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta, Struct

from ran_datajobs.dmi.bodies import onap_job, seed_job
from ran_datajobs.dmi.provmns.servers import read_servers
from ran_datajobs.errors import InvalidFilter, InvalidRequest, UsageError
from ran_datajobs.http.json_body import decoded, in_words
from ran_datajobs.inventory.addresses import AddressRefused, normal_form
from ran_datajobs.model import Op
from ran_datajobs.nrm.filter import all_of, parse
from ran_datajobs.simulator import wire
from ran_datajobs.simulator.faults import read_scripts
from ran_datajobs.simulator.notifications import read_consumer


class _Inner(Struct, forbid_unknown_fields=True):
    op: Op
    level: Annotated[int, Meta(ge=0)] = 0
    trust: Literal["COMPLETE", "NONE"] | None = None


class _Body(Struct):
    name: str
    items: list[_Inner] = []
    names: Annotated[list[str], Meta(max_length=1)] = []
    private: dict[str, int] = {}


BODIES = {
    b'{"name": 7}': "#/name: must be a string; it is 7",
    b'{"name": {"a": 1}}': "#/name: must be a string; it is an object",
    b"{}": "#/name: is missing",
    b"[]": "#: must be an object; it is a list",
    b'{"name": "a", "items": [{"op": "add"}, {"op": "mrege"}]}': (
        f'#/items/1/op: must be one of {", ".join(Op)}; it is "mrege"'
    ),
    b'{"name": "a", "items": [{"op": "add", "level": -1}]}': (
        "#/items/0/level: must be a whole number of at least 0; it is -1"
    ),
    b'{"name": "a", "items": [{"op": "add", "levle": 1}]}': "#/items/0/levle: is not known here: take it out",
    b'{"name": "a", "items": [{"op": "add", "trust": "MUCH"}]}': (
        '#/items/0/trust: must be one of COMPLETE, NONE; it is "MUCH"'
    ),
    b'{"name": "a", "names": ["a", "b"]}': "#/names: must be a list of at most 1 in length; it is a list",
    b'{"name": "a", "private": {"secret": "word"}}': "#/private: must be a whole number; it is a string",
    b'{"name": "a"': "JSON is malformed: it ends before its last value is complete",
    b'{"name": \xff}': "the body is not UTF-8 (byte 9)",
    b'{"name": "' + b"x" * 100 + b'", "items": 5}': "#/items: must be a list; it is 5",
    b'{"other": '
    + b"[" * 10_000: "the body is nested more deeply than can be read, which is about 1,000 levels",
}


@pytest.mark.parametrize("body", BODIES, ids=lambda body: body[:50].decode("latin-1"))
def test_a_body_of_another_shape_is_told_by_place_need_and_value(body: bytes) -> None:
    """The key and the value of a private property are not shown."""
    with pytest.raises(InvalidRequest) as refused:
        decoded(body, msgspec.json.Decoder(_Body))
    assert refused.value.detail == BODIES[body]


def test_words_that_are_not_foreseen_are_told_as_they_are() -> None:
    """A newer decoder may use other texts, which are kept unchanged."""
    assert in_words("Integer value out of range", "1e400") == (
        'cannot be used: integer value out of range; it is "1e400"'
    )


FILTERS = {
    "": "a term such as NRCellDU/attributes/nRPCI == 7 is needed, not the end of the filter at position 0",
    "A/attributes/b": "one of == != < <= > >= in is needed, not the end of the filter at position 14",
    "A/attributes/b == 1 2": "'&&' or '||' is needed to join terms, not '2' at position 20",
    "A/attributes/b in 1": "'(' after in is needed, not '1' at position 18",
    "A/attributes/b == &&": "a literal is needed, JSON or a word, not '&&' at position 18",
    "A/attributes/b == [1,": "the literal '[1,' is not JSON: Expecting value at position 21",
    "A == 1": "'A' is not of the form Class/attributes/name at position 0",
    "(A/attributes/b == 1": "')' is needed, not the end of the filter at position 20",
    "A/attributes/b == 'x=y'": (
        "'=' begins no attribute, operator or literal: write other texts in double quotes at position 20"
    ),
    "x" * 10_001: "the filter has 10001 characters, at most 10000 are read at position 10000",
}


@pytest.mark.parametrize("text", FILTERS, ids=lambda text: text[:30] or "empty")
def test_a_filter_that_does_not_parse_names_position_and_need(text: str) -> None:
    """With the position of the first wrong character."""
    with pytest.raises(InvalidFilter) as refused:
        parse(text)
    assert str(refused.value) == FILTERS[text]


def test_filters_of_several_classes_are_told_with_the_classes() -> None:
    """All filters of an operation must hold for one object."""
    with pytest.raises(InvalidFilter, match="must name one class; they name A, B at position 0"):
        all_of([parse("A/attributes/b == 1"), parse("B/attributes/b == 1")])


FORMATS = {
    "dataAcceptType": "application/vnd.3gpp.object-tree-flat+json",
    "dataContentType": "application/3gpp-json-patch+json",
}


def _seed(*operations: dict[str, Any], **more: Any) -> bytes:
    return msgspec.json.encode(
        {**FORMATS, "requestId": "r", "dataProducerId": "p", "data": operations, **more}
    )


WRITE = {"op": "merge", "path": "/A=1", "operationId": "1", "value": {"a": 1}}
READ = {"op": "read", "path": "/A=1", "operationId": "2"}
CREATES = {
    "another job": (_seed(WRITE, requestId="q"), "#/requestId: must be 'r' as in the path; it is \"q\""),
    "reads and writes": (_seed(WRITE, READ), "#/data: must hold reads alone or writes alone; it holds both"),
    "an id twice": (_seed(READ, READ), '#/data/1/operationId: "2" is the id of #/data/0 as well'),
    "no operation": (_seed(), "#/data: must hold 1 to 9 operations; it holds 0"),
    "no value": (_seed({**READ, "op": "merge"}), "#/data/0/value: is needed by 'merge'"),
    "another type": (_seed(WRITE, {**WRITE, "path": 7}), "#/data/1/path: must be a string; it is 7"),
    "another format": (_seed(WRITE, dataAcceptType="text/csv"), '; it is "text/csv"'),
    "two faults": (_seed(), "#/data: must hold 1 to 9 operations; it holds 0"),
    "no JSON": (b"{", "JSON is malformed: it ends before its last value is complete"),
}


@pytest.mark.parametrize("name", CREATES)
def test_a_create_that_the_plugin_refuses_names_its_first_fault(name: str) -> None:
    """Each as pointer, requirement and value. Faults over the limit are counted."""
    body, expected = CREATES[name]
    with pytest.raises(InvalidRequest) as refused:
        seed_job("r", "topic", "", body, 9)
    assert expected in refused.value.detail


def test_operations_of_another_kind_are_told_by_place() -> None:
    """A write in a cmreadJob."""
    body = msgspec.json.encode({**FORMATS, "dataJobId": "r", "dataProducerId": "p", "data": [READ, WRITE]})
    with pytest.raises(InvalidRequest) as refused:
        onap_job(True, "topic", "", body, 9)
    assert refused.value.detail == "#/data/1/op: must be 'read' in a cmreadJob; it is \"merge\""


ADDRESSES = {
    "ftp://h:1": 'an address is written http://host:port or https://host:port; this is "ftp://h:1"',
    "http://u:secret@h:1": "an address has no user and no password: take out what stands before the '@'",
    "http://h:1/?a=b": 'an address has no query, no fragment and no backslash; this is "http://h:1/?a=b"',
    "http://h:0": 'the port of an address is 1 to 65535; this is "http://h:0"',
    "http://h:1/../x": "an address has no '.' or '..' in its path; this is \"http://h:1/../x\"",
}


@pytest.mark.parametrize("address", ADDRESSES)
def test_an_address_that_is_refused_is_told(address: str) -> None:
    """Except a file that may contain a password."""
    with pytest.raises(AddressRefused) as refused:
        normal_form(address)
    assert str(refused.value) == ADDRESSES[address]


def test_the_simulated_network_names_what_it_got() -> None:
    """In fault scripts, consumers of notifications, queries and patch documents."""
    with pytest.raises(InvalidRequest, match=r'#/scripts/0/steps/0/fault: must be one of .*; it is "bang"'):
        read_scripts(b'{"scripts": [{"element": "*", "steps": [{"fault": "bang"}]}]}')
    with pytest.raises(InvalidRequest, match=r'#/consumer: must be an address .*; it is "http://10.0.0.1:5"'):
        read_consumer(b'{"consumer": "http://10.0.0.1:5"}')
    level = wire.read_query("scopeType=BASE_NTH_LEVEL&scopeLevel=x", "A=1")
    assert isinstance(level, wire.BadQuery)
    assert level.detail.endswith('it is "x"')
    patch = wire.read_document(wire.JSON_PATCH, b'[{"op": "upsert", "path": "/attributes/a"}]', "A=1")
    assert isinstance(patch, wire.BadOp)
    assert patch.detail == 'the operation must be one of RFC 6902; it is "upsert"'


def test_a_file_of_servers_is_told_with_pointer_and_value(tmp_path: Path) -> None:
    """The first fault of the file."""
    file = tmp_path / "servers.json"
    file.write_bytes(b'{"a": {"address": 7}}')
    with pytest.raises(UsageError, match=r"servers.json: #/a/address: must be a string.*; it is 7"):
        read_servers(file)
