# SPDX-License-Identifier: Apache-2.0
"""Splitting: the sub-job of each operation, and their order."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import structs

from ran_datajobs.inventory.owners import Owner, Owners
from ran_datajobs.model import Reason
from ran_datajobs.planning.request import check_request
from ran_datajobs.planning.split import Plan, split
from ran_datajobs.plugins.port import PluginProfile
from ran_datajobs.results.outcomes import unpack

SEED = PluginProfile(1, "http://127.0.0.1:9001", "seed", stop_on_error=True)
ONAP = PluginProfile(2, "http://127.0.0.1:9002", "onap")
PLUGINS = (SEED, ONAP)


def owner(key: str, plugin: PluginProfile = SEED, producer: str = "p1", properties: str = "{}") -> Owner:
    name = key.replace("/", "_").replace("=", "-")
    return Owner(name, key, plugin, plugin, producer, "tag", properties.encode())


def request(*operations: dict[str, Any], **envelope: Any) -> bytes:
    body = json.dumps({**envelope, "data": list(operations)}).encode()
    check_request(body)
    return body


def write(path: str, **fields: Any) -> dict[str, Any]:
    return {"op": "merge", "path": path, "value": {"x": 1}, **fields}


def read(path: str, **fields: Any) -> dict[str, Any]:
    return {"op": "read", "path": path, **fields}


def bodies(plan: Plan) -> dict[tuple[int, str], list[dict[str, Any]]]:
    return {(s.plugin_id, s.data_producer_id): json.loads(unpack(s.body)) for s in plan.sub_jobs}


def refusals(plan: Plan) -> list[tuple[int, Reason]]:
    return [(refused.position, refused.reason) for refused in plan.refused]


# --- by example --------------------------------------------------------------------------------------


def test_the_longest_whole_rdn_prefix_owns_an_object() -> None:
    """ME=1/DU=1 owns its subtree, ME=1 the rest, and ME=1 never owns ME=10."""
    owners = Owners([owner("ME=1", producer="near"), owner("ME=1/DU=1", producer="far")])
    paths = ["/ME=1/DU=1/Cell=1", "/ME=1/DU=10", "/ME=1", "/ME=10", "/ME=1/DU=1#/attributes/x"]
    plan = split(request(*(write(path.partition("#")[0]) for path in paths)), owners)
    placed = {lane[1]: [line["path"] for line in lines] for lane, lines in bodies(plan).items()}
    assert placed == {"far": ["/ME=1/DU=1/Cell=1", "/ME=1/DU=1"], "near": ["/ME=1/DU=10", "/ME=1"]}
    assert refusals(plan) == [(3, Reason.UNMATCHED)]


def test_every_spelling_of_a_name_finds_its_owner() -> None:
    """The lookup uses the normal form. The plugin gets the path as it was written."""
    owners = Owners([owner("SN=a%2Fb/ME=1")])
    paths = ["/SN=a%2Fb/ME=1", "SN=a%2fb/ME=1/Cell=1", "SN=a\\2Fb, ME=1"]
    plan = split(request(*map(write, paths)), owners)
    assert [line["path"] for line in bodies(plan)[1, "p1"]] == paths


def test_sub_jobs_are_in_order_of_first_appearance_per_plugin_and_producer() -> None:
    """One sub-job per (plugin, producer): the same producer name at two plugins gives two."""
    owners = Owners([owner("ME=1", ONAP, "b"), owner("ME=2", SEED, "b"), owner("ME=3", SEED, "a")])
    plan = split(request(*(write(f"/ME={n}") for n in (3, 1, 2, 3, 1))), owners)
    assert [(s.plugin_id, s.data_producer_id, s.operations) for s in plan.sub_jobs] == [
        (1, "a", 2),
        (2, "b", 2),
        (1, "b", 1),
    ]


def test_the_seed_dialect_gets_what_its_plugins_expect() -> None:
    """Ids keep their type, scope is an object, private properties and module set tag are included."""
    owners = Owners([owner("ME=1", properties='{"user": "root"}')])
    scope = {"scopeType": "BASE_SUBTREE", "scopeLevel": 2}
    plan = split(request(read("/ME=1", operationId=7, attributes="a,b", scope=scope)), owners)
    assert bodies(plan)[1, "p1"] == [
        {
            "op": "read",
            "path": "/ME=1",
            "operationId": 7,
            "attributes": ["a", "b"],
            "scope": scope,
            "moduleSetTag": "tag",
            "privateProperties": {"user": "root"},
        }
    ]


def test_the_onap_dialect_gets_what_its_plugins_expect() -> None:
    """Ids are strings, the scope is two flat keys, private properties have ONAP's name."""
    owners = Owners([owner("ME=1", ONAP, properties='{"user": "root"}')])
    scope = {"scopeType": "BASE_SUBTREE", "scopeLevel": 2}
    plan = split(request(read("/ME=1", operationId=7, scope=scope)), owners)
    assert bodies(plan)[2, "p1"] == [
        {
            "op": "read",
            "path": "/ME=1",
            "operationId": "7",
            "scopeType": "BASE_SUBTREE",
            "scopeLevel": 2,
            "moduleSetTag": "tag",
            "cmHandleProperties": {"user": "root"},
        }
    ]


