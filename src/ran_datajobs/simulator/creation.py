# SPDX-License-Identifier: Apache-2.0
"""Creation of an object whose id the producer assigns (3GPP TS 32.158 §5.1: POST to the parent; pure)."""

from __future__ import annotations

from typing import Any

import msgspec
from msgspec import Struct

from ran_datajobs.errors import InvalidFdn
from ran_datajobs.model import ErrorDetail
from ran_datajobs.nrm import faults, json_patch
from ran_datajobs.nrm.names import child_key
from ran_datajobs.nrm.tree import Objects


class NewObject(Struct, frozen=True):
    """Key and Resource of an object to create."""

    key: str
    value: dict[str, Any]


def read_new_object(body: bytes, parent: str, objects: Objects) -> NewObject | ErrorDetail:
    """Decode a new object and assign the lowest number that no sibling has as its id.

    The class is the Resource's ``objectClass``; its ``id`` is ignored.
    """
    try:
        value = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return faults.malformed("/" + parent, str(error))
    if type(value) is not dict or type(value.get("objectClass")) is not str or json_patch.too_deep(value):
        return faults.malformed("/" + parent, "the body must be a Resource: an object with an objectClass")
    number = 1
    try:
        while objects.attributes(key := child_key(parent, value["objectClass"], str(number))) is not None:
            number += 1
    except InvalidFdn as error:
        return faults.malformed("/" + parent, str(error))
    return NewObject(key, {name: item for name, item in value.items() if name != "id"})
