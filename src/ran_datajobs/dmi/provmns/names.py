# SPDX-License-Identifier: Apache-2.0
"""Mapping between a ProvMnS server's names of classes, attributes and fields and stage-2 names (pure)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from msgspec import Struct

from ran_datajobs.nrm.json_patch import END
from ran_datajobs.nrm.model import Attribute, Model


class Spellings(Struct, frozen=True):
    """Names of the members of an object. Names that are not listed are the same on both sides.

    ``theirs``: stage-2 name to the name that is written; ``ours``: each name that is read to the stage-2
    name; ``below``: stage-2 name of an attribute that is an object or a list of objects to its members.
    """

    theirs: dict[str, str] = {}
    ours: dict[str, str] = {}
    below: dict[str, Spellings] = {}

    def in_theirs(self, value: Any) -> Any:
        """An object, or a list of objects, in the server's names; another value unchanged."""
        if isinstance(value, list):
            return [self.in_theirs(each) for each in value]
        if not isinstance(value, dict):
            return value
        return {
            self.theirs.get(name, name): self.below[name].in_theirs(each) if name in self.below else each
            for name, each in value.items()
        }

    def in_ours(self, value: Any) -> Any:
        """The inverse of :meth:`in_theirs`, for every known spelling."""
        if isinstance(value, list):
            return [self.in_ours(each) for each in value]
        if not isinstance(value, dict):
            return value
        named = ((self.ours.get(name, name), each) for name, each in value.items())
        return {name: self.below[name].in_ours(each) if name in self.below else each for name, each in named}

    def pointer_in_theirs(self, tokens: tuple[str, ...]) -> tuple[tuple[str, ...], Spellings]:
        """A pointer from this object in the server's names, and the spellings of its target value."""
        here, found = self, []
        for token in tokens:
            if _of_list(token):
                found.append(token)
            else:
                found.append(here.theirs.get(token, token))
                here = here.below.get(token, _SAME)
        return tuple(found), here

    def pointer_in_ours(self, tokens: tuple[str, ...]) -> tuple[str, ...]:
        """The inverse of :meth:`pointer_in_theirs`."""
        here, found = self, []
        for token in tokens:
            name = token if _of_list(token) else here.ours.get(token, token)
            found.append(name)
            if not _of_list(token):
                here = here.below.get(name, _SAME)
        return tuple(found)

    def with_those_of(self, other: Spellings) -> Spellings:
        """Union of both; if they differ, the spelling of ``other``."""
        return Spellings(self.theirs | other.theirs, self.ours | other.ours, self.below | other.below)


_SAME: Final = Spellings()


class Aliases:
    """Names of a server of another generation of the model, by stage-2 name (TS 28.541).

    ``classes``: stage-2 class to the server's; ``attributes``: per stage-2 class, stage-2 attribute to the
    server's. Names that are not listed are the same on both sides.
    """

    def __init__(
        self,
        classes: Mapping[str, str] | None = None,
        attributes: Mapping[str, Mapping[str, str]] | None = None,
    ) -> None:
        self._classes = dict(classes or {})
        self._classes_back = {theirs: ours for ours, theirs in self._classes.items()}
        self._attributes = {
            name: Spellings(dict(table), {theirs: ours for ours, theirs in table.items()})
            for name, table in (attributes or {}).items()
        }

    def __bool__(self) -> bool:
        return bool(self._classes or self._attributes)

    def with_spellings(self, attributes: Mapping[str, Spellings]) -> Aliases:
        """These names and additional spellings of attributes, per stage-2 class."""
        made = Aliases(self._classes)
        made._attributes = {
            name: self._of(name).with_those_of(attributes.get(name, _SAME))
            for name in dict.fromkeys((*self._attributes, *attributes))
        }
        return made

    def with_those_of(self, other: Aliases) -> Aliases:
        """Union of both; if they differ, the name of ``other``."""
        made = self.with_spellings(other._attributes)
        made._classes = self._classes | other._classes
        made._classes_back = self._classes_back | other._classes_back
        return made

    def their_key(self, key: str) -> str:
        """A key in the server's class names."""
        return _renamed(key, self._classes)

    def our_key(self, key: str) -> str:
        """A key in stage-2 class names."""
        return _renamed(key, self._classes_back)

    def their_attribute(self, class_name: str, name: str) -> str:
        """The server's name of an attribute of a stage-2 class."""
        return self._of(class_name).theirs.get(name, name)

    def their_names(self, class_name: str | None, name: str) -> frozenset[str]:
        """Possible names at the server of an attribute of a class; None: of any class."""
        if class_name is not None:
            return frozenset((self.their_attribute(class_name, name),))
        return frozenset((name, *(self.their_attribute(each, name) for each in self._attributes)))

    def their_pointer(self, class_name: str, tokens: tuple[str, ...]) -> tuple[tuple[str, ...], Spellings]:
        """A pointer below the attributes in the server's names, and the spellings of its target value."""
        return self._of(class_name).pointer_in_theirs(tokens)

    def our_pointer(self, class_name: str, tokens: tuple[str, ...]) -> tuple[str, ...]:
        """A pointer below the attributes in stage-2 names."""
        return self._of(class_name).pointer_in_ours(tokens)

    def their_attributes(self, class_name: str, attributes: Any) -> Any:
        """Attributes in the server's names, if they are an object."""
        return self._of(class_name).in_theirs(attributes)

    def our_attributes(self, class_name: str, attributes: Any) -> Any:
        """Attributes in stage-2 names, if they are an object."""
        return self._of(class_name).in_ours(attributes) if class_name in self._attributes else attributes

    def _of(self, class_name: str) -> Spellings:
        return self._attributes.get(class_name, _SAME)


def openapi_aliases(model: Model) -> Aliases:
    """Names of the OpenAPI of TS 28.541 up to 19.1, such as ``GnbDuFunction`` and ``nrPci``. Answers may also
    use the names of other generations."""
    classes: dict[str, str] = {}
    attributes: dict[str, Spellings] = {}
    for name in model:
        managed = model.managed_class(name)
        if managed is None:
            continue
        if managed.aliases:
            classes[name] = managed.aliases[0]
        spellings = _spellings(managed.attributes)
        if spellings != _SAME:
            attributes[name] = spellings
    return Aliases(classes).with_spellings(attributes)


def _spellings(members: Mapping[str, Attribute]) -> Spellings:
    theirs: dict[str, str] = {}
    ours: dict[str, str] = {}
    below: dict[str, Spellings] = {}
    for name, each in members.items():
        if each.openapi:
            theirs[name] = each.openapi
        for spelling in each.aliases:
            ours[spelling] = name
        fields = each.items.fields if each.items is not None else each.fields
        spellings = _spellings(fields)
        if spellings != _SAME:
            below[name] = spellings
    return Spellings(theirs, ours, below)


def _renamed(key: str, table: Mapping[str, str]) -> str:
    if not table or not key:
        return key
    parts = (part.partition("=") for part in key.split("/"))
    return "/".join(f"{table.get(name, name)}={value}" for name, _, value in parts)


def _of_list(token: str) -> bool:
    return token == END or token.isdigit()