def test_values_reach_the_plugin_token_by_token() -> None:
    """A value's JSON text is unchanged in the body for the plugin."""
    text = b'{"data": [{"op": "add", "path": "/ME=1", "value": {"a":  1.0, "b":1e2 , "c": "\\u00e9"}}]}'
    plan = split(text, Owners([owner("ME=1")]))
    assert b'"value":{"a":  1.0, "b":1e2 , "c": "\\u00e9"}' in unpack(plan.sub_jobs[0].body)


def test_a_handle_can_have_one_plugin_for_reads_and_another_for_writes() -> None:
    """Reads go to one, all other operations to the other; each in a lane of its own. What a plugin does not
    offer does not count for the other."""
    one = structs.replace(owner("ME=1", SEED), read_plugin=ONAP)
    owners = Owners([one, owner("ME=2", SEED)])
    plan = split(request(write("/ME=1"), write("/ME=2"), activationMode="STOP_ON_ERROR"), owners)
    assert [(s.plugin_id, s.plugin_url, s.operations) for s in plan.sub_jobs] == [(1, SEED.url, 2)]
    base_all = {"scopeType": "BASE_ALL"}
    plan = split(request(read("/ME=1", operationId="a"), read("/ME=2", scope=base_all)), owners)
    assert {lane: len(lines) for lane, lines in bodies(plan).items()} == {(2, "p1"): 1, (1, "p1"): 1}
    assert bodies(plan)[2, "p1"][0]["operationId"] == "a"
    plan = split(request(read("/ME=1"), activationMode="STOP_ON_ERROR"), owners)
    assert refusals(plan) == [(0, Reason.MODE_NOT_SUPPORTED)]


def test_a_read_above_two_handles_of_one_producer_has_a_part_for_each_plugin() -> None:
    """The lanes of a producer at two plugins are two."""
    owners = Owners([structs.replace(owner("SN=1/ME=1"), read_plugin=ONAP), owner("SN=1/ME=2")])
    plan = split(request(read("/SN=1", operationId=7, scope={"scopeType": "BASE_ALL"})), owners)
    assert set(bodies(plan)) == {(1, "p1"), (2, "p1")}
    assert plan.parts_of == {"7": 2}


@pytest.mark.parametrize("plugin", [SEED, ONAP])
def test_operations_bear_no_properties_where_their_plugin_wants_none(plugin: PluginProfile) -> None:
    """As NCMP's code sends them; the module set tag stays."""
    plugin = structs.replace(plugin, operation_properties=False)
    plan = split(request(write("/ME=1")), Owners([owner("ME=1", plugin, properties='{"user": "root"}')]))
    (line,) = bodies(plan)[plugin.plugin_id, "p1"]
    assert set(line) == {"op", "path", "operationId", "value", "moduleSetTag"}


