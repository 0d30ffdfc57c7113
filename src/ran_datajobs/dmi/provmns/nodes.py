# SPDX-License-Identifier: Apache-2.0
"""The data nodes that a ProvMnS server calls bad, by their full names in stage 2 (pure)."""

from __future__ import annotations

from msgspec import Struct

from ran_datajobs.dmi.provmns.answers import key_within
from ran_datajobs.dmi.provmns.names import Aliases
from ran_datajobs.errors import InvalidFdn
from ran_datajobs.nrm import faults, fdn
from ran_datajobs.nrm.names import class_of


class Asked(Struct, frozen=True):
    """What a request was about: the object ``key`` with a place in its attributes or an ``action``, and the
    object ``target`` that names in a document are offsets to (empty: the root). All in stage-2 names."""

    key: str
    target: str
    aliases: Aliases
    pointer: tuple[str, ...] | None = None
    action: str = ""

    @property
    def node(self) -> str:
        """The node to blame where the server names none."""
        return f"/{self.key}#{self.action}" if self.action else faults.node(self.key, self.pointer)

    def named(self, text: str) -> str | None:
        """The node that the server's words name: in full, as an offset, or as an attribute of the object
        alone. None when they name no node."""
        name, fragment = fdn.split_path(text)
        if fragment is None and "=" not in name:
            name, fragment = "", text
        try:
            key = self._key(fdn.key(name)) if name else self.key
            if fragment is None:
                return faults.node(key)
            if fragment == self.action:
                return f"/{key}#{fragment}"
            pointer = fdn.attribute_pointer(fragment)[1:]
        except InvalidFdn:
            return None
        return faults.node(key, self.aliases.our_pointer(class_of(key), pointer))

    def _key(self, theirs: str) -> str:
        """The object of a name. One that could be either is an offset where that leads to the object asked
        about, and else a full name where it begins as those do."""
        target = self.aliases.their_key(self.target)
        full = key_within(theirs, target)
        if not target or full != theirs or _lead(full, target) or _lead(target, full):
            return self.aliases.our_key(full)
        offset = self.aliases.our_key(f"{target}/{theirs}")
        if not _lead(offset, self.key) and _top_class(theirs) == _top_class(target):
            return self.aliases.our_key(theirs)
        return offset


def _lead(key: str, below: str) -> bool:
    """True when ``below`` is the object ``key`` or lies in it."""
    return f"{below}/".startswith(key + "/")


def _top_class(key: str) -> str:
    return class_of(key.partition("/")[0])
