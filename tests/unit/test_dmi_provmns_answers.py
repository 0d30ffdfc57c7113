# SPDX-License-Identifier: Apache-2.0
"""The content of responses of ProvMnS servers, whatever they add before a name or omit from it."""

from __future__ import annotations

from typing import Any

import pytest

from ran_datajobs.dmi.provmns.answers import key_within, objects_in
from ran_datajobs.dmi.provmns.names import Aliases
from ran_datajobs.errors import InvalidFdn

BASE = "SubNetwork=X/ManagedElement=1"


@pytest.mark.parametrize(
    ("key", "base", "expected"),
    [
        (BASE, BASE, BASE),
        (BASE + "/A=1", BASE, BASE + "/A=1"),
        ("DC=example.org/" + BASE, BASE, BASE),
        ("DC=org/DC=example/" + BASE + "/A=1", BASE, BASE + "/A=1"),
        ("SubNetwork=Top/" + BASE + "/A=1", BASE, BASE + "/A=1"),
        ("ManagedElement=1/A=1", BASE, BASE + "/A=1"),
        ("DC=example.org/ManagedElement=1/A=1", BASE, BASE + "/A=1"),
        (BASE, "DC=example.org/" + BASE, "DC=example.org/" + BASE),
        ("SubNetwork=A/SubNetwork=A", "SubNetwork=A", "SubNetwork=A/SubNetwork=A"),
        ("SubNetwork=X/ManagedElement=11", BASE, "SubNetwork=X/ManagedElement=11"),
        ("DC=example.org/SubNetwork=Y", BASE, "SubNetwork=Y"),
    ],
)
def test_a_name_is_read_as_the_base_begins(key: str, base: str, expected: str) -> None:
    """A DC prefix or other RDNs before the base are cut, RDNs that the server leaves out are added."""
    assert key_within(key, base) == expected


@pytest.mark.parametrize(
    "document",
    [
        [{"objectInstance": "DC=example.org,SubNetwork=X,ManagedElement=1,GnbDuFunction=2", "gnbId": 7}],
        {"id": "1", "GnbDuFunction": [{"id": "2", "attributes": {"gnbId": 7}}]},
        {"id": "X", "ManagedElement": [{"id": "1", "GnbDuFunction": [{"id": "2", "gnbId": 7}]}]},
        {"SubNetwork": [{"id": "X", "ManagedElement": [{"id": "1", "GnbDuFunction": [
            {"id": "2", "attributes": {"gnbId": 7}}]}]}]},
        {"ManagedElement": [{"id": "1", "GnbDuFunction": [{"id": "2", "attributes": {"gnbId": 7}}]}]},
    ],
)  # fmt: skip
def test_objects_are_found_in_every_shape(document: Any) -> None:
    """Flat and hierarchical, from the base or from above it; in stage-2 names."""
    aliases = Aliases({"GNBDUFunction": "GnbDuFunction"}, {"GNBDUFunction": {"gNBId": "gnbId"}})
    found = dict(objects_in(document, BASE, aliases))
    assert found.pop(BASE, {}) == {}
    assert found == {BASE + "/GNBDUFunction=2": {"gNBId": 7}}


@pytest.mark.parametrize(
    "document", [[{"objectInstance": "SubNetwork=X,ManagedElement=2"}], {"id": "2"}, {"id": 1}]
)
def test_objects_from_elsewhere_are_no_answer(document: Any) -> None:
    """A response about another object is rejected."""
    with pytest.raises(InvalidFdn):
        objects_in(document, BASE, Aliases())
