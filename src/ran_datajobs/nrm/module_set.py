# SPDX-License-Identifier: Apache-2.0
"""A module set: the YANG modules of network elements, read into a class model, and its stored form (pure).

Classes of one module set have many equal attributes, from the groupings that they share. The stored form,
JSON, has each of them once, and so has the model in memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

import msgspec
from msgspec import Struct

from ran_datajobs.nrm.model import Attribute, ManagedClass, Model


class YangModule(NamedTuple):
    """Name and revision of a module; the revision is empty if it has none."""

    name: str
    revision: str = ""


class ModuleSet(Struct, frozen=True):
    """``modules``, sorted; ``classes`` by name; ``roots``: the classes that no other one contains."""

    modules: Sequence[YangModule]
    classes: Mapping[str, ManagedClass]
    roots: frozenset[str]

    def model(self) -> Model:
        """The class model. A class that no module describes is vendor-specific."""
        return Model(self.classes, strict=False, roots=self.roots, complete=True)


class _Class(Struct, frozen=True, omit_defaults=True):
    """``of``: the class without its attributes; ``attributes``: their places in the list of all."""

    of: ManagedClass
    attributes: dict[str, int] = {}


class _Stored(Struct, frozen=True):
    modules: list[YangModule]
    roots: frozenset[str]
    attributes: list[Attribute]
    classes: dict[str, _Class]


class _Names(Struct, frozen=True):
    modules: list[YangModule]
    classes: dict[str, msgspec.Raw]


_encoder: Final = msgspec.json.Encoder(order="sorted")
_decoder: Final = msgspec.json.Decoder(_Stored)
_names_decoder: Final = msgspec.json.Decoder(_Names)


def encode(module_set: ModuleSet) -> bytes:
    """The stored form; that of equal module sets is equal."""
    places: dict[bytes, int] = {}
    classes = {
        name: _Class(
            msgspec.structs.replace(each, attributes={}),
            {
                attribute: places.setdefault(_encoder.encode(of), len(places))
                for attribute, of in sorted(each.attributes.items())
            },
        )
        for name, each in sorted(module_set.classes.items())
    }
    stored = {
        "modules": module_set.modules,
        "roots": module_set.roots,
        "attributes": [msgspec.Raw(text) for text in places],
        "classes": classes,
    }
    return _encoder.encode(stored)


def decode(stored: bytes) -> ModuleSet:
    """The module set of a stored form."""
    found = _decoder.decode(stored)
    classes = {
        name: msgspec.structs.replace(
            each.of,
            attributes={attribute: found.attributes[place] for attribute, place in each.attributes.items()},
        )
        for name, each in found.classes.items()
    }
    return ModuleSet(found.modules, classes, found.roots)


def names(stored: bytes) -> tuple[list[YangModule], list[str]]:
    """The modules and the names of the classes of a stored form, sorted."""
    found = _names_decoder.decode(stored)
    return found.modules, sorted(found.classes)