@pytest.mark.parametrize(
    ("dialect", "found", "key"),
    [
        ("auto", None, "privateProperties"),
        ("auto", "seed", "privateProperties"),
        ("auto", "onap", "cmHandleProperties"),
        ("seed", "onap", "privateProperties"),
    ],
)
def test_a_plugin_is_written_to_in_the_dialect_that_it_was_found_to_speak(
    dialect: str, found: str | None, key: str
) -> None:
    """The registered dialect decides, unless it is auto."""
    plugin = PluginProfile(1, SEED.url, dialect, found_dialect=found)
    plan = split(request(write("/ME=1")), Owners([owner("ME=1", plugin, properties='{"user": "root"}')]))
    assert bodies(plan)[1, "p1"][0][key] == {"user": "root"}


def test_a_handle_without_a_producer_takes_no_operations() -> None:
    """They fail with NO_DATA_PRODUCER. The handle still takes precedence over the one above it."""
    owners = Owners([owner("ME=1"), owner("ME=1/DU=1", producer="")])
    plan = split(request(write("/ME=1/DU=1/Cell=1"), write("/ME=1")), owners)
    assert refusals(plan) == [(0, Reason.NO_DATA_PRODUCER)]
    assert len(bodies(plan)[1, "p1"]) == 1


def test_stop_on_error_needs_a_plugin_that_honours_it() -> None:
    """Operations for the other plugins fail with MODE_NOT_SUPPORTED and are not sent."""
    owners = Owners([owner("ME=1", SEED), owner("ME=2", ONAP)])
    plan = split(request(write("/ME=1"), write("/ME=2"), activationMode="STOP_ON_ERROR"), owners)
    assert refusals(plan) == [(1, Reason.MODE_NOT_SUPPORTED)]
    assert list(bodies(plan)) == [(1, "p1")]


NETWORK = Owners(
    [
        owner("SN=1/ME=1", producer="p1"),
        owner("SN=1/ME=2", producer="p2"),
        owner("SN=1/SN=2/ME=3", producer="p3"),
        owner("SN=10/ME=4", producer="p4"),
    ]
)


@pytest.mark.parametrize(
    ("fields", "producers"),
    [
        ({}, []),
        ({"scope": {"scopeType": "BASE_ONLY"}}, []),
        ({"scope": {"scopeType": "BASE_ALL"}}, ["p1", "p2", "p3"]),
        ({"scope": {"scopeType": "BASE_SUBTREE"}}, ["p1", "p2", "p3"]),
        ({"scope": {"scopeType": "BASE_SUBTREE", "scopeLevel": 1}}, ["p1", "p2"]),
        ({"scope": {"scopeType": "BASE_SUBTREE", "scopeLevel": 0}}, []),
        ({"scope": {"scopeType": "BASE_NTH_LEVEL", "scopeLevel": 2}}, ["p1", "p2", "p3"]),
        ({"scope": {"scopeType": "BASE_NTH_LEVEL", "scopeLevel": 0}}, []),
        ({"filter": "SN/attributes/x == 1"}, []),
        ({"filter": "Cell/attributes/x == 1"}, ["p1", "p2", "p3"]),
        ({"filter": "SN/attributes/x == 1 || Cell/attributes/x == 1"}, ["p1", "p2", "p3"]),
        ({"filter": ["Cell/attributes/x == 1", "Cell/attributes/y == 1"]}, ["p1", "p2", "p3"]),
        ({"filter": "Cell/attributes/x == 1", "scope": {"scopeType": "BASE_ONLY"}}, []),
    ],
)
def test_a_read_above_the_handles_reaches_what_its_scope_reaches(
    fields: dict[str, Any], producers: list[str]
) -> None:
    """Scope, or a filter on another class, decides. A read that reaches no handle is unmatched."""
    plan = split(request(read("/SN=1", **fields)), NETWORK)
    assert [sub_job.data_producer_id for sub_job in plan.sub_jobs] == producers
    assert refusals(plan) == ([] if producers else [(0, Reason.UNMATCHED)])
    assert plan.parts_of == ({"0": len(producers)} if len(producers) > 1 else {})


