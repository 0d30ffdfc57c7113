# SPDX-License-Identifier: Apache-2.0
"""Full stage-2 names of the data nodes that a ProvMnS server reports as bad (pure)."""

from __future__ import annotations

from msgspec import Struct

from ran_datajobs.dmi.provmns.answers import key_within
from ran_datajobs.dmi.provmns.names import Aliases
from ran_datajobs.errors import InvalidFdn
from ran_datajobs.nrm import faults, fdn
from ran_datajobs.nrm.names import class_of


class Asked(Struct, frozen=True):
    """Subject of a request: the object ``key`` with a ``pointer`` into its attributes or an ``action``, and
    the object ``target`` to which names in a document are relative (empty: the root). In stage-2 names."""

    key: str
    target: str
    aliases: Aliases
    pointer: tuple[str, ...] | None = None
    action: str = ""

    @property
    def node(self) -> str:
        """The node to report if the server names none."""
        return f"/{self.key}#{self.action}" if self.action else faults.node(self.key, self.pointer)

    def named(self, text: str) -> str | None:
        """The node that a text of the server names: in full, relative to the target, or as an attribute of
        the object. None if it names no node."""
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
        """The object that a server's name identifies. An ambiguous name is relative to the target if it then
        is or contains the requested object; else it is a full name if it begins with the target's class."""
        target = self.aliases.their_key(self.target)
        full = key_within(theirs, target)
        if not target or full != theirs or _contains(full, target) or _contains(target, full):
            return self.aliases.our_key(full)
        offset = self.aliases.our_key(f"{target}/{theirs}")
        if not _contains(offset, self.key) and _top_class(theirs) == _top_class(target):
            return self.aliases.our_key(theirs)
        return offset


def _contains(key: str, below: str) -> bool:
    """Whether ``below`` is the object ``key`` or is contained in it."""
    return f"{below}/".startswith(key + "/")


def _top_class(key: str) -> str:
    return class_of(key.partition("/")[0])
