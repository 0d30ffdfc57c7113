# SPDX-License-Identifier: Apache-2.0
"""The registration body: the faults that refuse it as a whole, and the allowed plugin addresses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.errors import InvalidRequest
from ran_datajobs.inventory.addresses import AddressRefused, checked
from ran_datajobs.inventory.registration import read_registration

SECRET = "hunter2"
HANDLE = {"cmHandle": "ch-1", "cmHandleProperties": {"password": SECRET}}


def refused(body: Any) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as refusal:
        read_registration(body if isinstance(body, bytes) else json.dumps(body).encode())
    return refusal.value


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ([], "#"),
        ({"dmiPlugin": 7}, "#/dmiPlugin"),
        ({"createdCmHandles": {}}, "#/createdCmHandles"),
        ({"createdCmHandles": [HANDLE, "ch-2"]}, "#/createdCmHandles/1"),
        ({"createdCmHandles": [{"alternateId": "/A=1"}]}, "#/createdCmHandles/0/cmHandle"),
        ({"createdCmHandles": [{**HANDLE, "alternateId": 7}]}, "#/createdCmHandles/0/alternateId"),
        ({"updatedCmHandles": [{**HANDLE, "trustLevel": "SOME"}]}, "#/updatedCmHandles/0/trustLevel"),
        (
            {"createdCmHandles": [{"cmHandle": "a", "cmHandleProperties": {SECRET: {}}}]},
            "#/createdCmHandles/0/cmHandleProperties",
        ),
        (
            {"createdCmHandles": [{"cmHandle": "a", "cmHandleProperties": {"n": 1, SECRET: [SECRET]}}]},
            "#/createdCmHandles/0/cmHandleProperties",
        ),
        (
            {"createdCmHandles": [{"cmHandle": "a", "cmHandleProperties": {"n": 1}}, {"alternateId": 7}]},
            "#/createdCmHandles/1/alternateId",
        ),
        (
            {"createdCmHandles": [{"cmHandle": "a", "cmHandleProperties": 7}]},
            "#/createdCmHandles/0/cmHandleProperties",
        ),
        (
            {"createdCmHandles": [{"cmHandle": 7, "cmHandleProperties": {"n": 1}}]},
            "#/createdCmHandles/0/cmHandle",
        ),
        ({"removedCmHandles": [7]}, "#/removedCmHandles/0"),
        ({"upgradedCmHandles": {}}, "#/upgradedCmHandles/cmHandles"),
        ({"dmiDialect": "esperanto"}, "#/dmiDialect"),
        ({"idempotent": "yes"}, "#/idempotent"),
        ({"dmiGiveUp": 0}, "#/dmiGiveUp"),
        ({"subJobTimeout": -1}, "#/subJobTimeout"),
        ({"readSlots": 0}, "#/readSlots"),
        ({"createdCmHandles": [HANDLE]}, "#/dmiPlugin"),
        ({"dmiPlugin": " ", "createdCmHandles": [HANDLE]}, "#/dmiPlugin"),
        ({"dmiModelPlugin": "http://dmi", "createdCmHandles": [HANDLE]}, "#/dmiPlugin"),
        ({"dmiDatajobsReadPlugin": "http://dmi", "createdCmHandles": [HANDLE]}, "#/dmiPlugin"),
        ({"dmiDatajobsWritePlugin": "http://dmi", "createdCmHandles": [HANDLE]}, "#/dmiPlugin"),
        ({"dmiDatajobsWritePlugin": 7}, "#/dmiDatajobsWritePlugin"),
        ({"operationProperties": "no"}, "#/operationProperties"),
        ({"selectors": 1}, "#/selectors"),
    ],
)
def test_a_wrong_shape_or_type_refuses_the_body(body: Any, pointer: str) -> None:
    """The pointer names the position. The message contains no name or value of a property."""
    refusal = refused(body)
    assert [where for where, _ in refusal.problems] == [pointer]
    assert SECRET not in str(refusal) and SECRET not in repr(refusal.problems)


@pytest.mark.parametrize("key", ["createdCmHandles", "updatedCmHandles"])
@pytest.mark.parametrize("properties", ["cmHandleProperties", "publicCmHandleProperties"])
@pytest.mark.parametrize(
    "tokens",
    [
        ("123", "0", "-7", "9" * 40, "true", "false"),
        ("-0", "1"),
        ("-0", "1.0", "1E+3", "0.10", "9" * 5000),
    ],
    ids=["whole numbers", "minus zero", "fractions"],
)
def test_numbers_and_booleans_become_the_text_that_they_are(
    key: str, properties: str, tokens: tuple[str, ...]
) -> None:
    """The JSON token as text: ONAP accepts numbers, and its load test sends them."""
    members = ",".join(f'"{token}": {token}' for token in tokens)
    handle = f'{{"cmHandle": "a", "{properties}": {{{members}, "text": "1", "none": null}}}}'
    body = (
        f'{{"dmiPlugin": "http://dmi", "{key}": [{handle}, {{"cmHandle": "b"}}], "removedCmHandles": ["c"]}}'
    )
    registration = read_registration(body.encode())
    handles = registration.created_cm_handles or registration.updated_cm_handles or []
    found = [getattr(handles[0], name) for name in ("cm_handle_properties", "public_cm_handle_properties")]
    expected = {token: token for token in tokens} | {"text": "1", "none": None}
    assert found == ([expected, None] if properties == "cmHandleProperties" else [None, expected])
    assert (handles[1].cm_handle, registration.removed_cm_handles) == ("b", ["c"])


@pytest.mark.parametrize("member", ['"%s": "\\ud800"', '"%s\\ud800": 1', '"x": 1, "%s": "\\udc00"'])
def test_half_a_surrogate_pair_in_a_property_refuses_the_body(member: str) -> None:
    """As in every body. The pointer ends at the properties: names below are private."""
    properties = '"cmHandleProperties": {' + member % SECRET + "}"
    body = '{"dmiPlugin": "http://dmi", "createdCmHandles": [{"cmHandle": "a", ' + properties + "}]}"
    refusal = refused(body.encode())
    assert [where for where, _ in refusal.problems] == ["#/createdCmHandles/0/cmHandleProperties"]
    assert "surrogate" in refusal.detail and SECRET not in str(refusal)


def test_white_space_around_a_property_is_no_part_of_it() -> None:
    """The text is the JSON token alone."""
    body = b'{"createdCmHandles": [{"cmHandle": "a", "cmHandleProperties": {"n" :\n 1.50\t, "b": true }}]'
    (handle,) = read_registration(body + b', "dmiPlugin": "http://dmi"}').created_cm_handles or []
    assert handle.cm_handle_properties == {"n": "1.50", "b": "true"}


def test_guards_and_before_images_are_promised_or_not() -> None:
    """null leaves what is registered; what is no boolean is refused."""
    for key, field in (("guards", "guards"), ("beforeImages", "before_images")):
        for promise in (True, False, None):
            body = json.dumps({"dmiPlugin": "http://dmi", key: promise}).encode()
            assert getattr(read_registration(body), field) is promise
        refusal = refused(b'{"dmiPlugin": "http://dmi", "%s": "x"}' % key.encode())
        assert [where for where, _ in refusal.problems] == [f"#/{key}"]


@given(st.binary(max_size=100))
def test_any_bytes_are_a_registration_or_an_error(body: bytes) -> None:
    """Only InvalidRequest is raised, whatever the bytes."""
    try:
        read_registration(body)
    except InvalidRequest as error:
        assert error.detail


def test_deep_nesting_and_bad_utf8_are_errors() -> None:
    """Deep nesting and invalid UTF-8 raise InvalidRequest."""
    assert "deep" in refused(b'{"x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}").detail
    assert "UTF-8" in refused(b'{"x": "\xff"}').detail


def test_unknown_keys_are_ignored_and_the_data_plugin_stands_in() -> None:
    """ONAP's other keys are accepted. dmiDataPlugin is the address if dmiPlugin is empty."""
    body = {"dmiPlugin": "", "dmiDataPlugin": "http://dmi:1", "dmiModelPlugin": "http://m", "x": 1}
    assert read_registration(json.dumps(body).encode()).plugins == ("http://dmi:1",) * 3