def test_a_read_goes_to_the_owner_of_its_base_and_to_those_below() -> None:
    """The owner of the base comes first."""
    owners = Owners([owner("SN=1", producer="top"), owner("SN=1/ME=1", producer="p1")])
    plan = split(request(read("/SN=1", scope={"scopeType": "BASE_ALL"}), read("/SN=1")), owners)
    assert [(s.data_producer_id, s.operations) for s in plan.sub_jobs] == [("top", 2), ("p1", 1)]
    assert plan.parts_of == {"0": 2}


def test_a_producer_gets_a_read_once_however_many_handles_it_has() -> None:
    """One producer answers for everything that it has below the base: two copies would double its objects."""
    owners = Owners([owner(f"SN=1/ME={n}") for n in range(5)])
    plan = split(request(read("/SN=1", scope={"scopeType": "BASE_ALL"})), owners)
    assert [sub_job.operations for sub_job in plan.sub_jobs] == [1]
    assert plan.parts_of == {}


def test_a_part_that_cannot_be_sent_is_refused_and_counted() -> None:
    """A handle without a producer below the base makes its part fail. The others are sent."""
    owners = Owners([owner("SN=1/ME=1"), owner("SN=1/ME=2", producer="")])
    plan = split(request(read("/SN=1", scope={"scopeType": "BASE_ALL"})), owners)
    assert refusals(plan) == [(0, Reason.NO_DATA_PRODUCER)]
    assert [sub_job.operations for sub_job in plan.sub_jobs] == [1]
    assert plan.parts_of == {"0": 2}


def test_a_plan_keeps_the_owners_it_started_with() -> None:
    """A lookup does not change when a changed copy of it is made."""
    before = Owners([owner("ME=1")])
    owners = before.changed({"ME=1"}, [owner("ME=2")])
    assert [one.alternate_key for one in before] == ["ME=1"]
    assert before.owners_below("ME") == []
    assert owners.owner_of("ME=1") is None
    assert owners.owner_of("ME=2/Cell=1") is not None


# --- against brute force -----------------------------------------------------------------------------

RDN = st.sampled_from(["A=1", "A=10", "B=1", "B=2", "C=1"])
KEY = st.lists(RDN, min_size=1, max_size=4).map("/".join)
OWNERS = st.lists(
    st.builds(owner, KEY, st.sampled_from(PLUGINS), st.sampled_from(["", "p1", "p2", "p3"])),
    max_size=12,
    unique_by=lambda one: one.alternate_key,
)


def is_prefix(short: str, long: str) -> bool:
    return long.split("/")[: short.count("/") + 1] == short.split("/")


def brute_owner(owners: list[Owner], key: str) -> Owner | None:
    matches = [one for one in owners if is_prefix(one.alternate_key, key)]
    return max(matches, key=lambda one: len(one.alternate_key), default=None)


def brute_below(owners: list[Owner], key: str, level: int | None) -> set[str]:
    return {
        one.alternate_key
        for one in owners
        if is_prefix(key, one.alternate_key)
        and one.alternate_key != key
        and (level is None or one.alternate_key.count("/") - key.count("/") <= level)
    }


@given(OWNERS, KEY, st.none() | st.integers(0, 4))
def test_the_lookup_equals_brute_force(owners: list[Owner], key: str, level: int | None) -> None:
    """Longest prefix and the whole subtree, as defined."""
    lookup = Owners(owners)
    assert lookup.owner_of(key) == brute_owner(owners, key)
    assert {one.alternate_key for one in lookup.owners_below(key, level)} == brute_below(owners, key, level)


