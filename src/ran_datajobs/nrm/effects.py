# SPDX-License-Identifier: Apache-2.0
"""Effects of operations, computed on copies of the managed objects that they name (pure).

The operations are applied in order with :func:`ran_datajobs.nrm.patch.apply`, by which a network of this
package executes them. A copy exists only of what was read: an operation whose result depends on anything else
has the effect UNKNOWN, and so have later operations on its object.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final, NoReturn, Protocol

import msgspec
from msgspec import Raw, Struct, UnsetType

from ran_datajobs.model import Effect, EffectKind, ErrorDetail, Op, Reason
from ran_datajobs.nrm import faults, fdn, json_patch
from ran_datajobs.nrm.model import Model
from ran_datajobs.nrm.names import class_of, parent_of
from ran_datajobs.nrm.patch import Action, Actions, Patch, apply, read_patch
from ran_datajobs.nrm.rules import depends_on_siblings
from ran_datajobs.nrm.tree import Attributes
from ran_datajobs.reasons import reason_of_errors

MAX_SHOWN: Final = 200_000
"""Maximum size in bytes of the values of an effect, as JSON; larger ones are left out."""

_MOST_DECODED: Final = 256
_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(dict[str, Any]).decode


def reads_of(op: Op, path: str, model: Model) -> Iterator[tuple[str, bool]]:
    """The objects that must be read to compute the effect of a write: the key of each, and whether its
    children are needed, too.

    That is the object of ``path``, with its children if it is to be deleted; the parent of an object to
    create, with its children if the parent contains at most one object of the class; and the parent with its
    children if a rule compares the object with its siblings. Raises InvalidFdn.
    """
    fdn_text, fragment = fdn.split_path(path)
    key = fdn.key(fdn_text)
    yield key, op is Op.REMOVE and fragment is None
    if not (parent := parent_of(key)):
        return
    siblings = op is not Op.REMOVE and depends_on_siblings(class_of(key))
    if op is Op.ADD and fragment is None:
        holder = model.managed_class(class_of(parent))
        yield parent, siblings or (holder is not None and class_of(key) in holder.single)
    elif siblings:
        yield parent, True


class Unknown(Struct, frozen=True):
    """Why the state of an object, or of its children, is not known."""

    reason: str
    detail: str


class NotKnown(Exception):
    """An answer depends on a state that is not known; the argument is the :class:`Unknown`."""


class Values(Protocol):
    """Stores the JSON of attributes; a place is never reused."""

    def add(self, data: bytes) -> int:
        """Store ``data`` and return its place."""
        ...

    def at(self, place: int) -> bytes:
        """The data at a place."""
        ...


class InMemory(list[bytes]):
    """Values in memory."""

    def add(self, data: bytes) -> int:
        self.append(data)
        return len(self) - 1

    def at(self, place: int) -> bytes:
        return self[place]


class Copies:
    """Copies of managed objects, as far as they are known; a store for patches.

    Raises NotKnown where an answer depends on what was not read. In memory are the keys; the attributes are
    in ``values``.
    """

    def __init__(self, values: Values | None = None) -> None:
        self._values: Values = InMemory() if values is None else values
        self._states: dict[str, int | Unknown | None] = {}
        self._children: dict[str, dict[str, None]] = {}
        self._decoded: dict[str, Attributes] = {}
        self.classes: set[str] = set()

    def found(self, key: str, attributes: bytes) -> None:
        """Record that the object was read, with its attributes, a JSON object."""
        self._states[key] = self._values.add(attributes)
        self.classes.add(class_of(key))

    def absent(self, key: str) -> None:
        """Record that the object does not exist."""
        self._states[key] = None

    def unread(self, key: str, reason: str, detail: str) -> None:
        """Record that the object could not be read, and why. One that was found stays found."""
        if not self.is_found(key):
            self._states[key] = Unknown(reason, detail)

    def has_children(self, key: str, children: Iterable[str]) -> None:
        """Record all children of an object."""
        self._children[key] = dict.fromkeys(children)

    def forget(self, key: str, why: Unknown) -> None:
        """The state of the object is no longer known, nor whether its parent has it as a child."""
        self._states[key] = why
        self._decoded.pop(key, None)
        self._children.pop(key, None)
        self._children.pop(parent_of(key), None)

    def is_found(self, key: str) -> bool:
        """True if the object was read."""
        return isinstance(self._states.get(key), int)

    def is_known(self, key: str) -> bool:
        """True if it is known whether the object exists."""
        return not isinstance(self._states.get(key, _NOT_READ), Unknown)

    def attributes(self, key: str) -> Attributes | None:
        decoded = self._decoded.get(key)
        if decoded is not None:
            return decoded
        state = self._states.get(key, _NOT_READ)
        if isinstance(state, Unknown):
            raise NotKnown(state)
        if state is None:
            return None
        try:
            return self._keep(key, _decode(self._values.at(state)))
        except (msgspec.DecodeError, RecursionError):
            detail = f"the attributes of /{key} cannot be read"
            raise NotKnown(Unknown(Reason.RESULT_UNREADABLE, detail)) from None

    def children(self, key: str) -> Iterable[str]:
        known = self._children.get(key)
        if known is not None:
            return tuple(known)
        if key and self.attributes(key) is None:
            return ()
        raise NotKnown(Unknown(Reason.EFFECT_UNKNOWN, f"the children of /{key} are not known"))

    def put(self, key: str, attributes: Attributes) -> None:
        if self.attributes(key) is None:
            self._children[key] = {}
            if (siblings := self._children.get(parent_of(key))) is not None:
                siblings[key] = None
        self._states[key] = self._values.add(_encode(attributes))
        self._keep(key, attributes)

    def delete(self, key: str) -> None:
        self._states[key] = None
        self._decoded.pop(key, None)
        self._children.pop(key, None)
        if (siblings := self._children.get(parent_of(key))) is not None:
            siblings.pop(key, None)

    def _keep(self, key: str, attributes: Attributes) -> Attributes:
        if len(self._decoded) >= _MOST_DECODED:
            self._decoded.clear()
        self._decoded[key] = attributes
        return attributes


_NOT_READ: Final = Unknown(Reason.EFFECT_UNKNOWN, "the object was not read")


class Applied(Struct, frozen=True):
    """Effect of an operation. ``old``: the attributes before; None if the object did not exist, or if its
    state is not known. ``changed``: the attributes that get another value or none."""

    effect: Effect
    old: Attributes | None = None
    changed: frozenset[str] = frozenset()


class Effects:
    """Applies operations to ``copies`` in order, and tells the effect of each.

    ``copies`` have all that was read. ``model``: the class model of the network. A class of which an object
    was read, and which the model does not know, accepts any attribute.
    """

    def __init__(self, copies: Copies, model: Model) -> None:
        self._copies = copies
        self._model = model.knowing(copies.classes)

    def of(self, op: Op, path: str, value: Raw | UnsetType) -> Applied:
        """Apply one operation. One that fails, or whose effect is not known, changes no copy."""
        patch = read_patch(op, path, value)
        if isinstance(patch, ErrorDetail):
            return _refused(patch)
        copies, key = self._copies, patch.key
        unknown: Unknown
        try:
            old = copies.attributes(key) if copies.is_known(key) else None
            error = apply(patch, copies, self._model, _UNPREDICTABLE)
            if error is not None and self._is_beyond_the_model(patch, error, old):
                unknown = Unknown(Reason.EFFECT_UNKNOWN, f"not in the class model: {error.detail}")
            elif error is not None:
                return _refused(error, old)
            else:
                return _change(old, copies.attributes(key))
        except NotKnown as not_known:
            unknown = not_known.args[0]
        except RecursionError:
            unknown = Unknown(Reason.RESULT_UNREADABLE, f"the attributes of /{key} are nested too deeply")
        copies.forget(key, unknown)
        return Applied(Effect(EffectKind.UNKNOWN, reason=unknown.reason, detail=unknown.detail))

    def skip(self, op: Op, path: str, why: Unknown) -> None:
        """Record that it is not known whether an operation is executed, and so in which state it leaves its
        object."""
        if op is not Op.TEST:
            self._copies.forget(fdn.key_of_path(path), why)

    def _is_beyond_the_model(self, patch: Patch, error: ErrorDetail, old: Attributes | None) -> bool:
        """Whether an operation was refused for an attribute that the object has and the model does not know:
        the network knows more than the model."""
        if error.reason != faults.NAME_INVALID or old is None or patch.op is Op.ACTION:
            return False
        managed = self._model.managed_class(class_of(patch.key))
        if managed is None:
            return False
        named: Iterable[str] = patch.pointer[:1] if patch.pointer else ()
        if not named and type(patch.value) is dict:
            inner = patch.value.get("attributes")
            named = inner if type(inner) is dict else patch.value
        return any(name in old and name not in managed.attributes for name in named)


class _Unpredictable(Mapping[tuple[str, str], Action]):
    """Every action of every class: what it does is known only to the element."""

    def __getitem__(self, of: tuple[str, str]) -> Action:
        def act(_: Attributes, __: Any) -> NoReturn:
            detail = f"what the action {of[1]} does is known to the element only"
            raise NotKnown(Unknown(Reason.EFFECT_UNKNOWN, detail))

        return act

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return iter(())

    def __len__(self) -> int:
        return 0


_UNPREDICTABLE: Final[Actions] = _Unpredictable()


def _refused(error: ErrorDetail, old: Attributes | None = None) -> Applied:
    reason = reason_of_errors([error])
    return Applied(Effect(EffectKind.WOULD_FAIL, reason=reason, detail=error.detail or error.title), old)


def _change(old: Attributes | None, new: Attributes | None) -> Applied:
    """The effect that an object with the attributes ``old`` has the attributes ``new``; None: no object."""
    if old is None:
        new = new or {}
        return Applied(_shown(Effect(EffectKind.CREATE, after=new)), old, frozenset(new))
    if new is None:
        return Applied(_shown(Effect(EffectKind.DELETE, before=old)), old, frozenset(old))
    if new is old:
        return Applied(Effect(EffectKind.NO_CHANGE), old)
    before = {
        name: value
        for name, value in old.items()
        # Attributes that an operation does not touch are the same objects.
        if name not in new or (value is not new[name] and not json_patch.same(value, new[name]))
    }
    after = {name: value for name, value in new.items() if name not in old or name in before}
    if not before and not after:
        return Applied(Effect(EffectKind.NO_CHANGE), old)
    changed = frozenset(before.keys() | after.keys())
    return Applied(_shown(Effect(EffectKind.CHANGE, before=before, after=after)), old, changed)


def _shown(effect: Effect) -> Effect:
    """``effect`` without its values if they are too large."""
    if len(_encode(effect)) <= MAX_SHOWN:
        return effect
    return Effect(effect.kind, detail=f"the values have more than {MAX_SHOWN} bytes and are not shown")