A, B, C, D = (f"http://dmi-{name}" for name in "abcd")


@pytest.mark.parametrize(
    ("named", "plugins"),
    [
        ({"dmiPlugin": A}, (A, A, A)),
        ({"dmiDataPlugin": A, "dmiModelPlugin": B}, (A, A, A)),
        ({"dmiPlugin": A, "dmiDataPlugin": B}, (A, A, A)),
        ({"dmiPlugin": A, "dmiDatajobsWritePlugin": C}, (A, A, C)),
        ({"dmiPlugin": A, "dmiDatajobsReadPlugin": B}, (A, B, A)),
        ({"dmiPlugin": A, "dmiDatajobsReadPlugin": B, "dmiDatajobsWritePlugin": C}, (A, B, C)),
        ({"dmiDataPlugin": A, "dmiDatajobsReadPlugin": B, "dmiDatajobsWritePlugin": " "}, (A, B, A)),
        ({"dmiDatajobsReadPlugin": B, "dmiDatajobsWritePlugin": C, "dmiModelPlugin": D}, (C, B, C)),
        ({"dmiModelPlugin": D}, ("", "", "")),
        ({}, ("", "", "")),
    ],
)
def test_reads_and_writes_have_their_plugin_or_the_general_one(
    named: dict[str, str], plugins: tuple[str, str, str]
) -> None:
    """ONAP's resolution, and dmiDataPlugin where there is no dmiPlugin. A blank name is none."""
    assert read_registration(json.dumps(named).encode()).plugins == plugins