@given(OWNERS, OWNERS, st.data())
def test_a_changed_lookup_equals_a_new_one(
    before: list[Owner], after: list[Owner], data: st.DataObject
) -> None:
    """An index that follows changes equals one that is built anew."""
    kept = data.draw(st.sets(st.sampled_from([one.alternate_key for one in before]))) if before else set()
    lookup = Owners(before).changed({one.alternate_key for one in before} - kept, after)
    merged = {one.alternate_key: one for one in before if one.alternate_key in kept}
    merged.update({one.alternate_key: one for one in after})
    fresh = Owners(merged.values())
    assert {one.alternate_key: one for one in lookup} == {one.alternate_key: one for one in fresh}
    for key in ("A=1", "A=10", "B=1"):
        assert lookup.owners_below(key) == fresh.owners_below(key)


@given(OWNERS, st.lists(KEY, min_size=1, max_size=20))
def test_every_write_lands_in_exactly_one_place_in_order(owners: list[Owner], keys: list[str]) -> None:
    """Each operation is in one sub-job, or refused once. A producer gets its operations in the request's
    order."""
    plan = split(request(*(write(f"/{key}", operationId=n) for n, key in enumerate(keys))), Owners(owners))
    expected: dict[tuple[int, str], list[str]] = defaultdict(list)
    refused: list[tuple[int, Reason]] = []
    for number, key in enumerate(keys):
        found = brute_owner(owners, key)
        if found is None:
            refused.append((number, Reason.UNMATCHED))
        elif not found.data_producer_id:
            refused.append((number, Reason.NO_DATA_PRODUCER))
        else:
            expected[found.write_plugin.plugin_id, found.data_producer_id].append(str(number))
    placed = {lane: [str(line["operationId"]) for line in lines] for lane, lines in bodies(plan).items()}
    assert placed == expected
    assert list(placed) == list(expected)
    assert refusals(plan) == refused
    assert plan.parts_of == {}


@given(OWNERS, st.lists(st.tuples(KEY, st.none() | st.integers(0, 4)), min_size=1, max_size=8))
def test_fan_out_equals_brute_force(owners: list[Owner], reads: list[tuple[str, int | None]]) -> None:
    """A scoped read is in the sub-jobs of the base's owner and of all owners within the scope, each once."""
    operations = [
        read(
            f"/{key}", scope={"scopeType": "BASE_SUBTREE"} | ({} if level is None else {"scopeLevel": level})
        )
        for key, level in reads
    ]
    plan = split(request(*operations), Owners(owners))
    by_key = {one.alternate_key: one for one in owners}
    expected: Counter[tuple[str, int, str]] = Counter()
    parts = {}
    for number, (key, level) in enumerate(reads):
        base = brute_owner(owners, key)
        reached = [by_key[below] for below in brute_below(owners, key, level)] + ([base] if base else [])
        lanes = {(one.read_plugin.plugin_id, one.data_producer_id) for one in reached}
        expected.update((str(number), *lane) for lane in lanes if lane[1])
        if len(lanes) > 1:
            parts[str(number)] = len(lanes)
        blame = [refused.reason for refused in plan.refused if refused.position == number]
        without = sum(not lane[1] for lane in lanes)
        assert blame == ([Reason.NO_DATA_PRODUCER] * without if lanes else [Reason.UNMATCHED])
    placed = Counter(
        (str(line["operationId"]), *lane) for lane, lines in bodies(plan).items() for line in lines
    )
    assert placed == expected
    assert plan.parts_of == parts


@given(OWNERS, st.lists(KEY, min_size=1, max_size=10))
def test_planning_twice_gives_the_same_bytes(owners: list[Owner], keys: list[str]) -> None:
    """The plan depends on the request and the owners alone, not on the order in which owners were added."""
    asked = request(*(read(f"/{key}", scope={"scopeType": "BASE_ALL"}) for key in keys))
    assert split(asked, Owners(owners)) == split(asked, Owners(reversed(owners)))
