# SPDX-License-Identifier: Apache-2.0
"""Bodies of searches for CM handles, and the CPS paths in them."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ran_datajobs.errors import InvalidRequest
from ran_datajobs.inventory.cps_path import FORMS, UnsupportedPath
from ran_datajobs.inventory.searches import ALL, Found, both, of_cps_path, read_search
from ran_datajobs.store.searches import Search


def body(*conditions: tuple[str, list[dict[str, Any]]]) -> bytes:
    """A body with these conditions."""
    return json.dumps(
        {"cmHandleQueryParameters": [{"conditionName": n, "conditionParameters": p} for n, p in conditions]}
    ).encode()


def read(*conditions: tuple[str, list[dict[str, Any]]]) -> Found:
    """What a southbound search with these conditions looks for."""
    return read_search(body(*conditions), southbound=True)


def some(*values: str) -> frozenset[str]:
    return frozenset(values)


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"cmHandleQueryParameters":[]}',
        '{"cmHandleQueryParameters":null}',
        '{"conditions":[]}',
        '{"x":1}',
    ],
)
def test_a_body_without_conditions_finds_all(text: str) -> None:
    """As in ONAP; members that are not known are ignored."""
    assert read_search(text.encode(), southbound=False) == ALL


def test_each_condition_is_read() -> None:
    """The six conditions of ONAP; all of them must hold."""
    assert read(
        ("hasAllModules", [{"moduleName": "m1"}, {"moduleName": "m2"}]),
        ("hasAllProperties", [{"Color": "yellow"}, {"Size": 7}, {"Small": True}]),
        ("hasAllAdditionalProperties", [{"Price": "5"}]),
        ("cmHandleWithCpsPath", [{"cpsPath": "//state[@cm-handle-state='READY']"}]),
        ("cmHandleWithDmiPlugin", [{"dmiPluginName": "HTTP://DMI:8080/"}]),
        ("cmHandleWithTrustLevel", [{"trustLevel": "COMPLETE"}]),
    ) == Search(
        modules=some("m1", "m2"),
        public_properties={"Color": "yellow", "Size": "7", "Small": "true"},
        private_properties={"Price": "5"},
        plugins=some("http://dmi:8080"),
        trust_levels=some("COMPLETE"),
    )


def test_the_older_form_of_conditions_is_read() -> None:
    """``conditions`` with ``name`` counts when ``cmHandleQueryParameters`` is empty."""
    old = {"conditions": [{"name": "hasAllModules", "conditionParameters": [{"moduleName": "m"}]}]}
    assert read_search(json.dumps(old).encode(), southbound=False) == Search(modules=some("m"))
    with pytest.raises(InvalidRequest, match=r"#/conditions/0/conditionName: must be one of"):
        read_search(b'{"conditions":[{"name":"hasAll"}]}', southbound=False)


@pytest.mark.parametrize(
    "conditions",
    [
        [("hasAllProperties", [{"a": "1"}, {"a": "2"}])],
        [("hasAllProperties", [{"a": "1"}]), ("hasAllProperties", [{"a": "2"}])],
        [("hasAllProperties", [{"a": "\0"}])],
        [("hasAllModules", [{"moduleName": "\0"}])],
        [
            ("cmHandleWithTrustLevel", [{"trustLevel": "NONE"}]),
            ("cmHandleWithTrustLevel", [{"trustLevel": "COMPLETE"}]),
        ],
        [("cmHandleWithDmiPlugin", [{"dmiPluginName": "no address"}])],
        [("cmHandleWithCpsPath", [{"cpsPath": "//state[@cm-handle-state='LOCKED']"}])],
        [("cmHandleWithCpsPath", [{"cpsPath": "//cm-handles[@id='\0']"}])],
    ],
)
def test_conditions_that_no_handle_can_fulfil_find_nothing(conditions: list[Any]) -> None:
    """They need no query."""
    assert read(*conditions) is None


PARAMETERS = "#/cmHandleQueryParameters/0/conditionParameters"


@pytest.mark.parametrize(
    ("text", "pointer", "words"),
    [
        ("[]", "#", "must be an object"),
        ('{"cmHandleQueryParameters":{}}', "#/cmHandleQueryParameters", "must be a list"),
        ('{"cmHandleQueryParameters":[{}]}', "#/cmHandleQueryParameters/0/conditionName", "is missing"),
        (
            body(("hasAllPropertys", [{"a": "1"}])),
            "#/cmHandleQueryParameters/0/conditionName",
            "must be one of hasAllModules",
        ),
        (body(("hasAllProperties", [])), PARAMETERS, "is empty"),
        ('{"cmHandleQueryParameters":[{"conditionName":"hasAllProperties"}]}', PARAMETERS, "is empty"),
        (body(("hasAllProperties", [{}])), PARAMETERS + "/0", "it has 0 names"),
        (body(("hasAllProperties", [{"a": "1", "b": "2"}])), PARAMETERS + "/0", "it has 2 names"),
        (body(("hasAllProperties", [{"a": None}])), PARAMETERS + "/0/a", "must be a string; it is null"),
        (body(("hasAllProperties", [{"a/b": {}}])), PARAMETERS + "/0/a~1b", "it is an object"),
        (body(("hasAllProperties", [{"": "1"}])), PARAMETERS + "/0", "empty name"),
        (body(("hasAllModules", [{"module": "m"}])), PARAMETERS + "/0", "must have the name 'moduleName'"),
        (body(("hasAllModules", [{"moduleName": " "}])), PARAMETERS + "/0/moduleName", "is empty"),
        (
            body(("cmHandleWithTrustLevel", [{"trustLevel": "complete"}])),
            PARAMETERS + "/0/trustLevel",
            "must be one of COMPLETE, NONE",
        ),
        (body(("cmHandleWithTrustLevel", [{"trustLevel": "NONE"}] * 2)), PARAMETERS, "takes one"),
        (
            body(("cmHandleWithCpsPath", [{"path": "//state"}])),
            PARAMETERS + "/0",
            "must have the name 'cpsPath'",
        ),
        (body(("cmHandleWithCpsPath", [{"cpsPath": "//state["}])), PARAMETERS + "/0/cpsPath", FORMS[0]),
    ],
)
def test_a_body_of_the_wrong_shape_is_refused_at_its_place(
    text: str | bytes, pointer: str, words: str
) -> None:
    """The pointer names the fault, the text what is needed."""
    with pytest.raises(InvalidRequest) as refused:
        read_search(text if isinstance(text, bytes) else text.encode(), southbound=True)
    ((place, detail),) = refused.value.problems
    assert place == pointer
    assert words in detail


@pytest.mark.parametrize("name", ["hasAllAdditionalProperties", "cmHandleWithDmiPlugin"])
def test_conditions_on_private_data_are_refused_northbound(name: str) -> None:
    """The text says where they are allowed."""
    with pytest.raises(InvalidRequest, match="for /ncmpInventory alone"):
        read_search(body((name, [{"dmiPluginName": "http://a"}])), southbound=False)


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("//state[@cm-handle-state='READY']", ALL),
        ('//state[@cm-handle-state="READY"]/ancestor::cm-handles', ALL),
        ("//state[@cm-handle-state='LOCKED' or @cm-handle-state='READY']", ALL),
        ("//state[@cm-handle-state='READY' and @data-sync-enabled='true']", None),
        ("//state", ALL),
        ("//cm-handles", ALL),
        ("//cm-handles[@cm-handle-state='READY']", ALL),
        ("//cm-handles[@cm-handle-state='ADVISED']", None),
        ("//cm-handles[@cm-handle-state='READY' and @id='a']", Search(ids=some("a"))),
        ("//cm-handles[@id='a']/state[@cm-handle-state='READY']", Search(ids=some("a"))),
        ("/dmi-registry/cm-handles[@id='a' or @id='b']", Search(ids=some("a", "b"))),
        ("/dmi-registry/cm-handles/state[@data-sync-enabled='false']", ALL),
        ("//cm-handles[@id=7]", Search(ids=some("7"))),
        ("//cm-handles[@id='a' and @id='b']", None),
        ("//cm-handles[contains(@id,'a')]", Search(id_parts=some("a"))),
        ("//cm-handles[@alternate-id='/A=1/B=2']", Search(alternate_keys=some("A=1/B=2"))),
        (
            "//cm-handles[@alternate-id='/A=it''s' or @alternate-id=\"A=2\"]",
            Search(alternate_keys=some("A=it's", "A=2")),
        ),
        ("//cm-handles[@alternate-id='not an FDN']", None),
        ("//cm-handles[contains(@alternate-id,'[]'']')]", Search(alternate_id_parts=some("[]']"))),
        (
            "//cm-handles[contains(@alternate-id,'a')][contains(@alternate-id,'b')]",
            Search(alternate_id_parts=some("a", "b")),
        ),
        (
            "//cm-handles[@module-set-tag='t' and @data-producer-identifier='p']",
            Search(module_set_tags=some("t"), data_producer_ids=some("p")),
        ),
        ("//public-properties[@name='x' and @value='y']", Search(public_properties={"x": "y"})),
        (
            "//public-properties[@value='y' and @name='x']/ancestor::cm-handles",
            Search(public_properties={"x": "y"}),
        ),
        ("//cm-handles[@id='a']/public-properties[@name='x']", Search(ids=some("a"), public_names=some("x"))),
        ("//public-properties[@name='x' and @name='y']", None),
        ("//additional-properties[@name='x' and @value='y']", None),
        ("//cm-handles[@id='a']/additional-properties", None),
        ("//lock-reason[@reason='MODULE_SYNC_FAILED']", None),
        ("//state/lock-reason", None),
    ],
)
def test_a_cps_path_finds_the_handles_of_its_nodes(path: str, found: Found) -> None:
    """The forms in use, and combinations of them."""
    assert of_cps_path(path) == found


@pytest.mark.parametrize(
    "path",
    [
        "state",
        "/state",
        "//state[",
        "//state[]",
        "//state[@cm-handle-state]",
        "//state[@cm-handle-state>'A']",
        "//state[@cm-handle-state='READY'",
        "//state[@cm-handle-state='READY']]",
        "//state[@cm-handle-state='READY' @x='y']",
        "//state[@last-update-time='2026']",
        "//state//x",
        "//state/cm-handle-state[text()='READY']",
        "//nothing",
        "//",
        "//cm-handles[@id='a' or @alternate-id='/A=1']",
        "//cm-handles[@id='a' or contains(@id,'b')]",
        "//cm-handles[@dmi-service-name='http://a']",
        "//cm-handles[contains(@module-set-tag,'a')]",
        "//public-properties",
        "//public-properties[@value='y']",
        "//public-properties[@name='x' or @name='y']",
        "//public-properties[contains(@name,'x')]",
        "//cm-handles/state/x",
        "/dmi-registry",
        "//cm-handles[@id='a\"]",
        "/dmi-registry[@id='a']/cm-handles",
        "//cm-handles[(@id='a')]",
        "//cm-handles[not(@id='a')]",
        "//a" * 6000,
    ],
)
def test_another_path_is_refused_with_the_forms_that_are_supported(path: str) -> None:
    """The text is bounded."""
    with pytest.raises(UnsupportedPath) as refused:
        of_cps_path(path)
    assert len(str(refused.value)) < 1000
    assert len(path) > 8_192 or all(form in str(refused.value) for form in FORMS)


@given(st.text(max_size=80) | st.text("/[]@'\"=and or()contis-hlepubd,", max_size=60))
def test_no_text_breaks_the_reader_of_paths(text: str) -> None:
    """Each is a search or is refused."""
    for path in (text, f"//cm-handles[@alternate-id={text}]"):
        with contextlib.suppress(UnsupportedPath):
            of_cps_path(path)


_sets = st.none() | st.frozensets(st.sampled_from("abc"), min_size=1)
_properties = st.dictionaries(st.sampled_from("xy"), st.sampled_from("12"))
_searches = st.builds(
    Search,
    ids=_sets,
    trust_levels=_sets,
    plugins=st.frozensets(st.sampled_from("pq")),
    public_properties=_properties,
)


@given(_searches, _searches)
def test_both_searches_restrict(one: Search, other: Search) -> None:
    """The order does not matter, a repetition changes nothing, and neither search matches more."""
    found = both(one, other)
    assert found == both(other, one)
    assert both(one, one) == one
    assert both(one, None) is None
    if found is not None:
        assert both(found, one) == found == both(found, other)


def test_the_number_of_parameters_is_bounded() -> None:
    """At most 1,000 of all conditions together."""
    many = [{f"name-{number}": "1"} for number in range(600)]
    assert read(("hasAllProperties", many)) is not None
    with pytest.raises(InvalidRequest, match="has more than 1000 parameters"):
        read(("hasAllProperties", many), ("hasAllProperties", many))