def test_private_properties_do_not_show() -> None:
    """A handle's representation, as a traceback or a log might print it, contains no property."""
    registration = read_registration(
        json.dumps({"dmiPlugin": "http://dmi", "createdCmHandles": [HANDLE]}).encode()
    )
    assert SECRET not in repr(registration)


ALLOWED = ("localhost", "127.0.0.0/8", "::1", "*.ran.example", "dmi.example", "https://only.example:8443")


@pytest.mark.parametrize(
    ("address", "normal"),
    [
        ("http://localhost:8080", "http://localhost:8080"),
        ("HTTP://LocalHost:8080/", "http://localhost:8080"),
        ("http://127.1.2.3:9", "http://127.1.2.3:9"),
        ("http://[::1]:9/dmi/", "http://[::1]:9/dmi"),
        ("https://a.b.ran.example", "https://a.b.ran.example"),
        ("https://dmi.example/Base/Path", "https://dmi.example/Base/Path"),
        ("https://only.example:8443", "https://only.example:8443"),
    ],
)
def test_allowed_addresses_have_one_normal_form(address: str, normal: str) -> None:
    """Host names, sub-domains, networks and origins of the list are accepted. The path is kept."""
    assert checked(address, ALLOWED) == normal


@pytest.mark.parametrize(
    "address",
    [
        "http://10.0.0.1:80",
        "http://169.254.169.254/latest",
        "http://[::2]:80",
        "http://ran.example",
        "http://evilran.example",
        "http://dmi.example.evil",
        "http://only.example:8443",
        "https://only.example",
        "http://127.0.0.1@evil.example/",
        "http://user:secret@localhost/",
        "http://localhost/?x=1",
        "http://localhost/#x",
        "http://localhost:/",
        "http://localhost:0/",
        "http://localhost:99999/",
        "http://localhost/a/../b",
        "http://localhost\\@evil.example/",
        "http://2130706433/",
        "ftp://localhost/",
        "file:///etc/passwd",
        "localhost:8080",
        "http://",
        "http://[::1",
        "http://local host/",
        "http://localhost/\n",
        "http://localh\u00f6st/",
        "http://localhost/" + "x" * 2000,
    ],
)
def test_other_addresses_are_refused(address: str) -> None:
    """An address that is not on the list, or is no plain http address, is refused without showing a
    password."""
    with pytest.raises(AddressRefused) as refusal:
        checked(address, ALLOWED)
    assert "secret" not in str(refusal.value)
