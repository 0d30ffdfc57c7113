# SPDX-License-Identifier: Apache-2.0
"""The envelope of a submit body: everything but the operations.

Its keys are matched case-insensitively, because the published examples differ. The handling of unknown keys
is described in :mod:`ran_datajobs.planning.keys`. The list of operations is not decoded here.
"""

from __future__ import annotations

import contextlib
import itertools
import uuid
from typing import Any, Final

import msgspec
from msgspec import Raw, Struct

from ran_datajobs.errors import InvalidRequest
from ran_datajobs.http.json_body import MOST_STEPS, Key, decoded, got
from ran_datajobs.model import ActivationMode, Validation
from ran_datajobs.planning.keys import ENVELOPE, OCCURS_TWICE, Problems, UnknownKeys
from ran_datajobs.plugins.wire import ACCEPT_TYPES, CONTENT_TYPES, JSON_PATCH_3GPP, TREE_HIERARCHICAL

MAX_ENVELOPE: Final = 1024 * 1024
"""Maximum size of an envelope without its operations, in bytes."""

MAX_KEYS: Final = MAX_ENVELOPE // len('"":0,')
"""An envelope of maximum size has at most so many keys."""

MAX_NAME: Final = 256
MAX_MEDIA_TYPE: Final = 255
MAX_AFTER: Final = 1000
DEFAULT_PRIORITY: Final = 4
HIGHEST_PRIORITY: Final = 9
ATOMIC: Final = "ATOMIC"
"""The activation mode of TS 28.572 that is recognised but not offered."""


_MODES: Final = frozenset(ActivationMode)
_VALIDATIONS: Final = frozenset(Validation)


class Envelope(Struct, frozen=True):
    """The fields of a submit that concern the job as a whole."""

    accept_type: str = TREE_HIERARCHICAL
    content_type: str = JSON_PATCH_3GPP
    activation_mode: ActivationMode = ActivationMode.BEST_EFFORT
    name: str | None = None
    priority: int = DEFAULT_PRIORITY
    after_jobs: tuple[uuid.UUID, ...] = ()
    validation: Validation = Validation.OFF


def open_envelope(
    body: bytes, problems: Problems, unknown: UnknownKeys, *, any_types: bool = False
) -> tuple[Envelope, Raw | None]:
    """The envelope, and the undecoded JSON value of ``data`` (None when it is missing or ``null``).

    Invalid fields are added to ``problems``, what is not known or not offered to ``unknown``. ``any_types``:
    media types are passed on whatever they are. Raises InvalidRequest when ``body`` is not one JSON object in
    UTF-8, or when its envelope is longer than MAX_ENVELOPE.
    """
    keys = itertools.count(1)

    def counted_key(_type: type, spelt: str) -> Key:
        if next(keys) > MAX_KEYS:
            raise _too_long(len(body))
        return Key(spelt)

    members_decoder = msgspec.json.Decoder(dict[Key, Raw], dec_hook=counted_key)
    members = [(key.spelt, raw) for key, raw in decoded(body, members_decoder, MOST_STEPS).items()]
    data = next((raw for spelt, raw in members if spelt.lower() == "data"), None)
    size = len(body) - (0 if data is None else len(memoryview(data)))
    if size > MAX_ENVELOPE:
        raise _too_long(size)
    fields = _fields_of(members, problems)
    if fields.get("activationMode") == ATOMIC:
        allowed = ", ".join(ActivationMode)
        unknown.not_offered.add("#/activationMode", f"ATOMIC is not offered: use one of {allowed}")
        del fields["activationMode"]
    mode = _one_of(fields, "activationMode", _MODES, ActivationMode.BEST_EFFORT, problems)
    validation = _one_of(fields, "validation", _VALIDATIONS, Validation.OFF, problems)
    accept_types, content_types = (None, None) if any_types else (ACCEPT_TYPES, CONTENT_TYPES)
    envelope = Envelope(
        accept_type=_one_of(fields, "dataAcceptType", accept_types, TREE_HIERARCHICAL, problems),
        content_type=_one_of(fields, "dataContentType", content_types, JSON_PATCH_3GPP, problems),
        activation_mode=ActivationMode(mode),
        name=_name(fields, problems),
        priority=_priority(fields, problems),
        after_jobs=_after(fields, problems),
        validation=Validation(validation),
    )
    unknown.in_envelope(members)
    return envelope, None if data is None or bytes(memoryview(data)[:4]) == b"null" else data


def _too_long(size: int) -> InvalidRequest:
    return InvalidRequest(f"the body has {size} bytes beside its data, at most {MAX_ENVELOPE} are read")


def _fields_of(members: list[tuple[str, Raw]], problems: Problems) -> dict[str, Any]:
    """The fields by their spelling in the contract, without those that are ``null``; ``data`` undecoded."""
    fields: dict[str, Any] = {}
    for spelt, raw in members:
        key = ENVELOPE.get(spelt.lower())
        if key is None:
            continue
        if key in fields:
            problems.add(f"#/{key}", OCCURS_TWICE)
        fields[key] = raw
        if key != "data":  # a number out of range stays undecoded
            with contextlib.suppress(msgspec.ValidationError):
                fields[key] = msgspec.json.decode(raw)
    return {key: value for key, value in fields.items() if value is not None}


def _one_of(
    fields: dict[str, Any], key: str, allowed: frozenset[str] | None, default: str, problems: Problems
) -> str:
    """The value of ``key``, one of ``allowed``; ``None``: any printable text."""
    value = fields.get(key, default)
    if isinstance(value, str) and (
        value in allowed if allowed is not None else value.isprintable() and len(value) <= MAX_MEDIA_TYPE
    ):
        return value
    needed = (
        f"be one of {', '.join(sorted(allowed))}"
        if allowed is not None
        else f"have at most {MAX_MEDIA_TYPE} printable characters"
    )
    problems.add(f"#/{key}", f"must {needed}; it is {got(value)}")
    return default


def _name(fields: dict[str, Any], problems: Problems) -> str | None:
    value = fields.get("name")
    if value is None:
        return None
    if not isinstance(value, str):
        problems.add("#/name", f"must be a string; it is {got(value)}")
    elif len(value) > MAX_NAME:
        problems.add("#/name", f"has {len(value)} characters, at most {MAX_NAME} are kept")
    elif not value.isprintable():
        odd = next(letter for letter in value if not letter.isprintable())
        problems.add("#/name", f"has the character U+{ord(odd):04X}, which cannot be printed")
    else:
        return value
    return None


def _priority(fields: dict[str, Any], problems: Problems) -> int:
    value = fields.get("priority", DEFAULT_PRIORITY)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= HIGHEST_PRIORITY:
        return value
    problems.add("#/priority", f"must be an integer from 0 to {HIGHEST_PRIORITY}; it is {got(value)}")
    return DEFAULT_PRIORITY


def _after(fields: dict[str, Any], problems: Problems) -> tuple[uuid.UUID, ...]:
    value = fields.get("after", [])
    if not isinstance(value, list):
        problems.add("#/after", f"must be a list of job ids; it is {got(value)}")
        return ()
    if len(value) > MAX_AFTER:
        problems.add("#/after", f"has {len(value)} job ids, at most {MAX_AFTER} are read")
        return ()
    jobs: dict[uuid.UUID, None] = {}
    for position, text in enumerate(value):
        try:
            jobs[uuid.UUID(text)] = None
        except (ValueError, AttributeError, TypeError):
            problems.add(f"#/after/{position}", f"must be a job id (a UUID); it is {got(text)}")
    return tuple(jobs)
