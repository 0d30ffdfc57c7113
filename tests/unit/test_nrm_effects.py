# SPDX-License-Identifier: Apache-2.0
"""Effects of operations on copies of what was read, compared with the execution on a network."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

import msgspec
import pytest
from msgspec import UNSET, Raw, Struct

from ran_datajobs.model import Effect, EffectCounts, EffectKind, Op, Reach, Reason
from ran_datajobs.nrm import json_patch
from ran_datajobs.nrm.effects import MAX_SHOWN, Applied, Copies, Effects, reads_of
from ran_datajobs.nrm.model import load
from ran_datajobs.nrm.names import class_of, parent_of
from ran_datajobs.nrm.patch import Patch, apply, read_patch
from ran_datajobs.nrm.reach import SERVICE_AFFECTING, Survey
from ran_datajobs.nrm.tree import Attributes, Objects, Overlay, Tree, walk
from ran_datajobs.reasons import reason_of_errors
from ran_datajobs.simulator.actions import ACTIONS
from ran_datajobs.simulator.layout import element_key
from ran_datajobs.simulator.network import Network
from tests.tiers import nightly

MODEL = load()
ELEMENT = element_key(1)
DU = f"{ELEMENT}/GNBDUFunction=1"
CELL = f"{DU}/NRCellDU=1"


class Written(Struct, frozen=True):
    """A write of a job."""

    op: Op
    path: str
    value: Raw | msgspec.UnsetType = UNSET


def write(op: str, path: str, value: Any = UNSET) -> Written:
    """A write; ``path`` is a key with a fragment, if any."""
    return Written(Op(op), f"/{path}", UNSET if value is UNSET else Raw(msgspec.json.encode(value)))


def writable(key: str, network: Objects) -> Attributes:
    """The attributes of an object that a client can set."""
    managed = MODEL.managed_class(class_of(key))
    known = managed.attributes if managed else {}
    old = network.attributes(key) or {}
    return {name: value for name, value in old.items() if not (name in known and known[name].read_only)}


def copies_of(job: list[Written], network: Objects, unread: frozenset[str] = frozenset()) -> Copies:
    """What the reads of a job find on ``network``; those of the objects ``unread`` fail."""
    reads: dict[str, bool] = {}
    for each in job:
        for key, with_children in reads_of(each.op, each.path, MODEL):
            reads[key] = with_children or reads.get(key, False)
    copies = Copies()
    for key, with_children in reads.items():
        attributes = network.attributes(key)
        if key in unread:
            copies.unread(key, Reason.DMI_UNREACHABLE, "no answer")
        elif attributes is None:
            copies.absent(key)
        else:
            copies.found(key, msgspec.json.encode(attributes))
            if with_children:
                copies.has_children(key, network.children(key))
                for child in network.children(key):
                    copies.found(child, msgspec.json.encode(network.attributes(child)))
    return copies


def previewed(job: list[Written], network: Objects, unread: frozenset[str] = frozenset()) -> list[Applied]:
    """The effect of each operation of a job."""
    effects = Effects(copies_of(job, network, unread), MODEL)
    return [effects.of(each.op, each.path, each.value) for each in job]


def kinds(job: list[Written], network: Objects, unread: frozenset[str] = frozenset()) -> list[str]:
    """The kind of effect of each operation of a job."""
    return [each.effect.kind.value for each in previewed(job, network, unread)]


@pytest.fixture(scope="module")
def network() -> Network:
    """Three sites. Jobs are executed on overlays of it."""
    return Network(sites=3)


def test_an_effect_tells_what_changes_and_from_what(network: Network) -> None:
    """A change has the changed attributes before and after, a creation all attributes with their defaults, a
    deletion all attributes before, and a failure the reason with which the network refuses."""
    old = network.attributes(CELL)
    assert old is not None
    new_cell = {"attributes": {**writable(CELL, network), "cellLocalId": 9}}
    job = [
        write("replace", f"{CELL}#/attributes/userLabel", "new"),
        write("replace", f"{CELL}#/attributes/userLabel", "new"),
        write("merge", f"{CELL}#/attributes", {"userLabel": None}),
        write("add", f"{DU}/NRCellDU=9", new_cell),
        write("remove", f"{DU}/NRCellDU=9"),
        write("remove", DU),
        write("replace", f"{CELL}#/attributes/nRPCI", 5000),
        write("replace", f"{DU}/NRCellDU=8#/attributes/nRPCI", 5),
        write("test", f"{CELL}#/attributes/nRPCI", old["nRPCI"]),
        write("action", f"{CELL}#lock", {"input": {}}),
        write("replace", f"{CELL}#/attributes/userLabel", "later"),
    ]
    found = [each.effect for each in previewed(job, network)]
    assert (found[0].before, found[0].after) == ({"userLabel": old["userLabel"]}, {"userLabel": "new"})
    assert found[1] == type(found[1])(EffectKind.NO_CHANGE)
    assert (found[2].before, found[2].after) == ({"userLabel": "new"}, {})
    assert found[3].kind is EffectKind.CREATE
    assert found[3].after == {**MODEL.managed_class("NRCellDU").defaults(), **new_cell["attributes"]}  # type: ignore[union-attr]
    assert (found[4].kind, found[4].before) == (EffectKind.DELETE, found[3].after)
    assert [(each.kind.value, each.reason) for each in found[5:]] == [
        ("WOULD_FAIL", "TARGET_DATA_NODE_DELETION_NOT_ALLOWED"),
        ("WOULD_FAIL", "NEW_DATA_NODE_VALUE_INVALID"),
        ("WOULD_FAIL", "TARGET_DATA_NODE_NOT_FOUND"),
        ("NO_CHANGE", ""),
        ("UNKNOWN", "EFFECT_UNKNOWN"),  # the action
        ("UNKNOWN", "EFFECT_UNKNOWN"),  # and what follows it
    ]


def test_what_could_not_be_read_is_unknown_and_only_that(network: Network) -> None:
    """Operations on an unread object are UNKNOWN with the reason of its read, and one that is wrong in any
    state still fails. An existing object needs no parent; a new one does."""
    other = f"{DU}/NRCellDU=2"
    old = writable(CELL, network)
    job = [
        write("replace", f"{CELL}#/attributes/userLabel", "x"),
        write("replace", CELL, {"attributes": {}}),
        write("replace", f"{other}#/attributes/userLabel", "x"),
        write("add", other, {"attributes": old}),
        write("add", f"{DU}/NRCellDU=9", {"attributes": old}),
        write("remove", f"{DU}/NRCellDU=9"),
    ]
    unread = frozenset({CELL, DU})
    assert kinds(job, network, unread) == [
        "UNKNOWN",
        "WOULD_FAIL",
        "CHANGE",
        "CHANGE",
        "UNKNOWN",
        "UNKNOWN",  # it is not known whether it was created
    ]
    assert {each.effect.reason for each in previewed(job, network, unread)[4:]} == {Reason.DMI_UNREACHABLE}


def test_the_network_may_know_more_than_the_class_model() -> None:
    """An object of an unknown class that was read accepts any attribute; the effect of an operation on an
    unknown attribute that an object has is not known; one that it does not have would fail."""
    tree = Tree([("SubNetwork=A", {"vsLabel": 1}), ("SubNetwork=A/vsData=1", {"x": 1})])
    job = [
        write("replace", "SubNetwork=A/vsData=1#/attributes/x", 2),
        write("remove", "SubNetwork=A/vsData=1"),
        write("add", "SubNetwork=A/vsOther=1", {"attributes": {}}),
        write("replace", "SubNetwork=A#/attributes/other", 1),
        write("merge", "SubNetwork=A#/attributes", {"vsLabel": 2}),
    ]
    assert kinds(job, tree) == ["CHANGE", "DELETE", "WOULD_FAIL", "WOULD_FAIL", "UNKNOWN"]


def test_values_that_are_too_large_are_left_out() -> None:
    """Then the effect has its kind and says why."""
    tree = Tree([("SubNetwork=A", {})])
    job = [write("add", "SubNetwork=A/vsDataContainer=1", {"attributes": {"x": "y" * MAX_SHOWN}})]
    (found,) = previewed(job, tree)
    assert found.effect.kind in (EffectKind.CREATE, EffectKind.WOULD_FAIL)
    assert found.effect.after is UNSET


def test_the_reach_counts_distinct_things_and_what_interrupts_service(network: Network) -> None:
    """Sites, cells and objects count once each; an attribute of a LOCKED cell interrupts nothing, nor does a
    label; failures reach nothing."""
    locked = f"{DU}/NRCellDU=3"
    assert network.attributes(locked)["administrativeState"] == "LOCKED"  # type: ignore[index]
    job = [
        write("replace", f"{CELL}#/attributes/administrativeState", "LOCKED"),
        write("replace", f"{CELL}#/attributes/userLabel", "x"),
        write("replace", f"{locked}#/attributes/nRPCI", 7),
        write("replace", f"{element_key(2)}#/attributes/userLabel", "x"),
        write("replace", f"{element_key(3)}#/attributes/nothing", "x"),
    ]
    survey = Survey()
    for each, applied in zip(job, previewed(job, network), strict=True):
        survey.add(each.path[1:].partition("#")[0], applied, "EMS-1", 1)
    survey.add_refused(2)
    assert survey.counts == EffectCounts(change=4, would_fail=3)
    assert survey.reach == Reach(
        sites=2, cells=2, data_producers=1, dmi_plugins=1, objects=3, attributes=4, service_affecting=1
    )


def test_service_affecting_attributes_are_in_the_class_model() -> None:
    """Each class and attribute of the list exists."""
    for name, attributes in SERVICE_AFFECTING.items():
        managed = MODEL.managed_class(name)
        assert managed is not None
        assert attributes <= managed.attributes.keys()


# --- random jobs -----------------------------------------------------------------------------------------


class Jobs:
    """Random jobs for a network: right and wrong operations on objects that are near each other, among them
    objects that earlier operations created or deleted."""

    def __init__(self, network: Network, seed: int) -> None:
        self._random = random.Random(seed)
        self._network = network
        site = element_key(self._random.randint(1, 3))
        self._keys = [*[key for key, _ in walk(network, site)][:60], parent_of(site)]
        self._new: list[str] = []

    def job(self, *, actions: bool) -> list[Written]:
        """A job of 1 to 25 operations."""
        makes = [self._set, self._set, self._merge, self._unset, self._create, self._create, self._delete]
        makes += [self._test, self._policy, self._replaced] + [self._act] * actions
        return [self._random.choice(makes)() for _ in range(self._random.randint(1, 25))]

    def _key(self) -> str:
        some = self._new if self._new and self._random.random() < 0.4 else self._keys
        return self._random.choice(some)

    def _attribute(self, key: str) -> str:
        known = self._network.attributes(key) or {}
        managed = MODEL.managed_class(class_of(key))
        names = [*known, *(managed.attributes if managed else ()), "noSuchAttribute"]
        return self._random.choice(names)

    def _value(self, key: str, name: str) -> Any:
        old = (self._network.attributes(key) or {}).get(name)
        odd = [None, -1, 3.0, "", "x", True, [], {}, 10**9, "LOCKED", "UNLOCKED", [1, 2]]
        near = old + 1 if type(old) is int else old
        return self._random.choice([old, old, near, near, self._random.choice(odd)])

    def _set(self) -> Written:
        key = self._key()
        name = self._attribute(key)
        op = self._random.choice(["replace", "replace", "add"])
        return write(op, f"{key}#/attributes/{name}", self._value(key, name))

    def _test(self) -> Written:
        key = self._key()
        name = self._attribute(key)
        return write("test", f"{key}#/attributes/{name}", self._value(key, name))

    def _merge(self) -> Written:
        key = self._key()
        names = {self._attribute(key) for _ in range(self._random.randint(0, 3))}
        value = {name: self._value(key, name) for name in names}
        bare = self._random.random() < 0.3
        return write("merge", key if bare else f"{key}#/attributes", {"attributes": value} if bare else value)

    def _unset(self) -> Written:
        key = self._key()
        return write("remove", f"{key}#/attributes/{self._attribute(key)}")

    def _delete(self) -> Written:
        return write("remove", self._key())

    def _replaced(self) -> Written:
        key = self._key()
        old = writable(key, self._network)
        return write(self._random.choice(["add", "add", "replace"]), key, {"attributes": old})

    def _create(self) -> Written:
        """An object like an existing one, below its parent or another object; or one of a class of which the
        parent has one at most."""
        like = self._random.choice(self._keys)
        parent = parent_of(like) if self._random.random() < 0.8 else self._key()
        name, attributes = class_of(like), writable(like, self._network)
        if self._random.random() < 0.1:
            attributes = self._network.attributes(like) or {}
        holder = MODEL.managed_class(class_of(parent))
        if holder is not None and holder.single and self._random.random() < 0.4:
            name, attributes = self._random.choice(sorted(holder.single)), {}
        key = f"{parent}/{name}={self._random.randint(1, 12)}"
        self._new.append(key)
        return write("add", key, {"attributes": attributes})

    def _policy(self) -> Written:
        """A share of radio resources: those of all policies under one parent add up to at most 100."""
        parent = self._random.choice([DU, CELL])
        key = f"{parent}/RRMPolicyRatio={self._random.randint(1, 4)}"
        self._new.append(key)
        ratios = sorted(self._random.choices(range(0, 101, 10), k=3))
        shares = dict(zip(("Dedicated", "Min", "Max"), ratios, strict=True))
        attributes: dict[str, Any] = {f"rRMPolicy{each}Ratio": share for each, share in shares.items()}
        if self._random.random() < 0.3:
            return write("merge", f"{key}#/attributes", attributes)
        attributes |= {"resourceType": "PRB_DL", "rRMPolicyMemberList": []}
        return write("add", key, {"attributes": attributes})

    def _act(self) -> Written:
        key = self._random.choice([CELL, self._key()])
        return write("action", f"{key}#{self._random.choice(['lock', 'unlock', 'none'])}", {"input": {}})


def _real(each: Written, objects: Objects) -> tuple[str, Attributes | None, Attributes | None]:
    """Execute an operation. Returns the reason of its failure, and the attributes before and after."""
    patch = read_patch(each.op, each.path, each.value)
    if not isinstance(patch, Patch):
        return reason_of_errors([patch]), None, None
    before = objects.attributes(patch.key)
    error = apply(patch, objects, MODEL, ACTIONS)
    return (reason_of_errors([error]) if error else ""), before, objects.attributes(patch.key)


def _around(effect: Effect, before: Attributes) -> tuple[Attributes, Attributes]:
    """The attributes before and after, according to a change of an object with ``before``."""
    assert isinstance(effect.before, dict)
    assert isinstance(effect.after, dict)
    kept = {name: value for name, value in before.items() if name not in effect.before}
    return kept | effect.before, kept | effect.after


def _expected(reason: str, before: Attributes | None, after: Attributes | None) -> str:
    if reason:
        return "WOULD_FAIL"
    if before is None:
        return "CREATE"
    if after is None:
        return "DELETE"
    return "NO_CHANGE" if json_patch.same(before, after) else "CHANGE"


@pytest.mark.parametrize("jobs", [100, nightly(10_000)])
def test_a_preview_equals_the_execution_on_a_frozen_network(network: Network, jobs: int) -> None:
    """For every operation of random jobs: the same kind of effect, the same values before and after, and the
    same reason. Without actions no effect is unknown; with them, each that is not unknown is right."""
    seen = Counter[str]()
    for seed in range(jobs):
        with_actions = seed % 5 == 4
        job = Jobs(network, seed).job(actions=with_actions)
        real = Overlay(network)
        for each, applied in zip(job, previewed(job, network), strict=True):
            effect = applied.effect
            reason, before, after = _real(each, real)
            seen[effect.kind.value] += 1
            if with_actions and effect.kind is EffectKind.UNKNOWN:
                continue
            at = f"seed {seed}: {each.op} {each.path} {each.value!r}"
            assert effect.kind.value == _expected(reason, before, after), (at, effect, reason)
            assert effect.reason == reason, at
            if effect.kind is EffectKind.CHANGE:
                assert (before, after) == _around(effect, before or {}), at
            elif effect.kind is EffectKind.CREATE:
                assert effect.after == after, at
            elif effect.kind is EffectKind.DELETE:
                assert effect.before == before, at
    assert all(seen[kind.value] > jobs // 20 for kind in EffectKind), seen
