# SPDX-License-Identifier: Apache-2.0
"""Creation of an object whose id the producer assigns (3GPP TS 32.158 §5.1: POST to the parent). Pure."""

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
    """Where an object is to be created, and its Resource."""

    key: str
    value: dict[str, Any]


def read_new_object(body: bytes, parent: str, objects: Objects) -> NewObject | ErrorDetail:
    """The object that a body describes, with the lowest number as its id that no sibling has.

    The class is the Resource's ``objectClass``; an ``id`` that it has is not taken.
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
